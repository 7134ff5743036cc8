//! How large a packet may be on a path, found by probes alone (RFC 8899): routers' "too big" is
//! neither needed nor believed.
//!
//! All sizes are of whole IP packets as they leave this machine, in bytes. A search begins with one
//! probe of each of the [`COMMON_SIZES`]: mostly the largest that is answered is the path's. Then
//! sizes between what passes and what does not are tried, each up to [`MAX_TRIES`] times, until less
//! than [`STEP`] is left between the two; from then on the path's size is *settled*. Before the first answer a
//! path is taken to carry [`BASE_MTU`].
//!
//! Under load the size in use is probed every [`CONFIRM_EVERY`]. If it passes no more, all that was
//! found is void and the search begins anew. Every [`RAISE_AFTER`] larger sizes are tried again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ztna_disco::TxId;

/// What a path carries until it is known better: the least of IPv6 (RFC 8200 §5), and of nearly every
/// path of IPv4.
pub const BASE_MTU: u16 = 1280;

/// What a path is taken to carry where not even [`BASE_MTU`] passes: what every host of IPv4 takes
/// (RFC 791 §3.1).
pub const MIN_MTU: u16 = 576;

/// The largest size that is tried: jumbo frames.
pub const MAX_MTU: u16 = 9000;

/// Sizes that are tried first, all at once: the base; tunnels in tunnels; WireGuard and PPPoE over
/// Ethernet; Ethernet; jumbo frames.
pub const COMMON_SIZES: [u16; 7] = [BASE_MTU, 1380, 1420, 1452, 1492, 1500, MAX_MTU];

/// The search ends when what passes and what does not are this near: WireGuard pads what it carries to
/// multiples of it (whitepaper §5.4.6).
pub const STEP: u16 = 16;

/// Probes of one size that have to be lost for it to count as too large (RFC 8899 §5.1.2).
pub const MAX_TRIES: u8 = 3;

/// A probe counts as lost after three round trips, but no sooner than this …
pub const MIN_PROBE_WAIT: Duration = Duration::from_millis(100);

/// … and no later than this.
pub const MAX_PROBE_WAIT: Duration = Duration::from_secs(1);

/// A probe of the size in use is waited for this long at least: one that is taken for lost costs the
/// traffic a detour.
pub const MIN_CONFIRM_WAIT: Duration = Duration::from_millis(500);

/// Under load the size in use is probed this often: a path that shrinks costs large packets at most
/// this and [`MAX_TRIES`] waits.
pub const CONFIRM_EVERY: Duration = Duration::from_secs(2);

/// Larger sizes are tried again after this (RFC 8899 §5.1.1, PMTU_RAISE_TIMER).
pub const RAISE_AFTER: Duration = Duration::from_secs(600);

/// Most probes that wait for their answers; older ones are forgotten.
const MAX_PENDING: usize = 16;

/// Bytes of IP and UDP headers before a datagram's payload.
const fn headers(to: &SocketAddr) -> u16 {
    match to {
        SocketAddr::V4(_) => 20 + 8,
        SocketAddr::V6(_) => 40 + 8,
    }
}

/// The UDP payload that makes an IP packet of this size.
#[must_use]
pub fn payload(size: u16, to: &SocketAddr) -> usize {
    usize::from(size.saturating_sub(headers(to)))
}

/// The size of the IP packet that carries this UDP payload.
#[must_use]
pub fn packet_size(payload: usize, to: &SocketAddr) -> u16 {
    u16::try_from(payload).map_or(u16::MAX, |bytes| bytes.saturating_add(headers(to)))
}

/// What is known of a path's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// The peer's address.
    pub to: SocketAddr,
    /// The largest IP packet that passes, in bytes.
    pub size: u16,
    /// Whether larger ones are known not to pass, by less than [`STEP`].
    pub is_settled: bool,
}

impl PathMtu {
    /// The largest UDP payload that passes, in bytes.
    #[must_use]
    pub fn payload(&self) -> usize {
        payload(self.size, &self.to)
    }
}

/// A size whose fate is waited for.
#[derive(Clone, Copy, Debug)]
struct Test {
    size: u16,
    tries: u8,
    /// When the last try counts as lost.
    due: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    tx: TxId,
    size: u16,
    sent: Instant,
}

