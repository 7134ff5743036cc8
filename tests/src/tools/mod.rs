//! Small programs that run inside a lab's namespaces, as hidden subcommands of `ztna-lab`.
//!
//! They speak a line protocol on standard input and output, so the lab decides when both ends of
//! a pair begin and end.

pub mod listen;
pub mod punch;
pub mod rogue;
pub mod stream;

use std::io::BufRead;

use anyhow::{Result, bail};

/// What a tool prints when its sockets are open.
pub const READY: &str = "ready";

/// Waits for the next line of standard input. `None`: it is closed.
fn next_line() -> Result<Option<String>> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

/// Waits for the next line and demands that there is one.
fn demand_line(what: &str) -> Result<String> {
    match next_line()? {
        Some(line) => Ok(line),
        None => bail!("standard input ended before {what} came"),
    }
}
