//! Walks the syntax tree. Every fault knows its place.

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use ztna_proto::policy::{Fault, Position};

use super::fault;
use super::{MAX_BYTES, MAX_LIST};

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// Comments and trailing commas, and nothing else beyond JSON.
pub(crate) fn options() -> ParseOptions {
    ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

/// The text that is read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'t>(pub(super) &'t str);

/// A string of the document, and the byte where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'v> {
    pub(super) value: &'v str,
    pub(super) at: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn root(self) -> Result<Value<'t>> {
        if self.0.len() > MAX_BYTES {
            return Err(self.fault(
                MAX_BYTES,
                format!(
                    "the document has {} bytes; at most {MAX_BYTES} are possible, so put users \
                     into groups of the identity provider, and join rules",
                    self.0.len()
                ),
            ));
        }
        let parsed = parse_to_ast(self.0, &CollectOptions::default(), &options())
            .map_err(|error| fault::syntax(self.0, &error))?;
        parsed.value.ok_or_else(|| {
            self.fault(
                0,
                "the document is empty; write at least `{}`, which allows nothing",
            )
        })
    }

    pub(super) fn position(self, byte: usize) -> Position {
        fault::position(self.0, byte)
    }

    pub(super) fn fault(self, byte: usize, message: impl Into<String>) -> Fault {
        Fault::new(self.position(byte), message)
    }

    /// An object with these fields and no others, each at most once. `what` names it.
    pub(super) fn object<'v>(
        self,
        value: &'v Value<'t>,
        what: &str,
        allowed: &[&str],
    ) -> Result<&'v Object<'t>> {
        let object = self.any_object(value, what)?;
        for property in &object.properties {
            if !allowed.contains(&property.name.as_str()) {
                return Err(self.fault(
                    property.start(),
                    format!(
                        "{what} has no field `{}`; possible are {}",
                        property.name.as_str(),
                        list(allowed)
                    ),
                ));
            }
        }
        Ok(object)
    }

    /// An object with names of its author's choice, each at most once.
    pub(super) fn any_object<'v>(self, value: &'v Value<'t>, what: &str) -> Result<&'v Object<'t>> {
        let Value::Object(object) = value else {
            return Err(self.kind(value, what, "an object: `{ … }`"));
        };
        let mut names: Vec<_> = object.properties.iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let twice = object
                .properties
                .iter()
                .filter(|p| p.name.as_str() == pair[0]);
            let second = twice
                .max_by_key(|property| property.start())
                .map_or(object.start(), Ranged::start);
            return Err(self.fault(
                second,
                format!("`{}` is in {what} twice; join the two", pair[0]),
            ));
        }
        Ok(object)
    }

    /// A list with at most `most` entries.
    pub(super) fn list<'v>(
        self,
        value: &'v Value<'t>,
        what: &str,
        most: usize,
    ) -> Result<&'v [Value<'t>]> {
        let Value::Array(array) = value else {
            return Err(self.kind(value, what, "a list: `[ … ]`"));
        };
        if array.elements.len() > most {
            return Err(self.fault(
                array.start(),
                format!(
                    "{what} has {} entries; at most {most} are possible, so split it",
                    array.elements.len()
                ),
            ));
        }
        Ok(&array.elements)
    }

    pub(super) fn text<'v>(self, value: &'v Value<'t>, what: &str) -> Result<Text<'v>> {
        match value {
            Value::StringLit(text) => Ok(Text {
                value: &text.value,
                at: text.start(),
            }),
            other => Err(self.kind(other, what, "a string: `\"…\"`")),
        }
    }

    pub(super) fn texts<'v>(self, value: &'v Value<'t>, what: &str) -> Result<Vec<Text<'v>>> {
        let entries = self.list(value, what, MAX_LIST)?.iter();
        let what = format!("an entry of {what}");
        entries.map(|entry| self.text(entry, &what)).collect()
    }

    /// The texts of a field that may be missing.
    pub(super) fn texts_of<'v>(self, object: &'v Object<'t>, field: &str) -> Result<Vec<Text<'v>>> {
        match object.get(field) {
            Some(property) => self.texts(&property.value, &format!("`{field}`")),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn required<'v>(
        self,
        object: &'v Object<'t>,
        what: &str,
        field: &str,
    ) -> Result<&'v ObjectProp<'t>> {
        object
            .get(field)
            .ok_or_else(|| self.fault(object.start(), format!("{what} has no `{field}`; add one")))
    }

    fn kind(self, value: &Value<'t>, what: &str, expected: &str) -> Fault {
        let found = match value {
            Value::StringLit(_) => "a string",
            Value::NumberLit(_) => "a number",
            Value::BooleanLit(_) => "true or false",
            Value::Object(_) => "an object",
            Value::Array(_) => "a list",
            Value::NullKeyword(_) => "null",
        };
        self.fault(
            value.start(),
            format!("{what} is {found} here; write {expected}"),
        )
    }
}

/// Names for a message.
pub(super) fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The value as JSON without comments and layout.
pub(super) fn compact(value: &Value<'_>, out: &mut String) {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match value {
        Value::StringLit(text) => out.push_str(&quoted(&text.value)),
        Value::NumberLit(number) => out.push_str(number.value),
        Value::BooleanLit(value) => out.push_str(if value.value { "true" } else { "false" }),
        Value::NullKeyword(_) => out.push_str("null"),
        Value::Array(array) => {
            out.push('[');
            for (index, element) in array.elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                compact(element, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (index, property) in object.properties.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(property.name.as_str()));
                out.push(':');
                compact(&property.value, out);
            }
            out.push('}');
        }
    }
}
