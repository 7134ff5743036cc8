//! Whose signature a release must have.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use ztna_proto::releases::{Installer, ReleaseFile, installer_statement, release_statement};

/// What the encoding of a public key for ECDSA over P-256 begins with (RFC 5480 §2): the point follows.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Length of a point that is not compressed.
const POINT: usize = 65;

/// A file is no public key that releases could be signed by.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: {what}; --release-key is the public half of the key that releases are signed with, in PEM: `openssl pkey -in \
     release-key.pem -pubout`"
)]
pub struct ReleaseKeyError {
    path: PathBuf,
    what: String,
}

/// The public key of who makes releases.
#[derive(Clone)]
pub(super) struct ReleaseKey([u8; POINT]);

impl ReleaseKey {
    /// Reads a public key in PEM.
    pub fn open(path: &Path) -> Result<Self, ReleaseKeyError> {
        let refused = |what: String| ReleaseKeyError {
            path: path.to_owned(),
            what,
        };
        let key = SubjectPublicKeyInfoDer::from_pem_file(path)
            .map_err(|error| refused(format!("it cannot be read: {error}")))?;
        let point = key.strip_prefix(P256.as_slice());
        let point = point.and_then(|point| point.try_into().ok());
        point
            .map(Self)
            .ok_or_else(|| refused("it is no key for ECDSA over P-256".to_owned()))
    }

    /// Whether a release's file has this key's signature.
    pub fn has_signed(&self, version: &str, file: &ReleaseFile) -> bool {
        let statement = release_statement(version, &file.target, &file.sha256);
        self.verifies(&statement, &file.signature)
    }

    /// Whether an installer has this key's signature.
    pub fn has_signed_installer(&self, installer: &Installer) -> bool {
        let statement = installer_statement(&installer.name, &installer.sha256);
        self.verifies(&statement, &installer.signature)
    }

    fn verifies(&self, statement: &str, signature: &str) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0);
        let signature = STANDARD.decode(signature).unwrap_or_default();
        key.verify(statement.as_bytes(), &signature).is_ok()
    }
}
