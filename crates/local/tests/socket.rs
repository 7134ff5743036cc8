//! Client and server over a real socket.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ztna_local::{
    Answer, Caller, Client, ClientError, FailureKind, Listener, ListenerError,
    MAX_CLIENTS_PER_USER, MAX_REQUEST, PingOptions, Progress, Replies, Request, Secret, Service,
    Status, Step, StepState, UpOptions, VersionAnswer,
};

struct Fake;

impl Service for Fake {
    fn operator(&self) -> Option<u32> {
        Some(OPERATOR)
    }

    async fn serve(&self, request: Request, caller: Caller, replies: &mut Replies) -> Answer {
        assert!(caller.pid.is_some());
        match request {
            Request::Status => Answer::Status(Box::new(Status {
                version: "1".repeat(100_000),
                ..Status::default()
            })),
            Request::Up(options) => {
                assert_eq!(options.auth_key.unwrap().expose(), "secret");
                for step in [Step::Register, Step::Tunnel] {
                    let progress = Progress {
                        step,
                        state: StepState::Done,
                        message: "done".to_owned(),
                    };
                    replies.send(&Answer::Progress(progress)).await.unwrap();
                }
                Answer::Status(Box::default())
            }
            Request::Version => Answer::Version(VersionAnswer {
                version: "0".to_owned(),
                protocol: 1,
                pid: 1,
            }),
            Request::Ping(_) => std::future::pending().await,
            _ => Answer::Done,
        }
    }
}

const OPERATOR: u32 = 4711;
const STRANGER: u32 = 4712;

struct Daemon {
    folder: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Daemon {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Strangers have to reach the socket.
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let listener = Listener::bind(&folder.path().join("run/ztna.sock"))
            .await
            .unwrap();
        let task = tokio::spawn(async move { listener.run(Arc::new(Fake)).await });
        Self { folder, task }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/ztna.sock")
    }
}

/// Sends one raw line and reads one, as the user `uid` if it is given.
fn raw(socket: &Path, line: &[u8], uid: Option<u32>) -> Answer {
    let (socket, line) = (socket.to_owned(), line.to_owned());
    std::thread::spawn(move || {
        if let Some(uid) = uid {
            become_user(uid);
        }
        let mut stream = UnixStream::connect(socket).unwrap();
        // The daemon may answer and hang up before it has read all.
        let _ = stream
            .write_all(&line)
            .and_then(|()| stream.write_all(b"\n"));
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    })
    .join()
    .unwrap()
}

/// Changes the user of this thread alone, which libc's wrapper does not offer.
#[allow(unsafe_code)]
fn become_user(uid: u32) {
    // SAFETY: setresuid takes three integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    assert_eq!(result, 0, "setresuid");
}

fn failure(answer: Answer) -> FailureKind {
    match answer {
        Answer::Failed(failure) => failure.kind,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn answers_come_back_with_the_steps_before_them() {
    let daemon = Daemon::start().await;
    let status = Client::connect(&daemon.socket())
        .await
        .unwrap()
        .status()
        .await
        .unwrap();
    assert_eq!(
        status.version.len(),
        100_000,
        "answers may be longer than requests"
    );

    let mut steps = Vec::new();
    let up = Request::Up(UpOptions {
        auth_key: Some(Secret::new("secret".to_owned())),
        ..UpOptions::default()
    });
    let answers = Client::connect(&daemon.socket())
        .await
        .unwrap()
        .call(up)
        .await
        .unwrap();
    let last = answers
        .last(|progress| steps.push(progress.step))
        .await
        .unwrap();
    assert!(matches!(last, Answer::Status(_)));
    assert_eq!(steps, [Step::Register, Step::Tunnel]);
}

#[tokio::test]
async fn without_a_daemon_the_error_says_how_to_start_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ztna.sock");
    let Err(error) = Client::connect(&socket).await else {
        panic!("connected to nothing");
    };
    assert_eq!(
        error.to_string(),
        format!(
            "no ztna daemon is running (nobody answers at {}); start it with `sudo ztna up`",
            socket.display()
        )
    );
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not() {
    let daemon = Daemon::start().await;
    let second = Listener::bind(&daemon.socket()).await;
    assert!(matches!(second, Err(ListenerError::InUse(_))));

    daemon.task.abort();
    let _ = daemon.task.await;
    let socket = daemon.folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let listener = Listener::bind(&socket).await.unwrap();
    drop(listener);
    assert!(!socket.exists(), "the socket goes with the daemon");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_call_is_refused() {
    let daemon = Daemon::start().await;
    let socket = daemon.socket();
    for line in [
        "".as_bytes(),
        b"status",
        b"{}",
        b"[1]",
        b"\xff\xfe",
        br#"{"version":2,"request":{"type":"status"}}"#,
        br#"{"version":1,"request":{"type":"teleport"}}"#,
        br#"{"version":1,"request":{"type":"up","unknown":1}}"#,
        &vec![b'x'; MAX_REQUEST + 1],
    ] {
        assert_eq!(failure(raw(&socket, line, None)), FailureKind::BadRequest);
    }
    let Answer::Failed(other_version) = raw(
        &socket,
        br#"{"version":2,"request":{"type":"later"}}"#,
        None,
    ) else {
        panic!("not refused");
    };
    assert!(other_version.message.contains("restart the daemon"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_reads_and_root_and_the_operator_change() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can call as somebody else");
        return;
    }
    let daemon = Daemon::start().await;
    let socket = daemon.socket();
    let version = br#"{"version":1,"request":{"type":"version"}}"#;
    let down = br#"{"version":1,"request":{"type":"down"}}"#;
    let forget = br#"{"version":1,"request":{"type":"forget"}}"#;
    assert!(matches!(
        raw(&socket, version, Some(STRANGER)),
        Answer::Version(_)
    ));
    for change in [down.as_slice(), forget] {
        let refused = raw(&socket, change, Some(STRANGER));
        assert_eq!(failure(refused), FailureKind::NotPermitted);
        assert!(matches!(raw(&socket, change, Some(OPERATOR)), Answer::Done));
        assert!(matches!(raw(&socket, change, None), Answer::Done));
    }
}

#[tokio::test]
async fn a_user_has_so_many_connections_and_no_more() {
    let daemon = Daemon::start().await;
    let mut held = Vec::new();
    for _ in 0..MAX_CLIENTS_PER_USER {
        let ping = Request::Ping(PingOptions {
            peer: "x".to_owned(),
            count: 1,
            timeout_ms: 1,
        });
        let client = Client::connect(&daemon.socket()).await.unwrap();
        held.push(client.call(ping).await.unwrap());
    }
    let client = Client::connect(&daemon.socket()).await.unwrap();
    let Err(ClientError::Failed(refused)) = client.ask(Request::Version).await else {
        panic!("one too many was served");
    };
    assert_eq!(refused.kind, FailureKind::Busy);
}
