//! Has this machine's programs ask the service: through systemd-resolved where that is in charge, else
//! by `/etc/resolv.conf`, which is put back afterwards, also after a crash.
//!
//! Where somebody has to answer for the internet and nobody is known who could, the file stays as it is.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use ztna_proto::network::DNS_SERVICE;

use super::zone::{PORT, Zone};
use crate::daemon::state_dir::{StateDir, replace_file};

/// The file that names nameservers (resolv.conf(5)).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The same as systemd-resolved knows it: whom it asks itself (systemd-resolved.service(8)).
const RESOLVED_SERVERS: &str = "/run/systemd/resolve/resolv.conf";
/// What was in it before, in the state directory. It or the next is there exactly while ours is in force.
const BEFORE_FILE: &str = "resolv.conf.before";
/// There was none before.
const ABSENT_FILE: &str = "resolv.conf.absent";
/// Anybody reads it.
const FILE_MODE: u32 = 0o644;
/// Most links that are followed to where it is (path_resolution(7)).
const MAX_LINKS: usize = 40;
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

    /// Has programs ask the service; with an exit node for every name, so that the local network's
    /// servers are not asked beside it. Returns who answered before for everything else.
    ///
    /// # Errors
    /// The system refuses; nothing is changed then.
    pub async fn apply(&mut self, zone: &Zone, has_exit: bool) -> io::Result<Vec<SocketAddr>> {
        if is_resolved_in_charge(&self.file) {
            let before = nameservers(&read(Path::new(RESOLVED_SERVERS))?);
            let everything = !zone.nameservers.is_empty() || has_exit && !before.is_empty();
            self.tell_resolved(zone, everything).await?;
            return Ok(before);
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

    async fn tell_resolved(&mut self, zone: &Zone, everything: bool) -> io::Result<()> {
        let calls = resolved_calls(zone, &self.device, everything);
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

    fn write_file(&mut self, zone: &Zone) -> io::Result<Vec<SocketAddr>> {
        let found = read_if_there(&self.file)?;
        let saved = Saved::read(&self.dir)?;
        let before = match &saved {
            // Ours, or another process's before it was killed.
            Some(saved) if is_ours(found.as_deref(), saved) => saved.clone(),
            // Never ours, or somebody has written it anew meanwhile: that is what counts.
            _ => found.clone().map_or(Saved::Absent, Saved::Text),
        };
        let servers = nameservers(before.text());
        if servers.is_empty() && zone.nameservers.is_empty() {
            self.applied = None;
            restore(&self.dir, &self.file)?;
            return Ok(servers);
        }
        if saved.as_ref() != Some(&before) {
            before.write(&self.dir)?;
        }
        let text = resolv_conf(zone, before.text());
        if found.as_ref() != Some(&text) {
            write(&self.file, text.as_bytes())?;
        }
        self.applied = Some(Applied::File);
        Ok(servers)
    }
}

/// What there was before.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Saved {
    Absent,
    Text(String),
}

impl Saved {
    fn read(dir: &StateDir) -> io::Result<Option<Self>> {
        if let Some(bytes) = dir.read(BEFORE_FILE)? {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Some(Self::Text(text)));
        }
        Ok(dir.read(ABSENT_FILE)?.map(|_| Self::Absent))
    }

    fn write(&self, dir: &StateDir) -> io::Result<()> {
        match self {
            Self::Text(text) => {
                dir.write(BEFORE_FILE, text.as_bytes())?;
                dir.remove(ABSENT_FILE)
            }
            Self::Absent => {
                dir.write(ABSENT_FILE, b"")?;
                dir.remove(BEFORE_FILE)
            }
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Absent => "",
            Self::Text(text) => text,
        }
    }
}

/// Whether a file is ours, or what is left of ours after a write that was interrupted.
fn is_ours(found: Option<&str>, saved: &Saved) -> bool {
    match found {
        Some(text) => text.starts_with(MARK) || MARK.starts_with(text.trim_end()),
        // Gone with where a link leads to, `/run` after a start of the system.
        None => *saved != Saved::Absent,
    }
}

