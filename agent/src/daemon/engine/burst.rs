//! Datagrams to one address, gathered for one system call.

use std::net::SocketAddr;

use bytes::BytesMut;
use quinn_udp::Transmit;
use ztna_proto::MachineId;

/// Largest UDP payload, and so the most that segmentation offload takes at once (RFC 768).
pub const MAX_BURST: usize = 65_507;

/// Bursts back that are looked through for one to the same address.
const OPEN_BURSTS: usize = 8;

/// Bursts whose memory is kept between calls.
const SPARE: usize = 8;

/// Bursts that are to leave, in their order.
#[derive(Default)]
pub struct Bursts {
    bursts: Vec<Burst>,
    /// Memory of earlier bursts, each of [`MAX_BURST`] bytes.
    spare: Vec<BytesMut>,
}

/// Datagrams to one address that leave in one system call: all of one size, the last maybe shorter.
pub struct Burst {
    pub to: SocketAddr,
    /// Whom for, if that is known.
    pub peer: Option<MachineId>,
    segment: usize,
    contents: BytesMut,
    count: usize,
}

impl Bursts {
    /// Adds a datagram to the newest burst to its address, or to a new one. No burst holds more than
    /// `max`.
    pub fn push(
        &mut self,
        to: SocketAddr,
        peer: Option<MachineId>,
        datagram: BytesMut,
        max: usize,
    ) {
        let mut open = self.bursts.iter_mut().rev().take(OPEN_BURSTS);
        let newest = open.find(|burst| burst.to == to && burst.peer == peer);
        match newest.filter(|burst| burst.takes(datagram.len(), max)) {
            Some(burst) => {
                if burst.count == 1 {
                    let spare = self.spare.pop();
                    let room = spare.unwrap_or_else(|| BytesMut::with_capacity(MAX_BURST));
                    let first = std::mem::replace(&mut burst.contents, room);
                    burst.contents.extend_from_slice(&first);
                }
                burst.contents.extend_from_slice(&datagram);
                burst.count += 1;
            }
            None => self.bursts.push(Burst {
                to,
                peer,
                segment: datagram.len(),
                contents: datagram,
                count: 1,
            }),
        }
    }

    /// Takes all bursts out.
    pub fn take(&mut self) -> Vec<Burst> {
        std::mem::take(&mut self.bursts)
    }

    /// Gives bursts back that have left, for their memory.
    pub fn reuse(&mut self, mut bursts: Vec<Burst>) {
        for burst in bursts.drain(..) {
            if burst.count > 1 && self.spare.len() < SPARE {
                let mut memory = burst.contents;
                memory.clear();
                self.spare.push(memory);
            }
        }
        if self.bursts.is_empty() {
            self.bursts = bursts;
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bursts.is_empty()
    }
}

impl Burst {
    /// A burst of one.
    pub fn one(to: SocketAddr, datagram: BytesMut) -> Self {
        Self {
            to,
            peer: None,
            segment: datagram.len(),
            contents: datagram,
            count: 1,
        }
    }

    /// A burst of these, whatever their size.
    #[cfg(test)]
    pub fn of(to: SocketAddr, datagrams: &[&[u8]]) -> Self {
        Self {
            to,
            peer: None,
            segment: datagrams[0].len(),
            contents: BytesMut::from(&datagrams.concat()[..]),
            count: datagrams.len(),
        }
    }

    fn takes(&self, length: usize, max: usize) -> bool {
        let is_closed = self.contents.len() != self.segment * self.count;
        !is_closed
            && self.count < max
            && length <= self.segment
            && self.contents.len() + length <= MAX_BURST
    }

    /// Payload of the largest datagram, in bytes.
    pub fn largest(&self) -> usize {
        self.segment
    }

    /// Datagrams in it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The whole burst.
    pub fn transmit(&self) -> Transmit<'_> {
        self.part(&self.contents, (self.count > 1).then_some(self.segment))
    }

    /// One datagram after another.
    pub fn transmits(&self) -> impl Iterator<Item = Transmit<'_>> {
        let datagrams = self.contents.chunks(self.segment.max(1));
        datagrams.map(|datagram| self.part(datagram, None))
    }

    fn part<'a>(&self, contents: &'a [u8], segment_size: Option<usize>) -> Transmit<'a> {
        Transmit {
            destination: self.to,
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn lengths(bursts: &mut Bursts) -> Vec<(usize, usize)> {
        let taken = bursts.take();
        let lengths = taken
            .iter()
            .map(|burst| (burst.count, burst.contents.len()));
        let lengths = lengths.collect();
        bursts.reuse(taken);
        lengths
    }

    #[test]
    fn a_burst_takes_equal_datagrams_and_a_shorter_last_one() {
        let (a, b) = (addr("192.0.2.1:1"), addr("192.0.2.2:1"));
        let mut bursts = Bursts::default();
        // Another address between; a longer one; nothing follows a shorter one.
        for (to, length) in [(a, 100), (b, 60), (a, 100), (a, 40), (a, 40), (a, 41)] {
            bursts.push(to, None, BytesMut::zeroed(length), 64);
        }
        assert_eq!(lengths(&mut bursts), [(3, 240), (1, 60), (1, 40), (1, 41)]);
        assert!(bursts.is_empty());
    }

    #[test]
    fn a_burst_is_bounded_in_count_and_length() {
        let to = addr("192.0.2.1:1");
        let mut bursts = Bursts::default();
        for (length, expected) in [
            (1400, [(46, 64_400), (46, 64_400)]),
            (100, [(64, 6_400), (28, 2_800)]),
        ] {
            for _ in 0..92 {
                bursts.push(to, None, BytesMut::zeroed(length), 64);
            }
            assert_eq!(lengths(&mut bursts), expected);
        }
    }
}
