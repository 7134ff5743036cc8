//! Rules that every file of the project keeps.
// The lints know tests by their attribute; the helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file says one thing; longer than this it says several.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files that are, or would be, in version control.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "this is not a git checkout");
    let files: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .split_terminator('\0')
        .map(|name| root().join(name))
        // A file that was removed and not committed yet is listed still.
        .filter(|path| path.is_file())
        .collect();
    assert!(files.len() > 30, "the checkout was not read");
    files
}

#[test]
fn no_source_file_is_too_long() {
    for path in files() {
        let script = path.file_name().is_some_and(|name| name == "dev");
        if !script && path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(
            lines <= MAX_LINES,
            "{} has {lines} lines; split it by meaning",
            path.display()
        );
    }
}

/// Paths of one person's machine work on no other.
#[test]
fn no_file_names_a_private_path() {
    let private = [
        "work/main",
        "work/shared",
        "work/.",
        "root/.cargo",
        "home/user",
    ];
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue; // Not text.
        };
        for name in private {
            let name = format!("/{name}");
            assert!(!text.contains(&name), "{} names {name}", path.display());
        }
    }
}
