//! The relay map as orgs see and change it.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::Role;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::RegionId;
use ztna_proto::keys::WgPublicKey;
use ztna_proto::relay::{RelayMap, RelayRegion};

use crate::common::client::{Owner, code};
use crate::common::stream::Stream;
use crate::common::{Client, Server};

/// A region of an org's own, with one relay.
pub fn region(id: u32, code: &str) -> Value {
    json!({
        "id": id, "code": code, "name": "Head office", "latitude": 52.5, "longitude": 13.4,
        "nodes": [{"name": "a", "host": "relay.invalid", "derp_port": 443, "stun_port": 3478}],
    })
}

/// A region of the deployment, without relays.
pub fn bare(id: u32, code: &str) -> RelayRegion {
    serde_json::from_value(json!({"id": id, "code": code, "name": "A place", "nodes": []})).unwrap()
}

fn london() -> RelayRegion {
    bare(1, "lon")
}

async fn with_london() -> Server {
    Server::start_with(|config| config.relays = vec![london().into()]).await
}

async fn put(owner: &Owner, client: &Client, id: u32, region: Value) -> Result<Value, ErrorBody> {
    let path = owner.path(&format!("/relays/{id}"));
    client.call(Method::PUT, &path, region).await
}

/// `(id, code, own)` of every region.
async fn listed(owner: &Owner, client: &Client) -> Vec<(u64, String, bool)> {
    let answer: Value = client.get(&owner.path("/relays")).await.unwrap();
    let regions = answer["regions"].as_array().unwrap();
    let read = |region: &Value| {
        let code = region["code"].as_str().unwrap().to_owned();
        (
            region["id"].as_u64().unwrap(),
            code,
            region["own"].as_bool().unwrap(),
        )
    };
    regions.iter().map(read).collect()
}

fn codes(stream: &Stream) -> BTreeMap<RegionId, String> {
    let map: RelayMap = serde_json::from_str(stream.map.relays().raw().get()).unwrap();
    map.regions
        .into_iter()
        .map(|(id, region)| (id, region.code))
        .collect()
}

#[tokio::test]
async fn an_orgs_own_region_reaches_its_machines_at_once_and_no_other_orgs() {
    let server = with_london().await;
    let (acme, rival) = (
        Owner::new(&server, "acme").await,
        Owner::new(&server, "rival").await,
    );
    let (request, machine) = acme.enrol("a").await;
    let (_, theirs) = rival.enrol("b").await;
    let mut stream = Stream::connect(&server, &machine.node_key).await;
    assert_eq!(
        codes(&stream),
        BTreeMap::from([(RegionId(1), "lon".to_owned())])
    );
    let opens = |ticket: &Option<String>, key: &WgPublicKey, region| {
        let verifier = server.ticket_verifier();
        let now = jiff::Timestamp::now();
        verifier
            .verify(ticket.as_ref().unwrap(), key, RegionId(region), now)
            .is_ok()
    };
    assert!(opens(&stream.ticket, &request.wg_key, 1));
    assert!(
        !opens(&stream.ticket, &request.wg_key, 900),
        "another org's region may have the number"
    );

    let stored = put(&acme, &acme.client, 900, region(900, "hq"))
        .await
        .unwrap();
    assert_eq!(stored["latitude"], 52.5);
    stream
        .until("the org's region", |s| codes(s).len() == 2)
        .await;
    assert_eq!(codes(&stream)[&RegionId(900)], "hq");
    assert!(
        opens(&stream.ticket, &request.wg_key, 900),
        "the ticket came before the map"
    );
    let beat: Value = acme
        .as_machine(&machine.node_key)
        .post(
            "/api/machine-heartbeat",
            json!({
                "agent_version": "0.1.0",
                "report": {"endpoints": [], "home_region": null, "disco_key": null},
            }),
        )
        .await
        .unwrap();
    let ticket = beat["relay_ticket"].as_str().map(str::to_owned);
    assert!(
        opens(&ticket, &request.wg_key, 900),
        "nor is a heartbeat's ticket older"
    );

    // The same number is free for the other org, whose map and ticket are its own.
    put(&rival, &rival.client, 900, region(900, "rivals"))
        .await
        .unwrap();
    let other = Stream::connect(&server, &theirs.node_key).await;
    assert_eq!(codes(&other)[&RegionId(900)], "rivals");
    assert_eq!(
        listed(&acme, &acme.client).await,
        [(1, "lon".to_owned(), false), (900, "hq".to_owned(), true)]
    );
    let answer: Value = acme.client.get(&acme.path("/relays")).await.unwrap();
    assert_eq!(answer["ticket_key"], server.ticket_verifier().to_string());

    // Replaced whole, and deleted.
    put(&acme, &acme.client, 900, region(900, "berlin"))
        .await
        .unwrap();
    stream
        .until("the new code", |s| codes(s)[&RegionId(900)] == "berlin")
        .await;
    acme.client.delete(&acme.path("/relays/900")).await.unwrap();
    stream
        .until("the region's end", |s| codes(s).len() == 1)
        .await;
    assert!(!opens(&stream.ticket, &request.wg_key, 900));
    let again = acme.client.delete(&acme.path("/relays/900")).await;
    assert_eq!(code(again), ErrorCode::NotFound);
    let beyond = acme.client.delete(&acme.path("/relays/4000000000")).await;
    assert_eq!(code(beyond), ErrorCode::NotFound);
    assert_eq!(
        listed(&rival, &rival.client).await.len(),
        2,
        "the other's stays"
    );
}

