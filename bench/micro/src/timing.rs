//! Clocks and scales.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use ztna_bench_record::{Run, Sample};

/// Runs something some times, each giving one value.
///
/// # Errors
/// Those of what is run.
pub fn sample(name: &str, runs: usize, mut once: impl FnMut() -> Result<f64>) -> Result<Sample> {
    let values = (0..runs.max(1))
        .map(|_| {
            let value = once()?;
            Ok(Run {
                value,
                ..Run::default()
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Sample::new(name, &values, false))
}

/// Nanoseconds that this thread runs per repetition of something that does `repetitions`. Time in which
/// other programs have its CPU does not count.
pub fn nanoseconds(repetitions: usize, work: impl FnOnce()) -> f64 {
    let began = on_cpu();
    work();
    (on_cpu() - began).as_secs_f64() * 1e9 / repetitions as f64
}

/// Time that this thread has run. Reading it costs a system call, so what is shorter is measured in bulk.
pub fn on_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Bytes of this process's memory that are in RAM.
///
/// # Errors
/// The kernel does not say.
pub fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("no VmRSS in /proc/self/status")?.parse()?;
    Ok(kib * 1024)
}

/// Memory of a process that made some of a thing, in bytes.
#[derive(Clone, Copy)]
pub struct Weighed {
    /// By how much the process grew.
    pub gained: f64,
    /// What it has in all.
    pub total: f64,
}

/// Makes something in this process and prints what memory that took, for [`weigh_elsewhere`].
///
/// # Errors
/// The kernel does not say, or the thing cannot be made.
pub fn weigh<T>(make: impl FnOnce() -> Result<T>) -> Result<()> {
    let before = resident()?;
    let made = make()?;
    let after = resident()?;
    drop(made);
    println!("{} {after}", after.saturating_sub(before));
    Ok(())
}

/// Has a process of its own weigh something.
///
/// # Errors
/// The process failed.
pub fn weigh_elsewhere(what: &str, count: usize) -> Result<Weighed> {
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .args(["weigh", what, &count.to_string()])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "weighing {what}: {errors}");
    let text = String::from_utf8(output.stdout)?;
    let (gained, total) = text.trim().split_once(' ').context("two numbers")?;
    Ok(Weighed {
        gained: gained.parse()?,
        total: total.parse()?,
    })
}
