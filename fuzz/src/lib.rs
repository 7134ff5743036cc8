//! What several fuzz targets need. Each target is a program of its own in `bin/`.

use webrtc_stun::fingerprint::fingerprint_value;

/// STUN header (RFC 8489 §5).
const HEADER_LEN: usize = 20;

/// Gives a STUN message the length that it has, and a FINGERPRINT (RFC 8489 §14.7) if wanted: what
/// no fuzzer guesses, and everything behind it depends on.
#[must_use]
pub fn framed(message: &[u8], fingerprint: bool) -> Vec<u8> {
    let mut message = message.to_vec();
    let tail = if fingerprint { 8 } else { 0 };
    let length = (message.len() + tail).checked_sub(HEADER_LEN);
    let Some(length) = length.and_then(|length| u16::try_from(length).ok()) else {
        return message;
    };
    message[2..4].copy_from_slice(&length.to_be_bytes());
    if fingerprint {
        let value = fingerprint_value(&message);
        message.extend([0x80, 0x28, 0, 4]);
        message.extend(value.to_be_bytes());
    }
    message
}
