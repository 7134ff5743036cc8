//! The relay's key in a certificate of its own, shown after the server's chain: a client that finds
//! it there need not wait for the HTTP answer ("fast start", `derp/derpserver`, `initMetacert`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ED25519, SerialNumber};
use rustls::pki_types::CertificateDer;
use ztna_tls::{IdentityError, LiveCertificate, ServerIdentity};

use crate::key::RelayPublicKey;
use crate::{META_NAME, PROTOCOL_VERSION};

/// The certificate holds for so long before and after it is made. Nobody looks: it proves nothing,
/// the handshake in front of it does.
const VALID: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Makes the certificate, signed by a key that is then thrown away.
///
/// # Errors
/// The cryptography library's.
pub fn meta_certificate(key: &RelayPublicKey) -> Result<CertificateDer<'static>, IdentityError> {
    let mut params = CertificateParams::default();
    let name = format!("{META_NAME}{key}");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(u64::from(PROTOCOL_VERSION)));
    let now = SystemTime::now();
    params.not_before = (now - VALID).into();
    params.not_after = (now + VALID).into();
    let signer = KeyPair::generate_for(&PKCS_ED25519)?;
    Ok(params.self_signed(&signer)?.into())
}

/// A TLS configuration that shows `identity` and the relay's key.
///
/// # Errors
/// The identity cannot be used.
pub fn tls_config(
    identity: &ServerIdentity,
    key: &RelayPublicKey,
) -> Result<Arc<rustls::ServerConfig>, IdentityError> {
    LiveCertificate::new(identity, vec![meta_certificate(key)?])?.server_config()
}

#[cfg(test)]
mod tests {
    use x509_parser::parse_x509_certificate;

    use super::*;

    #[test]
    fn it_names_the_key_and_the_version() {
        let key = crate::key::RelayPrivateKey::from_bytes([9; 32]).public();
        let der = meta_certificate(&key).unwrap();
        let (rest, certificate) = parse_x509_certificate(&der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(
            certificate.subject().to_string(),
            format!("CN=derpkey{key}")
        );
        assert_eq!(certificate.issuer(), certificate.subject());
        assert_eq!(certificate.tbs_certificate.serial, 2u32.into());
        assert_eq!(
            certificate.signature_algorithm.algorithm.to_id_string(),
            "1.3.101.112",
            "Ed25519"
        );
        let validity = certificate.validity();
        let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
        assert_eq!(days, 60);
    }
}