/// The search on one path.
#[derive(Clone, Debug)]
pub(crate) struct MtuSearch {
    /// The largest size that passes. Assumed, until `proven_at` is set.
    passes: u16,
    proven_at: Option<Instant>,
    /// The smallest size that does not pass; above [`MAX_MTU`]: none is known.
    fails: u16,
    is_settled: bool,
    /// The first probes are still to be sent.
    is_fresh: bool,
    /// Nothing is left to be tried until `raise_at`.
    is_over: bool,
    test: Option<Test>,
    raise_at: Option<Instant>,
    pending: VecDeque<Probe>,
}

impl MtuSearch {
    pub(crate) fn new() -> Self {
        Self {
            passes: BASE_MTU,
            proven_at: None,
            fails: MAX_MTU + 1,
            is_settled: false,
            is_fresh: true,
            is_over: false,
            test: None,
            raise_at: None,
            pending: VecDeque::new(),
        }
    }

    pub(crate) fn size(&self) -> u16 {
        self.passes
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// When [`MtuSearch::run`] has something to do, whatever the traffic.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        match self.test {
            _ if self.is_fresh => Some(now),
            Some(test) => Some(test.due),
            None if self.is_over => self.raise_at,
            None => Some(now),
        }
    }

    /// When the size in use is to be probed, if there is traffic.
    pub(crate) fn confirm_at(&self) -> Option<Instant> {
        self.proven_at
            .filter(|_| self.is_over && self.test.is_none())
            .map(|proven| proven + CONFIRM_EVERY)
    }

    /// Does what is due; gives the sizes of the probes to send now.
    pub(crate) fn run(&mut self, wait: Duration, loaded: bool, now: Instant) -> Vec<u16> {
        let mut probes = Vec::new();
        if let Some(test) = self.test.filter(|test| test.due <= now) {
            if test.tries < MAX_TRIES {
                self.try_again(test, wait, now);
                probes.push(test.size);
                return probes;
            }
            self.failed(test.size);
        }
        if self.test.is_none() && self.is_over && self.raise_at.is_some_and(|at| at <= now) {
            self.fails = MAX_MTU + 1;
            self.is_over = false;
            self.is_fresh = true;
        }
        if self.is_fresh {
            self.is_fresh = false;
            let open = COMMON_SIZES
                .into_iter()
                .filter(|size| *size > self.passes && *size < self.fails);
            probes.extend(std::iter::once(self.passes).chain(open));
            self.test = Some(Test {
                size: self.passes,
                tries: 1,
                due: now + self.wait_for(self.passes, wait),
            });
        } else if self.test.is_none() {
            if let Some(size) = self.open_size() {
                probes.extend(self.begin(size, wait, now));
            } else {
                self.settle(now);
                if loaded && self.confirm_at().is_some_and(|at| at <= now) {
                    probes.extend(self.begin(self.passes, wait, now));
                }
            }
        }
        probes
    }

    /// A probe has left.
    pub(crate) fn sent(&mut self, tx: TxId, size: u16, now: Instant) {
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Probe {
            tx,
            size,
            sent: now,
        });
    }

    /// A pong came. `false`: it answers no probe of this search.
    pub(crate) fn answered(&mut self, tx: TxId, now: Instant) -> bool {
        let Some(at) = self.pending.iter().position(|probe| probe.tx == tx) else {
            return false;
        };
        let Some(Probe { size, .. }) = self.pending.remove(at) else {
            return false;
        };
        if size >= self.passes {
            self.passes = size;
            self.proven_at = Some(now);
        }
        if size >= self.fails {
            // It was taken for lost too soon: so may others have been.
            self.fails = MAX_MTU + 1;
            self.is_over = false;
        }
        if self.test.is_some_and(|test| test.size <= self.passes) {
            self.test = None;
        }
        true
    }

    /// This machine's own network does not take packets of this size.
    pub(crate) fn refused(&mut self, size: u16) {
        if size > MIN_MTU {
            self.failed(size);
        }
        if self.test.is_some_and(|test| test.size >= self.fails) {
            self.test = None;
        }
    }

    /// The path was in doubt: probes may have been lost that were not too large.
    pub(crate) fn begin_anew(&mut self) {
        self.fails = MAX_MTU + 1;
        self.is_settled = false;
        self.is_fresh = true;
        self.is_over = false;
        self.test = None;
        self.pending.clear();
    }

    /// The next size to try: what is only assumed, unless nothing smaller is left; then common ones;
    /// then the middle. `None`: it is over.
    fn open_size(&self) -> Option<u16> {
        if self.proven_at.is_none() && self.passes > MIN_MTU {
            return Some(self.passes);
        }
        if self.fails - self.passes <= STEP || self.passes == MAX_MTU {
            return None;
        }
        let is_open = |size: &u16| *size > self.passes && *size < self.fails;
        let common = COMMON_SIZES.into_iter().find(is_open);
        Some(common.unwrap_or(self.passes + (self.fails - self.passes) / 2))
    }

    /// Tests a size. Gives it, unless a probe of it is on its way.
    fn begin(&mut self, size: u16, wait: Duration, now: Instant) -> Option<u16> {
        let wait = self.wait_for(size, wait);
        let under_way = self
            .pending
            .iter()
            .filter(|probe| probe.size == size)
            .map(|probe| probe.sent + wait)
            .filter(|due| *due > now)
            .max();
        self.test = Some(Test {
            size,
            tries: 1,
            due: under_way.unwrap_or(now + wait),
        });
        under_way.is_none().then_some(size)
    }

    fn try_again(&mut self, test: Test, wait: Duration, now: Instant) {
        self.test = Some(Test {
            tries: test.tries + 1,
            due: now + self.wait_for(test.size, wait),
            ..test
        });
    }

    fn wait_for(&self, size: u16, wait: Duration) -> Duration {
        if size == self.passes && self.proven_at.is_some() {
            wait.max(MIN_CONFIRM_WAIT)
        } else {
            wait
        }
    }

    fn failed(&mut self, size: u16) {
        self.test = None;
        self.fails = self.fails.min(size);
        if self.fails > self.passes {
            return;
        }
        // What was in use does not pass.
        self.passes = if self.fails > BASE_MTU {
            BASE_MTU
        } else {
            MIN_MTU
        };
        self.proven_at = None;
        self.is_settled = false;
        self.is_over = false;
        self.is_fresh = self.passes == BASE_MTU;
        // An answer that is under way proves what was, not what is.
        self.pending.clear();
    }

    fn settle(&mut self, now: Instant) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        self.is_settled = true;
        self.raise_at = (self.passes < MAX_MTU).then_some(now + RAISE_AFTER);
    }
}

