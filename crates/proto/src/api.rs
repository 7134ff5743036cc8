//! Requests and answers of the HTTP API, in the order of a machine's and a person's life.
//!
//! Every answer is wrapped in [`crate::error::Envelope`]. Times are RFC 3339.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::connections::TunnelMix;
use crate::ids::{ApiKeyId, AuthKeyId, InvitationId, MachineId, OrgId, RegionId, UserId};
use crate::keys::{KemPublicKey, WgPublicKey};
use crate::machines::MachineLife;
use crate::netmap::VolatileReport;
use crate::posture::{PostureReport, PostureStanding};
use crate::tokens::{ApiKey, AuthKey, InvitationToken, MachineToken};

/// Shortest password, in characters (NIST SP 800-63B §5.1.1.2 asks for 8; we ask for more).
pub const MIN_PASSWORD: usize = 12;
/// Longest password, in bytes: a bound on what Argon2id is fed.
pub const MAX_PASSWORD: usize = 512;
/// Longest name of an org, in characters.
pub const MAX_ORG_NAME: usize = 64;
/// Longest machine name: one DNS label (RFC 1035 §2.3.4).
pub const MAX_MACHINE_NAME: usize = 63;
/// Longest description of an auth key, in characters.
pub const MAX_DESCRIPTION: usize = 255;
/// Auth keys live at least 5 minutes …
pub const MIN_AUTH_KEY_SECONDS: u64 = 5 * 60;
/// … at most 90 days …
pub const MAX_AUTH_KEY_SECONDS: u64 = 90 * 24 * 60 * 60;
/// … and an hour if nothing is said.
pub const DEFAULT_AUTH_KEY_SECONDS: u64 = 60 * 60;
/// Registrations that a reusable auth key admits, if nothing is said …
pub const DEFAULT_AUTH_KEY_USES: u64 = 1000;
/// … and at most.
pub const MAX_AUTH_KEY_USES: u64 = 100_000;
/// API keys live a year at most.
pub const MAX_API_KEY_DAYS: u16 = 365;
/// Most scopes of an API key.
pub const MAX_SCOPES: usize = 32;
/// Seconds between two heartbeats of a machine.
pub const HEARTBEAT_SECONDS: u64 = 60;
/// Seconds of silence after which a machine counts as offline.
pub const OFFLINE_AFTER_SECONDS: u64 = 180;

// ── People ───────────────────────────────────────────────────────────────────────────────────

/// `POST /api/auth/signup`
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignupRequest {
    /// E-mail address: the account's name.
    pub email: String,
    /// [`MIN_PASSWORD`] to [`MAX_PASSWORD`].
    pub password: String,
    /// Of an invitation for this address: the account needs no confirmation, as the invitation was sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<InvitationToken>,
}

/// `POST /api/auth/login`
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// E-mail address.
    pub email: String,
    /// Password.
    pub password: String,
    /// Code of the authenticator, or a backup code, for an account with a second factor.
    #[serde(default)]
    pub totp_code: Option<String>,
}

/// `POST /api/auth/refresh` and `/logout`, for clients without cookies.
#[derive(Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// The refresh token. Absent: the `__Host-` cookie's.
    #[serde(default)]
    pub refresh_token: Option<String>,
}

/// A human session: answer to login, refresh and the CLI's code exchange.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct Session {
    /// ES256 JWT, 15 minutes.
    pub access_token: String,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// Single use, 30 days, rotated at each refresh.
    pub refresh_token: String,
}

/// `POST /api/auth`: calls with an `action`.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum AuthAction {
    /// A signed-in browser asks for a one-time code for the CLI that opened it. Answer: [`CliCode`].
    CliComplete {
        /// base64url(SHA-256(verifier)), as in PKCE (RFC 7636 §4.2, S256).
        challenge: String,
    },
    /// The CLI turns the code into a session. Answer: [`Session`].
    CliExchange {
        /// The one-time code.
        code: String,
        /// The verifier that the challenge was made of.
        verifier: String,
    },
}

/// `GET`, in a browser: signs a person in for the `ztna login` that opened it. Query:
/// `challenge` (as in [`AuthAction::CliComplete`]), `port` and `state`. Once the person has signed in
/// the browser is sent to `http://127.0.0.1:{port}/callback?code={code}&state={state}`, where the CLI
/// waits (RFC 8252 §7.3); `state` comes back as it was (RFC 6749 §10.12). To no other host.
pub const CLI_LOGIN_PATH: &str = "/cli-login";

