//! What is asked of a machine that routes: for its peers, and into the tunnel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// Which families are forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// What peers reach through this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Networks of its own that are approved.
    pub approved: BTreeSet<IpNet>,
    /// Networks on its links, which nobody reaches who is only to reach the internet.
    pub on_link: BTreeSet<IpNet>,
}

/// What is to be steered into the tunnel, beside the tailnet itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// Networks behind peers.
    pub routes: BTreeSet<IpNet>,
    /// Addresses that stay outside.
    pub outside: BTreeSet<IpAddr>,
}
