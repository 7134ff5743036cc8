//! What is printed, and how.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use super::here;

/// Before every error.
pub const ERROR_PREFIX: &str = "ztna: ";

pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BAD: Style = AnsiColor::Red.on_default();
pub const WARN: Style = AnsiColor::Yellow.on_default();
pub const DIM: Style = Style::new().dimmed();

/// Prints an error as one line.
pub fn error(error: &anyhow::Error) {
    let message = format!("{error:#}").replace('\n', " ");
    let mut stderr = anstream::stderr();
    // Nobody listens: nothing is to be done.
    let message = here::text(&message);
    let _ = writeln!(stderr, "{BAD}{ERROR_PREFIX}{BAD:#}{message}");
}

/// Prints a line on standard output. Colours go only to terminals.
///
/// # Errors
/// The output is closed or full.
pub fn line(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(anstream::stdout(), "{}", here::text(&text.to_string()))
}

/// Prints on a terminal what [`wipe`] takes away again.
///
/// # Errors
/// The output is closed.
pub fn fleeting(text: impl std::fmt::Display) -> io::Result<()> {
    let mut stdout = anstream::stdout();
    write!(stdout, "{text}")?;
    stdout.flush()
}

/// Takes the line away that the cursor stands in (ECMA-48 §8.3.41, EL).
///
/// # Errors
/// The output is closed.
pub fn wipe() -> io::Result<()> {
    // Past anstream, which would take this for a style.
    let mut stdout = io::stdout();
    write!(stdout, "\r\x1b[2K")?;
    stdout.flush()
}

/// Prints a line on standard error, for what is not the data that was asked for.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{}", here::text(&text.to_string()));
}

/// Prints data as JSON.
///
/// # Errors
/// The output is closed or full.
pub fn json(data: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(data)?;
    Ok(line(text)?)
}

/// Whether a person looks at standard output.
pub fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Rows in aligned columns under a heading; a row's style is for the whole line.
///
/// # Errors
/// The output is closed or full.
pub fn table(heading: &[&str], rows: Vec<(Style, Vec<String>)>) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.add_row(heading);
    let mut styles = vec![DIM];
    for (style, cells) in rows {
        styles.push(style);
        table.add_row(cells);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        column.set_cell_alignment(CellAlignment::Left);
    }
    for (style, text) in styles.into_iter().zip(table.lines()) {
        line(format_args!("{style}{}{style:#}", text.trim_end()))?;
    }
    Ok(())
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// Seconds as people read them, in the largest unit that fits.
pub fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Milliseconds with as many digits as tell something.
pub fn milliseconds(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.2} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

/// A time that was `since` ago, or `now` if that is less than a minute.
pub fn ago(since: jiff::Timestamp) -> String {
    let elapsed = jiff::Timestamp::now().duration_since(since);
    let elapsed = Duration::try_from(elapsed).unwrap_or_default();
    format!("{} ago", age(elapsed.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (5_000_000_000, "4.7 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (seconds, text) in [
            (119, "119 s"),
            (120, "2 min"),
            (7200, "2 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(age(seconds), text);
        }
        assert_eq!(milliseconds(1.234), "1.23 ms");
        assert_eq!(milliseconds(56.7), "57 ms");
    }
}
