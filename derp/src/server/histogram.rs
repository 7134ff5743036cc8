//! A histogram that costs an atomic addition per sample: recorders that keep every sample until
//! they are asked are too dear for every packet.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds.
const BOUNDS: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000,
];

/// Counts of delays by bucket.
#[derive(Default)]
pub(super) struct DelayHistogram {
    /// One per bound, and one for what is above all of them.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl DelayHistogram {
    pub fn record(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Prometheus' text format, version 0.0.4.
    pub fn prometheus(&self, name: &str, help: &str) -> String {
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        let mut count = 0;
        let bounds = BOUNDS
            .iter()
            .map(|micros| (*micros as f64 / 1e6).to_string());
        let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
        for (bound, bucket) in bounds.zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = self.micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {count}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_counted_up_to_their_bound() {
        let histogram = DelayHistogram::default();
        for micros in [0, 50, 51, 20_000, 9_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let text = histogram.prometheus("d", "help");
        for line in [
            "# TYPE d histogram",
            "d_bucket{le=\"0.00005\"} 2",
            "d_bucket{le=\"0.0001\"} 3",
            "d_bucket{le=\"0.02\"} 4",
            "d_bucket{le=\"+Inf\"} 5",
            "d_sum 9.020101",
            "d_count 5",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
    }
}
