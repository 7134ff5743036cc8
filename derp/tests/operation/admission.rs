//! Who may use the relay.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use ztna_derp::client::{ConnectError, Event};
use ztna_proto::keys::hex;
use ztna_proto::revocation::{Revocation, RevocationList, WgKeyHash};
use ztna_proto::ticket::{TICKET_LIFETIME, TicketClaims, TicketSigner};
use ztna_proto::{MachineId, OrgId, WgPrivateKey};

use crate::relay::{PATIENCE, Relay, new_key, program, until};

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn refusal<T>(joined: Result<T, ConnectError>) -> String {
    match joined {
        Err(ConnectError::Refused(reason)) => reason,
        Err(error) => panic!("not refused but: {error}"),
        Ok(_) => panic!("admitted"),
    }
}

#[tokio::test]
async fn exactly_one_mode_must_be_chosen() {
    let key = "00".repeat(32);
    for flags in [&[][..], &["--open", "--ticket-key", &key]] {
        let dir = tempfile::tempdir().unwrap();
        let output = program()
            .args(flags)
            .arg("--data-dir")
            .arg(dir.path())
            .output()
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        for mode in ["--ticket-key", "--verify-url", "--open"] {
            assert!(said.contains(mode), "{said}");
        }
    }
}

#[tokio::test]
async fn an_open_relay_serves_strangers_of_one_group() {
    let relay = Relay::start(&["--open"]).await;
    let (a, b) = (new_key(), new_key());
    let (sender, _keep) = relay.join(&a, "").await.unwrap();
    let (_sender, mut receiver) = relay.join(&b, "").await.unwrap();
    sender.try_send(b.public(), "hello".into()).unwrap();
    let event = tokio::time::timeout(PATIENCE, receiver.next())
        .await
        .unwrap();
    let Event::Packet { from, packet } = event.unwrap() else {
        panic!("no packet");
    };
    assert_eq!((from, &packet[..]), (a.public(), &b"hello"[..]));
}

