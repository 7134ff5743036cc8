-- Posture: what machines tell of their health, what orgs ask for, and what follows from it.

CREATE TABLE posture_policies (
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id         uuid NOT NULL,
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    -- ztna_proto::posture::PosturePolicySpec
    spec       jsonb NOT NULL CHECK (octet_length(spec::text) <= 32768),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, name)
);

-- What is known of a machine: a row since its first report, or since its org has a policy.
CREATE TABLE machine_posture (
    org_id      uuid NOT NULL,
    machine_id  uuid NOT NULL,
    -- ztna_proto::posture::PostureReport, the latest.
    report      jsonb CHECK (octet_length(report::text) <= 16384),
    reported_at timestamptz CHECK ((reported_at IS NULL) = (report IS NULL)),
    -- What rules see of it: {"node:agentVersion": "1.2.3", …}.
    attributes  jsonb NOT NULL DEFAULT '{}',
    -- Vec<ztna_proto::posture::PostureResult>: what the policies said when they were asked last.
    results     jsonb NOT NULL DEFAULT '[]',
    -- When time or a change elsewhere makes another answer of the same report.
    due_at      timestamptz,
    PRIMARY KEY (org_id, machine_id),
    FOREIGN KEY (org_id, machine_id) REFERENCES machines (org_id, id) ON DELETE CASCADE
);
CREATE INDEX machine_posture_due ON machine_posture (due_at) WHERE due_at IS NOT NULL;

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['posture_policies', 'machine_posture']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I TO ztna_app
            USING (org_id = current_org()) WITH CHECK (org_id = current_org())', tenant);
    END LOOP;
END $$;

GRANT SELECT, INSERT, DELETE, UPDATE (name, spec, updated_at) ON posture_policies TO ztna_app;
GRANT SELECT, INSERT, UPDATE (report, reported_at, attributes, results, due_at) ON machine_posture TO ztna_app;

-- A machine that joins an org with policies is judged whether it reports or not. Its agent has a moment
-- for the first report, which comes after five seconds.
CREATE FUNCTION posture_begin() RETURNS trigger LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
BEGIN
    INSERT INTO machine_posture (org_id, machine_id, due_at)
    SELECT NEW.org_id, NEW.id, now() + interval '15 seconds'
    WHERE EXISTS (SELECT FROM posture_policies p WHERE p.org_id = NEW.org_id);
    RETURN NULL;
END $$;
CREATE TRIGGER posture_begin AFTER INSERT ON machines FOR EACH ROW EXECUTE FUNCTION posture_begin();

-- Whose a machine is decides which policies are for it.
CREATE FUNCTION posture_recheck_machine() RETURNS trigger LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
BEGIN
    UPDATE machine_posture SET due_at = now() WHERE org_id = NEW.org_id AND machine_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER posture_recheck AFTER UPDATE OF user_id ON machines
    FOR EACH ROW WHEN (OLD.user_id IS DISTINCT FROM NEW.user_id)
    EXECUTE FUNCTION posture_recheck_machine();

-- The policy document says who is in a group.
CREATE FUNCTION posture_recheck_org() RETURNS trigger LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
BEGIN
    UPDATE machine_posture SET due_at = now()
    WHERE org_id = NEW.org_id AND EXISTS (
        SELECT FROM posture_policies p WHERE p.org_id = NEW.org_id AND p.spec ->> 'scope' LIKE '%"group:%');
    RETURN NULL;
END $$;
CREATE TRIGGER posture_recheck AFTER INSERT ON policy_versions
    FOR EACH ROW EXECUTE FUNCTION posture_recheck_org();

-- Look-ups before the org is known -----------------------------------------------------------------

CREATE POLICY lookup ON machine_posture TO ztna_lookup USING (true);
GRANT SELECT (org_id, due_at) ON machine_posture TO ztna_lookup;

-- Orgs with machines that are to be judged anew.
CREATE FUNCTION lookup_orgs_with_due_posture() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT DISTINCT org_id FROM machine_posture WHERE due_at <= now() $$;
REVOKE ALL ON FUNCTION lookup_orgs_with_due_posture() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lookup_orgs_with_due_posture() TO ztna_app;
ALTER FUNCTION lookup_orgs_with_due_posture() OWNER TO ztna_lookup;

-- The audit log -------------------------------------------------------------------------------------

DO $$
BEGIN
    PERFORM audit_table('posture_policies', 'posture_policy');
    -- Not each report, but what policies came to say of a machine.
    PERFORM audit_trigger('machine_posture', 'UPDATE', 'org', 'posture', 'judge', '{machine_id}', '{}',
        '{report,reported_at,attributes,due_at}', 'OLD.results IS DISTINCT FROM NEW.results');
END $$;
