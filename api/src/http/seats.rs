//! Places for those who stay a while: bounded in all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::prefix;

/// The places.
pub(crate) struct Seats {
    all: usize,
    per_address: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

impl Seats {
    pub(crate) fn new(all: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            all,
            per_address,
            taken: Mutex::default(),
        })
    }

    /// A place, for as long as it is held. `None`: all are taken, or all that the caller's address may have.
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr) -> Option<Seat> {
        let ip = prefix(ip);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&ip).copied().unwrap_or_default();
        if own >= self.per_address || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        *taken.entry(ip).or_default() += 1;
        Some(Seat {
            of: Arc::clone(self),
            ip,
        })
    }
}

/// A place that is taken.
pub(crate) struct Seat {
    of: Arc<Seats>,
    ip: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.ip) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_address_and_given_back() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let seats = Seats::new(3, 2);
        let first = seats.take(ip(1)).unwrap();
        let _second = seats.take(ip(1)).unwrap();
        assert!(seats.take(ip(1)).is_none());
        let _third = seats.take(ip(2)).unwrap();
        assert!(seats.take(ip(3)).is_none());
        drop(first);
        assert!(seats.take(ip(3)).is_some());
    }
}
