//! The mesh: its state, and what the control plane and the clock tell it.

mod inbound;
mod outbound;
mod oversize;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;
use rand::CryptoRng;
use ztna_disco::Keyring;
use ztna_filter::Filter;
use ztna_handshake::{Handshakes, PeerConfig};
use ztna_path::{Budget, Explanation, PathAgent};
use ztna_proto::filter::PacketFilter;
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::{PeerRecord, PeerVolatile, SelfRecord};
use ztna_proto::{DiscoPrivateKey, DiscoPublicKey, MachineId, WgPublicKey};

use crate::addresses::Addresses;
use crate::config::{MeshConfig, SourceFilter};
use crate::output::Output;
use crate::peer::{Peer, Tick};
use crate::routing::{RouteUse, RoutingTable};
use crate::status::{DropCounts, PeerStatus, Totals};
use crate::tunnel::WireGuard;

/// The data plane of one machine. See the [crate's page](crate).
pub struct Mesh {
    wireguard: Box<dyn WireGuard>,
    wg_key: WgPublicKey,
    handshakes: Handshakes,
    keyring: Keyring,
    filter: Filter,
    source_filter: SourceFilter,
    rng: Box<dyn CryptoRng + Send>,
    peers: BTreeMap<MachineId, Peer>,
    by_key: BTreeMap<WgPublicKey, MachineId>,
    /// Peers by the discovery key that they tell. Nothing keeps one from telling another's, so a key
    /// alone is not proof of who speaks.
    by_disco: BTreeMap<DiscoPublicKey, BTreeSet<MachineId>>,
    by_index: BTreeMap<u32, MachineId>,
    /// Peers by their paths' candidates.
    by_address: Addresses,
    routes: RoutingTable,
    route_use: RouteUse,
    /// Where this machine may be reached, for call-me-maybe.
    endpoints: Vec<SocketAddr>,
    own_addresses: Vec<IpAddr>,
    /// When each peer wants to be looked at; an entry may be early, never late.
    deadlines: BTreeSet<(Instant, MachineId)>,
    /// When it was last looked up whose a datagram of no session might be.
    looked_for_lost: Option<Instant>,
    /// How often senders may be told that their packets are too large. Made at the first one.
    tellings: Option<Budget>,
    /// When the first peer came, from which all tunnels' beats are counted.
    origin: Option<Instant>,
    outputs: VecDeque<Output>,
    drops: DropCounts,
    /// Drops of peers that are gone.
    departed: DropCounts,
    totals: Totals,
}

impl Mesh {
    /// A mesh without peers, of the machine with this WireGuard key. `handshakes` and `wireguard`
    /// hold its private half.
    pub fn new(
        config: &MeshConfig,
        wg_key: WgPublicKey,
        wireguard: Box<dyn WireGuard>,
        handshakes: Handshakes,
        disco_key: DiscoPrivateKey,
        rng: Box<dyn CryptoRng + Send>,
    ) -> Self {
        Self {
            wireguard,
            wg_key,
            handshakes,
            keyring: Keyring::new(disco_key),
            filter: Filter::new(ztna_filter::Limits::default()),
            source_filter: config.source_filter,
            rng,
            peers: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_disco: BTreeMap::new(),
            by_index: BTreeMap::new(),
            by_address: Addresses::default(),
            routes: RoutingTable::default(),
            route_use: RouteUse::default(),
            endpoints: Vec::new(),
            own_addresses: Vec::new(),
            deadlines: BTreeSet::new(),
            looked_for_lost: None,
            tellings: None,
            origin: None,
            outputs: VecDeque::new(),
            drops: DropCounts::default(),
            departed: DropCounts::default(),
            totals: Totals::default(),
        }
    }

    /// The discovery key to report to the control plane.
    pub fn disco_key(&self) -> DiscoPublicKey {
        self.keyring.public()
    }

    /// What the control plane says of this machine.
    pub fn set_self(&mut self, this: &SelfRecord) {
        self.own_addresses = vec![this.ipv4.into(), this.ipv6.into()];
        let own = self.own_addresses.iter().copied().map(IpNet::from);
        let routed = this.network.routes.iter().copied();
        self.filter.set_own(&own.chain(routed).collect::<Vec<_>>());
    }

