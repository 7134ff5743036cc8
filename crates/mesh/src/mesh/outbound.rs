//! Packets on their way out, and everything else that a mesh sends.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use ztna_disco::{Message, PING_LEN};
use ztna_filter::{Direction, Verdict};
use ztna_handshake::{Destination, Output as HandshakeOutput, Role, Source, fragments};
use ztna_path::{Output as PathOutput, Selected, Via, mtu};
use ztna_proto::{MachineId, RegionId, WgPublicKey};

use super::Mesh;
use super::inbound::Origin;
use crate::config::SourceFilter;
use crate::output::{Event, Output};
use crate::psk::Installed;
use crate::routing::destination;
use crate::size::{self, mss};
use crate::tunnel::{is_initiation, sender_index};

impl Mesh {
    /// An IP packet from the TUN device.
    pub fn handle_tun(&mut self, mut packet: BytesMut, now: Instant) {
        let Some(id) = destination(&packet).and_then(|addr| self.routes.lookup(addr)) else {
            self.drops.count("no_peer");
            return;
        };
        if self.source_filter == SourceFilter::On
            && let Verdict::Drop(reason) = self.filter.check(Direction::Outbound, id, &packet, now)
        {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.drops.count_filter(&reason);
            }
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.path.data_sent(now);
        self.handshakes.want_epoch(&peer.record.wg_key, now);
        mss::clamp(&mut packet, size::for_tcp(peer.path.mtu().as_ref()));
        self.drain_handshakes(now);
        self.seal_fitting(id, packet, now);
        self.drain_path(id, now);
    }

    /// Seals a packet and sends it, or keeps it and sees to it that there will be a session.
    pub(super) fn seal(&mut self, id: MachineId, packet: BytesMut, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let length = packet.len() as u64;
        if peer.psk.installed().is_none() {
            peer.enqueue(&packet, now);
            return;
        }
        match peer.tunnel.seal(packet, now) {
            Ok(datagram) => {
                peer.tx_bytes += length;
                let is_direct = matches!(peer.path.selected(), Selected::Direct { .. });
                let traffic = self.totals.by(is_direct);
                traffic.sent_packets += 1;
                traffic.sent_bytes += length;
                peer.touch(now);
                self.transmit(id, datagram, now);
            }
            Err(packet) => {
                peer.enqueue(&packet, now);
                self.initiate(id, false, now);
            }
        }
    }

    /// Begins a WireGuard handshake.
    fn initiate(&mut self, id: MachineId, force: bool, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let Some(initiation) = peer.tunnel.initiate(force, now) else {
            return;
        };
        self.transmit(id, initiation, now);
    }

    /// There is a session: what waited for it goes out.
    pub(super) fn flush(&mut self, id: MachineId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        for (_, packet) in peer.take_queue() {
            self.seal(id, packet, now);
        }
    }

    /// Sends a WireGuard datagram the way that the peer's path says.
    pub(super) fn transmit(&mut self, id: MachineId, datagram: BytesMut, now: Instant) {
        self.transmit_or_return(id, datagram, None, now);
    }

    /// The same; while the path knows no way, back to where what this answers came from. The peer may
    /// have found us before we hear where it is, and would begin anew only after 5 s.
    pub(super) fn transmit_or_return(
        &mut self,
        id: MachineId,
        datagram: BytesMut,
        origin: Option<Origin>,
        now: Instant,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if is_initiation(&datagram) {
            peer.handshake_sent(now);
        }
        if let Some(index) = sender_index(&datagram) {
            if let Some(displaced) = peer.remember_index(index) {
                self.by_index.remove(&displaced);
            }
            self.by_index.insert(index, id);
        }
        let route = peer.path.route(now);
        let key = peer.record.wg_key;
        if let (Some(to), Some(mtu)) = (route.direct, peer.path.mtu())
            && datagram.len() > mtu.payload()
        {
            return self.detour(id, to, datagram);
        }
        match (route.direct, route.relay) {
            (Some(to), None) => self.outputs.push_back(Output::Udp {
                to,
                peer: Some(id),
                datagram,
            }),
            (None, Some(region)) => {
                self.outputs.push_back(Output::Relay {
                    region,
                    peer: key,
                    datagram,
                });
            }
            (Some(to), Some(region)) => {
                let copy = datagram.clone();
                self.outputs.push_back(Output::Udp {
                    to,
                    peer: Some(id),
                    datagram,
                });
                self.outputs.push_back(Output::Relay {
                    region,
                    peer: key,
                    datagram: copy,
                });
            }
            (None, None) => match origin {
                Some(origin) => self.reply(origin, datagram),
                None => peer.drops.count("no_path"),
            },
        }
    }

