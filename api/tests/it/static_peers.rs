//! Static peers: devices with a stock WireGuard app, and the gateways that carry them.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{Machine, RegisterRequest, Registered, Role};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::MachineId;
use ztna_proto::keys::{WgPrivateKey, WgPublicKey};
use ztna_proto::machines::MachineState;
use ztna_proto::static_peers::{Attached, CarriedPeer, Gateway, StaticPeer, StaticPeerConfig};

use crate::common::acts::this;
use crate::common::client::{Owner, code, machine};
use crate::common::stream::Stream;
use crate::common::{Client, Server, connect};

const ENDPOINT: &str = "vpn.example.com:51820";

impl Owner {
    /// In an org that lets plain devices in.
    pub async fn make_gateway(&self, id: MachineId) -> Gateway {
        self.set(json!({"pq": "preferred"})).await;
        let path = self.path(&format!("/machines/{id}/gateway"));
        let body = json!({ "endpoint": ENDPOINT });
        self.client.call(Method::PUT, &path, body).await.unwrap()
    }

    pub async fn phone(&self, who: &Client, body: Value) -> Result<StaticPeerConfig, ErrorBody> {
        who.post(&self.path("/static-peers"), body).await
    }

    pub async fn rotate(&self, id: MachineId, body: Value) -> Result<StaticPeerConfig, ErrorBody> {
        let path = self.path(&format!("/static-peers/{id}/keys"));
        self.client.post(&path, body).await
    }

    pub async fn phones(&self, who: &Client) -> Vec<StaticPeer> {
        who.get(&self.path("/static-peers")).await.unwrap()
    }

    /// As a gateway's agent does it, with keys like those of any machine.
    pub async fn attach(
        &self,
        gateway: &Registered,
        id: MachineId,
        keys: &RegisterRequest,
    ) -> Result<Attached, ErrorBody> {
        let body =
            json!({"wg_key": keys.wg_key, "kem_key": keys.kem_key, "agent_version": "0.1.0"});
        let path = format!("/api/machine-static-peers/{id}");
        self.as_machine(&gateway.node_key).post(&path, body).await
    }
}

fn line<'a>(config: &'a StaticPeerConfig, name: &str) -> Option<&'a str> {
    let lines = config.config.expose().lines();
    let mut values = lines.filter_map(|line| line.split_once(" = "));
    values.find(|(key, _)| *key == name).map(|(_, value)| value)
}

pub fn carried(stream: &Stream) -> Vec<CarriedPeer> {
    let duty = this(stream).network.gateway;
    duty.map(|duty| duty.peers).unwrap_or_default()
}

