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
#[derive(PartialEq)]
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

#[derive(PartialEq)]
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
        let labels = self.labels.iter();
        labels
            .filter_map(|(label, reason)| reason.label(label, id, facts, document))
            .collect()
    }

    /// The labels that mean something else here than they did in another document.
    pub(crate) fn news<'a>(
        &'a self,
        document: &'a Document,
        before: &Self,
        then: &Document,
    ) -> News<'a> {
        let mut news = News {
            document,
            held: BTreeSet::new(),
            labels: Vec::new(),
        };
        for (label, reason) in &self.labels {
            let same = before.labels.get(label) == Some(reason) && reason.same(document, then);
            match same {
                true => {
                    news.held.insert(label);
                }
                false => news.labels.push((label, reason)),
            }
        }
        news
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

/// What one document's labels are beside another's.
pub(crate) struct News<'a> {
    document: &'a Document,
    /// Labels that a machine carries if it did before.
    held: BTreeSet<&'a str>,
    /// Those of which that has to be found out.
    labels: Vec<(&'a str, &'a Reason)>,
}

impl News<'_> {
    /// Whether a machine that carried the label goes on to.
    pub(crate) fn holds(&self, label: &str) -> bool {
        self.held.contains(label)
    }

    /// The other labels that a machine carries.
    pub(crate) fn labels_of(&self, id: MachineId, facts: &Facts) -> impl Iterator<Item = String> {
        let labels = self.labels.iter();
        labels.filter_map(move |(label, reason)| reason.label(label, id, facts, self.document))
    }
}

impl Reason {
    /// The label as the machine carries it, if it does.
    fn label(
        &self,
        label: &str,
        id: MachineId,
        facts: &Facts,
        document: &Document,
    ) -> Option<String> {
        let plain = |carries: bool| carries.then(|| label.to_owned());
        match self {
            Self::Is(any) => plain(any.iter().any(|s| facts.is(Some(id), s, document))),
            Self::Source(of) => plain(of.is(id, facts, document)),
            Self::SourceOfOwn(of) => facts
                .owner()
                .filter(|_| of.is(id, facts, document))
                .map(|owner| format!("{label}:{owner}")),
            Self::Own => facts.owner().map(own),
            Self::Behind(network) => plain(
                facts
                    .routes
                    .iter()
                    .any(|route| overlap(route, network).is_some()),
            ),
            Self::Routed => plain(!facts.routes.is_empty()),
            Self::Exit => plain(facts.is_exit()),
        }
    }

    /// Whether a machine carries the label by one document if it does by the other. Not said of labels that
    /// name the user: they are carried under other names than their own.
    fn same(&self, one: &Document, other: &Document) -> bool {
        let selectors = match self {
            Self::Is(selectors) => selectors,
            Self::Source(of) => &of.src,
            Self::SourceOfOwn(_) | Self::Own => return false,
            Self::Behind(_) | Self::Routed | Self::Exit => return true,
        };
        selectors.iter().all(|selector| match selector {
            Selector::Group(group) => one.group(group) == other.group(group),
            _ => true,
        })
    }
}

impl SourceOf {
    /// Whether the machine is such a source.
    fn is(&self, id: MachineId, facts: &Facts, document: &Document) -> bool {
        let named = self.src.iter().any(|s| facts.is(Some(id), s, document));
        named
            && self.demands.iter().all(|demand| match demand.holds(facts) {
                Truth::Yes => true,
                Truth::Unknown => self.unknown,
                Truth::No => false,
            })
    }

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
