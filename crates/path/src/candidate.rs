//! Addresses at which a peer may be.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use ztna_disco::TxId;
use ztna_proto::netmap::EndpointKind;

use crate::mtu::MtuSearch;

/// Most addresses that are kept of one peer.
pub const MAX_CANDIDATES: usize = 100;

/// Most pings to one address that wait for their pongs; older ones are forgotten.
pub const MAX_PENDING: usize = 8;

/// A pong later than this is not waited for.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// An address that the peer does not report is forgotten when nothing was heard of it for this long.
pub const LEARNED_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// An address to which the host refused to send is left alone for this long.
pub const FAILED_HOLD: Duration = Duration::from_secs(5);

/// Who told us of an address first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The control plane: the peer reports it.
    Netmap(EndpointKind),
    /// The peer's call-me-maybe.
    Call,
    /// A ping of the peer came from it.
    Ping,
    /// A pong to a ping that went elsewhere came from it.
    Pong,
    /// The peer's data came from it.
    Data,
}

/// An address at which a peer may be, and how it has done.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Who told us of it.
    pub origin: Origin,
    /// When somebody told us of it last.
    pub told: Instant,
    /// When it was pinged last.
    pub pinged: Option<Instant>,
    /// When it answered last.
    pub answered: Option<Instant>,
    /// Round-trip time, smoothed over its answers.
    pub latency: Option<Duration>,
    /// Until when it is not pinged, since the host refused to send to it.
    pub held_until: Option<Instant>,
    /// What size of packets it carries. `None`: it was never the path in use.
    pub(crate) mtu: Option<Box<MtuSearch>>,
    /// What the peer reports it as now. `None`: it does not.
    reported: Option<EndpointKind>,
    pending: VecDeque<(TxId, Instant)>,
}

impl Candidate {
    fn new(origin: Origin, now: Instant) -> Self {
        Self {
            origin,
            told: now,
            pinged: None,
            answered: None,
            latency: None,
            held_until: None,
            mtu: None,
            reported: None,
            pending: VecDeque::new(),
        }
    }

    /// Whether it is at the end of another tunnel.
    pub(crate) fn in_tunnel(&self) -> bool {
        self.reported == Some(EndpointKind::Tunnel)
    }

    pub(crate) fn was_pinged_within(&self, span: Duration, now: Instant) -> bool {
        self.pinged.is_some_and(|at| now.duration_since(at) < span)
    }

    pub(crate) fn has_answered_within(&self, span: Duration, now: Instant) -> bool {
        self.answered
            .is_some_and(|at| now.duration_since(at) < span)
    }

    pub(crate) fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    pub(crate) fn ping(&mut self, tx: TxId, now: Instant) {
        self.pinged = Some(now);
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((tx, now));
    }

    pub(crate) fn is_waiting_for(&self, tx: TxId, now: Instant) -> bool {
        self.pending
            .iter()
            .any(|(waiting, sent)| *waiting == tx && now.duration_since(*sent) < PING_TIMEOUT)
    }

    /// Takes the pong of a ping that waits for it; `false` if none does.
    pub(crate) fn pong(&mut self, tx: TxId, now: Instant) -> bool {
        let Some(at) = self.pending.iter().position(|(waiting, _)| *waiting == tx) else {
            return false;
        };
        let Some((_, sent)) = self.pending.remove(at) else {
            return false;
        };
        let latency = now.duration_since(sent);
        if latency >= PING_TIMEOUT {
            return false;
        }
        self.answered = Some(now);
        self.held_until = None;
        self.latency = Some(
            self.latency
                .map_or(latency, |known| (known * 3 + latency) / 4),
        );
        true
    }

    fn forget_probes(&mut self) {
        self.pinged = None;
        self.answered = None;
        self.held_until = None;
        self.mtu = None;
        self.pending.clear();
    }

    fn last_heard(&self) -> Instant {
        self.answered
            .map_or(self.told, |answered| answered.max(self.told))
    }
}

/// All candidates of one peer.
#[derive(Default)]
pub(crate) struct Candidates {
    all: BTreeMap<SocketAddr, Candidate>,
    /// Whether addresses have come or gone since this was asked last.
    changed: bool,
}

