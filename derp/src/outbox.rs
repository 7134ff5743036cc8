//! The bounded queue in front of a connection's writer, and the writer.
//!
//! Whoever has something to send never waits: when a lane is full, its oldest frame goes. Old
//! packets are worth less than new ones to everything that runs inside a tunnel.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::frame::{Frame, PacketHead};

/// What is sent first: smaller overtakes larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Frames of the protocol itself.
    Signal,
    /// Packets that set tunnels up: discovery, handshakes.
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
            Self::Signal => Bounds {
                items: 256,
                bytes: 64 * 1024,
            },
            Self::Control => Bounds {
                items: 128,
                bytes: 128 * 1024,
            },
            Self::Data => Bounds {
                items: 512,
                bytes: 512 * 1024,
            },
        }
    }
}

/// Frames and bytes (heads included) that a lane holds.
struct Bounds {
    items: usize,
    bytes: usize,
}

/// Control packets that go out before one data packet does: floods of the former must not starve
/// the latter.
const CONTROL_RUN: u32 = 8;

/// Bytes that the writer hands to TLS at once: two records.
const BATCH: usize = 32 * 1024;

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

    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Frame(frame) => out.put_slice(frame),
            Self::Packet(head, packet) => {
                out.put_slice(head);
                out.put_slice(packet);
            }
        }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is queued, and so many older ones (bytes) had to go for it.
    Queued {
        /// Frames dropped.
        dropped: u64,
        /// Their bytes.
        dropped_bytes: u64,
    },
    /// The connection is closing; it was dropped.
    Closed,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Queue {
    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.len();
        if self.items.is_empty() {
            // An idle connection holds no memory for the burst it once had.
            self.items = VecDeque::new();
        }
        Some(item)
    }

    fn push(&mut self, item: Item, bounds: &Bounds) -> Pushed {
        let (mut dropped, mut dropped_bytes) = (0, 0);
        while self.items.len() >= bounds.items || self.bytes + item.len() > bounds.bytes {
            let Some(oldest) = self.pop() else { break };
            dropped += 1;
            dropped_bytes += oldest.len() as u64;
        }
        self.bytes += item.len();
        self.items.push_back(item);
        Pushed::Queued {
            dropped,
            dropped_bytes,
        }
    }
}

#[derive(Default)]
struct State {
    signal: Queue,
    control: Queue,
    data: Queue,
    /// Control packets since the last data packet.
    control_run: u32,
    closing: bool,
}

impl State {
    fn pop(&mut self) -> Option<Item> {
        if let Some(item) = self.signal.pop() {
            return Some(item);
        }
        if self.control_run < CONTROL_RUN
            && let Some(item) = self.control.pop()
        {
            self.control_run += 1;
            return Some(item);
        }
        self.control_run = 0;
        self.data.pop().or_else(|| self.control.pop())
    }
}

