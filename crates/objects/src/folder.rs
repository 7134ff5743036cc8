//! A folder.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{ObjectsError, io};

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: &str) -> Self {
        Self(PathBuf::from(path))
    }

    pub(crate) async fn put(&self, name: &str, file: &Path) -> Result<(), ObjectsError> {
        let (to, from) = (self.0.join(name), file.to_owned());
        blocking(move || put(&from, &to)).await
    }

    pub(crate) async fn get(&self, name: &str, file: &Path) -> Result<(), ObjectsError> {
        let (from, to) = (self.0.join(name), file.to_owned());
        let missing = ObjectsError::Missing {
            name: name.to_owned(),
            place: self.0.display().to_string(),
        };
        blocking(move || match std::fs::copy(&from, &to) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !from.exists() => {
                Err(missing)
            }
            Err(error) => Err(io("cannot copy", &from)(error)),
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
    let mut source = std::fs::File::open(from).map_err(io("cannot open", from))?;
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
    let handle = std::fs::File::open(folder).map_err(io("cannot open", folder))?;
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
