-- Identities of a person at orgs' providers, as far as the person decides on them.

-- A new password by mail ends what providers know of the account, in whichever org. Made they are in the org.
CREATE POLICY own_read ON sso_identities FOR SELECT TO ztna_app USING (user_id = current_person());
CREATE POLICY own_end ON sso_identities FOR DELETE TO ztna_app USING (user_id = current_person());
