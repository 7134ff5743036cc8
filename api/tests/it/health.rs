//! What the control plane finds out about relays.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use ztna_proto::error::ErrorCode;
use ztna_proto::relay::{CertificatePin, NodeHealth, RelayHealth, RelayNode};
use ztna_tls::{AcceptLimits, ServerIdentity};

use crate::common::client::{Owner, code};
use crate::common::{Client, Server};
use crate::relays::{bare, region};

const PERIOD: Duration = Duration::from_millis(100);
/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// A STUN service, and what a relay answers probes with, on the loopback address, until they are dropped.
struct Node {
    node: RelayNode,
    relay: CancellationToken,
    stun: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = ServerIdentity::load_or_create(folder.path(), &["127.0.0.1".to_owned()]);
        let identity = identity.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let derp_port = listener.local_addr().unwrap().port();
        let (relay, stun) = (CancellationToken::new(), CancellationToken::new());
        let tls = identity.server_config().unwrap();
        let routes = axum::Router::new().route("/derp/probe", axum::routing::get(async || ()));
        let stop = relay.clone();
        let answer = move |stream, peer| {
            let (routes, stop) = (routes.clone(), stop.clone());
            async move { ztna_tls::serve_http(stream, peer, routes, &stop).await }
        };
        let limits = AcceptLimits::default();
        tokio::spawn(ztna_tls::serve(
            listener,
            tls,
            limits,
            relay.clone(),
            answer,
        ));
        let socket = ztna_stun::server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let stun_port = socket.local_addr().port();
        tokio::spawn(ztna_stun::server::run(socket, stun.clone()));
        Self {
            node: RelayNode {
                name: "a".to_owned(),
                host: "127.0.0.1".to_owned(),
                addresses: Vec::new(),
                derp_port: Some(derp_port),
                stun_port: Some(stun_port),
                quic_port: None,
                http_port: None,
                certificate: identity.certificate_pin(),
            },
            relay,
            stun,
            _folder: folder,
        }
    }

    /// A region of the deployment with this node and another of the same, changed.
    async fn serve(&self, other: impl FnOnce(&mut RelayNode)) -> Server {
        let mut second = self.node.clone();
        second.name = "b".to_owned();
        other(&mut second);
        let mut region = bare(1, "lon");
        region.nodes = vec![self.node.clone(), second];
        Server::start_with(|config| {
            config.relays = vec![region.into()];
            config.probe_period = PERIOD;
        })
        .await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.relay.cancel();
        self.stun.cancel();
    }
}

/// Asks until a node's health is as wanted.
async fn until(
    client: &Client,
    path: &str,
    node: &str,
    wanted: impl Fn(&NodeHealth) -> bool,
) -> NodeHealth {
    let search = async {
        loop {
            let health: RelayHealth = client.get(path).await.unwrap();
            let mut nodes = health
                .regions
                .into_iter()
                .rev()
                .flat_map(|region| region.nodes);
            if let Some(found) = nodes.find(|found| found.node == node && wanted(found)) {
                return found;
            }
            tokio::time::sleep(PERIOD / 4).await;
        }
    };
    tokio::time::timeout(LIMIT, search)
        .await
        .expect("the health is never as wanted")
}

#[tokio::test]
async fn a_relay_is_up_until_its_stun_or_its_relay_goes() {
    let node = Node::start().await;
    let server = node
        .serve(|other| other.certificate = CertificatePin::Sha256("0".repeat(64)))
        .await;
    let anybody = Client::anonymous(&server);
    let path = "/api/derp-health";
    let up = until(&anybody, path, "a", |node| node.up == Some(true)).await;
    assert!(up.latency_ms.unwrap() > 0.0 && up.error.is_none());
    // It goes on being looked at, and `since` stays.
    let later = until(&anybody, path, "a", |node| node.checked_at > up.checked_at).await;
    assert_eq!(later.since, up.since);
    // Another certificate than the map says: not this relay.
    let other = until(&anybody, path, "b", |node| node.up == Some(false)).await;
    assert_eq!(
        (other.latency_ms, other.error),
        (None, None),
        "errors are not everybody's"
    );
    let health: RelayHealth = anybody.get(path).await.unwrap();
    assert_eq!(health.regions[0].code, "lon");
    assert!(!health.regions[0].own);

    node.stun.cancel();
    let down = until(&anybody, path, "a", |node| node.up == Some(false)).await;
    assert!(down.since > up.since);
}

