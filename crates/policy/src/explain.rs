//! Verdicts, condition by condition.
//!
//! Reads the document as a person does, rule by rule, and shares nothing with the compiler but what
//! selectors and conditions mean; tests hold the two against each other.

use std::net::IpAddr;

use jiff::Timestamp;
use ztna_proto::filter::{Action, Protocol};
use ztna_proto::ids::MachineId;
use ztna_proto::policy::{Condition, RuleVerdict, Verdict};

use crate::document::{Document, Rule, Selector, Service, Truth};
use crate::facts::{Demand, Facts, Place, internet};
use crate::lower::standing;
use crate::reach;

/// A machine, or what one would be.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// The machine. `None`: one that is only thought of.
    pub id: Option<MachineId>,
    /// What is known of it.
    pub facts: &'a Facts,
}

/// A question: may `src` open this towards `dst`?
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Who opens.
    pub src: Party<'a>,
    /// Towards whom.
    pub dst: Party<'a>,
    /// Where there.
    pub place: Place,
    /// Of ICMP: that of either family.
    pub protocol: Protocol,
    /// Destination port; of protocols that have none, ignored.
    pub port: Option<u16>,
    /// When.
    pub now: Timestamp,
}

/// Answers a query.
#[must_use]
pub fn evaluate(document: &Document, query: &Query<'_>) -> Verdict {
    let verdicts: Vec<RuleVerdict> = document
        .rules
        .iter()
        .map(|rule| explain(document, rule, query))
        .collect();
    let matching = |action| {
        let of_action = verdicts
            .iter()
            .filter(move |v| v.matches && v.action == action);
        of_action.cloned().collect::<Vec<_>>()
    };
    let (denies, allows) = (matching(Action::Deny), matching(Action::Allow));
    let failing = |verdict: &&RuleVerdict| {
        verdict
            .conditions
            .iter()
            .filter(|condition| !condition.holds)
            .count()
    };
    let mut accepts = verdicts.iter().filter(|v| v.action == Action::Allow);
    let (allowed, matched, closest) = match (denies.is_empty(), allows.is_empty()) {
        (false, _) => (false, denies, None),
        (true, false) => (true, allows, None),
        (true, true) => (
            false,
            Vec::new(),
            accepts.by_ref().min_by_key(failing).cloned(),
        ),
    };
    let reason = match (matched.first(), &closest) {
        (Some(rule), _) if allowed => format!("{} allows it", title(rule)),
        (Some(rule), _) => format!("{} denies it, whatever allows it", title(rule)),
        (None, Some(rule)) => {
            let failed = rule.conditions.iter().filter(|condition| !condition.holds);
            let details: Vec<_> = failed
                .map(|c| format!("{}: {}", c.field, c.detail))
                .collect();
            format!(
                "no rule allows it; closest is {}, where this fails: {}",
                title(rule),
                details.join("; ")
            )
        }
        (None, None) => {
            "no rule allows it; the document has no rule that accepts anything".to_owned()
        }
    };
    Verdict {
        allowed,
        reason,
        matched,
        closest,
    }
}

fn title(verdict: &RuleVerdict) -> String {
    match &verdict.name {
        Some(name) => format!("the rule `{name}` (line {})", verdict.at.line),
        None => format!("the rule at line {}", verdict.at.line),
    }
}

fn explain(document: &Document, rule: &Rule, query: &Query<'_>) -> RuleVerdict {
    let mut conditions = vec![source(document, rule, query)];
    conditions.extend(destination(document, rule, query));
    for demand in Demand::of(rule, document) {
        conditions.push(demanded(&demand, rule, query.src.facts));
    }
    conditions.extend(time(rule, query.now));
    RuleVerdict {
        rule: rule.id,
        name: rule.name.clone(),
        description: rule.description.clone(),
        at: rule.at,
        action: rule.action,
        matches: conditions.iter().all(|condition| condition.holds),
        conditions,
    }
}

fn condition(field: &str, holds: bool, detail: String) -> Condition {
    Condition {
        field: field.to_owned(),
        holds,
        detail,
    }
}

fn source(document: &Document, rule: &Rule, query: &Query<'_>) -> Condition {
    let Party { id, facts } = query.src;
    let hit = rule
        .src
        .iter()
        .find(|selector| facts.is(id, selector, document));
    let detail = match hit {
        Some(selector) => format!("the source is in `{selector}`"),
        None => format!("the source is {}, not in {}", who(facts), list(&rule.src)),
    };
    condition("src", hit.is_some(), detail)
}

