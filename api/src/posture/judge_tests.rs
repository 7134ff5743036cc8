use std::time::Duration;

use ztna_proto::posture::PostureRequirements;

use super::super::{Listening, SETTLING};
use super::*;

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(1_000_000 + minutes)
}

/// Reports count for fifteen minutes; the process has been there for long.
fn clock() -> Clock {
    Clock {
        stale_after: SignedDuration::from_mins(15),
        listens_since: Timestamp::UNIX_EPOCH,
    }
}

fn good() -> PostureReport {
    let yes = Signal::new(Known::Yes, "so it is");
    let text = |text: &str| Some(text.to_owned());
    PostureReport {
        os_name: text("Debian GNU/Linux 12"),
        os_version: text("6.1.0-18-amd64"),
        distro: text("debian"),
        distro_version: text("12"),
        agent_version: text("0.2.0"),
        disk_encryption: yes.clone(),
        firewall: yes.clone(),
        screen_lock: Signal::new(Known::Unknown, "each user decides"),
        auto_update: yes,
        reboot_pending: Signal::default(),
    }
}

fn open() -> PostureReport {
    PostureReport {
        firewall: Signal::new(Known::No, "nothing drops"),
        ..good()
    }
}

fn policy(name: &str, on_failure: OnFailure, grace_minutes: u32) -> PosturePolicySpec {
    PosturePolicySpec {
        name: name.to_owned(),
        enabled: true,
        scope: Vec::new(),
        requires: PostureRequirements {
            firewall: true,
            ..PostureRequirements::default()
        },
        grace_minutes,
        on_failure,
    }
}

type Policies = Vec<(PosturePolicyId, PosturePolicySpec)>;

fn policies(specs: Vec<PosturePolicySpec>) -> Policies {
    let specs = specs.into_iter();
    specs
        .map(|spec| (PosturePolicyId::generate(), spec))
        .collect()
}

/// A machine that is heard and reported at a time, judged after another judgement.
fn judged(
    policies: &Policies,
    report: Option<(&PostureReport, Timestamp)>,
    before: &Judgement,
    now: Timestamp,
) -> Judgement {
    let subject = Subject {
        report,
        heard: true,
        system: "linux",
        labels: &BTreeSet::new(),
        before: &before.results,
    };
    judge(policies, &subject, &clock(), now)
}

#[test]
fn grace_ends_in_the_consequence_and_a_good_report_in_release() {
    let policies = policies(vec![policy("laptops", OnFailure::Restrict, 30)]);
    let none = Judgement::default();
    let first = judged(&policies, Some((&open(), at(0))), &none, at(0));
    assert_eq!(first.results[0].failing_since, Some(at(0)));
    assert_eq!(first.results[0].enforced_at, Some(at(30)));
    assert_eq!(consequence(&first.results, at(0)), None);
    assert_eq!(first.attributes[COMPLIANT], "false");
    assert!(!first.attributes.contains_key(RESTRICTED));
    // The report is old before the grace is over.
    assert_eq!(first.due_at, Some(at(15)));

    // Reports that say the same begin no new grace.
    let second = judged(&policies, Some((&open(), at(14))), &first, at(14));
    assert_eq!(second.results, first.results);
    let third = judged(&policies, Some((&open(), at(28))), &second, at(28));
    assert_eq!(third.due_at, Some(at(30)));
    let over = judged(&policies, Some((&open(), at(28))), &third, at(30));
    assert_eq!(
        consequence(&over.results, at(30)),
        Some(OnFailure::Restrict)
    );
    assert_eq!(over.attributes[RESTRICTED], "true");

    let mended = judged(&policies, Some((&good(), at(31))), &over, at(31));
    assert_eq!(consequence(&mended.results, at(31)), None);
    assert_eq!(mended.results[0].failing_since, None);
    assert_eq!(mended.attributes[COMPLIANT], "true");
    assert!(!mended.attributes.contains_key(RESTRICTED));
    // A later failure has a grace of its own.
    let again = judged(&policies, Some((&open(), at(40))), &mended, at(40));
    assert_eq!(again.results[0].enforced_at, Some(at(70)));
}

#[test]
fn the_gravest_counts_and_quarantine_restricts_too() {
    let policies = policies(vec![
        policy("a", OnFailure::Quarantine, 0),
        policy("b", OnFailure::Warn, 0),
        policy("c", OnFailure::Restrict, 60),
    ]);
    let judgement = judged(
        &policies,
        Some((&open(), at(0))),
        &Judgement::default(),
        at(0),
    );
    assert_eq!(
        consequence(&judgement.results, at(0)),
        Some(OnFailure::Quarantine)
    );
    assert!(judgement.attributes.contains_key(RESTRICTED));
    let warned = judged(
        &policies[1..].to_vec(),
        Some((&open(), at(0))),
        &judgement,
        at(1),
    );
    assert_eq!(consequence(&warned.results, at(1)), Some(OnFailure::Warn));
    assert!(!warned.attributes.contains_key(RESTRICTED));
}

