use super::*;

use crate::wireguard::Gotatun;
use ztna_proto::WgPrivateKey;

const PHONE: [u8; 32] = [1; 32];
const GATEWAY: [u8; 32] = [2; 32];

/// A device, as any WireGuard is one: a tunnel, and where it sends from.
struct Phone {
    tunnel: Box<dyn Tunnel>,
    psk: [u8; 32],
    at: SocketAddr,
}

impl Phone {
    fn new(psk: [u8; 32]) -> Self {
        let gateway = WgPrivateKey::from_bytes(GATEWAY).public();
        let mut tunnel =
            Gotatun::new(&WgPrivateKey::from_bytes(PHONE)).tunnel(&gateway, Instant::now());
        tunnel.set_psk(&psk);
        Self {
            tunnel,
            psk,
            at: at(1),
        }
    }

    /// Shakes hands; whether a session came of it.
    fn connect(&mut self, gateway: &mut Stock) -> bool {
        let initiation = self.tunnel.initiate(true, Instant::now()).unwrap();
        gateway.handle_udp(self.at, initiation, Instant::now());
        self.take(gateway);
        self.tunnel.session_age().is_some()
    }

    fn send(&mut self, gateway: &mut Stock, packet: &[u8]) {
        let sealed = self
            .tunnel
            .seal(BytesMut::from(packet), Instant::now())
            .unwrap();
        gateway.handle_udp(self.at, sealed, Instant::now());
    }

    /// Takes what the gateway sends to it, and gives the packets in it.
    fn take(&mut self, gateway: &mut Stock) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while let Some(output) = gateway.outputs.pop_front() {
            let StockOutput::Udp { to, datagram } = output else {
                panic!("a packet, and none was sent");
            };
            assert_eq!(to, self.at);
            let mut psks = std::iter::once(&self.psk);
            match self.tunnel.receive(datagram, &mut psks, Instant::now()) {
                Received::Packet(packet) => packets.push(packet.to_vec()),
                Received::Reply { datagram, .. } => {
                    gateway.handle_udp(self.at, datagram, Instant::now());
                }
                _ => {}
            }
        }
        packets
    }
}

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 40000))
}

fn id(n: u8) -> MachineId {
    MachineId::from_bytes([n; 16])
}

fn device(psk: [u8; 32]) -> Device {
    Device {
        key: WgPrivateKey::from_bytes(PHONE).public(),
        psk,
        addresses: ["100.64.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
    }
}

fn gateway(psk: [u8; 32]) -> Stock {
    let key = WgPrivateKey::from_bytes(GATEWAY);
    let mut gateway = Stock::new(Gotatun::boxed(&key));
    gateway.set_device(id(1), device(psk), Instant::now());
    gateway
}

/// An IPv4 packet of 20 bytes.
fn packet(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[3] = 20;
    packet[12..16].copy_from_slice(&from);
    packet[16..20].copy_from_slice(&to);
    packet
}

const OWN: [u8; 4] = [100, 64, 0, 9];
const OTHER: [u8; 4] = [100, 64, 0, 2];

fn delivered(gateway: &mut Stock) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    while let Some(output) = gateway.poll_output() {
        if let StockOutput::Packet { from, packet } = output {
            assert_eq!(from, id(1));
            packets.push(packet.to_vec());
        }
    }
    packets
}

fn dropped(gateway: &Stock, reason: &str) -> u64 {
    let found = gateway.drops().iter().find(|(name, _)| *name == reason);
    found.map_or(0, |(_, count)| count)
}

#[test]
fn packets_go_both_ways_with_and_without_a_preshared_key() {
    for psk in [[0; 32], [7; 32]] {
        let (mut gateway, mut phone) = (gateway(psk), Phone::new(psk));
        assert!(phone.connect(&mut gateway));
        phone.send(&mut gateway, &packet(OWN, OTHER));
        assert_eq!(delivered(&mut gateway), [packet(OWN, OTHER)]);
        let back = packet(OTHER, OWN);
        gateway.handle_packet(id(1), BytesMut::from(&back[..]), Instant::now());
        let got = phone.take(&mut gateway);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0][..20], back);
    }
}

#[test]
fn another_preshared_key_makes_no_session() {
    let mut gateway = gateway([7; 32]);
    assert!(!Phone::new([0; 32]).connect(&mut gateway));
    assert!(!Phone::new([8; 32]).connect(&mut gateway));
}

