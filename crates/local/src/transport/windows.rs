//! A named pipe that the system account and administrators alone may open: who connects may do everything,
//! as root may elsewhere.
//!
//! Any program can make a pipe by our name while no daemon runs. So the daemon insists on making it first,
//! and a client tells its secrets to no pipe that others than those two own.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::windows::named_pipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions,
};
use tokio::sync::Mutex;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY};

use crate::access::{SecurityDescriptor, owned_by_administrators};
use crate::server::{Caller, ListenerError};

/// A client's end.
pub type ClientStream = NamedPipeClient;
/// The daemon's end.
pub type ServerStream = NamedPipeServer;

/// Owner and full access: administrators; full access: the system account; others: nothing (MS-DTYP §2.5.1).
const ACCESS: &str = "O:BAG:SYD:P(A;;GA;;;SY)(A;;GA;;;BA)";
/// How often a client tries while every instance of the pipe is taken,
const BUSY_TRIES: u32 = 40;
/// at this distance.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Connects to a daemon.
///
/// # Errors
/// Nobody listens, this user may not, or who listens is not to be trusted.
pub async fn connect(path: &Path) -> io::Result<ClientStream> {
    let mut tries = 0;
    let pipe = loop {
        // By default the daemon learns who connects and cannot act as that user (SECURITY_IDENTIFICATION).
        match ClientOptions::new().open(path) {
            Err(error) if is(&error, ERROR_PIPE_BUSY) && tries < BUSY_TRIES => tries += 1,
            Err(error) if is(&error, ERROR_ACCESS_DENIED) => {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "only administrators may talk to it; open a terminal as administrator and run \
                     the command again",
                ));
            }
            opened => break opened?,
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    };
    if !owned_by_administrators(&pipe)? {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "another program, not of an administrator, listens there; end it and run the command again",
        ));
    }
    Ok(pipe)
}

/// Whoever may open the pipe is as good as root.
pub fn own_user() -> u32 {
    0
}

/// A pipe that a daemon listens at.
pub struct Socket {
    name: OsString,
    access: SecurityDescriptor,
    /// The instance that the next client gets.
    next: Mutex<NamedPipeServer>,
}

impl Socket {
    /// Makes the pipe `path`.
    ///
    /// # Errors
    /// Somebody else has made it, or the system refused.
    #[allow(clippy::unused_async)] // As elsewhere.
    pub async fn bind(path: &Path) -> Result<Self, ListenerError> {
        let failed = |error| ListenerError::Io {
            path: path.to_owned(),
            error,
        };
        let access = SecurityDescriptor::parse(ACCESS).map_err(failed)?;
        let first = create(path.as_os_str(), &access, true).map_err(|error| {
            match is(&error, ERROR_ACCESS_DENIED) {
                true => ListenerError::InUse(path.to_owned()),
                false => failed(error),
            }
        })?;
        Ok(Self {
            name: path.into(),
            access,
            next: Mutex::new(first),
        })
    }

    /// The next client.
    ///
    /// # Errors
    /// The system is out of memory for pipes.
    pub async fn accept(&self) -> io::Result<Option<(ServerStream, Caller)>> {
        let mut next = self.next.lock().await;
        next.connect().await?;
        let stream = std::mem::replace(&mut *next, create(&self.name, &self.access, false)?);
        Ok(Some((stream, Caller { uid: 0, pid: None })))
    }
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == i32::try_from(code).ok()
}

#[allow(unsafe_code)] // A pipe with a security descriptor has no safe form.
fn create(name: &OsStr, access: &SecurityDescriptor, first: bool) -> io::Result<NamedPipeServer> {
    let mut attributes = access.attributes();
    let mut options = ServerOptions::new();
    options
        .first_pipe_instance(first)
        .reject_remote_clients(true);
    // SAFETY: the attributes, and the descriptor that they point to, outlive the call.
    unsafe { options.create_with_security_attributes_raw(name, (&raw mut attributes).cast()) }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn one_daemon_has_the_pipe_and_one_client_after_the_other_reaches_it() {
        let name = format!(r"\\.\pipe\ztna-test-{}", std::process::id());
        let path = Path::new(&name);
        let nobody = connect(path).await.unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
        let socket = Socket::bind(path).await.unwrap();
        assert!(matches!(
            Socket::bind(path).await,
            Err(ListenerError::InUse(_))
        ));
        for said in [b"one", b"two"] {
            let (client, accepted) = tokio::join!(connect(path), socket.accept());
            let (mut client, (mut server, caller)) = (client.unwrap(), accepted.unwrap().unwrap());
            assert_eq!(caller.uid, own_user());
            client.write_all(said).await.unwrap();
            let mut heard = [0; 3];
            server.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, said);
        }
    }
}
