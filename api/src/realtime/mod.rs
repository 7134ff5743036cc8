//! `GET /api/realtime`: dashboards hear what happens in an org.
//!
//! Every change and every sign-in is a row of the org's audit log already, numbered without gaps. So nothing
//! is published here: each node looks four times a second where the logs stand of orgs that somebody
//! listens to ([`feed`]), reads the new rows once, and hands them to its listeners ([`connection`]), to each
//! what its role may see ([`row`]). No writer has to do anything for it, other nodes' rows are found the
//! same way, and what was missed (by a slow or an absent client) is read again by number.
//!
//! Who is there is no row. Each second it is compared with what the listeners know, from the hub, or, where
//! no machine of the org is connected, from what other nodes have written down.

mod connection;
mod feed;
mod routes;
mod row;

pub(crate) use feed::{Realtime, follow};
pub(crate) use routes::routes;
