//! Which of an org's machines somebody wants to see, and in which order.

use std::cmp::Ordering;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use ztna_proto::api::Machine;
use ztna_proto::error::ErrorCode;
use ztna_proto::machines::MachineState;

use crate::http::{ApiError, refuse};

/// Longest `search`, in characters.
const MAX_SEARCH: usize = 100;
/// Most machines of a page.
const MAX_LIMIT: u32 = 1_000;

/// What is wanted. Nothing said: all machines by name.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Words, each of which stands somewhere in a machine's name, addresses, user, tags, system or version, in any case.
    #[param(max_length = 100)]
    search: Option<String>,
    /// Only machines in this state.
    #[param(inline)]
    state: Option<MachineState>,
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

    /// The page, and how many machines there are on all pages. `machines` are sorted by name.
    pub(super) fn select(&self, mut machines: Vec<Machine>) -> (usize, Vec<Machine>) {
        let words: Vec<String> = self
            .search
            .iter()
            .flat_map(|text| text.split_whitespace())
            .map(str::to_lowercase)
            .collect();
        machines.retain(|machine| {
            self.state.is_none_or(|state| machine.life.state == state)
                && (words.is_empty() || {
                    let text = text_of(machine);
                    words.iter().all(|word| text.contains(word))
                })
        });
        // The sort is stable: what is alike stays in the order of names.
        machines.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            if self.descending {
                order.reverse()
            } else {
                order
            }
        });
        let total = machines.len();
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let limit = self.limit.and_then(|limit| usize::try_from(limit).ok());
        let page = machines.into_iter().skip(offset);
        (total, page.take(limit.unwrap_or(usize::MAX)).collect())
    }
}

impl Sort {
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
        }
    }
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
