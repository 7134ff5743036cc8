//! The document's rules as filters need them, for one moment.
//!
//! A filter knows peers by the groups that their records carry. So each selector of the document, and
//! each condition on a source, becomes a *label*: a machine of which it is true carries it. Then a
//! rule is about labels alone, machines with the same labels are alike, and a machine that comes or
//! goes changes nobody's filter.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use ztna_proto::filter::{Action, PortRange, Protocol};
use ztna_proto::ids::{MachineId, RuleId};

use crate::document::{Document, PortBounds, Rule, Selector, Service, Standing, Truth};
use crate::facts::{Demand, Facts, internet};

/// A side of a rule with more selectors gets one label of its own, so that filters stay short.
const MAX_NAMED: usize = 8;

/// Label of machines with any route.
const ROUTED: &str = "routed";
/// Label of exit nodes.
const EXIT: &str = "exit";

/// Which machines one side of a rule means; one of them suffices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peers {
    Any,
    Machine(MachineId),
    Label(String),
}

/// A rule, as far as it is the same for all of its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flat {
    pub(crate) rule: RuleId,
    pub(crate) action: Action,
    pub(crate) src: Vec<Peers>,
    pub(crate) dst: Vec<Peers>,
    /// Source and destination have to be of one user, and labels say so instead of the sides.
    pub(crate) itself: bool,
    /// As in [`ztna_proto::filter::FilterRule`]: empty means the machine's own addresses.
    pub(crate) networks: Vec<IpNet>,
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) ports: Vec<PortRange>,
}

/// What makes a machine carry a label.
enum Reason {
    Is(Vec<Selector>),
    /// It is a source of the rule, and all that the rule demands of one.
    Source(SourceOf),
    /// As above; the label names the user.
    SourceOfOwn(SourceOf),
    /// It is a user's; the label names the user.
    Own,
    Behind(IpNet),
    Routed,
    Exit,
}

struct SourceOf {
    src: Vec<Selector>,
    demands: Vec<Demand>,
    /// What the unknown counts as: nothing is opened, and nothing left open, for want of knowledge.
    unknown: bool,
}

/// The rules in force at one moment, and all labels of the document.
pub(crate) struct Lowered {
    pub(crate) flats: Vec<Flat>,
    /// Machines that some rule names.
    pub(crate) named: BTreeSet<MachineId>,
    labels: BTreeMap<String, Reason>,
    /// When other rules may be in force.
    pub(crate) until: Option<Timestamp>,
}

impl Lowered {
    pub(crate) fn new(document: &Document, now: Timestamp) -> Self {
        let mut lowered = Self {
            flats: Vec::new(),
            named: BTreeSet::new(),
            labels: BTreeMap::new(),
            until: None,
        };
        for rule in &document.rules {
            let standing = standing(rule, now);
            lowered.until = earlier(lowered.until, standing.until);
            // A rule that rests keeps its labels: peers' records stay as they are.
            let flats = lowered.flatten(rule, document);
            if standing.holds {
                lowered.flats.extend(flats);
            }
        }
        lowered
    }

    /// The labels that a machine carries.
    pub(crate) fn labels_of(
        &self,
        id: MachineId,
        facts: &Facts,
        document: &Document,
    ) -> BTreeSet<String> {
        let owner = facts.owner();
        let is_source = |of: &SourceOf| {
            let named = of.src.iter().any(|s| facts.is(Some(id), s, document));
            named
                && of.demands.iter().all(|demand| match demand.holds(facts) {
                    Truth::Yes => true,
                    Truth::Unknown => of.unknown,
                    Truth::No => false,
                })
        };
        let carried = self.labels.iter().filter_map(|(label, reason)| {
            let plain = |carries: bool| carries.then(|| label.clone());
            match reason {
                Reason::Is(any) => plain(any.iter().any(|s| facts.is(Some(id), s, document))),
                Reason::Source(of) => plain(is_source(of)),
                Reason::SourceOfOwn(of) => owner
                    .filter(|_| is_source(of))
                    .map(|owner| format!("{label}:{owner}")),
                Reason::Own => owner.map(own),
                Reason::Behind(network) => plain(
                    facts
                        .routes
                        .iter()
                        .any(|route| overlap(route, network).is_some()),
                ),
                Reason::Routed => plain(!facts.routes.is_empty()),
                Reason::Exit => plain(facts.is_exit()),
            }
        });
        carried.collect()
    }

