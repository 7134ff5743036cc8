//! A document's own `tests`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use jiff::Timestamp;
use ztna_proto::api::Role;
use ztna_proto::filter::Protocol;
use ztna_proto::policy::Fault;

use crate::document::{Document, Probe, Selector, Test, UserRole};
use crate::explain::{Party, Query, evaluate};
use crate::facts::{Facts, Place};

/// Most faults that one run of the tests reports.
pub const MAX_FAULTS: usize = 50;

/// What is known of people, by e-mail address in lower case.
pub type People = BTreeMap<String, Person>;

/// What is known of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The role in the org.
    pub role: Role,
    /// As in [`Facts::groups`].
    pub groups: std::collections::BTreeSet<String>,
}

impl Document {
    /// Runs the document's tests. Sources and destinations are machines that are only thought of, so
    /// a test says the same whatever machines there are.
    ///
    /// # Errors
    /// Every expectation that the rules do not meet, with its place and why, at most [`MAX_FAULTS`].
    pub fn run_tests(&self, people: &People, now: Timestamp) -> Result<(), Vec<Fault>> {
        let faults = self
            .tests
            .iter()
            .flat_map(|test| self.run_test(test, people, now));
        let faults: Vec<_> = faults.take(MAX_FAULTS).collect();
        match faults.is_empty() {
            true => Ok(()),
            false => Err(faults),
        }
    }

    fn run_test<'a>(
        &'a self,
        test: &'a Test,
        people: &'a People,
        now: Timestamp,
    ) -> impl Iterator<Item = Fault> + 'a {
        let mut sources = self.imagine(&test.src, people);
        for source in &mut sources {
            source.attributes.extend(test.attributes.clone());
        }
        let accept = test.accept.iter().map(|probe| (probe, true));
        let probes = accept.chain(test.deny.iter().map(|probe| (probe, false)));
        let nobody = sources.is_empty().then(|| {
            Fault::new(
                test.at,
                format!(
                    "`{}` has no users, so the test says nothing; remove it",
                    test.src
                ),
            )
        });
        let faults = probes.flat_map(move |(probe, expected)| {
            let faults: Vec<_> = sources
                .iter()
                .filter_map(|source| self.run_probe(test, source, probe, expected, people, now))
                .collect();
            faults
        });
        nobody.into_iter().chain(faults)
    }

    fn run_probe(
        &self,
        test: &Test,
        source: &Facts,
        probe: &Probe,
        expected: bool,
        people: &People,
        now: Timestamp,
    ) -> Option<Fault> {
        let src = Party {
            id: machine_of(&test.src),
            facts: source,
        };
        let targets = match &probe.dst {
            Selector::Itself => vec![(
                Facts {
                    user: source.user.clone(),
                    ..Facts::default()
                },
                Place::Own,
            )],
            Selector::Internet => vec![(
                routed(IpNet::V4(Default::default())),
                Place::Behind([1, 1, 1, 1].into()),
            )],
            Selector::Network(network) => {
                let address = network.network();
                // A machine's own address, or one behind a router that has it approved.
                vec![
                    (
                        Facts {
                            addresses: [address].into(),
                            ..Facts::default()
                        },
                        Place::Own,
                    ),
                    (routed(*network), Place::Behind(address)),
                ]
            }
            other => {
                let facts = self.imagine(other, people).into_iter();
                facts.map(|facts| (facts, Place::Own)).collect()
            }
        };
        if targets.is_empty() {
            let message = format!(
                "`{}` has no users, so the test says nothing; remove it",
                probe.dst
            );
            return Some(Fault::new(probe.at, message));
        }
        let verdicts = targets.iter().map(|(facts, place)| {
            let dst = Party {
                id: machine_of(&probe.dst),
                facts,
            };
            let query = Query {
                src,
                dst,
                place: *place,
                protocol: test.protocol.unwrap_or(Protocol::Tcp),
                port: probe.port,
                now: test.time.unwrap_or(now),
            };
            evaluate(self, &query)
        });
        // An address may be a machine or behind a router: one way suffices, and none may be open.
        let either = matches!(probe.dst, Selector::Network(_));
        let verdicts: Vec<_> = verdicts.collect();
        let wrong = match (expected, either) {
            (true, true) => match verdicts.iter().any(|verdict| verdict.allowed) {
                true => None,
                false => verdicts.first(),
            },
            _ => verdicts.iter().find(|verdict| verdict.allowed != expected),
        }?;
        let port = probe.port.map_or("*".to_owned(), |port| port.to_string());
        let who = source
            .user
            .as_ref()
            .filter(|_| matches!(test.src, Selector::Group(_)));
        let who = who.map_or(String::new(), |user| format!(" ({user})"));
        Some(Fault::new(
            probe.at,
            format!(
                "the test expects that `{}`{who} {} `{}:{port}`, but {}",
                test.src,
                if expected {
                    "reaches"
                } else {
                    "does not reach"
                },
                probe.dst,
                wrong.reason
            ),
        ))
    }

    /// Machines of which the selector is true, and nothing else that it does not imply.
    fn imagine(&self, selector: &Selector, people: &People) -> Vec<Facts> {
        let user = |email: &String| Facts {
            user: Some(email.clone()),
            role: people.get(email).map(|person| person.role),
            groups: people
                .get(email)
                .map(|person| person.groups.clone())
                .unwrap_or_default(),
            ..Facts::default()
        };
        let with_role = |role| Facts {
            user: Some("somebody".to_owned()),
            role: Some(role),
            ..Facts::default()
        };
        match selector {
            Selector::User(email) => vec![user(email)],
            Selector::Group(name) => {
                let declared = self.group(name).into_iter().flatten();
                let provided = people
                    .iter()
                    .filter(|(_, person)| person.groups.contains(name));
                let mut users: Vec<_> = declared.chain(provided.map(|(email, _)| email)).collect();
                users.sort_unstable();
                users.dedup();
                users.into_iter().map(user).collect()
            }
            Selector::Tag(tag) => vec![Facts {
                tags: [tag.clone()].into(),
                ..Facts::default()
            }],
            Selector::Tagged => vec![Facts {
                // No document can declare it: names are not empty.
                tags: [String::new()].into(),
                ..Facts::default()
            }],
            Selector::Role(UserRole::Owner) => vec![with_role(Role::Owner)],
            Selector::Role(UserRole::Admin) => vec![with_role(Role::Admin)],
            Selector::Role(UserRole::Auditor) => vec![with_role(Role::Auditor)],
            Selector::Member => vec![with_role(Role::Member)],
            Selector::Network(network) => vec![Facts {
                addresses: [network.network()].into(),
                ..Facts::default()
            }],
            Selector::Machine(_) | Selector::Any | Selector::Itself | Selector::Internet => {
                vec![Facts::default()]
            }
        }
    }
}

fn machine_of(selector: &Selector) -> Option<ztna_proto::ids::MachineId> {
    match selector {
        Selector::Machine(id) => Some(*id),
        _ => None,
    }
}

fn routed(network: IpNet) -> Facts {
    Facts {
        routes: [network].into(),
        // No rule means the router itself.
        tags: [String::new()].into(),
        ..Facts::default()
    }
}
