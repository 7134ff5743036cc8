//! The store for what may be lost: both implementations keep the same promises, and one takes the
//! other's place.

use std::time::{Duration, Instant};

use crate::common::client::{PASSWORD, code};
use crate::common::redis::Redis;
use crate::common::{Client, Server};
use tokio::sync::broadcast;
use ztna_api::{Heard, Kv, MemoryKv, ServerKeys, ValkeyKv};
use ztna_proto::api::Health;
use ztna_proto::error::ErrorCode;

const MINUTE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);
/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(30);

async fn conforms(kv: &dyn Kv) {
    // Values: stored over, taken once, gone when their time is over.
    assert_eq!(kv.get("code").await.unwrap(), None);
    kv.set("code", vec![1], MINUTE).await.unwrap();
    kv.set("code", vec![0, 255, 10], MINUTE).await.unwrap();
    assert_eq!(kv.get("code").await.unwrap(), Some(vec![0, 255, 10]));
    assert_eq!(kv.take("code").await.unwrap(), Some(vec![0, 255, 10]));
    assert_eq!(kv.take("code").await.unwrap(), None);
    assert_eq!(kv.get("code").await.unwrap(), None);
    kv.set("empty", Vec::new(), MINUTE).await.unwrap();
    assert_eq!(kv.get("empty").await.unwrap(), Some(Vec::new()));
    kv.remove("empty").await.unwrap();
    kv.remove("empty").await.unwrap();
    assert_eq!(kv.get("empty").await.unwrap(), None);
    kv.set("short", vec![1], SHORT).await.unwrap();
    kv.set("none", vec![1], Duration::ZERO).await.unwrap();
    tokio::time::sleep(SHORT + Duration::from_millis(50)).await;
    assert_eq!(kv.get("short").await.unwrap(), None);
    assert_eq!(kv.take("none").await.unwrap(), None);

    // Of many that take at once, one gets it.
    kv.set("once", vec![7], MINUTE).await.unwrap();
    let takes = futures_util::future::join_all((0..16).map(|_| kv.take("once"))).await;
    let got = takes.iter().filter(|take| take.as_ref().unwrap().is_some());
    assert_eq!(got.count(), 1);

    // Counters: none is lost, and they end with their first window, whatever is added.
    assert_eq!(kv.count("tries").await.unwrap(), 0);
    let adds = (0..16).map(|_| kv.increment("tries", MINUTE));
    let mut seen: Vec<u64> = futures_util::future::join_all(adds)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (1..=16).collect::<Vec<u64>>());
    assert_eq!(kv.count("tries").await.unwrap(), 16);
    kv.remove("tries").await.unwrap();
    assert_eq!(kv.increment("tries", MINUTE).await.unwrap(), 1);
    assert_eq!(kv.increment("window", SHORT).await.unwrap(), 1);
    assert_eq!(kv.increment("window", MINUTE).await.unwrap(), 2);
    tokio::time::sleep(SHORT + Duration::from_millis(50)).await;
    assert_eq!(kv.count("window").await.unwrap(), 0);
    assert_eq!(kv.increment("window", MINUTE).await.unwrap(), 1);
}

/// The next message; gaps are skipped.
async fn hears(heard: &mut broadcast::Receiver<Heard>) -> (String, Vec<u8>) {
    loop {
        let news = tokio::time::timeout(LIMIT, heard.recv()).await;
        if let Heard::Message { channel, message } = news.expect("nothing is heard").unwrap() {
            return (channel, message);
        }
    }
}

/// Messages reach who has subscribed, whoever sends them, in order.
async fn passes_on(from: &dyn Kv, to: &dyn Kv) {
    let mut heard = to.listen();
    to.subscribe("a").await.unwrap();
    to.subscribe("b").await.unwrap();
    from.publish("a", vec![0, 255]).await.unwrap();
    from.publish("c", vec![1]).await.unwrap();
    from.publish("b", vec![2]).await.unwrap();
    assert_eq!(hears(&mut heard).await, ("a".to_owned(), vec![0, 255]));
    assert_eq!(hears(&mut heard).await, ("b".to_owned(), vec![2]));
    to.unsubscribe("a").await.unwrap();
    from.publish("a", vec![3]).await.unwrap();
    from.publish("b", vec![4]).await.unwrap();
    assert_eq!(hears(&mut heard).await, ("b".to_owned(), vec![4]));
    to.unsubscribe("b").await.unwrap();
}

