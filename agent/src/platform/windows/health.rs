//! Posture on Windows, from the registry, and from PowerShell where no key tells.

use std::future::ready;
use std::io;

use winreg::RegKey;
use winreg::enums::HKEY_LOCAL_MACHINE;
use ztna_proto::posture::{Known, Signal};

use crate::platform::health::{Health, System, said};

const VERSION: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion";
const FIREWALL: &str = r"SYSTEM\CurrentControlSet\Services\SharedAccess\Parameters\FirewallPolicy";
/// The firewall's profiles, as the registry and as people name them.
const PROFILES: [(&str, &str); 3] = [
    ("DomainProfile", "domain"),
    ("StandardProfile", "private"),
    ("PublicProfile", "public"),
];
const POLICIES: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Policies\System";
const UPDATE_POLICY: &str = r"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate\AU";
/// There while an update waits for a restart.
const RESTARTS: [&str; 2] = [
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending",
    r"SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired",
];
/// First build of Windows 11, whose `ProductName` still says 10.
const WINDOWS_11: u32 = 22_000;
/// Whether BitLocker protects the system's volume: 1 or 0, in no language.
const BITLOCKER: &str =
    "(Get-BitLockerVolume -MountPoint $env:SystemDrive -ErrorAction Stop).ProtectionStatus.value__";

/// This Windows.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowsHealth;

impl WindowsHealth {
    /// This machine.
    pub fn new() -> Self {
        Self
    }
}

impl Health for WindowsHealth {
    fn system(&self) -> impl Future<Output = System> + Send {
        ready(system())
    }

    async fn disk_encryption(&self) -> Signal {
        let args = ["-NoProfile", "-NonInteractive", "-Command", BITLOCKER];
        bitlocker(said(&powershell(), &args).await.as_deref())
    }

    fn firewall(&self) -> impl Future<Output = Signal> + Send {
        ready(firewall(|profile| {
            number(&format!(r"{FIREWALL}\{profile}"), "EnableFirewall")
        }))
    }

    fn screen_lock(&self) -> Signal {
        screen_lock(number(POLICIES, "InactivityTimeoutSecs"))
    }

    fn auto_update(&self) -> impl Future<Output = Signal> + Send {
        ready(updates(
            number(UPDATE_POLICY, "NoAutoUpdate"),
            number(UPDATE_POLICY, "AUOptions"),
        ))
    }

    fn reboot_pending(&self) -> Signal {
        let machine = RegKey::predef(HKEY_LOCAL_MACHINE);
        match RESTARTS.iter().any(|key| machine.open_subkey(key).is_ok()) {
            true => Signal::new(Known::Yes, "an update waits for a restart"),
            false => Signal::new(Known::No, "no update has asked for a restart"),
        }
    }
}

/// Not looked for in `PATH`: the daemon is the system account.
fn powershell() -> String {
    let root = std::env::var("SystemRoot").unwrap_or_else(|_| r"C:\Windows".to_owned());
    format!(r"{root}\System32\WindowsPowerShell\v1.0\powershell.exe")
}

/// A number of the registry. `None`: it is not there, or is none.
fn number(key: &str, name: &str) -> Option<u32> {
    let key = RegKey::predef(HKEY_LOCAL_MACHINE).open_subkey(key).ok()?;
    key.get_value(name).ok()
}

fn system() -> System {
    let read = || -> io::Result<System> {
        let key = RegKey::predef(HKEY_LOCAL_MACHINE).open_subkey(VERSION)?;
        let text = |name| key.get_value::<String, _>(name).ok();
        let build = text("CurrentBuildNumber").or_else(|| text("CurrentBuild"));
        let major = key.get_value("CurrentMajorVersionNumber").unwrap_or(0_u32);
        let minor = key.get_value("CurrentMinorVersionNumber").unwrap_or(0_u32);
        let revision = key.get_value("UBR").unwrap_or(0_u32);
        Ok(named(
            text("ProductName").as_deref(),
            text("DisplayVersion").as_deref(),
            build.as_deref(),
            (major, minor, revision),
        ))
    };
    read().unwrap_or_default()
}

