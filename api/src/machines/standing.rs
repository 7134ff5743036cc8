//! How a machine stands: what was decided of it, and what follows from that.

use jiff::Timestamp;
use tokio_postgres::Row;
use ztna_proto::error::ErrorCode;
use ztna_proto::machines::{Hold, HoldKind, MachineState, Wipe};

use crate::http::{ApiError, refuse};

/// What was decided of a machine. Each may hold beside the others, and is undone by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) approved: bool,
    /// A reason, or nothing said, if it is so; as in the next two.
    pub(crate) quarantined: Option<String>,
    pub(crate) locked: Option<String>,
    pub(crate) disabled: Option<String>,
    pub(crate) expired: bool,
    pub(crate) wipe: Option<Wipe>,
    /// Posture policies that it fails have it in quarantine, and which they are.
    pub(crate) posture: Option<String>,
    /// A static peer that no gateway carries.
    pub(crate) detached: bool,
}

impl Standing {
    /// The columns of a machine `m` that [`Standing::read`] reads.
    pub(crate) const COLUMNS: &str = "m.approved, m.quarantined, m.locked, m.disabled, m.expired,
        m.wipe_asked_at, m.wiped_at, m.posture_quarantine, m.detached";

    /// Reads the columns, which begin at `first`.
    pub(crate) fn read(row: &Row, first: usize) -> Self {
        let asked_at: Option<Timestamp> = row.get(first + 5);
        Self {
            approved: row.get(first),
            quarantined: row.get(first + 1),
            locked: row.get(first + 2),
            disabled: row.get(first + 3),
            expired: row.get(first + 4),
            wipe: asked_at.map(|asked_at| Wipe {
                asked_at,
                done_at: row.get(first + 6),
            }),
            posture: row.get(first + 7),
            detached: row.get(first + 8),
        }
    }

    /// The machine's state, if `online` tells whether it is there. The only place where this is decided.
    pub(crate) fn state(&self, online: bool) -> MachineState {
        if self.disabled.is_some() {
            return MachineState::Disabled;
        }
        if self.locked.is_some() || self.wipe.is_some() {
            return MachineState::Locked;
        }
        if self.expired {
            return MachineState::Expired;
        }
        if !self.approved {
            return MachineState::Pending;
        }
        if self.quarantined.is_some() || self.posture.is_some() {
            return MachineState::Quarantined;
        }
        match online && !self.detached {
            true => MachineState::Online,
            false => MachineState::Offline,
        }
    }

    /// Why the machine is in its state, if somebody said so.
    pub(crate) fn reason(&self) -> Option<&str> {
        let reason = match self.state(false) {
            MachineState::Disabled => &self.disabled,
            MachineState::Locked => &self.locked,
            MachineState::Quarantined if self.quarantined.is_none() => &self.posture,
            MachineState::Quarantined => &self.quarantined,
            _ => &None,
        };
        reason.as_deref().filter(|reason| !reason.is_empty())
    }

    /// Whether the machine is in the network.
    pub(crate) fn is_in(&self) -> bool {
        !self.detached
            && matches!(
                self.state(false),
                MachineState::Online | MachineState::Offline
            )
    }

    /// SQL for [`MachineState::Pending`] of a machine `m`, as [`Standing::state`] has it.
    pub(crate) const IS_PENDING: &str = "(NOT m.approved AND NOT m.expired AND m.locked IS NULL
        AND m.disabled IS NULL AND m.wipe_asked_at IS NULL)";
    /// SQL for [`Standing::is_held`] of a machine `m`.
    pub(crate) const IS_HELD: &str = "(m.quarantined IS NOT NULL OR m.locked IS NOT NULL
        OR m.disabled IS NOT NULL OR m.wipe_asked_at IS NOT NULL OR m.posture_quarantine IS NOT NULL)";
    /// The same without what posture policies do.
    pub(crate) const IS_HELD_BY_A_PERSON: &str =
        "(m.quarantined IS NOT NULL OR m.locked IS NOT NULL
        OR m.disabled IS NOT NULL OR m.wipe_asked_at IS NOT NULL)";

    /// Whether somebody, or a posture policy, keeps the machine out: what its user could undo by
    /// making another machine of it.
    pub(crate) fn is_held(&self) -> bool {
        self.quarantined.is_some()
            || self.locked.is_some()
            || self.disabled.is_some()
            || self.wipe.is_some()
            || self.posture.is_some()
    }

    /// What a machine is told that the control plane serves, and that is not in the network.
    pub(crate) fn hold(&self, org: &str) -> Option<Hold> {
        let because = self.because();
        let (kind, message) = match self.state(false) {
            _ if self.wipe.is_some() => (
                HoldKind::Wipe,
                format!("an admin of {org} has this machine's keys and state erased"),
            ),
            MachineState::Pending => (
                HoldKind::Pending,
                format!("this machine waits for approval by an admin of {org}"),
            ),
            MachineState::Quarantined if self.quarantined.is_none() => (
                HoldKind::Quarantined,
                format!(
                    "this machine is in quarantine{because}; `ztna posture` says what to mend, and the \
                     next good report releases it"
                ),
            ),
            MachineState::Quarantined => (
                HoldKind::Quarantined,
                format!("this machine is in quarantine{because}; an admin of {org} can release it"),
            ),
            MachineState::Locked => (
                HoldKind::Locked,
                format!("this machine is locked{because}; an admin of {org} can unlock it"),
            ),
            _ => return None,
        };
        Some(Hold { kind, message })
    }

    fn because(&self) -> String {
        self.reason()
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default()
    }
}