/// A one-time code for the CLI, good for 2 minutes.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct CliCode {
    /// The code.
    pub code: String,
}

/// `GET /api/auth/me`
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Me {
    /// The account.
    pub id: UserId,
    /// Its e-mail address.
    pub email: String,
    /// Whether sign-in asks for a second factor.
    #[serde(default)]
    pub mfa: bool,
    /// The orgs that it is a member of.
    pub orgs: Vec<OrgMembership>,
}

/// A role in an org.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, the org's end included.
    Owner,
    /// Everything but what concerns owners.
    Admin,
    /// Reads everything, changes nothing.
    Auditor,
    /// Own machines.
    Member,
}

/// An org as one of its members sees it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct OrgMembership {
    /// The org.
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// Its label in DNS names.
    pub slug: String,
    /// The caller's role in it.
    pub role: Role,
}

// ── Orgs ─────────────────────────────────────────────────────────────────────────────────────

/// `POST /api/orgs`. Answer: [`OrgMembership`].
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOrgRequest {
    /// 1 to [`MAX_ORG_NAME`] characters.
    pub name: String,
}

/// An entry of `GET /api/orgs/{org}/members`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Member {
    /// The account.
    pub user: UserId,
    /// Its e-mail address.
    pub email: String,
    /// Its role.
    pub role: Role,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub joined_at: Timestamp,
}

/// `PATCH /api/orgs/{org}/members/{user}`. Answer: [`Member`]. `DELETE` of the same path removes the
/// member.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateMemberRequest {
    /// The new role.
    pub role: Role,
}

/// `GET`, in a browser: where an invitation leads. Query: `token`.
pub const ACCEPT_INVITATION_PATH: &str = "/accept-invitation";

/// `POST /api/orgs/{org}/invitations`. Answer: [`Invited`].
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// E-mail address of who is to come.
    pub email: String,
    /// The role that they get.
    pub role: Role,
}

/// An invitation that was made.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct Invited {
    /// What is kept of it.
    pub invitation: InvitationInfo,
    /// Its token, where no mail is sent: to be handed on to whom it is for.
    #[schema(value_type = Option<String>)]
    pub token: Option<InvitationToken>,
}

/// An entry of `GET /api/orgs/{org}/invitations`. `DELETE …/invitations/{id}` withdraws it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct InvitationInfo {
    /// The invitation.
    pub id: InvitationId,
    /// Whom it is for.
    pub email: String,
    /// The role that they get.
    pub role: Role,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// `POST /api/invitations/preview`: what an invitation is about, for who holds its token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct InvitationPreview {
    /// The org that invites.
    pub org_name: String,
    /// The role that it gives.
    pub role: Role,
    /// Whom it is for.
    pub email: String,
    /// E-mail of who has invited. `None`: no member any more.
    pub inviter: Option<String>,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// `POST /api/accept-invitation`, as a person with the invited address. Answer: [`OrgMembership`].
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptInvitationRequest {
    /// The invitation's token.
    pub token: InvitationToken,
}

// ── API keys ─────────────────────────────────────────────────────────────────────────────────

/// `POST /api/orgs/{org}/api-keys`. Answer: [`CreatedApiKey`].
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKeyRequest {
    /// `read`, `write` (which includes reading), or one of them for an area of the API, as in
    /// `machines:read`. Areas: `auth-keys`, `machines`, `members`, `policy`, `posture`,
    /// `relays`, `settings`.
    pub scopes: Vec<String>,
    /// Lifetime, 1 to [`MAX_API_KEY_DAYS`].
    pub expires_in_days: u16,
    /// For people, at most [`MAX_DESCRIPTION`] characters.
    #[serde(default)]
    pub description: String,
}

/// A new API key, shown this once.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct CreatedApiKey {
    /// The key itself.
    pub key: ApiKey,
    /// What is kept of it.
    pub info: ApiKeyInfo,
}

/// An entry of `GET /api/orgs/{org}/api-keys`. `DELETE …/api-keys/{id}` revokes it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ApiKeyInfo {
    /// The key's id.
    pub id: ApiKeyId,
    /// For people.
    pub description: String,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// For whom it acts.
    pub created_by: UserId,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, to a minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

