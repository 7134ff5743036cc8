//! The document: what people write, in HuJSON (JSON with comments and trailing commas).
//!
//! ```hujson
//! {
//!   "groups":    { "group:dev": ["alice@example.com"] },   // who
//!   "hosts":     { "printer": "192.168.7.9" },
//!   "tagOwners": { "tag:web": ["group:dev"] },
//!   "acls": [
//!     { "action": "accept", "src": ["group:dev"], "dst": ["tag:web:80,443", "printer:*"] },
//!     { "action": "deny", "src": ["*"], "dst": ["tag:web:22"], "srcCountry": ["XX"] },
//!   ],
//!   "grants": [
//!     { "src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["tcp:22", "icmp:*"],
//!       "when": { "days": ["mon", "fri"], "from": "08:00", "to": "18:00", "zone": "UTC" } },
//!   ],
//!   "tests": [ { "src": "alice@example.com", "accept": ["tag:web:443"], "deny": ["tag:web:25"] } ],
//! }
//! ```
//!
//! The language is that of Tailscale's policy file; what a document there may hold and ours may not
//! (`ssh`, `nodeAttrs`, …) is refused with the place and a way out, rather than skipped. Ours adds to
//! every rule: `"action": "deny"`, `id`, `description`, `srcOS`, `srcCountry`, `when` and `expires`.

mod fault;
mod posture;
mod read;
mod reader;
mod rules;
mod schedule;
mod selector;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::Timestamp;
use ztna_proto::filter::Action;
use ztna_proto::ids::RuleId;
use ztna_proto::policy::{Fault, Position, Section};

pub use posture::{
    Assertion, Attributes, COUNTRY, OS, RESTRICTED, Truth, compare_versions, is_attribute,
};
pub(crate) use reader::options;
pub use schedule::{Standing, Window};
pub(crate) use selector::Names;
pub use selector::{Selector, UserRole, is_group_name};
pub use service::{PortBounds, Service, protocol};

/// Longest document, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Most rules of a document, `acls` and `grants` together.
pub const MAX_RULES: usize = 1_000;
/// Most entries of any one list, and of `groups`, `hosts`, `tagOwners` and `postures`.
pub const MAX_LIST: usize = 1_000;
/// Most users of a group.
pub const MAX_GROUP: usize = 10_000;
/// Most destinations of a grant times its entries of `ip`.
pub const MAX_COMBINATIONS: usize = 2_500;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 254;
/// Longest description of a rule, in characters.
pub const MAX_DESCRIPTION: usize = 255;

/// The document as the first org finds it: members reach the org's machines.
pub const FIRST_DOCUMENT: &str = r#"// Nothing is allowed that no rule allows; a "deny" beats every "accept",
// whatever their order. "tests" have to pass before a change is saved.
{
  "acls": [
    // Members reach every machine. Narrow this once you know who needs what.
    { "id": "members", "action": "accept", "src": ["autogroup:member"], "dst": ["*:*"] },
  ],
  "tests": [],
}
"#;

/// The posture that [`Document::restricting`] adds. No document can name one so.
const RESTRICTING: &str = "restricted by a posture policy";
/// Tells the id of its rule from those of rules that people write.
const OF_POSTURE: &[u8] = b"ztna policy rule of posture v1\0";
/// The name of the rule that [`Document::locked_down`] adds.
const LOCKDOWN: &str = "org:lockdown";
/// As [`OF_POSTURE`].
const OF_LOCKDOWN: &[u8] = b"ztna policy rule of lockdown v1\0";

/// A policy as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub(crate) names: Names,
    /// The rules: those of `acls`, then those of `grants`.
    pub rules: Vec<Rule>,
    /// Who may give a machine a tag, beside the org's owners and admins.
    pub tag_owners: BTreeMap<String, Vec<Selector>>,
    pub(crate) postures: BTreeMap<String, Vec<Assertion>>,
    default_postures: Vec<String>,
    auto_routes: Vec<(IpNet, Vec<Selector>)>,
    auto_exit: Vec<Selector>,
    /// What has to be true of the policy for it to be saved.
    pub tests: Vec<Test>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names the rule in filters, logs and calls. Follows from the rule's `id` if it has one, else
    /// from what it says.
    pub id: RuleId,
    /// Its `id` in the document.
    pub name: Option<String>,
    /// For people.
    pub description: String,
    /// Where it stands.
    pub section: Section,
    /// Its place in the list.
    pub index: usize,
    /// Where it begins.
    pub at: Position,
    /// What it does.
    pub action: Action,
    /// Who opens.
    pub src: Vec<Selector>,
    /// Towards whom, and what.
    pub dst: Vec<Destination>,
    /// What else has to hold.
    pub conditions: Conditions,
}

/// One destination of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Whom.
    pub selector: Selector,
    /// What; never empty.
    pub services: Vec<Service>,
}