/// Puts the file back as it was before, if it is ours. What somebody else has written stays.
///
/// # Errors
/// The system refuses.
pub fn restore(dir: &StateDir, file: &Path) -> io::Result<()> {
    let Some(before) = Saved::read(dir)? else {
        return Ok(());
    };
    if is_ours(read_if_there(file)?.as_deref(), &before) {
        match &before {
            // Where a link leads to; the link stays.
            Saved::Absent => std::fs::remove_file(real(file)?)?,
            Saved::Text(text) => match write(file, text.as_bytes()) {
                // Not even a folder for it: who makes that will make the file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                written => written?,
            },
        }
    }
    dir.remove(BEFORE_FILE)?;
    dir.remove(ABSENT_FILE)
}

/// Where a file is that may be a link, also one that leads to nothing yet.
fn real(file: &Path) -> io::Result<PathBuf> {
    let mut path = file.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            // Relative ones begin at the link.
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            // It is no link, or not there.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other(format!(
        "{} is a link without an end",
        file.display()
    )))
}

/// Writes the file, all of it or nothing where that is possible.
fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let real = real(file)?;
    let replaced = replace_file(&real, text, FILE_MODE);
    match &replaced {
        // A mount of its own (containers have it so), or a folder that takes no other file.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EBUSY | libc::EXDEV | libc::EROFS | libc::EACCES | libc::EPERM)
            ) =>
        {
            std::fs::write(&real, text)
        }
        _ => replaced,
    }
}

