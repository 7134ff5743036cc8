//! `install.sh` and `install.ps1`, which bring the agent to a machine that has nothing of ours yet.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use axum::extract;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{ErrorBody, ErrorCode};

use super::folder::{ReleasesError, open};
use crate::app::State;
use crate::http::{ApiError, refuse};

/// For Linux and macOS.
const SHELL: &str = "install.sh";
/// For Windows.
const POWERSHELL: &str = "install.ps1";
/// Largest of them, in bytes. They have 15 KiB.
const MAX_INSTALLER: u64 = 256 * 1024;

/// Those that the folder has, as they were when its manifest was read.
#[derive(Default)]
pub(super) struct Installers {
    shell: Option<Bytes>,
    powershell: Option<Bytes>,
}

impl Installers {
    pub(super) fn read(folder: &Path) -> Result<Self, ReleasesError> {
        Ok(Self {
            shell: read(folder, SHELL)?,
            powershell: read(folder, POWERSHELL)?,
        })
    }

    /// Whether there is one for a system, as in `linux`.
    pub(super) fn has(&self, system: &str) -> bool {
        match system {
            "windows" => self.powershell.is_some(),
            _ => self.shell.is_some(),
        }
    }
}

/// `None`: there is none.
fn read(folder: &Path, name: &str) -> Result<Option<Bytes>, ReleasesError> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let mut text = Vec::new();
    let file: File = open(folder, &path)?;
    let read = file.take(MAX_INSTALLER + 1).read_to_end(&mut text);
    read.map_err(|error| ReleasesError::failed(&path, error))?;
    if text.len() as u64 > MAX_INSTALLER {
        let what = format!("it is larger than {MAX_INSTALLER} bytes; copy it again");
        return Err(ReleasesError::unfit(&path, what));
    }
    Ok(Some(text.into()))
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
    serve(state.releases.installers().shell.clone(), SHELL)
}

/// The script that installs the agent on Windows. It knows the key that releases are signed by.
#[utoipa::path(get, path = "/install.ps1", tag = "releases", responses(
    (status = 200, description = "The script.", body = String, content_type = "text/plain"),
    (status = 404, body = ErrorBody),
))]
async fn powershell(extract::State(state): extract::State<State>) -> Result<Response, ApiError> {
    serve(state.releases.installers().powershell.clone(), POWERSHELL)
}

fn serve(text: Option<Bytes>, name: &str) -> Result<Response, ApiError> {
    let Some(text) = text else {
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
    Ok((headers, text).into_response())
}
