//! The policy as it crosses the API: the document with its versions, what is wrong with one, what a
//! change would do, and why something is allowed or not.
//!
//! The document itself is text; its language is that of the policy crate.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::filter::Action;
use crate::ids::{MachineId, RuleId};

/// A place in a document, as editors count: both from 1, columns in characters.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a document cannot be used: where, what is wrong, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, ToSchema)]
#[error("{at}: {message}")]
pub struct Fault {
    /// Where.
    pub at: Position,
    /// What is wrong, and the next step.
    pub message: String,
}

impl Fault {
    /// A fault.
    pub fn new(at: Position, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }
}

/// One thing that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// The field of the rule: `src`, `dst`, `proto`, `port`, `srcOS`, `srcCountry`, `srcPosture`,
    /// `when`, `expires`.
    pub field: String,
    /// Whether it is met.
    pub holds: bool,
    /// What is asked for, and what was found.
    pub detail: String,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: RuleId,
    /// Its `id` in the document, if it has one.
    pub name: Option<String>,
    /// For people.
    pub description: String,
    /// Where it stands in the document.
    pub at: Position,
    /// What it does if all conditions hold.
    pub action: Action,
    /// Whether all conditions hold.
    pub matches: bool,
    /// All that it asks for.
    pub conditions: Vec<Condition>,
}

/// Whether a packet may pass, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// Whether it may.
    pub allowed: bool,
    /// One sentence.
    pub reason: String,
    /// The rules that match: the denies if there are any, else those that allow.
    pub matched: Vec<RuleVerdict>,
    /// If none matches: the `accept` of which the fewest conditions fail.
    pub closest: Option<RuleVerdict>,
}

/// A machine and one that it may open something towards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Pair {
    /// Who opens.
    pub src: MachineId,
    /// Towards whom.
    pub dst: MachineId,
}

/// Pairs of machines: all are counted, the first thousand are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pairs {
    /// How many there are.
    pub count: u64,
    /// Some of them.
    pub pairs: Vec<Pair>,
}

/// What a change of the policy does, as the rules stand at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Impact {
    /// Sources that may open something towards a destination, and could nothing before.
    pub connects: Pairs,
    /// Sources that may open nothing towards a destination any more.
    pub cuts: Pairs,
    /// Sources that may open something before and after, of which other rules speak.
    pub changes: Pairs,
}

/// `GET /api/orgs/{org}/policy`, and the answer to every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyDocument {
    /// Which version it is, and who made it.
    #[serde(flatten)]
    pub info: PolicyVersion,
    /// The document, HuJSON.
    pub text: String,
    /// What rules ask for that this control plane never knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `GET /api/orgs/{org}/policy/groups`: a group that the policy in force declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyGroup {
    /// Its name, as in `group:eng`.
    pub name: String,
    /// Who is in it, by address.
    pub people: Vec<GroupPerson>,
}

/// Somebody in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupPerson {
    /// The e-mail address.
    pub email: String,
    /// Whether a member of the org has it. If not, the entry means nobody yet.
    pub member: bool,
    /// Whether the identity provider has the person in it, as of the last sign-in. If not, the document alone.
    pub provider: bool,
}

/// A version of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyVersion {
    /// Grows by one with each change.
    pub version: i64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who made it: an e-mail address. `None`: nobody who is a member now.
    pub author: Option<String>,
    /// How it came about.
    pub note: String,
}

/// `GET /api/orgs/{org}/policy/versions/{version}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyVersionText {
    /// The version.
    #[serde(flatten)]
    pub document: PolicyDocument,
    /// What is different from the version before, as a unified diff.
    pub diff: String,
}

/// `PUT /api/orgs/{org}/policy`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutPolicyRequest {
    /// The version that the text was made from. If another is in force by now, nothing happens
    /// (`CONFLICT`).
    pub version: i64,
    /// The document.
    pub text: String,
}

/// `POST /api/orgs/{org}/policy/dry-run`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DryRunRequest {
    /// The document.
    pub text: String,
}

/// What would happen if a document were saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DryRun {
    /// Why it would be refused: what is wrong with it, or the tests that it does not pass.
    pub faults: Vec<Fault>,
    /// Whom it would connect and cut off. `None`: it cannot be read.
    pub impact: Option<Impact>,
}

/// `POST /api/orgs/{org}/policy/versions/{version}/rollback`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version in force, as the caller knows it.
    pub version: i64,
}

/// A list of the document that holds rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// `acls`
    Acls,
    /// `grants`
    Grants,
}

impl Section {
    /// The field of the document.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Acls => "acls",
            Self::Grants => "grants",
        }
    }
}

/// A rule of the document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PolicyRule {
    /// Names it in calls. Follows from the rule's own `id`; of a rule without, from what it says.
    pub id: RuleId,
    /// Where it stands.
    pub section: Section,
    /// Where it begins.
    pub at: Position,
    /// Whether it holds now; `when` and `expires` decide.
    pub in_force: bool,
    /// The rule as it is written, without comments.
    #[schema(value_type = Object)]
    pub rule: Map<String, Value>,
}

/// `POST /api/orgs/{org}/policy/rules`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRuleRequest {
    /// Where it goes: to the end of this list.
    pub section: Section,
    /// The rule.
    #[schema(value_type = Object)]
    pub rule: Map<String, Value>,
}

/// `PUT /api/orgs/{org}/policy/rules/{rule}`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutRuleRequest {
    /// The rule as it shall be. Fields that stay the same keep their comments.
    #[schema(value_type = Object)]
    pub rule: Map<String, Value>,
}

/// `POST /api/orgs/{org}/acl-evaluate`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateRequest {
    /// Who opens: a machine's name, id or tailnet address.
    pub src: String,
    /// Towards whom: the same, or an address behind a route.
    pub dst: String,
    /// `tcp` (if absent), `udp`, `icmp`, `sctp`, another name or a number.
    #[serde(default)]
    pub protocol: Option<String>,
    /// The destination port; protocols with ports need one.
    #[serde(default)]
    pub port: Option<u16>,
    /// When. Absent: now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
}

/// The answer to [`EvaluateRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evaluation {
    /// The source machine's name.
    pub src: String,
    /// The destination machine's name.
    pub dst: String,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// `GET /api/orgs/{org}/machines/{machine}/reach`: whom a machine may open something towards, and who towards it, as the
/// rules stand now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reach {
    /// Whom it reaches.
    pub reaches: ReachList,
    /// Who reaches it.
    pub reached_by: ReachList,
    /// The rules that are named there.
    pub rules: Vec<ReachRule>,
}

/// Machines by name: all are counted, the first [`MAX_REACH`] are named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReachList {
    /// How many there are.
    pub count: u64,
    /// Some of them.
    pub machines: Vec<ReachMachine>,
}

/// Most machines that a [`ReachList`] names.
pub const MAX_REACH: usize = 1_000;
/// Most rules that are named for one of them.
pub const MAX_REACH_RULES: usize = 32;

/// A machine at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReachMachine {
    /// The machine.
    pub id: MachineId,
    /// Its name.
    pub name: String,
    /// The rules that allow it, at most [`MAX_REACH_RULES`] of them; each may be narrowed by rules that deny.
    pub rules: Vec<RuleId>,
}

/// A rule that allows something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReachRule {
    /// The rule.
    pub rule: RuleId,
    /// Its `id` in the document, if it has one.
    pub name: Option<String>,
    /// For people.
    pub description: String,
    /// Where it stands in the document.
    pub at: Position,
}
