//! What dashboards hear, who hears it, and when they hear no more.

mod ends;

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{CreatedApiKey, Me, Member, Registered, Role};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, RegionId};
use ztna_proto::netmap::{ClientMessage, VolatileReport};
use ztna_proto::realtime::{Channel, RealtimeMessage, RowChange};

use crate::common::client::{Owner, machine};
use crate::common::listener::{Listener, open};
use crate::common::redis::Redis;
use crate::common::stream::Stream;
use crate::common::{Client, Server, connect};
use crate::isolation::rules::posture_policy;

/// What only owners, admins and auditors hear.
const HIDDEN: [Channel; 4] = [Channel::Audit, Channel::Keys, Channel::Acl, Channel::Routes];
/// Everything but who is there and the log itself.
const ROWS: [Channel; 8] = [
    Channel::Machines,
    Channel::Members,
    Channel::Keys,
    Channel::Posture,
    Channel::Dns,
    Channel::Acl,
    Channel::Routes,
    Channel::Relays,
];

async fn id_of(client: &Client) -> String {
    let me: Me = client.get("/api/auth/me").await.unwrap();
    me.id.to_string()
}

async fn put_dns(owner: &Owner, domain: &str) {
    let (path, body) = (owner.path("/dns"), json!({ "search": [domain] }));
    let call = owner.client.call::<Value>(Method::PUT, &path, body);
    call.await.unwrap();
}

/// A machine that is a person's own.
async fn own_machine(owner: &Owner, client: &Client, name: &str) -> Registered {
    let mut request = machine(name);
    request.org = Some(owner.org.id);
    client.register(&request).await.unwrap()
}

#[tokio::test]
async fn each_channel_hears_what_its_reader_may_read() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let bob = owner.add(&server, "bob", Role::Member).await;
    let rival = Owner::new(&server, "rival").await;
    let (mut at_owner, refused) = Listener::on(&server, owner.org.id, &owner.client, &ROWS).await;
    assert_eq!(refused, []);
    let (mut at_bob, refused) = Listener::on(&server, owner.org.id, &bob, &Channel::ALL).await;
    assert_eq!(refused, HIDDEN);
    let (mut at_rival, _) = Listener::on(&server, rival.org.id, &rival.client, &ROWS).await;

    // A change of everything that has a channel.
    let (_, box_) = owner.enrol("box").await;
    let bobs = own_machine(&owner, &bob, "laptop").await;
    let path = owner.path(&format!("/machines/{}", bobs.machine_id));
    let call = owner
        .client
        .call::<Value>(Method::PATCH, &path, json!({"name": "desk"}));
    call.await.unwrap();
    let body = json!({"email": "guest@example.com", "role": "member"});
    owner
        .client
        .post::<Value>(&owner.path("/invitations"), body)
        .await
        .unwrap();
    let body = json!({"scopes": ["read"], "expires_in_days": 1, "description": "robot"});
    let key: CreatedApiKey = owner
        .client
        .post(&owner.path("/api-keys"), body)
        .await
        .unwrap();
    put_dns(&owner, "example.com").await;
    let as_machine = owner.as_machine(&box_.node_key);
    let body = json!({"routes": ["10.0.0.0/24"]});
    let call = as_machine.call::<Value>(Method::PUT, "/api/machine-routes", body);
    call.await.unwrap();
    owner.put_policy("{\"acls\": []}").await.unwrap();
    let body = posture_policy("disks");
    owner
        .client
        .post::<Value>(&owner.path("/posture/policies"), body)
        .await
        .unwrap();
    let region = crate::relays::region(900, "own");
    let path = owner.path("/relays/900");
    let call = owner.client.call::<Value>(Method::PUT, &path, region);
    call.await.unwrap();
    let path = owner.path(&format!("/members/{}", id_of(&bob).await));
    let call = owner
        .client
        .call::<Member>(Method::PATCH, &path, json!({"role": "member"}));
    call.await.unwrap();
    owner
        .client
        .delete(&owner.path(&format!("/machines/{}", bobs.machine_id)))
        .await
        .unwrap();

    let heard = at_owner.until("machine.delete").await;
    let seqs: Vec<i64> = heard.iter().map(|event| event.seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    let has = |channel, event, action: &str| {
        let found = heard.iter().find(|e| e.action == action);
        let found = found.unwrap_or_else(|| panic!("{action} was not heard"));
        assert_eq!((found.channel, found.event), (channel, event), "{action}");
        assert!(found.actor.is_some(), "{action}");
    };
    has(Channel::Machines, RowChange::Insert, "machine.create");
    has(Channel::Machines, RowChange::Update, "machine.update");
    has(Channel::Machines, RowChange::Delete, "machine.delete");
    has(Channel::Members, RowChange::Insert, "invitation.create");
    has(Channel::Keys, RowChange::Insert, "api_key.create");
    has(Channel::Dns, RowChange::Insert, "dns.create");
    has(Channel::Routes, RowChange::Insert, "route.create");
    has(Channel::Acl, RowChange::Insert, "policy.save");
    has(Channel::Posture, RowChange::Insert, "posture_policy.create");
    has(Channel::Relays, RowChange::Insert, "relay_region.create");
    let renamed = heard.iter().find(|e| e.action == "machine.update").unwrap();
    assert_eq!(
        renamed.id.as_deref(),
        Some(bobs.machine_id.to_string().as_str())
    );
    assert!(
        renamed.columns.contains(&"name".to_owned()),
        "{:?}",
        renamed.columns
    );
    assert!(renamed.after.as_ref().unwrap().get().contains("desk"));
    // No secret travels, whoever hears.
    let told = serde_json::to_string(&heard).unwrap();
    assert!(!told.contains(key.key.expose()) && told.contains("[secret]"));

    // The member: what every member may read, without values and actors, and his own machine.
    let heard = at_bob.until("machine.delete").await;
    let mut actions: BTreeSet<&str> = heard.iter().map(|event| event.action.as_str()).collect();
    // The policy judges his machine within a second, maybe before it is deleted.
    actions.remove("posture.judge");
    let expected = [
        "dns.create",
        "machine.create",
        "machine.delete",
        "machine.update",
        "relay_node.create",
        "relay_region.create",
    ];
    assert_eq!(actions, BTreeSet::from(expected));
    for event in &heard {
        assert!(event.actor.is_none() && event.before.is_none() && event.after.is_none());
        if matches!(event.channel, Channel::Machines | Channel::Posture) {
            assert_eq!(event.id, Some(bobs.machine_id.to_string()));
        }
    }

    // Another org hears its own rows, and nothing before them.
    put_dns(&rival, "rival.example").await;
    let first = at_rival.event().await;
    assert_eq!(first.action, "dns.create");
    assert!(first.after.unwrap().get().contains("rival.example"));
    server.stop().await;
}

