//! What happened, for people: virtual time, who, what.

use std::fmt::{self, Write};
use std::time::Duration;

/// A timeline. Only offsets from the start are printed, so it is the same for the same seed.
#[derive(Default)]
pub struct Trace {
    text: String,
    has_datagrams: bool,
}

impl Trace {
    /// A timeline, with a line for every datagram or without.
    #[must_use]
    pub fn new(has_datagrams: bool) -> Self {
        Self {
            text: String::new(),
            has_datagrams,
        }
    }

    /// Whether datagrams are noted.
    #[must_use]
    pub fn has_datagrams(&self) -> bool {
        self.has_datagrams
    }

    /// Notes an event.
    pub fn note(&mut self, at: Duration, who: impl fmt::Display, what: fmt::Arguments<'_>) {
        let (seconds, micros) = (at.as_secs(), at.subsec_micros());
        // A string takes everything.
        let _ = writeln!(
            self.text,
            "{seconds:>5}.{micros:06}  {:<4} {what}",
            format!("{who}")
        );
    }

    /// The timeline so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
