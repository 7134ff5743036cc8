//! The scenarios: one file, one record each.

mod cone_cone;
mod cone_hard;
mod double_nat;
mod errors;
mod fifty;
mod hard_hard;
mod holds;
mod link;
mod mesh;
mod mtu;
mod nats;
mod network;
mod pair;
mod policy;
mod psk;
mod quic;
mod regions;
mod relay_to_direct;
mod restarts;
mod roaming;
mod rotation;
mod same_lan;
mod static_peer;
mod strangers;
mod udp_blocked;

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::logs;
use crate::record::{Figures, Record};

/// A scenario.
pub struct Scenario {
    /// Its name on the command line and in the record.
    pub name: &'static str,
    /// What must be, in one line.
    pub about: &'static str,
    /// Does it.
    pub run: fn(&Lab, &mut Figures) -> Result<()>,
    /// Parts of WARN and ERROR lines that belong to it.
    pub expected_logs: &'static [&'static str],
}

/// All scenarios, cheap and basic ones first.
pub const ALL: &[Scenario] = &[
    nats::SCENARIO,
    link::SCENARIO,
    same_lan::SCENARIO,
    cone_cone::SCENARIO,
    cone_hard::SCENARIO,
    hard_hard::SCENARIO,
    udp_blocked::SCENARIO,
    double_nat::SCENARIO,
    relay_to_direct::SCENARIO,
    roaming::SCENARIO,
    restarts::SCENARIO,
    regions::SCENARIO,
    mesh::SCENARIO,
    mtu::SCENARIO,
    quic::SCENARIO,
    psk::SCENARIO,
    rotation::SCENARIO,
    strangers::SCENARIO,
    holds::SCENARIO,
    policy::SCENARIO,
    network::SCENARIO,
    static_peer::SCENARIO,
    errors::SCENARIO,
    fifty::SCENARIO,
];

/// The scenarios of the names given, or all if none is.
///
/// # Errors
/// There is no scenario of a name.
pub fn select(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            let found = ALL.iter().find(|scenario| scenario.name == name);
            found.with_context(|| {
                let all: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
                format!("no scenario {name:?}; there are: {}", all.join(", "))
            })
        })
        .collect()
}

/// Runs one scenario in a lab of its own. Returns its record, and its figures for people.
#[must_use]
pub fn run(scenario: &Scenario) -> (Record, String) {
    let start = Instant::now();
    let mut figures = Figures::default();
    let mut logs = None;
    let result = (|| {
        let lab = Lab::new(scenario.name)?;
        logs = Some(lab.logs.clone());
        (scenario.run)(&lab, &mut figures)?;
        drop(lab.net);
        logs::check(&lab.logs, scenario.expected_logs)
    })();
    let line = figures.line();
    let mut record = Record::new(scenario.name, start.elapsed(), figures, &result);
    if !record.ok {
        record.logs = logs.map(|dir| dir.display().to_string());
    }
    (record, line)
}

/// Demands that two things are equal.
fn demand_eq<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, is: &T, must: &T) -> Result<()> {
    if is == must {
        return Ok(());
    }
    bail!("{what}: is {is:?}, must be {must:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_found_by_name() {
        assert_eq!(select(&[]).unwrap().len(), ALL.len());
        assert_eq!(select(&["nats".into()]).unwrap()[0].name, "nats");
        let error = select(&["gnats".into()]).err().unwrap().to_string();
        assert!(error.contains("nats"), "{error}");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
