//! The bounded queue in front of a connection's writer, and the writer.
//!
//! Whoever has something to send never waits: when a lane is full, its longest flow loses its
//! oldest packet. Old packets are worth less than new ones to everything that runs inside a
//! tunnel, and nobody's packets wait behind another's flood ([`crate::fair`]).

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use ztna_proto::WgPublicKey;

use crate::frame::{Frame, PacketHead};
use ztna_fair_queue::{Bounds, FairQueue, Lost};

/// What a packet is, by which it is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Packets that set tunnels up: discovery, handshakes. They go first.
    Control,
    /// Sealed data.
    Data,
}

impl Lane {
    /// Where a packet goes, by its first bytes: WireGuard's data messages (type 4, three zero
    /// bytes; WireGuard white paper §5.4.6) are data, all else sets something up.
    pub(crate) fn of(packet: &[u8]) -> Self {
        match packet {
            [4, 0, 0, 0, ..] => Self::Data,
            _ => Self::Control,
        }
    }

    const fn bounds(self) -> Bounds {
        match self {
            Self::Control => Bounds {
                items: 128,
                bytes: 128 * 1024,
            },
            Self::Data => Bounds {
                items: 1024,
                bytes: 1024 * 1024,
            },
        }
    }
}

/// What queues together: the packets of one peer, its small ones and the others apart. A call or a
/// terminal does not wait behind a file that goes to the same peer; a voice packet of 20 ms (RFC 3551,
/// G.711) is 232 bytes under WireGuard.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    peer: WgPublicKey,
    is_small: bool,
}

impl Flow {
    /// The flow of a peer's packet. Its own length counts, not that of the frame around it: it is
    /// small on every hop or on none.
    pub(crate) fn of(peer: WgPublicKey, packet: &[u8]) -> Self {
        let is_small = packet.len() <= SMALL;
        Self { peer, is_small }
    }
}

/// Longest small packet, in bytes.
const SMALL: usize = 256;

/// Frames of the protocol itself that wait for a client; they go before all packets.
const MAX_SIGNALS: usize = 256;

/// Control packets that go out before one data packet does: floods of the former must not starve
/// the latter.
const CONTROL_RUN: u32 = 8;

/// Bytes that the writer hands to TLS at once: four records …
const BATCH: usize = 64 * 1024;
/// … and to a receiver that is slower than what comes for it: what is handed over waits without a
/// turn among others.
const SLOW_BATCH: usize = 16 * 1024;
/// A receiver that takes longer for a batch is slow.
const SLOW: Duration = Duration::from_millis(2);

/// An idle writer keeps a buffer that it has just used for more than this.
const SMALL_BATCH: usize = 4 * 1024;

/// A frame to be written: as a whole, or the head of one and its packet.
pub(crate) enum Item {
    /// All of it.
    Frame(Bytes),
    /// Head and packet, so that the packet need not be copied here.
    Packet(PacketHead, Bytes),
}

impl Item {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Packet(head, packet) => head.len() + packet.len(),
        }
    }

    pub(crate) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Frame(frame) => out.put_slice(frame),
            Self::Packet(head, packet) => {
                out.put_slice(head);
                out.put_slice(packet);
            }
        }
    }
}

/// Who is told what became of queued packets.
pub(crate) trait Account {
    /// A packet goes out after it has waited for so long.
    fn sent(&self, wait: Duration);
    /// Packets waited too long, or in vain.
    fn delayed_out(&self, lane: Lane, lost: Lost);
    /// So many bytes were handed to the transport.
    fn wrote(&self, bytes: usize);
}

/// Nobody counts.
#[cfg(feature = "client")]
impl Account for () {
    fn sent(&self, _wait: Duration) {}
    fn delayed_out(&self, _lane: Lane, _lost: Lost) {}
    fn wrote(&self, _bytes: usize) {}
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is queued, and so many older ones had to go for it.
    Queued(Lost),
    /// The connection is closing; it was dropped.
    Closed,
}

#[derive(Default)]
struct State {
    signals: VecDeque<Bytes>,
    control: FairQueue<Flow, Item>,
    data: FairQueue<Flow, Item>,
    /// Control packets since the last data packet.
    control_run: u32,
    closing: bool,
}