/// Processes hear how many they have together, and what is over counts no more.
async fn tallies(one: &dyn Kv, two: &dyn Kv) {
    assert_eq!(one.tally("seats", 3, MINUTE).await.unwrap(), 3);
    assert_eq!(two.tally("seats", 4, MINUTE).await.unwrap(), 7);
    assert_eq!(one.tally("seats", 1, MINUTE).await.unwrap(), 5);
    assert_eq!(two.tally("others", 1, MINUTE).await.unwrap(), 1);
    assert_eq!(two.tally("seats", 4, SHORT).await.unwrap(), 5);
    // The whole goes on, and what is noted in it for a short time ends.
    assert_eq!(one.tally("seats", 2, MINUTE).await.unwrap(), 6);
    tokio::time::sleep(SHORT + Duration::from_millis(50)).await;
    // With the last one's time the whole would be over.
    assert_eq!(one.tally("seats", 2, MINUTE).await.unwrap(), 2);
    assert_eq!(two.tally("seats", 1, MINUTE).await.unwrap(), 3);
    assert_eq!(one.tally("seats", 0, MINUTE).await.unwrap(), 1);
}

#[tokio::test]
async fn memory_conforms() {
    let kv = MemoryKv::default();
    conforms(&kv).await;
    passes_on(&kv, &kv).await;
    assert_eq!(kv.tally("seats", 3, MINUTE).await.unwrap(), 3);
    assert_eq!(kv.tally("seats", 1, MINUTE).await.unwrap(), 1);
}

#[tokio::test]
async fn a_real_server_conforms() {
    let redis = Redis::start();
    let keys = keys();
    let kv = connected(&redis, &keys).await;
    conforms(&kv).await;
    let other = connected(&redis, &keys).await;
    passes_on(&kv, &kv).await;
    passes_on(&other, &kv).await;
    tallies(&kv, &other).await;
    kv.quit().await;
    other.quit().await;
}

/// A deployment's keys; each call is another deployment.
fn keys() -> ServerKeys {
    let folder = tempfile::tempdir().unwrap();
    ServerKeys::load_or_create(folder.path()).unwrap()
}

async fn connected(redis: &Redis, keys: &ServerKeys) -> ValkeyKv {
    answers(ValkeyKv::connect(&redis.url(), None, keys).unwrap()).await
}