#[test]
fn what_is_not_known_fails() {
    let mut spec = policy("all", OnFailure::Restrict, 0);
    spec.requires = PostureRequirements {
        min_os_version: [
            ("debian", "12"),
            ("linux", "6.1"),
            ("ubuntu", "99"),
            ("macos", "14"),
        ]
        .map(|(system, version)| (system.to_owned(), version.to_owned()))
        .into(),
        min_agent_version: Some("0.1.9".to_owned()),
        disk_encryption: true,
        firewall: true,
        screen_lock: false,
        auto_update: true,
    };
    let all = policies(vec![spec.clone()]);
    let none = Judgement::default();
    let passed = judged(&all, Some((&good(), at(0))), &none, at(0));
    assert_eq!(
        passed.results[0].failing_since, None,
        "{:?}",
        passed.results
    );
    // debian, linux, the agent, and three findings: nothing of systems that it is not.
    assert_eq!(passed.results[0].checks.len(), 6);

    spec.requires.screen_lock = true;
    let lock = policies(vec![spec]);
    let failed = judged(&lock, Some((&good(), at(0))), &none, at(0));
    let last = failed.results[0]
        .checks
        .iter()
        .find(|check| check.check == CheckKind::ScreenLock);
    let last = last.unwrap();
    assert_eq!(last.passed, Known::Unknown);
    assert_eq!(last.detail, "screen lock is not known (each user decides)");
    assert!(last.mend.contains("dconf"));
    assert!(failed.results[0].failing_since.is_some());

    for (break_it, kind, detail) in [
        (
            (|r: &mut PostureReport| r.distro_version = Some("11.9".to_owned()))
                as fn(&mut PostureReport),
            CheckKind::OsVersion,
            "debian is at 11.9, and 12 is asked for",
        ),
        (
            |r| r.distro_version = None,
            CheckKind::OsVersion,
            "the version of debian is not known, and 12 is asked for",
        ),
        (
            |r| r.os_version = Some("odd".to_owned()),
            CheckKind::OsVersion,
            "linux is at odd, and 6.1 is asked for",
        ),
        (
            |r| r.agent_version = Some("0.1.8".to_owned()),
            CheckKind::AgentVersion,
            "the agent is at 0.1.8, and 0.1.9 is asked for",
        ),
        (
            |r| r.disk_encryption = Signal::default(),
            CheckKind::DiskEncryption,
            "disk encryption is not known",
        ),
    ] {
        let mut report = good();
        break_it(&mut report);
        let judgement = judged(&all, Some((&report, at(0))), &none, at(0));
        let checks = judgement.results[0].checks.iter();
        let failed: Vec<_> = checks.filter(|check| check.passed != Known::Yes).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!((failed[0].check, failed[0].detail.as_str()), (kind, detail));
        assert!(!failed[0].mend.is_empty());
        assert_eq!(judgement.attributes[RESTRICTED], "true");
    }
}

#[test]
fn an_old_report_is_none_but_of_a_machine_that_is_away() {
    let policies = policies(vec![policy("laptops", OnFailure::Quarantine, 0)]);
    let none = Judgement::default();
    let fresh = judged(&policies, Some((&good(), at(0))), &none, at(14));
    assert_eq!(
        (fresh.due_at, consequence(&fresh.results, at(14))),
        (Some(at(15)), None)
    );
    let old = judged(&policies, Some((&good(), at(0))), &fresh, at(15));
    assert_eq!(
        consequence(&old.results, at(15)),
        Some(OnFailure::Quarantine)
    );
    assert_eq!(old.results[0].checks[0].check, CheckKind::Report);
    let known: Vec<_> = old.attributes.keys().collect();
    assert_eq!(known, [RESTRICTED], "of an old report rules see nothing");
    assert_eq!(old.due_at, None);
    let never = judged(&policies, None, &none, at(0));
    assert_eq!(
        consequence(&never.results, at(0)),
        Some(OnFailure::Quarantine)
    );

    let away = |before: &Judgement, now| {
        let subject = Subject {
            report: Some((&good(), at(0))),
            heard: false,
            system: "linux",
            labels: &BTreeSet::new(),
            before: &before.results,
        };
        judge(&policies, &subject, &clock(), now)
    };
    let asleep = away(&fresh, at(15));
    assert_eq!(
        (
            consequence(&asleep.results, at(15)),
            asleep.results[0].failing_since
        ),
        (None, None),
        "no grace begins, and nothing cuts it off"
    );
    let known: Vec<_> = asleep.attributes.keys().collect();
    assert_eq!(known, [RESTRICTED], "but it opens nothing by its silence");
    assert_eq!(
        asleep.due_at,
        Some(at(30)),
        "it may be heard again and not report"
    );
}