/// The lanes of one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Wakes the writer.
    ready: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame, dropping the lane's oldest ones if there is no room.
    pub(crate) fn push(&self, lane: Lane, item: Item) -> Pushed {
        let pushed = {
            let mut state = self.lock();
            if state.closing {
                return Pushed::Closed;
            }
            let queue = match lane {
                Lane::Signal => &mut state.signal,
                Lane::Control => &mut state.control,
                Lane::Data => &mut state.data,
            };
            queue.push(item, &lane.bounds())
        };
        self.ready.notify_one();
        pushed
    }

    /// Queues a frame of the protocol itself.
    pub(crate) fn signal(&self, frame: &Frame) -> Pushed {
        self.push(Lane::Signal, Item::Frame(frame.to_bytes()))
    }

    /// Takes nothing more. What the protocol has queued for itself still goes out, packets do not.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.control = Queue::default();
        state.data = Queue::default();
        drop(state);
        self.ready.notify_one();
    }

    /// Moves queued frames into `batch`; waits until there is at least one. `false`: closed, and
    /// nothing is left.
    async fn fill(&self, batch: &mut BytesMut) -> bool {
        loop {
            {
                let mut state = self.lock();
                while batch.len() < BATCH {
                    let Some(item) = state.pop() else { break };
                    item.write(batch);
                }
                if !batch.is_empty() {
                    return true;
                }
                if state.closing {
                    return false;
                }
            }
            // While idle, no memory is held for writing.
            *batch = BytesMut::new();
            self.ready.notified().await;
        }
    }

    /// Writes what is queued until the outbox is closed and empty, then shuts the stream down.
    /// `wrote` is told the bytes of each batch.
    ///
    /// # Errors
    /// The stream's, or no byte was taken for `stall`.
    pub(crate) async fn drain_into(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        stall: Duration,
        mut wrote: impl FnMut(usize),
    ) -> io::Result<()> {
        let mut batch = BytesMut::new();
        while self.fill(&mut batch).await {
            let mut rest = batch.as_ref();
            while !rest.is_empty() {
                let count = tokio::time::timeout(stall, writer.write(rest)).await??;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                rest = &rest[count..];
            }
            tokio::time::timeout(stall, writer.flush()).await??;
            wrote(batch.len());
            batch.clear();
        }
        tokio::time::timeout(stall, writer.shutdown()).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: &[u8]) -> Item {
        Item::Frame(Bytes::copy_from_slice(bytes))
    }

    fn queued(dropped: u64, dropped_bytes: u64) -> Pushed {
        Pushed::Queued {
            dropped,
            dropped_bytes,
        }
    }

    async fn next(outbox: &Outbox) -> Vec<u8> {
        let mut batch = BytesMut::new();
        assert!(outbox.fill(&mut batch).await);
        batch.to_vec()
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
        outbox.push(Lane::Data, item(b"d"));
        outbox.push(Lane::Control, item(b"c"));
        outbox.push(Lane::Signal, item(b"s"));
        assert_eq!(next(&outbox).await, b"scd");
    }

    #[tokio::test]
    async fn a_flood_of_control_lets_data_through() {
        let outbox = Outbox::default();
        for _ in 0..20 {
            outbox.push(Lane::Control, item(b"c"));
        }
        outbox.push(Lane::Data, item(b"d"));
        assert_eq!(next(&outbox).await, b"ccccccccdcccccccccccc");
    }

    #[tokio::test]
    async fn the_oldest_goes_when_the_count_is_reached() {
        let outbox = Outbox::default();
        let bound = Lane::Data.bounds().items;
        for number in 0..bound {
            let pushed = outbox.push(Lane::Data, item(&[number as u8]));
            assert_eq!(pushed, queued(0, 0));
        }
        assert_eq!(outbox.push(Lane::Data, item(b"new")), queued(1, 1));
        let sent = next(&outbox).await;
        assert_eq!(sent[0], 1, "the first one is gone");
        assert!(sent.ends_with(b"new"));
    }

    #[tokio::test]
    async fn the_oldest_go_when_the_bytes_are_reached() {
        let outbox = Outbox::default();
        let bound = Lane::Data.bounds().bytes;
        let third = vec![0; bound / 3];
        for _ in 0..3 {
            outbox.push(Lane::Data, item(&third));
        }
        let pushed = outbox.push(Lane::Data, item(&vec![1; bound / 2]));
        assert_eq!(pushed, queued(2, 2 * third.len() as u64));
    }

    #[tokio::test]
    async fn closing_sends_signals_and_nothing_else() {
        let outbox = Outbox::default();
        outbox.push(Lane::Data, item(b"d"));
        outbox.push(Lane::Signal, item(b"s"));
        outbox.close();
        assert_eq!(outbox.push(Lane::Signal, item(b"late")), Pushed::Closed);
        let mut written = Vec::new();
        let stall = Duration::from_secs(1);
        outbox
            .drain_into(&mut written, stall, |_| {})
            .await
            .unwrap();
        assert_eq!(written, b"s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_stream_is_given_up() {
        let (near, _far) = tokio::io::duplex(16);
        let outbox = Outbox::default();
        outbox.push(Lane::Data, item(&[0; 64]));
        let ended = outbox
            .drain_into(near, Duration::from_secs(10), |_| {})
            .await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
