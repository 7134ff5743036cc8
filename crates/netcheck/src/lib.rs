//! The network check: what the network around a machine lets through, how far each relay region is,
//! and which one is to be home.
//!
//! # What it measures
//!
//! A [`Netcheck`] asks the STUN services of the relay map from the very socket that peers use. Their
//! answers tell whether UDP passes, by IPv4 and IPv6, at which addresses the outside sees the
//! machine, whether its NAT uses one mapping for all destinations, and the round trip to every
//! region. It has no socket and no clock: it says what is to be sent ([`Output`]), is told what came
//! and what time it is, and gives a [`Report`].
//!
//! # When it measures
//!
//! A *full* check asks every region: at the start, after a change of network or relay map, every
//! [`FULL_EVERY`], and when a person asks. Between them, every 20 to 26 s ([`ROUND`]), an
//! *incremental* one asks the home region and the [`FASTEST`] nearest, which also keeps the NAT's
//! mapping open; it comes at once if a direct path dies ([`Netcheck::hurry`]), which is what a NAT
//! that changed looks like. What is sent when is the [`plan`].
//!
//! # When it is done
//!
//! When every service has answered; or [`ENOUGH_REGIONS`] regions have, and as much time again has
//! passed as the slowest of them took (twice that in a full check); or after [`STUN_PHASE`]. If nothing
//! answered by UDP, a full check measures the regions by HTTPS. Nothing takes longer than
//! [`WHOLE_CHECK`].
//!
//! # Which region is home
//!
//! The one whose best round trip of the last [`MEMORY`] is the least, of those that answer now. The
//! present home stays unless another is nearer by [`WORTH_A_MOVE`] *and* by a third, so that
//! latencies that flutter move nobody. A home that neither answers nor was heard is left. See
//! [`History::choose`].

mod check;
mod history;
mod netcheck;
pub mod plan;
mod report;

pub use check::{ENOUGH_REGIONS, LEAST_GRACE, PORTAL_PHASE, STUN_PHASE, WHOLE_CHECK};
pub use history::{HEARD_LATELY, History, MAX_SAMPLES, MEMORY, Present, WORTH_A_MOVE};
pub use netcheck::{
    Answer, FIRST_ANSWER, FULL_EVERY, HURRY_SPACING, MAX_REGIONS, Netcheck, Output, ROUND, Seen,
    TransactionId,
};
pub use plan::{FASTEST, MAX_NODES, Probe, Region};
pub use report::{PortMapping, RegionReport, Report};