#[tokio::test]
async fn the_audit_channel_has_whole_rows() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let auditor = owner.add(&server, "eve", Role::Auditor).await;
    let (mut listener, refused) =
        Listener::on(&server, owner.org.id, &auditor, &[Channel::Audit]).await;
    assert_eq!(refused, []);
    put_dns(&owner, "example.com").await;
    let RealtimeMessage::Audit(heard) = listener.next().await else {
        panic!("no row");
    };
    let page: Value = auditor.get(&owner.path("/audit?limit=1")).await.unwrap();
    assert_eq!(serde_json::to_value(&heard).unwrap(), page["entries"][0]);
    assert_eq!(heard.action, "dns.create");
    server.stop().await;
}

/// Before its first report, a machine is not spoken of.
fn report() -> ClientMessage {
    ClientMessage::Report(VolatileReport {
        home_region: Some(RegionId(1)),
        ..VolatileReport::default()
    })
}

/// Waits until the machine is told to be there, or not.
async fn comes(listener: &mut Listener, id: MachineId, wanted: bool) {
    loop {
        if let RealtimeMessage::Presence { machine, online } = listener.next().await
            && (machine, online) == (id, wanted)
        {
            return;
        }
    }
}

#[tokio::test]
async fn events_and_presence_cross_nodes_with_and_without_the_store() {
    let mut redis = Redis::start();
    let one = Server::start_with(|config| config.kv_url = Some(redis.url())).await;
    let two = one.beside(|config| config.kv_url = Some(redis.url())).await;
    let owner = Owner::new(&one, "acme").await;
    let bob = owner.add(&one, "bob", Role::Member).await;
    let (_, hers) = owner.enrol("box").await;
    let his = own_machine(&owner, &bob, "laptop").await;
    let channels = [Channel::Dns, Channel::Presence];
    let (mut at_one, _) = Listener::on(&one, owner.org.id, &owner.client, &channels).await;
    let (mut at_two, _) = Listener::on(&two, owner.org.id, &owner.client, &channels).await;
    let (mut at_bob, _) = Listener::on(&two, owner.org.id, &bob, &channels).await;

    put_dns(&owner, "one.example").await;
    for listener in [&mut at_one, &mut at_two, &mut at_bob] {
        assert_eq!(listener.event().await.action, "dns.create");
    }
    // Node two has no machine of the org: it knows by what the other wrote down.
    let mut of_hers = Stream::connect(&one, &hers.node_key).await;
    of_hers.send(&report()).await;
    comes(&mut at_one, hers.machine_id, true).await;
    comes(&mut at_two, hers.machine_id, true).await;
    of_hers.leave().await;
    comes(&mut at_one, hers.machine_id, false).await;
    comes(&mut at_two, hers.machine_id, false).await;

    redis.stop();
    let mut of_his = Stream::connect(&two, &his.node_key).await;
    of_his.send(&report()).await;
    comes(&mut at_one, his.machine_id, true).await;
    comes(&mut at_two, his.machine_id, true).await;
    // Bob heard of his own machine alone.
    match at_bob.next().await {
        RealtimeMessage::Presence { machine, online } => {
            assert_eq!((machine, online), (his.machine_id, true));
        }
        other => panic!("{other:?}"),
    }
    let there = owner.client.at(&two);
    let (path, body) = (owner.path("/dns"), json!({"search": ["two.example"]}));
    let call = there.call::<Value>(Method::PUT, &path, body);
    call.await.unwrap();
    for listener in [&mut at_one, &mut at_two, &mut at_bob] {
        assert_eq!(listener.event().await.action, "dns.update");
    }
    drop(of_his);
    one.stop().await;
    // A node that stops says so.
    two.stop().await;
    assert_eq!(at_two.closed().await.0, 1001);
}

