//! What operators and clients rely on: health, figures, the API document, errors, restarts.

use std::collections::BTreeMap;

use crate::common::client::{Owner, PASSWORD, code};
use crate::common::stream::Stream;
use crate::common::{Client, Server, connect, database};
use reqwest::Method;
use serde_json::{Value, json};
use ztna_api::{App, Config, ServerKeys, SetupError, StartError};
use ztna_proto::error::ErrorCode;
use ztna_proto::relay::RelayMap;

#[tokio::test]
async fn health_follows_the_database() {
    let server = Server::start().await;
    let client = Client::anonymous(&server);
    let health = async || {
        let response = client.request(Method::GET, "/health").send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap())
    };
    let (status, body) = health().await;
    assert_eq!((status, body["status"].as_str()), (200, Some("ok")));
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));

    // The database goes away under it, and every call says so in the envelope.
    let name = server.database.setup.get_dbname().unwrap().to_owned();
    let mut other = server.database.setup.clone();
    other.dbname("postgres");
    let (admin, connection) = other.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    admin
        .batch_execute(&format!(
            "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await
        .unwrap();
    let (status, body) = health().await;
    assert_eq!(status, 503, "{body}");
    let refused = client.login("a@example.com", "some password").await;
    assert_eq!(code(refused), ErrorCode::Unavailable);
    admin
        .batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        .await
        .unwrap();
    assert_eq!(health().await.0, 200);
}

#[tokio::test]
async fn figures_and_the_document_name_every_route() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let text = async |path: &str| {
        let response = owner
            .client
            .request(Method::GET, path)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), 200);
        response.text().await.unwrap()
    };
    let made_up = Method::from_bytes(b"MADEUP").unwrap();
    let request = owner.client.request(made_up, "/health");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 405);
    let figures = text("/metrics").await;
    assert!(!figures.contains("MADEUP"));
    assert!(
        figures.contains("route=\"/api/orgs/{org}/auth-keys\""),
        "{figures}"
    );
    assert!(
        !figures.contains(&owner.org.id.to_string()),
        "ids have no place in labels"
    );
    let document: Value = serde_json::from_str(&text("/api/openapi.json").await).unwrap();
    for path in [
        "/api/auth",
        "/api/auth/signup",
        "/api/auth/login",
        "/api/auth/refresh",
        "/api/auth/logout",
        "/api/auth/me",
        "/api/orgs",
        "/api/register-machine",
        "/api/machine-heartbeat",
        "/api/machine-stream",
        "/api/kem-keys/{hash}",
        "/cli-login",
        "/health",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test]
async fn every_call_has_a_name_of_its_own() {
    let server = Server::start().await;
    let request = Client::anonymous(&server).request(Method::GET, "/api/openapi.json");
    let document: Value = request.send().await.unwrap().json().await.unwrap();
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_default();
            let calls = named.entry(id.to_owned()).or_default();
            calls.push(format!("{method} {path}"));
        }
    }
    assert!(!named.contains_key(""), "without a name: {:?}", named[""]);
    assert!(named.len() > 80, "{}", named.len());
    named.retain(|_, calls| calls.len() > 1);
    assert!(named.is_empty(), "several calls of one name: {named:#?}");
}

