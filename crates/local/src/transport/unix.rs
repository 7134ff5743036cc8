//! A Unix socket: everybody may connect, and the kernel says who did (`SO_PEERCRED`, `LOCAL_PEERCRED`).

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::server::{Caller, ListenerError};

/// A client's end.
pub type ClientStream = UnixStream;
/// The daemon's end.
pub type ServerStream = UnixStream;

/// Everybody may connect; who may do what is decided by who it is.
const SOCKET_MODE: u32 = 0o666;
/// The socket's folder: everybody may pass, nobody else may put a socket of theirs there.
const FOLDER_MODE: u32 = 0o755;

/// Connects to a daemon.
///
/// # Errors
/// Nobody listens, or the system refused.
pub async fn connect(path: &Path) -> io::Result<ClientStream> {
    UnixStream::connect(path).await
}

/// The user whom this process runs as.
pub fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// A socket that a daemon listens at. Removed on drop.
pub struct Socket {
    socket: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`. A socket that a dead daemon left is replaced.
    ///
    /// # Errors
    /// Another daemon listens there, or the system refused.
    pub async fn bind(path: &Path) -> Result<Self, ListenerError> {
        let io = |error| ListenerError::Io {
            path: path.to_owned(),
            error,
        };
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(folder)
                .map_err(io)?;
        }
        match UnixStream::connect(path).await {
            Ok(_) => return Err(ListenerError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(io)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let socket = UnixListener::bind(path).map_err(io)?;
        std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).map_err(io)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }

    /// The next client. `None`: one that was gone before the kernel could say who it was.
    ///
    /// # Errors
    /// The system is out of file descriptors.
    pub async fn accept(&self) -> io::Result<Option<(ServerStream, Caller)>> {
        let (stream, _) = self.socket.accept().await?;
        let Ok(credentials) = stream.peer_cred() else {
            return Ok(None);
        };
        let caller = Caller {
            uid: credentials.uid(),
            pid: credentials.pid(),
        };
        Ok(Some((stream, caller)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}
