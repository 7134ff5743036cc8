//! What an org decides of a machine, and what the machine makes of it.

use ztna_proto::machines::{Hold, HoldKind};

use super::*;

fn held(org: &Org, kind: HoldKind, message: &str) -> Org {
    let mut this = org.this.clone();
    this.hold = Some(Hold {
        kind,
        message: message.to_owned(),
    });
    Org {
        this,
        peers: Vec::new(),
        relays: org.relays.clone(),
    }
}

#[test]
fn a_pending_machine_is_up_and_waits() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let message = "this machine waits for approval by an admin of Acme";
        let pending = held(&org, HoldKind::Pending, message);
        let server = server_of(&pending).await;
        let mut machine = Machine::start().await;
        let steps = machine.up(join(&server)).await.unwrap();
        assert_eq!(steps.last(), Some(&(Step::Control, StepState::Warning)));
        let status = machine.status().await;
        assert_eq!(status.state, DaemonState::Pending);
        assert_eq!(status.message, message);
        assert!(status.control.connected && status.peers.is_empty());

        let approved = pending.records().diff(&org.records(), 1, 2).unwrap();
        server.say(&ServerMessage::Delta(approved));
        let status = machine
            .wait_for("the approval", |s| s.state == DaemonState::Running)
            .await;
        assert_eq!((status.peers.len(), status.message.as_str()), (1, ""));
        machine.stop_daemon().await;
    });
}

#[test]
fn a_machine_that_was_renamed_knows_its_name_when_it_is_down_too() {
    in_new_namespace(|| async {
        let org = Org::new();
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let mut this = org.this.clone();
        this.name = "renamed".to_owned();
        this.dns_name = "renamed.acme.ztna.internal".to_owned();
        let renamed = Org { this, ..Org::new() };
        let delta = org.records().diff(&renamed.records(), 1, 2).unwrap();
        server.say(&ServerMessage::Delta(delta));
        let is_renamed =
            |status: &Status| status.this.as_ref().is_some_and(|t| t.name == "renamed");
        machine.wait_for("the name", is_renamed).await;
        machine.ask(Request::Down).await.unwrap();
        assert!(is_renamed(&machine.status().await));
    });
}

#[test]
fn a_hold_outlives_a_restart_without_a_control_plane() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let server = server_of(&org).await;
        let mut machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let locked = held(&org, HoldKind::Locked, "this machine is locked (lost)");
        let delta = org.records().diff(&locked.records(), 1, 2).unwrap();
        server.say(&ServerMessage::Delta(delta));
        let is_locked = |status: &Status| status.state == DaemonState::Locked;
        let status = machine.wait_for("the lock", is_locked).await;
        assert_eq!(status.message, "this machine is locked (lost)");
        assert!(status.peers.is_empty());
        let (kind, message) = failure(machine.up(UpOptions::default()).await);
        assert_eq!(
            (kind, message.as_str()),
            (FailureKind::Failed, "this machine is locked (lost)")
        );

        // The map is on disk when the daemon has ended.
        machine.stop_daemon().await;
        drop(server);
        machine.start_daemon().await;
        let status = machine.wait_for("the lock again", is_locked).await;
        assert!(status.peers.is_empty());
    });
}

#[test]
fn a_disabled_machine_has_no_map_and_comes_back_by_itself() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let message = "this machine is disabled (on leave); an admin of its org can enable it";
        let disabled = ErrorBody::new(ErrorCode::MachineDisabled, message);
        server.state().refuse_stream = Some(disabled.clone());
        server.say(&ServerMessage::Error(disabled));
        let status = machine
            .wait_for("the end", |s| s.state == DaemonState::Disabled)
            .await;
        assert_eq!(status.message, message);
        assert!(status.peers.is_empty() && machine.has_tunnel());
        let (_, told) = failure(machine.up(UpOptions::default()).await);
        assert_eq!(told, message);

        server.state().refuse_stream = None;
        machine
            .wait_for("the return", |s| {
                s.state == DaemonState::Running && s.peers.len() == 1
            })
            .await;
        assert_eq!(server.state().registrations.len(), 1);
    });
}

