//! The client's half.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::{SinkExt, StreamExt};
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use crate::MAX_ANSWER;
use crate::protocol::{Answer, Call, Failure, Progress, Request, VERSION};
use crate::status::Status;
use crate::transport::{ClientStream, START, connect};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no ztna daemon is running (nobody answers at {}); start it with {start}", .0.display(), start = START)]
    NotRunning(PathBuf),
    /// The socket cannot be reached.
    #[error("cannot reach the ztna daemon at {}: {error}", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// The daemon went away in the middle.
    #[error("the ztna daemon ended before it answered; see its log, then run the command again")]
    Ended,
    /// What came is not an answer.
    #[error(
        "the ztna daemon's answer is not understood ({0}); restart it, so that command and daemon are of one version"
    )]
    Malformed(String),
    /// The daemon says no.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A connection to the daemon, for one call.
pub struct Client(Framed<ClientStream, LinesCodec>);

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// Nobody listens, or the socket cannot be reached.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        match connect(socket).await {
            Ok(stream) => Ok(Self(Framed::new(
                stream,
                LinesCodec::new_with_max_length(MAX_ANSWER),
            ))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Err(ClientError::NotRunning(socket.to_owned()))
            }
            Err(error) => Err(ClientError::Unreachable {
                path: socket.to_owned(),
                error,
            }),
        }
    }

    /// Sends the call.
    ///
    /// # Errors
    /// The daemon went away.
    pub async fn call(mut self, request: Request) -> Result<Answers, ClientError> {
        let call = Call {
            version: VERSION,
            request,
        };
        let line = serde_json::to_string(&call)
            .map(zeroize::Zeroizing::new)
            .map_err(|error| ClientError::Malformed(error.to_string()))?;
        // A daemon that has no room answers without reading; what it says is worth more than that
        // it hung up.
        let _ = self.0.send(line.as_str()).await;
        Ok(Answers(self.0))
    }

    /// One call that has one answer.
    ///
    /// # Errors
    /// What the daemon refused, or that it went away.
    pub async fn ask(self, request: Request) -> Result<Answer, ClientError> {
        self.call(request).await?.last(|_| ()).await
    }

    /// How things stand.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn status(self) -> Result<Status, ClientError> {
        match self.ask(Request::Status).await? {
            Answer::Status(status) => Ok(*status),
            _ => Err(ClientError::Malformed("no status".to_owned())),
        }
    }
}

/// The answers to one call.
pub struct Answers(Framed<ClientStream, LinesCodec>);

impl Answers {
    /// The next answer.
    ///
    /// # Errors
    /// What the daemon refused, or that it went away.
    pub async fn next(&mut self) -> Result<Answer, ClientError> {
        let line = match self.0.next().await {
            Some(Ok(line)) => line,
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                return Err(ClientError::Malformed("longer than it may be".to_owned()));
            }
            Some(Err(LinesCodecError::Io(_))) | None => return Err(ClientError::Ended),
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Failed(failure)) => Err(failure.into()),
            Ok(answer) => Ok(answer),
            Err(error) => Err(ClientError::Malformed(error.to_string())),
        }
    }

    /// Waits for the answer that ends the call and tells the steps on the way.
    ///
    /// # Errors
    /// As [`Answers::next`].
    pub async fn last(mut self, mut progress: impl FnMut(Progress)) -> Result<Answer, ClientError> {
        loop {
            match self.next().await? {
                Answer::Progress(step) => progress(step),
                answer if answer.ends_call() => return Ok(answer),
                _ => {}
            }
        }
    }
}
