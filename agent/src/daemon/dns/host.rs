//! Has this machine's programs ask the service: through systemd-resolved where that is in charge, else
//! by `/etc/resolv.conf`, which is put back afterwards, also after a crash.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use ztna_proto::network::DNS_SERVICE;

use super::zone::Zone;
use crate::daemon::state_dir::StateDir;

/// The file that names nameservers (resolv.conf(5)).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What was in it before, in the state directory. It is there exactly while ours is in force.
const BEFORE_FILE: &str = "resolv.conf.before";
/// The first line of ours.
const MARK: &str = "# Written by ztna; what was here before comes back with `ztna down`.";
/// Most search domains that programs look at (glibc before 2.26; later ones take more).
const MAX_SEARCH: usize = 6;
/// Longest file that is taken for one.
const MAX_FILE: usize = 64 * 1024;
/// Longest wait for systemd-resolved.
const RESOLVED_TIME: Duration = Duration::from_secs(5);

/// What programs of this machine ask.
pub struct Host {
    dir: Arc<StateDir>,
    file: PathBuf,
    device: String,
    applied: Option<Applied>,
}

enum Applied {
    /// The file is ours.
    File,
    /// What systemd-resolved was told.
    Resolved(Vec<Vec<String>>),
}

impl Host {
    /// Of the programs that read this file. `device`: the TUN device.
    #[must_use]
    pub fn new(dir: Arc<StateDir>, file: PathBuf, device: String) -> Self {
        Self {
            dir,
            file,
            device,
            applied: None,
        }
    }

    /// Has programs ask the service. Returns who answered before for everything else; nobody where
    /// others go on answering.
    ///
    /// # Errors
    /// The system refuses; nothing is changed then.
    pub async fn apply(&mut self, zone: &Zone) -> io::Result<Vec<IpAddr>> {
        if is_resolved_in_charge(&self.file) {
            self.tell_resolved(zone).await?;
            return Ok(Vec::new());
        }
        self.write_file(zone)
    }

    /// What was done, for people.
    #[must_use]
    pub fn note(&self, zone: &Zone) -> Option<String> {
        Some(match self.applied.as_ref()? {
            Applied::File => format!(
                "names: {} names {DNS_SERVICE}, which knows {}",
                self.file.display(),
                zone.domain
            ),
            Applied::Resolved(_) => format!(
                "names: systemd-resolved asks {DNS_SERVICE} for {}",
                zone.domain
            ),
        })
    }

    /// Puts back what was before.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn revert(&mut self) -> io::Result<()> {
        match self.applied.take() {
            Some(Applied::Resolved(_)) => resolvectl(&["revert", &self.device]).await,
            _ => restore(&self.dir, &self.file),
        }
    }

    async fn tell_resolved(&mut self, zone: &Zone) -> io::Result<()> {
        let calls = resolved_calls(zone, &self.device);
        if matches!(&self.applied, Some(Applied::Resolved(told)) if *told == calls) {
            return Ok(());
        }
        for call in &calls {
            let call: Vec<&str> = call.iter().map(String::as_str).collect();
            resolvectl(&call).await?;
        }
        self.applied = Some(Applied::Resolved(calls));
        Ok(())
    }

    fn write_file(&mut self, zone: &Zone) -> io::Result<Vec<IpAddr>> {
        let found = read(&self.file)?;
        let before = match found.starts_with(MARK) {
            // Ours, or another process's before it was killed.
            true => self.saved()?,
            // Never ours, or somebody has written it anew meanwhile: that is what counts.
            false => {
                self.dir.write(BEFORE_FILE, found.as_bytes())?;
                found.clone()
            }
        };
        let text = resolv_conf(zone, &before);
        if found != text {
            // In place: the file may be a mount of its own, or a link to where it really is.
            std::fs::write(&self.file, &text)?;
        }
        self.applied = Some(Applied::File);
        Ok(nameservers(&before))
    }

    fn saved(&self) -> io::Result<String> {
        let bytes = self.dir.read(BEFORE_FILE)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Puts the file back as it was before, if it is ours. What somebody else has written stays.
///
/// # Errors
/// The system refuses.
pub fn restore(dir: &StateDir, file: &Path) -> io::Result<()> {
    let Some(before) = dir.read(BEFORE_FILE)? else {
        return Ok(());
    };
    if read(file)?.starts_with(MARK) {
        match before.is_empty() {
            true => std::fs::remove_file(file)?,
            false => std::fs::write(file, &before)?,
        }
    }
    dir.remove(BEFORE_FILE)
}

/// The file's text; nothing if there is no file.
fn read(file: &Path) -> io::Result<String> {
    match std::fs::read(file) {
        Ok(bytes) if bytes.len() <= MAX_FILE => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is too long to be one", file.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn words<'t>(text: &'t str, key: &str) -> impl Iterator<Item = &'t str> {
    let lines = text.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        (words.next()? == key).then_some(words)
    });
    lines.flatten()
}

