//! Every figure of the control plane, and what it says.

use std::fmt::Write;

use jiff::Timestamp;

use super::observe::Condition;
use crate::db::PoolFigures;

/// Counters without labels. They are there from the start, at 0, so that their first step is seen.
const COUNTERS: [(&str, &str); 3] = [
    (
        "ztna_api_registrations_total",
        "Machines that were registered",
    ),
    (
        "ztna_api_kv_refused_total",
        "Values in the shared key-value store that were not written by this deployment",
    ),
    (
        "ztna_api_node_words_dropped_total",
        "Words of other nodes that were forged, or came twice",
    ),
];

/// Counters with labels: each label's is there once it has counted.
const LABELLED: [(&str, &str); 2] = [
    (
        "ztna_api_http_requests_total",
        "Calls that were answered, by method, route and status",
    ),
    (
        "ztna_api_machine_stream_starts_total",
        "Machines' streams that began, by what they began with",
    ),
];

const GAUGES: [(&str, &str); 3] = [
    (
        "ztna_api_machine_streams",
        "Machines that are connected to this node",
    ),
    (
        "ztna_api_realtime_connections",
        "Dashboards that listen at this node",
    ),
    (
        "ztna_api_relays",
        "Relays by whether they answer this node's probes",
    ),
];

const HISTOGRAMS: [(&str, &str); 1] = [(
    "ztna_api_http_request_seconds",
    "Time from a call to its answer, by method and route",
)];

/// Tells the recorder what figures mean, and begins those that begin at 0.
pub(super) fn describe() {
    for (name, help) in COUNTERS {
        metrics::describe_counter!(name, help);
        metrics::counter!(name).increment(0);
    }
    for (name, help) in LABELLED {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in GAUGES {
        metrics::describe_gauge!(name, help);
    }
    for (name, help) in HISTOGRAMS {
        metrics::describe_histogram!(name, help);
    }
    metrics::gauge!("ztna_api_machine_streams").increment(0.0);
    metrics::gauge!("ztna_api_realtime_connections").increment(0.0);
}

/// A node's state in Prometheus' text format, version 0.0.4. It is written when it is asked for, and not kept by the
/// recorder: that is the process's, which may hold several nodes.
pub(super) fn of_state(condition: &Condition, pool: &PoolFigures) -> String {
    let flag = |is: bool| u64::from(is);
    let parts = condition
        .parts
        .map(|(part, why)| (format!("{{part=\"{part}\"}}"), flag(why.is_some())));
    let degraded = parts.each_ref().map(|(labels, is)| (labels.as_str(), *is));
    let mut text = String::new();
    let mut figure = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    figure(
        "ztna_api_degraded",
        "gauge",
        "1 while this node serves without a part that it was told to use, about which /health says more",
        &degraded,
    );
    figure(
        "ztna_api_database_up",
        "gauge",
        "1 while the database answers this node",
        &[("", flag(condition.database))],
    );
    figure(
        "ztna_api_database_connections",
        "gauge",
        "Connections to the database, by whether a call uses them",
        &[
            ("{state=\"in_use\"}", pool.in_use),
            ("{state=\"idle\"}", pool.idle),
        ],
    );
    figure(
        "ztna_api_database_max_connections",
        "gauge",
        "Connections to the database that this node opens at most",
        &[("", pool.max)],
    );
    figure(
        "ztna_api_database_waiting",
        "gauge",
        "Calls that wait for a connection to the database",
        &[("", pool.waiting)],
    );
    figure(
        "ztna_api_database_timeouts_total",
        "counter",
        "Calls that got no connection to the database in time",
        &[("", pool.timeouts)],
    );
    if condition.database {
        let taken = condition.last_backup.map_or(0, Timestamp::as_second);
        figure(
            "ztna_api_last_backup_timestamp_seconds",
            "gauge",
            "When the last backup of the database was taken, since 1970; 0 if none was",
            &[("", u64::try_from(taken).unwrap_or(0))],
        );
    }
    text
}
