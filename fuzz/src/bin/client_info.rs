//! What client and relay say of themselves: JSON in a NaCl box.
//!
//! Input: a byte that says what the rest is: 0 JSON, 1 JSON that is to be sealed, else a box with
//! its key and nonce before it.
#![no_main]

use std::sync::LazyLock;

use crypto_box::aead::Aead;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use libfuzzer_sys::fuzz_target;
use ztna_derp::frame::NONCE_LEN;
use ztna_derp::handshake::{ClientInfo, FRESHNESS_LEN, ServerInfo, open_client_info};
use ztna_derp::key::RelayPrivateKey;
use ztna_proto::keys::KEY_LEN;
use ztna_proto::{WgPrivateKey, WgPublicKey};

const CLIENT: [u8; KEY_LEN] = [1; KEY_LEN];
const RELAY: [u8; KEY_LEN] = [2; KEY_LEN];
const NONCE: [u8; NONCE_LEN] = [3; NONCE_LEN];

static BOX: LazyLock<SalsaBox> = LazyLock::new(|| {
    let relay = RelayPrivateKey::from_bytes(RELAY).public();
    SalsaBox::new(&PublicKey::from(relay.0), &SecretKey::from(CLIENT))
});
static CLIENT_PUBLIC: LazyLock<WgPublicKey> =
    LazyLock::new(|| WgPrivateKey::from_bytes(CLIENT).public());

fn json(json: &[u8]) {
    if let Ok(info) = serde_json::from_slice::<ClientInfo>(json) {
        let _ = info.is_fresh(&[0; FRESHNESS_LEN]);
        let written = serde_json::to_vec(&info).unwrap_or_default();
        let read = serde_json::from_slice::<ClientInfo>(&written).ok();
        assert!(read == Some(info), "what is written is not what is read");
    }
    if let Ok(info) = serde_json::from_slice::<ServerInfo>(json) {
        let written = serde_json::to_vec(&info).unwrap_or_default();
        let read = serde_json::from_slice::<ServerInfo>(&written).ok();
        assert_eq!(read, Some(info));
    }
}

fn sealed(json: &[u8]) {
    let Ok(sealed) = BOX.encrypt(&NONCE.into(), json) else {
        return;
    };
    let relay = RelayPrivateKey::from_bytes(RELAY);
    let opened = open_client_info(&relay, &CLIENT_PUBLIC, &NONCE, &sealed);
    let plain = serde_json::from_slice::<ClientInfo>(json);
    assert!(opened.ok() == plain.ok(), "the box changes what is read");
}

fn foreign(mut bytes: &[u8]) {
    let (Some(key), Some(nonce)) = (
        bytes.split_off(..KEY_LEN).and_then(<[u8]>::first_chunk),
        bytes.split_off(..NONCE_LEN).and_then(<[u8]>::first_chunk),
    ) else {
        return;
    };
    let relay = RelayPrivateKey::from_bytes(RELAY);
    // Whoever finds a box that opens has forged it.
    assert!(open_client_info(&relay, &WgPublicKey(*key), nonce, bytes).is_err());
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, bytes)) => json(bytes),
        Some((1, bytes)) => sealed(bytes),
        Some((_, bytes)) => foreign(bytes),
        None => {}
    }
});
