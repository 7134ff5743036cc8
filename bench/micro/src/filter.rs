//! The packet filter: what a packet costs that opens a flow, that is of one, that nothing allows, by
//! the number of rules; and what the rules themselves cost.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use ztna_bench_record::{Bar, Better, Record, Sample, median};
use ztna_filter::{Direction, Filter, Limits, Verdict};
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector, PortRange, Protocol};
use ztna_proto::ids::{MachineId, RuleId};

use crate::timing::{nanoseconds, sample, weigh, weigh_elsewhere};

/// Numbers of rules. The largest comes first: it is what the bars are for.
const SIZES: [usize; 3] = [50_000, 10, 1_000];
/// Packets that each open a flow. Fewer than a peer may have flows.
const FIRST: usize = 8_192;
/// Flows that are followed, and how often.
const FLOWS: usize = 1_024;
const ROUNDS: usize = 256;
/// Every so many rules one denies.
const DENY_EVERY: usize = 10;

const ME: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 2);

type Packet = [u8; 40];

/// Runs all.
pub fn run(runs: usize) -> Result<Vec<Record>> {
    let benches: Vec<Bench> = SIZES.into_iter().map(Bench::new).collect();
    let mut records = Vec::new();
    let mut figure = |name: &str, what: &str, bar: f64, limit: f64, of: Measure| -> Result<()> {
        let mut samples = Vec::new();
        for bench in &benches {
            samples.push(sample(&bench.name(), runs, || of(bench))?);
        }
        let growth = growth(&samples);
        records.push(Record::compare(
            (name, what, "ns/packet"),
            (Better::Less, Bar::Absolute(bar)),
            samples,
            &[],
        ));
        records.push(Record::compare(
            (
                &format!("{name}_growth"),
                "the same at 50,000 rules by that at 10",
                "×",
            ),
            (Better::Less, Bar::Absolute(limit)),
            vec![growth],
            &[],
        ));
        Ok(())
    };
    figure(
        "filter_first",
        "filter: a packet that opens a flow",
        3_000.0,
        GROWTH,
        Bench::first,
    )?;
    figure(
        "filter_established",
        "filter: a packet of a flow",
        300.0,
        GROWTH,
        Bench::established,
    )?;
    figure(
        "filter_refused",
        "filter: a packet that no rule allows",
        1_000.0,
        SEARCH_GROWTH,
        Bench::refused,
    )?;
    records.push(install(runs)?);
    records.push(memory(runs)?);
    Ok(records)
}

/// How much more a packet may cost at 50,000 rules than at 10.
const GROWTH: f64 = 2.0;
/// The same of a packet that is searched for and nothing else: ten rules lie in the fastest cache, and
/// 50,000 do not. Looking at every rule would make it 5,000.
const SEARCH_GROWTH: f64 = 10.0;

type Measure = fn(&Bench) -> Result<f64>;

fn growth(samples: &[Sample]) -> Sample {
    let mut growth = samples[0].clone();
    growth.server = "50,000 rules by 10".to_owned();
    let few = &samples[1].runs;
    let ratios = growth.runs.iter().zip(few).map(|(many, few)| many / few);
    growth.runs = ratios.collect();
    growth.median = median(&growth.runs);
    growth
}

fn install(runs: usize) -> Result<Record> {
    let rules = rules(SIZES[0]);
    let installed = sample("50,000 rules", runs, || {
        let mut filter = filter();
        Ok(nanoseconds(1, || filter.set_rules(&rules)) / 1e6)
    })?;
    let again = sample("the same again", runs, || {
        let mut filter = filter();
        filter.set_rules(&rules);
        Ok(nanoseconds(1, || filter.set_rules(&rules)) / 1e6)
    })?;
    Ok(Record::compare(
        ("filter_install", "filter: installing 50,000 rules", "ms"),
        (Better::Less, Bar::Absolute(100.0)),
        vec![installed, again],
        &[],
    ))
}

fn memory(runs: usize) -> Result<Record> {
    let weighed = sample("50,000 rules", runs, || {
        Ok(weigh_elsewhere("rules", SIZES[0])?.gained / 1e6)
    })?;
    Ok(Record::compare(
        ("filter_memory", "filter: memory of 50,000 rules", "MB"),
        (Better::Less, Bar::Absolute(10.0)),
        vec![weighed],
        &[],
    ))
}

/// Makes a filter with so many rules in this process. The rules as they came are on the scale
/// before it.
pub fn weigh_rules(count: usize) -> Result<()> {
    let rules = rules(count);
    weigh(|| {
        let mut filter = filter();
        filter.set_rules(&rules);
        Ok(filter)
    })
}

/// A filter with rules, and packets for it.
struct Bench {
    rules: PacketFilter,
    /// Each opens a flow of its own.
    first: Vec<Packet>,
    /// No rule allows them.
    refused: Vec<Packet>,
}

