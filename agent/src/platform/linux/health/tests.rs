//! Collectors on made-up systems: a folder that stands for `/`.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;
use ztna_proto::posture::{Known, MAX_POSTURE_TEXT, Signal};

use super::LinuxHealth;
use crate::platform::health::{Health, posture};

/// A system, and what its `nft` prints.
struct Fake {
    root: TempDir,
    health: LinuxHealth,
}

impl Fake {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let health = LinuxHealth {
            root: root.path().to_owned(),
            nft: Vec::new(),
            nft_time: Duration::from_secs(60),
        };
        Self { root, health }
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(self, path: &str, target: &str) -> Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    /// A block device: its number, its name, what it is to the device mapper, what it lies on.
    fn block(self, number: &str, name: &str, uuid: &str, below: &[&str]) -> Self {
        let folder = format!("sys/devices/virtual/block/{name}");
        let mut fake = self
            .file(&format!("{folder}/dev"), number)
            .link(
                &format!("sys/dev/block/{number}"),
                &format!("../../devices/virtual/block/{name}"),
            )
            .link(
                &format!("sys/class/block/{name}"),
                &format!("../../devices/virtual/block/{name}"),
            );
        if !uuid.is_empty() {
            fake = fake.file(&format!("{folder}/dm/uuid"), &format!("{uuid}\n"));
        }
        for below in below {
            fake = fake.link(
                &format!("{folder}/slaves/{below}"),
                &format!("../../{below}"),
            );
        }
        fake
    }

    fn mounts(self, lines: &[&str]) -> Self {
        let lines = lines.iter().enumerate();
        let lines = lines.map(|(at, line)| format!("{at} 1 {line}\n"));
        self.file("proc/self/mountinfo", &lines.collect::<String>())
    }

    /// `nft` that answers with one of two listings: of chains, and of one chain.
    fn nft(mut self, chains: &str, chain: &str) -> Self {
        self = self.file("chains", chains).file("chain", chain);
        let root = self.root.path().display();
        // $0 is -j, $1 list, $2 what.
        let script = format!("cat {root}/$2");
        self.health.nft = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        self
    }
}

fn is(signal: &Signal, state: Known, detail: &str) {
    assert_eq!(signal.state, state, "{signal:?}");
    assert!(signal.detail.contains(detail), "{signal:?}");
    assert!(signal.detail.chars().count() <= MAX_POSTURE_TEXT);
}

