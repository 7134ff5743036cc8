//! Servers as processes of their own, so that what they cost can be read from the kernel.

// CPU affinity, resource limits and the parent-death signal have no safe wrapper in std.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use ztna_bench_record::Run;

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
fn own_cpu_time() -> Duration {
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

/// CPU time that all programs of this machine have used (proc_stat(5): all but idle, iowait, and what
/// guests used, which is counted in user time), and how many CPUs there are.
fn machine_cpu_time() -> Result<(Duration, f64)> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let mut lines = text.lines();
    let ticks: Vec<u64> = lines
        .next()
        .context("an empty /proc/stat")?
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let busy = [0, 1, 2, 5, 6, 7].map(|at| ticks.get(at).copied().unwrap_or(0));
    let cpus = lines.take_while(|line| line.starts_with("cpu")).count();
    Ok((of_ticks(busy.iter().sum()), cpus.max(1) as f64))
}

#[allow(clippy::cast_precision_loss)] // months of ticks
fn of_ticks(ticks: u64) -> Duration {
    // SAFETY: no pointers.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// Counts from the start of a measurement.
pub struct Meter<'a> {
    server: &'a Server,
    start: Instant,
    server_time: Duration,
    own_time: Duration,
    machine_time: Duration,
}

/// What a measurement took.
pub struct Used {
    /// Its length.
    pub seconds: f64,
    /// CPU time of the server, in seconds.
    pub server_seconds: f64,
    /// The shares; figure and loss are still to be filled in.
    pub run: Run,
}

impl<'a> Meter<'a> {
    /// Starts one.
    pub fn start(server: &'a Server) -> Result<Self> {
        Ok(Self {
            server,
            start: Instant::now(),
            server_time: server.cpu_time()?,
            own_time: own_cpu_time(),
            machine_time: machine_cpu_time()?.0,
        })
    }

    /// Ends it.
    pub fn stop(self) -> Result<Used> {
        let seconds = self.start.elapsed().as_secs_f64();
        let server = self.server.cpu_time()?.saturating_sub(self.server_time);
        let own = own_cpu_time().saturating_sub(self.own_time);
        let (machine, cpus) = machine_cpu_time()?;
        let others = machine
            .saturating_sub(self.machine_time)
            .saturating_sub(server + own);
        Ok(Used {
            seconds,
            server_seconds: server.as_secs_f64(),
            run: Run {
                server_cpu: server.as_secs_f64() / seconds,
                generator_cpu: own.as_secs_f64() / seconds,
                others_cpu: others.as_secs_f64() / seconds / cpus,
                ..Run::default()
            },
        })
    }
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
    fn cpu_time(&self) -> Result<Duration> {
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
        Ok(of_ticks(ticks(11)? + ticks(12)?))
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

    /// Open file descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
