//! What is decided of a machine: approval, quarantine, lock, switch, wipe, and by whom.

use crate::common::acts::{hold, this};
use crate::common::client::{Owner, code, machine};
use crate::common::stream::{self, Stream};
use crate::common::{Server, connect};
use crate::relays::bare;
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{HeartbeatAnswer, Machine, Registered, Role};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::RegionId;
use ztna_proto::machines::{HoldKind, MachineState, OrgSettings};

fn has_relays(stream: &Stream) -> bool {
    stream.map.relays().raw().get().contains("\"lon\"")
}

async fn with_region() -> Server {
    Server::start_with(|config| config.relays = vec![bare(1, "lon").into()]).await
}

async fn beat(owner: &Owner, of: &Registered) -> HeartbeatAnswer {
    let report = json!({"endpoints": [], "home_region": null, "disco_key": null});
    let body = json!({"agent_version": "0.1.0", "report": report});
    let client = owner.as_machine(&of.node_key);
    client.post("/api/machine-heartbeat", body).await.unwrap()
}

#[tokio::test]
async fn a_new_machine_waits_for_an_admins_word_and_nobody_sees_it() {
    let server = with_region().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, first) = owner.enrol("first").await;
    let mut at_first = Stream::connect(&server, &first.node_key).await;
    let settings = owner.set(json!({"machine_approval": true})).await;
    assert!(settings.machine_approval);
    assert_eq!(settings.key_expiry_days, 180);
    assert!(hold(&at_first).is_none(), "who is in stays in");

    let (request, second) = owner.enrol("second").await;
    assert_eq!(
        owner.look(second.machine_id).await.life.state,
        MachineState::Pending
    );
    let mut at_second = Stream::connect_held(&server, &second.node_key).await;
    assert_eq!(
        hold(&at_second).unwrap(),
        (
            HoldKind::Pending,
            "this machine waits for approval by an admin of acme".to_owned()
        )
    );
    assert!(at_second.peers().is_empty() && !has_relays(&at_second));
    assert!(at_second.ticket.is_none());
    assert!(beat(&owner, &second).await.relay_ticket.is_none());
    // Whatever the first machine was told comes before what it is told next.
    owner
        .change(&owner.client, first.machine_id, json!({"name": "first-1"}))
        .await
        .unwrap();
    at_first
        .until("own name", |s| this(s).name == "first-1")
        .await;
    assert!(at_first.peers().is_empty());
    owner
        .change(&owner.client, first.machine_id, json!({"name": "first"}))
        .await
        .unwrap();

    // Registering once more does not open the door.
    let again = owner.client.bearer(owner.key.key.expose());
    let mut request = request.clone();
    request.node_key = Some(second.node_key.clone());
    let second = again.register(&request).await.unwrap();
    assert_eq!(
        owner.look(second.machine_id).await.life.state,
        MachineState::Pending
    );

    let approved = owner
        .does(second.machine_id, json!({"action": "approve"}))
        .await;
    assert_eq!(approved.life.state, MachineState::Online);
    at_second
        .until("the network", |s| {
            s.peer_names() == ["first"] && has_relays(s) && s.ticket.is_some()
        })
        .await;
    assert!(hold(&at_second).is_none());
    at_first
        .until("second", |s| s.peer_names() == ["second"])
        .await;
    let twice = owner
        .act(
            &owner.client,
            second.machine_id,
            json!({"action": "approve"}),
        )
        .await;
    assert_eq!(code(twice), ErrorCode::Conflict);

    // A key may vouch for its machines.
    let key = owner.key(json!({"preapproved": true})).await;
    let third = owner.enrol_with(&key, "third").await;
    assert_eq!(
        owner.look(third.machine_id).await.life.state,
        MachineState::Offline
    );

    // Denied: gone, and told so.
    let (_, fourth) = owner.enrol("fourth").await;
    let mut at_fourth = Stream::connect_held(&server, &fourth.node_key).await;
    let denied = owner
        .does(fourth.machine_id, json!({"action": "deny"}))
        .await;
    assert_eq!(denied.life.state, MachineState::Pending);
    assert_eq!(at_fourth.ends().await.code, ErrorCode::MachineDeleted);
    let deny_good = owner
        .act(&owner.client, third.machine_id, json!({"action": "deny"}))
        .await;
    assert_eq!(code(deny_good), ErrorCode::Conflict);
}

