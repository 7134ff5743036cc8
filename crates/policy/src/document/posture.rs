//! What is known of a machine beyond who it is, and what rules ask of it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::MAX_LIST;
use super::selector::name;

/// What is known of a machine: `node:os` → `linux`. Names: [`is_attribute`].
pub type Attributes = BTreeMap<String, String>;

/// Attribute of the operating system: `linux`, `macos`, `windows`, `ios`, `android`, `freebsd`.
pub const OS: &str = "node:os";
/// Attribute of the country that the machine calls from: ISO 3166-1 alpha-2.
pub const COUNTRY: &str = "ip:country";

/// Attribute of machines that a posture policy restricts ([`super::Document::restricting`]).
pub const RESTRICTED: &str = "posture:restricted";

/// Attributes beside `custom:…`. Those of posture reports are here too: a machine that has not
/// reported is one of which they are not known.
const KNOWN: [&str; 14] = [
    OS,
    "node:osVersion",
    "node:distro",
    "node:distroVersion",
    "node:agentVersion",
    COUNTRY,
    "posture:diskEncryption",
    "posture:firewall",
    "posture:screenLock",
    "posture:antivirus",
    "posture:autoUpdate",
    "posture:rebootPending",
    "posture:compliant",
    RESTRICTED,
];

/// Whether the name is one that a document may ask for.
#[must_use]
pub fn is_attribute(attribute: &str) -> bool {
    let custom = attribute.strip_prefix("custom:");
    KNOWN.contains(&attribute) || custom.is_some_and(|custom| name(custom).is_ok())
}

/// What three-valued logic says of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// It does not hold.
    No,
    /// Something that it asks for is not known.
    Unknown,
    /// It holds.
    Yes,
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::Yes } else { Self::No }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
    In,
    NotIn,
    Set,
    NotSet,
}

/// `ATTRIBUTE OPERATOR VALUE`, as in `node:osVersion >= '14.2'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// As it is written.
    pub text: String,
    attribute: String,
    operator: Operator,
    values: Vec<String>,
}

/// Operators in the order in which they are looked for: the longer before its beginning.
const OPERATORS: [(&str, Operator); 10] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("<", Operator::Less),
    (">", Operator::More),
    ("NOT IN", Operator::NotIn),
    ("IN", Operator::In),
    ("NOT SET", Operator::NotSet),
    ("IS SET", Operator::Set),
];

