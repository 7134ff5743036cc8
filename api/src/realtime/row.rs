//! Rows of the audit log as listeners hear of them.

use std::collections::HashMap;
use std::sync::OnceLock;

use axum::extract::ws::Utf8Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use ztna_proto::api::Role;
use ztna_proto::audit::AuditEntry;
use ztna_proto::ids::{OrgId, UserId};
use ztna_proto::realtime::{Channel, RealtimeEvent, RealtimeMessage, RowChange};

use crate::audit;
use crate::db::Db;
use crate::http::ApiError;
use crate::orgs::Right;

/// Whose business rows of a kind are: as the calls that read the same things have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    channel: Channel,
    right: Right,
    /// A machine's; members see their own.
    of_machine: bool,
}

/// Where rows of an action belong. `None`: only into the audit log.
fn place(action: &str) -> Option<Place> {
    let (kind, _) = action.split_once('.')?;
    let (channel, right, of_machine) = match kind {
        "machine" | "static_peer" => (Channel::Machines, Right::Belong, true),
        "gateway" => (Channel::Machines, Right::Belong, false),
        "posture" => (Channel::Posture, Right::Belong, true),
        "posture_policy" => (Channel::Posture, Right::Read, false),
        "member" => (Channel::Members, Right::Belong, false),
        "invitation" => (Channel::Members, Right::Read, false),
        "auth_key" | "api_key" => (Channel::Keys, Right::Read, false),
        "dns" => (Channel::Dns, Right::Belong, false),
        "policy" => (Channel::Acl, Right::Read, false),
        "route" => (Channel::Routes, Right::Read, false),
        "relay_region" | "relay_node" => (Channel::Relays, Right::Belong, false),
        _ => return None,
    };
    Some(Place {
        channel,
        right,
        of_machine,
    })
}

/// Whether a role may hear of a channel at all.
pub(super) fn admits(channel: Channel, role: Role) -> bool {
    let right = match channel {
        Channel::Audit | Channel::Keys | Channel::Acl | Channel::Routes => Right::Read,
        Channel::Machines
        | Channel::Presence
        | Channel::Members
        | Channel::Posture
        | Channel::Dns
        | Channel::Relays => Right::Belong,
    };
    right.given_to(role)
}

/// Whether a row may have ended somebody's right to listen, or changed it.
fn shakes_rights(action: &str) -> bool {
    action == "session.end" || action.starts_with("member.") || action.starts_with("sso_provider.")
}

/// A row, for everybody who may hear of it. Each text is written once somebody is told it.
pub(super) struct Row {
    pub(super) seq: i64,
    /// Before this or anything later is told, rights are looked at again.
    pub(super) shakes_rights: bool,
    place: Option<Place>,
    /// Whose machine it is about.
    owners: Vec<UserId>,
    entry: AuditEntry,
    /// For who may read the audit log.
    full: OnceLock<Utf8Bytes>,
    /// For others: neither values nor who did it.
    brief: OnceLock<Utf8Bytes>,
    audit: OnceLock<Utf8Bytes>,
}

impl Row {
    /// What somebody who listens to these channels is told.
    pub(super) fn texts(
        &self,
        channels: impl Fn(Channel) -> bool,
        role: Role,
        user: UserId,
    ) -> serde_json::Result<Vec<Utf8Bytes>> {
        let reads = Right::Read.given_to(role);
        let mut texts = Vec::new();
        if let Some(place) = self.place.filter(|place| channels(place.channel)) {
            if reads {
                texts.push(once(&self.full, || self.event(place, true))?);
            } else if place.right.given_to(role)
                && (!place.of_machine || self.owners.contains(&user))
            {
                texts.push(once(&self.brief, || self.event(place, false))?);
            }
        }
        if reads && channels(Channel::Audit) {
            let row = || RealtimeMessage::Audit(self.entry.clone());
            texts.push(once(&self.audit, row)?);
        }
        Ok(texts)
    }

