//! What a mesh holds of one peer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ipnet::IpNet;
use ztna_path::PathAgent;
use ztna_proto::DiscoPublicKey;
use ztna_proto::netmap::PeerRecord;

use crate::config::{
    ACTIVE_FOR, BEAT, HANDSHAKE_OVER, HANDSHAKE_RETRY, MAX_QUEUE_TIME, MAX_QUEUED_PACKETS, REST_FOR,
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
    /// Whether the control plane hears of it, as far as is known.
    pub online: bool,
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
    /// When a handshake of ours was sent that is not answered.
    handshake_sent: Option<Instant>,
    last_used: Option<Instant>,
    next_tick: Option<Instant>,
    /// Where all tunnels' beats are counted from.
    origin: Instant,
}

/// What a tunnel's timers want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Nothing yet.
    NotDue,
    /// Look at what is due.
    Look,
    /// Its sessions are void.
    Erase,
}

impl Peer {
    /// A peer whose tunnel's beats are counted from `origin`.
    pub fn new(
        record: PeerRecord,
        tunnel: Box<dyn Tunnel>,
        path: PathAgent,
        origin: Instant,
    ) -> Self {
        Self {
            record,
            online: false,
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
            handshake_sent: None,
            last_used: None,
            next_tick: None,
            origin,
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
        self.handshake_sent = Some(now);
        self.arm_tick(now);
    }

    /// Notes that no WireGuard handshake of ours waits any more.
    pub fn handshake_over(&mut self) {
        self.handshake_sent = None;
    }

    /// The tunnel holds nothing that its timers would be for.
    pub fn erased(&mut self) {
        self.handshake_sent = None;
        self.last_used = None;
        self.next_tick = None;
    }

    fn arm_tick(&mut self, now: Instant) {
        // For nearly every packet: the next beat is armed already.
        if self.next_tick.is_some_and(|armed| armed <= now + BEAT) {
            return;
        }
        self.next_tick = self.next_tick.into_iter().chain(self.tick_after(now)).min();
    }

    /// When the tunnel's timers are to be looked at, if not now. `None`: it holds nothing.
    fn tick_after(&self, now: Instant) -> Option<Instant> {
        let is_active = self.last_used.is_some_and(|at| now < at + ACTIVE_FOR);
        let beat = is_active.then(|| self.beat_after(now));
        let waits = self.handshake_sent.filter(|at| now < *at + HANDSHAKE_OVER);
        let retry = waits.map(|at| match at + HANDSHAKE_RETRY {
            due if due > now => due,
            _ => self.beat_after(now),
        });
        let erase = self.erase_at().filter(|at| *at > now);
        [beat, retry, erase].into_iter().flatten().min()
    }

    /// When its sessions are void, unless they are used. A handshake under way is waited for.
    fn erase_at(&self) -> Option<Instant> {
        let unused = self.last_used.map(|at| at + REST_FOR);
        let unanswered = self.handshake_sent.map(|at| at + HANDSHAKE_OVER);
        Some(self.beat_after(unused.into_iter().chain(unanswered).max()?))
    }

    fn beat_after(&self, at: Instant) -> Instant {
        let beat = BEAT.as_nanos();
        let since = at.saturating_duration_since(self.origin).as_nanos() % beat;
        let missing = u64::try_from(beat - since).unwrap_or(0);
        at + Duration::from_nanos(missing)
    }

    /// What the tunnel's timers want now. Arms them anew while the tunnel holds something.
    pub fn tick(&mut self, now: Instant) -> Tick {
        if self.next_tick.is_none_or(|at| at > now) {
            return Tick::NotDue;
        }
        if self.erase_at().is_some_and(|at| at <= now) {
            self.erased();
            return Tick::Erase;
        }
        self.next_tick = self.tick_after(now);
        Tick::Look
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
