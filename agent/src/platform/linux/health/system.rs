//! What the system is, and how its packages are kept up to date.

use ztna_proto::posture::{Known, MAX_POSTURE_TEXT, Signal};

use super::LinuxHealth;
use crate::platform::health::System;

/// Unattended upgrades, as Debian and its descendants have them.
const UNATTENDED: &str = "usr/bin/unattended-upgrade";
/// Their timer. A link to `/dev/null` switches it off.
const TIMER: &str = "etc/systemd/system/apt-daily-upgrade.timer";
/// Timers that install updates on systems with dnf, where they are switched on.
const DNF_TIMERS: [&str; 3] = [
    "dnf-automatic-install.timer",
    "dnf-automatic.timer",
    "dnf5-automatic.timer",
];

impl LinuxHealth {
    /// `os-release(5)`, and the kernel's version.
    pub(super) fn os_release(&self) -> System {
        let text = self
            .read("etc/os-release")
            .or_else(|| self.read("usr/lib/os-release"))
            .unwrap_or_default();
        let value = |wanted: &str| {
            let mut values = text.lines().filter_map(|line| {
                let (key, value) = line.trim().split_once('=')?;
                (key == wanted).then(|| bounded(value.trim_matches(['"', '\''])))
            });
            values.next_back().filter(|value| !value.is_empty())
        };
        let kernel = self.read("proc/sys/kernel/osrelease");
        System {
            name: value("PRETTY_NAME"),
            version: kernel.map(|kernel| bounded(kernel.trim())),
            distro: value("ID"),
            distro_version: value("VERSION_ID"),
        }
    }

    pub(super) fn updates(&self) -> Signal {
        if self.path(UNATTENDED).is_file() {
            return self.unattended();
        }
        let timers = self.names("etc/systemd/system/timers.target.wants");
        if let Some(timer) = timers.iter().find(|t| DNF_TIMERS.contains(&t.as_str())) {
            let settings = self.read("etc/dnf/automatic.conf").unwrap_or_default();
            let applies =
                timer.contains("install") || setting(&settings, "apply_updates") == Some("yes");
            return match applies {
                true => Signal::new(Known::Yes, format!("{timer} installs updates")),
                false => Signal::new(
                    Known::No,
                    format!("{timer} fetches updates and installs none"),
                ),
            };
        }
        if self.path("usr/bin/apt-get").is_file() {
            return Signal::new(Known::No, "unattended-upgrades is not installed");
        }
        Signal::new(Known::Unknown, "no updater that is known here")
    }

    /// The last file that says something counts, as for apt itself.
    fn unattended(&self) -> Signal {
        let masked = std::fs::read_link(self.path(TIMER));
        if masked.is_ok_and(|target| target.as_os_str() == "/dev/null") {
            return Signal::new(Known::No, "apt-daily-upgrade.timer is masked");
        }
        let (mut upgrade, mut enabled) = (None, None);
        let files = self.names("etc/apt/apt.conf.d");
        for file in ["../apt.conf".to_owned()].iter().chain(&files) {
            let text = self
                .read(&format!("etc/apt/apt.conf.d/{file}"))
                .unwrap_or_default();
            for line in text.lines().map(str::trim) {
                let Some(rest) = line.strip_prefix("APT::Periodic") else {
                    continue;
                };
                let Some((name, value)) = periodic(rest) else {
                    return Signal::new(
                        Known::Unknown,
                        format!("{file} speaks of APT::Periodic in a way that is not read here"),
                    );
                };
                match name {
                    "Unattended-Upgrade" => upgrade = Some(value != "0"),
                    "Enable" => enabled = Some(value != "0"),
                    _ => {}
                }
            }
        }
        match (upgrade, enabled) {
            (_, Some(false)) => Signal::new(Known::No, "APT::Periodic::Enable is 0"),
            (Some(true), _) => Signal::new(Known::Yes, "unattended-upgrades is on"),
            _ => Signal::new(
                Known::No,
                "unattended-upgrades is installed and not switched on",
            ),
        }
    }

    pub(super) fn reboot(&self) -> Signal {
        if self.path("run/reboot-required").exists() {
            return Signal::new(Known::Yes, "/run/reboot-required is there");
        }
        // Of packages only these leave the note.
        let noted = [
            UNATTENDED,
            "usr/share/update-notifier/notify-reboot-required",
        ];
        match noted.iter().any(|path| self.path(path).exists()) {
            true => Signal::new(Known::No, "no update has asked for a restart"),
            false => Signal::new(Known::Unknown, "nothing here notes when a restart is due"),
        }
    }
}

/// `::Name "1";` behind `APT::Periodic`. `None`: another form.
fn periodic(rest: &str) -> Option<(&str, &str)> {
    let (name, value) = rest.strip_prefix("::")?.split_once(char::is_whitespace)?;
    let value = value.trim().split_once(';')?.0.trim();
    Some((name, value.trim_matches('"')))
}

/// `name = value`
fn setting<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == wanted).then(|| value.trim())
    });
    values.next_back()
}

fn bounded(text: &str) -> String {
    let visible = text.chars().filter(|c| !c.is_control());
    visible.take(MAX_POSTURE_TEXT).collect()
}
