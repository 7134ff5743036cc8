//! Client configurations: which server to believe, and which key exchange to insist on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use ztna_proto::relay::CertificatePin;

use crate::pin::{DIGEST_LEN, digest_of};

/// What a client asks of the key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchange {
    /// X25519MLKEM768 if the server can, else the classic groups; TLS 1.3 or 1.2.
    PreferPostQuantum,
    /// X25519MLKEM768 over TLS 1.3 or no connection.
    RequirePostQuantum,
}

/// A client configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientConfigError {
    /// The pin is no SHA-256.
    #[error(transparent)]
    Pin(#[from] crate::PinError),
    /// The TLS library refused the parameters.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// A file holds no certificates of authorities.
    #[error("{path} holds no certificates in PEM that can be used: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The authorities could not be loaded.
    #[error("the certificate authorities cannot be used: {0}")]
    Authorities(#[from] rustls::client::VerifierBuilderError),
}

/// The server showed a certificate other than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server's certificate is not the pinned one (it is sha256:{got}); if the server was set up anew, get its new pin from its operator"
)]
pub struct PinMismatch {
    got: String,
}

/// Makes a client configuration without ALPN and client certificate.
///
/// With [`CertificatePin::Sha256`] the server's name and validity do not matter: the pin names one
/// certificate, whose key the handshake proves. Build it once and share it: it holds the session
/// tickets that make the next handshake shorter.
///
/// # Errors
/// The pin is malformed.
pub fn client_config(
    pin: &CertificatePin,
    key_exchange: KeyExchange,
) -> Result<Arc<ClientConfig>, ClientConfigError> {
    let provider = Arc::new(provider(key_exchange));
    let verifier: Arc<dyn ServerCertVerifier> = match pin {
        CertificatePin::WebPki => WebPkiServerVerifier::builder_with_provider(
            Arc::new(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            }),
            Arc::clone(&provider),
        )
        .build()?,
        CertificatePin::Sha256(digits) => Arc::new(PinnedVerifier {
            digest: digest_of(digits)?,
            provider: Arc::clone(&provider),
        }),
    };
    with_verifier(verifier, provider, key_exchange)
}

/// The same for servers whose certificates authorities of somebody's own have signed: those in a file, in
/// PEM.
///
/// # Errors
/// The file cannot be read, or holds none.
pub fn client_config_trusting(
    authorities: &Path,
    key_exchange: KeyExchange,
) -> Result<Arc<ClientConfig>, ClientConfigError> {
    let unusable = |reason: String| ClientConfigError::File {
        path: authorities.to_owned(),
        reason,
    };
    let found = CertificateDer::pem_file_iter(authorities)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for authority in found {
        roots
            .add(authority)
            .map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is none".to_owned()));
    }
    let provider = Arc::new(provider(key_exchange));
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    with_verifier(verifier, provider, key_exchange)
}

fn with_verifier(
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    key_exchange: KeyExchange,
) -> Result<Arc<ClientConfig>, ClientConfigError> {
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(key_exchange))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// aws-lc-rs with the groups that go with `key_exchange`, the wanted one first.
pub(crate) fn provider(key_exchange: KeyExchange) -> CryptoProvider {
    let kx_groups = match key_exchange {
        KeyExchange::RequirePostQuantum => vec![kx_group::X25519MLKEM768],
        KeyExchange::PreferPostQuantum => vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
    };
    CryptoProvider {
        kx_groups,
        ..default_provider()
    }
}

/// Hybrid groups exist in TLS 1.3 only.
static ONLY_TLS13: [&SupportedProtocolVersion; 1] = [&TLS13];
static ANY_VERSION: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn versions(key_exchange: KeyExchange) -> &'static [&'static SupportedProtocolVersion] {
    match key_exchange {
        KeyExchange::RequirePostQuantum => &ONLY_TLS13,
        KeyExchange::PreferPostQuantum => &ANY_VERSION,
    }
}

/// Accepts exactly one leaf certificate, and has the handshake prove that the server holds its key.
#[derive(Debug)]
struct PinnedVerifier {
    digest: [u8; DIGEST_LEN],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let got = Sha256::digest(end_entity);
        if bool::from(got.as_slice().ct_eq(&self.digest)) {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = PinMismatch {
            got: ztna_proto::keys::hex(&got),
        };
        // Not `CertificateError::Other`, which prints as a debugger would.
        Err(rustls::Error::Other(OtherError(Arc::new(mismatch))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
