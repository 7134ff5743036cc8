//! The relay and its client over real TLS: what a user of both relies on.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Client, Relay, data, new_key};
use jiff::{SignedDuration, Timestamp};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ztna_derp::MAX_PACKET;
use ztna_derp::client::{ConnectError, Event, SendError};
use ztna_derp::frame::GoneReason;
use ztna_derp::server::Limits;
use ztna_proto::revocation::{Revocation, WgKeyHash};
use ztna_proto::ticket::{TicketClaims, TicketSigner};
use ztna_proto::{OrgId, RegionId, WgPublicKey};
use ztna_tls::ServerIdentity;

#[tokio::test]
async fn packets_pass_both_ways_up_to_the_largest() {
    let relay = Relay::start().await;
    let (mut a, mut b) = (relay.join().await, relay.join().await);
    for len in [0, 1, 32, 1280, 16 * 1024, MAX_PACKET] {
        let packet: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
        a.send(&b, &packet);
        assert_eq!(b.packet().await, (a.key, Bytes::from(packet.clone())));
        b.send(&a, &packet);
        assert_eq!(a.packet().await, (b.key, Bytes::from(packet)));
    }
    let too_long = Bytes::from(vec![0; MAX_PACKET + 1]);
    let refused = a.sender.try_send(b.key, too_long);
    assert_eq!(refused, Err(SendError::TooLong(MAX_PACKET + 1)));
}

#[tokio::test]
async fn order_is_kept_in_a_stream() {
    let relay = Relay::start().await;
    let (a, mut b) = (relay.join().await, relay.join().await);
    for number in 0..200 {
        a.send(&b, &data(number, 1200));
    }
    for number in 0..200 {
        assert_eq!(b.packet().await.1, data(number, 1200));
    }
}

async fn refusal(relay: &Relay, change: impl FnOnce(&mut TicketClaims)) -> String {
    let key = new_key();
    let mut claims = relay.claims(key.public());
    change(&mut claims);
    refused_ticket(relay, &key, relay.signer.sign(&claims)).await
}

async fn refused_ticket(relay: &Relay, key: &ztna_proto::WgPrivateKey, ticket: String) -> String {
    match relay.try_join(key, ticket).await {
        Err(ConnectError::Refused(reason)) => reason,
        Err(other) => panic!("refused otherwise: {other}"),
        Ok(_) => panic!("admitted"),
    }
}

#[tokio::test]
async fn whoever_has_no_valid_ticket_is_told_why() {
    let relay = Relay::start().await;
    let hour = SignedDuration::from_hours(1);
    let expired = refusal(&relay, |claims| {
        claims.expires_at = Timestamp::now().checked_sub(hour).unwrap();
    });
    assert!(expired.await.contains("expired"));
    let region = refusal(&relay, |claims| claims.regions = vec![RegionId(9)]);
    assert!(region.await.contains("region"));
    let key = refusal(&relay, |claims| claims.wg_key = WgPublicKey([7; 32]));
    assert!(key.await.contains("another machine"));

    let key = new_key();
    let stranger = TicketSigner::from_seed(&[9; 32]).sign(&relay.claims(key.public()));
    assert!(
        refused_ticket(&relay, &key, stranger)
            .await
            .contains("signed")
    );
    assert!(
        refused_ticket(&relay, &key, String::new())
            .await
            .contains("malformed")
    );
    assert_eq!(relay.server.connections(), 0);
}

#[tokio::test]
async fn a_peer_that_leaves_is_missed_by_those_it_wrote_to() {
    let relay = Relay::start().await;
    let (a, mut b, mut c) = (relay.join().await, relay.join().await, relay.join().await);
    a.send(&b, b"hello");
    assert_eq!(b.packet().await.0, a.key);
    let gone = a.key;
    drop(a);
    let expected = Event::PeerGone {
        peer: gone,
        reason: GoneReason::Disconnected,
    };
    assert_eq!(b.event().await, expected);
    // C never heard of A: the first thing that it gets is its own Pong.
    c.sender.ping().unwrap();
    assert!(matches!(c.event().await, Event::Pong { .. }));
}

