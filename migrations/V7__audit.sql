-- The audit log: every change of an org's rows and every sign-in of its people.
--
-- Triggers write it, so no code that changes a row can forget to. A transaction says on whose behalf
-- it works by the setting `ztna.actor` (JSON; api/src/http/call.rs): who, from where, by which call.
-- One that says nothing is the system's own.
--
-- A fourth role, ztna_audit, owns the functions that write. ztna_app reads and may neither write,
-- change nor remove a row; rows go when their org goes, or are cut off at the old end by audit_cut.
--
-- The triggers are deferred to the commit: the chain's row in audit_heads is the last lock that a
-- transaction takes, so that nobody waits for an org's log while holding what others want.

-- How long an org keeps its log. The bounds are those of ztna_proto::audit.
ALTER TABLE orgs ADD COLUMN audit_retention_days integer NOT NULL DEFAULT 365
    CHECK (audit_retention_days BETWEEN 30 AND 3650);
GRANT UPDATE (audit_retention_days) ON orgs TO ztna_app;

-- Where an org's chain ends, and where it begins since older rows were cut off.
CREATE TABLE audit_heads (
    org_id   uuid PRIMARY KEY REFERENCES orgs (id) ON DELETE CASCADE,
    seq      bigint NOT NULL DEFAULT 0,
    hash     bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(hash) = 32),
    -- The last row that was cut off. The log itself has it too, in its latest `audit.cut`.
    cut_seq  bigint NOT NULL DEFAULT 0,
    cut_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (length(cut_hash) = 32)
);