#[test]
fn the_system_is_what_os_release_says() {
    let fake = Fake::new()
        .file(
            "etc/os-release",
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n# x\nNOISE\n",
        )
        .file("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    let system = fake.health.os_release();
    assert_eq!(
        system.name.as_deref(),
        Some("Debian GNU/Linux 12 (bookworm)")
    );
    assert_eq!(system.distro.as_deref(), Some("debian"));
    assert_eq!(system.distro_version.as_deref(), Some("12"));
    assert_eq!(system.version.as_deref(), Some("6.1.0-18-amd64"));

    let long = format!("ID={}\nVERSION_ID=\n", "x".repeat(1000));
    let system = Fake::new()
        .file("usr/lib/os-release", &long)
        .health
        .os_release();
    assert_eq!(system.distro.unwrap().len(), MAX_POSTURE_TEXT);
    assert_eq!((system.distro_version, system.version), (None, None));
}

#[test]
fn a_plain_disk_is_not_encrypted() {
    let fake = Fake::new()
        .mounts(&["8:1 / / rw - ext4 /dev/sda1 rw"])
        .file("sys/devices/pci/sda/sda1/partition", "1\n")
        .link("sys/dev/block/8:1", "../../devices/pci/sda/sda1");
    is(
        &fake.health.encryption(),
        Known::No,
        "/ is on /dev/sda1 without dm-crypt",
    );
}

#[test]
fn luks_is_seen_through_lvm_and_raid() {
    // / on a logical volume, on LUKS, on a partition; /home on LUKS on a RAID.
    let fake = Fake::new()
        .mounts(&[
            "254:1 / / rw - ext4 /dev/mapper/vg-root rw",
            "254:3 / /home rw - xfs /dev/mapper/home rw",
            "0:21 / /proc rw - proc proc rw",
        ])
        .block("8:3", "sda3", "", &[])
        .block("254:0", "dm-0", "CRYPT-LUKS2-0123-luks", &["sda3"])
        .block("254:1", "dm-1", "LVM-abc", &["dm-0"])
        .block("9:0", "md0", "", &["sda3"])
        .block("254:3", "dm-3", "CRYPT-LUKS1-4567-home", &["md0"]);
    is(
        &fake.health.encryption(),
        Known::Yes,
        "dm-crypt under / and /home",
    );

    // Half of a volume on a plain disk is not encrypted; nor is a mount over an encrypted one.
    let fake = Fake::new()
        .mounts(&["254:1 / / rw - ext4 /dev/mapper/vg-root rw"])
        .block("8:3", "sda3", "", &[])
        .block("8:19", "sdb3", "", &[])
        .block("254:0", "dm-0", "CRYPT-LUKS2-0123-luks", &["sda3"])
        .block("254:1", "dm-1", "LVM-abc", &["dm-0", "sdb3"]);
    is(&fake.health.encryption(), Known::No, "/dev/mapper/vg-root");
    let fake = fake.mounts(&[
        "254:0 / / rw - ext4 /dev/mapper/luks rw",
        "8:19 / / rw - ext4 /dev/sdb3 rw",
    ]);
    is(&fake.health.encryption(), Known::No, "/dev/sdb3");
    let fake = fake.mounts(&[
        "254:0 / / rw - ext4 /dev/mapper/luks rw",
        "8:19 / /home rw - ext4 /dev/sdb3 rw",
    ]);
    is(
        &fake.health.encryption(),
        Known::No,
        "/home is on /dev/sdb3",
    );
}

#[test]
fn every_device_of_a_btrfs_counts() {
    let fake = |second: &str| {
        Fake::new()
            .mounts(&["0:30 /@ / rw - btrfs /dev/mapper/luks rw"])
            .link("dev/mapper/luks", "../dm-0")
            .block("8:3", "sda3", "", &[])
            .block("8:19", "sdb3", "", &[])
            .block("254:0", "dm-0", "CRYPT-LUKS2-0123-luks", &["sda3"])
            .block("254:1", "dm-1", "CRYPT-LUKS2-4567-more", &["sdb3"])
            .file("sys/fs/btrfs/features/x", "")
            .file("sys/fs/btrfs/1a2b/devices/dm-0", "")
            .file(&format!("sys/fs/btrfs/1a2b/devices/{second}"), "")
    };
    is(&fake("dm-1").health.encryption(), Known::Yes, "dm-crypt");
    is(
        &fake("sdb3").health.encryption(),
        Known::No,
        "/dev/mapper/luks",
    );
}

#[test]
fn what_cannot_be_seen_is_unknown() {
    let unknown = |fake: Fake, detail: &str| {
        is(&fake.health.encryption(), Known::Unknown, detail);
    };
    unknown(Fake::new(), "cannot be read");
    unknown(
        Fake::new().mounts(&["0:40 / / rw - overlay overlay rw"]),
        "on overlay",
    );
    unknown(
        Fake::new().mounts(&["0:40 / / rw - zfs rpool/root rw"]),
        "on zfs",
    );
    unknown(
        Fake::new().mounts(&["254:7 / / rw - ext4 /dev/mapper/x rw"]),
        "layers",
    );
    unknown(
        Fake::new().mounts(&["garbage", "1:1 / - -"]),
        "nothing is mounted",
    );
    // A circle of devices ends.
    let circle = Fake::new()
        .mounts(&["254:0 / / rw - ext4 /dev/mapper/x rw"])
        .block("254:0", "dm-0", "LVM-a", &["dm-1"])
        .block("254:1", "dm-1", "LVM-b", &["dm-0"]);
    unknown(circle, "layers");
}

#[tokio::test]
async fn firewalls_by_their_files() {
    let ufw = Fake::new().file("etc/ufw/ufw.conf", "# x\nENABLED=yes\nLOGLEVEL=low\n");
    is(&ufw.health.firewall().await, Known::Yes, "ufw is on");
    let open = ufw.file("etc/default/ufw", "DEFAULT_INPUT_POLICY=\"ACCEPT\"\n");
    is(
        &open.health.firewall().await,
        Known::No,
        "lets everything in",
    );
    let off = Fake::new().file("etc/ufw/ufw.conf", "ENABLED=no\n");
    is(
        &off.health.firewall().await,
        Known::Unknown,
        "not installed",
    );

    let firewalld = Fake::new().file("run/firewalld.pid", "4711\n").file(
        "proc/4711/cmdline",
        "/usr/bin/python3\0/usr/sbin/firewalld\0",
    );
    is(&firewalld.health.firewall().await, Known::Yes, "firewalld");
    let gone = firewalld.file("proc/4711/cmdline", "/usr/bin/vi\0");
    is(&gone.health.firewall().await, Known::Unknown, "nft");
}

/// Chains of a listing: family, hook, policy.
fn chains(chains: &[(&str, &str, &str)]) -> String {
    let objects = chains
        .iter()
        .enumerate()
        .map(|(at, (family, hook, policy))| {
            serde_json::json!({"chain": {"family": family, "table": "t", "name": format!("c{at}"),
            "handle": at, "type": "filter", "hook": hook, "prio": 0, "policy": policy}})
        });
    let mut all = vec![serde_json::json!({"metainfo": {"version": "1.0.6"}})];
    all.extend(objects);
    serde_json::json!({ "nftables": all }).to_string()
}

/// A chain's rules.
fn rules(rules: &[serde_json::Value]) -> String {
    let objects = rules
        .iter()
        .map(|expr| serde_json::json!({"rule": {"expr": expr}}));
    serde_json::json!({ "nftables": objects.collect::<Vec<_>>() }).to_string()
}

#[tokio::test]
async fn the_kernels_filter_is_asked() {
    let known = async |ipv6: bool, listing: &[(&str, &str, &str)], chain: &str| {
        let addresses = if ipv6 { "fe80 02 40 20 80 eth0\n" } else { "" };
        let fake = Fake::new().file("proc/net/if_inet6", addresses);
        fake.nft(&chains(listing), chain).health.firewall().await
    };
    let none = rules(&[]);
    let drop = ("inet", "input", "drop");
    is(
        &known(true, &[drop], &none).await,
        Known::Yes,
        "drops by default",
    );
    let both = [("ip", "input", "drop"), ("ip6", "input", "drop")];
    is(&known(true, &both, &none).await, Known::Yes, "drops");
    is(
        &known(true, &both[..1], &none).await,
        Known::No,
        "lets IPv6 in",
    );
    is(&known(false, &both[..1], &none).await, Known::Yes, "drops");
    is(
        &known(true, &both[1..], &none).await,
        Known::No,
        "lets IPv4 in",
    );
    let others = [
        ("inet", "forward", "drop"),
        ("bridge", "input", "drop"),
        ("inet", "input", "accept"),
    ];
    is(
        &known(true, &others, &none).await,
        Known::No,
        "nothing drops",
    );

    // A chain that accepts by policy and drops with its last rule.
    let accept = [("inet", "input", "accept")];
    let established = serde_json::json!([{"match": {"op": "in"}}, {"accept": null}]);
    let last =
        serde_json::json!([{"counter": {"packets": 1, "bytes": 2}}, {"reject": {"type": "icmpx"}}]);
    let closed = rules(&[established.clone(), last.clone()]);
    is(&known(true, &accept, &closed).await, Known::Yes, "drops");
    let open = rules(&[last, established]);
    is(
        &known(true, &accept, &open).await,
        Known::No,
        "nothing drops",
    );
    let some = rules(&[serde_json::json!([{"match": {"op": "=="}}, {"drop": null}])]);
    is(
        &known(true, &accept, &some).await,
        Known::No,
        "nothing drops",
    );
}

#[tokio::test]
async fn what_nft_does_not_tell_is_unknown() {
    let mut fake = Fake::new().nft("{\"nftables\": 7}", "");
    is(
        &fake.health.firewall().await,
        Known::Unknown,
        "cannot be read",
    );
    let odd = r#"{"nftables": [{"chain": {"family": 1}}]}"#;
    is(
        &Fake::new().nft(odd, "").health.firewall().await,
        Known::Unknown,
        "cannot be read",
    );
    let legacy = Fake::new()
        .nft(&chains(&[]), "")
        .file("proc/net/ip_tables_names", "nat\nfilter\n");
    is(
        &legacy.health.firewall().await,
        Known::Unknown,
        "iptables-legacy",
    );
    fake.health.nft = vec!["/bin/false".to_owned()];
    is(&fake.health.firewall().await, Known::Unknown, "takes root");
    fake.health.nft = vec!["/nowhere/nft".to_owned()];
    is(&fake.health.firewall().await, Known::Unknown, "takes root");
    // One that never answers costs the time that it was given, and is ended.
    fake.health.nft = ["/bin/sh", "-c", "sleep 1000"].map(str::to_owned).to_vec();
    fake.health.nft_time = Duration::from_millis(50);
    is(&fake.health.firewall().await, Known::Unknown, "in time");
}

#[test]
fn updates_are_what_apt_is_told() {
    let debian = || {
        Fake::new()
            .file("usr/bin/apt-get", "")
            .file("usr/bin/unattended-upgrade", "")
    };
    let conf = |text: &str| {
        debian()
            .file("etc/apt/apt.conf.d/20auto-upgrades", text)
            .health
            .updates()
    };
    let on =
        "APT::Periodic::Update-Package-Lists \"1\";\nAPT::Periodic::Unattended-Upgrade \"1\";\n";
    is(&conf(on), Known::Yes, "is on");
    is(
        &conf("APT::Periodic::Unattended-Upgrade \"0\";"),
        Known::No,
        "not switched on",
    );
    is(
        &conf("// APT::Periodic::Unattended-Upgrade \"1\";"),
        Known::No,
        "not switched on",
    );
    is(
        &conf(&format!("{on}APT::Periodic::Enable \"0\";")),
        Known::No,
        "Enable is 0",
    );
    is(
        &conf("APT::Periodic { Unattended-Upgrade \"1\"; }"),
        Known::Unknown,
        "not read here",
    );
    let later = debian()
        .file("etc/apt/apt.conf.d/20auto-upgrades", on)
        .file(
            "etc/apt/apt.conf.d/99local",
            "APT::Periodic::Unattended-Upgrade \"0\";",
        );
    is(&later.health.updates(), Known::No, "not switched on");
    let masked = debian()
        .file("etc/apt/apt.conf.d/20auto-upgrades", on)
        .link("etc/systemd/system/apt-daily-upgrade.timer", "/dev/null");
    is(&masked.health.updates(), Known::No, "masked");
    let bare = Fake::new().file("usr/bin/apt-get", "");
    is(&bare.health.updates(), Known::No, "not installed");

    let timer = "etc/systemd/system/timers.target.wants/dnf-automatic.timer";
    let fedora = |settings: &str| {
        let fake = Fake::new()
            .file(timer, "")
            .file("etc/dnf/automatic.conf", settings);
        fake.health.updates()
    };
    is(
        &fedora("[commands]\napply_updates = yes\n"),
        Known::Yes,
        "installs",
    );
    is(
        &fedora("[commands]\napply_updates = no\n"),
        Known::No,
        "installs none",
    );
    is(&Fake::new().health.updates(), Known::Unknown, "no updater");
}

#[test]
fn a_restart_is_due_when_a_package_says_so() {
    let due = Fake::new().file("run/reboot-required", "*** System restart required ***\n");
    is(&due.health.reboot_pending(), Known::Yes, "reboot-required");
    let debian = Fake::new().file("usr/bin/unattended-upgrade", "");
    is(&debian.health.reboot_pending(), Known::No, "no update");
    is(
        &Fake::new().health.reboot_pending(),
        Known::Unknown,
        "nothing here",
    );
}

#[test]
fn a_screen_lock_is_known_where_nobody_may_change_it() {
    let desktop = || Fake::new().file("usr/share/wayland-sessions/gnome.desktop", "");
    let keys = |lock: &str, idle: &str| {
        format!(
            "[org/gnome/desktop/screensaver]\nlock-enabled={lock}\n[org/gnome/desktop/session]\nidle-delay={idle}\n"
        )
    };
    let both =
        "/org/gnome/desktop/screensaver/lock-enabled\n/org/gnome/desktop/session/idle-delay\n";
    let set = |keys: &str, locks: &str| {
        let fake = desktop()
            .file("etc/dconf/db/local.d/00-lock", keys)
            .file("etc/dconf/db/local.d/locks/lock", locks);
        fake.health.screen_lock()
    };
    is(
        &set(&keys("true", "uint32 300"), both),
        Known::Yes,
        "after 300 s",
    );
    is(
        &set(&keys("true", "uint32 0"), both),
        Known::No,
        "keeps the screen on",
    );
    is(
        &set(&keys("false", "uint32 300"), both),
        Known::No,
        "off for all",
    );
    is(
        &set(&keys("maybe", "uint32 300"), both),
        Known::Unknown,
        "not read",
    );
    is(
        &set(&keys("true", "uint32 300"), ""),
        Known::Unknown,
        "each user decides",
    );
    is(
        &desktop().health.screen_lock(),
        Known::Unknown,
        "each user decides",
    );
    is(
        &Fake::new().health.screen_lock(),
        Known::Unknown,
        "no desktop",
    );
}

#[tokio::test]
async fn two_reports_of_one_system_are_the_same() {
    let fake = Fake::new()
        .file("etc/ufw/ufw.conf", "ENABLED=yes\n")
        .file("proc/sys/kernel/osrelease", "6.1.0\n");
    let report = posture(&fake.health).await;
    assert_eq!(report, posture(&fake.health).await);
    assert_eq!(report.firewall.state, Known::Yes);
    assert_eq!(report.os_version.as_deref(), Some("6.1.0"));
    let other = posture(&fake.file("etc/ufw/ufw.conf", "ENABLED=no\n").health).await;
    assert_ne!(report, other);

    // This machine, whatever it is: within its bounds, and without a panic.
    let own = posture(&LinuxHealth::new()).await;
    assert!(own.os_version.is_some());
    assert!(
        own.texts()
            .all(|(_, text)| text.chars().count() <= MAX_POSTURE_TEXT)
    );
}
