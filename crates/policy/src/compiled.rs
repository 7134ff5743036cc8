//! A document joined with an org's machines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use ztna_proto::filter::{Action, FilterRule, PacketFilter, PeerSelector};
use ztna_proto::ids::{MachineId, RuleId};

use crate::document::Document;
use crate::facts::{Facts, internet};
use crate::lower::{self, Flat, Lowered, Peers};
use crate::reach;

/// Machines that no rule can tell apart. One that a rule names is alone in its class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    named: Option<MachineId>,
    labels: BTreeSet<String>,
    /// Set if the document says `autogroup:self`.
    user: Option<String>,
    routes: BTreeSet<IpNet>,
    /// Its own addresses, if it has routes: rules for those may speak of both.
    addresses: BTreeSet<IpAddr>,
}

/// A class, and which rules (by their places) it is a source and a destination of.
struct Class {
    id: u32,
    key: Key,
    src: Vec<usize>,
    dst: Vec<usize>,
}

/// What a change of one machine did to the others. The machine itself is in none of the sets.
///
/// Views to bring up to date: that of the machine, and those of all the machines named here. Views
/// of other machines are as before. Within them, the packet filter may differ too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The machine and these now see each other, and did not before.
    pub appeared: BTreeSet<MachineId>,
    /// The machine and these saw each other, and no longer do.
    pub vanished: BTreeSet<MachineId>,
    /// The machine and these see each other as before, and the machine's groups changed.
    pub changed: BTreeSet<MachineId>,
}

impl Change {
    /// Every machine whose view the change touched, beside the machine's own.
    pub fn affected(&self) -> impl Iterator<Item = MachineId> {
        let sets = [&self.appeared, &self.vanished, &self.changed];
        sets.into_iter().flatten().copied()
    }
}

/// A document and the machines of its org, at one moment.
pub struct Compiled {
    document: Arc<Document>,
    lowered: Lowered,
    machines: BTreeMap<MachineId, (Arc<Facts>, Arc<Class>)>,
    keys: BTreeMap<Key, u32>,
    classes: BTreeMap<u32, (Arc<Class>, BTreeSet<MachineId>)>,
    next_class: u32,
    /// Which classes are sources and destinations of each rule, by its place.
    sources: Vec<BTreeSet<u32>>,
    destinations: Vec<BTreeSet<u32>>,
    /// Whether some rule says `autogroup:self`.
    itself: bool,
}

/// Joins a document with the machines of its org, as the rules stand at `now`.
#[must_use]
pub fn compile(
    document: Arc<Document>,
    machines: impl IntoIterator<Item = (MachineId, Facts)>,
    now: Timestamp,
) -> Compiled {
    let lowered = Lowered::new(&document, now);
    let mut compiled = Compiled::empty(document, lowered);
    for (id, facts) in machines {
        compiled.remove(id);
        compiled.insert(id, facts);
    }
    compiled
}

impl Compiled {
    fn empty(document: Arc<Document>, lowered: Lowered) -> Self {
        Self {
            machines: BTreeMap::new(),
            keys: BTreeMap::new(),
            classes: BTreeMap::new(),
            next_class: 0,
            sources: vec![BTreeSet::new(); lowered.flats.len()],
            destinations: vec![BTreeSet::new(); lowered.flats.len()],
            itself: lowered.flats.iter().any(|flat| flat.itself),
            document,
            lowered,
        }
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// When rules begin or cease to hold; call [`Compiled::advance`] then. `None`: never.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.lowered.until
    }

    /// What is known of the machines.
    pub fn machines(&self) -> impl Iterator<Item = (MachineId, &Facts)> {
        self.machines
            .iter()
            .map(|(id, (facts, _))| (*id, facts.as_ref()))
    }

    /// What is known of one machine.
    #[must_use]
    pub fn facts(&self, machine: MachineId) -> Option<&Facts> {
        self.machines.get(&machine).map(|(facts, _)| facts.as_ref())
    }

    /// The machines that `machine` sees and that see it. Empty for a machine that is not in the
    /// org.
    ///
    /// Costs what the rules of the machine join, whatever the size of the org.
    #[must_use]
    pub fn visible_peers(&self, machine: MachineId) -> BTreeSet<MachineId> {
        let mut peers = match self.machines.get(&machine) {
            Some((_, class)) => self.visible_to(class),
            None => BTreeSet::new(),
        };
        peers.remove(&machine);
        peers
    }

