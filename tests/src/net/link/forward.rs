//! The thread that moves packets through one direction of a link.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;
use nix::unistd::gettid;
use tun_rs::SyncDevice;

use super::lock;
use super::shape::Direction;
use crate::net::cmd::run;

/// Packets that are read before those that are due leave.
const BATCH: usize = 64;
/// Largest packet of IP.
const MAX_PACKET: usize = 65_535;
/// How exactly a sleeping forwarder is woken, in nanoseconds; the system's default is 50,000.
const TIMER_SLACK: u64 = 1;

/// Runs until it is dropped.
pub struct Forwarder {
    stop: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts to move packets from the first device to the second.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        [from, to]: [Arc<SyncDevice>; 2],
        direction: Arc<Mutex<Direction>>,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK)?);
        let (stopped, woken) = (Arc::clone(&stop), Arc::clone(&wake));
        let thread = std::thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || {
                // Without these two the link is only less exact where the machine has other work.
                let _ = set_timerslack(TIMER_SLACK);
                let _ = before_other_work();
                let mut buffer = vec![0; MAX_PACKET];
                while !stopped.load(Ordering::Relaxed) {
                    let next = release(&to, &direction);
                    let moved = wait(&from, &woken, next)
                        .and_then(|()| take(&from, &direction, &mut buffer));
                    if let Err(error) = moved {
                        eprintln!("a link's device failed, nothing passes any more: {error:#}");
                        return;
                    }
                }
            })
            .context("cannot start a link's thread")?;
        Ok(Self {
            stop,
            wake,
            thread: Some(thread),
        })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Fails only if the thread has been told 2^64 times before.
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// Has the calling thread run as soon as it can, before all ordinary ones (`sched(7)`). It never runs
/// for long: it sleeps when it has moved what there is.
fn before_other_work() -> Result<()> {
    let thread = gettid().to_string();
    run(Command::new("chrt").args(["--fifo", "--pid", "1", &thread]))?;
    Ok(())
}

/// Lets out what is due, and returns when the next packet is.
fn release(to: &SyncDevice, direction: &Mutex<Direction>) -> Option<Instant> {
    let mut direction = lock(direction);
    while let Some(packet) = direction.take_due(Instant::now()) {
        let taken = to.send(&packet).is_ok();
        direction.left(taken);
    }
    direction.next_due()
}

/// Waits for a packet, until `next`, or to be woken.
fn wait(from: &SyncDevice, wake: &EventFd, next: Option<Instant>) -> Result<()> {
    let mut waited = [
        PollFd::new(from.as_fd(), PollFlags::POLLIN),
        PollFd::new(wake.as_fd(), PollFlags::POLLIN),
    ];
    let timeout = next.map(|next| next.saturating_duration_since(Instant::now()));
    match ppoll(&mut waited, timeout.map(TimeSpec::from), None) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for packets"),
    }
}

/// Takes what has come, at most a batch.
fn take(from: &SyncDevice, direction: &Mutex<Direction>, buffer: &mut [u8]) -> Result<()> {
    for _ in 0..BATCH {
        match from.recv(buffer) {
            Ok(length) => lock(direction).offer(Instant::now(), &buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot read a packet"),
        }
    }
    Ok(())
}
