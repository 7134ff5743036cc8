//! The data plane in a simulated network.
//!
//! Real [`Mesh`](ztna_mesh::Mesh)es, each with a real netmap client, talk over a network that exists
//! only in memory: NATs of every kind ([`nat`]), carriers' NATs around them, private addresses that
//! several sites have, IPv6 beside or instead of IPv4, with firewalls ([`firewall`]), links that drop
//! what is too large for them and say nothing, relays, STUN services and a control plane ([`control`]). Time is virtual, and
//! everything follows from one seed: who is where, who may talk to whom, what goes wrong and when
//! ([`scenario`]). The same seed gives the same timeline, byte for byte.
//!
//! A run ([`world`]) has three parts. While things go wrong, nothing may happen that never may: a
//! packet comes that nobody sent, or twice, or against the policy; a machine spins. Then everything is
//! mended and the network is left in peace for [`scenario::SETTLE`]. After that, for
//! [`scenario::PROOF`], everything has to work: every packet that the policy allows arrives, none
//! other does, both ends of a pair hold the same preshared key, every map is the control plane's, and
//! each pair is direct exactly if the model says that it can be ([`model`]).
//!
//! What is not real is WireGuard, since gotatun reads the clock and makes its own randomness: a
//! deterministic model stands for it ([`wireguard`]), which a test holds against gotatun.

pub mod control;
pub mod firewall;
mod ledger;
mod machine;
pub mod model;
pub mod nat;
pub mod scenario;
pub mod topology;
pub mod trace;
pub mod wireguard;
pub mod world;

use scenario::Scenario;
use trace::Trace;
use world::Outcome;

/// Runs a seed's scenario. With `has_datagrams`, the timeline has a line for every datagram.
#[must_use]
pub fn run_seed(seed: u64, has_datagrams: bool) -> Outcome {
    world::run(Scenario::generate(seed), Trace::new(has_datagrams))
}
