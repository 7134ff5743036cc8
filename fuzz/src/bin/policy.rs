//! Policy documents: what people write, and what an API client may send in their place.
//!
//! Input: the text of a document. One that can be read is compiled for a small org, its tests are
//! run, and its rules are edited: comments survive, and what comes out can be read again.
#![no_main]

use std::sync::Arc;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;
use ztna_policy::{
    Document, Facts, People, Section, add_rule, compile, impact, remove_rule, replace_rule,
    rule_fields,
};
use ztna_proto::MachineId;

fn org() -> impl Iterator<Item = (MachineId, Facts)> {
    let owned = Facts {
        user: Some("alice@example.com".to_owned()),
        addresses: [[100, 64, 0, 1].into()].into(),
        ..Facts::default()
    };
    let tagged = Facts {
        tags: ["web".to_owned()].into(),
        addresses: [[100, 64, 0, 2].into()].into(),
        routes: "10.1.0.0/16".parse().into_iter().collect(),
        ..Facts::default()
    };
    let facts = [owned, tagged, Facts::default()].into_iter();
    (1..).map(|n| MachineId(Uuid::from_u128(n))).zip(facts)
}

fn edits(text: &str, document: &Document) {
    for rule in document.rules.iter().take(3) {
        let Some(fields) = rule_fields(text, rule) else {
            panic!("a rule that was read is not there");
        };
        let same = replace_rule(text, rule, &fields);
        assert_eq!(same.as_deref(), Ok(text), "a change of nothing");
        let without = remove_rule(text, rule);
        let without = without.as_deref().map(Document::parse);
        let Ok(Ok(without)) = without else {
            panic!("{without:?}");
        };
        assert_eq!(without.rules.len() + 1, document.rules.len());
        let Ok(twice) = add_rule(text, rule.section, &fields) else {
            assert!(rule.name.is_some(), "only an `id` cannot be there twice");
            continue;
        };
        let twice = Document::parse(&twice).map(|document| document.rules.len());
        assert_eq!(twice, Ok(document.rules.len() + 1));
    }
    let fields = [("src", "*"), ("dst", "*"), ("ip", "*")]
        .map(|(field, value)| (field.to_owned(), serde_json::Value::from(vec![value])));
    let added = add_rule(text, Section::Grants, &fields.into_iter().collect());
    assert!(added.is_ok(), "{added:?}");
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let document = match Document::parse(text) {
        Ok(document) => Arc::new(document),
        Err(fault) => {
            assert!(fault.at.line >= 1 && fault.at.line <= text.matches('\n').count() + 1);
            assert!(fault.at.column >= 1 && !fault.message.is_empty());
            return;
        }
    };
    let now = Timestamp::UNIX_EPOCH;
    let _ = document.run_tests(&People::new(), now);
    let mut compiled = compile(Arc::clone(&document), org(), now);
    for (id, _) in org() {
        for peer in compiled.visible_peers(id) {
            assert!(compiled.opens(id, peer) || compiled.opens(peer, id));
        }
    }
    assert!(compiled.set_document(Arc::clone(&document), now).is_empty());
    let again = compile(Arc::clone(&document), org(), now);
    assert_eq!(impact(&compiled, &again), ztna_policy::Impact::default());
    edits(text, &document);
});
