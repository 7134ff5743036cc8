//! The relay's small HTTP service: what clients and tests ask of a relay beside the relay itself.

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

/// Longest challenge of a captive-portal check (`net/captivedetection`).
const MAX_CHALLENGE: usize = 64;

/// `/derp/probe`, `/derp/latency-check`, `/generate_204`, `/robots.txt`, and 426 for a `/derp`
/// without the right upgrade. For the router that goes behind [`super::run`].
pub fn routes() -> Router {
    Router::new()
        .route("/derp", any(upgrade_required))
        .route("/derp/probe", get(probe))
        .route("/derp/latency-check", get(probe))
        .route("/generate_204", get(generate_204))
        .route(
            "/robots.txt",
            get(|| async { "User-agent: *\nDisallow: /\n" }),
        )
}

async fn upgrade_required() -> Response {
    let headers = [(header::UPGRADE, "DERP"), (header::CONNECTION, "Upgrade")];
    let body = "This is a DERP relay; ask with \"Upgrade: DERP\".\n";
    (StatusCode::UPGRADE_REQUIRED, headers, body).into_response()
}

/// Latency is measured by asking for this, from browsers too.
async fn probe() -> Response {
    [(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")].into_response()
}

/// Shows a client that nobody answers in our place: a captive portal cannot echo the challenge.
async fn generate_204(request: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let no_cache = HeaderValue::from_static("no-cache, no-store, must-revalidate, no-transform");
    headers.insert(header::CACHE_CONTROL, no_cache);
    let challenge = request
        .get("x-tailscale-challenge")
        .and_then(|challenge| challenge.to_str().ok())
        .filter(|challenge| is_challenge(challenge));
    if let Some(challenge) = challenge
        && let Ok(answer) = HeaderValue::try_from(format!("response {challenge}"))
    {
        headers.insert("x-tailscale-response", answer);
    }
    response
}

fn is_challenge(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    !text.is_empty() && text.len() <= MAX_CHALLENGE && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn ask(path: &str, challenge: &str) -> Response {
        let request = Request::get(path)
            .header("X-Tailscale-Challenge", challenge)
            .body(Body::empty())
            .unwrap();
        routes().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn challenges_are_echoed_if_they_are_harmless() {
        let answer = ask("/generate_204", "ts_derp.example:1").await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(
            answer.headers()["x-tailscale-response"],
            "response ts_derp.example:1"
        );
        for bad in ["<script>", &"a".repeat(65), ""] {
            let answer = ask("/generate_204", bad).await;
            assert!(
                !answer.headers().contains_key("x-tailscale-response"),
                "{bad:?}"
            );
        }
    }

    #[tokio::test]
    async fn probes_answer_and_derp_wants_an_upgrade() {
        for path in ["/derp/probe", "/derp/latency-check"] {
            let answer = ask(path, "").await;
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        }
        assert_eq!(
            ask("/derp", "").await.status(),
            StatusCode::UPGRADE_REQUIRED
        );
        assert_eq!(ask("/robots.txt", "").await.status(), StatusCode::OK);
    }
}
