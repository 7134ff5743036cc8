//! No org reaches another's rows: not through the API, and not through a query that forgets whom it
//! works for.

use crate::common::client::{Owner, code};
use crate::common::{Server, connect};
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{CreatedApiKey, Invited};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{ApiKeyId, InvitationId, RuleId};
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
const ACROSS_ORGS: [&str; 27] = [
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
    assert_eq!(tables.len(), 28);
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
        assert_eq!(seen, 1, "{table}");
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

#[tokio::test]
async fn another_orgs_ids_are_not_found() {
    let server = Server::start().await;
    let acme = Owner::new(&server, "acme").await;
    let rival = Owner::new(&server, "rival").await;
    let (_, machine) = acme.enrol("a").await;
    own_region(&acme).await;
    let (own, key, id) = (rival.org.id, acme.key.info.id, machine.machine_id);
    let theirs = acme.org.id;
    let (invitation, api_key) = fill(&acme).await;
    let me: ztna_proto::api::Me = acme.client.get("/api/auth/me").await.unwrap();
    let person = me.id;
    let rule = RuleId::generate();
    let calls: Vec<(Method, String, Value)> = vec![
        (
            Method::GET,
            format!("/api/orgs/{theirs}/members"),
            json!(null),
        ),
        (
            Method::PATCH,
            format!("/api/orgs/{theirs}/members/{person}"),
            json!({"role": "member"}),
        ),
        (
            Method::PATCH,
            format!("/api/orgs/{own}/members/{person}"),
            json!({"role": "member"}),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/members/{person}"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{own}/members/{person}"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/invitations"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/invitations"),
            json!({"email": "rival@example.com", "role": "admin"}),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/invitations/{invitation}"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{own}/invitations/{invitation}"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/api-keys"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/api-keys"),
            json!({"scopes": ["read"], "expires_in_days": 1}),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/api-keys/{api_key}"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{own}/api-keys/{api_key}"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/members/{person}/second-factor"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{own}/members/{person}/second-factor"),
            json!(null),
        ),
        (Method::GET, format!("/api/orgs/{theirs}/sso"), json!(null)),
        (
            Method::PUT,
            format!("/api/orgs/{theirs}/sso"),
            json!({"issuer": "https://idp.example.com", "client_id": "c", "client_secret": "s"}),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/sso"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/sso/domains"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/sso/domains"),
            json!({"domain": "stolen.example"}),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/sso/domains/corp.example/prove"),
            json!({}),
        ),
        (
            Method::POST,
            format!("/api/orgs/{own}/sso/domains/acme.example/prove"),
            json!({}),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/sso/domains/acme.example"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{own}/sso/domains/acme.example"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/auth-keys"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/auth-keys"),
            json!({}),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/auth-keys/{key}"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{own}/auth-keys/{key}"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/machines"),
            json!(null),
        ),
        (
            Method::PATCH,
            format!("/api/orgs/{theirs}/machines/{id}"),
            json!({"name": "stolen"}),
        ),
        (
            Method::PATCH,
            format!("/api/orgs/{own}/machines/{id}"),
            json!({"name": "stolen"}),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/machines/{id}"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{own}/machines/{id}"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/machines/{id}/actions"),
            json!({"action": "quarantine"}),
        ),
        (
            Method::POST,
            format!("/api/orgs/{own}/machines/{id}/actions"),
            json!({"action": "quarantine"}),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/settings"),
            json!(null),
        ),
        (
            Method::PATCH,
            format!("/api/orgs/{theirs}/settings"),
            json!({"machine_approval": true}),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/machines/{id}"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{own}/machines/{id}"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/policy"),
            json!(null),
        ),
        (
            Method::PUT,
            format!("/api/orgs/{theirs}/policy"),
            json!({"version": 1, "text": "{}"}),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/policy/dry-run"),
            json!({"text": "{}"}),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/policy/versions"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/policy/versions/1"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/policy/versions/1/rollback"),
            json!({"version": 1}),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/policy/rules"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/policy/rules"),
            json!({"section": "acls", "rule": {}}),
        ),
        (
            Method::PUT,
            format!("/api/orgs/{theirs}/policy/rules/{rule}"),
            json!({"rule": {}}),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/policy/rules/{rule}"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/api/orgs/{theirs}/acl-evaluate"),
            json!({"src": "a", "dst": "a", "port": 22}),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/routes"),
            json!(null),
        ),
        (
            Method::PUT,
            format!("/api/orgs/{theirs}/machines/{id}/routes"),
            json!({"approved": []}),
        ),
        (
            Method::PUT,
            format!("/api/orgs/{own}/machines/{id}/routes"),
            json!({"approved": []}),
        ),
        (Method::GET, format!("/api/orgs/{theirs}/dns"), json!(null)),
        (Method::PUT, format!("/api/orgs/{theirs}/dns"), json!({})),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/audit"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/audit/export"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/audit/verify"),
            json!(null),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/audit/settings"),
            json!(null),
        ),
        (
            Method::PUT,
            format!("/api/orgs/{theirs}/audit/settings"),
            json!({"retention_days": 30}),
        ),
        (
            Method::GET,
            format!("/api/orgs/{theirs}/relays"),
            json!(null),
        ),
        (
            Method::PUT,
            format!("/api/orgs/{theirs}/relays/900"),
            crate::relays::region(900, "stolen"),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{theirs}/relays/900"),
            json!(null),
        ),
        (
            Method::DELETE,
            format!("/api/orgs/{own}/relays/900"),
            json!(null),
        ),
        (
            Method::GET,
            "/api/orgs/not-an-id/machines".to_owned(),
            json!(null),
        ),
    ];
    // Every path under an org is in the list above.
    let document: Value = reqwest_json(&rival, "/api/openapi.json").await;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/api/orgs/{org}/") {
            continue;
        }
        for method in methods.as_object().unwrap().keys() {
            let shape = |call: &str| {
                // Where the document has a parameter, the call may have anything.
                let parts = call.split('/').enumerate().map(|(place, part)| {
                    let own = path
                        .split('/')
                        .nth(place)
                        .filter(|own| own.starts_with('{'));
                    own.unwrap_or(part)
                });
                parts.collect::<Vec<_>>().join("/")
            };
            let covered = calls.iter().any(|(m, call, _)| {
                m.as_str().eq_ignore_ascii_case(method) && shape(call) == *path
            });
            assert!(covered, "no call tries {method} {path}");
        }
    }
    for (method, path, body) in calls {
        let refused = rival
            .client
            .call::<Value>(method.clone(), &path, body)
            .await;
        assert_eq!(code(refused), ErrorCode::NotFound, "{method} {path}");
    }
    // Nothing happened.
    let (_, second) = acme.enrol("b").await;
    assert_eq!(second.name, "b");
    let list: Vec<ztna_proto::api::Machine> =
        acme.client.get(&acme.path("/machines")).await.unwrap();
    assert_eq!(list[0].name, "a");
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
}

/// An invitation and an API key of the org's own.
async fn fill(owner: &Owner) -> (InvitationId, ApiKeyId) {
    let body = json!({"email": "new@example.com", "role": "member"});
    let path = owner.path("/invitations");
    let invited: Invited = owner.client.post(&path, body).await.unwrap();
    let body = json!({"scopes": ["read"], "expires_in_days": 1});
    let path = owner.path("/sso/domains");
    let body_domain = json!({"domain": format!("{}.example", owner.org.slug)});
    owner
        .client
        .post::<Value>(&path, body_domain)
        .await
        .unwrap();
    let path = owner.path("/api-keys");
    let made: CreatedApiKey = owner.client.post(&path, body).await.unwrap();
    (invited.invitation.id, made.info.id)
}

/// A relay region of the org's own.
async fn own_region(owner: &Owner) {
    let region = crate::relays::region(900, "own");
    let path = owner.path("/relays/900");
    let _: Value = owner.client.call(Method::PUT, &path, region).await.unwrap();
}

async fn reqwest_json(owner: &Owner, path: &str) -> Value {
    let response = owner
        .client
        .request(Method::GET, path)
        .send()
        .await
        .unwrap();
    response.json().await.unwrap()
}
