//! The call that becomes a connection.

use axum::extract;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use http::{HeaderMap, header};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::realtime::{ACCESS_TOKEN_PROTOCOL, REALTIME_PROTOCOL};

use super::connection::{self, Caller};
use super::feed::Seat;
use crate::app::State;
use crate::http::{ApiError, Query, bearer, is_browser, refuse, same_origin};

/// Largest message that is read at all, in bytes. What is larger than a client may send, and smaller than
/// this, is answered.
const MAX_FRAME: usize = 64 * 1024;

pub(crate) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(realtime))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Ask {
    /// The org to listen to.
    #[param(value_type = OrgId)]
    org: OrgId,
}

/// What happens in an org, as it happens (WebSocket). The access token comes as the subprotocol
/// `access_token.<token>` beside `ztna.realtime`, or as the bearer; API keys do not open it. Messages are
/// `RealtimeRequest` and `RealtimeMessage`, one JSON object per text frame. The server pings every 30 s, and
/// closes with 1001 (stops: come back), 1013 (come back in a moment), 4000 (silent for 90 s), 4001 (the token has
/// ended: come back with a fresh one), 4002 (a message that it does not take), 4003 (not allowed any more) or 4029
/// (200 connections to the org, or at this node 25 of the person, are open: ask by the ordinary calls).
#[utoipa::path(get, path = "/api/realtime", tag = "realtime", params(Ask), responses(
    (status = 101, description = "The connection begins; the client subscribes."), (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn realtime(
    extract::State(state): extract::State<State>,
    headers: HeaderMap,
    Query(Ask { org }): Query<Ask>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    if is_browser(&headers) {
        same_origin(&headers)?;
    }
    let offered = protocols(&headers);
    let token = offered
        .iter()
        .find_map(|name| name.strip_prefix(ACCESS_TOKEN_PROTOCOL))
        .or_else(|| bearer(&headers));
    let Some((access, until)) = token.and_then(|token| state.keys.verify_access_until(token))
    else {
        return Err(refuse(
            ErrorCode::Unauthorized,
            "the connection carries no access token, or one whose 15 minutes are over; refresh the session and \
             offer the subprotocols `ztna.realtime` and `access_token.<token>`",
        ));
    };
    let caller = Caller { org, access, until };
    let role = caller.check(&state).await?;
    let upgrade = upgrade.map_err(|rejection| {
        refuse(
            ErrorCode::ValidationError,
            format!("this is a WebSocket: {}", rejection.body_text()),
        )
    })?;
    // Browsers insist that one is chosen. A client that offers its token alone gets that back.
    let chosen = offered
        .iter()
        .find(|name| **name == REALTIME_PROTOCOL)
        .or_else(|| {
            offered
                .iter()
                .find(|name| name.starts_with(ACCESS_TOKEN_PROTOCOL))
        });
    let upgrade = upgrade.protocols(chosen.map(|name| (*name).to_owned()));
    let seat = Seat::take(&state, org, access.user).await?;
    Ok(upgrade
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME)
        .on_upgrade(async move |socket| match seat {
            Ok(seat) => connection::run(state, caller, role, seat, socket).await,
            // Only as a close code does a browser's script see why.
            Err(full) => connection::turn_away(socket, full).await,
        }))
}

/// The subprotocols that the client offers.
fn protocols(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect()
}
