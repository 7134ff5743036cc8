//! Heartbeats over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use ztna_proto::api::HeartbeatRequest;

use crate::agent::{Machine, source};
use crate::deployment::Node;
use crate::http::{Client, request};
use crate::setup::{self, CONNECTIONS};

/// How long they are sent.
const HEARTBEATS: Duration = Duration::from_secs(3);

/// Heartbeats of all machines in turn over some connections; how many a second.
pub async fn heartbeats(node: &Node, machines: &[Arc<Machine>]) -> Result<f64> {
    let mut requests = vec![Vec::new(); CONNECTIONS];
    for (n, machine) in machines.iter().enumerate() {
        let body = HeartbeatRequest {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            report: setup::report(machine, 1),
            posture: None,
        };
        let body = serde_json::to_vec(&body)?;
        let bytes = request("POST", "/api/machine-heartbeat", &machine.token, &body);
        requests[n % CONNECTIONS].push(bytes);
    }
    // Once without counting: every machine has reported then, and is known.
    let mut first = JoinSet::new();
    for (n, requests) in requests.into_iter().enumerate() {
        let target = node.target.clone();
        first.spawn(async move {
            let mut client = Client::new(&target, source(n), "").await?;
            for request in &requests {
                let (status, body) = client.exchange(request).await?;
                ensure!(status == 200, "{}", String::from_utf8_lossy(body));
            }
            Ok((client, requests))
        });
    }
    let mut clients = Vec::new();
    while let Some(done) = first.join_next().await {
        clients.push(done??);
    }
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut client, requests) in clients {
        tasks.spawn(async move {
            let mut count = 0usize;
            for request in requests.iter().cycle() {
                if begin.elapsed() >= HEARTBEATS {
                    break;
                }
                let (status, body) = client.exchange(request).await?;
                ensure!(status == 200, "{}", String::from_utf8_lossy(body));
                count += 1;
            }
            Ok(count)
        });
    }
    let mut count = 0;
    while let Some(done) = tasks.join_next().await {
        count += done??;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
