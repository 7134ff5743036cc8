//! Has this machine's programs ask the service, by the system's own rules for names: files in `/etc/resolver`
//! on macOS, the name resolution policy table on Windows. Both go as the tunnel goes down, and are removed at
//! the next start after a crash.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ztna_proto::network::DNS_SERVICE;

use super::zone::Zone;
use crate::daemon::state_dir::StateDir;
use crate::platform::{NAME_RULES, NameRules, SYSTEM, remove_service_address};

/// Where the rules are.
pub const RESOLV_CONF: &str = NAME_RULES;

/// What programs of this machine ask.
pub struct Host {
    rules: NameRules,
    applied: Option<Applied>,
}

/// What is in force.
#[derive(PartialEq, Eq)]
struct Applied {
    domains: BTreeSet<String>,
    search: Vec<String>,
    everything: bool,
    /// What the system cannot do of that.
    missing: Option<&'static str>,
}

impl Host {
    /// Of the programs that follow these rules.
    #[must_use]
    pub fn new(_dir: Arc<StateDir>, rules: PathBuf, _device: String) -> Self {
        Self {
            rules: NameRules::new(&rules),
            applied: None,
        }
    }

    /// Has programs ask the service. Nobody is known who answered before: other names are not asked here.
    ///
    /// # Errors
    /// The system refuses.
    #[allow(clippy::unused_async)] // As on Linux.
    pub async fn apply(&mut self, zone: &Zone, _has_exit: bool) -> io::Result<Vec<SocketAddr>> {
        let domains = zone.routed_domains();
        let everything = !zone.nameservers.is_empty();
        let same = self.applied.as_ref().is_some_and(|applied| {
            applied.domains == domains
                && applied.search == zone.search
                && applied.everything == everything
        });
        if !same {
            let service = IpAddr::V4(DNS_SERVICE);
            let missing = self
                .rules
                .set(&domains, &zone.search, everything, service)?;
            self.applied = Some(Applied {
                domains,
                search: zone.search.clone(),
                everything,
                missing,
            });
        }
        Ok(Vec::new())
    }

    /// What was done, for people.
    #[must_use]
    pub fn note(&self, zone: &Zone) -> Option<String> {
        let applied = self.applied.as_ref()?;
        let mut note = format!("names: {SYSTEM} asks {DNS_SERVICE} for {}", zone.domain);
        if let Some(missing) = applied.missing {
            note.push_str("; ");
            note.push_str(missing);
        }
        Some(note)
    }

    /// Puts back what was before.
    ///
    /// # Errors
    /// The system refuses.
    #[allow(clippy::unused_async)] // As on Linux.
    pub async fn revert(&mut self) -> io::Result<()> {
        self.applied = None;
        remove_service_address(DNS_SERVICE);
        self.rules.remove()
    }
}

/// Removes what a daemon that was killed left.
///
/// # Errors
/// The system refuses.
pub fn restore(_dir: &StateDir, rules: &Path) -> io::Result<()> {
    NameRules::new(rules).remove()
}
