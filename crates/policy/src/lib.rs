//! What an org allows, and what follows from it for each machine.
//!
//! An org has one [`Document`], which its people write. Its rules have no order: between two machines,
//! what some `accept` rule lets through and no `deny` rule matches is allowed, everything else is not.
//!
//! [`compile`] joins a document with the org's machines into a [`Compiled`] org, which answers for
//! each machine whom it sees, what its packet filter is, and which groups its record names. Two
//! machines see each other if anything at all is allowed between them, in either direction; who
//! may open what towards whom is the filter's business. What is not known of a machine (its country,
//! say) opens nothing: a condition on it holds for `deny` and fails for `accept`.
//!
//! The cost of a change follows from one thought: machines that the rules cannot tell apart form a
//! *class*, and whether two machines are related is a question about their classes. An org whose
//! rules name no machine has as many classes as it has combinations of groups, whatever the number
//! of its machines.
//!
//! Beside that: [`evaluate`] says why a packet may pass or not, [`impact`] what a change would do,
//! [`Document::run_tests`] whether a document does what its author expects, and `add_rule`,
//! `replace_rule` and `remove_rule` change single rules and leave people's comments alone.

mod checks;
mod compiled;
pub mod document;
mod edit;
mod explain;
mod facts;
mod impact;
mod lower;
mod reach;

pub use checks::{MAX_FAULTS, People, Person};
pub use compiled::{Change, Compiled, compile};
pub use document::{Document, FIRST_DOCUMENT, Rule};
pub use edit::{add_rule, remove_rule, replace_rule, rule_fields};
pub use explain::{Party, Query, evaluate, in_force, place_of};
pub use facts::{Facts, Place, internet};
pub use impact::{MAX_PAIRS, impact};
pub use ztna_proto::policy::{Fault, Impact, Position, Section, Verdict};
