//! The UDP service: a thread per socket, which waits in the kernel and nowhere else.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use socket2::Socket;

use super::Shared;
use super::batch::Batch;
use super::stats::{Disposition, Stats};
use super::trouble::{PAUSE, Trouble};
use crate::discovery::Vantage;
use crate::respond::{Answer, respond};

/// A thread's work: one socket, and beside it those of the other corners to answer from.
pub struct Worker {
    pub shared: Arc<Shared>,
    /// By corner; a single one without corners.
    pub sockets: Vec<Arc<Socket>>,
    /// The corner that this worker reads.
    pub at: usize,
    pub stop: Arc<AtomicBool>,
}

impl Worker {
    /// Answers until it is told to stop.
    pub fn run(&self) {
        let mut batch = Batch::new();
        let mut stats = Stats::new();
        let mut trouble = Trouble::new("receiving STUN requests");
        let Some(socket) = self.sockets.get(self.at) else {
            return;
        };
        loop {
            let received = batch.receive(socket.as_fd());
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            match received {
                Ok(count) => self.serve(&mut batch, count, &mut stats),
                Err(error) if passes(&error) => continue,
                Err(error) => {
                    stats.count(Disposition::ReadError);
                    trouble.note(&error, Instant::now());
                    std::thread::sleep(PAUSE);
                }
            }
            stats.flush();
        }
    }

    fn serve(&self, batch: &mut Batch, count: usize, stats: &mut Stats) {
        let now = Instant::now();
        let vantage = self.vantage();
        for slot in 0..count {
            let Some((from, datagram, memory)) = batch.slot(slot) else {
                stats.count(Disposition::NotStun);
                continue;
            };
            let answer = respond(datagram, from, vantage, memory);
            let (length, corner, port, disposition) = match answer {
                Answer::Success {
                    length,
                    corner,
                    port,
                } => (length, corner, port, Disposition::Success),
                Answer::UnknownAttribute { length } => {
                    (length, self.at, None, Disposition::UnknownAttribute)
                }
                Answer::Silence => {
                    stats.count(Disposition::NotStun);
                    continue;
                }
            };
            if !self.shared.admits(from.ip(), now) {
                stats.count(Disposition::RateLimited);
                continue;
            }
            stats.family(from);
            if let Some(port) = port {
                batch.redirect(slot, port);
            }
            batch.queue(slot, length, corner, disposition);
        }
        for (corner, socket) in self.sockets.iter().enumerate() {
            batch.send(socket.as_fd(), corner, |disposition| {
                stats.count(disposition)
            });
        }
    }

    fn vantage(&self) -> Option<Vantage<'_>> {
        let (corners, at) = (self.shared.corners.as_ref()?, self.at);
        Some(Vantage { corners, at })
    }
}

/// Nobody asked for so long, or a signal came.
fn passes(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
