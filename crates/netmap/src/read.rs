//! What this build reads in raw records. Each reading depends on its record alone, so a state reads
//! the same whichever messages led to it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector};
use ztna_proto::ids::{MachineId, RegionId, RuleId};
use ztna_proto::netmap::{PeerRecord, SelfRecord};
use ztna_proto::relay::{RelayMap, RelayRegion};

use crate::NetmapError;
use crate::records::{Record, RecordSet};

/// A part of the state that can be read by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Filter,
    Relays,
    Peer(MachineId),
}

/// Something in the state that this build cannot read, and what it does instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    text: String,
}

impl Warning {
    fn new(text: String) -> Self {
        Self { text }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The state as this build reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Readings {
    pub(crate) this: SelfRecord,
    pub(crate) peers: BTreeMap<MachineId, PeerRecord>,
    pub(crate) filter: PacketFilter,
    pub(crate) relays: RelayMap,
    warnings: BTreeMap<Part, Vec<Warning>>,
}

impl Readings {
    pub(crate) fn of(records: &RecordSet) -> Result<Self, NetmapError> {
        let mut readings = Self {
            this: this(records.this().raw())?,
            peers: BTreeMap::new(),
            filter: PacketFilter::default(),
            relays: RelayMap::default(),
            warnings: BTreeMap::new(),
        };
        readings.read(records, Part::Filter);
        readings.read(records, Part::Relays);
        for id in records.peers().keys() {
            readings.read(records, Part::Peer(*id));
        }
        Ok(readings)
    }

    /// Reads one part of the state anew.
    pub(crate) fn read(&mut self, records: &RecordSet, part: Part) {
        let warnings = match part {
            Part::Filter => {
                let (filter, warnings) = read_filter(records.filter().raw());
                self.filter = filter;
                warnings
            }
            Part::Relays => {
                let (relays, warnings) = read_relays(records.relays().raw());
                self.relays = relays;
                warnings
            }
            Part::Peer(id) => {
                let (peer, warning) = self.read_peer(records.peers().get(&id), id);
                match peer {
                    Some(peer) => self.peers.insert(id, peer),
                    None => self.peers.remove(&id),
                };
                warning.into_iter().collect()
            }
        };
        if warnings.is_empty() {
            self.warnings.remove(&part);
        } else {
            self.warnings.insert(part, warnings);
        }
    }

    pub(crate) fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.values().flatten()
    }

    fn read_peer(
        &self,
        record: Option<&Record>,
        id: MachineId,
    ) -> (Option<PeerRecord>, Option<Warning>) {
        let Some(record) = record else {
            return (None, None);
        };
        if id == self.this.id {
            let text = format!("peer {id} is this machine, and left out");
            return (None, Some(Warning::new(text)));
        }
        match serde_json::from_str(record.raw().get()) {
            Ok(peer) => (Some(peer), None),
            Err(error) => {
                let text = format!("peer {id} cannot be read and is left out: {error}");
                (None, Some(Warning::new(text)))
            }
        }
    }
}

/// Reads the machine's own record.
pub(crate) fn this(raw: &RawValue) -> Result<SelfRecord, NetmapError> {
    serde_json::from_str(raw.get()).map_err(|error| NetmapError::Malformed {
        detail: format!("this machine's record: {error}"),
    })
}

/// A filter whose rules are read one by one.
#[derive(Deserialize)]
struct LooseFilter<'a> {
    #[serde(borrow)]
    inbound: Vec<&'a RawValue>,
    #[serde(borrow)]
    outbound: Vec<&'a RawValue>,
}

fn read_filter(raw: &RawValue) -> (PacketFilter, Vec<Warning>) {
    let loose: LooseFilter<'_> = match serde_json::from_str(raw.get()) {
        Ok(loose) => loose,
        Err(error) => {
            let text = format!("the packet filter cannot be read; nothing is let through: {error}");
            return (PacketFilter::default(), vec![Warning::new(text)]);
        }
    };
    let mut warnings = Vec::new();
    let mut rules = |side: Vec<&RawValue>| {
        let read = |raw: &RawValue| read_rule(raw, &mut warnings);
        side.into_iter().filter_map(read).collect()
    };
    let filter = PacketFilter {
        inbound: rules(loose.inbound),
        outbound: rules(loose.outbound),
    };
    (filter, warnings)
}

/// Reads a rule. One that cannot be read must not allow more than it was meant to: if it allows, it
/// is left out; if it denies, or does what this build does not know, it denies everything.
fn read_rule(raw: &RawValue, warnings: &mut Vec<Warning>) -> Option<FilterRule> {
    /// The members that every build can read.
    #[derive(Deserialize)]
    struct Known {
        #[serde(default)]
        rule: Option<RuleId>,
        #[serde(default)]
        action: Option<serde_json::Value>,
    }
    let error = match serde_json::from_str(raw.get()) {
        Ok(rule) => return Some(rule),
        Err(error) => error,
    };
    let known: Option<Known> = serde_json::from_str(raw.get()).ok();
    let id = known
        .as_ref()
        .and_then(|known| known.rule)
        .unwrap_or(RuleId(uuid::Uuid::nil()));
    let action = known.and_then(|known| known.action);
    if action.is_some_and(|action| action == "allow") {
        let text = format!("rule {id} cannot be read; what it allows stays closed: {error}");
        warnings.push(Warning::new(text));
        return None;
    }
    let text = format!("rule {id} cannot be read; it denies everything: {error}");
    warnings.push(Warning::new(text));
    Some(FilterRule {
        rule: id,
        action: Action::Deny,
        peers: vec![PeerSelector::Any],
        // Without networks it would speak of the machines' own addresses only.
        networks: vec![
            ipnet::Ipv4Net::default().into(),
            ipnet::Ipv6Net::default().into(),
        ],
        protocols: Vec::new(),
        ports: Vec::new(),
    })
}

fn read_relays(raw: &RawValue) -> (RelayMap, Vec<Warning>) {
    #[derive(Deserialize)]
    struct Loose<'a> {
        #[serde(borrow)]
        regions: BTreeMap<RegionId, &'a RawValue>,
    }
    let loose: Loose<'_> = match serde_json::from_str(raw.get()) {
        Ok(loose) => loose,
        Err(error) => {
            let text = format!("the relay map cannot be read; no relay is used: {error}");
            return (RelayMap::default(), vec![Warning::new(text)]);
        }
    };
    let mut warnings = Vec::new();
    let mut read =
        |id: RegionId, raw: &RawValue| match serde_json::from_str::<RelayRegion>(raw.get()) {
            Ok(region) if region.id == id => Some((id, region)),
            Ok(region) => {
                let text = format!(
                    "relay region {id} calls itself {} and is left out",
                    region.id
                );
                warnings.push(Warning::new(text));
                None
            }
            Err(error) => {
                let text = format!("relay region {id} cannot be read and is left out: {error}");
                warnings.push(Warning::new(text));
                None
            }
        };
    let regions = loose
        .regions
        .into_iter()
        .filter_map(|(id, raw)| read(id, raw))
        .collect();
    (RelayMap { regions }, warnings)
}
