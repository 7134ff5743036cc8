//! `POST /api/orgs/{org}/machines/{machine}/actions`, and what a wiped machine says.

use axum::extract;
use jiff::Timestamp;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{self, Role};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::{MachineId, OrgId, UserId};
use ztna_proto::keys::WgPublicKey;
use ztna_proto::machines::{MAX_REASON, MachineAction, Wipe};
use ztna_proto::tokens::MachineToken;

use super::authenticate::wg_key;
use super::routes::no_machine;
use super::standing::Standing;
use super::view::read_machines;
use super::{static_peers, upkeep};
use crate::app::State;
use crate::db::Tx;
use crate::http::{Answer, ApiError, Empty, Json, Machine, Path, User, ok, refuse};
use crate::netmap::{self, Changed};
use crate::orgs::{Right, authorise};
use crate::relays;
use crate::text::has_hidden;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(act))
        .routes(routes!(wiped))
}

impl Standing {
    /// What becomes of a machine named `name`. An action that would change nothing is refused: who asks
    /// for it believes something that is not so.
    fn after(&self, action: &MachineAction, name: &str) -> Result<Self, ApiError> {
        if self.wipe.is_some() {
            return Err(conflict(
                name,
                "is being wiped; all that is left is to delete it",
            ));
        }
        let mut after = self.clone();
        match action {
            MachineAction::Approve {} if self.approved => {
                return Err(conflict(name, "is approved already"));
            }
            MachineAction::Approve {} => after.approved = true,
            MachineAction::Deny {} if self.approved => {
                return Err(conflict(name, "is approved already; delete it instead"));
            }
            MachineAction::Deny {} => {}
            MachineAction::Quarantine { reason } => {
                begin(&mut after.quarantined, reason, name, "in quarantine")?;
            }
            MachineAction::Release {} if self.quarantined.is_none() && self.posture.is_some() => {
                return Err(conflict(
                    name,
                    "is in quarantine by a posture policy, and its next good report releases it; \
                     change the policy to release it before",
                ));
            }
            MachineAction::Release {} => {
                end(&mut after.quarantined, name, "in quarantine")?;
            }
            MachineAction::Lock { reason } => begin(&mut after.locked, reason, name, "locked")?,
            MachineAction::Unlock {} => end(&mut after.locked, name, "locked")?,
            MachineAction::Disable { reason } => {
                begin(&mut after.disabled, reason, name, "disabled")?;
            }
            MachineAction::Enable {} => end(&mut after.disabled, name, "disabled")?,
            MachineAction::Wipe { confirm } if confirm != name => {
                return Err(refuse(
                    ErrorCode::ValidationError,
                    format!("`confirm` is not the machine's name; to wipe it, send {name:?}"),
                ));
            }
            MachineAction::Wipe { .. } => {
                // It has to be served, to hear of it.
                after.disabled = None;
                after.expired = false;
                after.wipe = Some(Wipe {
                    asked_at: Timestamp::now(),
                    done_at: None,
                });
            }
        }
        Ok(after)
    }
}

fn begin(held: &mut Option<String>, reason: &str, name: &str, what: &str) -> Result<(), ApiError> {
    if held.is_some() {
        return Err(conflict(name, &format!("is {what} already")));
    }
    if reason.chars().count() > MAX_REASON || has_hidden(reason) {
        return Err(refuse(
            ErrorCode::ValidationError,
            format!(
                "`reason` may have {MAX_REASON} characters, none of them invisible; shorten it"
            ),
        ));
    }
    *held = Some(reason.to_owned());
    Ok(())
}

fn end(held: &mut Option<String>, name: &str, what: &str) -> Result<(), ApiError> {
    match held.take() {
        Some(_) => Ok(()),
        None => Err(conflict(name, &format!("is not {what}"))),
    }
}

fn conflict(name: &str, why: &str) -> ApiError {
    refuse(
        ErrorCode::Conflict,
        format!("the machine {name} {why}; nothing was changed"),
    )
}

/// Approves or denies a machine, quarantines and releases it, locks and unlocks, disables and enables,
/// or wipes it.
#[utoipa::path(post, path = "/api/orgs/{org}/machines/{machine}/actions", tag = "machines",
    params(("org" = OrgId, Path), ("machine" = MachineId, Path)), request_body = MachineAction, responses(
    (status = 200, body = Envelope<api::Machine>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn act(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, id)): Path<(OrgId, MachineId)>,
    Json(action): Json<MachineAction>,
) -> Answer<api::Machine> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    let role = authorise(&tx, org, user, Right::Belong).await?;
    let own = match (role, &action) {
        (Role::Owner | Role::Admin, _) => None,
        (_, MachineAction::Lock { .. }) => Some(user),
        _ => {
            authorise(&tx, org, user, Right::Manage).await?;
            None
        }
    };
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    let (name, key, before) = find(&tx, org, id, own).await?;
    let after = before.after(&action, &name)?;
    if let MachineAction::Wipe { .. } = action {
        static_peers::refuse_wipe(&tx, org, id, &name).await?;
    }
    let denied = match action {
        MachineAction::Deny {} => {
            let told = read_machines(&state, &tx, org, Some(id), None).await?.pop();
            upkeep::delete(&tx, org, id, None).await?;
            told
        }
        _ => {
            store(&tx, org, id, &after).await?;
            None
        }
    };
    let shown = match denied {
        Some(denied) => Some(denied),
        None => read_machines(&state, &tx, org, Some(id), None).await?.pop(),
    };
    let cut = before.is_in() && !after.is_in();
    let back = match !before.is_in() && after.is_in() {
        true => relays::revoked_until(&tx, &[key]).await?,
        false => None,
    };
    if cut {
        relays::append(&tx, &key).await?;
    }
    tx.commit().await?;
    drop(connection);
    if cut {
        state.cut(key).await;
    }
    relays::outlast(back).await;
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, by = %user, state = %after.state(false), "a machine's standing was changed");
    shown.map_or_else(|| Err(no_machine()), ok)
}

