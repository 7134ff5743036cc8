//! Which of many networks hold an address.

/// No network; and the value that no network has.
const NONE: u32 = u32::MAX;

/// Networks of one family, each with a value; found by address in time that does not depend on how
/// many there are but by the depth of a [`Sorted`].
///
/// Networks either hold one another or have no address in common. So the address space is cut where a
/// network begins or ends, each piece knows the smallest network that holds it, and each network
/// the smallest that holds *it*: the chain from there outwards is all networks of an address, and
/// no longer than an address has bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefixes<A> {
    /// Where pieces begin.
    starts: Sorted<A>,
    /// The smallest network of each piece: a copy, which spares most look-ups one step.
    innermost: Box<[Network]>,
    networks: Box<[Network]>,
}

/// A network's value, and the place of the smallest that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    value: u32,
    outer: u32,
}

/// Numbers in order, with ever shorter lists of every [`CHUNK`]th of them on top: a search reads one
/// chunk, a cache line or two, of each list, and all but the longest list stay in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sorted<A>(Box<[List<A>]>);

/// The last chunk is filled up with its last number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct List<A> {
    chunks: Box<[[A; CHUNK]]>,
    length: usize,
}

const CHUNK: usize = 16;

impl<A: Copy + Ord> List<A> {
    fn new(numbers: &[A]) -> Self {
        let chunk = |some: &[A]| std::array::from_fn(|at| some[at.min(some.len() - 1)]);
        Self {
            chunks: numbers.chunks(CHUNK).map(chunk).collect(),
            length: numbers.len(),
        }
    }
}

impl<A: Copy + Ord> Sorted<A> {
    fn new(mut numbers: Vec<A>) -> Self {
        let mut lists = vec![List::new(&numbers)];
        while numbers.len() > CHUNK {
            numbers = numbers.iter().step_by(CHUNK).copied().collect();
            lists.push(List::new(&numbers));
        }
        lists.reverse();
        Self(lists.into())
    }

    /// The place of the last number that is not above this one.
    fn last_up_to(&self, number: A) -> Option<usize> {
        let mut place = 0;
        for list in &self.0 {
            let chunk = list.chunks.get(place)?;
            let up_to: u32 = chunk.iter().map(|each| u32::from(*each <= number)).sum();
            let within = usize::try_from(up_to).ok()?.checked_sub(1)?;
            place = (place * CHUNK + within).min(list.length - 1);
        }
        Some(place)
    }
}

/// An address as a number.
pub(super) trait Address: Copy + Ord {
    /// The address after it.
    fn next(self) -> Option<Self>;
}

impl Address for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl<A> Default for Prefixes<A> {
    fn default() -> Self {
        Self {
            starts: Sorted(Box::default()),
            innermost: Box::default(),
            networks: Box::default(),
        }
    }
}

impl<A: Address> Prefixes<A> {
    /// Networks by first and last address, with their values. They are prefixes, and each comes once.
    pub(super) fn new(mut networks: Vec<(A, A, u32)>) -> Self {
        // A network comes before those that it holds.
        networks.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut pieces = Pieces::default();
        let mut made = Vec::with_capacity(networks.len());
        // The networks that hold the place where the sweep is, the smallest last.
        let mut open: Vec<(A, u32)> = Vec::new();
        for (first, last, value) in networks {
            close(&mut open, &mut pieces, |end| end < first);
            let index = u32::try_from(made.len()).unwrap_or(NONE);
            let outer = open.last().map_or(NONE, |(_, outer)| *outer);
            made.push(Network { value, outer });
            pieces.begin(first, index);
            open.push((last, index));
        }
        close(&mut open, &mut pieces, |_| true);
        let nowhere = Network {
            value: NONE,
            outer: NONE,
        };
        let network = |index: u32| made.get(index as usize).copied().unwrap_or(nowhere);
        Self {
            starts: Sorted::new(pieces.starts),
            innermost: pieces.innermost.into_iter().map(network).collect(),
            networks: made.into(),
        }
    }

    /// The values of all networks that hold an address, the smallest network's first.
    pub(super) fn of(&self, address: A) -> impl Iterator<Item = u32> {
        let piece = self.starts.last_up_to(address);
        let innermost = piece.and_then(|piece| self.innermost.get(piece));
        let innermost = innermost.filter(|network| network.value != NONE);
        std::iter::successors(innermost, |network| {
            self.networks.get(network.outer as usize)
        })
        .map(|network| network.value)
    }
}

struct Pieces<A> {
    starts: Vec<A>,
    innermost: Vec<u32>,
}

impl<A> Default for Pieces<A> {
    fn default() -> Self {
        Self {
            starts: Vec::new(),
            innermost: Vec::new(),
        }
    }
}

impl<A: Address> Pieces<A> {
    /// From here on this network is the smallest; of several that begin here, the one named last.
    fn begin(&mut self, start: A, innermost: u32) {
        if self.starts.last() == Some(&start) {
            self.innermost.pop();
        } else {
            self.starts.push(start);
        }
        self.innermost.push(innermost);
    }
}

/// Leaves the networks that are over.
fn close<A: Address>(
    open: &mut Vec<(A, u32)>,
    pieces: &mut Pieces<A>,
    is_over: impl Fn(A) -> bool,
) {
    while let Some((last, _)) = open.pop_if(|(last, _)| is_over(*last)) {
        let outer = open.last().map_or(NONE, |(_, outer)| *outer);
        if let Some(next) = last.next() {
            pieces.begin(next, outer);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_network_of_an_address_the_smallest_first() {
        let table = Prefixes::new(vec![
            (0, u32::MAX, 0),
            (16, 31, 1),
            (16, 16, 2),
            (31, 31, 3),
            (32, 47, 4),
            (u32::MAX, u32::MAX, 5),
        ]);
        let of = |address| table.of(address).collect::<Vec<_>>();
        assert_eq!(of(0), [0]);
        assert_eq!(of(16), [2, 1, 0]);
        assert_eq!(of(17), [1, 0]);
        assert_eq!(of(31), [3, 1, 0]);
        assert_eq!(of(32), [4, 0]);
        assert_eq!(of(48), [0]);
        assert_eq!(of(u32::MAX), [5, 0]);
        assert_eq!(Prefixes::<u32>::default().of(1).count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// Small numbers, so that networks meet.
        #[test]
        fn as_looking_at_each(
            networks in proptest::collection::btree_set((0..64_u32, 0..=6_u32), 0..60),
            top in any::<bool>(),
        ) {
            let base = if top { u32::MAX - 63 } else { 0 };
            let ranges: std::collections::BTreeSet<_> = networks
                .iter()
                .map(|(address, bits)| {
                    let first = base + (address >> bits << bits);
                    (first, first + ((1 << bits) - 1))
                })
                .collect();
            let ranges: Vec<_> = (0..).zip(ranges).map(|(n, (from, to))| (from, to, n)).collect();
            let table = Prefixes::new(ranges.clone());
            for address in (base..=base + 63).chain([base.wrapping_sub(1), base.wrapping_add(64)]) {
                let mut holding: Vec<_> = ranges
                    .iter()
                    .filter(|(from, to, _)| (*from..=*to).contains(&address))
                    .collect();
                holding.sort_by_key(|(from, to, _)| to - from);
                let expected: Vec<u32> = holding.iter().map(|(_, _, n)| *n).collect();
                prop_assert_eq!(table.of(address).collect::<Vec<_>>(), expected);
            }
        }
    }
}