#[tokio::test]
async fn errors_come_in_the_envelope() {
    let server = Server::start().await;
    let client = Client::anonymous(&server);
    let send = async |method: Method, path: &str, body: &str| {
        let request = client
            .request(method, path)
            .header("content-type", "application/json")
            .body(body.to_owned());
        let response = request.send().await.unwrap();
        assert!(response.headers().contains_key("x-request-id"));
        assert_eq!(response.headers()["cache-control"], "no-store");
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["success"], false);
        assert_eq!(body["data"], Value::Null);
        (status, body["error"]["code"].as_str().unwrap().to_owned())
    };
    let expect = |status: u16, code: &str| (status, code.to_owned());
    let login = "/api/auth/login";
    assert_eq!(
        send(Method::POST, login, "{").await,
        expect(400, "INVALID_JSON")
    );
    assert_eq!(
        send(Method::POST, login, "{}").await,
        expect(400, "VALIDATION_ERROR")
    );
    assert_eq!(
        send(Method::GET, login, "").await,
        expect(405, "VALIDATION_ERROR")
    );
    assert_eq!(
        send(Method::GET, "/api/nothing", "").await,
        expect(404, "NOT_FOUND")
    );
    assert_eq!(
        send(Method::GET, "/api/auth/me", "").await,
        expect(401, "UNAUTHORIZED")
    );
    let huge = format!("{{\"email\":\"{}\"}}", "x".repeat(600 * 1024));
    assert_eq!(
        send(Method::POST, login, &huge).await,
        expect(400, "INVALID_JSON")
    );
    // Nested without end: refused, not overflowed.
    let deep = format!("{{\"email\":{}", "[".repeat(100_000));
    assert_eq!(send(Method::POST, login, &deep).await.0, 400);
}

#[tokio::test]
async fn a_restart_keeps_tokens_and_the_relay_map_is_upserted() {
    let map: RelayMap = serde_json::from_value(json!({"regions": {
        "1": {"id": 1, "code": "lon", "name": "London", "nodes": [
            {"name": "lon1", "host": "relay.example", "derp_port": 443, "stun_port": 3478}]},
        "2": {"id": 2, "code": "nyc", "name": "New York", "nodes": []},
    }}))
    .unwrap();
    let documents = map.regions.values().cloned().map(Into::into).collect();
    let server = Server::start_with(move |config| config.relays = documents).await;
    let owner = Owner::new(&server, "acme").await;
    let (_, machine) = owner.enrol("a").await;
    let relays = |stream: &Stream| {
        serde_json::from_str::<RelayMap>(stream.map.relays().raw().get()).unwrap()
    };
    let stream = Stream::connect(&server, &machine.node_key).await;
    assert_eq!(relays(&stream), map);
    let server = server.restart().await;
    let stream = Stream::connect(&server, &machine.node_key).await;
    assert_eq!(relays(&stream), map, "regions that are not named stay");
    Client::anonymous(&server)
        .login("acme@example.com", PASSWORD)
        .await
        .unwrap();
}

#[tokio::test]
async fn several_nodes_may_start_at_once_on_an_empty_database() {
    let database = database().await;
    let keys = tempfile::tempdir().unwrap();
    let starts = (0..4).map(|_| {
        let keys = ServerKeys::load_or_create(keys.path()).unwrap();
        App::start(Config::new(database.clone(), keys))
    });
    for app in futures_util::future::join_all(starts).await {
        app.unwrap().stop().await;
    }
}

#[tokio::test]
async fn an_account_without_rights_is_told_what_an_administrator_must_run() {
    let database = database().await;
    let admin = connect(&database.setup).await;
    // Roles are the cluster's: another test's may be there, so ours is one that has none of them.
    admin
        .batch_execute("DO $$ BEGIN CREATE ROLE powerless LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        .await
        .unwrap();
    let mut setup = database.setup.clone();
    setup.options("-c role=powerless");
    let keys = tempfile::tempdir().unwrap();
    let config = Config::new(
        ztna_api::DatabaseConfig { setup, app: None },
        ServerKeys::load_or_create(keys.path()).unwrap(),
    );
    let Err(error) = App::start(config).await else {
        panic!("it started");
    };
    let StartError::Database(SetupError::Roles(script)) = error else {
        panic!("{error}");
    };
    assert!(
        script.contains("CREATE ROLE ztna_app LOGIN NOBYPASSRLS"),
        "{script}"
    );
    assert!(script.contains("TO powerless;"), "{script}");
    // What it says is enough.
    admin.batch_execute(&script).await.unwrap();
}
