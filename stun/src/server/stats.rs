//! What the service did, in counters with derper's names.

use std::net::{IpAddr, SocketAddr};

use metrics::{Counter, counter};

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Success,
    UnknownAttribute,
    NotStun,
    RateLimited,
    WriteError,
    ReadError,
}

impl Disposition {
    const ALL: [(Self, &str); 6] = [
        (Self::Success, "success"),
        (Self::UnknownAttribute, "unknown_attribute"),
        (Self::NotStun, "not_stun"),
        (Self::RateLimited, "rate_limited"),
        (Self::WriteError, "write_error"),
        (Self::ReadError, "read_error"),
    ];
}

/// `stun_requests{disposition}` and, of answered requests, `stun_addrfamily{family}`. Counts are
/// gathered here and passed on by batch.
pub struct Stats {
    requests: [(u64, Counter); Disposition::ALL.len()],
    ipv4: (u64, Counter),
    ipv6: (u64, Counter),
}

impl Stats {
    /// Counts with the recorder that is installed now.
    pub fn new() -> Self {
        Self {
            requests: Disposition::ALL
                .map(|(_, name)| (0, counter!("stun_requests", "disposition" => name))),
            ipv4: (0, counter!("stun_addrfamily", "family" => "ipv4")),
            ipv6: (0, counter!("stun_addrfamily", "family" => "ipv6")),
        }
    }

    /// Counts one.
    pub fn count(&mut self, disposition: Disposition) {
        self.requests[disposition as usize].0 += 1;
    }

    /// Counts a request by the family of its source.
    pub fn family(&mut self, from: SocketAddr) {
        match from.ip().to_canonical() {
            IpAddr::V4(_) => self.ipv4.0 += 1,
            IpAddr::V6(_) => self.ipv6.0 += 1,
        }
    }

    /// Passes the counts on.
    pub fn flush(&mut self) {
        let families = [&mut self.ipv4, &mut self.ipv6];
        for (count, counter) in self.requests.iter_mut().chain(families) {
            if *count > 0 {
                counter.increment(std::mem::take(count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispositions_stand_at_their_numbers() {
        for (at, (disposition, _)) in Disposition::ALL.iter().enumerate() {
            assert_eq!(*disposition as usize, at);
        }
    }
}
