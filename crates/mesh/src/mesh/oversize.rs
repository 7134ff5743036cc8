//! Packets that are larger than their path.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ztna_filter::packet::{parse, protocol};
use ztna_path::{Budget, PathMtu, mtu};
use ztna_proto::MachineId;

use super::Mesh;
use crate::output::Output;
use crate::size::{self, IPV6_MIN, fragment, icmp};

/// Room behind a packet that is cut here, for WireGuard's padding.
const PADDING_ROOM: usize = 16;

/// Senders are told this often in the long run (RFC 4443 §2.4 f asks for a limit): one that is not told
/// at once is told at its next packet.
const TELLINGS_PER_SECOND: u32 = 200;

/// The fragments of one packet leave within this.
const DETOUR_LASTS: Duration = Duration::from_secs(1);

/// Senders that may be told at once.
const TELLINGS_AT_ONCE: u32 = 100;

impl Mesh {
    /// Seals a packet that its path carries; does what is to be done with another.
    pub(super) fn seal_fitting(&mut self, id: MachineId, packet: BytesMut, now: Instant) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        match peer.path.mtu() {
            Some(mtu) if packet.len() > size::inner(&mtu) => {
                self.seal_oversize(id, packet, &mtu, now);
            }
            Some(mtu) if peer.detoured.is_some() => self.seal_rest(id, packet, &mtu, now),
            _ => self.seal(id, packet, now),
        }
    }

    /// As long as the search for the path's size goes on, nobody is told: kernels remember what they are
    /// told for ten minutes. Such packets make a [`Mesh::detour`]. So does what must get through whatever
    /// its sender is told: TCP segments that are already on their way, fragments, and what IPv6 does not
    /// let anybody make smaller. Others are dropped, since by losing large packets some senders
    /// find out what passes (RFC 8899).
    fn seal_oversize(&mut self, id: MachineId, packet: BytesMut, mtu: &PathMtu, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let limit = size::inner(mtu);
        let tells = mtu.is_settled && peer.path.route(now).relay.is_none();
        if tells && let Some(pieces) = fragment::cut(&packet, limit, PADDING_ROOM) {
            for piece in pieces {
                self.seal(id, piece, now);
            }
            return;
        }
        // The filter has let it pass, unless it was not asked.
        let Ok(parsed) = parse(&packet) else { return };
        if let Some(fragment) = parsed.fragment {
            peer.detoured = fragment.more.then_some((fragment.id, now));
        }
        let is_v6 = parsed.src.is_ipv6();
        if !tells || is_v6 && packet.len() <= IPV6_MIN {
            return self.seal(id, packet, now);
        }
        let (from, limit) = if is_v6 {
            (IpAddr::V6(peer.record.ipv6), limit.max(IPV6_MIN))
        } else {
            (IpAddr::V4(peer.record.ipv4), limit)
        };
        let tellings = self
            .tellings
            .get_or_insert_with(|| Budget::new(TELLINGS_PER_SECOND, TELLINGS_AT_ONCE, now));
        if tellings.take(now)
            && let Some(told) = icmp::too_big(&packet, &parsed, limit, from)
        {
            self.outputs.push_back(Output::Tun(told));
        }
        let must_pass = parsed.protocol == protocol::TCP || parsed.fragment.is_some();
        if must_pass {
            self.seal(id, packet, now);
        } else if let Some(peer) = self.peers.get_mut(&id) {
            peer.drops.count("too_big");
        }
    }

    /// A fragment follows those of its packet that were too large, though it is not: the receiver's filter
    /// knows it only after the first one. It is padded to be too large as well; the padding ends with the
    /// tunnel.
    fn seal_rest(&mut self, id: MachineId, mut packet: BytesMut, mtu: &PathMtu, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let fragment = parse(&packet).ok().and_then(|parsed| parsed.fragment);
        if let (Some((detoured, since)), Some(fragment)) = (peer.detoured, fragment)
            && detoured == fragment.id
        {
            packet.resize(size::inner(mtu) + 1, 0);
            peer.detoured = fragment.more.then_some((detoured, since));
        }
        peer.detoured
            .take_if(|(_, since)| now.duration_since(*since) >= DETOUR_LASTS);
        self.seal(id, packet, now);
    }

    /// Sends a datagram that the direct path does not carry whole another way.
    pub(super) fn detour(&mut self, id: MachineId, to: SocketAddr, datagram: BytesMut) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let key = peer.record.wg_key;
        let relay = peer.path.relay().map(|region| (region, key));
        self.outputs.push_back(Output::Oversize {
            to,
            relay,
            datagram,
        });
    }

    /// This machine's own network does not take datagrams to this address with so much payload.
    pub fn send_too_big(&mut self, peer: MachineId, to: SocketAddr, payload: usize, now: Instant) {
        let id = peer;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.path.send_too_big(to, payload, now);
        self.drain_path(id, now);
    }

    /// Whether a datagram to this address passes in one piece, as far as is known.
    pub(super) fn passes_whole(&self, to: &SocketAddr, payload: usize) -> bool {
        if payload <= mtu::payload(mtu::BASE_MTU, to) {
            return true;
        }
        let peers = self.by_address.peers(*to);
        let known = peers.filter_map(|id| self.peers.get(&id)?.path.mtu());
        let known = known.filter(|mtu| mtu.to == *to).map(|mtu| mtu.payload());
        // Of a path that is not in use nothing is known: ordinary ones carry it.
        known.max().is_none_or(|most| payload <= most)
    }
}
