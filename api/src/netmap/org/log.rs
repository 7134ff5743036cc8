//! What changed lately, so that a machine that was away is told what it missed and no more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ztna_policy::Change;
use ztna_proto::ids::MachineId;

use crate::netmap::Changed;

/// Changes that are remembered. A machine that missed more gets a full map.
pub(in crate::netmap) const RESUME_LOG: usize = 4096;
/// Machines that the entries of a log name together. The oldest entries go first.
const MAX_NAMED: usize = 100_000;

/// A set of machines that several entries share.
type Machines = Arc<BTreeSet<MachineId>>;

/// What one change did to the views of machines.
enum Touch {
    Machine {
        id: MachineId,
        /// Who saw the machine until then. `None`: not known.
        lost_by: Option<Machines>,
        /// Whether the machine itself may see others than before.
        moved: bool,
    },
    /// The rules. `None`: any view may be another.
    Policy(Option<Machines>),
    /// What every machine is told alike, the org's names too: no peer is another.
    Relays,
}

impl Touch {
    fn named(&self) -> usize {
        match self {
            Self::Machine { lost_by, .. } => lost_by.as_ref().map_or(0, |set| set.len()),
            Self::Policy(views) => views.as_ref().map_or(0, |set| set.len()),
            Self::Relays => 0,
        }
    }
}

/// What changes that were applied together did.
#[derive(Default)]
pub(super) struct Effects {
    /// By changed machine: who saw it until then.
    pub(super) lost: BTreeMap<MachineId, BTreeSet<MachineId>>,
    /// Changed machines that may see others than before.
    pub(super) moved: BTreeSet<MachineId>,
    /// Whose views the rules changed.
    pub(super) views: BTreeSet<MachineId>,
}

impl Effects {
    pub(super) fn note(&mut self, id: MachineId, change: Change) {
        if !change.appeared.is_empty() || !change.vanished.is_empty() {
            self.moved.insert(id);
        }
        self.lost.insert(id, change.vanished);
    }
}

/// What a machine missed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    /// Peers that may be different or new.
    pub(super) changed: BTreeSet<MachineId>,
    /// Peers that are peers no longer.
    pub(super) removed: BTreeSet<MachineId>,
}

/// The latest changes of an org, in order and without a gap.
pub(super) struct Log {
    /// The `seq` of the last entry.
    seq: i64,
    touches: VecDeque<Touch>,
    named: usize,
}

impl Log {
    /// What was read with the org as it stands at `seq`. Nobody has seen what these changes did.
    pub(super) fn restored(seq: i64, changes: Vec<Changed>) -> Self {
        let mut log = Self {
            seq,
            touches: VecDeque::new(),
            named: 0,
        };
        for change in changes {
            log.push(match change {
                Changed::Machine(id) => Touch::Machine {
                    id,
                    lost_by: None,
                    moved: true,
                },
                Changed::Policy => Touch::Policy(None),
                Changed::Relays | Changed::Org => Touch::Relays,
            });
        }
        log
    }

    /// Appends changes that were applied together; the last of them has `seq`.
    pub(super) fn append(&mut self, seq: i64, changes: Vec<Changed>, effects: Effects) {
        self.seq = seq;
        let views = Arc::new(effects.views);
        let lost: BTreeMap<_, _> = effects
            .lost
            .into_iter()
            .map(|(id, by)| (id, Arc::new(by)))
            .collect();
        let nobody = Machines::default();
        for change in changes {
            self.push(match change {
                Changed::Machine(id) => Touch::Machine {
                    id,
                    lost_by: Some(Arc::clone(lost.get(&id).unwrap_or(&nobody))),
                    moved: effects.moved.contains(&id),
                },
                Changed::Policy => Touch::Policy(Some(Arc::clone(&views))),
                Changed::Relays | Changed::Org => Touch::Relays,
            });
        }
    }

    /// What a machine missed that stands at `seq`. `None`: that is not known, or its whole view may
    /// be another.
    pub(super) fn missed(
        &self,
        machine: MachineId,
        seq: u64,
        sees: impl Fn(&MachineId) -> bool,
    ) -> Option<Missed> {
        let held = i64::try_from(seq).ok()?;
        let count = usize::try_from(self.seq.checked_sub(held)?).ok()?;
        let first = self.touches.len().checked_sub(count)?;
        let mut missed = Missed::default();
        for touch in self.touches.range(first..) {
            match touch {
                Touch::Machine { id, moved, .. } if *id == machine => {
                    if *moved {
                        return None;
                    }
                }
                Touch::Machine { id, .. } if sees(id) => {
                    missed.changed.insert(*id);
                }
                Touch::Machine { id, lost_by, .. } => {
                    // To name one that it never saw would tell it that there is such a machine.
                    if lost_by.as_ref()?.contains(&machine) {
                        missed.removed.insert(*id);
                    }
                }
                Touch::Policy(views) => {
                    if views.as_ref()?.contains(&machine) {
                        return None;
                    }
                }
                Touch::Relays => {}
            }
        }
        Some(missed)
    }

    fn push(&mut self, touch: Touch) {
        self.named += touch.named();
        self.touches.push_back(touch);
        while self.touches.len() > RESUME_LOG || self.named > MAX_NAMED {
            let Some(oldest) = self.touches.pop_front() else {
                break;
            };
            self.named -= oldest.named();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> MachineId {
        MachineId(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let log = Log::restored(9, vec![Changed::Machine(id(1)), Changed::Relays]);
        let missed = |seq, sees: bool| log.missed(id(0), seq, |_| sees);
        assert_eq!(missed(9, true), Some(Missed::default()));
        assert_eq!(missed(8, false), Some(Missed::default()));
        let changed = [id(1)].into();
        let removed = BTreeSet::new();
        assert_eq!(missed(7, true), Some(Missed { changed, removed }));
        assert_eq!(
            missed(7, false),
            None,
            "whether it saw that one, nobody knows"
        );
        assert_eq!(missed(6, true), None, "from before the log");
        assert_eq!(missed(10, true), None, "from another history");
        assert_eq!(log.missed(id(1), 7, |_| true), None, "its own change");
    }

    #[test]
    fn a_log_is_bounded_by_entries_and_by_the_machines_that_they_name() {
        let mut log = Log::restored(0, Vec::new());
        for seq in 1..=RESUME_LOG as i64 + 10 {
            log.append(seq, vec![Changed::Relays], Effects::default());
        }
        assert_eq!(log.touches.len(), RESUME_LOG);
        let many: BTreeSet<_> = (0..MAX_NAMED as u128 / 2).map(id).collect();
        for seq in 0..5 {
            let views = many.clone();
            let effects = Effects {
                views,
                ..Effects::default()
            };
            let seq = RESUME_LOG as i64 + 11 + seq;
            log.append(seq, vec![Changed::Policy], effects);
        }
        assert_eq!(log.touches.len(), 2);
        let now = RESUME_LOG as u64 + 15;
        assert_eq!(
            log.missed(id(u128::MAX), now - 2, |_| true),
            Some(Missed::default())
        );
        assert_eq!(log.missed(id(1), now - 2, |_| true), None);
        assert_eq!(log.missed(id(u128::MAX), now - 3, |_| true), None);
    }
}
