//! What the filter reads of an IP packet.
//!
//! The parser reads what decides and refuses what two readers could read differently: lengths that
//! do not fit, headers cut by fragmentation, source routes, odd orders of extension headers. What
//! it accepts, it reads as the receiving system will.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most IPv6 extension headers (and authentication headers) before the transport header. Real
/// packets have one or two.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// IANA protocol numbers that the filter knows.
pub mod protocol {
    /// ICMP on IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP on IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
}

/// Why bytes are not a packet that the filter lets near its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum ParseError {
    /// Neither IPv4 nor IPv6.
    #[error("neither IPv4 nor IPv6")]
    Version,
    /// The packet ends inside a header.
    #[error("the packet ends inside a header")]
    Truncated,
    /// A length field does not fit the packet or its own header.
    #[error("a length field does not fit")]
    Length,
    /// An IPv4 source route (RFC 7126 §4.3, §4.4) or a broken option.
    #[error("an IPv4 source route or broken option")]
    Options,
    /// Extension headers in a forbidden order, twice, or more than [`MAX_EXTENSION_HEADERS`].
    #[error("extension headers out of order or too many")]
    ExtensionHeaders,
    /// An IPv6 routing header with segments left (type 0: RFC 5095).
    #[error("an IPv6 routing header with segments left")]
    RoutingHeader,
    /// A first fragment without its whole transport header (RFC 1858, RFC 7112).
    #[error("a first fragment without its whole transport header")]
    TinyFragment,
    /// A fragment that is empty, ends past 65,535 bytes, or is not the last and not a multiple of
    /// 8 bytes long (RFC 8200 §4.5).
    #[error("a fragment of an impossible size")]
    FragmentSize,
    /// TCP flags that no connection has: SYN with FIN or RST, or none of SYN, ACK, FIN and RST.
    #[error("TCP flags that no connection has")]
    TcpFlags,
}

/// One packet, as far as the filter reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The transport protocol's IANA number. Of later IPv6 fragments: what their fragment header
    /// says, which may be an extension header's number.
    pub protocol: u8,
    /// What the transport header says.
    pub transport: Transport,
    /// Set if the packet is a piece of another.
    pub fragment: Option<Fragment>,
    /// The packet's length by its own header, in bytes. What follows is no part of it.
    pub length: usize,
}

/// A transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Its flags.
        flags: TcpFlags,
    },
    /// UDP or SCTP.
    Ports {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// An ICMP echo request with its identifier.
    EchoRequest(u16),
    /// An ICMP echo reply with its identifier.
    EchoReply(u16),
    /// An ICMP error: destination unreachable, time exceeded, parameter problem, packet too big.
    /// `None`: what it quotes tells no flow.
    IcmpError(Option<Quoted>),
    /// Any other ICMP message.
    Icmp,
    /// Any other protocol, or none.
    Other,
    /// Not there: the packet is a later fragment.
    Absent,
}

/// TCP flags that matter to connection tracking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// Synchronise.
    pub syn: bool,
    /// Acknowledgement.
    pub ack: bool,
    /// Finish.
    pub fin: bool,
    /// Reset.
    pub rst: bool,
}

impl TcpFlags {
    /// Whether the segment asks for a new connection.
    #[must_use]
    pub fn opens(self) -> bool {
        self.syn && !self.ack
    }
}

/// Which piece of a packet a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification of the packet; 16 bits on IPv4.
    pub id: u32,
    /// Where the piece begins, in bytes.
    pub offset: u16,
    /// How long it is, in bytes.
    pub length: u16,
    /// Whether more follows it.
    pub more: bool,
}

/// The packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its source: whom the error is for.
    pub src: IpAddr,
    /// Its destination.
    pub dst: IpAddr,
    /// Its transport protocol.
    pub protocol: u8,
    /// Its [`Parsed::flow_ports`].
    pub ports: (u16, u16),
}

