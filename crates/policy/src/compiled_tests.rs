use std::collections::BTreeSet;

use super::*;
use crate::FIRST_DOCUMENT;
use ztna_proto::filter::PeerSelector;

fn id(n: u128) -> MachineId {
    MachineId(uuid::Uuid::from_u128(n))
}

fn now() -> Timestamp {
    "2026-07-01T12:00:00Z".parse().unwrap()
}

fn document(text: &str) -> Arc<Document> {
    Arc::new(Document::parse(text).unwrap_or_else(|fault| panic!("{fault}")))
}

fn tagged() -> Facts {
    Facts {
        tags: ["t".to_owned()].into(),
        ..Facts::default()
    }
}

/// `members` machines without a tag, then `others` with one.
fn org(text: &str, members: u128, others: u128) -> Compiled {
    let members_facts = (0..members).map(|n| (id(n), Facts::default()));
    let others_facts = (members..members + others).map(|n| (id(n), tagged()));
    compile(document(text), members_facts.chain(others_facts), now())
}

fn ids(numbers: impl IntoIterator<Item = u128>) -> BTreeSet<MachineId> {
    numbers.into_iter().map(id).collect()
}

#[test]
fn the_first_policy_joins_members_with_everyone_and_a_join_changes_no_filter() {
    let mut org = org(FIRST_DOCUMENT, 2, 2);
    assert_eq!(org.visible_peers(id(0)), ids([1, 2, 3]));
    assert_eq!(
        org.visible_peers(id(2)),
        ids([0, 1]),
        "no rule joins two others"
    );
    assert_eq!(org.groups_of(id(0)), ["autogroup:member"]);
    assert!(org.groups_of(id(2)).is_empty());
    let filter = org.filter_for(id(2));
    let members = [PeerSelector::Group("autogroup:member".into())];
    assert_eq!(filter.inbound[0].peers, members);
    assert!(filter.outbound.is_empty());
    assert_eq!(org.filter_for(id(0)).outbound[0].peers, [PeerSelector::Any]);

    let before: Vec<_> = (0..4).map(|n| org.filter_for(id(n))).collect();
    let change = org.set_machine(id(9), Facts::default());
    assert_eq!(change.appeared, ids([0, 1, 2, 3]));
    assert!(change.vanished.is_empty() && change.changed.is_empty());
    let after: Vec<_> = (0..4).map(|n| org.filter_for(id(n))).collect();
    assert_eq!(before, after);

    let change = org.set_machine(id(9), tagged());
    assert_eq!(change.vanished, ids([2, 3]));
    assert_eq!(change.changed, ids([0, 1]));
    assert_eq!(org.set_machine(id(9), tagged()), Change::default());
    let change = org.remove_machine(id(9));
    assert_eq!(change.affected().collect::<BTreeSet<_>>(), ids([0, 1]));
    assert_eq!(org.remove_machine(id(9)), Change::default());
}

#[test]
fn a_machine_outside_the_org_gets_nothing() {
    let org = org(FIRST_DOCUMENT, 2, 0);
    assert!(org.visible_peers(id(7)).is_empty());
    assert!(!org.sees(id(0), id(7)) && !org.sees(id(0), id(0)));
    assert_eq!(org.filter_for(id(7)), PacketFilter::default());
    assert!(org.groups_of(id(7)).is_empty());
}

