//! Routes for networks behind peers, by policy routing.
//!
//! They are in a table of their own, which is asked after this machine's own routes, default routes
//! apart: what it reaches itself stays as it is. The tunnel's own packets must not enter the tunnel:
//! datagrams to peers carry a mark, and addresses of the control plane and the relays have rules.
//!
//! ```text
//! 5210  datagrams with our mark             → main
//! 5220  to a server of ours                 → main
//! 5230  main, without its default routes and others as short
//! 5240  the table of networks behind peers
//! ```
//!
//! Routes of up to 7 bits are no networks of one's own: other programs, and DHCP servers that mean harm
//! (option 121, "TunnelVision"), have two of them stand for a default route. Longer ones count, whoever
//! set them: who runs the local network still gets by option 121 what is bound for a network that it
//! names, in pieces of /8 or less. The kernel's rules cannot ask whether a route has a gateway.
//!
//! With an exit node the table ends in a route that refuses. It and the rules outlive a process that is
//! killed, so that nothing leaves another way; the next process takes them over.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};
use tokio::task::JoinHandle;
use ztna_proto::network::EXIT_ROUTES;

use super::interface::{ROUTE_PROTOCOL, into_io, no_ipv6};
use crate::platform::Steering;

/// The mark of datagrams that must not enter the tunnel (`SO_MARK`, socket(7)).
pub(super) const BYPASS_MARK: u32 = 0x5a74_0001;
/// Our table: above the kernel's own and what people number by hand.
const TABLE: u32 = 5_240;
/// `RT_TABLE_MAIN` (linux/rtnetlink.h).
pub(super) const MAIN: u32 = 254;

/// Longest prefix that is not taken for a network of this machine's own.
pub(super) const NOT_LOCAL: u32 = 7;
/// Metric of the route that refuses: behind every other.
const LAST: u32 = 0x7fff_ffff;

/// The rules' priorities: before the main table's own, 32766.
const MARKED: u32 = 5_210;
const OUTSIDE: u32 = 5_220;
const OWN_ROUTES: u32 = 5_230;
const BEHIND_PEERS: u32 = 5_240;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    // In the order in which they are made: the tunnel comes last.
    Marked(Family),
    Outside(IpAddr),
    OwnRoutes(Family),
    BehindPeers(Family),
}

/// Carries [`Steering`] out.
pub struct Steer {
    handle: Handle,
    connection: JoinHandle<()>,
    index: u32,
    rules: BTreeSet<Rule>,
    routes: BTreeSet<IpNet>,
}

