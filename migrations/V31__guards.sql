-- What a review of static peers found.

-- Whom one was made for; NULL: the org, or it is older than this column. One with tags is nobody's in `machines`; it counts as theirs all the same where it
-- is asked how many somebody has, or whether one of them is held. No foreign key: also after they have left.
ALTER TABLE static_peers ADD COLUMN made_for uuid;
CREATE INDEX static_peers_made_for ON static_peers (org_id, made_for);

-- Without the revocation, which takes a lock that all orgs' transactions wait for: that is for the commit.
CREATE OR REPLACE FUNCTION detach_static_peer(org uuid, machine uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
BEGIN
    UPDATE machines SET detached = true, previous_token_hash = NULL,
           token_hash = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
     WHERE org_id = org AND id = machine AND NOT detached;
    IF FOUND THEN
        PERFORM log_machine_change(org, machine);
    END IF;
END $$;

-- As `relays::append` of the application. Relays hold the time against those of tickets, which nodes sign by
-- their own clock: `ztna.now` is the node's time at the transaction's beginning.
CREATE FUNCTION void_tickets_of_detached() RETURNS trigger LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
DECLARE
    began timestamptz := COALESCE(NULLIF(current_setting('ztna.now', true), '')::timestamptz, now());
BEGIN
    PERFORM pg_advisory_xact_lock(x'7a746e617265766f'::bigint);
    INSERT INTO relay_revocations (key_hash, at)
        VALUES (sha256(OLD.wg_key), began + (clock_timestamp() - now()) + interval '1 second');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER void_tickets_of_detached AFTER UPDATE OF detached ON machines
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.detached AND NOT OLD.detached) EXECUTE FUNCTION void_tickets_of_detached();

-- A gateway has to do with a static peer while that is approved, and no longer.
CREATE FUNCTION static_peer_approved() RETURNS trigger LANGUAGE plpgsql SET search_path = ztna, pg_temp
    AS $$
BEGIN
    PERFORM detach_static_peer(s.org_id, s.machine_id) FROM static_peers s
      WHERE s.org_id = NEW.org_id AND s.machine_id = NEW.id AND NOT NEW.approved;
    PERFORM log_machine_change(s.org_id, s.gateway_id) FROM static_peers s
      WHERE s.org_id = NEW.org_id AND s.machine_id = NEW.id AND s.gateway_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER static_peer_approved AFTER UPDATE OF approved ON machines
    FOR EACH ROW WHEN (NEW.approved IS DISTINCT FROM OLD.approved) EXECUTE FUNCTION static_peer_approved();
