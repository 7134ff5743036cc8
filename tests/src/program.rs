//! Programs that a lab runs in its namespaces.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::net::Netns;
use crate::net::cmd::{line, poll};
use crate::tools;

/// How long a program may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A program that runs until it is stopped; its output goes to a log. Dropped, it is killed.
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a program cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a processor.
    pub cpu: Duration,
    /// How often one of its threads was given a processor.
    pub wake_ups: u64,
}

impl Program {
    /// Starts a program. What it prints is appended to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = append(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C on the terminal is for the lab, which then stops its programs in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", line(&command)))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has cost so far, all threads together.
    ///
    /// # Errors
    /// It has ended.
    pub fn usage(&self) -> Result<Usage> {
        let tasks = format!("/proc/{}/task", self.pid());
        let mut usage = Usage::default();
        for task in std::fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            // Time on the processor in ns, waiting for it, times run (scheduler/sched-stats.rst).
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let mut figures = stat.split_whitespace().map(str::parse::<u64>);
            usage.cpu += Duration::from_nanos(figures.next().unwrap_or(Ok(0))?);
            usage.wake_ups += figures.nth(1).unwrap_or(Ok(0))?;
        }
        Ok(usage)
    }

    /// Fails if the program has ended, with the last lines of its log.
    ///
    /// # Errors
    /// The program has ended.
    pub fn check_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, tail(&self.log)),
        }
    }

    /// Asks the program to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// It does not end in time, or not with status 0.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = poll(STOP_LIMIT, &format!("{} ends", self.name), || {
            Ok(self.child.try_wait()?)
        })?;
        if !status.success() {
            bail!("{} ended with {status}: {}", self.name, tail(&self.log));
        }
        Ok(())
    }

    /// Kills the program (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// It has ended by itself before.
    pub fn kill(mut self) -> Result<()> {
        self.check_running()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops the program where it stands (SIGSTOP), as a machine that sleeps does.
    ///
    /// # Errors
    /// It has ended.
    pub fn suspend(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("process id out of range")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a log for appending.
///
/// # Errors
/// The file cannot be made.
pub fn append(log: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))
}

/// The last lines of a log, in one.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// A command that ended: what it said and how.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command for at most `limit`; after that it is killed.
///
/// # Errors
/// It cannot be started, or does not end in time.
pub fn finish(mut command: Command, limit: Duration) -> Result<Finished> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", line(&command)))?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let ended = poll(limit, &format!("`{}` ends", line(&command)), || {
        Ok(child.try_wait()?)
    });
    if ended.is_err() {
        // Its pipes close with it, so the drains end.
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |drain: std::thread::JoinHandle<String>| drain.join().unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    let status = ended.with_context(|| format!("it said: {} {}", stdout.trim(), stderr.trim()))?;
    Ok(Finished {
        status,
        stdout,
        stderr,
    })
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before a broken pipe still tells something.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// One of [`crate::tools`], running inside a namespace and spoken to by lines.
pub struct Tool {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Tool {
    /// Starts a hidden subcommand of this program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(netns: &Netns, args: &[&str]) -> Result<Self> {
        // This very program, even if a build has replaced its file meanwhile.
        let own = format!("/proc/{}/exe", std::process::id());
        let mut command = netns.command(&own);
        let mut child = command
            .arg("tool")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", line(&command)))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self {
            name: args.join(" "),
            child,
            stdin,
            stdout: BufReader::new(stdout),
        })
    }

    /// [`Tool::start`], then waits until it is ready.
    ///
    /// # Errors
    /// It says something else, or ends.
    pub fn start_ready(netns: &Netns, args: &[&str]) -> Result<Self> {
        let mut tool = Self::start(netns, args)?;
        let said = tool.read_line()?;
        if said != tools::READY {
            bail!("{}: expected `{}`, got {said:?}", tool.name, tools::READY);
        }
        Ok(tool)
    }

    /// The next line it prints.
    ///
    /// # Errors
    /// It ends instead.
    pub fn read_line(&mut self) -> Result<String> {
        let mut text = String::new();
        if self.stdout.read_line(&mut text)? == 0 {
            bail!(
                "{}: ended without an answer; its message is above",
                self.name
            );
        }
        Ok(text.trim().to_owned())
    }

    /// Sends it a line.
    ///
    /// # Errors
    /// It has ended.
    pub fn say(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("standard input is closed")?;
        writeln!(stdin, "{text}").with_context(|| format!("{} has ended", self.name))
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_command_has_status_and_both_outputs() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 4"]);
        let finished = finish(command, Duration::from_secs(60)).unwrap();
        assert_eq!(finished.status.code(), Some(4));
        assert_eq!(finished.stdout, "out\n");
        assert_eq!(finished.stderr, "err\n");
    }

    #[test]
    fn a_command_that_does_not_end_is_an_error_with_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo working; exec sleep 1000"]);
        let error = finish(command, Duration::from_millis(500)).unwrap_err();
        assert!(format!("{error:#}").contains("working"), "{error:#}");
    }

    #[test]
    fn a_program_that_ended_shows_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no port left >&2; exit 1"]);
        let mut program = Program::start("relay", command, &log).unwrap();
        let error = poll(Duration::from_secs(60), "it ends", || {
            Ok(program.check_running().err())
        })
        .unwrap();
        assert!(error.to_string().contains("relay ended"), "{error}");
        assert!(error.to_string().contains("no port left"), "{error}");
    }
}