async fn answers(kv: ValkeyKv) -> ValkeyKv {
    let begin = Instant::now();
    while kv.ping().await.is_err() {
        assert!(begin.elapsed() < LIMIT, "no connection");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    kv
}

/// A server that ends takes subscriptions with it; they come back with it, and listeners are told
/// that they may have missed something.
#[tokio::test]
async fn a_subscription_outlives_the_server() {
    let mut redis = Redis::start();
    let keys = keys();
    let kv = connected(&redis, &keys).await;
    let other = connected(&redis, &keys).await;
    let mut heard = kv.listen();
    kv.subscribe("a").await.unwrap();
    redis.stop();
    redis.resume();
    let gap = async { while heard.recv().await.unwrap() != Heard::Gap {} };
    tokio::time::timeout(LIMIT, gap).await.expect("no gap");
    let begin = Instant::now();
    while other.publish("a", vec![1]).await.is_err() {
        assert!(begin.elapsed() < LIMIT, "no connection");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(hears(&mut heard).await, ("a".to_owned(), vec![1]));
    kv.quit().await;
    other.quit().await;
}

/// The server as somebody else may use it.
async fn intruder(redis: &Redis) -> fred::prelude::Client {
    use fred::interfaces::ClientLike;
    let config = fred::prelude::Config::from_url(&redis.url()).unwrap();
    let client = fred::prelude::Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    client
}

#[tokio::test]
async fn what_others_write_into_the_store_does_not_count() {
    use fred::interfaces::{ClientLike, EventInterface, KeysInterface, PubsubInterface};
    let redis = Redis::start();
    let keys = keys();
    let kv = connected(&redis, &keys).await;
    let other = connected(&redis, &keys).await;
    let intruder = intruder(&redis).await;
    kv.set("code:alice", b"alice".to_vec(), MINUTE)
        .await
        .unwrap();
    let stored: bytes::Bytes = intruder.get("ztna:code:alice").await.unwrap();
    assert!(!stored.windows(5).any(|piece| piece == b"alice"));
    assert_eq!(other.get("code:alice").await.unwrap().unwrap(), b"alice");

    // Made up, moved to another key, altered.
    let put = async |key: &str, value: bytes::Bytes| {
        let key = format!("ztna:{key}");
        let () = intruder.set(key, value, None, None, false).await.unwrap();
    };
    put("code:mallory", bytes::Bytes::from_static(b"alice")).await;
    put("code:bob", stored.clone()).await;
    let mut altered = stored.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    put("code:carol", altered.clone().into()).await;
    for key in ["code:mallory", "code:bob", "code:carol"] {
        assert_eq!(kv.get(key).await.unwrap(), None, "{key}");
        assert_eq!(kv.take(key).await.unwrap(), None, "{key}");
    }
    put("code:alice", altered.into()).await;
    assert_eq!(kv.get("code:alice").await.unwrap(), None);

    // What another deployment wrote into the same database.
    let stranger = connected(&redis, &self::keys()).await;
    stranger.set("code:dave", vec![1], MINUTE).await.unwrap();
    assert_eq!(kv.get("code:dave").await.unwrap(), None);

    // Messages: made up, recorded, of another channel. The one behind them is heard.
    let mut heard = kv.listen();
    kv.subscribe("a").await.unwrap();
    kv.subscribe("b").await.unwrap();
    let recorder = intruder.clone_new();
    recorder.init().await.unwrap();
    let mut recorded = recorder.message_rx();
    recorder.subscribe("ztna:a").await.unwrap();
    other.publish("a", vec![1]).await.unwrap();
    assert_eq!(hears(&mut heard).await, ("a".to_owned(), vec![1]));
    let record = tokio::time::timeout(LIMIT, recorded.recv()).await.unwrap();
    let record = bytes::Bytes::copy_from_slice(record.unwrap().value.as_bytes().unwrap());
    let say = async |channel: &str, message: bytes::Bytes| {
        let listeners: i64 = intruder.publish(channel, message).await.unwrap();
        assert!(listeners > 0);
    };
    say("ztna:a", bytes::Bytes::from_static(&[2])).await;
    say("ztna:a", record.clone()).await;
    say("ztna:b", record).await;
    stranger.publish("a", vec![3]).await.unwrap();
    other.publish("b", vec![4]).await.unwrap();
    assert_eq!(hears(&mut heard).await, ("b".to_owned(), vec![4]));
    for kv in [kv, other, stranger] {
        kv.quit().await;
    }
}

#[tokio::test]
async fn a_server_with_tls_conforms_and_is_checked() {
    let redis = Redis::start_tls();
    let keys = keys();
    let authority = redis.authority();
    let kv = ValkeyKv::connect(&redis.url(), Some(&authority), &keys).unwrap();
    let kv = answers(kv).await;
    conforms(&kv).await;
    passes_on(&kv, &kv).await;
    kv.quit().await;
    // The public web's authorities do not know it, nor does another of one's own.
    let strange = Redis::start_tls();
    for authority in [None, Some(strange.authority())] {
        let kv = ValkeyKv::connect(&redis.url(), authority.as_deref(), &keys).unwrap();
        let tries = async {
            while kv.ping().await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let connected = tokio::time::timeout(Duration::from_secs(3), tries).await;
        assert!(connected.is_err(), "{authority:?}");
    }
    let server = Server::start_with(|config| {
        config.kv_url = Some(redis.url());
        config.kv_authorities = Some(redis.authority());
    })
    .await;
    assert_eq!(status(&Client::anonymous(&server)).await, "ok");
    server.stop().await;
}

async fn status(client: &Client) -> String {
    let response = client
        .request(reqwest::Method::GET, "/health")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 200);
    response.json::<Health>().await.unwrap().status
}

async fn wait_for_status(client: &Client, wanted: impl Fn(&str) -> bool) {
    let begin = Instant::now();
    while !wanted(&status(client).await) {
        assert!(begin.elapsed() < LIMIT, "{}", status(client).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn fail(client: &Client) -> ErrorCode {
    code(client.login("alice@example.com", "wrong password").await)
}

#[tokio::test]
async fn nodes_share_a_limit_and_each_keeps_its_own_while_the_store_is_away() {
    let mut redis = Redis::start();
    let limit = |config: &mut ztna_api::Config, url: String| {
        config.kv_url = Some(url);
        config.limits.account.count = 2;
    };
    let one = Server::start_with(|config| limit(config, redis.url())).await;
    let two = one.beside(|config| limit(config, redis.url())).await;
    let (first, second) = (Client::anonymous(&one), Client::anonymous(&two));
    assert_eq!(status(&first).await, "ok");

    // Two tries, wherever they are made.
    assert_eq!(fail(&first).await, ErrorCode::InvalidCredentials);
    assert_eq!(fail(&second).await, ErrorCode::InvalidCredentials);
    assert_eq!(fail(&first).await, ErrorCode::AccountLocked);
    assert_eq!(fail(&second).await, ErrorCode::AccountLocked);

    redis.stop();
    // The call that finds the store gone is answered all the same, and the limits hold per node.
    for client in [&first, &second] {
        assert_eq!(fail(client).await, ErrorCode::InvalidCredentials);
        assert_eq!(fail(client).await, ErrorCode::InvalidCredentials);
        assert_eq!(fail(client).await, ErrorCode::AccountLocked);
        assert!(status(client).await.starts_with("degraded: "));
    }

    redis.resume();
    wait_for_status(&first, |status| status == "ok").await;
    assert_eq!(fail(&first).await, ErrorCode::InvalidCredentials);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_node_starts_without_the_store_and_finds_it_later() {
    let mut redis = Redis::start();
    redis.stop();
    let server = Server::start_with(|config| config.kv_url = Some(redis.url())).await;
    let client = Client::anonymous(&server);
    assert!(status(&client).await.starts_with("degraded: "));
    Client::new_user(&server, "alice@example.com").await;
    client.login("alice@example.com", PASSWORD).await.unwrap();
    redis.resume();
    wait_for_status(&client, |status| status == "ok").await;
    client.login("alice@example.com", PASSWORD).await.unwrap();
    server.stop().await;
}
