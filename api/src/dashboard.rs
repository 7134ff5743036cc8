//! The dashboard's built files, which the control plane serves beside its API.
//!
//! They are read once, at the start, and served from memory by their exact names: no request reaches the
//! file system, so none leads out of the folder, and a build that is copied over a running server changes
//! nothing half-way. A page's address that names no file is the dashboard's own business: it gets
//! `index.html`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sha2::{Digest, Sha256};

/// Most files of a dashboard. Ours has some 150.
const MAX_FILES: usize = 4_096;
/// Most bytes of a dashboard, all files together: they stay in memory.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Folders within folders.
const MAX_DEPTH: usize = 8;

const INDEX: &str = "/index.html";
/// Files here have their hash in their name, so a name's content never changes.
const ASSETS: &str = "/assets/";
/// Pages of the API's own, for deployments without a dashboard, which has all of them.
const REPLACED: [&str; 5] = [
    "/",
    "/cli-login",
    "/verify-email",
    "/reset-password",
    "/accept-invitation",
];
/// Below these nothing is the dashboard's, not even what does not exist: programs that call a path that
/// is not there must not be given a page.
const KEPT: [&str; 3] = ["/api", "/derp", "/sign-in"];

/// What the dashboard's pages may do: load what comes from here, and talk to here. Components position
/// themselves by style attributes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";
/// Devices and sensors that a dashboard has no use for.
const PERMISSIONS: &str = "camera=(), geolocation=(), microphone=(), payment=(), usb=()";

/// The folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// The file system's.
    #[error("cannot read the dashboard's {path}: {error}")]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is not what a build leaves.
    #[error("{0}")]
    Unfit(String),
}

/// A built dashboard.
#[derive(Clone)]
pub struct Dashboard(Arc<BTreeMap<String, File>>);

/// A file, and the same compressed.
struct File {
    kind: &'static str,
    plain: Content,
    brotli: Option<Content>,
    gzip: Option<Content>,
}

#[derive(Clone)]
struct Content {
    bytes: Bytes,
    /// Names the bytes (RFC 9110 §8.8.3).
    tag: HeaderValue,
}

impl Dashboard {
    /// Reads a folder that the dashboard was built into. `x.br` and `x.gz` are `x`, compressed.
    ///
    /// # Errors
    /// It cannot be read, has no `index.html`, has links in it, or is too large; the message says what to do.
    pub fn open(folder: &Path) -> Result<Self, DashboardError> {
        let root = folder
            .canonicalize()
            .map_err(|error| failed(folder, error))?;
        let mut found = BTreeMap::new();
        let mut bytes = 0;
        read_folder(&root, "", 0, &mut found, &mut bytes)?;
        let files = with_encodings(found);
        if !files.contains_key(INDEX) {
            return Err(DashboardError::Unfit(format!(
                "there is no index.html in {}; name the folder that the dashboard was built into",
                folder.display()
            )));
        }
        Ok(Self(Arc::new(files)))
    }

    /// The answer to a request that is the dashboard's.
    fn answer(&self, path: &str, headers: &HeaderMap, head_only: bool) -> Response {
        let file = match self.0.get(path) {
            Some(file) => file,
            // A page of an older build asks for its parts; another's content would only confuse it.
            None if path.starts_with(ASSETS) => {
                return (StatusCode::NOT_FOUND, "There is no such file.\n").into_response();
            }
            None => match self.0.get(INDEX) {
                Some(index) => index,
                None => return StatusCode::NOT_FOUND.into_response(),
            },
        };
        let (content, encoding) = file.best_for(headers);
        let unchanged = headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == content.tag.as_bytes());
        let mut response = match (unchanged, head_only) {
            (true, _) => StatusCode::NOT_MODIFIED.into_response(),
            (false, true) => Body::empty().into_response(),
            (false, false) => Body::from(content.bytes.clone()).into_response(),
        };
        let cache = match path.starts_with(ASSETS) {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        let lasting = [
            (header::CONTENT_TYPE, file.kind),
            (header::CACHE_CONTROL, cache),
            (header::VARY, "accept-encoding"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            // Under `no-referrer`, forms would send `Origin: null` (Fetch, "append a request Origin header").
            (header::REFERRER_POLICY, "same-origin"),
            (HeaderName::from_static("permissions-policy"), PERMISSIONS),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ];
        let headers = response.headers_mut();
        for (name, value) in lasting {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::ETAG, content.tag.clone());
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        if !unchanged {
            headers.insert(header::CONTENT_LENGTH, content.bytes.len().into());
        }
        response
    }
}

impl File {
    fn best_for(&self, headers: &HeaderMap) -> (&Content, Option<&'static str>) {
        for (name, content) in [("br", &self.brotli), ("gzip", &self.gzip)] {
            if let Some(content) = content
                && accepts(headers, name)
            {
                return (content, Some(name));
            }
        }
        (&self.plain, None)
    }
}

/// The layer: what is the dashboard's is answered here, the rest goes on.
pub(crate) async fn serve(dashboard: Dashboard, request: Request, next: Next) -> Response {
    let head_only = request.method() == Method::HEAD;
    if !(head_only || request.method() == Method::GET) {
        return next.run(request).await;
    }
    let route = request.extensions().get::<MatchedPath>();
    let path = request.uri().path();
    let own = match route {
        Some(route) => REPLACED.contains(&route.as_str()),
        None => !KEPT.iter().any(|kept| is_below(path, kept)),
    };
    match own {
        true => dashboard.answer(path, request.headers(), head_only),
        false => next.run(request).await,
    }
}

/// Also as somebody may have written it by mistake: in another case, or with more slashes than one.
fn is_below(path: &str, folder: &str) -> bool {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    let first = names.next().unwrap_or_default();
    first.eq_ignore_ascii_case(folder.trim_start_matches('/'))
}

/// Whether a client takes an encoding (RFC 9110 §12.5.3). A weight of 0 says that it does not.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|wanted| {
            let mut parts = wanted.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(encoding));
            let refused = parts.any(|part| {
                part.to_ascii_lowercase()
                    .strip_prefix("q=")
                    .and_then(|weight| weight.parse::<f32>().ok())
                    .is_some_and(|weight| weight <= 0.0)
            });
            named && !refused
        })
}

