//! Which of an org's machines somebody wants to see, and in which order.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};
use ztna_proto::api::Machine;
use ztna_proto::connections::TunnelMix;
use ztna_proto::error::ErrorCode;
use ztna_proto::machines::MachineState;
use ztna_proto::posture::PostureStanding;

use crate::http::{ApiError, refuse};

/// Longest `search`, in characters.
const MAX_SEARCH: usize = 100;
/// Most machines of a page.
const MAX_LIMIT: u32 = 1_000;
/// Most entries of a list in a query.
const MAX_LIST: usize = 50;

/// What is wanted. Nothing said: all machines by name.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Words, each of which stands somewhere in a machine's name, addresses, user, tags, system or version, in any case.
    #[param(max_length = 100)]
    search: Option<String>,
    /// Only machines in one of these states, with commas between them.
    #[serde(default, deserialize_with = "words")]
    #[param(value_type = Option<String>, example = "pending,quarantined")]
    state: Vec<MachineState>,
    /// Only machines with one of these systems, without the architecture, with commas between them.
    #[serde(default, deserialize_with = "list")]
    #[param(value_type = Option<String>, example = "linux,windows")]
    os: Vec<String>,
    /// Only machines with one of these tags, with commas between them.
    #[serde(default, deserialize_with = "list")]
    #[param(value_type = Option<String>, example = "tag:web,tag:db")]
    tag: Vec<String>,
    /// Only machines that stand so with the org's posture policies, with commas between them.
    #[serde(default, deserialize_with = "words")]
    #[param(value_type = Option<String>, example = "failing,stale")]
    posture: Vec<PostureStanding>,
    /// By what they are sorted; else by name.
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// The other way round.
    #[serde(default)]
    descending: bool,
    /// Most machines of the page, 1 to 1,000; else all that there are.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Machines to leave out before the page begins.
    #[serde(default)]
    offset: u32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    Name,
    Address,
    User,
    Os,
    Version,
    State,
    LastSeen,
    CreatedAt,
    KeyExpiresAt,
    /// By the first of them; machines without any are last.
    Tags,
    /// By the share of their tunnels that go directly; machines without any are last.
    Path,
    /// By the share of their tunnels with post-quantum keys; machines without any are last.
    PostQuantum,
    /// Those that fail first.
    Posture,
}

impl Wanted {
    /// # Errors
    /// `VALIDATION_ERROR` if it asks for too much.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let long = self.search.as_ref().map_or(0, |text| text.chars().count()) > MAX_SEARCH;
        if long {
            return Err(refuse(
                ErrorCode::ValidationError,
                format!("`search` may have {MAX_SEARCH} characters; shorten it"),
            ));
        }
        let lists = [
            self.state.len(),
            self.os.len(),
            self.tag.len(),
            self.posture.len(),
        ];
        if lists.into_iter().any(|length| length > MAX_LIST) {
            return Err(refuse(
                ErrorCode::ValidationError,
                format!(
                    "`state`, `os`, `tag` and `posture` may have {MAX_LIST} entries each; shorten them"
                ),
            ));
        }
        if self
            .limit
            .is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit))
        {
            return Err(refuse(
                ErrorCode::ValidationError,
                format!("`limit` may be 1 to {MAX_LIMIT}; correct it"),
            ));
        }
        Ok(())
    }

    fn words(&self) -> Vec<String> {
        let words = self.search.iter().flat_map(|text| text.split_whitespace());
        words.map(str::to_lowercase).collect()
    }

    /// Whether the machines' tunnels have to be known before [`Wanted::select`].
    pub(super) fn asks_for_tunnels(&self) -> bool {
        matches!(self.sort, Sort::Path | Sort::PostQuantum)
    }

    /// The page as the database can find it, without reading the whole org: not by what is known of machines' presence,
    /// posture and tunnels alone, nor by versions, which are more than texts.
    pub(super) fn in_database(&self) -> Option<InDatabase> {
        let beyond = !self.state.is_empty() || !self.posture.is_empty();
        let limit = self.limit.filter(|_| !beyond)?;
        Some(InDatabase {
            words: self.words(),
            systems: self.os.clone(),
            tags: self.tag.clone(),
            order: self.sort.in_database(self.descending)?,
            limit,
            offset: self.offset,
        })
    }

    /// The page, and how many machines there are on all pages. `machines` are sorted by name.
    pub(super) fn select(&self, mut machines: Vec<Machine>) -> (u64, Vec<Machine>) {
        let words = self.words();
        machines.retain(|machine| {
            let is_in = |list: &[String], text: &str| list.iter().any(|one| one == text);
            let system = machine.os.split('-').next().unwrap_or_default();
            (self.state.is_empty() || self.state.contains(&machine.life.state))
                && (self.posture.is_empty() || self.posture.contains(&machine.posture))
                && (self.os.is_empty() || is_in(&self.os, system))
                && (self.tag.is_empty()
                    || machine.life.tags.iter().any(|tag| is_in(&self.tag, tag)))
                && (words.is_empty() || {
                    let text = text_of(machine);
                    words.iter().all(|word| text.contains(word))
                })
        });
        // The sort is stable: what is alike stays in the order of names.
        machines.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            let order = match self.descending {
                true => order.reverse(),
                false => order,
            };
            self.sort.lacks(a).cmp(&self.sort.lacks(b)).then(order)
        });
        let total = u64::try_from(machines.len()).unwrap_or(u64::MAX);
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let limit = self.limit.and_then(|limit| usize::try_from(limit).ok());
        let page = machines.into_iter().skip(offset);
        (total, page.take(limit.unwrap_or(usize::MAX)).collect())
    }
}

