//! Rules, flows and fragments joined.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use ztna_proto::filter::PacketFilter;
use ztna_proto::ids::MachineId;

use crate::counters::Counters;
use crate::flows::{FlowKey, Flows, Visit, opens_flow};
use crate::fragments::Fragments;
use crate::networks::{Networks, check_addresses};
use crate::packet::{Parsed, Transport, parse};
use crate::rules::{Opening, PeerRules, RuleSet};
use crate::{Direction, Limits, Reason, Verdict};

/// Expired entries are swept out together, at most this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The packet filter of one machine. Without rules and peers it drops everything.
pub struct Filter {
    limits: Limits,
    rules: RuleSet,
    own: Networks,
    peers: BTreeMap<MachineId, Peer>,
    flows: Flows,
    fragments: Fragments,
    counters: Counters,
    /// Grows whenever a flow may have to be judged anew.
    generation: u64,
}

struct Peer {
    groups: Vec<String>,
    networks: Networks,
    rules: PeerRules,
}

impl Filter {
    /// A filter that lets nothing through.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            rules: RuleSet::default(),
            own: Networks::default(),
            peers: BTreeMap::new(),
            flows: Flows::default(),
            fragments: Fragments::default(),
            counters: Counters::default(),
            generation: 0,
        }
    }

    /// Replaces the rules. Costs time in proportion to them; rules that say the same as those before
    /// change nothing.
    pub fn set_rules(&mut self, rules: &PacketFilter) {
        let rules = RuleSet::new(rules);
        if rules == self.rules {
            return;
        }
        self.rules = rules;
        for (id, peer) in &mut self.peers {
            peer.rules = self.rules.of_peer(*id, &peer.groups);
        }
        self.generation += 1;
        self.fragments.clear();
    }

    /// Replaces the networks that this machine answers for.
    ///
    /// The first single address (`/32`, `/128`) of each family is the machine's own, to which rules
    /// without networks speak; every other network is one that it routes for others, and only rules
    /// that name networks open it.
    pub fn set_own(&mut self, networks: &[IpNet]) {
        let own = Networks::new(networks);
        if own == self.own {
            return;
        }
        self.own = own;
        self.generation += 1;
        self.fragments.clear();
    }

    /// Adds a peer, or changes what is known of it: its groups, and the networks from which it may
    /// send and be sent to, in the same order as those of [`Filter::set_own`].
    pub fn set_peer(&mut self, id: MachineId, groups: &[String], networks: &[IpNet]) {
        let networks = Networks::new(networks);
        let same = |peer: &Peer| peer.groups == groups && peer.networks == networks;
        if self.peers.get(&id).is_some_and(same) {
            return;
        }
        let peer = Peer {
            rules: self.rules.of_peer(id, groups),
            groups: groups.to_vec(),
            networks,
        };
        if self.peers.insert(id, peer).is_some() {
            self.generation += 1;
            self.fragments.forget(id);
        }
    }

    /// Forgets a peer and its flows.
    pub fn remove_peer(&mut self, id: MachineId) {
        self.peers.remove(&id);
        self.flows.forget(id);
        self.fragments.forget(id);
    }

    /// Decides about one packet that came from `peer`, or is to go to it.
    pub fn check(
        &mut self,
        direction: Direction,
        peer: MachineId,
        packet: &[u8],
        now: Instant,
    ) -> Verdict {
        let result = self.decide(direction, peer, packet, now);
        self.counters.count(direction, result);
        match result {
            Ok(()) => Verdict::Allow,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// When [`Filter::handle_timeout`] wants to be called. `None`: nothing to wait for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let expiries = [self.flows.next_expiry(), self.fragments.next_expiry()];
        expiries
            .into_iter()
            .flatten()
            .min()
            .map(|expiry| expiry + SWEEP_INTERVAL)
    }

    /// Forgets flows and fragments that are over. Only memory depends on it, no verdict does.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.flows.expire(now);
        self.fragments.expire(now);
    }

    /// What the filter did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.flows = self.flows.len();
        counters.flows_evicted = self.flows.evicted();
        counters.fragments = self.fragments.len();
        counters
    }

    fn decide(
        &mut self,
        direction: Direction,
        peer: MachineId,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Reason> {
        let packet = parse(packet)?;
        let Some(fragment) = packet.fragment else {
            return self.decide_whole(direction, peer, &packet, now);
        };
        if fragment.offset > 0 {
            return self
                .fragments
                .follow(peer, direction, &packet, &fragment, now);
        }
        self.decide_whole(direction, peer, &packet, now)?;
        self.fragments
            .open(peer, direction, &packet, &fragment, &self.limits, now)
    }

    /// Decides about a packet that has its transport header.
    fn decide_whole(
        &mut self,
        direction: Direction,
        peer: MachineId,
        packet: &Parsed,
        now: Instant,
    ) -> Result<(), Reason> {
        let opening = Opening {
            src: packet.src,
            dst: packet.dst,
            protocol: packet.protocol,
            port: packet.ports().map(|(_, destination)| destination),
        };
        let Some(key) = FlowKey::of(peer, direction, packet) else {
            self.check_addresses(direction, peer, &opening)?;
            if self.is_about_a_flow(direction, peer, packet, now) {
                return Ok(());
            }
            return self.judge(direction, peer, &opening);
        };
        match self.follow_flow(&key, direction, packet, now) {
            Visit::Allowed => return Ok(()),
            Visit::Cut(reason) => return Err(reason),
            Visit::Unknown | Visit::Outdated(_) => {}
        }
        self.judge(direction, peer, &opening)?;
        if opens_flow(packet) {
            let generation = self.generation;
            self.flows
                .open(key, direction, packet, generation, &self.limits, now)?;
        }
        Ok(())
    }

    fn follow_flow(
        &mut self,
        key: &FlowKey,
        direction: Direction,
        packet: &Parsed,
        now: Instant,
    ) -> Visit {
        let visit = self
            .flows
            .visit(key, direction, packet, self.generation, now);
        let Visit::Outdated(opener) = visit else {
            return visit;
        };
        self.judge_anew(key, opener);
        self.flows
            .visit(key, direction, packet, self.generation, now)
    }

    /// Whether an ICMP error is about a flow that is tracked and allowed.
    fn is_about_a_flow(
        &mut self,
        direction: Direction,
        peer: MachineId,
        packet: &Parsed,
        now: Instant,
    ) -> bool {
        let Transport::IcmpError(Some(quoted)) = packet.transport else {
            return false;
        };
        let key = FlowKey::quoted(peer, direction, &quoted);
        let mut known = self.flows.look_up(&key, self.generation, now);
        if let Visit::Outdated(opener) = known {
            self.judge_anew(&key, opener);
            known = self.flows.look_up(&key, self.generation, now);
        }
        known == Visit::Allowed
    }

    /// Judges a flow's first packet by the rules of now.
    fn judge_anew(&mut self, key: &FlowKey, opener: Direction) {
        let cut = self.judge(opener, key.peer, &key.opening(opener)).err();
        self.flows.judged(key, self.generation, cut);
    }

    fn judge(
        &self,
        direction: Direction,
        peer: MachineId,
        opening: &Opening,
    ) -> Result<(), Reason> {
        self.check_addresses(direction, peer, opening)?;
        let peer = self.peers.get(&peer).ok_or(Reason::UnknownPeer)?;
        let destination = match direction {
            Direction::Inbound => &self.own,
            Direction::Outbound => &peer.networks,
        };
        self.rules
            .judge(direction, &peer.rules, opening, destination)
    }

    fn check_addresses(
        &self,
        direction: Direction,
        peer: MachineId,
        opening: &Opening,
    ) -> Result<(), Reason> {
        let peer = self.peers.get(&peer).ok_or(Reason::UnknownPeer)?;
        let (source, destination) = match direction {
            Direction::Inbound => (&peer.networks, &self.own),
            Direction::Outbound => (&self.own, &peer.networks),
        };
        check_addresses((opening.src, source), (opening.dst, destination))
    }
}
