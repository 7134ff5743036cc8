//! The agent as a service of systemd.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::daemon::replace_file;

/// Where the program is when it is installed, as the unit names it.
pub const PROGRAM: &str = "/usr/local/bin/ztna";
/// What people look into when the service does not do what it should.
pub const LOG_HINT: &str = "journalctl -u ztna-agent";

const NAME: &str = "ztna-agent";
const UNIT: &str = include_str!("../../../../deploy/systemd/ztna-agent.service");
const UNIT_FILE: &str = "/etc/systemd/system/ztna-agent.service";
const UNIT_MODE: u32 = 0o644;
/// It is there while systemd runs the machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// Whether services can be registered here.
///
/// # Errors
/// There is no systemd; what to do without.
pub fn check() -> anyhow::Result<()> {
    if systemctl(&["--version"]).is_err() {
        bail!(
            "there is no systemd on this machine to register a service with; `sudo ztna install --no-service` installs \
             the program alone, and `sudo ztna up` starts its daemon"
        );
    }
    Ok(())
}

/// Whether services run now, and not only after the next start of the machine.
#[must_use]
pub fn is_in_charge() -> bool {
    Path::new(BOOTED).exists()
}

/// Has the service start with the machine. Whether anything had to be changed.
///
/// # Errors
/// The system refused.
pub fn register() -> anyhow::Result<bool> {
    let same = fs::read(UNIT_FILE).is_ok_and(|text| text == UNIT.as_bytes());
    if !same {
        replace_file(Path::new(UNIT_FILE), UNIT.as_bytes(), UNIT_MODE)
            .with_context(|| format!("cannot write {UNIT_FILE}"))?;
        if is_in_charge() {
            systemctl(&["daemon-reload"])?;
        }
    }
    systemctl(&["--quiet", "enable", UNIT_FILE])?;
    Ok(!same)
}

/// Ends the service and takes it away. Whether there was one.
///
/// # Errors
/// The system refused.
pub fn deregister() -> anyhow::Result<bool> {
    if !Path::new(UNIT_FILE).exists() {
        return Ok(false);
    }
    systemctl(&["--quiet", "disable", NAME])?;
    if is_in_charge() {
        systemctl(&["stop", NAME])?;
    }
    fs::remove_file(UNIT_FILE).with_context(|| format!("cannot remove {UNIT_FILE}"))?;
    if is_in_charge() {
        systemctl(&["daemon-reload"])?;
    }
    Ok(true)
}

/// Starts the service anew.
///
/// # Errors
/// The system refused.
pub fn restart() -> anyhow::Result<()> {
    // A program that ended again and again would else not be started once more.
    let _ = systemctl(&["reset-failed", NAME]);
    systemctl(&["restart", NAME])
}

/// The service's process. `None`: it does not run.
#[must_use]
pub fn process() -> Option<u32> {
    if !is_in_charge() {
        return None;
    }
    let asked = Command::new("systemctl")
        .args(["show", "--property=MainPID", "--value", NAME])
        .output();
    let text = String::from_utf8(asked.ok()?.stdout).ok()?;
    text.trim().parse().ok().filter(|pid| *pid != 0)
}

fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let what = arguments.join(" ");
    let done = Command::new("systemctl")
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run `systemctl {what}`"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let last = said.trim().lines().last().unwrap_or("it said nothing");
    bail!("`systemctl {what}` failed: {last}; see {LOG_HINT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_runs_the_program_that_is_installed() {
        assert!(UNIT.contains(&format!("\nExecStart={PROGRAM} daemon\n")));
        assert!(UNIT_FILE.ends_with(&format!("/{NAME}.service")));
    }
}
