//! Addresses at which a peer may be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Addresses that are kept of one peer.
pub const MAX_CANDIDATES: usize = 100;

/// Who told us of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The control plane: the peer reported it.
    Netmap,
    /// The peer's call-me-maybe.
    Call,
    /// A ping of the peer came from it.
    Ping,
}

/// An address at which a peer may be, and how it has done.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Who told us of it.
    pub origin: Origin,
    /// When it was told last.
    pub told: Instant,
    /// When it was pinged last.
    pub pinged: Option<Instant>,
    /// When it answered last.
    pub answered: Option<Instant>,
    /// Round trip of that answer.
    pub latency: Option<Duration>,
}

/// All candidates of one peer.
#[derive(Default)]
pub struct Candidates(BTreeMap<SocketAddr, Candidate>);

impl Candidates {
    /// Adds an address, or notes that it was told again. `true`: it is new. Addresses that cannot be
    /// a peer's are ignored; of too many, one that has gone longest without an answer makes room.
    pub fn add(&mut self, addr: SocketAddr, origin: Origin, now: Instant) -> bool {
        if addr.port() == 0 || addr.ip().is_unspecified() || addr.ip().is_multicast() {
            return false;
        }
        if let Some(known) = self.0.get_mut(&addr) {
            known.told = now;
            return false;
        }
        if self.0.len() >= MAX_CANDIDATES {
            let stalest = self.0.iter().min_by_key(|(_, c)| (c.answered, c.told));
            let Some(stalest) = stalest.map(|(addr, _)| *addr) else {
                return false;
            };
            self.0.remove(&stalest);
        }
        let fresh = Candidate {
            origin,
            told: now,
            pinged: None,
            answered: None,
            latency: None,
        };
        self.0.insert(addr, fresh);
        true
    }

    /// Forgets what the control plane named and names no more, unless it answers.
    pub fn retain_netmap(&mut self, named: &[SocketAddr]) {
        self.0.retain(|addr, candidate| {
            candidate.origin != Origin::Netmap
                || candidate.answered.is_some()
                || named.contains(addr)
        });
    }

    pub fn get_mut(&mut self, addr: &SocketAddr) -> Option<&mut Candidate> {
        self.0.get_mut(addr)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&SocketAddr, &Candidate)> {
        self.0.iter()
    }

    /// Forgets how the candidates did, not the candidates.
    pub fn forget_answers(&mut self) {
        for candidate in self.0.values_mut() {
            candidate.pinged = None;
            candidate.answered = None;
            candidate.latency = None;
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
