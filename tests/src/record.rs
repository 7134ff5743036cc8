//! What a scenario reports.

use serde::Serialize;
use serde_json::{Map, Value};

/// The figures of a scenario, by name.
#[derive(Clone, Debug, Default)]
pub struct Figures(Map<String, Value>);

impl Figures {
    /// Notes a figure; one of the same name is replaced.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Notes a duration in seconds, to the millisecond.
    pub fn seconds(&mut self, name: &str, duration: std::time::Duration) {
        self.set(name, (duration.as_secs_f64() * 1000.0).round() / 1000.0);
    }

    /// The figures as `name=value`, for people.
    #[must_use]
    pub fn line(&self) -> String {
        self.0
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name}={text}"),
                other => format!("{name}={other}"),
            })
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// One scenario's outcome: an element of the array that `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The scenario.
    pub name: String,
    /// Whether all was as it must be.
    pub ok: bool,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What was measured, also on failure as far as it came.
    #[serde(flatten)]
    pub figures: Map<String, Value>,
    /// What was not as it must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where the logs of a failed run are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
}

impl Record {
    /// Puts a scenario's outcome together.
    #[must_use]
    pub fn new(
        name: &str,
        took: std::time::Duration,
        figures: Figures,
        result: &anyhow::Result<()>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            ok: result.is_ok(),
            seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
            figures: figures.0,
            error: result.as_ref().err().map(|error| format!("{error:#}")),
            logs: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_record_is_flat_and_has_an_error_only_if_it_failed() {
        let mut figures = Figures::default();
        figures.set("path", "direct");
        figures.seconds("first_ping_s", Duration::from_micros(1_234_567));
        assert_eq!(figures.line(), "first_ping_s=1.235 path=direct");
        let good = Record::new("a", Duration::from_secs(2), figures.clone(), &Ok(()));
        assert_eq!(
            serde_json::to_value(&good).unwrap(),
            serde_json::json!({"name":"a","ok":true,"seconds":2.0,"path":"direct","first_ping_s":1.235})
        );
        let failed = anyhow::anyhow!("inner").context("outer");
        let bad = Record::new("a", Duration::ZERO, figures, &Err(failed));
        assert_eq!(bad.error.as_deref(), Some("outer: inner"));
        assert!(!bad.ok);
    }
}
