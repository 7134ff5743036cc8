//! Objects by name: in a bucket of S3, or of anything that speaks its language, or in a folder.
//!
//! What is stored is there whole or not at all, and nobody but its owner reads a folder's files.
//! Names are `/`-separated and relative. Below its root a folder has files and folders: symbolic links are neither
//! followed nor listed. Who fetches says how large the object may be.

mod folder;
mod s3;

use std::path::{Path, PathBuf};

/// Why an object was not stored or not found.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The location is none.
    #[error("`{location}` is no place for objects: {why}")]
    Location {
        /// What was given.
        location: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A name leads out of the place.
    #[error("`{0}` is no name of an object")]
    Name(String),
    /// There is no such object.
    #[error("there is no `{name}` in {place}")]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        place: String,
    },
    /// An object is larger than whoever fetches it takes.
    #[error("`{name}` in {place} is larger than the {limit} bytes that it may have")]
    TooLarge {
        /// Its name.
        name: String,
        /// Where it is.
        place: String,
        /// Bytes that it may have.
        limit: u64,
    },
    /// What stands under a name is no file.
    #[error(
        "{path} is no file in folders below the place, but a link or something else; remove it"
    )]
    NoFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The file system's.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The object store's.
    #[error("{what} `{name}` in {place}: {why}")]
    Store {
        /// What was tried.
        what: &'static str,
        /// On which object, or on names that begin so.
        name: String,
        /// Where.
        place: String,
        /// What the store, or the way to it, said.
        why: String,
    },
}

/// A place for objects.
pub struct Objects(Place);

enum Place {
    Folder(folder::Folder),
    S3(s3::Bucket),
}

/// Credentials and address of an object store, as its tools read them from the environment.
#[derive(Clone, Default)]
pub struct S3Settings {
    /// `AWS_ACCESS_KEY_ID`
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`
    pub secret_key: String,
    /// `AWS_SESSION_TOKEN`
    pub session_token: Option<String>,
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`, else `us-east-1`.
    pub region: String,
    /// `AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL`: a store that is not Amazon's.
    pub endpoint: Option<String>,
}

impl S3Settings {
    /// From the environment.
    #[must_use]
    pub fn from_env() -> Self {
        let read = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            access_key: read("AWS_ACCESS_KEY_ID").unwrap_or_default(),
            secret_key: read("AWS_SECRET_ACCESS_KEY").unwrap_or_default(),
            session_token: read("AWS_SESSION_TOKEN"),
            region: read("AWS_REGION")
                .or_else(|| read("AWS_DEFAULT_REGION"))
                .unwrap_or_else(|| "us-east-1".to_owned()),
            endpoint: read("AWS_ENDPOINT_URL_S3").or_else(|| read("AWS_ENDPOINT_URL")),
        }
    }
}

impl Objects {
    /// Opens `s3://bucket[/prefix]`, `file:///folder` or a folder's path.
    ///
    /// # Errors
    /// The location is malformed, or names S3 without credentials.
    pub fn open(location: &str, settings: S3Settings) -> Result<Self, ObjectsError> {
        let refuse = |why| ObjectsError::Location {
            location: location.to_owned(),
            why,
        };
        if let Some(rest) = location.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(refuse("it names no bucket; s3://bucket/prefix"));
            }
            if settings.access_key.is_empty() || settings.secret_key.is_empty() {
                return Err(refuse(
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION)",
                ));
            }
            let prefix = prefix.trim_matches('/');
            return Ok(Self(Place::S3(s3::Bucket::new(bucket, prefix, settings))));
        }
        let path = location.strip_prefix("file://").unwrap_or(location);
        if path.is_empty() || path.contains("://") {
            return Err(refuse("s3://bucket/prefix, or a folder"));
        }
        Ok(Self(Place::Folder(folder::Folder::new(path))))
    }

    /// Stores a file's content under a name, over any that is there.
    ///
    /// # Errors
    /// The name is none, the file cannot be read, or the place does not take it.
    pub async fn put(&self, name: &str, file: &Path) -> Result<(), ObjectsError> {
        check(name)?;
        match &self.0 {
            Place::Folder(folder) => folder.put(name, file).await,
            Place::S3(bucket) => bucket.put(name, file).await,
        }
    }

    /// Writes an object's content, at most `limit` bytes, to a new file.
    ///
    /// # Errors
    /// There is no such object, it is larger, or the file cannot be written.
    pub async fn get(&self, name: &str, file: &Path, limit: u64) -> Result<(), ObjectsError> {
        check(name)?;
        match &self.0 {
            Place::Folder(folder) => folder.get(name, file, limit).await,
            Place::S3(bucket) => bucket.get(name, file, limit).await,
        }
    }

    /// Names of all objects, sorted.
    ///
    /// # Errors
    /// The place cannot be read.
    pub async fn list(&self) -> Result<Vec<String>, ObjectsError> {
        let mut names = match &self.0 {
            Place::Folder(folder) => folder.list().await?,
            Place::S3(bucket) => bucket.list().await?,
        };
        names.sort();
        Ok(names)
    }
}

fn check(name: &str) -> Result<(), ObjectsError> {
    let good = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match name.split('/').all(good) {
        true => Ok(()),
        false => Err(ObjectsError::Name(name.to_owned())),
    }
}

pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ObjectsError {
    let path = path.to_owned();
    move |source| ObjectsError::Io { what, path, source }
}
