//! What a benchmark reports: figures beside those of peers, against a bar.

use serde::Serialize;

/// One measured thing.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Whose.
    pub server: String,
    /// Median of the runs.
    pub median: f64,
    /// Every run, in order.
    pub runs: Vec<f64>,
    /// Share of its CPU that the server used, median.
    pub server_cpu: f64,
    /// Share of its CPU that the load generator used, median.
    pub generator_cpu: f64,
    /// Share of all CPUs that other programs used, median.
    pub others_cpu: f64,
    /// Packets lost, or requests unanswered, of all; median.
    pub lost: f64,
    /// The load generator was at its limit before the server was at its own: the server may be
    /// capable of more.
    pub generator_limited: bool,
}

/// One run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// The figure.
    pub value: f64,
    /// Share of its CPU that the server used.
    pub server_cpu: f64,
    /// Share of its CPU that the generator used.
    pub generator_cpu: f64,
    /// Share of all CPUs that other programs used.
    pub others_cpu: f64,
    /// Lost of all.
    pub lost: f64,
}

/// Above this share a CPU is at its limit.
const FULL: f64 = 0.9;

/// Above this share of all CPUs, other programs are in the way.
const DISTURBED: f64 = 0.05;

impl Sample {
    /// Summarises runs; `load` tells whether the server was meant to be at its limit.
    #[must_use]
    pub fn new(server: &str, runs: &[Run], load: bool) -> Self {
        let all = |of: fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<_>>();
        let server_cpu = median(&all(|run| run.server_cpu));
        let generator_cpu = median(&all(|run| run.generator_cpu));
        Self {
            server: server.to_owned(),
            median: median(&all(|run| run.value)),
            runs: all(|run| run.value),
            server_cpu,
            generator_cpu,
            others_cpu: median(&all(|run| run.others_cpu)),
            lost: median(&all(|run| run.lost)),
            generator_limited: load && server_cpu < FULL && generator_cpu >= FULL,
        }
    }
}

/// The middle of the values; of an even number, the mean of the middle two.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Who wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// A large figure.
    More,
    /// A small figure.
    Less,
}

/// What must hold.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// Ours is at least, or at most, so many times the best peer's.
    Ratio(f64),
    /// Ours itself is at least, or at most, this.
    Absolute(f64),
}

/// One figure beside its peers'.
#[derive(Debug, Serialize)]
pub struct Record {
    /// Short and stable.
    pub name: String,
    /// The bar is met, and nothing was wrong with the measurement.
    pub ok: bool,
    /// What was measured, in words.
    pub figure: String,
    /// Of `ours` and `best_peer`.
    pub unit: String,
    /// Ours.
    pub ours: Option<f64>,
    /// The best other's.
    pub best_peer: Option<f64>,
    /// Who that is.
    pub best_peer_name: Option<String>,
    /// Ours by theirs.
    pub ratio: Option<f64>,
    /// In words.
    pub bar: String,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// Everything measured.
    pub samples: Vec<Sample>,
}

impl Record {
    /// A benchmark that could not be run.
    #[must_use]
    pub fn failed(name: &str, error: &anyhow::Error) -> Self {
        eprintln!("✘ {name}: {error:#}");
        Self {
            name: name.to_owned(),
            ok: false,
            figure: "none: the benchmark failed".to_owned(),
            unit: String::new(),
            ours: None,
            best_peer: None,
            best_peer_name: None,
            ratio: None,
            bar: String::new(),
            notes: vec![format!("{error:#}")],
            samples: Vec::new(),
        }
    }

    /// Compares the first sample, ours, with the others of the names `counted`.
    #[must_use]
    pub fn compare(
        (name, figure, unit): (&str, &str, &str),
        (better, bar): (Better, Bar),
        samples: Vec<Sample>,
        peers: &[&str],
    ) -> Self {
        let ours = samples.first();
        let best = samples
            .iter()
            .skip(1)
            .filter(|sample| peers.contains(&sample.server.as_str()) && sample.median.is_finite())
            .reduce(|best, sample| {
                let wins = match better {
                    Better::More => sample.median > best.median,
                    Better::Less => sample.median < best.median,
                };
                if wins { sample } else { best }
            });
        let ratio = ours.zip(best).map(|(ours, best)| ours.median / best.median);
        let measured = match bar {
            Bar::Ratio(_) => ratio,
            Bar::Absolute(_) => ours.map(|ours| ours.median),
        };
        let (limit, what) = match bar {
            Bar::Ratio(limit) => (limit, "× the best peer"),
            Bar::Absolute(limit) => (limit, unit),
        };
        let sign = if better == Better::More { "≥" } else { "≤" };
        let met = measured.is_some_and(|measured| match better {
            Better::More => measured >= limit,
            Better::Less => measured <= limit,
        });
        let mut notes: Vec<String> = samples
            .iter()
            .filter(|sample| sample.generator_limited)
            .map(|sample| {
                format!(
                    "the load generator could not outrun {}: its CPU was {:.0} % busy, the server's {:.0} %; the server may be capable of more",
                    sample.server,
                    sample.generator_cpu * 100.0,
                    sample.server_cpu * 100.0
                )
            })
            .collect();
        notes.extend(ours.into_iter().flat_map(|ours| {
            samples
                .iter()
                .skip(1)
                .filter(|sample| !peers.contains(&sample.server.as_str()))
                .map(|sample| {
                    let ratio = ours.median / sample.median;
                    format!("beside the bar: {ratio:.2} × {}", sample.server)
                })
        }));
        let others = samples
            .iter()
            .map(|sample| sample.others_cpu)
            .fold(0.0, f64::max);
        if others > DISTURBED {
            notes.push(format!(
                "this machine was busy: other programs used {:.0} % of its CPUs",
                others * 100.0
            ));
        }
        // A peer that was held back cannot be said to be beaten by so much.
        let peer_held = matches!(bar, Bar::Ratio(_))
            && unit.ends_with("/s")
            && best.is_some_and(|best| best.generator_limited);
        if peer_held {
            notes.push("not ok: the best peer's figure is a lower bound".to_owned());
        }
        Self {
            name: name.to_owned(),
            ok: met && !peer_held,
            figure: figure.to_owned(),
            unit: unit.to_owned(),
            ours: ours.map(|ours| ours.median),
            best_peer: best.map(|best| best.median),
            best_peer_name: best.map(|best| best.server.clone()),
            ratio,
            bar: format!("{sign} {limit} {what}"),
            notes,
            samples,
        }
    }
}

