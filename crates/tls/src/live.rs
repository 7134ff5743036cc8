//! A certificate that is exchanged while the server runs.
//!
//! Who renews it may be a program of the operator's ([`watch_files`]) or this one (`acme`). A new
//! pair that cannot be used is refused, and the old one stays.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::KeyExchange;
use crate::client::provider;
use crate::identity::{IdentityError, ServerIdentity};

/// Files are looked at this often.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// The certificate that new connections are shown.
#[derive(Debug)]
pub struct LiveCertificate {
    /// `None` until the first is there: then no handshake succeeds.
    current: RwLock<Option<Arc<CertifiedKey>>>,
    /// Shown after the chain.
    extra: Vec<CertificateDer<'static>>,
}

impl LiveCertificate {
    /// Shows `identity` to begin with, and `extra` certificates after its chain. Clients that build a
    /// path to an authority pass over those that lead nowhere.
    ///
    /// # Errors
    /// Key and certificate do not belong together, or are of a kind that TLS does not take.
    pub fn new(
        identity: &ServerIdentity,
        extra: Vec<CertificateDer<'static>>,
    ) -> Result<Arc<Self>, IdentityError> {
        let live = Self::empty(extra);
        live.replace(identity)?;
        Ok(live)
    }

    /// Shows nothing yet: the certificate is still to be had.
    #[must_use]
    pub fn empty(extra: Vec<CertificateDer<'static>>) -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::new(None),
            extra,
        })
    }

    /// Shows another identity from now on. Connections that exist are not touched.
    ///
    /// # Errors
    /// As [`LiveCertificate::new`]; the old identity stays.
    pub fn replace(&self, identity: &ServerIdentity) -> Result<(), IdentityError> {
        let mut chain = identity.chain().to_vec();
        chain.extend(self.extra.iter().cloned());
        let provider = provider(KeyExchange::PreferPostQuantum);
        let pair = CertifiedKey::from_der(chain, identity.key().clone_key(), &provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pair));
        Ok(())
    }

    /// A server configuration: TLS 1.3 and 1.2, no ALPN (HTTP/2 would break the relay's upgrade),
    /// no client certificates. Of the groups that both sides have, rustls takes the client's first:
    /// X25519MLKEM768 with our clients, with Go's since 1.24 and with today's browsers.
    ///
    /// # Errors
    /// The TLS library refuses its own defaults.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, IdentityError> {
        let provider = Arc::new(provider(KeyExchange::PreferPostQuantum));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        // Ours are long connections, which come back after a day or at another node: what a session is
        // resumed with would be made for each, and sent, and used by nobody.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

impl ResolvesServerCert for LiveCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

/// Where an identity is read from.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// The chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// The leaf's private key, PEM.
    pub key: PathBuf,
}

impl IdentityFiles {
    /// Reads them.
    ///
    /// # Errors
    /// A file cannot be read or holds something else.
    pub fn load(&self) -> Result<ServerIdentity, IdentityError> {
        ServerIdentity::from_pem_files(&self.certificate, &self.key)
    }

    fn stamp(&self) -> [Stamp; 2] {
        [stamp(&self.certificate), stamp(&self.key)]
    }
}

/// What changes when a file does: its time, its length and (Unix) its inode.
type Stamp = Option<(SystemTime, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}

/// Takes over the files whenever they change, or at once when `now` is notified, until `shutdown` is
/// cancelled. Between the replacements of one file and of the other, the pair does not match; it is
/// refused with a log and the change of the second brings the next attempt.
pub async fn watch_files(
    live: Arc<LiveCertificate>,
    files: IdentityFiles,
    now: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut seen = files.stamp();
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => false,
            () = now.notified() => true,
            () = shutdown.cancelled() => return,
        };
        let stamp = files.stamp();
        if stamp == seen && !asked {
            continue;
        }
        seen = stamp;
        match files.load().and_then(|identity| {
            live.replace(&identity)?;
            Ok(identity)
        }) {
            Ok(identity) => tracing::info!(pin = identity.pin(), "certificate loaded anew"),
            Err(error) => {
                tracing::error!(%error, "the new certificate is not usable; the old one stays");
            }
        }
    }
}