impl Candidates {
    /// Takes over what the peer reports; an address that it reports no more stays only if it has
    /// answered, or is the one in use. `true`: some are new.
    pub(crate) fn report(
        &mut self,
        endpoints: impl Iterator<Item = (SocketAddr, EndpointKind)>,
        in_use: Option<SocketAddr>,
        now: Instant,
    ) -> bool {
        for candidate in self.all.values_mut() {
            candidate.reported = None;
        }
        let mut any_new = false;
        for (addr, kind) in endpoints {
            any_new |= self.learn(addr, Origin::Netmap(kind), in_use, now);
            if let Some(candidate) = self.all.get_mut(&normal(addr)) {
                candidate.reported = Some(kind);
            }
        }
        self.retain(|addr, candidate| {
            candidate.reported.is_some()
                || Some(*addr) == in_use
                || candidate.answered.is_some()
                || !matches!(candidate.origin, Origin::Netmap(_))
        });
        any_new
    }

    /// Notes that somebody told us of an address. `true`: it is new. Addresses that cannot be a
    /// peer's are ignored; when there are too many, the one heard of longest ago makes room.
    pub(crate) fn learn(
        &mut self,
        addr: SocketAddr,
        origin: Origin,
        in_use: Option<SocketAddr>,
        now: Instant,
    ) -> bool {
        let addr = normal(addr);
        if !is_usable(addr) {
            return false;
        }
        if let Some(known) = self.all.get_mut(&addr) {
            known.told = now;
            return false;
        }
        if self.all.len() >= MAX_CANDIDATES {
            let dispensable = self.all.iter().filter(|(addr, _)| Some(**addr) != in_use);
            let oldest = dispensable
                .min_by_key(|(_, c)| (c.reported.is_some(), c.answered.is_some(), c.last_heard()))
                .map(|(addr, _)| *addr);
            let Some(oldest) = oldest else { return false };
            self.all.remove(&oldest);
        }
        self.all.insert(addr, Candidate::new(origin, now));
        self.changed = true;
        true
    }

    pub(crate) fn get(&self, addr: &SocketAddr) -> Option<&Candidate> {
        self.all.get(addr)
    }

    pub(crate) fn get_mut(&mut self, addr: &SocketAddr) -> Option<&mut Candidate> {
        self.all.get_mut(addr)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SocketAddr, &Candidate)> {
        self.all.iter()
    }

    /// Whether a ping of this transaction waits for its pong at any address.
    pub(crate) fn is_any_waiting_for(&self, tx: TxId, now: Instant) -> bool {
        self.all
            .values()
            .any(|candidate| candidate.is_waiting_for(tx, now))
    }

    /// Every address, the one pinged longest ago first.
    pub(crate) fn by_last_ping(&self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.all.iter().map(|(addr, c)| (c.pinged, *addr)).collect();
        all.sort();
        all.into_iter().map(|(_, addr)| addr).collect()
    }

    /// Forgets addresses that nobody has spoken of for long.
    pub(crate) fn expire(&mut self, in_use: Option<SocketAddr>, now: Instant) {
        self.retain(|addr, candidate| {
            candidate.reported.is_some()
                || Some(*addr) == in_use
                || now.duration_since(candidate.last_heard()) < LEARNED_LIFETIME
        });
    }

    fn retain(&mut self, stays: impl Fn(&SocketAddr, &Candidate) -> bool) {
        let before = self.all.len();
        self.all.retain(|addr, candidate| stays(addr, candidate));
        self.changed |= self.all.len() != before;
    }

    /// Whether there are other addresses than when this was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Pings on their way are void, and so is what earlier ones proved.
    pub(crate) fn forget_probes(&mut self) {
        self.all.values_mut().for_each(Candidate::forget_probes);
    }

    /// Keeps what the peer reports, and forgets how it did.
    pub(crate) fn reset(&mut self) {
        self.retain(|_, candidate| candidate.reported.is_some());
        for candidate in self.all.values_mut() {
            candidate.forget_probes();
            candidate.latency = None;
        }
    }
}

/// One form for each address: IPv4 as itself, no flow label.
pub(crate) fn normal(addr: SocketAddr) -> SocketAddr {
    match (addr.ip().to_canonical(), addr) {
        (IpAddr::V6(ip), SocketAddr::V6(v6)) => {
            SocketAddrV6::new(ip, v6.port(), 0, v6.scope_id()).into()
        }
        (ip, _) => SocketAddr::new(ip, addr.port()),
    }
}

