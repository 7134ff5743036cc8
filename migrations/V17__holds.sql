-- A machine that is held is not free of that by its silence.

GRANT SELECT (quarantined, locked, wipe_asked_at, posture_quarantine) ON machines TO ztna_lookup;

CREATE OR REPLACE FUNCTION lookup_orgs_with_silent_machines(seconds bigint) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT DISTINCT m.org_id FROM machines m
          LEFT JOIN machine_presence p ON p.org_id = m.org_id AND p.machine_id = m.id
          WHERE m.ephemeral
            AND m.quarantined IS NULL AND m.locked IS NULL AND m.disabled IS NULL
            AND m.wipe_asked_at IS NULL AND m.posture_quarantine IS NULL
            AND COALESCE(p.last_seen, m.created_at) < now() - seconds * interval '1 second' $$;
