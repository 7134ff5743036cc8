//! Requests and answers about an org's own identity provider (OpenID Connect).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Role;

/// `GET`, in a browser: signs a person in by a provider, for the `ztna login` that opened the browser.
/// `…/google`, `…/github`, or `…/sso` for an org's own, with the org's label or an e-mail address in `org`.
/// The other parameters are those of [`crate::api::CLI_LOGIN_PATH`], or, for a dashboard, `return_to` alone: a path here that
/// the browser is sent to when it is done. A provider sends the browser back to
/// `…/{provider}/callback`; of an org's, `{provider}` is the org's id.
pub const SIGN_IN_PATH: &str = "/sign-in";
/// Longest `return_to`, in bytes.
pub const MAX_RETURN_TO: usize = 1024;
/// Longest `hint`, in bytes: an e-mail address (RFC 5321 §4.5.3.1).
pub const MAX_HINT: usize = 320;
/// Longest name of a provider's group, in characters.
pub const MAX_GROUP_NAME: usize = 256;
/// Most rules about groups.
pub const MAX_GROUP_RULES: usize = 200;
/// Most domains of an org.
pub const MAX_DOMAINS: usize = 100;

fn groups() -> String {
    "groups".to_owned()
}

fn yes() -> bool {
    true
}

/// `PUT /api/orgs/{org}/sso`. Answer: [`SsoSettings`]. `DELETE` of the same path ends sign-in by the
/// provider.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSsoRequest {
    /// The provider's issuer identifier, as its discovery document names it: `https://…`.
    pub issuer: String,
    /// Our name at the provider.
    pub client_id: String,
    /// Our secret at the provider. Absent: the one of before, if issuer and client stay the same.
    #[serde(default)]
    pub client_secret: Option<String>,
    /// The claim that lists a person's groups.
    #[serde(default = "groups")]
    pub groups_claim: String,
    /// What those groups mean here.
    #[serde(default)]
    pub group_rules: Vec<GroupRule>,
    /// Whether people whom the provider knows become members at their first sign-in. Else they are
    /// invited first.
    #[serde(default = "yes")]
    pub create_members: bool,
    /// Whether members who are no owners reach the org only by sessions that the provider vouched for.
    #[serde(default)]
    pub required: bool,
    /// Take addresses without the claim `email_verified`. Only for a provider that sends none, and whose
    /// users cannot choose their own address.
    #[serde(default)]
    pub trust_email: bool,
}

/// What a group of the provider means in the org.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRule {
    /// The group as the provider names it.
    pub group: String,
    /// The role of its people; the highest of all their groups counts. Owners are made by owners alone.
    #[serde(default)]
    pub role: Option<Role>,
    /// The group of the policy that its people are in, without `group:`. The policy has to declare it.
    #[serde(default)]
    pub policy_group: Option<String>,
}

/// `GET /api/orgs/{org}/sso`
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct SsoSettings {
    /// As in [`PutSsoRequest`].
    pub issuer: String,
    /// As in [`PutSsoRequest`]. The secret is not shown.
    pub client_id: String,
    /// As in [`PutSsoRequest`].
    pub groups_claim: String,
    /// As in [`PutSsoRequest`].
    pub group_rules: Vec<GroupRule>,
    /// As in [`PutSsoRequest`].
    pub create_members: bool,
    /// As in [`PutSsoRequest`].
    pub required: bool,
    /// As in [`PutSsoRequest`].
    pub trust_email: bool,
    /// The redirect URI to register at the provider.
    pub redirect_uri: String,
    /// When this was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// `POST /api/orgs/{org}/sso/domains`. Answer: [`SsoDomain`].
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddDomainRequest {
    /// What addresses have after the `@`.
    pub domain: String,
}

/// An entry of `GET /api/orgs/{org}/sso/domains`: a domain for whose addresses the org's provider may make
/// accounts. `POST …/domains/{domain}/prove` looks the record up; `DELETE …/domains/{domain}` gives the
/// domain up.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct SsoDomain {
    /// The domain.
    pub domain: String,
    /// The name of the TXT record that proves it.
    pub record_name: String,
    /// What that record has to hold.
    pub record_value: String,
    /// When the record was found. `None`: not yet.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub proved_at: Option<Timestamp>,
}

/// `GET /api/auth/identities`: whom a provider knows the caller by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct OwnIdentity {
    /// `google`, `github`, or the id of the org whose provider it is.
    pub provider: String,
    /// That org's name.
    pub org_name: Option<String>,
    /// That provider's issuer.
    pub issuer: Option<String>,
    /// The provider's own name for the person.
    pub subject: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub linked_at: Timestamp,
}

/// `POST /api/auth/identities/unlink`: a provider knows the caller no more.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnlinkRequest {
    /// As the list names it.
    pub provider: String,
    /// As the list names it.
    pub subject: String,
    /// The account's password.
    pub password: String,
    /// A code of the authenticator, or a backup code, if the account has a second factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp_code: Option<String>,
}

/// `GET /api/auth/ways`: how people sign in at this deployment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct SignInWays {
    /// Whether anybody may make an account with a password.
    pub sign_up: bool,
    /// Whether letters are sent: new addresses have to be confirmed, and forgotten passwords can be replaced.
    pub mail: bool,
    /// The deployment's own providers.
    pub providers: Vec<SignInProvider>,
}

/// A provider that everybody may sign in by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct SignInProvider {
    /// `google` or `github`.
    pub id: String,
    /// As people call it.
    pub name: String,
    /// What the browser opens, with `return_to` added.
    pub start: String,
}

/// `GET /api/auth/sso?hint=…`: whether an address, or an org's label, leads to an org's own provider. Of an address the
/// domain alone counts, so that nothing is told of accounts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct SsoDiscovery {
    /// What the browser opens, with `&return_to=` added. `None`: no org with a sign-in of its own is known by that.
    pub start: Option<String>,
}
