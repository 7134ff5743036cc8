//! What an org allows, and what follows from it for each machine.
//!
//! A [`Policy`] is a list of rules. Their order never matters: between two machines, what some
//! `allow` rule lets through and no `deny` rule matches is allowed, everything else is not.
//!
//! [`compile`] joins a policy with the org's machines into a [`Compiled`] org, which answers for
//! each machine whom it sees, what its packet filter is, and which groups its record names. Two
//! machines see each other if anything at all is allowed between them, in either direction; who
//! may open what towards whom is the filter's business.
//!
//! The cost of a change follows from one thought: machines that the rules cannot tell apart form a
//! *class*, and whether two machines are related is a question about their classes. An org whose
//! rules name no machine has as many classes as it has combinations of groups, whatever the number
//! of its machines.

mod compiled;
mod reach;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use ztna_proto::filter::{Action, PortRange, Protocol};
use ztna_proto::ids::{MachineId, RuleId};

pub use compiled::{Change, Compiled, MachineFacts, compile};

/// Group of the machines that [`Selector::Member`] means.
pub const MEMBER_GROUP: &str = "member";

/// Most rules of a policy.
pub const MAX_RULES: usize = 1_000;

/// Most selectors, protocols or port ranges in one list of a rule.
pub const MAX_LIST: usize = 1_000;

/// An org's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The rules. Their order is for people only.
    pub rules: Vec<Rule>,
}

/// One rule: what the machines of `src` may, or may not, open towards the machines of `dst`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names the rule in filters, logs and explanations.
    pub id: RuleId,
    /// What the rule does. A `deny` beats every `allow`.
    pub action: Action,
    /// Who opens. Empty: nobody.
    pub src: Vec<Selector>,
    /// Towards whom. Empty: nobody.
    pub dst: Vec<Selector>,
    /// Protocols. Empty: every one.
    #[serde(default)]
    pub protocols: Vec<Protocol>,
    /// Destination ports. Empty: every one, and protocols without ports.
    #[serde(default)]
    pub ports: Vec<PortRange>,
}

/// Which machines a rule speaks of.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Every machine of the org.
    Any,
    /// Machines of the org's members, and machines enrolled by auth key.
    Member,
    /// One machine.
    Machine(MachineId),
}

impl Selector {
    /// Whether the selector means the machine with this id and these groups.
    fn selects(&self, machine: MachineId, groups: &BTreeSet<String>) -> bool {
        match self {
            Self::Any => true,
            Self::Member => groups.contains(MEMBER_GROUP),
            Self::Machine(id) => *id == machine,
        }
    }
}

/// A policy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// More rules than [`MAX_RULES`].
    #[error("the policy has {0} rules; at most {MAX_RULES} are possible, so join some")]
    TooManyRules(usize),
    /// Two rules with one id.
    #[error("rule {0} is in the policy twice; give one of them another id")]
    DuplicateRule(RuleId),
    /// A rule without source or destination.
    #[error("rule {rule} names no {side}; name at least one, or remove the rule")]
    Empty {
        /// The rule.
        rule: RuleId,
        /// `source` or `destination`.
        side: &'static str,
    },
    /// A list of a rule longer than [`MAX_LIST`].
    #[error("rule {rule} has more than {MAX_LIST} {list}; split it")]
    TooLong {
        /// The rule.
        rule: RuleId,
        /// The list.
        list: &'static str,
    },
    /// A port range whose end is before its start.
    #[error("rule {rule} has the port range {first}-{last}; write {last}-{first}")]
    BackwardRange {
        /// The rule.
        rule: RuleId,
        /// Its first port.
        first: u16,
        /// Its last port.
        last: u16,
    },
    /// Ports together with a protocol that has none.
    #[error("rule {rule} has ports, but one of its protocols has none; make two rules of it")]
    PortsWithoutPorts {
        /// The rule.
        rule: RuleId,
    },
}

impl Policy {
    /// The policy that an org starts with: one rule, visible and editable, that lets members reach
    /// the org's machines.
    #[must_use]
    pub fn default_for_new_org(rule_id: RuleId) -> Self {
        Self {
            rules: vec![Rule {
                id: rule_id,
                action: Action::Allow,
                src: vec![Selector::Member],
                dst: vec![Selector::Any],
                protocols: Vec::new(),
                ports: Vec::new(),
            }],
        }
    }