impl Parsed {
    /// Source and destination port, of protocols that have them.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp {
                src_port, dst_port, ..
            }
            | Transport::Ports { src_port, dst_port } => Some((src_port, dst_port)),
            _ => None,
        }
    }

    /// What tells this packet's flow from others between the same two addresses, at the source and
    /// at the destination. A reply has the same two the other way round. `None`: the packet is of
    /// no flow.
    ///
    /// An echo request's identifier stands at the source, a reply's at the destination, so pings
    /// in both directions with the same identifier are two flows.
    #[must_use]
    pub fn flow_ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp {
                src_port, dst_port, ..
            }
            | Transport::Ports { src_port, dst_port } => Some((src_port, dst_port)),
            Transport::EchoRequest(id) => Some((id, 0)),
            Transport::EchoReply(id) => Some((0, id)),
            Transport::Other => Some((0, 0)),
            Transport::IcmpError(_) | Transport::Icmp | Transport::Absent => None,
        }
    }
}

/// Reads an IPv4 or IPv6 packet. Bytes after its end are ignored.
///
/// # Errors
/// The packet cannot be read, or not in one way only.
pub fn parse(packet: &[u8]) -> Result<Parsed, ParseError> {
    let ip = Ip::read(packet, Whole::Yes)?;
    if let Some(fragment) = &ip.fragment {
        check_size(fragment)?;
    }
    let payload = packet.get(ip.payload.clone()).ok_or(ParseError::Length)?;
    Ok(Parsed {
        src: ip.src,
        dst: ip.dst,
        protocol: ip.protocol,
        transport: transport(&ip, payload)?,
        fragment: ip.fragment,
        length: ip.length,
    })
}

/// Whether all of a packet is there. Of a packet that an ICMP error quotes only the beginning is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

struct Ip {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    fragment: Option<Fragment>,
    payload: std::ops::Range<usize>,
    length: usize,
}

impl Ip {
    fn read(packet: &[u8], whole: Whole) -> Result<Self, ParseError> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::read_v4(packet, whole),
            Some(6) => Self::read_v6(packet, whole),
            _ => Err(ParseError::Version),
        }
    }

    /// RFC 791 §3.1.
    fn read_v4(packet: &[u8], whole: Whole) -> Result<Self, ParseError> {
        let header: &[u8; 20] = array(packet, 0)?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_length < 20 || length < header_length {
            return Err(ParseError::Length);
        }
        let end = end_of(packet, length, whole)?;
        let options = packet.get(20..header_length).ok_or(ParseError::Truncated)?;
        check_options(options)?;
        let field = u16::from_be_bytes([header[6], header[7]]);
        let (offset, more) = ((field & 0x1fff) << 3, field & 0x2000 != 0);
        let mut ip = Self {
            src: Ipv4Addr::from([header[12], header[13], header[14], header[15]]).into(),
            dst: Ipv4Addr::from([header[16], header[17], header[18], header[19]]).into(),
            protocol: header[9],
            fragment: None,
            payload: header_length..end,
            length,
        };
        if more || offset > 0 {
            let id = u16::from_be_bytes([header[4], header[5]]);
            ip.fragment = Some(piece(id.into(), offset, more, &ip.payload)?);
        }
        if offset == 0 {
            ip.walk(packet, ip.protocol, header_length, false)?;
        }
        Ok(ip)
    }

    /// RFC 8200 §3. Jumbograms (RFC 2675) say length 0 and so are truncated.
    fn read_v6(packet: &[u8], whole: Whole) -> Result<Self, ParseError> {
        let header: &[u8; 40] = array(packet, 0)?;
        let length = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let end = end_of(packet, length, whole)?;
        let mut ip = Self {
            src: Ipv6Addr::from(*array::<16>(packet, 8)?).into(),
            dst: Ipv6Addr::from(*array::<16>(packet, 24)?).into(),
            protocol: header[6],
            fragment: None,
            payload: 40..end,
            length,
        };
        ip.walk(packet, header[6], 40, true)?;
        Ok(ip)
    }

    /// Goes from header to header until one is no extension header; leaves that one's number in
    /// `protocol` and its place in `payload`. On IPv4 the only such header is AH (RFC 4302).
    fn walk(
        &mut self,
        packet: &[u8],
        mut next: u8,
        mut at: usize,
        ipv6: bool,
    ) -> Result<(), ParseError> {
        use protocol::{AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
        let end = self.payload.end;
        let packet = packet.get(..end).ok_or(ParseError::Length)?;
        let mut count = 0;
        let mut fragmented = false;
        loop {
            let size = match next {
                HOP_BY_HOP if ipv6 && count > 0 => return Err(ParseError::ExtensionHeaders),
                HOP_BY_HOP | DESTINATION_OPTIONS if ipv6 => {
                    8 + usize::from(byte(packet, at + 1)?) * 8
                }
                ROUTING if ipv6 => {
                    if byte(packet, at + 3)? != 0 {
                        return Err(ParseError::RoutingHeader);
                    }
                    8 + usize::from(byte(packet, at + 1)?) * 8
                }
                FRAGMENT if ipv6 => {
                    if fragmented {
                        return Err(ParseError::ExtensionHeaders);
                    }
                    fragmented = true;
                    let header: &[u8; 8] = array(packet, at)?;
                    let field = u16::from_be_bytes([header[2], header[3]]);
                    let (offset, more) = (field & 0xfff8, field & 1 != 0);
                    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                    // Neither offset nor more: an atomic fragment, which is whole (RFC 6946).
                    if more || offset > 0 {
                        self.fragment = Some(piece(id, offset, more, &(at + 8..end))?);
                    }
                    if offset > 0 {
                        self.protocol = header[0];
                        self.payload = at + 8..end;
                        return Ok(());
                    }
                    8
                }
                // In units of four bytes, less two; the fixed part alone makes it one (RFC 4302 §2.2).
                AUTHENTICATION => match byte(packet, at + 1)? {
                    0 => return Err(ParseError::Length),
                    units => (usize::from(units) + 2) * 4,
                },
                _ => break,
            };
            count += 1;
            if count > MAX_EXTENSION_HEADERS {
                return Err(ParseError::ExtensionHeaders);
            }
            next = byte(packet, at).map_err(|error| self.cut_short(error))?;
            at += size;
            if at > end {
                return Err(self.cut_short(ParseError::Truncated));
            }
        }
        self.protocol = next;
        self.payload = at..end;
        Ok(())
    }

    /// What a header that does not fit is: in a first fragment, a fault of the fragmentation.
    fn cut_short(&self, error: ParseError) -> ParseError {
        match self.fragment {
            Some(_) => ParseError::TinyFragment,
            None => error,
        }
    }
}

