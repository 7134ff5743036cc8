//! A policy joined with an org's machines.

use std::collections::{BTreeMap, BTreeSet};

use ztna_proto::filter::{FilterRule, PacketFilter, PeerSelector};
use ztna_proto::ids::MachineId;

use crate::{MEMBER_GROUP, Policy, Rule, Selector, reach};

/// What rules can know of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineFacts {
    /// The groups that the machine is in. Peers that see it see them.
    pub groups: BTreeSet<String>,
}

impl MachineFacts {
    /// A machine of a member, or one that an auth key enrolled.
    #[must_use]
    pub fn member() -> Self {
        Self {
            groups: BTreeSet::from([MEMBER_GROUP.to_owned()]),
        }
    }
}

/// Machines that no rule can tell apart. One that a rule names is alone in its class.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    named: Option<MachineId>,
    groups: BTreeSet<String>,
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

/// A policy and the machines of its org.
pub struct Compiled {
    policy: Policy,
    /// Machines that some rule names.
    named: BTreeSet<MachineId>,
    machines: BTreeMap<MachineId, MachineFacts>,
    classes: BTreeMap<Class, BTreeSet<MachineId>>,
}

/// Joins a policy with the machines of its org.
#[must_use]
pub fn compile(policy: &Policy, machines: &BTreeMap<MachineId, MachineFacts>) -> Compiled {
    let selectors = policy
        .rules
        .iter()
        .flat_map(|rule| rule.src.iter().chain(&rule.dst));
    let named = selectors.filter_map(|selector| match selector {
        Selector::Machine(id) => Some(*id),
        Selector::Any | Selector::Member => None,
    });
    let mut compiled = Compiled {
        policy: policy.clone(),
        named: named.collect(),
        machines: BTreeMap::new(),
        classes: BTreeMap::new(),
    };
    for (id, facts) in machines {
        compiled.insert(*id, facts.clone());
    }
    compiled
}

impl Compiled {
    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The machines that `machine` sees and that see it. Empty for a machine that is not in the
    /// org.
    ///
    /// Costs (classes × rules) plus the size of the answer.
    #[must_use]
    pub fn visible_peers(&self, machine: MachineId) -> BTreeSet<MachineId> {
        let Some(facts) = self.machines.get(&machine) else {
            return BTreeSet::new();
        };
        let class = self.class(machine, facts);
        let related = self
            .classes
            .iter()
            .filter(|(other, _)| self.related(&class, other));
        let mut peers: BTreeSet<_> = related.flat_map(|(_, members)| members).copied().collect();
        peers.remove(&machine);
        peers
    }

    /// Whether two machines see each other.
    #[must_use]
    pub fn sees(&self, one: MachineId, other: MachineId) -> bool {
        let (Some(mine), Some(theirs)) = (self.machines.get(&one), self.machines.get(&other))
        else {
            return false;
        };
        one != other && self.related(&self.class(one, mine), &self.class(other, theirs))
    }

    /// The machine's packet filter. Empty, which lets nothing through, for a machine that is not
    /// in the org.
    ///
    /// It names groups where the rules do, so a machine that joins a group changes no filter. It
    /// names no machine that this one does not see.
    #[must_use]
    pub fn filter_for(&self, machine: MachineId) -> PacketFilter {
        let Some(facts) = self.machines.get(&machine) else {
            return PacketFilter::default();
        };
        let concerned = |side: &[Selector]| side.iter().any(|s| s.selects(machine, &facts.groups));
        let mut filter = PacketFilter::default();
        for rule in &self.policy.rules {
            if concerned(&rule.dst) {
                filter
                    .inbound
                    .extend(self.filter_rule(machine, rule, &rule.src));
            }
            if concerned(&rule.src) {
                filter
                    .outbound
                    .extend(self.filter_rule(machine, rule, &rule.dst));
            }
        }
        filter
    }