#[test]
fn a_deny_that_covers_hides_and_leaves_no_name_behind() {
    let rules = |more: &str| {
        let (a, b) = (format!("machine:{}", id(0)), format!("machine:{}", id(1)));
        let text = more.replace('A', &a).replace('B', &b);
        format!(r#"{{"acls": [{{"action": "accept", "src": ["*"], "dst": ["*:*"]}}, {text}]}}"#)
    };
    let one_way = org(
        &rules(r#"{"action": "deny", "src": ["A"], "dst": ["B:*"]}"#),
        3,
        0,
    );
    assert!(one_way.sees(id(0), id(1)), "the other direction is open");
    assert!(!one_way.opens(id(0), id(1)) && one_way.opens(id(1), id(0)));
    let both = r#"{"action": "deny", "src": ["A"], "dst": ["B:*"]}, {"action": "deny", "src": ["B"], "dst": ["A:*"]}"#;
    let both = org(&rules(both), 3, 0);
    assert_eq!(both.visible_peers(id(0)), ids([2]));
    assert_eq!(both.visible_peers(id(1)), ids([2]));
    let filter = both.filter_for(id(0));
    let mut named = filter
        .inbound
        .iter()
        .chain(&filter.outbound)
        .flat_map(|rule| &rule.peers);
    assert!(
        !named.any(|peer| matches!(peer, PeerSelector::Machine(_))),
        "{filter:?}"
    );

    let partly = r#"{"action": "deny", "proto": "tcp", "src": ["A"], "dst": ["B:22"]}"#;
    let org = org(&rules(partly), 3, 0);
    assert!(org.sees(id(0), id(1)));
    let denied = org
        .filter_for(id(0))
        .outbound
        .into_iter()
        .find(|rule| rule.action == Action::Deny);
    assert_eq!(denied.unwrap().peers, [PeerSelector::Machine(id(1))]);
    assert!(
        org.filter_for(id(2))
            .outbound
            .iter()
            .all(|rule| rule.action == Action::Allow),
        "not its rule"
    );
}

#[test]
fn ten_thousand_machines_are_few_classes() {
    let org = org(FIRST_DOCUMENT, 9_000, 1_000);
    assert_eq!(org.classes.len(), 2);
    assert_eq!(org.visible_peers(id(0)).len(), 9_999);
}

/// An org of 10,000 in a hundred groups; a change of one group's rule is news for that group alone.
#[test]
fn an_edit_is_news_for_those_whom_it_concerns() {
    let rule = |tag: usize, port: u16| {
        format!(
            r#"{{"id": "r{tag}", "action": "accept", "src": ["tag:t{tag}"], "dst": ["tag:t{tag}:{port}"]}},"#
        )
    };
    let text = |changed: Option<usize>| {
        let owners: String = (0..100)
            .map(|tag| format!(r#""tag:t{tag}": [],"#))
            .collect();
        let rules: String = (0..100)
            .map(|tag| rule(tag, if changed == Some(tag) { 443 } else { 80 }))
            .collect();
        format!(r#"{{"tagOwners": {{{owners}}}, "acls": [{rules}]}}"#)
    };
    let machines = (0..10_000).map(|n| {
        let facts = Facts {
            tags: [format!("t{}", n % 100)].into(),
            ..Facts::default()
        };
        (id(n), facts)
    });
    let mut org = compile(document(&text(None)), machines, now());
    assert_eq!(org.visible_peers(id(7)).len(), 99);
    let affected = org.set_document(document(&text(Some(7))), now());
    assert_eq!(affected, ids((0..100).map(|n| n * 100 + 7)));
    assert!(org.set_document(document(&text(Some(7))), now()).is_empty());
}

#[test]
fn time_passes_and_those_whom_a_rule_concerns_are_told() {
    let text = r#"{"acls": [
        {"action": "accept", "src": ["*"], "dst": ["autogroup:member:80"]},
        {"action": "accept", "src": ["*"], "dst": ["autogroup:tagged:22"],
         "when": {"days": ["wed"], "from": "13:00", "to": "14:00", "zone": "UTC"}, "expires": "2026-07-05T00:00:00Z"},
    ], "tagOwners": {"tag:t": []}}"#;
    let mut org = org(text, 1, 1);
    assert!(!org.opens(id(0), id(1)));
    let at = |text: &str| -> Timestamp { format!("2026-07-{text}:00Z").parse().unwrap() };
    assert_eq!(org.until(), Some(at("01T13:00")));
    assert!(org.advance(at("01T12:59")).is_empty());
    assert_eq!(org.advance(at("01T13:00")), ids([0, 1]));
    assert!(org.opens(id(0), id(1)));
    assert_eq!(org.until(), Some(at("01T14:00")));
    assert_eq!(org.advance(at("01T14:00")), ids([0, 1]));
    assert!(!org.opens(id(0), id(1)));
    assert_eq!(
        org.until(),
        Some(at("05T00:00")),
        "the end is before the next window"
    );
    assert!(
        org.advance(at("05T00:00")).is_empty(),
        "it held no more anyway"
    );
    assert_eq!(org.until(), None);
}
