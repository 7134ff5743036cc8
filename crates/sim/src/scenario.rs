//! What a seed means: who is where, who may talk to whom, what goes wrong and when.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::firewall::FirewallConfig;
use crate::nat::{Dependence, NatConfig};

/// After the last fault the network is left in peace for this long before anything is demanded:
/// a round of the slowest search after one of STUN, and the keep-alive that shows a gap in the netmap.
pub const SETTLE: Duration = Duration::from_secs(70);

/// For this long every packet has to arrive.
pub const PROOF: Duration = Duration::from_secs(10);

/// Packets of the proof are given this long.
pub const LAST_DELIVERY: Duration = Duration::from_secs(3);

/// A place where machines are.
#[derive(Clone, Debug)]
pub struct Site {
    /// The NAT that it is behind; `None`: machines here have public addresses.
    pub nat: Option<NatConfig>,
    /// The site whose NAT is around this one's.
    pub behind: Option<usize>,
    /// The third byte of its private addresses. Sites may have the same.
    pub subnet: u8,
    /// Whether machines here have an address of IPv4.
    pub has_v4: bool,
    /// The firewall before IPv6; `None`: there is no IPv6. Where there is no NAT, there is no firewall
    /// either.
    pub v6: Option<FirewallConfig>,
    /// Largest IP packet that its link to others carries, in bytes. Larger ones are lost without a word.
    pub mtu: u16,
    /// One-way delay to the middle of the internet.
    pub distance: Duration,
    /// Its weather while things go wrong.
    pub weather: Weather,
}

/// What a site does to the datagrams that pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Share that is lost.
    pub loss: f64,
    /// Share that comes twice.
    pub duplication: f64,
    /// Datagrams come up to so much later, each by another time.
    pub jitter: Duration,
}

/// A stream of packets from one machine to another.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Sender.
    pub from: usize,
    /// Receiver.
    pub to: usize,
    /// Pause between two packets.
    pub period: Duration,
    /// When it begins.
    pub start: Duration,
    /// When it ends.
    pub end: Duration,
}

/// Something that goes wrong, or is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A site has no connection (`true`), or has it again.
    Cut(usize, bool),
    /// A site lets no UDP through to others.
    UdpBlocked(usize, bool),
    /// Two sites do not reach each other.
    PairCut(usize, usize, bool),
    /// A site's NAT loses power.
    NatRestart(usize),
    /// A region's relay and STUN service are gone.
    RegionDown(usize, bool),
    /// The control plane is away.
    ControlDown(bool),
    /// A machine's stream breaks.
    StreamLost(usize),
    /// The next change is not told to a machine.
    DeltaLost(usize),
    /// A machine's process starts anew, with its saved netmap or without.
    Restart(usize, bool),
    /// A machine gets a new WireGuard key.
    NewKey(usize),
    /// A machine's process stands still; the clock does not.
    Stop(usize, bool),
    /// A machine sleeps, and its clock with it.
    Sleep(usize, bool),
    /// A machine moves to another site.
    Roam(usize, usize),
    /// Whether the first may open connections to the second.
    Allow(usize, usize, bool),
    /// Somebody sends a machine again what it was sent before: from elsewhere or from where it came,
    /// some of it changed.
    Replay(usize),
}

/// Everything about one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it was made from.
    pub seed: u64,
    /// Where machines may be.
    pub sites: Vec<Site>,
    /// One-way delay of each relay region to the middle of the internet.
    pub regions: Vec<Duration>,
    /// Each machine's site.
    pub machines: Vec<usize>,
    /// Machines that do not filter what they send: their peers have to.
    pub unfiltered: BTreeSet<usize>,
    /// Who may open connections to whom.
    pub allowed: BTreeSet<(usize, usize)>,
    /// Traffic while things go wrong.
    pub streams: Vec<Stream>,
    /// What goes wrong, in the order of time.
    pub faults: Vec<(Duration, Fault)>,
    /// When everything is mended.
    pub quiet_at: Duration,
}

