//! What policies say of a machine. Knows no database and no clock.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use ztna_policy::document::{Attributes, RESTRICTED, compare_versions};
use ztna_proto::ids::PosturePolicyId;
use ztna_proto::posture::{
    CheckKind, Known, OnFailure, PostureCheck, PosturePolicySpec, PostureReport, PostureResult,
    Signal,
};

use super::{Clock, attributes, later};

/// Attribute of machines of which no policy that is for them fails.
const COMPLIANT: &str = "posture:compliant";

/// A machine, as far as it is judged.
pub(super) struct Subject<'a> {
    /// Its latest report, and when that came.
    pub(super) report: Option<(&'a PostureReport, Timestamp)>,
    /// Whether the machine is being heard at all.
    pub(super) heard: bool,
    /// `linux`, `macos`, …
    pub(super) system: &'a str,
    /// `tag:NAME` and `group:NAME`, as far as policies ask.
    pub(super) labels: &'a BTreeSet<String>,
    /// What was said of it before.
    pub(super) before: &'a [PostureResult],
}

/// What is said of a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judgement {
    pub(super) attributes: Attributes,
    pub(super) results: Vec<PostureResult>,
    /// When to judge again, whatever happens.
    pub(super) due_at: Option<Timestamp>,
}

/// The gravest consequence of results that holds now.
pub(super) fn consequence(results: &[PostureResult], now: Timestamp) -> Option<OnFailure> {
    let begun = results
        .iter()
        .filter(|result| result.enforced_at.is_some_and(|at| at <= now));
    begun.map(|result| result.on_failure).max()
}

/// Judges a machine by the policies that are for it.
pub(super) fn judge(
    policies: &[(PosturePolicyId, PosturePolicySpec)],
    subject: &Subject<'_>,
    clock: &Clock,
    now: Timestamp,
) -> Judgement {
    let until = subject.report.map(|(_, at)| clock.counts_until(at));
    let current = until.is_some_and(|until| now < until);
    // A machine that is away is not at fault: its last report stands for it until it is back, as far as
    // graces and quarantines go. One that is here and does not report is judged as one of which nothing
    // is known.
    let judged = subject.report.filter(|_| current || !subject.heard);
    let judged = judged.map(|(report, _)| report);
    // But whether it is away or only silent towards us, nobody can tell: it opens nothing meanwhile.
    let excused_until = subject.report.map(|(_, at)| clock.excuses_until(at));
    let excused = !subject.heard && excused_until.is_some_and(|until| now < until);
    let lapsed = subject.report.is_some() && !current && !excused;
    let for_it = policies
        .iter()
        .filter(|(_, policy)| policy.enabled && is_for(policy, subject.labels));
    let results: Vec<PostureResult> = for_it
        .map(|(id, policy)| {
            let before = subject.before.iter().find(|result| result.policy == *id);
            result(*id, policy, judged, subject, before, now)
        })
        .collect();

    let mut known = Attributes::new();
    if let Some((report, _)) = subject.report.filter(|_| current) {
        known = attributes::of(report);
        let compliant = results.iter().all(|result| result.failing_since.is_none());
        known.insert(COMPLIANT.to_owned(), compliant.to_string());
    }
    let restricts = |result: &PostureResult| result.on_failure >= OnFailure::Restrict;
    let silenced = lapsed && results.iter().any(restricts);
    if silenced || consequence(&results, now) >= Some(OnFailure::Restrict) {
        known.insert(RESTRICTED.to_owned(), true.to_string());
    }

    let enforced = results.iter().filter_map(|result| result.enforced_at);
    let stale = match until {
        Some(until) if current => Some(until),
        _ if excused => excused_until,
        // Whether it is heard again.
        Some(_) if !subject.heard && !results.is_empty() => Some(later(now, clock.stale_after)),
        _ => None,
    };
    Judgement {
        attributes: known,
        due_at: enforced.filter(|at| *at > now).chain(stale).min(),
        results,
    }
}

fn is_for(policy: &PosturePolicySpec, labels: &BTreeSet<String>) -> bool {
    policy.scope.is_empty() || policy.scope.iter().any(|label| labels.contains(label))
}

fn result(
    id: PosturePolicyId,
    policy: &PosturePolicySpec,
    report: Option<&PostureReport>,
    subject: &Subject<'_>,
    before: Option<&PostureResult>,
    now: Timestamp,
) -> PostureResult {
    let checks = match report {
        Some(report) => checks(policy, report, subject.system),
        None => vec![silent()],
    };
    let failing = checks.iter().any(|check| check.passed != Known::Yes);
    let failing_since = failing.then(|| {
        before
            .and_then(|before| before.failing_since)
            .unwrap_or(now)
    });
    let grace = SignedDuration::from_mins(policy.grace_minutes.into());
    PostureResult {
        policy: id,
        name: policy.name.clone(),
        on_failure: policy.on_failure,
        failing_since,
        enforced_at: failing_since.map(|since| later(since, grace)),
        checks,
    }
}

