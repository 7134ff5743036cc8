//! No org reaches another's rows: not through the API, and not through a query that forgets whom it
//! works for.

use crate::common::client::Owner;
use crate::common::{Server, connect};
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::tokens::MachineToken;

/// Tables that row-level security does not guard, and why that is right.
const UNGUARDED: [(&str, &str); 5] = [
    ("refinery_schema_history", "the list of migrations"),
    ("relay_health", "the deployment's relays are every org's"),
    ("relay_nodes", "the deployment's relays are every org's"),
    ("relay_regions", "the deployment's relays are every org's"),
    ("relay_revocations", "hashes of keys, told to every relay"),
];

/// Functions that look across orgs. Another one needs a reason and a line here.
const ACROSS_ORGS: [&str; 28] = [
    "audit_begin",
    "audit_cut",
    "audit_event",
    "audit_orgs_to_cut",
    "audit_row",
    "audit_session",
    "claim_address",
    "lookup_account",
    "lookup_api_key",
    "lookup_auth_key",
    "lookup_identity",
    "lookup_invitation",
    "lookup_machine_token",
    "lookup_org_relay_nodes",
    "lookup_org_seqs",
    "lookup_orgs_to_expire",
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
    let acme = Owner::new(&server, "acme").await;
    let rival = Owner::new(&server, "rival").await;
    let (_, machine) = acme.enrol("a").await;
    fill_network(&acme, &machine.node_key).await;
    rival.enrol("b").await;
    own_region(&acme).await;
    own_region(&rival).await;
    fill(&acme).await;
    fill(&rival).await;
    let admin = connect(&server.database.setup).await;
    let app = connect(server.database.app.as_ref().unwrap()).await;
    let tables = admin
        .query(
            "SELECT relname::text FROM pg_class
             WHERE relnamespace = 'ztna'::regnamespace AND relkind = 'r' AND relrowsecurity
             ORDER BY relname",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(tables.len(), 31);
    let org = acme.org.id.to_string();
    for table in &tables {
        let table: &str = table.get(0);
        // `id` and the like: of users, not every column may be read.
        let column = if table == "users" { "id" } else { "*" };
        let count = format!("SELECT count({column}) FROM {table}");
        let all: i64 = admin.query_one(&count, &[]).await.unwrap().get(0);
        let seen: i64 = app.query_one(&count, &[]).await.unwrap().get(0);
        assert_eq!(seen, 0, "{table}");
        // A connection that worked for an org before has '' there, not NULL.
        app.batch_execute(&format!(
            "BEGIN; SELECT set_config('ztna.org', '{org}', true); COMMIT"
        ))
        .await
        .unwrap();
        let seen: i64 = app.query_one(&count, &[]).await.unwrap().get(0);
        assert_eq!(seen, 0, "{table} after a commit");
        let has_rows = !matches!(
            table,
            "machine_presence"
                | "machine_posture"
                | "posture_policies"
                | "deleted_machines"
                | "org_relay_health"
                | "mail_tokens"
                | "totp_secrets"
                | "backup_codes"
                | "sso_identities"
                | "sso_providers"
                | "user_identities"
        );
        assert_eq!(all > 0, has_rows, "{table}");
    }

    // Within one org: its rows, and none of the other's, whatever the query asks for.
    app.batch_execute(&format!(
        "BEGIN; SELECT set_config('ztna.org', '{org}', true)"
    ))
    .await
    .unwrap();
    for table in [
        "machines",
        "auth_keys",
        "members",
        "invitations",
        "api_keys",
        "policy_versions",
        "orgs",
        "org_relay_regions",
        "org_relay_nodes",
        "sso_domains",
        "users",
    ] {
        let column = if table == "users" { "id" } else { "*" };
        let seen: i64 = app
            .query_one(&format!("SELECT count({column}) FROM {table}"), &[])
            .await
            .unwrap()
            .get(0);
        // One of them is a static peer.
        let own = if table == "machines" { 2 } else { 1 };
        assert_eq!(seen, own, "{table}");
    }
    let foreign = app
        .execute(
            "INSERT INTO policy_versions (org_id, version, text, note) VALUES ($1, 9, '{}', '')",
            &[&rival.org.id.0],
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
