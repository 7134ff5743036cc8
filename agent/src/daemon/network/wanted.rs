//! What follows from preferences and netmap for routes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use ztna_mesh::RouteUse;
use ztna_netmap::Netmap;
use ztna_proto::netmap::PeerRecord;
use ztna_proto::network::EXIT_ROUTES;

use super::prefs::NetworkPrefs;

/// What is to be routed where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// For the mesh.
    pub route_use: RouteUse,
    /// Networks that lead into the tunnel, beside the tailnet itself.
    pub routes: BTreeSet<IpNet>,
    /// Why the exit node that is wanted carries nothing.
    pub problem: Option<String>,
}

/// What is wanted with this map.
#[must_use]
pub fn wanted(prefs: &NetworkPrefs, map: &Netmap) -> Wanted {
    let mut wanted = Wanted {
        route_use: RouteUse {
            subnets: prefs.accept_routes,
            exit: None,
        },
        ..Wanted::default()
    };
    if prefs.accept_routes {
        let routes = map.peers().values().flat_map(|peer| &peer.routes);
        let subnets = routes.filter(|route| route.prefix_len() > 0);
        // Two routers of one network do not send it to each other.
        let subnets = subnets.filter(|route| !prefs.advertise.contains(route));
        wanted.routes.extend(subnets.map(IpNet::trunc));
    }
    if let Some(name) = &prefs.exit_node {
        // Also while it is not there: what is meant for it must not leave by another way.
        wanted.routes.extend(EXIT_ROUTES);
        let peer = map.peers().values().find(|peer| is_called(peer, name));
        let peer = peer.filter(|peer| is_exit_node(peer));
        wanted.route_use.exit = peer.map(|peer| peer.id);
        wanted.problem = exit_fault(prefs, map).map(|fault| {
            format!(
                "nothing leaves for the internet: {fault}; `sudo ztna up --exit-node=''` chooses none"
            )
        });
    }
    wanted
}

/// Why the exit node that is chosen is none, by this map.
#[must_use]
pub fn exit_fault(prefs: &NetworkPrefs, map: &Netmap) -> Option<String> {
    let name = prefs.exit_node.as_ref()?;
    match map.peers().values().find(|peer| is_called(peer, name)) {
        None => Some(format!(
            "no peer of this machine is called {name}; `ztna peers` lists them"
        )),
        Some(peer) if !is_exit_node(peer) => Some(format!(
            "{name} is no exit node for this machine; have it advertised there (`ztna up --advertise-exit-node`) \
             and approved"
        )),
        Some(_) => None,
    }
}

fn is_exit_node(peer: &PeerRecord) -> bool {
    peer.routes.iter().any(|route| route.prefix_len() == 0)
}

fn is_called(peer: &PeerRecord, name: &str) -> bool {
    let address: Option<IpAddr> = name.parse().ok();
    peer.name.eq_ignore_ascii_case(name)
        || peer
            .dns_name
            .eq_ignore_ascii_case(name.trim_end_matches('.'))
        || address.is_some_and(|address| peer.addresses().contains(&address))
}
