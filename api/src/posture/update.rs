//! Judging machines anew, and what follows from another answer.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;
use ztna_policy::document::{Attributes, Selector};
use ztna_proto::api::OFFLINE_AFTER_SECONDS;
use ztna_proto::ids::{MachineId, OrgId};
use ztna_proto::keys::WgPublicKey;
use ztna_proto::posture::{OnFailure, PostureReport, PostureResult};

use super::judge::{Judgement, Subject, judge};
use super::policies::{self, Policies};
use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, Machine};
use crate::machines::{self, Standing};
use crate::netmap::{self, Changed};
use crate::{orgs, policy, relays};

/// Machines that one transaction judges: it holds the org's row meanwhile.
const BATCH: i64 = 500;

/// A machine with what was said of it.
struct Judged {
    id: MachineId,
    wg_key: WgPublicKey,
    before: Judgement,
    after: Judgement,
    stood: Standing,
    stands: Standing,
}

impl Judged {
    /// Whether rules or the machine itself see anything new.
    fn is_news(&self) -> bool {
        (&self.before.attributes, &self.before.results)
            != (&self.after.attributes, &self.after.results)
            || self.stood != self.stands
    }
}

/// What to tell of once it is committed.
#[derive(Default)]
#[must_use = "peers and relays have to be told"]
struct News {
    machines: usize,
    /// Those that have lost their place.
    cut: Vec<WgPublicKey>,
    /// Until when a key is revoked whose machine is back.
    revoked_until: Option<Timestamp>,
}

impl News {
    async fn tell(self, state: &State, org: OrgId) {
        if self.machines == 0 {
            return;
        }
        for key in self.cut {
            state.cut(key).await;
        }
        relays::outlast(self.revoked_until).await;
        state.hub.notify(org).await;
        tracing::info!(%org, machines = self.machines, "posture is another");
    }
}

/// Takes a machine's report. One that tells nothing new touches nobody else's row; news is a change in
/// the org's log.
pub(crate) async fn accept(
    state: &State,
    machine: &Machine,
    report: &PostureReport,
) -> Result<(), ApiError> {
    let mut connection = state.db.connect().await?;
    {
        let tx = connection.org(machine.org).await?;
        store_report(&tx, machine, report).await?;
        let judged = read(state, &tx, machine.org, Some(machine.id)).await?;
        if !judged.iter().any(Judged::is_news) {
            for machine_judged in &judged {
                store(&tx, machine.org, machine_judged).await?;
            }
            return tx.commit().await;
        }
        // The org's row comes before a machine's, as in every change: from the beginning then.
    }
    let tx = connection.org(machine.org).await?;
    orgs::lock(&tx, machine.org).await?;
    store_report(&tx, machine, report).await?;
    let judged = read(state, &tx, machine.org, Some(machine.id)).await?;
    let news = write(&tx, machine.org, &judged).await?;
    tx.commit().await?;
    drop(connection);
    news.tell(state, machine.org).await;
    Ok(())
}

/// Has a new machine wait for its first report where a policy quarantines without grace; in the
/// transaction that adds it, which holds the org's row and logs the change.
pub(crate) async fn enter(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    machine: MachineId,
) -> Result<(), ApiError> {
    let judged = read(state, tx, org, Some(machine)).await?;
    for machine in judged.iter().filter(|it| it.stands.posture.is_some()) {
        store(tx, org, machine).await?;
        store_quarantine(tx, org, machine).await?;
    }
    Ok(())
}

/// Judges anew whom time or a change elsewhere has brought another answer, in every org.
pub(crate) async fn recheck_due(state: &State) -> Result<(), ApiError> {
    let orgs = {
        let mut connection = state.db.connect().await?;
        let tx = connection.bare().await?;
        tx.query("SELECT * FROM lookup_orgs_with_due_posture()", &[])
            .await?
    };
    state.posture_clock.is_served(Timestamp::now());
    for org in orgs.iter().map(|row| OrgId(row.get(0))) {
        recheck(state, org).await?;
    }
    Ok(())
}