/// Where the packet's data ends.
fn end_of(packet: &[u8], length: usize, whole: Whole) -> Result<usize, ParseError> {
    if length > packet.len() && whole == Whole::Yes {
        return Err(ParseError::Length);
    }
    Ok(length.min(packet.len()))
}

fn piece(
    id: u32,
    offset: u16,
    more: bool,
    place: &std::ops::Range<usize>,
) -> Result<Fragment, ParseError> {
    let length = u16::try_from(place.len()).map_err(|_| ParseError::Length)?;
    Ok(Fragment {
        id,
        offset,
        length,
        more,
    })
}

fn check_size(fragment: &Fragment) -> Result<(), ParseError> {
    let fits = fragment.offset.checked_add(fragment.length).is_some();
    let aligned = !fragment.more || fragment.length.is_multiple_of(8);
    if fits && aligned && fragment.length > 0 {
        return Ok(());
    }
    Err(ParseError::FragmentSize)
}

/// Refuses options that choose the packet's way, and any that do not parse.
fn check_options(mut options: &[u8]) -> Result<(), ParseError> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    loop {
        match options {
            [] | [END, ..] => return Ok(()),
            [NO_OPERATION, rest @ ..] => options = rest,
            [LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE, ..] => return Err(ParseError::Options),
            [_, length @ 2..=u8::MAX, ..] => {
                options = options
                    .get(usize::from(*length)..)
                    .ok_or(ParseError::Options)?;
            }
            _ => return Err(ParseError::Options),
        }
    }
}

fn transport(ip: &Ip, payload: &[u8]) -> Result<Transport, ParseError> {
    if ip.fragment.is_some_and(|fragment| fragment.offset > 0) {
        return Ok(Transport::Absent);
    }
    let cut_short = |error| ip.cut_short(error);
    match (ip.protocol, ip.src) {
        (protocol::TCP, _) => tcp(payload).map_err(cut_short),
        (protocol::UDP, _) => udp(payload, ip.fragment.is_some()).map_err(cut_short),
        (protocol::SCTP, _) => {
            // RFC 9260 §3.1.
            let header: &[u8; 12] = array(payload, 0).map_err(cut_short)?;
            Ok(ports(header))
        }
        (protocol::ICMP, IpAddr::V4(_)) => icmp_v4(payload).map_err(cut_short),
        (protocol::ICMPV6, IpAddr::V6(_)) => icmp_v6(payload).map_err(cut_short),
        _ => Ok(Transport::Other),
    }
}