    /// Whether two machines see each other.
    #[must_use]
    pub fn sees(&self, one: MachineId, other: MachineId) -> bool {
        let (Some((_, mine)), Some((_, theirs))) =
            (self.machines.get(&one), self.machines.get(&other))
        else {
            return false;
        };
        one != other && self.related(mine, theirs)
    }

    /// Whether `src` may open anything towards `dst`.
    #[must_use]
    pub fn opens(&self, src: MachineId, dst: MachineId) -> bool {
        let (Some((_, mine)), Some((_, theirs))) =
            (self.machines.get(&src), self.machines.get(&dst))
        else {
            return false;
        };
        src != dst && self.open(mine, theirs)
    }

    /// The networks behind `dst` of which some address is open to `src`; of an exit node's, some public
    /// address, for it carries no other.
    #[must_use]
    pub fn open_routes(&self, src: MachineId, dst: MachineId) -> BTreeSet<IpNet> {
        let (Some((_, mine)), Some((_, theirs))) =
            (self.machines.get(&src), self.machines.get(&dst))
        else {
            return BTreeSet::new();
        };
        let Key {
            routes, addresses, ..
        } = &theirs.key;
        if routes.is_empty() || src == dst {
            return BTreeSet::new();
        }
        let flats = self.between(mine, theirs);
        let opens = |route: IpNet| reach::anything_open_behind(&flats, route, addresses);
        let open = |route: &&IpNet| match route.prefix_len() {
            0 => {
                let mut public = internet().iter().filter(|public| route.contains(*public));
                public.any(|public| opens(*public))
            }
            _ => opens(**route),
        };
        routes.iter().filter(open).copied().collect()
    }

    /// The machine's packet filter. Empty, which lets nothing through, for a machine that is not
    /// in the org.
    ///
    /// It names labels where it can, so a machine that comes or goes changes no filter. It names no
    /// machine that this one does not see.
    #[must_use]
    pub fn filter_for(&self, machine: MachineId) -> PacketFilter {
        match self.machines.get(&machine) {
            Some((_, class)) => self.filter_of(class),
            None => PacketFilter::default(),
        }
    }

    fn filter_of(&self, class: &Class) -> PacketFilter {
        let user = class.key.user.as_deref().unwrap_or_default();
        let side = |places: &[usize], inbound: bool| {
            let rules = places.iter().filter_map(|place| {
                let flat = self.lowered.flats.get(*place)?;
                let peers = match (flat.itself, inbound) {
                    (true, true) => {
                        let label = format!("{}:{user}", lower::source_of_own(flat.rule));
                        vec![PeerSelector::Group(label)]
                    }
                    (true, false) => vec![PeerSelector::Group(lower::own(user))],
                    (false, true) => self.selectors(class, &flat.src),
                    (false, false) => self.selectors(class, &flat.dst),
                };
                (!peers.is_empty()).then(|| FilterRule {
                    rule: flat.rule,
                    action: flat.action,
                    peers,
                    networks: flat.networks.clone(),
                    protocols: flat.protocols.clone(),
                    ports: flat.ports.clone(),
                })
            });
            rules.collect()
        };
        PacketFilter {
            inbound: side(&class.dst, true),
            outbound: side(&class.src, false),
        }
    }

    fn selectors(&self, class: &Class, peers: &[Peers]) -> Vec<PeerSelector> {
        let sees = |id: &MachineId| match self.machines.get(id) {
            Some((_, other)) => class.key.named != Some(*id) && self.related(class, other),
            None => false,
        };
        let selectors = peers.iter().filter_map(|peers| match peers {
            Peers::Any => Some(PeerSelector::Any),
            Peers::Label(label) => Some(PeerSelector::Group(label.clone())),
            Peers::Machine(id) => sees(id).then_some(PeerSelector::Machine(*id)),
        });
        selectors.collect()
    }

