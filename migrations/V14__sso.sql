-- Sign-in by others: identity providers of orgs, and the deployment's own (Google, GitHub).

-- Accounts ----------------------------------------------------------------------------------------

-- NULL: nobody has chosen a password; a provider vouches for the person, or a mail sets the first one.
ALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL;

ALTER TABLE refresh_tokens
    -- The org whose provider vouched for this session. No foreign key: it proves nothing about an org that
    -- is gone.
    ADD COLUMN vouched_by uuid,
    -- When such a session ends, however often it is refreshed.
    ADD COLUMN ends_at timestamptz,
    ADD CHECK ((vouched_by IS NULL) = (ends_at IS NULL));

-- Who a person of one of the deployment's providers is here.
CREATE TABLE user_identities (
    provider   text NOT NULL CHECK (provider IN ('google', 'github')),
    -- The provider's own name for the person, which it never gives to another. Not an address.
    subject    text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, subject)
);
CREATE INDEX user_identities_user ON user_identities (user_id);

-- Orgs' providers ---------------------------------------------------------------------------------

CREATE TABLE sso_providers (
    org_id         uuid PRIMARY KEY REFERENCES orgs (id) ON DELETE CASCADE,
    issuer         text NOT NULL CHECK (length(issuer) BETWEEN 8 AND 512),
    client_id      text NOT NULL CHECK (length(client_id) BETWEEN 1 AND 255),
    -- Sealed under a key of the org (api/src/seal.rs).
    client_secret  bytea NOT NULL,
    groups_claim   text NOT NULL CHECK (length(groups_claim) BETWEEN 1 AND 128),
    -- What the provider's groups mean here: proto::sso::GroupRule.
    group_rules    jsonb NOT NULL,
    create_members boolean NOT NULL,
    required       boolean NOT NULL,
    trust_email    boolean NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now()
);

-- Domains whose addresses an org's provider may make accounts for, once it is proved that they are the
-- org's.
CREATE TABLE sso_domains (
    org_id     uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    domain     text NOT NULL CHECK (domain = lower(domain) AND length(domain) BETWEEN 1 AND 253),
    -- What its TXT record has to hold. No secret.
    proof      text NOT NULL CHECK (length(proof) BETWEEN 16 AND 128),
    created_at timestamptz NOT NULL DEFAULT now(),
    proved_at  timestamptz,
    PRIMARY KEY (org_id, domain)
);
-- Over all orgs: a domain is one org's.
CREATE UNIQUE INDEX sso_domains_owner ON sso_domains (domain) WHERE proved_at IS NOT NULL;

-- Who a person of an org's provider is here. It goes with the membership, so that the provider of an org
-- which somebody has left says nothing about them any more.
CREATE TABLE sso_identities (
    org_id     uuid NOT NULL,
    issuer     text NOT NULL CHECK (length(issuer) BETWEEN 8 AND 512),
    subject    text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    user_id    uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, issuer, subject),
    FOREIGN KEY (org_id, user_id) REFERENCES members (org_id, user_id) ON DELETE CASCADE
);
CREATE INDEX sso_identities_user ON sso_identities (org_id, user_id);

ALTER TABLE members
    -- Groups of the policy that the org's provider put the person into at the last sign-in.
    ADD COLUMN provider_groups text[] NOT NULL DEFAULT '{}' CHECK (cardinality(provider_groups) <= 200);

