-- The life of a machine: approval, quarantine, lock, switch, wipe; tags; keys that do not expire;
-- ephemeral machines.

-- New machines wait for an admin's word.
ALTER TABLE orgs ADD COLUMN machine_approval boolean NOT NULL DEFAULT false;
GRANT UPDATE (machine_approval) ON orgs TO ztna_app;

-- What machines are that a key enrols.
ALTER TABLE auth_keys
    -- In the policy's form, `tag:web`.
    ADD COLUMN tags        text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 32),
    ADD COLUMN ephemeral   boolean NOT NULL DEFAULT false,
    ADD COLUMN preapproved boolean NOT NULL DEFAULT false;

ALTER TABLE machines
    ADD COLUMN approved      boolean NOT NULL DEFAULT true,
    -- Each is NULL, or holds what people are told of it; '' if nobody said anything.
    ADD COLUMN quarantined   text CHECK (length(quarantined) <= 255),
    ADD COLUMN locked        text CHECK (length(locked) <= 255),
    ADD COLUMN disabled      text CHECK (length(disabled) <= 255),
    -- It is to erase its keys and state, and when it said that it has.
    ADD COLUMN wipe_asked_at timestamptz,
    ADD COLUMN wiped_at      timestamptz CHECK (wiped_at IS NULL OR wipe_asked_at IS NOT NULL),
    ADD COLUMN tags          text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 32),
    ADD COLUMN ephemeral     boolean NOT NULL DEFAULT false,
    -- Whether its sign-in ends at all. Where it does not, key_expires_at is NULL.
    ADD COLUMN key_expiry    boolean NOT NULL DEFAULT true,
    -- Whose it is, or the key that enrolled it. A machine with tags is nobody's.
    DROP CONSTRAINT machines_check,
    ADD CONSTRAINT machines_owner CHECK (user_id IS NULL OR (auth_key_id IS NULL AND tags = '{}'));
CREATE INDEX machines_auth_key ON machines (org_id, auth_key_id) WHERE auth_key_id IS NOT NULL;
CREATE INDEX machines_ephemeral ON machines (org_id, id) WHERE ephemeral;
GRANT UPDATE (approved, quarantined, locked, disabled, wipe_asked_at, wiped_at, tags, key_expiry)
    ON machines TO ztna_app;

-- Look-ups before the org is known -----------------------------------------------------------------

GRANT SELECT (disabled, ephemeral, created_at) ON machines TO ztna_lookup;

DROP FUNCTION lookup_machine_token(bytea);
-- The machine that a token belongs to, or belonged to. `disabled`: why the control plane serves it
-- not, if somebody has switched it off.
CREATE FUNCTION lookup_machine_token(token bytea)
    RETURNS TABLE (org_id uuid, id uuid, wg_key bytea, expired boolean, deleted boolean, disabled text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT org_id, id, wg_key, expired OR COALESCE(key_expires_at <= now(), false), false, disabled
          FROM machines WHERE token_hash = token
          UNION ALL
          SELECT org_id, id, NULL::bytea, false, true, NULL FROM deleted_machines WHERE token_hash = token $$;

-- Orgs that hold ephemeral machines which were silent for so long.
CREATE FUNCTION lookup_orgs_with_silent_machines(seconds bigint) RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT DISTINCT m.org_id FROM machines m
          LEFT JOIN machine_presence p ON p.org_id = m.org_id AND p.machine_id = m.id
          WHERE m.ephemeral
            AND COALESCE(p.last_seen, m.created_at) < now() - seconds * interval '1 second' $$;

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['lookup_machine_token(bytea)', 'lookup_orgs_with_silent_machines(bigint)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', entry);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ztna_app', entry);
        EXECUTE format('ALTER FUNCTION %s OWNER TO ztna_lookup', entry);
    END LOOP;
END $$;
