//! The packets that were sent through tunnels, and what became of them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, BytesMut};

use crate::control::ipv4;

/// Port that packets come from; their destination's is one more.
const SOURCE_PORT: u16 = 1000;
/// Bytes of the IPv4 and UDP headers (RFC 791, RFC 768); as many as of IPv4 and ICMP (RFC 792).
const HEADERS: usize = 28;
/// The protocol number of ICMP, and the type and code of "fragmentation needed" (RFC 1191 §4).
const ICMP: u8 = 1;
const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];

struct Sent {
    from: usize,
    to: usize,
    at: Duration,
    delivered: Option<Duration>,
    /// Its sender was told that it is too large.
    is_refused: bool,
}

/// Every packet, by its number.
#[derive(Default)]
pub struct Ledger {
    packets: BTreeMap<u64, Sent>,
}

/// A sender is told that a packet is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig {
    /// Where it should have gone.
    pub to: usize,
    /// The largest IP packet that passes, in bytes.
    pub limit: usize,
}

/// The payload of an IP packet of so many bytes.
#[must_use]
pub fn payload(limit: usize) -> usize {
    limit.saturating_sub(HEADERS)
}

/// A packet that arrived as it should.
pub struct Delivery {
    /// Who sent it.
    pub from: usize,
    /// How long it took.
    pub delay: Duration,
}

impl Ledger {
    /// Makes the next packet, as its sender's programs would.
    pub fn send(&mut self, from: usize, to: usize, length: usize, at: Duration) -> BytesMut {
        let number = self.packets.len() as u64;
        let sent = Sent {
            from,
            to,
            at,
            delivered: None,
            is_refused: false,
        };
        self.packets.insert(number, sent);
        packet(from, to, number, length)
    }

    /// Packets that were sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.packets.len()
    }

    /// Packets whose senders were told that they are too large.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.packets.values().filter(|sent| sent.is_refused).count()
    }

    /// Packets that arrived.
    #[must_use]
    pub fn delivered(&self) -> usize {
        self.packets
            .values()
            .filter(|sent| sent.delivered.is_some())
            .count()
    }

    /// What the mesh itself tells a machine: that one of its packets is too large. `None`: it is no such
    /// message.
    ///
    /// # Errors
    /// It is about a packet that this machine never sent, or that is no larger than what it is told.
    pub fn too_big(&mut self, at: usize, bytes: &[u8]) -> Result<Option<TooBig>, String> {
        let is_told =
            bytes.get(9) == Some(&ICMP) && bytes.get(20..22) == Some(&FRAGMENTATION_NEEDED);
        if !is_told {
            return Ok(None);
        }
        let limit = usize::from(u16::from_be_bytes([bytes[26], bytes[27]]));
        let quote = &bytes[HEADERS..];
        let number = quote
            .get(HEADERS..HEADERS + 8)
            .and_then(|bytes| bytes.try_into().ok());
        let sent = number.and_then(|number| self.packets.get_mut(&u64::from_be_bytes(number)));
        let Some(sent) = sent.filter(|sent| sent.from == at) else {
            return Err(format!("m{at} is told of a packet that it never sent"));
        };
        let length = usize::from(u16::from_be_bytes([quote[2], quote[3]]));
        if length <= limit {
            return Err(format!(
                "m{at} is told that {length} B are more than {limit}"
            ));
        }
        sent.is_refused = true;
        Ok(Some(TooBig { to: sent.to, limit }))
    }

    /// A packet came out of a machine's tunnel.
    ///
    /// # Errors
    /// Nobody sent it like that, or it was there before.
    pub fn deliver(&mut self, at: usize, bytes: &[u8], now: Duration) -> Result<Delivery, String> {
        let number = bytes
            .get(HEADERS..HEADERS + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_be_bytes);
        let Some((number, sent)) =
            number.and_then(|number| Some((number, self.packets.get_mut(&number)?)))
        else {
            return Err(format!("m{at} got a packet that nobody sent"));
        };
        if bytes != &packet(sent.from, sent.to, number, bytes.len() - HEADERS)[..] || sent.to != at
        {
            return Err(format!("m{at} got packet {number} changed"));
        }
        if sent.delivered.replace(now).is_some() {
            return Err(format!("m{at} got packet {number} twice"));
        }
        Ok(Delivery {
            from: sent.from,
            delay: now - sent.at,
        })
    }

    /// The packets of a span that did not arrive though nobody was told that they are too large: number, sender, receiver, when they were sent.
    pub fn lost(
        &self,
        from: Duration,
        to: Duration,
    ) -> impl Iterator<Item = (u64, usize, usize, Duration)> {
        self.of_span(from, to, |sent| {
            sent.delivered.is_none() && !sent.is_refused
        })
    }

    /// The packets of a span that arrived, in the same form.
    pub fn arrived(
        &self,
        from: Duration,
        to: Duration,
    ) -> impl Iterator<Item = (u64, usize, usize, Duration)> {
        self.of_span(from, to, |sent| sent.delivered.is_some())
    }

    fn of_span(
        &self,
        from: Duration,
        to: Duration,
        which: impl Fn(&Sent) -> bool,
    ) -> impl Iterator<Item = (u64, usize, usize, Duration)> {
        self.packets
            .iter()
            .filter(move |(_, sent)| which(sent) && from <= sent.at && sent.at < to)
            .map(|(number, sent)| (*number, sent.from, sent.to, sent.at))
    }
}

/// An IPv4 UDP packet whose payload begins with its number.
fn packet(from: usize, to: usize, number: u64, length: usize) -> BytesMut {
    let length = length.max(8);
    let total = u16::try_from(HEADERS + length).unwrap_or(u16::MAX);
    let mut packet = BytesMut::with_capacity(HEADERS + length);
    packet.put_slice(&[0x45, 0]);
    packet.put_u16(total);
    // Not to be cut: fragments that overtake each other would be dropped.
    packet.put_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.put_slice(&ipv4(from).octets());
    packet.put_slice(&ipv4(to).octets());
    packet.put_u16(SOURCE_PORT);
    packet.put_u16(SOURCE_PORT + 1);
    packet.put_u16(total - 20);
    packet.put_u16(0);
    packet.put_u64(number);
    packet.resize(HEADERS + length, 0);
    packet
}
