//! Posture on macOS, by the system's own programs. What they say is read here, what they do not say is
//! unknown.

use ztna_proto::posture::{Known, Signal};

/// This Mac.
#[derive(Clone, Copy, Debug, Default)]
pub struct MacHealth;

#[cfg(target_os = "macos")]
mod asked {
    use super::*;
    use crate::platform::health::{Health, System, said};

    const FIREWALL: &str = "/usr/libexec/ApplicationFirewall/socketfilterfw";
    const UPDATES: &str = "/Library/Preferences/com.apple.SoftwareUpdate";

    impl MacHealth {
        /// This machine.
        pub fn new() -> Self {
            Self
        }
    }

    impl Health for MacHealth {
        async fn system(&self) -> System {
            let version = said("/usr/bin/sw_vers", &["-productVersion"]).await;
            System {
                name: version.as_ref().map(|version| format!("macOS {version}")),
                version,
                ..System::default()
            }
        }

        async fn disk_encryption(&self) -> Signal {
            file_vault(said("/usr/bin/fdesetup", &["status"]).await.as_deref())
        }

        async fn firewall(&self) -> Signal {
            application_firewall(said(FIREWALL, &["--getglobalstate"]).await.as_deref())
        }

        fn screen_lock(&self) -> Signal {
            Signal::new(
                Known::Unknown,
                "each user decides, and the system tells nobody else",
            )
        }

        async fn auto_update(&self) -> Signal {
            let key = "AutomaticallyInstallMacOSUpdates";
            updates(
                said("/usr/bin/defaults", &["read", UPDATES, key])
                    .await
                    .as_deref(),
            )
        }

        fn reboot_pending(&self) -> Signal {
            Signal::new(Known::Unknown, "macOS does not tell")
        }
    }
}

/// Of `fdesetup status`.
fn file_vault(said: Option<&str>) -> Signal {
    match said.and_then(|text| text.lines().next()) {
        Some(line) if line.starts_with("FileVault is On") => {
            Signal::new(Known::Yes, "FileVault is on")
        }
        Some(line) if line.starts_with("FileVault is Off") => {
            Signal::new(Known::No, "FileVault is off")
        }
        _ => Signal::new(Known::Unknown, "fdesetup does not tell"),
    }
}

/// Of `socketfilterfw --getglobalstate`: `Firewall is enabled. (State = 1)`.
fn application_firewall(said: Option<&str>) -> Signal {
    let state = said
        .and_then(|text| text.split_once("(State = "))
        .and_then(|(_, rest)| rest.split_once(')'))
        .map(|(state, _)| state.trim());
    match state {
        Some("0") => Signal::new(Known::No, "the application firewall is off"),
        Some("1") => Signal::new(Known::Yes, "the application firewall is on"),
        Some("2") => Signal::new(Known::Yes, "the application firewall blocks all incoming"),
        _ => Signal::new(Known::Unknown, "socketfilterfw does not tell"),
    }
}

/// Of `defaults read … AutomaticallyInstallMacOSUpdates`, which fails where nobody has chosen.
fn updates(said: Option<&str>) -> Signal {
    match said {
        Some("1") => Signal::new(Known::Yes, "macOS installs its updates"),
        Some("0") => Signal::new(Known::No, "macOS does not install its updates by itself"),
        _ => Signal::new(
            Known::Unknown,
            "nobody has chosen, and the default depends on the version",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_is_read_and_anything_else_is_unknown() {
        let on = "FileVault is On.\nDeferred enablement appears to be active for user 'a'.";
        assert_eq!(file_vault(Some(on)).state, Known::Yes);
        assert_eq!(file_vault(Some("FileVault is Off.")).state, Known::No);
        for odd in [
            None,
            Some(""),
            Some("FileVault master keychain appears to be installed."),
        ] {
            assert_eq!(file_vault(odd).state, Known::Unknown, "{odd:?}");
        }
        let firewall = |text| application_firewall(Some(text)).state;
        assert_eq!(firewall("Firewall is enabled. (State = 1)"), Known::Yes);
        assert_eq!(
            firewall("Firewall is blocking all non-essential incoming connections. (State = 2)"),
            Known::Yes
        );
        assert_eq!(firewall("Firewall is disabled. (State = 0)"), Known::No);
        assert_eq!(firewall("Firewall is (State = 7)"), Known::Unknown);
        assert_eq!(firewall("enabled"), Known::Unknown);
        assert_eq!(updates(Some("1")).state, Known::Yes);
        assert_eq!(updates(Some("0")).state, Known::No);
        assert_eq!(updates(None).state, Known::Unknown);
    }
}
