//! The preshared keys of one tunnel.

use std::time::Instant;

use ztna_handshake::Psk;

use crate::config::PREVIOUS_PSK_FOR;

/// A key that the hybrid handshake made.
pub struct Installed {
    pub epoch: u64,
    pub psk: Psk,
    pub since: Instant,
    /// From a full handshake, which authenticates both ML-KEM keys; else chained to one.
    pub full: bool,
}

/// WireGuard mixes the preshared key into its response only. A response may come from before or
/// after the responder installed an epoch, so the initiator keeps the epoch before for a while.
#[derive(Default)]
pub struct PskSlots {
    installed: Option<Installed>,
    previous: Option<Installed>,
}

impl PskSlots {
    pub fn install(&mut self, next: Installed) {
        self.previous = self.installed.replace(next);
    }

    /// Forgets all keys.
    pub fn erase(&mut self) {
        self.installed = None;
        self.previous = None;
    }

    pub fn installed(&self) -> Option<&Installed> {
        self.installed.as_ref()
    }

    /// Drops the epoch before once it is of no more use.
    pub fn expire_previous(&mut self, now: Instant) {
        let aged = self
            .installed
            .as_ref()
            .is_some_and(|current| now.duration_since(current.since) >= PREVIOUS_PSK_FOR);
        if aged {
            self.previous = None;
        }
    }

    /// The keys to try on a WireGuard response, likeliest first.
    pub fn candidates(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.installed
            .iter()
            .chain(&self.previous)
            .map(|slot| slot.psk.expose())
    }
}
