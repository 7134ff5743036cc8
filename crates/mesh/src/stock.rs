//! Plain WireGuard for devices without an agent: a gateway's end of their tunnels, without IO.
//!
//! Nothing of the mesh's is in it: no hybrid handshake, no relay, no discovery. A device has a key, maybe a
//! preshared key, and the addresses that it may send from; it is answered where it was heard last, as any
//! WireGuard interface does. What its packets may reach, the device's own [`Mesh`](crate::Mesh) decides, which
//! takes them as from a TUN device and gives back what goes to the device.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use zeroize::{Zeroize, ZeroizeOnDrop};
use ztna_proto::{MachineId, WgPublicKey};

use crate::config::{BEAT, MAX_QUEUE_TIME, REST_FOR};
use crate::routing::{source, stated_length};
use crate::status::DropCounts;
use crate::tunnel::{
    Admission, Received, Tunnel, WireGuard, is_initiation, receiver_index, sender_index,
};

/// Packets that wait for a device's session, at most.
const MAX_WAITING: usize = 64;
/// Session indices of ours that a device may still use, as many as a peer of the mesh may.
const MAX_INDICES: usize = 80;

/// What a device is known by.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Device {
    /// Its WireGuard key.
    #[zeroize(skip)]
    pub key: WgPublicKey,
    /// Its preshared key. All zero: none (whitepaper §5.2).
    pub psk: [u8; 32],
    /// What it may send from.
    #[zeroize(skip)]
    pub addresses: [IpAddr; 2],
}

/// One thing to carry out.
pub enum StockOutput {
    /// Send by the UDP socket.
    Udp {
        /// Where to.
        to: SocketAddr,
        /// UDP payload.
        datagram: BytesMut,
    },
    /// An IP packet that a device sent, from an address of its own.
    Packet {
        /// The device.
        from: MachineId,
        /// The packet.
        packet: BytesMut,
    },
}

/// A WireGuard interface for devices.
pub struct Stock {
    wireguard: Box<dyn WireGuard>,
    devices: BTreeMap<MachineId, Held>,
    by_key: BTreeMap<WgPublicKey, MachineId>,
    by_index: BTreeMap<u32, MachineId>,
    outputs: VecDeque<StockOutput>,
    drops: DropCounts,
    /// When the tunnels' timers are looked at next. `None`: none is in use.
    beat: Option<Instant>,
}

struct Held {
    device: Device,
    tunnel: Box<dyn Tunnel>,
    /// Where it was heard last.
    endpoint: Option<SocketAddr>,
    waiting: VecDeque<(Instant, BytesMut)>,
    indices: VecDeque<u32>,
}

impl Stock {
    /// An interface without devices. `wireguard` holds its private key.
    #[must_use]
    pub fn new(wireguard: Box<dyn WireGuard>) -> Self {
        Self {
            wireguard,
            devices: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_index: BTreeMap::new(),
            outputs: VecDeque::new(),
            drops: DropCounts::default(),
            beat: None,
        }
    }

    /// Adds a device, or changes it: another key, preshared key too, ends its session.
    pub fn set_device(&mut self, id: MachineId, device: Device, now: Instant) {
        if let Some(held) = self.devices.get_mut(&id)
            && held.device.key == device.key
            && held.device.psk == device.psk
        {
            held.device.addresses = device.addresses;
            return;
        }
        self.remove_device(id);
        // A key that two devices claim stays with the first.
        if self.by_key.contains_key(&device.key) {
            return;
        }
        let mut tunnel = self.wireguard.tunnel(&device.key, now);
        tunnel.set_psk(&device.psk);
        self.by_key.insert(device.key, id);
        let held = Held {
            device,
            tunnel,
            endpoint: None,
            waiting: VecDeque::new(),
            indices: VecDeque::new(),
        };
        self.devices.insert(id, held);
    }

    /// Forgets a device and its session.
    pub fn remove_device(&mut self, id: MachineId) {
        let Some(held) = self.devices.remove(&id) else {
            return;
        };
        self.by_key.remove(&held.device.key);
        for index in &held.indices {
            self.by_index.remove(index);
        }
    }

    /// A datagram from the UDP socket.
    pub fn handle_udp(&mut self, from: SocketAddr, datagram: BytesMut, now: Instant) {
        let is_data = datagram.first() == Some(&4);
        let datagram = match is_data {
            true => datagram,
            false => match self.wireguard.admit(from, datagram, now) {
                Admission::Pass(datagram) => datagram,
                Admission::Reply(datagram) => {
                    self.outputs
                        .push_back(StockOutput::Udp { to: from, datagram });
                    return;
                }
                Admission::Drop => return self.drops.count("bad_wireguard"),
            },
        };
        let Some(id) = self.device_of(&datagram) else {
            return self.drops.count("unknown_wireguard");
        };
        let Some(held) = self.devices.get_mut(&id) else {
            return;
        };
        let received = {
            let mut psks = std::iter::once(&held.device.psk);
            held.tunnel.receive(datagram, &mut psks, now)
        };
        if !matches!(received, Received::Refused) {
            // Authentic: the device is where it was heard last (whitepaper §2.1).
            held.endpoint = Some(from);
            self.beat.get_or_insert(now + BEAT);
        }
        match received {
            Received::Packet(packet) => {
                self.deliver(id, packet);
                self.flush(id, now);
            }
            Received::Reply {
                datagram,
                established,
            } => {
                self.transmit(id, datagram);
                if established {
                    self.flush(id, now);
                }
            }
            Received::Nothing => {}
            Received::Refused => self.drops.count("bad_wireguard"),
        }
    }

