//! What the filter did, in numbers.

use crate::{Direction, Reason};

/// Packets since the filter was made, and what it remembers now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    allowed: [u64; 2],
    dropped: [[u64; Reason::NAMES.len()]; 2],
    /// Flows that are tracked now, some of which may have expired.
    pub flows: usize,
    /// Flows that had to give way to new ones.
    pub flows_evicted: u64,
    /// Fragmented packets under way.
    pub fragments: usize,
}

impl Counters {
    pub(crate) fn count(&mut self, direction: Direction, result: Result<(), Reason>) {
        let direction = direction as usize;
        let counter = match result {
            Ok(()) => &mut self.allowed[direction],
            Err(reason) => &mut self.dropped[direction][reason.kind()],
        };
        *counter += 1;
    }

    /// Packets that passed.
    #[must_use]
    pub fn allowed(&self, direction: Direction) -> u64 {
        self.allowed[direction as usize]
    }

    /// Packets that were dropped, by [`Reason::name`]; reasons that never occurred too.
    pub fn dropped(&self, direction: Direction) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.dropped[direction as usize];
        Reason::NAMES.into_iter().zip(counts)
    }
}
