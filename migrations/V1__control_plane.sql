-- The control plane's first tables.
--
-- Runs as ztna_owner with search_path = ztna. Three roles share the schema (api/src/db/setup.rs
-- makes them):
--   ztna_owner   owns tables, runs migrations, serves no request;
--   ztna_lookup  owns the few functions that look across orgs, and may do nothing else;
--   ztna_app     serves requests: no table of its own, no BYPASSRLS.
--
-- Every table but the relay map is under row-level security, enabled and forced. A transaction
-- names the org (`ztna.org`) or the person (`ztna.user`) that it works for; one that names neither
-- sees nothing. Foreign keys and unique constraints carry org_id where rows belong to an org, for
-- constraints look past row-level security.

CREATE FUNCTION current_org() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT NULLIF(current_setting('ztna.org', true), '')::uuid $$;
CREATE FUNCTION current_person() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT NULLIF(current_setting('ztna.user', true), '')::uuid $$;

-- People ------------------------------------------------------------------------------------------

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    -- Trimmed and in lower case: one address, one account.
    email         text NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    password_hash text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- A login starts a family; each refresh retires one token and adds the next.
CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY CHECK (length(hash) = 32),
    family     uuid NOT NULL,
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);

-- Orgs --------------------------------------------------------------------------------------------

CREATE TABLE orgs (
    id                 uuid PRIMARY KEY,
    name               text NOT NULL CHECK (length(name) BETWEEN 1 AND 64),
    slug               text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    -- Number of the last durable change. Taken by UPDATE … RETURNING within the change's own
    -- transaction: commit order is seq order, and the row lock makes an org's changes take turns.
    seq                bigint NOT NULL DEFAULT 0,
    ipv4_network       inet NOT NULL DEFAULT '100.64.0.0/10' CHECK (family(ipv4_network) = 4),
    -- The first host number never handed out yet. Freed addresses wait until this one has reached
    -- the network's end, so that a peer's stale map does not point at a new machine.
    ipv4_next          bigint NOT NULL DEFAULT 1,
    ipv6_network       inet NOT NULL UNIQUE CHECK (family(ipv6_network) = 6),
    key_expiry_seconds bigint NOT NULL DEFAULT 180 * 24 * 60 * 60 CHECK (key_expiry_seconds > 0),
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE members (
    org_id    uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    user_id   uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role      text NOT NULL CHECK (role IN ('owner', 'admin', 'auditor', 'member')),
    joined_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, user_id)
);
CREATE INDEX members_user ON members (user_id);

-- What changed, by seq; nodes that missed a notice read on from here. Kept short: a map older than
-- the log is sent whole.
CREATE TABLE changes (
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    seq        bigint NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('machine', 'policy', 'org')),
    -- The machine that came, went or changed, for kind `machine`. No foreign key: it may be gone.
    machine_id uuid CHECK ((kind = 'machine') = (machine_id IS NOT NULL)),
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, seq)
);

-- A rule in the form of the policy language (crates/policy).
CREATE TABLE rules (
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id         uuid NOT NULL,
    -- Order means nothing to the machines; people see their rules as they wrote them.
    position   integer NOT NULL,
    rule       jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);

-- Auth keys and machines --------------------------------------------------------------------------

CREATE TABLE auth_keys (
    org_id      uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id          uuid NOT NULL,
    hash        bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    description text NOT NULL CHECK (length(description) <= 255),
    reusable    boolean NOT NULL,
    uses        bigint NOT NULL DEFAULT 0 CHECK (reusable OR uses <= 1),
    created_by  uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    PRIMARY KEY (org_id, id)
);

CREATE TABLE machines (
    org_id              uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id                  uuid NOT NULL,
    name                text NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    os                  text NOT NULL,
    agent_version       text NOT NULL,
    -- Unique over all orgs: relays know machines by this key alone.
    wg_key              bytea NOT NULL UNIQUE CHECK (length(wg_key) = 32),
    kem_key             bytea NOT NULL CHECK (length(kem_key) = 1184),
    kem_hash            bytea NOT NULL CHECK (length(kem_hash) = 32),
    token_hash          bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    -- The token before. It registers the machine again, in case the answer that carried the new
    -- one was lost, and opens nothing else.
    previous_token_hash bytea CHECK (length(previous_token_hash) = 32),
    ipv4                inet NOT NULL CHECK (family(ipv4) = 4),
    ipv6                inet NOT NULL CHECK (family(ipv6) = 6),
    -- Who enrolled it: a member, or an auth key.
    user_id             uuid,
    auth_key_id         uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    key_expires_at      timestamptz,
    -- Set in the same transaction as the change that tells the peers.
    expired             boolean NOT NULL DEFAULT false,
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, name),
    UNIQUE (org_id, ipv4),
    UNIQUE (org_id, ipv6),
    FOREIGN KEY (org_id, user_id) REFERENCES members (org_id, user_id),
    FOREIGN KEY (org_id, auth_key_id) REFERENCES auth_keys (org_id, id),
    CHECK ((user_id IS NULL) <> (auth_key_id IS NULL))
);
CREATE INDEX machines_expiry ON machines (key_expires_at) WHERE NOT expired;

