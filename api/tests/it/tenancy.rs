//! No org reaches another's rows: not through the API, and not through a query that forgets whom it
//! works for.

use crate::common::client::{Owner, PASSWORD};
use crate::common::{Server, connect};
use crate::isolation::rules::posture_policy;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use ztna_proto::api::Me;
use ztna_proto::tokens::MachineToken;

/// Tables that row-level security does not guard, and why that is right.
const UNGUARDED: [(&str, &str); 6] = [
    ("last_backup", "the deployment's, of all orgs at once"),
    ("refinery_schema_history", "the list of migrations"),
    ("relay_health", "the deployment's relays are every org's"),
    ("relay_nodes", "the deployment's relays are every org's"),
    ("relay_regions", "the deployment's relays are every org's"),
    ("relay_revocations", "hashes of keys, told to every relay"),
];

/// Functions that look across orgs. Another one needs a reason and a line here.
const ACROSS_ORGS: [&str; 32] = [
    "audit_begin",
    "audit_cut",
    "audit_event",
    "audit_orgs_to_cut",
    "audit_row",
    "audit_session",
    "claim_address",
    "is_invited",
    "lookup_account",
    "lookup_api_key",
    "lookup_audit_heads",
    "lookup_auth_key",
    "lookup_identity",
    "lookup_invitation",
    "lookup_machine_token",
    "lookup_org_relay_nodes",
    "lookup_org_seqs",
    "lookup_orgs_to_expire",
    "lookup_orgs_with_countries",
    "lookup_orgs_with_due_posture",
    "lookup_orgs_with_silent_machines",
    "lookup_orgs_without_key",
    "lookup_presence_news",
    "lookup_refresh_token",
    "lookup_sso",
    "prove_domain",
    "rotate_refresh_token",
    "sign_up",
    "store_org_relay_health",
    "sweep_leftovers",
    "take_mail_token",
    "write_presence",
];

#[tokio::test]
async fn every_table_is_guarded() {
    let server = Server::start().await;
    let admin = connect(&server.database.setup).await;
    let rows = admin
        .query(
            "SELECT relname::text FROM pg_class
             WHERE relnamespace = 'ztna'::regnamespace AND relkind IN ('r', 'p')
               AND NOT (relrowsecurity AND relforcerowsecurity) ORDER BY relname",
            &[],
        )
        .await
        .unwrap();
    let unguarded: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(unguarded, UNGUARDED.map(|(table, _)| table));

    let rows = admin
        .query(
            "SELECT proname::text, proconfig::text[], pg_get_userbyid(proowner)::text,
                    has_function_privilege('public', oid, 'EXECUTE')
             FROM pg_proc WHERE pronamespace = 'ztna'::regnamespace AND prosecdef ORDER BY proname",
            &[],
        )
        .await
        .unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(names, ACROSS_ORGS);
    for row in &rows {
        let settings: Vec<String> = row.get(1);
        assert_eq!(settings, ["search_path=ztna, pg_temp"]);
        let audit = row.get::<_, &str>(0).starts_with("audit_");
        let owner = if audit { "ztna_audit" } else { "ztna_lookup" };
        assert_eq!(row.get::<_, &str>(2), owner);
        assert!(
            !row.get::<_, bool>(3),
            "everybody may call {}",
            row.get::<_, &str>(0)
        );
    }

    // Every constraint that ties or tells apart an org's rows names the org.
    let rows = admin
        .query(
            "SELECT c.conname::text FROM pg_constraint c
             JOIN pg_class t ON t.oid = c.conrelid
             JOIN pg_class f ON f.oid = c.confrelid
             WHERE t.relnamespace = 'ztna'::regnamespace AND c.contype = 'f'
               AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attname = 'org_id')
               AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = f.oid AND a.attname = 'org_id')
               AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = t.oid
                               AND a.attnum = ANY(c.conkey) AND a.attname = 'org_id')",
            &[],
        )
        .await
        .unwrap();
    assert!(rows.is_empty(), "{:?}", rows[0].get::<_, String>(0));
}

