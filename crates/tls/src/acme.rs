//! Certificates of a public authority, by ACME (RFC 8555).
//!
//! The server shows that it is the host of its names by TLS-ALPN-01 (RFC 8737), on the port that it
//! serves, or by http-01 where a plain listener hands out [`Challenges::http`]. What it got lies in a
//! directory, whose files only their owner reads, and is renewed when a third of its time is left.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType,
    HttpClient, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;
use ztna_proto::keys::hex;
use ztna_proto::relay::CertificatePin;

use crate::accept::ACME_TLS_ALPN;
use crate::client::{ClientConfigError, provider};
use crate::identity::{IdentityError, ServerIdentity, replace_private};
use crate::live::LiveCertificate;
use crate::{KeyExchange, client_config};

/// Let's Encrypt's production directory.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// One call to the authority takes this long at most.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer of the authority that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// The authority gets this long to check the names, and as long to issue.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(120);
/// After a failure the next attempt comes after this time, doubling up to …
/// (Let's Encrypt allows five failed checks of a name per hour.)
const MIN_PAUSE: Duration = Duration::from_secs(5 * 60);
/// … this.
const MAX_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);
/// A certificate that holds is looked at this often: timers of months do not survive suspensions.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);
/// A certificate is renewed when so many parts of its time …
const RENEW_AT: i64 = 2;
/// … of so many are over.
const OF: i64 = 3;

/// What to get a certificate for, and from whom.
#[derive(Clone, Debug)]
pub struct AcmeConfig {
    /// DNS names of this server.
    pub domains: Vec<String>,
    /// Where the authority writes to, if it does.
    pub email: Option<String>,
    /// The authority's directory URL, [`LETS_ENCRYPT`] for most.
    pub directory: String,
    /// How the authority proves itself.
    pub pin: CertificatePin,
    /// Where account and certificate are kept.
    pub cache: PathBuf,
    /// Somebody hands out [`Challenges::http`] on port 80.
    pub http: bool,
}

/// No certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority refused something, or was not reached.
    #[error("the certificate authority: {0}")]
    Authority(#[from] instant_acme::Error),
    /// The authority does not offer a way of proof that works here.
    #[error(
        "the authority does not offer {kind} for {name}; TLS-ALPN-01 needs TCP port 443 of this host, http-01 needs --http-listen on port 80"
    )]
    NotOffered {
        /// The name.
        name: String,
        /// The way.
        kind: &'static str,
    },
    /// The authority's check failed.
    #[error(
        "the authority could not check {name}; its DNS must lead to this host, and the port be open to everybody (443, or 80 for http-01)"
    )]
    NotVerified {
        /// The names.
        name: String,
    },
    /// What came, or is kept, cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS library's.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] ClientConfigError),
    /// The HTTP library's.
    #[error("HTTP cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
}

/// What the authority asks to see while it checks.
#[derive(Debug, Default)]
pub struct Challenges {
    /// Certificates by name.
    tls: RwLock<HashMap<String, Arc<CertifiedKey>>>,
    /// Key authorizations by token.
    http: RwLock<HashMap<String, String>>,
}

impl Challenges {
    /// What `/.well-known/acme-challenge/{token}` answers.
    #[must_use]
    pub fn http(&self, token: &str) -> Option<String> {
        let http = self.http.read().unwrap_or_else(PoisonError::into_inner);
        http.get(token).cloned()
    }

    /// The TLS configuration of TLS-ALPN-01.
    ///
    /// # Errors
    /// The TLS library refuses its own defaults.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, IdentityError> {
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(provider(KeyExchange::PreferPostQuantum)))
                .with_protocol_versions(&[&TLS13, &TLS12])?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![ACME_TLS_ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    fn show(&self, name: &str, digest: &[u8]) -> Result<(), IdentityError> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let keys = provider(KeyExchange::PreferPostQuantum).key_provider;
        // Not `from_der`: it knows no certificate with this extension, which is critical (RFC 8737 §3).
        let pair = CertifiedKey::new(vec![certificate.into()], keys.load_private_key(key.into())?);
        let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
        tls.insert(name.to_owned(), Arc::new(pair));
        Ok(())
    }

    fn answer(&self, token: &str, authorization: &str) {
        let mut http = self.http.write().unwrap_or_else(PoisonError::into_inner);
        http.insert(token.to_owned(), authorization.to_owned());
    }

    fn clear(&self) {
        let mut tls = self.tls.write().unwrap_or_else(PoisonError::into_inner);
        tls.clear();
        let mut http = self.http.write().unwrap_or_else(PoisonError::into_inner);
        http.clear();
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner);
        tls.get(hello.server_name()?).cloned()
    }
}

