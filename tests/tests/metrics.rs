//! Names of figures, as the sources have them: those that only a bad day shows are held to the scheme too.
// The lints know tests by their attribute; the helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// The services, and where each explains its figures.
const SERVICES: [(&str, &str, &str); 3] = [
    ("ztna_api_", "api/src", "api/src/http/figures.rs"),
    ("ztna_derp_", "derp/src", "derp/src/server/figures.rs"),
    ("ztna_stun_", "stun/src", "stun/src/server/stats.rs"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// All sources in a folder, one after the other.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

/// The names that a macro is called with.
fn names<'a>(text: &'a str, call: &str) -> Vec<&'a str> {
    let calls = text.split(call).skip(1);
    calls
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect()
}

#[test]
fn names_tell_service_and_kind_and_are_explained() {
    for (prefix, folder, explained) in SERVICES {
        let text = sources(&root().join(folder));
        let explained = fs::read_to_string(root().join(explained)).unwrap();
        let counters = names(&text, "counter!(");
        let others = [names(&text, "gauge!("), names(&text, "histogram!(")].concat();
        assert!(!counters.is_empty(), "{folder} counts nothing");
        for name in counters.iter().chain(&others) {
            assert!(name.starts_with(prefix), "{name}");
            let named = format!("\"{name}\",");
            let mut places = explained.split(&named).skip(1);
            assert!(
                places.any(|rest| rest.trim_start().starts_with('"')),
                "{name} has no explanation"
            );
        }
        for name in counters {
            assert!(name.ends_with("_total"), "{name} is a counter");
        }
        for name in others {
            assert!(!name.ends_with("_total"), "{name} is no counter");
        }
    }
}
