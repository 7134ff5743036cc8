//! The folder, as far as its manifest goes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};
use ztna_proto::ids::MachineId;
use ztna_proto::keys::hex;
use ztna_proto::releases::{ClientVersion, Release, ReleaseFile, ReleaseManifest};

use super::installers::Installers;
use super::order;
use super::signature::{ReleaseKey, ReleaseKeyError};

/// The manifest's name.
const MANIFEST: &str = "manifest.json";
/// Largest manifest, in bytes. One release of six files has 2 KiB.
const MAX_MANIFEST: u64 = 256 * 1024;
/// Most releases of a manifest.
const MAX_RELEASES: usize = 50;
/// Most files of a release.
const MAX_FILES: usize = 50;
/// Largest file, in bytes.
const MAX_FILE: u64 = 512 * 1024 * 1024;
/// Longest version, target, name or signature.
const MAX_TEXT: usize = 256;
/// A manifest that does not fit its files is tried again after so long, if it has not changed before.
pub(super) const RETRY_PERIOD: Duration = Duration::from_secs(30);
/// Tells the draw of a rollout from other hashes.
const ROLLOUT: &[u8] = b"ztna rollout v1\0";

/// The folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReleasesError {
    /// The file system's.
    #[error("cannot read {path}: {error}; correct --releases")]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The manifest is not one, or does not fit its files.
    #[error("{path}: {what}")]
    Unfit {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl ReleasesError {
    pub(super) fn failed(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }

    pub(super) fn unfit(path: &Path, what: impl Into<String>) -> Self {
        Self::Unfit {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}

/// Releases that are served. Cheap to clone.
#[derive(Clone)]
pub struct Releases(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    key: Option<ReleaseKey>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the manifest looked like when it was read.
    seen: Option<Stamp>,
    /// The last one that was taken.
    manifest: Option<Arc<ReleaseManifest>>,
    /// Those that came with it.
    installers: Arc<Installers>,
    fault: Option<Fault>,
}

/// Why the manifest that is there now was not taken.
struct Fault {
    what: String,
    /// A file may have come after its manifest: from then on it is tried again.
    retry_at: Instant,
}

/// By what a changed file is told.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    size: u64,
}

impl Releases {
    /// Reads a folder, and every file that its manifest names, which have to be signed by the key if there is one. A
    /// folder that cannot be served is said in the log and by `/health`, and looked at again: nobody's sign-in hangs on it.
    ///
    /// # Errors
    /// The file of the key holds none.
    pub fn open(folder: &Path, key: Option<&Path>) -> Result<Self, ReleaseKeyError> {
        let releases = Self(Arc::new(Inner {
            folder: folder.to_owned(),
            key: key.map(ReleaseKey::open).transpose()?,
            state: Mutex::default(),
        }));
        releases.look(Instant::now());
        Ok(releases)
    }

    /// Reads the folder again where its manifest is another one, or was not to be taken and it is time to try again. Hashes
    /// files, while others are served.
    pub(super) fn look(&self, now: Instant) {
        let path = self.0.folder.join(MANIFEST);
        let stamp = stamp(&path).ok();
        {
            let state = self.state();
            let is_tried = match &state.fault {
                Some(fault) => now < fault.retry_at,
                None => true,
            };
            if stamp.is_some() && stamp == state.seen && is_tried {
                return;
            }
        }
        let (folder, key) = (&self.0.folder, self.0.key.as_ref());
        let read = read(folder, key).map(|(stamp, manifest)| {
            let installers = Installers::read(folder, &manifest, key);
            (stamp, manifest, installers)
        });
        let mut state = self.state();
        let known = state.fault.take().map(|fault| fault.what);
        let fault = match read {
            Ok((stamp, manifest, (installers, faults))) => {
                state.seen = Some(stamp);
                state.manifest = Some(Arc::new(manifest));
                state.installers = Arc::new(installers);
                let fault = faults.first().map(ToString::to_string);
                if fault.is_none() || fault != known {
                    tracing::info!(path = %path.display(), "the releases are served");
                }
                if let Some(error) = fault.as_ref().filter(|_| fault != known) {
                    tracing::error!(%error, "the releases are served, an installer is not");
                }
                fault
            }
            Err(error) => {
                state.seen = stamp;
                let what = error.to_string();
                if known.as_ref() != Some(&what) {
                    let before = state.manifest.is_some();
                    tracing::error!(%error, before, "the releases are not served; those of before are, if there are any");
                }
                Some(what)
            }
        };
        let retry_at = now + RETRY_PERIOD;
        state.fault = fault.map(|what| Fault { what, retry_at });
    }

    /// The manifest in force, if there ever was one that could be taken.
    pub(super) fn manifest(&self) -> Option<Arc<ReleaseManifest>> {
        self.state().manifest.clone()
    }

    /// The installers that came with it.
    pub(super) fn installers(&self) -> Arc<Installers> {
        Arc::clone(&self.state().installers)
    }

    /// The digest of the installer for a system, as in `linux`, if there is one, and a release for all machines of some
    /// architecture of it.
    pub(super) fn installer(&self, system: &str) -> Option<String> {
        let target = |file: &ReleaseFile| {
            file.target
                .split_once('-')
                .is_some_and(|(first, _)| first == system)
        };
        let is_for_all =
            |release: &Release| is_for(release, None) && release.files.iter().any(target);
        let is_there = self.manifest()?.releases.iter().any(is_for_all);
        self.installers().digest(system).filter(|_| is_there)
    }

    /// Whether the folder is as its manifest says, and all of it signed as it has to be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.state().fault.is_none()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file that a manifest names, open, if it still has the size that it had.
    pub(super) fn file(&self, version: &str, named: &ReleaseFile) -> Result<File, ReleasesError> {
        let path = self.0.folder.join(version).join(&named.name);
        let file = open(&self.0.folder, &path)?;
        let size = file
            .metadata()
            .map_err(|error| ReleasesError::failed(&path, error))?
            .len();
        match size == named.size {
            true => Ok(file),
            false => Err(ReleasesError::unfit(
                &path,
                "it is not the file that the manifest names",
            )),
        }
    }
}

/// The newest release for a target that the machine's turn has come for; who names no machine gets what all machines get.
pub(super) fn choose(
    manifest: &ReleaseManifest,
    target: &str,
    machine: Option<MachineId>,
) -> Option<ClientVersion> {
    manifest.releases.iter().find_map(|release| {
        if !is_for(release, machine) {
            return None;
        }
        let file = release.files.iter().find(|file| file.target == target)?;
        Some(ClientVersion {
            version: release.version.clone(),
            target: target.to_owned(),
            path: format!("/api/releases/{}/{}", release.version, file.name),
            size: file.size,
            sha256: file.sha256.clone(),
            signature: file.signature.clone(),
        })
    })
}

/// Whether a machine is among those that get a release. A machine draws its number once for each version, so it stays among
/// them as more follow, and is not always among the first.
fn is_for(release: &Release, machine: Option<MachineId>) -> bool {
    let Some(machine) = machine else {
        return release.rollout >= 100;
    };
    let mut hash = Sha256::new();
    hash.update(ROLLOUT);
    hash.update(release.version.as_bytes());
    hash.update(machine.0.as_bytes());
    let digest = hash.finalize();
    let mut drawn = [0; 8];
    drawn.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(drawn) % 100 < u64::from(release.rollout)
}

fn stamp(path: &Path) -> Result<Stamp, ReleasesError> {
    let read = || {
        let metadata = fs::metadata(path)?;
        Ok(Stamp {
            modified: metadata.modified()?,
            size: metadata.len(),
        })
    };
    read().map_err(|error| ReleasesError::failed(path, error))
}

/// The manifest, its releases in order, once each of its files is as it says.
fn read(
    folder: &Path,
    key: Option<&ReleaseKey>,
) -> Result<(Stamp, ReleaseManifest), ReleasesError> {
    let path = folder.join(MANIFEST);
    let seen = stamp(&path)?;
    if seen.size > MAX_MANIFEST {
        let what = format!("it is larger than {MAX_MANIFEST} bytes; take old releases out");
        return Err(ReleasesError::unfit(&path, what));
    }
    let text = fs::read(&path).map_err(|error| ReleasesError::failed(&path, error))?;
    let mut manifest: ReleaseManifest = serde_json::from_slice(&text).map_err(|error| {
        ReleasesError::unfit(&path, format!("it is no manifest of releases: {error}"))
    })?;
    check(&manifest, key).map_err(|what| ReleasesError::unfit(&path, what))?;
    // Who is to have an older release first would never hear of the newer one.
    let releases = &mut manifest.releases;
    releases.sort_by(|a, b| order::compare(&b.version, &a.version));
    let mut checked: BTreeSet<(&str, &str, &str, u64)> = BTreeSet::new();
    for release in &manifest.releases {
        for file in &release.files {
            // One file may serve several targets.
            let claim = (&*release.version, &*file.name, &*file.sha256, file.size);
            if checked.insert(claim) {
                check_file(folder, release, file)?;
            }
        }
    }
    Ok((seen, manifest))
}

/// Whether the manifest says what can be served.
fn check(manifest: &ReleaseManifest, key: Option<&ReleaseKey>) -> Result<(), String> {
    if manifest.releases.len() > MAX_RELEASES {
        return Err(format!(
            "it has more than {MAX_RELEASES} releases; take old ones out"
        ));
    }
    let mut versions = BTreeSet::new();
    for release in &manifest.releases {
        let mut targets = BTreeSet::new();
        let Release {
            version,
            rollout,
            files,
        } = release;
        if !is_name(version) {
            return Err(format!(
                "the version {version:?} is not one; use letters, digits and .+-_"
            ));
        }
        if !versions.insert(version) {
            return Err(format!(
                "there are two releases {version}; give one of them another version"
            ));
        }
        if *rollout > 100 {
            return Err(format!("{version}: `rollout` is a percentage, 0 to 100"));
        }
        if files.len() > MAX_FILES {
            return Err(format!("{version}: it has more than {MAX_FILES} files"));
        }
        for file in files {
            let name = &file.name;
            if !is_name(name) || !is_name(&file.target) {
                return Err(format!(
                    "{version}: {name:?} for {:?} is no file's name; use letters, digits and .+-_",
                    file.target
                ));
            }
            if !targets.insert(&file.target) {
                return Err(format!(
                    "{version}: there are two files for {}; take one out",
                    file.target
                ));
            }
            let is_digest = file.sha256.len() == 64
                && file
                    .sha256
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !is_digest {
                return Err(format!(
                    "{version}: `sha256` of {name} is not 64 digits 0-9a-f"
                ));
            }
            if file.size > MAX_FILE {
                return Err(format!("{version}: {name} is larger than {MAX_FILE} bytes"));
            }
            if file.signature.is_empty() || file.signature.len() > MAX_TEXT {
                return Err(format!(
                    "{version}: {name} has no signature; sign the release"
                ));
            }
            if key.is_some_and(|key| !key.has_signed(version, file)) {
                return Err(format!(
                    "{version}: {name} for {} is not signed by the key of --release-key; sign it with that",
                    file.target
                ));
            }
        }
    }
    Ok(())
}

/// Letters, digits and a few signs, so that a name is one part of a path everywhere; it does not begin with a dot.
fn is_name(text: &str) -> bool {
    let sign = |b: u8| b.is_ascii_alphanumeric() || b".+-_".contains(&b);
    !text.is_empty() && text.len() <= MAX_TEXT && !text.starts_with('.') && text.bytes().all(sign)
}

fn check_file(folder: &Path, release: &Release, named: &ReleaseFile) -> Result<(), ReleasesError> {
    let path = folder.join(&release.version).join(&named.name);
    let mut file = open(folder, &path)?;
    let size = file
        .metadata()
        .map_err(|error| ReleasesError::failed(&path, error))?
        .len();
    if size != named.size {
        let what = format!(
            "it has {size} bytes, and {} in the manifest; copy it again",
            named.size
        );
        return Err(ReleasesError::unfit(&path, what));
    }
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut Hashed(&mut hash))
        .map_err(|error| ReleasesError::failed(&path, error))?;
    if hex(&hash.finalize()) != named.sha256 {
        return Err(ReleasesError::unfit(
            &path,
            "its SHA-256 is not the manifest's; copy it again",
        ));
    }
    Ok(())
}

/// Takes what is written to it into a hash.
struct Hashed<'a>(&'a mut Sha256);

impl io::Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a file of the folder that is one, wherever links have led.
pub(super) fn open(folder: &Path, path: &Path) -> Result<File, ReleasesError> {
    let real = path
        .canonicalize()
        .map_err(|error| ReleasesError::failed(path, error))?;
    let folder = folder
        .canonicalize()
        .map_err(|error| ReleasesError::failed(folder, error))?;
    if !real.starts_with(folder) {
        return Err(ReleasesError::unfit(
            path,
            "it is a link that leads out of the folder; copy the file there",
        ));
    }
    let file = File::open(&real).map_err(|error| ReleasesError::failed(path, error))?;
    match file
        .metadata()
        .map_err(|error| ReleasesError::failed(path, error))?
        .is_file()
    {
        true => Ok(file),
        false => Err(ReleasesError::unfit(path, "it is no file")),
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
