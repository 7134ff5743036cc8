//! The import rules of the workspace (see `ARCHITECTURE.md`), and what must not get into its
//! dependency tree: read from Cargo, so a crate that breaks a rule fails here with its name.
// The lints know tests by their attribute; the helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Sans-IO crates: bytes, events and `now` in, the same out.
const SANS_IO: &[&str] = &[
    "ztna-disco",
    "ztna-fair-queue",
    "ztna-filter",
    "ztna-handshake",
    "ztna-mesh",
    "ztna-netcheck",
    "ztna-netmap",
    "ztna-offload",
    "ztna-path",
    "ztna-policy",
    "ztna-sim",
];

/// What each crate of the workspace may import of ours, other than in its tests.
fn allowed(name: &str) -> Option<Vec<&'static str>> {
    let shells = ["ztna-proto", "ztna-tls"];
    Some(match name {
        "ztna-proto" | "ztna-pg" | "ztna-objects" => vec![],
        // Downward only: Cargo itself refuses a circle.
        sans_io if SANS_IO.contains(&sans_io) => [&["ztna-proto"], SANS_IO].concat(),
        "ztna-tls" | "ztna-local" => vec!["ztna-proto"],
        "ztna-derp" => [&shells[..], &["ztna-fair-queue"]].concat(),
        "ztna-stun" => shells.to_vec(),
        "ztna-agent" => {
            let clients = ["ztna-derp", "ztna-stun", "ztna-local"];
            [&shells[..], SANS_IO, &clients[..]].concat()
        }
        "ztna-api" => {
            let clients = ["ztna-derp", "ztna-stun", "ztna-pg", "ztna-objects"];
            [&shells[..], &["ztna-policy", "ztna-netmap"], &clients[..]].concat()
        }
        "ztna-server" => {
            let services = [
                "ztna-api",
                "ztna-derp",
                "ztna-stun",
                "ztna-pg",
                "ztna-objects",
            ];
            [&shells[..], &services[..]].concat()
        }
        "ztna-tests" => {
            let drives = [
                "ztna-api",
                "ztna-derp",
                "ztna-stun",
                "ztna-local",
                "ztna-pg",
            ];
            [&shells[..], SANS_IO, &drives[..]].concat()
        }
        _ => return None,
    })
}

/// Crates that serve, and have no place in the agent.
const NOT_IN_AGENT: &[&str] = &[
    "axum",
    "deadpool-postgres",
    "refinery",
    "tokio-postgres",
    "ztna-api",
    "ztna-pg",
];

/// A second cryptography provider, or a library of the system's.
const NOT_ANYWHERE: &[&str] = &["native-tls", "openssl", "openssl-sys", "ring"];

/// Licences that go with Apache-2.0 in one program.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What Cargo would build here, tests included.
fn metadata() -> Value {
    let version = cargo(&["version", "--verbose"]);
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let args = [
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        host,
    ];
    serde_json::from_str(&cargo(&[&["metadata"], &args[..]].concat())).unwrap()
}

/// Our crates, with what they import of ours: (other than in tests, in tests only).
fn ours(metadata: &Value) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .filter(|package| members.contains(package["id"].as_str().unwrap()))
        .map(|package| {
            let name = package["name"].as_str().unwrap().to_owned();
            let (mut normal, mut tests) = (BTreeSet::new(), BTreeSet::new());
            for dependency in package["dependencies"].as_array().unwrap() {
                let import = dependency["name"].as_str().unwrap();
                if !import.starts_with("ztna-") || import == name {
                    continue;
                }
                match dependency["kind"].as_str() {
                    Some("dev") => tests.insert(import.to_owned()),
                    _ => normal.insert(import.to_owned()),
                };
            }
            (name, (normal, tests))
        })
        .collect()
}

#[test]
fn every_crate_imports_only_what_the_design_lets_it() {
    let ours = ours(&metadata());
    assert!(ours.len() > 10, "the workspace was not read: {ours:?}");
    for (name, (imports, _)) in &ours {
        let Some(allowed) = allowed(name) else {
            panic!("{name} is new: say in this test what it may import");
        };
        for import in imports {
            assert!(
                allowed.contains(&import.as_str()),
                "{name} must not import {import}"
            );
        }
    }
}

#[test]
fn nothing_imports_the_agent_and_only_the_server_and_tests_import_the_api() {
    for (name, (imports, in_tests)) in ours(&metadata()) {
        for import in imports.union(&in_tests) {
            assert_ne!(import, "ztna-agent", "{name} imports the agent");
            let may = matches!(&*name, "ztna-server" | "ztna-tests");
            assert!(may || import != "ztna-api", "{name} imports the API");
        }
    }
}

/// Names of all crates that Cargo really builds for a selection. (`cargo metadata` also lists
/// optional ones that another crate's feature merely mentions.)
fn tree(selection: &[&str]) -> BTreeSet<String> {
    let text = cargo(&[&["tree", "--locked", "--prefix", "none"], selection].concat());
    let names: BTreeSet<String> = text
        .lines()
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect();
    assert!(
        names.contains("ztna-proto"),
        "the tree was not read: {text}"
    );
    names
}

#[test]
fn the_agent_carries_no_server() {
    let names = tree(&["--package", "ztna-agent", "--edges", "normal"]);
    for banned in NOT_IN_AGENT {
        assert!(!names.contains(*banned), "the agent's tree has {banned}");
    }
}

#[test]
fn one_cryptography_provider() {
    let names = tree(&["--workspace", "--edges", "normal,build,dev"]);
    assert!(names.contains("aws-lc-rs"), "the tree was not read");
    for banned in NOT_ANYWHERE {
        assert!(!names.contains(*banned), "the tree has {banned}");
    }
}

/// gotatun's mocked clock would be unified into the programs by Cargo, and stop their timers.
#[test]
fn gotatun_runs_on_the_real_clock() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let gotatun = nodes
        .iter()
        .find(|node| {
            node["id"]
                .as_str()
                .is_some_and(|id| id.contains("#gotatun@"))
        })
        .expect("gotatun is in the tree");
    let features = gotatun["features"].as_array().unwrap();
    assert!(!features.iter().any(|feature| feature == "mock_instant"));
}

#[test]
fn every_licence_is_permissive_or_file_level() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(licence) = package["license"].as_str() else {
            panic!("{name} names no licence");
        };
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{name}: licence {licence:?}: {error}"));
        let fits = expression.evaluate(|required| {
            let id = required.license.id();
            id.is_some_and(|id| LICENCES.contains(&id.name))
        });
        assert!(fits, "{name} is under {licence}, which is not on the list");
    }
}
