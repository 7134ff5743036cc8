//! Whom rules speak of, as the document names them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use ztna_proto::api::Role;
use ztna_proto::ids::MachineId;

use super::MAX_NAME;

/// Which machines a rule speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// `*`: every machine of the org. As a destination also every network behind one.
    Any,
    /// An e-mail address: the user's machines that have no tag.
    User(String),
    /// `group:NAME`: machines of its users.
    Group(String),
    /// `tag:NAME`: machines with the tag.
    Tag(String),
    /// `autogroup:member`: every machine without a tag, of whatever user or auth key.
    Member,
    /// `autogroup:tagged`: every machine with a tag.
    Tagged,
    /// `autogroup:owner`, `autogroup:admin`, `autogroup:auditor`: machines of users with the role.
    Role(UserRole),
    /// `autogroup:self`: the machines of the user who opens; a destination only.
    Itself,
    /// `autogroup:internet`: public addresses, by way of an exit node; a destination only.
    Internet,
    /// `machine:ID`: one machine.
    Machine(MachineId),
    /// An address, a network, or the name of one from `hosts`: the machine whose tailnet address
    /// it is, all its addresses included; as a destination also what lies behind subnet routes.
    Network(IpNet),
}

/// A role that an autogroup stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserRole {
    /// `owner`
    Owner,
    /// `admin`
    Admin,
    /// `auditor`
    Auditor,
}

impl UserRole {
    pub(crate) fn is(self, role: Role) -> bool {
        matches!(
            (self, role),
            (Self::Owner, Role::Owner)
                | (Self::Admin, Role::Admin)
                | (Self::Auditor, Role::Auditor)
        )
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::User(email) => f.write_str(email),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Tag(name) => write!(f, "tag:{name}"),
            Self::Member => f.write_str("autogroup:member"),
            Self::Tagged => f.write_str("autogroup:tagged"),
            Self::Role(UserRole::Owner) => f.write_str("autogroup:owner"),
            Self::Role(UserRole::Admin) => f.write_str("autogroup:admin"),
            Self::Role(UserRole::Auditor) => f.write_str("autogroup:auditor"),
            Self::Itself => f.write_str("autogroup:self"),
            Self::Internet => f.write_str("autogroup:internet"),
            Self::Machine(id) => write!(f, "machine:{id}"),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// Where a selector stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Source,
    Destination,
    /// Of a tag, or of an automatic approval.
    Owner,
}

/// What the document declares, for selectors to name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    pub(crate) hosts: BTreeMap<String, IpNet>,
    pub(crate) tags: BTreeSet<String>,
}

/// What a selector may be, for messages.
const FORMS: &str = "`*`, an e-mail address, `group:NAME`, `tag:NAME`, `autogroup:…`, \
                     `machine:ID`, an address, a network, or a name from `hosts`";

impl Names {
    /// Reads a selector.
    ///
    /// # Errors
    /// What is wrong with it, and what is allowed.
    pub(super) fn selector(&self, text: &str, place: Place) -> Result<Selector, String> {
        let selector = self.any_selector(text)?;
        match (&selector, place) {
            (Selector::Itself | Selector::Internet, Place::Source | Place::Owner) => Err(format!(
                "`{text}` can only be a destination; move it to `dst`"
            )),
            (Selector::Any | Selector::Machine(_) | Selector::Network(_), Place::Owner) => Err(
                format!("`{text}` cannot own; name users, groups, tags or autogroups of users"),
            ),
            _ => Ok(selector),
        }
    }

