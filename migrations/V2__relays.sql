-- Relays: an org's own regions, health, and revocations.

-- Where a region is, for maps that people look at.
ALTER TABLE relay_regions
    ADD COLUMN latitude  double precision CHECK (latitude BETWEEN -90 AND 90),
    ADD COLUMN longitude double precision CHECK (longitude BETWEEN -180 AND 180),
    -- These numbers are the orgs' own.
    ADD CHECK (id NOT BETWEEN 900 AND 999) NOT VALID;

-- Regions of an org: relays that it runs for its own machines. Each org has the numbers 900 to 999.
CREATE TABLE org_relay_regions (
    org_id    uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id        integer NOT NULL CHECK (id BETWEEN 900 AND 999),
    code      text NOT NULL,
    name      text NOT NULL,
    latitude  double precision CHECK (latitude BETWEEN -90 AND 90),
    longitude double precision CHECK (longitude BETWEEN -180 AND 180),
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, code)
);
CREATE TABLE org_relay_nodes (
    org_id    uuid NOT NULL,
    region_id integer NOT NULL,
    name      text NOT NULL,
    position  integer NOT NULL,
    -- proto::relay::RelayNode
    node      jsonb NOT NULL,
    PRIMARY KEY (org_id, region_id, name),
    FOREIGN KEY (org_id, region_id) REFERENCES org_relay_regions (org_id, id) ON DELETE CASCADE
);

-- Machines are told of another relay map like of every other change.
ALTER TABLE changes DROP CONSTRAINT changes_kind_check;
ALTER TABLE changes ADD CONSTRAINT changes_kind_check CHECK (kind IN ('machine', 'policy', 'org', 'relays'));

-- What the control plane's probes found, by region and node name. No foreign key to the nodes: a
-- result may come in just after its node went, is then shown to nobody, and is swept away.
CREATE TABLE relay_health (
    region_id  integer NOT NULL,
    node       text NOT NULL,
    -- NULL: it is not probed; `error` says why.
    up         boolean,
    -- Since when it is so.
    since      timestamptz NOT NULL DEFAULT now(),
    latency_ms real,
    error      text,
    checked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (region_id, node)
);
CREATE TABLE org_relay_health (
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    region_id  integer NOT NULL,
    node       text NOT NULL,
    up         boolean,
    since      timestamptz NOT NULL DEFAULT now(),
    latency_ms real,
    error      text,
    checked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, region_id, node)
);

-- Whose relay tickets are void: told to every relay, by the hash of the key alone. Writers take
-- turns (an advisory lock), so that seq order is commit order and no reader skips a row.
CREATE TABLE relay_revocations (
    seq      bigserial PRIMARY KEY,
    key_hash bytea NOT NULL CHECK (length(key_hash) = 32),
    -- Tickets issued until then are void.
    at       timestamptz NOT NULL
);
CREATE INDEX relay_revocations_key ON relay_revocations (key_hash);
CREATE INDEX relay_revocations_age ON relay_revocations (at);

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['org_relay_regions', 'org_relay_nodes', 'org_relay_health']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I TO ztna_app
            USING (org_id = current_org()) WITH CHECK (org_id = current_org())', tenant);
        EXECUTE format('CREATE POLICY lookup ON %I TO ztna_lookup USING (true) WITH CHECK (true)', tenant);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON org_relay_regions, org_relay_nodes TO ztna_app;
GRANT SELECT ON org_relay_health TO ztna_app;
GRANT SELECT, INSERT, UPDATE ON relay_health TO ztna_app;
GRANT SELECT, INSERT ON relay_revocations TO ztna_app;
GRANT USAGE, SELECT ON SEQUENCE relay_revocations_seq_seq TO ztna_app;

GRANT SELECT ON org_relay_nodes TO ztna_lookup;
GRANT SELECT, INSERT, UPDATE, DELETE ON org_relay_health TO ztna_lookup;
GRANT SELECT (checked_at), DELETE ON relay_health TO ztna_lookup;
GRANT SELECT (at), DELETE ON relay_revocations TO ztna_lookup;

-- The orgs' own nodes for the health probes: of more than `most`, those that were probed longest ago.
CREATE FUNCTION lookup_org_relay_nodes(most bigint)
    RETURNS TABLE (org_id uuid, region_id integer, name text, node jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT n.org_id, n.region_id, n.name, n.node FROM org_relay_nodes n
          LEFT JOIN org_relay_health h
            ON h.org_id = n.org_id AND h.region_id = n.region_id AND h.node = n.name
          ORDER BY h.checked_at NULLS FIRST LIMIT most $$;

-- What the probes found at the orgs' own nodes; the arrays run in parallel.
CREATE FUNCTION store_org_relay_health(orgs uuid[], regions integer[], nodes text[], ups boolean[],
    latencies real[], errors text[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ INSERT INTO org_relay_health AS old (org_id, region_id, node, up, latency_ms, error)
          SELECT new.org_id, new.region_id, new.node, new.up, new.latency_ms, new.error
          FROM unnest(orgs, regions, nodes, ups, latencies, errors)
              AS new (org_id, region_id, node, up, latency_ms, error)
          JOIN org_relay_nodes n
            ON n.org_id = new.org_id AND n.region_id = new.region_id AND n.name = new.node
          ON CONFLICT (org_id, region_id, node) DO UPDATE SET
              up = excluded.up, latency_ms = excluded.latency_ms, error = excluded.error, checked_at = now(),
              since = CASE WHEN old.up IS DISTINCT FROM excluded.up THEN now() ELSE old.since END $$;

-- Also: revocations that outlived every ticket they void, health of nodes that are gone.
CREATE OR REPLACE FUNCTION sweep_leftovers() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ DELETE FROM refresh_tokens WHERE expires_at <= now();
          DELETE FROM deleted_machines WHERE deleted_at < now() - interval '365 days';
          DELETE FROM relay_revocations WHERE at < now() - interval '25 hours';
          DELETE FROM relay_health WHERE checked_at < now() - interval '1 day';
          DELETE FROM org_relay_health WHERE checked_at < now() - interval '1 day' $$;

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['lookup_org_relay_nodes(bigint)',
        'store_org_relay_health(uuid[], integer[], text[], boolean[], real[], text[])']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', entry);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ztna_app', entry);
        EXECUTE format('ALTER FUNCTION %s OWNER TO ztna_lookup', entry);
    END LOOP;
END $$;
