//! The bytes of a request and of its answer.
//!
//! A request is read where it lies and an answer written where it is sent from: a server that
//! answers from every core spends its time in the kernel, not in an allocator.

use std::net::{IpAddr, SocketAddr};

use webrtc_stun::attributes::{
    ATTR_CHANGE_REQUEST, ATTR_FINGERPRINT, ATTR_MESSAGE_INTEGRITY, ATTR_MESSAGE_INTEGRITY_SHA256,
    ATTR_NONCE, ATTR_PRIORITY, ATTR_REALM, ATTR_RESPONSE_PORT, ATTR_SOFTWARE, ATTR_USE_CANDIDATE,
    ATTR_USERNAME, AttrType,
};
use webrtc_stun::fingerprint::fingerprint_value;
use webrtc_stun::message::{ATTRIBUTE_HEADER_SIZE, MAGIC_COOKIE, MESSAGE_HEADER_SIZE};

use crate::discovery::Change;

/// Message types (RFC 8489 §5): method Binding in its classes.
const BINDING_REQUEST: u16 = 0x0001;
pub const BINDING_SUCCESS: u16 = 0x0101;
pub const BINDING_ERROR: u16 = 0x0111;

/// Bytes of a FINGERPRINT attribute (RFC 8489 §14.7).
const FINGERPRINT_LEN: usize = ATTRIBUTE_HEADER_SIZE + 4;

/// Largest value of an address attribute: IPv6 (RFC 8489 §14.1).
const MAX_ADDRESS: usize = 20;

/// Unknown attributes that an answer names; a request has more only to make work.
pub const MAX_UNKNOWN: usize = 32;

/// What Tailscale's clients put into SOFTWARE.
const TAILNODE: &[u8] = b"tailnode";

/// Attributes that may be there and need nothing done: credentials are not asked for, and so not
/// checked (RFC 8489 §9.1.3), and ICE agents send theirs to any server.
const UNDERSTOOD: [AttrType; 7] = [
    ATTR_USERNAME,
    ATTR_MESSAGE_INTEGRITY,
    ATTR_MESSAGE_INTEGRITY_SHA256,
    ATTR_REALM,
    ATTR_NONCE,
    ATTR_PRIORITY,
    ATTR_USE_CANDIDATE,
];

/// A binding request: what an answer depends on.
#[derive(Debug)]
pub struct Request {
    /// Magic cookie and transaction; for RFC 3489 they are one.
    pub transaction: [u8; 16],
    /// RFC 3489: without the magic cookie.
    pub classic: bool,
    pub fingerprint: bool,
    /// From Tailscale's client.
    pub tailnode: bool,
    /// CHANGE-REQUEST (RFC 5780 §7.2), if it asks for any change.
    pub change: Change,
    /// RESPONSE-PORT (RFC 5780 §7.5): the port of the client to answer to, never 0.
    pub response_port: Option<u16>,
    unknown: [u16; MAX_UNKNOWN],
    unknown_count: usize,
}

impl Request {
    /// `None`: no binding request, or damaged.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let header: &[u8; MESSAGE_HEADER_SIZE] = message.first_chunk()?;
        if be16(header, 0)? != BINDING_REQUEST {
            return None;
        }
        let length = usize::from(be16(header, 2)?);
        if length != message.len() - MESSAGE_HEADER_SIZE || !length.is_multiple_of(4) {
            return None;
        }
        let transaction = *header.last_chunk()?;
        let mut request = Self {
            transaction,
            classic: transaction[..4] != MAGIC_COOKIE.to_be_bytes(),
            fingerprint: false,
            tailnode: false,
            change: Change::default(),
            response_port: None,
            unknown: [0; MAX_UNKNOWN],
            unknown_count: 0,
        };
        request.read_attributes(message)?;
        Some(request)
    }

    fn read_attributes(&mut self, message: &[u8]) -> Option<()> {
        let mut at = MESSAGE_HEADER_SIZE;
        let mut signed = false;
        let mut changes = false;
        while at < message.len() {
            // Nothing may follow a FINGERPRINT (RFC 8489 §14.7).
            if self.fingerprint {
                return None;
            }
            let kind = AttrType(be16(message, at)?);
            let length = usize::from(be16(message, at + 2)?);
            let start = at + ATTRIBUTE_HEADER_SIZE;
            let value = message.get(start..start + length)?;
            match kind {
                ATTR_FINGERPRINT if !self.classic => {
                    let expected = fingerprint_value(&message[..at]).to_be_bytes();
                    if value != expected {
                        return None;
                    }
                    self.fingerprint = true;
                }
                // What follows a signature is not under it, and does not count (RFC 8489 §14.5).
                _ if signed => {}
                ATTR_MESSAGE_INTEGRITY | ATTR_MESSAGE_INTEGRITY_SHA256 => signed = true,
                ATTR_SOFTWARE => self.tailnode = value == TAILNODE,
                // Of several, the first counts (RFC 8489 §14).
                ATTR_CHANGE_REQUEST if !changes => {
                    self.change = Change::from_flags(u32::from_be_bytes(value.try_into().ok()?));
                    changes = true;
                }
                ATTR_CHANGE_REQUEST => {}
                ATTR_RESPONSE_PORT if self.response_port.is_none() => {
                    let port = be16(value, 0).filter(|port| *port != 0)?;
                    self.response_port = Some(port);
                }
                ATTR_RESPONSE_PORT => {}
                kind if kind.required() && !UNDERSTOOD.contains(&kind) => self.note(kind),
                _ => {}
            }
            at = start + length.next_multiple_of(4);
        }
        Some(())
    }

    /// Notes an attribute that the client needs understood, and that is not.
    pub fn note(&mut self, kind: AttrType) {
        if let Some(place) = self.unknown.get_mut(self.unknown_count) {
            *place = kind.0;
            self.unknown_count += 1;
        }
    }

    /// Attributes that the client needs understood, and that are not: the first [`MAX_UNKNOWN`].
    pub fn unknown(&self) -> &[u16] {
        &self.unknown[..self.unknown_count]
    }
}