/// How long a probe is waited for on a path of this round-trip time.
pub(crate) fn probe_wait(latency: Duration) -> Duration {
    (latency * 3).clamp(MIN_PROBE_WAIT, MAX_PROBE_WAIT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(20);

    /// A path that drops what is larger than `carries`, and so many of a thousand others.
    struct Path {
        search: MtuSearch,
        now: Instant,
        carries: u16,
        /// Larger probes are refused by this machine itself.
        own: u16,
        loss: u32,
        chance: u32,
        answers: BTreeMap<(Instant, u32), TxId>,
        serial: u32,
        probes: Vec<u16>,
    }

    impl Path {
        fn new(carries: u16) -> Self {
            Self {
                search: MtuSearch::new(),
                now: Instant::now(),
                carries,
                own: u16::MAX,
                loss: 0,
                chance: 1,
                answers: BTreeMap::new(),
                serial: 0,
                probes: Vec::new(),
            }
        }

        fn is_lost(&mut self) -> bool {
            // Numerical Recipes' generator: enough for dice.
            self.chance = self
                .chance
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223);
            (self.chance >> 8) % 1000 < self.loss
        }

        fn step(&mut self, loaded: bool) {
            let sizes = self.search.run(probe_wait(ROUND_TRIP), loaded, self.now);
            for size in sizes {
                self.serial += 1;
                let mut tx = TxId([0; 12]);
                tx.0[..4].copy_from_slice(&self.serial.to_be_bytes());
                self.probes.push(size);
                self.search.sent(tx, size, self.now);
                if size > self.own {
                    self.search.refused(size);
                } else if size <= self.carries && !self.is_lost() {
                    self.answers
                        .insert((self.now + ROUND_TRIP, self.serial), tx);
                }
            }
        }

        /// Lets time pass.
        fn run(&mut self, time: Duration, loaded: bool) {
            let end = self.now + time;
            while self.now < end {
                while let Some(answer) = self.answers.first_entry()
                    && answer.key().0 <= self.now
                {
                    let tx = answer.remove();
                    self.search.answered(tx, self.now);
                }
                self.step(loaded);
                self.now += Duration::from_millis(5);
            }
        }
    }

    proptest! {
        #[test]
        fn every_size_is_found_to_the_step(carries in MIN_MTU..=9200, own in 1280_u16..=9200) {
            let mut path = Path::new(carries);
            path.own = own;
            path.run(Duration::from_secs(6), true);
            let truth = carries.min(own).min(MAX_MTU);
            prop_assert!(path.search.is_settled());
            prop_assert!(path.search.size() <= truth);
            prop_assert!(truth - path.search.size() < STEP, "{} of {truth}", path.search.size());
            prop_assert!(path.probes.len() <= 60, "{} probes", path.probes.len());
        }

        #[test]
        fn loss_never_makes_it_too_large(
            carries in MIN_MTU..=9000,
            loss in 0_u32..400,
            chance in any::<u32>(),
        ) {
            let mut path = Path::new(carries);
            (path.loss, path.chance) = (loss, chance);
            path.run(Duration::from_secs(20), true);
            prop_assert!(path.search.size() <= carries);
        }

        #[test]
        fn a_path_that_shrinks_under_load_is_noticed_soon(
            before in 1300_u16..=9000,
            after in MIN_MTU..1280,
        ) {
            let mut path = Path::new(before);
            path.run(Duration::from_secs(6), true);
            path.carries = after;
            path.answers.clear();
            path.run(CONFIRM_EVERY + MIN_CONFIRM_WAIT * 3 + MIN_PROBE_WAIT * 3 + ROUND_TRIP, true);
            prop_assert!(path.search.size() <= after, "{} on {after}", path.search.size());
            prop_assert!(!path.search.is_settled() || after - path.search.size() < STEP);
        }
    }

    #[test]
    fn common_sizes_are_exact_within_a_round_trip_or_one_failed_size() {
        for carries in COMMON_SIZES {
            let mut path = Path::new(carries);
            path.run(ROUND_TRIP + Duration::from_millis(10), false);
            assert_eq!(path.search.size(), carries);
            path.run(Duration::from_secs(3), false);
            assert_eq!(path.search.size(), carries);
            assert!(path.search.is_settled());
        }
    }

    #[test]
    fn without_traffic_nothing_is_confirmed() {
        let mut path = Path::new(1500);
        path.run(Duration::from_secs(10), false);
        let probes = path.probes.len();
        path.run(Duration::from_secs(500), false);
        assert_eq!(path.probes.len(), probes);
        path.run(Duration::from_secs(10), true);
        assert_eq!(path.probes[probes..], [1500; 5]);
    }

    #[test]
    fn a_path_that_grows_is_noticed_by_the_raise_timer_and_stays_settled_meanwhile() {
        let mut path = Path::new(1400);
        path.run(Duration::from_secs(10), false);
        let before = path.search.size();
        path.carries = 9000;
        while path.search.size() == before {
            path.run(Duration::from_secs(1), false);
            assert!(path.search.is_settled());
            assert!(path.probes.len() < 100, "it never looks again");
        }
        assert_eq!(path.search.size(), 9000);
    }

    #[test]
    fn one_lost_confirmation_changes_nothing() {
        let mut path = Path::new(1500);
        path.run(Duration::from_secs(5), true);
        for _ in 0..20 {
            path.carries = 1000;
            path.run(Duration::from_millis(900), true);
            path.carries = 1500;
            path.run(Duration::from_secs(3), true);
            assert!(path.search.is_settled());
            assert_eq!(path.search.size(), 1500);
        }
    }

    #[test]
    fn doubt_makes_it_look_again_and_keeps_what_passed_until_it_fails() {
        let mut path = Path::new(1500);
        path.run(Duration::from_secs(5), true);
        path.search.begin_anew();
        assert_eq!(path.search.size(), 1500);
        assert!(!path.search.is_settled());
        path.carries = 1420;
        path.answers.clear();
        path.run(Duration::from_secs(4), true);
        assert_eq!((path.search.size(), path.search.is_settled()), (1420, true));
    }

    #[test]
    fn sizes_count_the_headers() {
        let v4 = "192.0.2.1:1".parse().unwrap();
        let v6 = "[2001:db8::1]:1".parse().unwrap();
        assert_eq!(payload(1500, &v4), 1472);
        assert_eq!(payload(1500, &v6), 1452);
        assert_eq!(packet_size(1472, &v4), 1500);
        assert_eq!(packet_size(70_000, &v6), u16::MAX);
    }
}
