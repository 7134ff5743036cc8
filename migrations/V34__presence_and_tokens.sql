-- What nodes heard of machines, written together: each has a thousand orgs' every second.

-- A machine that was deleted meanwhile is left out, and nothing replaces what is newer. In one order, so that nodes which
-- write the same wait for each other and never in a circle; what locks machines of several orgs elsewhere has the same.
CREATE FUNCTION write_presence(orgs uuid[], ids uuid[], versions bigint[], onlines boolean[], streams bigint[],
    silences bigint[], reports jsonb[])
    RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
    INSERT INTO machine_presence AS held (org_id, machine_id, version, online, stream, last_seen, report)
        SELECT m.org_id, m.id, new.version, new.online, new.stream, now() - new.silence * interval '1 ms', new.report
        FROM unnest(orgs, ids, versions, onlines, streams, silences, reports)
            AS new (org_id, id, version, online, stream, silence, report)
        JOIN machines m ON m.org_id = new.org_id AND m.id = new.id
        ORDER BY m.org_id, m.id
        FOR KEY SHARE OF m
    ON CONFLICT (org_id, machine_id)
    DO UPDATE SET version = excluded.version, online = excluded.online, stream = excluded.stream,
        last_seen = excluded.last_seen, report = excluded.report, written_at = now()
    WHERE held.version <= excluded.version
    $$;

-- A row is locked by who may change some of it.
GRANT UPDATE (expired) ON machines TO ztna_lookup;
GRANT INSERT, UPDATE ON machine_presence TO ztna_lookup;
CREATE POLICY lookup_insert ON machine_presence FOR INSERT TO ztna_lookup WITH CHECK (true);
CREATE POLICY lookup_update ON machine_presence FOR UPDATE TO ztna_lookup USING (true);
REVOKE ALL ON FUNCTION write_presence(uuid[], uuid[], bigint[], boolean[], bigint[], bigint[], jsonb[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION write_presence(uuid[], uuid[], bigint[], boolean[], bigint[], bigint[], jsonb[]) TO ztna_app;
ALTER FUNCTION write_presence(uuid[], uuid[], bigint[], boolean[], bigint[], bigint[], jsonb[]) OWNER TO ztna_lookup;

-- Functions in SQL that run with other rights are planned at each call, those in PL/pgSQL once for each connection: a
-- quarter of a millisecond at each beginning of a stream.
CREATE OR REPLACE FUNCTION lookup_machine_token(token bytea)
    RETURNS TABLE (org_id uuid, id uuid, wg_key bytea, expired boolean, deleted boolean, disabled text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT org_id, id, wg_key, expired OR COALESCE(key_expires_at <= now(), false), false, disabled
        FROM machines WHERE token_hash = token
        UNION ALL
        SELECT org_id, id, NULL::bytea, false, true, NULL FROM deleted_machines WHERE token_hash = token;
END $$;

CREATE OR REPLACE FUNCTION lookup_auth_key(key bytea) RETURNS TABLE (org_id uuid, id uuid)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT org_id, id FROM auth_keys WHERE hash = key;
END $$;

CREATE OR REPLACE FUNCTION lookup_api_key(key bytea)
    RETURNS TABLE (org_id uuid, id uuid, user_id uuid, scopes text[], stale boolean)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT org_id, id, created_by, scopes, COALESCE(last_used_at < now() - interval '1 minute', true)
        FROM api_keys WHERE hash = key AND revoked_at IS NULL AND expires_at > now();
END $$;

-- Whether some org has invited an address: where accounts are by invitation, that one may have one.
CREATE FUNCTION is_invited(address text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT EXISTS (SELECT FROM invitations WHERE email = address AND expires_at > now()) $$;
GRANT SELECT (email) ON invitations TO ztna_lookup;
CREATE INDEX invitations_email ON invitations (email);
REVOKE ALL ON FUNCTION is_invited(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION is_invited(text) TO ztna_app;
ALTER FUNCTION is_invited(text) OWNER TO ztna_lookup;
