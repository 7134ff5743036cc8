//! The program as its operator runs it.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{PATIENCE, new_key};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_rustls::TlsConnector;
use ztna_derp::client::{ClientConfig, Event, Transport, connect};
use ztna_proto::relay::RelayNode;
use ztna_proto::ticket::{TICKET_LIFETIME, TicketClaims, TicketSigner};
use ztna_proto::{MachineId, OrgId};
use ztna_tls::{KeyExchange, client_config, parse_pin};

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztna-derp"));
    command
        .args([
            "--listen",
            "127.0.0.1:0",
            "--public-host",
            "127.0.0.1",
            "--data-dir",
        ])
        .arg(dir)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Waits for the ready file of the program.
async fn ready(dir: &Path, child: &mut Child) -> serde_json::Value {
    let poll = async {
        loop {
            if let Ok(text) = std::fs::read_to_string(dir.join("derp.json")) {
                return serde_json::from_str(&text).unwrap();
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap()
}

fn node(ready: &serde_json::Value) -> RelayNode {
    RelayNode {
        name: "program".into(),
        host: ready["host"].as_str().unwrap().into(),
        addresses: Vec::new(),
        derp_port: Some(ready["port"].as_u64().unwrap().try_into().unwrap()),
        stun_port: None,
        quic_port: ready["quic_port"]
            .as_u64()
            .map(|port| port.try_into().unwrap()),
        http_port: None,
        certificate: parse_pin(ready["pin"].as_str().unwrap()).unwrap(),
    }
}

async fn get(node: &RelayNode, path: &str) -> String {
    let stream = TcpStream::connect((node.host.as_str(), node.derp_port.unwrap()))
        .await
        .unwrap();
    let config = client_config(&node.certificate, KeyExchange::RequirePostQuantum).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[cfg(unix)]
#[tokio::test]
async fn a_relay_starts_serves_and_stops_and_keeps_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let signer = TicketSigner::from_seed(&[5; 32]);
    let ticket_key = signer.verifier().to_string();
    let mut before = None;
    for (flag, transport) in [(None, Transport::Quic), (Some("--no-quic"), Transport::Tcp)] {
        let mut child = command(dir.path())
            .args(["--ticket-key", &ticket_key])
            .args(flag)
            .spawn()
            .unwrap();
        let ready = ready(dir.path(), &mut child).await;
        assert_eq!(
            ready["pid"].as_u64().unwrap(),
            u64::from(child.id().unwrap())
        );
        let identity = (ready["pin"].clone(), ready["public_key"].clone());
        assert_eq!(*before.get_or_insert(identity.clone()), identity);

        let node = node(&ready);
        let asked = asked_for_health(dir.path()).await;
        assert!(asked.status.success(), "{asked:?}");
        let log = String::from_utf8(asked.stderr).unwrap();
        assert!(
            !log.contains('\u{1b}'),
            "colours where no terminal is: {log:?}"
        );
        let health = get(&node, "/health").await;
        assert!(health.contains(r#""status":"ok""#), "{health}");
        assert!(get(&node, "/derp/probe").await.starts_with("HTTP/1.1 200"));

        let key = new_key();
        let issued_at = jiff::Timestamp::now();
        let ticket = signer.sign(&TicketClaims {
            org: OrgId::generate(),
            machine: MachineId::generate(),
            wg_key: key.public(),
            regions: Vec::new(),
            issued_at,
            expires_at: issued_at.checked_add(TICKET_LIFETIME).unwrap(),
            bytes_per_second: None,
        });
        let config = ClientConfig {
            node: node.clone(),
            key,
            ticket,
        };
        let (sender, mut receiver) = connect(config).await.unwrap();
        assert_eq!(sender.transport(), transport);
        let metrics = get(&node, "/metrics").await;
        assert!(
            metrics.contains("ztna_derp_current_connections 1"),
            "{metrics}"
        );

        let pid = nix::unistd::Pid::from_raw(child.id().unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let farewell = receiver.next().await.unwrap();
        assert!(matches!(farewell, Event::Restarting { .. }), "{farewell:?}");
        let status = tokio::time::timeout(PATIENCE, child.wait())
            .await
            .unwrap()
            .unwrap();
        assert!(status.success(), "{status}");
        assert!(!dir.path().join("derp.json").exists());
        let asked = asked_for_health(dir.path()).await;
        assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    }
}

async fn asked_for_health(dir: &std::path::Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztna-derp"));
    command.args(["health", "--data-dir"]).arg(dir);
    command.output().await.unwrap()
}

#[tokio::test]
async fn without_a_ticket_key_it_says_where_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = command(dir.path())
        .env_remove("ZTNA_DERP_TICKET_KEY")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("api.json") && said.contains("ticket_key"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_port_in_use_and_a_damaged_key_are_said() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ticket_key = "00".repeat(32);
    let run = async |listen: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ztna-derp"))
            .args([
                "--ticket-key",
                &ticket_key,
                "--listen",
                listen,
                "--data-dir",
            ])
            .arg(dir.path())
            .output()
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run(&address).await;
    assert!(said.contains(&address), "{said}");

    std::fs::write(dir.path().join("relay.key"), "damaged").unwrap();
    let said = run("127.0.0.1:0").await;
    assert!(
        said.contains("relay.key") && said.contains("restore"),
        "{said}"
    );
}
