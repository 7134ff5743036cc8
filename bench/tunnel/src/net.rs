//! Two network namespaces joined by a veth pair, and the processes in them.

// pre_exec has no safe wrapper in std.
#![allow(unsafe_code)]

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Documentation addresses (RFC 5737), which no tunnel takes for private ones.
pub const OUTER: [Ipv4Addr; 2] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(198, 51, 100, 2),
];
/// What the namespaces' names start with; then comes the process id.
const PREFIX: &str = "ztna-bench-";
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    A,
    B,
}

/// Both, in the order of [`OUTER`].
pub const ENDS: [End; 2] = [End::A, End::B];

/// The namespaces and what runs in them. Everything ends with this value.
pub struct Net {
    names: [String; 2],
    /// For state and sockets; open to every user, since PostgreSQL does not run as root.
    pub dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Net {
    /// Makes the namespaces. Several pairs of one process have different names.
    pub fn make(which: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        sweep()?;
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let pid = std::process::id();
        let net = Self {
            names: ["a", "b"].map(|end| format!("{PREFIX}{pid}-{which}{end}")),
            dir,
            children: Vec::new(),
        };
        let [a, b] = &net.names;
        for name in &net.names {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        ip(&format!(
            "link add veth0 netns {a} type veth peer name veth0 netns {b}"
        ))?;
        for (name, address) in net.names.iter().zip(OUTER) {
            ip(&format!("-n {name} address add {address}/24 dev veth0"))?;
            ip(&format!("-n {name} link set veth0 up"))?;
        }
        Ok(net)
    }

    fn name(&self, end: End) -> &str {
        &self.names[end as usize]
    }

    /// `ip` inside, with the arguments separated by spaces.
    pub fn ip(&self, end: End, args: &str) -> Result<()> {
        ip(&format!("-n {} {args}", self.name(end)))
    }

    /// A command that runs inside. It goes down with us, however we end.
    pub fn command(&self, end: End, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.name(end)])
            .arg(program.as_ref())
            .stdin(Stdio::null());
        // SAFETY: between fork and exec only an async-signal-safe system call is made.
        unsafe {
            command.pre_exec(
                || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                },
            );
        }
        command
    }

    /// Starts a program that stays, and gives its process id.
    pub fn start(&mut self, log: &str, mut command: Command) -> Result<u32> {
        let log = File::create(self.path(&format!("{log}.log")))?;
        command.stdout(log.try_clone()?).stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let pid = child.id();
        self.children.push(child);
        Ok(pid)
    }

    /// Has a program that was started end in its own way.
    pub fn stop(&mut self, pid: u32) -> Result<()> {
        let at = self.children.iter().position(|child| child.id() == pid);
        let at = at.with_context(|| format!("process {pid} is none of ours"))?;
        // SAFETY: no pointers.
        unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
        self.children.remove(at).wait()?;
        Ok(())
    }

    /// A path in [`Net::dir`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in &self.names {
            if let Err(error) = remove(name) {
                eprintln!("ztna-bench-tunnel: {error:#}");
            }
        }
    }
}

/// Removes the namespaces of runs that were killed.
fn sweep() -> Result<()> {
    for name in output(Command::new("ip").args(["netns", "list"]))?
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name)?;
        }
    }
    Ok(())
}

/// Ends what still runs in a namespace (PostgreSQL, say), and the namespace.
fn remove(name: &str) -> Result<()> {
    for pid in output(Command::new("ip").args(["netns", "pids", name]))?.split_whitespace() {
        if let Ok(pid) = pid.parse() {
            // SAFETY: no pointers. It may end by itself meanwhile.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    ip(&format!("netns del {name}"))
}

fn ip(args: &str) -> Result<()> {
    output(Command::new("ip").args(args.split_whitespace())).map(drop)
}

/// Runs a command that must end well; gives its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let result = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let said = String::from_utf8_lossy(&result.stdout).into_owned();
    if !result.status.success() {
        let complaint = String::from_utf8_lossy(&result.stderr);
        bail!(
            "{command:?} ended with {}: {}{said}",
            result.status,
            complaint.trim()
        );
    }
    Ok(said)
}

/// Waits until `probe` gives something.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if start.elapsed() > LIMIT {
            bail!("{what}: not within {} s", LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
