//! `GET /api/realtime`: what a dashboard hears as it happens.
//!
//! A WebSocket, one JSON object per text frame. The browser opens it with the subprotocols
//! [`REALTIME_PROTOCOL`] and [`ACCESS_TOKEN_PROTOCOL`] + access token: a token in an address would stand in
//! logs. Then it subscribes, reads what it shows by the ordinary calls, and applies what comes.
//!
//! Every event but those of [`Channel::Presence`] is a row of the org's audit log and bears its `seq`, which has no
//! gaps. Who comes back names the last one that it saw (`since`) and gets what it missed, or `resync`:
//! read everything anew.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::audit::{AuditActor, AuditEntry};
use crate::error::ErrorBody;
use crate::ids::MachineId;

/// The subprotocol of the connection.
pub const REALTIME_PROTOCOL: &str = "ztna.realtime";
/// What the subprotocol begins with that carries the access token.
pub const ACCESS_TOKEN_PROTOCOL: &str = "access_token.";
/// The server pings this often.
pub const REALTIME_PING_SECONDS: u64 = 30;
/// A connection that is silent for so long is closed.
pub const REALTIME_SILENCE_SECONDS: u64 = 90;
/// Connections of an org, to all nodes together while they share a key-value store.
pub const MAX_REALTIME_CONNECTIONS: usize = 200;
/// Those of them that one person may have at one node.
pub const MAX_REALTIME_OF_PERSON: usize = 25;
/// Largest message of a client, in bytes.
pub const MAX_REALTIME_MESSAGE: usize = 4096;
/// Messages that a client may send in a minute.
pub const MAX_REALTIME_MESSAGES: u32 = 60;
/// Rows that are told again to who missed them. Who missed more, or takes more than 30 seconds to hear them,
/// is told to read everything anew.
pub const MAX_REALTIME_MISSED: i64 = 1000;

/// What one may hear of.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Machines. Members hear of their own.
    Machines,
    /// Which machines are there. Members hear of their own.
    Presence,
    /// Members, and invitations for those who may read them.
    Members,
    /// The audit log, whole rows. For owners, admins and auditors.
    Audit,
    /// Auth keys and API keys. For owners, admins and auditors.
    Keys,
    /// What posture policies say of machines (members: of their own), and the policies for who may read them.
    Posture,
    /// DNS settings.
    Dns,
    /// The policy. For owners, admins and auditors.
    Acl,
    /// Networks behind machines. For owners, admins and auditors.
    Routes,
    /// The org's own relays.
    Relays,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Machines,
        Self::Presence,
        Self::Members,
        Self::Audit,
        Self::Keys,
        Self::Posture,
        Self::Dns,
        Self::Acl,
        Self::Routes,
        Self::Relays,
    ];
}

/// What a client says.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RealtimeRequest {
    /// Tell me of these channels too.
    Subscribe {
        /// Which.
        #[schema(max_items = 10)]
        channels: Vec<Channel>,
        /// The last `seq` that the client saw: it gets what came after, first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<i64>,
    },
    /// No more of these.
    Unsubscribe {
        /// Which.
        #[schema(max_items = 10)]
        channels: Vec<Channel>,
    },
    /// A fresh access token of the same person, before the one at hand ends.
    Token {
        /// The token.
        token: String,
    },
    /// Something of a newer version.
    #[serde(other)]
    Unknown,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RowChange {
    /// It was made.
    Insert,
    /// It is different.
    Update,
    /// It is gone.
    Delete,
}

/// A change.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct RealtimeEvent {
    /// Where it belongs.
    pub channel: Channel,
    /// What became of the row.
    pub event: RowChange,
    /// Number of the row in the audit log.
    pub seq: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What was done, as in `machine.update`.
    pub action: String,
    /// Id of the row, as the audit log names it.
    pub id: Option<String>,
    /// Its name, address or description.
    pub name: Option<String>,
    /// Columns that have changed, or that the row has.
    pub columns: Vec<String>,
    /// Who did it. For those who may read the audit log, like the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<AuditActor>,
    /// Values before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<Box<RawValue>>,
    /// Values after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<Box<RawValue>>,
}

/// What the server says: `{"type": …, "body": …}`.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum RealtimeMessage {
    /// The channels that the client hears now. Sent whenever they change, also because its role did.
    Subscribed {
        /// Which.
        channels: Vec<Channel>,
        /// Asked for, and not for the caller's role.
        refused: Vec<Channel>,
        /// Events up to this one the client has missed, unless it is told of them next.
        seq: i64,
    },
    /// A change.
    Event(RealtimeEvent),
    /// A row of the audit log.
    Audit(AuditEntry),
    /// A machine came or went.
    Presence {
        /// Which.
        machine: MachineId,
        /// Whether it is there.
        online: bool,
    },
    /// Something of these channels was missed: read it anew.
    Resync {
        /// Which.
        channels: Vec<Channel>,
        /// What comes next is after this.
        seq: i64,
    },
    /// The new token is taken.
    TokenTaken {
        /// When it ends, and the connection with it.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
    },
    /// The connection ends, and why.
    Error(ErrorBody),
}

/// Why the server closed the connection (RFC 6455 §7.4.2: 4000 and up are the application's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RealtimeClose {
    /// The server stops: come back at once, maybe to another node.
    GoingAway = 1001,
    /// The server cannot tell right now whether the client may still listen: come back in a moment.
    TryAgain = 1013,
    /// The client was silent for 90 seconds.
    Silent = 4000,
    /// The access token ended: come back with a fresh one.
    TokenEnded = 4001,
    /// The client said what cannot be understood, or too much.
    Misspoken = 4002,
    /// The session was ended, or the person may not see the org any more: do not come back.
    NotAllowed = 4003,
    /// The org, or the person, has as many connections as it may: ask by the ordinary calls.
    TooMany = 4029,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_objects_with_a_type() {
        let ask: RealtimeRequest =
            serde_json::from_str(r#"{"type":"subscribe","channels":["machines"]}"#).unwrap();
        assert!(
            matches!(ask, RealtimeRequest::Subscribe { channels, since: None } if channels == [Channel::Machines])
        );
        let later: RealtimeRequest =
            serde_json::from_str(r#"{"type":"from the future","x":1}"#).unwrap();
        assert!(matches!(later, RealtimeRequest::Unknown));
        let event = RealtimeMessage::Event(RealtimeEvent {
            channel: Channel::Dns,
            event: RowChange::Insert,
            seq: 7,
            at: Timestamp::UNIX_EPOCH,
            action: "dns.create".to_owned(),
            id: None,
            name: None,
            columns: vec!["settings".to_owned()],
            actor: None,
            before: None,
            after: Some(RawValue::from_string("{\"a\":1}".to_owned()).unwrap()),
        });
        let text = serde_json::to_string(&event).unwrap();
        let read: RealtimeMessage = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert_eq!(
            text,
            r#"{"type":"event","body":{"channel":"dns","event":"INSERT","seq":7,"at":"1970-01-01T00:00:00Z","action":"dns.create","id":null,"name":null,"columns":["settings"],"after":{"a":1}}}"#
        );
    }

    #[test]
    fn all_channels_are_listed_once() {
        let names: std::collections::BTreeSet<String> = Channel::ALL
            .iter()
            .map(|channel| serde_json::to_string(channel).unwrap())
            .collect();
        assert_eq!(names.len(), Channel::ALL.len());
    }
}
