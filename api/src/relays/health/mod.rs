//! Health: every node is probed every few seconds by one process, and what was found is stored for
//! all of them. The relay map stays as it is: machines find out themselves what they reach.

mod address;
mod probe;
mod routes;

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::types::Json;
use uuid::Uuid;
use ztna_proto::ids::RegionId;
use ztna_proto::relay::RelayNode;

pub(crate) use address::is_public;
pub(super) use routes::routes;

use super::map;
use crate::app::State;
use crate::db::Lead;
use crate::http::ApiError;
use probe::{Configs, Finding, Reach};

/// The process that holds this advisory lock probes. Any number of ours.
const LOCK: i64 = 0x7a74_6e61_7072_6f62;
/// Probes at a time.
const CONCURRENCY: usize = 64;
/// Nodes of orgs that one round probes; of more, those whose turn is longest ago.
const MAX_ORG_NODES: i64 = 1024;
/// The part of the period over which a round's probes begin, so that they do not all fall together.
const JITTER: f64 = 0.2;

/// A node, and whose it is.
struct Target {
    /// `None`: the deployment's.
    org: Option<Uuid>,
    region: RegionId,
    node: RelayNode,
}

/// Which node, for what is remembered between rounds.
type Key = (Option<Uuid>, RegionId, String);

impl Target {
    fn key(&self) -> Key {
        (self.org, self.region, self.node.name.clone())
    }
}

/// Probes until the control plane stops, whenever no other process does.
pub(crate) async fn keep_probing(state: State) {
    let stopping = state.stopping.clone();
    stopping.run_until_cancelled(Prober::new(state).run()).await;
}

struct Prober {
    state: State,
    configs: Configs,
    lead: Option<Lead>,
    /// How each node was found last.
    last: HashMap<Key, Option<bool>>,
}

impl Prober {
    fn new(state: State) -> Self {
        Self {
            state,
            configs: Configs::default(),
            lead: None,
            last: HashMap::new(),
        }
    }

