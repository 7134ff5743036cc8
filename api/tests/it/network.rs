//! Subnet routes, exit nodes and names: who offers, who approves, who is told.

use std::collections::BTreeMap;

use crate::common::Server;
use crate::common::client::{Client, Owner, code};
use crate::common::stream::Stream;
use ipnet::IpNet;
use reqwest::Method;
use serde_json::json;
use ztna_proto::api::{Registered, Role};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::SelfRecord;
use ztna_proto::network::{DnsRecord, DnsSettings, MAX_ROUTES, MachineRoutes};

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn offer(machine: &Client, routes: &[&str]) -> Result<MachineRoutes, ErrorBody> {
    let body = json!({ "routes": routes });
    machine.call(Method::PUT, "/api/machine-routes", body).await
}

async fn approve(
    owner: &Owner,
    who: &Client,
    machine: MachineId,
    routes: &[&str],
) -> Result<MachineRoutes, ErrorBody> {
    let path = owner.path(&format!("/machines/{machine}/routes"));
    let body = json!({ "approved": routes });
    who.call(Method::PUT, &path, body).await
}

/// The networks behind each peer that a machine sees, by name.
fn routes(stream: &Stream) -> BTreeMap<String, Vec<IpNet>> {
    let peers = stream.peers().into_iter();
    peers.map(|peer| (peer.name, peer.routes)).collect()
}

fn this(stream: &Stream) -> SelfRecord {
    serde_json::from_str(stream.map.this().raw().get()).unwrap()
}

fn of(machines: &[MachineRoutes], name: &str) -> Vec<(String, bool, bool)> {
    let machine = machines.iter().find(|machine| machine.name == name);
    let routes = machine.map(|machine| machine.routes.as_slice());
    let route = routes.unwrap_or_default().iter();
    route
        .map(|route| (route.prefix.to_string(), route.approved, route.primary))
        .collect()
}

#[tokio::test]
async fn an_approved_route_reaches_peers_and_a_withdrawn_one_leaves_them() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, router) = owner.enrol("router").await;
    let (_, laptop) = owner.enrol("laptop").await;
    let mut at_router = Stream::connect(&server, &router.node_key).await;
    let mut at_laptop = Stream::connect(&server, &laptop.node_key).await;
    let machine = owner.as_machine(&router.node_key);

    let offered = offer(&machine, &["10.7.0.0/16", "192.168.9.0/24"])
        .await
        .unwrap();
    assert!(offered.routes.iter().all(|route| !route.approved));
    let advertised = nets(&["10.7.0.0/16", "192.168.9.0/24"]);
    at_router
        .until("it is heard", |s| this(s).network.advertised == advertised)
        .await;
    assert!(this(&at_router).network.routes.is_empty());
    assert!(routes(&at_laptop)["router"].is_empty());

    let path = owner.path("/routes");
    let id = router.machine_id;
    let approved = approve(&owner, &owner.client, id, &["10.7.0.0/16"])
        .await
        .unwrap();
    assert_eq!(
        of(&[approved], "router"),
        [
            ("10.7.0.0/16".to_owned(), true, true),
            ("192.168.9.0/24".to_owned(), false, false)
        ]
    );
    let wanted = nets(&["10.7.0.0/16"]);
    at_laptop
        .until("it is told", |s| routes(s)["router"] == wanted)
        .await;
    at_router
        .until("it routes", |s| this(s).network.routes == wanted)
        .await;

    // The same offer again changes nothing.
    let seq = at_laptop.seq;
    offer(&machine, &["192.168.9.0/24", "10.7.0.0/16"])
        .await
        .unwrap();
    let list: Vec<MachineRoutes> = owner.client.get(&path).await.unwrap();
    assert_eq!(list.len(), 1);
    assert!(of(&list, "router")[0].1);

    // What is taken back is forgotten, approval included.
    offer(&machine, &["192.168.9.0/24"]).await.unwrap();
    at_laptop
        .until("it is gone", |s| routes(s)["router"].is_empty())
        .await;
    assert_eq!(at_laptop.seq, seq + 1);
    let again = offer(&machine, &["10.7.0.0/16"]).await.unwrap();
    assert_eq!(
        of(&[again], "router"),
        [("10.7.0.0/16".to_owned(), false, false)]
    );

    approve(&owner, &owner.client, id, &["10.7.0.0/16"])
        .await
        .unwrap();
    at_laptop
        .until("it is back", |s| routes(s)["router"] == wanted)
        .await;
    approve(&owner, &owner.client, id, &[]).await.unwrap();
    at_laptop
        .until("it is cut", |s| routes(s)["router"].is_empty())
        .await;
    owner
        .client
        .delete(&owner.path(&format!("/machines/{id}")))
        .await
        .unwrap();
    let list: Vec<MachineRoutes> = owner.client.get(&path).await.unwrap();
    assert!(list.is_empty());
}