/// RFC 9293 §3.1.
fn tcp(payload: &[u8]) -> Result<Transport, ParseError> {
    let header: &[u8; 20] = array(payload, 0)?;
    let header_length = usize::from(header[12] >> 4) * 4;
    if header_length < 20 {
        return Err(ParseError::Length);
    }
    if header_length > payload.len() {
        return Err(ParseError::Truncated);
    }
    let flag = |bit: u8| header[13] & bit != 0;
    let flags = TcpFlags {
        fin: flag(0x01),
        syn: flag(0x02),
        rst: flag(0x04),
        ack: flag(0x10),
    };
    let none = !(flags.fin || flags.syn || flags.rst || flags.ack);
    if none || flags.syn && (flags.fin || flags.rst) {
        return Err(ParseError::TcpFlags);
    }
    Ok(Transport::Tcp {
        src_port: u16::from_be_bytes([header[0], header[1]]),
        dst_port: u16::from_be_bytes([header[2], header[3]]),
        flags,
    })
}

/// RFC 768. Of a first fragment, the length is that of the whole datagram.
fn udp(payload: &[u8], fragment: bool) -> Result<Transport, ParseError> {
    let header: &[u8; 8] = array(payload, 0)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if length < 8 || (!fragment && length > payload.len()) {
        return Err(ParseError::Length);
    }
    Ok(ports(header))
}

fn ports(header: &[u8]) -> Transport {
    let port = |at: usize| match header.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    };
    Transport::Ports {
        src_port: port(0),
        dst_port: port(2),
    }
}

/// RFC 792.
fn icmp_v4(payload: &[u8]) -> Result<Transport, ParseError> {
    let header: &[u8; 8] = array(payload, 0)?;
    let id = u16::from_be_bytes([header[4], header[5]]);
    Ok(match header[0] {
        8 => Transport::EchoRequest(id),
        0 => Transport::EchoReply(id),
        3 | 11 | 12 => Transport::IcmpError(quoted(&payload[8..])),
        _ => Transport::Icmp,
    })
}

/// RFC 4443 §2.1, §3, §4.
fn icmp_v6(payload: &[u8]) -> Result<Transport, ParseError> {
    let header: &[u8; 8] = array(payload, 0)?;
    let id = u16::from_be_bytes([header[4], header[5]]);
    Ok(match header[0] {
        128 => Transport::EchoRequest(id),
        129 => Transport::EchoReply(id),
        1..=4 => Transport::IcmpError(quoted(&payload[8..])),
        _ => Transport::Icmp,
    })
}

/// Reads what an ICMP error quotes: at least the IP header and 8 bytes (RFC 792, RFC 4443 §2.4).
fn quoted(quote: &[u8]) -> Option<Quoted> {
    let ip = Ip::read(quote, Whole::No).ok()?;
    if ip.fragment.is_some_and(|fragment| fragment.offset > 0) {
        return None;
    }
    let payload = quote.get(ip.payload.clone())?;
    let word = |at| {
        array::<2>(payload, at)
            .ok()
            .map(|bytes| u16::from_be_bytes(*bytes))
    };
    let ports = match (ip.protocol, ip.src) {
        (protocol::TCP | protocol::UDP | protocol::SCTP, _) => (word(0)?, word(2)?),
        (protocol::ICMP, IpAddr::V4(_)) | (protocol::ICMPV6, IpAddr::V6(_)) => {
            match (payload.first()?, ip.src) {
                (8, IpAddr::V4(_)) | (128, IpAddr::V6(_)) => (word(4)?, 0),
                (0, IpAddr::V4(_)) | (129, IpAddr::V6(_)) => (0, word(4)?),
                _ => return None,
            }
        }
        _ => (0, 0),
    };
    Some(Quoted {
        src: ip.src,
        dst: ip.dst,
        protocol: ip.protocol,
        ports,
    })
}

fn byte(packet: &[u8], at: usize) -> Result<u8, ParseError> {
    packet.get(at).copied().ok_or(ParseError::Truncated)
}

fn array<const N: usize>(packet: &[u8], at: usize) -> Result<&[u8; N], ParseError> {
    packet
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(ParseError::Truncated)
}
