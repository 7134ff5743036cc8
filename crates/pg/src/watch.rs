//! The thread that owns the server process.
//!
//! One thread starts the process, waits for it and signals it, so no signal can reach a process
//! number that was given to somebody else meanwhile. It is a thread of its own, not one of the
//! runtime's, because the kernel binds the parent-death signal to the thread that forked.

use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::PgError;
use crate::cluster::Prepared;
use crate::error::Context;

/// How often the thread looks after the process when nothing is asked of it.
const IDLE_POLL: Duration = Duration::from_millis(200);
const BUSY_POLL: Duration = Duration::from_millis(20);
/// A server that ends by itself is started again at most so often …
const MAX_RESTARTS: usize = 5;
/// … within this time.
const RESTART_WINDOW: Duration = Duration::from_secs(60);
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// A fast shutdown writes a checkpoint; after this long the server is told to drop everything …
const FAST_LIMIT: Duration = Duration::from_secs(30);
/// … and after this long it is killed. The next start recovers.
const QUIT_LIMIT: Duration = Duration::from_secs(10);

/// How the server stands.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It runs, as this process.
    Running(u32),
    /// It was stopped.
    Stopped,
    /// It does not stay up; its last words.
    Failed(String),
}

/// A handle on the thread. Dropping it stops the server.
pub(crate) struct Watch {
    stop: Sender<()>,
    states: watch::Receiver<State>,
}

impl Watch {
    pub(crate) fn begin(prepared: Prepared) -> Result<Self, PgError> {
        let (stop, asked) = channel();
        let (started, first) = channel();
        let (tell, states) = watch::channel(State::Stopped);
        let data = prepared.data.clone();
        std::thread::Builder::new()
            .name("postgres-watch".to_owned())
            .spawn(move || {
                let child = match spawn(&prepared) {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                tell.send_replace(State::Running(child.id()));
                let _ = started.send(Ok(()));
                let end = watch_over(&prepared, child, &asked, &tell);
                tell.send_replace(end);
            })
            .context("cannot start a thread for", &data)?;
        first.recv().map_err(|_| PgError::Died {
            log: "the watching thread ended".to_owned(),
        })??;
        Ok(Self { stop, states })
    }

    pub(crate) fn state(&self) -> State {
        self.states.borrow().clone()
    }

    pub(crate) fn states(&self) -> watch::Receiver<State> {
        self.states.clone()
    }

    pub(crate) fn stop(&self) {
        // The thread may have ended already.
        let _ = self.stop.send(());
    }
}

fn watch_over(
    prepared: &Prepared,
    mut child: Child,
    asked: &Receiver<()>,
    tell: &watch::Sender<State>,
) -> State {
    let mut restarts: Vec<Instant> = Vec::new();
    loop {
        match asked.recv_timeout(IDLE_POLL) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                shut_down(&mut child);
                return State::Stopped;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let Ok(Some(status)) = child.try_wait() else {
            continue;
        };
        let now = Instant::now();
        restarts.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        if restarts.len() >= MAX_RESTARTS {
            return State::Failed(prepared.last_words());
        }
        restarts.push(now);
        tracing::warn!(%status, log = prepared.last_words(), "the database server ended by itself; starting it again");
        std::thread::sleep(RESTART_PAUSE);
        child = match prepared.clear().and_then(|()| spawn(prepared)) {
            Ok(child) => child,
            Err(error) => return State::Failed(error.to_string()),
        };
        tell.send_replace(State::Running(child.id()));
    }
}

#[allow(unsafe_code)]
fn spawn(prepared: &Prepared) -> Result<Child, PgError> {
    let log =
        std::fs::File::create(&prepared.start_log).context("cannot create", &prepared.start_log)?;
    let mut command = prepared.command();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // A Ctrl-C at the terminal is for us; the server follows when we have finished.
        .process_group(0);
    let parent = std::process::id();
    // SAFETY: between fork and exec only prctl, getppid and _exit are called, all
    // async-signal-safe, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            // After the change of account, which would clear it (prctl(2)).
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if libc::getppid().unsigned_abs() != parent {
                libc::_exit(1);
            }
            Ok(())
        });
    }
    command
        .spawn()
        .context("cannot start postgres in", &prepared.data)
}

fn shut_down(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else {
        return;
    };
    for (signal, limit) in [(Signal::SIGINT, FAST_LIMIT), (Signal::SIGQUIT, QUIT_LIMIT)] {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        // Not reaped yet, so the number is still the server's.
        let _ = kill(Pid::from_raw(pid), signal);
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = child.try_wait() {
                return;
            }
            std::thread::sleep(BUSY_POLL);
        }
        tracing::warn!(?signal, "the database server does not end");
    }
    let _ = child.kill();
    let _ = child.wait();
}
