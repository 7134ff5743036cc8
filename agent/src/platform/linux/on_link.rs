//! The networks on this machine's links.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use super::interface::{into_io, no_ipv6};
use super::steer::{MAIN, NOT_LOCAL};

/// What the main table leads to without a router, by other devices than the one with this index.
/// Networks so large that they stand for everything are not among them.
///
/// # Errors
/// Netlink is not available.
pub async fn on_link(except: u32) -> io::Result<BTreeSet<IpNet>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut networks = BTreeSet::new();
    for (message, is_v6) in [(v4, false), (v6, true)] {
        let routes = handle.route().get(message).execute();
        let routes: Vec<RouteMessage> = match routes.try_collect().await.map_err(into_io) {
            Err(error) if is_v6 && no_ipv6(&error) => continue,
            routes => routes?,
        };
        networks.extend(routes.iter().filter_map(|route| network(route, except)));
    }
    connection.abort();
    Ok(networks)
}

fn network(route: &RouteMessage, except: u32) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    if u32::from(route.header.table) != MAIN
        || route.header.kind != RouteType::Unicast
        || u32::from(length) <= NOT_LOCAL
    {
        return None;
    }
    let mut destination = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                destination = Some((*address).into());
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                destination = Some((*address).into());
            }
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                return None;
            }
            RouteAttribute::Oif(index) if *index == except => return None,
            _ => {}
        }
    }
    IpNet::new(destination?, length).ok()
}
