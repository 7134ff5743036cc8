//! Datagrams on their way in.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;
use ztna_disco::Message;
use ztna_filter::{Direction, Verdict};
use ztna_handshake::{Psk, Source};
use ztna_path::Via;
use ztna_proto::{MachineId, RegionId, WgPublicKey};

use super::Mesh;
use crate::config::LOST_SPACING;
use crate::demux::{Kind, classify};
use crate::output::Output;
use crate::routing::{source, stated_length};
use crate::size::{self, mss};
use crate::tunnel::{Admission, Received, is_initiation, is_response, receiver_index};

/// Where a datagram came from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    Udp(SocketAddr),
    /// The relay has had the sender prove its key.
    Relay(RegionId, WgPublicKey),
}

impl Origin {
    fn via(self) -> Via {
        match self {
            Self::Udp(addr) => Via::Direct(addr),
            Self::Relay(region, _) => Via::Relay(region),
        }
    }

    /// Whether the datagram may be this key's, as far as its origin tells.
    fn may_be(self, key: &WgPublicKey) -> bool {
        match self {
            Self::Udp(_) => true,
            Self::Relay(_, sender) => sender == *key,
        }
    }

    /// The address by which WireGuard counts handshakes and makes cookies. For relayed senders one
    /// in `fd00::/8` (RFC 4193) that stands for their key.
    fn limiter_addr(self) -> SocketAddr {
        match self {
            Self::Udp(addr) => addr,
            Self::Relay(_, sender) => {
                let mut octets = [0xfd; 16];
                octets[1..].copy_from_slice(&sender.as_bytes()[..15]);
                SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)), 0)
            }
        }
    }
}

impl Mesh {
    /// A datagram from the UDP socket. STUN is not for the mesh.
    pub fn handle_udp(&mut self, from: SocketAddr, datagram: BytesMut, now: Instant) {
        self.handle_datagram(Origin::Udp(from), datagram, now);
    }

    /// A packet from a relay.
    pub fn handle_relay(
        &mut self,
        region: RegionId,
        from: WgPublicKey,
        datagram: BytesMut,
        now: Instant,
    ) {
        self.handle_datagram(Origin::Relay(region, from), datagram, now);
    }

    fn handle_datagram(&mut self, origin: Origin, datagram: BytesMut, now: Instant) {
        if let Origin::Relay(_, sender) = origin
            && !self.by_key.contains_key(&sender)
        {
            return self.drops.count("unknown_relay_sender");
        }
        match classify(&datagram) {
            Kind::WireGuard => self.handle_wireguard(origin, datagram, now),
            Kind::Disco => self.handle_disco(origin, &datagram, now),
            Kind::Handshake => {
                let source = match origin {
                    Origin::Udp(addr) => Source::Direct(addr),
                    Origin::Relay(region, peer) => Source::Relay { region, peer },
                };
                self.handshakes.handle(source, &datagram, now);
                self.drain_handshakes(now);
            }
            Kind::Stun | Kind::Unknown => self.drops.count("unknown_datagram"),
        }
    }

    fn handle_disco(&mut self, origin: Origin, datagram: &[u8], now: Instant) {
        let sender = ztna_disco::sender(datagram);
        let Some(claimants) = sender.and_then(|key| self.by_disco.get(&key)).cloned() else {
            self.drops.count("unknown_disco_key");
            return;
        };
        let Ok((_, message)) = self.keyring.open(datagram) else {
            self.drops.count("bad_disco");
            return;
        };
        // Who tells another's discovery key cannot seal under it, and must not get what the other
        // has sealed: so the message goes to whom its contents fit.
        let mut taken = false;
        for id in claimants {
            taken |= self.take_disco(id, origin, &message, now);
        }
        if !taken {
            self.drops.count("bad_disco");
        }
    }

    /// Gives a discovery message to a peer's path, if it can be that peer's. Says whether it can.
    fn take_disco(
        &mut self,
        id: MachineId,
        origin: Origin,
        message: &Message,
        now: Instant,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        if !origin.may_be(&peer.record.wg_key) {
            return false;
        }
        match (message, origin) {
            (Message::Ping { tx, wg_key, .. }, _) if *wg_key == peer.record.wg_key => {
                peer.path.handle_ping(*tx, origin.via(), now);
            }
            // Its transaction says which ping it answers, and so to whom.
            (Message::Pong { tx, .. }, _) => peer.path.handle_pong(*tx, origin.via(), now),
            // Only by relay: there the sender has proved its WireGuard key.
            (Message::CallMeMaybe { endpoints }, Origin::Relay(..)) => {
                peer.path.handle_call_me_maybe(endpoints, now);
            }
            (Message::Ping { .. } | Message::CallMeMaybe { .. }, _) => return false,
        }
        self.drain_path(id, now);
        true
    }

