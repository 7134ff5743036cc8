//! Machines' tunnels, as they tell of them.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::Machine;
use ztna_proto::api::Role;
use ztna_proto::connections::{
    ConnectionPath, MAX_CONNECTIONS, MachineConnections, OrgConnections, TunnelMix,
};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, RegionId};

use crate::common::client::{Owner, code, machine};
use crate::common::{Client, Server};

fn tunnel(peer: MachineId) -> Value {
    json!({
        "peer": peer, "path": "relay", "region": 1, "latency_ms": 31, "post_quantum": true, "epoch": 7,
        "epoch_age_seconds": 40, "handshake_age_seconds": 41,
    })
}

#[tokio::test]
async fn people_see_a_machines_tunnels_and_members_those_of_their_own() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let rival = Owner::new(&server, "rival").await;
    let member = owner.add(&server, "member", Role::Member).await;
    let (_, gate) = owner.enrol("gate").await;
    let (_, foreign) = rival.enrol("foreign").await;
    let laptop = member.register(&machine("laptop")).await.unwrap();
    let shown = async |who: &Client, id: MachineId| {
        let path = owner.path(&format!("/machines/{id}/connections"));
        who.get::<MachineConnections>(&path).await
    };
    let before = shown(&owner.client, laptop.machine_id).await.unwrap();
    assert_eq!(before, MachineConnections::default(), "it has not told");

    let tell = async |body: Value| {
        let machine = owner.as_machine(&laptop.node_key);
        let path = "/api/machine-connections";
        machine.call::<Value>(Method::PUT, path, body).await
    };
    // Machines that are not of the org are not named, whatever a machine says.
    let tunnels = json!([tunnel(gate.machine_id), tunnel(foreign.machine_id)]);
    tell(json!({"connections": tunnels, "count": 9}))
        .await
        .unwrap();
    for who in [&owner.client, &member] {
        let told = shown(who, laptop.machine_id).await.unwrap();
        assert!(told.reported_at.is_some());
        assert_eq!((told.count, told.connections.len()), (9, 1));
        let one = &told.connections[0];
        assert_eq!(
            (one.name.as_str(), one.connection.peer),
            ("gate", gate.machine_id)
        );
        let connection = &one.connection;
        assert_eq!(connection.path, ConnectionPath::Relay);
        assert_eq!(connection.region, Some(RegionId(1)));
        assert_eq!((connection.latency_ms, connection.epoch), (Some(31), 7));
        assert!(connection.post_quantum);
    }
    assert_eq!(
        code(shown(&member, gate.machine_id).await),
        ErrorCode::NotFound
    );
    assert_eq!(
        code(shown(&rival.client, laptop.machine_id).await),
        ErrorCode::NotFound
    );

    let many = vec![tunnel(gate.machine_id); MAX_CONNECTIONS + 1];
    let refused = tell(json!({"connections": many, "count": 51})).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
    let mut talkative = tunnel(gate.machine_id);
    for why in ["x".repeat(241), "by \u{202e}relay".to_owned()] {
        talkative["why"] = json!(why);
        let refused = tell(json!({"connections": [talkative], "count": 1})).await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }
    talkative["why"] = json!("by relay: none of 3 candidates answers");
    tell(json!({"connections": [talkative], "count": 1}))
        .await
        .unwrap();
    let told = shown(&owner.client, laptop.machine_id).await.unwrap();
    assert_eq!(told.connections[0].connection.why, talkative["why"]);
    // A newer agent may know ways that this server does not.
    let mut odd = tunnel(gate.machine_id);
    odd["path"] = json!("carrier_pigeon");
    tell(json!({"connections": [odd], "count": 1, "later": true}))
        .await
        .unwrap();
    let told = shown(&owner.client, laptop.machine_id).await.unwrap();
    assert_eq!(told.connections[0].connection.path, ConnectionPath::None);
    tell(json!({"connections": [], "count": 0})).await.unwrap();
    let told = shown(&owner.client, laptop.machine_id).await.unwrap();
    assert!(told.reported_at.is_some() && told.connections.is_empty());
}

#[tokio::test]
async fn an_orgs_tunnels_are_listed_once_each_and_counted_per_machine() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "member", Role::Member).await;
    owner
        .put_policy(
            r#"{"tagOwners": {"tag:hidden": []},
                "acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:member:*"]}]}"#,
        )
        .await
        .unwrap();
    let key = owner.key(json!({"tags": ["tag:hidden"]})).await;
    let hidden = owner.enrol_with(&key, "hidden").await;
    let one = member.register(&machine("one")).await.unwrap();
    let other = member.register(&machine("other")).await.unwrap();
    let tell = async |node_key, tunnels: Value| {
        let body = json!({"connections": tunnels, "count": 2});
        let machine = owner.as_machine(node_key);
        let path = "/api/machine-connections";
        machine
            .call::<Value>(Method::PUT, path, body)
            .await
            .unwrap()
    };
    // One that is in the org, but not in its map, is not kept.
    let tunnels = json!([tunnel(other.machine_id), tunnel(hidden.machine_id)]);
    tell(&one.node_key, tunnels).await;
    let path = owner.path("/connections");
    let told: OrgConnections = owner.client.get(&path).await.unwrap();
    assert_eq!(told.tunnels.len(), 1);
    assert_eq!(told.tunnels[0].machine, one.machine_id);
    assert_eq!(told.tunnels[0].connection.peer, other.machine_id);
    assert!(!told.is_partial);
    // The other end sees it otherwise, and later.
    let mut direct = tunnel(one.machine_id);
    direct["path"] = json!("direct");
    tell(&other.node_key, json!([direct])).await;
    let told: OrgConnections = owner.client.get(&path).await.unwrap();
    assert_eq!(told.tunnels.len(), 1);
    assert_eq!(told.tunnels[0].connection.path, ConnectionPath::Direct);
    assert_eq!(code(member.get::<Value>(&path).await), ErrorCode::Forbidden);

    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    let mixes: Vec<_> = list.iter().map(|machine| machine.tunnels).collect();
    let mix = |direct, relayed| TunnelMix {
        direct,
        relayed,
        waiting: 0,
        post_quantum: 1,
    };
    assert_eq!(mixes, [None, Some(mix(0, 1)), Some(mix(1, 0))]);
    let path = owner.path(&format!("/machines/{}", one.machine_id));
    let shown: Machine = member.get(&path).await.unwrap();
    assert_eq!(shown.tunnels, Some(mix(0, 1)));
}