/// Prints the records; tells whether all are ok.
///
/// # Errors
/// A record cannot be written as JSON.
pub fn report(records: &[Record], json: bool) -> anyhow::Result<bool> {
    if json {
        println!("{}", serde_json::to_string_pretty(records)?);
    } else {
        for record in records {
            print(record);
        }
    }
    Ok(!records.is_empty() && records.iter().all(|record| record.ok))
}

fn print(record: &Record) {
    let mark = if record.ok { "✔" } else { "✘" };
    println!(
        "{mark} {}: {} [{}]",
        record.name, record.figure, record.unit
    );
    for sample in &record.samples {
        let load = if sample.server_cpu > 0.0 {
            format!(
                " (server CPU {:>3.0} %, generator {:>3.0} %, lost {:.2} %)",
                sample.server_cpu * 100.0,
                sample.generator_cpu * 100.0,
                sample.lost * 100.0
            )
        } else {
            String::new()
        };
        println!(
            "    {:<34} {:>14}{load}",
            sample.server,
            number(sample.median)
        );
    }
    if let (Some(ratio), Some(name)) = (record.ratio, &record.best_peer_name) {
        println!("    {ratio:.2} × {name}; bar {}", record.bar);
    } else {
        println!("    bar {}", record.bar);
    }
    for note in &record.notes {
        println!("    {note}");
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(server: &str, value: f64, server_cpu: f64, generator_cpu: f64) -> Sample {
        let run = Run {
            value,
            server_cpu,
            generator_cpu,
            ..Run::default()
        };
        Sample::new(server, &[run; 5], true)
    }

    fn record(ours: f64, peers: &[(&str, f64)], better: Better, bar: Bar) -> Record {
        let mut samples = vec![sample("ours", ours, 1.0, 0.5)];
        samples.extend(
            peers
                .iter()
                .map(|(name, value)| sample(name, *value, 1.0, 0.5)),
        );
        let names: Vec<&str> = peers.iter().map(|(name, _)| *name).collect();
        Record::compare(("n", "f", "packets/s"), (better, bar), samples, &names)
    }

    #[test]
    fn the_best_peer_counts() {
        let peers = [("slow", 10.0), ("fast", 20.0)];
        let more = record(40.0, &peers, Better::More, Bar::Ratio(2.0));
        assert_eq!(more.best_peer_name.as_deref(), Some("fast"));
        assert!(more.ok);
        assert!(!record(39.0, &peers, Better::More, Bar::Ratio(2.0)).ok);
        let less = record(5.0, &peers, Better::Less, Bar::Ratio(0.5));
        assert_eq!(less.best_peer_name.as_deref(), Some("slow"));
        assert!(less.ok);
        assert!(!record(5.1, &peers, Better::Less, Bar::Ratio(0.5)).ok);
    }

    #[test]
    fn without_a_peer_no_ratio_is_met() {
        assert!(!record(1.0, &[], Better::More, Bar::Ratio(2.0)).ok);
        assert!(record(1.0, &[], Better::Less, Bar::Absolute(2.0)).ok);
    }

    #[test]
    fn a_peer_that_was_held_back_is_not_beaten() {
        let samples = vec![
            sample("ours", 40.0, 1.0, 0.5),
            sample("peer", 10.0, 0.5, 1.0),
        ];
        let held = Record::compare(
            ("n", "f", "packets/s"),
            (Better::More, Bar::Ratio(2.0)),
            samples,
            &["peer"],
        );
        assert!(!held.ok);
        assert_eq!(held.notes.len(), 2);
    }

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }
}