    /// Whether the policy may be stored.
    ///
    /// [`compile`] takes any policy and fails closed; this tells its author what would not do what
    /// it seems to.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.rules.len() > MAX_RULES {
            return Err(PolicyError::TooManyRules(self.rules.len()));
        }
        let mut ids = BTreeSet::new();
        for rule in &self.rules {
            if !ids.insert(rule.id) {
                return Err(PolicyError::DuplicateRule(rule.id));
            }
            rule.check()?;
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), PolicyError> {
        let rule = self.id;
        for (side, list) in [("source", &self.src), ("destination", &self.dst)] {
            if list.is_empty() {
                return Err(PolicyError::Empty { rule, side });
            }
        }
        for (list, length) in [
            ("sources", self.src.len()),
            ("destinations", self.dst.len()),
            ("protocols", self.protocols.len()),
            ("port ranges", self.ports.len()),
        ] {
            if length > MAX_LIST {
                return Err(PolicyError::TooLong { rule, list });
            }
        }
        if let Some(&PortRange { first, last }) = self.ports.iter().find(|p| p.first > p.last) {
            return Err(PolicyError::BackwardRange { rule, first, last });
        }
        let without_ports = |protocol: &Protocol| !reach::has_ports(*protocol);
        if !self.ports.is_empty() && self.protocols.iter().any(without_ports) {
            return Err(PolicyError::PortsWithoutPorts { rule });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(change: impl FnOnce(&mut Rule)) -> Policy {
        let mut policy = Policy::default_for_new_org(RuleId::generate());
        change(&mut policy.rules[0]);
        policy
    }

    #[test]
    fn the_first_policy_is_valid_and_stays_itself_in_json() {
        let policy = Policy::default_for_new_org(RuleId::generate());
        policy.check().unwrap();
        let json = serde_json::to_string(&policy).unwrap();
        assert!(json.contains(r#""src":["member"],"dst":["any"]"#), "{json}");
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
        let machine = MachineId::generate();
        let json = serde_json::to_string(&Selector::Machine(machine)).unwrap();
        assert_eq!(json, format!(r#"{{"machine":"{machine}"}}"#));
    }

    #[test]
    fn what_this_build_does_not_know_is_refused() {
        serde_json::from_str::<Selector>(r#"{"posture":"strict"}"#).unwrap_err();
        serde_json::from_str::<Policy>(r#"{"rules":[],"grants":[]}"#).unwrap_err();
    }

    #[test]
    fn faults_are_named() {
        use PolicyError as E;
        type Expected = fn(&E) -> bool;
        let faults: [(Policy, Expected); 6] = [
            (rule(|r| r.src.clear()), |e| {
                matches!(e, E::Empty { side: "source", .. })
            }),
            (rule(|r| r.dst.clear()), |e| {
                matches!(
                    e,
                    E::Empty {
                        side: "destination",
                        ..
                    }
                )
            }),
            (rule(|r| r.src = vec![Selector::Any; MAX_LIST + 1]), |e| {
                matches!(
                    e,
                    E::TooLong {
                        list: "sources",
                        ..
                    }
                )
            }),
            (
                rule(|r| r.ports = vec![PortRange { first: 9, last: 8 }]),
                |e| {
                    matches!(
                        e,
                        E::BackwardRange {
                            first: 9,
                            last: 8,
                            ..
                        }
                    )
                },
            ),
            (
                rule(|r| {
                    r.ports = vec![PortRange::single(22)];
                    r.protocols = vec![Protocol::Tcp, Protocol::Icmp];
                }),
                |e| matches!(e, E::PortsWithoutPorts { .. }),
            ),
            (
                {
                    let mut policy = rule(|_| {});
                    policy.rules.push(policy.rules[0].clone());
                    policy
                },
                |e| matches!(e, E::DuplicateRule(_)),
            ),
        ];
        for (policy, expected) in faults {
            let fault = policy.check().unwrap_err();
            assert!(expected(&fault), "{fault}");
        }
        let mut policy = Policy::default();
        let first = rule(|_| {}).rules.remove(0);
        policy.rules.extend((0..=MAX_RULES).map(|_| Rule {
            id: RuleId::generate(),
            ..first.clone()
        }));
        assert_eq!(policy.check().unwrap_err(), E::TooManyRules(MAX_RULES + 1));
    }
}
