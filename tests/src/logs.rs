//! A lab's logs must be clean: no ERROR, and no WARN that the scenario does not name.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// At most so many lines are shown.
const SHOWN: usize = 5;

/// Looks through every file of a lab's log directory.
///
/// `expected` are parts of lines that belong to the scenario.
///
/// # Errors
/// A line is an ERROR or WARN, or a panic, and not expected: the error shows the first ones.
pub fn check(dir: &Path, expected: &[&str]) -> Result<()> {
    let mut found = Vec::new();
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        found.extend(
            offences(&text, expected)
                .into_iter()
                .map(|line| format!("{name}: {line}")),
        );
    }
    if found.is_empty() {
        return Ok(());
    }
    found.sort();
    let all = found.len();
    found.truncate(SHOWN);
    bail!(
        "{all} lines in the logs that should not be there: {}",
        found.join(" | ")
    );
}

fn offences(text: &str, expected: &[&str]) -> Vec<String> {
    text.lines()
        .map(without_colour)
        .filter(|line| is_offence(line) && !expected.iter().any(|part| line.contains(part)))
        .collect()
}

/// The level is one of the first words of a line, after the time; elsewhere it is text.
fn is_offence(line: &str) -> bool {
    line.contains("panicked at")
        || line
            .split_whitespace()
            .take(3)
            .any(|word| matches!(word, "ERROR" | "WARN" | "FATAL:" | "PANIC:"))
}

/// The line without terminal colours (`ESC [ … m`).
fn without_colour(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_count_and_words_in_the_text_do_not() {
        let text = "2026-11-20T10:00:00Z  INFO ztna: peer said ERROR once\n\
                    2026-11-20T10:00:00Z  WARN ztna: stream lost, connecting again\n\
                    \u{1b}[2m2026-11-20T10:00:00Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m ztna: no TUN\n\
                    thread 'main' panicked at src/main.rs:1:1:";
        assert_eq!(offences(text, &[]).len(), 3);
        let rest = offences(text, &["stream lost", "panicked"]);
        assert_eq!(rest, ["2026-11-20T10:00:00Z ERROR ztna: no TUN"]);
    }

    #[test]
    fn the_error_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("relay.log"), "T ERROR derp: full\n").unwrap();
        let error = check(dir.path(), &[]).unwrap_err().to_string();
        assert!(error.contains("relay.log: T ERROR derp: full"), "{error}");
        check(dir.path(), &["full"]).unwrap();
    }
}