-- Row-level security ------------------------------------------------------------------------------

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['user_identities', 'sso_providers', 'sso_domains', 'sso_identities']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
    END LOOP;
    FOREACH tenant IN ARRAY ARRAY['sso_providers', 'sso_domains', 'sso_identities']
    LOOP
        EXECUTE format('CREATE POLICY tenant ON %I TO ztna_app
            USING (org_id = current_org()) WITH CHECK (org_id = current_org())', tenant);
    END LOOP;
    FOREACH tenant IN ARRAY ARRAY['user_identities', 'sso_providers', 'sso_domains']
    LOOP
        EXECUTE format('CREATE POLICY lookup ON %I TO ztna_lookup USING (true)', tenant);
    END LOOP;
END $$;
CREATE POLICY own ON user_identities TO ztna_app
    USING (user_id = current_person()) WITH CHECK (user_id = current_person());

GRANT SELECT, INSERT, DELETE ON user_identities TO ztna_app;
GRANT SELECT, INSERT, DELETE,
    UPDATE (issuer, client_id, client_secret, groups_claim, group_rules, create_members, required, trust_email,
        updated_at) ON sso_providers TO ztna_app;
-- That a domain is proved, prove_domain alone writes down.
GRANT SELECT, INSERT (org_id, domain, proof), DELETE ON sso_domains TO ztna_app;
GRANT SELECT, INSERT, DELETE ON sso_identities TO ztna_app;
GRANT UPDATE (provider_groups) ON members TO ztna_app;
GRANT SELECT ON user_identities TO ztna_lookup;
GRANT SELECT (org_id) ON sso_providers TO ztna_lookup;
GRANT SELECT, UPDATE (proved_at) ON sso_domains TO ztna_lookup;
GRANT SELECT (id, slug) ON orgs TO ztna_lookup;

-- Look-ups before the org or the person is known --------------------------------------------------

-- The org with a provider that a label, or a domain that it has proved, leads to.
CREATE FUNCTION lookup_sso(wanted text) RETURNS TABLE (org_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT p.org_id FROM sso_providers p JOIN orgs o ON o.id = p.org_id WHERE o.slug = wanted
          UNION
          SELECT p.org_id FROM sso_providers p JOIN sso_domains d ON d.org_id = p.org_id
          WHERE d.domain = wanted AND d.proved_at IS NOT NULL LIMIT 1 $$;

-- Whose account a person of one of the deployment's providers has.
CREATE FUNCTION lookup_identity(of_provider text, of_subject text) RETURNS TABLE (user_id uuid)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$ SELECT user_id FROM user_identities WHERE provider = of_provider AND subject = of_subject $$;

-- Makes an account without a password for who was shown to have the address, or takes one over that nobody
-- could sign in to yet, without the password that somebody chose for it. No row: the address has an account.
CREATE FUNCTION claim_address(new_id uuid, address text) RETURNS TABLE (user_id uuid)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    account uuid;
BEGIN
    INSERT INTO users AS u (id, email, password_hash, confirmed_at) VALUES (new_id, address, NULL, now())
        ON CONFLICT (email) DO UPDATE SET password_hash = NULL, confirmed_at = now() WHERE u.confirmed_at IS NULL
        RETURNING u.id INTO account;
    IF account IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM mail_tokens t WHERE t.user_id = account;
    RETURN QUERY SELECT account;
END $$;

-- Writes down that a domain is an org's, for whose name servers answered with `texts` just now. It may be
-- another org's of before; that one keeps it while its own record stands. No row: the org has no such
-- domain.
CREATE FUNCTION prove_domain(org uuid, name text, texts text[]) RETURNS TABLE (outcome text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
DECLARE
    wanted text;
    other sso_domains%ROWTYPE;
BEGIN
    SELECT d.proof INTO wanted FROM sso_domains d WHERE d.org_id = org AND d.domain = name FOR UPDATE;
    IF wanted IS NULL THEN
        RETURN;
    END IF;
    IF NOT wanted = ANY (texts) THEN
        RETURN QUERY SELECT 'missing';
        RETURN;
    END IF;
    SELECT * INTO other FROM sso_domains d
        WHERE d.domain = name AND d.proved_at IS NOT NULL AND d.org_id <> org FOR UPDATE;
    IF FOUND AND other.proof = ANY (texts) THEN
        RETURN QUERY SELECT 'taken';
        RETURN;
    END IF;
    UPDATE sso_domains d SET proved_at = NULL WHERE d.domain = name AND d.org_id <> org AND d.proved_at IS NOT NULL;
    UPDATE sso_domains d SET proved_at = now() WHERE d.domain = name AND d.org_id = org;
    RETURN QUERY SELECT 'proved';
END $$;

DROP FUNCTION rotate_refresh_token(bytea, bytea, bigint, inet, text);
CREATE FUNCTION rotate_refresh_token(token bytea, successor bytea, lifetime_seconds bigint, from_ip inet,
    from_client text)
    RETURNS TABLE (user_id uuid, family uuid, vouched_by uuid, seconds_left bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ztna, pg_temp
    AS $$
#variable_conflict use_column
DECLARE
    old refresh_tokens%ROWTYPE;
    until timestamptz;
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
    -- LEAST ignores NULL.
    until := LEAST(now() + lifetime_seconds * interval '1 second', old.ends_at);
    INSERT INTO refresh_tokens (hash, family, user_id, expires_at, began_at, ip, client, vouched_by, ends_at)
        VALUES (successor, old.family, old.user_id, until, old.began_at, from_ip, from_client, old.vouched_by,
            old.ends_at);
    RETURN QUERY SELECT old.user_id, old.family, old.vouched_by,
        GREATEST(extract(epoch FROM until - now()), 0)::bigint;
END $$;

DO $$
DECLARE
    entry text;
BEGIN
    FOREACH entry IN ARRAY ARRAY['lookup_sso(text)', 'lookup_identity(text, text)', 'claim_address(uuid, text)',
        'prove_domain(uuid, text, text[])',
        'rotate_refresh_token(bytea, bytea, bigint, inet, text)']
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', entry);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO ztna_app', entry);
        EXECUTE format('ALTER FUNCTION %s OWNER TO ztna_lookup', entry);
    END LOOP;
END $$;

-- The audit log -----------------------------------------------------------------------------------

DO $$
DECLARE
    event text;
    verb text;
BEGIN
    PERFORM audit_table('sso_domains', 'sso_domain');
    PERFORM audit_table('sso_identities', 'sso_identity');
    PERFORM audit_table('user_identities', 'identity', '{}', '{}', 'person');
    -- Its key is the org alone.
    FOR event, verb IN VALUES ('INSERT', 'create'), ('UPDATE', 'update'), ('DELETE', 'delete') LOOP
        PERFORM audit_trigger('sso_providers', event, 'org', 'sso_provider', verb, '{issuer}', '{client_secret}',
            '{updated_at}', 'true');
    END LOOP;
END $$;
