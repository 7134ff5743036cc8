//! The daemon's half.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_util::codec::{Framed, LinesCodec};

use crate::protocol::{Answer, Call, Failure, FailureKind, Request, VERSION};
use crate::transport::{ServerStream, Socket, own_user};
use crate::{MAX_ANSWER, MAX_REQUEST};

/// Clients at once; root may have [`MAX_CLIENTS_PER_USER`] beside them.
pub const MAX_CLIENTS: usize = 64;
/// Clients of one user at once: nobody can lock root out.
pub const MAX_CLIENTS_PER_USER: usize = 16;
/// A client says what it wants within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A client takes each answer within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the system refused to accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Why a daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    /// Another daemon does.
    #[error("a ztna daemon is already running at {}; use it (`ztna status`), or choose another socket with --socket", .0.display())]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen at {}: {error}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// Who is at the other end of a connection, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id. On Windows, where administrators alone connect, 0 as root's.
    pub uid: u32,
    /// Process id, if it is known.
    pub pid: Option<i32>,
}

/// What answers the calls.
pub trait Service: Send + Sync + 'static {
    /// User who may change things beside root and the daemon's own user.
    fn operator(&self) -> Option<u32>;

    /// Carries out one permitted request. The answer ends the call; answers on the way go to
    /// `replies`.
    fn serve(
        &self,
        request: Request,
        caller: Caller,
        replies: &mut Replies,
    ) -> impl Future<Output = Answer> + Send;
}

/// Takes answers on the way.
pub struct Replies(Framed<ServerStream, LinesCodec>);

impl Replies {
    /// Sends an answer.
    ///
    /// # Errors
    /// The client is gone, or does not take its answers.
    pub async fn send(&mut self, answer: &Answer) -> io::Result<()> {
        let mut line = serde_json::to_string(answer)?;
        if line.len() > MAX_ANSWER {
            let failure = Failure::new(
                FailureKind::Failed,
                "the answer is longer than the daemon may send",
            );
            line = serde_json::to_string(&Answer::Failed(failure))?;
        }
        timeout(ANSWER_TIMEOUT, self.0.send(line))
            .await?
            .map_err(io::Error::other)
    }
}

/// The daemon's socket. Removed on drop.
pub struct Listener(Socket);

impl Listener {
    /// Listens at `path`. A socket that a dead daemon left is replaced.
    ///
    /// # Errors
    /// Another daemon listens there, or the system refused.
    pub async fn bind(path: &Path) -> Result<Self, ListenerError> {
        Socket::bind(path).await.map(Self)
    }

    /// Accepts clients until the future is dropped; their calls go on.
    pub async fn run(&self, service: Arc<impl Service>) {
        let clients = Arc::new(Clients::default());
        loop {
            let (stream, caller) = match self.0.accept().await {
                Ok(Some(client)) => client,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let service = Arc::clone(&service);
            let mut replies = Replies(Framed::new(
                stream,
                LinesCodec::new_with_max_length(MAX_REQUEST),
            ));
            let admitted = clients.admit(caller.uid);
            tokio::spawn(async move {
                let answer = match admitted {
                    Some(_place) => converse(&*service, caller, &mut replies).await,
                    None => Some(Answer::Failed(Failure::new(
                        FailureKind::Busy,
                        "the ztna daemon has too many clients; try again in a moment",
                    ))),
                };
                if let Some(answer) = answer {
                    // A client that is gone needs no answer.
                    let _ = replies.send(&answer).await;
                }
            });
        }
    }
}

/// One call. `None`: the client went away or said nothing.
async fn converse(service: &impl Service, caller: Caller, replies: &mut Replies) -> Option<Answer> {
    let line = match timeout(REQUEST_TIMEOUT, replies.0.next()).await {
        Ok(Some(Ok(line))) => zeroize::Zeroizing::new(line),
        Ok(Some(Err(error))) => {
            return Some(Answer::Failed(bad_request(&error.to_string())));
        }
        Ok(None) | Err(_) => return None,
    };
    let request = match parse(&line) {
        Ok(request) => request,
        Err(failure) => return Some(Answer::Failed(failure)),
    };
    if request.is_change() && !may_change(caller.uid, service.operator()) {
        return Some(Answer::Failed(Failure::new(
            FailureKind::NotPermitted,
            "only root and the operator may do this; use sudo, or have root name you with \
             `sudo ztna up --operator USER`",
        )));
    }
    Some(service.serve(request, caller, replies).await)
}

fn parse(line: &str) -> Result<Request, Failure> {
    /// What every version has.
    #[derive(serde::Deserialize)]
    struct AnyVersion {
        version: u32,
    }
    let AnyVersion { version } =
        serde_json::from_str(line).map_err(|error| bad_request(&error.to_string()))?;
    if version != VERSION {
        return Err(bad_request(&format!(
            "it speaks version {version}, the daemon version {VERSION}; restart the daemon with \
             the ztna that you use"
        )));
    }
    serde_json::from_str::<Call>(line)
        .map(|call| call.request)
        .map_err(|error| bad_request(&error.to_string()))
}

fn bad_request(why: &str) -> Failure {
    Failure::new(
        FailureKind::BadRequest,
        format!("the ztna daemon does not understand the call: {why}"),
    )
}

/// Root, the user whom the daemon runs as, and the operator.
fn may_change(uid: u32, operator: Option<u32>) -> bool {
    uid == 0 || uid == own_user() || operator == Some(uid)
}

/// Who is connected, to keep the bounds.
#[derive(Default)]
struct Clients(Mutex<BTreeMap<u32, usize>>);

/// A client's place; given back on drop.
struct Place {
    clients: Arc<Clients>,
    uid: u32,
}

impl Clients {
    fn admit(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = clients.values().sum();
        let own = clients.get(&uid).copied().unwrap_or(0);
        // Root's places are not taken by others.
        if own >= MAX_CLIENTS_PER_USER || (uid != 0 && total >= MAX_CLIENTS) {
            return None;
        }
        clients.insert(uid, own + 1);
        Some(Place {
            clients: Arc::clone(self),
            uid,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self
            .clients
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.uid);
            }
        }
    }
}