impl Bench {
    fn new(count: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let allowed: Vec<usize> = (0..count).filter(|n| n % DENY_EVERY != 0).collect();
        let port = |n: usize| u16::try_from(n % 60_000).unwrap_or_default() + 1_024;
        let first = (0..FIRST).map(|n| {
            let rule = allowed[rng.random_range(0..allowed.len())];
            packet(PEER, port(n), target(rule), port_of(rule), SYN)
        });
        let first = first.collect();
        let refused = (0..FIRST).map(|n| {
            let rule = allowed[rng.random_range(0..allowed.len())];
            packet(PEER, port(n), target(rule), port_of(rule) + 1, SYN)
        });
        Self {
            rules: rules(count),
            refused: refused.collect(),
            first,
        }
    }

    fn name(&self) -> String {
        format!("{} rules", self.rules.inbound.len())
    }

    fn filter(&self) -> Filter {
        let mut filter = filter();
        filter.set_rules(&self.rules);
        filter
    }

    fn first(&self) -> Result<f64> {
        let mut filter = self.filter();
        check(&mut filter, &self.first, Direction::Inbound, true)
    }

    fn refused(&self) -> Result<f64> {
        let mut filter = self.filter();
        check(&mut filter, &self.refused, Direction::Inbound, false)
    }

    /// Half of the packets go each way.
    fn established(&self) -> Result<f64> {
        let mut filter = self.filter();
        let opened = &self.first[..FLOWS];
        check(&mut filter, opened, Direction::Inbound, true)?;
        let replies: Vec<Packet> = opened.iter().map(answer).collect();
        let more: Vec<Packet> = opened.iter().map(acknowledged).collect();
        let mut times = Vec::new();
        for _ in 0..ROUNDS / 2 {
            times.push(check(&mut filter, &replies, Direction::Outbound, true)?);
            times.push(check(&mut filter, &more, Direction::Inbound, true)?);
        }
        Ok(median(&times))
    }
}

/// Nanoseconds for each of the packets, all of which must fare alike.
fn check(filter: &mut Filter, packets: &[Packet], direction: Direction, pass: bool) -> Result<f64> {
    let mut passed = 0;
    let now = Instant::now();
    let time = nanoseconds(packets.len(), || {
        for packet in packets {
            let verdict = filter.check(direction, peer(), black_box(packet), now);
            passed += usize::from(verdict == Verdict::Allow);
        }
    });
    let expected = if pass { packets.len() } else { 0 };
    ensure!(passed == expected, "{passed} of {} passed", packets.len());
    Ok(time)
}

fn peer() -> MachineId {
    MachineId(uuid::Uuid::from_u128(2))
}

fn filter() -> Filter {
    let mut filter = Filter::new(Limits::default());
    let groups = ["member".to_owned(), "tag:db".to_owned()];
    filter.set_own(&own());
    filter.set_peer(peer(), &groups, &[std::net::IpAddr::V4(PEER).into()]);
    filter
}

/// This machine routes for a network, as rules with networks need.
fn own() -> Vec<ipnet::IpNet> {
    let lan = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8);
    vec![std::net::IpAddr::V4(ME).into(), lan.into()]
}

/// Rules that all speak of the one peer there is, so that none is out of the way: each opens one
/// port of one host or, every third, of a network; some deny.
fn rules(count: usize) -> PacketFilter {
    let rule = |n: usize| FilterRule {
        rule: RuleId(uuid::Uuid::from_u128(n as u128 + 1)),
        action: if n.is_multiple_of(DENY_EVERY) {
            Action::Deny
        } else {
            Action::Allow
        },
        peers: vec![match n % 2 {
            0 => PeerSelector::Any,
            _ => PeerSelector::Group("member".to_owned()),
        }],
        networks: vec![network(n)],
        protocols: vec![Protocol::Tcp],
        ports: vec![PortRange::single(port_of(n))],
    };
    PacketFilter {
        inbound: (0..count).map(rule).collect(),
        outbound: vec![],
    }
}

/// Where rule `n` leads: every rule has 16 addresses of 10.0.0.0/8 for itself.
fn target(n: usize) -> Ipv4Addr {
    let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    Ipv4Addr::from(base + u32::try_from(n % (1 << 20)).unwrap_or_default() * 16)
}

fn network(n: usize) -> ipnet::IpNet {
    let length = if n % 3 == 2 { 28 } else { 32 };
    ipnet::Ipv4Net::new_assert(target(n), length).into()
}

fn port_of(n: usize) -> u16 {
    u16::try_from(n % 30_000).unwrap_or_default() * 2 + 1
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A TCP segment without data. The filter reads no checksum.
fn packet(src: Ipv4Addr, src_port: u16, dst: Ipv4Addr, dst_port: u16, flags: u8) -> Packet {
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&src.octets());
    packet[16..20].copy_from_slice(&dst.octets());
    packet[20..22].copy_from_slice(&src_port.to_be_bytes());
    packet[22..24].copy_from_slice(&dst_port.to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = flags;
    packet
}

fn answer(packet: &Packet) -> Packet {
    let mut answer = acknowledged(packet);
    answer[12..16].copy_from_slice(&packet[16..20]);
    answer[16..20].copy_from_slice(&packet[12..16]);
    answer[20..22].copy_from_slice(&packet[22..24]);
    answer[22..24].copy_from_slice(&packet[20..22]);
    answer
}

fn acknowledged(packet: &Packet) -> Packet {
    let mut packet = *packet;
    packet[33] = ACK;
    packet
}