#[tokio::test]
async fn quarantine_and_lock_cut_a_machine_off_and_their_end_brings_it_back() {
    let server = with_region().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (request, bob) = owner.enrol("bob").await;
    let mut at_alice = Stream::connect(&server, &alice.node_key).await;
    let mut at_bob = Stream::connect(&server, &bob.node_key).await;
    let issued_at = |ticket: &Option<String>| {
        let (ticket, now) = (ticket.as_ref().unwrap(), jiff::Timestamp::now());
        let verifier = server.ticket_verifier();
        let claims = verifier.verify(ticket, &request.wg_key, RegionId(1), now);
        claims.unwrap().issued_at
    };
    for (begin, end, kind, state, code_of) in [
        (
            "quarantine",
            "release",
            HoldKind::Quarantined,
            MachineState::Quarantined,
            None,
        ),
        (
            "lock",
            "unlock",
            HoldKind::Locked,
            MachineState::Locked,
            Some(ErrorCode::MachineLocked),
        ),
    ] {
        let cuts = server.cut.lock().unwrap().len();
        let action = json!({"action": begin, "reason": "found a worm"});
        let held = owner.does(bob.machine_id, action.clone()).await;
        assert_eq!(held.life.state, state);
        assert_eq!(held.life.reason.as_deref(), Some("found a worm"));
        at_alice.until("bob gone", |s| s.peers().is_empty()).await;
        at_bob.until("the hold", |s| hold(s).is_some()).await;
        let (told, message) = hold(&at_bob).unwrap();
        assert_eq!(told, kind);
        assert!(
            message.contains("(found a worm); an admin of acme can"),
            "{message}"
        );
        assert!(at_bob.peers().is_empty() && !has_relays(&at_bob));
        assert_eq!(
            server.cut.lock().unwrap().len(),
            cuts + 1,
            "relays are told"
        );
        assert!(beat(&owner, &bob).await.relay_ticket.is_none());
        let kem = ztna_proto::KemKeyHash::of(&request.kem_key);
        let kem = format!("/api/kem-keys/{kem}");
        let kem = owner.as_machine(&alice.node_key).get::<Value>(&kem).await;
        assert_eq!(code(kem), ErrorCode::NotFound);
        let mut renewal = request.clone();
        renewal.node_key = Some(bob.node_key.clone());
        let twice = owner.act(&owner.client, bob.machine_id, action).await;
        assert_eq!(code(twice), ErrorCode::Conflict);
        if let Some(refusal) = code_of {
            let with_key = owner.client.bearer(owner.key.key.expose());
            assert_eq!(code(with_key.register(&renewal).await), refusal);
        }

        at_bob.ticket = None;
        let back = owner.does(bob.machine_id, json!({"action": end})).await;
        assert_eq!(back.life.state, MachineState::Online);
        at_alice
            .until("bob back", |s| s.peer_names() == ["bob"])
            .await;
        at_bob
            .until("the network", |s| {
                s.peer_names() == ["alice"] && has_relays(s)
            })
            .await;
        assert!(hold(&at_bob).is_none());
        let admin = connect(&server.database.setup).await;
        let revoked: jiff::Timestamp = admin
            .query_one("SELECT max(at) FROM relay_revocations", &[])
            .await
            .unwrap()
            .get(0);
        assert!(
            issued_at(&at_bob.ticket) > revoked,
            "a ticket that relays refuse"
        );
        let twice = owner
            .act(&owner.client, bob.machine_id, json!({"action": end}))
            .await;
        assert_eq!(code(twice), ErrorCode::Conflict);
    }
}

#[tokio::test]
async fn one_hold_does_not_lift_another() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, m) = owner.enrol("m").await;
    owner
        .does(m.machine_id, json!({"action": "quarantine"}))
        .await;
    owner.does(m.machine_id, json!({"action": "lock"})).await;
    let disabled = owner.does(m.machine_id, json!({"action": "disable"})).await;
    assert_eq!(disabled.life.state, MachineState::Disabled);
    let state = async |action: &str| {
        owner
            .does(m.machine_id, json!({"action": action}))
            .await
            .life
            .state
    };
    assert_eq!(state("enable").await, MachineState::Locked);
    assert_eq!(state("unlock").await, MachineState::Quarantined);
    assert_eq!(state("release").await, MachineState::Offline);
}

