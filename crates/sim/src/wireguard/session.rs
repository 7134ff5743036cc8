//! A session: data messages (whitepaper §5.4.6) and the window against replays (§5.4.6, RFC 6479).

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};

use bytes::{BufMut, BytesMut};

/// Counters behind the highest one that are still taken.
const WINDOW: u64 = 8192;
/// Bytes before and after the packet in a data message (§5.4.6).
const HEADER: usize = 16;
const TAG: usize = 16;

pub(super) type Hash = [u8; TAG];

/// What stands for every kind of keyed hash. [`DefaultHasher`] has fixed keys.
pub(super) fn hash(label: &str, parts: &[&[u8]]) -> Hash {
    let mut out = [0; TAG];
    for (half, out) in out.chunks_exact_mut(8).enumerate() {
        let mut hasher = DefaultHasher::new();
        hasher.write_usize(half);
        hasher.write(label.as_bytes());
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        out.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    out
}

pub(super) fn part<const N: usize>(datagram: &[u8], at: usize) -> Option<[u8; N]> {
    datagram.get(at..at + N)?.try_into().ok()
}

pub(super) struct Session {
    pub(super) index: u32,
    pub(super) peer_index: u32,
    pub(super) send_key: Hash,
    pub(super) receive_key: Hash,
    pub(super) next_out: u64,
    pub(super) next_in: u64,
    pub(super) seen: BTreeSet<u64>,
}

impl Session {
    pub(super) fn seal(&mut self, packet: &[u8]) -> BytesMut {
        let mut out = BytesMut::with_capacity(HEADER + packet.len() + TAG);
        out.put_slice(&[4, 0, 0, 0]);
        out.put_u32_le(self.peer_index);
        out.put_u64_le(self.next_out);
        out.put_slice(packet);
        let tag = hash("data", &[&self.send_key, &out]);
        out.put_slice(&tag);
        self.next_out += 1;
        out
    }

    pub(super) fn open(&mut self, datagram: &[u8]) -> Option<BytesMut> {
        let counter = u64::from_le_bytes(part(datagram, 8)?);
        let body = datagram.len().checked_sub(TAG).filter(|at| *at >= HEADER)?;
        let is_old = counter < self.next_in
            && (counter + WINDOW < self.next_in || self.seen.contains(&counter));
        if is_old || datagram[body..] != hash("data", &[&self.receive_key, &datagram[..body]]) {
            return None;
        }
        self.next_in = self.next_in.max(counter + 1);
        self.seen.insert(counter);
        while self.seen.first().is_some_and(|c| c + WINDOW < self.next_in) {
            self.seen.pop_first();
        }
        Some(BytesMut::from(&datagram[HEADER..body]))
    }
}