// ── Auth keys ────────────────────────────────────────────────────────────────────────────────

/// `POST /api/orgs/{org}/auth-keys`. Answer: [`CreatedAuthKey`].
#[derive(Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAuthKeyRequest {
    /// Enrols machines until it expires or has been used `max_uses` times; else exactly one.
    #[serde(default)]
    pub reusable: bool,
    /// Registrations that a reusable key admits, 1 to [`MAX_AUTH_KEY_USES`]; else
    /// [`DEFAULT_AUTH_KEY_USES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_uses: Option<u64>,
    /// Lifetime, [`MIN_AUTH_KEY_SECONDS`] to [`MAX_AUTH_KEY_SECONDS`]; else
    /// [`DEFAULT_AUTH_KEY_SECONDS`].
    #[serde(default)]
    pub expires_in: Option<u64>,
    /// For people, at most [`MAX_DESCRIPTION`] characters.
    #[serde(default)]
    pub description: String,
    /// Tags of the machines that it enrols, as in `tag:web`: names of the policy's `tagOwners`. Such
    /// machines belong to no user, and their sign-in does not end.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Its machines are deleted once they have been silent for a while.
    #[serde(default)]
    pub ephemeral: bool,
    /// Its machines need no approval.
    #[serde(default)]
    pub preapproved: bool,
}

/// A new auth key, shown this once.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct CreatedAuthKey {
    /// The key itself.
    pub key: AuthKey,
    /// What is kept of it.
    pub info: AuthKeyInfo,
}

/// An entry of `GET /api/orgs/{org}/auth-keys`. `DELETE …/auth-keys/{id}` revokes it; with
/// `?quarantine=true` the machines that it has enrolled are quarantined too.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AuthKeyInfo {
    /// The key's id.
    pub id: AuthKeyId,
    /// For people.
    pub description: String,
    /// Whether it enrols more than one machine.
    pub reusable: bool,
    /// Registrations made with it.
    pub uses: u64,
    /// How many it admits. `None`: made before there was a bound.
    pub max_uses: Option<u64>,
    /// Tags of its machines.
    pub tags: Vec<String>,
    /// Whether its machines are deleted once they have been silent for a while.
    pub ephemeral: bool,
    /// Whether its machines need no approval.
    pub preapproved: bool,
    /// E-mail of the member who made it. `None`: no member any more.
    pub created_by: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

// ── Machines ─────────────────────────────────────────────────────────────────────────────────

/// `POST /api/register-machine`, bearer: an auth key or a user's access token.
///
/// The same WireGuard key with the machine token that it was given registers the same machine
/// again: id and addresses stay. Without that token it is a `REGISTRATION_CONFLICT`.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// Wanted name: one DNS label. If taken, the control plane appends a number.
    pub name: String,
    /// Operating system and architecture, as in `linux-x86_64`.
    pub os: String,
    /// The agent's version.
    pub agent_version: String,
    /// WireGuard public key.
    pub wg_key: WgPublicKey,
    /// ML-KEM-768 encapsulation key (the seed's `pqc_pubkey`).
    pub kem_key: KemPublicKey,
    /// The machine token of the registration before, to register the same machine again.
    #[serde(default)]
    pub node_key: Option<MachineToken>,
    /// The org to join, for a user token of a member of several orgs. Auth keys know theirs.
    #[serde(default)]
    pub org: Option<OrgId>,
}

/// Answer to a registration.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct Registered {
    /// The machine's id.
    pub machine_id: MachineId,
    /// The machine token, shown this once.
    pub node_key: MachineToken,
    /// The machine's org.
    pub org: OrgId,
    /// The org's name.
    pub org_name: String,
    /// The name that it got.
    pub name: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// Tailnet address, IPv4.
    #[schema(value_type = String, format = Ipv4)]
    pub ipv4: Ipv4Addr,
    /// Tailnet address, IPv6.
    #[schema(value_type = String, format = Ipv6)]
    pub ipv6: Ipv6Addr,
    /// When the machine must sign in again. `None`: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub key_expires_at: Option<Timestamp>,
}

/// `POST /api/machine-heartbeat`, bearer: machine token. Every [`HEARTBEAT_SECONDS`].
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct HeartbeatRequest {
    /// The agent's version.
    pub agent_version: String,
    /// The volatile state, for the case that the stream is down.
    pub report: VolatileReport,
    /// The machine's health, when it is due ([`PostureReport`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posture: Option<PostureReport>,
}