fn is_usable(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    // A link-local address says nothing without its interface, which only a received packet names.
    let is_homeless = matches!(addr, SocketAddr::V6(v6)
        if v6.ip().is_unicast_link_local() && v6.scope_id() == 0);
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast && !is_homeless
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], n))
    }

    #[test]
    fn whoever_asks_hears_of_addresses_that_come_and_go() {
        let mut all = Candidates::default();
        let now = Instant::now();
        let kind = EndpointKind::Stun;
        assert!(!all.take_changed());
        all.learn(addr(1), Origin::Ping, None, now);
        all.report([(addr(2), kind)].into_iter(), None, now);
        assert!(all.take_changed());
        all.learn(addr(1), Origin::Call, None, now);
        all.report([(addr(2), kind)].into_iter(), None, now);
        all.expire(None, now);
        assert!(!all.take_changed(), "nothing has");
        all.expire(None, now + LEARNED_LIFETIME);
        assert!(all.take_changed());
        all.report([(addr(3), kind)].into_iter(), None, now);
        assert!(all.take_changed());
        all.report(std::iter::empty(), Some(addr(3)), now);
        assert!(!all.take_changed(), "the one in use stays");
        all.reset();
        assert!(all.take_changed());
    }

    #[test]
    fn what_cannot_be_a_peer_is_ignored() {
        let mut all = Candidates::default();
        let now = Instant::now();
        for text in [
            "0.0.0.0:1",
            "[::]:1",
            "192.0.2.1:0",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
            "[fe80::1]:1",
            "[::ffff:0.0.0.0]:1",
        ] {
            assert!(
                !all.learn(text.parse().unwrap(), Origin::Call, None, now),
                "{text}"
            );
        }
        assert!(all.learn("[fe80::1%2]:1".parse().unwrap(), Origin::Ping, None, now));
    }

    #[test]
    fn one_address_has_one_form() {
        let mut all = Candidates::default();
        let now = Instant::now();
        assert!(all.learn(
            "[::ffff:192.0.2.1]:7".parse().unwrap(),
            Origin::Call,
            None,
            now
        ));
        assert!(!all.learn(addr(7), Origin::Call, None, now));
        assert!(all.get(&addr(7)).is_some());
    }

    #[test]
    fn room_is_made_by_what_proved_least() {
        let mut all = Candidates::default();
        let start = Instant::now();
        let reported = [
            (addr(1), EndpointKind::Stun),
            (addr(2), EndpointKind::Local),
        ];
        all.report(reported.into_iter(), None, start);
        for n in 3..=u16::try_from(MAX_CANDIDATES).unwrap() {
            let now = start + Duration::from_secs(n.into());
            all.learn(addr(n), Origin::Ping, None, now);
            let candidate = all.get_mut(&addr(n)).unwrap();
            if n == 3 {
                candidate.ping(TxId([1; 12]), now);
                assert!(candidate.pong(TxId([1; 12]), now));
            }
        }
        let in_use = Some(addr(4));
        for n in 200..250 {
            assert!(all.learn(
                addr(n),
                Origin::Ping,
                in_use,
                start + Duration::from_secs(500)
            ));
        }
        assert_eq!(all.iter().count(), MAX_CANDIDATES);
        for kept in [1, 2, 3, 4] {
            assert!(all.get(&addr(kept)).is_some(), "{kept}");
        }
        assert!(all.get(&addr(5)).is_none());
    }

    #[test]
    fn reports_replace_each_other_but_not_what_works() {
        let mut all = Candidates::default();
        let now = Instant::now();
        let report = |all: &mut Candidates, ports: &[u16], in_use| {
            all.report(
                ports.iter().map(|n| (addr(*n), EndpointKind::Stun)),
                in_use,
                now,
            )
        };
        assert!(report(&mut all, &[1, 2, 3], None));
        assert!(!report(&mut all, &[1, 2, 3], None));
        let second = all.get_mut(&addr(2)).unwrap();
        second.ping(TxId([2; 12]), now);
        assert!(second.pong(TxId([2; 12]), now));
        assert!(report(&mut all, &[4], Some(addr(3))));
        let left: Vec<u16> = all.iter().map(|(addr, _)| addr.port()).collect();
        assert_eq!(left, [2, 3, 4]);
        all.expire(Some(addr(3)), now + LEARNED_LIFETIME);
        let left: Vec<u16> = all.iter().map(|(addr, _)| addr.port()).collect();
        assert_eq!(left, [3, 4]);
    }

    #[test]
    fn pongs_count_once_and_in_time() {
        let now = Instant::now();
        let mut candidate = Candidate::new(Origin::Call, now);
        candidate.ping(TxId([1; 12]), now);
        candidate.ping(TxId([2; 12]), now);
        let later = now + Duration::from_millis(40);
        assert!(candidate.pong(TxId([1; 12]), later));
        assert!(!candidate.pong(TxId([1; 12]), later));
        assert_eq!(candidate.latency, Some(Duration::from_millis(40)));
        assert!(!candidate.pong(TxId([2; 12]), now + PING_TIMEOUT));
        assert!(!candidate.pong(TxId([3; 12]), later));
    }
}
