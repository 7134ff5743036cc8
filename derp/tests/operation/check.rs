//! `ztna-derp check` against relays that work, and others.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use ztna_proto::keys::hex;
use ztna_proto::ticket::{TICKET_LIFETIME, TicketClaims, TicketSigner};
use ztna_proto::{MachineId, OrgId};

use crate::relay::{Relay, free_port, new_key, program, write};

/// Runs the check; says whether it succeeded, and what it printed.
async fn check(flags: &[&str]) -> (bool, String) {
    let output = program().arg("check").args(flags).output().await.unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

async fn check_json(flags: &[&str]) -> (bool, Value) {
    let (ok, text) = check(&[flags, &["--json"]].concat()).await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["ok"], ok);
    (ok, document)
}

fn verdict<'a>(document: &'a Value, step: &str) -> (&'a str, &'a Value) {
    let steps = document["steps"].as_array().unwrap();
    let found = steps.iter().find(|entry| entry["step"] == step);
    let found = found.unwrap_or_else(|| panic!("no step {step}: {document}"));
    (found["verdict"].as_str().unwrap(), found)
}

const ALL: [&str; 9] = [
    "DNS",
    "TCP",
    "TLS",
    "key exchange",
    "certificate",
    "upgrade",
    "latency",
    "round trip",
    "throughput",
];

#[tokio::test]
async fn an_open_relay_passes_every_step() {
    let relay = Relay::start(&["--open"]).await;
    let (address, pin) = (relay.address().to_string(), relay.ready["pin"].clone());
    let flags = [address.as_str(), "--pin", pin.as_str().unwrap()];
    let (ok, document) = check_json(&flags).await;
    assert!(ok, "{document}");
    for step in ALL {
        assert_eq!(verdict(&document, step).0, "ok", "{step}: {document}");
    }
    let (ok, lines) = check(&flags).await;
    assert!(ok, "{lines}");
    assert_eq!(lines.lines().count(), ALL.len(), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with('✔')), "{lines}");
    assert!(lines.contains("X25519MLKEM768"), "{lines}");
}

#[tokio::test]
async fn a_closed_relay_is_tested_as_two_machines_or_up_to_its_door() {
    let signer = TicketSigner::from_seed(&[5; 32]);
    let ticket_key = signer.verifier().to_string();
    let relay = Relay::start(&["--ticket-key", &ticket_key]).await;
    let (address, pin) = (relay.address().to_string(), relay.ready["pin"].clone());
    let flags = [address.as_str(), "--pin", pin.as_str().unwrap()];
    let (ok, document) = check_json(&flags).await;
    assert!(ok, "{document}");
    let (skipped, step) = verdict(&document, "throughput");
    assert_eq!(skipped, "skipped");
    assert!(
        step["detail"].as_str().unwrap().contains("--client"),
        "{step}"
    );

    let (dir, org) = (tempfile::tempdir().unwrap(), OrgId::generate());
    let client = |name| {
        let (key, issued_at) = (new_key(), Timestamp::now());
        let ticket = signer.sign(&TicketClaims {
            org,
            machine: MachineId::generate(),
            wg_key: key.public(),
            regions: Vec::new(),
            issued_at,
            expires_at: issued_at.checked_add(TICKET_LIFETIME).unwrap(),
            bytes_per_second: None,
        });
        let file = json!({ "private_key": hex(key.expose()), "ticket": ticket });
        write(dir.path(), name, &file.to_string())
    };
    let (first, second) = (client("first"), client("second"));
    let clients = ["--client", &first, "--client", &second];
    let (ok, document) = check_json(&[&flags[..], &clients].concat()).await;
    assert!(ok, "{document}");
    for step in ALL {
        assert_eq!(verdict(&document, step).0, "ok", "{step}: {document}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_with_the_next_step() {
    let port = free_port();
    let (ok, document) = check_json(&[&format!("127.0.0.1:{port}")]).await;
    assert!(!ok);
    let (failed, step) = verdict(&document, "TCP");
    assert_eq!(failed, "failed");
    assert!(
        step["next"].as_str().unwrap().contains("firewall"),
        "{step}"
    );

    let relay = Relay::start(&["--open"]).await;
    let address = relay.address().to_string();
    let other = format!("sha256:{}", "00".repeat(32));
    let (ok, lines) = check(&[&address, "--pin", &other]).await;
    assert!(!ok);
    let last = lines.lines().last().unwrap();
    assert!(
        last.starts_with("✘ TLS") && last.contains("derp.json"),
        "{lines}"
    );

    let (ok, document) = check_json(&["no.such.name.invalid"]).await;
    assert!(!ok);
    assert_eq!(verdict(&document, "DNS").0, "failed");
}

#[tokio::test]
async fn stun_is_asked_where_it_is_wanted() {
    let relay = Relay::start(&["--open"]).await;
    let (address, pin) = (relay.address().to_string(), relay.ready["pin"].clone());
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stun_port = service.local_addr().unwrap().port().to_string();
    tokio::spawn(async move {
        let mut buf = [0; 100];
        loop {
            let (len, from) = service.recv_from(&mut buf).await.unwrap();
            assert_eq!((len, &buf[..2]), (20, &[0, 1][..]));
            let mut answer = vec![1, 1, 0, 12];
            answer.extend(&buf[4..20]);
            answer.extend(b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43");
            service.send_to(&answer, from).await.unwrap();
        }
    });
    let flags = [&address, "--pin", pin.as_str().unwrap(), "--stun-port"];
    let (ok, document) = check_json(&[&flags[..], &[&stun_port]].concat()).await;
    assert!(ok, "{document}");
    let (_, step) = verdict(&document, "STUN");
    assert!(
        step["detail"].as_str().unwrap().contains("192.0.2.1:32853"),
        "{step}"
    );

    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stun_port = silent.local_addr().unwrap().port().to_string();
    let (ok, document) = check_json(&[&flags[..], &[&stun_port]].concat()).await;
    assert!(!ok);
    assert_eq!(verdict(&document, "STUN").0, "failed");
}
