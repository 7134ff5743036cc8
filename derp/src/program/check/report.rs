//! What the check says.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::{Done, Outcome};

/// A step that failed.
pub struct Fault {
    /// What happened.
    pub what: String,
    /// What to do about it.
    pub next: String,
}

impl Fault {
    pub fn new(what: impl ToString, next: impl Into<String>) -> Self {
        Self {
            what: what.to_string(),
            next: next.into(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Failed,
    Skipped,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    steps: &'a [Step],
}

/// Collects the steps; prints each as it ends, unless all are to be JSON.
pub struct Report {
    json: bool,
    steps: Vec<Step>,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self {
            json,
            steps: Vec::new(),
        }
    }

    /// Runs a step. `None` if it failed.
    pub async fn step<T>(
        &mut self,
        name: &'static str,
        step: impl Future<Output = Outcome<T>>,
    ) -> Option<T> {
        match step.await {
            Ok(Done { detail, value }) => {
                self.note(name, Ok(detail));
                Some(value)
            }
            Err(fault) => {
                self.note(name, Err(fault));
                None
            }
        }
    }

    /// Says how a step went.
    pub fn note(&mut self, step: &'static str, outcome: Result<String, Fault>) {
        self.add(match outcome {
            Ok(detail) => Step {
                step,
                verdict: Verdict::Ok,
                detail,
                next: None,
            },
            Err(fault) => Step {
                step,
                verdict: Verdict::Failed,
                detail: fault.what,
                next: Some(fault.next),
            },
        });
    }

    /// Says that a step was left out.
    pub fn skip(&mut self, step: &'static str, why: &str) {
        self.add(Step {
            step,
            verdict: Verdict::Skipped,
            detail: format!("skipped: {why}"),
            next: None,
        });
    }

    fn add(&mut self, step: Step) {
        if !self.json {
            let mut out = std::io::stdout().lock();
            // Nobody reads any more: the exit code still tells.
            let _ = writeln!(out, "{}", line(&step, out.is_terminal()));
        }
        self.steps.push(step);
    }

    /// The exit code; and the JSON, if it was wanted.
    pub fn finish(self) -> Result<ExitCode> {
        let ok = self
            .steps
            .iter()
            .all(|step| step.verdict != Verdict::Failed);
        if self.json {
            let document = Document {
                ok,
                steps: &self.steps,
            };
            let mut out = std::io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &document)?;
            writeln!(out)?;
        }
        Ok(match ok {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

fn line(step: &Step, colour: bool) -> String {
    let (mark, code) = match step.verdict {
        Verdict::Ok => ("✔", 32),
        Verdict::Failed => ("✘", 31),
        Verdict::Skipped => ("-", 33),
    };
    let mark = match colour {
        true => format!("\x1b[{code}m{mark}\x1b[0m"),
        false => mark.to_owned(),
    };
    let next = step.next.as_ref().map(|next| format!("; {next}"));
    let (name, detail) = (step.step, &step.detail);
    format!("{mark} {name:<12} {detail}{}", next.unwrap_or_default())
}
