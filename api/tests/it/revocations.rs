//! Relays learn at once whose tickets are void.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use reqwest::{Method, StatusCode};
use serde_json::json;
use ztna_proto::api::UpdateMachineRequest;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::RegionId;
use ztna_proto::keys::WgPublicKey;
use ztna_proto::revocation::{RevocationList, WgKeyHash};

use crate::common::client::{Owner, PASSWORD};
use crate::common::stream::Stream;
use crate::common::{Client, Server, connect};

/// A wait that no test sits out.
const LONG: u64 = 25;

async fn ask(server: &Server, after: u64, wait: u64) -> RevocationList {
    let path = format!("/api/relays/revocations?after={after}&wait={wait}");
    let response = Client::anonymous(server)
        .request(Method::GET, &path)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let kind = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let text = response.text().await.unwrap();
    server.ticket_verifier().verify_revocations(&text).unwrap()
}

fn names(list: &RevocationList, keys: &[WgPublicKey]) -> bool {
    let hashes: Vec<_> = list.entries.iter().map(|entry| entry.key_hash).collect();
    hashes == keys.iter().map(WgKeyHash::of).collect::<Vec<_>>()
}

#[tokio::test]
async fn an_empty_list_is_fresh_and_signed() {
    let server = Server::start().await;
    let before = Timestamp::now();
    let list = ask(&server, 0, 0).await;
    assert!(list.entries.is_empty());
    assert_eq!((list.seq, list.since), (0, 0));
    assert!(before <= list.issued_at && list.issued_at <= Timestamp::now());
    // So it is after a wait in which nothing happened.
    let begin = Instant::now();
    assert!(ask(&server, 0, 1).await.entries.is_empty());
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_deleted_machine_is_told_to_those_who_wait_and_those_who_come() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (request, machine) = owner.enrol("a").await;
    let mut stream = Stream::connect(&server, &machine.node_key).await;
    let ticket = stream.ticket.take().unwrap();
    let delete = async {
        // The one who waits is there before: it takes a while until the deletion has got so far.
        owner
            .client
            .delete(&owner.path(&format!("/machines/{}", machine.machine_id)))
            .await
            .unwrap();
    };
    let (told, ()) = tokio::join!(ask(&server, 0, LONG), delete);
    assert!(names(&told, &[request.wg_key]), "{told:?}");
    assert_eq!(told.since, 0);
    assert_eq!(ask(&server, 0, 0).await.entries, told.entries);
    let later = ask(&server, told.seq, 0).await;
    assert!(later.entries.is_empty());
    assert_eq!((later.since, later.seq), (told.seq, told.seq));

    // What it voids: every ticket that the machine has; what not: those of its next life.
    let region = RegionId(0);
    let verify = |ticket: &str| {
        let verifier = server.ticket_verifier();
        verifier
            .verify(ticket, &request.wg_key, region, Timestamp::now())
            .unwrap()
            .issued_at
    };
    assert!(verify(&ticket) <= told.entries[0].at);
    let again = owner
        .client
        .bearer(owner.key.key.expose())
        .register(&request)
        .await
        .unwrap();
    let stream = Stream::connect(&server, &again.node_key).await;
    assert!(verify(&stream.ticket.unwrap()) > told.entries[0].at);

    // A number that this database never gave out: the list begins anew.
    let anew = ask(&server, told.seq + 1000, LONG).await;
    assert_eq!(anew.since, 0);
    assert!(names(&anew, &[request.wg_key]));
}

#[tokio::test]
async fn whatever_ends_a_machine_is_told() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (by_hand, first) = owner.enrol("a").await;
    let (by_time, second) = owner.enrol("b").await;
    let set = async |id, key_expires_at| {
        let path = owner.path(&format!("/machines/{id}"));
        let body = UpdateMachineRequest {
            key_expires_at: Some(key_expires_at),
            ..UpdateMachineRequest::default()
        };
        let _: serde_json::Value = owner.client.call(Method::PATCH, &path, body).await.unwrap();
    };
    let ago = Timestamp::now()
        .checked_sub(SignedDuration::from_secs(9))
        .unwrap();
    set(first.machine_id, ago).await;
    let list = ask(&server, 0, LONG).await;
    assert!(names(&list, &[by_hand.wg_key]), "{list:?}");
    let soon = Timestamp::now()
        .checked_add(SignedDuration::from_millis(50))
        .unwrap();
    set(second.machine_id, soon).await;
    let list = ask(&server, list.seq, LONG).await;
    assert!(names(&list, &[by_time.wg_key]), "{list:?}");
    // A change that ends nothing is none.
    let (_, third) = owner.enrol("c").await;
    let path = owner.path(&format!("/machines/{}", third.machine_id));
    let renamed = json!({"name": "d"});
    let _: serde_json::Value = owner
        .client
        .call(Method::PATCH, &path, renamed)
        .await
        .unwrap();
    assert!(ask(&server, list.seq, 0).await.entries.is_empty());
}

