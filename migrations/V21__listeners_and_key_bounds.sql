-- Where orgs' audit logs stand, for nodes whose browsers listen (api/src/realtime).

CREATE POLICY lookup ON audit_heads FOR SELECT TO ztna_lookup USING (true);
GRANT SELECT (org_id, seq) ON audit_heads TO ztna_lookup;

CREATE FUNCTION lookup_audit_heads(orgs uuid[]) RETURNS TABLE (org_id uuid, seq bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT h.org_id, h.seq FROM audit_heads h WHERE h.org_id = ANY(lookup_audit_heads.orgs) $$;
REVOKE ALL ON FUNCTION lookup_audit_heads(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lookup_audit_heads(uuid[]) TO ztna_app;
ALTER FUNCTION lookup_audit_heads(uuid[]) OWNER TO ztna_lookup;

-- Auth keys ------------------------------------------------------------------------------------------

-- How many machines an auth key enrols at most, so that one that leaks does not enrol without bound.

ALTER TABLE auth_keys
    -- NULL: made before there was a bound; such keys end by their time alone.
    ADD COLUMN max_uses bigint CHECK (max_uses >= 1 AND (reusable OR max_uses = 1)),
    ADD CHECK (max_uses IS NULL OR uses <= max_uses);
