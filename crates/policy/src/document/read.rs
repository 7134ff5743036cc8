//! Reads the whole document.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged;
use ztna_proto::ids::RuleId;
use ztna_proto::policy::{Fault, Section};

use super::posture::{Assertion, Attributes, is_attribute};
use super::reader::{Reader, Result};
use super::rules::{Rules, timestamp};
use super::selector::{Names, Place, Selector, email, name, network};
use super::service::protocol;
use super::{Document, MAX_GROUP, MAX_LIST, MAX_RULES, Probe, Test};

const FIELDS: [&str; 9] = [
    "acls",
    "grants",
    "groups",
    "hosts",
    "tagOwners",
    "autoApprovers",
    "postures",
    "defaultSrcPosture",
    "tests",
];

/// What a document of Tailscale's may hold and ours may not, and the way out.
const REFUSED: [(&str, &str); 12] = [
    (
        "ssh",
        "SSH access has no rules of its own here; remove `ssh`, and allow port 22 in `acls`",
    ),
    (
        "sshTests",
        "SSH access has no rules of its own here; remove `sshTests`",
    ),
    (
        "nodeAttrs",
        "attributes of machines are not set by the policy here; remove `nodeAttrs`",
    ),
    (
        "derpMap",
        "relays are not set by the policy here; remove `derpMap`, and use `PUT /api/orgs/ORG/relays/ID`",
    ),
    (
        "ipsets",
        "`ipsets` are not supported; put the networks into `hosts` or into the rules",
    ),
    ("attrConfig", "`attrConfig` is not supported; remove it"),
    (
        "disableIPv4",
        "every machine has both families here; remove `disableIPv4`",
    ),
    (
        "OneCGNATRoute",
        "routes are not set by the policy here; remove `OneCGNATRoute`",
    ),
    (
        "randomizeClientPort",
        "ports are not set by the policy here; remove `randomizeClientPort`",
    ),
    ("Acls", "write `acls`"),
    ("ACLs", "write `acls`"),
    ("tagowners", "write `tagOwners`"),
];

pub(super) fn document(text: &str) -> Result<Document> {
    let reader = Reader(text);
    let root = reader.root()?;
    let object = reader.any_object(&root, "the document")?;
    for (field, message) in REFUSED {
        if let Some(property) = object.get(field) {
            return Err(reader.fault(property.start(), message));
        }
    }
    reader.object(&root, "the document", &FIELDS)?;

    let mut names = Names {
        groups: groups(reader, object)?,
        hosts: hosts(reader, object)?,
        tags: BTreeSet::new(),
    };
    for property in entries(reader, object, "tagOwners")? {
        names.tags.insert(prefixed(reader, property, "tag:")?);
    }
    let postures = postures(reader, object)?;
    let known = |posture: &str| postures.contains_key(posture);
    let rules_reader = Rules {
        reader,
        names: &names,
        postures: &known,
    };

    let mut document = Document::default();
    for property in entries(reader, object, "tagOwners")? {
        let owners = owners(reader, &names, &property.value, "tagOwners")?;
        document
            .tag_owners
            .insert(prefixed(reader, property, "tag:")?, owners);
    }
    for text in reader.texts_of(object, "defaultSrcPosture")? {
        document.default_postures.push(rules_reader.posture(text)?);
    }
    for section in [Section::Acls, Section::Grants] {
        let Some(property) = object.get(section.field()) else {
            continue;
        };
        let what = format!("`{}`", section.field());
        let rules = reader.list(&property.value, &what, MAX_RULES)?;
        for (index, value) in rules.iter().enumerate() {
            document
                .rules
                .push(rules_reader.read(value, section, index)?);
        }
    }
    check_rules(&mut document)?;
    read_approvers(reader, &names, object, &mut document)?;
    if let Some(property) = object.get("tests") {
        for value in reader.list(&property.value, "`tests`", MAX_LIST)? {
            document.tests.push(test(&rules_reader, value)?);
        }
    }
    document.postures = postures;
    document.names = names;
    Ok(document)
}

/// The entries of a field that is an object with names of the author's choice.
fn entries<'v, 't>(
    reader: Reader<'t>,
    object: &'v Object<'t>,
    field: &str,
) -> Result<&'v [ObjectProp<'t>]> {
    let Some(property) = object.get(field) else {
        return Ok(&[]);
    };
    let object = reader.any_object(&property.value, &format!("`{field}`"))?;
    if object.properties.len() > MAX_LIST {
        return Err(reader.fault(
            object.start(),
            format!("`{field}` has more than {MAX_LIST} entries; remove those that no rule uses"),
        ));
    }
    Ok(&object.properties)
}

