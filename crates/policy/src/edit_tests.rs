use serde_json::json;

use super::*;

const TEXT: &str = r#"// The policy of Acme.
{
	"acls": [
		// First, the web.
		{ "action": "accept", /* tcp only */ "proto": "tcp", "src": ["*"], "dst": ["*:80"] },

		{ "id": "mail", "action": "deny", "src": ["*"], "dst": ["*:25"] }, // no mail
	],
	// Nothing yet.
	"hosts": {},
}
"#;

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other}"),
    }
}

fn rule(text: &str, index: usize) -> Rule {
    Document::parse(text).unwrap().rules[index].clone()
}

#[test]
fn a_rule_is_added_at_the_end_of_its_list() {
    let new = fields(json!({"action": "accept", "src": ["autogroup:admin"], "dst": ["*:22"]}));
    let text = add_rule(TEXT, Section::Acls, &new).unwrap();
    let document = Document::parse(&text).unwrap();
    assert_eq!(document.rules.len(), 3);
    assert_eq!(rule_fields(&text, &document.rules[2]).unwrap(), new);
    for line in TEXT.lines().filter(|line| line.contains('/')) {
        assert!(
            text.contains(line.trim_end_matches(',')),
            "{line} is lost in {text}"
        );
    }
    let grant = fields(json!({"src": ["*"], "dst": ["*"], "ip": ["icmp:*"]}));
    let text = add_rule(TEXT, Section::Grants, &grant).unwrap();
    let document = Document::parse(&text).unwrap();
    assert_eq!(document.rules[2].section, Section::Grants);
    let text = add_rule("{}", Section::Grants, &grant).unwrap();
    assert_eq!(Document::parse(&text).unwrap().rules.len(), 1);
}

#[test]
fn of_a_rule_that_changes_only_the_change_is_another() {
    let mut new = rule_fields(TEXT, &rule(TEXT, 0)).unwrap();
    assert_eq!(
        replace_rule(TEXT, &rule(TEXT, 0), &new).as_deref(),
        Ok(TEXT)
    );
    new["dst"] = json!(["*:443"]);
    let text = replace_rule(TEXT, &rule(TEXT, 0), &new).unwrap();
    assert_eq!(text, TEXT.replace("*:80", "*:443"));

    new.remove("proto");
    new.insert("expires".to_owned(), json!("2027-01-01T00:00:00Z"));
    let text = replace_rule(TEXT, &rule(TEXT, 0), &new).unwrap();
    let changed = rule(&text, 0);
    assert!(changed.conditions.expires.is_some());
    assert!(changed.dst[0].services[0].protocols.is_empty());
    assert!(text.contains("// First, the web.") && text.contains("// no mail"));
}

#[test]
fn a_rule_is_removed_and_what_it_leaves_is_a_document() {
    for index in 0..2 {
        let text = remove_rule(TEXT, &rule(TEXT, index)).unwrap();
        let document = Document::parse(&text).unwrap();
        assert_eq!(document.rules.len(), 1);
        assert_eq!(document.rules[0].id, rule(TEXT, 1 - index).id);
        assert!(text.contains("// The policy of Acme.") && text.contains("// Nothing yet."));
    }
}

#[test]
fn what_would_be_wrong_is_refused_with_its_place() {
    let bad = fields(json!({"action": "accept", "src": ["group:x"], "dst": ["*:22"]}));
    let fault = add_rule(TEXT, Section::Acls, &bad).unwrap_err();
    assert!(
        fault.at.line > 7 && fault.message.contains("`group:x` is not in `groups`"),
        "{fault}"
    );
    let again = fields(json!({"id": "mail", "action": "accept", "src": ["*"], "dst": ["*:26"]}));
    let fault = add_rule(TEXT, Section::Acls, &again).unwrap_err();
    assert!(
        fault
            .message
            .contains("the rule of line 7 has the id `mail` too"),
        "{fault}"
    );
}

/// A rule keeps its id while others change, if it has a name or says the same as before.
#[test]
fn ids_follow_from_names_and_content() {
    let other_layout = TEXT.replace(", /* tcp only */ ", ",\n").replace('\t', "  ");
    for index in 0..2 {
        assert_eq!(rule(TEXT, index).id, rule(&other_layout, index).id);
    }
    let changed = TEXT.replace("*:80", "*:81").replace("*:25", "*:26");
    assert_ne!(rule(TEXT, 0).id, rule(&changed, 0).id);
    assert_eq!(rule(TEXT, 1).id, rule(&changed, 1).id);
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    let named = TEXT.replace("mail", uuid);
    assert_eq!(rule(&named, 1).id.to_string(), uuid);
    let line = "{ \"action\": \"accept\", \"src\": [\"*\"], \"dst\": [\"*:80\"] },";
    let twice = format!("{{\"acls\": [{line}{line}]}}");
    assert_ne!(rule(&twice, 0).id, rule(&twice, 1).id);
}
