//! What a mesh holds of one peer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::BytesMut;
use ipnet::IpNet;
use ztna_path::PathAgent;
use ztna_proto::DiscoPublicKey;
use ztna_proto::netmap::PeerRecord;

use crate::config::{
    ACTIVE_FOR, HANDSHAKE_RETRY, IDLE_FOR, MAX_QUEUE_TIME, MAX_QUEUED_PACKETS, TICK_ACTIVE,
    TICK_HANDSHAKING, TICK_IDLE,
};
use crate::psk::PskSlots;
use crate::status::{DropCounts, PeerStatus, PskStatus};
use crate::tunnel::Tunnel;

/// Session indices of ours that a peer may still use. A session lives for Reject-After-Time, 180 s,
/// in which unanswered handshakes make one index each Rekey-Timeout, 5 s, at each end (whitepaper
/// §6.1): fewer, and a session that works would lose its index to handshakes that do not.
const MAX_INDICES: usize = 80;

pub struct Peer {
    pub record: PeerRecord,
    pub disco_key: Option<DiscoPublicKey>,
    pub tunnel: Box<dyn Tunnel>,
    pub path: PathAgent,
    /// The path's candidates, as [`Addresses`](crate::addresses::Addresses) has them.
    pub addresses: Vec<SocketAddr>,
    pub psk: PskSlots,
    pub drops: DropCounts,
    /// The packet, by its identification, whose fragments make a detour since then, the first being too
    /// large for the path.
    pub detoured: Option<(u32, Instant)>,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// When the mesh looks at this peer next.
    pub deadline: Option<Instant>,
    queue: VecDeque<(Instant, BytesMut)>,
    indices: VecDeque<u32>,
    /// Until when a handshake of ours may be answered before it is sent again.
    handshaking_until: Option<Instant>,
    last_used: Option<Instant>,
    next_tick: Option<Instant>,
}

impl Peer {
    pub fn new(record: PeerRecord, tunnel: Box<dyn Tunnel>, path: PathAgent) -> Self {
        Self {
            record,
            disco_key: None,
            tunnel,
            path,
            addresses: Vec::new(),
            psk: PskSlots::default(),
            drops: DropCounts::default(),
            detoured: None,
            tx_bytes: 0,
            rx_bytes: 0,
            deadline: None,
            queue: VecDeque::new(),
            indices: VecDeque::new(),
            handshaking_until: None,
            last_used: None,
            next_tick: None,
        }
    }

    /// Everything that is the peer's: its addresses and its routes.
    pub fn networks(&self) -> Vec<IpNet> {
        let addresses = self.record.addresses().map(IpNet::from);
        addresses
            .into_iter()
            .chain(self.record.routes.iter().copied())
            .collect()
    }

    /// Keeps a packet until there is a session. The oldest makes room.
    pub fn enqueue(&mut self, packet: &[u8], now: Instant) {
        if self.queue.len() == MAX_QUEUED_PACKETS {
            self.queue.pop_front();
            self.drops.count("queue_full");
        }
        // A copy: what waits must not hold on to the buffer that it came in.
        self.queue.push_back((now, BytesMut::from(packet)));
    }

    /// The packets that waited, oldest first.
    pub fn take_queue(&mut self) -> VecDeque<(Instant, BytesMut)> {
        std::mem::take(&mut self.queue)
    }

    pub fn drop_stale_queue(&mut self, now: Instant) {
        while let Some((since, _)) = self.queue.front() {
            if now.duration_since(*since) < MAX_QUEUE_TIME {
                break;
            }
            self.queue.pop_front();
            self.drops.count("no_session");
        }
    }

    /// Notes that the tunnel has been used or holds a new key, so its timers matter.
    pub fn touch(&mut self, now: Instant) {
        self.last_used = Some(now);
        self.arm_tick(now);
    }

    /// Notes that a WireGuard handshake of ours waits for its response.
    pub fn handshake_sent(&mut self, now: Instant) {
        self.handshaking_until = Some(now + HANDSHAKE_RETRY);
        self.arm_tick(now);
    }

    /// Notes that no WireGuard handshake of ours waits any more.
    pub fn handshake_over(&mut self) {
        self.handshaking_until = None;
    }

    fn is_handshaking(&self, now: Instant) -> bool {
        self.handshaking_until.is_some_and(|until| now < until)
    }

    fn arm_tick(&mut self, now: Instant) {
        let next = now + self.tick_interval(now);
        self.next_tick = Some(self.next_tick.map_or(next, |armed| armed.min(next)));
    }

    fn tick_interval(&self, now: Instant) -> std::time::Duration {
        let quiet = self.last_used.map(|at| now.duration_since(at));
        if self.is_handshaking(now) {
            TICK_HANDSHAKING
        } else if quiet.is_some_and(|quiet| quiet < ACTIVE_FOR) {
            TICK_ACTIVE
        } else {
            TICK_IDLE
        }
    }

    /// Whether the tunnel's timers are due; arms them anew while the tunnel may hold keys.
    pub fn tick_due(&mut self, now: Instant) -> bool {
        if self.next_tick.is_none_or(|at| at > now) {
            return false;
        }
        let holds_keys = self
            .last_used
            .is_some_and(|at| now.duration_since(at) < IDLE_FOR);
        self.next_tick =
            (holds_keys || self.is_handshaking(now)).then(|| now + self.tick_interval(now));
        true
    }

    /// The earliest time at which this peer has something to do.
    pub fn wants(&self) -> Option<Instant> {
        let queue = self.queue.front().map(|(since, _)| *since + MAX_QUEUE_TIME);
        [self.path.poll_timeout(), self.next_tick, queue]
            .into_iter()
            .flatten()
            .min()
    }

    /// Remembers an index of ours; gives the one that it displaces.
    pub fn remember_index(&mut self, index: u32) -> Option<u32> {
        if self.indices.contains(&index) {
            return None;
        }
        self.indices.push_back(index);
        (self.indices.len() > MAX_INDICES)
            .then(|| self.indices.pop_front())
            .flatten()
    }

    pub fn indices(&self) -> impl Iterator<Item = &u32> {
        self.indices.iter()
    }

    pub fn status(&self) -> PeerStatus {
        PeerStatus {
            id: self.record.id,
            selected: self.path.selected(),
            mtu: self.path.mtu(),
            psk: self.psk.installed().map(|installed| PskStatus {
                epoch: installed.epoch,
                fingerprint: installed.psk.fingerprint(),
                since: installed.since,
                full: installed.full,
            }),
            waiting: !self.queue.is_empty(),
            tx_bytes: self.tx_bytes,
            rx_bytes: self.rx_bytes,
            session_age: self.tunnel.session_age(),
            drops: self.drops.clone(),
        }
    }
}
