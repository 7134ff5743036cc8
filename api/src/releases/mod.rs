//! Releases of the agent, from a folder: which one a machine is to have, and its file.
//!
//! The folder holds `manifest.json` ([`ReleaseManifest`]) and a folder for each version. Nothing is served but the files that
//! the manifest names, and a manifest is taken only when every one of them is there, whole: else the one before stays in
//! force. It is read again when it has changed, so a release is published by copying its files and then the manifest. The
//! newest release is the one of the highest version, wherever it stands. `install.sh` and `install.ps1`
//! beside it, if it names them, are served with them.

mod folder;
mod installers;
mod order;
mod routes;
mod signature;

pub use folder::Releases;
pub(crate) use routes::{Serving, follow, routes};
pub use signature::ReleaseKeyError;
