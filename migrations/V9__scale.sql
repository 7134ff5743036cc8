-- Several nodes on one database: what each wrote down of machines that are connected to it is read by
-- the others, and which orgs have changed is asked for many orgs at once.

ALTER TABLE machine_presence
    -- Of the state that is written here; an older one never replaces a newer. 0: from before there
    -- were several nodes.
    ADD COLUMN version    bigint NOT NULL DEFAULT 0,
    ADD COLUMN online     boolean NOT NULL DEFAULT true,
    -- The version at which the stream began that the machine is connected by. NULL: by none.
    ADD COLUMN stream     bigint,
    ADD COLUMN written_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX machine_presence_news ON machine_presence (written_at);

-- Look-ups across orgs, for nodes that hold many of them in memory.

CREATE POLICY lookup ON machine_presence FOR SELECT TO ztna_lookup USING (true);
GRANT SELECT (id, seq) ON orgs TO ztna_lookup;
GRANT SELECT ON machine_presence TO ztna_lookup;

-- Where these orgs stand.
CREATE FUNCTION lookup_org_seqs(orgs uuid[]) RETURNS TABLE (org_id uuid, seq bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT o.id, o.seq FROM orgs o WHERE o.id = ANY(lookup_org_seqs.orgs) $$;

-- What was written down of these orgs' machines since then.
CREATE FUNCTION lookup_presence_news(orgs uuid[], since timestamptz)
    RETURNS TABLE (org_id uuid, machine_id uuid, version bigint, online boolean, stream bigint,
        last_seen timestamptz, report jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT p.org_id, p.machine_id, p.version, p.online, p.stream, p.last_seen, p.report
          FROM machine_presence p
          WHERE p.written_at >= lookup_presence_news.since AND p.org_id = ANY(lookup_presence_news.orgs) $$;

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['lookup_org_seqs(uuid[])', 'lookup_presence_news(uuid[], timestamptz)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', entry);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ztna_app', entry);
        EXECUTE format('ALTER FUNCTION %s OWNER TO ztna_lookup', entry);
    END LOOP;
END $$;