impl State {
    fn pop(&mut self, now: Instant, account: &impl Account) -> Option<Item> {
        if let Some(signal) = self.signals.pop_front() {
            return Some(Item::Frame(signal));
        }
        if self.control_run < CONTROL_RUN
            && let Some(item) = take(&mut self.control, Lane::Control, now, account)
        {
            self.control_run += 1;
            return Some(item);
        }
        self.control_run = 0;
        take(&mut self.data, Lane::Data, now, account)
            .or_else(|| take(&mut self.control, Lane::Control, now, account))
    }
}

fn take(
    queue: &mut FairQueue<Flow, Item>,
    lane: Lane,
    now: Instant,
    account: &impl Account,
) -> Option<Item> {
    let mut lost = Lost::default();
    let popped = queue.pop(now.into_std(), &mut lost);
    if lost.packets > 0 {
        account.delayed_out(lane, lost);
    }
    let (item, wait) = popped?;
    account.sent(wait);
    Some(item)
}

/// The lanes of one connection.
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Wakes the writer.
    ready: Notify,
    max_signals: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::with_signals(MAX_SIGNALS)
    }
}

impl Outbox {
    /// An outbox that holds so many frames of the protocol itself.
    pub(crate) fn with_signals(max_signals: usize) -> Self {
        Self {
            state: Mutex::default(),
            ready: Notify::new(),
            max_signals,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a packet in its flow, dropping others if there is no room.
    pub(crate) fn push(&self, lane: Lane, flow: Flow, item: Item, now: Instant) -> Pushed {
        let lost = {
            let mut state = self.lock();
            if state.closing {
                return Pushed::Closed;
            }
            let queue = match lane {
                Lane::Control => &mut state.control,
                Lane::Data => &mut state.data,
            };
            let len = item.len();
            queue.push(flow, item, len, now.into_std(), lane.bounds())
        };
        self.ready.notify_one();
        Pushed::Queued(lost)
    }

    /// Queues a frame of the protocol itself. If too many wait, the oldest goes.
    pub(crate) fn signal(&self, frame: &Frame) -> Pushed {
        let mut lost = Lost::default();
        {
            let mut state = self.lock();
            if state.closing {
                return Pushed::Closed;
            }
            if state.signals.len() >= self.max_signals
                && let Some(oldest) = state.signals.pop_front()
            {
                lost.add(oldest.len());
            }
            state.signals.push_back(frame.to_bytes());
        }
        self.ready.notify_one();
        Pushed::Queued(lost)
    }

    /// Takes nothing more. What the protocol has queued for itself still goes out, packets do not.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.control = FairQueue::default();
        state.data = FairQueue::default();
        drop(state);
        self.ready.notify_one();
    }

    /// Moves queued frames into `batch`; waits until there is at least one. `false`: closed, and
    /// nothing is left.
    async fn fill(&self, batch: &mut BytesMut, limit: usize, account: &impl Account) -> bool {
        let last = batch.len();
        batch.clear();
        loop {
            {
                let mut state = self.lock();
                let now = Instant::now();
                while batch.len() < limit {
                    let Some(item) = state.pop(now, account) else {
                        break;
                    };
                    item.write(batch);
                }
                if !batch.is_empty() {
                    return true;
                }
                if state.closing {
                    return false;
                }
                if state.signals.is_empty() {
                    state.signals = VecDeque::new();
                }
            }
            if last <= SMALL_BATCH {
                // While idle, no memory is held for writing. After a burst the next small batch, if
                // only a KeepAlive, gives it back: more is to come at once, as a rule.
                *batch = BytesMut::new();
            }
            self.ready.notified().await;
        }
    }

    /// The next frame, as soon as there is one. `None`: closed, and nothing is left. Cancel-safe.
    pub(crate) async fn next(&self, account: &impl Account) -> Option<Item> {
        loop {
            {
                let mut state = self.lock();
                if let Some(item) = state.pop(Instant::now(), account) {
                    return Some(item);
                }
                if state.closing {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Writes what is queued until the outbox is closed and empty, then shuts the stream down.
    ///
    /// # Errors
    /// The stream's, or no byte was taken for `stall`.
    pub(crate) async fn drain_into(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        stall: Duration,
        account: &impl Account,
    ) -> io::Result<()> {
        let mut batch = BytesMut::new();
        let mut limit = BATCH;
        while self.fill(&mut batch, limit, account).await {
            let start = Instant::now();
            let mut rest = batch.as_ref();
            while !rest.is_empty() {
                let count = tokio::time::timeout(stall, writer.write(rest)).await??;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                rest = &rest[count..];
            }
            tokio::time::timeout(stall, writer.flush()).await??;
            account.wrote(batch.len());
            limit = if start.elapsed() > SLOW {
                SLOW_BATCH
            } else {
                BATCH
            };
        }
        tokio::time::timeout(stall, writer.shutdown()).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: WgPublicKey = WgPublicKey([1; 32]);

    fn push(outbox: &Outbox, lane: Lane, bytes: &[u8]) -> Pushed {
        let item = Item::Frame(Bytes::copy_from_slice(bytes));
        outbox.push(lane, Flow::of(PEER, bytes), item, Instant::now())
    }

    async fn next(outbox: &Outbox) -> Vec<u8> {
        let mut batch = BytesMut::new();
        assert!(outbox.fill(&mut batch, BATCH, &()).await);
        batch.to_vec()
    }

    #[test]
    fn a_packet_is_small_by_itself_whatever_frame_it_is_in() {
        assert!(Flow::of(PEER, &[0; SMALL]).is_small);
        assert!(!Flow::of(PEER, &[0; SMALL + 1]).is_small);
    }

    #[tokio::test]
    async fn a_framed_small_packet_does_not_wait_behind_a_framed_file() {
        let outbox = Outbox::default();
        let framed = |packet: &[u8]| Item::Frame([&[7; 100], packet].concat().into());
        let now = Instant::now();
        let mut packets = vec![&[1; 1280][..]; 20];
        packets.push(&[2; 232]);
        for packet in packets {
            outbox.push(Lane::Data, Flow::of(PEER, packet), framed(packet), now);
        }
        let popped = std::iter::from_fn(|| outbox.lock().pop(now, &()));
        let place = popped.map(|item| item.len()).position(|len| len == 332);
        assert!(place.is_some_and(|place| place < 10), "{place:?}");
    }

    #[test]
    fn lanes_tell_data_from_what_sets_up() {
        assert_eq!(Lane::of(&[4, 0, 0, 0, 1]), Lane::Data);
        for other in [
            &[1, 0, 0, 0][..],
            &[2, 0, 0, 0],
            b"TS\xf0\x9f\x92\xac",
            b"@",
            b"",
        ] {
            assert_eq!(Lane::of(other), Lane::Control);
        }
    }

    #[tokio::test]
    async fn signals_then_control_then_data() {
        let outbox = Outbox::default();
        push(&outbox, Lane::Data, b"d");
        push(&outbox, Lane::Control, b"c");
        outbox.signal(&Frame::KeepAlive);
        assert_eq!(next(&outbox).await, b"\x06\0\0\0\0cd");
    }

    #[tokio::test]
    async fn a_flood_of_control_lets_data_through() {
        let outbox = Outbox::default();
        for _ in 0..20 {
            push(&outbox, Lane::Control, b"c");
        }
        push(&outbox, Lane::Data, b"d");
        assert_eq!(next(&outbox).await, b"ccccccccdcccccccccccc");
    }

    #[tokio::test]
    async fn what_is_small_does_not_wait_behind_what_is_large() {
        let outbox = Outbox::default();
        for _ in 0..3 {
            push(&outbox, Lane::Data, &[b'l'; 1000]);
        }
        push(&outbox, Lane::Data, b"s");
        let sent = next(&outbox).await;
        let at = sent.iter().position(|byte| *byte == b's').unwrap();
        assert!(at <= 2000, "behind {at} bytes");
        assert_eq!(sent.len(), 3001);
    }

    #[tokio::test]
    async fn signals_are_bounded() {
        let outbox = Outbox::with_signals(2);
        for data in [[1; 8], [2; 8], [3; 8]] {
            outbox.signal(&Frame::Ping(data));
        }
        let sent = next(&outbox).await;
        assert_eq!(sent[5..13], [2; 8]);
        assert_eq!(sent.len(), 26);
    }

    #[tokio::test]
    async fn closing_sends_signals_and_nothing_else() {
        let outbox = Outbox::default();
        push(&outbox, Lane::Data, b"d");
        outbox.signal(&Frame::KeepAlive);
        outbox.close();
        assert_eq!(outbox.signal(&Frame::KeepAlive), Pushed::Closed);
        let mut written = Vec::new();
        let stall = Duration::from_secs(1);
        outbox.drain_into(&mut written, stall, &()).await.unwrap();
        assert_eq!(written, b"\x06\0\0\0\0");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_stream_is_given_up() {
        let (near, _far) = tokio::io::duplex(16);
        let outbox = Outbox::default();
        push(&outbox, Lane::Data, &[0; 64]);
        let ended = outbox.drain_into(near, Duration::from_secs(10), &()).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
