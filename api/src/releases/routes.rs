//! `/api/client-version` and `/api/releases/…`.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::MachineId;
use ztna_proto::releases::ClientVersion;

use super::folder::{Releases, choose};
use crate::app::State;
use crate::http::{Answer, ApiError, ClientIp, Path, Query, Seat, Seats, ok, refuse};

/// Downloads at once; each holds an open file and a buffer …
const MAX_DOWNLOADS: usize = 200;
/// … and from one address: a company's laptops may share one.
const MAX_DOWNLOADS_PER_ADDRESS: usize = 16;
/// A download that takes longer is given up, and its place is another's.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Read at once from a file, in bytes.
const CHUNK: usize = 64 * 1024;

/// What is served, and how many may still begin.
pub(crate) struct Serving {
    releases: Option<Releases>,
    downloads: Arc<Seats>,
}

impl Serving {
    pub(crate) fn new(releases: Option<Releases>) -> Self {
        Self {
            releases,
            downloads: Seats::new(MAX_DOWNLOADS, MAX_DOWNLOADS_PER_ADDRESS),
        }
    }

    fn releases(&self) -> Result<Releases, ApiError> {
        self.releases.clone().ok_or_else(|| {
            refuse(
                ErrorCode::NotFound,
                "this server has no releases of the agent; its operator names their folder (--releases)",
            )
        })
    }
}

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(version))
        .routes(routes!(download))
}

/// For what a release is wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// System and architecture, as in `linux-x86_64`.
    #[param(max_length = 256)]
    target: String,
    /// The machine that asks: a new release comes to some machines first. Without one, the release that all machines get.
    machine: Option<MachineId>,
}

/// The release that a machine is to have, and where to download it.
#[utoipa::path(get, path = "/api/client-version", tag = "releases", params(Wanted), responses(
    (status = 200, body = Envelope<ClientVersion>), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn version(
    extract::State(state): extract::State<State>,
    Query(wanted): Query<Wanted>,
) -> Answer<ClientVersion> {
    let releases = state.releases.releases()?;
    let manifest = spawn_blocking(move || releases.manifest())
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let found = choose(&manifest, &wanted.target, wanted.machine);
    found.map_or_else(
        || {
            Err(refuse(
                ErrorCode::NotFound,
                "there is no release for that target; `target` is a system and an architecture, as in linux-x86_64",
            ))
        },
        ok,
    )
}

/// A file of a release.
#[utoipa::path(get, path = "/api/releases/{version}/{file}", tag = "releases",
    params(("version" = String, Path), ("file" = String, Path)), responses(
    (status = 200, description = "The file.", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 404, body = ErrorBody), (status = 503, body = ErrorBody),
))]
async fn download(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Path((version, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let releases = state.releases.releases()?;
    let Some(seat) = state.releases.downloads.take(ip) else {
        return Err(refuse(
            ErrorCode::Unavailable,
            "too many downloads are under way; try again in a minute",
        ));
    };
    let found = spawn_blocking(move || releases.file(&version, &name))
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let found = found.map_err(|error| ApiError::Internal(error.to_string()))?;
    let Some((file, size)) = found else {
        return Err(refuse(
            ErrorCode::NotFound,
            "no release has that file; `GET /api/client-version` names those that there are",
        ));
    };
    let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK);
    // The place is free when the body ends. Who does not read is not asked for more: that it has lasted too
    // long, only somebody else can find out.
    let held = Arc::new(Mutex::new(Some(seat)));
    let late = Arc::downgrade(&held);
    tokio::spawn(async move {
        tokio::time::sleep(DOWNLOAD_LIMIT).await;
        if let Some(held) = late.upgrade() {
            give_up(&held);
        }
    });
    let chunks = chunks.map(move |chunk| match is_held(&held) {
        true => chunk,
        false => Err(io::ErrorKind::TimedOut.into()),
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        // A version's files never change.
        (
            header::CACHE_CONTROL,
            "public, max-age=86400, immutable".to_owned(),
        ),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

type Held = Mutex<Option<Seat>>;

fn is_held(held: &Held) -> bool {
    held.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some()
}

fn give_up(held: &Held) {
    held.lock().unwrap_or_else(PoisonError::into_inner).take();
}
