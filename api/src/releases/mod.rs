//! Releases of the agent, from a folder: which one a machine is to have, and its file.
//!
//! The folder holds `manifest.json` ([`ReleaseManifest`]) and a folder for each version. Nothing is served but the files that
//! the manifest names, and a manifest is taken only when every one of them is there, whole: else the one before stays in
//! force. It is read again when it has changed, so a release is published by copying its files and then the manifest.

mod folder;
mod routes;

pub use folder::{Releases, ReleasesError};
pub(crate) use routes::{Serving, routes};
