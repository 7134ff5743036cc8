//! The life of a machine: its states, and what changes them.

use std::fmt;

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::AuthKeyId;
use crate::netmap::PqMode;

/// Most tags of a machine or an auth key.
pub const MAX_TAGS: usize = 32;
/// Longest reason that is given for an action, in characters.
pub const MAX_REASON: usize = 255;
/// Seconds of silence after which an ephemeral machine is deleted. Much longer than it takes to
/// restart a machine, or a control plane.
pub const EPHEMERAL_SILENCE_SECONDS: u64 = 30 * 60;
/// Days after which a machine has to sign in again: at least …
pub const MIN_KEY_EXPIRY_DAYS: u16 = 1;
/// … and at most.
pub const MAX_KEY_EXPIRY_DAYS: u16 = 365;
/// Bits of the smallest IPv4 network that an org may choose: 14 machines.
pub const MAX_IPV4_NETWORK_BITS: u8 = 28;

/// How a machine stands. Where several hold, the first of `Disabled`, `Locked`, `Expired`, `Pending`
/// and `Quarantined` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// It waits for the approval of an admin: it is registered, and nobody sees it.
    Pending,
    /// In the network.
    Online,
    /// In the network, and silent.
    Offline,
    /// It reaches nobody but the control plane, until it is released.
    Quarantined,
    /// The control plane does not serve it, until it is enabled.
    Disabled,
    /// Its tunnel is closed, and its sign-in cannot be renewed, until it is unlocked.
    Locked,
    /// Its sign-in is over.
    Expired,
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Quarantined => "quarantined",
            Self::Disabled => "disabled",
            Self::Locked => "locked",
            Self::Expired => "expired",
        })
    }
}

/// Why a machine that the control plane serves is not in the network. It has no peers then, and no
/// relay.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Hold {
    /// For programs.
    pub kind: HoldKind,
    /// For people: what holds it, and what to do next. One line.
    pub message: String,
}

/// What keeps a machine out of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// [`MachineState::Pending`]
    Pending,
    /// [`MachineState::Quarantined`]
    Quarantined,
    /// It is to erase its keys and its state, and to say so (`POST /api/machine-wiped`).
    Wipe,
    /// [`MachineState::Locked`], and anything that this build does not know.
    #[serde(other)]
    Locked,
}

/// `POST /api/orgs/{org}/machines/{machine}/actions`. Answer: [`crate::api::Machine`], as it is then.
///
/// Owners and admins do all of it. A member may `lock` a machine of their own, a lost one say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum MachineAction {
    /// Lets a pending machine into the network.
    Approve {},
    /// Deletes a pending machine. The answer tells how it was.
    Deny {},
    /// Cuts a machine off from its peers. It still talks to the control plane, and knows why.
    Quarantine {
        /// For people, the machine's among them; at most [`MAX_REASON`] characters.
        #[serde(default)]
        reason: String,
    },
    /// Ends a quarantine.
    Release {},
    /// Closes a machine's tunnel. It stays enrolled, and no sign-in opens it.
    Lock {
        /// As in `quarantine`.
        #[serde(default)]
        reason: String,
    },
    /// Opens a locked machine's tunnel again.
    Unlock {},
    /// Switches a machine off: the control plane refuses it.
    Disable {
        /// As in `quarantine`.
        #[serde(default)]
        reason: String,
    },
    /// Switches it on again.
    Enable {},
    /// Has the agent erase the machine's keys and state, now or when it comes back. The machine is out
    /// of the network at once, and cannot come back.
    Wipe {
        /// The machine's name, so that no other is wiped by mistake.
        confirm: String,
    },
}

/// How far a machine's wipe has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Wipe {
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub asked_at: Timestamp,
    /// When the machine said that it is done.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub done_at: Option<Timestamp>,
}

