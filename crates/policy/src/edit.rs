//! Changes to single rules of a document's text. Comments and layout stay as they are.

use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::{Map, Value};
use ztna_proto::policy::{Fault, Position, Section};

use crate::document::{Document, Rule, options};

/// Appends a rule to a list of the document, which is made if there is none.
///
/// # Errors
/// The document, or the one that results, is not valid.
pub fn add_rule(text: &str, section: Section, rule: &Map<String, Value>) -> Result<String, Fault> {
    edit(text, |root| {
        let rules = root.array_value_or_create(section.field());
        rules.map(|rules| {
            rules.ensure_multiline();
            rules.append(object(rule));
        })
    })
}

/// Makes a rule say something else. Fields that stay the same keep their comments.
///
/// # Errors
/// The document, or the one that results, is not valid.
pub fn replace_rule(text: &str, rule: &Rule, new: &Map<String, Value>) -> Result<String, Fault> {
    edit(text, |root| {
        let old = element(root, rule)?.as_object()?;
        let mut held = Vec::new();
        for property in old.properties() {
            let name = property.decoded_name()?;
            match new.get(&name) {
                None => property.remove(),
                Some(value) => {
                    let node = property.value()?;
                    if plain(&node).as_ref() != Some(value) {
                        property.set_value(input(value));
                    }
                    held.push(name);
                }
            }
        }
        for (name, value) in new.iter().filter(|(name, _)| !held.contains(name)) {
            old.append(name, input(value));
        }
        Some(())
    })
}

/// Removes a rule.
///
/// # Errors
/// The document, or the one that results, is not valid: a rule that tests rest on, say, may go; whether
/// they still pass, the caller asks.
pub fn remove_rule(text: &str, rule: &Rule) -> Result<String, Fault> {
    edit(text, |root| {
        element(root, rule)?.remove();
        Some(())
    })
}

/// Edits the text and reads what came out.
fn edit(text: &str, change: impl FnOnce(&CstObject) -> Option<()>) -> Result<String, Fault> {
    Document::parse(text)?;
    let lost = || {
        let message = "the rule is not where it was; read the policy again";
        Fault::new(Position { line: 1, column: 1 }, message)
    };
    let root = CstRootNode::parse(text, &options()).map_err(|_| lost())?;
    root.object_value()
        .and_then(|root| change(&root))
        .ok_or_else(lost)?;
    let edited = root.to_string();
    Document::parse(&edited)?;
    Ok(edited)
}

fn element(root: &CstObject, rule: &Rule) -> Option<CstNode> {
    let rules: CstArray = root.array_value(rule.section.field())?;
    rules.elements().into_iter().nth(rule.index)
}

/// A rule as it is written, without comments. `None`: it is not where it was.
#[must_use]
pub fn rule_fields(text: &str, rule: &Rule) -> Option<Map<String, Value>> {
    let root = CstRootNode::parse(text, &options()).ok()?;
    let node = element(&root.object_value()?, rule)?;
    match plain(&node)? {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

/// The node's value without comments.
fn plain(node: &CstNode) -> Option<Value> {
    if let Some(array) = node.as_array() {
        return array.elements().iter().map(plain).collect();
    }
    if let Some(object) = node.as_object() {
        let properties = object
            .properties()
            .into_iter()
            .map(|property| Some((property.decoded_name()?, plain(&property.value()?)?)));
        return properties.collect::<Option<Map<_, _>>>().map(Value::Object);
    }
    if let Some(text) = node.as_string_lit() {
        return text.decoded_value().ok().map(Value::String);
    }
    serde_json::from_str(&node.to_string()).ok()
}

fn object(map: &Map<String, Value>) -> CstInputValue {
    let properties = map.iter().map(|(name, value)| (name.clone(), input(value)));
    CstInputValue::Object(properties.collect())
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(values) => CstInputValue::Array(values.iter().map(input).collect()),
        Value::Object(map) => object(map),
    }
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