#[tokio::test]
async fn a_peer_that_is_not_here_is_reported_for_control_packets_and_not_too_often() {
    let relay = Relay::start().await;
    let mut a = relay.join().await;
    let nobody = WgPublicKey([0xee; 32]);
    a.sender.try_send(nobody, data(1, 100).into()).unwrap();
    for _ in 0..50 {
        a.sender
            .try_send(nobody, Bytes::from_static(b"@discovery"))
            .unwrap();
    }
    a.sender.ping().unwrap();
    let mut reports = 0;
    loop {
        match a.event().await {
            Event::PeerGone { peer, reason } => {
                assert_eq!((peer, reason), (nobody, GoneReason::NotHere));
                reports += 1;
            }
            // The Ping overtook the packets at our side.
            Event::Pong { .. } if reports == 0 => a.sender.ping().unwrap(),
            Event::Pong { .. } => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!((1..=4).contains(&reports), "{reports} reports");
}

#[tokio::test]
async fn another_orgs_machines_are_not_here() {
    let relay = Relay::start().await;
    let mut a = relay.join().await;
    let key = new_key();
    let claims = TicketClaims {
        org: OrgId::generate(),
        ..relay.claims(key.public())
    };
    let mut stranger = relay
        .try_join(&key, relay.signer.sign(&claims))
        .await
        .unwrap();
    stranger.send(&a, b"@let me in");
    let expected = Event::PeerGone {
        peer: a.key,
        reason: GoneReason::NotHere,
    };
    assert_eq!(stranger.event().await, expected);
    a.sender.ping().unwrap();
    assert!(
        matches!(a.event().await, Event::Pong { .. }),
        "nothing else came"
    );
}

#[tokio::test]
async fn the_newest_connection_of_a_key_takes_over_and_gives_back() {
    let relay = Relay::start().await;
    let key = new_key();
    let mut old = relay.join_as(&key).await;
    let mut peer = relay.join().await;
    let mut new = relay.join_as(&key).await;
    peer.send(&new, b"to the new one");
    assert_eq!(new.packet().await.1, "to the new one");
    // The old one may still send.
    old.send(&peer, b"from the old one");
    assert_eq!(peer.packet().await.1, "from the old one");
    drop(new);
    while relay.server.connections() > 2 {
        tokio::task::yield_now().await;
    }
    peer.send(&old, b"to the old one again");
    assert_eq!(old.packet().await.1, "to the old one again");
}

#[tokio::test]
async fn a_revoked_client_is_cut_at_once_and_stays_out() {
    let relay = Relay::start().await;
    let key = new_key();
    let ticket = relay.ticket(key.public());
    let mut revoked = relay.try_join(&key, ticket.clone()).await.unwrap();
    let mut peer = relay.join().await;
    revoked.send(&peer, b"before");
    peer.packet().await;
    assert_eq!(relay.server.revoke(&key.public(), Timestamp::now()), 1);
    let last = revoked.last_events().await;
    let [Event::Health(reason)] = last.as_slice() else {
        panic!("not cut with a reason: {last:?}");
    };
    assert!(reason.contains("revoked"), "{reason}");
    assert!(matches!(peer.event().await, Event::PeerGone { .. }));
    let reason = refused_ticket(&relay, &key, ticket).await;
    assert!(reason.contains("revoked"), "{reason}");
    // Enrolled again, it comes in.
    relay.join_as(&key).await;
}

#[tokio::test]
async fn a_list_of_revocations_cuts_those_on_it_and_nobody_else() {
    let relay = Relay::start().await;
    let keys = [new_key(), new_key()];
    let mut revoked = Vec::new();
    for key in &keys {
        let ticket = relay.ticket(key.public());
        let client = relay.try_join(key, ticket.clone()).await.unwrap();
        revoked.push((key, ticket, client));
    }
    let mut others = [relay.join().await, relay.join().await];
    assert_eq!(relay.server.revoke_all(&[]), 0);
    let absent = new_key();
    let entries: Vec<Revocation> = keys
        .iter()
        .chain([&absent])
        .map(|key| Revocation {
            key_hash: WgKeyHash::of(&key.public()),
            at: Timestamp::now(),
        })
        .collect();
    assert_eq!(relay.server.revoke_all(&entries), 2);
    for (key, ticket, mut client) in revoked {
        let last = client.last_events().await;
        assert!(
            matches!(last.as_slice(), [Event::Health(reason)] if reason.contains("revoked")),
            "{last:?}"
        );
        let reason = refused_ticket(&relay, key, ticket).await;
        assert!(reason.contains("revoked"), "{reason}");
    }
    let [a, b] = &mut others;
    a.send(b, b"still here");
    assert_eq!(b.packet().await.1, "still here");
}

#[tokio::test]
async fn disconnecting_cuts_and_lets_come_back() {
    let relay = Relay::start().await;
    let key = new_key();
    let mut client = relay.join_as(&key).await;
    assert_eq!(relay.server.disconnect(&key.public(), "for a test"), 1);
    assert_eq!(
        client.last_events().await,
        [Event::Health("for a test".into())]
    );
    relay.join_as(&key).await;
}

#[tokio::test]
async fn shutdown_tells_clients_when_to_come_back() {
    let relay = Relay::start().await;
    let mut client = relay.join().await;
    relay.shutdown.cancel();
    let last = client.last_events().await;
    assert!(
        matches!(last.as_slice(), [Event::Restarting { .. }]),
        "{last:?}"
    );
    relay.task.await.unwrap();
}

#[tokio::test]
async fn the_relay_says_what_it_limits_and_the_client_keeps_to_it() {
    let limits = Limits {
        bytes_per_second: Some(1000),
        burst: 0,
        ..Limits::default()
    };
    let relay = Relay::with_limits(limits).await;
    let (a, b) = (relay.join().await, relay.join().await);
    let sent = (0..100)
        .take_while(|number| {
            a.sender
                .try_send(b.key, data(*number, 10_000).into())
                .is_ok()
        })
        .count();
    // The smallest burst is one largest frame: six such packets and a bit.
    assert_eq!(sent, 6);
    let refused = a.sender.try_send(b.key, data(0, 10_000).into());
    assert_eq!(refused, Err(SendError::RateLimited));
}

#[tokio::test]
async fn a_full_relay_says_so() {
    let limits = Limits {
        clients: 1,
        ..Limits::default()
    };
    let relay = Relay::with_limits(limits).await;
    let _first = relay.join().await;
    let key = new_key();
    let reason = refused_ticket(&relay, &key, relay.ticket(key.public())).await;
    assert!(reason.contains("full"), "{reason}");
}

/// B reads nothing while A sends it more than all queues and socket buffers hold.
#[tokio::test]
async fn a_slow_receiver_holds_up_nobody() {
    let relay = Relay::start().await;
    let (mut a, mut slow, mut c) = (relay.join().await, relay.join().await, relay.join().await);
    for _ in 0..40 {
        for number in 0..50 {
            a.send(&slow, &data(number, 10_000));
        }
        a.settle().await;
    }
    a.send(&c, b"still here");
    assert_eq!(c.packet().await.1, "still here");
    // The slow one lost old packets, not the newest.
    a.send(&slow, &data(4711, 10));
    let mut received = 0;
    while slow.packet().await.1 != data(4711, 10) {
        received += 1;
    }
    assert!(
        received < 40 * 50,
        "nothing was lost: queues are not bounded"
    );
}

#[tokio::test]
async fn a_wrong_pin_and_a_classic_relay_are_refused() {
    let relay = Relay::start().await;
    let key = new_key();
    let mut config = relay.config(&key, relay.ticket(key.public()));
    config.node.certificate = ztna_tls::pin_of(b"another certificate");
    let error = ztna_derp::client::connect(config).await.err().unwrap();
    assert!(error.to_string().contains("pinned"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let identity = ServerIdentity::load_or_create(dir.path(), &[]).unwrap();
    let file = dir.path().join("tls.pem");
    let provider = CryptoProvider {
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    };
    let classic = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&file).unwrap()],
            PrivateKeyDer::from_pem_file(&file).unwrap(),
        )
        .unwrap();
    let relay = Relay::with_tls(Limits::default(), &identity, Arc::new(classic)).await;
    let Err(error) = relay.try_join(&key, relay.ticket(key.public())).await else {
        panic!("connected without a post-quantum key exchange");
    };
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn unreachable_relays_are_errors_that_say_where() {
    let relay = Relay::start().await;
    let key = new_key();
    let mut config = relay.config(&key, String::new());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    config.node.derp_port = Some(port);
    let error = ztna_derp::client::connect(config.clone())
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    config.node.derp_port = None;
    let error = ztna_derp::client::connect(config).await.err().unwrap();
    assert!(matches!(error, ConnectError::NoRelay { .. }), "{error}");
}

#[tokio::test]
async fn note_preferred_is_taken() {
    let relay = Relay::start().await;
    let mut client: Client = relay.join().await;
    for preferred in [true, true, false, true] {
        client.sender.note_preferred(preferred).unwrap();
    }
    client.settle().await;
}