    /// The groups of a machine, for its peers' maps; sorted.
    #[must_use]
    pub fn groups_of(&self, machine: MachineId) -> Vec<String> {
        let facts = self.machines.get(&machine);
        facts
            .map(|facts| facts.groups.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Adds a machine or changes what is known of it.
    ///
    /// A change that rules cannot see (a new name, say) needs no call: it touches the views of the
    /// machine and of its [`Compiled::visible_peers`].
    pub fn set_machine(&mut self, machine: MachineId, facts: MachineFacts) -> Change {
        if self.machines.get(&machine) == Some(&facts) {
            return Change::default();
        }
        let before = self.visible_peers(machine);
        self.remove(machine);
        self.insert(machine, facts);
        let after = self.visible_peers(machine);
        Change {
            appeared: after.difference(&before).copied().collect(),
            vanished: before.difference(&after).copied().collect(),
            changed: before.intersection(&after).copied().collect(),
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

    fn insert(&mut self, machine: MachineId, facts: MachineFacts) {
        let class = self.class(machine, &facts);
        self.classes.entry(class).or_default().insert(machine);
        self.machines.insert(machine, facts);
    }

    fn remove(&mut self, machine: MachineId) {
        let Some(facts) = self.machines.remove(&machine) else {
            return;
        };
        let class = self.class(machine, &facts);
        if let Some(members) = self.classes.get_mut(&class) {
            members.remove(&machine);
            if members.is_empty() {
                self.classes.remove(&class);
            }
        }
    }

    fn class(&self, machine: MachineId, facts: &MachineFacts) -> Class {
        Class {
            named: self.named.contains(&machine).then_some(machine),
            groups: facts.groups.clone(),
        }
    }

    fn related(&self, one: &Class, other: &Class) -> bool {
        self.open(one, other) || self.open(other, one)
    }

    /// Whether `src` may open anything towards `dst`.
    fn open(&self, src: &Class, dst: &Class) -> bool {
        let joins = |rule: &&Rule| src.in_any(&rule.src) && dst.in_any(&rule.dst);
        let rules: Vec<_> = self.policy.rules.iter().filter(joins).collect();
        reach::anything_open(&rules)
    }

    /// One rule as `machine`'s filter holds it, the other side being `peers`. `None` if it speaks
    /// of no peer that the machine could have.
    fn filter_rule(
        &self,
        machine: MachineId,
        rule: &Rule,
        peers: &[Selector],
    ) -> Option<FilterRule> {
        let peers = if peers.contains(&Selector::Any) {
            vec![PeerSelector::Any]
        } else {
            let distinct: BTreeSet<_> = peers.iter().collect();
            let selector = |selector: &Selector| match selector {
                Selector::Any => Some(PeerSelector::Any),
                Selector::Member => Some(PeerSelector::Group(MEMBER_GROUP.to_owned())),
                Selector::Machine(id) => self
                    .sees(machine, *id)
                    .then_some(PeerSelector::Machine(*id)),
            };
            distinct.into_iter().filter_map(selector).collect()
        };
        (!peers.is_empty()).then(|| FilterRule {
            rule: rule.id,
            action: rule.action,
            peers,
            networks: Vec::new(),
            protocols: rule.protocols.clone(),
            ports: rule.ports.clone(),
        })
    }
}

impl Class {
    fn in_any(&self, selectors: &[Selector]) -> bool {
        selectors.iter().any(|selector| match selector {
            Selector::Machine(id) => self.named == Some(*id),
            Selector::Any => true,
            Selector::Member => self.groups.contains(MEMBER_GROUP),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ztna_proto::filter::{Action, PortRange, Protocol};
    use ztna_proto::ids::RuleId;

    fn id(n: u128) -> MachineId {
        MachineId(uuid::Uuid::from_u128(n))
    }

    fn rule(action: Action, src: Vec<Selector>, dst: Vec<Selector>) -> Rule {
        Rule {
            id: RuleId::generate(),
            action,
            src,
            dst,
            protocols: vec![],
            ports: vec![],
        }
    }

    fn org(rules: Vec<Rule>, members: u128, others: u128) -> Compiled {
        let mut machines: BTreeMap<_, _> = (0..members)
            .map(|n| (id(n), MachineFacts::member()))
            .collect();
        machines.extend((members..members + others).map(|n| (id(n), MachineFacts::default())));
        compile(&Policy { rules }, &machines)
    }

    fn ids(numbers: impl IntoIterator<Item = u128>) -> BTreeSet<MachineId> {
        numbers.into_iter().map(id).collect()
    }

    #[test]
    fn the_first_policy_joins_members_with_everyone_and_a_join_changes_no_filter() {
        let policy = Policy::default_for_new_org(RuleId::generate());
        let mut org = org(policy.rules, 2, 2);
        assert_eq!(org.visible_peers(id(0)), ids([1, 2, 3]));
        assert_eq!(
            org.visible_peers(id(2)),
            ids([0, 1]),
            "no rule joins two others"
        );
        assert_eq!(org.groups_of(id(0)), [MEMBER_GROUP]);
        assert!(org.groups_of(id(2)).is_empty());
        let filter = org.filter_for(id(2));
        assert_eq!(
            filter.inbound[0].peers,
            [PeerSelector::Group("member".into())]
        );
        assert!(filter.outbound.is_empty());
        assert_eq!(org.filter_for(id(0)).outbound[0].peers, [PeerSelector::Any]);

        let before: Vec<_> = (0..4).map(|n| org.filter_for(id(n))).collect();
        let change = org.set_machine(id(9), MachineFacts::member());
        assert_eq!(change.appeared, ids([0, 1, 2, 3]));
        assert!(change.vanished.is_empty() && change.changed.is_empty());
        let after: Vec<_> = (0..4).map(|n| org.filter_for(id(n))).collect();
        assert_eq!(before, after);

        let change = org.set_machine(id(9), MachineFacts::default());
        assert_eq!(change.vanished, ids([2, 3]));
        assert_eq!(change.changed, ids([0, 1]));
        assert_eq!(
            org.set_machine(id(9), MachineFacts::default()),
            Change::default()
        );
        let change = org.remove_machine(id(9));
        assert_eq!(change.affected().collect::<BTreeSet<_>>(), ids([0, 1]));
        assert_eq!(org.remove_machine(id(9)), Change::default());
    }

    #[test]
    fn a_machine_outside_the_org_gets_nothing() {
        let org = org(Policy::default_for_new_org(RuleId::generate()).rules, 2, 0);
        assert!(org.visible_peers(id(7)).is_empty());
        assert!(!org.sees(id(0), id(7)) && !org.sees(id(0), id(0)));
        assert_eq!(org.filter_for(id(7)), PacketFilter::default());
        assert!(org.groups_of(id(7)).is_empty());
    }

    #[test]
    fn a_deny_that_covers_hides_and_leaves_no_name_behind() {
        let allow = rule(Action::Allow, vec![Selector::Any], vec![Selector::Any]);
        let hidden = || vec![Selector::Machine(id(1))];
        let there = rule(Action::Deny, vec![Selector::Machine(id(0))], hidden());
        let back = rule(Action::Deny, hidden(), vec![Selector::Machine(id(0))]);
        let one_way = org(vec![allow.clone(), there.clone()], 3, 0);
        assert!(one_way.sees(id(0), id(1)), "the other direction is open");
        let both = org(vec![allow.clone(), there.clone(), back], 3, 0);
        assert_eq!(both.visible_peers(id(0)), ids([2]));
        assert_eq!(both.visible_peers(id(1)), ids([2]));
        let filter = both.filter_for(id(0));
        assert_eq!(
            filter.inbound.len() + filter.outbound.len(),
            2,
            "{filter:?}"
        );

        let partly = Rule {
            protocols: vec![Protocol::Tcp],
            ports: vec![PortRange::single(22)],
            ..there
        };
        let org = org(vec![allow, partly], 3, 0);
        assert!(org.sees(id(0), id(1)));
        assert_eq!(
            org.filter_for(id(0)).outbound[1].peers,
            [PeerSelector::Machine(id(1))]
        );
        assert_eq!(org.filter_for(id(2)).outbound.len(), 1, "not its rule");
    }

    #[test]
    fn ten_thousand_machines_are_few_classes() {
        let org = org(
            Policy::default_for_new_org(RuleId::generate()).rules,
            9_000,
            1_000,
        );
        assert_eq!(org.classes.len(), 2);
        assert_eq!(org.visible_peers(id(0)).len(), 9_999);
    }
}
