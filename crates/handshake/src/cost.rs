//! Counts, for tests, what a message costs its receiver.

use std::cell::Cell;

/// Operations of this thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// HMACs over messages and cookies.
    pub macs: u64,
    /// X25519 and ML-KEM operations: each costs as much as a hundred HMACs.
    pub agreements: u64,
}

thread_local!(static SO_FAR: Cell<Cost> = const { Cell::new(Cost { macs: 0, agreements: 0 }) });

pub(crate) fn mac() {
    let cost = SO_FAR.get();
    SO_FAR.set(Cost {
        macs: cost.macs + 1,
        ..cost
    });
}

pub(crate) fn agreement() {
    let cost = SO_FAR.get();
    SO_FAR.set(Cost {
        agreements: cost.agreements + 1,
        ..cost
    });
}

/// What `work` costs.
pub(crate) fn of(work: impl FnOnce()) -> Cost {
    let before = SO_FAR.get();
    work();
    let after = SO_FAR.get();
    Cost {
        macs: after.macs - before.macs,
        agreements: after.agreements - before.agreements,
    }
}
