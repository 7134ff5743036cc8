//! What a client makes of an answer to its STUN request.
//!
//! Input: flags, then the answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ztna_fuzz::framed;
use ztna_stun::client::{is_stun, parse_response};

/// The answer gets the length that it has.
const FRAMED: u8 = 1;
/// It gets a FINGERPRINT too.
const FINGERPRINT: u8 = 2;

fuzz_target!(|data: &[u8]| {
    let Some((&flags, answer)) = data.split_first() else {
        return;
    };
    let made;
    let answer = if flags & FRAMED != 0 {
        made = framed(answer, flags & FINGERPRINT != 0);
        &made
    } else {
        answer
    };
    if let Some((transaction, address)) = parse_response(answer) {
        assert!(is_stun(answer));
        assert_eq!(answer[8..20], transaction.0);
        assert_eq!(address.ip(), address.ip().to_canonical());
    }
});