    fn event(&self, place: Place, with_values: bool) -> RealtimeMessage {
        let entry = &self.entry;
        let mut event = RealtimeEvent {
            channel: place.channel,
            event: change(&entry.action),
            seq: entry.seq,
            at: entry.at,
            action: entry.action.clone(),
            id: entry.target.id.clone(),
            name: entry.target.name.clone(),
            columns: columns(entry.after.as_deref().or(entry.before.as_deref())),
            actor: None,
            before: None,
            after: None,
        };
        if with_values {
            event.actor = Some(entry.actor.clone());
            event.before.clone_from(&entry.before);
            event.after.clone_from(&entry.after);
        }
        RealtimeMessage::Event(event)
    }

    fn new(entry: AuditEntry, owner: Option<UserId>) -> Self {
        let (was, is_now) = (About::read(&entry.before), About::read(&entry.after));
        let owners = [owner, was.user_id, is_now.user_id];
        Self {
            seq: entry.seq,
            shakes_rights: shakes_rights(&entry.action),
            place: place(&entry.action),
            owners: owners.into_iter().flatten().collect(),
            entry,
            full: OnceLock::new(),
            brief: OnceLock::new(),
            audit: OnceLock::new(),
        }
    }
}

/// A text that is written by the first who needs it.
fn once(
    written: &OnceLock<Utf8Bytes>,
    message: impl FnOnce() -> RealtimeMessage,
) -> serde_json::Result<Utf8Bytes> {
    match written.get() {
        Some(text) => Ok(text.clone()),
        None => {
            let text = text(&message())?;
            Ok(written.get_or_init(|| text).clone())
        }
    }
}

/// What values of a row tell of whose it is.
#[derive(Default, Deserialize)]
struct About {
    #[serde(default)]
    user_id: Option<UserId>,
}

impl About {
    fn read(values: &Option<Box<RawValue>>) -> Self {
        let values = values.as_ref();
        values
            .and_then(|values| serde_json::from_str(values.get()).ok())
            .unwrap_or_default()
    }
}

/// The names of a row's columns, sorted.
fn columns(values: Option<&RawValue>) -> Vec<String> {
    let values = values.and_then(|values| {
        serde_json::from_str::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(
            values.get(),
        )
        .ok()
    });
    values.unwrap_or_default().into_keys().collect()
}

fn change(action: &str) -> RowChange {
    match action.rsplit('.').next() {
        Some("create" | "save") => RowChange::Insert,
        Some("delete") => RowChange::Delete,
        _ => RowChange::Update,
    }
}

/// A message as it is sent.
pub(super) fn text(message: &RealtimeMessage) -> serde_json::Result<Utf8Bytes> {
    serde_json::to_string(message).map(Utf8Bytes::from)
}