    /// Carries out what a peer's path wants, and sees to its next timer.
    pub(super) fn drain_path(&mut self, id: MachineId, now: Instant) {
        while let Some(output) = self
            .peers
            .get_mut(&id)
            .and_then(|peer| peer.path.poll_output())
        {
            match output {
                PathOutput::Ping { to, tx } => {
                    let wg_key = self.wg_key;
                    self.send_disco(
                        id,
                        to,
                        &Message::Ping {
                            tx,
                            wg_key,
                            padding: 0,
                        },
                    );
                }
                PathOutput::PingLan { tx } => {
                    let wg_key = self.wg_key;
                    let ping = Message::Ping {
                        tx,
                        wg_key,
                        padding: 0,
                    };
                    if let Some(sealed) = self.seal_disco(id, &ping) {
                        self.outputs
                            .push_back(Output::Lan(BytesMut::from(&sealed[..])));
                    }
                }
                PathOutput::Probe { to, tx, size } => {
                    let probe = Message::Ping {
                        tx,
                        wg_key: self.wg_key,
                        padding: mtu::payload(size, &to).saturating_sub(PING_LEN),
                    };
                    self.send_disco(id, Via::Direct(to), &probe);
                }
                PathOutput::Pong { to, tx, observed } => {
                    self.send_disco(id, to, &Message::Pong { tx, observed });
                }
                PathOutput::CallMeMaybe => {
                    let relay = self
                        .peers
                        .get(&id)
                        .and_then(|peer| peer.path.route(now).relay);
                    let home = self.peers.get(&id).and_then(|peer| peer.path.relay());
                    if let Some(region) = relay.or(home) {
                        let endpoints = self.endpoints.clone();
                        self.send_disco(
                            id,
                            Via::Relay(region),
                            &Message::CallMeMaybe { endpoints },
                        );
                    }
                }
                PathOutput::Changed(selected) => {
                    self.outputs
                        .push_back(Output::Event(Event::Path { peer: id, selected }));
                }
            }
        }
        self.reschedule(id);
    }

    /// Seals a discovery message for a peer, if its key is known and is one.
    fn seal_disco(&mut self, id: MachineId, message: &Message) -> Option<Vec<u8>> {
        let peer = self.peers.get_mut(&id)?;
        let Some(disco_key) = peer.disco_key else {
            peer.drops.count("no_disco_key");
            return None;
        };
        let sealed = self.keyring.seal(&disco_key, message, &mut *self.rng);
        if sealed.is_none() {
            peer.drops.count("bad_disco_key");
        }
        sealed
    }

    fn send_disco(&mut self, id: MachineId, to: Via, message: &Message) {
        let Some(sealed) = self.seal_disco(id, message) else {
            return;
        };
        let Some(key) = self.peers.get(&id).map(|peer| peer.record.wg_key) else {
            return;
        };
        match to {
            Via::Direct(to) => self.push_udp(to, Some(id), &sealed),
            Via::Relay(region) => self.push_relay(region, key, &sealed),
        }
    }

    fn push_udp(&mut self, to: SocketAddr, peer: Option<MachineId>, bytes: &[u8]) {
        let datagram = BytesMut::from(bytes);
        self.outputs.push_back(Output::Udp { to, peer, datagram });
    }