    fn flatten(&mut self, rule: &Rule, document: &Document) -> Vec<Flat> {
        let mut by_service: BTreeMap<Service, BTreeSet<&Selector>> = BTreeMap::new();
        for destination in &rule.dst {
            for service in joined(&destination.services) {
                by_service
                    .entry(service)
                    .or_default()
                    .insert(&destination.selector);
            }
        }
        let src = self.sources(rule, document);
        let mut flats = Vec::new();
        for (place, (service, selectors)) in by_service.into_iter().enumerate() {
            let mut add = |dst: Vec<Peers>, itself: bool, networks: Vec<IpNet>| {
                flats.push(Flat {
                    rule: rule.id,
                    action: rule.action,
                    src: src.clone(),
                    dst,
                    itself,
                    networks,
                    protocols: service.protocols.clone(),
                    ports: service
                        .ports
                        .iter()
                        .map(|bounds| PortRange::from(*bounds))
                        .collect(),
                });
            };
            let own: Vec<Selector> = selectors
                .iter()
                .filter(|s| !matches!(s, Selector::Itself | Selector::Internet))
                .map(|s| (*s).clone())
                .collect();
            if !own.is_empty() {
                add(
                    self.peers(&own, || format!("dst:{}:{place}", rule.id)),
                    false,
                    Vec::new(),
                );
            }
            let behind: Vec<IpNet> = own
                .iter()
                .filter_map(|selector| match selector {
                    Selector::Network(network) => Some(*network),
                    _ => None,
                })
                .collect();
            if !behind.is_empty() {
                let peers = behind.iter().map(|network| {
                    let label = format!("route:{network}");
                    self.label(label, || Reason::Behind(*network))
                });
                add(peers.collect(), false, behind.clone());
            }
            if selectors.contains(&Selector::Any) {
                let everywhere = vec![Ipv4Net::default().into(), Ipv6Net::default().into()];
                let routed = self.label(ROUTED.to_owned(), || Reason::Routed);
                add(vec![routed], false, everywhere);
            }
            if selectors.contains(&Selector::Internet) {
                let exit = self.label(EXIT.to_owned(), || Reason::Exit);
                add(vec![exit], false, internet().to_vec());
            }
            if selectors.contains(&Selector::Itself) {
                self.label(source_of_own(rule.id), || {
                    Reason::SourceOfOwn(SourceOf::new(rule, document))
                });
                self.label("self".to_owned(), || Reason::Own);
                add(Vec::new(), true, Vec::new());
            }
        }
        flats
    }

    fn sources(&mut self, rule: &Rule, document: &Document) -> Vec<Peers> {
        let source = SourceOf::new(rule, document);
        let label = || format!("src:{}", rule.id);
        match source.demands.is_empty() {
            true => self.peers(&rule.src, label),
            false => vec![self.label(label(), || Reason::Source(source))],
        }
    }

    /// The peers that any of the selectors means; `many` names a label for all of them.
    fn peers(&mut self, selectors: &[Selector], many: impl Fn() -> String) -> Vec<Peers> {
        if selectors.contains(&Selector::Any) {
            return vec![Peers::Any];
        }
        let distinct: BTreeSet<_> = selectors.iter().collect();
        if distinct.len() > MAX_NAMED {
            return vec![self.label(many(), || Reason::Is(selectors.to_vec()))];
        }
        let peers = distinct.into_iter().map(|selector| match selector {
            Selector::Machine(id) => {
                self.named.insert(*id);
                Peers::Machine(*id)
            }
            other => self.label(other.to_string(), || Reason::Is(vec![other.clone()])),
        });
        peers.collect()
    }

    fn label(&mut self, label: String, reason: impl FnOnce() -> Reason) -> Peers {
        self.labels.entry(label.clone()).or_insert_with(reason);
        Peers::Label(label)
    }
}

impl SourceOf {
    fn new(rule: &Rule, document: &Document) -> Self {
        Self {
            src: rule.src.clone(),
            demands: Demand::of(rule, document),
            unknown: rule.action == Action::Deny,
        }
    }
}

/// Label of a user's machines.
pub(crate) fn own(user: &str) -> String {
    format!("self:{user}")
}

/// Label, before the user, of those of a user's machines that may open by a rule.
pub(crate) fn source_of_own(rule: RuleId) -> String {
    format!("own:{rule}")
}

/// Whether a rule is in force.
pub(crate) fn standing(rule: &Rule, now: Timestamp) -> Standing {
    let mut standing = Standing {
        holds: rule.conditions.windows.is_empty(),
        until: None,
    };
    for window in &rule.conditions.windows {
        let of_window = window.standing(now);
        standing.holds |= of_window.holds;
        standing.until = earlier(standing.until, of_window.until);
    }
    match rule.conditions.expires {
        Some(end) if end <= now => Standing {
            holds: false,
            until: None,
        },
        end => Standing {
            until: earlier(standing.until, end),
            ..standing
        },
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// The same services, those of the same protocols as one.
fn joined(services: &[Service]) -> Vec<Service> {
    let mut by_protocols: BTreeMap<Vec<Protocol>, BTreeSet<PortBounds>> = BTreeMap::new();
    let mut whole: BTreeSet<Vec<Protocol>> = BTreeSet::new();
    for service in services {
        if service.ports.is_empty() {
            whole.insert(service.protocols.clone());
        }
        let ports = by_protocols.entry(service.protocols.clone()).or_default();
        ports.extend(&service.ports);
    }
    let services = by_protocols.into_iter().map(|(protocols, ports)| Service {
        ports: match whole.contains(&protocols) {
            true => Vec::new(),
            false => ports.into_iter().collect(),
        },
        protocols,
    });
    services.collect()
}

/// What two networks have in common: the smaller one, or nothing.
pub(crate) fn overlap(one: &IpNet, other: &IpNet) -> Option<IpNet> {
    match (one.contains(other), other.contains(one)) {
        (true, _) => Some(*other),
        (_, true) => Some(*one),
        _ => None,
    }
}
