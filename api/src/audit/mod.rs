//! The audit log: what was changed in an org, and who signed in.
//!
//! Rows are written by triggers of the database (migration V7), within the transaction that changes
//! something: there is no change without its row, and nothing here to call. Only what changes no row
//! is said here: [`signed_in`], [`linked`], [`unlinked`], [`refused`], [`note`].
//!
//! What concerns a person rather than an org (sign-ins, password, second factor) stands in the log of
//! each org that the person is a member of at that time.
//!
//! Rows of an org are chained by their hashes ([`chain`]). Old rows go when their time is over
//! ([`cut_due`]), and the log says so itself.

mod chain;
mod export;
mod filter;
mod routes;

pub(crate) use filter::{between, head};
pub(crate) use routes::routes;

use serde_json::{Value, json};
use tokio_postgres::types::Json;
use ztna_proto::ids::{OrgId, SessionId, UserId};

use crate::app::State;
use crate::db::Tx;
use crate::http::{ApiError, Call, around};

/// Rows that `audit_cut` (migration V7) removes at a time.
const CUT: i64 = 10_000;

/// Writes down a sign-in, in the transaction that begins the session.
pub(crate) async fn signed_in(
    tx: &Tx<'_>,
    user: UserId,
    session: SessionId,
    way: &str,
) -> Result<(), ApiError> {
    let detail = json!({ "way": way, "session": session });
    write(tx, user, "sign_in", detail).await
}

/// Writes down that a provider's word opens an account from now on, in the transaction that links it.
pub(crate) async fn linked(tx: &Tx<'_>, user: UserId, way: &str) -> Result<(), ApiError> {
    write(tx, user, "link", json!({ "way": way })).await
}

/// Writes down that it opens it no more, in the transaction that ends the link.
pub(crate) async fn unlinked(tx: &Tx<'_>, user: UserId, way: &str) -> Result<(), ApiError> {
    write(tx, user, "unlink", json!({ "way": way })).await
}

/// Writes down that somebody was not let into an account. Later, by a task of its own: how long the
/// answer takes must not tell that there is such an account.
pub(crate) fn refused(state: &State, user: UserId, reason: &'static str) {
    let db = state.db.clone();
    let work = async move {
        let mut connection = db.connect().await?;
        let tx = connection.bare().await?;
        tx.announce().await?;
        write(&tx, user, "refused", json!({ "reason": reason })).await?;
        tx.commit().await
    };
    tokio::spawn(around(Call::unproven(), async move {
        let written: Result<(), ApiError> = work.await;
        if let Err(error) = written {
            tracing::error!(%user, reason, %error, "a refused sign-in is not in the audit log");
        }
    }));
}

async fn write(tx: &Tx<'_>, user: UserId, verb: &str, detail: Value) -> Result<(), ApiError> {
    tx.execute(
        "SELECT audit_session($1, $2, $3)",
        &[&user.0, &verb, &Json(detail)],
    )
    .await?;
    Ok(())
}

/// Writes down what was done with the log itself: `audit.VERB`.
async fn note(tx: &Tx<'_>, verb: &str, detail: Value) -> Result<(), ApiError> {
    tx.execute("SELECT audit_event($1, $2)", &[&verb, &Json(detail)])
        .await?;
    Ok(())
}

/// Removes rows that are older than their org keeps them.
pub(crate) async fn cut_due(state: &State) -> Result<(), ApiError> {
    let mut connection = state.db.connect().await?;
    let tx = connection.bare().await?;
    let rows = tx.query("SELECT * FROM audit_orgs_to_cut()", &[]).await?;
    drop(tx);
    for row in &rows {
        let org = OrgId(row.get(0));
        loop {
            let tx = connection.org(org).await?;
            let row = tx.query_one("SELECT audit_cut($1)", &[&org.0]).await?;
            tx.commit().await?;
            let cut: i64 = row.get(0);
            tracing::info!(%org, rows = cut, "old rows of the audit log were removed");
            if cut < CUT {
                break;
            }
        }
    }
    Ok(())
}