/// Gets certificates and keeps them fresh.
pub struct Acme {
    config: AcmeConfig,
    challenges: Arc<Challenges>,
    http: reqwest::Client,
}

impl Acme {
    /// Prepares; nothing is asked yet.
    ///
    /// # Errors
    /// The authority's pin is malformed.
    pub fn new(config: AcmeConfig) -> Result<Self, AcmeError> {
        let tls = client_config(&config.pin, KeyExchange::PreferPostQuantum)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL_TIMEOUT)
            .build()?;
        Ok(Self {
            config,
            challenges: Arc::default(),
            http,
        })
    }

    /// What the listeners show the authority.
    #[must_use]
    pub fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// Has `live` show the certificate that is kept, then gets one whenever it is time, until
    /// `shutdown` is cancelled. Failures are logged and tried again, later and later.
    pub async fn keep(self, live: Arc<LiveCertificate>, shutdown: CancellationToken) {
        let mut due = self.load(&live);
        let (mut pause, mut attempt) = (MIN_PAUSE, 0);
        loop {
            let wait = if due > SystemTime::now() {
                LOOK_AGAIN.min(due.duration_since(SystemTime::now()).unwrap_or_default())
            } else {
                let ordered = tokio::select! {
                    ordered = self.order(attempt) => ordered,
                    () = shutdown.cancelled() => return,
                };
                self.challenges.clear();
                match ordered.and_then(|identity| Ok(live.replace(&identity).map(|()| identity)?)) {
                    Ok(identity) => {
                        tracing::info!(domains = ?self.config.domains, "certificate issued");
                        due = renewal(&identity);
                        (pause, attempt) = (MIN_PAUSE, 0);
                        continue;
                    }
                    Err(error) => {
                        let seconds = pause.as_secs();
                        tracing::error!(%error, "no certificate; trying again in {seconds}s");
                        attempt += 1;
                        let next = (pause * 2).min(MAX_PAUSE);
                        std::mem::replace(&mut pause, next)
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Shows what is kept. Says when the next certificate is due.
    fn load(&self, live: &LiveCertificate) -> SystemTime {
        let path = self.certificate_file();
        if !path.exists() {
            return UNIX_EPOCH;
        }
        let loaded = ServerIdentity::from_pem_files(&path, &path).and_then(|identity| {
            live.replace(&identity)?;
            Ok(renewal(&identity))
        });
        loaded.unwrap_or_else(|error| {
            tracing::error!(%error, "the kept certificate is not usable; getting another");
            UNIX_EPOCH
        })
    }

    /// Gets a certificate and keeps it. Attempts take turns between the ways of proof, beginning
    /// with http-01 where somebody opened a port for it.
    async fn order(&self, attempt: usize) -> Result<ServerIdentity, AcmeError> {
        let kinds: &[ChallengeType] = match self.config.http {
            true => &[ChallengeType::Http01, ChallengeType::TlsAlpn01],
            false => &[ChallengeType::TlsAlpn01],
        };
        let kind = &kinds[attempt % kinds.len()];
        let account = self.account().await?;
        let domains = &self.config.domains;
        let names: Vec<_> = domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let Some(mut challenge) = authorization.challenge(kind.clone()) else {
                let kind = match kind {
                    ChallengeType::Http01 => "http-01",
                    _ => "TLS-ALPN-01",
                };
                return Err(AcmeError::NotOffered { name, kind });
            };
            let proof = challenge.key_authorization();
            self.challenges.show(&name, proof.digest().as_ref())?;
            self.challenges.answer(&challenge.token, proof.as_str());
            challenge.set_ready().await?;
        }
        let patience = RetryPolicy::new().timeout(VERDICT_TIMEOUT);
        if order.poll_ready(&patience).await? != OrderStatus::Ready {
            let name = domains.join(", ");
            return Err(AcmeError::NotVerified { name });
        }
        let key = Zeroizing::new(order.finalize().await?);
        let chain = order.poll_certificate(&patience).await?;
        let pem = Zeroizing::new(format!("{}\n{}", chain.trim_end(), key.as_str()));
        let path = self.certificate_file();
        let identity = ServerIdentity::from_pem(pem.as_bytes(), &path)?;
        keep_file(&path, pem.as_bytes())?;
        Ok(identity)
    }

    async fn account(&self) -> Result<Account, AcmeError> {
        let builder = || Account::builder_with_http(Box::new(Http(self.http.clone())));
        let path = self.file("account", &[&self.config.directory], "json");
        if let Ok(kept) = std::fs::read(&path) {
            let kept = Zeroizing::new(kept);
            match serde_json::from_slice::<AccountCredentials>(&kept) {
                Ok(credentials) => return Ok(builder().from_credentials(credentials).await?),
                Err(error) => {
                    let path = path.display();
                    tracing::error!(%path, %error, "damaged; making a new account");
                }
            }
        }
        let contact = self.config.email.as_ref().map(|to| format!("mailto:{to}"));
        let contact: Vec<_> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = self.config.directory.clone();
        let (account, credentials) = builder().create(&new, directory, None).await?;
        let json = serde_json::to_vec(&credentials).map_err(instant_acme::Error::from)?;
        keep_file(&path, &Zeroizing::new(json))?;
        Ok(account)
    }

    fn certificate_file(&self) -> PathBuf {
        let mut parts = vec![self.config.directory.as_str()];
        parts.extend(self.config.domains.iter().map(String::as_str));
        self.file("certificate", &parts, "pem")
    }

    /// A file that belongs to these parts: with another authority or other names, another one.
    fn file(&self, what: &str, parts: &[&str], extension: &str) -> PathBuf {
        let digest = hex(&Sha256::digest(parts.join("\n")));
        let name = format!("acme-{what}-{}.{extension}", &digest[..16]);
        self.config.cache.join(name)
    }
}

fn keep_file(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    replace_private(path, bytes).map_err(|source| IdentityError::Io {
        path: path.to_owned(),
        source,
    })
}

/// When to get the next one.
fn renewal(identity: &ServerIdentity) -> SystemTime {
    let Some((from, to)) = identity.validity() else {
        return UNIX_EPOCH;
    };
    let at = from.saturating_add(to.saturating_sub(from) / OF * RENEW_AT);
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or_default())
}

/// The way to the authority.
struct Http(reqwest::Client);

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let http = self.0.clone();
        Box::pin(async move {
            let other = |error| instant_acme::Error::Other(Box::new(error));
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = http::Request::from_parts(parts, body.to_bytes());
            let request = reqwest::Request::try_from(request).map_err(other)?;
            let answer = http.execute(request).await.map_err(other)?;
            let answer: http::Response<reqwest::Body> = answer.into();
            Ok(answer.map(|body| Limited::new(body, MAX_ANSWER)).into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme(directory: &str, domains: &[&str], cache: &Path) -> Acme {
        Acme::new(AcmeConfig {
            domains: domains.iter().map(|&name| name.to_owned()).collect(),
            email: None,
            directory: directory.to_owned(),
            pin: CertificatePin::WebPki,
            cache: cache.to_owned(),
            http: false,
        })
        .unwrap()
    }

    #[test]
    fn what_is_kept_belongs_to_its_authority_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let ours = acme(LETS_ENCRYPT, &["a.example"], dir.path()).certificate_file();
        for (directory, domains) in [
            (LETS_ENCRYPT, &["a.example", "b.example"] as &[_]),
            ("https://other.example/", &["a.example"]),
        ] {
            let other = acme(directory, domains, dir.path()).certificate_file();
            assert_ne!(ours, other);
        }
    }

    #[test]
    fn a_kept_certificate_is_shown_until_it_is_time_and_a_damaged_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let acme = acme(LETS_ENCRYPT, &["a.example"], dir.path());
        let live = LiveCertificate::empty(Vec::new());
        assert_eq!(acme.load(&live), UNIX_EPOCH);

        let path = acme.certificate_file();
        ServerIdentity::load_or_create(dir.path(), &["a.example".to_owned()]).unwrap();
        std::fs::copy(dir.path().join(crate::identity::IDENTITY_FILE), &path).unwrap();
        let identity = ServerIdentity::from_pem_files(&path, &path).unwrap();
        let (from, to) = identity.validity().unwrap();
        let due = acme.load(&live);
        let due = i64::try_from(due.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        assert!((from + (to - from) * 2 / 3 - due).abs() <= 2);

        std::fs::write(&path, "damaged").unwrap();
        assert_eq!(acme.load(&live), UNIX_EPOCH);
    }

    #[test]
    fn a_challenge_is_shown_for_its_name_and_then_forgotten() {
        let challenges = Challenges::default();
        challenges.show("a.example", &[7; 32]).unwrap();
        challenges.answer("token", "token.thumbprint");
        let shown = challenges.tls.read().unwrap()["a.example"].cert[0].clone();
        let (_, shown) = x509_parser::parse_x509_certificate(&shown).unwrap();
        let extension = shown
            .extensions()
            .iter()
            .find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31")
            .unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [[4, 32].as_slice(), &[7; 32]].concat());
        assert_eq!(
            challenges.http("token").as_deref(),
            Some("token.thumbprint")
        );
        assert_eq!(challenges.http("other"), None);
        challenges.clear();
        assert_eq!(challenges.http("token"), None);
    }
}
