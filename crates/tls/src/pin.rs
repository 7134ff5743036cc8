//! The text form of a certificate pin: `sha256:` and the 64 hex digits of the SHA-256 of the
//! leaf certificate's DER.

use sha2::{Digest, Sha256};
use ztna_proto::keys::{hex, parse_hex};
use ztna_proto::relay::CertificatePin;

/// Bytes of a SHA-256.
pub(crate) const DIGEST_LEN: usize = 32;

const PREFIX: &str = "sha256:";

/// A pin that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a certificate pin: {text:?}; expected sha256: and 64 hex digits, as the server prints it at start"
)]
pub struct PinError {
    text: String,
}

/// Reads `sha256:<64 hex digits>`.
///
/// # Errors
/// The text has another form.
pub fn parse_pin(text: &str) -> Result<CertificatePin, PinError> {
    let digest = text.strip_prefix(PREFIX).unwrap_or_default();
    digest_of(digest).map(|digest| CertificatePin::Sha256(hex(&digest)))
}

/// Prints a pin as [`parse_pin`] reads it. `None` for the public web's authorities, which are no
/// pin.
#[must_use]
pub fn format_pin(pin: &CertificatePin) -> Option<String> {
    match pin {
        CertificatePin::WebPki => None,
        CertificatePin::Sha256(digest) => Some(format!("{PREFIX}{digest}")),
    }
}

/// The pin of a certificate, given as DER.
#[must_use]
pub fn pin_of(der: &[u8]) -> CertificatePin {
    CertificatePin::Sha256(hex(&Sha256::digest(der)))
}

/// The digest in a pin's 64 hex digits.
pub(crate) fn digest_of(digits: &str) -> Result<[u8; DIGEST_LEN], PinError> {
    parse_hex(digits).ok_or_else(|| PinError {
        text: digits.chars().take(DIGEST_LEN * 2 + 1).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_round_trip() {
        let pin = pin_of(b"certificate");
        let text = format_pin(&pin).unwrap();
        assert_eq!(text.len(), PREFIX.len() + 64);
        assert_eq!(parse_pin(&text).unwrap(), pin);
        assert_eq!(
            parse_pin(&text.to_uppercase().replace("SHA256", "sha256")).unwrap(),
            pin
        );
        assert_eq!(format_pin(&CertificatePin::WebPki), None);
    }

    #[test]
    fn other_texts_are_refused_with_the_form() {
        for bad in ["", "sha256:", "sha256:00", "sha1:00", &"0".repeat(64)] {
            let error = parse_pin(bad).unwrap_err().to_string();
            assert!(error.contains("64 hex digits"), "{error}");
        }
    }
}
