-- The policy: one document per org, with all that it was before.

CREATE TABLE policy_versions (
    org_id    uuid NOT NULL REFERENCES orgs (id) ON DELETE CASCADE,
    -- The highest is in force.
    version   bigint NOT NULL CHECK (version > 0),
    -- HuJSON, in the language of crates/policy.
    text      text NOT NULL CHECK (octet_length(text) <= 262144),
    -- Who made it. No foreign key: the account may be gone.
    author_id uuid,
    note      text NOT NULL CHECK (length(note) <= 255),
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, version)
);

-- What orgs had before becomes their first version. The owner of the tables sees rows only while they
-- do not force row-level security.
ALTER TABLE rules NO FORCE ROW LEVEL SECURITY;
ALTER TABLE orgs NO FORCE ROW LEVEL SECURITY;

INSERT INTO policy_versions (org_id, version, text, note)
SELECT orgs.id, 1, E'// Made of the rules that the org had before.\n{\n  "grants": [\n' || COALESCE(written.rules, '') || E'  ],\n}\n',
       'taken over'
FROM orgs LEFT JOIN (
    SELECT rules.org_id, string_agg('    ' || jsonb_build_object(
            'id', rule ->> 'id',
            'action', CASE rule ->> 'action' WHEN 'allow' THEN 'accept' ELSE 'deny' END,
            'src', src.list, 'dst', dst.list, 'ip', ip.list
        )::text || E',\n', '' ORDER BY position) AS rules
    FROM rules,
    LATERAL (SELECT jsonb_agg(CASE s WHEN '"any"' THEN '*' WHEN '"member"' THEN 'autogroup:member'
                              ELSE 'machine:' || (s ->> 'machine') END) AS list
             FROM jsonb_array_elements(rule -> 'src') AS s) AS src,
    LATERAL (SELECT jsonb_agg(CASE s WHEN '"any"' THEN '*' WHEN '"member"' THEN 'autogroup:member'
                              ELSE 'machine:' || (s ->> 'machine') END) AS list
             FROM jsonb_array_elements(rule -> 'dst') AS s) AS dst,
    LATERAL (SELECT COALESCE(string_agg((p ->> 'first') || '-' || (p ->> 'last'), ','), '*') AS list
             FROM jsonb_array_elements(COALESCE(rule -> 'ports', '[]')) AS p) AS ports,
    LATERAL (SELECT COALESCE(jsonb_agg(COALESCE(p ->> 'number', p #>> '{}') || ':' || ports.list),
                             jsonb_build_array(ports.list)) AS list
             FROM jsonb_array_elements(COALESCE(rule -> 'protocols', '[]')) AS p) AS ip
    GROUP BY rules.org_id
) AS written ON written.org_id = orgs.id;

ALTER TABLE orgs FORCE ROW LEVEL SECURITY;
DROP TABLE rules;

ALTER TABLE policy_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE policy_versions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON policy_versions TO ztna_app
    USING (org_id = current_org()) WITH CHECK (org_id = current_org());
-- A version never changes; those that are long past go.
GRANT SELECT, INSERT, DELETE ON policy_versions TO ztna_app;