#[tokio::test]
async fn what_another_process_revoked_is_told_and_what_no_ticket_outlives_is_not() {
    let server = Server::start().await;
    let admin = connect(&server.database.setup).await;
    let insert = async |byte: u8, age: &str| {
        let hash = [byte; 32];
        let sql = format!(
            "INSERT INTO relay_revocations (key_hash, at) VALUES ($1, now() - interval '{age}')"
        );
        admin.execute(&sql, &[&hash.as_slice()]).await.unwrap();
    };
    insert(1, "24 hours 1 minute").await;
    assert!(ask(&server, 0, 0).await.entries.is_empty());
    let (told, ()) = tokio::join!(ask(&server, 0, LONG), insert(2, "0"));
    assert_eq!(told.entries.len(), 1);
    assert_eq!(told.entries[0].key_hash, WgKeyHash([2; 32]));
    assert_eq!(told.seq, 2);
}

#[tokio::test]
async fn long_lists_come_in_parts() {
    let server = Server::start().await;
    let admin = connect(&server.database.setup).await;
    let sql = "INSERT INTO relay_revocations (key_hash, at)
        SELECT sha256(n::text::bytea), now() FROM generate_series(1, 5000) n";
    admin.execute(sql, &[]).await.unwrap();
    let first = ask(&server, 0, LONG).await;
    let second = ask(&server, first.seq, LONG).await;
    let end = ask(&server, second.seq, 0).await;
    assert_eq!((first.entries.len(), first.seq), (4096, 4096));
    assert_eq!((second.entries.len(), second.seq), (904, 5000));
    assert!(end.entries.is_empty());
}

#[tokio::test]
async fn those_who_wait_are_bounded_and_bad_questions_are_refused() {
    let server = Server::start().await;
    let client = Client::anonymous(&server);
    let path = |wait: u64| format!("/api/relays/revocations?after=0&wait={wait}");
    let begin = Instant::now();
    let calls = (0..17).map(|_| tokio::spawn(client.request(Method::GET, &path(LONG)).send()));
    // There are places for all but one, which is answered without waiting.
    let (first, _, waiting) = futures_util::future::select_all(calls).await;
    assert_eq!(first.unwrap().unwrap().status(), StatusCode::OK);
    assert!(begin.elapsed() < Duration::from_secs(LONG));
    for waiter in waiting {
        assert!(!waiter.is_finished());
        waiter.abort();
    }
    let bad = client.get::<()>("/api/relays/revocations?after=-1").await;
    assert_eq!(crate::common::client::code(bad), ErrorCode::ValidationError);

    let limited = Server::start_with(|config| config.limits.revocations.count = 2).await;
    let client = Client::anonymous(&limited);
    for status in [200, 200, 429] {
        let response = client.request(Method::GET, &path(0)).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
    }
}

#[tokio::test]
async fn who_deletes_an_account_lets_others_revoke_while_it_waits_for_an_org() {
    /// What writers of revocations take turns by.
    const TURN: i64 = 0x7a74_6e61_7265_766f;
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (request, _) = owner.enrol("a").await;
    let second = owner.client.new_org("Second").await;
    assert!(owner.org.id < second.id, "orgs are taken in this order");
    let mut holder = connect(&server.database.setup).await;
    let held = holder.transaction().await.unwrap();
    let pid: i32 = held
        .query_one(
            "SELECT pg_backend_pid() FROM orgs WHERE id = $1 FOR UPDATE",
            &[&second.id.0],
        )
        .await
        .unwrap()
        .get(0);
    let client = owner.client.clone();
    let deletion = tokio::spawn(async move {
        let body = json!({"password": PASSWORD});
        client
            .post::<serde_json::Value>("/api/auth/delete-account", body)
            .await
    });
    let admin = connect(&server.database.setup).await;
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND $1 = ANY(pg_blocking_pids(pid)))";
    while !admin
        .query_one(waits, &[&pid])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {
        assert!(!deletion.is_finished(), "it waits for the second org");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let free: bool = admin
        .query_one("SELECT pg_try_advisory_xact_lock($1)", &[&TURN])
        .await
        .unwrap()
        .get(0);
    assert!(free, "somebody who holds the second org could wait for it");
    held.commit().await.unwrap();
    deletion.await.unwrap().unwrap();
    assert!(names(&ask(&server, 0, 0).await, &[request.wg_key]));
}
