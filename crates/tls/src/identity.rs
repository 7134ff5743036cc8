//! A server's certificate and private key.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use zeroize::Zeroizing;
use ztna_proto::relay::CertificatePin;

use crate::KeyExchange;
use crate::client::provider;
use crate::pin::{format_pin, pin_of};

/// File in a data directory that holds the self-signed certificate and its key, one after the
/// other: one file, so that no crash leaves one without the other.
pub const IDENTITY_FILE: &str = "tls.pem";

/// Years for which a self-signed certificate is made. Clients that pin it do not look; ten years
/// keep other tools from complaining during a deployment's life.
const VALID_YEARS: i32 = 10;

/// No server identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} does not hold {expected} in PEM form: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// The file holds no certificate.
    #[error(
        "{path} holds no certificate; it should hold the server's certificate and its chain, in PEM form"
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// No self-signed certificate could be made.
    #[error("cannot make a self-signed certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key are not usable together.
    #[error("the certificate and its private key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate chain with the private key of its leaf. Has no `Debug`.
pub struct ServerIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ServerIdentity {
    /// Loads a certificate chain (leaf first) and the leaf's private key (PKCS #8, PKCS #1 or SEC1)
    /// from PEM files.
    ///
    /// # Errors
    /// A file cannot be read or holds something else.
    pub fn from_pem_files(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let chain = Self::chain_in(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|source| pem_error(key, "a private key", source))?;
        Ok(Self { chain, key })
    }

    /// Loads the self-signed certificate of a data directory, or makes one for `names` (DNS names
    /// or IP addresses) if there is none yet.
    ///
    /// An existing certificate stays, whatever its names: clients have pinned it. The directory
    /// must exist. Two processes that start at once end up with the same certificate.
    ///
    /// # Errors
    /// The directory cannot be used, or the file in it is damaged.
    pub fn load_or_create(dir: &Path, names: &[String]) -> Result<Self, IdentityError> {
        let path = dir.join(IDENTITY_FILE);
        if !path.exists() {
            let pem = self_signed(names)?;
            write_new_private(&path, pem.as_bytes()).map_err(|source| IdentityError::Io {
                path: path.clone(),
                source,
            })?;
        }
        Self::from_pem_files(&path, &path)
    }

    fn chain_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let chain = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| pem_error(path, "certificates", source))?;
        if chain.is_empty() {
            return Err(IdentityError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(chain)
    }

    /// What clients pin, in the form of the relay map.
    #[must_use]
    pub fn certificate_pin(&self) -> CertificatePin {
        pin_of(&self.chain[0])
    }

    /// What clients pin, as people copy it: `sha256:<64 hex digits>`.
    #[must_use]
    pub fn pin(&self) -> String {
        format_pin(&self.certificate_pin()).unwrap_or_default()
    }

    /// A server configuration: TLS 1.3 and 1.2, no ALPN (HTTP/2 would break the relay's upgrade),
    /// no client certificates. Of the groups that both sides have, rustls takes the client's first:
    /// X25519MLKEM768 with our clients, with Go's since 1.24 and with today's browsers.
    ///
    /// # Errors
    /// Key and certificate do not belong together, or are of a kind that TLS does not take.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        let config =
            ServerConfig::builder_with_provider(Arc::new(provider(KeyExchange::PreferPostQuantum)))
                .with_protocol_versions(&[&TLS13, &TLS12])?
                .with_no_client_auth()
                .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        Ok(Arc::new(config))
    }
}

/// Writes a secret into a new file that only its owner reads (0600), whole or not at all, and on
/// the disk when this returns. A file that is there already stays as it is.
///
/// # Errors
/// The file system's.
pub fn write_new_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    // Unix: NamedTempFile makes its files 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error),
    }
    sync_dir(dir)
}

/// Makes a rename in `dir` outlast a power cut.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_dir: &Path) -> io::Result<()> {
    Ok(())
}

/// Certificate and key, PEM.
fn self_signed(names: &[String]) -> Result<Zeroizing<String>, IdentityError> {
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "ztna self-signed server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    let now = std::time::SystemTime::now();
    // From yesterday on: clocks of clients differ.
    params.not_before = (now - day).into();
    params.not_after = params
        .not_before
        .replace_year(params.not_before.year() + VALID_YEARS)
        .unwrap_or((now + day * 365 * VALID_YEARS.unsigned_abs()).into());
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let secret = Zeroizing::new(key.serialize_pem());
    Ok(Zeroizing::new(certificate.pem() + &secret))
}

fn pem_error(path: &Path, expected: &'static str, source: pem::Error) -> IdentityError {
    let path = path.to_owned();
    match source {
        pem::Error::Io(source) => IdentityError::Io { path, source },
        source => IdentityError::Pem {
            path,
            expected,
            source,
        },
    }
}
