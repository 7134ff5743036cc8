//! Posture: what a machine tells of its own health, what an org asks for, and what comes of it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{MachineId, PosturePolicyId};

/// Seconds after which a machine reports its posture again although nothing has changed.
pub const POSTURE_SECONDS: u64 = 5 * 60;
/// Seconds after which a report says nothing any more: by then three are missing.
pub const POSTURE_STALE_SECONDS: u64 = 15 * 60;
/// Longest text of a report, in characters.
pub const MAX_POSTURE_TEXT: usize = 128;
/// Most posture policies of an org.
pub const MAX_POSTURE_POLICIES: usize = 100;
/// Longest name of a posture policy, in characters.
pub const MAX_POSTURE_NAME: usize = 64;
/// Most tags and groups that one posture policy names.
pub const MAX_POSTURE_SCOPE: usize = 32;
/// Most operating systems that one posture policy asks a version of.
pub const MAX_POSTURE_SYSTEMS: usize = 32;
/// Longest grace: thirty days.
pub const MAX_GRACE_MINUTES: u32 = 30 * 24 * 60;

// ── What a machine tells ─────────────────────────────────────────────────────────────────────

/// Whether something is so, as far as the machine can honestly know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Nobody can tell. Also read from any value that this build does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signal {
    /// Whether it is so.
    #[serde(default)]
    pub state: Known,
    /// What was found, for people; at most [`MAX_POSTURE_TEXT`] characters. Steady: it changes when
    /// what it speaks of does.
    #[serde(default)]
    pub detail: String,
}

impl Signal {
    /// A finding; what is longer than [`MAX_POSTURE_TEXT`] is cut off.
    pub fn new(state: Known, detail: impl AsRef<str>) -> Self {
        let detail = detail.as_ref().chars().filter(|c| !c.is_control());
        Self {
            state,
            detail: detail.take(MAX_POSTURE_TEXT).collect(),
        }
    }
}

/// What a machine tells of its own health. Part of [`crate::api::HeartbeatRequest`]: at start, when it
/// changes, and each [`POSTURE_SECONDS`]. Fields that a control plane does not know are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostureReport {
    /// The operating system's name and version, for people.
    #[serde(default)]
    pub os_name: Option<String>,
    /// Its version as rules compare it. On Linux that is the kernel's.
    #[serde(default)]
    pub os_version: Option<String>,
    /// The distribution, as `ID` in `os-release` has it: `debian`, `ubuntu`.
    #[serde(default)]
    pub distro: Option<String>,
    /// Its version (`VERSION_ID`).
    #[serde(default)]
    pub distro_version: Option<String>,
    /// The agent's version.
    #[serde(default)]
    pub agent_version: Option<String>,
    /// Whether the file systems with people's and the system's data are encrypted.
    #[serde(default)]
    pub disk_encryption: Signal,
    /// Whether a firewall drops what nobody asked for.
    #[serde(default)]
    pub firewall: Signal,
    /// Whether the screen locks itself.
    #[serde(default)]
    pub screen_lock: Signal,
    /// Whether security updates are installed without anybody's doing.
    #[serde(default)]
    pub auto_update: Signal,
    /// Whether an update waits for a restart.
    #[serde(default)]
    pub reboot_pending: Signal,
}

impl PostureReport {
    /// All texts of the report, each with the name of its field.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let plain = [
            ("os_name", &self.os_name),
            ("os_version", &self.os_version),
            ("distro", &self.distro),
            ("distro_version", &self.distro_version),
            ("agent_version", &self.agent_version),
        ];
        let signals = [
            ("disk_encryption", &self.disk_encryption),
            ("firewall", &self.firewall),
            ("screen_lock", &self.screen_lock),
            ("auto_update", &self.auto_update),
            ("reboot_pending", &self.reboot_pending),
        ];
        let plain = plain
            .into_iter()
            .filter_map(|(field, text)| Some((field, text.as_deref()?)));
        plain.chain(
            signals
                .into_iter()
                .map(|(field, signal)| (field, signal.detail.as_str())),
        )
    }
}

// ── What an org asks for ─────────────────────────────────────────────────────────────────────

/// What becomes of a machine that fails a posture policy once its grace is over. The graver, the later.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Its user and the org's admins are told.
    Warn,
    /// It opens nothing: it is a source of no rule. What rules let others open towards it, they still
    /// can, so that it can be mended from afar.
    Restrict,
    /// It is quarantined: it has no peers.
    Quarantine,
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warn => "warn",
            Self::Restrict => "restrict",
            Self::Quarantine => "quarantine",
        })
    }
}

/// What a posture policy asks for. What is not named is not asked for; what a machine cannot tell counts
/// as failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PostureRequirements {
    /// Oldest version per operating system: by the name of a Linux distribution (`debian`, `ubuntu`), by
    /// `linux` (the kernel), `macos`, `windows` and so on. Of a distribution and `linux` both, both
    /// count. Systems that are not named may have any.
    #[serde(default)]
    pub min_os_version: BTreeMap<String, String>,
    /// Oldest version of the agent.
    #[serde(default)]
    pub min_agent_version: Option<String>,
    /// Whether disks have to be encrypted.
    #[serde(default)]
    pub disk_encryption: bool,
    /// Whether a firewall has to be on.
    #[serde(default)]
    pub firewall: bool,
    /// Whether the screen has to lock itself.
    #[serde(default)]
    pub screen_lock: bool,
    /// Whether updates have to come by themselves.
    #[serde(default)]
    pub auto_update: bool,
}