fn millis(rng: &mut StdRng, from: u64, to: u64) -> Duration {
    Duration::from_micros(rng.random_range(from * 1000..=to * 1000))
}

fn nat(rng: &mut StdRng) -> NatConfig {
    // Most NATs map by nothing and filter by everything.
    let mapping = *[
        Dependence::Endpoint,
        Dependence::Endpoint,
        Dependence::Endpoint,
        Dependence::Address,
        Dependence::AddressAndPort,
    ]
    .choose(rng)
    .unwrap_or(&Dependence::Endpoint);
    let filtering = *Dependence::ALL
        .choose(rng)
        .unwrap_or(&Dependence::AddressAndPort);
    NatConfig {
        mapping,
        filtering,
        expiry: Duration::from_secs(rng.random_range(30..=180)),
        hairpin: rng.random_bool(0.4),
        keeps_port: mapping == Dependence::Endpoint && rng.random_bool(0.6),
    }
}

fn firewall(rng: &mut StdRng) -> FirewallConfig {
    let strict = [
        None,
        Some(Dependence::AddressAndPort),
        Some(Dependence::AddressAndPort),
    ];
    let filtering = match strict.choose(rng) {
        Some(filtering) if rng.random_bool(0.7) => *filtering,
        _ => Dependence::ALL.choose(rng).copied(),
    };
    FirewallConfig {
        filtering,
        expiry: Duration::from_secs(rng.random_range(30..=180)),
    }
}

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn generate(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let rng = &mut rng;
        let sites = sites(rng);
        let regions = (0..rng.random_range(1..=3)).map(|_| millis(rng, 2, 60));
        let regions: Vec<Duration> = regions.collect();
        let homes: Vec<usize> = (0..sites.len())
            .filter(|site| !sites.iter().any(|other| other.behind == Some(*site)))
            .collect();
        let count = *[2, 2, 3, 3, 4, 5, 6].choose(rng).unwrap_or(&3);
        let machines: Vec<usize> = (0..count)
            .filter_map(|_| homes.choose(rng).copied())
            .collect();
        let mut allowed = BTreeSet::new();
        for pair in pairs(count) {
            if rng.random_bool(0.75) {
                allowed.insert(pair);
            }
        }
        allowed.insert((0, 1));
        let trouble = *[20, 40, 60, 150, 400].choose(rng).unwrap_or(&60);
        let quiet_at = Duration::from_secs(trouble);
        let mut scenario = Self {
            seed,
            sites,
            regions,
            machines,
            unfiltered: BTreeSet::new(),
            allowed,
            streams: Vec::new(),
            faults: Vec::new(),
            quiet_at,
        };
        scenario.add_streams(rng);
        scenario.add_faults(rng, &homes);
        scenario.unfiltered = (0..count).filter(|_| rng.random_bool(0.3)).collect();
        scenario
    }

    /// When the run is over.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.quiet_at + SETTLE + PROOF + LAST_DELIVERY
    }

    fn add_streams(&mut self, rng: &mut StdRng) {
        for (from, to) in pairs(self.machines.len()) {
            if rng.random_bool(0.3) {
                continue;
            }
            let start = millis(rng, 0, self.millis_of_trouble());
            let end = start + millis(rng, 1_000, self.millis_of_trouble());
            let period = *[50, 200, 1_000, 3_000].choose(rng).unwrap_or(&200);
            self.streams.push(Stream {
                from,
                to,
                period: Duration::from_millis(period),
                start,
                end: end.min(self.quiet_at),
            });
        }
    }

    fn millis_of_trouble(&self) -> u64 {
        self.quiet_at.as_secs() * 1000
    }

    fn add_faults(&mut self, rng: &mut StdRng, homes: &[usize]) {
        let count = rng.random_range(0..=10);
        let nats: Vec<usize> = (0..self.sites.len())
            .filter(|site| self.sites[*site].nat.is_some())
            .collect();
        for _ in 0..count {
            let start = millis(rng, 0, self.millis_of_trouble());
            let length = millis(rng, 100, self.millis_of_trouble() / 2);
            // What is mended last is what the network has to recover from.
            let end = if rng.random_bool(0.3) {
                self.quiet_at
            } else {
                (start + length).min(self.quiet_at)
            };
            let machine = rng.random_range(0..self.machines.len());
            let other = rng.random_range(0..self.machines.len());
            let site = self.machines[machine];
            let region = rng.random_range(0..self.regions.len());
            let mut span = |faults: [Fault; 2]| {
                self.faults.push((start, faults[0]));
                self.faults.push((end, faults[1]));
            };
            match rng.random_range(0..15) {
                0 => span([true, false].map(|on| Fault::Cut(site, on))),
                1 => span([true, false].map(|on| Fault::UdpBlocked(site, on))),
                2 => {
                    let to = self.machines[other];
                    span([true, false].map(|on| Fault::PairCut(site, to, on)));
                }
                3 => {
                    if let Some(site) = nats.choose(rng) {
                        self.faults.push((start, Fault::NatRestart(*site)));
                    }
                }
                4 => span([true, false].map(|on| Fault::RegionDown(region, on))),
                5 => span([true, false].map(Fault::ControlDown)),
                6 => self.faults.push((start, Fault::StreamLost(machine))),
                7 => self.faults.push((start, Fault::DeltaLost(machine))),
                8 => {
                    let keeps = rng.random_bool(0.7);
                    self.faults.push((start, Fault::Restart(machine, keeps)));
                }
                9 => self.faults.push((start, Fault::NewKey(machine))),
                10 => span([true, false].map(|on| Fault::Stop(machine, on))),
                11 => span([true, false].map(|on| Fault::Sleep(machine, on))),
                12 => {
                    if let Some(site) = homes.choose(rng) {
                        self.faults.push((start, Fault::Roam(machine, *site)));
                    }
                }
                13 if machine != other => {
                    let on = rng.random_bool(0.5);
                    self.faults.push((start, Fault::Allow(machine, other, on)));
                }
                _ => self.faults.push((start, Fault::Replay(machine))),
            }
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }
}

