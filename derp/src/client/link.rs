//! An established connection: the sender, the receiver, and what they share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ztna_proto::WgPublicKey;

use crate::MAX_PACKET;
use crate::bucket::{MIN_BURST, TokenBucket};
use crate::frame::{Frame, FrameError, GoneReason, PING_LEN, send_packet_head};
use crate::handshake::ServerInfo;
use crate::outbox::{Flow, Item, Lane, Outbox, Pushed};
use crate::quic::QuicSource;
use crate::reader::{FrameReader, ReadError};
use crate::transport::{Sink, Source};

/// A relay sends a KeepAlive each 60 to 65 s; without a byte for so long it is dead.
pub const SILENCE: Duration = Duration::from_secs(150);

/// The relay must take a byte within this time while there are some to send.
const WRITE_STALL: Duration = Duration::from_secs(10);

/// A packet that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is over.
    #[error("the relay connection is closed")]
    Closed,
    /// Longer than [`MAX_PACKET`].
    #[error("a packet of {0} bytes is too long for a relay (65536 at most)")]
    TooLong(usize),
    /// The relay's bound for this client is reached; the relay would drop it.
    #[error("the relay's rate limit for this machine is reached")]
    RateLimited,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// It broke, or the relay closed it.
    #[error("the relay connection is lost: {0}")]
    Lost(#[from] std::io::Error),
    /// The relay sent what is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Nothing came for [`SILENCE`].
    #[error("the relay sent nothing for {}s", SILENCE.as_secs())]
    Silent,
    /// Packets could not be written.
    #[error("the relay does not take packets any more")]
    Stalled,
}

impl From<ReadError> for RelayError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Lost(error),
            ReadError::Frame(error) => Self::Frame(error),
        }
    }
}

/// What a relay tells its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet of another client.
    Packet {
        /// Who sent it.
        from: WgPublicKey,
        /// At most [`MAX_PACKET`] bytes.
        packet: Bytes,
    },
    /// A peer cannot be reached through this relay (any more).
    PeerGone {
        /// The peer.
        peer: WgPublicKey,
        /// Why.
        reason: GoneReason,
    },
    /// What is wrong with this connection, for people. Empty: nothing any more.
    Health(String),
    /// The relay is about to close the connection for a restart.
    Restarting {
        /// Wait this long before connecting again.
        reconnect_in: Duration,
        /// Then try for so long.
        try_for: Duration,
    },
    /// The answer to [`Sender::ping`].
    Pong {
        /// Time since the ping.
        rtt: Duration,
    },
}

/// What carries a connection's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TLS over TCP.
    Tcp,
    /// QUIC, packets in datagrams: a lost packet holds up no other.
    Quic,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Quic => "QUIC",
        })
    }
}

/// Where frames come from.
pub(super) enum Incoming {
    Stream(FrameReader<Box<dyn AsyncRead + Send + Unpin>>),
    Quic(QuicSource),
}

impl Incoming {
    fn buffered(&mut self) -> Result<Option<Frame>, FrameError> {
        match self {
            Self::Stream(reader) => reader.buffered(),
            Self::Quic(source) => source.buffered(),
        }
    }

    fn received(&self) -> u64 {
        match self {
            Self::Stream(_) => 0,
            Self::Quic(source) => source.received(),
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        match self {
            Self::Stream(reader) => reader.fill().await,
            Self::Quic(source) => source.fill().await,
        }
    }
}

struct Shared {
    transport: Transport,
    outbox: Outbox,
    /// Bytes that the relay lets us send, if it set a bound.
    bucket: Option<Mutex<TokenBucket>>,
    /// The ping that is out.
    ping: Mutex<Option<([u8; PING_LEN], Instant)>>,
    /// Cancelled when the writer has ended.
    written: CancellationToken,
}

/// Queues what goes to the relay. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Sender(Arc<Shared>);

impl Sender {
    /// Queues a packet for `to`: at most [`MAX_PACKET`] bytes. If the relay is slow, the oldest
    /// queued packets are dropped; handshakes and discovery overtake data.
    ///
    /// # Errors
    /// The packet was not queued.
    pub fn try_send(&self, to: WgPublicKey, packet: Bytes) -> Result<(), SendError> {
        if packet.len() > MAX_PACKET {
            return Err(SendError::TooLong(packet.len()));
        }
        let (lane, now) = (Lane::of(&packet), Instant::now());
        let flow = Flow::of(to, &packet);
        let item = Item::Packet(send_packet_head(&to, packet.len()), packet);
        if let Some(bucket) = &self.0.bucket {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            if !bucket.take(item.len(), now) {
                return Err(SendError::RateLimited);
            }
        }
        queued(self.0.outbox.push(lane, flow, item, now))
    }

