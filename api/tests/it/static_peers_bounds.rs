//! What static peers may not be used for: filling a gateway, getting around approval or a hold.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_api::Rate;
use ztna_proto::api::{CreatedApiKey, Me, Role};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::MachineId;
use ztna_proto::machines::MachineState;
use ztna_proto::static_peers::{CarriedPeer, MAX_STATIC_PEERS_OF_PERSON, StaticPeerConfig};

use crate::common::client::{Owner, code, machine};
use crate::common::stream::Stream;
use crate::common::{Client, Server, connect};
use crate::static_peers::carried;

async fn user_of(client: &Client) -> Value {
    let me: Me = client.get("/api/auth/me").await.unwrap();
    json!(me.id)
}

async fn new_keys(
    owner: &Owner,
    who: &Client,
    id: MachineId,
) -> Result<StaticPeerConfig, ztna_proto::error::ErrorBody> {
    let path = owner.path(&format!("/static-peers/{id}/keys"));
    who.post(&path, json!({})).await
}

#[tokio::test]
async fn one_person_has_so_many_and_no_more() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let bob = owner.add(&server, "bob", Role::Member).await;
    let policy = r#"{"tagOwners": {"tag:lab": ["autogroup:member"]}}"#;
    owner.put_policy(policy).await.unwrap();
    let (_, gate) = owner.enrol("gate").await;
    let (_, spare) = owner.enrol("spare").await;
    owner.make_gateway(gate.machine_id).await;
    owner.make_gateway(spare.machine_id).await;
    let mut last = None;
    for number in 0..MAX_STATIC_PEERS_OF_PERSON {
        // With tags of theirs, too.
        let tags = match number % 2 {
            0 => vec![],
            _ => vec!["tag:lab"],
        };
        let body = json!({"name": format!("p{number}"), "gateway": gate.machine_id, "tags": tags});
        last = Some(owner.phone(&bob, body).await.unwrap().peer.machine.id);
    }
    let for_bob = user_of(&bob).await;
    let more = json!({"name": "more", "gateway": spare.machine_id});
    let mut given = more.clone();
    given["user"] = for_bob;
    let mut tagged = given.clone();
    tagged["tags"] = json!(["tag:lab"]);
    for refused in [
        owner.phone(&bob, more.clone()).await,
        owner.phone(&owner.client, given).await,
        owner.phone(&owner.client, tagged).await,
    ] {
        let refused = refused.err().unwrap();
        assert_eq!(refused.code, ErrorCode::Conflict);
        assert!(refused.message.contains("10 static peers"), "{refused}");
    }
    // An admin's with tags are the org's, as many as it takes; and others have theirs.
    for number in 0..=MAX_STATIC_PEERS_OF_PERSON {
        let body = json!({"name": format!("printer-{number}"), "gateway": spare.machine_id,
            "tags": ["tag:lab"]});
        owner.phone(&owner.client, body).await.unwrap();
    }
    let body = json!({"name": "boss", "gateway": gate.machine_id});
    owner.phone(&owner.client, body).await.unwrap();
    let path = owner.path(&format!("/machines/{}", last.unwrap()));
    owner.client.delete(&path).await.unwrap();
    owner.phone(&bob, more).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn one_that_waits_for_approval_is_no_gateways_business() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let bob = owner.add(&server, "bob", Role::Member).await;
    let (_, gate) = owner.enrol("gate").await;
    owner.make_gateway(gate.machine_id).await;
    owner.set(json!({"machine_approval": true})).await;
    let mut at_gate = Stream::connect(&server, &gate.node_key).await;
    let body =
        |name: &str| json!({"name": name, "gateway": gate.machine_id, "preshared_key": true});
    let made = owner.phone(&bob, body("phone")).await.unwrap();
    let id = made.peer.machine.id;
    assert_eq!(made.peer.machine.life.state, MachineState::Pending);
    assert_eq!(
        made.peer.message, None,
        "it is nothing that its gateway does"
    );
    // An admin's own word is one; and by then the gateway has heard of both.
    let boss = owner.phone(&owner.client, body("boss")).await.unwrap();
    let boss = boss.peer.machine.id;
    let carries = |id, revision| vec![CarriedPeer { id, revision }];
    at_gate
        .until("the boss's", |s| carried(s) == carries(boss, 1))
        .await;
    let refused = owner.attach(&gate, id, &machine("")).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("approval"), "{refused}");

    owner.does(id, json!({"action": "approve"})).await;
    at_gate
        .until("both", |s| carried(s).iter().any(|peer| peer.id == id))
        .await;
    let attached = owner.attach(&gate, id, &machine("")).await.unwrap();

    // New keys may be another device's, which nobody has approved.
    let moved = new_keys(&owner, &bob, id).await.unwrap();
    assert_eq!(moved.peer.machine.life.state, MachineState::Pending);
    at_gate
        .until("the boss's again", |s| carried(s) == carries(boss, 1))
        .await;
    assert_eq!(
        code(owner.attach(&gate, id, &machine("")).await),
        ErrorCode::Conflict
    );
    let token = owner.as_machine(&attached.machine.node_key);
    let hash = format!("/api/kem-keys/{}", ztna_proto::KemKeyHash([0; 32]));
    assert_eq!(
        code(token.get::<Value>(&hash).await),
        ErrorCode::Unauthorized
    );
    owner.does(id, json!({"action": "approve"})).await;
    owner.attach(&gate, id, &machine("")).await.unwrap();
    // Who may approve it gives it new keys as it is.
    let moved = new_keys(&owner, &owner.client, id).await.unwrap();
    assert_ne!(moved.peer.machine.life.state, MachineState::Pending);
    owner.attach(&gate, id, &machine("")).await.unwrap();
    // Where nobody's machines wait, neither do these.
    owner.set(json!({"machine_approval": false})).await;
    let moved = new_keys(&owner, &bob, id).await.unwrap();
    assert_ne!(moved.peer.machine.life.state, MachineState::Pending);
    server.stop().await;
}