#[tokio::test]
async fn who_comes_back_hears_what_it_missed_once() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (mut listener, _) =
        Listener::on(&server, owner.org.id, &owner.client, &[Channel::Dns]).await;
    put_dns(&owner, "a.example").await;
    let last = listener.event().await.seq;
    drop(listener);
    put_dns(&owner, "b.example").await;
    put_dns(&owner, "c.example").await;

    let mut listener = Listener::open(&server, owner.org.id, &owner.client).await;
    let (_, seq) = listener.subscribe(&[Channel::Dns], Some(last)).await;
    assert_eq!(seq, last + 2);
    put_dns(&owner, "d.example").await;
    for (step, domain) in ["b.example", "c.example", "d.example"].iter().enumerate() {
        let event = listener.event().await;
        assert_eq!(event.seq, last + 1 + i64::try_from(step).unwrap());
        assert!(event.after.unwrap().get().contains(domain));
    }

    // Too much was missed: by who comes back, …
    let app = connect(server.database.app.as_ref().unwrap()).await;
    let fill = format!(
        "BEGIN; SELECT set_config('ztna.org', '{}', true);
         SELECT audit_event('test', '{{}}') FROM generate_series(1, 1500); COMMIT",
        owner.org.id
    );
    let (mut busy, _) = Listener::on(
        &server,
        owner.org.id,
        &owner.client,
        &[Channel::Audit, Channel::Dns],
    )
    .await;
    app.batch_execute(&fill).await.unwrap();
    // … and by who listened.
    let RealtimeMessage::Resync { channels, seq } = busy.next().await else {
        panic!("no resync");
    };
    assert_eq!(channels, [Channel::Audit, Channel::Dns]);
    let RealtimeMessage::Audit(entry) = busy.next().await else {
        panic!("no row");
    };
    assert_eq!(entry.seq, seq + 1);
    let mut late = Listener::open(&server, owner.org.id, &owner.client).await;
    let (_, now) = late.subscribe(&[Channel::Dns], Some(last)).await;
    match late.next().await {
        RealtimeMessage::Resync { channels, seq } => {
            assert_eq!((channels, seq), (vec![Channel::Dns], now));
        }
        other => panic!("{other:?}"),
    }
    // After it, all is as before.
    put_dns(&owner, "e.example").await;
    for listener in [&mut late, &mut listener] {
        let event = loop {
            if let RealtimeMessage::Event(event) = listener.next().await {
                break event;
            }
        };
        assert!(event.after.unwrap().get().contains("e.example"));
    }
    server.stop().await;
}