fn silent() -> PostureCheck {
    PostureCheck {
        check: CheckKind::Report,
        passed: Known::No,
        detail: "no posture report that still counts".to_owned(),
        mend: "update the agent and keep its daemon running; it reports each five minutes"
            .to_owned(),
    }
}

fn checks(policy: &PosturePolicySpec, report: &PostureReport, system: &str) -> Vec<PostureCheck> {
    let requires = &policy.requires;
    let mut checks = Vec::new();
    for (name, minimum) in &requires.min_os_version {
        let version = if report.distro.as_deref() == Some(name) {
            &report.distro_version
        } else if name == system {
            &report.os_version
        } else if report.distro.is_none() && may_be(system, name) {
            &None
        } else {
            continue;
        };
        let mend = format!("update {name} to {minimum} or newer");
        checks.push(at_least(
            CheckKind::OsVersion,
            name,
            version.as_deref(),
            minimum,
            mend,
        ));
    }
    if let Some(minimum) = &requires.min_agent_version {
        let version = report.agent_version.as_deref();
        let mend = format!("install version {minimum} of the agent, or a newer one");
        checks.push(at_least(
            CheckKind::AgentVersion,
            "the agent",
            version,
            minimum,
            mend,
        ));
    }
    let linux = system == "linux";
    let pick = |on_linux: &'static str, elsewhere| if linux { on_linux } else { elsewhere };
    let wanted = [
        (
            requires.disk_encryption,
            CheckKind::DiskEncryption,
            "disk encryption",
            &report.disk_encryption,
            pick(
                "encrypt / and /home with LUKS: `cryptsetup reencrypt`, or install the system anew",
                "switch the system's disk encryption on",
            ),
        ),
        (
            requires.firewall,
            CheckKind::Firewall,
            "firewall",
            &report.firewall,
            pick(
                "switch a firewall on, as with `sudo ufw enable`",
                "switch the system's firewall on",
            ),
        ),
        (
            requires.screen_lock,
            CheckKind::ScreenLock,
            "screen lock",
            &report.screen_lock,
            pick(
                "have dconf lock the screen for all users (lock-enabled, idle-delay, and locks on both)",
                "have the screen lock itself",
            ),
        ),
        (
            requires.auto_update,
            CheckKind::AutoUpdate,
            "automatic updates",
            &report.auto_update,
            pick(
                "switch them on, as with `sudo apt install unattended-upgrades` and \
                 `sudo dpkg-reconfigure unattended-upgrades`",
                "switch the system's automatic updates on",
            ),
        ),
    ];
    let wanted = wanted.into_iter().filter(|(wanted, ..)| *wanted);
    checks.extend(wanted.map(|(_, kind, name, signal, mend)| is_on(kind, name, signal, mend)));
    checks
}

/// Systems by the names that machines register with. Any other name in a requirement is a distribution
/// of Linux.
const SYSTEMS: [&str; 11] = [
    "android",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "linux",
    "macos",
    "netbsd",
    "openbsd",
    "solaris",
    "windows",
];

/// Whether a machine that does not tell its distribution may be of the one that is named.
fn may_be(system: &str, name: &str) -> bool {
    (system == "linux" || !SYSTEMS.contains(&system)) && !SYSTEMS.contains(&name)
}

fn at_least(
    check: CheckKind,
    name: &str,
    version: Option<&str>,
    minimum: &str,
    mend: String,
) -> PostureCheck {
    let order = version.and_then(|version| compare_versions(version, minimum));
    let passed = match order {
        Some(Ordering::Less) => Known::No,
        Some(Ordering::Equal | Ordering::Greater) => Known::Yes,
        None => Known::Unknown,
    };
    let found = match version {
        Some(version) => format!("{name} is at {version}"),
        None => format!("the version of {name} is not known"),
    };
    PostureCheck {
        check,
        passed,
        detail: match passed {
            Known::Yes => found,
            Known::No | Known::Unknown => format!("{found}, and {minimum} is asked for"),
        },
        mend: match passed {
            Known::Yes => String::new(),
            Known::No | Known::Unknown => mend,
        },
    }
}

fn is_on(check: CheckKind, name: &str, signal: &Signal, mend: &str) -> PostureCheck {
    let found = match signal.detail.is_empty() {
        true => String::new(),
        false => format!(" ({})", signal.detail),
    };
    PostureCheck {
        check,
        passed: signal.state,
        detail: match signal.state {
            Known::Yes => format!("{name} is on{found}"),
            Known::No => format!("{name} is off{found}"),
            Known::Unknown => format!("{name} is not known{found}"),
        },
        mend: match signal.state {
            Known::Yes => String::new(),
            Known::No | Known::Unknown => mend.to_owned(),
        },
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