#[test]
fn after_a_start_machines_have_a_moment_to_report() {
    let clock = Clock {
        stale_after: SignedDuration::from_mins(15),
        listens_since: at(60),
    };
    assert_eq!(clock.counts_until(at(0)), at(62));
    assert_eq!(clock.counts_until(at(50)), at(65));
    let short = Clock {
        stale_after: SignedDuration::from_secs(1),
        ..clock
    };
    assert_eq!(
        short.counts_until(at(0)),
        at(60) + SignedDuration::from_secs(1)
    );
    let started = Clock::start(Duration::MAX);
    assert_eq!(started.counts_until(at(0)), Timestamp::MAX);
}

#[test]
fn silence_closes_what_policies_ask_for_except_while_nobody_could_listen() {
    let judge_at = |on_failure, heard, listens_since, now| {
        let policies = policies(vec![policy("laptops", on_failure, 60)]);
        let clock = Clock {
            stale_after: SignedDuration::from_mins(15),
            listens_since,
        };
        let subject = Subject {
            report: Some((&good(), at(0))),
            heard,
            system: "linux",
            labels: &BTreeSet::new(),
            before: &[],
        };
        judge(&policies, &subject, &clock, now)
    };
    let restricted = |judgement: &Judgement| judgement.attributes.contains_key(RESTRICTED);
    let long_ago = Timestamp::UNIX_EPOCH;
    for heard in [true, false] {
        let silent = judge_at(OnFailure::Restrict, heard, long_ago, at(15));
        assert!(restricted(&silent), "a grace is for what is reported");
        assert_eq!(silent.results[0].failing_since.is_some(), heard);
        let warned = judge_at(OnFailure::Warn, heard, long_ago, at(15));
        assert!(!restricted(&warned));
    }
    // The control plane was away for an hour.
    let back = at(60);
    let excused = judge_at(OnFailure::Quarantine, false, back, at(74));
    assert!(!restricted(&excused));
    assert_eq!(excused.due_at, Some(at(75)));
    assert!(restricted(&judge_at(
        OnFailure::Quarantine,
        false,
        back,
        at(75)
    )));
    assert!(
        restricted(&judge_at(OnFailure::Restrict, true, back, at(74))),
        "one that is here could have reported"
    );
}

#[test]
fn a_gap_in_which_the_database_did_not_answer_begins_the_clock_anew() {
    let listening = Listening::start(Duration::from_secs(900));
    let start = listening.clock().listens_since;
    let settling = SignedDuration::try_from(SETTLING).unwrap();
    let second = SignedDuration::from_secs(1);
    listening.is_served(start + settling);
    assert_eq!(listening.clock().listens_since, start);
    let back = start + settling + settling + second;
    listening.is_served(back);
    assert_eq!(listening.clock().listens_since, back);
    listening.is_served(back + second);
    assert_eq!(listening.clock().listens_since, back);
}

#[test]
fn a_distribution_that_is_not_told_may_be_any() {
    let mut spec = policy("versions", OnFailure::Restrict, 0);
    spec.requires.firewall = false;
    spec.requires.min_os_version = [("debian", "12"), ("macos", "14")]
        .map(|(system, version)| (system.to_owned(), version.to_owned()))
        .into();
    let policies = policies(vec![spec]);
    let report = PostureReport {
        distro: None,
        ..good()
    };
    for (system, checks) in [("linux", 1), ("plan9", 1), ("windows", 0)] {
        let subject = Subject {
            report: Some((&report, at(0))),
            heard: true,
            system,
            labels: &BTreeSet::new(),
            before: &[],
        };
        let judgement = judge(&policies, &subject, &clock(), at(0));
        let found = &judgement.results[0].checks;
        assert_eq!(found.len(), checks, "{system}");
        assert!(found.iter().all(|check| check.passed == Known::Unknown));
        assert_eq!(judgement.attributes.contains_key(RESTRICTED), checks > 0);
    }
}

#[test]
fn policies_are_for_whom_they_name() {
    let mut tagged = policy("servers", OnFailure::Warn, 0);
    tagged.scope = vec!["tag:web".to_owned(), "group:dev".to_owned()];
    let mut off = policy("off", OnFailure::Quarantine, 0);
    off.enabled = false;
    let policies = policies(vec![tagged, off]);
    let names = |labels: &[&str]| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let subject = Subject {
            report: Some((&open(), at(0))),
            heard: true,
            system: "linux",
            labels: &labels,
            before: &[],
        };
        let results = judge(&policies, &subject, &clock(), at(0)).results;
        results
            .into_iter()
            .map(|result| result.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["group:dev"]), ["servers"]);
    assert_eq!(names(&["tag:web", "tag:db"]), ["servers"]);
    assert!(names(&["tag:db"]).is_empty());
}
