//! Connection tracking: flows that a rule let open, so that replies need no rule.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ztna_proto::ids::MachineId;

use crate::packet::{Parsed, Quoted, TcpFlags, Transport, protocol};
use crate::rules::Opening;
use crate::{Direction, Limits, Reason};

/// A TCP connection that was asked for and not answered.
pub const TCP_OPENING_TIMEOUT: Duration = Duration::from_secs(60);
/// A TCP connection. RFC 5382 REQ-5 wants at least 2 h 4 min; shells stay open over a day.
pub const TCP_ESTABLISHED_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// A TCP connection that both sides ended or one reset; not prolonged by further segments.
pub const TCP_CLOSING_TIMEOUT: Duration = Duration::from_secs(30);
/// Datagrams in one direction.
pub const UDP_TIMEOUT: Duration = Duration::from_secs(30);
/// Datagrams in both directions (RFC 4787 REQ-5 wants at least 120 s).
pub const UDP_STREAM_TIMEOUT: Duration = Duration::from_secs(180);
/// An echo request.
pub const ICMP_TIMEOUT: Duration = Duration::from_secs(30);
/// A flow that policy cut. As long as its packets come, they are known to be of it; the time
/// outlasts TCP's longest usual pause between retransmissions (RFC 6298 §2.4 and Linux: 120 s).
pub const CUT_TIMEOUT: Duration = Duration::from_secs(180);

/// An established TCP connection gives way to a new flow only after this long a silence.
pub const EVICT_ESTABLISHED_AFTER: Duration = Duration::from_secs(300);

/// A flow's time is not prolonged again so soon; spares the fast path the ordered indexes.
const TOUCH_INTERVAL: Duration = Duration::from_secs(1);

/// Which flow a packet is of. The same for both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    pub(crate) peer: MachineId,
    protocol: u8,
    local: IpAddr,
    remote: IpAddr,
    local_port: u16,
    remote_port: u16,
}

impl FlowKey {
    /// The flow of a packet. `None`: the packet is of no flow.
    pub(crate) fn of(peer: MachineId, direction: Direction, packet: &Parsed) -> Option<Self> {
        let (src, dst) = (packet.src, packet.dst);
        let ports = packet.flow_ports()?;
        Some(Self::new(
            peer,
            direction,
            packet.protocol,
            (src, dst),
            ports,
        ))
    }

    /// The flow that an ICMP error is about; the error's direction is the opposite of its packet's.
    pub(crate) fn quoted(peer: MachineId, error: Direction, quoted: &Quoted) -> Self {
        let addresses = (quoted.src, quoted.dst);
        Self::new(
            peer,
            error.opposite(),
            quoted.protocol,
            addresses,
            quoted.ports,
        )
    }

    fn new(
        peer: MachineId,
        direction: Direction,
        protocol: u8,
        (src, dst): (IpAddr, IpAddr),
        (src_port, dst_port): (u16, u16),
    ) -> Self {
        let ((local, local_port), (remote, remote_port)) = match direction {
            Direction::Inbound => ((dst, dst_port), (src, src_port)),
            Direction::Outbound => ((src, src_port), (dst, dst_port)),
        };
        Self {
            peer,
            protocol,
            local,
            remote,
            local_port,
            remote_port,
        }
    }

    /// The flow's first packet, as rules see it.
    pub(crate) fn opening(&self, opener: Direction) -> Opening {
        let (src, dst, port) = match opener {
            Direction::Inbound => (self.remote, self.local, self.local_port),
            Direction::Outbound => (self.local, self.remote, self.remote_port),
        };
        let has_ports = matches!(
            self.protocol,
            protocol::TCP | protocol::UDP | protocol::SCTP
        );
        Opening {
            src,
            dst,
            protocol: self.protocol,
            port: has_ports.then_some(port),
        }
    }
}

/// What kind of life a flow leads. In the order in which flows give way to new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    TcpClosing,
    Icmp,
    TcpOpening,
    Datagrams,
    Stream,
    Cut,
    TcpEstablished,
}

impl Class {
    fn timeout(self) -> Duration {
        match self {
            Self::TcpClosing => TCP_CLOSING_TIMEOUT,
            Self::Icmp => ICMP_TIMEOUT,
            Self::TcpOpening => TCP_OPENING_TIMEOUT,
            Self::Datagrams => UDP_TIMEOUT,
            Self::Stream => UDP_STREAM_TIMEOUT,
            Self::Cut => CUT_TIMEOUT,
            Self::TcpEstablished => TCP_ESTABLISHED_TIMEOUT,
        }
    }
}

