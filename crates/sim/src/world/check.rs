//! What has to hold once the network has been left in peace.

use std::time::Duration;

use ztna_mesh::PeerStatus;
use ztna_path::Selected;

use super::{Outcome, World};
use crate::model::can_be_direct;
use crate::scenario::{PROOF, SETTLE, pairs};

/// One end of a pair has a new key so much before the other, at most.
const ROTATION_TIME: Duration = Duration::from_secs(2);

impl World {
    /// Ordered pairs that have each other in their maps.
    fn joined(&self) -> Vec<(usize, usize)> {
        pairs(self.machines.len())
            .filter(|(a, b)| self.control.joins(*a, *b))
            .collect()
    }

    fn status(&self, of: usize, peer: usize) -> Option<PeerStatus> {
        let id = self.machines[peer].id;
        let all = self.machines[of].mesh.status();
        all.into_iter().find(|status| status.id == id)
    }

    /// Whether the model says that the first finds a direct path to the second.
    fn has_direct_path(&self, from: usize, to: usize) -> bool {
        let places = [self.machines[from].place, self.machines[to].place];
        let stun: Vec<_> = self.regions.iter().flat_map(|region| region.stun).collect();
        can_be_direct(&self.topology, places, &stun)[0]
    }

    /// Works out which pairs have to become direct, now that nobody moves any more.
    pub(super) fn expect_paths(&mut self) {
        let joined = self.joined().into_iter();
        let expected = joined.map(|(from, to)| ((from, to), self.has_direct_path(from, to)));
        self.expected = expected.collect();
    }

    /// Pairs that do not go the way that they should.
    fn astray(&self) -> Vec<(usize, usize)> {
        let is_astray = |((from, to), expected): (&(usize, usize), &bool)| {
            let selected = self.status(*from, *to).map(|status| status.selected);
            let is_direct = matches!(selected, Some(Selected::Direct { .. }));
            (is_direct != *expected).then_some((*from, *to))
        };
        self.expected.iter().filter_map(is_astray).collect()
    }

    /// Looks how far the paths have settled.
    pub(super) fn sample(&mut self) {
        if !self.astray().is_empty() {
            self.settled = self.now - self.scenario.quiet_at;
        }
    }

    /// Every pair goes the way that it should.
    pub(super) fn check_paths(&mut self) {
        self.trace.note(self.now, "*", format_args!("proof"));
        self.relayed.clear();
        for (from, to) in self.astray() {
            let should = if self.expected.get(&(from, to)) == Some(&true) {
                "directly"
            } else {
                "by relay"
            };
            let selected = self.status(from, to).map(|status| status.selected);
            self.violate(format!(
                "m{from} should reach m{to} {should} and has {selected:?}"
            ));
        }
    }

    /// Where both ends have a direct path, the relay carries nothing.
    fn check_relays(&mut self) {
        let is_direct = |pair| self.expected.get(&pair) == Some(&true);
        let wrong: Vec<_> = self
            .relayed
            .iter()
            .filter(|((from, to), _)| is_direct((*from, *to)))
            .map(|(pair, count)| (*pair, *count))
            .collect();
        for ((from, to), count) in wrong {
            self.violate(format!(
                "{count} packets of m{from} to m{to} went by relay beside a direct path"
            ));
        }
    }

    /// Every packet of the proof arrived that should have, and no other; keys and maps agree.
    pub(super) fn check_the_end(&mut self) {
        if !self.violations.is_empty() {
            return;
        }
        let start = self.scenario.quiet_at + SETTLE;
        self.check_deliveries(start, start + PROOF);
        self.check_relays();
        self.check_keys();
        self.check_maps();
    }

    fn check_deliveries(&mut self, start: Duration, end: Duration) {
        let lost: Vec<_> = self.ledger.lost(start, end).collect();
        for (number, from, to, at) in lost {
            if self.control.allows(from, to) {
                self.violate(format!(
                    "packet {number} of m{from} to m{to}, sent at {at:?}, never arrived"
                ));
            }
        }
        let forbidden: Vec<_> = self.ledger.arrived(start, end).collect();
        for (number, from, to, at) in forbidden {
            if !self.control.allows(from, to) {
                self.violate(format!(
                    "packet {number} of m{from} to m{to}, sent at {at:?}, arrived against the policy"
                ));
            }
        }
    }

    fn check_keys(&mut self) {
        for (a, b) in self.joined().into_iter().filter(|(a, b)| a < b) {
            let [ours, theirs] = [(a, b), (b, a)].map(|(of, peer)| {
                let psk = self.status(of, peer).and_then(|status| status.psk);
                let now = self.machines[of].instant(self.now);
                psk.map(|psk| (psk, now.saturating_duration_since(psk.since)))
            });
            let agree = match (&ours, &theirs) {
                (Some((ours, our_age)), Some((theirs, their_age))) => {
                    let is_changing = *our_age.min(their_age) < ROTATION_TIME;
                    ours.fingerprint == theirs.fingerprint || is_changing
                }
                _ => false,
            };
            if !agree {
                let [ours, theirs] =
                    [ours, theirs].map(|psk| psk.map(|(psk, age)| (psk.epoch, age)));
                self.violate(format!(
                    "m{a} and m{b} hold different keys (epoch, age): {ours:?} and {theirs:?}"
                ));
            }
        }
    }

    fn check_maps(&mut self) {
        for (of, peer) in pairs(self.machines.len()) {
            let should = self.control.joins(of, peer);
            let record = self.machines[of]
                .netmap
                .peers()
                .get(&self.machines[peer].id);
            let key = record.map(|record| record.wg_key);
            if key != should.then(|| self.machines[peer].key()) {
                self.violate(format!("m{of} has an old map of m{peer}"));
            }
        }
    }

    pub(super) fn outcome(self) -> Outcome {
        let direct = self.expected.values().filter(|direct| **direct).count();
        let is_v6 = |(of, peer): &(usize, usize)| {
            let selected = self.status(*of, *peer).map(|status| status.selected);
            matches!(selected, Some(Selected::Direct { addr, .. }) if addr.is_ipv6())
        };
        let paths_v6 = self.expected.keys().filter(|pair| is_v6(pair)).count();
        let quiet_at = self.scenario.quiet_at;
        let lost = self.ledger.lost(quiet_at, self.now);
        let recovered = lost
            .filter(|(_, from, to, _)| self.control.allows(*from, *to))
            .map(|(_, _, _, at)| at - quiet_at)
            .max();
        Outcome {
            seed: self.scenario.seed,
            packets: (self.ledger.sent(), self.ledger.delivered()),
            paths: (direct, self.expected.len() - direct),
            paths_v6,
            too_large: self.too_large,
            refused: self.ledger.refused(),
            settled: self.settled,
            recovered: recovered.unwrap_or_default(),
            span: self.now,
            violations: self.violations,
            timeline: self.trace.text().to_owned(),
        }
    }
}