-- When a machine was last heard of and where it is reached: written in batches, outside seq.
CREATE TABLE machine_presence (
    org_id     uuid NOT NULL,
    machine_id uuid NOT NULL,
    last_seen  timestamptz NOT NULL,
    report     jsonb NOT NULL,
    PRIMARY KEY (org_id, machine_id),
    FOREIGN KEY (org_id, machine_id) REFERENCES machines (org_id, id) ON DELETE CASCADE
);

-- Tokens of deleted machines, so that one is told that it was deleted.
CREATE TABLE deleted_machines (
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id         uuid NOT NULL,
    token_hash bytea NOT NULL CHECK (length(token_hash) = 32),
    deleted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
CREATE INDEX deleted_machines_token ON deleted_machines (token_hash);
CREATE INDEX deleted_machines_age ON deleted_machines (deleted_at);

-- The relay map: the deployment's, not an org's ---------------------------------------------------

CREATE TABLE relay_regions (
    id   integer PRIMARY KEY CHECK (id > 0),
    code text NOT NULL UNIQUE,
    name text NOT NULL
);
CREATE TABLE relay_nodes (
    region_id integer NOT NULL REFERENCES relay_regions (id) ON DELETE CASCADE,
    name      text NOT NULL,
    position  integer NOT NULL,
    -- proto::relay::RelayNode
    node      jsonb NOT NULL,
    PRIMARY KEY (region_id, name)
);

-- Row-level security ------------------------------------------------------------------------------

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['users', 'refresh_tokens', 'orgs', 'members', 'changes', 'rules',
        'auth_keys', 'machines', 'machine_presence', 'deleted_machines']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
    END LOOP;
    FOREACH tenant IN ARRAY ARRAY['members', 'changes', 'rules', 'auth_keys', 'machines',
        'machine_presence', 'deleted_machines']
    LOOP
        EXECUTE format('CREATE POLICY tenant ON %I TO ztna_app
            USING (org_id = current_org()) WITH CHECK (org_id = current_org())', tenant);
    END LOOP;
END $$;

CREATE POLICY tenant ON orgs TO ztna_app
    USING (id = current_org()) WITH CHECK (id = current_org());
-- A person sees the own memberships, and the orgs of them, before an org is chosen.
CREATE POLICY own ON members FOR SELECT TO ztna_app USING (user_id = current_person());
CREATE POLICY own ON orgs FOR SELECT TO ztna_app
    USING (EXISTS (SELECT FROM members WHERE members.org_id = orgs.id AND members.user_id = current_person()));
CREATE POLICY own ON users TO ztna_app
    USING (id = current_person()) WITH CHECK (id = current_person());
-- Within an org, its members' accounts are visible (columns: see the grants).
CREATE POLICY colleagues ON users FOR SELECT TO ztna_app
    USING (EXISTS (SELECT FROM members WHERE members.user_id = users.id AND members.org_id = current_org()));
CREATE POLICY own ON refresh_tokens TO ztna_app
    USING (user_id = current_person()) WITH CHECK (user_id = current_person());

GRANT SELECT (id, email, created_at), INSERT ON users TO ztna_app;
GRANT SELECT, INSERT, DELETE ON refresh_tokens TO ztna_app;
GRANT SELECT, INSERT, UPDATE (name, seq, ipv4_next, key_expiry_seconds) ON orgs TO ztna_app;
GRANT SELECT, INSERT, UPDATE (role), DELETE ON members TO ztna_app;
GRANT SELECT, INSERT, DELETE ON changes TO ztna_app;
GRANT SELECT, INSERT, DELETE ON rules TO ztna_app;
GRANT SELECT, INSERT, UPDATE (uses, revoked_at) ON auth_keys TO ztna_app;
GRANT SELECT, INSERT, DELETE,
    UPDATE (name, os, agent_version, kem_key, kem_hash, token_hash, previous_token_hash, user_id,
        auth_key_id, key_expires_at, expired) ON machines TO ztna_app;
GRANT SELECT, INSERT, UPDATE ON machine_presence TO ztna_app;
GRANT SELECT, INSERT ON deleted_machines TO ztna_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON relay_regions, relay_nodes TO ztna_app;

-- Look-ups before the org or the person is known --------------------------------------------------
--
-- All of them are here. Each runs as ztna_lookup, whose rights are these grants and policies, with a
-- fixed search path, and gives away as little as its caller needs.

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['users', 'refresh_tokens', 'auth_keys', 'machines', 'deleted_machines']
    LOOP
        EXECUTE format('CREATE POLICY lookup ON %I TO ztna_lookup USING (true)', tenant);
    END LOOP;
END $$;
CREATE POLICY lookup_insert ON refresh_tokens FOR INSERT TO ztna_lookup WITH CHECK (true);
GRANT SELECT (id, email, password_hash) ON users TO ztna_lookup;
GRANT SELECT, INSERT, UPDATE (used_at), DELETE ON refresh_tokens TO ztna_lookup;
GRANT SELECT (org_id, id, hash) ON auth_keys TO ztna_lookup;
GRANT SELECT (org_id, id, wg_key, token_hash, previous_token_hash, key_expires_at, expired) ON machines TO ztna_lookup;
GRANT SELECT (org_id, id, token_hash, deleted_at), DELETE ON deleted_machines TO ztna_lookup;

-- Sign-in, and adding an account to an org by its e-mail address.
CREATE FUNCTION lookup_account(address text) RETURNS TABLE (user_id uuid, hash text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT id, password_hash FROM users WHERE email = address $$;

-- Whose refresh token this is, if it is good; it stays good.
CREATE FUNCTION lookup_refresh_token(token bytea) RETURNS TABLE (user_id uuid, family uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT user_id, family FROM refresh_tokens
          WHERE hash = token AND used_at IS NULL AND expires_at > now() $$;

-- Retires a refresh token and stores its successor. A token that comes a second time was stolen
-- from someone, so its whole family ends. No row: sign in again.
CREATE FUNCTION rotate_refresh_token(token bytea, successor bytea, lifetime_seconds bigint) RETURNS TABLE (user_id uuid, family uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    old refresh_tokens%ROWTYPE;
BEGIN
    SELECT * INTO old FROM refresh_tokens t WHERE t.hash = token FOR UPDATE;
    IF NOT FOUND OR old.expires_at <= now() THEN
        RETURN;
    END IF;
    IF old.used_at IS NOT NULL THEN
        DELETE FROM refresh_tokens t WHERE t.family = old.family;
        RETURN;
    END IF;
    UPDATE refresh_tokens t SET used_at = now() WHERE t.hash = token;
    INSERT INTO refresh_tokens (hash, family, user_id, expires_at)
        VALUES (successor, old.family, old.user_id, now() + lifetime_seconds * interval '1 second');
    RETURN QUERY SELECT old.user_id, old.family;
END $$;

-- The org that an auth key enrols into. Whether it is still good, its org's transaction decides.
CREATE FUNCTION lookup_auth_key(key bytea) RETURNS TABLE (org_id uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT org_id, id FROM auth_keys WHERE hash = key $$;

-- The machine that a token belongs to, or belonged to.
CREATE FUNCTION lookup_machine_token(token bytea)
    RETURNS TABLE (org_id uuid, id uuid, wg_key bytea, expired boolean, deleted boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT org_id, id, wg_key, expired OR COALESCE(key_expires_at <= now(), false), false
          FROM machines WHERE token_hash = token
          UNION ALL
          SELECT org_id, id, NULL::bytea, false, true FROM deleted_machines WHERE token_hash = token $$;

-- Orgs that hold machines whose time is over and whose peers were not told yet.
CREATE FUNCTION lookup_orgs_to_expire() RETURNS SETOF uuid
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT DISTINCT org_id FROM machines WHERE NOT expired AND key_expires_at <= now() $$;

-- Removes what is of no use any more: ended sessions, tokens of machines deleted a year ago.
CREATE FUNCTION sweep_leftovers() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ DELETE FROM refresh_tokens WHERE expires_at <= now();
          DELETE FROM deleted_machines WHERE deleted_at < now() - interval '365 days' $$;

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['lookup_account(text)', 'lookup_refresh_token(bytea)',
        'rotate_refresh_token(bytea, bytea, bigint)', 'lookup_auth_key(bytea)', 'lookup_machine_token(bytea)',
        'lookup_orgs_to_expire()', 'sweep_leftovers()']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', entry);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ztna_app', entry);
        EXECUTE format('ALTER FUNCTION %s OWNER TO ztna_lookup', entry);
    END LOOP;
END $$;
