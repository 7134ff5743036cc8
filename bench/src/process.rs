//! Servers as processes of their own, so that what they cost can be read from the kernel.

// CPU affinity, resource limits and the parent-death signal have no safe wrapper in std.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// File descriptors for ten thousand clients and then some.
const NOFILE: u64 = 65_536;

/// A server that is not ready by then never will be.
const READY: Duration = Duration::from_secs(30);

/// Which CPU the server under test runs on, and which the load generator. `None`: there is one CPU
/// only, and nothing is pinned.
#[derive(Clone, Copy)]
pub struct Cpus(Option<(usize, usize)>);

impl Cpus {
    /// The first two that this process may use. Call it before [`Cpus::pin_generator`].
    pub fn choose() -> Self {
        // SAFETY: the set is plain data that the call fills; its size is passed along.
        let allowed = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
                return Self(None);
            }
            (0..libc::CPU_SETSIZE as usize)
                .filter(|&cpu| libc::CPU_ISSET(cpu, &set))
                .collect::<Vec<_>>()
        };
        match allowed[..] {
            [server, generator, ..] => Self(Some((server, generator))),
            _ => Self(None),
        }
    }

    /// Keeps this process off the servers' CPU.
    pub fn pin_generator(self) -> io::Result<()> {
        self.0.map_or(Ok(()), |(_, generator)| pin(generator))
    }

    /// For people.
    pub fn describe(self) -> String {
        match self.0 {
            Some((server, generator)) => {
                format!("servers pinned to CPU {server}, the load generator to CPU {generator}")
            }
            None => "one CPU only: servers and load generator share it".to_owned(),
        }
    }
}

fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: the set is plain data, and its size is passed along.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    check(result)
}

/// Lets this process, and the servers that it starts, open [`NOFILE`] files.
pub fn raise_file_limit() -> io::Result<()> {
    // SAFETY: plain data in and out.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        let all = libc::rlimit {
            rlim_cur: NOFILE.max(limit.rlim_cur),
            rlim_max: NOFILE.max(limit.rlim_max),
        };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const all) == 0 {
            return Ok(());
        }
        // Not root: as much as is allowed.
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))
    }
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// CPU time of this process so far.
pub fn own_cpu_time() -> Duration {
    // SAFETY: plain data out; this clock always exists.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time);
        time
    };
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts a program on the servers' CPU. It goes down with us, however we end.
    pub fn start(name: &str, mut command: Command, cpus: Cpus) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("ZTNA_BENCH_SHOW_SERVERS").is_none() {
            command.stderr(Stdio::null());
        }
        // SAFETY: between fork and exec only async-signal-safe system calls are made.
        unsafe {
            command.pre_exec(move || {
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                cpus.0.map_or(Ok(()), |(server, _)| pin(server))
            });
        }
        let child = command.spawn().with_context(|| {
            format!(
                "cannot start {name} ({})",
                command.get_program().to_string_lossy()
            )
        })?;
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// Waits until `probe` finds the server ready.
    pub fn wait_ready<T>(&mut self, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(ready) = probe() {
                return Ok(ready);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended with {status}; ZTNA_BENCH_SHOW_SERVERS=1 shows why",
                    self.name
                );
            }
            if start.elapsed() > READY {
                bail!("{} is not ready after {} s", self.name, READY.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a JSON file that is written whole.
    pub fn wait_for_json(&mut self, path: &Path) -> Result<serde_json::Value> {
        self.wait_ready(|| serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok())
    }

    /// User and system time of all its threads (proc_pid_stat(5), fields 14 and 15).
    pub fn cpu_time(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may hold spaces.
        let fields: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| -> Result<u64> {
            Ok(fields.get(at).context("a short /proc/PID/stat")?.parse()?)
        };
        // SAFETY: no pointers.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        #[allow(clippy::cast_precision_loss)] // hours of ticks
        let seconds = (ticks(11)? + ticks(12)?) as f64 / per_second as f64;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib: u64 = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmRSS in /proc/PID/status")?
            .parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
