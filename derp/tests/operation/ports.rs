//! The relay's ports, certificates and limits.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use ztna_tls::ServerIdentity;

use crate::relay::{Relay, new_key, until, write};

#[tokio::test]
async fn metrics_have_a_port_of_their_own_or_answer_this_machine_only() {
    let own = Relay::start(&["--open", "--metrics-listen", "127.0.0.1:0"]).await;
    let address: SocketAddr = own.ready["metrics"].as_str().unwrap().parse().unwrap();
    let metrics = own.get_plain(address, "/metrics", "").await;
    assert!(
        metrics.contains("ztna_derp_current_connections 0"),
        "{metrics}"
    );
    assert!(own.get("/metrics").await.starts_with("HTTP/1.1 404"));

    let shared = Relay::start(&["--open", "--metrics-from", "192.0.2.0/24"]).await;
    assert!(shared.get("/metrics").await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn without_tls_metrics_need_a_trusted_proxy_that_names_the_client() {
    let relay = Relay::start(&["--open", "--no-tls"]).await;
    assert!(relay.ready["pin"].is_null());
    let address = relay.address();
    let answer = relay.get_plain(address, "/metrics", "").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let probe = relay.get_plain(address, "/derp/probe", "").await;
    assert!(probe.starts_with("HTTP/1.1 200"), "{probe}");

    let flags = ["--open", "--no-tls", "--trusted-proxy", "127.0.0.1/32"];
    let relay = Relay::start(&flags).await;
    let from = async |client: &str| {
        let header = format!("X-Forwarded-For: {client}\r\n");
        relay.get_plain(relay.address(), "/metrics", &header).await
    };
    assert!(from("192.0.2.1").await.starts_with("HTTP/1.1 403"));
    assert!(from("127.0.0.2").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_plain_port_answers_portal_checks_and_leads_to_the_relay() {
    let relay = Relay::start(&["--open", "--http-listen", "127.0.0.1:0"]).await;
    let port = relay.ready["http_port"]
        .as_u64()
        .unwrap()
        .try_into()
        .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let challenge = "X-Tailscale-Challenge: abc\r\n";
    let answer = relay.get_plain(address, "/generate_204", challenge).await;
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(
        answer.contains("x-tailscale-response: response abc\r\n"),
        "{answer}"
    );
    let answer = relay.get_plain(address, "/x?y", "").await;
    let location = format!(
        "location: https://127.0.0.1:{}/x?y\r\n",
        relay.address().port()
    );
    assert!(answer.contains(&location), "{answer}");
    let answer = relay.get_plain(address, "/metrics", "").await;
    assert!(answer.starts_with("HTTP/1.1 301"), "{answer}");
}

#[tokio::test]
async fn every_path_of_the_public_port_answers() {
    let relay = Relay::start(&["--open", "--bootstrap-dns-names", "localhost"]).await;
    for (path, status, content) in [
        ("/derp/probe", 200, "access-control-allow-origin: *"),
        ("/derp/latency-check", 200, "access-control-allow-origin: *"),
        ("/derp", 426, "upgrade: DERP"),
        ("/generate_204", 204, "no-store"),
        ("/robots.txt", 200, "Disallow: /"),
        ("/health", 200, r#""status":"ok""#),
        ("/none", 404, ""),
    ] {
        let answer = relay.get(path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert!(answer.contains(content), "{answer}");
    }
    let answer = until(async || {
        let answer = relay.get("/bootstrap-dns?q=localhost").await;
        answer.contains("127.0.0.1").then_some(answer)
    })
    .await;
    assert!(
        answer.contains("content-type: application/json"),
        "{answer}"
    );
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_new_certificate_is_taken_over_on_sighup() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let identity =
        |dir: &tempfile::TempDir| ServerIdentity::load_or_create(dir.path(), &["x".into()]);
    let (old, new) = (identity(&first).unwrap(), identity(&second).unwrap());
    let file = first.path().join("tls.pem");
    let path = file.to_str().unwrap();
    let relay = Relay::start(&["--open", "--tls-cert", path, "--tls-key", path]).await;
    assert_eq!(relay.pin(), old.certificate_pin());
    let (_sender, receiver) = relay.join(&new_key(), "").await.unwrap();
    std::fs::copy(second.path().join("tls.pem"), &file).unwrap();
    relay.signal(Signal::SIGHUP);
    let pin = new.certificate_pin();
    until(async || relay.get_with("/health", &pin, "").await.ok()).await;
    assert!(
        relay
            .get_with("/health", &old.certificate_pin(), "")
            .await
            .is_err()
    );
    drop(receiver);
}

#[tokio::test]
async fn rates_change_on_sighup_and_a_broken_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(
        dir.path(),
        "rates.json",
        r#"{"PerClientRateLimitBytesPerSec": 1000000}"#,
    );
    let relay = Relay::start(&["--open", "--rate-config", &file]).await;
    // What the relay tells a new client of its bound is what the client keeps to.
    let bounded = async || {
        let peer = new_key().public();
        let (sender, _receiver) = relay.join(&new_key(), "").await.unwrap();
        let packet = bytes::Bytes::from(vec![0; 60_000]);
        (0..100).any(|_| sender.try_send(peer, packet.clone()).is_err())
    };
    assert!(bounded().await);
    write(dir.path(), "rates.json", "{}");
    relay.signal(Signal::SIGHUP);
    until(async || (!bounded().await).then_some(())).await;
    write(dir.path(), "rates.json", "broken");
    relay.signal(Signal::SIGHUP);
    assert!(!bounded().await);
}