/// Destination, protocol and port: each is judged by the destinations that passed the one before, so
/// that the first that fails is named.
fn destination(document: &Document, rule: &Rule, query: &Query<'_>) -> Vec<Condition> {
    let Party { id, facts } = query.dst;
    let whom = rule.dst.iter().filter(|destination| {
        facts.is_target(
            id,
            query.place,
            &destination.selector,
            query.src.facts,
            document,
        )
    });
    let whom: Vec<_> = whom.collect();
    let detail = match whom.first() {
        Some(destination) => format!("the destination is in `{}`", destination.selector),
        None => {
            let selectors: Vec<_> = rule.dst.iter().map(|d| d.selector.clone()).collect();
            let found = match query.place {
                Place::Own => who(facts),
                Place::Behind(address) => format!("{address} behind a route"),
            };
            format!("the destination is {found}, not in {}", list(&selectors))
        }
    };
    let mut conditions = vec![condition("dst", !whom.is_empty(), detail)];
    // Of a destination that is another, ports are told all the same.
    let all: Vec<_> = match whom.is_empty() {
        true => rule.dst.iter().collect(),
        false => whom,
    };
    let services: Vec<&Service> = all.iter().flat_map(|d| &d.services).collect();
    let of_protocol: Vec<_> = services
        .iter()
        .filter(|s| speaks(s, query.protocol))
        .collect();
    let asked = name(query.protocol);
    conditions.push(condition(
        "proto",
        !of_protocol.is_empty(),
        match of_protocol.is_empty() {
            true => format!("the rule speaks of other protocols than {asked}"),
            false => format!("the rule speaks of {asked}"),
        },
    ));
    let port = query.port.filter(|_| reach::has_ports(query.protocol));
    let in_ports = |service: &Service| {
        service.ports.is_empty()
            || port.is_some_and(|port| {
                service
                    .ports
                    .iter()
                    .any(|range| range.first <= port && port <= range.last)
            })
    };
    let candidates = match of_protocol.is_empty() {
        true => services.iter().collect(),
        false => of_protocol,
    };
    let open = candidates.iter().any(|service| in_ports(service));
    let asked = port.map_or("no port".to_owned(), |port| format!("port {port}"));
    let ranges: Vec<_> = candidates
        .iter()
        .flat_map(|service| &service.ports)
        .take(8)
        .map(|range| match range.first == range.last {
            true => range.first.to_string(),
            false => format!("{}-{}", range.first, range.last),
        })
        .collect();
    conditions.push(condition(
        "port",
        open,
        match open {
            true => format!("{asked} is open"),
            false => format!("{asked} is not among {}", ranges.join(", ")),
        },
    ));
    conditions
}

fn speaks(service: &Service, protocol: Protocol) -> bool {
    let same = |own: &Protocol| {
        let numbers = |p: Protocol| [false, true].map(|ipv6| reach::number(p, ipv6));
        numbers(*own)
            .iter()
            .zip(numbers(protocol))
            .any(|(a, b)| *a == b)
    };
    service.protocols.is_empty() || service.protocols.iter().any(same)
}

fn demanded(demand: &Demand, rule: &Rule, facts: &Facts) -> Condition {
    let truth = demand.holds(facts);
    let holds = match truth {
        Truth::Yes => true,
        Truth::No => false,
        Truth::Unknown => rule.action == Action::Deny,
    };
    let asked = demand.alternatives.iter().map(|assertions| {
        let each = assertions
            .iter()
            .map(|a| format!("{} ({})", a.text, a.found(&facts.attributes)));
        each.collect::<Vec<_>>().join(" and ")
    });
    let mut detail = asked.collect::<Vec<_>>().join(", or ");
    if truth == Truth::Unknown {
        detail.push_str(match rule.action {
            Action::Deny => "; what is not known counts as met, for this rule denies",
            Action::Allow => "; what is not known counts as not met",
        });
    }
    condition(demand.field, holds, detail)
}

fn time(rule: &Rule, now: Timestamp) -> Vec<Condition> {
    let mut conditions = Vec::new();
    if !rule.conditions.windows.is_empty() {
        let windows: Vec<_> = rule
            .conditions
            .windows
            .iter()
            .map(ToString::to_string)
            .collect();
        let unending = Rule {
            conditions: crate::document::Conditions {
                expires: None,
                ..rule.conditions.clone()
            },
            ..rule.clone()
        };
        let open = standing(&unending, now).holds;
        conditions.push(condition(
            "when",
            open,
            format!("it is {now}; the rule holds {}", windows.join(", or ")),
        ));
    }
    if let Some(end) = rule.conditions.expires {
        conditions.push(condition(
            "expires",
            now < end,
            format!("it is {now}; the rule ends at {end}"),
        ));
    }
    conditions
}

/// A machine in words.
fn who(facts: &Facts) -> String {
    if !facts.tags.is_empty() {
        let tags: Vec<_> = facts
            .tags
            .iter()
            .map(|tag| format!("`tag:{tag}`"))
            .collect();
        return format!("a machine with {}", tags.join(", "));
    }
    match (&facts.user, facts.addresses.first()) {
        (Some(user), _) => format!("a machine of {user}"),
        (None, Some(address)) => format!("the machine {address}"),
        (None, None) => "a machine of no user".to_owned(),
    }
}

fn list(selectors: &[Selector]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = selectors
        .iter()
        .take(SHOWN)
        .map(|s| format!("`{s}`"))
        .collect();
    let more = match selectors.len() > SHOWN {
        true => format!(" and {} more", selectors.len() - SHOWN),
        false => String::new(),
    };
    format!("{}{more}", shown.join(", "))
}

fn name(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "TCP".to_owned(),
        Protocol::Udp => "UDP".to_owned(),
        Protocol::Icmp => "ICMP".to_owned(),
        Protocol::Sctp => "SCTP".to_owned(),
        Protocol::Number(number) => format!("protocol {number}"),
    }
}

/// An address as a [`Place`] at a machine: its own, or behind it. Behind an exit node is what is public.
#[must_use]
pub fn place_of(facts: &Facts, address: IpAddr) -> Option<Place> {
    if facts.addresses.contains(&address) {
        return Some(Place::Own);
    }
    let carries = |route: &ipnet::IpNet| match route.prefix_len() {
        0 => internet().iter().any(|network| network.contains(&address)),
        _ => route.contains(&address),
    };
    let routed = facts.routes.iter().any(carries);
    routed.then_some(Place::Behind(address))
}

/// Whether a rule holds at a time; its `when` and `expires` decide.
#[must_use]
pub fn in_force(rule: &Rule, now: Timestamp) -> bool {
    standing(rule, now).holds
}