/// What has been decided of a machine; part of [`crate::api::Machine`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct MachineLife {
    /// How it stands.
    pub state: MachineState,
    /// Why, if somebody said so.
    pub reason: Option<String>,
    /// Its tags, as in `tag:web`. A machine with tags belongs to no user.
    pub tags: Vec<String>,
    /// Whether it is deleted after [`EPHEMERAL_SILENCE_SECONDS`] of silence.
    pub ephemeral: bool,
    /// Whether its sign-in ends by time. Never for a machine with tags.
    pub key_expiry: bool,
    /// The key that enrolled it.
    pub auth_key: Option<AuthKeyId>,
    /// Set if it is to be wiped.
    pub wipe: Option<Wipe>,
}

/// Most systems, and most tags, that a [`MachineFacets`] counts: those that the most machines have.
pub const MAX_FACETS: usize = 200;

/// `GET /api/orgs/{org}/machine-facets`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct MachineFacets {
    /// All machines.
    pub count: u64,
    /// Those that wait for approval.
    pub pending: u64,
    /// Operating systems without their architectures.
    pub systems: Vec<Facet>,
    /// Tags.
    pub tags: Vec<Facet>,
}

/// A value, and how many machines have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Facet {
    /// The value.
    pub value: String,
    /// How many.
    pub count: u64,
}

/// `GET /api/orgs/{org}/settings`, and the answer to `PATCH`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct OrgSettings {
    /// The org's name.
    pub name: String,
    /// Its label in the names of machines. Stays as it was made.
    pub slug: String,
    /// Whether new machines wait for an admin's approval. Those that are in stay in.
    pub machine_approval: bool,
    /// Days after which a machine has to sign in again, counted from its sign-in.
    pub key_expiry_days: u16,
    /// Whether nothing passes between the org's machines, whatever the policy says.
    pub lockdown: bool,
    /// What the org's tunnels demand. Those between two agents always have a key of the post-quantum handshake; under
    /// `preferred`, plain WireGuard devices, which have none up to their gateway, may come in as static peers.
    pub pq: PqMode,
    /// Where the IPv4 addresses of machines are from.
    #[schema(value_type = String)]
    pub ipv4_network: Ipv4Net,
    /// Where the IPv6 addresses of machines are from.
    #[schema(value_type = String)]
    pub ipv6_network: Ipv6Net,
}

/// `PATCH /api/orgs/{org}/settings`. What is not named stays.
#[derive(Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateOrgSettings {
    /// A new name: 1 to [`crate::api::MAX_ORG_NAME`] characters. Names of machines stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`OrgSettings`].
    #[serde(default)]
    pub machine_approval: Option<bool>,
    /// As in [`OrgSettings`]; [`MIN_KEY_EXPIRY_DAYS`] to [`MAX_KEY_EXPIRY_DAYS`]. Holds for sign-ins
    /// from then on.
    #[serde(default)]
    pub key_expiry_days: Option<u16>,
    /// As in [`OrgSettings`]. Connections that are open end, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockdown: Option<bool>,
    /// As in [`OrgSettings`]. `required` only once there are no static peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pq: Option<PqMode>,
    /// As in [`OrgSettings`]: a private or shared network (RFC 1918, RFC 6598) of at most [`MAX_IPV4_NETWORK_BITS`]
    /// bits. Only while no machine has an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ipv4_network: Option<Ipv4Net>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_one_object() {
        let action: MachineAction =
            serde_json::from_str(r#"{"action":"quarantine","reason":"malware"}"#).unwrap();
        let reason = "malware".to_owned();
        assert_eq!(action, MachineAction::Quarantine { reason });
        let bare: MachineAction = serde_json::from_str(r#"{"action":"approve"}"#).unwrap();
        assert_eq!(bare, MachineAction::Approve {});
        for bad in [
            r#"{"action":"approve","reason":"x"}"#,
            r#"{"action":"wipe"}"#,
            r#"{"action":"explode"}"#,
        ] {
            assert!(serde_json::from_str::<MachineAction>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hold_of_a_newer_control_plane_closes_the_tunnel() {
        let hold: Hold = serde_json::from_str(r#"{"kind":"frozen","message":"wait"}"#).unwrap();
        assert_eq!(hold.kind, HoldKind::Locked);
    }
}
