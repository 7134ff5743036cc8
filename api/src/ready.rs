//! `api.json` in the data folder: how others reach a node that is ready.

use std::borrow::Cow;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Its name.
pub const READY_FILE: &str = "api.json";

/// Its content.
#[derive(Deserialize, Serialize)]
pub struct Ready {
    /// How machines reach it.
    pub url: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// `None` without TLS.
    pub pin: Option<String>,
    /// What relays check tickets with.
    pub ticket_key: String,
    pub pid: u32,
    pub version: Cow<'static, str>,
}
