-- Orgs can stop everything between their machines at once (crates/policy: Document::locked_down).
ALTER TABLE orgs ADD COLUMN lockdown boolean NOT NULL DEFAULT false;
GRANT UPDATE (lockdown) ON orgs TO ztna_app;
