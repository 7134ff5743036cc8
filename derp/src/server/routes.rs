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
        .route(
            "/robots.txt",
            get(|| async { "User-agent: *\nDisallow: /\n" }),
        )
        .merge(captive_portal_routes())
}

/// `/generate_204`, which clients ask for without TLS too: a captive portal answers in our place
/// there.
pub fn captive_portal_routes() -> Router {
    Router::new().route("/generate_204", get(generate_204))
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
    use axum::http::{Method, Request};
    use tower::ServiceExt;

    use super::*;

    async fn ask(path: &str, challenge: &str) -> Response {
        ask_by(Method::GET, path, challenge).await
    }

    async fn ask_by(method: Method, path: &str, challenge: &str) -> Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
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
    async fn probes_answer_get_and_head_for_any_page() {
        for path in ["/derp/probe", "/derp/latency-check"] {
            for method in [Method::GET, Method::HEAD] {
                let answer = ask_by(method, path, "").await;
                assert_eq!(answer.status(), StatusCode::OK);
                assert_eq!(answer.headers()["access-control-allow-origin"], "*");
            }
            let answer = ask_by(Method::POST, path, "").await;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        }
    }

    #[tokio::test]
    async fn derp_wants_an_upgrade_and_robots_stay_away() {
        let answer = ask("/derp", "").await;
        assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(answer.headers()["upgrade"], "DERP");
        let answer = ask("/robots.txt", "").await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body = axum::body::to_bytes(answer.into_body(), 1024).await;
        assert_eq!(body.unwrap(), "User-agent: *\nDisallow: /\n");
    }

    #[tokio::test]
    async fn the_answer_to_a_portal_check_is_not_kept() {
        let answer = ask("/generate_204", "").await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let cache = answer.headers()["cache-control"].to_str().unwrap();
        assert!(cache.contains("no-store"), "{cache}");
    }
}