#[test]
fn what_comes_from_another_address_is_dropped() {
    let (mut gateway, mut phone) = (gateway([0; 32]), Phone::new([0; 32]));
    assert!(phone.connect(&mut gateway));
    for from in [OTHER, [10, 0, 0, 1], [100, 64, 0, 10]] {
        phone.send(&mut gateway, &packet(from, OTHER));
    }
    phone.send(&mut gateway, &[0x45; 8]);
    assert!(delivered(&mut gateway).is_empty());
    assert_eq!(dropped(&gateway, "spoofed_source"), 3);
    assert_eq!(dropped(&gateway, "malformed"), 1);
}

#[test]
fn a_device_is_answered_where_it_was_heard_last() {
    let (mut gateway, mut phone) = (gateway([0; 32]), Phone::new([0; 32]));
    assert!(phone.connect(&mut gateway));
    phone.at = at(2);
    phone.send(&mut gateway, &packet(OWN, OTHER));
    assert_eq!(delivered(&mut gateway).len(), 1);
    // Who only repeats what it heard, from elsewhere, is not followed.
    let sealed = phone
        .tunnel
        .seal(BytesMut::from(&packet(OWN, OTHER)[..]), Instant::now())
        .unwrap();
    gateway.handle_udp(phone.at, sealed.clone(), Instant::now());
    gateway.handle_udp(at(66), sealed, Instant::now());
    assert_eq!(delivered(&mut gateway).len(), 1);
    gateway.handle_packet(
        id(1),
        BytesMut::from(&packet(OTHER, OWN)[..]),
        Instant::now(),
    );
    assert_eq!(phone.take(&mut gateway).len(), 1);
}

#[test]
fn a_device_that_goes_or_gets_another_key_has_no_session_any_more() {
    let now = Instant::now();
    let (mut gateway, mut phone) = (gateway([0; 32]), Phone::new([0; 32]));
    assert!(phone.connect(&mut gateway));
    // The same again changes nothing.
    gateway.set_device(id(1), device([0; 32]), now);
    phone.send(&mut gateway, &packet(OWN, OTHER));
    assert_eq!(delivered(&mut gateway).len(), 1);
    gateway.set_device(id(1), device([9; 32]), now);
    phone.send(&mut gateway, &packet(OWN, OTHER));
    gateway.remove_device(id(1));
    phone.send(&mut gateway, &packet(OWN, OTHER));
    assert!(delivered(&mut gateway).is_empty());
    assert_eq!(dropped(&gateway, "unknown_wireguard"), 2);
    assert!(gateway.by_index.is_empty() && gateway.by_key.is_empty());
    let mut again = Phone::new([0; 32]);
    assert!(!again.connect(&mut gateway), "it is nobody any more");
}

#[test]
fn a_device_that_is_known_and_asleep_is_called_and_one_never_heard_is_not() {
    let (mut gateway, mut phone) = (gateway([0; 32]), Phone::new([0; 32]));
    let to_phone = || BytesMut::from(&packet(OTHER, OWN)[..]);
    gateway.handle_packet(id(1), to_phone(), Instant::now());
    assert!(gateway.poll_output().is_none());
    assert_eq!(dropped(&gateway, "no_endpoint"), 1);
    assert!(phone.connect(&mut gateway));
    // The gateway forgets its sessions, as after 180 s of silence.
    let held = gateway.devices.get_mut(&id(1)).unwrap();
    held.tunnel.reset();
    held.tunnel.set_psk(&[0; 32]);
    gateway.handle_packet(id(1), to_phone(), Instant::now());
    let got = phone.take(&mut gateway);
    let packets: Vec<_> = got.iter().filter(|packet| !packet.is_empty()).collect();
    assert_eq!(packets.len(), 1, "it waited for the handshake");
}

#[test]
fn whatever_strangers_send_is_dropped() {
    let mut gateway = gateway([0; 32]);
    let stranger = WgPrivateKey::from_bytes([5; 32]);
    let to = WgPrivateKey::from_bytes(GATEWAY).public();
    let mut tunnel = Gotatun::new(&stranger).tunnel(&to, Instant::now());
    tunnel.set_psk(&[0; 32]);
    let initiation = tunnel.initiate(true, Instant::now()).unwrap();
    gateway.handle_udp(at(3), initiation, Instant::now());
    for length in 0..200 {
        for kind in 0..6 {
            let mut datagram = BytesMut::zeroed(length);
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            gateway.handle_udp(at(3), datagram, Instant::now());
        }
    }
    assert!(gateway.poll_output().is_none());
    assert!(gateway.poll_timeout().is_none(), "and costs no timer");
}
