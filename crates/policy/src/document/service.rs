//! Protocols and ports.

use ztna_proto::filter::{PortRange, Protocol};

use super::MAX_LIST;

/// What may be opened. As in [`ztna_proto::filter::FilterRule`]: no protocol means every one, no port
/// means every one and protocols without ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Protocols.
    pub protocols: Vec<Protocol>,
    /// Destination ports.
    pub ports: Vec<PortBounds>,
}

/// Ports `first` to `last`, both included; `first` ≤ `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortBounds {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl From<PortBounds> for PortRange {
    fn from(bounds: PortBounds) -> Self {
        Self {
            first: bounds.first,
            last: bounds.last,
        }
    }
}

/// Names beside `tcp`, `udp`, `icmp`, `sctp`, with their IANA numbers.
const NUMBERED: [(&str, u8); 10] = [
    ("igmp", 2),
    ("ipv4", 4),
    ("ip-in-ip", 4),
    ("egp", 8),
    ("igp", 9),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("ospf", 89),
];

/// Reads a protocol: a name or an IANA number.
///
/// # Errors
/// What is allowed.
pub fn protocol(text: &str) -> Result<Protocol, String> {
    let known = match text {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        "icmp" => Some(Protocol::Icmp),
        "sctp" | "132" => Some(Protocol::Sctp),
        _ => None,
    };
    let named = NUMBERED.iter().find(|(name, _)| *name == text);
    known
        .or(named.map(|(_, number)| Protocol::Number(*number)))
        .or_else(|| text.parse().ok().map(Protocol::Number))
        .ok_or_else(|| {
            format!(
                "`{text}` is no protocol; possible are `tcp`, `udp`, `icmp` (both families), \
                 `sctp`, `igmp`, `ipv4`, `egp`, `igp`, `gre`, `esp`, `ah`, `ipv6-icmp`, `ospf`, or \
                 a number from 0 to 255"
            )
        })
}

/// Reads `*`, `22`, `8000-8999`, or several of the last two with commas.
///
/// # Errors
/// What is allowed.
pub(super) fn ports(text: &str) -> Result<Vec<PortBounds>, String> {
    if text == "*" {
        return Ok(Vec::new());
    }
    let ranges = text.split(',').map(|part| {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse()) else {
            return Err(format!(
                "`{part}` is no port; write `*`, a number from 0 to 65535, a range like \
                 `8000-8999`, or several with commas"
            ));
        };
        if first > last {
            return Err(format!(
                "the port range `{part}` is backwards; write `{last}-{first}`"
            ));
        }
        Ok(PortBounds { first, last })
    });
    let ranges: Vec<_> = ranges.collect::<Result<_, _>>()?;
    if ranges.len() > MAX_LIST {
        return Err(format!(
            "more than {MAX_LIST} ports in one entry; write ranges"
        ));
    }
    Ok(ranges)
}

/// Reads an entry of a grant's `ip`: `*`, `PORTS`, `PROTOCOL:PORTS`.
///
/// # Errors
/// What is allowed.
pub(super) fn service(text: &str) -> Result<Service, String> {
    let service = match text.split_once(':') {
        Some((name, list)) => Service {
            protocols: vec![protocol(name.trim())?],
            ports: ports(list.trim())?,
        },
        None => Service {
            protocols: Vec::new(),
            ports: ports(text).map_err(|_| {
                format!(
                    "`{text}` is no entry of `ip`; write `*`, ports (`22`, `8000-8999`), or \
                     `PROTOCOL:PORTS` (`tcp:443`, `icmp:*`)"
                )
            })?,
        },
    };
    service.checked()
}

impl Service {
    /// Refuses ports of protocols that have none.
    pub(super) fn checked(self) -> Result<Self, String> {
        let without = |protocol: &Protocol| !crate::reach::has_ports(*protocol);
        if !self.ports.is_empty() && self.protocols.iter().any(without) {
            return Err(
                "ports go with tcp, udp and sctp only; write `*` for the ports of other protocols"
                    .to_owned(),
            );
        }
        Ok(self)
    }
}
