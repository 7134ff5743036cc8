//! A server's certificate and private key.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;
use ztna_proto::relay::CertificatePin;

use crate::live::LiveCertificate;
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

    /// The configuration of [`LiveCertificate::server_config`], for a certificate that stays.
    ///
    /// # Errors
    /// Key and certificate do not belong together, or are of a kind that TLS does not take.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        LiveCertificate::new(self, Vec::new())?.server_config()
    }

    /// Takes a chain and a key from one PEM text, as [`ServerIdentity::from_pem_files`] does from
    /// files. `path` is for messages.
    ///
    /// # Errors
    /// It holds something else.
    pub fn from_pem(pem: &[u8], path: &Path) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| pem_error(path, "certificates", source))?;
        if chain.is_empty() {
            return Err(IdentityError::Empty {
                path: path.to_owned(),
            });
        }
        let key = PrivateKeyDer::from_pem_slice(pem)
            .map_err(|source| pem_error(path, "a private key", source))?;
        Ok(Self { chain, key })
    }

    /// From when to when the leaf holds, in seconds since 1970. `None` if it is not X.509.
    #[must_use]
    pub fn validity(&self) -> Option<(i64, i64)> {
        validity_of(&self.chain[0])
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}

/// From when to when a certificate holds, given as DER, in seconds since 1970. `None` if it is none.
#[must_use]
pub fn validity_of(der: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    let (from, to) = (&validity.not_before, &validity.not_after);
    Some((from.timestamp(), to.timestamp()))
}

/// Writes a secret into a new file that only its owner reads (0600), whole or not at all, and on
/// the disk when this returns. A file that is there already stays as it is.
///
/// # Errors
/// The file system's.
pub fn write_new_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match private_file(path, bytes)?.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error),
    }
    sync_dir(dir_of(path))
}

/// [`write_new_private`], over a file that is there.
///
/// # Errors
/// The file system's.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    private_file(path, bytes)?.persist(path)?;
    sync_dir(dir_of(path))
}

fn private_file(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    // Unix: NamedTempFile makes its files 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn dir_of(path: &Path) -> &Path {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    dir.unwrap_or(Path::new("."))
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