/// A page that the database finds.
pub(super) struct InDatabase {
    pub(super) words: Vec<String>,
    pub(super) systems: Vec<String>,
    pub(super) tags: Vec<String>,
    /// An `ORDER BY` of ours.
    pub(super) order: &'static str,
    pub(super) limit: u32,
    pub(super) offset: u32,
}

impl Sort {
    /// The order in SQL. Names and addresses have an index.
    fn in_database(self, descending: bool) -> Option<&'static str> {
        Some(match (self, descending) {
            (Self::Name, false) => "m.name",
            (Self::Name, true) => "m.name DESC",
            (Self::Address, false) => "m.ipv4",
            (Self::Address, true) => "m.ipv4 DESC",
            (Self::User, false) => "u.email COLLATE \"C\" NULLS FIRST, m.name",
            (Self::User, true) => "u.email COLLATE \"C\" DESC NULLS LAST, m.name",
            (Self::Os, false) => "m.os COLLATE \"C\", m.name",
            (Self::Os, true) => "m.os COLLATE \"C\" DESC, m.name",
            (Self::CreatedAt, false) => "m.created_at, m.name",
            (Self::CreatedAt, true) => "m.created_at DESC, m.name",
            (Self::KeyExpiresAt, false) => "m.key_expires_at NULLS FIRST, m.name",
            (Self::KeyExpiresAt, true) => "m.key_expires_at DESC NULLS LAST, m.name",
            (Self::Tags, false) => "m.tags[1] COLLATE \"C\" NULLS LAST, m.name",
            (Self::Tags, true) => "m.tags[1] COLLATE \"C\" DESC NULLS LAST, m.name",
            (
                Self::Version
                | Self::State
                | Self::LastSeen
                | Self::Path
                | Self::PostQuantum
                | Self::Posture,
                _,
            ) => return None,
        })
    }

    fn compare(self, a: &Machine, b: &Machine) -> Ordering {
        match self {
            Self::Name => a.name.cmp(&b.name),
            Self::Address => a.ipv4.cmp(&b.ipv4),
            Self::User => a.user.cmp(&b.user),
            Self::Os => a.os.cmp(&b.os),
            Self::Version => version(&a.agent_version).cmp(&version(&b.agent_version)),
            Self::State => a.life.state.to_string().cmp(&b.life.state.to_string()),
            Self::LastSeen => a.last_seen.cmp(&b.last_seen),
            Self::CreatedAt => a.created_at.cmp(&b.created_at),
            Self::KeyExpiresAt => a.key_expires_at.cmp(&b.key_expires_at),
            Self::Tags => a.life.tags.first().cmp(&b.life.tags.first()),
            Self::Path => share(a, |mix| mix.direct).total_cmp(&share(b, |mix| mix.direct)),
            Self::PostQuantum => {
                share(a, |mix| mix.post_quantum).total_cmp(&share(b, |mix| mix.post_quantum))
            }
            Self::Posture => a.posture.cmp(&b.posture),
        }
    }

    /// Whether a machine has nothing to be sorted by, and is among the last either way.
    fn lacks(self, machine: &Machine) -> bool {
        match self {
            Self::Tags => machine.life.tags.is_empty(),
            Self::Path | Self::PostQuantum => machine.tunnels.is_none_or(|mix| mix.all() == 0),
            _ => false,
        }
    }
}

/// How many of a machine's tunnels are so, of 1.
fn share(machine: &Machine, of: impl Fn(&TunnelMix) -> u32) -> f64 {
    let mix = machine.tunnels.unwrap_or_default();
    f64::from(of(&mix)) / f64::from(mix.all().max(1))
}

/// A list with commas.
fn list<'de, D: Deserializer<'de>>(text: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(text)?;
    let words = text.split(',').filter(|word| !word.is_empty());
    Ok(words.map(str::to_owned).collect())
}

/// Words of ours, with commas.
fn words<'de, D, T>(text: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    use serde::de::IntoDeserializer;
    let words = list(text)?.into_iter();
    words
        .map(|word| T::deserialize(word.into_deserializer()))
        .collect()
}

/// Numbers of a version as numbers: 0.10 comes after 0.9.
fn version(text: &str) -> Vec<(u64, &str)> {
    let parts = text.split(['.', '-', '+']);
    parts
        .map(|part| (part.parse().unwrap_or(0), part))
        .collect()
}

/// All that is searched of a machine.
fn text_of(machine: &Machine) -> String {
    let Machine {
        name,
        dns_name,
        ipv4,
        ipv6,
        user,
        os,
        agent_version,
        life,
        ..
    } = machine;
    let user = user.as_deref().unwrap_or_default();
    let tags = life.tags.join("\n");
    format!("{name}\n{dns_name}\n{ipv4}\n{ipv6}\n{user}\n{os}\n{agent_version}\n{tags}")
        .to_lowercase()
}
