//! The server's half: what to answer to a message.
//!
//! Any binding request of RFC 3489, 5389 or 8489 is answered, Tailscale's included. The answer to a
//! bare request has at most [`MAX_BARE_ANSWER`] bytes, any other at most [`MAX_AMPLIFICATION`] times
//! the request's, so the service is of no use to amplify a flood; attributes that a client can do
//! without go first, SOFTWARE before the addresses of behaviour discovery.

use std::net::SocketAddr;

use webrtc_stun::attributes::{
    ATTR_CHANGE_REQUEST, ATTR_CHANGED_ADDRESS, ATTR_ERROR_CODE, ATTR_MAPPED_ADDRESS,
    ATTR_OTHER_ADDRESS, ATTR_RESPONSE_ORIGIN, ATTR_RESPONSE_PORT, ATTR_SOFTWARE,
    ATTR_SOURCE_ADDRESS, ATTR_UNKNOWN_ATTRIBUTES, ATTR_XORMAPPED_ADDRESS,
};
use webrtc_stun::message::MESSAGE_HEADER_SIZE;

use crate::discovery::Vantage;
use crate::wire::{BINDING_ERROR, BINDING_SUCCESS, MAX_UNKNOWN, Request, Writer};

/// Largest answer to a request without attributes, in bytes.
pub const MAX_BARE_ANSWER: usize = 64;
/// An answer to a larger request has at most this many times its size.
pub const MAX_AMPLIFICATION: usize = 2;
/// Largest message that is looked at, in bytes: a request that is padded beyond Ethernet's frames
/// (RFC 5780 §7.6) is told that PADDING is not served; nothing else is near it.
pub const MAX_REQUEST: usize = 2048;
/// Largest answer, in bytes: header, three IPv6 addresses, SOFTWARE and FINGERPRINT have 108; an
/// error with its longest list has 128.
pub const MAX_ANSWER: usize = 160;

const SOFTWARE: &[u8] = b"ztna";

/// ERROR-CODE 420 (RFC 8489 §14.8): class and number, and a reason for people.
const UNKNOWN_ATTRIBUTE: &[u8] = b"\0\0\x04\x14Unknown Attribute";
/// The same without the reason.
const UNKNOWN_ATTRIBUTE_BARE: &[u8] = b"\0\0\x04\x14";

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Where the request came from.
    Success {
        /// Bytes of the answer.
        length: usize,
        /// Place of the corner that it must leave from (see [`Vantage::changed`]); 0 without corners.
        corner: usize,
        /// Port of the client to send it to, if not the one that the request came from.
        port: Option<u16>,
    },
    /// 420: the request needs something that this server does not know or have.
    UnknownAttribute {
        /// Bytes of the answer.
        length: usize,
    },
    /// Nothing: no binding request, or damaged.
    Silence,
}

/// Writes the answer to a message from `from` into `memory`. `vantage` is where it came to, on a
/// server with two addresses.
#[must_use]
pub fn respond(
    message: &[u8],
    from: SocketAddr,
    vantage: Option<Vantage<'_>>,
    memory: &mut [u8; MAX_ANSWER],
) -> Answer {
    if message.len() > MAX_REQUEST {
        return Answer::Silence;
    }
    let Some(mut request) = Request::parse(message) else {
        return Answer::Silence;
    };
    // A server of one address does not serve behaviour discovery.
    if vantage.is_none() {
        if request.change.any() {
            request.note(ATTR_CHANGE_REQUEST);
        }
        if request.response_port.is_some() {
            request.note(ATTR_RESPONSE_PORT);
        }
    }
    let limit = match message.len() {
        MESSAGE_HEADER_SIZE => MAX_BARE_ANSWER,
        length => length * MAX_AMPLIFICATION,
    };
    let memory = &mut memory[..limit.min(MAX_ANSWER)];
    if !request.unknown().is_empty() {
        return refusal(&request, memory).map_or(Answer::Silence, |length| {
            Answer::UnknownAttribute { length }
        });
    }
    let length = if request.classic {
        classic_success(&request, from, vantage, memory)
    } else {
        success(&request, from, vantage, memory)
    };
    let corner = vantage.map_or(0, |vantage| vantage.changed(request.change));
    let port = request.response_port;
    length.map_or(Answer::Silence, |length| Answer::Success {
        length,
        corner,
        port,
    })
}

/// Adds what must be in the answer, then, in the order of their use, what the size allows.
fn success(
    request: &Request,
    from: SocketAddr,
    vantage: Option<Vantage<'_>>,
    memory: &mut [u8],
) -> Option<usize> {
    // Tailscale's server answers with the address alone, and its clients read no more.
    if request.tailnode {
        let mut answer = Writer::begin(memory, BINDING_SUCCESS, request, false)?;
        answer.add_xor_address(ATTR_XORMAPPED_ADDRESS, from, request)?;
        return answer.end();
    }
    let mut answer = Writer::begin(memory, BINDING_SUCCESS, request, request.fingerprint)?;
    answer.add_xor_address(ATTR_XORMAPPED_ADDRESS, from, request)?;
    if let Some(vantage) = vantage {
        answer.add_address(ATTR_OTHER_ADDRESS, vantage.opposite());
        answer.add_address(ATTR_RESPONSE_ORIGIN, vantage.address(request.change));
    }
    answer.add(ATTR_SOFTWARE, SOFTWARE);
    answer.end()
}

/// RFC 3489 §11.2: addresses as they are, under their names of then.
fn classic_success(
    request: &Request,
    from: SocketAddr,
    vantage: Option<Vantage<'_>>,
    memory: &mut [u8],
) -> Option<usize> {
    let mut answer = Writer::begin(memory, BINDING_SUCCESS, request, false)?;
    answer.add_address(ATTR_MAPPED_ADDRESS, from)?;
    if let Some(vantage) = vantage {
        answer.add_address(ATTR_CHANGED_ADDRESS, vantage.opposite());
        answer.add_address(ATTR_SOURCE_ADDRESS, vantage.address(request.change));
    }
    answer.end()
}

fn refusal(request: &Request, memory: &mut [u8]) -> Option<usize> {
    refusal_for(request, memory, UNKNOWN_ATTRIBUTE)
        .or_else(|| refusal_for(request, memory, UNKNOWN_ATTRIBUTE_BARE))
}

fn refusal_for(request: &Request, memory: &mut [u8], error: &[u8]) -> Option<usize> {
    let mut answer = Writer::begin(memory, BINDING_ERROR, request, request.fingerprint)?;
    answer.add(ATTR_ERROR_CODE, error)?;
    let mut list = [0; 2 * MAX_UNKNOWN];
    let kinds = request.unknown();
    for (place, kind) in list.chunks_exact_mut(2).zip(kinds) {
        place.copy_from_slice(&kind.to_be_bytes());
    }
    let mut length = 2 * kinds.len();
    if request.classic && !length.is_multiple_of(4) {
        // RFC 3489 §11.2.10 knows no padding: one is named twice.
        list.copy_within(length - 2..length, length);
        length += 2;
    }
    answer.add(ATTR_UNKNOWN_ATTRIBUTES, &list[..length])?;
    answer.end()
}

#[cfg(test)]
mod tests;