impl Assertion {
    /// Reads an assertion.
    ///
    /// # Errors
    /// What is wrong, and what is allowed.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let end = trimmed
            .find(|c: char| c.is_whitespace() || "=!<>".contains(c))
            .unwrap_or(trimmed.len());
        let (attribute, rest) = trimmed.split_at(end);
        if !is_attribute(attribute) {
            let hint = match attribute {
                "node:tsVersion" => " (the agent's version is `node:agentVersion`)",
                _ => "",
            };
            return Err(format!(
                "there is no attribute `{attribute}`{hint}; possible are {}, `custom:NAME`",
                super::reader::list(&KNOWN)
            ));
        }
        let rest = rest.trim();
        let found = OPERATORS
            .iter()
            .find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?.trim())));
        let Some((operator, value)) = found else {
            return Err(format!(
                "`{rest}` does not begin with an operator; possible are `==`, `!=`, `<`, `<=`, \
                 `>`, `>=`, `IN [..]`, `NOT IN [..]`, `IS SET`, `NOT SET`"
            ));
        };
        let values = match operator {
            Operator::Set | Operator::NotSet if value.is_empty() => Vec::new(),
            Operator::Set | Operator::NotSet => {
                return Err(format!("nothing may follow here; remove `{value}`"));
            }
            Operator::In | Operator::NotIn => values(value)?,
            _ => vec![literal(value)?],
        };
        let ordered = matches!(
            operator,
            Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast
        );
        if ordered && values.iter().any(|value| version(value).is_none()) {
            return Err(format!(
                "`{value}` has no order; compare with a number or a version like '14.2.1'"
            ));
        }
        Ok(Self {
            text: trimmed.to_owned(),
            attribute: attribute.to_owned(),
            operator,
            values,
        })
    }

    /// An attribute that is one of these.
    pub(crate) fn one_of(attribute: &str, values: &[String]) -> Self {
        Self {
            text: format!("{attribute} IN [{}]", values.join(", ")),
            attribute: attribute.to_owned(),
            operator: Operator::In,
            values: values.to_vec(),
        }
    }

    /// An attribute that is known.
    pub(crate) fn is_set(attribute: &str) -> Self {
        Self {
            text: format!("{attribute} IS SET"),
            attribute: attribute.to_owned(),
            operator: Operator::Set,
            values: Vec::new(),
        }
    }

    /// Whether it is about that attribute.
    pub(super) fn asks_for(&self, attribute: &str) -> bool {
        self.attribute == attribute
    }

    /// Whether the assertion holds of a machine.
    #[must_use]
    pub fn holds(&self, attributes: &Attributes) -> Truth {
        let value = attributes.get(&self.attribute);
        match self.operator {
            Operator::Set => return value.is_some().into(),
            Operator::NotSet => return value.is_none().into(),
            _ => {}
        }
        let Some(value) = value else {
            return Truth::Unknown;
        };
        let equal = |other: &String| other.eq_ignore_ascii_case(value);
        let order = || compare_versions(value, self.values.first()?);
        let ordered =
            |holds: fn(Ordering) -> bool| order().map_or(Truth::Unknown, |o| holds(o).into());
        match self.operator {
            Operator::Equal | Operator::In => self.values.iter().any(equal).into(),
            Operator::NotEqual | Operator::NotIn => (!self.values.iter().any(equal)).into(),
            Operator::Less => ordered(Ordering::is_lt),
            Operator::AtMost => ordered(Ordering::is_le),
            Operator::More => ordered(Ordering::is_gt),
            Operator::AtLeast => ordered(Ordering::is_ge),
            Operator::Set | Operator::NotSet => Truth::Unknown,
        }
    }

    /// What the machine has, for explanations.
    #[must_use]
    pub fn found(&self, attributes: &Attributes) -> String {
        match attributes.get(&self.attribute) {
            Some(value) => format!("{} is {value:?}", self.attribute),
            None => format!("{} is not known", self.attribute),
        }
    }
}

/// `'text'`, `"text"`, a number, `true`, `false`.
fn literal(text: &str) -> Result<String, String> {
    for quote in ['\'', '"'] {
        let inner = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return Ok(inner.to_owned());
        }
    }
    let plain = text == "true" || text == "false" || version(text).is_some();
    match plain {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "`{text}` is no value; write 'text', a number, true or false"
        )),
    }
}

fn values(text: &str) -> Result<Vec<String>, String> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .ok_or_else(|| format!("`{text}` is no list; write ['one', 'two']"))?;
    let values: Vec<_> = inner
        .split(',')
        .map(|value| literal(value.trim()))
        .collect::<Result<_, _>>()?;
    match values.len() <= MAX_LIST {
        true => Ok(values),
        false => Err(format!("more than {MAX_LIST} values; write fewer")),
    }
}

/// How two versions compare, as `<` and `>=` do it. `None`: one of them is no version.
#[must_use]
pub fn compare_versions(one: &str, other: &str) -> Option<Ordering> {
    Some(version(one)?.cmp(&version(other)?))
}

/// Numbers with dots between, as versions compare: 9 before 10, and 14 is 14.0. What follows a `-`
/// or `+` does not count.
fn version(text: &str) -> Option<Vec<u64>> {
    let core = text.split(['-', '+']).next()?;
    let mut parts: Vec<u64> = core
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    while parts.last() == Some(&0) {
        parts.pop();
    }
    Some(parts)
}
