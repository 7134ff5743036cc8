//! This machine as a router, and networks behind peers: not on this system yet. Who asks is told so; what
//! only takes back has nothing to take back.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::platform::{Behind, Families, Steering, Unsupported, can_steer};

const ROUTER: Unsupported = Unsupported {
    what: "routing for others (--advertise-routes, --advertise-exit-node)",
};

/// Steers nothing.
pub struct Steer;

impl Steer {
    /// For the device with this index.
    ///
    /// # Errors
    /// None here.
    #[allow(clippy::unused_async)] // As on Linux.
    pub async fn new(_index: u32) -> io::Result<Self> {
        Ok(Self)
    }

    /// The addresses that stay outside now: all do.
    #[must_use]
    pub fn outside(&self) -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }

    /// Nothing is steered, and so it is refused that something be.
    ///
    /// # Errors
    /// There are routes.
    #[allow(clippy::unused_async)] // As on Linux.
    pub async fn set(&mut self, wanted: &Steering) -> io::Result<()> {
        match wanted.routes.is_empty() {
            true => Ok(()),
            false => Ok(can_steer()?),
        }
    }
}

/// Whether the system can route for others at all.
///
/// # Errors
/// It cannot.
#[allow(clippy::unused_async)] // As on Linux.
pub async fn check_forwarding() -> io::Result<()> {
    Err(ROUTER.into())
}

/// Routes for others.
///
/// # Errors
/// Always.
#[allow(clippy::unused_async)] // As on Linux.
pub async fn masquerade(_device: &str, _behind: &Behind) -> io::Result<()> {
    Err(ROUTER.into())
}

/// Ends that.
///
/// # Errors
/// None here.
#[allow(clippy::unused_async)] // As on Linux.
pub async fn remove_masquerade(_device: &str) -> io::Result<()> {
    Ok(())
}

/// Switches forwarding on.
///
/// # Errors
/// Always.
pub fn switch_forwarding_on(_families: Families) -> io::Result<Vec<String>> {
    Err(ROUTER.into())
}

/// The networks on this machine's links, which routers and users of exit nodes ask for.
///
/// # Errors
/// Always.
#[allow(clippy::unused_async)] // As on Linux.
pub async fn on_link(_except: u32) -> io::Result<BTreeSet<IpNet>> {
    Err(ROUTER.into())
}

/// A check of sources that would have to be loosened: there is none.
///
/// # Errors
/// None here.
pub fn strict_source_check() -> io::Result<Option<String>> {
    Ok(None)
}

/// Loosens none.
///
/// # Errors
/// None here.
pub fn loosen_source_check() -> io::Result<()> {
    Ok(())
}

/// Restores none.
///
/// # Errors
/// None here.
pub fn restore_source_check(_before: &str) -> io::Result<()> {
    Ok(())
}
