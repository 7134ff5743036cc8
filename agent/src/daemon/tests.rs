//! A whole daemon, in a network namespace of its own, with a control plane that says what it is
//! told to.

mod life;
mod posture;

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use ztna_handshake::KemPrivateKey;
use ztna_local::{
    Answer, Client, ClientError, DaemonState, FailureKind, NatKind, NetcheckOptions,
    NetcheckReport, PathsOptions, PingOptions, Request, Secret, Status, Step, StepState,
    StunStatus, UpOptions,
};
use ztna_mesh::wireguard::Gotatun;
use ztna_proto::netmap::{ClientMessage, ServerMessage};
use ztna_proto::{ErrorBody, ErrorCode, KemKeyHash, RegionId};

use super::{Daemon, Options};
use crate::testing::relay::{Realm, TestRelay, TestStun, region};
use crate::testing::{ControlPlane, Org, in_new_namespace};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

struct Machine {
    folder: tempfile::TempDir,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Machine {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        std::fs::write(resolv_conf, "nameserver 192.0.2.53\n").unwrap();
        let mut machine = Self { folder, task: None };
        machine.start_daemon().await;
        machine
    }

    async fn start_daemon(&mut self) {
        let options = Options {
            state_dir: self.folder.path().join("state"),
            socket: self.socket(),
            tun: "zt0".to_owned(),
            port: 0,
            port_mapping: true,
            lan_discovery: true,
            resolv_conf: self.folder.path().join("resolv.conf"),
            psk_interval: None,
            wireguard: Gotatun::boxed,
        };
        let daemon = Daemon::start(options).await.unwrap();
        self.task = Some(tokio::spawn(daemon.run()));
    }

    async fn stop_daemon(&mut self) {
        // A daemon that ends may not find the time to say so.
        let _ = self.ask(Request::Shutdown).await;
        let task = self.task.take().unwrap();
        timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("ztna.sock")
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket()).await.unwrap()
    }

    async fn ask(&self, request: Request) -> Result<Answer, ClientError> {
        timeout(PATIENCE, self.client().await.ask(request))
            .await
            .unwrap()
    }

    async fn status(&self) -> Status {
        self.client().await.status().await.unwrap()
    }

    async fn up(&self, options: UpOptions) -> Result<Vec<(Step, StepState)>, ClientError> {
        let mut steps = Vec::new();
        let answers = self.client().await.call(Request::Up(options)).await?;
        let last = answers.last(|progress| steps.push((progress.step, progress.state)));
        timeout(PATIENCE, last).await.unwrap()?;
        steps.retain(|(_, state)| *state != StepState::Started);
        Ok(steps)
    }

    async fn wait_for(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut last = None;
        let waiting = async {
            loop {
                let status = self.status().await;
                if wanted(&status) {
                    return status;
                }
                last = Some(status);
                sleep(Duration::from_millis(10)).await;
            }
        };
        let found = timeout(PATIENCE, waiting).await.ok();
        found.unwrap_or_else(|| panic!("{what} does not come about: {last:?}"))
    }

    fn has_tunnel(&self) -> bool {
        // By route netlink rather than /sys, which shows the namespace that mounted it.
        nix::net::if_::if_nametoindex("zt0").is_ok()
    }
}

fn join(server: &ControlPlane) -> UpOptions {
    UpOptions {
        server: Some(server.url.clone()),
        auth_key: Some(Secret::new("ztna-auth-x".to_owned())),
        ..UpOptions::default()
    }
}

async fn server_of(org: &Org) -> ControlPlane {
    let server = ControlPlane::start().await;
    server.state().machine = Some(org.registered());
    server.greet_with(&org.full(1));
    server
}

fn failure(result: Result<Vec<(Step, StepState)>, ClientError>) -> (FailureKind, String) {
    match result {
        Err(ClientError::Failed(failure)) => (failure.kind, failure.message),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn up_registers_once_and_brings_the_tunnel_up() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None).with_peer("a", 3, None);
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        assert_eq!(machine.status().await.state, DaemonState::NeedsLogin);

        let steps = machine.up(join(&server)).await.unwrap();
        let expected = [
            (Step::Register, StepState::Done),
            (Step::Tunnel, StepState::Done),
            (Step::Control, StepState::Done),
            (Step::Network, StepState::Done),
            // There is none in this org.
            (Step::Relay, StepState::Warning),
        ];
        assert_eq!(steps, expected);
        let status = machine.status().await;
        assert_eq!(status.state, DaemonState::Running);
        assert!(status.control.connected && status.message.is_empty());
        assert_eq!(status.interface.as_deref(), Some("zt0"));
        let names: Vec<_> = status.peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "by name");

        assert_eq!(machine.up(join(&server)).await.unwrap(), expected);
        assert_eq!(machine.up(UpOptions::default()).await.unwrap(), expected);
        let registrations = server.state().registrations.len();
        assert_eq!(
            registrations, 1,
            "a machine in its org joins no second time"
        );
        let (bearer, request) = server.state().registrations.remove(0);
        assert_eq!(bearer, "ztna-auth-x");
        assert!(request.node_key.is_none());

        machine.ask(Request::Down).await.unwrap();
        assert!(!machine.has_tunnel());
        assert_eq!(machine.status().await.state, DaemonState::Stopped);
        assert_eq!(machine.up(UpOptions::default()).await.unwrap(), expected);
        assert!(machine.has_tunnel());
    });
}

