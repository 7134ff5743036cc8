//! The providers that there are, and what one says of a person.

use std::fmt;
use std::str::FromStr;

use hickory_resolver::TokioResolver;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::OrgId;
use ztna_proto::sso::SIGN_IN_PATH;

use super::config::{GitHubConfig, SignInConfig, SignUp};
use super::discovery::Directory;
use super::fetch::{Fetcher, NamedBy};
use super::{domains, settings};
use crate::app::State;
use crate::http::{ApiError, refuse};

/// A provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ProviderId {
    Google,
    GitHub,
    Org(OrgId),
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Google => f.write_str("google"),
            Self::GitHub => f.write_str("github"),
            Self::Org(org) => org.fmt(f),
        }
    }
}

impl FromStr for ProviderId {
    type Err = ApiError;
    fn from_str(text: &str) -> Result<Self, ApiError> {
        match text {
            "google" => Ok(Self::Google),
            "github" => Ok(Self::GitHub),
            org => org.parse().map(Self::Org).map_err(|_| unknown()),
        }
    }
}

impl ProviderId {
    /// As people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Google => "Google",
            Self::GitHub => "GitHub",
            Self::Org(_) => "your organisation's sign-in",
        }
    }

    /// As the audit log names it.
    pub(super) fn way(self) -> &'static str {
        match self {
            Self::Google => "Google",
            Self::GitHub => "GitHub",
            Self::Org(_) => "SSO",
        }
    }

    /// The org whose word a session by this provider carries.
    pub(super) fn org(self) -> Option<OrgId> {
        match self {
            Self::Org(org) => Some(org),
            Self::Google | Self::GitHub => None,
        }
    }
}

pub(super) fn unknown() -> ApiError {
    refuse(
        ErrorCode::NotFound,
        "There is no such way to sign in here. Begin again and choose another.",
    )
}

/// What a provider says of a person, checked as far as one can.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Vouched {
    pub(super) provider: ProviderId,
    /// Who issues the provider's names for people; empty for GitHub.
    pub(super) issuer: String,
    pub(super) subject: String,
    /// The person's address, normalised, if there is one.
    pub(super) email: Option<String>,
    /// Whether the provider has made sure that the address is the person's.
    pub(super) verified: bool,
    /// Groups, as the provider names them.
    pub(super) groups: Vec<String>,
}

/// Us at an OpenID Connect provider. Has no `Debug`.
pub(super) struct Client {
    pub(super) issuer: String,
    pub(super) by: NamedBy,
    pub(super) id: String,
    pub(super) secret: Zeroizing<String>,
    /// The claim that lists groups, if they are wanted.
    pub(super) groups_claim: Option<String>,
    /// Whether an address counts as verified if nothing is said of that.
    pub(super) trust_email: bool,
}

/// What sign-in by others works with.
pub(crate) struct Providers {
    config: SignInConfig,
    /// What addresses of ours start with.
    public_url: String,
    pub(super) fetcher: Fetcher,
    pub(super) directory: Directory,
    pub(super) dns: TokioResolver,
}

impl Providers {
    /// # Errors
    /// TLS or DNS cannot be set up; in words for the operator.
    pub(crate) fn new(config: SignInConfig, public_url: &str) -> Result<Self, String> {
        let fetcher = Fetcher::new(config.issuers)?;
        if let Some(github) = &config.github {
            for url in [&github.url, &github.api_url] {
                fetcher
                    .check(url, NamedBy::Operator)
                    .map_err(|error| format!("GitHub's address {url} is not usable: {error}"))?;
            }
        }
        if let Some(google) = &config.google {
            fetcher
                .check(&google.issuer, NamedBy::Operator)
                .map_err(|error| format!("Google's issuer is not usable: {error}"))?;
        }
        Ok(Self {
            dns: domains::resolver(&config.dns_servers)?,
            public_url: public_url.trim_end_matches('/').to_owned(),
            directory: Directory::default(),
            fetcher,
            config,
        })
    }

    /// Whether strangers may make accounts.
    pub(crate) fn sign_up_is_open(&self) -> bool {
        self.config.sign_up == SignUp::Open
    }

    /// Refuses strangers where they may not make accounts: whatever address they name, in the same words.
    ///
    /// # Errors
    /// `FORBIDDEN` if sign-up is by invitation.
    pub(crate) fn check_sign_up(&self) -> Result<(), ApiError> {
        if self.sign_up_is_open() {
            return Ok(());
        }
        Err(refuse(
            ErrorCode::Forbidden,
            "Accounts are by invitation here. Ask who runs your organisation for one, and open its link.",
        ))
    }

    pub(super) fn has_google(&self) -> bool {
        self.config.google.is_some()
    }

    pub(super) fn has_github(&self) -> bool {
        self.config.github.is_some()
    }

    pub(super) fn github(&self) -> Result<&GitHubConfig, ApiError> {
        self.config.github.as_ref().ok_or_else(unknown)
    }

    /// Where a provider sends browsers back to: each to its own place (RFC 9700 §4.4.2.2).
    pub(super) fn redirect_uri(&self, provider: ProviderId) -> String {
        format!("{}{SIGN_IN_PATH}/{provider}/callback", self.public_url)
    }

    fn google(&self) -> Result<Client, ApiError> {
        let google = self.config.google.as_ref().ok_or_else(unknown)?;
        Ok(Client {
            issuer: google.issuer.clone(),
            by: NamedBy::Operator,
            id: google.client_id.clone(),
            secret: google.client_secret.clone(),
            groups_claim: None,
            trust_email: false,
        })
    }
}

/// Us at a provider of OpenID Connect.
///
/// # Errors
/// `NOT_FOUND` if there is no such provider here.
pub(super) async fn client(state: &State, provider: ProviderId) -> Result<Client, ApiError> {
    let org = match provider {
        ProviderId::Google => return state.providers.google(),
        ProviderId::GitHub => return Err(unknown()),
        ProviderId::Org(org) => org,
    };
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let stored = settings::load(&tx, org).await?.ok_or_else(unknown)?;
    let settings = &stored.settings;
    let secret = settings::open_secret(&tx, &state.keys, org, &stored.client_secret).await?;
    Ok(Client {
        issuer: settings.issuer.clone(),
        by: NamedBy::Org,
        id: settings.client_id.clone(),
        secret,
        groups_claim: (!settings.group_rules.is_empty()).then(|| settings.groups_claim.clone()),
        trust_email: settings.trust_email,
    })
}
