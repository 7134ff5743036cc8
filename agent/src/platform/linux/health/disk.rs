//! Whether the file systems of `/` and `/home` are on dm-crypt.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ztna_proto::posture::{Known, Signal};

use super::{LinuxHealth, read};

/// Layers of block devices that are looked through: a partition, RAID, LVM, dm-crypt and a few more.
const MAX_LAYERS: usize = 8;

/// A line of `mountinfo` (proc_pid_mountinfo(5)).
struct Mount<'a> {
    /// `major:minor`; major 0 for a file system that has no block device of its own.
    device: &'a str,
    point: &'a str,
    kind: &'a str,
    source: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ');
        let device = before.nth(2)?;
        let point = before.nth(1)?;
        let mut after = after.split(' ');
        Some(Self {
            device,
            point,
            kind: after.next()?,
            source: after.next()?,
        })
    }
}

impl LinuxHealth {
    pub(super) fn encryption(&self) -> Signal {
        let Some(text) = self.read("proc/self/mountinfo") else {
            return Signal::new(Known::Unknown, "the mounts cannot be read");
        };
        let mounts: Vec<Mount<'_>> = text.lines().filter_map(Mount::parse).collect();
        // Of several mounts at one place the last one is seen.
        let at = |point: &str| mounts.iter().rfind(|mount| mount.point == point);
        let found: Vec<(&str, Known, String)> = ["/", "/home"]
            .into_iter()
            .filter_map(|point| at(point).map(|mount| (point, mount)))
            .map(|(point, mount)| {
                let (state, why) = self.mount_encrypted(mount);
                (point, state, why)
            })
            .collect();
        // What is not encrypted outweighs what nobody knows.
        for state in [Known::No, Known::Unknown] {
            if let Some((point, _, why)) = found.iter().find(|(_, found, _)| *found == state) {
                return Signal::new(state, format!("{point} is {why}"));
            }
        }
        match found.is_empty() {
            true => Signal::new(Known::Unknown, "nothing is mounted at /"),
            false => {
                let points: Vec<_> = found.iter().map(|(point, ..)| *point).collect();
                Signal::new(
                    Known::Yes,
                    format!("dm-crypt under {}", points.join(" and ")),
                )
            }
        }
    }

    fn mount_encrypted(&self, mount: &Mount<'_>) -> (Known, String) {
        if mount.kind == "ecryptfs" {
            return (Known::Yes, "on eCryptfs".to_owned());
        }
        let devices = match mount.device.split_once(':') {
            Some(("0", _)) if mount.kind == "btrfs" => self.btrfs_devices(mount.source),
            Some(("0", _)) | None => Vec::new(),
            Some(_) => vec![self.path("sys/dev/block").join(mount.device)],
        };
        if devices.is_empty() {
            return (
                Known::Unknown,
                format!("on {}, of which nothing is known", mount.kind),
            );
        }
        let states: Vec<Known> = devices.iter().map(|device| encrypted(device, 0)).collect();
        if states.contains(&Known::No) {
            return (Known::No, format!("on {} without dm-crypt", mount.source));
        }
        match states.contains(&Known::Unknown) {
            true => (
                Known::Unknown,
                format!("on {}, whose layers cannot be read", mount.source),
            ),
            false => (Known::Yes, "on dm-crypt".to_owned()),
        }
    }

    /// All block devices of the btrfs that one of them is mounted of.
    fn btrfs_devices(&self, source: &str) -> Vec<PathBuf> {
        let Some(name) = self.block_name(source) else {
            return Vec::new();
        };
        let class = self.path("sys/class/block");
        for filesystem in self.names("sys/fs/btrfs") {
            let members = self.names(&format!("sys/fs/btrfs/{filesystem}/devices"));
            if members.contains(&name) {
                return members.iter().map(|member| class.join(member)).collect();
            }
        }
        // Other devices of the file system may be open.
        Vec::new()
    }

    /// `dm-0` for `/dev/mapper/luks-…`.
    fn block_name(&self, source: &str) -> Option<String> {
        let path = self.path(source.trim_start_matches('/'));
        let name = match std::fs::read_link(&path) {
            Ok(target) => target.file_name()?.to_owned(),
            Err(_) => path.file_name()?.to_owned(),
        };
        name.into_string().ok()
    }
}

/// Whether a block device (its folder in sysfs) is dm-crypt, or lies on nothing else.
fn encrypted(device: &Path, layer: usize) -> Known {
    if layer > MAX_LAYERS {
        return Known::Unknown;
    }
    let Ok(device) = device.canonicalize() else {
        return Known::Unknown;
    };
    if read(&device.join("dm/uuid")).is_some_and(|uuid| uuid.starts_with("CRYPT-")) {
        return Known::Yes;
    }
    let below: BTreeSet<PathBuf> = std::fs::read_dir(device.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    if below.is_empty() {
        // A partition's folder is within that of its disk, which may be a RAID.
        return match device.join("partition").exists() {
            true => device
                .parent()
                .map_or(Known::Unknown, |disk| encrypted(disk, layer + 1)),
            false => Known::No,
        };
    }
    let states: Vec<Known> = below
        .iter()
        .map(|below| encrypted(below, layer + 1))
        .collect();
    match (
        states.contains(&Known::No),
        states.contains(&Known::Unknown),
    ) {
        (true, _) => Known::No,
        (false, true) => Known::Unknown,
        (false, false) => Known::Yes,
    }
}
