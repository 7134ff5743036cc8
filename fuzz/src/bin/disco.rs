//! Discovery messages between agents.
//!
//! Input: a byte that says what the rest is: 0 a message, else a sealed datagram.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ztna_disco::{Keyring, MAX_CALL_ENDPOINTS, Message, is_disco, sender};
use ztna_proto::DiscoPrivateKey;
use ztna_proto::keys::KEY_LEN;

fn message(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    if let Message::CallMeMaybe { endpoints } = &message {
        assert!(endpoints.len() <= MAX_CALL_ENDPOINTS);
    }
    let written = message.encode();
    assert!(written.len() <= bytes.len(), "grows on the way");
    assert_eq!(Message::decode(&written), Ok(message));
}

fn datagram(bytes: &[u8]) {
    assert_eq!(is_disco(bytes), sender(bytes).is_some());
    let mut keyring = Keyring::new(DiscoPrivateKey::from_bytes([1; KEY_LEN]));
    // Whoever finds one that opens has forged it.
    assert!(keyring.open(bytes).is_err());
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, bytes)) => message(bytes),
        Some((_, bytes)) => datagram(bytes),
        None => {}
    }
});
