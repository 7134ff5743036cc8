//! What an operator says about sign-in by others.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use super::fetch::IssuerRules;
use crate::secrets::{SecretError, secret};

/// Where Google is.
const GOOGLE_ISSUER: &str = "https://accounts.google.com";
/// Where GitHub is.
const GITHUB_URL: &str = "https://github.com";
/// Where GitHub's API is.
const GITHUB_API_URL: &str = "https://api.github.com";

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SignUp {
    /// Anybody.
    #[default]
    Open,
    /// Who is invited into an org, or comes by an org's own sign-in.
    Invited,
}

/// Sign-in, by others than this control plane too.
#[derive(Clone, Default)]
pub struct SignInConfig {
    /// Who may make an account.
    pub sign_up: SignUp,
    /// Google.
    pub google: Option<GoogleConfig>,
    /// GitHub.
    pub github: Option<GitHubConfig>,
    /// Where orgs' providers may be.
    pub issuers: IssuerRules,
    /// Who is asked for the records that prove orgs' domains. Empty: the system's name servers.
    pub dns_servers: Vec<SocketAddr>,
}

/// This deployment at Google. Has no `Debug`.
#[derive(Clone)]
pub struct GoogleConfig {
    /// Google's issuer identifier.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Our secret there.
    pub client_secret: Zeroizing<String>,
}

/// This deployment at GitHub. Has no `Debug`.
#[derive(Clone)]
pub struct GitHubConfig {
    /// GitHub's pages.
    pub url: String,
    /// GitHub's API.
    pub api_url: String,
    /// Our name there.
    pub client_id: String,
    /// Our secret there.
    pub client_secret: Zeroizing<String>,
}

/// The flags of programs that hold a control plane.
#[derive(Args, Clone)]
#[command(next_help_heading = "Sign-in")]
pub struct SignInFlags {
    /// Who may make an account. Make your own while it is open.
    #[arg(long, env = "ZTNA_SIGN_UP", value_enum, default_value_t)]
    sign_up: SignUp,
    /// OAuth client of this deployment at Google. Its redirect URI: PUBLIC_URL/sign-in/google/callback.
    #[arg(long, env = "ZTNA_GOOGLE_CLIENT_ID", requires = "google_secret")]
    google_client_id: Option<String>,
    /// Its secret; better by the environment than on the command line.
    #[arg(
        long,
        env = "ZTNA_GOOGLE_CLIENT_SECRET",
        hide_env_values = true,
        requires = "google_client_id",
        group = "google_secret"
    )]
    google_client_secret: Option<String>,
    /// File that holds it, in its place
    #[arg(
        long,
        env = "ZTNA_GOOGLE_CLIENT_SECRET_FILE",
        requires = "google_client_id",
        group = "google_secret",
        value_name = "FILE"
    )]
    google_client_secret_file: Option<PathBuf>,
    /// Google's issuer identifier.
    #[arg(long, env = "ZTNA_GOOGLE_ISSUER", default_value = GOOGLE_ISSUER, hide = true)]
    google_issuer: String,
    /// OAuth app of this deployment at GitHub. Its callback: PUBLIC_URL/sign-in/github/callback.
    #[arg(long, env = "ZTNA_GITHUB_CLIENT_ID", requires = "github_secret")]
    github_client_id: Option<String>,
    /// Its secret; better by the environment than on the command line.
    #[arg(
        long,
        env = "ZTNA_GITHUB_CLIENT_SECRET",
        hide_env_values = true,
        requires = "github_client_id",
        group = "github_secret"
    )]
    github_client_secret: Option<String>,
    /// File that holds it, in its place
    #[arg(
        long,
        env = "ZTNA_GITHUB_CLIENT_SECRET_FILE",
        requires = "github_client_id",
        group = "github_secret",
        value_name = "FILE"
    )]
    github_client_secret_file: Option<PathBuf>,
    /// GitHub, or a GitHub Enterprise Server.
    #[arg(long, env = "ZTNA_GITHUB_URL", default_value = GITHUB_URL)]
    github_url: String,
    /// Its API; of an Enterprise Server https://HOST/api/v3.
    #[arg(long, env = "ZTNA_GITHUB_API_URL", default_value = GITHUB_API_URL)]
    github_api_url: String,
    /// Orgs' identity providers may be on addresses that are not on the public internet. Not where
    /// strangers may sign up: they would learn what answers in this server's own network.
    #[arg(long, env = "ZTNA_ALLOW_PRIVATE_ISSUERS")]
    allow_private_issuers: bool,
    /// Orgs' identity providers may be behind http://. For tests alone.
    #[arg(long, env = "ZTNA_ALLOW_HTTP_ISSUERS")]
    allow_http_issuers: bool,
    /// Name servers that are asked for the records that prove orgs' domains [default: the system's]
    #[arg(long, env = "ZTNA_DNS_SERVERS", value_delimiter = ',')]
    dns_servers: Vec<SocketAddr>,
}

impl SignInFlags {
    /// What the flags say.
    ///
    /// # Errors
    /// A secret's file cannot be read.
    pub fn config(&self) -> Result<SignInConfig, SecretError> {
        let google = secret(
            self.google_client_secret.as_deref(),
            self.google_client_secret_file.as_deref(),
        )?;
        let google = self.google_client_id.clone().zip(google);
        let github = secret(
            self.github_client_secret.as_deref(),
            self.github_client_secret_file.as_deref(),
        )?;
        let github = self.github_client_id.clone().zip(github);
        Ok(SignInConfig {
            sign_up: self.sign_up,
            google: google.map(|(client_id, client_secret)| GoogleConfig {
                issuer: self.google_issuer.clone(),
                client_id,
                client_secret,
            }),
            github: github.map(|(client_id, client_secret)| GitHubConfig {
                url: self.github_url.clone(),
                api_url: self.github_api_url.clone(),
                client_id,
                client_secret,
            }),
            issuers: IssuerRules {
                allow_private: self.allow_private_issuers,
                allow_http: self.allow_http_issuers,
            },
            dns_servers: self.dns_servers.clone(),
        })
    }
}