    /// Tells the relay whether it is this machine's home.
    ///
    /// # Errors
    /// The connection is over.
    pub fn note_preferred(&self, preferred: bool) -> Result<(), SendError> {
        queued(self.0.outbox.signal(&Frame::NotePreferred(preferred)))
    }

    /// Measures the round trip to the relay; the answer is [`Event::Pong`]. A ping before it
    /// replaces the one before.
    ///
    /// # Errors
    /// The connection is over.
    pub fn ping(&self) -> Result<(), SendError> {
        let data: [u8; PING_LEN] = rand::random();
        let mut ping = self.0.ping.lock().unwrap_or_else(PoisonError::into_inner);
        *ping = Some((data, Instant::now()));
        queued(self.0.outbox.signal(&Frame::Ping(data)))
    }

    /// Gives the relay a fresh ticket, so that the connection outlives the old one. To be called
    /// whenever the control plane hands one out. Relays of other makes ignore it.
    ///
    /// # Errors
    /// The connection is over.
    pub fn renew_ticket(&self, ticket: String) -> Result<(), SendError> {
        queued(self.0.outbox.signal(&Frame::RenewTicket(ticket)))
    }

    /// What carries the connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.transport
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.written.is_cancelled()
    }
}

fn queued(pushed: Pushed) -> Result<(), SendError> {
    match pushed {
        Pushed::Queued(_) => Ok(()),
        Pushed::Closed => Err(SendError::Closed),
    }
}

/// Yields what comes from the relay. Dropping it closes the connection.
pub struct Receiver {
    shared: Arc<Shared>,
    incoming: Incoming,
    /// When the last byte came.
    heard: Instant,
}

impl Receiver {
    /// The next event. Answers the relay's Pings on the way. Cancel-safe: fit for `select!`.
    ///
    /// # Errors
    /// The connection is over: drop the receiver.
    pub async fn next(&mut self) -> Result<Event, RelayError> {
        loop {
            while let Some(frame) = self.incoming.buffered()? {
                if let Some(event) = self.handle(frame) {
                    return Ok(event);
                }
            }
            tokio::select! {
                read = self.incoming.fill() => {
                    read?;
                    self.heard = Instant::now();
                }
                () = tokio::time::sleep_until(self.heard + SILENCE) => {
                    return Err(RelayError::Silent);
                }
                () = self.shared.written.cancelled() => return Err(RelayError::Stalled),
            }
        }
    }

    /// Datagrams that have come from the relay's host, acknowledgements included: what shows that it is
    /// there though it has nothing to tell. By TCP always 0.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.incoming.received()
    }

    fn handle(&self, frame: Frame) -> Option<Event> {
        Some(match frame {
            Frame::RecvPacket { from, packet } => Event::Packet { from, packet },
            Frame::PeerGone { peer, reason } => Event::PeerGone { peer, reason },
            Frame::Health(problem) => Event::Health(problem),
            Frame::Restarting {
                reconnect_in,
                try_for,
            } => Event::Restarting {
                reconnect_in,
                try_for,
            },
            Frame::Ping(data) => {
                self.shared.outbox.signal(&Frame::Pong(data));
                return None;
            }
            Frame::Pong(data) => {
                let mut ping = self
                    .shared
                    .ping
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let (_, sent) = ping.take_if(|(expected, _)| *expected == data)?;
                Event::Pong {
                    rtt: sent.elapsed(),
                }
            }
            _ => return None,
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.outbox.close();
    }
}

/// Takes over a connection whose handshake is done.
pub(super) fn start(
    transport: Transport,
    incoming: Incoming,
    sink: impl Sink,
    server_info: &ServerInfo,
) -> (Sender, Receiver) {
    let now = Instant::now();
    let bound = server_info.bytes_per_second;
    let shared = Arc::new(Shared {
        transport,
        outbox: Outbox::default(),
        bucket: (bound > 0).then(|| {
            let burst = server_info.burst.max(MIN_BURST);
            Mutex::new(TokenBucket::new(bound, burst, now))
        }),
        ping: Mutex::default(),
        written: CancellationToken::new(),
    });
    let writer = Arc::clone(&shared);
    tokio::spawn(async move {
        let written = sink.drain(&writer.outbox, WRITE_STALL, &()).await;
        if let Err(error) = written {
            tracing::debug!(%error, "the relay's writer ended");
        }
        writer.outbox.close();
        writer.written.cancel();
    });
    let receiver = Receiver {
        shared: Arc::clone(&shared),
        incoming,
        heard: now,
    };
    (Sender(shared), receiver)
}
