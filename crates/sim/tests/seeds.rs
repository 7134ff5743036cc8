//! Seeds that have to run clean, and what makes them worth running.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ztna_sim::run_seed;

/// Seeds that each test run takes.
const SEEDS: u64 = 500;

#[test]
fn every_seed_runs_clean() {
    let next = AtomicU64::new(0);
    let [by_ipv6, too_large, refused] = [const { AtomicUsize::new(0) }; 3];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = std::thread::scope(|scope| {
        let runners: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= SEEDS {
                            return failed;
                        }
                        let outcome = run_seed(seed, false);
                        by_ipv6.fetch_add(outcome.paths_v6, Ordering::Relaxed);
                        too_large.fetch_add(outcome.too_large, Ordering::Relaxed);
                        refused.fetch_add(outcome.refused, Ordering::Relaxed);
                        if !outcome.violations.is_empty() {
                            failed.push(outcome);
                        }
                    }
                })
            })
            .collect();
        let failed = runners
            .into_iter()
            .flat_map(|runner| runner.join().unwrap());
        failed.collect::<Vec<_>>()
    });
    if let Some(first) = failed.iter().min_by_key(|outcome| outcome.seed) {
        let mut seeds: Vec<_> = failed.iter().map(|outcome| outcome.seed).collect();
        seeds.sort_unstable();
        panic!("{} seeds failed: {seeds:?}\n{first}", seeds.len());
    }
    // Seeds in which nothing of this happens would show nothing about it.
    let met = [by_ipv6, too_large, refused].map(AtomicUsize::into_inner);
    assert!(met.iter().all(|count| *count > 300), "{met:?}");
}

#[test]
fn one_seed_gives_one_timeline() {
    for seed in [3, 7, 11, 53] {
        let [first, second] = [(); 2].map(|()| run_seed(seed, true));
        assert!(
            first.timeline.len() > 10_000,
            "the timeline is too short to say anything"
        );
        assert_eq!(first.timeline, second.timeline, "seed {seed}");
    }
}