/// Judges machines of an org anew that are due: one batch, the next one a moment later.
pub(super) async fn recheck(state: &State, org: OrgId) -> Result<(), ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    orgs::lock(&tx, org).await?;
    let judged = read(state, &tx, org, None).await?;
    let news = write(&tx, org, &judged).await?;
    tx.commit().await?;
    drop(connection);
    news.tell(state, org).await;
    Ok(())
}

/// Keeps the report; from here on the transaction holds the machine's posture.
async fn store_report(
    tx: &Tx<'_>,
    machine: &Machine,
    report: &PostureReport,
) -> Result<(), ApiError> {
    // A machine that was deleted meanwhile has none.
    tx.execute(
        "INSERT INTO machine_posture (org_id, machine_id, report, reported_at)
         SELECT org_id, id, $3, now() FROM machines WHERE org_id = $1 AND id = $2
         ON CONFLICT (org_id, machine_id)
         DO UPDATE SET report = excluded.report, reported_at = excluded.reported_at",
        &[&machine.org.0, &machine.id.0, &Json(report)],
    )
    .await?;
    Ok(())
}

/// Machines of an org, as [`judge_row`] reads them.
fn select() -> String {
    format!(
        "SELECT h.machine_id, m.os, h.report, h.reported_at, h.attributes, h.results, h.due_at,
                p.last_seen, now(), m.wg_key, {}
         FROM machine_posture h
         JOIN machines m ON m.org_id = h.org_id AND m.id = h.machine_id
         LEFT JOIN machine_presence p ON p.org_id = h.org_id AND p.machine_id = h.machine_id
         WHERE h.org_id = $1",
        Standing::COLUMNS
    )
}

/// Reads and judges one machine, or a batch of those that are due, and holds their rows: a policy that
/// changes meanwhile has them judged again.
async fn read(
    state: &State,
    tx: &Tx<'_>,
    org: OrgId,
    one: Option<MachineId>,
) -> Result<Vec<Judged>, ApiError> {
    let rows = match one {
        Some(id) => {
            let query = format!("{} AND h.machine_id = $2 FOR UPDATE OF h", select());
            tx.query(&query, &[&org.0, &id.0]).await?
        }
        None => {
            let query = format!(
                "{} AND h.due_at <= now() ORDER BY h.due_at LIMIT $2 FOR UPDATE OF h",
                select()
            );
            tx.query(&query, &[&org.0, &BATCH]).await?
        }
    };
    // After the rows are held.
    let policies = policies::load(tx, org).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let labels = labels(tx, org, &policies, &ids).await?;
    let none = BTreeSet::new();
    rows.iter()
        .map(|row| {
            let labels = labels.get(&MachineId(row.get(0))).unwrap_or(&none);
            judge_row(state, row, &policies, labels)
        })
        .collect()
}

fn judge_row(
    state: &State,
    row: &Row,
    policies: &Policies,
    labels: &BTreeSet<String>,
) -> Result<Judged, ApiError> {
    let unreadable = |error: tokio_postgres::Error| {
        ApiError::Internal(format!("a stored posture cannot be read: {error}"))
    };
    let report: Option<Json<PostureReport>> = row.try_get(2).map_err(unreadable)?;
    let reported_at: Option<Timestamp> = row.get(3);
    let Json(attributes): Json<Attributes> = row.try_get(4).map_err(unreadable)?;
    // Of another version's results nothing is known: graces begin anew.
    let results: Option<Json<Vec<PostureResult>>> = row.try_get(5).ok();
    let before = Judgement {
        attributes,
        results: results.map(|Json(results)| results).unwrap_or_default(),
        due_at: row.get(6),
    };
    let now: Timestamp = row.get(8);
    let last_seen: Option<Timestamp> = row.get(7);
    let subject = Subject {
        report: report
            .as_ref()
            .zip(reported_at)
            .map(|(Json(report), at)| (report, at)),
        heard: last_seen.is_some_and(|at| {
            now.duration_since(at).as_secs() <= OFFLINE_AFTER_SECONDS.cast_signed()
        }),
        system: system(row.get(1)),
        labels,
        before: &before.results,
    };
    let after = judge(policies, &subject, &state.posture_clock.clock(), now);
    let stood = Standing::read(row, 10);
    Ok(Judged {
        id: MachineId(row.get(0)),
        wg_key: machines::wg_key(row.get(9))?,
        stands: Standing {
            posture: quarantine(&after, now),
            ..stood.clone()
        },
        stood,
        before,
        after,
    })
}

