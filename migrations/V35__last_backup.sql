-- When `ztna-api backup` last wrote a backup whole, for figures and alerts: one row, or none. It is the deployment's, and
-- nodes only read it.
CREATE TABLE last_backup (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    name text NOT NULL,
    taken_at timestamptz NOT NULL
);
GRANT SELECT ON last_backup TO ztna_app;