/// Told to one whose token is not (any more) a machine's.
pub(crate) fn unknown_token() -> ApiError {
    refuse(
        ErrorCode::Unauthorized,
        "the machine token is not valid (any more); enrol the machine again with `ztna up`",
    )
}

/// Told to a machine that was deleted.
pub(crate) fn deleted() -> ApiError {
    refuse(
        ErrorCode::MachineDeleted,
        "this machine was deleted from its org; enrol it again with `sudo ztna up --auth-key KEY`, or after `ztna login`",
    )
}

/// Told to a machine whose time is over.
pub(crate) fn expired() -> ApiError {
    refuse(
        ErrorCode::KeyExpired,
        "this machine's sign-in has expired; sign in again with `ztna up`",
    )
}

/// Told to a machine that was switched off, with the reason that was given.
pub(crate) fn disabled(reason: &str) -> ApiError {
    let because = match reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    refuse(
        ErrorCode::MachineDisabled,
        format!("this machine is disabled{because}; an admin of its org can enable it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Standing {
        Standing {
            approved: true,
            ..Standing::default()
        }
    }

    #[test]
    fn the_gravest_is_told_and_each_is_undone_by_itself() {
        type Step = (fn(&mut Standing), MachineState);
        let mut standing = good();
        assert_eq!(standing.state(true), MachineState::Online);
        assert_eq!(standing.state(false), MachineState::Offline);
        assert!(standing.is_in() && standing.hold("Acme").is_none());
        let steps: [Step; 5] = [
            (
                |s| s.quarantined = Some("malware".to_owned()),
                MachineState::Quarantined,
            ),
            (|s| s.approved = false, MachineState::Pending),
            (|s| s.expired = true, MachineState::Expired),
            (|s| s.locked = Some(String::new()), MachineState::Locked),
            (|s| s.disabled = Some(String::new()), MachineState::Disabled),
        ];
        for (step, state) in steps {
            step(&mut standing);
            assert_eq!(standing.state(true), state);
            assert!(!standing.is_in());
        }
        standing.disabled = None;
        standing.locked = None;
        standing.expired = false;
        standing.approved = true;
        assert_eq!(standing.state(true), MachineState::Quarantined);
        assert_eq!(standing.reason(), Some("malware"));
        let hold = standing.hold("Acme").unwrap();
        assert_eq!(
            hold.message,
            "this machine is in quarantine (malware); an admin of Acme can release it"
        );
    }

    #[test]
    fn a_static_peer_without_a_gateway_is_offline_and_not_in_the_network() {
        let detached = Standing {
            detached: true,
            ..good()
        };
        assert_eq!(detached.state(true), MachineState::Offline);
        assert!(!detached.is_in());
    }

    #[test]
    fn an_admins_quarantine_is_told_before_a_policys() {
        let mut standing = Standing {
            posture: Some("the posture policy \"laptops\" is not met".to_owned()),
            ..good()
        };
        assert_eq!(standing.state(true), MachineState::Quarantined);
        assert!(!standing.is_in() && standing.reason().unwrap().contains("laptops"));
        let message = standing.hold("Acme").unwrap().message;
        assert!(
            message.contains("laptops") && message.contains("next good report"),
            "{message}"
        );
        standing.quarantined = Some("malware".to_owned());
        assert_eq!(standing.reason(), Some("malware"));
        let message = standing.hold("Acme").unwrap().message;
        assert!(message.contains("an admin of Acme"), "{message}");
        standing.quarantined = None;
        standing.posture = None;
        assert!(standing.is_in());
    }

    #[test]
    fn a_machine_that_is_to_be_wiped_hears_that_before_anything_else() {
        let standing = Standing {
            approved: false,
            wipe: Some(Wipe {
                asked_at: Timestamp::UNIX_EPOCH,
                done_at: None,
            }),
            ..Standing::default()
        };
        assert_eq!(standing.state(true), MachineState::Locked);
        assert_eq!(standing.hold("Acme").unwrap().kind, HoldKind::Wipe);
    }
}
