//! Releases of the agent: what installers and agents ask for, and what a signature is made over.
//!
//! A release is signed with ECDSA over P-256 and SHA-256, the signature in DER, because that is what there is to check it
//! with before anything of ours is installed: `openssl dgst -sha256 -verify` of OpenSSL 1.1 and 3 (Debian has it wherever it
//! has the authorities of HTTPS) and of macOS' LibreSSL, and .NET on Windows. None of these takes Ed25519 on all of those
//! systems. What is signed is [`release_statement`], not the file: it names version and target, so an old
//! release's signature is none for a new one's name, nor that of one system's file for another's.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/client-version?target=linux-x86_64`: the release for a machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct ClientVersion {
    /// Its version.
    pub version: String,
    /// What it is built for, as in `linux-x86_64`.
    pub target: String,
    /// The path to download it from, on this server.
    pub path: String,
    /// Its size, in bytes.
    pub size: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// The signature of its [`release_statement`], in base64: ECDSA, P-256, SHA-256, DER.
    pub signature: String,
}

/// `manifest.json` in the folder of releases.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseManifest {
    /// The releases, the newest first.
    pub releases: Vec<Release>,
    /// What installs them, beside the manifest.
    #[serde(default)]
    pub installers: Vec<Installer>,
}

/// A script that installs the agent: `install.sh` or `install.ps1`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Installer {
    /// Its name.
    pub name: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// The signature of its [`installer_statement`], as in [`ClientVersion`].
    pub signature: String,
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Its version; files are in the folder of that name.
    pub version: String,
    /// How many of a hundred machines get it. Those that do not, and new ones, get the release before.
    #[serde(default = "everybody")]
    pub rollout: u8,
    /// Its files.
    pub files: Vec<ReleaseFile>,
}

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFile {
    /// As in [`ClientVersion`].
    pub target: String,
    /// Its name in the release's folder.
    pub name: String,
    /// As in [`ClientVersion`].
    pub size: u64,
    /// As in [`ClientVersion`].
    pub sha256: String,
    /// As in [`ClientVersion`].
    pub signature: String,
}

fn everybody() -> u8 {
    100
}

/// What the signature of an installer is made over: three lines, each with its end.
#[must_use]
pub fn installer_statement(name: &str, sha256: &str) -> String {
    format!("ztna installer 1\n{name}\n{sha256}\n")
}

/// What the signature of a file is made over: four lines, each with its end.
#[must_use]
pub fn release_statement(version: &str, target: &str, sha256: &str) -> String {
    format!("ztna release 1\n{version}\n{target}\n{sha256}\n")
}
