//! `/api/orgs/{org}/machine-facets`: by what a list of machines may be narrowed.

use axum::extract;
use tokio_postgres::types::ToSql;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::Role;
use ztna_proto::error::{Envelope, ErrorBody};
use ztna_proto::ids::OrgId;
use ztna_proto::machines::{Facet, MAX_FACETS, MachineFacets};

use super::standing::Standing;
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Path, User, ok};
use crate::orgs::{Right, authorise};

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show))
}

/// How many machines the org has, with which systems and tags, and how many wait for approval. Members' answers are about
/// their own.
#[utoipa::path(get, path = "/api/orgs/{org}/machine-facets", tag = "machines", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<MachineFacets>), (status = 404, body = ErrorBody),
))]
async fn show(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<MachineFacets> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let own = (role == Role::Member).then_some(user.0);
    let of: [&(dyn ToSql + Sync); 2] = [&org.0, &own];
    let query = format!(
        "SELECT count(*), count(*) FILTER (WHERE {}) FROM machines m
         WHERE m.org_id = $1 AND ($2::uuid IS NULL OR m.user_id = $2)",
        Standing::IS_PENDING
    );
    let row = tx.query_one(&query, &of).await?;
    let number = |at| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
    ok(MachineFacets {
        count: number(0),
        pending: number(1),
        systems: counted(&tx, "split_part(m.os, '-', 1)", &of).await?,
        tags: counted(&tx, "unnest(m.tags)", &of).await?,
    })
}

async fn counted(
    tx: &Tx<'_>,
    value: &str,
    of: &[&(dyn ToSql + Sync); 2],
) -> Result<Vec<Facet>, ApiError> {
    let query = format!(
        "SELECT {value} AS value, count(*) FROM machines m
         WHERE m.org_id = $1 AND ($2::uuid IS NULL OR m.user_id = $2)
         GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MAX_FACETS}"
    );
    let rows = tx.query(&query, of).await?;
    let facets = rows.iter().map(|row| Facet {
        value: row.get(0),
        count: u64::try_from(row.get::<_, i64>(1)).unwrap_or_default(),
    });
    Ok(facets.collect())
}
