//! What can go wrong with a private cluster, in words for the person who runs it.

use std::path::PathBuf;

/// Why there is no running PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// No server binaries on this machine.
    #[error(
        "PostgreSQL {min} or newer was not found in PATH or /usr/lib/postgresql. Install it \
         (Debian, Ubuntu: apt-get install postgresql), or name the folder of its programs in \
         ZTNA_POSTGRES_BIN, or a running server in DATABASE_URL",
        min = crate::MIN_MAJOR
    )]
    NotFound,
    /// The folder in `ZTNA_POSTGRES_BIN` holds no usable server.
    #[error("{folder} holds no PostgreSQL {min} or newer (programs `postgres` and `initdb`); correct ZTNA_POSTGRES_BIN", min = crate::MIN_MAJOR)]
    BadFolder {
        /// The folder that was named.
        folder: PathBuf,
    },
    /// The data was written by another major version than those installed.
    #[error(
        "the database in {data} was written by PostgreSQL {wanted}, which is not installed; \
         install that version, or move the data with pg_upgrade"
    )]
    OtherVersion {
        /// The cluster's data folder.
        data: PathBuf,
        /// The major version that wrote it.
        wanted: u32,
    },
    /// PostgreSQL refuses to run as root, and the account that it should run as is missing.
    #[error(
        "PostgreSQL does not run as root, and there is no account `postgres` or `nobody` to run it as; create one"
    )]
    NoAccount,
    /// An earlier server still works in the data folder.
    #[error(
        "another PostgreSQL (process {pid}) still works in {data} and does not end; stop it first"
    )]
    Busy {
        /// The cluster's data folder.
        data: PathBuf,
        /// One of its processes.
        pid: i32,
    },
    /// `initdb` failed.
    #[error("initdb failed in {data}: {output}")]
    Initdb {
        /// The folder that was to hold the cluster.
        data: PathBuf,
        /// What it printed.
        output: String,
    },
    /// The server ended, again and again.
    #[error("PostgreSQL does not stay up: {log}")]
    Died {
        /// The last lines that it printed.
        log: String,
    },
    /// The server runs and does not answer.
    #[error("PostgreSQL does not answer after {seconds} s: {error}")]
    Silent {
        /// How long it was given.
        seconds: u64,
        /// The last answer.
        error: String,
    },
    /// A file or folder of the cluster.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Adds what was tried, and on what, to an IO error.
pub(crate) trait Context<T> {
    fn context(self, what: &'static str, path: &std::path::Path) -> Result<T, PgError>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: &'static str, path: &std::path::Path) -> Result<T, PgError> {
        self.map_err(|source| PgError::Io {
            what,
            path: path.to_owned(),
            source,
        })
    }
}
