-- Quarantine by posture policies, beside an admin's: ended by the next good report.

ALTER TABLE machines
    -- NULL, or what people are told of it.
    ADD COLUMN posture_quarantine text CHECK (length(posture_quarantine) <= 255);
GRANT UPDATE (posture_quarantine) ON machines TO ztna_app;

-- Whose a machine is, and its tags, decide which policies are for it.
DROP TRIGGER posture_recheck ON machines;
CREATE TRIGGER posture_recheck AFTER UPDATE OF user_id, tags ON machines
    FOR EACH ROW WHEN ((OLD.user_id, OLD.tags) IS DISTINCT FROM (NEW.user_id, NEW.tags))
    EXECUTE FUNCTION posture_recheck_machine();
