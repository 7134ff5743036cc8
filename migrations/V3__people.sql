-- People: confirmed addresses and forgotten passwords, sessions that are listed, a second factor, invitations,
-- API keys.

-- Accounts and sessions ---------------------------------------------------------------------------

ALTER TABLE users
    -- Since when the account may be used: its address was confirmed, or it was made where no mail is
    -- sent. NULL: nobody signs in to it. Accounts of before may.
    ADD COLUMN confirmed_at timestamptz DEFAULT now();
ALTER TABLE users ALTER COLUMN confirmed_at DROP DEFAULT;
CREATE INDEX users_waiting ON users (created_at) WHERE confirmed_at IS NULL;

ALTER TABLE refresh_tokens
    -- When the family began: its first token is swept away before the session ends.
    ADD COLUMN began_at timestamptz NOT NULL DEFAULT now(),
    -- From where this token was asked for, as people recognise it.
    ADD COLUMN ip inet,
    ADD COLUMN client text NOT NULL DEFAULT '' CHECK (length(client) <= 256);

-- Tokens that were sent by mail. A newer one takes the place of the one before.
CREATE TABLE mail_tokens (
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    text NOT NULL CHECK (purpose IN ('confirm', 'reset')),
    hash       bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, purpose)
);
CREATE INDEX mail_tokens_expiry ON mail_tokens (expires_at);

ALTER TABLE mail_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE mail_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON mail_tokens TO ztna_app
    USING (user_id = current_person()) WITH CHECK (user_id = current_person());
CREATE POLICY lookup ON mail_tokens TO ztna_lookup USING (true) WITH CHECK (true);

-- Accounts are made by sign_up alone.
REVOKE INSERT ON users FROM ztna_app;
GRANT SELECT (confirmed_at), UPDATE (password_hash, confirmed_at), DELETE ON users TO ztna_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON mail_tokens TO ztna_app;
GRANT SELECT (confirmed_at, created_at), INSERT, UPDATE (password_hash, confirmed_at), DELETE ON users TO ztna_lookup;
GRANT SELECT, INSERT, UPDATE, DELETE ON mail_tokens TO ztna_lookup;

-- Makes an account, or takes one over that nobody could sign in to yet: whoever confirms the address
-- confirms the latest password with it. `token` is NULL where no mail is sent. An account that is in
-- use stays as it is, and its row is written all the same, so that the answer takes as long.
CREATE FUNCTION sign_up(new_id uuid, address text, hash text, token bytea, token_seconds bigint)
    RETURNS TABLE (user_id uuid, waiting boolean)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    account uuid;
    confirmed timestamptz;
BEGIN
    INSERT INTO users AS u (id, email, password_hash, confirmed_at)
        VALUES (new_id, address, hash, CASE WHEN token IS NULL THEN now() END)
        ON CONFLICT (email) DO UPDATE SET
            password_hash = CASE WHEN u.confirmed_at IS NULL THEN excluded.password_hash ELSE u.password_hash END,
            confirmed_at = COALESCE(u.confirmed_at, excluded.confirmed_at)
        RETURNING u.id, u.confirmed_at INTO account, confirmed;
    IF confirmed IS NULL THEN
        INSERT INTO mail_tokens (user_id, purpose, hash, expires_at)
            VALUES (account, 'confirm', token, now() + token_seconds * interval '1 second')
            ON CONFLICT (user_id, purpose) DO UPDATE SET hash = excluded.hash, expires_at = excluded.expires_at;
    END IF;
    RETURN QUERY SELECT account, confirmed IS NULL;
END $$;

-- Uses up a token that was sent by mail. No row: it is not good.
CREATE FUNCTION take_mail_token(token bytea, wanted text) RETURNS TABLE (user_id uuid)
    LANGUAGE sql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ DELETE FROM mail_tokens WHERE hash = token AND purpose = wanted AND expires_at > now()
          RETURNING user_id $$;