fn named(
    product: Option<&str>,
    release: Option<&str>,
    build: Option<&str>,
    (major, minor, revision): (u32, u32, u32),
) -> System {
    let number = build.and_then(|build| build.parse::<u32>().ok());
    let is_11 = number.is_some_and(|number| number >= WINDOWS_11);
    let name = product.map(|product| {
        let product = match is_11 {
            true => product.replace("Windows 10", "Windows 11"),
            false => product.to_owned(),
        };
        match release {
            Some(release) => format!("{product} {release}"),
            None => product,
        }
    });
    System {
        name,
        version: number.map(|number| format!("{major}.{minor}.{number}.{revision}")),
        ..System::default()
    }
}

fn bitlocker(said: Option<&str>) -> Signal {
    match said {
        Some("1") => Signal::new(Known::Yes, "BitLocker protects the system's volume"),
        Some("0") => Signal::new(Known::No, "BitLocker does not protect the system's volume"),
        _ => Signal::new(
            Known::Unknown,
            "BitLocker does not tell; it takes an administrator to ask",
        ),
    }
}

fn firewall(is_on: impl Fn(&str) -> Option<u32>) -> Signal {
    let states: Vec<(Option<u32>, &str)> = PROFILES
        .iter()
        .map(|(key, name)| (is_on(key), *name))
        .collect();
    if let Some((_, off)) = states.iter().find(|(state, _)| *state == Some(0)) {
        return Signal::new(
            Known::No,
            format!("Windows Firewall is off in {off} networks"),
        );
    }
    match states.iter().all(|(state, _)| *state == Some(1)) {
        true => Signal::new(Known::Yes, "Windows Firewall is on"),
        false => Signal::new(Known::Unknown, "the registry does not tell"),
    }
}

fn screen_lock(seconds: Option<u32>) -> Signal {
    match seconds {
        Some(seconds @ 1..) => Signal::new(
            Known::Yes,
            format!("the machine locks after {seconds} s, by policy"),
        ),
        _ => Signal::new(Known::Unknown, "each user decides; no policy sets a limit"),
    }
}

/// `AUOptions`: 2 and 3 ask before they install (Windows Update's policy).
fn updates(switched_off: Option<u32>, options: Option<u32>) -> Signal {
    match (switched_off, options) {
        (Some(1), _) => Signal::new(Known::No, "a policy switches Windows Update off"),
        (_, Some(2 | 3)) => Signal::new(Known::No, "a policy has updates wait for somebody"),
        _ => Signal::new(Known::Yes, "Windows Update installs by itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_is_named_by_its_build() {
        let eleven = named(
            Some("Windows 10 Pro"),
            Some("23H2"),
            Some("22631"),
            (10, 0, 3007),
        );
        assert_eq!(eleven.name.as_deref(), Some("Windows 11 Pro 23H2"));
        assert_eq!(eleven.version.as_deref(), Some("10.0.22631.3007"));
        let server = named(
            Some("Windows Server 2019 Standard"),
            None,
            Some("17763"),
            (10, 0, 1),
        );
        assert_eq!(server.name.as_deref(), Some("Windows Server 2019 Standard"));
        assert_eq!(named(None, None, None, (0, 0, 0)), System::default());
    }

    #[test]
    fn a_firewall_is_on_everywhere_or_not_on() {
        assert_eq!(firewall(|_| Some(1)).state, Known::Yes);
        let public = firewall(|profile| Some(u32::from(profile != "PublicProfile")));
        assert_eq!(public.state, Known::No);
        assert!(public.detail.contains("public"), "{}", public.detail);
        assert_eq!(firewall(|_| None).state, Known::Unknown);
    }

    #[test]
    fn what_is_not_known_is_unknown() {
        assert_eq!(bitlocker(Some("1")).state, Known::Yes);
        assert_eq!(bitlocker(Some("0")).state, Known::No);
        assert_eq!(bitlocker(None).state, Known::Unknown);
        assert_eq!(screen_lock(Some(900)).state, Known::Yes);
        assert_eq!(screen_lock(Some(0)).state, Known::Unknown);
        assert_eq!(screen_lock(None).state, Known::Unknown);
        assert_eq!(updates(Some(1), None).state, Known::No);
        assert_eq!(updates(None, Some(3)).state, Known::No);
        assert_eq!(updates(None, Some(4)).state, Known::Yes);
    }

    #[tokio::test]
    async fn this_system_answers() {
        let health = WindowsHealth::new();
        assert!(health.system().await.version.is_some());
        assert_ne!(health.reboot_pending().state, Known::Unknown);
    }
}