fn read_if_there(file: &Path) -> io::Result<Option<String>> {
    match std::fs::exists(file)? {
        true => read(file).map(Some),
        false => Ok(None),
    }
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

/// The nameservers of a file, ours excepted.
fn nameservers(text: &str) -> Vec<SocketAddr> {
    let found = words(text, "nameserver").filter_map(nameserver);
    found
        .filter(|found| found.ip() != IpAddr::V4(DNS_SERVICE))
        .collect()
}

/// A nameserver, a link-local one with the zone that its address needs (`fe80::1%wlan0`, RFC 4007 §11).
fn nameserver(word: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse().ok()?, PORT));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let index = zone.parse().ok().or_else(|| {
        let index = nix::net::if_::if_nametoindex(zone);
        index.ok()
    })?;
    Some(SocketAddrV6::new(address, PORT, 0, index).into())
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
fn resolved_calls(zone: &Zone, device: &str, everything: bool) -> Vec<Vec<String>> {
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

    const BEFORE: &str = "# by dhcp\nnameserver 192.0.2.53\nnameserver fe80::1%lo\nnameserver 2001:db8::53\n\
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
        let before = host.apply(&zone(), false).await.unwrap();
        let expected: Vec<SocketAddr> = vec![
            "192.0.2.53:53".parse().unwrap(),
            "[fe80::1%1]:53".parse().unwrap(),
            "[2001:db8::53]:53".parse().unwrap(),
        ];
        assert_eq!(before, expected);
        let ours = format!(
            "{MARK}\nnameserver 100.100.100.100\nsearch acme.ztna.internal corp.example home.example\n\
             options edns0 trust-ad\n"
        );
        assert_eq!(machine.text(), ours);
        let again = host.apply(&zone(), false).await.unwrap();
        assert_eq!(again, expected, "the same");
        host.revert().await.unwrap();
        assert_eq!(machine.text(), BEFORE);
        host.revert().await.unwrap();
        assert_eq!(machine.text(), BEFORE);
    }

    #[tokio::test]
    async fn after_a_crash_it_is_put_back_or_taken_over() {
        let machine = Machine::new(Some(BEFORE));
        machine.host().apply(&zone(), false).await.unwrap();
        // A new process: it finds ours.
        assert_eq!(machine.host().apply(&zone(), false).await.unwrap().len(), 3);
        restore(&machine.dir, &machine.file()).unwrap();
        assert_eq!(machine.text(), BEFORE);
        restore(&machine.dir, &machine.file()).unwrap();
        assert_eq!(machine.text(), BEFORE);
    }

    #[tokio::test]
    async fn what_somebody_else_writes_meanwhile_counts() {
        let machine = Machine::new(Some(BEFORE));
        let mut host = machine.host();
        host.apply(&zone(), false).await.unwrap();
        std::fs::write(machine.file(), "nameserver 198.51.100.1\n").unwrap();
        let before = host.apply(&zone(), false).await.unwrap();
        assert_eq!(before, ["198.51.100.1:53".parse::<SocketAddr>().unwrap()]);
        assert!(machine.text().starts_with(MARK));
        // Written once more, and nobody notices before the end: it stays.
        std::fs::write(machine.file(), "nameserver 198.51.100.2\n").unwrap();
        host.revert().await.unwrap();
        assert_eq!(machine.text(), "nameserver 198.51.100.2\n");
    }

    /// An org that says who answers for everything else.
    fn answering() -> Zone {
        Zone {
            nameservers: vec![[9, 9, 9, 9].into()],
            ..zone()
        }
    }

    #[tokio::test]
    async fn a_machine_without_the_file_has_none_again() {
        let machine = Machine::new(None);
        let mut host = machine.host();
        assert!(host.apply(&answering(), false).await.unwrap().is_empty());
        assert!(machine.text().starts_with(MARK));
        host.revert().await.unwrap();
        assert!(!machine.file().exists());
    }

    #[tokio::test]
    async fn where_nobody_could_answer_the_file_stays_as_it_is() {
        for text in [
            None,
            Some(""),
            Some("# nobody\n"),
            Some("nameserver fe80::1%gone7\n"),
        ] {
            let machine = Machine::new(text);
            let mut host = machine.host();
            assert!(host.apply(&zone(), false).await.unwrap().is_empty());
            assert!(host.note(&zone()).is_none());
            assert_eq!(read_if_there(&machine.file()).unwrap().as_deref(), text);
            // The org names somebody, and takes it back.
            host.apply(&answering(), false).await.unwrap();
            assert!(machine.text().starts_with(MARK));
            host.apply(&zone(), false).await.unwrap();
            assert_eq!(read_if_there(&machine.file()).unwrap().as_deref(), text);
        }
    }

    #[tokio::test]
    async fn a_link_that_leads_to_nothing_is_one_again() {
        let machine = Machine::new(None);
        let target = machine.folder.path().join("run");
        std::os::unix::fs::symlink("run", machine.file()).unwrap();
        let mut host = machine.host();
        host.apply(&answering(), false).await.unwrap();
        assert!(std::fs::read_to_string(&target).unwrap().starts_with(MARK));
        host.revert().await.unwrap();
        assert!(!target.exists());
        assert_eq!(
            std::fs::read_link(machine.file()).unwrap(),
            Path::new("run")
        );

        // With a file at its end it is written there, and put back also if that went meanwhile.
        std::fs::write(&target, BEFORE).unwrap();
        host.apply(&zone(), false).await.unwrap();
        assert!(std::fs::read_to_string(&target).unwrap().starts_with(MARK));
        std::fs::remove_file(&target).unwrap();
        host.revert().await.unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), BEFORE);
        assert_eq!(
            std::fs::read_link(machine.file()).unwrap(),
            Path::new("run")
        );
    }

    #[tokio::test]
    async fn a_write_that_was_interrupted_loses_nothing() {
        for torn in ["", "# Written by zt"] {
            let machine = Machine::new(Some(BEFORE));
            machine.host().apply(&zone(), false).await.unwrap();
            std::fs::write(machine.file(), torn).unwrap();
            let again = machine.host().apply(&zone(), false).await.unwrap();
            assert_eq!(again.len(), 3, "the file of before is known");
            std::fs::write(machine.file(), torn).unwrap();
            restore(&machine.dir, &machine.file()).unwrap();
            assert_eq!(machine.text(), BEFORE);
        }
    }

    #[test]
    fn resolved_is_told_what_is_ours_and_everything_only_where_it_is_to_be() {
        let calls = resolved_calls(&zone(), "ztna0", false);
        assert_eq!(calls[0], ["dns", "ztna0", "100.100.100.100"]);
        assert_eq!(
            calls[1],
            ["domain", "ztna0", "acme.ztna.internal", "corp.example"]
        );
        assert_eq!(calls[2], ["default-route", "ztna0", "no"]);
        let split = Zone {
            split: [("lab.example".to_owned(), vec![[10, 0, 0, 53].into()])].into(),
            ..zone()
        };
        let calls = resolved_calls(&split, "ztna0", true);
        assert_eq!(calls[1][4..], ["~lab.example", "~."]);
        assert_eq!(calls[2][2], "yes");
    }
}