    /// An IP packet for a device.
    pub fn handle_packet(&mut self, to: MachineId, packet: BytesMut, now: Instant) {
        let Some(held) = self.devices.get_mut(&to) else {
            return self.drops.count("no_device");
        };
        self.beat.get_or_insert(now + BEAT);
        let packet = match held.tunnel.seal(packet, now) {
            Ok(datagram) => return self.transmit(to, datagram),
            Err(packet) => packet,
        };
        // A device that was never heard cannot be called.
        if held.endpoint.is_none() {
            return self.drops.count("no_endpoint");
        }
        if held.waiting.len() == MAX_WAITING {
            held.waiting.pop_front();
            self.drops.count("queue_full");
        }
        // A copy: what waits must not hold on to the buffer that it came in.
        held.waiting.push_back((now, BytesMut::from(&packet[..])));
        if let Some(initiation) = held.tunnel.initiate(false, now) {
            self.transmit(to, initiation);
        }
    }

    /// When [`Stock::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.beat
    }

    /// Does what is due: keepalives, new handshakes, and an end of what waited for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.beat.is_none_or(|beat| beat > now) {
            return;
        }
        let mut in_use = false;
        for id in self.devices.keys().copied().collect::<Vec<_>>() {
            let Some(held) = self.devices.get_mut(&id) else {
                continue;
            };
            while held
                .waiting
                .front()
                .is_some_and(|(since, _)| now.saturating_duration_since(*since) >= MAX_QUEUE_TIME)
            {
                held.waiting.pop_front();
                self.drops.count("no_session");
            }
            let due = held.tunnel.tick(now);
            // Past that no session of its is valid (`REST_FOR`), and it needs no timer.
            let is_young = |age: Duration| age < REST_FOR;
            in_use |= held.tunnel.session_age().is_some_and(is_young) || !held.waiting.is_empty();
            if let Some(datagram) = due {
                in_use = true;
                self.transmit(id, datagram);
            }
        }
        self.beat = in_use.then(|| now + BEAT);
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<StockOutput> {
        self.outputs.pop_front()
    }

    /// Packets and datagrams that were dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> &DropCounts {
        &self.drops
    }

    fn device_of(&self, datagram: &[u8]) -> Option<MachineId> {
        if is_initiation(datagram) {
            let key = self.wireguard.initiator(datagram)?;
            return self.by_key.get(&key).copied();
        }
        self.by_index.get(&receiver_index(datagram)?).copied()
    }

    /// Passes a packet on that the device sends as itself.
    fn deliver(&mut self, id: MachineId, mut packet: BytesMut) {
        let Some(held) = self.devices.get(&id) else {
            return;
        };
        if packet.is_empty() {
            return;
        }
        let Some(length) = stated_length(&packet) else {
            return self.drops.count("malformed");
        };
        packet.truncate(length);
        if !source(&packet).is_some_and(|from| held.device.addresses.contains(&from)) {
            return self.drops.count("spoofed_source");
        }
        self.outputs
            .push_back(StockOutput::Packet { from: id, packet });
    }

    /// There is a session: what waited for it goes out.
    fn flush(&mut self, id: MachineId, now: Instant) {
        let Some(held) = self.devices.get_mut(&id) else {
            return;
        };
        let mut sealed = Vec::new();
        while let Some((since, packet)) = held.waiting.pop_front() {
            match held.tunnel.seal(packet, now) {
                Ok(datagram) => sealed.push(datagram),
                Err(packet) => {
                    held.waiting.push_front((since, packet));
                    break;
                }
            }
        }
        for datagram in sealed {
            self.transmit(id, datagram);
        }
    }

    fn transmit(&mut self, id: MachineId, datagram: BytesMut) {
        let Some(held) = self.devices.get_mut(&id) else {
            return;
        };
        if let Some(index) = sender_index(&datagram)
            && !held.indices.contains(&index)
        {
            held.indices.push_back(index);
            self.by_index.insert(index, id);
            if held.indices.len() > MAX_INDICES
                && let Some(old) = held.indices.pop_front()
            {
                self.by_index.remove(&old);
            }
        }
        match held.endpoint {
            Some(to) => self.outputs.push_back(StockOutput::Udp { to, datagram }),
            None => self.drops.count("no_endpoint"),
        }
    }
}

#[cfg(test)]
mod tests;
