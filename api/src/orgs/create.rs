//! A new org: label, prefixes, owner, first rule.

use std::net::{IpAddr, Ipv6Addr};

use ztna_policy::FIRST_DOCUMENT;
use ztna_proto::api::{MAX_ORG_NAME, OrgMembership, Role};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{OrgId, UserId};

use super::secrets::make_key;
use crate::app::State;
use crate::http::{ApiError, refuse};
use crate::policy;
use crate::text::has_hidden;

/// Collisions (of 40 random bits, or of a label with one that somebody takes just now) are tried
/// again so often.
const TRIES: usize = 5;
/// Longest label: one DNS label, less room for `-` and a number.
const MAX_SLUG: usize = 50;
/// Numbers tried behind a label that is taken, before random digits.
const NUMBERED: u32 = 20;

/// Makes an org with its first owner.
pub(crate) async fn create(
    state: &State,
    owner: UserId,
    name: &str,
) -> Result<OrgMembership, ApiError> {
    let name = check_name(name)?;
    let base = slug_of(name);
    for attempt in 0..NUMBERED {
        let slug = match attempt {
            0 => base.clone(),
            n => format!("{base}-{n}"),
        };
        if let Some(org) = try_create(state, owner, name, &slug).await? {
            return Ok(org);
        }
    }
    for _ in 0..TRIES {
        let number: u32 = rand::random();
        if let Some(org) = try_create(state, owner, name, &format!("{base}-{number}")).await? {
            return Ok(org);
        }
    }
    Err(refuse(
        ErrorCode::Conflict,
        "no free label was found for that name; choose another name",
    ))
}

/// A name as it is kept.
pub(super) fn check_name(name: &str) -> Result<&str, ApiError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_ORG_NAME || has_hidden(name) {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`name` needs 1 to {MAX_ORG_NAME} characters, none of them invisible; choose another"
            ),
        ));
    }
    Ok(name)
}

/// `None` if the label or the IPv6 network is taken.
async fn try_create(
    state: &State,
    owner: UserId,
    name: &str,
    slug: &str,
) -> Result<Option<OrgMembership>, ApiError> {
    let org = OrgId::generate();
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let made = tx
        .execute(
            "INSERT INTO orgs (id, name, slug, ipv6_network) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
            &[&org.0, &name, &slug, &IpAddr::V6(ula_network())],
        )
        .await?;
    if made == 0 {
        return Ok(None);
    }
    tx.execute(
        "INSERT INTO members (org_id, user_id, role) VALUES ($1, $2, 'owner')",
        &[&org.0, &owner.0],
    )
    .await?;
    make_key(&tx, &state.keys, org).await?;
    policy::store(&tx, org, owner, "the org was made", FIRST_DOCUMENT).await?;
    tx.commit().await?;
    Ok(Some(OrgMembership {
        id: org,
        name: name.to_owned(),
        slug: slug.to_owned(),
        role: Role::Owner,
    }))
}

/// Bits of an org's IPv6 network.
pub(crate) const IPV6_BITS: u8 = 48;

/// A Unique Local Address block of 48 bits (RFC 4193 §3.1): `fd` and 40 random bits.
fn ula_network() -> Ipv6Addr {
    let random: u128 = rand::random();
    let network = (0xfd << 120) | ((random & ((1 << 40) - 1)) << 80);
    Ipv6Addr::from_bits(network)
}

/// The org's label in DNS names: letters and digits of its name, the rest as single dashes.
fn slug_of(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= MAX_SLUG {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    if slug.is_empty() {
        "org".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_dns_labels() {
        let cases = [
            ("Acme GmbH & Co. KG", "acme-gmbh-co-kg"),
            ("  --x--  ", "x"),
            ("日本", "org"),
            ("Müller", "m-ller"),
        ];
        for (name, slug) in cases {
            assert_eq!(slug_of(name), slug);
        }
        assert!(slug_of(&"ab ".repeat(64)).len() <= MAX_SLUG);
    }

    #[test]
    fn networks_are_unique_local_and_leave_the_host_bits_free() {
        let network = ula_network();
        assert!(network.is_unique_local());
        assert_eq!(network.to_bits() << 48, 0);
        assert_ne!(network, ula_network());
    }
}
