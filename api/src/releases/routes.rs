//! `/api/client-version` and `/api/releases/…`.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::io::ReaderStream;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::MachineId;
use ztna_proto::releases::{ClientVersion, ReleaseManifest};

use super::folder::{Releases, choose};
use super::installers::{self, Installers};
use crate::app::State;
use crate::http::{Answer, ApiError, ClientIp, Path, Query, Seat, Seats, ok, refuse};

/// How often it is looked whether the manifest has changed.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
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

    /// Why machines may not get the releases that they should, if so.
    pub(crate) fn degraded(&self) -> Option<&'static str> {
        let fault = self.releases.as_ref().is_some_and(|it| !it.is_sound());
        fault.then_some("the folder of releases is not as it should be: those of before are served, if there are any, and the log says what is wrong")
    }

    /// The digest of the installer of a system, as in `linux`, as a shell that holds it in a variable can work it out.
    /// `None`: there is none, or no release for it to install.
    pub(crate) fn installer(&self, system: &str) -> Option<String> {
        self.releases.as_ref()?.installer(system)
    }

    pub(super) fn installers(&self) -> Arc<Installers> {
        let releases = self.releases.as_ref();
        releases.map(Releases::installers).unwrap_or_default()
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

/// Looks whether there are other releases, until the end.
pub(crate) async fn follow(state: State) {
    let Some(releases) = state.releases.releases.clone() else {
        return;
    };
    let mut looks = interval(LOOK_PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = state.stopping.cancelled() => return,
            _ = looks.tick() => {
                let releases = releases.clone();
                if let Err(error) = spawn_blocking(move || releases.look(Instant::now())).await {
                    tracing::error!(%error, "the releases could not be looked at; trying again");
                }
            }
        }
    }
}

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(version))
        .routes(routes!(download))
        .merge(installers::routes())
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
    let manifest = manifest(&state.releases.releases()?)?;
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
    (status = 304, description = "It is the one of `If-None-Match`: an entity tag is the file's SHA-256."),
    (status = 404, body = ErrorBody), (status = 503, body = ErrorBody),
))]
async fn download(
    extract::State(state): extract::State<State>,
    ClientIp(ip): ClientIp,
    Path((version, name)): Path<(String, String)>,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let releases = state.releases.releases()?;
    let manifest = manifest(&releases)?;
    let release = manifest.releases.iter().find(|r| r.version == version);
    let named = release.and_then(|r| r.files.iter().find(|file| file.name == name));
    let Some(named) = named.cloned() else {
        return Err(refuse(
            ErrorCode::NotFound,
            "no release has that file; `GET /api/client-version` names those that there are",
        ));
    };
    // A path names no digest, so whoever keeps a copy asks whether it is still the one.
    let kept = [
        (header::ETAG, format!("\"{}\"", named.sha256)),
        (header::CACHE_CONTROL, "public, no-cache".to_owned()),
    ];
    let known = request.get_all(header::IF_NONE_MATCH).iter();
    if known
        .filter_map(|tags| tags.to_str().ok())
        .any(|tags| tags.contains(&kept[0].1))
    {
        return Ok((StatusCode::NOT_MODIFIED, kept).into_response());
    }
    let size = named.size;
    let Some(seat) = state.releases.downloads.take(ip) else {
        return Err(refuse(
            ErrorCode::Unavailable,
            "too many downloads are under way; try again in a minute",
        ));
    };
    let file = spawn_blocking(move || releases.file(&version, &named))
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let file = file.map_err(|error| ApiError::Internal(error.to_string()))?;
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
    ];
    Ok((headers, kept, Body::from_stream(chunks)).into_response())
}

fn manifest(releases: &Releases) -> Result<Arc<ReleaseManifest>, ApiError> {
    releases.manifest().ok_or_else(|| {
        refuse(
            ErrorCode::Unavailable,
            "this server's releases of the agent cannot be served; its log says why to its operator",
        )
    })
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
