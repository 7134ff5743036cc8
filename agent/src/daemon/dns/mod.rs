//! Names: a service on this machine that knows the tailnet's, and passes others on to who knows them.
//!
//! * [`zone`]: what follows from the netmap. [`message`]: the bytes. [`server`]: the service itself, at
//!   100.100.100.100, port 53, for programs of this machine alone.
//! * [`host`]: has those programs ask it.

#[cfg(target_os = "linux")]
mod host;
#[cfg(not(target_os = "linux"))]
#[path = "rules.rs"]
mod host;
mod message;
mod server;
mod zone;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use ztna_netmap::Netmap;
use ztna_proto::network::DNS_SERVICE;

use self::host::Host;
pub use self::host::{RESOLV_CONF, restore};
use self::server::{Knowledge, Server, Shared};
use self::zone::{PORT, Zone};
use super::state_dir::StateDir;
use crate::platform::add_service_address;

/// The service and what makes programs ask it.
pub struct Dns {
    knowledge: Shared,
    _server: Server,
    host: Host,
}

impl Dns {
    /// Starts the service at the TUN device with this index and name. No program asks it yet.
    ///
    /// # Errors
    /// The system refuses the address or the port.
    pub async fn start(
        dir: Arc<StateDir>,
        file: PathBuf,
        device: String,
        index: u32,
    ) -> io::Result<Self> {
        add_service_address(index, DNS_SERVICE).await?;
        let knowledge = Shared::default();
        let server = Server::start(DNS_SERVICE.into(), PORT, Arc::clone(&knowledge)).await?;
        Ok(Self {
            knowledge,
            _server: server,
            host: Host::new(dir, file, device),
        })
    }

    /// Answers with what a map knows, and has programs ask. Returns what to tell. `servers`: names, in
    /// lower case, of those that the tunnel needs. `has_exit`: whether an exit node is used.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn set(
        &mut self,
        Names(zone): Names,
        servers: BTreeSet<String>,
        has_exit: bool,
    ) -> io::Result<Option<String>> {
        // Known before it is asked for.
        let before = {
            let mut knowledge = self.write();
            knowledge.zone.clone_from(&zone);
            knowledge.servers = servers;
            knowledge.before.clone()
        };
        let now = self.host.apply(&zone, has_exit).await?;
        if now != before {
            self.write().before = now;
        }
        Ok(self.host.note(&zone))
    }

    /// Who is asked for what the tailnet does not know.
    #[must_use]
    pub fn nameservers(&self) -> Vec<IpAddr> {
        let knowledge = self.knowledge.read();
        let knowledge = knowledge.unwrap_or_else(PoisonError::into_inner);
        match knowledge.zone.nameservers.as_slice() {
            [] => knowledge.before.iter().map(SocketAddr::ip).collect(),
            nameservers => nameservers.to_vec(),
        }
    }

    /// Has programs ask whom they asked before; the service ends.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn end(mut self) -> io::Result<()> {
        self.host.revert().await
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Knowledge> {
        let knowledge = self.knowledge.write();
        knowledge.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names that a map knows.
pub struct Names(Zone);

impl Names {
    /// `None`: the map does not know its own machine yet.
    #[must_use]
    pub fn of(map: &Netmap) -> Option<Self> {
        Zone::of(map).map(Self)
    }
}
