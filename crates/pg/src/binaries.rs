//! Where the PostgreSQL programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::PgError;

/// Oldest major version that the schema works with.
pub const MIN_MAJOR: u32 = 15;

/// Names the folder of the programs, in place of a search.
pub const FOLDER_ENV: &str = "ZTNA_POSTGRES_BIN";

/// Folders of packages: each child holds one major version's `bin`.
const PACKAGE_ROOTS: [&str; 2] = ["/usr/lib/postgresql", "/usr/local/lib/postgresql"];

/// A folder with `postgres` and `initdb` of one version.
#[derive(Clone, Debug)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// Looks in [`FOLDER_ENV`], else in `PATH` and the packages' folders; the newest wins.
    ///
    /// `major`: the version that wrote the data at `data`, if there is data.
    ///
    /// # Errors
    /// No version that is new enough, or not the one that wrote the data.
    pub fn find(data: &Path, major: Option<u32>) -> Result<Self, PgError> {
        let mut found: Vec<Self> = match std::env::var_os(FOLDER_ENV) {
            Some(folder) => {
                let folder = PathBuf::from(folder);
                vec![Self::probe(&folder).ok_or(PgError::BadFolder { folder })?]
            }
            None => candidates().iter().filter_map(|f| Self::probe(f)).collect(),
        };
        found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
        let Some(newest) = found.first() else {
            return Err(PgError::NotFound);
        };
        let Some(wanted) = major else {
            return Ok(newest.clone());
        };
        found
            .into_iter()
            .find(|binaries| binaries.major == wanted)
            .ok_or_else(|| PgError::OtherVersion {
                data: data.to_owned(),
                wanted,
            })
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// A program of this version.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn probe(folder: &Path) -> Option<Self> {
        if !folder.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        let major = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        (major >= MIN_MAJOR).then(|| Self {
            folder: folder.to_owned(),
            major,
        })
    }
}

fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for root in PACKAGE_ROOTS {
        let Ok(children) = std::fs::read_dir(root) else {
            continue;
        };
        folders.extend(children.flatten().map(|child| child.path().join("bin")));
    }
    folders
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-1)`.
fn parse_version(text: &str) -> Option<u32> {
    let version = text.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_server_prints() {
        let cases = [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some(15),
            ),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 9.6.24\n", Some(9)),
            ("mysqld 8\n", None),
        ];
        for (text, major) in cases {
            assert_eq!(parse_version(text), major, "{text}");
        }
    }
}
