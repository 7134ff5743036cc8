//! TLS of the relay's port: own certificate, files, ACME, or a proxy that does it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use ztna_derp::key::RelayPublicKey;
use ztna_derp::server::meta_certificate;
use ztna_proto::relay::CertificatePin;
use ztna_tls::acme::{Acme, AcmeConfig, Challenges, LETS_ENCRYPT};
use ztna_tls::{
    IdentityFiles, LiveCertificate, Security, ServerIdentity, TrustedProxies, watch_files,
};

use super::signals::Reload;

/// The flags.
#[derive(Args)]
pub struct TlsArgs {
    /// Certificate chain, PEM, leaf first, instead of a self-signed certificate; read again when it
    /// changes
    #[arg(
        long,
        env = "ZTNA_DERP_TLS_CERT",
        requires = "tls_key",
        conflicts_with_all = ["no_tls", "acme_domain"],
        value_name = "FILE"
    )]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(
        long,
        env = "ZTNA_DERP_TLS_KEY",
        requires = "tls_cert",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// Name of this host to get a public certificate for, by ACME; repeatable. Needs --listen on 443
    /// for everybody, or --http-listen on 80
    #[arg(
        long,
        env = "ZTNA_DERP_ACME_DOMAIN",
        conflicts_with = "no_tls",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub acme_domain: Vec<String>,

    /// Address that the certificate authority may write to
    #[arg(long, env = "ZTNA_DERP_ACME_EMAIL", value_name = "EMAIL")]
    pub acme_email: Option<String>,

    /// The certificate authority; using one means accepting its terms of service
    #[arg(
        long,
        env = "ZTNA_DERP_ACME_DIRECTORY",
        default_value = LETS_ENCRYPT,
        value_name = "URL"
    )]
    pub acme_directory: String,

    /// The self-signed certificate of a certificate authority of one's own
    #[arg(
        long,
        env = "ZTNA_DERP_ACME_PIN",
        value_parser = ztna_tls::parse_pin,
        value_name = "sha256:HEX"
    )]
    pub acme_pin: Option<CertificatePin>,

    /// Where the ACME account and certificate are kept [default: DATA_DIR/acme]
    #[arg(long, env = "ZTNA_DERP_ACME_CACHE", value_name = "DIR")]
    pub acme_cache: Option<PathBuf>,

    /// Speak plain TCP: a proxy on this machine or in a closed network does TLS
    #[arg(long, env = "ZTNA_DERP_NO_TLS")]
    pub no_tls: bool,

    /// Networks of proxies whose X-Forwarded-For is believed
    #[arg(
        long,
        env = "ZTNA_DERP_TRUSTED_PROXY",
        value_delimiter = ',',
        value_name = "CIDR,…"
    )]
    pub trusted_proxy: Vec<IpNet>,
}

/// The port's TLS, as it is set up.
pub struct Secured {
    pub security: Security,
    /// What clients pin. `None`: nothing that stays.
    pub pin: Option<String>,
    /// What the plain listener shows a certificate authority.
    pub challenges: Option<Arc<Challenges>>,
    /// Keeps the certificate fresh.
    pub keeper: Option<BoxFuture<'static, ()>>,
}

impl TlsArgs {
    pub fn proxies(&self) -> TrustedProxies {
        TrustedProxies::new(self.trusted_proxy.clone())
    }

    /// Sets TLS up. `http`: there is a plain listener.
    pub fn secure(
        &self,
        dir: &Path,
        host: &str,
        key: &RelayPublicKey,
        http: bool,
        reload: &Reload,
        shutdown: &CancellationToken,
    ) -> Result<Secured> {
        if self.no_tls {
            return Ok(Secured {
                security: Security::Plain,
                pin: None,
                challenges: None,
                keeper: None,
            });
        }
        let meta = vec![meta_certificate(key)?];
        if !self.acme_domain.is_empty() {
            return self.by_acme(dir, meta, http, shutdown.clone());
        }
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            let identity = ServerIdentity::load_or_create(dir, &names(host))?;
            let live = LiveCertificate::new(&identity, meta)?;
            return Ok(Secured {
                security: live.server_config()?.into(),
                pin: Some(identity.pin()),
                challenges: None,
                keeper: None,
            });
        };
        let files = IdentityFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        let identity = files.load()?;
        let live = LiveCertificate::new(&identity, meta)?;
        let again = Arc::clone(&reload.certificate);
        Ok(Secured {
            security: live.server_config()?.into(),
            pin: Some(identity.pin()),
            challenges: None,
            keeper: Some(Box::pin(watch_files(live, files, again, shutdown.clone()))),
        })
    }

    fn by_acme(
        &self,
        dir: &Path,
        meta: Vec<CertificateDer<'static>>,
        http: bool,
        shutdown: CancellationToken,
    ) -> Result<Secured> {
        let cache = self.acme_cache.clone().unwrap_or_else(|| dir.join("acme"));
        super::make_dir(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        let acme = Acme::new(AcmeConfig {
            domains: self.acme_domain.clone(),
            email: self.acme_email.clone(),
            directory: self.acme_directory.clone(),
            pin: self.acme_pin.clone().unwrap_or(CertificatePin::WebPki),
            cache,
            http,
        })?;
        let live = LiveCertificate::empty(meta);
        let challenges = Arc::clone(acme.challenges());
        Ok(Secured {
            security: Security::TlsWithChallenges {
                tls: live.server_config()?,
                challenges: challenges.server_config()?,
            },
            pin: None,
            challenges: Some(challenges),
            keeper: Some(Box::pin(acme.keep(live, shutdown))),
        })
    }
}

/// Names of a self-signed certificate.
fn names(host: &str) -> Vec<String> {
    let mut names = vec![
        host.to_owned(),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    names.dedup();
    names
}
