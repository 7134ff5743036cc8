//! Which names this machine's programs ask our service for: a file for each domain in `/etc/resolver`
//! (resolver(5)). Files are ours if their first line says so; others' stay.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The folder that the system reads.
pub const NAME_RULES: &str = "/etc/resolver";
/// The first line of ours.
const MARK: &str = "# Written by ztna; it goes with `ztna down`.";
/// The file with domains to look in for short names. Its name is no domain that anybody asks for.
const SEARCH: &str = "search.ztna";
/// Longest file that is looked at: others' may be anything.
const MAX_FILE: u64 = 64 * 1024;

/// The rules in a folder.
pub struct NameRules(PathBuf);

impl NameRules {
    /// Of this folder.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Has `service` asked for these domains, and for nothing else. `Some`: what it cannot do of that.
    ///
    /// # Errors
    /// The system refuses.
    pub fn set(
        &self,
        domains: &BTreeSet<String>,
        search: &[String],
        everything: bool,
        service: IpAddr,
    ) -> io::Result<Option<&'static str>> {
        std::fs::create_dir_all(&self.0)?;
        let rule = format!("{MARK}\nnameserver {service}\n");
        let mut wanted: Vec<(&str, String)> = domains
            .iter()
            .filter(|domain| is_file_name(domain))
            .map(|domain| (domain.as_str(), rule.clone()))
            .collect();
        if !search.is_empty() {
            wanted.push((SEARCH, format!("{MARK}\nsearch {}\n", search.join(" "))));
        }
        for name in self.ours()? {
            if !wanted.iter().any(|(wanted, _)| *wanted == name) {
                std::fs::remove_file(self.0.join(name))?;
            }
        }
        let mut note = None;
        for (name, text) in wanted {
            let file = self.0.join(name);
            match read(&file)? {
                Some(found) if !found.starts_with(MARK) => {
                    note = Some("files of others in /etc/resolver stay in force");
                }
                Some(found) if found == text => {}
                _ => std::fs::write(&file, text)?,
            }
        }
        Ok(match everything {
            true => Some(
                "the org's nameservers answer for split domains alone: macOS is not told of others yet",
            ),
            false => note,
        })
    }

    /// Removes all of ours.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(&self) -> io::Result<()> {
        for name in self.ours()? {
            std::fs::remove_file(self.0.join(name))?;
        }
        Ok(())
    }

    /// The names of our files, also of a daemon that was killed.
    fn ours(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ours = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if read(&entry.path())?.is_some_and(|text| text.starts_with(MARK)) {
                ours.push(name);
            }
        }
        Ok(ours)
    }
}

/// A regular file's text, if it may be a rule.
fn read(file: &Path) -> io::Result<Option<String>> {
    let metadata = match std::fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Ok(Some(String::new()));
    }
    let bytes = std::fs::read(file)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Domains come from the control plane, and become names of files.
fn is_file_name(domain: &str) -> bool {
    !domain.is_empty()
        && !domain.starts_with('.')
        && domain
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn each_domain_has_a_file_and_others_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolver");
        let rules = NameRules::new(&path);
        rules.remove().unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("corp.example"), "nameserver 10.0.0.53\n").unwrap();
        let service: IpAddr = "100.100.100.100".parse().unwrap();
        let domains = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let search = ["acme.ztna.internal".to_owned(), "x.example".to_owned()];

        let wanted = domains(&["acme.ztna.internal", "corp.example", "../../etc/passwd", ""]);
        let note = rules.set(&wanted, &search, false, service).unwrap();
        assert!(note.is_some_and(|note| note.contains("stay in force")));
        assert_eq!(
            files(&path),
            ["acme.ztna.internal", "corp.example", "search.ztna"]
        );
        let text = |name| std::fs::read_to_string(path.join(name)).unwrap();
        assert_eq!(
            text("acme.ztna.internal"),
            format!("{MARK}\nnameserver 100.100.100.100\n")
        );
        assert_eq!(
            text("search.ztna"),
            format!("{MARK}\nsearch acme.ztna.internal x.example\n")
        );
        assert_eq!(text("corp.example"), "nameserver 10.0.0.53\n");

        let wanted = domains(&["beta.ztna.internal"]);
        assert_eq!(rules.set(&wanted, &[], false, service).unwrap(), None);
        assert_eq!(files(&path), ["beta.ztna.internal", "corp.example"]);
        // Of a daemon that was killed.
        NameRules::new(&path).remove().unwrap();
        assert_eq!(files(&path), ["corp.example"]);
    }

    #[test]
    fn what_it_cannot_do_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let rules = NameRules::new(folder.path());
        let service: IpAddr = "100.100.100.100".parse().unwrap();
        let note = rules.set(&BTreeSet::new(), &[], true, service).unwrap();
        assert!(note.is_some_and(|note| note.contains("macOS is not told")));
    }
}
