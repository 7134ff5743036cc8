-- At each registration it is asked whether the org has machines that are held, which few are.
CREATE INDEX machines_held ON machines (org_id)
    WHERE quarantined IS NOT NULL OR locked IS NOT NULL OR disabled IS NOT NULL
       OR wipe_asked_at IS NOT NULL OR posture_quarantine IS NOT NULL;
