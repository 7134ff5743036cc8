//! One network namespace: a host of a lab.

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

use super::cmd::{run, run_with_input};

/// Where `ip netns` keeps its handles.
const NETNS_DIR: &str = "/var/run/netns";
/// Where `ip netns exec` looks for files that programs inside see in place of those in `/etc`.
const ETC_DIR: &str = "/etc/netns";

/// A network namespace that exists. It ends with the lab that made it, not with this value.
#[derive(Clone, Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace with its loopback up.
    ///
    /// # Errors
    /// The name is taken, or this is not root.
    pub fn create(name: &str) -> Result<Self> {
        crate::signal::check()?;
        run(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self {
            name: name.to_owned(),
        };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The namespace's name, as `ip netns` lists it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ip` inside, with the arguments separated by spaces.
    ///
    /// # Errors
    /// `ip` refuses.
    pub fn ip(&self, args: &str) -> Result<()> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(args.split_whitespace()))?;
        Ok(())
    }

    /// Loads nftables rules inside.
    ///
    /// # Errors
    /// `nft` refuses.
    pub fn nft(&self, rules: &str) -> Result<()> {
        run_with_input(self.command("nft").args(["-f", "-"]), rules)?;
        Ok(())
    }

    /// Sets a kernel setting inside, as in `net.ipv4.ip_forward=1`.
    ///
    /// # Errors
    /// There is no such setting.
    pub fn sysctl(&self, setting: &str) -> Result<()> {
        run(self.command("sysctl").args(["-qw", setting]))?;
        Ok(())
    }

    /// Gives programs that are started inside from now on a `/etc/resolv.conf` of their own.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_resolv_conf(&self, text: &str) -> Result<()> {
        let dir = format!("{ETC_DIR}/{}", self.name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir}"))?;
        let path = format!("{dir}/resolv.conf");
        std::fs::write(&path, text).with_context(|| format!("cannot write {path}"))
    }

    /// What programs inside see there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn resolv_conf(&self) -> Result<String> {
        let path = format!("{ETC_DIR}/{}/resolv.conf", self.name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// A command that will run inside. Its process is the program itself: `ip netns exec` replaces
    /// itself with it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a closure on a thread of its own inside the namespace: the sockets that it opens are
    /// the namespace's.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the closure fails.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = format!("{NETNS_DIR}/{}", self.name);
        let handle = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(&handle, CloneFlags::CLONE_NEWNET)
                        .with_context(|| format!("cannot enter {path}"))?;
                    work()
                })
                .join()
                .map_err(|_| anyhow!("a thread inside namespace {} panicked", self.name))?
        })
    }
}

/// Names of the namespaces that start with `prefix`.
///
/// # Errors
/// `ip` is missing.
pub fn list(prefix: &str) -> Result<Vec<String>> {
    Ok(run(Command::new("ip").args(["netns", "list"]))?
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with(prefix))
        .map(str::to_owned)
        .collect())
}

/// Ends every process inside a namespace, then the namespace.
///
/// # Errors
/// `ip` refuses. One that is gone meanwhile is no error.
pub fn destroy(name: &str) -> Result<()> {
    let result = destroy_existing(name);
    if result.is_err() && !list(name)?.iter().any(|other| other == name) {
        return Ok(());
    }
    result
}

fn destroy_existing(name: &str) -> Result<()> {
    for pid in run(Command::new("ip").args(["netns", "pids", name]))?.split_whitespace() {
        let Ok(pid) = pid.parse() else {
            bail!("`ip netns pids {name}` printed {pid:?}, which is no process id");
        };
        // It may end by itself meanwhile.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
    run(Command::new("ip").args(["netns", "del", name]))?;
    let etc = format!("{ETC_DIR}/{name}");
    match std::fs::remove_dir_all(&etc) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {etc}"))
        }
        _ => Ok(()),
    }
}