#[tokio::test]
async fn what_holds_somebodys_next_device_is_a_hold_that_they_could_end() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let bob = owner.add(&server, "bob", Role::Member).await;
    let policy = r#"{"tagOwners": {"tag:lab": []}}"#;
    owner.put_policy(policy).await.unwrap();
    let (_, gate) = owner.enrol("gate").await;
    owner.make_gateway(gate.machine_id).await;
    let body = |name: &str| json!({"name": name, "gateway": gate.machine_id});
    // A policy that a static peer cannot meet holds it out, and nothing more.
    let disks = json!({"name": "disks", "requires": {"disk_encryption": true},
        "on_failure": "quarantine", "grace_minutes": 0});
    let path = owner.path("/posture/policies");
    let made: Value = owner.client.post(&path, disks).await.unwrap();
    let phone = owner.phone(&bob, body("phone")).await.unwrap().peer.machine;
    assert_eq!(phone.life.state, MachineState::Quarantined);
    let admin = connect(&server.database.setup).await;
    let long_ago = "UPDATE machines SET created_at = now() - interval '1 day' WHERE id = $1";
    admin.execute(long_ago, &[&phone.id.0]).await.unwrap();
    let tablet = owner.phone(&bob, body("tablet")).await.unwrap();
    assert_eq!(tablet.peer.machine.life.state, MachineState::Quarantined);
    let path = owner.path(&format!(
        "/posture/policies/{}",
        made["id"].as_str().unwrap()
    ));
    owner.client.delete(&path).await.unwrap();

    // A person's word counts, though tags make the device nobody's: it was made for bob.
    let mut tagged = body("scanner");
    tagged["tags"] = json!(["tag:lab"]);
    tagged["user"] = user_of(&bob).await;
    let scanner = owner.phone(&owner.client, tagged).await.unwrap();
    let scanner = scanner.peer.machine;
    assert_eq!(scanner.user, None);
    let free = owner.phone(&bob, body("watch")).await.unwrap();
    assert_ne!(free.peer.machine.life.state, MachineState::Pending);
    owner
        .does(scanner.id, json!({"action": "lock", "reason": ""}))
        .await;
    let held = owner.phone(&bob, body("ring")).await.unwrap();
    assert_eq!(held.peer.machine.life.state, MachineState::Pending);
    let others = owner.phone(&owner.client, body("boss")).await.unwrap();
    assert_ne!(others.peer.machine.life.state, MachineState::Pending);
    server.stop().await;
}

#[tokio::test]
async fn an_api_key_gives_new_keys_and_renews_no_sign_in() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    owner.make_gateway(gate.machine_id).await;
    let body = json!({"name": "phone", "gateway": gate.machine_id});
    let made = owner.phone(&owner.client, body).await.unwrap();
    let phone = made.peer.machine;
    let body = json!({"scopes": ["machines:write"], "expires_in_days": 1});
    let key: CreatedApiKey = owner
        .client
        .post(&owner.path("/api-keys"), body)
        .await
        .unwrap();
    let robot = owner.client.bearer(key.key.expose());
    let rotated = new_keys(&owner, &robot, phone.id).await.unwrap();
    assert_ne!(rotated.peer.public_key, made.peer.public_key);
    assert_eq!(rotated.peer.machine.key_expires_at, phone.key_expires_at);

    let admin = connect(&server.database.setup).await;
    let over = "UPDATE machines SET key_expires_at = now(), expired = true WHERE id = $1";
    admin.execute(over, &[&phone.id.0]).await.unwrap();
    let refused = new_keys(&owner, &robot, phone.id).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.message.contains("sign in as a person"), "{refused}");
    let renewed = new_keys(&owner, &owner.client, phone.id).await.unwrap();
    assert!(renewed.peer.machine.key_expires_at > phone.key_expires_at);
    assert_eq!(renewed.peer.machine.life.state, MachineState::Offline);
    server.stop().await;
}

