//! `install.sh` and `install.ps1`, which bring the agent to a machine that has nothing of ours yet.

use std::io::Read;
use std::path::Path;

use axum::extract;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use sha2::{Digest, Sha256};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::keys::hex;
use ztna_proto::releases::{Installer, ReleaseManifest};

use super::folder::{ReleasesError, open};
use super::signature::ReleaseKey;
use crate::app::State;
use crate::http::{ApiError, refuse};

/// For Linux and macOS.
const SHELL: &str = "install.sh";
/// For Windows.
const POWERSHELL: &str = "install.ps1";
/// Largest of them, in bytes. They have 20 KiB.
const MAX_INSTALLER: u64 = 256 * 1024;

/// Those that the manifest in force names, as they were when it was read.
#[derive(Default)]
pub(super) struct Installers {
    shell: Option<Script>,
    powershell: Option<Script>,
}

#[derive(Clone)]
struct Script {
    text: Bytes,
    /// SHA-256 of what a shell's `$(…)` leaves of it, with the end of the last line.
    digest: String,
}

impl Installers {
    /// Reads what a manifest names, and says what of it is not to be served, and why.
    pub(super) fn read(
        folder: &Path,
        manifest: &ReleaseManifest,
        key: Option<&ReleaseKey>,
    ) -> (Self, Vec<ReleasesError>) {
        let (mut read_all, mut faults) = (Self::default(), Vec::new());
        for installer in &manifest.installers {
            let place = match installer.name.as_str() {
                SHELL => &mut read_all.shell,
                POWERSHELL => &mut read_all.powershell,
                _ => continue,
            };
            match read(folder, installer, key) {
                Ok(script) => *place = Some(script),
                Err(error) => faults.push(error),
            }
        }
        (read_all, faults)
    }

    /// The one for a system, as in `linux`.
    fn of(&self, system: &str) -> Option<&Script> {
        match system {
            "windows" => self.powershell.as_ref(),
            _ => self.shell.as_ref(),
        }
    }

    /// The digest of the one for a system, as a shell that holds it in a variable can work it out.
    pub(super) fn digest(&self, system: &str) -> Option<String> {
        self.of(system).map(|script| script.digest.clone())
    }
}

fn read(
    folder: &Path,
    installer: &Installer,
    key: Option<&ReleaseKey>,
) -> Result<Script, ReleasesError> {
    let path = folder.join(&installer.name);
    if key.is_some_and(|key| !key.has_signed_installer(installer)) {
        let what = "it is not signed by the key of --release-key; sign it with that";
        return Err(ReleasesError::unfit(&path, what));
    }
    let mut text = Vec::new();
    let file = open(folder, &path)?;
    let read = file.take(MAX_INSTALLER + 1).read_to_end(&mut text);
    read.map_err(|error| ReleasesError::failed(&path, error))?;
    if text.len() as u64 > MAX_INSTALLER {
        let what = format!("it is larger than {MAX_INSTALLER} bytes; copy it again");
        return Err(ReleasesError::unfit(&path, what));
    }
    if hex(&Sha256::digest(&text)) != installer.sha256 {
        let what = "its SHA-256 is not the manifest's; copy it again";
        return Err(ReleasesError::unfit(&path, what));
    }
    let mut kept = Sha256::new();
    kept.update(text.trim_ascii_end());
    kept.update(b"\n");
    Ok(Script {
        digest: hex(&kept.finalize()),
        text: text.into(),
    })
}

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(shell))
        .routes(routes!(powershell))
}

/// The script that installs the agent on Linux and macOS. It knows the key that releases are signed by.
#[utoipa::path(get, path = "/install.sh", tag = "releases", responses(
    (status = 200, description = "The script.", body = String, content_type = "text/plain"),
    (status = 404, body = ErrorBody),
))]
async fn shell(extract::State(state): extract::State<State>) -> Result<Response, ApiError> {
    serve(state.releases.installers().shell.as_ref(), SHELL)
}

/// The script that installs the agent on Windows. It knows the key that releases are signed by.
#[utoipa::path(get, path = "/install.ps1", tag = "releases", responses(
    (status = 200, description = "The script.", body = String, content_type = "text/plain"),
    (status = 404, body = ErrorBody),
))]
async fn powershell(extract::State(state): extract::State<State>) -> Result<Response, ApiError> {
    serve(state.releases.installers().powershell.as_ref(), POWERSHELL)
}

fn serve(script: Option<&Script>, name: &str) -> Result<Response, ApiError> {
    let Some(script) = script else {
        return Err(refuse(
            ErrorCode::NotFound,
            format!(
                "this server has no {name}; its operator publishes one with a release of the agent"
            ),
        ));
    };
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, script.text.clone()).into_response())
}
