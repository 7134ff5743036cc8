//! The key that releases are signed with, and what it says of one.
//!
//! ECDSA over P-256 with SHA-256, as [`ztna_proto::releases`] tells. The installer brings the key along, and puts it into
//! the daemon's folder, which nobody but root can write to.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use ztna_proto::releases::{ClientVersion, release_statement};

/// Where the installer leaves it.
pub const PATH: &str = "/var/lib/ztna/release-key.pem";
/// Longest file that a key is read from, in bytes. One of P-256 has 178.
const MAX_FILE: u64 = 4096;

/// A key that is one.
pub struct ReleaseKey(ParsedPublicKey);

impl ReleaseKey {
    /// The text of a key's file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> anyhow::Result<String> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
            .with_context(|| format!("cannot read the release key {}", path.display()))?;
        Ok(text)
    }

    /// Reads a public key in PEM.
    ///
    /// # Errors
    /// It is none, or none of P-256.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let form = "the release key is no public key of ECDSA over P-256 in PEM; `openssl pkey -in release-key.pem -pubout` \
                    prints it";
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .ok()
            .context(form)?;
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der.as_ref());
        key.map(Self).ok().context(form)
    }

    /// Checks that a release is signed: its version, its target and its file's digest.
    ///
    /// # Errors
    /// It is not signed by this key.
    pub fn check(&self, release: &ClientVersion) -> anyhow::Result<()> {
        let statement = release_statement(&release.version, &release.target, &release.sha256);
        let signature = BASE64.decode(&release.signature).unwrap_or_default();
        if self.0.verify_sig(statement.as_bytes(), &signature).is_err() {
            bail!(
                "the release {} is not signed by the release key of this machine; nothing was changed. Tell its operator",
                release.version
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair,
    };

    use super::*;

    fn pair(algorithm: &'static EcdsaSigningAlgorithm) -> (EcdsaKeyPair, String) {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let body = BASE64.encode(der.as_ref());
        let text = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        (pair, text)
    }

    #[test]
    fn a_signature_is_for_one_version_one_target_and_one_file() {
        let (signer, text) = pair(&ECDSA_P256_SHA256_ASN1_SIGNING);
        let key = ReleaseKey::parse(&text).unwrap();
        let statement = release_statement("0.2.0", "linux-x86_64", &"a".repeat(64));
        let signature = signer
            .sign(&SystemRandom::new(), statement.as_bytes())
            .unwrap();
        let good = ClientVersion {
            version: "0.2.0".to_owned(),
            target: "linux-x86_64".to_owned(),
            path: "/api/releases/0.2.0/ztna".to_owned(),
            size: 1,
            sha256: "a".repeat(64),
            signature: BASE64.encode(signature.as_ref()),
        };
        key.check(&good).unwrap();
        let changes: [fn(&mut ClientVersion); 5] = [
            |it| it.version = "0.3.0".to_owned(),
            |it| it.target = "linux-aarch64".to_owned(),
            |it| it.sha256 = "b".repeat(64),
            |it| it.signature = String::new(),
            |it| it.signature = "no base64!".to_owned(),
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad);
            let error = key.check(&bad).unwrap_err().to_string();
            assert!(
                error.contains("is not signed by the release key"),
                "{error}"
            );
        }
        let (_, other) = pair(&ECDSA_P256_SHA256_ASN1_SIGNING);
        assert!(ReleaseKey::parse(&other).unwrap().check(&good).is_err());
    }

    #[test]
    fn only_keys_of_p256_are_taken() {
        let (_, text) = pair(&ECDSA_P384_SHA384_ASN1_SIGNING);
        for bad in [
            &text,
            "",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ] {
            let error = ReleaseKey::parse(bad).err().unwrap().to_string();
            assert!(error.contains("ECDSA over P-256"), "{error}");
        }
    }
}