/// `POST /api/orgs/{org}/posture/policies` and `PUT …/{policy}`. Answer: [`PosturePolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PosturePolicySpec {
    /// For people; 1 to [`MAX_POSTURE_NAME`] characters, one of its kind in the org.
    pub name: String,
    /// Whether it counts.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whom it is for: `tag:NAME` and `group:NAME`, any of them suffices. Empty: every machine.
    #[serde(default)]
    pub scope: Vec<String>,
    /// What it asks for.
    pub requires: PostureRequirements,
    /// Minutes between the first failure and what follows from it, up to [`MAX_GRACE_MINUTES`].
    #[serde(default)]
    pub grace_minutes: u32,
    /// What follows.
    pub on_failure: OnFailure,
}

fn yes() -> bool {
    true
}

/// A posture policy of an org.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PosturePolicy {
    /// Its id.
    pub id: PosturePolicyId,
    /// What it says.
    pub policy: PosturePolicySpec,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was changed last.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

// ── What comes of it ─────────────────────────────────────────────────────────────────────────

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Whether there is a report that still counts.
    Report,
    /// [`PostureRequirements::min_os_version`]
    OsVersion,
    /// [`PostureRequirements::min_agent_version`]
    AgentVersion,
    /// [`PostureRequirements::disk_encryption`]
    DiskEncryption,
    /// [`PostureRequirements::firewall`]
    Firewall,
    /// [`PostureRequirements::screen_lock`]
    ScreenLock,
    /// [`PostureRequirements::auto_update`]
    AutoUpdate,
}

/// What one check says of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostureCheck {
    /// What it looks at.
    pub check: CheckKind,
    /// Whether it is as it should be. `unknown` counts as failed.
    pub passed: Known,
    /// What was found, for people.
    pub detail: String,
    /// What to do about it. Empty if it passed.
    pub mend: String,
}

/// What one policy says of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostureResult {
    /// The policy.
    pub policy: PosturePolicyId,
    /// Its name.
    pub name: String,
    /// What follows from a failure.
    pub on_failure: OnFailure,
    /// Since when it fails. `None`: all is well.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// When the consequence begins, or began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub enforced_at: Option<Timestamp>,
    /// Each check.
    pub checks: Vec<PostureCheck>,
}

/// How a machine stands with its org's posture policies, in a word.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PostureStanding {
    /// It fails one at least.
    Failing,
    /// It fails none, and its report counts no more.
    Stale,
    /// No policy is for it.
    #[default]
    None,
    /// It fails none.
    Passing,
}

/// An entry of `GET /api/orgs/{org}/posture/machines`; one alone: `…/posture/machines/{machine}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachinePosture {
    /// The machine.
    pub machine: MachineId,
    /// Its name.
    pub name: String,
    /// What it told last.
    pub report: Option<PostureReport>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub reported_at: Option<Timestamp>,
    /// Whether that still counts.
    pub current: bool,
    /// The gravest consequence that holds now. `None`: no policy fails.
    pub consequence: Option<OnFailure>,
    /// What each policy that is for the machine says.
    pub results: Vec<PostureResult>,
}

/// What a machine is told of a policy that it fails; part of [`crate::netmap::SelfRecord`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureNotice {
    /// The policy's name.
    pub policy: String,
    /// `warn`, `restrict` or `quarantine`; a newer control plane may know more.
    pub on_failure: String,
    /// When that begins, or began.
    pub enforced_at: Timestamp,
    /// What fails.
    pub failures: Vec<PostureFailure>,
}

/// One thing that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureFailure {
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub mend: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_other_versions_are_read() {
        let newer = r#"{"os_name":"Debian","quantum":{"x":1},
            "firewall":{"state":"partly","detail":"half","since":3},"disk_encryption":{"state":"yes"}}"#;
        let report: PostureReport = serde_json::from_str(newer).unwrap();
        assert_eq!(report.firewall.state, Known::Unknown);
        assert_eq!(report.disk_encryption.state, Known::Yes);
        assert_eq!(report.screen_lock, Signal::default());
        let texts: Vec<_> = report.texts().collect();
        assert!(texts.contains(&("os_name", "Debian")) && texts.contains(&("firewall", "half")));
    }

    #[test]
    fn findings_are_bounded_and_visible() {
        let signal = Signal::new(Known::No, format!("a\nb{}", "é".repeat(MAX_POSTURE_TEXT)));
        assert_eq!(signal.detail.chars().count(), MAX_POSTURE_TEXT);
        assert!(signal.detail.starts_with("abé"));
    }

    #[test]
    fn consequences_have_an_order_and_no_guesses() {
        assert!(
            OnFailure::Warn < OnFailure::Restrict && OnFailure::Restrict < OnFailure::Quarantine
        );
        assert!(serde_json::from_str::<OnFailure>("\"explode\"").is_err());
    }
}