DROP FUNCTION lookup_account(text);
CREATE FUNCTION lookup_account(address text) RETURNS TABLE (user_id uuid, hash text, confirmed boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT id, password_hash, confirmed_at IS NOT NULL FROM users WHERE email = address $$;

DROP FUNCTION rotate_refresh_token(bytea, bytea, bigint);
CREATE FUNCTION rotate_refresh_token(token bytea, successor bytea, lifetime_seconds bigint, from_ip inet,
    from_client text)
    RETURNS TABLE (user_id uuid, family uuid)
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
    INSERT INTO refresh_tokens (hash, family, user_id, expires_at, began_at, ip, client)
        VALUES (successor, old.family, old.user_id, now() + lifetime_seconds * interval '1 second',
            old.began_at, from_ip, from_client);
    RETURN QUERY SELECT old.user_id, old.family;
END $$;

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['sign_up(uuid, text, text, bytea, bigint)', 'take_mail_token(bytea, text)',
        'lookup_account(text)', 'rotate_refresh_token(bytea, bytea, bigint, inet, text)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', entry);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ztna_app', entry);
        EXECUTE format('ALTER FUNCTION %s OWNER TO ztna_lookup', entry);
    END LOOP;
END $$;

-- A second factor: TOTP (RFC 6238) with backup codes ----------------------------------------------

CREATE TABLE totp_secrets (
    user_id    uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- Sealed under a key of the person (api/src/seal.rs).
    secret     bytea NOT NULL,
    -- NULL: shown, not proven yet. Sign-in does not ask for it.
    active_at  timestamptz,
    -- Time step of the last code that was taken: each is taken once, and none before it (RFC 6238 §5.2).
    last_step  bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE backup_codes (
    user_id uuid NOT NULL REFERENCES totp_secrets (user_id) ON DELETE CASCADE,
    -- Keyed, under a key of the person: codes are short.
    hash    bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (user_id, hash)
);

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['totp_secrets', 'backup_codes']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', entry);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', entry);
        EXECUTE format('CREATE POLICY own ON %I TO ztna_app
            USING (user_id = current_person()) WITH CHECK (user_id = current_person())', entry);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON totp_secrets TO ztna_app;
GRANT SELECT, INSERT, DELETE ON backup_codes TO ztna_app;

-- Who comes into an org, and what acts for people --------------------------------------------------

CREATE TABLE invitations (
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id         uuid NOT NULL,
    hash       bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    email      text NOT NULL CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    role       text NOT NULL CHECK (role IN ('owner', 'admin', 'auditor', 'member')),
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (org_id, id),
    -- One open invitation; who accepts it is a member, and the row is gone.
    UNIQUE (org_id, email)
);
CREATE INDEX invitations_expiry ON invitations (expires_at);

CREATE TABLE api_keys (
    org_id       uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    id           uuid NOT NULL,
    hash         bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    description  text NOT NULL CHECK (length(description) <= 255),
    scopes       text[] NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 32),
    created_by   uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    PRIMARY KEY (org_id, id),
    -- A key acts for who made it, and goes when that person leaves.
    FOREIGN KEY (org_id, created_by) REFERENCES members (org_id, user_id) ON DELETE CASCADE
);

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['invitations', 'api_keys']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I TO ztna_app
            USING (org_id = current_org()) WITH CHECK (org_id = current_org())', tenant);
        EXECUTE format('CREATE POLICY lookup ON %I TO ztna_lookup USING (true)', tenant);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON invitations TO ztna_app;
GRANT SELECT, INSERT, UPDATE (revoked_at, last_used_at) ON api_keys TO ztna_app;
GRANT UPDATE (slug) ON orgs TO ztna_app;
GRANT SELECT (org_id, id, hash, expires_at), DELETE ON invitations TO ztna_lookup;
CREATE POLICY lookup ON orgs TO ztna_lookup USING (true);
CREATE POLICY lookup ON members TO ztna_lookup USING (true);
GRANT SELECT (id), DELETE ON orgs TO ztna_lookup;
GRANT SELECT (org_id) ON members TO ztna_lookup;
GRANT SELECT (org_id, id, hash, scopes, created_by, expires_at, revoked_at, last_used_at), DELETE ON api_keys TO ztna_lookup;

-- The org that an invitation leads into, if it is good.
CREATE FUNCTION lookup_invitation(token bytea) RETURNS TABLE (org_id uuid, id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT org_id, id FROM invitations WHERE hash = token AND expires_at > now() $$;

-- Whom an API key acts for, and where, if it is good. `stale`: its last use is to be noted.
CREATE FUNCTION lookup_api_key(key bytea)
    RETURNS TABLE (org_id uuid, id uuid, user_id uuid, scopes text[], stale boolean)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT org_id, id, created_by, scopes, COALESCE(last_used_at < now() - interval '1 minute', true)
          FROM api_keys WHERE hash = key AND revoked_at IS NULL AND expires_at > now() $$;

-- Also: tokens of mails that nobody used, accounts that nobody confirmed within a week, invitations that
-- nobody accepted, API keys that ended a year ago, orgs that their last member has left.
CREATE OR REPLACE FUNCTION sweep_leftovers() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ DELETE FROM refresh_tokens WHERE expires_at <= now();
          DELETE FROM deleted_machines WHERE deleted_at < now() - interval '365 days';
          DELETE FROM relay_revocations WHERE at < now() - interval '25 hours';
          DELETE FROM relay_health WHERE checked_at < now() - interval '1 day';
          DELETE FROM org_relay_health WHERE checked_at < now() - interval '1 day';
          DELETE FROM mail_tokens WHERE expires_at <= now();
          DELETE FROM users WHERE confirmed_at IS NULL AND created_at < now() - interval '7 days';
          DELETE FROM invitations WHERE expires_at <= now();
          DELETE FROM api_keys WHERE expires_at < now() - interval '365 days';
          DELETE FROM orgs o WHERE NOT EXISTS (SELECT FROM members m WHERE m.org_id = o.id)
              AND NOT EXISTS (SELECT FROM machines m WHERE m.org_id = o.id) $$;

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['lookup_invitation(bytea)', 'lookup_api_key(bytea)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', entry);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ztna_app', entry);
        EXECUTE format('ALTER FUNCTION %s OWNER TO ztna_lookup', entry);
    END LOOP;
END $$;