/// All ordered pairs of so many machines.
pub fn pairs(count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).flat_map(move |a| (0..count).filter(move |b| a != *b).map(move |b| (a, b)))
}

fn sites(rng: &mut StdRng) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    for _ in 0..rng.random_range(1..=4) {
        // A carrier's NAT comes before the sites behind it.
        let carrier = rng.random_bool(0.25).then(|| {
            sites.push(site(rng, true, None));
            sites.len() - 1
        });
        let is_public = carrier.is_none() && rng.random_bool(0.25);
        for _ in 0..if carrier.is_some() { 2 } else { 1 } {
            sites.push(site(rng, !is_public, carrier));
        }
    }
    sites
}

fn site(rng: &mut StdRng, has_nat: bool, behind: Option<usize>) -> Site {
    let weather = Weather {
        loss: *[0.0, 0.0, 0.02, 0.1, 0.3].choose(rng).unwrap_or(&0.0),
        duplication: *[0.0, 0.0, 0.05].choose(rng).unwrap_or(&0.0),
        jitter: millis(rng, 0, 30),
    };
    let v6 = rng.random_bool(0.4).then(|| firewall(rng));
    let mtu = *[1500, 1500, 1500, 1492, 1420, 1380, 1280]
        .choose(rng)
        .unwrap_or(&1500);
    Site {
        nat: has_nat.then(|| nat(rng)),
        behind,
        subnet: rng.random_range(0..3),
        has_v4: v6.is_none() || rng.random_bool(0.7),
        v6,
        // And what no table lists.
        mtu: if rng.random_bool(0.2) {
            rng.random_range(1280..=1500)
        } else {
            mtu
        },
        distance: millis(rng, 1, 80),
        weather,
    }
}