    async fn run(mut self) {
        let mut rounds = interval(self.state.probe_period);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if let Err(error) = self.round().await {
                tracing::error!(%error, "the health of relays could not be found out; trying again");
                self.lead = None;
            }
        }
    }

    async fn round(&mut self) -> Result<(), ApiError> {
        match &self.lead {
            Some(lead) => lead.check().await?,
            None => self.lead = self.state.db.lead(LOCK).await?,
        }
        if self.lead.is_none() {
            self.last.clear();
            return Ok(());
        }
        let targets = self.targets().await?;
        let this = &*self;
        let found: Vec<(Target, Finding)> = futures_util::stream::iter(targets)
            .map(async |target| {
                let finding = this.probe(&target).await;
                (target, finding)
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        self.store(&found).await?;
        self.note(&found);
        Ok(())
    }

    async fn targets(&self) -> Result<Vec<Target>, ApiError> {
        let mut connection = self.state.db.connect().await?;
        let tx = connection.bare().await?;
        let mut targets = Vec::new();
        for document in map::deployment(&tx).await? {
            let region = document.region.id;
            let nodes = document.region.nodes.into_iter();
            targets.extend(nodes.map(|node| Target {
                org: None,
                region,
                node,
            }));
        }
        let rows = tx
            .query(
                "SELECT org_id, region_id, node FROM lookup_org_relay_nodes($1)",
                &[&MAX_ORG_NODES],
            )
            .await?;
        for row in &rows {
            let Json(node) = row.try_get(2)?;
            targets.push(Target {
                org: Some(row.get(0)),
                region: RegionId(row.get::<_, i32>(1).unsigned_abs()),
                node,
            });
        }
        Ok(targets)
    }

    async fn probe(&self, target: &Target) -> Finding {
        let spread = self.state.probe_period.mul_f64(JITTER);
        sleep(spread.mul_f64(rand::random::<f64>())).await;
        let reach = match target.org {
            Some(_) if !self.state.allow_private_relays => Reach::Public,
            Some(_) | None => Reach::Anywhere,
        };
        probe::probe(&target.node, reach, &self.configs).await
    }

    async fn store(&self, found: &[(Target, Finding)]) -> Result<(), ApiError> {
        let (own, deployment): (Vec<_>, Vec<_>) =
            found.iter().partition(|(target, _)| target.org.is_some());
        let mut connection = self.state.db.connect().await?;
        let tx = connection.bare().await?;
        let rows = Rows::of(&deployment);
        tx.execute(
            "INSERT INTO relay_health AS old (region_id, node, up, latency_ms, error)
             SELECT new.region_id, new.node, new.up, new.latency_ms, new.error
             FROM unnest($1::integer[], $2::text[], $3::boolean[], $4::real[], $5::text[])
                 AS new (region_id, node, up, latency_ms, error)
             JOIN relay_nodes n ON n.region_id = new.region_id AND n.name = new.node
             ON CONFLICT (region_id, node) DO UPDATE SET
                 up = excluded.up, latency_ms = excluded.latency_ms, error = excluded.error,
                 checked_at = now(),
                 since = CASE WHEN old.up IS DISTINCT FROM excluded.up THEN now() ELSE old.since END",
            &[&rows.regions, &rows.nodes, &rows.ups, &rows.latencies, &rows.errors],
        )
        .await?;
        let orgs: Vec<Option<Uuid>> = own.iter().map(|(target, _)| target.org).collect();
        let rows = Rows::of(&own);
        tx.execute(
            "SELECT store_org_relay_health($1, $2, $3, $4, $5, $6)",
            &[
                &orgs,
                &rows.regions,
                &rows.nodes,
                &rows.ups,
                &rows.latencies,
                &rows.errors,
            ],
        )
        .await?;
        tx.commit().await
    }

    /// Tells the operator what has changed, and how many there are.
    fn note(&mut self, found: &[(Target, Finding)]) {
        let mut last = HashMap::new();
        let (mut up, mut down) = (0u32, 0u32);
        for (target, finding) in found {
            let key = target.key();
            let before = self.last.get(&key).copied().flatten();
            let (org, region, node) = (target.org, target.region, &target.node.name);
            let error = finding.error.as_deref();
            match (before, finding.up) {
                (None | Some(true), Some(false)) => {
                    tracing::info!(?org, %region, node, error, "a relay is down");
                }
                (Some(false), Some(true)) => {
                    tracing::info!(?org, %region, node, "a relay is up again")
                }
                _ => {}
            }
            match finding.up {
                Some(true) => up += 1,
                Some(false) => down += 1,
                None => {}
            }
            last.insert(key, finding.up);
        }
        self.last = last;
        metrics::gauge!("ztna_api_relays", "state" => "up").set(f64::from(up));
        metrics::gauge!("ztna_api_relays", "state" => "down").set(f64::from(down));
    }
}

/// Findings as columns.
struct Rows<'a> {
    regions: Vec<i32>,
    nodes: Vec<&'a str>,
    ups: Vec<Option<bool>>,
    latencies: Vec<Option<f32>>,
    errors: Vec<Option<&'a str>>,
}

impl<'a> Rows<'a> {
    fn of(found: &[&'a (Target, Finding)]) -> Self {
        let milliseconds = |latency: Duration| latency.as_secs_f32() * 1000.0;
        let targets = || found.iter().map(|(target, _)| target);
        let findings = || found.iter().map(|(_, finding)| finding);
        Self {
            regions: targets().map(|t| t.region.0.cast_signed()).collect(),
            nodes: targets().map(|t| t.node.name.as_str()).collect(),
            ups: findings().map(|f| f.up).collect(),
            latencies: findings().map(|f| f.latency.map(milliseconds)).collect(),
            errors: findings().map(|f| f.error.as_deref()).collect(),
        }
    }
}