#[tokio::test]
async fn a_disabled_machine_is_refused_with_the_reason_until_it_is_enabled() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let (mut request, bob) = owner.enrol("bob").await;
    let mut at_alice = Stream::connect(&server, &alice.node_key).await;
    let mut at_bob = Stream::connect(&server, &bob.node_key).await;
    owner
        .does(
            bob.machine_id,
            json!({"action": "disable", "reason": "on leave"}),
        )
        .await;
    let told = at_bob.ends().await;
    assert_eq!(told.code, ErrorCode::MachineDisabled);
    assert!(told.message.contains("disabled (on leave)"), "{told}");
    at_alice.until("bob gone", |s| s.peers().is_empty()).await;
    let (status, body) = stream::open(&server, &bob.node_key).await.unwrap_err();
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("MACHINE_DISABLED") && body.contains("on leave"));
    request.node_key = Some(bob.node_key.clone());
    let with_key = owner.client.bearer(owner.key.key.expose());
    assert_eq!(
        code(with_key.register(&request).await),
        ErrorCode::MachineDisabled
    );
    owner
        .does(bob.machine_id, json!({"action": "enable"}))
        .await;
    let mut at_bob = Stream::connect(&server, &bob.node_key).await;
    at_bob.until("alice", |s| s.peer_names() == ["alice"]).await;
}

#[tokio::test]
async fn a_wiped_machine_says_so_and_never_comes_back() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (mut request, bob) = owner.enrol("bob").await;
    owner
        .does(bob.machine_id, json!({"action": "disable"}))
        .await;
    let wipe = |confirm: &str| json!({"action": "wipe", "confirm": confirm});
    let wrong = owner.act(&owner.client, bob.machine_id, wipe("rob")).await;
    assert_eq!(code(wrong), ErrorCode::ValidationError);
    let token = owner.as_machine(&bob.node_key);
    let early = token.post::<Value>("/api/machine-wiped", json!({})).await;
    assert_eq!(code(early), ErrorCode::MachineDisabled);

    let asked = owner.does(bob.machine_id, wipe("bob")).await;
    assert_eq!(asked.life.state, MachineState::Locked);
    assert!(asked.life.wipe.unwrap().done_at.is_none());
    let at_bob = Stream::connect_held(&server, &bob.node_key).await;
    assert_eq!(hold(&at_bob).unwrap().0, HoldKind::Wipe);
    let unlock = owner
        .act(&owner.client, bob.machine_id, json!({"action": "unlock"}))
        .await;
    assert_eq!(code(unlock), ErrorCode::Conflict);
    request.node_key = Some(bob.node_key.clone());
    let with_key = owner.client.bearer(owner.key.key.expose());
    assert_eq!(
        code(with_key.register(&request).await),
        ErrorCode::MachineLocked
    );

    token
        .post::<Value>("/api/machine-wiped", json!({}))
        .await
        .unwrap();
    assert!(
        owner
            .look(bob.machine_id)
            .await
            .life
            .wipe
            .unwrap()
            .done_at
            .is_some()
    );
    let again = token.post::<Value>("/api/machine-wiped", json!({})).await;
    assert_eq!(code(again), ErrorCode::Unauthorized);
    assert_eq!(
        stream::open(&server, &bob.node_key).await.unwrap_err().0,
        401
    );
    let path = owner.path(&format!("/machines/{}", bob.machine_id));
    owner.client.delete(&path).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_nobody_wants_wiped_is_not() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, m) = owner.enrol("m").await;
    let token = owner.as_machine(&m.node_key);
    let unasked = token.post::<Value>("/api/machine-wiped", json!({})).await;
    assert_eq!(code(unasked), ErrorCode::Conflict);
}