#[tokio::test]
async fn a_phone_joins_through_a_gateway() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    let (_, peer) = owner.enrol("peer").await;
    let mut at_gate = Stream::connect(&server, &gate.node_key).await;
    let mut at_peer = Stream::connect(&server, &peer.node_key).await;
    let gateway = owner.make_gateway(gate.machine_id).await;
    assert_eq!((gateway.listen_port, gateway.static_peers), (51820, 0));
    at_gate
        .until("the duty", |s| this(s).network.gateway.is_some())
        .await;

    let body = json!({"name": "Phone", "gateway": gate.machine_id, "preshared_key": true});
    let made = owner.phone(&owner.client, body).await.unwrap();
    let id = made.peer.machine.id;
    let gate_key = owner.look(gate.machine_id).await.wg_key;
    assert_eq!(line(&made, "PublicKey"), Some(&*gate_key.to_string()));
    assert_eq!(line(&made, "Endpoint"), Some(ENDPOINT));
    let addresses = format!(
        "{}/32, {}/128",
        made.peer.machine.ipv4, made.peer.machine.ipv6
    );
    assert_eq!(line(&made, "Address"), Some(&*addresses));
    let networks = line(&made, "AllowedIPs").unwrap();
    assert!(networks.starts_with("100.64.0.0/10, fd"), "{networks}");
    assert!(made.qr_svg.is_some() && made.qr_text.is_some());
    assert_eq!(made.peer.machine.name, "phone");
    assert_eq!(made.peer.machine.user.as_deref(), Some("acme@example.com"));
    assert_eq!(made.peer.machine.life.state, MachineState::Offline);
    let message = made.peer.message.clone().unwrap();
    assert!(message.contains("gate has not taken it up"), "{message}");

    at_gate
        .until("the peer to carry", |s| {
            carried(s) == [CarriedPeer { id, revision: 1 }]
        })
        .await;
    assert_eq!(at_peer.peer_names(), ["gate"], "it is not there yet");
    let keys = machine("");
    let attached = owner.attach(&gate, id, &keys).await.unwrap();
    assert_eq!(attached.machine.ipv4, made.peer.machine.ipv4);
    assert_eq!(attached.public_key, made.peer.public_key);
    let preshared = attached.preshared_key.unwrap().to_base64();
    assert_eq!(line(&made, "PresharedKey"), Some(&**preshared));
    for stream in [&mut at_gate, &mut at_peer] {
        stream
            .until("the phone", |s| {
                let seen = s.peers().into_iter().find(|peer| peer.name == "phone");
                seen.is_some_and(|seen| seen.wg_key == keys.wg_key && seen.kem_key.is_some())
            })
            .await;
    }
    let mut at_phone = Stream::connect(&server, &attached.machine.node_key).await;
    assert_eq!(at_phone.peer_names(), ["gate", "peer"]);
    assert_eq!(this(&at_phone).dns_name, "phone.acme.ztna.internal");
    let list = owner.phones(&owner.client).await;
    assert!(list.len() == 1 && list[0].machine.online, "{list:?}");
    assert_eq!(list[0].message, None);

    // What is decided of it is a machine's.
    owner
        .does(id, json!({"action": "quarantine", "reason": "lost"}))
        .await;
    at_peer
        .until("without the phone", |s| s.peer_names() == ["gate"])
        .await;
    at_phone.until("nobody", |s| s.peers().is_empty()).await;
    owner.does(id, json!({"action": "release"})).await;
    at_phone.until("all", |s| s.peers().len() == 2).await;
    let wipe = json!({"action": "wipe", "confirm": "phone"});
    assert_eq!(
        code(owner.act(&owner.client, id, wipe).await),
        ErrorCode::Conflict
    );
    owner
        .change(&owner.client, id, json!({"name": "handset"}))
        .await
        .unwrap();
    at_peer
        .until("its new name", |s| {
            s.peer_names().contains(&"handset".to_owned())
        })
        .await;
    owner
        .client
        .delete(&owner.path(&format!("/machines/{id}")))
        .await
        .unwrap();
    assert_eq!(at_phone.ends().await.code, ErrorCode::MachineDeleted);
    at_gate
        .until("nobody to carry", |s| carried(s).is_empty())
        .await;
    assert_eq!(
        code(owner.attach(&gate, id, &keys).await),
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn a_static_peer_sees_what_a_machine_with_its_labels_sees() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let tags = ["tag:a", "tag:b", "tag:c"];
    let owners = r#""tagOwners": {"tag:a": [], "tag:b": [], "tag:c": []}"#;
    owner.put_policy(&format!("{{{owners}}}")).await.unwrap();
    let mut others = Vec::new();
    for tag in tags {
        let key = owner.key(json!({"tags": [tag], "reusable": true})).await;
        others.push(owner.enrol_with(&key, &format!("m-{}", &tag[4..])).await);
    }
    let gate = &others[2];
    owner.make_gateway(gate.machine_id).await;
    let key = owner.key(json!({"tags": ["tag:a"]})).await;
    let twin = owner.enrol_with(&key, "twin").await;
    let body = json!({"name": "phone", "gateway": gate.machine_id, "tags": ["tag:a"]});
    let phone = owner.phone(&owner.client, body).await.unwrap();
    assert_eq!(phone.peer.machine.user, None, "one with tags is nobody's");
    let attached = owner
        .attach(gate, phone.peer.machine.id, &machine(""))
        .await
        .unwrap();

    let accept = |src: &str, dst: &str| {
        format!(r#"{{"action": "accept", "src": ["{src}"], "dst": ["{dst}"]}}"#)
    };
    let policies = [
        vec![],
        vec![accept("*", "*:*")],
        vec![accept("tag:a", "tag:b:22")],
        vec![accept("tag:b", "tag:a:80"), accept("tag:a", "tag:c:*")],
        vec![
            accept("tag:c", "tag:a:443,8080"),
            accept("tag:b", "tag:c:*"),
        ],
        vec![
            accept("*", "*:*"),
            r#"{"action": "deny", "src": ["tag:a"], "dst": ["tag:b:22"]}"#.to_owned(),
        ],
        vec![accept("tag:a", "tag:a:*")],
    ];
    for rules in policies {
        let text = format!("{{{owners}, \"acls\": [{}]}}", rules.join(", "));
        owner.put_policy(&text).await.unwrap();
        let at_twin = Stream::connect(&server, &twin.node_key).await;
        let at_phone = Stream::connect(&server, &attached.machine.node_key).await;
        assert_eq!(
            at_phone.map.filter().raw().get(),
            at_twin.map.filter().raw().get(),
            "{text}"
        );
        let seen = |stream: &Stream, twin: &str| {
            let mut seen: Vec<_> = stream
                .peers()
                .into_iter()
                .map(|peer| (peer.name.replace(twin, "the other"), peer.groups))
                .collect();
            seen.sort();
            seen
        };
        assert_eq!(seen(&at_phone, "twin"), seen(&at_twin, "phone"), "{text}");
        for other in &others {
            let at_other = Stream::connect(&server, &other.node_key).await;
            let groups = |name: &str| {
                let peers = at_other.peers();
                peers
                    .into_iter()
                    .find(|peer| peer.name == name)
                    .map(|peer| peer.groups)
            };
            assert_eq!(groups("phone"), groups("twin"), "{text}");
        }
    }
}

#[tokio::test]
async fn new_keys_end_what_was_before() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    let (_, peer) = owner.enrol("peer").await;
    owner.make_gateway(gate.machine_id).await;
    let own = WgPrivateKey::generate(&mut rand::rng()).public();
    let body = json!({"name": "phone", "gateway": gate.machine_id, "public_key": own});
    let made = owner.phone(&owner.client, body).await.unwrap();
    assert_eq!(made.peer.public_key, own);
    assert_eq!(line(&made, "PrivateKey"), None);
    assert!(made.qr_svg.is_none());
    let id = made.peer.machine.id;
    let keys = machine("");
    let before = owner.attach(&gate, id, &keys).await.unwrap();
    let mut at_gate = Stream::connect(&server, &gate.node_key).await;
    let mut at_peer = Stream::connect(&server, &peer.node_key).await;
    let mut at_phone = Stream::connect(&server, &before.machine.node_key).await;
    assert_eq!(at_peer.peer_names(), ["gate", "phone"]);

    let body = json!({"name": "other", "gateway": gate.machine_id, "public_key": own});
    assert_eq!(
        code(owner.phone(&owner.client, body).await),
        ErrorCode::Conflict
    );
    let rotated = owner.rotate(id, json!({})).await.unwrap();
    assert_ne!(rotated.peer.public_key, own);
    assert!(line(&rotated, "PrivateKey").is_some() && rotated.qr_svg.is_some());
    at_peer
        .until("the phone is out", |s| s.peer_names() == ["gate"])
        .await;
    at_gate
        .until("the new keys", |s| {
            carried(s) == [CarriedPeer { id, revision: 2 }]
        })
        .await;
    while !at_phone.is_cut().await {}
    let old = owner.as_machine(&before.machine.node_key);
    let hash = format!("/api/kem-keys/{}", ztna_proto::KemKeyHash([0; 32]));
    assert_eq!(code(old.get::<Value>(&hash).await), ErrorCode::Unauthorized);
    let admin = connect(&server.database.setup).await;
    let revoked: i64 = admin
        .query_one(
            "SELECT count(*) FROM relay_revocations WHERE key_hash = sha256($1)",
            &[&keys.wg_key.as_bytes().as_slice()],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(revoked, 1, "its relay tickets are void");

    // Taken up again, maybe with the same keys of the mesh: back, and with a ticket that counts.
    let after = owner.attach(&gate, id, &keys).await.unwrap();
    assert_eq!(after.public_key, rotated.peer.public_key);
    assert_eq!(after.machine.ipv4, before.machine.ipv4);
    at_peer
        .until("the phone is back", |s| s.peer_names() == ["gate", "phone"])
        .await;
    // Its token is no machine's that could be registered as one of its own.
    let mut thief = keys.clone();
    thief.name = "thief".to_owned();
    thief.node_key = Some(after.machine.node_key.clone());
    let with_key = owner.client.bearer(owner.key.key.expose());
    assert_eq!(
        code(with_key.register(&thief).await),
        ErrorCode::RegistrationConflict
    );
}

#[tokio::test]
async fn a_gateway_that_is_out_takes_its_peers_with_it() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    let (_, spare) = owner.enrol("spare").await;
    let (_, peer) = owner.enrol("peer").await;
    owner.make_gateway(gate.machine_id).await;
    owner.make_gateway(spare.machine_id).await;
    let body = json!({"name": "phone", "gateway": gate.machine_id});
    let made = owner.phone(&owner.client, body).await.unwrap();
    let id = made.peer.machine.id;
    let mut at_peer = Stream::connect(&server, &peer.node_key).await;
    let mut at_gate = Stream::connect(&server, &gate.node_key).await;
    let message = async || {
        let phones = owner.phones(&owner.client).await;
        assert_eq!(phones[0].machine.life.state, MachineState::Offline);
        phones[0].message.clone().unwrap_or_default()
    };
    let all = ["gate", "phone", "spare"];
    for (there, back) in [
        (
            json!({"action": "quarantine", "reason": ""}),
            json!({"action": "release"}),
        ),
        (
            json!({"action": "lock", "reason": ""}),
            json!({"action": "unlock"}),
        ),
        (
            json!({"action": "disable", "reason": ""}),
            json!({"action": "enable"}),
        ),
    ] {
        let attached = owner.attach(&gate, id, &machine("")).await.unwrap();
        at_peer.until("the phone", |s| s.peer_names() == all).await;
        owner.does(gate.machine_id, there.clone()).await;
        at_peer
            .until("neither", |s| s.peer_names() == ["spare"])
            .await;
        assert!(
            owner.attach(&gate, id, &machine("")).await.is_err(),
            "{there}"
        );
        let token = owner.as_machine(&attached.machine.node_key);
        let hash = format!("/api/kem-keys/{}", ztna_proto::KemKeyHash([0; 32]));
        assert_eq!(
            code(token.get::<Value>(&hash).await),
            ErrorCode::Unauthorized
        );
        let said = message().await;
        assert!(said.contains("gate is not in the network"), "{said}");
        owner.does(gate.machine_id, back).await;
        at_peer
            .until("the gateway alone", |s| s.peer_names() == ["gate", "spare"])
            .await;
    }

    // To another gateway, with the same address and name.
    owner.attach(&gate, id, &machine("")).await.unwrap();
    let moved = owner
        .rotate(id, json!({"gateway": spare.machine_id}))
        .await
        .unwrap();
    assert_eq!(moved.peer.machine.ipv4, made.peer.machine.ipv4);
    assert_eq!(moved.peer.gateway_name.as_deref(), Some("spare"));
    assert_eq!(
        code(owner.attach(&gate, id, &machine("")).await),
        ErrorCode::NotFound
    );
    owner.attach(&spare, id, &machine("")).await.unwrap();
    at_peer.until("the phone", |s| s.peer_names() == all).await;

    // A gateway that is one no more, and one that is deleted.
    for ending in ["/gateway", ""] {
        let path = owner.path(&format!("/machines/{}{ending}", spare.machine_id));
        owner.client.delete(&path).await.unwrap();
        at_peer
            .until("no phone", |s| {
                !s.peer_names().contains(&"phone".to_owned())
            })
            .await;
        let said = message().await;
        assert!(said.contains("its gateway is gone"), "{said}");
        assert_eq!(
            code(owner.rotate(id, json!({})).await),
            ErrorCode::ValidationError
        );
        if ending.is_empty() {
            break;
        }
        owner.make_gateway(spare.machine_id).await;
        let body = json!({"gateway": spare.machine_id});
        owner.rotate(id, body).await.unwrap();
        owner.attach(&spare, id, &machine("")).await.unwrap();
        at_peer.until("the phone", |s| s.peer_names() == all).await;
    }
    at_gate
        .until("nobody to carry", |s| carried(s).is_empty())
        .await;
    // With its org's machines, it goes for good.
    let body = json!({"gateway": gate.machine_id});
    owner.rotate(id, body).await.unwrap();
    let path = owner.path(&format!("/machines/{}", gate.machine_id));
    owner.client.delete(&path).await.unwrap();
    owner
        .client
        .delete(&owner.path(&format!("/machines/{id}")))
        .await
        .unwrap();
    assert!(owner.phones(&owner.client).await.is_empty());
}

