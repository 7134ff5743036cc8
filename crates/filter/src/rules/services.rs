//! What rules say of protocols and ports, once addresses and peers are settled.

use std::collections::{BTreeMap, HashMap};

use ztna_proto::filter::{FilterRule, Protocol};

use super::Opinion;
use crate::packet::protocol;

/// Rules that name no protocol: a line of its own after those of the 256 protocols.
const ANY: u32 = 256;
/// Rules that name ICMP mean another number on each family: a line of its own too.
const ICMP: u32 = 257;

/// A line is as long as this: the packets without a port, then the 65,536 ports.
const LINE: u32 = 1 + (1 << 16);

/// A set of protocols and ports, as ranges of points. Each protocol is a line of [`LINE`] points.
pub(super) type Points = Vec<(u32, u32)>;

/// What a packet asks for, as far as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// IANA number.
    pub(crate) protocol: u8,
    /// Destination port, of protocols that have one.
    pub(crate) port: Option<u16>,
    /// Whether the packet is IPv6.
    pub(crate) v6: bool,
}

impl Service {
    /// The lines on which rules may speak of the service.
    fn lines(self) -> impl Iterator<Item = u32> {
        let icmp = if self.v6 {
            protocol::ICMPV6
        } else {
            protocol::ICMP
        };
        let icmp = (self.protocol == icmp).then_some(ICMP);
        [Some(self.protocol.into()), Some(ANY), icmp]
            .into_iter()
            .flatten()
    }

    fn points(self) -> impl Iterator<Item = u32> {
        let at = self.port.map_or(0, |port| u32::from(port) + 1);
        self.lines().map(move |line| line * LINE + at)
    }
}

/// The points of which a rule speaks.
pub(super) fn points(rule: &FilterRule) -> Points {
    let lines: Vec<u32> = if rule.protocols.is_empty() {
        vec![ANY]
    } else {
        rule.protocols.iter().map(line).collect()
    };
    let ranges: Points = if rule.ports.is_empty() {
        vec![(0, LINE)]
    } else {
        // Nothing is from a higher port to a lower.
        let ports = rule.ports.iter().filter(|range| range.first <= range.last);
        ports
            .map(|range| (u32::from(range.first) + 1, u32::from(range.last) + 2))
            .collect()
    };
    let of_line = |line: u32| {
        ranges
            .iter()
            .map(move |(from, to)| (line * LINE + from, line * LINE + to))
    };
    lines.into_iter().flat_map(of_line).collect()
}

fn line(protocol: &Protocol) -> u32 {
    match protocol {
        Protocol::Tcp => protocol::TCP.into(),
        Protocol::Udp => protocol::UDP.into(),
        Protocol::Sctp => protocol::SCTP.into(),
        Protocol::Number(number) => (*number).into(),
        Protocol::Icmp => ICMP,
    }
}

/// From this point on, this opinion holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Segment {
    from: u32,
    opinion: Opinion,
}

/// What lists of rules say of every service. A list is known by its place: there stands how many
/// segments follow, then they do. Before the first of them, nothing is said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Services(Box<[Segment]>);

impl Services {
    pub(super) fn opinion(&self, place: u32, service: Service) -> Opinion {
        let Some((head, rest)) = self.0.get(place as usize..).and_then(<[_]>::split_first) else {
            return Opinion::NONE;
        };
        let segments = rest.get(..head.from as usize).unwrap_or_default();
        let at = |point: u32| {
            let after = segments.partition_point(|segment| segment.from <= point);
            let last = after.checked_sub(1).and_then(|last| segments.get(last));
            last.map_or(Opinion::NONE, |segment| segment.opinion)
        };
        service.points().map(at).min().unwrap_or_default()
    }
}

/// [`Services`] in the making. What is said twice is kept once.
#[derive(Default)]
pub(super) struct ServicesBuilder {
    segments: Vec<Segment>,
    /// Only looked up, never iterated.
    places: HashMap<Box<[Segment]>, u32>,
}

impl ServicesBuilder {
    /// Joins what rules say; gives the place.
    pub(super) fn add<'a>(&mut self, rules: impl Iterator<Item = (Opinion, &'a Points)>) -> u32 {
        let joined = join(rules);
        if let Some(place) = self.places.get(&*joined) {
            return *place;
        }
        // A list that has no place any more would need more memory than there is; what nothing says
        // anything of is dropped.
        let place = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        self.segments.push(Segment {
            from: u32::try_from(joined.len()).unwrap_or_default(),
            opinion: Opinion::NONE,
        });
        self.segments.extend_from_slice(&joined);
        self.places.insert(joined, place);
        place
    }

    pub(super) fn build(self) -> Services {
        Services(self.segments.into())
    }
}

fn join<'a>(rules: impl Iterator<Item = (Opinion, &'a Points)>) -> Box<[Segment]> {
    let mut edges: Vec<(u32, bool, Opinion)> = Vec::new();
    for (opinion, points) in rules {
        for &(from, to) in points {
            edges.push((from, true, opinion));
            edges.push((to, false, opinion));
        }
    }
    edges.sort_unstable();
    let mut speaking = BTreeMap::<Opinion, usize>::new();
    let mut segments: Vec<Segment> = Vec::new();
    for edge in edges.chunk_by(|a, b| a.0 == b.0) {
        for &(_, begins, opinion) in edge {
            let count = speaking.entry(opinion).or_default();
            if begins {
                *count += 1;
                continue;
            }
            *count -= 1;
            if *count == 0 {
                speaking.remove(&opinion);
            }
        }
        let opinion = speaking.keys().next().copied().unwrap_or_default();
        let before = segments.last().map(|segment| segment.opinion);
        if before.unwrap_or_default() != opinion {
            segments.push(Segment {
                from: edge[0].0,
                opinion,
            });
        }
    }
    segments.into()
}
