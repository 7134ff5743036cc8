//! Names of machines that join: as wanted, or with a number behind it.

use std::collections::BTreeSet;

use ztna_proto::api::MAX_MACHINE_NAME;
use ztna_proto::ids::OrgId;

use crate::db::Tx;
use crate::http::ApiError;

/// A name for each that is wanted: itself, or with the lowest number behind it that is free. The caller
/// holds the org's row.
pub(super) async fn free(
    tx: &Tx<'_>,
    org: OrgId,
    wanted: &[&str],
) -> Result<Vec<String>, ApiError> {
    let rows = tx
        .query(
            "SELECT name FROM machines WHERE org_id = $1 AND name = ANY($2)",
            &[&org.0, &wanted],
        )
        .await?;
    let mut taken: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut stems = BTreeSet::new();
    let mut free = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        if taken.contains(*wanted) && stems.insert(stem(wanted)) {
            // All names that begin so are looked through: what is rare may be slow.
            let rows = tx
                .query(
                    "SELECT name FROM machines WHERE org_id = $1 AND starts_with(name, $2)",
                    &[&org.0, &stem(wanted)],
                )
                .await?;
            taken.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        let name = first_free(wanted, &taken);
        taken.insert(name.clone());
        free.push(name);
    }
    Ok(free)
}

/// What every numbered form of a name starts with.
fn stem(wanted: &str) -> &str {
    /// Longest suffix: a dash and as many digits as a machine's number can have.
    const SUFFIX: usize = 11;
    let room = (MAX_MACHINE_NAME - SUFFIX).min(wanted.len());
    wanted[..room].trim_end_matches('-')
}

fn first_free(wanted: &str, taken: &BTreeSet<String>) -> String {
    if !taken.contains(wanted) {
        return wanted.to_owned();
    }
    let mut number = 1u32;
    loop {
        let suffix = format!("-{number}");
        // A name is ASCII, so any cut is at a character.
        let room = (MAX_MACHINE_NAME - suffix.len()).min(wanted.len());
        let name = format!("{}{suffix}", wanted[..room].trim_end_matches('-'));
        if !taken.contains(&name) {
            return name;
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_gets_the_lowest_free_number() {
        let taken = BTreeSet::from(["a", "a-1", "a-3"].map(str::to_owned));
        assert_eq!(first_free("b", &taken), "b");
        assert_eq!(first_free("a", &taken), "a-2");
        let long = "x".repeat(MAX_MACHINE_NAME);
        let taken = BTreeSet::from([long.clone()]);
        let name = first_free(&long, &taken);
        assert_eq!(name.len(), MAX_MACHINE_NAME);
        assert!(name.ends_with("x-1"));
    }
}
