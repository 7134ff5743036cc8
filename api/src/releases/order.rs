//! Which of two versions is the newer one.

use std::cmp::Ordering;

/// Compares versions as Semantic Versioning does (§11), and what is none of its versions as well as that goes: numbers by
/// value, words by their letters, and what differs in its build alone by that.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a_core, a_pre, a_build) = parts(a);
    let (b_core, b_pre, b_build) = parts(b);
    let releases = identifiers(a_core, b_core);
    let previews = || match (a_pre, b_pre) {
        (None, None) => Ordering::Equal,
        // A preview comes before its release.
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => identifiers(a, b),
    };
    releases
        .then_with(previews)
        .then_with(|| a_build.cmp(&b_build))
}

/// `core-preview+build`
fn parts(version: &str) -> (&str, Option<&str>, Option<&str>) {
    let (version, build) = match version.split_once('+') {
        Some((version, build)) => (version, Some(build)),
        None => (version, None),
    };
    match version.split_once('-') {
        Some((core, preview)) => (core, Some(preview), build),
        None => (version, None, build),
    }
}

fn identifiers(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (number(a), number(b)) {
                (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// A number's digits without leading zeros, which compare by length and then as text, however long they are.
fn number(text: &str) -> Option<&str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_semantic_versioning() {
        let ascending = [
            "0.1",
            "0.1.0",
            "0.2.0-rc.1",
            "0.2.0-rc.2",
            "0.2.0-rc.10",
            "0.2.0-rc.x",
            "0.2.0",
            "0.2.0+1",
            "0.10.0",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0",
            "1.0.99999999999999999999999",
            "nightly",
        ];
        for (at, a) in ascending.iter().enumerate() {
            for (other, b) in ascending.iter().enumerate() {
                assert_eq!(compare(a, b), at.cmp(&other), "{a} {b}");
            }
        }
    }
}