#[tokio::test]
async fn what_roles_may_do_to_machines() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let admin = owner.add(&server, "admin", Role::Admin).await;
    let auditor = owner.add(&server, "auditor", Role::Auditor).await;
    let member = owner.add(&server, "member", Role::Member).await;
    let mut laptop = machine("laptop");
    laptop.org = Some(owner.org.id);
    let laptop = member.register(&laptop).await.unwrap();
    let (_, shared) = owner.enrol("shared").await;
    for action in ["quarantine", "lock", "disable", "wipe"] {
        let body = match action {
            "wipe" => json!({"action": action, "confirm": "laptop"}),
            _ => json!({"action": action}),
        };
        for who in [&auditor, &member] {
            if action == "lock" {
                // Their own, and no other.
                let others = owner.act(who, shared.machine_id, body.clone()).await;
                assert_eq!(code(others), ErrorCode::NotFound);
                continue;
            }
            let refused = owner.act(who, laptop.machine_id, body.clone()).await;
            assert_eq!(code(refused), ErrorCode::Forbidden, "{action}");
        }
    }
    let unknown = owner
        .act(&member, laptop.machine_id, json!({"action": "x"}))
        .await;
    assert_eq!(code(unknown), ErrorCode::ValidationError);
    let lost = owner
        .act(&member, laptop.machine_id, json!({"action": "lock"}))
        .await
        .unwrap();
    assert_eq!(lost.life.state, MachineState::Locked);
    let unlock = owner
        .act(&member, laptop.machine_id, json!({"action": "unlock"}))
        .await;
    assert_eq!(code(unlock), ErrorCode::Forbidden);
    owner
        .act(&admin, laptop.machine_id, json!({"action": "unlock"}))
        .await
        .unwrap();

    let settings = owner.path("/settings");
    let seen: OrgSettings = member.get(&settings).await.unwrap();
    assert!(!seen.machine_approval);
    for who in [&auditor, &member] {
        let refused = who
            .call::<Value>(Method::PATCH, &settings, json!({"machine_approval": true}))
            .await;
        assert_eq!(code(refused), ErrorCode::Forbidden);
    }
    let own = owner.path(&format!("/machines/{}", laptop.machine_id));
    let others = owner.path(&format!("/machines/{}", shared.machine_id));
    assert_eq!(member.get::<Machine>(&own).await.unwrap().name, "laptop");
    assert_eq!(
        code(member.get::<Machine>(&others).await),
        ErrorCode::NotFound
    );
    assert_eq!(
        auditor.get::<Machine>(&others).await.unwrap().name,
        "shared"
    );
}

#[tokio::test]
async fn a_hold_is_not_ended_by_enrolling_again() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "member", Role::Member).await;
    let request = |name: &str| {
        let mut request = machine(name);
        request.org = Some(owner.org.id);
        request
    };
    let mut own = request("laptop");
    let laptop = member.register(&own).await.unwrap();
    let path = owner.path(&format!("/machines/{}", laptop.machine_id));
    let state = async |of: &Registered| owner.look(of.machine_id).await.life.state;
    for (begin, end) in [
        ("quarantine", "release"),
        ("lock", "unlock"),
        ("disable", "enable"),
    ] {
        owner
            .does(laptop.machine_id, json!({"action": begin}))
            .await;
        assert_eq!(code(member.delete(&path).await), ErrorCode::Forbidden);
        let second = member.register(&request("second")).await.unwrap();
        assert_eq!(state(&second).await, MachineState::Pending, "{begin}");
        owner.does(laptop.machine_id, json!({"action": end})).await;
        let third = member.register(&request("third")).await.unwrap();
        assert_eq!(state(&third).await, MachineState::Offline, "{end}");
    }

    // Nor does another's word make it another's.
    owner
        .does(laptop.machine_id, json!({"action": "quarantine"}))
        .await;
    own.node_key = Some(laptop.node_key.clone());
    let with_key = owner.client.bearer(owner.key.key.expose());
    let refused = with_key.register(&own).await;
    assert_eq!(code(refused), ErrorCode::MachineLocked);
    let again = member.register(&own).await.unwrap();
    assert_eq!(state(&again).await, MachineState::Quarantined);
    owner.client.delete(&path).await.unwrap();

    // A key's machines stand for each other, whatever the key vouches for.
    let key = owner
        .key(json!({"reusable": true, "preapproved": true}))
        .await;
    let mut first = machine("a");
    let with_key = owner.client.bearer(key.key.expose());
    let a = with_key.register(&first).await.unwrap();
    let (_, other) = owner.enrol("other").await;
    owner.does(a.machine_id, json!({"action": "lock"})).await;
    first = machine("b");
    let b = with_key.register(&first).await.unwrap();
    first.node_key = Some(b.node_key.clone());
    let b = with_key.register(&first).await.unwrap();
    assert_eq!(state(&b).await, MachineState::Pending);
    assert_eq!(state(&other).await, MachineState::Offline);
}
