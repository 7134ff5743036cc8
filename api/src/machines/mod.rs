//! The machines of an org: registration, heartbeat, list, change, what is decided of them, deletion.

mod actions;
mod address;
mod authenticate;
mod connections;
mod country;
mod facets;
mod join;
mod registration;
mod routes;
mod search;
mod standing;
mod static_peers;
mod tags;
mod upkeep;
mod view;

pub(crate) use authenticate::{authenticate, recognise, wg_key};
pub(crate) use country::{called_from, forget_countries};
pub(crate) use registration::Line as RegistrationLine;
pub(crate) use routes::routes;
pub(crate) use standing::{Standing, deleted, disabled, expired, unknown_token};
pub(crate) use tags::{TAG, check_tags};
pub(crate) use upkeep::{
    Removed, expire_due, quarantine_all, remove_all, remove_silent, set_agent_version,
};

use ztna_proto::api::MAX_MACHINE_NAME;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, OrgId};

use crate::db::Tx;
use crate::http::{ApiError, refuse};
use crate::text::has_hidden;

/// Refuses an id that no machine of the org has.
pub(crate) async fn demand_machine(tx: &Tx<'_>, org: OrgId, id: MachineId) -> Result<(), ApiError> {
    let row = tx
        .query_opt(
            "SELECT FROM machines WHERE org_id = $1 AND id = $2",
            &[&org.0, &id.0],
        )
        .await?;
    row.map(drop).ok_or_else(|| {
        refuse(
            ErrorCode::NotFound,
            "the org has no machine with that id; `GET /api/orgs/{org}/machines` lists them",
        )
    })
}

/// A machine name in the form that is stored: one DNS label in lower case.
fn normalise_name(text: &str) -> Result<String, ApiError> {
    let name = text.to_ascii_lowercase();
    let well_formed = (1..=MAX_MACHINE_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if well_formed {
        return Ok(name);
    }
    Err(refuse(
        ErrorCode::ValidationError,
        format!(
            "`name` is not a machine name: 1 to {MAX_MACHINE_NAME} letters, digits and dashes, no dash at either end; choose another"
        ),
    ))
}

/// Longest text that a machine tells of itself, in characters.
const MAX_TEXT: usize = 64;

/// Checks a text that a machine tells of itself, for display.
pub(crate) fn check_text(field: &str, text: &str) -> Result<(), ApiError> {
    if text.chars().count() <= MAX_TEXT && !has_hidden(text) {
        return Ok(());
    }
    Err(refuse(
        ErrorCode::ValidationError,
        format!("`{field}` may have {MAX_TEXT} characters, none of them invisible; shorten it"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_label() {
        assert_eq!(normalise_name("Laptop-1").unwrap(), "laptop-1");
        for bad in ["", "-a", "a-", "a.b", "a_b", "ä", "a b", &"a".repeat(64)] {
            assert!(normalise_name(bad).is_err(), "{bad}");
        }
    }
}