/// The nameservers of a file, ours excepted. A zone of a link-local address (`%eth0`) is not kept.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let found = words(text, "nameserver").filter_map(|word| word.parse().ok());
    found
        .filter(|found| *found != IpAddr::V4(DNS_SERVICE))
        .collect()
}

fn resolv_conf(zone: &Zone, before: &str) -> String {
    let mut search: Vec<&str> = zone.search.iter().map(String::as_str).collect();
    for domain in words(before, "search").chain(words(before, "domain")) {
        if !search.contains(&domain) {
            search.push(domain);
        }
    }
    search.truncate(MAX_SEARCH);
    let options: Vec<&str> = words(before, "options").collect();
    let mut text = format!(
        "{MARK}\nnameserver {DNS_SERVICE}\nsearch {}\n",
        search.join(" ")
    );
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

/// Whether programs ask systemd-resolved: the file is a link to one of its own.
fn is_resolved_in_charge(file: &Path) -> bool {
    std::fs::canonicalize(file).is_ok_and(|real| real.starts_with("/run/systemd/resolve"))
}

/// What `resolvectl` is called with. All of it goes with the device, also after a crash.
fn resolved_calls(zone: &Zone, device: &str) -> Vec<Vec<String>> {
    let everything = !zone.nameservers.is_empty();
    let mut domains: Vec<String> = zone.search.clone();
    let search: BTreeSet<&String> = zone.search.iter().collect();
    let routed = zone.routed_domains();
    let routed = routed.iter().filter(|domain| !search.contains(domain));
    domains.extend(routed.map(|domain| format!("~{domain}")));
    domains.extend(everything.then(|| "~.".to_owned()));
    let call = |verb: &str, rest: Vec<String>| {
        let head = [verb.to_owned(), device.to_owned()];
        head.into_iter().chain(rest).collect::<Vec<_>>()
    };
    vec![
        call("dns", vec![DNS_SERVICE.to_string()]),
        call("domain", domains),
        call(
            "default-route",
            vec![if everything { "yes" } else { "no" }.to_owned()],
        ),
    ]
}

async fn resolvectl(args: &[&str]) -> io::Result<()> {
    let ended = Command::new("resolvectl")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = timeout(RESOLVED_TIME, ended).await??;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or_default();
    Err(io::Error::other(format!("resolvectl refuses: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# by dhcp\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\n\
                          search home.example acme.ztna.internal\noptions edns0 trust-ad\n";

    fn zone() -> Zone {
        Zone {
            domain: "acme.ztna.internal".to_owned(),
            search: vec!["acme.ztna.internal".to_owned(), "corp.example".to_owned()],
            ..Zone::default()
        }
    }

    struct Machine {
        folder: tempfile::TempDir,
        dir: Arc<StateDir>,
    }

    impl Machine {
        fn new(text: Option<&str>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let dir = Arc::new(StateDir::open(&folder.path().join("state")).unwrap());
            let machine = Self { folder, dir };
            if let Some(text) = text {
                std::fs::write(machine.file(), text).unwrap();
            }
            machine
        }

        fn file(&self) -> PathBuf {
            self.folder.path().join("resolv.conf")
        }

        fn text(&self) -> String {
            read(&self.file()).unwrap()
        }

        fn host(&self) -> Host {
            Host::new(Arc::clone(&self.dir), self.file(), "ztna0".to_owned())
        }
    }

    #[tokio::test]
    async fn the_file_is_ours_until_it_is_put_back() {
        let machine = Machine::new(Some(BEFORE));
        let mut host = machine.host();
        let before = host.apply(&zone()).await.unwrap();
        let expected: Vec<IpAddr> = vec![
            "192.0.2.53".parse().unwrap(),
            "2001:db8::53".parse().unwrap(),
        ];
        assert_eq!(before, expected);
        let ours = format!(
            "{MARK}\nnameserver 100.100.100.100\nsearch acme.ztna.internal corp.example home.example\n\
             options edns0 trust-ad\n"
        );
        assert_eq!(machine.text(), ours);
        assert_eq!(
            host.apply(&zone()).await.unwrap(),
            expected,
            "again: the same"
        );
        host.revert().await.unwrap();
        assert_eq!(machine.text(), BEFORE);
        host.revert().await.unwrap();
        assert_eq!(machine.text(), BEFORE);
    }

    #[tokio::test]
    async fn after_a_crash_it_is_put_back_or_taken_over() {
        let machine = Machine::new(Some(BEFORE));
        machine.host().apply(&zone()).await.unwrap();
        // A new process: it finds ours.
        assert_eq!(machine.host().apply(&zone()).await.unwrap().len(), 2);
        restore(&machine.dir, &machine.file()).unwrap();
        assert_eq!(machine.text(), BEFORE);
        restore(&machine.dir, &machine.file()).unwrap();
        assert_eq!(machine.text(), BEFORE);
    }

    #[tokio::test]
    async fn what_somebody_else_writes_meanwhile_counts() {
        let machine = Machine::new(Some(BEFORE));
        let mut host = machine.host();
        host.apply(&zone()).await.unwrap();
        std::fs::write(machine.file(), "nameserver 198.51.100.1\n").unwrap();
        let before = host.apply(&zone()).await.unwrap();
        assert_eq!(before, ["198.51.100.1".parse::<IpAddr>().unwrap()]);
        assert!(machine.text().starts_with(MARK));
        // Written once more, and nobody notices before the end: it stays.
        std::fs::write(machine.file(), "nameserver 198.51.100.2\n").unwrap();
        host.revert().await.unwrap();
        assert_eq!(machine.text(), "nameserver 198.51.100.2\n");
    }

    #[tokio::test]
    async fn a_machine_without_the_file_has_none_again() {
        let machine = Machine::new(None);
        let mut host = machine.host();
        assert!(host.apply(&zone()).await.unwrap().is_empty());
        assert!(machine.file().exists());
        host.revert().await.unwrap();
        assert!(!machine.file().exists());
    }

    #[test]
    fn resolved_is_told_what_is_ours_and_everything_only_if_the_org_says_so() {
        let calls = resolved_calls(&zone(), "ztna0");
        assert_eq!(calls[0], ["dns", "ztna0", "100.100.100.100"]);
        assert_eq!(
            calls[1],
            ["domain", "ztna0", "acme.ztna.internal", "corp.example"]
        );
        assert_eq!(calls[2], ["default-route", "ztna0", "no"]);
        let everything = Zone {
            nameservers: vec![[9, 9, 9, 9].into()],
            split: [("lab.example".to_owned(), vec![[10, 0, 0, 53].into()])].into(),
            ..zone()
        };
        let calls = resolved_calls(&everything, "ztna0");
        assert_eq!(calls[1][4..], ["~lab.example", "~."]);
        assert_eq!(calls[2][2], "yes");
    }
}
