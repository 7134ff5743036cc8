-- Orgs choose whether devices without the post-quantum handshake may come in (static peers: plain WireGuard up to
-- their gateway). Those that are there could always make such devices, and stay able to until they say otherwise;
-- new ones begin with what is stricter.
ALTER TABLE orgs ADD COLUMN pq text NOT NULL DEFAULT 'preferred' CHECK (pq IN ('required', 'preferred'));
ALTER TABLE orgs ALTER COLUMN pq SET DEFAULT 'required';

-- And where their machines' IPv4 addresses are from, while no machine has one.
GRANT UPDATE (pq, ipv4_network) ON orgs TO ztna_app;