/// What the table knows of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Its flow is not tracked, or it opens another in the flow's place.
    Unknown,
    /// It is of a flow that is allowed.
    Allowed,
    /// It is of a flow that policy cut, for this reason.
    Cut(Reason),
    /// It is of a flow, opened in this direction, whose first packet has to be judged anew.
    Outdated(Direction),
}

/// A tracked flow.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// Who sent its first packet.
    opener: Direction,
    /// The rules' generation that judged it last.
    generation: u64,
    /// Why policy no longer allows it.
    cut: Option<Reason>,
    replied: bool,
    /// TCP: who has sent a FIN, opener and other.
    fin: [bool; 2],
    rst: bool,
    class: Class,
    touched: Instant,
    stamp: u64,
}

impl Flow {
    fn class_of(&self, protocol: u8) -> Class {
        match protocol {
            _ if self.cut.is_some() => Class::Cut,
            protocol::TCP if self.is_closing() => Class::TcpClosing,
            protocol::TCP if self.replied => Class::TcpEstablished,
            protocol::TCP => Class::TcpOpening,
            protocol::ICMP | protocol::ICMPV6 => Class::Icmp,
            _ if self.replied => Class::Stream,
            _ => Class::Datagrams,
        }
    }

    fn is_closing(&self) -> bool {
        self.rst || self.fin == [true, true]
    }

    /// Whether this segment is no part of the connection but asks for a new one in its place. Such
    /// a one needs a rule, even where the old connection has none to fear.
    fn is_reopened_by(&self, direction: Direction, packet: &Parsed) -> bool {
        let Transport::Tcp { flags, .. } = packet.transport else {
            return false;
        };
        let over = self.is_closing() || self.cut.is_some();
        flags.opens() && (over || direction != self.opener)
    }

    /// Takes note of one of the flow's packets.
    fn note(&mut self, direction: Direction, packet: &Parsed) {
        let from_opener = direction == self.opener;
        self.replied |= !from_opener;
        if let Transport::Tcp { flags, .. } = packet.transport {
            self.rst |= flags.rst;
            self.fin[usize::from(!from_opener)] |= flags.fin;
        }
    }

    fn expires(&self) -> Instant {
        self.touched + self.class.timeout()
    }
}

/// All flows, and the orders in which they expire and give way.
#[derive(Default)]
pub(crate) struct Flows {
    /// Only looked up, never iterated: its order is random.
    flows: HashMap<FlowKey, Flow>,
    by_expiry: BTreeMap<(Instant, u64), FlowKey>,
    by_peer: BTreeMap<(MachineId, Class, u64), FlowKey>,
    per_peer: BTreeMap<MachineId, usize>,
    /// The peers by the number of their flows, the fullest first.
    fullest: BTreeSet<(Reverse<usize>, MachineId)>,
    next_stamp: u64,
    evicted: u64,
}

impl Flows {
    /// Takes one packet of a flow: says what the flow knows of it, and prolongs the flow's life.
    pub(crate) fn visit(
        &mut self,
        key: &FlowKey,
        direction: Direction,
        packet: &Parsed,
        generation: u64,
        now: Instant,
    ) -> Visit {
        let Some(flow) = self.flows.get_mut(key) else {
            return Visit::Unknown;
        };
        if flow.expires() <= now {
            self.remove(key);
            return Visit::Unknown;
        }
        if flow.generation != generation {
            return Visit::Outdated(flow.opener);
        }
        if flow.is_reopened_by(direction, packet) {
            return Visit::Unknown;
        }
        flow.note(direction, packet);
        let result = flow.cut.map_or(Visit::Allowed, Visit::Cut);
        let class = flow.class_of(key.protocol);
        let same = class == flow.class;
        let settled = same && class == Class::TcpClosing;
        if settled || same && now.saturating_duration_since(flow.touched) < TOUCH_INTERVAL {
            return result;
        }
        let mut flow = *flow;
        self.unlist(key, &flow);
        flow.class = class;
        flow.touched = now;
        self.list(key, flow);
        result
    }

    /// What a flow is to an ICMP error about it.
    pub(crate) fn look_up(&self, key: &FlowKey, generation: u64, now: Instant) -> Visit {
        match self.flows.get(key) {
            Some(flow) if flow.expires() <= now => Visit::Unknown,
            Some(flow) if flow.generation != generation => Visit::Outdated(flow.opener),
            Some(flow) => flow.cut.map_or(Visit::Allowed, Visit::Cut),
            None => Visit::Unknown,
        }
    }

