-- Static peers: devices that carry no agent (a phone with the stock WireGuard app), and the gateway
-- machines that carry them.
--
-- A static peer is a machine like any other: policy, maps, names, tags and what is decided of it are the
-- machine's. The agent of its gateway runs its end of the mesh, with keys and a token that it is given
-- when it takes the peer up. Until then, and whenever the gateway may not carry it any more, the machine is
-- detached: it is in nobody's map, and nobody holds its token.

ALTER TABLE machines ADD COLUMN detached boolean NOT NULL DEFAULT false;
-- Each taking up may bring another key.
GRANT UPDATE (detached, wg_key) ON machines TO ztna_app;

CREATE TABLE gateways (
    org_id      uuid NOT NULL,
    machine_id  uuid NOT NULL,
    -- Where devices reach it from outside: host:port.
    endpoint    text NOT NULL CHECK (length(endpoint) BETWEEN 3 AND 261),
    listen_port integer NOT NULL CHECK (listen_port BETWEEN 1 AND 65535),
    PRIMARY KEY (org_id, machine_id),
    FOREIGN KEY (org_id, machine_id) REFERENCES machines (org_id, id) ON DELETE CASCADE
);

CREATE TABLE static_peers (
    org_id        uuid NOT NULL,
    machine_id    uuid NOT NULL,
    -- NULL: its gateway is gone, until somebody names another.
    gateway_id    uuid,
    -- The device's own WireGuard key; that of `machines` is its end of the mesh.
    public_key    bytea NOT NULL CHECK (length(public_key) = 32),
    -- Sealed; NULL: none.
    preshared_key bytea CHECK (length(preshared_key) = 61),
    -- Grows with each new key.
    revision      bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (org_id, machine_id),
    UNIQUE (org_id, public_key),
    FOREIGN KEY (org_id, machine_id) REFERENCES machines (org_id, id) ON DELETE CASCADE,
    FOREIGN KEY (org_id, gateway_id) REFERENCES gateways (org_id, machine_id)
);
CREATE INDEX static_peers_gateway ON static_peers (org_id, gateway_id);

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['gateways', 'static_peers']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I TO ztna_app
            USING (org_id = current_org()) WITH CHECK (org_id = current_org())', tenant);
    END LOOP;
END $$;
GRANT SELECT, INSERT, DELETE, UPDATE (endpoint, listen_port) ON gateways TO ztna_app;
GRANT SELECT, INSERT, DELETE, UPDATE (gateway_id, public_key, preshared_key, revision) ON static_peers TO ztna_app;

-- What follows by itself, whichever call it was ------------------------------------------------------
--
-- All run as the caller, in a transaction that holds its org's row.

-- As `append_change` of the application.
CREATE FUNCTION log_machine_change(org uuid, machine uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
DECLARE
    next bigint;
BEGIN
    UPDATE orgs SET seq = seq + 1 WHERE id = org RETURNING seq INTO next;
    IF FOUND THEN
        INSERT INTO changes (org_id, seq, kind, machine_id) VALUES (org, next, 'machine', machine);
    END IF;
END $$;

-- Takes a static peer out of the network: its token is nobody's, and its relay tickets are void, as
-- `relays::append` of the application has it.
CREATE FUNCTION detach_static_peer(org uuid, machine uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
DECLARE
    key bytea;
BEGIN
    UPDATE machines SET detached = true, previous_token_hash = NULL,
           token_hash = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
     WHERE org_id = org AND id = machine AND NOT detached RETURNING wg_key INTO key;
    IF FOUND THEN
        PERFORM log_machine_change(org, machine);
        PERFORM pg_advisory_xact_lock(x'7a746e617265766f'::bigint);
        INSERT INTO relay_revocations (key_hash, at) VALUES (sha256(key), clock_timestamp() + interval '1 second');
    END IF;
END $$;

-- Another key or gateway: what the gateway before was given ends, and both gateways hear of it.
CREATE FUNCTION static_peer_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        PERFORM detach_static_peer(NEW.org_id, NEW.machine_id);
    END IF;
    IF TG_OP <> 'INSERT' AND OLD.gateway_id IS NOT NULL THEN
        PERFORM log_machine_change(OLD.org_id, OLD.gateway_id);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.gateway_id IS DISTINCT FROM OLD.gateway_id) THEN
        PERFORM log_machine_change(NEW.org_id, NEW.gateway_id) WHERE NEW.gateway_id IS NOT NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER static_peer_changed AFTER INSERT OR UPDATE OR DELETE ON static_peers
    FOR EACH ROW EXECUTE FUNCTION static_peer_changed();

-- A gateway is out of the network, and so is what it carries. When it is back, it takes its peers up anew.
CREATE FUNCTION gateway_out() RETURNS trigger LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
BEGIN
    PERFORM detach_static_peer(s.org_id, s.machine_id) FROM static_peers s
      WHERE s.org_id = NEW.org_id AND s.gateway_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER gateway_out AFTER UPDATE OF approved, quarantined, locked, disabled, expired, wipe_asked_at,
        posture_quarantine ON machines
    FOR EACH ROW WHEN (NOT NEW.approved OR NEW.quarantined IS NOT NULL OR NEW.locked IS NOT NULL
        OR NEW.disabled IS NOT NULL OR NEW.expired OR NEW.wipe_asked_at IS NOT NULL
        OR NEW.posture_quarantine IS NOT NULL)
    EXECUTE FUNCTION gateway_out();

-- A deleted gateway leaves its peers without one; a deleted static peer leaves its gateway.
CREATE FUNCTION static_peers_leave() RETURNS trigger LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
BEGIN
    UPDATE static_peers SET gateway_id = NULL WHERE org_id = OLD.org_id AND gateway_id = OLD.id;
    DELETE FROM static_peers WHERE org_id = OLD.org_id AND machine_id = OLD.id;
    RETURN OLD;
END $$;
CREATE TRIGGER static_peers_leave BEFORE DELETE ON machines
    FOR EACH ROW EXECUTE FUNCTION static_peers_leave();

-- The audit log -------------------------------------------------------------------------------------

DO $$
BEGIN
    PERFORM audit_table('gateways', 'gateway');
    PERFORM audit_table('static_peers', 'static_peer', '{preshared_key}');
END $$;