/// What has to hold for a rule beside source and destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Postures of the source; one of them has to hold. Empty: none is asked for.
    pub postures: Vec<String>,
    /// The source's operating systems. Empty: any.
    pub os: Vec<String>,
    /// The source's countries. Empty: any.
    pub countries: Vec<String>,
    /// Windows; one of them has to be open. Empty: always.
    pub windows: Vec<Window>,
    /// The rule is of no effect from then on.
    pub expires: Option<Timestamp>,
}

/// One entry of `tests`: what a source has to reach, and what it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Where it begins.
    pub at: Position,
    /// Who opens: a user, a group (each of its users), a tag, an autogroup, or an address.
    pub src: Selector,
    /// What is known of the source.
    pub attributes: Attributes,
    /// When. `None`: at the time of the check.
    pub time: Option<Timestamp>,
    /// Protocol. `None`: TCP, as in Tailscale's tests.
    pub protocol: Option<ztna_proto::filter::Protocol>,
    /// What has to be let through.
    pub accept: Vec<Probe>,
    /// What must not be.
    pub deny: Vec<Probe>,
}

/// A destination of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where it stands.
    pub at: Position,
    /// Whom.
    pub dst: Selector,
    /// The port. `None`: any kind of packet of the protocol (for those without ports).
    pub port: Option<u16>,
}

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// The first fault, with its place and what is allowed there.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        read::document(text)
    }

    /// The document with one rule more: machines that a posture policy restricts ([`RESTRICTED`]) open
    /// nothing, whatever the other rules say. Others may go on opening towards them.
    #[must_use]
    pub fn restricting(mut self) -> Self {
        let posture = RESTRICTING.to_owned();
        let restricted = vec![Assertion::is_set(RESTRICTED)];
        self.postures.insert(posture.clone(), restricted);
        self.rules.push(Rule {
            id: rules::derived(OF_POSTURE, RESTRICTED),
            name: Some(RESTRICTED.to_owned()),
            description: "machines that fail a posture policy of the org open nothing".to_owned(),
            section: Section::Acls,
            index: self.rules.len(),
            at: Position::default(),
            action: Action::Deny,
            src: vec![Selector::Any],
            dst: vec![Destination {
                selector: Selector::Any,
                services: vec![Service::default()],
            }],
            conditions: Conditions {
                postures: vec![posture],
                ..Conditions::default()
            },
        });
        self
    }

    /// The document with one rule more: nothing passes between machines, whatever the other rules say.
    #[must_use]
    pub fn locked_down(mut self) -> Self {
        self.rules.push(Rule {
            id: rules::derived(OF_LOCKDOWN, LOCKDOWN),
            name: Some(LOCKDOWN.to_owned()),
            description: "the org is locked down: nothing passes between its machines".to_owned(),
            section: Section::Acls,
            index: self.rules.len(),
            at: Position::default(),
            action: Action::Deny,
            src: vec![Selector::Any],
            dst: vec![Destination {
                selector: Selector::Any,
                services: vec![Service::default()],
            }],
            conditions: Conditions::default(),
        });
        self
    }

    /// The rule with this id, or this name.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&Rule> {
        let by_id = id.parse().ok();
        let named = |rule: &&Rule| rule.name.as_deref() == Some(id) || Some(rule.id) == by_id;
        self.rules.iter().find(named)
    }

    /// The users that the document puts into a group. `None`: it does not declare the group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.names.groups.get(name)
    }

    /// The groups that it declares, without `group:`, and the users that it puts into them.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        let groups = self.names.groups.iter();
        groups.map(|(name, users)| (name.as_str(), users))
    }

    /// Whether any rule asks for the country of its source.
    #[must_use]
    pub fn asks_for_country(&self) -> bool {
        self.rules.iter().any(|rule| {
            let postures = self.postures_of(rule).iter();
            let mut assertions = postures
                .filter_map(|name| self.postures.get(name))
                .flatten();
            !rule.conditions.countries.is_empty()
                || assertions.any(|assertion| assertion.asks_for(COUNTRY))
        })
    }

    /// The postures that a rule asks for: its own, else for `accept` the document's.
    pub(crate) fn postures_of<'a>(&'a self, rule: &'a Rule) -> &'a [String] {
        match (rule.conditions.postures.is_empty(), rule.action) {
            (true, Action::Allow) => &self.default_postures,
            _ => &rule.conditions.postures,
        }
    }

    /// Those whose machines need nobody's approval for a route: who is asked for a network is asked
    /// for all networks within.
    pub fn route_approvers(&self, route: IpNet) -> impl Iterator<Item = &Selector> {
        let of_exit = self
            .auto_exit
            .iter()
            .filter(move |_| route.prefix_len() == 0);
        let around = self.auto_routes.iter();
        let around =
            around.filter(move |(network, _)| route.prefix_len() > 0 && network.contains(&route));
        of_exit.chain(around.flat_map(|(_, owners)| owners))
    }
}