/// The rows of an org's log with `above < seq < below`, the oldest first, at most `limit`.
pub(super) async fn read(
    db: &Db,
    org: OrgId,
    above: i64,
    below: i64,
    limit: i64,
) -> Result<Vec<Row>, ApiError> {
    let mut connection = db.connect().await?;
    let tx = connection.org_snapshot(org).await?;
    let entries = audit::between(&tx, org, above, below, limit).await?;
    let machines: Vec<Uuid> = entries
        .iter()
        .filter(|entry| place(&entry.action).is_some_and(|place| place.of_machine))
        .filter_map(|entry| entry.target.id.as_deref()?.parse().ok())
        .collect();
    let mut owners: HashMap<String, UserId> = match machines.is_empty() {
        true => HashMap::new(),
        false => {
            let rows = tx
                .query(
                    "SELECT id, user_id FROM machines
                     WHERE org_id = $1 AND id = ANY ($2) AND user_id IS NOT NULL",
                    &[&org.0, &machines],
                )
                .await?;
            let owner =
                |row: &tokio_postgres::Row| (row.get::<_, Uuid>(0).to_string(), UserId(row.get(1)));
            rows.iter().map(owner).collect()
        }
    };
    drop(tx);
    // Of a machine that is gone by now, its end tells whose it was.
    for entry in &entries {
        if let (Some(id), Some(user)) = (&entry.target.id, About::read(&entry.before).user_id)
            && place(&entry.action).is_some_and(|place| place.of_machine)
        {
            owners.entry(id.clone()).or_insert(user);
        }
    }
    let row = |entry: AuditEntry| {
        let owner = entry.target.id.as_ref().and_then(|id| owners.get(id));
        let owner = owner.copied();
        Row::new(entry, owner)
    };
    Ok(entries.into_iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use ztna_proto::audit::{AuditActor, AuditActorKind, AuditTarget};

    use super::*;

    fn row(action: &str, after: &str, owner: Option<UserId>) -> Row {
        let entry = AuditEntry {
            seq: 7,
            at: Timestamp::UNIX_EPOCH,
            actor: AuditActor {
                kind: AuditActorKind::System,
                id: None,
                on_behalf_of: None,
                name: Some("who did it".to_owned()),
            },
            action: action.to_owned(),
            target: AuditTarget {
                id: Some("x".to_owned()),
                name: None,
            },
            before: None,
            after: Some(RawValue::from_string(after.to_owned()).unwrap()),
            ip: None,
            client: None,
            route: None,
            request_id: None,
            hash: String::new(),
        };
        Row::new(entry, owner)
    }

    fn heard(row: &Row, role: Role, user: UserId) -> Vec<String> {
        let texts = row.texts(|channel| admits(channel, role), role, user);
        let texts = texts.unwrap();
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn members_hear_of_their_own_machines_without_values() {
        let (owner, other) = (UserId::generate(), UserId::generate());
        let row = row(
            "machine.update",
            r#"{"locked":"secret reason"}"#,
            Some(owner),
        );
        assert_eq!(heard(&row, Role::Member, other), Vec::<String>::new());
        let told = heard(&row, Role::Member, owner);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(r#""columns":["locked"]"#), "{told:?}");
        assert!(!told[0].contains("secret reason") && !told[0].contains("who did it"));
        for role in [Role::Owner, Role::Admin, Role::Auditor] {
            let told = heard(&row, role, other);
            assert_eq!(told.len(), 2, "the event, and the row of the audit log");
            assert!(told.iter().all(|text| text.contains("secret reason")));
        }
    }

    #[test]
    fn a_machine_that_was_theirs_a_moment_ago_is_still_told_of() {
        let (before, now) = (UserId::generate(), UserId::generate());
        let row = row(
            "machine.delete",
            &format!(r#"{{"user_id":"{before}","name":"x"}}"#),
            Some(now),
        );
        assert_eq!(heard(&row, Role::Member, before).len(), 1);
        assert_eq!(heard(&row, Role::Member, now).len(), 1);
    }

    #[test]
    fn only_what_is_told_is_written() {
        let owner = UserId::generate();
        let row = row("machine.update", "{}", Some(owner));
        let written = || [&row.full, &row.brief, &row.audit].map(|text| text.get().is_some());
        assert_eq!(heard(&row, Role::Member, UserId::generate()).len(), 0);
        assert_eq!(written(), [false; 3]);
        heard(&row, Role::Member, owner);
        assert_eq!(written(), [false, true, false]);
        let events = row.texts(|channel| channel == Channel::Machines, Role::Admin, owner);
        assert_eq!(events.unwrap().len(), 1);
        assert_eq!(written(), [true, true, false]);
    }

    #[test]
    fn members_hear_nothing_of_what_they_may_not_read() {
        let user = UserId::generate();
        let hidden = [
            "auth_key.create",
            "api_key.revoke",
            "policy.save",
            "route.update",
            "invitation.create",
            "posture_policy.update",
            "session.sign_in",
            "sso_provider.update",
        ];
        for action in hidden {
            let row = row(action, &format!(r#"{{"user_id":"{user}"}}"#), Some(user));
            assert_eq!(
                heard(&row, Role::Member, user),
                Vec::<String>::new(),
                "{action}"
            );
            assert!(!heard(&row, Role::Auditor, user).is_empty(), "{action}");
        }
        for action in ["member.update", "dns.create", "relay_node.delete"] {
            let row = row(action, "{}", None);
            assert_eq!(heard(&row, Role::Member, user).len(), 1, "{action}");
        }
    }

    #[test]
    fn what_ends_rights_is_known() {
        for action in [
            "session.end",
            "member.delete",
            "member.update",
            "sso_provider.update",
        ] {
            assert!(row(action, "{}", None).shakes_rights, "{action}");
        }
        assert!(!row("session.sign_in", "{}", None).shakes_rights);
    }
}