#[tokio::test]
async fn what_makes_no_sense_or_is_not_theirs_is_refused() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, router) = owner.enrol("router").await;
    let machine = owner.as_machine(&router.node_key);
    let inside_v6 = format!("{}/64", router.ipv6);
    let inside_v6 = inside_v6.parse::<IpNet>().unwrap().trunc().to_string();
    for bad in [
        &["10.0.0.1/24"][..],
        &["0.0.0.0/0"],
        &["100.64.0.0/16"],
        &["127.0.0.0/8"],
        &[&inside_v6],
        &["ten"],
    ] {
        assert_eq!(
            code(offer(&machine, bad).await),
            ErrorCode::ValidationError,
            "{bad:?}"
        );
    }
    let many: Vec<String> = (0..=MAX_ROUTES).map(|n| format!("10.{n}.0.0/16")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(
        code(offer(&machine, &many).await),
        ErrorCode::ValidationError
    );
    offer(&machine, &many[1..]).await.unwrap();

    let id = router.machine_id;
    let missing = approve(&owner, &owner.client, id, &["10.200.0.0/16"]).await;
    assert_eq!(code(missing), ErrorCode::ValidationError);
    let nobody = approve(&owner, &owner.client, MachineId::generate(), &[]).await;
    assert_eq!(code(nobody), ErrorCode::NotFound);
    let member = owner.add(&server, "bob", Role::Member).await;
    let auditor = owner.add(&server, "carol", Role::Auditor).await;
    for who in [&member, &auditor] {
        assert_eq!(
            code(approve(&owner, who, id, &[]).await),
            ErrorCode::Forbidden
        );
    }
    let path = owner.path("/routes");
    assert_eq!(
        code(member.get::<Vec<MachineRoutes>>(&path).await),
        ErrorCode::Forbidden
    );
    assert!(auditor.get::<Vec<MachineRoutes>>(&path).await.is_ok());
    let rival = Owner::new(&server, "rival").await;
    assert_eq!(
        code(approve(&owner, &rival.client, id, &[]).await),
        ErrorCode::NotFound
    );
    assert_eq!(
        code(approve(&rival, &rival.client, id, &[]).await),
        ErrorCode::NotFound
    );
}

/// Only those whom the policy lets in see a network, each as much of it as is open to them.
#[tokio::test]
async fn the_policy_says_who_sees_a_route_and_who_needs_no_approval() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, router) = owner.enrol("router").await;
    let (_, one) = owner.enrol("one").await;
    let (_, two) = owner.enrol("two").await;
    let rule = |src: &Registered, dst: &str| {
        format!(
            r#"{{"action": "accept", "src": ["machine:{}"], "dst": ["{dst}"]}},"#,
            src.machine_id
        )
    };
    let text = format!(
        r#"{{"acls": [{}{}{}], "autoApprovers": {{"routes": {{"10.0.0.0/8": ["autogroup:member"]}}, "exitNode": ["autogroup:member"]}}}}"#,
        rule(&one, "10.1.0.0/16:*"),
        rule(&two, &format!("{}:22", router.ipv4)),
        rule(&two, "autogroup:internet:443"),
    );
    owner.put_policy(&text).await.unwrap();
    let mut at_one = Stream::connect(&server, &one.node_key).await;
    let mut at_two = Stream::connect(&server, &two.node_key).await;
    let at_router = Stream::connect(&server, &router.node_key).await;
    assert!(!routes(&at_one).contains_key("router"));

    let machine = owner.as_machine(&router.node_key);
    let all = [
        "10.1.2.0/24",
        "10.2.0.0/16",
        "192.168.1.0/24",
        "0.0.0.0/0",
        "::/0",
    ];
    let offered = offer(&machine, &all).await.unwrap();
    let approved = of(&[offered], "router");
    let refused: Vec<_> = approved
        .iter()
        .filter(|(_, approved, _)| !approved)
        .collect();
    assert_eq!(refused, [&("192.168.1.0/24".to_owned(), false, false)]);

    let wanted = nets(&["10.1.2.0/24"]);
    at_one
        .until("one sees its part", |s| {
            routes(s).get("router") == Some(&wanted)
        })
        .await;
    let exit = nets(&["0.0.0.0/0", "::/0"]);
    at_two
        .until("two sees the exit", |s| {
            routes(s).get("router") == Some(&exit)
        })
        .await;
    let mut at_router = at_router;
    at_router
        .until("it carries what is public", |s| {
            let routes = this(s).network.routes;
            let carries = |address: &str| {
                let address: std::net::IpAddr = address.parse().unwrap();
                routes.iter().any(|route| route.contains(&address))
            };
            carries("10.1.2.3")
                && carries("1.1.1.1")
                && carries("2606::1")
                && !carries("192.168.1.1")
                && !carries("172.16.0.1")
                && !carries("100.64.0.1")
        })
        .await;

    // Another policy takes it away. The exit node may stay a peer, for its offer is everything.
    owner
        .put_policy(&text.replace("10.1.0.0/16", "10.3.0.0/16"))
        .await
        .unwrap();
    at_one
        .until("one sees no network", |s| {
            routes(s).get("router").is_none_or(Vec::is_empty)
        })
        .await;
}