/// Why policies have a machine in quarantine, if they do.
fn quarantine(judgement: &Judgement, now: Timestamp) -> Option<String> {
    let mut failing = judgement.results.iter().filter(|result| {
        result.on_failure == OnFailure::Quarantine && result.enforced_at.is_some_and(|at| at <= now)
    });
    // Of several, one is enough to act on.
    let name = &failing.next()?.name;
    Some(format!("the posture policy \"{name}\" is not met"))
}

/// `linux` of `linux-x86_64`.
fn system(os: &str) -> &str {
    os.split('-').next().unwrap_or_default()
}

/// What policies know machines by, as far as they ask.
async fn labels(
    tx: &Tx<'_>,
    org: OrgId,
    policies: &Policies,
    ids: &[Uuid],
) -> Result<BTreeMap<MachineId, BTreeSet<String>>, ApiError> {
    let scopes = policies.iter().flat_map(|(_, policy)| &policy.scope);
    let groups: BTreeSet<&str> = scopes
        .clone()
        .filter_map(|scope| scope.strip_prefix("group:"))
        .collect();
    if scopes.count() == 0 || ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let facts = netmap::facts_among(tx, org, ids).await?;
    let document = match groups.is_empty() {
        true => None,
        false => Some(policy::load(tx, org).await?),
    };
    let labels = facts.into_iter().map(|(id, facts)| {
        let mut labels: BTreeSet<String> =
            facts.tags.iter().map(|tag| format!("tag:{tag}")).collect();
        if let Some(document) = &document {
            let within = groups.iter().filter(|group| {
                facts.is(Some(id), &Selector::Group((**group).to_owned()), document)
            });
            labels.extend(within.map(|group| format!("group:{group}")));
        }
        (id, labels)
    });
    Ok(labels.collect())
}

/// Writes down what is another, and logs what is news. The transaction holds the org's row.
async fn write(tx: &Tx<'_>, org: OrgId, judged: &[Judged]) -> Result<News, ApiError> {
    let mut news = News::default();
    for machine in judged {
        if machine.is_news() {
            netmap::append_change(tx, org, Changed::Machine(machine.id)).await?;
            news.machines += 1;
        }
        store(tx, org, machine).await?;
    }
    for machine in judged
        .iter()
        .filter(|machine| machine.stood != machine.stands)
    {
        store_quarantine(tx, org, machine).await?;
        match (machine.stood.is_in(), machine.stands.is_in()) {
            (true, false) => news.cut.push(machine.wg_key),
            (false, true) => {
                let until = relays::revoked_until(tx, &[machine.wg_key]).await?;
                news.revoked_until = news.revoked_until.max(until);
            }
            _ => {}
        }
    }
    for key in &news.cut {
        relays::append(tx, key).await?;
    }
    Ok(news)
}

async fn store(tx: &Tx<'_>, org: OrgId, machine: &Judged) -> Result<(), ApiError> {
    if machine.before == machine.after {
        return Ok(());
    }
    tx.execute(
        "UPDATE machine_posture SET attributes = $3, results = $4, due_at = $5
         WHERE org_id = $1 AND machine_id = $2",
        &[
            &org.0,
            &machine.id.0,
            &Json(&machine.after.attributes),
            &Json(&machine.after.results),
            &machine.after.due_at,
        ],
    )
    .await?;
    Ok(())
}

async fn store_quarantine(tx: &Tx<'_>, org: OrgId, machine: &Judged) -> Result<(), ApiError> {
    tx.execute(
        "UPDATE machines SET posture_quarantine = $3 WHERE org_id = $1 AND id = $2",
        &[&org.0, &machine.id.0, &machine.stands.posture],
    )
    .await?;
    Ok(())
}