#[tokio::test]
async fn a_query_that_forgets_the_org_sees_nothing() {
    let server = Server::start().await;
    let admin = connect(&server.database.setup).await;
    let app = connect(server.database.app.as_ref().unwrap()).await;
    let acme = Side::fill(&server, &admin, "acme").await;
    let rival = Side::fill(&server, &admin, "rival").await;
    let tables = admin
        .query(
            "SELECT c.relname::text, a.attname::text FROM pg_class c
             LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
                 AND a.attname IN ('org_id', 'user_id') AND NOT (a.attname = 'user_id' AND EXISTS (
                     SELECT FROM pg_attribute o WHERE o.attrelid = c.oid AND o.attname = 'org_id'))
             WHERE c.relnamespace = 'ztna'::regnamespace AND c.relkind = 'r' AND c.relrowsecurity
             ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    for row in &tables {
        let (table, owner): (&str, Option<&str>) = (row.get(0), row.get(1));
        let owner = owner.unwrap_or("id");
        let of = |side: &Side| match (table, owner) {
            ("orgs", _) | (_, "org_id") => side.org,
            _ => side.user,
        };
        let count = format!("SELECT count({owner}) FROM {table}");
        // A table without rows of both would pass whatever its policies are.
        for side in [&acme, &rival] {
            let theirs = format!("{count} WHERE {owner} = $1");
            let rows: i64 = admin.query_one(&theirs, &[&of(side)]).await.unwrap().get(0);
            assert!(
                rows > 0,
                "{table} has no row of {}: have Side::fill make one",
                side.name
            );
        }
        let fresh = connect(server.database.app.as_ref().unwrap()).await;
        let seen: i64 = fresh.query_one(&count, &[]).await.unwrap().get(0);
        assert_eq!(seen, 0, "{table}");
        // A connection that worked for somebody before has '' there, not NULL.
        let worked = format!(
            "BEGIN; SELECT set_config('ztna.org', '{}', true), set_config('ztna.user', '{}', true); COMMIT",
            acme.org, acme.user
        );
        app.batch_execute(&worked).await.unwrap();
        let seen: i64 = app.query_one(&count, &[]).await.unwrap().get(0);
        assert_eq!(seen, 0, "{table} after a commit");

        // Within one org, or for one person: of theirs something, of others nothing, whatever is asked for.
        let others = format!("{count} WHERE {owner} <> $1");
        let theirs = format!("{count} WHERE {owner} = $1");
        let mut shown = 0;
        for (setting, value) in [("ztna.org", acme.org), ("ztna.user", acme.user)] {
            let enter = format!("BEGIN; SELECT set_config('{setting}', '{value}', true)");
            app.batch_execute(&enter).await.unwrap();
            let foreign: i64 = app.query_one(&others, &[&of(&acme)]).await.unwrap().get(0);
            assert_eq!(foreign, 0, "{table} by {setting}");
            let own: i64 = app.query_one(&theirs, &[&of(&acme)]).await.unwrap().get(0);
            shown += own;
            app.batch_execute("ROLLBACK").await.unwrap();
        }
        assert!(shown > 0, "nobody reads {table}");
    }
    println!("{} tables with rows of two orgs", tables.len());

    let enter = format!("BEGIN; SELECT set_config('ztna.org', '{}', true)", acme.org);
    app.batch_execute(&enter).await.unwrap();
    let foreign = app
        .execute(
            "INSERT INTO policy_versions (org_id, version, text, note) VALUES ($1, 9, '{}', '')",
            &[&rival.org],
        )
        .await
        .unwrap_err();
    assert!(
        foreign
            .as_db_error()
            .unwrap()
            .message()
            .contains("row-level security")
    );
    app.batch_execute("ROLLBACK").await.unwrap();
    let hashes = app.query("SELECT password_hash FROM users", &[]).await;
    assert!(hashes.is_err(), "the role may read password hashes");
    let off = app
        .batch_execute("ALTER TABLE machines DISABLE ROW LEVEL SECURITY")
        .await;
    assert!(off.is_err());
}

/// An org with its owner, and something of theirs in every table.
struct Side {
    name: &'static str,
    org: Uuid,
    user: Uuid,
}

impl Side {
    async fn fill(server: &Server, admin: &tokio_postgres::Client, name: &'static str) -> Self {
        let owner = Owner::new(server, name).await;
        let me: Me = owner.client.get("/api/auth/me").await.unwrap();
        let side = Self {
            name,
            org: owner.org.id.0,
            user: me.id.0,
        };
        let body = posture_policy("disks");
        let path = owner.path("/posture/policies");
        owner.client.post::<Value>(&path, body).await.unwrap();
        let (_, gone) = owner.enrol("gone").await;
        let path = owner.path(&format!("/machines/{}", gone.machine_id));
        owner.client.delete(&path).await.unwrap();
        let (_, machine) = owner.enrol("box").await;
        fill_network(&owner, &machine.node_key).await;
        own_region(&owner).await;
        fill(&owner).await;
        let body = json!({"password": PASSWORD});
        let setup = owner.client.post::<Value>("/api/auth/mfa/setup", body);
        setup.await.unwrap();
        // What would take a mail, a provider, a relay's probe or a moment.
        let Self { org, user, .. } = side;
        let machine = machine.machine_id;
        let rows = format!(
            "INSERT INTO machine_presence (org_id, machine_id, last_seen, report)
                 VALUES ('{org}', '{machine}', now(), '{{}}') ON CONFLICT DO NOTHING;
             INSERT INTO org_relay_health (org_id, region_id, node) VALUES ('{org}', 900, 'of {name}')
                 ON CONFLICT DO NOTHING;
             INSERT INTO mail_tokens (user_id, purpose, hash, expires_at)
                 VALUES ('{user}', 'reset', sha256('{name}'), now());
             INSERT INTO backup_codes (user_id, hash) VALUES ('{user}', sha256('{name}'));
             INSERT INTO user_identities (provider, subject, user_id) VALUES ('github', '{name}', '{user}');
             INSERT INTO sso_providers (org_id, issuer, client_id, client_secret, groups_claim, group_rules,
                     create_members, required, trust_email)
                 VALUES ('{org}', 'https://{name}.example', 'x', '\\x00', 'groups', '[]', false, false, false);
             INSERT INTO sso_identities (org_id, issuer, subject, user_id)
                 VALUES ('{org}', 'https://{name}.example', 'x', '{user}')"
        );
        admin.batch_execute(&rows).await.unwrap();
        side
    }
}

/// A route that a machine offers, and names.
async fn fill_network(owner: &Owner, machine: &MachineToken) {
    let body = json!({"routes": ["10.0.0.0/24"]});
    let machine = owner.as_machine(machine);
    let call = machine.call::<Value>(Method::PUT, "/api/machine-routes", body);
    call.await.unwrap();
    let (path, body) = (owner.path("/dns"), json!({"search": ["example.com"]}));
    let call = owner.client.call::<Value>(Method::PUT, &path, body);
    call.await.unwrap();
    let machines: Value = owner.client.get(&owner.path("/machines")).await.unwrap();
    let id = machines[0]["id"].as_str().unwrap();
    let path = owner.path(&format!("/machines/{id}/gateway"));
    let body = json!({"endpoint": "vpn.example.com:51820"});
    let call = owner.client.call::<Value>(Method::PUT, &path, body);
    call.await.unwrap();
    owner.set(json!({"pq": "preferred"})).await;
    let body = json!({"name": "phone", "gateway": id});
    let path = owner.path("/static-peers");
    owner.client.post::<Value>(&path, body).await.unwrap();
}

/// An invitation and an API key of the org's own.
async fn fill(owner: &Owner) {
    let body = json!({"email": "new@example.com", "role": "member"});
    let path = owner.path("/invitations");
    owner.client.post::<Value>(&path, body).await.unwrap();
    let body = json!({"scopes": ["read"], "expires_in_days": 1});
    let path = owner.path("/sso/domains");
    let body_domain = json!({"domain": format!("{}.example", owner.org.slug)});
    owner
        .client
        .post::<Value>(&path, body_domain)
        .await
        .unwrap();
    let path = owner.path("/api-keys");
    owner.client.post::<Value>(&path, body).await.unwrap();
}

/// A relay region of the org's own.
async fn own_region(owner: &Owner) {
    let region = crate::relays::region(900, "own");
    let path = owner.path("/relays/900");
    let _: Value = owner.client.call(Method::PUT, &path, region).await.unwrap();
}

/// Refinery takes the file names' numbers; two branches may have chosen the same.
#[test]
fn no_two_migrations_have_one_number() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
    let mut seen = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let number = name
            .strip_prefix('V')
            .and_then(|rest| rest.split_once("__"));
        let number: u32 = number
            .and_then(|(number, _)| number.parse().ok())
            .unwrap_or_else(|| panic!("{name} is not named V<number>__<what>.sql"));
        if let Some(other) = seen.insert(number, name.clone()) {
            panic!(
                "{name} and {other} have the same number; give the later one the next that is free"
            );
        }
    }
    assert!(seen.len() > 10);
}