/// Answer to a heartbeat.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct HeartbeatAnswer {
    /// The control plane's clock.
    #[schema(value_type = String, format = DateTime)]
    pub server_time: Timestamp,
    /// A fresh relay ticket ([`crate::ticket`]). `None`: the machine is not in the network.
    pub relay_ticket: Option<String>,
}

/// `POST /api/machine-wiped`, bearer: machine token, by a machine that has erased its keys and its state
/// as it was told. The token ends with it.
pub const WIPED_PATH: &str = "/api/machine-wiped";

/// `GET /api/kem-keys/{hash}`, bearer: machine token. Only keys of peers in the caller's netmap.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct KemKeyAnswer {
    /// The key; the caller checks it against the hash it asked for.
    pub kem_key: KemPublicKey,
}

/// An entry of `GET /api/orgs/{org}/machines`; one alone: `GET /api/orgs/{org}/machines/{machine}`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Machine {
    /// The machine's id.
    pub id: MachineId,
    /// Its name.
    pub name: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// Operating system and architecture.
    pub os: String,
    /// The agent's version.
    pub agent_version: String,
    /// WireGuard public key.
    pub wg_key: WgPublicKey,
    /// Tailnet address, IPv4.
    #[schema(value_type = String, format = Ipv4)]
    pub ipv4: Ipv4Addr,
    /// Tailnet address, IPv6.
    #[schema(value_type = String, format = Ipv6)]
    pub ipv6: Ipv6Addr,
    /// E-mail of the user whose it is. `None`: an auth key enrolled it, or it has tags.
    pub user: Option<String>,
    /// State, tags and the like.
    #[serde(flatten)]
    pub life: MachineLife,
    /// How it stands with the org's posture policies.
    pub posture: PostureStanding,
    /// Whether it is connected.
    pub online: bool,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen: Option<Timestamp>,
    /// The relay region that it is reached by, as it has last told.
    #[serde(default)]
    pub home_region: Option<RegionId>,
    /// Its tunnels, where machines are listed or shown. `None`: it has not told of any lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnels: Option<TunnelMix>,
    /// When it was enrolled.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it must sign in again. `None`: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub key_expires_at: Option<Timestamp>,
}

/// `PATCH /api/orgs/{org}/machines/{machine}`; what is not named stays. `DELETE` of the same path deletes
/// it.
#[derive(Clone, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateMachineRequest {
    /// A new name: one DNS label, free in the org.
    #[serde(default)]
    pub name: Option<String>,
    /// When the machine must sign in again. A time in the past expires it now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub key_expires_at: Option<Timestamp>,
    /// Whether its sign-in ends by time. Switched on, it ends after what the org's settings say.
    #[serde(default)]
    pub key_expiry: Option<bool>,
    /// All its tags, as in `tag:web`: names of the policy's `tagOwners`. Owners and admins may give
    /// any; a member may give tags that `tagOwners` lists them for to machines of their own, which are
    /// theirs no longer then.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
}

/// Where the auth key goes in [`JoinLine::auth_key`].
pub const AUTH_KEY_PLACE: &str = "YOUR_KEY";

/// `GET /api/join`: what a machine has to know of this deployment to join it. None of it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct JoinInfo {
    /// The control plane's address.
    pub server: String,
    /// The pin of its certificate, `sha256:…`. `None`: the certificate is one of a public authority, or a proxy's.
    pub pin: Option<String>,
    /// The control plane's version.
    pub version: String,
    /// What to type, for each system.
    pub lines: Vec<JoinLine>,
}

/// What joins a machine, as lines for a shell of its person; on Windows for a PowerShell of an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct JoinLine {
    /// `linux`, `macos` or `windows`.
    pub os: String,
    /// Signs a person in by browser and joins the machine as theirs.
    pub login: String,
    /// Joins it without one, by an auth key in place of [`AUTH_KEY_PLACE`].
    pub auth_key: String,
    /// Whether the lines install the program first. If not, it has to be there.
    pub installs: bool,
}

/// `GET /health`
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Health {
    /// `ok`; `degraded: …` if it serves with less; else what is wrong.
    pub status: String,
    /// The build's version.
    pub version: String,
}
