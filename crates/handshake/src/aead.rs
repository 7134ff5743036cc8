//! ChaCha20-Poly1305 (RFC 8439) with keys that seal one thing each, or with counted nonces.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Bytes of a key.
pub(crate) const KEY_LEN: usize = 32;
/// Bytes that sealing adds.
pub(crate) const TAG_LEN: usize = 16;

/// A key that wipes itself.
pub(crate) type Key = Zeroizing<[u8; KEY_LEN]>;

/// The nonce of keys that seal one message only.
const ONLY: u64 = 0;

/// Appends `plain`, sealed, to `out`. The key seals nothing else, ever.
pub(crate) fn seal_once(key: &Key, associated: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    seal_counted(key, ONLY, associated, plain, out);
}

/// Opens what [`seal_once`] sealed. `None`: not sealed with this key and associated data.
pub(crate) fn open_once(key: &Key, associated: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    open_counted(key, ONLY, associated, sealed)
}

/// Appends `plain`, sealed under the key's nonce number `count`, to `out`. No count comes twice.
#[allow(clippy::expect_used)]
pub(crate) fn seal_counted(
    key: &Key,
    count: u64,
    associated: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) {
    let mut buffer = Zeroizing::new(plain.to_vec());
    let tag = cipher(key)
        .seal_in_place_separate_tag(nonce(count), Aad::from(associated), buffer.as_mut_slice())
        .expect("messages are far below the cipher's bound of 256 GiB");
    out.extend_from_slice(&buffer);
    out.extend_from_slice(tag.as_ref());
}

/// Opens what [`seal_counted`] sealed.
pub(crate) fn open_counted(
    key: &Key,
    count: u64,
    associated: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let length = cipher(key)
        .open_in_place(nonce(count), Aad::from(associated), buffer.as_mut_slice())
        .ok()?
        .len();
    buffer.truncate(length);
    Some(buffer)
}

#[allow(clippy::expect_used)]
fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(
        UnboundKey::new(&CHACHA20_POLY1305, key.as_slice())
            .expect("32 bytes are a ChaCha20-Poly1305 key"),
    )
}

/// RFC 8439 §2.8 with WireGuard's layout: four zero bytes, then the counter, little-endian.
fn nonce(count: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&count.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