#[tokio::test]
async fn rights_that_end_end_a_replay_in_its_middle() {
    const ROWS: usize = 900;
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let eve = owner.add(&server, "eve", Role::Auditor).await;
    // More than what lies between a server and a client that does not read.
    let app = connect(server.database.app.as_ref().unwrap()).await;
    let fill = format!(
        "BEGIN; SELECT set_config('ztna.org', '{}', true);
         SELECT audit_event('test', json_build_object('words', repeat('x', 50000)))
             FROM generate_series(1, {ROWS}); COMMIT",
        owner.org.id
    );
    let (_, before) = Listener::open(&server, owner.org.id, &eve)
        .await
        .subscribe(&[], None)
        .await;
    app.batch_execute(&fill).await.unwrap();

    let mut all = Listener::open(&server, owner.org.id, &eve).await;
    all.subscribe(&[Channel::Audit], Some(before)).await;
    for _ in 0..ROWS {
        let told = all.next().await;
        assert!(matches!(told, RealtimeMessage::Audit(_)), "{told:?}");
    }
    let mut cut = Listener::open(&server, owner.org.id, &eve).await;
    cut.subscribe(&[Channel::Audit], Some(before)).await;
    let path = owner.path(&format!("/members/{}", id_of(&eve).await));
    owner.client.delete(&path).await.unwrap();
    let mut rows = 0;
    loop {
        match cut.next().await {
            RealtimeMessage::Audit(_) => rows += 1,
            RealtimeMessage::Error(error) => {
                assert_eq!(error.code, ErrorCode::NotFound);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(rows < ROWS, "{rows} of them");
    assert_eq!(cut.closed().await.0, 4003);
    server.stop().await;
}

#[tokio::test]
async fn strangers_keys_and_other_sites_are_refused_and_nonsense_ends_it() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let rival = Owner::new(&server, "rival").await;
    let (_, enrolled) = owner.enrol("box").await;
    let body = json!({"scopes": ["read"], "expires_in_days": 1});
    let key: CreatedApiKey = owner
        .client
        .post(&owner.path("/api-keys"), body)
        .await
        .unwrap();
    let query = format!("?org={}", owner.org.id);
    let protocol = |token: &str| vec![("sec-websocket-protocol", format!("access_token.{token}"))];
    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    let mut elsewhere = protocol(owner.client.token());
    elsewhere.push(("origin", "https://evil.example".to_owned()));
    let cases = [
        (Vec::new(), query.as_str(), 401),
        (protocol("garbage"), &query, 401),
        (bearer(key.key.expose()), &query, 401),
        (bearer(enrolled.node_key.expose()), &query, 401),
        (protocol(rival.client.token()), &query, 404),
        (elsewhere, &query, 403),
        (protocol(owner.client.token()), "", 400),
    ];
    for (headers, query, status) in cases {
        let refused = open(&server, query, &headers).await.err();
        let (found, body) = refused.unwrap_or_else(|| panic!("{headers:?} opened it"));
        assert_eq!(found, status, "{headers:?} {body}");
        assert!(body.contains("\"success\":false"), "{body}");
    }
    let path = format!("/api/realtime{query}");
    let plain = owner.client.get::<Value>(&path).await.unwrap_err();
    assert_eq!(plain.code, ErrorCode::ValidationError);

    // A client that offers nothing but its token gets that chosen; a program sends a bearer.
    let token = owner.client.token();
    let (_, chosen) = open(&server, &query, &protocol(token)).await.unwrap();
    assert_eq!(chosen, Some(format!("access_token.{token}")));
    let (mut listener, chosen) = open(&server, &query, &bearer(token)).await.unwrap();
    assert_eq!(chosen, None);
    listener.send(json!({"type": "from the future"})).await;
    listener
        .send(json!({"type": "subscribe", "channels": ["dns"]}))
        .await;
    listener.next().await;
    listener
        .send(json!({"type": "subscribe", "channels": ["everything"]}))
        .await;
    assert_eq!(listener.closed().await.0, 4002);
    let (mut listener, _) = open(&server, &query, &bearer(token)).await.unwrap();
    listener
        .send(json!({"type": "x", "pad": "x".repeat(5000)}))
        .await;
    assert_eq!(listener.closed().await.0, 4002);
    let (mut listener, _) = open(&server, &query, &bearer(token)).await.unwrap();
    for _ in 0..61 {
        listener.send(json!({"type": "x"})).await;
    }
    assert_eq!(listener.closed().await.0, 4002);
    server.stop().await;
}

#[tokio::test]
async fn seats_are_bounded_for_an_org_and_a_person() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let mut seats = Vec::new();
    for number in 0..8 {
        let person = owner
            .add(&server, &format!("person{number}"), Role::Member)
            .await;
        for _ in 0..25 {
            seats.push(Listener::open(&server, owner.org.id, &person).await);
        }
        if number == 0 {
            let more = Listener::open(&server, owner.org.id, &person).await;
            let (code, said) = more.closed().await;
            assert_eq!((code, said.unwrap().code), (4029, ErrorCode::RateLimited));
        }
    }
    let late = Listener::open(&server, owner.org.id, &owner.client).await;
    let (code, said) = late.closed().await;
    assert_eq!((code, said.unwrap().code), (4029, ErrorCode::RateLimited));
    // Another org has its own.
    let rival = Owner::new(&server, "rival").await;
    let (_other, refused) = Listener::on(&server, rival.org.id, &rival.client, &ROWS).await;
    assert_eq!(refused, []);

    // A seat that is left is another's.
    drop(seats.pop());
    until_heard(&server, &owner, &owner.client).await;
    server.stop().await;
}

#[tokio::test]
async fn seats_are_bounded_for_an_org_at_all_nodes_together() {
    let mut redis = Redis::start();
    let one = Server::start_with(|config| config.kv_url = Some(redis.url())).await;
    let two = one.beside(|config| config.kv_url = Some(redis.url())).await;
    let owner = Owner::new(&one, "acme").await;
    let mut people = Vec::new();
    for number in 0..5 {
        let name = format!("person{number}");
        people.push(owner.add(&one, &name, Role::Member).await);
    }
    let mut seats = Vec::new();
    for server in [&one, &two] {
        for person in &people[..4] {
            for _ in 0..25 {
                seats.push(Listener::open(server, owner.org.id, person).await);
            }
        }
    }
    for server in [&one, &two] {
        let late = Listener::open(server, owner.org.id, &people[4]).await;
        let (code, said) = late.closed().await;
        assert_eq!((code, said.unwrap().code), (4029, ErrorCode::RateLimited));
    }
    // One that is left at a node is somebody's at the other.
    drop(seats.pop());
    let _kept = until_heard(&one, &owner, &people[4]).await;
    let late = Listener::open(&two, owner.org.id, &people[4]).await;
    assert_eq!(late.closed().await.0, 4029);
    // Without the store a node has room for 200 of its own: the bound is loose, and nobody is kept out.
    redis.stop();
    let _here = until_heard(&two, &owner, &people[4]).await;
    one.stop().await;
    two.stop().await;
}

/// People whose node stops come to another at once, not only when what it told of them is forgotten.
#[tokio::test]
async fn a_node_that_stops_leaves_its_seats_to_others() {
    let redis = Redis::start();
    let one = Server::start_with(|config| config.kv_url = Some(redis.url())).await;
    let two = one.beside(|config| config.kv_url = Some(redis.url())).await;
    let owner = Owner::new(&one, "acme").await;
    let mut seats = Vec::new();
    for number in 0..8 {
        let name = format!("person{number}");
        let person = owner.add(&one, &name, Role::Member).await;
        for _ in 0..25 {
            seats.push(Listener::open(&one, owner.org.id, &person).await);
        }
    }
    let late = Listener::open(&two, owner.org.id, &owner.client).await;
    assert_eq!(late.closed().await.0, 4029);
    one.stop().await;
    let (_, refused) = Listener::on(&two, owner.org.id, &owner.client, &[Channel::Dns]).await;
    assert_eq!(refused, []);
    two.stop().await;
}

/// Comes until there is room.
async fn until_heard(server: &Server, owner: &Owner, person: &Client) -> Listener {
    loop {
        let mut late = Listener::open(server, owner.org.id, person).await;
        late.send(json!({"type": "subscribe", "channels": ["dns"]}))
            .await;
        if matches!(late.next().await, RealtimeMessage::Subscribed { .. }) {
            return late;
        }
    }
}

#[tokio::test]
async fn who_answers_no_ping_is_closed() {
    let server =
        Server::start_with(|config| config.realtime_ping = Duration::from_millis(200)).await;
    let owner = Owner::new(&server, "acme").await;
    let (listener, _) = Listener::on(&server, owner.org.id, &owner.client, &ROWS).await;
    // Nobody reads it, so nobody answers.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(listener.closed().await.0, 4000);
    // Who reads, answers, and stays.
    let (mut listener, _) = Listener::on(&server, owner.org.id, &owner.client, &ROWS).await;
    let patience = tokio::time::timeout(Duration::from_secs(2), listener.next()).await;
    assert!(patience.is_err(), "{patience:?}");
    put_dns(&owner, "a.example").await;
    assert_eq!(listener.event().await.action, "dns.create");
    server.stop().await;
}