fn read_folder(
    folder: &Path,
    prefix: &str,
    depth: usize,
    found: &mut BTreeMap<String, Bytes>,
    bytes: &mut u64,
) -> Result<(), DashboardError> {
    if depth > MAX_DEPTH {
        return Err(DashboardError::Unfit(format!(
            "the dashboard's folders are more than {MAX_DEPTH} deep at {}; name the folder that it was built into",
            folder.display()
        )));
    }
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            return Err(DashboardError::Unfit(format!(
                "the name of {} is not UTF-8; remove it",
                path.display()
            )));
        };
        // Notes of the build tools, and whatever else hides.
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(|error| failed(&path, error))?;
        let served = format!("{prefix}/{name}");
        if kind.is_dir() {
            read_folder(&path, &served, depth + 1, found, bytes)?;
        } else if kind.is_file() {
            *bytes += entry
                .metadata()
                .map_err(|error| failed(&path, error))?
                .len();
            if *bytes > MAX_BYTES || found.len() >= MAX_FILES {
                return Err(DashboardError::Unfit(format!(
                    "the dashboard has more than {MAX_FILES} files or {MAX_BYTES} bytes; name the folder that it was built into"
                )));
            }
            let content = fs::read(&path).map_err(|error| failed(&path, error))?;
            found.insert(served, content.into());
        } else {
            return Err(DashboardError::Unfit(format!(
                "{} is a link or no file; the dashboard is served from files alone, so copy it there",
                path.display()
            )));
        }
    }
    Ok(())
}

fn with_encodings(found: BTreeMap<String, Bytes>) -> BTreeMap<String, File> {
    let is_encoding = |name: &str| {
        let plain = name.strip_suffix(".br").or(name.strip_suffix(".gz"));
        plain.is_some_and(|plain| found.contains_key(plain))
    };
    let content = |name: String| found.get(&name).cloned().map(Content::new);
    let served = found.keys().filter(|name| !is_encoding(name));
    served
        .filter_map(|name| {
            let file = File {
                kind: kind_of(name),
                plain: content(name.clone())?,
                brotli: content(format!("{name}.br")),
                gzip: content(format!("{name}.gz")),
            };
            Some((name.clone(), file))
        })
        .collect()
}

impl Content {
    fn new(bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes);
        let tag: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
        // Hexadecimal digits are good in every header.
        let tag = HeaderValue::from_str(&format!("\"{tag}\""));
        Self {
            bytes,
            tag: tag.unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }
}

/// Media types of what builds leave. Browsers are told not to guess.
fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webp" => "image/webp",
        "ico" => "image/vnd.microsoft.icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn failed(path: &Path, error: io::Error) -> DashboardError {
    DashboardError::Io {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_taken_unless_they_are_refused() {
        for (header, br, gzip) in [
            ("gzip, deflate, br, zstd", true, true),
            ("br;q=0, gzip;q=0.5", false, true),
            ("BR", true, false),
            ("br; q=0.0", false, false),
            ("broken", false, false),
            ("", false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, header.parse().unwrap());
            assert_eq!(
                (accepts(&headers, "br"), accepts(&headers, "gzip")),
                (br, gzip),
                "{header}"
            );
        }
    }

    #[test]
    fn a_folder_that_is_no_build_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |folder: &Path| Dashboard::open(folder).err().map(|e| e.to_string());
        let text = refused(folder.path()).unwrap();
        assert!(text.contains("no index.html"), "{text}");
        let text = refused(&folder.path().join("gone")).unwrap();
        assert!(text.contains("gone"), "{text}");
        fs::write(folder.path().join("index.html"), "page").unwrap();
        assert_eq!(refused(folder.path()), None);
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("leak.txt")).unwrap();
        let text = refused(folder.path()).unwrap();
        assert!(text.contains("leak.txt is a link"), "{text}");
    }
}