    /// Notes what the rules of this generation say of a flow: nothing, or why it is cut.
    pub(crate) fn judged(&mut self, key: &FlowKey, generation: u64, cut: Option<Reason>) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.generation = generation;
            flow.cut = cut;
        }
    }

    /// Tracks a flow that a rule allows and this packet opens, in place of any with the same key.
    pub(crate) fn open(
        &mut self,
        key: FlowKey,
        direction: Direction,
        packet: &Parsed,
        generation: u64,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), Reason> {
        self.remove(&key);
        self.make_room(key.peer, limits, now)?;
        let mut flow = Flow {
            opener: direction,
            generation,
            cut: None,
            replied: false,
            fin: [false; 2],
            rst: false,
            class: Class::Datagrams,
            touched: now,
            stamp: 0,
        };
        flow.note(direction, packet);
        flow.class = flow.class_of(key.protocol);
        self.list(&key, flow);
        let held = self.held(key.peer);
        self.recount(key.peer, held, held + 1);
        Ok(())
    }

    /// Forgets a peer's flows.
    pub(crate) fn forget(&mut self, peer: MachineId) {
        while let Some(key) = self.first_of(peer) {
            self.remove(&key);
        }
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((&(expires, _), &key)) = self.by_expiry.first_key_value()
            && expires <= now
        {
            self.remove(&key);
        }
    }

    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry
            .first_key_value()
            .map(|((expires, _), _)| *expires)
    }

    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Flows that gave way to others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// A peer that has as many flows as it may gives up one of its own; if all peers together
    /// have, the one with the most does. So nobody can take another's place who has less.
    fn make_room(&mut self, peer: MachineId, limits: &Limits, now: Instant) -> Result<(), Reason> {
        if self.held(peer) >= limits.flows_per_peer {
            return self.evict(peer, now);
        }
        if self.len() < limits.flows {
            return Ok(());
        }
        self.expire(now);
        if self.len() < limits.flows {
            return Ok(());
        }
        let Some(&(_, fullest)) = self.fullest.first() else {
            return Err(Reason::TableFull);
        };
        self.evict(fullest, now)
    }

    /// Gives up the flow of a peer that is missed least.
    fn evict(&mut self, peer: MachineId, now: Instant) -> Result<(), Reason> {
        let Some(key) = self.first_of(peer) else {
            return Err(Reason::TableFull);
        };
        let busy = self.flows.get(&key).is_some_and(|flow| {
            flow.class == Class::TcpEstablished
                && now.saturating_duration_since(flow.touched) < EVICT_ESTABLISHED_AFTER
        });
        if busy {
            return Err(Reason::TableFull);
        }
        self.remove(&key);
        self.evicted += 1;
        Ok(())
    }

    fn first_of(&self, peer: MachineId) -> Option<FlowKey> {
        let mut flows = self.by_peer.range((peer, Class::TcpClosing, 0)..);
        let ((owner, _, _), key) = flows.next()?;
        (*owner == peer).then_some(*key)
    }

    fn held(&self, peer: MachineId) -> usize {
        self.per_peer.get(&peer).copied().unwrap_or_default()
    }

    fn remove(&mut self, key: &FlowKey) {
        let Some(flow) = self.flows.remove(key) else {
            return;
        };
        self.unlist(key, &flow);
        let held = self.held(key.peer);
        self.recount(key.peer, held, held - 1);
    }

    /// Puts the flow into the table and its orders, as the newest.
    fn list(&mut self, key: &FlowKey, mut flow: Flow) {
        flow.stamp = self.next_stamp;
        self.next_stamp += 1;
        self.by_expiry.insert((flow.expires(), flow.stamp), *key);
        self.by_peer
            .insert((key.peer, flow.class, flow.stamp), *key);
        self.flows.insert(*key, flow);
    }

    fn unlist(&mut self, key: &FlowKey, flow: &Flow) {
        self.by_expiry.remove(&(flow.expires(), flow.stamp));
        self.by_peer.remove(&(key.peer, flow.class, flow.stamp));
    }

    fn recount(&mut self, peer: MachineId, before: usize, after: usize) {
        self.fullest.remove(&(Reverse(before), peer));
        if after == 0 {
            self.per_peer.remove(&peer);
            return;
        }
        self.per_peer.insert(peer, after);
        self.fullest.insert((Reverse(after), peer));
    }
}

/// Whether an allowed packet makes an entry. A reset ends what it belongs to, and an echo reply
/// answers what was not asked.
pub(crate) fn opens_flow(packet: &Parsed) -> bool {
    !matches!(
        packet.transport,
        Transport::EchoReply(_)
            | Transport::Tcp {
                flags: TcpFlags { rst: true, .. },
                ..
            }
    )
}
