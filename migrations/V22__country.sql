-- The country that a machine calls from, for rules that ask for it (`ip:country`). Known only where the operator
-- gives a database of addresses (`--geoip`).

ALTER TABLE machines
    -- ISO 3166-1 alpha-2. NULL: not known.
    ADD COLUMN country text CHECK (country ~ '^[A-Z]{2}$');
GRANT UPDATE (country) ON machines TO ztna_app;

-- Orgs of which a country is known of some machine: without a database, it has to be forgotten.
GRANT SELECT (country) ON machines TO ztna_lookup;
CREATE INDEX machines_country ON machines (org_id) WHERE country IS NOT NULL;
CREATE FUNCTION lookup_orgs_with_countries() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT DISTINCT org_id FROM machines WHERE country IS NOT NULL $$;
REVOKE ALL ON FUNCTION lookup_orgs_with_countries() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lookup_orgs_with_countries() TO ztna_app;
ALTER FUNCTION lookup_orgs_with_countries() OWNER TO ztna_lookup;