#[test]
fn a_refused_registration_is_one_line_and_changes_nothing() {
    in_new_namespace(|| async {
        let org = Org::new();
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        let message = "this auth key has enrolled its machine";
        server.state().refuse_registration = Some(ErrorBody::new(ErrorCode::KeyUsed, message));
        assert_eq!(
            failure(machine.up(join(&server)).await),
            (
                FailureKind::NeedsLogin,
                "registration refused: this auth key has enrolled its machine; ask an admin of \
                 the org for a new auth key"
                    .to_owned()
            )
        );
        assert!(!machine.has_tunnel());
        assert_eq!(machine.status().await.state, DaemonState::NeedsLogin);
        // Nothing of the refused server stays: another may be named.
        let nowhere = UpOptions {
            server: Some("http://127.0.0.1:1".to_owned()),
            ..join(&server)
        };
        let (_, message) = failure(machine.up(nowhere).await);
        assert!(message.starts_with("cannot reach http://127.0.0.1:1: Connection refused"));

        server.state().refuse_registration = None;
        machine.up(join(&server)).await.unwrap();
        let keys: Vec<_> = server
            .state()
            .registrations
            .iter()
            .map(|(_, request)| request.wg_key)
            .collect();
        assert_eq!(keys[0], keys[1], "the same machine asks again");

        let other = UpOptions {
            server: Some("http://127.0.0.1:1".to_owned()),
            ..UpOptions::default()
        };
        let (_, message) = failure(machine.up(other).await);
        assert!(message.contains("logout --forget"), "{message}");
        assert!(machine.has_tunnel());
    });
}

#[test]
fn without_a_control_plane_a_restarted_daemon_works_from_the_saved_map() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let mut server = server_of(&org).await;
        let mut machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        server
            .hear(|message| matches!(message, ClientMessage::Hello { resume: None, .. }))
            .await;
        let url = server.url.clone();
        drop(server);
        machine
            .wait_for("the loss", |status| !status.control.connected)
            .await;
        assert_eq!(machine.status().await.state, DaemonState::Running);

        machine.stop_daemon().await;
        assert!(!machine.has_tunnel());
        machine.start_daemon().await;
        let status = machine
            .wait_for("the tunnel", |status| status.control.error.is_some())
            .await;
        assert_eq!(status.state, DaemonState::Running);
        assert_eq!(status.peers[0].name, "b");
        assert!(status.message.starts_with("the control plane is away"));
        let steps = machine.up(UpOptions::default()).await.unwrap();
        assert_eq!(steps.last(), Some(&(Step::Control, StepState::Warning)));

        let mut server = ControlPlane::start_at(&url);
        let position = org.records().full(1);
        let hello = server.hear(|message| matches!(message, ClientMessage::Hello { .. }));
        let hello = timeout(PATIENCE, hello).await.unwrap();
        let ClientMessage::Hello {
            resume: Some(resume),
            ..
        } = hello
        else {
            panic!("does not resume: {hello:?}");
        };
        assert_eq!((resume.seq, resume.hash), (1, position.hash));
        machine
            .wait_for("the connection", |status| status.control.connected)
            .await;
    });
}

#[test]
fn a_map_that_does_not_fit_is_asked_for_anew() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let mut server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();

        let bigger = Org {
            relays: org.relays.clone(),
            this: org.this.clone(),
            peers: org.peers.clone(),
        }
        .with_peer("c", 3, None);
        let mut delta = org.records().diff(&bigger.records(), 1, 2).unwrap();
        delta.base_seq = 7;
        server.say(&ServerMessage::Delta(delta));
        let resync = server.hear(|message| *message == ClientMessage::Resync);
        timeout(PATIENCE, resync).await.unwrap();
        assert_eq!(machine.status().await.peers.len(), 1);
        server.say(&bigger.full(2));
        machine
            .wait_for("the full map", |status| status.peers.len() == 2)
            .await;
        let smaller = bigger.records().diff(&org.records(), 2, 3).unwrap();
        server.say(&ServerMessage::Delta(smaller));
        machine
            .wait_for("the delta", |status| status.peers.len() == 1)
            .await;
    });
}

