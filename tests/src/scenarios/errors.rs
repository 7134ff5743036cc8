//! What goes wrong at a person's hands: each ends with one line that says what to do next, a status
//! other than 0, and nothing lost.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ztna_proto::tokens::AuthKey;

use super::pair::{EMAIL, FIRST_PING_LIMIT, PASSWORD};
use super::{Scenario, demand_eq};
use crate::agent::{Agent, Up, refusal};
use crate::api::Server;
use crate::database::as_admin;
use crate::deploy::Standalone;
use crate::lab::Lab;
use crate::net::cmd::poll;
use crate::program::finish;
use crate::record::Figures;

pub const SCENARIO: Scenario = Scenario {
    name: "errors",
    about: "bad keys, no server, no root, two daemons, a corrupt file: one line, the next step, nothing lost",
    run,
    expected_logs: &["damaged"],
};

/// An address of the lab's internet where nobody is.
const NOBODY: &str = "https://198.51.100.250:443";
/// The unprivileged user that every system has.
const NOBODY_ID: &str = "65534";
/// Longest wait for a daemon that must end.
const END_LIMIT: Duration = Duration::from_secs(20);

fn run(lab: &Lab, figures: &mut Figures) -> Result<()> {
    let server = Standalone::start(lab)?;
    let api = server.api()?;
    let owner = api.sign_up(EMAIL, PASSWORD, "lab")?;
    let one_shot = owner.auth_key(false, None)?;
    let expired = owner.auth_key(true, None)?;
    let good = owner.auth_key(true, None)?;
    as_admin(
        &Standalone::data_dir(lab),
        "UPDATE ztna.auth_keys SET expires_at = now() - interval '1 minute' WHERE id = $1",
        &[&expired.info.id.0],
    )?;

    let agent = |name: &str, last: u8| Agent::new(lab, &lab.net.host(name, last)?, &[]);
    let (mut a, mut b) = (agent("a", 11)?, agent("b", 12)?);
    a.enrol(&server.server, one_shot.key.expose())?;
    b.start_daemon()?;

    keys(
        &b,
        &server.server,
        figures,
        &[
            ("malformed_key", "ztna-auth-oops", "copy the whole key"),
            (
                "wrong_key",
                AuthKey::generate(&mut rand::rng()).expose(),
                "auth key",
            ),
            ("used_key", one_shot.key.expose(), "used"),
            ("expired_key", expired.key.expose(), "expired"),
        ],
    )?;
    servers(&b, &server.server, good.key.expose(), figures)?;
    not_root(lab, &b, figures)?;

    b.up(&Up {
        server: Some(&server.server),
        auth_key: Some(good.key.expose()),
    })?;
    b.ping_until(a.ipv4()?, FIRST_PING_LIMIT)?;
    second_daemon(&a, &b, figures)?;
    corrupt_state(&a, &mut b, figures)?;

    a.stop_daemon()?;
    server.stop()
}

/// Keys that enrol nobody.
fn keys(
    machine: &Agent,
    server: &Server,
    figures: &mut Figures,
    keys: &[(&str, &str, &str)],
) -> Result<()> {
    for (name, key, says) in keys {
        let up = Up {
            server: Some(server),
            auth_key: Some(key),
        };
        let said = refusal(name, &machine.try_up(&up)?)?;
        note(figures, name, &said, says)?;
        if said.contains(key) && *name != "malformed_key" {
            bail!("{name}: the message shows the key: {said}");
        }
    }
    Ok(())
}

/// Servers that are not there, or not the one that was meant.
fn servers(machine: &Agent, server: &Server, key: &str, figures: &mut Figures) -> Result<()> {
    let nobody = Server {
        url: NOBODY.to_owned(),
        pin: server.pin.clone(),
    };
    let impostor = Server {
        url: server.url.clone(),
        pin: format!("sha256:{}", "0".repeat(64)),
    };
    for (name, server, says) in [
        ("unreachable_server", nobody, "198.51.100.250"),
        ("wrong_pin", impostor, "pin"),
    ] {
        let up = Up {
            server: Some(&server),
            auth_key: Some(key),
        };
        note(figures, name, &refusal(name, &machine.try_up(&up)?)?, says)?;
    }
    Ok(())
}

/// Everybody may look, only root may change.
fn not_root(lab: &Lab, machine: &Agent, figures: &mut Figures) -> Result<()> {
    // Where an ordinary user can reach it, whatever the checkout's permissions.
    let copy = lab.state.path().join("ztna");
    std::fs::copy(lab.program("ztna")?, &copy)?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))?;
    let as_nobody = |args: &[&str]| {
        let mut command = machine.netns().command("setpriv");
        command
            .args([
                "--reuid",
                NOBODY_ID,
                "--regid",
                NOBODY_ID,
                "--clear-groups",
                "--",
            ])
            .arg(&copy)
            .arg("--socket")
            .arg(machine.socket())
            .args(args);
        crate::lab::set_environment(&mut command);
        finish(command, END_LIMIT)
    };
    let looks = as_nobody(&["status", "--json"])?;
    demand_eq("status for everybody works", &looks.status.success(), &true)?;
    let said = refusal("down as nobody", &as_nobody(&["down"])?)?;
    note(figures, "not_root", &said, "sudo")?;

    let dir = lab.state.path().join("nobody");
    let dir = dir.to_string_lossy();
    let said = refusal(
        "daemon as nobody",
        &as_nobody(&["daemon", "--state-dir", &dir])?,
    )?;
    note(figures, "daemon_not_root", &said, "root")
}

/// A second daemon on the same files leaves, and the first goes on.
fn second_daemon(a: &Agent, b: &Agent, figures: &mut Figures) -> Result<()> {
    let finished = finish(b.daemon_command(), END_LIMIT)?;
    let said = refusal("a second daemon", &finished)?;
    note(figures, "second_daemon", &said, "another ztna daemon")?;
    b.ping_until(a.ipv4()?, FIRST_PING_LIMIT)?;
    Ok(())
}

/// A damaged state file is kept, and named.
fn corrupt_state(a: &Agent, b: &mut Agent, figures: &mut Figures) -> Result<()> {
    let file = b.state_dir().join("state.json");
    b.stop_daemon()?;
    let whole = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let torn = &whole[..whole.len() / 2];
    std::fs::write(&file, torn)?;

    let said = refusal("corrupt state", &finish(b.daemon_command(), END_LIMIT)?)?;
    note(figures, "corrupt_state", &said, "state.json")?;
    let kept = holds(b.state_dir(), torn)?;
    demand_eq("the damaged file is kept", &kept, &true)?;

    // A copy put back is the same machine again.
    std::fs::write(&file, &whole)?;
    b.start_daemon()?;
    poll(FIRST_PING_LIMIT, "the machine is back", || {
        Ok((b.status()?.state == "running").then_some(()))
    })?;
    b.ping_until(a.ipv4()?, FIRST_PING_LIMIT)?;
    b.stop_daemon()
}

/// Whether a file of a directory has exactly these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() && std::fs::read(&path)? == bytes {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes what was said and demands that it says what it must.
fn note(figures: &mut Figures, name: &str, said: &str, must_say: &str) -> Result<()> {
    figures.set(name, said);
    if !said.to_lowercase().contains(must_say) {
        bail!("{name}: the message must say {must_say:?}: {said}");
    }
    Ok(())
}