#[tokio::test]
async fn a_verifier_decides_in_derpers_form_and_its_silence_is_a_no() {
    let allowed = new_key();
    let name = format!("nodekey:{}", hex(allowed.public().as_bytes()));
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let verify = async move |State(asked): State<Arc<Mutex<Vec<Value>>>>,
                             Json(body): Json<Value>| {
        let allow = body["NodePublic"] == name.as_str();
        asked.lock().unwrap().push(body);
        Json(json!({ "Allow": allow }))
    };
    let router = Router::new()
        .route("/verify", post(verify))
        .route("/broken", post(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/long", post(async || "x".repeat(5000)))
        .route("/odd", post(async || Json(json!({ "allow": true }))))
        .with_state(Arc::clone(&asked));
    let address = serve(router).await;

    let url = |path| format!("http://{address}{path}");
    let relay = Relay::start(&["--verify-url", &url("/verify")]).await;
    assert!(relay.join(&allowed, "").await.is_ok());
    assert!(refusal(relay.join(&new_key(), "").await).contains("may not use"));
    for question in asked.lock().unwrap().iter() {
        assert_eq!(question["Source"], "127.0.0.1");
        assert_eq!(question.as_object().unwrap().len(), 2);
    }
    for path in ["/broken", "/long", "/odd", "/absent"] {
        let relay = Relay::start(&["--verify-url", &url(path)]).await;
        let reason = refusal(relay.join(&allowed, "").await);
        assert!(reason.contains("cannot check"), "{path}: {reason}");
    }
}

/// A control plane that knows revocations only.
struct ControlPlane {
    signer: TicketSigner,
    list: watch::Sender<Vec<Revocation>>,
}

#[derive(Deserialize)]
struct Ask {
    after: u64,
    wait: u64,
}

impl ControlPlane {
    async fn start() -> (Arc<Self>, SocketAddr) {
        let plane = Arc::new(Self {
            signer: TicketSigner::from_seed(&[5; 32]),
            list: watch::Sender::default(),
        });
        let answer = async |State(plane): State<Arc<Self>>, Query(ask): Query<Ask>| {
            assert!(ask.wait <= 25);
            let mut list = plane.list.subscribe();
            let known = usize::try_from(ask.after).unwrap();
            let entries = list.wait_for(|list| list.len() > known).await.unwrap();
            let list = RevocationList {
                seq: entries.len() as u64,
                issued_at: Timestamp::now(),
                since: ask.after,
                entries: entries[known..].to_vec(),
            };
            drop(entries);
            plane.signer.sign_revocations(&list)
        };
        let router = Router::new()
            .route("/api/relays/revocations", get(answer))
            .with_state(Arc::clone(&plane));
        (plane, serve(router).await)
    }

    fn ticket(&self, key: &WgPrivateKey, issued_at: Timestamp) -> String {
        self.signer.sign(&TicketClaims {
            org: OrgId::generate(),
            machine: MachineId::generate(),
            wg_key: key.public(),
            regions: Vec::new(),
            issued_at,
            expires_at: issued_at.checked_add(TICKET_LIFETIME).unwrap(),
            bytes_per_second: None,
        })
    }

    fn revoke(&self, key: &WgPrivateKey) {
        self.list.send_modify(|list| {
            list.push(Revocation {
                key_hash: WgKeyHash::of(&key.public()),
                at: Timestamp::now(),
            });
        });
    }
}

#[tokio::test]
async fn a_revoked_machine_is_cut_at_once_and_stays_out() {
    let (plane, address) = ControlPlane::start().await;
    let ticket_key = plane.signer.verifier().to_string();
    let api = format!("http://{address}");
    let flags = ["--ticket-key", &ticket_key, "--api", &api];
    let relay = Relay::start(&flags).await;
    // Twice: the second comes by a call that waited.
    for _ in 0..2 {
        let (revoked, other) = (new_key(), new_key());
        let now = Timestamp::now();
        let ticket = plane.ticket(&revoked, now);
        let (_sender, mut receiver) = relay.join(&revoked, &ticket).await.unwrap();
        let (sender, _keep) = relay
            .join(&other, &plane.ticket(&other, now))
            .await
            .unwrap();
        plane.revoke(&revoked);
        let end = async { while receiver.next().await.is_ok() {} };
        tokio::time::timeout(PATIENCE, end).await.unwrap();
        let reason = refusal(relay.join(&revoked, &ticket).await);
        assert!(reason.contains("revoked"), "{reason}");
        let later = Timestamp::now() + SignedDuration::from_secs(1);
        assert!(
            relay
                .join(&revoked, &plane.ticket(&revoked, later))
                .await
                .is_ok()
        );
        assert!(!sender.is_closed());
    }
    let metrics = relay.get("/metrics").await;
    assert!(
        metrics.contains("ztna_derp_revocations_total 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("ztna_derp_revocation_list_age_seconds"),
        "{metrics}"
    );
}

#[tokio::test]
async fn lists_of_others_are_not_believed() {
    let (plane, address) = ControlPlane::start().await;
    let key = new_key();
    let ours = TicketSigner::from_seed(&[6; 32]);
    let api = format!("http://{address}");
    let ticket_key = ours.verifier().to_string();
    plane.revoke(&key);
    let relay = Relay::start(&["--ticket-key", &ticket_key, "--api", &api]).await;
    until(async || {
        let metrics = relay.get("/metrics").await;
        metrics
            .contains("ztna_derp_revocation_list_failures_total 1")
            .then_some(())
    })
    .await;
    let own = ControlPlane {
        signer: ours,
        list: watch::Sender::default(),
    };
    let ticket = own.ticket(&key, Timestamp::now() - SignedDuration::from_mins(1));
    assert!(relay.join(&key, &ticket).await.is_ok());
}
