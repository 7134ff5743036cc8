//! Which fragmented packets are being let through.
//!
//! A later fragment has no ports, so the first one decides for it. Fragments that come before
//! their first are dropped; the sender's transport sends them again.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ztna_proto::ids::MachineId;

use crate::packet::{Fragment, Parsed};
use crate::{Direction, Limits, Reason};

/// How long the rest of a packet may take to come after its first fragment.
pub const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    peer: MachineId,
    direction: Direction,
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    /// On IPv6 always 0: there the first fragment alone says the protocol (RFC 8200 §4.5).
    protocol: u8,
}

impl Key {
    /// The least key that a peer can have.
    fn first_of(peer: MachineId) -> Self {
        let lowest = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            peer,
            direction: Direction::Inbound,
            src: lowest,
            dst: lowest,
            id: 0,
            protocol: 0,
        }
    }

    fn new(peer: MachineId, direction: Direction, packet: &Parsed, fragment: &Fragment) -> Self {
        Self {
            peer,
            direction,
            src: packet.src,
            dst: packet.dst,
            id: fragment.id,
            protocol: if packet.src.is_ipv4() {
                packet.protocol
            } else {
                0
            },
        }
    }
}

struct Entry {
    stamp: u64,
    expires: Instant,
    /// Where the first fragment ends: no other may begin before.
    first_end: u16,
    /// Bytes that came, counted without looking whether they came twice.
    seen: u32,
    /// How long the packet is, once its last fragment came.
    total: Option<u32>,
    /// Set when fragments overlapped; nothing more of the packet is let through.
    spoilt: bool,
}

/// Packets of which the first fragment was let through and others may follow.
#[derive(Default)]
pub(crate) struct Fragments {
    entries: BTreeMap<Key, Entry>,
    /// In the order in which they were made, which is that in which they expire.
    by_age: BTreeMap<u64, Key>,
    per_peer: BTreeMap<MachineId, usize>,
    next_stamp: u64,
}

impl Fragments {
    /// Remembers a packet whose first fragment was let through.
    pub(crate) fn open(
        &mut self,
        peer: MachineId,
        direction: Direction,
        packet: &Parsed,
        fragment: &Fragment,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Reason> {
        self.expire(now);
        let key = Key::new(peer, direction, packet, fragment);
        if let Some(entry) = self.entries.get_mut(&key) {
            // The first fragment again. Another than before would change what was decided on.
            if entry.spoilt || entry.first_end != fragment.length {
                entry.spoilt = true;
                return Err(Reason::Fragment);
            }
            return Ok(());
        }
        let held = self.per_peer.get(&peer).copied().unwrap_or_default();
        if held >= limits.fragments_per_peer || self.entries.len() >= limits.fragments {
            return Err(Reason::TableFull);
        }
        let entry = Entry {
            stamp: self.next_stamp,
            expires: now + FRAGMENT_TIMEOUT,
            first_end: fragment.length,
            seen: fragment.length.into(),
            total: None,
            spoilt: false,
        };
        self.by_age.insert(self.next_stamp, key);
        self.next_stamp += 1;
        *self.per_peer.entry(peer).or_default() += 1;
        self.entries.insert(key, entry);
        Ok(())
    }

    /// Whether a later fragment belongs to a packet that is being let through.
    pub(crate) fn follow(
        &mut self,
        peer: MachineId,
        direction: Direction,
        packet: &Parsed,
        fragment: &Fragment,
        now: Instant,
    ) -> Result<(), Reason> {
        self.expire(now);
        let key = Key::new(peer, direction, packet, fragment);
        let Some(entry) = self.entries.get_mut(&key) else {
            return Err(Reason::Fragment);
        };
        let end = u32::from(fragment.offset) + u32::from(fragment.length);
        let past_end = entry.total.is_some_and(|total| end > total);
        if entry.spoilt || fragment.offset < entry.first_end || past_end {
            entry.spoilt = true;
            return Err(Reason::Fragment);
        }
        entry.seen += u32::from(fragment.length);
        if !fragment.more {
            entry.total = Some(end);
        }
        if entry.total.is_some_and(|total| entry.seen >= total) {
            self.remove(&key);
        }
        Ok(())
    }

    /// Forgets a peer's packets: what decided on them may have changed.
    pub(crate) fn forget(&mut self, peer: MachineId) {
        if !self.per_peer.contains_key(&peer) {
            return;
        }
        let first = Key::first_of(peer);
        while let Some((&key, _)) = self.entries.range(first..).next()
            && key.peer == peer
        {
            self.remove(&key);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.by_age.clear();
        self.per_peer.clear();
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((_, key)) = self.by_age.first_key_value()
            && self
                .entries
                .get(key)
                .is_none_or(|entry| entry.expires <= now)
        {
            let key = *key;
            self.remove(&key);
        }
    }

    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let (_, key) = self.by_age.first_key_value()?;
        self.entries.get(key).map(|entry| entry.expires)
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        self.by_age.remove(&entry.stamp);
        if let Some(count) = self.per_peer.get_mut(&key.peer) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&key.peer);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
