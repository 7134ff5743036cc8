//! Documents as people write them, and what follows from each: maps and filters of a small org, or
//! the fault with its place. `ZTNA_BLESS=1` writes the files anew; read the difference before you
//! keep it.

#![allow(clippy::unwrap_used, clippy::panic)] // The lints' leave for tests ends at test functions.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use uuid::Uuid;
use ztna_policy::document::{COUNTRY, OS};
use ztna_policy::{Document, FIRST_DOCUMENT, Facts, People, Person, compile};
use ztna_proto::api::Role;
use ztna_proto::ids::MachineId;

fn golden(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder);
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().unwrap() == "hujson")
        .collect();
    files.sort();
    files
}

fn compare(path: &Path, found: &str) {
    if std::env::var_os("ZTNA_BLESS").is_some() {
        std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "{}", path.display());
}

/// Noon in London, on a Wednesday in summer.
fn now() -> Timestamp {
    "2026-07-01T11:00:00Z".parse().unwrap()
}

struct Machine {
    name: &'static str,
    user: Option<(&'static str, Role)>,
    tags: &'static [&'static str],
    attributes: &'static [(&'static str, &'static str)],
    routes: &'static [&'static str],
}

const ORG: [Machine; 7] = [
    Machine {
        name: "alice-laptop",
        user: Some(("alice@example.com", Role::Owner)),
        tags: &[],
        attributes: &[(OS, "macos"), ("node:osVersion", "14.10"), (COUNTRY, "DE")],
        routes: &[],
    },
    Machine {
        name: "alice-phone",
        user: Some(("alice@example.com", Role::Owner)),
        tags: &[],
        attributes: &[(OS, "ios")],
        routes: &[],
    },
    Machine {
        name: "bob",
        user: Some(("bob@example.com", Role::Member)),
        tags: &[],
        attributes: &[(OS, "linux"), ("node:osVersion", "14"), (COUNTRY, "XX")],
        routes: &[],
    },
    Machine {
        name: "kiosk",
        user: None,
        tags: &[],
        attributes: &[(OS, "linux"), (COUNTRY, "FR")],
        routes: &[],
    },
    Machine {
        name: "web",
        user: None,
        tags: &["web"],
        attributes: &[(OS, "linux"), (COUNTRY, "FR")],
        routes: &[],
    },
    Machine {
        name: "db",
        user: Some(("bob@example.com", Role::Member)),
        tags: &["db"],
        attributes: &[],
        routes: &[],
    },
    Machine {
        name: "router",
        user: None,
        tags: &["router"],
        attributes: &[],
        routes: &["10.1.0.0/16", "0.0.0.0/0"],
    },
];

fn id(index: usize) -> MachineId {
    MachineId(Uuid::from_u128(index as u128 + 1))
}

fn facts(index: usize, machine: &Machine) -> Facts {
    Facts {
        user: machine.user.map(|(user, _)| user.to_owned()),
        role: machine.user.map(|(_, role)| role),
        groups: BTreeSet::new(),
        tags: machine.tags.iter().map(|tag| (*tag).to_owned()).collect(),
        addresses: [format!("100.64.0.{}", index + 1).parse().unwrap()].into(),
        routes: machine
            .routes
            .iter()
            .map(|route| route.parse::<IpNet>().unwrap())
            .collect(),
        attributes: machine
            .attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn people() -> People {
    let users = ORG.iter().filter_map(|machine| machine.user);
    let people = users.map(|(user, role)| {
        let person = Person {
            role,
            groups: BTreeSet::new(),
        };
        (user.to_owned(), person)
    });
    people.collect()
}

#[test]
fn documents_compile_to_what_they_say() {
    let files = golden("accepted");
    assert!(files.len() >= 5);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let document =
            Document::parse(&text).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        document
            .run_tests(&people(), now())
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        let machines = ORG
            .iter()
            .enumerate()
            .map(|(n, machine)| (id(n), facts(n, machine)));
        let compiled = compile(Arc::new(document), machines, now());
        let mut out = String::new();
        for (n, machine) in ORG.iter().enumerate() {
            let peers: Vec<_> = compiled.visible_peers(id(n)).into_iter().collect();
            let name = |id: &MachineId| ORG[id.0.as_u128() as usize - 1].name;
            let peers: Vec<_> = peers.iter().map(name).collect();
            writeln!(out, "{}", machine.name).unwrap();
            writeln!(out, "  groups: {}", compiled.groups_of(id(n)).join(" ")).unwrap();
            writeln!(out, "  sees: {}", peers.join(" ")).unwrap();
            let filter = compiled.filter_for(id(n));
            for (side, rules) in [("from", filter.inbound), ("to", filter.outbound)] {
                for rule in rules {
                    let json = serde_json::to_string(&rule).unwrap();
                    writeln!(out, "  {side} {json}").unwrap();
                }
            }
        }
        writeln!(
            out,
            "until {}",
            compiled
                .until()
                .map_or("ever".to_owned(), |t| t.to_string())
        )
        .unwrap();
        compare(&path.with_extension("txt"), &out);
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_the_way_out() {
    let files = golden("refused");
    assert!(files.len() >= 30);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let fault = match Document::parse(&text) {
            Ok(_) => panic!("{} is accepted", path.display()),
            Err(fault) => fault,
        };
        compare(&path.with_extension("fault"), &format!("{fault}\n"));
    }
}

#[test]
fn the_first_document_is_the_one_of_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/accepted/first.hujson");
    assert_eq!(std::fs::read_to_string(path).unwrap(), FIRST_DOCUMENT);
}