    /// The labels of a machine that filters name, for its peers' maps; sorted.
    #[must_use]
    pub fn groups_of(&self, machine: MachineId) -> Vec<String> {
        let machine = self.machines.get(&machine);
        machine
            .map(|(_, class)| class.key.labels.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Adds a machine or changes what is known of it.
    ///
    /// A change that rules cannot see (a new name, say) needs no call: it touches the views of the
    /// machine and of its [`Compiled::visible_peers`].
    pub fn set_machine(&mut self, machine: MachineId, facts: Facts) -> Change {
        if self.facts(machine) == Some(&facts) {
            return Change::default();
        }
        let before = self.visible_peers(machine);
        let groups = self.groups_of(machine);
        self.remove(machine);
        self.insert(machine, facts);
        let after = self.visible_peers(machine);
        let regrouped = groups != self.groups_of(machine);
        let both = before.intersection(&after);
        Change {
            appeared: after.difference(&before).copied().collect(),
            vanished: before.difference(&after).copied().collect(),
            changed: both.filter(|_| regrouped).copied().collect(),
        }
    }

    /// Removes a machine from the org.
    pub fn remove_machine(&mut self, machine: MachineId) -> Change {
        let vanished = self.visible_peers(machine);
        self.remove(machine);
        Change {
            vanished,
            ..Change::default()
        }
    }

    /// The same machines under another document. What is the same in both is taken over, so it costs
    /// what the documents differ in, and little for each machine.
    #[must_use]
    pub fn with_document(&self, document: Arc<Document>, now: Timestamp) -> Self {
        let lowered = Lowered::new(&document, now);
        let news = lowered.news(&document, &self.lowered, &self.document);
        let machines = self.machines.iter().map(|(id, (facts, class))| {
            let held = class.key.labels.iter();
            let held = held.filter(|label| news.holds(label)).cloned();
            let labels = held.chain(news.labels_of(*id, facts)).collect();
            (*id, Arc::clone(facts), labels)
        });
        let machines: Vec<_> = machines.collect();
        let mut after = Self::empty(document, lowered);
        for (id, facts, labels) in machines {
            after.join(id, facts, labels);
        }
        after
    }

    /// Puts another document in force. Returns the machines whose view, filter included, is not as
    /// before; those that it does not name have nothing to be told.
    pub fn set_document(&mut self, document: Arc<Document>, now: Timestamp) -> BTreeSet<MachineId> {
        let after = self.with_document(document, now);
        let before = std::mem::replace(self, after);
        self.differences(&before)
    }

    /// Time has passed: rules hold as they stand at `now`. Returns what
    /// [`Compiled::set_document`] does.
    pub fn advance(&mut self, now: Timestamp) -> BTreeSet<MachineId> {
        match self.lowered.until {
            Some(until) if until <= now => self.set_document(Arc::clone(&self.document), now),
            _ => BTreeSet::new(),
        }
    }

    /// Machines whose view is not what it was. Machines of one class before and after have the same
    /// views, so each such pair of classes is compared once.
    fn differences(&self, before: &Self) -> BTreeSet<MachineId> {
        let old = |id: &MachineId| before.machines.get(id).map(|(_, class)| class);
        let regrouped: BTreeSet<MachineId> = self
            .machines
            .iter()
            .filter(|(id, (_, class))| old(id).is_none_or(|old| old.key.labels != class.key.labels))
            .map(|(id, _)| *id)
            .collect();
        let mut compared: BTreeMap<(u32, u32), bool> = BTreeMap::new();
        let mut differing = BTreeSet::new();
        for (id, (_, class)) in &self.machines {
            let differs = match old(id) {
                None => true,
                Some(old) => *compared.entry((old.id, class.id)).or_insert_with(|| {
                    let visible = self.visible_to(class);
                    before.visible_to(old) != visible
                        || !visible.is_disjoint(&regrouped)
                        || before.filter_of(old) != self.filter_of(class)
                }),
            };
            if differs {
                differing.insert(*id);
            }
        }
        differing
    }

    fn insert(&mut self, machine: MachineId, facts: Facts) {
        let labels = self.lowered.labels_of(machine, &facts, &self.document);
        self.join(machine, Arc::new(facts), labels);
    }

    /// Puts a machine that carries these labels into its class.
    fn join(&mut self, machine: MachineId, facts: Arc<Facts>, labels: BTreeSet<String>) {
        let key = Key {
            named: self.lowered.named.contains(&machine).then_some(machine),
            labels,
            user: facts.owner().filter(|_| self.itself).map(str::to_owned),
            routes: facts.routes.clone(),
            addresses: match facts.routes.is_empty() {
                true => BTreeSet::new(),
                false => facts.addresses.clone(),
            },
        };
        let known = self.keys.get(&key).copied();
        let class = match known.and_then(|class| self.classes.get_mut(&class)) {
            Some((class, members)) => {
                members.insert(machine);
                Arc::clone(class)
            }
            None => self.new_class(key, machine),
        };
        self.machines.insert(machine, (facts, class));
    }

    fn new_class(&mut self, key: Key, first: MachineId) -> Arc<Class> {
        let flats = || self.lowered.flats.iter().enumerate();
        let places = |is: &dyn Fn(&Flat) -> bool| {
            let places = flats().filter(|(_, flat)| is(flat));
            places.map(|(place, _)| place).collect::<Vec<_>>()
        };
        let src = places(&|flat| match flat.itself {
            true => key.user.as_ref().is_some_and(|user| {
                let label = format!("{}:{user}", lower::source_of_own(flat.rule));
                key.labels.contains(&label)
            }),
            false => key.is_any_of(&flat.src),
        });
        let dst = places(&|flat| match flat.itself {
            true => key.user.is_some(),
            false => key.is_any_of(&flat.dst),
        });
        let id = self.next_class;
        self.next_class += 1;
        for place in &src {
            self.sources[*place].insert(id);
        }
        for place in &dst {
            self.destinations[*place].insert(id);
        }
        self.keys.insert(key.clone(), id);
        let class = Arc::new(Class { id, key, src, dst });
        let members = BTreeSet::from([first]);
        self.classes.insert(id, (Arc::clone(&class), members));
        class
    }

    fn remove(&mut self, machine: MachineId) {
        let Some((_, class)) = self.machines.remove(&machine) else {
            return;
        };
        let Some((_, members)) = self.classes.get_mut(&class.id) else {
            return;
        };
        members.remove(&machine);
        if members.is_empty() {
            self.classes.remove(&class.id);
            self.keys.remove(&class.key);
            for place in &class.src {
                self.sources[*place].remove(&class.id);
            }
            for place in &class.dst {
                self.destinations[*place].remove(&class.id);
            }
        }
    }

    /// The machines of all classes that are related to this one.
    fn visible_to(&self, class: &Class) -> BTreeSet<MachineId> {
        let allows = |place: &&usize| self.lowered.flats[**place].action == Action::Allow;
        let as_src = class.src.iter().filter(allows);
        let as_dst = class.dst.iter().filter(allows);
        let candidates: BTreeSet<u32> = as_src
            .flat_map(|place| &self.destinations[*place])
            .chain(as_dst.flat_map(|place| &self.sources[*place]))
            .copied()
            .collect();
        let related = candidates.into_iter().filter_map(|id| {
            let (other, members) = self.classes.get(&id)?;
            self.related(class, other).then_some(members)
        });
        related.flatten().copied().collect()
    }

    fn related(&self, one: &Class, other: &Class) -> bool {
        self.open(one, other) || self.open(other, one)
    }

    /// Whether `src` may open anything towards `dst`.
    fn open(&self, src: &Class, dst: &Class) -> bool {
        reach::anything_open(&self.between(src, dst), &dst.key.routes, &dst.key.addresses)
    }

    /// The rules that speak of packets from `src` to `dst`.
    fn between(&self, src: &Class, dst: &Class) -> Vec<&Flat> {
        let both = src
            .src
            .iter()
            .filter(|place| dst.dst.binary_search(place).is_ok());
        let flats = both.map(|place| &self.lowered.flats[*place]);
        flats
            .filter(|flat| !flat.itself || src.key.user == dst.key.user)
            .collect()
    }

    /// The classes that machines of one class may open something towards.
    pub(crate) fn openable(&self, src: u32) -> BTreeSet<u32> {
        let Some((class, _)) = self.classes.get(&src) else {
            return BTreeSet::new();
        };
        let places = class.src.iter();
        places
            .flat_map(|place| &self.destinations[*place])
            .copied()
            .collect()
    }

    /// What is open from one class to another, in a form that compares: the same for two documents
    /// whose rules between the two differ in nothing but their ids. Empty if nothing is open.
    pub(crate) fn opening(&self, src: u32, dst: u32) -> BTreeSet<Opening> {
        let (Some((src, _)), Some((dst, _))) = (self.classes.get(&src), self.classes.get(&dst))
        else {
            return BTreeSet::new();
        };
        let flats = self.between(src, dst);
        match reach::anything_open(&flats, &dst.key.routes, &dst.key.addresses) {
            true => flats.into_iter().map(Opening::of).collect(),
            false => BTreeSet::new(),
        }
    }

    /// The machines that `machine` may open something towards, each with the rules that let it.
    #[must_use]
    pub fn reaches(&self, machine: MachineId) -> BTreeMap<MachineId, Arc<BTreeSet<RuleId>>> {
        let Some((_, src)) = self.machines.get(&machine) else {
            return BTreeMap::new();
        };
        let dst = self.openable(src.id).into_iter();
        let dst = dst.filter_map(|id| self.classes.get(&id));
        self.others(machine, dst, |dst| self.allowing(src, dst))
    }

    /// The machines that may open something towards `machine`, each with the rules that let it.
    #[must_use]
    pub fn reached_by(&self, machine: MachineId) -> BTreeMap<MachineId, Arc<BTreeSet<RuleId>>> {
        let Some((_, dst)) = self.machines.get(&machine) else {
            return BTreeMap::new();
        };
        let places = dst.dst.iter();
        let src: BTreeSet<u32> = places
            .flat_map(|place| &self.sources[*place])
            .copied()
            .collect();
        let src = src.into_iter().filter_map(|id| self.classes.get(&id));
        self.others(machine, src, |src| self.allowing(src, dst))
    }

    /// The members of classes for which rules are found, each with them.
    fn others<'a>(
        &self,
        machine: MachineId,
        classes: impl Iterator<Item = &'a (Arc<Class>, BTreeSet<MachineId>)>,
        rules: impl Fn(&Class) -> BTreeSet<RuleId>,
    ) -> BTreeMap<MachineId, Arc<BTreeSet<RuleId>>> {
        let mut found = BTreeMap::new();
        for (class, members) in classes {
            let rules = Arc::new(rules(class));
            if !rules.is_empty() {
                let others = members.iter().filter(|other| **other != machine);
                found.extend(others.map(|other| (*other, Arc::clone(&rules))));
            }
        }
        found
    }

    /// The rules that let `src` open something towards `dst`. Empty if denies leave nothing of it.
    fn allowing(&self, src: &Class, dst: &Class) -> BTreeSet<RuleId> {
        let flats = self.between(src, dst);
        match reach::anything_open(&flats, &dst.key.routes, &dst.key.addresses) {
            true => flats
                .iter()
                .filter(|flat| flat.action == Action::Allow)
                .map(|flat| flat.rule)
                .collect(),
            false => BTreeSet::new(),
        }
    }

    /// The class of a machine.
    pub(crate) fn class_of(&self, machine: MachineId) -> Option<u32> {
        self.machines.get(&machine).map(|(_, class)| class.id)
    }
}

/// A rule without what it is called and whom it joins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Opening {
    deny: bool,
    networks: Vec<IpNet>,
    protocols: Vec<ztna_proto::filter::Protocol>,
    ports: Vec<(u16, u16)>,
}

impl Opening {
    fn of(flat: &Flat) -> Self {
        let ports = flat.ports.iter().map(|range| (range.first, range.last));
        Self {
            deny: flat.action == Action::Deny,
            networks: flat.networks.clone(),
            protocols: flat.protocols.clone(),
            ports: ports.collect(),
        }
    }
}

impl Key {
    fn is_any_of(&self, peers: &[Peers]) -> bool {
        peers.iter().any(|peers| match peers {
            Peers::Any => true,
            Peers::Machine(id) => self.named == Some(*id),
            Peers::Label(label) => self.labels.contains(label),
        })
    }
}

#[cfg(test)]
#[path = "compiled_tests.rs"]
mod tests;