#[test]
fn a_wiped_machine_erases_itself_and_says_so() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let wg_key = server.state().registrations[0].1.wg_key;
        let token = server.state().machine.clone().unwrap().node_key;
        // Not heard at first: it says so until it is.
        let away = ErrorBody::new(ErrorCode::Unavailable, "try again");
        server.state().refuse_wiped = Some(away);
        let wiped = held(&org, HoldKind::Wipe, "an admin of Acme has it erased");
        let delta = org.records().diff(&wiped.records(), 1, 2).unwrap();
        server.say(&ServerMessage::Delta(delta));
        let status = machine
            .wait_for("the wipe", |s| s.state == DaemonState::NeedsLogin)
            .await;
        assert!(status.message.starts_with("an admin of Acme"), "{status:?}");
        assert!(!machine.has_tunnel());
        let folder = machine.folder.path().join("state");
        let state = || std::fs::read_to_string(folder.join("state.json")).unwrap();
        assert!(state().contains(token.expose()), "it has to say so yet");
        assert!(!folder.join("netmap.json").exists());
        let heard = async {
            while server.state().wiped.is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, heard).await.unwrap();
        server.state().refuse_wiped = None;
        machine
            .wait_for("nothing", |s| s.this.is_none() && s.control.url.is_none())
            .await;
        assert!(!state().contains(token.expose()));
        assert!(server.state().wiped.iter().all(|by| by == token.expose()));

        server.state().machine = Some(Org::new().registered());
        server.state().greeting.clear();
        server.greet_with(&org.full(3));
        let again = UpOptions {
            server: Some(server.url.clone()),
            ..join(&server)
        };
        // Its map is another machine's by now; what counts is who asked.
        let _ = machine.up(again).await;
        let second = server.state().registrations[1].1.wg_key;
        assert_ne!(second, wg_key, "a wiped machine's key came back");
    });
}

#[test]
fn a_renewal_keeps_tunnel_and_stream_and_later_calls_use_the_new_token() {
    in_new_namespace(|| async {
        let org = Org::new().with_peer("b", 2, None);
        let mut server = server_of(&org).await;
        let machine = Machine::start().await;
        machine.up(join(&server)).await.unwrap();
        let first = server.state().machine.clone().unwrap().node_key;
        let second = org.registered();
        server.state().machine = Some(second.clone());
        let bare = UpOptions {
            renew: true,
            ..UpOptions::default()
        };
        let (kind, message) = failure(machine.up(bare).await);
        assert_eq!(kind, FailureKind::NeedsLogin);
        assert!(message.contains("ztna login"), "{message}");
        let index = nix::net::if_::if_nametoindex("zt0").unwrap();

        let renew = UpOptions {
            renew: true,
            ..join(&server)
        };
        machine.up(renew).await.unwrap();
        assert_eq!(nix::net::if_::if_nametoindex("zt0").unwrap(), index);
        {
            let state = server.state();
            let (_, request) = &state.registrations[1];
            let shown = request.node_key.as_ref().unwrap();
            assert_eq!(shown.expose(), first.expose(), "it proves to be the same");
            assert_eq!(state.streams, [first.expose()], "the stream stays");
        }
        // The control plane has voided the old token: the next stream comes with the new one.
        while server.heard.try_recv().is_ok() {}
        let restart = ErrorBody::new(ErrorCode::Unavailable, "restarting");
        server.say(&ServerMessage::Error(restart));
        let hello = server.hear(|message| matches!(message, ClientMessage::Hello { .. }));
        timeout(PATIENCE, hello).await.unwrap();
        assert_eq!(
            server.state().streams.last().unwrap(),
            second.node_key.expose()
        );
        let saved = machine.folder.path().join("state/state.json");
        let saved = std::fs::read_to_string(saved).unwrap();
        assert!(saved.contains(second.node_key.expose()) && !saved.contains(first.expose()));
    });
}