#[tokio::test]
async fn owners_and_admins_change_the_map_and_members_see_it() {
    let server = with_london().await;
    let acme = Owner::new(&server, "acme").await;
    for (role, may) in [
        (Role::Admin, true),
        (Role::Auditor, false),
        (Role::Member, false),
    ] {
        let name = format!("{role:?}").to_lowercase();
        let client = acme.add(&server, &name, role).await;
        let written = put(&acme, &client, 900, region(900, "hq")).await;
        assert_eq!(written.is_ok(), may, "{role:?}");
        if !may {
            assert_eq!(code(written), ErrorCode::Forbidden);
            let deleted = client.delete(&acme.path("/relays/900")).await;
            assert_eq!(code(deleted), ErrorCode::Forbidden);
        }
        assert_eq!(listed(&acme, &client).await.len(), 2, "{role:?}");
    }
    let nobody = Client::anonymous(&server);
    assert_eq!(
        code(put(&acme, &nobody, 901, region(901, "x")).await),
        ErrorCode::Unauthorized
    );
    let list = nobody.get::<Value>(&acme.path("/relays")).await;
    assert_eq!(code(list), ErrorCode::Unauthorized);
}

#[tokio::test]
async fn regions_are_held_to_their_bounds() {
    let server = with_london().await;
    let acme = Owner::new(&server, "acme").await;
    let refused = async |id: u32, region: Value| {
        let error = put(&acme, &acme.client, id, region).await.unwrap_err();
        (error.code, error.message)
    };
    let (first, says) = refused(1, region(1, "mine")).await;
    assert_eq!(first, ErrorCode::ValidationError);
    assert!(says.contains("900 to 999"), "{says}");
    assert_eq!(
        refused(1000, region(1000, "x")).await.0,
        ErrorCode::ValidationError
    );
    assert_eq!(
        refused(900, region(901, "x")).await.0,
        ErrorCode::ValidationError
    );
    let (taken, says) = refused(900, region(900, "lon")).await;
    assert_eq!(taken, ErrorCode::Conflict, "the deployment has that code");
    assert!(says.contains("region 1"), "{says}");
    assert_eq!(
        refused(900, json!({"id": 900})).await.0,
        ErrorCode::ValidationError
    );
    for n in 0..8 {
        put(
            &acme,
            &acme.client,
            900 + n,
            region(900 + n, &format!("r{n}")),
        )
        .await
        .unwrap();
    }
    let (full, says) = refused(908, region(908, "r8")).await;
    assert_eq!(full, ErrorCode::Conflict);
    assert!(says.contains("8 regions"), "{says}");
    put(&acme, &acme.client, 907, region(907, "moved"))
        .await
        .unwrap();
    let (twice, _) = refused(907, region(907, "r0")).await;
    assert_eq!(twice, ErrorCode::Conflict);
}

#[tokio::test]
async fn the_operators_map_keeps_off_the_orgs_numbers() {
    let mut own = london();
    own.id = RegionId(950);
    let database = crate::common::database().await;
    let keys = tempfile::tempdir().unwrap();
    let keys = ztna_api::ServerKeys::load_or_create(keys.path()).unwrap();
    let mut config = ztna_api::Config::new(database, keys);
    config.relays = vec![own.into()];
    let Err(error) = ztna_api::App::start(config).await else {
        panic!("it started");
    };
    assert!(error.to_string().contains("900 to 999"), "{error}");
}
