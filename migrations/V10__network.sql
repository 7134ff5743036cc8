-- What an org's network has beside machines: the networks behind them, and names.

-- What a machine offers to carry packets to. A row goes when the machine takes the offer back, and
-- with it what was decided about it.
CREATE TABLE machine_routes (
    org_id     uuid NOT NULL,
    machine_id uuid NOT NULL,
    prefix     cidr NOT NULL,
    approved   boolean NOT NULL,
    PRIMARY KEY (org_id, machine_id, prefix),
    FOREIGN KEY (org_id, machine_id) REFERENCES machines (org_id, id) ON DELETE CASCADE
);

-- ztna_proto::network::DnsSettings. No row: the default.
CREATE TABLE dns_settings (
    org_id   uuid PRIMARY KEY REFERENCES orgs (id) ON DELETE CASCADE,
    settings jsonb NOT NULL CHECK (octet_length(settings::text) <= 65536)
);

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['machine_routes', 'dns_settings']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I TO ztna_app
            USING (org_id = current_org()) WITH CHECK (org_id = current_org())', tenant);
    END LOOP;
END $$;

GRANT SELECT, INSERT, DELETE, UPDATE (approved) ON machine_routes TO ztna_app;
GRANT SELECT, INSERT, UPDATE (settings) ON dns_settings TO ztna_app;

DO $$
BEGIN
    PERFORM audit_table('machine_routes', 'route');
    PERFORM audit_table('dns_settings', 'dns');
END $$;