    fn any_selector(&self, text: &str) -> Result<Selector, String> {
        if text == "*" {
            return Ok(Selector::Any);
        }
        if let Some(name) = text.strip_prefix("autogroup:") {
            return autogroup(name);
        }
        if let Some(name) = text.strip_prefix("group:") {
            return match self.groups.contains_key(name) {
                true => Ok(Selector::Group(name.to_owned())),
                false => Err(format!(
                    "`{text}` is not in `groups`; add it there (`[]` if your identity provider \
                     says who is in it)"
                )),
            };
        }
        if let Some(name) = text.strip_prefix("tag:") {
            return match self.tags.contains(name) {
                true => Ok(Selector::Tag(name.to_owned())),
                false => Err(format!(
                    "`{text}` is not in `tagOwners`; add it there with those who may give it \
                     (`[]` means owners and admins of the org)"
                )),
            };
        }
        if let Some(id) = text.strip_prefix("machine:") {
            return id.parse().map(Selector::Machine).map_err(|_| {
                format!(
                    "`{id}` is no machine id; `GET /api/orgs/ORG/machines` \
                     lists them. Names are not possible here, because another machine may get one"
                )
            });
        }
        if let Some(network) = self.hosts.get(text) {
            return Ok(Selector::Network(*network));
        }
        if let Some(network) = network(text) {
            return network.map(Selector::Network);
        }
        if text.contains('@') {
            return email(text).map(Selector::User);
        }
        if let Some((kind @ ("ipset" | "svc" | "nodeAttr"), _)) = text.split_once(':') {
            return Err(format!("`{kind}:` is not supported; possible are {FORMS}"));
        }
        Err(format!(
            "`{text}` names nothing here; possible are {FORMS}. A name has to be in `hosts`"
        ))
    }
}

fn autogroup(name: &str) -> Result<Selector, String> {
    Ok(match name {
        "member" | "members" => Selector::Member,
        "tagged" => Selector::Tagged,
        "self" => Selector::Itself,
        "internet" => Selector::Internet,
        "owner" => Selector::Role(UserRole::Owner),
        "admin" => Selector::Role(UserRole::Admin),
        "auditor" => Selector::Role(UserRole::Auditor),
        "danger-all" => {
            return Err(
                "`autogroup:danger-all` is not supported: nothing from outside the org gets in; \
                 write `*` for all of its machines"
                    .to_owned(),
            );
        }
        _ => {
            return Err(format!(
                "there is no `autogroup:{name}`; possible are `autogroup:member`, \
                 `autogroup:tagged`, `autogroup:owner`, `autogroup:admin`, `autogroup:auditor`, \
                 and as destinations `autogroup:self` and `autogroup:internet`"
            ));
        }
    })
}

/// `None`: it does not look like an address.
pub(super) fn network(text: &str) -> Option<Result<IpNet, String>> {
    let text = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Ok(address.to_canonical().into()));
    }
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let network = bits
        .parse()
        .ok()
        .and_then(|bits| IpNet::new(address, bits).ok());
    Some(match network {
        Some(network) if network.trunc() == network => Ok(network),
        Some(network) => Err(format!(
            "`{text}` has bits behind its prefix; write `{}`",
            network.trunc()
        )),
        None => Err(format!(
            "`{text}` has no valid prefix length; write 0 to {} behind the `/`",
            if address.is_ipv4() { 32 } else { 128 }
        )),
    })
}

/// E-mail addresses name accounts in lower case.
pub(super) fn email(text: &str) -> Result<String, String> {
    let mut parts = text.split('@');
    let whole = matches!(
        (parts.next(), parts.next(), parts.next()),
        (Some(user), Some(host), None) if !user.is_empty() && !host.is_empty()
    );
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':');
    if whole && clean && text.len() <= MAX_NAME {
        return Ok(text.to_lowercase());
    }
    Err(format!(
        "`{text}` is no e-mail address; write one like `alice@example.com`"
    ))
}

/// Whether a text, without `group:`, can be the name of a group.
#[must_use]
pub fn is_group_name(text: &str) -> bool {
    name(text).is_ok()
}

/// Names of groups, tags, hosts, postures and rules.
pub(super) fn name(text: &str) -> Result<&str, String> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    if !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(allowed) {
        return Ok(text);
    }
    Err(format!(
        "`{text}` is no name; use 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`"
    ))
}