#[tokio::test]
async fn an_orgs_own_relays_are_shown_to_it_alone_and_probed_only_in_public() {
    let node = Node::start().await;
    let server = node.serve(|_| {}).await;
    let acme = Owner::new(&server, "acme").await;
    let rival = Owner::new(&server, "rival").await;
    let (_, machine) = acme.enrol("a").await;
    let mut own = region(900, "hq");
    own["nodes"] = json!([RelayNode {
        name: "own".to_owned(),
        ..node.node.clone()
    }]);
    let _: Value = acme
        .client
        .call(Method::PUT, &acme.path("/relays/900"), own.clone())
        .await
        .unwrap();
    let path = format!("/api/derp-health?org={}", acme.org.id);
    let found = until(&acme.client, &path, "own", |node| node.checked_at.is_some()).await;
    assert_eq!(found.up, None);
    assert!(found.error.unwrap().contains("public internet"));

    // Its machines see it too; everybody else does not.
    let as_machine = acme.as_machine(&machine.node_key);
    until(&as_machine, "/api/derp-health", "own", |node| {
        node.checked_at.is_some()
    })
    .await;
    assert_eq!(
        code(rival.client.get::<Value>(&path).await),
        ErrorCode::NotFound
    );
    let anybody = Client::anonymous(&server);
    assert_eq!(
        code(anybody.get::<Value>(&path).await),
        ErrorCode::Unauthorized
    );
    let others = format!("/api/derp-health?org={}", rival.org.id);
    assert_eq!(
        code(as_machine.get::<Value>(&others).await),
        ErrorCode::NotFound
    );
    for client in [&anybody, &rival.client] {
        let health: RelayHealth = client.get("/api/derp-health").await.unwrap();
        assert!(health.regions.iter().all(|region| !region.own));
    }
    let unknown = anybody.bearer("ztna-nothing").get::<Value>(&path).await;
    assert_eq!(code(unknown), ErrorCode::Unauthorized);

    // Where the operator trusts the orgs.
    let trusting = Server::start_with(|config| {
        config.allow_private_relays = true;
        config.probe_period = PERIOD;
    })
    .await;
    let acme = Owner::new(&trusting, "acme").await;
    let _: Value = acme
        .client
        .call(Method::PUT, &acme.path("/relays/900"), own)
        .await
        .unwrap();
    let path = format!("/api/derp-health?org={}", acme.org.id);
    let found = until(&acme.client, &path, "own", |node| node.up == Some(true)).await;
    assert!(found.latency_ms.is_some());
    node.relay.cancel();
    let found = until(&acme.client, &path, "own", |node| node.up == Some(false)).await;
    assert!(found.error.unwrap().starts_with("relay: "));
}

#[tokio::test]
async fn of_several_processes_one_probes_and_another_takes_over() {
    let node = Node::start().await;
    let server = node.serve(|_| {}).await;
    until(
        &Client::anonymous(&server),
        "/api/derp-health",
        "a",
        |node| node.up == Some(true),
    )
    .await;
    let admin = crate::common::connect(&server.database.setup).await;
    let holders = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
             WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()";
        admin.query_one(sql, &[]).await.unwrap().get(0)
    };
    assert_eq!(holders().await, 1);
    // A second one on the same database finds the lock taken; the first one's end gives it over.
    let keys = tempfile::tempdir().unwrap();
    let keys = ztna_api::ServerKeys::load_or_create(keys.path()).unwrap();
    let mut config = ztna_api::Config::new(server.database.clone(), keys);
    config.probe_period = PERIOD;
    let second = ztna_api::App::start(config).await.unwrap();
    tokio::time::sleep(PERIOD * 5).await;
    assert_eq!(holders().await, 1);
    let sql = "SELECT max(checked_at) FROM relay_health";
    let before: jiff::Timestamp = admin.query_one(sql, &[]).await.unwrap().get(0);
    server.stop().await;
    let taken_over = async {
        loop {
            let now: jiff::Timestamp = admin.query_one(sql, &[]).await.unwrap().get(0);
            if now.duration_since(before) > PERIOD.try_into().unwrap() && holders().await == 1 {
                return;
            }
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::time::timeout(LIMIT, taken_over).await.unwrap();
    second.stop().await;
}
