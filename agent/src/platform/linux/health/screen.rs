//! Whether the screen locks itself.
//!
//! Each person decides that for oneself, in a session that the daemon is not part of, so for most machines
//! it is not known. What is known is what an administrator has locked down for everybody (dconf).

use ztna_proto::posture::{Known, Signal};

use super::LinuxHealth;

const LOCK: (&str, &str) = ("org/gnome/desktop/screensaver", "lock-enabled");
const IDLE: (&str, &str) = ("org/gnome/desktop/session", "idle-delay");

impl LinuxHealth {
    pub(super) fn lock(&self) -> Signal {
        let unknown = |why: &str| Signal::new(Known::Unknown, why);
        if self.names("usr/share/xsessions").is_empty()
            && self.names("usr/share/wayland-sessions").is_empty()
        {
            return unknown("no desktop is installed, and of other screens nothing is known");
        }
        let (Some(lock), Some(idle)) = (self.mandatory(LOCK), self.mandatory(IDLE)) else {
            return unknown("each user decides; lock it down for all with dconf");
        };
        let seconds = idle.rsplit(' ').next().unwrap_or_default();
        match (lock.as_str(), seconds) {
            ("true", seconds) if seconds.parse::<u32>().is_ok_and(|idle| idle > 0) => Signal::new(
                Known::Yes,
                format!("dconf locks the screen for all after {seconds} s"),
            ),
            ("true", "0") => Signal::new(Known::No, "dconf keeps the screen on for all"),
            ("false", _) => Signal::new(Known::No, "dconf switches the lock off for all"),
            _ => unknown("dconf says something of the lock that is not read here"),
        }
    }

    /// The value of a dconf key that no user may change. `None`: users may, or nobody says.
    fn mandatory(&self, (section, key): (&str, &str)) -> Option<String> {
        let mut value = None;
        let mut locked = false;
        for database in self.names("etc/dconf/db") {
            if !database.ends_with(".d") {
                continue;
            }
            let folder = format!("etc/dconf/db/{database}");
            for file in self.names(&folder) {
                let text = self.read(&format!("{folder}/{file}")).unwrap_or_default();
                value = in_section(&text, section, key).or(value);
            }
            for file in self.names(&format!("{folder}/locks")) {
                let text = self
                    .read(&format!("{folder}/locks/{file}"))
                    .unwrap_or_default();
                let path = format!("/{section}/{key}");
                locked |= text.lines().any(|line| line.trim() == path);
            }
        }
        value.filter(|_| locked)
    }
}

/// The value of a key in a key file.
fn in_section(text: &str, section: &str, key: &str) -> Option<String> {
    let mut inside = false;
    let mut value = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            inside = name.trim_end_matches(']') == section;
        } else if inside
            && let Some((name, text)) = line.split_once('=')
            && name.trim() == key
        {
            value = Some(text.trim().to_owned());
        }
    }
    value
}