#[tokio::test]
async fn members_have_devices_of_their_own_and_no_others() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "bob", Role::Member).await;
    let (_, gate) = owner.enrol("gate").await;
    let (_, peer) = owner.enrol("peer").await;
    let path = owner.path(&format!("/machines/{}/gateway", gate.machine_id));
    let refused = member
        .call::<Value>(Method::PUT, &path, json!({ "endpoint": ENDPOINT }))
        .await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    let body = |name: &str| json!({"name": name, "gateway": gate.machine_id});
    owner.set(json!({"pq": "preferred"})).await;
    let early = owner.phone(&member, body("phone")).await;
    assert_eq!(code(early), ErrorCode::ValidationError);
    owner.make_gateway(gate.machine_id).await;
    let gateways: Vec<Gateway> = member.get(&owner.path("/gateways")).await.unwrap();
    assert_eq!(gateways.len(), 1);

    let theirs = owner.phone(&owner.client, body("boss")).await.unwrap();
    let own = owner.phone(&member, body("phone")).await.unwrap();
    assert_eq!(own.peer.machine.user.as_deref(), Some("bob@example.com"));
    assert_eq!(
        code(owner.phone(&member, body("boss")).await),
        ErrorCode::Conflict
    );
    let seen = owner.phones(&member).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(owner.phones(&owner.client).await.len(), 2);
    let keys = |id: MachineId| owner.path(&format!("/static-peers/{id}/keys"));
    let stolen: Result<StaticPeerConfig, _> =
        member.post(&keys(theirs.peer.machine.id), json!({})).await;
    assert_eq!(code(stolen), ErrorCode::NotFound);
    let id = own.peer.machine.id;
    let _: StaticPeerConfig = member.post(&keys(id), json!({})).await.unwrap();
    let user: Vec<ztna_proto::api::Member> =
        owner.client.get(&owner.path("/members")).await.unwrap();
    let boss = user.iter().find(|m| m.email == "acme@example.com").unwrap();
    let mut for_other = body("spy");
    for_other["user"] = json!(boss.user);
    assert_eq!(
        code(owner.phone(&member, for_other).await),
        ErrorCode::Forbidden
    );
    let bob = user.iter().find(|m| m.email == "bob@example.com").unwrap();
    let mut for_bob = body("tablet");
    for_bob["user"] = json!(bob.user);
    let given = owner.phone(&owner.client, for_bob).await.unwrap();
    assert_eq!(given.peer.machine.user.as_deref(), Some("bob@example.com"));

    // Nobody gets around a hold with another device, nor with new keys.
    owner
        .does(id, json!({"action": "quarantine", "reason": ""}))
        .await;
    let refused: Result<StaticPeerConfig, _> = member.post(&keys(id), json!({})).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    let second = owner.phone(&member, body("second")).await.unwrap();
    assert_eq!(second.peer.machine.life.state, MachineState::Pending);
    // One that is in may have become the held device by its new keys.
    let tablet = given.peer.machine.id;
    assert!(given.peer.machine.life.state != MachineState::Pending);
    let moved: StaticPeerConfig = member.post(&keys(tablet), json!({})).await.unwrap();
    assert_eq!(moved.peer.machine.life.state, MachineState::Pending);

    // Only its gateway takes it up; and only a machine with an agent is one.
    assert_eq!(
        code(owner.attach(&peer, id, &machine("")).await),
        ErrorCode::NotFound
    );
    let path = owner.path(&format!("/machines/{id}/gateway"));
    for (path, body) in [
        (path, json!({ "endpoint": ENDPOINT })),
        (
            owner.path(&format!("/machines/{}/gateway", peer.machine_id)),
            json!({"endpoint": "vpn.example.com:1\nPostUp = reboot"}),
        ),
        (
            owner.path(&format!("/machines/{}/gateway", peer.machine_id)),
            json!({"endpoint": ENDPOINT, "listen_port": 0}),
        ),
    ] {
        let refused: Result<Value, _> = owner.client.call(Method::PUT, &path, body).await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }
}

