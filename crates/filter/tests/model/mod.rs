//! The filter as one would write it down: every rule looked at for every packet, every flow in one
//! list, nothing kept ready.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use ztna_filter::flows::{
    CUT_TIMEOUT, ICMP_TIMEOUT, TCP_CLOSING_TIMEOUT, TCP_ESTABLISHED_TIMEOUT, TCP_OPENING_TIMEOUT,
    UDP_STREAM_TIMEOUT, UDP_TIMEOUT,
};
use ztna_filter::packet::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP};
use ztna_filter::{Direction, Reason, Verdict};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector, Protocol};
use ztna_proto::ids::MachineId;

/// What a packet is, before it is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp(u16, u16, &'static str),
    Udp(u16, u16),
    Sctp(u16, u16),
    /// An echo, and whether it is a reply.
    Echo(u16, bool),
    /// A protocol without ports.
    Gre,
    /// An ICMP message that is of no flow.
    Timestamp,
    /// An ICMP error about a datagram between these ports, which went the other way.
    Unreachable(u16, u16),
}

impl Spec {
    fn icmp(&self) -> u8 {
        if self.src.is_ipv4() { ICMP } else { ICMPV6 }
    }

    fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp(..) => TCP,
            Kind::Udp(..) => UDP,
            Kind::Sctp(..) => SCTP,
            Kind::Gre => 47,
            Kind::Echo(..) | Kind::Timestamp | Kind::Unreachable(..) => self.icmp(),
        }
    }

    /// What tells its flow apart, at its source and its destination.
    fn ends(&self) -> Option<(u16, u16)> {
        match self.kind {
            Kind::Tcp(src, dst, _) | Kind::Udp(src, dst) | Kind::Sctp(src, dst) => Some((src, dst)),
            Kind::Echo(id, false) => Some((id, 0)),
            Kind::Echo(id, true) => Some((0, id)),
            Kind::Gre => Some((0, 0)),
            Kind::Timestamp | Kind::Unreachable(..) => None,
        }
    }

    fn port(&self) -> Option<u16> {
        match self.kind {
            Kind::Tcp(_, dst, _) | Kind::Udp(_, dst) | Kind::Sctp(_, dst) => Some(dst),
            _ => None,
        }
    }

    fn has(&self, flag: char) -> bool {
        matches!(self.kind, Kind::Tcp(_, _, flags) if flags.contains(flag))
    }

    fn opening(&self) -> Opening {
        Opening {
            src: self.src,
            dst: self.dst,
            protocol: self.protocol(),
            port: self.port(),
        }
    }

    fn flow(&self, direction: Direction) -> Option<Id> {
        let (src, dst) = self.ends()?;
        let ((local, local_end), (remote, remote_end)) = match direction {
            Direction::Inbound => ((self.dst, dst), (self.src, src)),
            Direction::Outbound => ((self.src, src), (self.dst, dst)),
        };
        Some(Id {
            protocol: self.protocol(),
            local: (local, local_end),
            remote: (remote, remote_end),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Id {
    protocol: u8,
    local: (IpAddr, u16),
    remote: (IpAddr, u16),
}

#[derive(Clone, Copy)]
struct Opening {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    port: Option<u16>,
}

struct Peer {
    id: MachineId,
    groups: Vec<String>,
    networks: Vec<IpNet>,
}

struct Flow {
    peer: MachineId,
    id: Id,
    opener: Direction,
    opening: Opening,
    replied: bool,
    fin: [bool; 2],
    rst: bool,
    /// A connection of TCP that is over.
    ending: bool,
    /// How long it lives after `touched`.
    lives: Duration,
    touched: Instant,
}

impl Flow {
    fn is_over(&self) -> bool {
        self.rst || self.fin == [true, true]
    }

    fn note(&mut self, direction: Direction, spec: &Spec, cut: bool, now: Instant) {
        let from_opener = direction == self.opener;
        self.replied |= !from_opener;
        self.rst |= spec.has('R');
        self.fin[usize::from(from_opener)] |= spec.has('F');
        let lives = match self.id.protocol {
            _ if cut => CUT_TIMEOUT,
            TCP if self.is_over() => TCP_CLOSING_TIMEOUT,
            TCP if self.replied => TCP_ESTABLISHED_TIMEOUT,
            TCP => TCP_OPENING_TIMEOUT,
            ICMP | ICMPV6 => ICMP_TIMEOUT,
            _ if self.replied => UDP_STREAM_TIMEOUT,
            _ => UDP_TIMEOUT,
        };
        // Nothing prolongs what is ending. Other flows live as long as one that ends.
        let ending = self.id.protocol == TCP && self.is_over() && !cut;
        if !(ending && self.ending) {
            self.touched = now;
        }
        self.ending = ending;
        self.lives = lives;
    }
}

/// One machine's filter.
#[derive(Default)]
pub struct Model {
    pub rules: PacketFilter,
    pub own: Vec<IpNet>,
    peers: Vec<Peer>,
    flows: Vec<Flow>,
}

impl Model {
    pub fn set_peer(&mut self, id: MachineId, groups: &[String], networks: &[IpNet]) {
        self.peers.retain(|peer| peer.id != id);
        self.peers.push(Peer {
            id,
            groups: groups.to_vec(),
            networks: networks.to_vec(),
        });
    }

    pub fn remove_peer(&mut self, id: MachineId) {
        self.peers.retain(|peer| peer.id != id);
        self.flows.retain(|flow| flow.peer != id);
    }

    pub fn check(
        &mut self,
        direction: Direction,
        peer: MachineId,
        spec: &Spec,
        now: Instant,
    ) -> Verdict {
        match self.decide(direction, peer, spec, now) {
            Ok(()) => Verdict::Allow,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn decide(
        &mut self,
        direction: Direction,
        peer: MachineId,
        spec: &Spec,
        now: Instant,
    ) -> Result<(), Reason> {
        self.flows.retain(|flow| flow.touched + flow.lives > now);
        let Some(id) = spec.flow(direction) else {
            self.belong(direction, peer, &spec.opening())?;
            if self.is_about_a_flow(direction, peer, spec) {
                return Ok(());
            }
            return self.judge(direction, peer, &spec.opening());
        };
        let known = self
            .flows
            .iter()
            .position(|flow| flow.peer == peer && flow.id == id);
        if let Some(place) = known {
            let flow = &self.flows[place];
            let verdict = self.judge(flow.opener, peer, &flow.opening);
            let asks = spec.has('S') && !spec.has('A');
            let anew = flow.is_over() || verdict.is_err() || direction != flow.opener;
            if !(asks && anew) {
                self.flows[place].note(direction, spec, verdict.is_err(), now);
                return verdict;
            }
        }
        self.judge(direction, peer, &spec.opening())?;
        if matches!(spec.kind, Kind::Echo(_, true)) || spec.has('R') {
            return Ok(());
        }
        self.flows
            .retain(|flow| !(flow.peer == peer && flow.id == id));
        let mut flow = Flow {
            peer,
            id,
            opener: direction,
            opening: spec.opening(),
            replied: false,
            fin: [false; 2],
            rst: false,
            ending: false,
            lives: Duration::ZERO,
            touched: now,
        };
        flow.note(direction, spec, false, now);
        self.flows.push(flow);
        Ok(())
    }

    fn is_about_a_flow(&self, direction: Direction, peer: MachineId, spec: &Spec) -> bool {
        let Kind::Unreachable(src, dst) = spec.kind else {
            return false;
        };
        let about = Spec {
            src: spec.dst,
            dst: spec.src,
            kind: Kind::Udp(src, dst),
        };
        let id = about.flow(direction.opposite());
        let flow = self
            .flows
            .iter()
            .find(|flow| flow.peer == peer && Some(flow.id) == id);
        flow.is_some_and(|flow| self.judge(flow.opener, peer, &flow.opening).is_ok())
    }

    fn peer(&self, id: MachineId) -> Result<&Peer, Reason> {
        let peer = self.peers.iter().find(|peer| peer.id == id);
        peer.ok_or(Reason::UnknownPeer)
    }

    fn belong(
        &self,
        direction: Direction,
        peer: MachineId,
        opening: &Opening,
    ) -> Result<(), Reason> {
        let theirs = &self.peer(peer)?.networks;
        let (source, destination) = match direction {
            Direction::Inbound => (theirs, &self.own),
            Direction::Outbound => (&self.own, theirs),
        };
        let holds = |side: &[IpNet], address| side.iter().any(|net| net.contains(&address));
        if !holds(source, opening.src) {
            return Err(Reason::WrongSource);
        }
        if !holds(destination, opening.dst) {
            return Err(Reason::WrongDestination);
        }
        Ok(())
    }

    fn judge(
        &self,
        direction: Direction,
        peer: MachineId,
        opening: &Opening,
    ) -> Result<(), Reason> {
        self.belong(direction, peer, opening)?;
        let peer = self.peer(peer)?;
        let (rules, destination) = match direction {
            Direction::Inbound => (&self.rules.inbound, &self.own),
            Direction::Outbound => (&self.rules.outbound, &peer.networks),
        };
        let mut matching = rules
            .iter()
            .filter(|rule| matches(rule, peer, opening, destination));
        let denying = matching.clone().find(|rule| rule.action == Action::Deny);
        match (denying, matching.next()) {
            (Some(rule), _) => Err(Reason::Denied(rule.rule)),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(Reason::NoRule),
        }
    }
}

fn matches(rule: &FilterRule, peer: &Peer, opening: &Opening, destination: &[IpNet]) -> bool {
    let of_peer = rule.peers.iter().any(|selector| match selector {
        PeerSelector::Any => true,
        PeerSelector::Group(group) => peer.groups.contains(group),
        PeerSelector::Machine(id) => *id == peer.id,
        PeerSelector::Unknown(_) => rule.action == Action::Deny,
    });
    let family = |net: &&IpNet| net.addr().is_ipv4() == opening.dst.is_ipv4();
    let single = |net: &&IpNet| net.prefix_len() == net.max_prefix_len();
    let own = destination.iter().filter(single).find(family);
    let to = match rule.networks.as_slice() {
        [] => own.is_some_and(|net| net.addr() == opening.dst),
        networks => networks.iter().any(|net| net.contains(&opening.dst)),
    };
    let number = |protocol: &Protocol| match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Sctp => SCTP,
        Protocol::Icmp if opening.dst.is_ipv4() => ICMP,
        Protocol::Icmp => ICMPV6,
        Protocol::Number(number) => *number,
    };
    let mut protocols = rule.protocols.iter().map(number);
    let protocol = rule.protocols.is_empty() || protocols.any(|one| one == opening.protocol);
    let contains = |port| rule.ports.iter().any(|range| range.contains(port));
    let port = rule.ports.is_empty() || opening.port.is_some_and(contains);
    of_peer && to && protocol && port
}