    fn push_relay(&mut self, region: RegionId, peer: WgPublicKey, bytes: &[u8]) {
        let datagram = BytesMut::from(bytes);
        self.outputs.push_back(Output::Relay {
            region,
            peer,
            datagram,
        });
    }

    /// Carries out what the hybrid handshakes want.
    pub(super) fn drain_handshakes(&mut self, now: Instant) {
        while let Some(output) = self.handshakes.poll_output() {
            match output {
                HandshakeOutput::Send { to, bytes } => self.send_handshake(to, &bytes, now),
                HandshakeOutput::NeedKemKey { hash, .. } => {
                    self.outputs.push_back(Output::NeedKemKey(hash));
                }
                HandshakeOutput::Install {
                    peer,
                    epoch,
                    psk,
                    role,
                    full,
                } => {
                    let Some(id) = self.by_key.get(&peer).copied() else {
                        continue;
                    };
                    let installed = Installed {
                        epoch,
                        psk,
                        since: now,
                        full,
                    };
                    self.install_psk(id, installed, role, now);
                }
                HandshakeOutput::Expired { peer } => {
                    let Some(id) = self.by_key.get(&peer).copied() else {
                        continue;
                    };
                    self.end_session(id);
                }
            }
        }
    }

    /// The peer's preshared key holds no more, and no session made under it.
    pub(super) fn end_session(&mut self, id: MachineId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.psk.installed().is_none() {
            return;
        }
        peer.psk.erase();
        peer.tunnel.reset();
        peer.erased();
        self.outputs
            .push_back(Output::Event(Event::PskExpired { peer: id }));
    }

    fn install_psk(&mut self, id: MachineId, installed: Installed, role: Role, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let epoch = installed.epoch;
        peer.tunnel.set_psk(installed.psk.expose());
        peer.psk.install(installed);
        self.totals.epochs += 1;
        peer.touch(now);
        self.outputs
            .push_back(Output::Event(Event::Psk { peer: id, epoch }));
        // The responder answers with the new key already, so the initiator's handshake moves both
        // ends to it; the session before stays until it is done.
        if role == Role::Initiator {
            self.initiate(id, true, now);
        }
        self.reschedule(id);
    }

    /// Handshake messages go back the way they came. Those that this end begins go by a proven direct
    /// path if they fit one datagram, else by relay, else in fragments.
    fn send_handshake(&mut self, to: Destination, bytes: &[u8], now: Instant) {
        match to {
            Destination::Reply(Source::Direct(addr)) => self.send_fragments(addr, None, bytes),
            Destination::Reply(Source::Relay { region, peer }) => {
                self.push_relay(region, peer, bytes);
            }
            Destination::Peer(key) => {
                let Some(id) = self.by_key.get(&key).copied() else {
                    return;
                };
                let Some(peer) = self.peers.get(&id) else {
                    return;
                };
                let route = peer.path.route(now);
                let relay = route.relay.or(peer.path.relay());
                match (route.direct, relay) {
                    (Some(addr), _)
                        if route.relay.is_none()
                            && fragments(bytes).len() == 1
                            && (relay.is_none() || self.passes_whole(&addr, bytes.len())) =>
                    {
                        self.send_fragments(addr, Some(id), bytes);
                    }
                    (_, Some(region)) => self.push_relay(region, key, bytes),
                    (Some(addr), None) => self.send_fragments(addr, Some(id), bytes),
                    (None, None) => {}
                }
            }
        }
    }

    fn send_fragments(&mut self, to: SocketAddr, peer: Option<MachineId>, bytes: &[u8]) {
        for fragment in fragments(bytes) {
            if self.passes_whole(&to, fragment.len()) {
                self.push_udp(to, peer, &fragment);
            } else {
                let datagram = BytesMut::from(fragment.as_slice());
                self.outputs.push_back(Output::Oversize {
                    to,
                    relay: None,
                    datagram,
                });
            }
        }
    }
}