/// The name behind `group:` and the like.
fn prefixed(reader: Reader<'_>, property: &ObjectProp<'_>, prefix: &str) -> Result<String> {
    let text = property.name.as_str();
    let Some(rest) = text.strip_prefix(prefix) else {
        return Err(reader.fault(
            property.start(),
            format!("`{text}` does not begin with `{prefix}`; write `{prefix}{text}`"),
        ));
    };
    let rest = name(rest).map_err(|fault| reader.fault(property.start(), fault))?;
    Ok(rest.to_owned())
}

fn groups(reader: Reader<'_>, object: &Object<'_>) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut groups = BTreeMap::new();
    for property in entries(reader, object, "groups")? {
        let group = prefixed(reader, property, "group:")?;
        let mut users = BTreeSet::new();
        for value in reader.list(&property.value, "a group", MAX_GROUP)? {
            let text = reader.text(value, "an entry of a group")?;
            let user = match text.value.starts_with("group:") {
                true => Err(
                    "a group cannot hold another; name its users, or name both groups in the rules"
                        .to_owned(),
                ),
                false => email(text.value),
            };
            users.insert(user.map_err(|fault| reader.fault(text.at, fault))?);
        }
        groups.insert(group, users);
    }
    Ok(groups)
}

fn hosts(reader: Reader<'_>, object: &Object<'_>) -> Result<BTreeMap<String, IpNet>> {
    let mut hosts = BTreeMap::new();
    for property in entries(reader, object, "hosts")? {
        let host = property.name.as_str();
        let named = match network(host) {
            Some(_) => Err(format!("`{host}` is an address; give the host a name")),
            None => name(host).map(str::to_owned),
        };
        let named = named.map_err(|fault| reader.fault(property.start(), fault))?;
        let text = reader.text(&property.value, "a host")?;
        let address = network(text.value).unwrap_or_else(|| {
            Err(format!(
                "`{}` is no address; write one like `100.64.0.7`, or a network like `10.1.0.0/16`",
                text.value
            ))
        });
        hosts.insert(
            named,
            address.map_err(|fault| reader.fault(text.at, fault))?,
        );
    }
    Ok(hosts)
}

fn postures(reader: Reader<'_>, object: &Object<'_>) -> Result<BTreeMap<String, Vec<Assertion>>> {
    let mut postures = BTreeMap::new();
    for property in entries(reader, object, "postures")? {
        let posture = prefixed(reader, property, "posture:")?;
        let assertions = reader.texts(&property.value, "a posture")?;
        if assertions.is_empty() {
            return Err(reader.fault(
                property.start(),
                format!("`posture:{posture}` asks for nothing; write at least one assertion"),
            ));
        }
        let assertions = assertions
            .iter()
            .map(|text| Assertion::parse(text.value).map_err(|fault| reader.fault(text.at, fault)));
        postures.insert(
            format!("posture:{posture}"),
            assertions.collect::<Result<_>>()?,
        );
    }
    Ok(postures)
}

fn owners(
    reader: Reader<'_>,
    names: &Names,
    value: &Value<'_>,
    field: &str,
) -> Result<Vec<Selector>> {
    let texts = reader.texts(value, &format!("an entry of `{field}`"))?;
    let owners = texts.iter().map(|text| {
        let owner = names.selector(text.value, Place::Owner);
        owner.map_err(|fault| reader.fault(text.at, fault))
    });
    owners.collect()
}

/// Ids: each once. Two rules without an `id` may say the same; the later then gets another.
fn check_rules(document: &mut Document) -> Result<()> {
    if let Some(rule) = document.rules.get(MAX_RULES) {
        return Err(Fault::new(
            rule.at,
            format!("the document has more than {MAX_RULES} rules; join some"),
        ));
    }
    let named = document.rules.iter().filter(|rule| rule.name.is_some());
    let mut ids: BTreeMap<RuleId, usize> = BTreeMap::new();
    for rule in named {
        if let Some(line) = ids.insert(rule.id, rule.at.line) {
            return Err(Fault::new(
                rule.at,
                format!(
                    "the rule of line {line} has the id `{}` too; give one of them another",
                    rule.name.as_deref().unwrap_or_default()
                ),
            ));
        }
    }
    let mut taken: BTreeSet<RuleId> = ids.into_keys().collect();
    for rule in document.rules.iter_mut().filter(|rule| rule.name.is_none()) {
        while !taken.insert(rule.id) {
            let next = rule.id.0.as_u128().wrapping_add(1);
            rule.id = RuleId(uuid::Uuid::from_u128(next));
        }
    }
    Ok(())
}

