//! Reads `acls` and `grants`.

use jiff::Timestamp;
use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;
use sha2::{Digest, Sha256};
use uuid::Builder;
use ztna_proto::filter::Action;
use ztna_proto::ids::RuleId;
use ztna_proto::policy::Section;

use super::reader::{Reader, Result, Text, compact};
use super::schedule::{self, Window};
use super::selector::{Names, Place, Selector, name};
use super::service::{self, Service};
use super::{Conditions, Destination, MAX_COMBINATIONS, MAX_DESCRIPTION, MAX_LIST, Rule};

const CONDITIONS: [&str; 7] = [
    "id",
    "description",
    "srcPosture",
    "srcOS",
    "srcCountry",
    "when",
    "expires",
];

/// What separates the two ways in which a rule gets its id.
const NAMED: &[u8] = b"ztna policy rule by name v1\0";
const BY_CONTENT: &[u8] = b"ztna policy rule by content v1\0";

pub(super) struct Rules<'a, 't> {
    pub(super) reader: Reader<'t>,
    pub(super) names: &'a Names,
    pub(super) postures: &'a dyn Fn(&str) -> bool,
}

impl<'t> Rules<'_, 't> {
    pub(super) fn read(&self, value: &Value<'t>, section: Section, index: usize) -> Result<Rule> {
        let own: &[&str] = match section {
            Section::Acls => &["action", "proto", "src", "dst"],
            Section::Grants => &["action", "src", "dst", "ip"],
        };
        let what = match section {
            Section::Acls => "a rule of `acls`",
            Section::Grants => "a grant",
        };
        let reader = self.reader;
        self.refuse(value, section)?;
        let object = reader.object(value, what, &[own, &CONDITIONS].concat())?;
        let src = self.selectors(object, what, "src", Place::Source)?;
        let dst = match section {
            Section::Acls => self.acl_destinations(object, what)?,
            Section::Grants => self.grant_destinations(object, what)?,
        };
        self.check_self(object, &src, &dst)?;
        let name = self.name(object)?;
        Ok(Rule {
            id: match &name {
                Some(name) => id_of_name(name),
                None => id_of_content(value, section),
            },
            name,
            description: self.description(object)?,
            section,
            index,
            at: reader.position(value.start()),
            action: self.action(object, what, section)?,
            src,
            dst,
            conditions: self.conditions(object)?,
        })
    }

    /// Fields of Tailscale's that ours have not, with what to do.
    fn refuse(&self, value: &Value<'t>, section: Section) -> Result<()> {
        let Value::Object(object) = value else {
            return Ok(());
        };
        let refused: &[(&str, &str)] = &[
            (
                "app",
                "application capabilities are not supported; remove `app`, and say what may be opened in `ip`",
            ),
            (
                "via",
                "routing by `via` is not supported; remove it, and approve the route on the routers that are meant",
            ),
            ("users", "write `src` instead of `users`"),
            (
                "ports",
                "write `dst` instead of `ports`: `\"dst\": [\"tag:web:443\"]`",
            ),
            (
                "srcPort",
                "rules do not look at source ports; remove `srcPort`",
            ),
        ];
        for (field, message) in refused {
            if let Some(property) = object.get(field) {
                return Err(self.reader.fault(property.start(), *message));
            }
        }
        match section {
            Section::Acls => Ok(()),
            Section::Grants => match object.get("proto") {
                Some(property) => Err(self.reader.fault(
                    property.start(),
                    "a grant has no `proto`; name protocols in `ip`: `\"ip\": [\"tcp:443\"]`",
                )),
                None => Ok(()),
            },
        }
    }

    fn name(&self, object: &Object<'t>) -> Result<Option<String>> {
        let Some(property) = object.get("id") else {
            return Ok(None);
        };
        let text = self.reader.text(&property.value, "`id`")?;
        let name = name(text.value).map_err(|fault| self.reader.fault(text.at, fault))?;
        Ok(Some(name.to_owned()))
    }

    fn description(&self, object: &Object<'t>) -> Result<String> {
        let Some(property) = object.get("description") else {
            return Ok(String::new());
        };
        let text = self.reader.text(&property.value, "`description`")?;
        if text.value.chars().count() > MAX_DESCRIPTION {
            return Err(self.reader.fault(
                text.at,
                format!("the description has more than {MAX_DESCRIPTION} characters; write a comment instead"),
            ));
        }
        Ok(text.value.to_owned())
    }

    fn action(&self, object: &Object<'t>, what: &str, section: Section) -> Result<Action> {
        if section == Section::Grants && object.get("action").is_none() {
            return Ok(Action::Allow);
        }
        let property = self.reader.required(object, what, "action")?;
        let text = self.reader.text(&property.value, "`action`")?;
        match text.value {
            "accept" => Ok(Action::Allow),
            "deny" => Ok(Action::Deny),
            other => Err(self.reader.fault(
                text.at,
                format!("`{other}` is no action; possible are `accept` and `deny`"),
            )),
        }
    }

    fn selectors(
        &self,
        object: &Object<'t>,
        what: &str,
        field: &str,
        place: Place,
    ) -> Result<Vec<Selector>> {
        let texts = self.side(object, what, field)?;
        let selectors = texts.iter().map(|text| {
            let selector = self.names.selector(text.value, place);
            selector.map_err(|fault| self.reader.fault(text.at, fault))
        });
        selectors.collect()
    }

    /// A side of a rule: never empty, for a rule about nobody is a mistake.
    fn side<'v>(&self, object: &'v Object<'t>, what: &str, field: &str) -> Result<Vec<Text<'v>>> {
        let property = self.reader.required(object, what, field)?;
        let texts = self.reader.texts(&property.value, &format!("`{field}`"))?;
        if texts.is_empty() {
            return Err(self.reader.fault(
                property.start(),
                format!("`{field}` names nobody; name at least one, or remove the rule"),
            ));
        }
        Ok(texts)
    }

    fn acl_destinations(&self, object: &Object<'t>, what: &str) -> Result<Vec<Destination>> {
        let protocols = match object.get("proto") {
            Some(property) => self.protocols(&property.value)?,
            None => Vec::new(),
        };
        let destinations = self.side(object, what, "dst")?.into_iter().map(|text| {
            let read = || {
                let (selector, ports) = self.with_ports(text.value)?;
                let service = Service {
                    protocols: protocols.clone(),
                    ports: service::ports(ports)?,
                };
                Ok(Destination {
                    selector,
                    services: vec![service.checked()?],
                })
            };
            read().map_err(|fault: String| self.reader.fault(text.at, fault))
        });
        destinations.collect()
    }

    /// `tag:web:80,443` → the selector, and the ports as they are written.
    pub(super) fn with_ports<'v>(
        &self,
        text: &'v str,
    ) -> std::result::Result<(Selector, &'v str), String> {
        let split = text.rsplit_once(':');
        let selector = |text| self.names.selector(text, Place::Destination);
        if let Some((whom, ports)) = split
            && let Ok(selector) = selector(whom)
        {
            return Ok((selector, ports));
        }
        if selector(text).is_ok() {
            return Err(format!(
                "`{text}` has no ports; write `{text}:*` or `{text}:443`"
            ));
        }
        // What is wrong with it without its ports.
        let looks_like_ports =
            |ports: &str| ports.starts_with(|c: char| c == '*' || c.is_ascii_digit());
        match split {
            Some((whom, ports)) if looks_like_ports(ports) => selector(whom),
            _ => selector(text),
        }
        .map(|selector| (selector, "*"))
    }

    /// One protocol or a list of them, as strings or numbers.
    fn protocols(&self, value: &Value<'t>) -> Result<Vec<ztna_proto::filter::Protocol>> {
        let single = std::slice::from_ref(value);
        let values = match value {
            Value::Array(_) => self.reader.list(value, "`proto`", MAX_LIST)?,
            _ => single,
        };
        let one = |value: &Value<'t>| {
            let text = match value {
                Value::NumberLit(number) => number.value,
                _ => self.reader.text(value, "`proto`")?.value,
            };
            service::protocol(text).map_err(|fault| self.reader.fault(value.start(), fault))
        };
        // As in Tailscale, an empty protocol is none.
        let empty =
            |value: &Value<'t>| matches!(value, Value::StringLit(text) if text.value.is_empty());
        values
            .iter()
            .filter(|value| !empty(value))
            .map(one)
            .collect()
    }

    fn grant_destinations(&self, object: &Object<'t>, what: &str) -> Result<Vec<Destination>> {
        let entries = self.side(object, what, "ip")?;
        let services: Vec<_> = entries
            .iter()
            .map(|text| {
                service::service(text.value).map_err(|fault| self.reader.fault(text.at, fault))
            })
            .collect::<Result<_>>()?;
        let selectors = self.selectors(object, what, "dst", Place::Destination)?;
        if selectors.len().saturating_mul(services.len()) > MAX_COMBINATIONS {
            return Err(self.reader.fault(
                object.start(),
                format!(
                    "{} destinations with {} entries of `ip` each are more than {MAX_COMBINATIONS} \
                     combinations; name a tag or a group, or ranges of ports",
                    selectors.len(),
                    services.len()
                ),
            ));
        }
        let destinations = selectors.into_iter().map(|selector| Destination {
            selector,
            services: services.clone(),
        });
        Ok(destinations.collect())
    }

    /// `autogroup:self` says "the same user": the sources have to be users.
    fn check_self(&self, object: &Object<'t>, src: &[Selector], dst: &[Destination]) -> Result<()> {
        if !dst.iter().any(|d| d.selector == Selector::Itself) {
            return Ok(());
        }
        let of_users = |selector: &Selector| {
            use Selector as S;
            matches!(
                selector,
                S::Any | S::User(_) | S::Group(_) | S::Member | S::Role(_)
            )
        };
        match src.iter().find(|selector| !of_users(selector)) {
            None => Ok(()),
            Some(other) => Err(self.reader.fault(
                object.get("src").map_or(object.start(), Ranged::start),
                format!(
                    "`{other}` is no user, and the destination `autogroup:self` means machines of \
                     the same user; name users, groups, `autogroup:member` or `*`"
                ),
            )),
        }
    }

    fn conditions(&self, object: &Object<'t>) -> Result<Conditions> {
        let reader = self.reader;
        let mut conditions = Conditions::default();
        for text in reader.texts_of(object, "srcPosture")? {
            conditions.postures.push(self.posture(text)?);
        }
        for text in reader.texts_of(object, "srcOS")? {
            const KNOWN: [&str; 6] = ["linux", "macos", "windows", "ios", "android", "freebsd"];
            if !KNOWN.contains(&text.value) {
                return Err(reader.fault(
                    text.at,
                    format!(
                        "`{}` is no operating system; possible are {}",
                        text.value,
                        super::reader::list(&KNOWN)
                    ),
                ));
            }
            conditions.os.push(text.value.to_owned());
        }
        for text in reader.texts_of(object, "srcCountry")? {
            let code = text.value.as_bytes();
            if code.len() != 2 || !code.iter().all(u8::is_ascii_uppercase) {
                return Err(reader.fault(
                    text.at,
                    format!(
                        "`{}` is no country; write two capital letters (ISO 3166), like `DE`",
                        text.value
                    ),
                ));
            }
            conditions.countries.push(text.value.to_owned());
        }
        for (field, value) in [
            ("srcOS", &conditions.os),
            ("srcCountry", &conditions.countries),
            ("srcPosture", &conditions.postures),
        ] {
            if let Some(property) = object.get(field)
                && value.is_empty()
            {
                return Err(reader.fault(
                    property.start(),
                    format!("`{field}` is empty; name at least one, or remove it"),
                ));
            }
        }
        if let Some(property) = object.get("when") {
            let single = std::slice::from_ref(&property.value);
            let windows = match &property.value {
                value @ Value::Array(_) => reader.list(value, "`when`", MAX_LIST)?,
                _ => single,
            };
            conditions.windows = windows
                .iter()
                .map(|value| self.window(value))
                .collect::<Result<_>>()?;
            if conditions.windows.is_empty() {
                return Err(reader.fault(
                    property.start(),
                    "`when` has no window, so the rule never holds; write one, or remove it",
                ));
            }
        }
        if let Some(property) = object.get("expires") {
            conditions.expires = Some(timestamp(reader, &property.value, "`expires`")?);
        }
        Ok(conditions)
    }

    pub(super) fn posture(&self, text: Text<'_>) -> Result<String> {
        if (self.postures)(text.value) {
            return Ok(text.value.to_owned());
        }
        Err(self.reader.fault(
            text.at,
            format!("`{}` is not in `postures`; add it there: `\"posture:NAME\": [\"node:os == 'linux'\"]`", text.value),
        ))
    }

    fn window(&self, value: &Value<'t>) -> Result<Window> {
        let reader = self.reader;
        let what = "a window of `when`";
        let object = reader.object(value, what, &["days", "from", "to", "zone"])?;
        let mut days = Vec::new();
        for text in reader.texts_of(object, "days")? {
            days.push(schedule::weekday(text.value).map_err(|fault| reader.fault(text.at, fault))?);
        }
        let time = |field: &str| {
            let Some(property) = object.get(field) else {
                return Ok(None);
            };
            let text = reader.text(&property.value, &format!("`{field}`"))?;
            let time = schedule::time(text.value).map_err(|fault| reader.fault(text.at, fault))?;
            Ok(Some(time))
        };
        let hours = match (time("from")?, time("to")?) {
            (Some(from), Some(to)) => Some((from, to)),
            (None, None) => None,
            _ => {
                return Err(reader.fault(
                    object.start(),
                    format!("{what} needs both `from` and `to`, or neither of them"),
                ));
            }
        };
        let zone = reader.required(object, what, "zone")?;
        let zone = reader.text(&zone.value, "`zone`")?;
        Window::new(days, hours, zone.value).map_err(|fault| reader.fault(zone.at, fault))
    }
}

pub(super) fn timestamp(reader: Reader<'_>, value: &Value<'_>, what: &str) -> Result<Timestamp> {
    let text = reader.text(value, what)?;
    text.value.parse().map_err(|_| {
        reader.fault(
            text.at,
            format!(
                "`{}` is no time; write RFC 3339, like `2027-01-31T18:00:00Z`",
                text.value
            ),
        )
    })
}

/// A name that is a UUID is the id itself.
fn id_of_name(name: &str) -> RuleId {
    name.parse().unwrap_or_else(|_| derived(NAMED, name))
}

fn id_of_content(value: &Value<'_>, section: Section) -> RuleId {
    let mut text = section.field().to_owned();
    compact(value, &mut text);
    derived(BY_CONTENT, &text)
}

/// UUIDv8 (RFC 9562 §5.8) of a hash.
pub(super) fn derived(context: &[u8], text: &str) -> RuleId {
    let hash = Sha256::new()
        .chain_update(context)
        .chain_update(text)
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    RuleId(Builder::from_custom_bytes(bytes).into_uuid())
}
