//! What size of packets the path in use carries: when its [search](crate::mtu) runs, and what of it
//! counts.

use std::net::SocketAddr;
use std::time::Instant;

use rand::RngExt;
use ztna_disco::TxId;

use super::PathAgent;
use crate::candidate::normal;
use crate::chosen::{Chosen, LOAD_WINDOW};
use crate::mtu::{BASE_MTU, MtuSearch, PathMtu, packet_size, probe_wait};
use crate::types::Output;

/// What the agent holds of the path in use, so that a packet costs no look-up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    known: Option<PathMtu>,
    /// When the search has something to do.
    next: Option<Instant>,
    /// When the size is to be confirmed, if there is traffic.
    confirm_at: Option<Instant>,
    /// The path is in doubt, and the search knows.
    is_in_doubt: bool,
}

impl PathAgent {
    /// What the direct path in use carries. `None`: there is none.
    #[must_use]
    pub fn mtu(&self) -> Option<PathMtu> {
        self.size.known
    }

    /// This machine's own network refused a datagram with so much payload as too large. The path is
    /// as good as before, for smaller ones.
    pub fn send_too_big(&mut self, addr: SocketAddr, payload: usize, now: Instant) {
        let addr = normal(addr);
        if let Some(search) = self.search_of(&addr) {
            search.refused(packet_size(payload, &addr));
            self.look_at_size(&addr, now);
        }
        self.handle_timeout(now);
    }

    /// When the search wants to run.
    pub(super) fn size_at(&self) -> Option<Instant> {
        self.size.next
    }

    /// Takes the pong of a probe. `false`: it is none's.
    pub(super) fn size_answered(&mut self, addr: &SocketAddr, tx: TxId, now: Instant) -> bool {
        let search = self
            .candidates
            .get_mut(addr)
            .and_then(|known| known.mtu.as_mut());
        let is_probe = search.is_some_and(|search| search.answered(tx, now));
        if is_probe {
            self.look_at_size(addr, now);
        }
        is_probe
    }

    /// What was known is void.
    pub(super) fn forget_size(&mut self) {
        self.size = Size::default();
    }

    /// Runs the search on the path in use, as far as the path is trusted.
    pub(super) fn find_size(&mut self, now: Instant) {
        let Some(chosen) = self.chosen else {
            return self.forget_size();
        };
        let addr = chosen.addr;
        if self.size.known.is_none_or(|known| known.to != addr) {
            self.look_at_size(&addr, now);
        }
        if chosen.is_doubted() {
            if !self.size.is_in_doubt {
                if let Some(search) = self.search_of(&addr) {
                    search.begin_anew();
                }
                self.look_at_size(&addr, now);
                self.size.is_in_doubt = true;
            }
            self.size.next = None;
            return;
        }
        if !self.is_awake() || !chosen.is_trusted(now) {
            self.size.next = None;
            return;
        }
        let is_due = self.size.next.is_some_and(|at| at <= now);
        let is_to_confirm = self.size.confirm_at.is_some_and(|at| at <= now);
        if self.size.is_in_doubt || is_due || is_to_confirm && self.is_loaded(now) {
            self.probe_sizes(&chosen, now);
        }
    }

    fn is_loaded(&self, now: Instant) -> bool {
        self.data_sent_at
            .is_some_and(|at| now.saturating_duration_since(at) < LOAD_WINDOW)
    }

    fn probe_sizes(&mut self, chosen: &Chosen, now: Instant) {
        let addr = chosen.addr;
        let wait = probe_wait(self.latency(&addr));
        let is_loaded = self.is_loaded(now);
        let Some(search) = self.search_of(&addr) else {
            return;
        };
        for size in search.run(wait, is_loaded, now) {
            let tx = TxId(self.rng.random());
            if let Some(search) = self.search_of(&addr) {
                search.sent(tx, size, now);
            }
            self.outputs.push_back(Output::Probe { to: addr, tx, size });
        }
        self.look_at_size(&addr, now);
    }

    /// The path in use is always a candidate.
    fn search_of(&mut self, addr: &SocketAddr) -> Option<&mut MtuSearch> {
        let known = self.candidates.get_mut(addr)?;
        Some(known.mtu.get_or_insert_with(|| Box::new(MtuSearch::new())))
    }

    /// Takes over what the search on an address knows, if that is the path in use.
    pub(super) fn look_at_size(&mut self, addr: &SocketAddr, now: Instant) {
        if self.in_use() != Some(*addr) {
            return;
        }
        let search = self
            .candidates
            .get(addr)
            .and_then(|known| known.mtu.as_ref());
        self.size = Size {
            known: Some(PathMtu {
                to: *addr,
                size: search.map_or(BASE_MTU, |search| search.size()),
                is_settled: search.is_some_and(|search| search.is_settled()),
            }),
            next: search.map_or(Some(now), |search| search.next(now)),
            confirm_at: search.and_then(|search| search.confirm_at()),
            is_in_doubt: false,
        };
    }
}
