//! A folder.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{ObjectsError, io};

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: &str) -> Self {
        Self(PathBuf::from(path))
    }

    pub(crate) async fn put(&self, name: &str, file: &Path) -> Result<(), ObjectsError> {
        let (root, name, from) = (self.0.clone(), name.to_owned(), file.to_owned());
        blocking(move || {
            demand_folders(&root, &name)?;
            put(&from, &root.join(name))
        })
        .await
    }

    pub(crate) async fn get(
        &self,
        name: &str,
        file: &Path,
        limit: u64,
    ) -> Result<(), ObjectsError> {
        let (root, name, to) = (self.0.clone(), name.to_owned(), file.to_owned());
        blocking(move || {
            let place = root.display().to_string();
            let from = open(&root, &name)?.ok_or_else(|| ObjectsError::Missing {
                name: name.clone(),
                place: place.clone(),
            })?;
            // One byte more tells that there is more.
            let mut from = from.take(limit.saturating_add(1));
            let mut file = File::create(&to).map_err(io("cannot create", &to))?;
            let copied = std::io::copy(&mut from, &mut file).map_err(io("cannot write", &to))?;
            match copied > limit {
                true => Err(ObjectsError::TooLarge { name, place, limit }),
                false => Ok(()),
            }
        })
        .await
    }

    pub(crate) async fn list(&self) -> Result<Vec<String>, ObjectsError> {
        let root = self.0.clone();
        blocking(move || {
            let mut names = Vec::new();
            list(&root, "", &mut names)?;
            Ok(names)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ObjectsError> + Send + 'static,
) -> Result<T, ObjectsError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(ObjectsError::Io {
            what: "a task ended badly over",
            path: PathBuf::new(),
            source: std::io::Error::other(error),
        })
    })
}

/// Refuses a name on whose way there is something else than folders.
fn demand_folders(root: &Path, name: &str) -> Result<(), ObjectsError> {
    let mut path = root.to_owned();
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in parts {
        path.push(part);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(ObjectsError::NoFile { path }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io("cannot read", &path)(error)),
        }
    }
    Ok(())
}

/// Opens an object, if there is one.
fn open(root: &Path, name: &str) -> Result<Option<File>, ObjectsError> {
    demand_folders(root, name)?;
    let path = root.join(name);
    let opened = std::fs::OpenOptions::new()
        .read(true)
        // What waits for a writer, a pipe say, must not keep us.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(ObjectsError::NoFile { path });
        }
        Err(error) => return Err(io("cannot open", &path)(error)),
    };
    let found = file.metadata().map_err(io("cannot read", &path))?;
    match found.is_file() {
        true => Ok(Some(file)),
        false => Err(ObjectsError::NoFile { path }),
    }
}

/// Writes aside and renames, so that a half-written object never has its name.
fn put(from: &Path, to: &Path) -> Result<(), ObjectsError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io("cannot make the folder", folder))?;
    let mut aside =
        tempfile::NamedTempFile::new_in(folder).map_err(io("cannot write in", folder))?;
    let mut source = File::open(from).map_err(io("cannot open", from))?;
    std::io::copy(&mut source, &mut aside).map_err(io("cannot write", to))?;
    let mode = std::fs::Permissions::from_mode(0o600);
    aside
        .as_file()
        .set_permissions(mode)
        .map_err(io("cannot protect", to))?;
    aside.as_file().sync_all().map_err(io("cannot write", to))?;
    aside
        .persist(to)
        .map_err(|error| io("cannot rename to", to)(error.error))?;
    // The name too has to be on the disk before somebody relies on it.
    let handle = File::open(folder).map_err(io("cannot open", folder))?;
    handle.sync_all().map_err(io("cannot write", folder))
}

fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<(), ObjectsError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // Nothing was stored yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("cannot read the folder", folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io("cannot read the folder", folder))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let name = match prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        // What is no name of ours, a file that is being written say, is no object.
        if crate::check(&name).is_err()
            || name.rsplit('/').next().is_some_and(|n| n.starts_with('.'))
        {
            continue;
        }
        let kind = entry.file_type().map_err(io("cannot read", folder))?;
        if kind.is_dir() {
            list(&entry.path(), &name, names)?;
        } else if kind.is_file() {
            names.push(name);
        }
    }
    Ok(())
}
