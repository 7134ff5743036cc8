//! Posture on Linux: read from files, and from `nft` where no file tells.

mod disk;
mod firewall;
mod screen;
mod system;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::future::ready;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ztna_proto::posture::Signal;

use crate::platform::health::{Health, System};

/// Most that is read of any file, in bytes: configuration is shorter, and what is not is not ours to read.
const MAX_FILE: u64 = 256 * 1024;

/// Where `nft` may be. Not looked for in `PATH`: the daemon is root.
const NFT: [&str; 4] = [
    "/usr/sbin/nft",
    "/sbin/nft",
    "/usr/bin/nft",
    "/run/current-system/sw/bin/nft",
];
/// Time for all that `nft` is asked, which answers within milliseconds.
const NFT_TIME: Duration = Duration::from_secs(2);

/// A Linux system, under a folder.
#[derive(Clone, Debug)]
pub struct LinuxHealth {
    root: PathBuf,
    /// The program that lists the kernel's packet filter, with arguments before ours.
    nft: Vec<String>,
    nft_time: Duration,
}

impl LinuxHealth {
    /// This machine.
    pub fn new() -> Self {
        let nft = NFT.iter().find(|path| Path::new(path).is_file());
        Self {
            root: "/".into(),
            nft: nft.map(|path| (*path).to_owned()).into_iter().collect(),
            nft_time: NFT_TIME,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file's text. `None`: there is none that can be read.
    fn read(&self, path: &str) -> Option<String> {
        read(&self.path(path))
    }

    /// The names in a folder, sorted. Empty if there is no such folder.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

impl Health for LinuxHealth {
    fn system(&self) -> impl Future<Output = System> + Send {
        ready(self.os_release())
    }

    fn disk_encryption(&self) -> impl Future<Output = Signal> + Send {
        ready(self.encryption())
    }

    fn firewall(&self) -> impl Future<Output = Signal> + Send {
        self.packet_filter()
    }

    fn screen_lock(&self) -> Signal {
        self.lock()
    }

    fn auto_update(&self) -> impl Future<Output = Signal> + Send {
        ready(self.updates())
    }

    fn reboot_pending(&self) -> Signal {
        self.reboot()
    }
}
