//! What the service did, in counters with derper's names behind `ztna_`.

use std::net::{IpAddr, SocketAddr};

use metrics::{Counter, counter, describe_counter};

/// Every figure of the service, and what it says.
const FIGURES: [(&str, &str); 3] = [
    (
        "ztna_stun_requests_total",
        "Datagrams and TCP messages, by what became of them",
    ),
    (
        "ztna_stun_addrfamily_total",
        "Requests that were answered, by the family of their source",
    ),
    (
        "ztna_stun_tcp_connections_total",
        "TCP connections, by whether they were accepted",
    ),
];

/// What a TCP connection met.
const TCP_DISPOSITIONS: [&str; 2] = ["accepted", "refused"];

/// Tells the recorder what figures mean, and begins those of TCP, which may be long in coming.
pub fn describe() {
    for (name, help) in FIGURES {
        describe_counter!(name, help);
    }
    for disposition in TCP_DISPOSITIONS {
        counter!("ztna_stun_tcp_connections_total", "disposition" => disposition).increment(0);
    }
}

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

/// `ztna_stun_requests_total{disposition}` and, of answered requests, `ztna_stun_addrfamily_total{family}`. Counts are
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
            requests: Disposition::ALL.map(|(_, name)| {
                (
                    0,
                    counter!("ztna_stun_requests_total", "disposition" => name),
                )
            }),
            ipv4: (
                0,
                counter!("ztna_stun_addrfamily_total", "family" => "ipv4"),
            ),
            ipv6: (
                0,
                counter!("ztna_stun_addrfamily_total", "family" => "ipv6"),
            ),
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