#[tokio::test]
async fn of_two_routers_the_one_that_is_there_is_primary() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, first) = owner.enrol("first").await;
    let (_, second) = owner.enrol("second").await;
    let prefix = "10.7.0.0/16";
    for router in [&first, &second] {
        offer(&owner.as_machine(&router.node_key), &[prefix])
            .await
            .unwrap();
        approve(&owner, &owner.client, router.machine_id, &[prefix])
            .await
            .unwrap();
    }
    assert!(first.machine_id < second.machine_id, "ids grow with time");
    let primary = async || -> String {
        let list: Vec<MachineRoutes> = owner.client.get(&owner.path("/routes")).await.unwrap();
        let primary = |machine: &&MachineRoutes| machine.routes[0].primary;
        let found: Vec<_> = list.iter().filter(primary).collect();
        assert_eq!(found.len(), 1);
        found[0].name.clone()
    };
    assert_eq!(primary().await, "first");
    let at_second = Stream::connect(&server, &second.node_key).await;
    assert_eq!(primary().await, "second");
    let at_first = Stream::connect(&server, &first.node_key).await;
    assert_eq!(primary().await, "first");
    drop((at_first, at_second));
}

#[tokio::test]
async fn names_are_stored_checked_and_told_to_every_machine() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, machine) = owner.enrol("a").await;
    let mut stream = Stream::connect(&server, &machine.node_key).await;
    assert_eq!(this(&stream).network.dns, DnsSettings::default());
    let path = owner.path("/dns");
    let before: DnsSettings = owner.client.get(&path).await.unwrap();
    assert_eq!(before, DnsSettings::default());

    let settings = DnsSettings {
        nameservers: vec![[9, 9, 9, 9].into()],
        split: [("corp.example".to_owned(), vec![[10, 0, 0, 53].into()])].into(),
        search: vec!["corp.example".to_owned()],
        records: vec![DnsRecord {
            name: "printer.corp.example".to_owned(),
            address: [10, 0, 0, 9].into(),
        }],
    };
    let stored: DnsSettings = owner
        .client
        .call(Method::PUT, &path, &settings)
        .await
        .unwrap();
    assert_eq!(stored, settings);
    stream
        .until("it is told", |s| this(s).network.dns == settings)
        .await;
    let later = Stream::connect(&server, &owner.enrol("b").await.1.node_key).await;
    assert_eq!(this(&later).network.dns, settings);

    for bad in [
        json!({ "search": ["Not A Name"] }),
        json!({ "nameservers": ["127.0.0.1"] }),
        json!({ "nameservers": vec!["9.9.9.9"; 9] }),
        json!({ "split": { "a.b": [] } }),
        json!({ "later": true }),
    ] {
        let refused: Result<DnsSettings, _> = owner.client.call(Method::PUT, &path, bad).await;
        assert_eq!(code(refused), ErrorCode::ValidationError);
    }
    let member = owner.add(&server, "bob", Role::Member).await;
    assert_eq!(member.get::<DnsSettings>(&path).await.unwrap(), settings);
    let refused: Result<DnsSettings, _> = member.call(Method::PUT, &path, &settings).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    let rival = Owner::new(&server, "rival").await;
    let theirs: DnsSettings = rival.client.get(&rival.path("/dns")).await.unwrap();
    assert_eq!(theirs, DnsSettings::default());
    assert_eq!(
        code(rival.client.get::<DnsSettings>(&path).await),
        ErrorCode::NotFound
    );
}
