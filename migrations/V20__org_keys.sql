-- A key of each org, random, under which the org's secrets are sealed. It is sealed itself under the
-- deployment's master key (api/src/seal.rs), so that a new master key is a matter of these rows alone. It is
-- made with the org, and gone with it.
CREATE TABLE org_keys (
    org_id     uuid PRIMARY KEY REFERENCES orgs (id) ON DELETE CASCADE,
    key        bytea NOT NULL CHECK (length(key) BETWEEN 32 AND 128),
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE org_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE org_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON org_keys TO ztna_app
    USING (org_id = current_org()) WITH CHECK (org_id = current_org());
CREATE POLICY lookup ON org_keys TO ztna_lookup USING (true);
-- Never changed by who serves requests.
GRANT SELECT, INSERT ON org_keys TO ztna_app;
GRANT SELECT (org_id) ON org_keys TO ztna_lookup;

-- Orgs of before. SQL cannot seal: a node that starts makes their keys, and seals their secrets under them.
CREATE FUNCTION lookup_orgs_without_key() RETURNS TABLE (org_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT o.id FROM orgs o WHERE NOT EXISTS (SELECT FROM org_keys k WHERE k.org_id = o.id) ORDER BY o.id $$;
REVOKE ALL ON FUNCTION lookup_orgs_without_key() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lookup_orgs_without_key() TO ztna_app;
ALTER FUNCTION lookup_orgs_without_key() OWNER TO ztna_lookup;