CREATE TABLE audit_log (
    -- Not of orgs: whoever appends would wait for the org's row while holding the chain's.
    org_id      uuid NOT NULL REFERENCES audit_heads (org_id) ON DELETE CASCADE,
    -- Without gaps.
    seq         bigint NOT NULL,
    at          timestamptz NOT NULL,
    actor_kind  text NOT NULL CHECK (actor_kind IN ('user', 'api_key', 'auth_key', 'machine', 'system', 'anonymous')),
    actor_id    uuid,
    -- The person whom an API key acts for.
    actor_for   uuid,
    -- As it was at the time: address, description or name.
    actor_name  text,
    action      text NOT NULL,
    target_id   text,
    target_name text,
    -- As text: what is hashed is what is kept.
    before      json,
    after       json,
    ip          inet,
    client      text,
    route       text,
    request_id  text,
    -- SHA-256(hash of the row before ‖ audit_encode of this row's values).
    hash        bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (org_id, seq)
);
CREATE INDEX audit_log_actor ON audit_log (org_id, actor_id, seq);
CREATE INDEX audit_log_target ON audit_log (org_id, target_id, seq);

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['audit_heads', 'audit_log']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I FOR SELECT TO ztna_app USING (org_id = current_org())', tenant);
        EXECUTE format('CREATE POLICY audit ON %I TO ztna_audit USING (true) WITH CHECK (true)', tenant);
    END LOOP;
    FOREACH tenant IN ARRAY ARRAY['orgs', 'members', 'users', 'api_keys', 'auth_keys', 'machines']
    LOOP
        EXECUTE format('CREATE POLICY audit ON %I FOR SELECT TO ztna_audit USING (true)', tenant);
    END LOOP;
END $$;

GRANT SELECT ON audit_heads, audit_log TO ztna_app;
GRANT SELECT, INSERT, UPDATE ON audit_heads TO ztna_audit;
GRANT SELECT, INSERT, DELETE ON audit_log TO ztna_audit;
-- What names the actors and targets.
GRANT SELECT (id, audit_retention_days) ON orgs TO ztna_audit;
GRANT SELECT (org_id, user_id) ON members TO ztna_audit;
GRANT SELECT (id, email) ON users TO ztna_audit;
GRANT SELECT (org_id, id, description) ON api_keys, auth_keys TO ztna_audit;
GRANT SELECT (org_id, id, name) ON machines TO ztna_audit;

-- Writing -----------------------------------------------------------------------------------------

-- What is hashed of a row: each value in UTF-8 behind its length (4 bytes, big-endian); NULL is the
-- length ff ff ff ff. api/src/audit/chain.rs has the same.
CREATE FUNCTION audit_encode(fields text[]) RETURNS bytea LANGUAGE sql STABLE SET search_path = ztna, pg_temp
    AS $$ SELECT string_agg(CASE WHEN field IS NULL THEN '\xffffffff'::bytea
                            ELSE int4send(length(convert_to(field, 'UTF8'))) || convert_to(field, 'UTF8') END,
                            ''::bytea ORDER BY place)
          FROM unnest(fields) WITH ORDINALITY AS f (field, place) $$;

-- A value as the log shows it: no secret, and nothing longer than 2 KiB.
CREATE FUNCTION audit_shown(field text, value jsonb, secret text[]) RETURNS jsonb LANGUAGE sql STABLE
    SET search_path = ztna, pg_temp
    AS $$ SELECT CASE
              WHEN value = 'null' THEN value
              WHEN field = ANY (secret) THEN '"[secret]"'
              WHEN length(value::text) > 2048
                  THEN to_jsonb('sha256:' || encode(sha256(convert_to(value #>> '{}', 'UTF8')), 'hex'))
              ELSE value END $$;

-- Appends to an org's chain. An org without a head is being removed, and its log with it.
CREATE FUNCTION audit_append(org uuid, act text, on_id text, on_name text, was json, is_now json) RETURNS void
    LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
DECLARE
    head audit_heads%ROWTYPE;
    call jsonb := NULLIF(current_setting('ztna.actor', true), '')::jsonb;
    kind text := CASE WHEN call IS NULL THEN 'system' ELSE COALESCE(call ->> 'kind', 'anonymous') END;
    actor uuid := (call ->> 'id')::uuid;
    actor_label text;
    entry audit_log%ROWTYPE;
BEGIN
    SELECT * INTO head FROM audit_heads h WHERE h.org_id = org FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    CASE kind
        WHEN 'user' THEN SELECT u.email INTO actor_label FROM users u WHERE u.id = actor;
        WHEN 'api_key' THEN SELECT k.description INTO actor_label FROM api_keys k WHERE k.org_id = org AND k.id = actor;
        WHEN 'auth_key' THEN SELECT k.description INTO actor_label FROM auth_keys k WHERE k.org_id = org AND k.id = actor;
        WHEN 'machine' THEN SELECT m.name INTO actor_label FROM machines m WHERE m.org_id = org AND m.id = actor;
        ELSE NULL;
    END CASE;
    entry.org_id := org;
    entry.seq := head.seq + 1;
    -- Under the chain's lock: the order of seq is the order of time.
    entry.at := clock_timestamp();
    entry.actor_kind := kind;
    entry.actor_id := actor;
    entry.actor_for := (call ->> 'for')::uuid;
    entry.actor_name := COALESCE(NULLIF(actor_label, ''), call ->> 'name');
    entry.action := act;
    entry.target_id := on_id;
    entry.target_name := on_name;
    entry.before := was;
    entry.after := is_now;
    entry.ip := (call ->> 'ip')::inet;
    entry.client := NULLIF(call ->> 'client', '');
    entry.route := call ->> 'route';
    entry.request_id := call ->> 'request';
    entry.hash := sha256(head.hash || audit_encode(audit_fields(entry)));
    INSERT INTO audit_log SELECT entry.*;
    UPDATE audit_heads h SET seq = entry.seq, hash = entry.hash WHERE h.org_id = org;
END $$;

-- The values of a row that its hash covers, in their order.
CREATE FUNCTION audit_fields(entry audit_log) RETURNS text[] LANGUAGE sql STABLE SET search_path = ztna, pg_temp
    AS $$ SELECT ARRAY['ztna audit 1', entry.org_id::text, entry.seq::text,
              to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
              entry.actor_kind, entry.actor_id::text, entry.actor_for::text, entry.actor_name,
              entry.action, entry.target_id, entry.target_name, entry.before::text, entry.after::text,
              host(entry.ip), entry.client, entry.route, entry.request_id] $$;

-- The trigger of every table in the log. Arguments: whose row it is (`org`: that of org_id; `self`:
-- the org itself; `person`: every org of that person), kind and verb of the action, the columns that
-- name the row, columns whose values are secret, columns that do not count.
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
DECLARE
    scope text := TG_ARGV[0];
    verb text := TG_ARGV[2];
    keys text[] := TG_ARGV[3];
    secret text[] := TG_ARGV[4];
    hidden text[] := TG_ARGV[5] || ARRAY['org_id'];
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    is_now jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    whole jsonb := COALESCE(is_now, was);
    shown_was json;
    shown_now json;
    on_id text;
    on_name text;
    org uuid;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_object_agg(o.key, audit_shown(o.key, o.value, secret)),
               jsonb_object_agg(n.key, audit_shown(n.key, n.value, secret))
          INTO shown_was, shown_now
          FROM jsonb_each(was - hidden) o JOIN jsonb_each(is_now) n ON n.key = o.key
         WHERE o.value <> n.value;
        IF shown_was IS NULL THEN
            RETURN NULL;
        END IF;
        IF whole ->> 'revoked_at' IS NOT NULL AND was ->> 'revoked_at' IS NULL THEN
            verb := 'revoke';
        END IF;
    ELSE
        SELECT jsonb_object_agg(e.key, audit_shown(e.key, e.value, secret)) INTO shown_now
          FROM jsonb_each(whole - hidden) e;
        IF TG_OP = 'DELETE' THEN
            shown_was := shown_now;
            shown_now := NULL;
        END IF;
    END IF;
    SELECT string_agg(whole ->> key, '/' ORDER BY place) INTO on_id FROM unnest(keys) WITH ORDINALITY AS k (key, place);
    on_name := COALESCE(NULLIF(whole ->> 'name', ''), whole ->> 'email', NULLIF(whole ->> 'description', ''),
        (SELECT u.email FROM users u WHERE u.id = (whole ->> 'user_id')::uuid));
    IF scope = 'person' THEN
        PERFORM audit_of_person(COALESCE(whole ->> 'user_id', whole ->> 'id')::uuid,
            TG_ARGV[1] || '.' || verb, on_id, on_name, shown_was, shown_now);
    ELSE
        org := CASE scope WHEN 'self' THEN whole ->> 'id' ELSE whole ->> 'org_id' END;
        PERFORM audit_append(org, TG_ARGV[1] || '.' || verb, on_id, on_name, shown_was, shown_now);
    END IF;
    RETURN NULL;
END $$;

-- What concerns a person stands in the log of each org that the person is a member of. In the order of
-- ids, as everybody who appends to several.
CREATE FUNCTION audit_of_person(person uuid, act text, on_id text, on_name text, was json, is_now json) RETURNS void
    LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
DECLARE
    org uuid;
BEGIN
    FOR org IN SELECT m.org_id FROM members m WHERE m.user_id = person ORDER BY m.org_id LOOP
        PERFORM audit_append(org, act, on_id, on_name, was, is_now);
    END LOOP;
END $$;

-- A sign-in, or a refused one: no row changes by that.
CREATE FUNCTION audit_session(person uuid, verb text, detail json) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
BEGIN
    PERFORM audit_of_person(person, 'session.' || verb, person::text,
        (SELECT u.email FROM users u WHERE u.id = person), NULL, detail);
END $$;

-- What was done with the log itself, in the org of the transaction.
CREATE FUNCTION audit_event(verb text, detail json) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
BEGIN
    PERFORM audit_append(current_org(), 'audit.' || verb, NULL, NULL, NULL, detail);
END $$;

-- An org's chain begins with the org.
CREATE FUNCTION audit_begin() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
BEGIN
    INSERT INTO audit_heads (org_id) VALUES (NEW.id);
    RETURN NULL;
END $$;

-- Retention ---------------------------------------------------------------------------------------

-- Orgs whose log reaches back further than they keep it.
CREATE FUNCTION audit_orgs_to_cut() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT o.id FROM orgs o
          JOIN audit_heads h ON h.org_id = o.id
          JOIN audit_log l ON l.org_id = o.id AND l.seq = h.cut_seq + 1
          WHERE l.at < now() - o.audit_retention_days * interval '1 day' $$;

-- Cuts off what an org's log holds longer than it is kept, at most 10,000 rows; how many. Nothing
-- else removes a row, and the bound is the org's setting, not the caller's.
CREATE FUNCTION audit_cut(org uuid) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
DECLARE
    head audit_heads%ROWTYPE;
    oldest timestamptz;
    last bigint;
    young bigint;
    last_hash bytea;
BEGIN
    SELECT now() - o.audit_retention_days * interval '1 day' INTO oldest FROM orgs o WHERE o.id = org;
    SELECT * INTO head FROM audit_heads h WHERE h.org_id = org FOR UPDATE;
    last := LEAST(head.seq, head.cut_seq + 10000);
    SELECT min(l.seq) INTO young FROM audit_log l WHERE l.org_id = org AND l.seq <= last AND l.at >= oldest;
    last := COALESCE(young - 1, last);
    IF last IS NULL OR last <= head.cut_seq THEN
        RETURN 0;
    END IF;
    SELECT l.hash INTO STRICT last_hash FROM audit_log l WHERE l.org_id = org AND l.seq = last;
    DELETE FROM audit_log l WHERE l.org_id = org AND l.seq <= last;
    UPDATE audit_heads h SET cut_seq = last, cut_hash = last_hash WHERE h.org_id = org;
    PERFORM audit_append(org, 'audit.cut', NULL, NULL, NULL,
        json_build_object('from', head.cut_seq + 1, 'to', last, 'hash', encode(last_hash, 'hex')));
    RETURN last - head.cut_seq;
END $$;

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['audit_encode(text[])', 'audit_shown(text, jsonb, text[])', 'audit_fields(audit_log)',
        'audit_append(uuid, text, text, text, json, json)', 'audit_of_person(uuid, text, text, text, json, json)',
        'audit_row()', 'audit_begin()', 'audit_session(uuid, text, json)', 'audit_event(text, json)',
        'audit_orgs_to_cut()', 'audit_cut(uuid)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', entry);
        EXECUTE format('ALTER FUNCTION %s OWNER TO ztna_audit', entry);
    END LOOP;
    FOREACH entry IN ARRAY ARRAY['audit_session(uuid, text, json)', 'audit_event(text, json)', 'audit_orgs_to_cut()',
        'audit_cut(uuid)']
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ztna_app', entry);
    END LOOP;
END $$;
-- To make hashes again.
GRANT EXECUTE ON FUNCTION audit_fields(audit_log) TO ztna_app;

-- Which tables are in the log ---------------------------------------------------------------------

-- Puts one kind of change of a table into the log. Of an update, only one that `condition` holds for.
CREATE FUNCTION audit_trigger(relation regclass, event text, scope text, kind text, verb text, keys text[],
    secret text[], ignored text[], condition text) RETURNS void LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE format('CREATE CONSTRAINT TRIGGER %I AFTER %s ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
            WHEN (%s) EXECUTE FUNCTION audit_row(%L, %L, %L, %L, %L, %L)',
        'audit_' || lower(event), event, relation, condition, scope, kind, verb, keys, secret, ignored);
END $$;

-- Puts a table into the log: `KIND.create`, `.update` (`.revoke` where `revoked_at` is set) and
-- `.delete`. `secret`: columns whose values the log must not have; that they changed, it says.
-- `ignored`: columns that do not count. Every later migration that makes a tenant table calls it.
CREATE FUNCTION audit_table(relation regclass, kind text, secret text[] DEFAULT '{}', ignored text[] DEFAULT '{}',
    scope text DEFAULT 'org') RETURNS void LANGUAGE plpgsql
    AS $$
DECLARE
    keys text[];
BEGIN
    -- Of a table with one row for each org, nothing.
    SELECT COALESCE(array_agg(a.attname::text ORDER BY k.place), '{}') INTO keys
      FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k (number, place), pg_attribute a
     WHERE i.indrelid = relation AND i.indisprimary AND a.attrelid = relation AND a.attnum = k.number
       AND a.attname <> 'org_id';
    PERFORM audit_trigger(relation, 'INSERT', scope, kind, 'create', keys, secret, ignored, 'true');
    PERFORM audit_trigger(relation, 'UPDATE', scope, kind, 'update', keys, secret, ignored,
        format('to_jsonb(OLD) - %L::text[] IS DISTINCT FROM to_jsonb(NEW) - %L::text[]', ignored, ignored));
    PERFORM audit_trigger(relation, 'DELETE', scope, kind, 'delete', keys, secret, ignored, 'true');
END $$;
REVOKE ALL ON FUNCTION audit_trigger(regclass, text, text, text, text, text[], text[], text[], text) FROM PUBLIC;
REVOKE ALL ON FUNCTION audit_table(regclass, text, text[], text[], text) FROM PUBLIC;

CREATE TRIGGER audit_begin AFTER INSERT ON orgs FOR EACH ROW EXECUTE FUNCTION audit_begin();
-- The owner of the tables sees rows only while they do not force row-level security.
ALTER TABLE orgs NO FORCE ROW LEVEL SECURITY;
INSERT INTO audit_heads (org_id) SELECT id FROM orgs;
ALTER TABLE orgs FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_heads FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_log FORCE ROW LEVEL SECURITY;

DO $$
BEGIN
    PERFORM audit_table('orgs', 'org', '{}', '{seq,ipv4_next}', 'self');
    PERFORM audit_table('members', 'member');
    PERFORM audit_table('invitations', 'invitation', '{hash}');
    PERFORM audit_table('api_keys', 'api_key', '{hash}', '{last_used_at}');
    PERFORM audit_table('auth_keys', 'auth_key', '{hash}', '{uses}');
    -- Its hash stands for the ML-KEM key.
    PERFORM audit_table('machines', 'machine', '{token_hash,previous_token_hash}', '{kem_key}');
    PERFORM audit_table('org_relay_regions', 'relay_region');
    PERFORM audit_table('org_relay_nodes', 'relay_node');
    -- A version never changes, and goes only because it is long past.
    PERFORM audit_trigger('policy_versions', 'INSERT', 'org', 'policy', 'save', '{version}', '{}', '{}', 'true');
    -- People: what they change about how they sign in.
    PERFORM audit_trigger('users', 'UPDATE', 'person', 'user', 'update', '{id}', '{password_hash}', '{}',
        'OLD IS DISTINCT FROM NEW');
    PERFORM audit_table('totp_secrets', 'mfa', '{secret}', '{last_step}', 'person');
    -- Of a session's tokens one is unused; with that one, the session ends.
    PERFORM audit_trigger('refresh_tokens', 'DELETE', 'person', 'session', 'end', '{family}', '{hash}',
        '{used_at}', 'OLD.used_at IS NULL AND OLD.expires_at > now()');
END $$;