    /// Which of the networks behind peers packets are sent to.
    pub fn set_route_use(&mut self, route_use: RouteUse) {
        if std::mem::replace(&mut self.route_use, route_use) == route_use {
            return;
        }
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.reroute(id);
        }
    }

    /// The packet filter. Costs time in proportion to its rules, whether they are others or not.
    pub fn set_filter(&mut self, rules: &PacketFilter) {
        self.filter.set_rules(rules);
    }

    /// Adds a peer, or changes what is known of it. A new WireGuard key makes it a new peer. Says
    /// whether the peer is new: the mesh does not know yet where it is.
    pub fn upsert_peer(&mut self, record: &PeerRecord, now: Instant) -> bool {
        let id = record.id;
        match self.peers.get(&id) {
            Some(peer) if peer.record == *record => return false,
            Some(peer) if peer.record.wg_key != record.wg_key => self.remove_peer(id),
            _ => {}
        }
        let is_new = !self.peers.contains_key(&id);
        if is_new {
            let tunnel = self.wireguard.tunnel(&record.wg_key, now);
            let path = PathAgent::new(self.rng.next_u64(), now);
            let origin = *self.origin.get_or_insert(now);
            self.peers
                .insert(id, Peer::new(record.clone(), tunnel, path, origin));
            self.by_key.insert(record.wg_key, id);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return false;
        };
        let old = std::mem::replace(&mut peer.record, record.clone());
        self.filter.set_peer(id, &record.groups, &peer.networks());
        if !is_new {
            self.unroute(&old, Some(record));
        }
        self.reroute(id);
        match record.kem_key {
            Some(kem_key) => self.handshakes.upsert_peer(
                record.wg_key,
                PeerConfig {
                    kem_key,
                    pq: record.pq,
                },
            ),
            // Without an agent there is no hybrid handshake, and without it no preshared key.
            None => {
                self.handshakes.remove_peer(&record.wg_key);
                self.end_session(id);
            }
        }
        // A changed key or mode ends what was agreed under the old one.
        self.drain_handshakes(now);
        is_new
    }

    /// Takes over a peer's addresses and routes as they are now.
    fn reroute(&mut self, id: MachineId) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        for addr in peer.record.addresses() {
            self.routes.insert_host(addr, id);
        }
        for net in &peer.record.routes {
            match self.route_use.takes(id, net) {
                true => self.routes.insert_route(*net, id, peer.online),
                false => self.routes.remove_route(*net, id),
            }
        }
    }

    /// Takes a record's addresses and routes back, except those that `next` has too: they keep
    /// their place.
    fn unroute(&mut self, record: &PeerRecord, next: Option<&PeerRecord>) {
        for addr in record.addresses() {
            if next.is_none_or(|next| !next.addresses().contains(&addr)) {
                self.routes.remove_host(addr, record.id);
            }
        }
        for net in &record.routes {
            if next.is_none_or(|next| !next.routes.contains(net)) {
                self.routes.remove_route(*net, record.id);
            }
        }
    }

    /// Forgets a peer and all its keys.
    pub fn remove_peer(&mut self, id: MachineId) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        self.departed.absorb(peer.drops.clone());
        self.handshakes.remove_peer(&peer.record.wg_key);
        self.by_key.remove(&peer.record.wg_key);
        if let Some(key) = peer.disco_key {
            self.disclaim_disco(&key, id);
        }
        for index in peer.indices() {
            self.by_index.remove(index);
        }
        self.by_address.replace(id, &peer.addresses, &[]);
        if let Some(deadline) = peer.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        self.filter.remove_peer(id);
        self.unroute(&peer.record, None);
    }

    fn disclaim_disco(&mut self, key: &DiscoPublicKey, id: MachineId) {
        if let Some(claimants) = self.by_disco.get_mut(key) {
            claimants.remove(&id);
            if claimants.is_empty() {
                self.by_disco.remove(key);
            }
        }
    }

    /// The peers that the mesh has.
    pub fn peer_ids(&self) -> impl Iterator<Item = MachineId> {
        self.peers.keys().copied()
    }

    /// Where a peer is reached right now. Of a peer that the mesh does not have: ignored.
    pub fn set_volatile(&mut self, volatile: &PeerVolatile, now: Instant) {
        let id = volatile.id;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let report = &volatile.report;
        let was_online = std::mem::replace(&mut peer.online, volatile.online);
        let old = std::mem::replace(&mut peer.disco_key, report.disco_key);
        if old.is_some() && old != report.disco_key {
            // The peer's process is a new one: nothing that its paths proved still holds.
            peer.path.reset(now);
        }
        peer.path.set_relay(report.home_region, now);
        peer.path.set_candidates(&report.endpoints, now);
        if old != report.disco_key {
            if let Some(old) = old {
                self.disclaim_disco(&old, id);
            }
            if let Some(key) = report.disco_key {
                self.by_disco.entry(key).or_default().insert(id);
            }
        }
        if was_online != volatile.online {
            self.reroute(id);
        }
        self.drain_path(id, now);
    }

    /// Where this machine may be reached. Sent to peers that are called.
    pub fn set_endpoints(&mut self, endpoints: Vec<SocketAddr>) {
        self.endpoints = endpoints;
    }

    /// The endpoints are others than before: peers that are not reached directly are told.
    pub fn endpoints_changed(&mut self, now: Instant) {
        self.at_every_path(now, PathAgent::endpoints_changed);
    }

    fn at_every_path(&mut self, now: Instant, tell: impl Fn(&mut PathAgent, Instant)) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            if let Some(peer) = self.peers.get_mut(&id) {
                tell(&mut peer.path, now);
            }
            self.drain_path(id, now);
        }
    }

    /// This machine's addresses or routes changed: no path is to be trusted as it was.
    pub fn network_changed(&mut self, now: Instant) {
        self.at_every_path(now, PathAgent::network_changed);
    }

    /// A datagram for this peer could not be sent to this address.
    pub fn send_failed(&mut self, peer: MachineId, to: SocketAddr, now: Instant) {
        let id = peer;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.path.send_failed(to, now);
        self.drain_path(id, now);
    }

    /// The answer to [`Output::NeedKemKey`]. A key that nobody asked for is ignored.
    pub fn provide_kem_key(&mut self, key: &KemPublicKey, now: Instant) {
        self.handshakes.provide_kem_key(key, now);
        self.drain_handshakes(now);
    }

    /// When [`Mesh::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.deadlines.first().map(|(at, _)| *at);
        [
            peers,
            self.handshakes.poll_timeout(),
            self.filter.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            self.peer_timeout(id, now);
        }
        if self.filter.poll_timeout().is_some_and(|at| at <= now) {
            self.filter.handle_timeout(now);
        }
        self.handshakes.handle_timeout(now);
        self.drain_handshakes(now);
    }

    fn peer_timeout(&mut self, id: MachineId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.deadline = None;
        peer.drop_stale_queue(now);
        peer.psk.expire_previous(now);
        peer.path.handle_timeout(now);
        let datagram = match (peer.tick(now), peer.psk.installed()) {
            // A handshake that is tried without a key of the hybrid handshake can only fail.
            (Tick::NotDue, _) | (Tick::Look, None) => None,
            (Tick::Look, Some(_)) => peer.tunnel.tick(now),
            (Tick::Erase, installed) => {
                peer.tunnel.reset();
                if let Some(installed) = installed {
                    peer.tunnel.set_psk(installed.psk.expose());
                }
                None
            }
        };
        if let Some(datagram) = datagram {
            self.transmit(id, datagram, now);
        }
        self.drain_path(id, now);
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// State of every peer, in the order of their ids.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.peers.values().map(Peer::status).collect()
    }

    /// Why a peer's packets go the way they go. `None`: the mesh does not have that peer.
    pub fn explain(&self, id: MachineId, now: Instant) -> Option<Explanation> {
        Some(self.peers.get(&id)?.path.explain(now))
    }

    /// Packets that were dropped before they could be said to be a peer's.
    pub fn drops(&self) -> &DropCounts {
        &self.drops
    }

    /// Packets that were dropped of peers that are gone.
    pub fn departed_drops(&self) -> &DropCounts {
        &self.departed
    }

    /// What was counted since this mesh was made.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Takes over what a peer's path and timers are now.
    fn reschedule(&mut self, id: MachineId) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.path.take_candidates_changed() {
            let new = peer.path.candidates().map(|(addr, _)| *addr).collect();
            let old = std::mem::replace(&mut peer.addresses, new);
            self.by_address.replace(id, &old, &peer.addresses);
        }
        let Some(wanted) = peer.wants() else { return };
        match peer.deadline {
            // Early is harmless, and moving the entry for every packet is not free.
            Some(armed) if armed <= wanted => {}
            armed => {
                if let Some(armed) = armed {
                    self.deadlines.remove(&(armed, id));
                }
                self.deadlines.insert((wanted, id));
                peer.deadline = Some(wanted);
            }
        }
    }
}