impl Steer {
    /// For the device with this index. Takes over what an earlier process left behind.
    ///
    /// # Errors
    /// Netlink is not available.
    pub async fn new(index: u32) -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let mut steer = Self {
            handle,
            connection,
            index,
            rules: BTreeSet::new(),
            routes: BTreeSet::new(),
        };
        steer.take_over().await?;
        Ok(steer)
    }

    /// The addresses that stay outside now.
    #[must_use]
    pub fn outside(&self) -> BTreeSet<IpAddr> {
        let outside = self.rules.iter().filter_map(|rule| match rule {
            Rule::Outside(address) => Some(*address),
            _ => None,
        });
        outside.collect()
    }

    /// Makes it so.
    ///
    /// # Errors
    /// What the kernel refused. The call may be repeated.
    pub async fn set(&mut self, wanted: &Steering) -> io::Result<()> {
        let rules = rules_of(wanted);
        // The tunnel's rule goes first.
        let obsolete: Vec<Rule> = self.rules.difference(&rules).copied().collect();
        for rule in obsolete.into_iter().rev() {
            let message = message_of(rule);
            let deleted = self.handle.rule().del(message).execute().await;
            gone_is_fine(deleted.map_err(into_io))?;
            self.rules.remove(&rule);
        }
        for route in self
            .routes
            .difference(&wanted.routes)
            .copied()
            .collect::<Vec<_>>()
        {
            let deleted = self.handle.route().del(self.route(route)).execute().await;
            gone_is_fine(deleted.map_err(into_io))?;
            self.routes.remove(&route);
        }
        for route in wanted
            .routes
            .difference(&self.routes)
            .copied()
            .collect::<Vec<_>>()
        {
            let request = self.handle.route().add(self.route(route)).replace();
            match request.execute().await.map_err(into_io) {
                // Nothing of that family can leave this machine, and nothing has to be steered.
                Err(error) if route.addr().is_ipv6() && no_ipv6(&error) => continue,
                result => result?,
            }
            self.routes.insert(route);
        }
        for everything in EXIT_ROUTES {
            self.refuse_the_rest(everything, wanted.routes.contains(&everything))
                .await?;
        }
        for rule in rules.difference(&self.rules).copied().collect::<Vec<_>>() {
            let mut request = self.handle.rule().add();
            *request.message_mut() = message_of(rule);
            match request.execute().await.map_err(into_io) {
                Err(error) if family_of(rule) == Family::V6 && no_ipv6(&error) => continue,
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
                _ => self.rules.insert(rule),
            };
        }
        Ok(())
    }

    fn route(&self, route: IpNet) -> RouteMessage {
        match route {
            IpNet::V4(net) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .output_interface(self.index)
                .table_id(TABLE)
                .scope(RouteScope::Link)
                .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
                .build(),
            IpNet::V6(net) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .output_interface(self.index)
                .table_id(TABLE)
                .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
                .build(),
        }
    }

    /// Whether the table ends in a route that refuses. Unlike the others it has no device to go with.
    async fn refuse_the_rest(&self, everything: IpNet, is_wanted: bool) -> io::Result<()> {
        let message = match everything {
            IpNet::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new()
                .kind(RouteType::Unreachable)
                .table_id(TABLE)
                .priority(LAST)
                .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
                .build(),
            IpNet::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new()
                .kind(RouteType::Unreachable)
                .table_id(TABLE)
                .priority(LAST)
                .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
                .build(),
        };
        let done = match is_wanted {
            true => {
                let added = self.handle.route().add(message).replace().execute().await;
                added.map_err(into_io)
            }
            false => {
                let deleted = self.handle.route().del(message).execute().await;
                gone_is_fine(deleted.map_err(into_io))
            }
        };
        match done {
            Err(error) if everything.addr().is_ipv6() && no_ipv6(&error) => Ok(()),
            done => done,
        }
    }

    /// Knows the rules of an earlier process for its own, and removes those that it would not make. The
    /// table's routes went with their device.
    async fn take_over(&mut self) -> io::Result<()> {
        for version in [IpVersion::V4, IpVersion::V6] {
            let is_v6 = matches!(version, IpVersion::V6);
            let rules = self.handle.rule().get(version).execute();
            let rules: Vec<RuleMessage> = match rules.try_collect().await.map_err(into_io) {
                Err(error) if is_v6 && no_ipv6(&error) => continue,
                rules => rules?,
            };
            for message in rules.into_iter().filter(is_ours) {
                match rule_of(&message) {
                    Some(rule) => {
                        self.rules.insert(rule);
                    }
                    None => {
                        let deleted = self.handle.rule().del(message).execute().await;
                        gone_is_fine(deleted.map_err(into_io))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Steer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn is_ours(rule: &RuleMessage) -> bool {
    rule.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
        )
    })
}

/// The rule that a message is of, if we would make it so.
fn rule_of(message: &RuleMessage) -> Option<Rule> {
    let family = match message.header.family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    let destination = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Destination(address) => Some(Rule::Outside(*address)),
            _ => None,
        });
    let known = [
        Rule::Marked(family),
        Rule::OwnRoutes(family),
        Rule::BehindPeers(family),
    ];
    let is_so = |rule: &Rule| {
        let made = message_of(*rule);
        let mut parts = made.attributes.iter();
        made.header.dst_len == message.header.dst_len
            && parts.all(|part| message.attributes.contains(part))
    };
    known.into_iter().chain(destination).find(is_so)
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

fn rules_of(wanted: &Steering) -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for family in [Family::V4, Family::V6] {
        let is_v6 = family == Family::V6;
        if !wanted
            .routes
            .iter()
            .any(|route| route.addr().is_ipv6() == is_v6)
        {
            continue;
        }
        rules.extend([
            Rule::Marked(family),
            Rule::OwnRoutes(family),
            Rule::BehindPeers(family),
        ]);
        let outside = wanted.outside.iter().copied();
        rules.extend(
            outside
                .filter(|ip| ip.is_ipv6() == is_v6)
                .map(Rule::Outside),
        );
    }
    rules
}

fn family_of(rule: Rule) -> Family {
    match rule {
        Rule::Marked(family) | Rule::OwnRoutes(family) | Rule::BehindPeers(family) => family,
        Rule::Outside(IpAddr::V4(_)) => Family::V4,
        Rule::Outside(IpAddr::V6(_)) => Family::V6,
    }
}

fn message_of(rule: Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = match family_of(rule) {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    message.header.action = RuleAction::ToTable;
    let (priority, table) = match rule {
        Rule::Marked(_) => (MARKED, MAIN),
        Rule::Outside(_) => (OUTSIDE, MAIN),
        Rule::OwnRoutes(_) => (OWN_ROUTES, MAIN),
        Rule::BehindPeers(_) => (BEHIND_PEERS, TABLE),
    };
    message.attributes.extend([
        RuleAttribute::Priority(priority),
        RuleAttribute::Table(table),
        RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)),
    ]);
    match rule {
        Rule::Marked(_) => message.attributes.push(RuleAttribute::FwMark(BYPASS_MARK)),
        Rule::Outside(address) => {
            message.header.dst_len = if address.is_ipv4() { 32 } else { 128 };
            message.attributes.push(RuleAttribute::Destination(address));
        }
        Rule::OwnRoutes(_) => {
            let suppress = RuleAttribute::SuppressPrefixLen(NOT_LOCAL);
            message.attributes.push(suppress);
        }
        Rule::BehindPeers(_) => {}
    }
    message
}