#[test]
fn a_deleted_machine_goes_down_and_comes_back_as_another() {
    in_new_namespace(|| async {
        let org = Org::new();
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let deleted = ErrorBody::new(ErrorCode::MachineDeleted, "this machine was deleted");
        server.state().refuse_stream = Some(deleted.clone());
        server.say(&ServerMessage::Error(deleted));
        let status = machine
            .wait_for("the end", |status| status.state == DaemonState::NeedsLogin)
            .await;
        assert!(
            status
                .message
                .starts_with("this machine was deleted; register")
        );
        assert!(!machine.has_tunnel());
        let (kind, message) = failure(machine.up(UpOptions::default()).await);
        assert_eq!(kind, FailureKind::NeedsLogin, "{message}");

        server.state().refuse_stream = None;
        server.state().machine = Some(Org::new().registered());
        machine.up(join(&server)).await.unwrap();
        let state = server.state();
        let [(_, first), (_, second)] = state.registrations.as_slice() else {
            panic!("{} registrations", state.registrations.len());
        };
        assert_ne!(
            first.wg_key, second.wg_key,
            "a deleted machine's key came back"
        );
        assert!(second.node_key.is_none());
    });
}

#[test]
fn an_expired_machine_registers_again_as_the_same() {
    in_new_namespace(|| async {
        let org = Org::new();
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let expired = ErrorBody::new(ErrorCode::KeyExpired, "its sign-in has expired");
        server.say(&ServerMessage::Error(expired));
        machine
            .wait_for("the end", |status| status.state == DaemonState::NeedsLogin)
            .await;
        machine.up(join(&server)).await.unwrap();
        let state = server.state();
        let [(_, first), (_, second)] = state.registrations.as_slice() else {
            panic!("{} registrations", state.registrations.len());
        };
        assert_eq!(first.wg_key, second.wg_key);
        assert!(second.node_key.is_some(), "it proves to be the same");
    });
}

#[test]
fn forgetting_leaves_no_key_and_no_map() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let saved = machine.folder.path().join("state/netmap.json");
        let written = async {
            while !saved.exists() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, written).await.unwrap();
        machine.ask(Request::Forget).await.unwrap();
        assert!(!saved.exists() && !machine.has_tunnel());
        assert!(machine.status().await.this.is_none());
        server.state().machine = Some(Org::new().registered());
        machine.up(join(&server)).await.unwrap();
        let state = server.state();
        assert_ne!(
            state.registrations[0].1.wg_key,
            state.registrations[1].1.wg_key
        );
    });
}

#[test]
fn only_the_ml_kem_key_that_was_asked_for_is_taken() {
    in_new_namespace(|| async {
        let right = KemPrivateKey::generate(&mut rand::rng()).public();
        let wrong = KemPrivateKey::generate(&mut rand::rng()).public();
        let hash = KemKeyHash::of(&right);
        let server = ControlPlane::start().await;
        let api = crate::control::Server::parse(&server.url, None, false).unwrap();
        let api = crate::control::Api::new(api).unwrap();
        let fetch = || api.kem_key("token", hash);
        assert!(matches!(
            fetch().await,
            Err(crate::control::ControlError::Refused(_))
        ));
        server.state().kem_keys.insert(hash.to_string(), wrong);
        let error = fetch().await.unwrap_err().to_string();
        assert!(error.contains("not the one that was asked for"), "{error}");
        server
            .state()
            .kem_keys
            .insert(hash.to_string(), right.clone());
        assert_eq!(fetch().await.unwrap(), right);
    });
}

#[test]
fn pings_need_a_tunnel_and_a_peer() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        let ping = |peer: &str, count| {
            Request::Ping(PingOptions {
                peer: peer.to_owned(),
                count,
                timeout_ms: 50,
            })
        };
        let kind = |answer| match answer {
            Err(ClientError::Failed(failure)) => failure.kind,
            other => panic!("not refused: {other:?}"),
        };
        assert_eq!(
            kind(machine.ask(ping("b", 1)).await),
            FailureKind::NotRunning
        );
        machine.up(join(&server)).await.unwrap();
        assert_eq!(kind(machine.ask(ping("x", 1)).await), FailureKind::NotFound);
        assert_eq!(
            kind(machine.ask(ping("b", 0)).await),
            FailureKind::BadRequest
        );
        let mut answers = machine.client().await.call(ping("b", 1)).await.unwrap();
        let Answer::Pong(pong) = answers.next().await.unwrap() else {
            panic!("no pong");
        };
        assert_eq!(
            (pong.peer.as_str(), pong.seq, pong.latency_ms),
            ("b", 1, None)
        );
        assert!(matches!(answers.next().await.unwrap(), Answer::Done));
    });
}