#[tokio::test]
async fn what_was_shown_once_is_kept_nowhere() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    owner.make_gateway(gate.machine_id).await;
    let body = json!({"name": "phone", "gateway": gate.machine_id, "preshared_key": true});
    let made = owner.phone(&owner.client, body).await.unwrap();
    let key_of = |name: &str| -> WgPublicKey { line(&made, name).unwrap().parse().unwrap() };
    let (private, preshared) = (key_of("PrivateKey"), key_of("PresharedKey"));
    assert_eq!(
        WgPrivateKey::from_bytes(private.0).public(),
        made.peer.public_key
    );
    let machines: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    assert!(machines.iter().any(|machine| machine.name == "phone"));

    let admin = connect(&server.database.setup).await;
    let tables = admin
        .query(
            "SELECT c.oid::regclass::text FROM pg_class c
             WHERE c.relnamespace = 'ztna'::regnamespace AND c.relkind IN ('r', 'p')",
            &[],
        )
        .await
        .unwrap();
    let hex = |key: &WgPublicKey| ztna_proto::keys::hex(key.as_bytes());
    let mut rows = 0;
    let mut saw_public = false;
    for table in &tables {
        let table: &str = table.get(0);
        let found = admin
            .query(&format!("SELECT row_to_json(t)::text FROM {table} t"), &[])
            .await
            .unwrap();
        for row in &found {
            let text: String = row.get(0);
            rows += 1;
            saw_public |= text.contains(&hex(&made.peer.public_key));
            for secret in [&private, &preshared] {
                let there = text.contains(&hex(secret)) || text.contains(&secret.to_string());
                assert!(!there, "{table}: {text}");
            }
        }
    }
    assert!(rows > 10 && saw_public, "the search finds what is there");
}