async fn find(
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
    of: Option<UserId>,
) -> Result<(String, WgPublicKey, Standing), ApiError> {
    let query = format!(
        "SELECT m.name, m.wg_key, {} FROM machines m
         WHERE m.org_id = $1 AND m.id = $2 AND ($3::uuid IS NULL OR m.user_id = $3)",
        Standing::COLUMNS
    );
    let row = tx
        .query_opt(&query, &[&org.0, &id.0, &of.map(|user| user.0)])
        .await?
        .ok_or_else(no_machine)?;
    Ok((row.get(0), wg_key(row.get(1))?, Standing::read(&row, 2)))
}

async fn store(
    tx: &Tx<'_>,
    org: OrgId,
    id: MachineId,
    standing: &Standing,
) -> Result<(), ApiError> {
    tx.execute(
        "UPDATE machines SET approved = $3, quarantined = $4, locked = $5, disabled = $6,
                expired = $7, wipe_asked_at = $8,
                key_expires_at = CASE WHEN $8::timestamptz IS NULL THEN key_expires_at END
         WHERE org_id = $1 AND id = $2",
        &[
            &org.0,
            &id.0,
            &standing.approved,
            &standing.quarantined,
            &standing.locked,
            &standing.disabled,
            &standing.expired,
            &standing.wipe.map(|wipe| wipe.asked_at),
        ],
    )
    .await?;
    Ok(())
}

/// A machine has erased its keys and its state, as it was told. Bearer: machine token, which ends.
#[utoipa::path(post, path = "/api/machine-wiped", tag = "machines", responses(
    (status = 200, body = Envelope<Empty>), (status = 401, body = ErrorBody), (status = 409, body = ErrorBody),
    (status = 410, body = ErrorBody),
))]
async fn wiped(extract::State(state): extract::State<State>, machine: Machine) -> Answer<Empty> {
    let (org, id) = (machine.org, machine.id);
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    netmap::append_change(&tx, org, Changed::Machine(id)).await?;
    // Nobody holds the token that takes the place of the machine's.
    let nobodys = MachineToken::generate(&mut rand::rng()).hash();
    let done = tx
        .execute(
            "UPDATE machines SET wiped_at = now(), token_hash = $3, previous_token_hash = NULL
             WHERE org_id = $1 AND id = $2 AND wipe_asked_at IS NOT NULL",
            &[&org.0, &id.0, &nobodys.as_slice()],
        )
        .await?;
    if done == 0 {
        return Err(refuse(
            ErrorCode::Conflict,
            "nobody has asked this machine to erase itself",
        ));
    }
    tx.commit().await?;
    drop(connection);
    state.hub.notify(org).await;
    tracing::info!(%org, machine = %id, "a machine was wiped");
    ok(Empty {})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn every_action_has_the_state_that_it_starts_from() {
        use MachineAction as A;
        let good = Standing {
            approved: true,
            ..Standing::default()
        };
        let pairs = [
            (
                A::Quarantine {
                    reason: reason("x"),
                },
                A::Release {},
            ),
            (A::Lock { reason: reason("") }, A::Unlock {}),
            (A::Disable { reason: reason("") }, A::Enable {}),
        ];
        for (there, back) in pairs {
            assert!(good.after(&back, "m").is_err(), "{back:?}");
            let held = good.after(&there, "m").unwrap();
            assert!(!held.is_in());
            assert!(held.after(&there, "m").is_err(), "{there:?} twice");
            assert_eq!(held.after(&back, "m").unwrap(), good);
        }
        assert!(good.after(&A::Approve {}, "m").is_err());
        assert!(good.after(&A::Deny {}, "m").is_err());
        let pending = Standing::default();
        assert_eq!(pending.after(&A::Approve {}, "m").unwrap(), good);
        assert!(pending.after(&A::Deny {}, "m").is_ok());
    }

    #[test]
    fn a_wipe_names_the_machine_and_is_the_end() {
        let disabled = Standing {
            approved: true,
            disabled: Some(String::new()),
            ..Standing::default()
        };
        let wipe = |confirm: &str| MachineAction::Wipe {
            confirm: confirm.to_owned(),
        };
        assert!(disabled.after(&wipe("n"), "m").is_err());
        let wiped = disabled.after(&wipe("m"), "m").unwrap();
        assert!(
            wiped.disabled.is_none(),
            "it has to be served to hear of it"
        );
        for action in [
            MachineAction::Approve {},
            MachineAction::Unlock {},
            wipe("m"),
        ] {
            assert!(wiped.after(&action, "m").is_err(), "{action:?}");
        }
    }

    #[test]
    fn reasons_have_a_bound() {
        let long = MachineAction::Lock {
            reason: "x".repeat(MAX_REASON + 1),
        };
        assert!(Standing::default().after(&long, "m").is_err());
    }
}