#[test]
fn the_paths_of_a_peer_are_told_with_their_reasons() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        let paths = |peer: &str| {
            Request::Paths(PathsOptions {
                peer: peer.to_owned(),
            })
        };
        machine.up(join(&server)).await.unwrap();
        match machine.ask(paths("x")).await {
            Err(ClientError::Failed(failure)) => {
                assert_eq!(failure.kind, FailureKind::NotFound);
                assert!(failure.message.contains("`ztna peers`"), "{failure}");
            }
            other => panic!("found what is not there: {other:?}"),
        }
        // The tunnel may hear of the peer a moment later than the map.
        let report = loop {
            match machine.ask(paths("b")).await {
                Ok(Answer::Paths(report)) => break report,
                Err(ClientError::Failed(failure)) if failure.kind == FailureKind::Failed => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => panic!("no report: {other:?}"),
            }
        };
        assert_eq!(report.peer, "b");
        assert!(!report.why.is_empty());
        assert_eq!(report.heard, None);
    });
}

async fn netcheck(machine: &Machine, last: bool) -> Result<NetcheckReport, ClientError> {
    let options = NetcheckOptions { last };
    match machine.ask(Request::Netcheck(options)).await? {
        Answer::Netcheck(report) => Ok(*report),
        other => panic!("no report: {other:?}"),
    }
}

#[test]
fn a_network_check_needs_the_tunnel_and_says_so() {
    in_new_namespace(|| async {
        let server = server_of(&Org::new()).await;
        let machine = Machine::start().await;
        let Err(ClientError::Failed(failure)) = netcheck(&machine, false).await else {
            panic!("checked without a tunnel");
        };
        assert_eq!(failure.kind, FailureKind::NotRunning);
        assert!(failure.message.contains("sudo ztna up"), "{failure}");
        machine.up(join(&server)).await.unwrap();
        let report = netcheck(&machine, false).await.unwrap();
        assert_eq!(report.stun_status, StunStatus::NoService);
        assert!(report.regions.is_empty() && !report.udp);
    });
}

#[test]
fn home_is_the_nearest_region_and_the_next_one_when_its_relay_dies() {
    in_new_namespace(|| async {
        let realm = Realm::new();
        let (near, far) = (Duration::from_millis(1), Duration::from_millis(50));
        let stuns = [TestStun::start(far).await, TestStun::start(near).await];
        let relays = [
            TestRelay::start(&realm, 1).await,
            TestRelay::start(&realm, 2).await,
        ];
        let mut org = Org::new();
        let regions = (1..).zip(relays.iter().zip(&stuns));
        org.relays.regions = regions
            .map(|(id, (relay, stun))| region(id, vec![relay.node.clone(), stun.node()]))
            .collect();
        let mut server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let key = server.state().registrations[0].1.wg_key;
        let ticket = realm.ticket(key, &[1, 2]);
        server.state().relay_ticket = Some(ticket.clone());
        server.say(&ServerMessage::RelayTicket(ticket));

        let near = Some(RegionId(2));
        let status = machine
            .wait_for("a connection to the nearest region", |status| {
                status.relay.connected && status.relay.home_region == near
            })
            .await;
        assert!(status.relay.home_latency_ms.is_some_and(|ms| ms >= 2.0));
        let report = netcheck(&machine, false).await.unwrap();
        assert_eq!(report.nearest_derp.as_deref(), Some("r2"));
        assert_eq!(report.nat, NatKind::None, "{report:?}");
        assert_eq!(report.relay_tls_group.as_deref(), Some("X25519MLKEM768"));
        assert!(report.regions[0].preferred && report.regions[1].latency_ms >= Some(100.0));
        assert_eq!(
            netcheck(&machine, true).await.unwrap().regions,
            report.regions
        );

        while server.heard.try_recv().is_ok() {}
        relays[1].kill();
        let moved = |message: &ClientMessage| {
            matches!(message, ClientMessage::Report(report)
                if report.home_region == Some(RegionId(1)))
        };
        timeout(PATIENCE, server.hear(moved)).await.unwrap();
        machine
            .wait_for("a connection to the other region", |status| {
                status.relay.connected && status.relay.home_region == Some(RegionId(1))
            })
            .await;
    });
}
