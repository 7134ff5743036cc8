//! The daemon as a service of launchd (launchd.plist(5)).

use std::path::{Path, PathBuf};

/// Its name.
const LABEL: &str = "internal.ztna.agent";
/// Where launchd finds it.
const FILE: &str = "/Library/LaunchDaemons/internal.ztna.agent.plist";
/// What a daemon that launchd runs says goes there.
const LOG: &str = "/var/log/ztna.log";

/// What launchd is told.
fn plist(program: &str) -> String {
    let program = escape(program);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>{LABEL}</string>
	<key>ProgramArguments</key>
	<array>
		<string>{program}</string>
		<string>daemon</string>
	</array>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<true/>
	<key>ThrottleInterval</key>
	<integer>2</integer>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>Umask</key>
	<integer>63</integer>
	<key>StandardErrorPath</key>
	<string>{LOG}</string>
</dict>
</plist>
"#
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Where the program is when it is installed: only root writes there.
pub fn program() -> PathBuf {
    "/usr/local/bin/ztna".into()
}

#[cfg(target_os = "macos")]
mod launchd {
    use std::fs;
    use std::io;
    use std::process::{Command, Stdio};

    use anyhow::{Context, bail};

    use super::*;
    use crate::daemon::replace_file;

    const LAUNCHCTL: &str = "/bin/launchctl";
    /// Anybody reads it, root writes it: launchd takes no other.
    const FILE_MODE: u32 = 0o644;

    /// Registers the daemon, and starts it unless that is not wanted. Doing it again is harmless. Gives what was
    /// done, a line each.
    ///
    /// # Errors
    /// launchd refuses.
    pub fn install(program: &Path, start: bool) -> anyhow::Result<Vec<String>> {
        let program = program
            .to_str()
            .with_context(|| format!("launchd takes no program named {}", program.display()))?;
        let text = plist(program);
        let same = fs::read(FILE).is_ok_and(|found| found == text.as_bytes());
        if !same {
            replace_file(Path::new(FILE), text.as_bytes(), FILE_MODE)
                .with_context(|| format!("cannot write {FILE}"))?;
        }
        let mut done = vec![format!("the service {LABEL} starts with the machine")];
        if start {
            if !same && is_loaded()? {
                launchctl(&["bootout", &target()])?;
            }
            if !is_loaded()? {
                launchctl(&["bootstrap", "system", FILE])?;
            }
            launchctl(&["kickstart", &target()])?;
            done.push(format!("it runs; its log is {LOG}"));
        }
        Ok(done)
    }

    /// Starts the daemon anew, with the program that is there now.
    ///
    /// # Errors
    /// launchd refuses.
    pub fn restart() -> anyhow::Result<()> {
        launchctl(&["kickstart", "-k", &target()])
    }

    /// Ends the daemon and forgets the service. That there is none is no error.
    ///
    /// # Errors
    /// launchd refuses.
    pub fn uninstall() -> anyhow::Result<Vec<String>> {
        if is_loaded()? {
            launchctl(&["bootout", &target()])?;
        }
        match fs::remove_file(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(vec!["there was no service".to_owned()])
            }
            removed => {
                removed.with_context(|| format!("cannot delete {FILE}"))?;
                Ok(vec![format!("the service {LABEL} is gone")])
            }
        }
    }

    fn target() -> String {
        format!("system/{LABEL}")
    }

    fn is_loaded() -> anyhow::Result<bool> {
        let status = Command::new(LAUNCHCTL)
            .args(["print", &target()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {LAUNCHCTL}"))?;
        Ok(status.success())
    }

    fn launchctl(args: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(LAUNCHCTL)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {LAUNCHCTL}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "launchd refuses (launchctl {}): {}",
                args.join(" "),
                said.trim()
            );
        }
        Ok(())
    }
}

#[cfg(target_os = "macos")]
pub use launchd::{install, restart, uninstall};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchd_is_told_the_program_as_it_is_named() {
        let text = plist("/opt/a & <b>/ztna");
        assert!(text.contains("<string>/opt/a &amp; &lt;b&gt;/ztna</string>"));
        assert!(Path::new(FILE).ends_with(format!("{LABEL}.plist")));
        // Every key has a value.
        let (keys, values) = (
            text.matches("<key>").count(),
            text.matches("\t<string>").count() - text.matches("\t\t<string>").count()
                + text.matches("<true/>").count()
                + text.matches("<integer>").count()
                + text.matches("<array>").count(),
        );
        assert_eq!(keys, values);
    }
}
