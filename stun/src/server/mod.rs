//! The STUN service on UDP and TCP sockets.
//!
//! UDP is served by threads, each with its own socket at the same address (SO_REUSEPORT): the
//! kernel spreads clients over them, and nothing is passed between cores. TCP, which few use, is
//! served by tasks.

mod batch;
mod sockets;
mod stats;
mod tcp;
mod trouble;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use socket2::Socket;
use tokio_util::sync::CancellationToken;

use crate::discovery::Corners;
use crate::limit::{self, RateLimit};
use udp::Worker;

#[cfg(not(target_os = "linux"))]
compile_error!("the feature `server` needs Linux: it is built on recvmmsg and sendmmsg");

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// UDP sockets per address, and threads that read them.
    pub workers: NonZeroUsize,
    /// Answers per second to one source network (IPv4 address, IPv6 /56); twice as many at once.
    /// `None`: no bound.
    pub rate: Option<NonZeroU32>,
    /// `::` serves IPv4 as well.
    pub dual_stack: bool,
}

impl Default for Options {
    /// One worker, 100 answers per second and network.
    fn default() -> Self {
        Self {
            workers: NonZeroUsize::MIN,
            rate: Some(limit::ANSWERS_PER_SECOND),
            dual_stack: true,
        }
    }
}

/// Sockets that are open, and not yet served.
pub struct Listener {
    local_addr: SocketAddr,
    /// By worker, then by corner.
    udp: Vec<Vec<Arc<Socket>>>,
    tcp: std::net::TcpListener,
    shared: Arc<Shared>,
}

impl Listener {
    /// Where it listens, on UDP and TCP alike; with corners, the primary one.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// What the service's threads and tasks share.
struct Shared {
    limit: Option<RateLimit>,
    corners: Option<Corners>,
}

impl Shared {
    fn new(options: &Options, corners: Option<Corners>) -> Arc<Self> {
        let limit = options
            .rate
            .map(|rate| RateLimit::new(rate, Instant::now()));
        Arc::new(Self { limit, corners })
    }

    fn admits(&self, source: IpAddr, now: Instant) -> bool {
        self.limit
            .as_ref()
            .is_none_or(|limit| limit.admit(source, now))
    }
}

/// Opens sockets to serve at, on UDP and TCP, with the default [`Options`].
///
/// # Errors
/// The address is in use, not this machine's, or not permitted.
pub fn bind(address: SocketAddr) -> io::Result<Listener> {
    bind_with(address, &Options::default())
}

/// Opens sockets to serve at, on UDP and TCP.
///
/// # Errors
/// The address is in use, not this machine's, or not permitted.
pub fn bind_with(address: SocketAddr, options: &Options) -> io::Result<Listener> {
    let (local_addr, sockets, tcp) = sockets::udp_and_tcp(address, options)?;
    Ok(Listener {
        local_addr,
        udp: sockets
            .into_iter()
            .map(|socket| vec![Arc::new(socket)])
            .collect(),
        tcp,
        shared: Shared::new(options, None),
    })
}

/// Opens sockets at all corners, for behaviour discovery (RFC 5780): UDP at each, TCP at the
/// primary one.
///
/// # Errors
/// One of the addresses is in use, not this machine's, or not permitted.
pub fn bind_corners(corners: Corners, options: &Options) -> io::Result<Listener> {
    let [primary, others @ ..] = *corners.addresses();
    let (local_addr, first, tcp) = sockets::udp_and_tcp(primary, options)?;
    let mut udp: Vec<Vec<Arc<Socket>>> = first
        .into_iter()
        .map(|socket| vec![Arc::new(socket)])
        .collect();
    for corner in others {
        let sockets = sockets::udp(corner, options)?;
        for (worker, socket) in udp.iter_mut().zip(sockets) {
            worker.push(Arc::new(socket));
        }
    }
    Ok(Listener {
        local_addr,
        udp,
        tcp,
        shared: Shared::new(options, Some(corners)),
    })
}

/// Answers binding requests until it is told to stop. Counts what it does in
/// `ztna_stun_requests_total{disposition}` and `ztna_stun_addrfamily_total{family}`.
pub async fn run(listener: Listener, stop: CancellationToken) {
    let Listener {
        udp, tcp, shared, ..
    } = listener;
    stats::describe();
    let threads = match Threads::start(udp, &shared) {
        Ok(threads) => threads,
        Err(error) => {
            tracing::error!(%error, "the STUN service cannot start its threads");
            return;
        }
    };
    tcp::serve(tcp, shared, stop).await;
    if tokio::task::spawn_blocking(move || threads.join())
        .await
        .is_err()
    {
        tracing::error!("a thread of the STUN service ended before its time");
    }
}

/// The UDP workers. They end when this is dropped.
struct Threads {
    stop: Arc<AtomicBool>,
    sockets: Vec<Arc<Socket>>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(udp: Vec<Vec<Arc<Socket>>>, shared: &Arc<Shared>) -> io::Result<Self> {
        let mut threads = Self {
            stop: Arc::new(AtomicBool::new(false)),
            sockets: udp.iter().flatten().cloned().collect(),
            handles: Vec::new(),
        };
        for sockets in udp {
            for at in 0..sockets.len() {
                let worker = Worker {
                    shared: Arc::clone(shared),
                    sockets: sockets.clone(),
                    at,
                    stop: Arc::clone(&threads.stop),
                };
                let thread = std::thread::Builder::new().name("stun".to_owned());
                threads.handles.push(thread.spawn(move || worker.run())?);
            }
        }
        Ok(threads)
    }

    fn join(mut self) {
        self.stop();
        for handle in self.handles.drain(..) {
            if handle.join().is_err() {
                tracing::error!("a thread of the STUN service ended before its time");
            }
        }
    }

    /// A thread that waits for a datagram is woken by the shutdown of its socket. On UDP the call
    /// fails, as nothing is connected, and wakes it all the same; where it does not, the receive
    /// timeout does.
    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