    fn handle_wireguard(&mut self, origin: Origin, datagram: BytesMut, now: Instant) {
        let is_data = datagram.first() == Some(&4);
        let datagram = if is_data {
            datagram
        } else {
            match self.wireguard.admit(origin.limiter_addr(), datagram, now) {
                Admission::Pass(datagram) => datagram,
                Admission::Reply(cookie) => return self.reply(origin, cookie),
                Admission::Drop => return self.drops.count("bad_wireguard"),
            }
        };
        let Some(id) = self.wireguard_peer(&datagram) else {
            self.drops.count("unknown_wireguard");
            return self.session_lost(origin, now);
        };
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if !origin.may_be(&peer.record.wg_key) {
            self.drops.count("wrong_relay_sender");
            return;
        }
        if peer.psk.installed().is_none() {
            // The peer speaks of a session, and this end has forgotten all: it began anew. Whatever
            // WireGuard agreed on now would be under a key that nobody else knows.
            peer.drops.count("no_psk");
            self.handshakes.want_epoch(&peer.record.wg_key, now);
            self.drain_handshakes(now);
            return;
        }
        // A response may be under the key that its sender installed and that we wait to have
        // confirmed.
        let pending = is_response(&datagram)
            .then(|| self.handshakes.pending_psk(&peer.record.wg_key))
            .flatten();
        let received = {
            let mut psks = peer.psk.candidates().chain(pending.iter().map(Psk::expose));
            peer.tunnel.receive(datagram, &mut psks, now)
        };
        match &received {
            Received::Refused => {}
            Received::Packet(packet) if !packet.is_empty() => {
                peer.path.data_received(origin.via(), now);
            }
            _ => peer.path.heard(origin.via(), now),
        }
        match received {
            Received::Packet(packet) => {
                peer.touch(now);
                if !packet.is_empty() {
                    self.handshakes.want_epoch(&peer.record.wg_key, now);
                    let is_direct = matches!(origin, Origin::Udp(_));
                    self.deliver(id, packet, is_direct, now);
                }
                // Data proves that the initiator has the session, so this end may use it as well.
                self.flush(id, now);
            }
            Received::Reply {
                datagram,
                established,
            } => {
                peer.touch(now);
                if established {
                    peer.handshake_over();
                }
                self.transmit_or_return(id, datagram, Some(origin), now);
                if established {
                    self.flush(id, now);
                }
            }
            Received::Nothing => {}
            Received::Refused => peer.drops.count("bad_wireguard"),
        }
        self.drain_handshakes(now);
        self.drain_path(id, now);
    }

    /// A peer sends under a session that this end does not have, as after a restart: a new epoch is
    /// begun at once, unless the one that is held is fresh. The relay names the sender. Of direct
    /// datagrams the address tells, whoever claims it; not for each datagram, since anybody can send
    /// such.
    fn session_lost(&mut self, origin: Origin, now: Instant) {
        let addr = match origin {
            Origin::Relay(_, key) => {
                self.handshakes.want_epoch(&key, now);
                return self.drain_handshakes(now);
            }
            Origin::Udp(addr) => addr,
        };
        let is_too_soon = self
            .looked_for_lost
            .is_some_and(|at| now.duration_since(at) < LOST_SPACING);
        if is_too_soon {
            return;
        }
        self.looked_for_lost = Some(now);
        for id in self.by_address.peers(addr) {
            if let Some(peer) = self.peers.get(&id) {
                self.handshakes.want_epoch(&peer.record.wg_key, now);
            }
        }
        self.drain_handshakes(now);
    }

    fn wireguard_peer(&self, datagram: &[u8]) -> Option<MachineId> {
        if is_initiation(datagram) {
            let key = self.wireguard.initiator(datagram)?;
            self.by_key.get(&key).copied()
        } else {
            self.by_index.get(&receiver_index(datagram)?).copied()
        }
    }

    pub(super) fn reply(&mut self, origin: Origin, datagram: BytesMut) {
        self.outputs.push_back(match origin {
            Origin::Udp(to) => Output::Udp {
                to,
                peer: None,
                datagram,
            },
            Origin::Relay(region, peer) => Output::Relay {
                region,
                peer,
                datagram,
            },
        });
    }

    /// Gives an opened packet to the TUN device, if the filter lets it through.
    fn deliver(&mut self, id: MachineId, mut packet: BytesMut, is_direct: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(length) = stated_length(&packet) else {
            peer.drops.count("malformed");
            return;
        };
        packet.truncate(length);
        // A route, even one to everywhere, does not let a peer speak for another machine.
        let is_spoofed = source(&packet).is_some_and(|addr| {
            self.own_addresses.contains(&addr)
                || self.routes.host(addr).is_some_and(|owner| owner != id)
        });
        if is_spoofed {
            peer.drops.count("spoofed_source");
            return;
        }
        match self.filter.check(Direction::Inbound, id, &packet, now) {
            Verdict::Allow => {
                peer.rx_bytes += length as u64;
                let traffic = self.totals.by(is_direct);
                traffic.received_packets += 1;
                traffic.received_bytes += length as u64;
                mss::clamp(&mut packet, size::for_tcp(peer.path.mtu().as_ref()));
                self.outputs.push_back(Output::Tun(packet));
            }
            Verdict::Drop(reason) => peer.drops.count_filter(&reason),
        }
    }
}