/// An answer on its way into `memory`, never longer than that.
pub struct Writer<'a> {
    memory: &'a mut [u8],
    length: usize,
    /// Bytes that attributes may reach to: what a FINGERPRINT needs is set aside.
    room: usize,
    fingerprint: bool,
}

impl<'a> Writer<'a> {
    /// Begins an answer. `None`: `memory` holds no header.
    pub fn begin(
        memory: &'a mut [u8],
        kind: u16,
        request: &Request,
        fingerprint: bool,
    ) -> Option<Self> {
        let header: &mut [u8; MESSAGE_HEADER_SIZE] = memory.first_chunk_mut()?;
        header[..2].copy_from_slice(&kind.to_be_bytes());
        header[4..].copy_from_slice(&request.transaction);
        let tail = if fingerprint { FINGERPRINT_LEN } else { 0 };
        let room = memory.len().checked_sub(tail)?;
        Some(Self {
            memory,
            length: MESSAGE_HEADER_SIZE,
            room,
            fingerprint,
        })
    }

    /// Adds an attribute, padded. `None`, and nothing added: it does not fit.
    pub fn add(&mut self, kind: AttrType, value: &[u8]) -> Option<()> {
        let length = u16::try_from(value.len()).ok()?;
        let whole = ATTRIBUTE_HEADER_SIZE + value.len().next_multiple_of(4);
        let place = self.memory[..self.room].get_mut(self.length..self.length + whole)?;
        let (header, rest) = place.split_first_chunk_mut::<ATTRIBUTE_HEADER_SIZE>()?;
        header[..2].copy_from_slice(&kind.0.to_be_bytes());
        header[2..].copy_from_slice(&length.to_be_bytes());
        let (body, padding) = rest.split_at_mut(value.len());
        body.copy_from_slice(value);
        padding.fill(0);
        self.length += whole;
        Some(())
    }

    /// Adds an address as it is (RFC 8489 §14.1).
    pub fn add_address(&mut self, kind: AttrType, address: SocketAddr) -> Option<()> {
        self.add_masked(kind, address, &[0; 16])
    }

    /// Adds an address under the mask of cookie and transaction (RFC 8489 §14.2).
    pub fn add_xor_address(
        &mut self,
        kind: AttrType,
        address: SocketAddr,
        request: &Request,
    ) -> Option<()> {
        self.add_masked(kind, address, &request.transaction)
    }

    fn add_masked(&mut self, kind: AttrType, address: SocketAddr, mask: &[u8; 16]) -> Option<()> {
        let mut value = [0; MAX_ADDRESS];
        value[2..4].copy_from_slice(&address.port().to_be_bytes());
        let length = match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..].copy_from_slice(&ip.octets());
                MAX_ADDRESS
            }
        };
        // The port is under the same bytes as the address begins with.
        let masks = mask[..2].iter().chain(mask);
        for (byte, mask) in value[2..length].iter_mut().zip(masks) {
            *byte ^= mask;
        }
        self.add(kind, &value[..length])
    }

    /// Ends the answer: how long it is. `None`: no room.
    pub fn end(mut self) -> Option<usize> {
        let tail = if self.fingerprint { FINGERPRINT_LEN } else { 0 };
        let length = u16::try_from(self.length + tail - MESSAGE_HEADER_SIZE).ok()?;
        self.memory[2..4].copy_from_slice(&length.to_be_bytes());
        if self.fingerprint {
            let value = fingerprint_value(&self.memory[..self.length]);
            self.room += FINGERPRINT_LEN;
            self.add(ATTR_FINGERPRINT, &value.to_be_bytes())?;
        }
        Some(self.length)
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