fn read_approvers(
    reader: Reader<'_>,
    names: &Names,
    object: &Object<'_>,
    document: &mut Document,
) -> Result<()> {
    let Some(property) = object.get("autoApprovers") else {
        return Ok(());
    };
    let what = "`autoApprovers`";
    let approvers = reader.object(&property.value, what, &["routes", "exitNode"])?;
    for property in entries(reader, approvers, "routes")? {
        let text = property.name.as_str();
        let network = network(text).unwrap_or_else(|| {
            Err(format!(
                "`{text}` is no network; write one like `10.1.0.0/16`"
            ))
        });
        let network = network.map_err(|fault| reader.fault(property.start(), fault))?;
        if network.prefix_len() == 0 {
            return Err(reader.fault(
                property.start(),
                "a route to everywhere is an exit node; name its approvers in `exitNode`",
            ));
        }
        let owners = owners(reader, names, &property.value, "routes")?;
        document.auto_routes.push((network, owners));
    }
    if let Some(property) = approvers.get("exitNode") {
        document.auto_exit = owners(reader, names, &property.value, "exitNode")?;
    }
    Ok(())
}

fn test(rules: &Rules<'_, '_>, value: &Value<'_>) -> Result<Test> {
    let reader = rules.reader;
    let what = "a test";
    let fields = [
        "src",
        "accept",
        "allow",
        "deny",
        "proto",
        "srcPostureAttrs",
        "time",
    ];
    let object = reader.object(value, what, &fields)?;
    let src = reader.required(object, what, "src")?;
    let src = reader.text(&src.value, "`src`")?;
    let selector = rules.names.selector(src.value, Place::Source);
    let selector = selector.map_err(|fault| reader.fault(src.at, fault))?;
    if selector == Selector::Any {
        return Err(reader.fault(
            src.at,
            "a test asks for one source; name a user, a group, a tag, an autogroup or an address",
        ));
    }
    let mut test = Test {
        at: reader.position(value.start()),
        src: selector,
        attributes: Attributes::new(),
        time: None,
        protocol: None,
        accept: Vec::new(),
        deny: Vec::new(),
    };
    if let Some(property) = object.get("proto") {
        let text = reader.text(&property.value, "`proto`")?;
        let protocol = protocol(text.value).map_err(|fault| reader.fault(text.at, fault))?;
        test.protocol = Some(protocol);
    }
    if let Some(property) = object.get("time") {
        test.time = Some(timestamp(reader, &property.value, "`time`")?);
    }
    for property in entries(reader, object, "srcPostureAttrs")? {
        let attribute = property.name.as_str();
        if !is_attribute(attribute) {
            return Err(reader.fault(
                property.start(),
                format!("there is no attribute `{attribute}`; `node:os`, `ip:country` and `custom:NAME` are some"),
            ));
        }
        let value = match &property.value {
            Value::BooleanLit(value) => value.value.to_string(),
            Value::NumberLit(value) => value.value.to_owned(),
            other => reader.text(other, "an attribute")?.value.to_owned(),
        };
        test.attributes.insert(attribute.to_owned(), value);
    }
    for (field, allowed) in [("accept", true), ("allow", true), ("deny", false)] {
        for text in reader.texts_of(object, field)? {
            let probe = probe(rules, text.value, &test);
            let (dst, port) = probe.map_err(|fault| reader.fault(text.at, fault))?;
            let list = if allowed {
                &mut test.accept
            } else {
                &mut test.deny
            };
            list.push(Probe {
                at: reader.position(text.at),
                dst,
                port,
            });
        }
    }
    if test.accept.is_empty() && test.deny.is_empty() {
        return Err(reader.fault(
            value.start(),
            "the test expects nothing; write `accept` or `deny` with destinations like `tag:web:443`",
        ));
    }
    Ok(test)
}

fn probe(
    rules: &Rules<'_, '_>,
    text: &str,
    test: &Test,
) -> std::result::Result<(Selector, Option<u16>), String> {
    let (dst, ports) = rules.with_ports(text)?;
    if matches!(dst, Selector::Any) {
        return Err("a test asks for one destination; name a user, a tag, an autogroup, a host or an address".to_owned());
    }
    let has_ports = test.protocol.is_none_or(crate::reach::has_ports);
    match (ports, has_ports) {
        ("*", false) => Ok((dst, None)),
        (_, false) => Err(format!(
            "the protocol has no ports; write `*` instead of `{ports}`"
        )),
        (_, true) => match ports.parse() {
            Ok(port) => Ok((dst, Some(port))),
            Err(_) => Err(format!(
                "a test asks for one port; write a number instead of `{ports}`"
            )),
        },
    }
}
