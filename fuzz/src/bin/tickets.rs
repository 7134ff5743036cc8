//! What the control plane signs for relays: tickets and revocation lists.
//!
//! Input: a byte that says what the rest is: 0 a signed text, 1 the JSON of a ticket, 2 that of a
//! revocation list, which are to be signed.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use ztna_proto::keys::KEY_LEN;
use ztna_proto::revocation::{MAX_REVOCATIONS, RevocationError};
use ztna_proto::ticket::{MAX_TICKET_LEN, TicketError, TicketSigner, TicketVerifier};
use ztna_proto::{RegionId, WgPublicKey};

const SEED: [u8; KEY_LEN] = [7; KEY_LEN];
const CLIENT: WgPublicKey = WgPublicKey([1; KEY_LEN]);
const HERE: RegionId = RegionId(1);
const TICKET: &[u8] = b"ztna relay ticket v1\0";
const REVOCATIONS: &[u8] = b"ztna relay revocations v1\0";

static KEY: LazyLock<Option<Ed25519KeyPair>> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&SEED).ok());
static VERIFIER: LazyLock<TicketVerifier> =
    LazyLock::new(|| TicketSigner::from_seed(&SEED).verifier());

/// The text that `ztna_proto::ticket` documents, around any bytes.
fn sign(context: &[u8], body: &[u8]) -> String {
    let signature = KEY.as_ref().map(|key| key.sign(&[context, body].concat()));
    let signature = signature.as_ref().map(AsRef::as_ref).unwrap_or_default();
    format!("{}.{}", BASE64URL.encode(body), BASE64URL.encode(signature))
}

fn text(text: &str) {
    // Whoever finds one that passes has forged it.
    assert!(
        VERIFIER
            .verify(text, &CLIENT, HERE, Timestamp::UNIX_EPOCH)
            .is_err()
    );
    assert!(VERIFIER.verify_revocations(text).is_err());
}

fn ticket(body: &[u8]) {
    let text = sign(TICKET, body);
    let now = Timestamp::UNIX_EPOCH;
    let verdict = VERIFIER.verify(&text, &CLIENT, HERE, now);
    assert_ne!(verdict, Err(TicketError::Signature));
    if let Ok(claims) = verdict {
        assert!(claims.wg_key == CLIENT && now < claims.expires_at);
        assert!(claims.regions.is_empty() || claims.regions.contains(&HERE));
        let text = TicketSigner::from_seed(&SEED).sign(&claims);
        let again = VERIFIER.verify(&text, &CLIENT, HERE, now);
        assert!(again == Ok(claims) || text.len() > MAX_TICKET_LEN);
    }
    let list = VERIFIER.verify_revocations(&text);
    assert_eq!(
        list,
        Err(RevocationError::Signature),
        "a ticket that is a list too"
    );
}

fn revocations(body: &[u8]) {
    let text = sign(REVOCATIONS, body);
    let verdict = VERIFIER.verify_revocations(&text);
    assert_ne!(verdict, Err(RevocationError::Signature));
    if let Ok(list) = verdict {
        assert!(list.entries.len() <= MAX_REVOCATIONS);
        let text = TicketSigner::from_seed(&SEED).sign_revocations(&list);
        assert_eq!(VERIFIER.verify_revocations(&text), Ok(list));
    }
    let ticket = VERIFIER.verify(&text, &CLIENT, HERE, Timestamp::UNIX_EPOCH);
    assert!(ticket.is_err(), "a list that is a ticket too");
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, bytes)) => text(&String::from_utf8_lossy(bytes)),
        Some((1, bytes)) => ticket(bytes),
        Some((2, bytes)) => revocations(bytes),
        _ => {}
    }
});
