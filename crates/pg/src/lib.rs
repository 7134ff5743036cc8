//! A private PostgreSQL cluster in a folder of ours.
//!
//! [`Cluster::start`] finds the server's programs, makes the cluster on first use and starts it;
//! a thread then watches over the server process, starts it again if it dies, and stops it with us.
//!
//! * **Nobody else gets in.** No TCP; the Unix socket admits one account (ours), which the kernel
//!   vouches for (`peer`). As root, the server runs as `postgres` or `nobody`.
//! * **Any folder will do.** Server and clients reach the folder through an open descriptor, so its
//!   path may be long, and may lead through folders that the server's account cannot enter.
//! * **It ends with us.** The kernel interrupts the server when the watching thread dies
//!   (`PR_SET_PDEATHSIG`), so a `kill -9` of ours shuts it down cleanly too.
//! * **It starts after anything.** A half-made cluster is thrown away (`initdb` works aside and the
//!   result is renamed); a server or backend left over from a crash is waited for, then interrupted;
//!   a lock file whose process number now belongs to a stranger is recognised. What was committed is
//!   on the disk (`fsync`), and the server's own recovery does the rest.

mod account;
mod binaries;
mod cluster;
mod error;
mod folder;
mod leftover;
mod watch;

pub use binaries::{Binaries, FOLDER_ENV, MIN_MAJOR};
pub use cluster::{ADMIN_ROLE, Cluster, Durability, Options};
pub use error::PgError;