#[tokio::test]
async fn a_gateway_takes_up_so_often_and_hears_what_is_wrong_with_a_key() {
    let server = Server::start_with(|config| {
        config.limits.attach = Rate {
            count: 3,
            window: std::time::Duration::from_secs(300),
        };
    })
    .await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    let (_, spare) = owner.enrol("spare").await;
    owner.make_gateway(gate.machine_id).await;
    let body = json!({"name": "phone", "gateway": gate.machine_id, "preshared_key": true});
    let made = owner.phone(&owner.client, body).await.unwrap();
    let id = made.peer.machine.id;
    owner.attach(&gate, id, &machine("")).await.unwrap();
    // As after a restore without the master key: the org's key is another.
    let admin = connect(&server.database.setup).await;
    let another = "UPDATE static_peers SET preshared_key = '\\x02'::bytea || sha256('') || substr(sha256(''), 5)";
    admin.execute(another, &[]).await.unwrap();
    let refused = owner.attach(&gate, id, &machine("")).await.err().unwrap();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("new keys"), "{refused}");
    new_keys(&owner, &owner.client, id).await.unwrap();
    owner.attach(&gate, id, &machine("")).await.unwrap();
    assert_eq!(
        code(owner.attach(&gate, id, &machine("")).await),
        ErrorCode::RateLimited
    );
    assert_eq!(
        code(owner.attach(&spare, id, &machine("")).await),
        ErrorCode::NotFound,
        "another machine's count is its own"
    );
    server.stop().await;
}

#[tokio::test]
async fn tickets_are_void_from_the_commit_on_by_the_nodes_clock() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    owner.make_gateway(gate.machine_id).await;
    let body = json!({"name": "phone", "gateway": gate.machine_id});
    let made = owner.phone(&owner.client, body).await.unwrap();
    let keys = machine("");
    owner
        .attach(&gate, made.peer.machine.id, &keys)
        .await
        .unwrap();
    let mut admin = connect(&server.database.setup).await;
    let tx = admin.transaction().await.unwrap();
    let node = "SELECT set_config('ztna.now', '2020-01-01T00:00:00Z', true)";
    tx.query_one(node, &[]).await.unwrap();
    let change = "UPDATE static_peers SET revision = revision + 1";
    assert_eq!(tx.execute(change, &[]).await.unwrap(), 1);
    let locks =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    let locks: i64 = tx.query_one(locks, &[]).await.unwrap().get(0);
    assert_eq!(locks, 0, "all orgs' transactions would wait for this one");
    tx.commit().await.unwrap();
    let count = "SELECT count(*) FROM relay_revocations WHERE key_hash = sha256($1)
        AND at BETWEEN '2020-01-01T00:00:01Z' AND '2020-01-02'";
    let key = keys.wg_key.as_bytes().as_slice();
    let count: i64 = admin.query_one(count, &[&key]).await.unwrap().get(0);
    assert_eq!(count, 1);

    // A node says its own time.
    owner
        .attach(&gate, made.peer.machine.id, &keys)
        .await
        .unwrap();
    let before = jiff::Timestamp::now();
    new_keys(&owner, &owner.client, made.peer.machine.id)
        .await
        .unwrap();
    let latest = "SELECT max(at) FROM relay_revocations WHERE key_hash = sha256($1)";
    let at: jiff::Timestamp = admin.query_one(latest, &[&key]).await.unwrap().get(0);
    assert!(at > before && at <= jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1));
    server.stop().await;
}

#[tokio::test]
async fn a_posture_report_does_not_rest_on_what_a_node_remembers() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, enrolled) = owner.enrol("box").await;
    let _stream = Stream::connect(&server, &enrolled.node_key).await;
    let beat = async |posture: Value| {
        let body = json!({
            "agent_version": "0.1.0",
            "report": {"endpoints": [], "home_region": null, "disco_key": null},
            "posture": posture,
        });
        let machine = owner.as_machine(&enrolled.node_key);
        machine
            .call::<Value>(Method::POST, "/api/machine-heartbeat", body)
            .await
    };
    let posture = json!({"os_name": "Debian", "os_version": "6.1", "agent_version": "0.1.0"});
    beat(posture.clone()).await.unwrap();
    // Another node has ended the token, and this one has not heard of it.
    let admin = connect(&server.database.setup).await;
    let end = "UPDATE machines SET token_hash = sha256(token_hash) WHERE id = $1";
    admin.execute(end, &[&enrolled.machine_id.0]).await.unwrap();
    beat(Value::Null).await.unwrap();
    assert_eq!(code(beat(posture).await), ErrorCode::Unauthorized);
    server.stop().await;
}
