//! Accounts and sessions.

use std::time::Duration;

use crate::common::client::{PASSWORD, code};
use crate::common::{Client, Server};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ztna_proto::api::{CliCode, Me, Session};
use ztna_proto::error::{ErrorBody, ErrorCode};

const EMAIL: &str = "alice@example.com";

async fn refresh(client: &Client, token: &str) -> Result<Session, ErrorBody> {
    client
        .post("/api/auth/refresh", json!({"refresh_token": token}))
        .await
}

#[tokio::test]
async fn sign_up_tells_nobody_who_has_an_account() {
    let server = Server::start().await;
    let client = Client::anonymous(&server);
    let sign_up = |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        client
            .request(Method::POST, "/api/auth/signup")
            .json(&body)
            .send()
    };
    let first = sign_up(EMAIL, PASSWORD).await.unwrap();
    let again = sign_up(" ALICE@example.com", "another password")
        .await
        .unwrap();
    assert_eq!(
        (first.status(), again.status()),
        (again.status(), first.status())
    );
    assert_eq!(first.status().as_u16(), 201);
    assert_eq!(first.text().await.unwrap(), again.text().await.unwrap());
    // The first password stays.
    client.login(EMAIL, PASSWORD).await.unwrap();
    let unknown = client
        .login("nobody@example.com", PASSWORD)
        .await
        .err()
        .unwrap();
    let wrong = client.login(EMAIL, "another password").await.err().unwrap();
    assert_eq!(unknown, wrong);
    assert_eq!(wrong.code, ErrorCode::InvalidCredentials);

    for (email, password) in [(EMAIL, "short"), ("no address", PASSWORD)] {
        let refused = sign_up(email, password).await.unwrap();
        assert_eq!(refused.status().as_u16(), 400);
    }
}

#[tokio::test]
async fn ten_failures_lock_an_account_known_or_not() {
    let server = Server::start().await;
    Client::new_user(&server, EMAIL).await;
    let client = Client::anonymous(&server);
    for email in [EMAIL, "nobody@example.com"] {
        for _ in 0..10 {
            let refused = client.login(email, "wrong password").await;
            assert_eq!(code(refused), ErrorCode::InvalidCredentials);
        }
        // Even with the right password.
        assert_eq!(
            code(client.login(email, PASSWORD).await),
            ErrorCode::AccountLocked
        );
    }
}

#[tokio::test]
async fn a_lock_ends_and_success_forgets_failures() {
    let server = Server::start_with(|config| {
        config.limits.account.count = 2;
        config.limits.lockout = Duration::from_millis(300);
    })
    .await;
    Client::new_user(&server, EMAIL).await;
    let client = Client::anonymous(&server);
    for _ in 0..3 {
        assert_eq!(
            code(client.login(EMAIL, "wrong").await),
            ErrorCode::InvalidCredentials
        );
        client.login(EMAIL, PASSWORD).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(
            code(client.login(EMAIL, "wrong").await),
            ErrorCode::InvalidCredentials
        );
    }
    assert_eq!(
        code(client.login(EMAIL, PASSWORD).await),
        ErrorCode::AccountLocked
    );
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.login(EMAIL, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn addresses_have_their_limits() {
    let server = Server::start_with(|config| {
        config.limits.signup.count = 2;
        config.limits.login.count = 2;
    })
    .await;
    let client = Client::anonymous(&server);
    let sign_up = async |n: u32| {
        let body = json!({"email": format!("{n}@example.com"), "password": PASSWORD});
        client.post::<Value>("/api/auth/signup", body).await
    };
    sign_up(1).await.unwrap();
    sign_up(2).await.unwrap();
    assert_eq!(code(sign_up(3).await), ErrorCode::RateLimited);
    for n in 1..=2 {
        let refused = client.login(&format!("{n}@example.com"), "wrong").await;
        assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    }
    let refused = client.login("1@example.com", PASSWORD).await;
    assert_eq!(code(refused), ErrorCode::RateLimited);
}

#[tokio::test]
async fn refresh_tokens_are_used_once_and_a_second_use_ends_the_family() {
    let server = Server::start().await;
    Client::new_user(&server, EMAIL).await;
    let client = Client::anonymous(&server);
    let first = client.login(EMAIL, PASSWORD).await.unwrap();
    let other = client.login(EMAIL, PASSWORD).await.unwrap();
    let second = refresh(&client, &first.refresh_token).await.unwrap();
    let me: Me = client
        .bearer(&second.access_token)
        .get("/api/auth/me")
        .await
        .unwrap();
    assert_eq!(me.email, EMAIL);
    let third = refresh(&client, &second.refresh_token).await.unwrap();
    // A thief comes with a token of before.
    let stolen = refresh(&client, &first.refresh_token).await;
    assert_eq!(code(stolen), ErrorCode::Unauthorized);
    assert_eq!(
        code(refresh(&client, &third.refresh_token).await),
        ErrorCode::Unauthorized
    );
    // Another sign-in of the same person goes on.
    refresh(&client, &other.refresh_token).await.unwrap();
}

#[tokio::test]
async fn of_many_refreshes_at_once_one_succeeds() {
    let server = Server::start().await;
    Client::new_user(&server, EMAIL).await;
    let client = Client::anonymous(&server);
    let session = client.login(EMAIL, PASSWORD).await.unwrap();
    let tries = (0..8).map(|_| refresh(&client, &session.refresh_token));
    let results = futures_util::future::join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test]
async fn logout_ends_the_session() {
    let server = Server::start().await;
    Client::new_user(&server, EMAIL).await;
    let client = Client::anonymous(&server);
    let session = client.login(EMAIL, PASSWORD).await.unwrap();
    let body = json!({"refresh_token": session.refresh_token});
    let _: Value = client.post("/api/auth/logout", &body).await.unwrap();
    let ended = refresh(&client, &session.refresh_token).await;
    assert_eq!(code(ended), ErrorCode::Unauthorized);
    // Twice is as good as once; without any token it is a mistake.
    let _: Value = client.post("/api/auth/logout", &body).await.unwrap();
    let none = client.post::<Value>("/api/auth/logout", json!({})).await;
    assert_eq!(code(none), ErrorCode::Unauthorized);
}

#[tokio::test]
async fn browsers_get_a_cookie_that_only_our_own_pages_can_use() {
    let server = Server::start().await;
    Client::new_user(&server, EMAIL).await;
    let client = Client::anonymous(&server);
    let origin = format!("http://{}", server.address);
    let answer = client
        .request(Method::POST, "/api/auth/login")
        .header("origin", &origin)
        .json(&json!({"email": EMAIL, "password": PASSWORD}))
        .send()
        .await
        .unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in [
        "__Host-refresh_token=",
        "HttpOnly",
        "Secure",
        "SameSite=Strict",
        "Path=/",
        "Max-Age=2592000",
    ] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["data"]["refresh_token"], "", "scripts cannot read it");

    let pair = cookie.split(';').next().unwrap().to_owned();
    let call = |path: &str, origin: Option<&str>| {
        let mut request = client.request(Method::POST, path).header("cookie", &pair);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.send()
    };
    for path in ["/api/auth/refresh", "/api/auth/logout"] {
        for origin in [None, Some("https://evil.example"), Some("null")] {
            let answer = call(path, origin).await.unwrap();
            assert_eq!(answer.status().as_u16(), 403);
            assert!(answer.text().await.unwrap().contains("CSRF_REJECTED"));
        }
    }
    let answer = call("/api/auth/refresh", Some(&origin)).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let renewed = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert_ne!(renewed.split(';').next().unwrap(), pair);
}

#[tokio::test]
async fn a_code_for_the_cli_needs_its_verifier_and_works_once() {
    let server = Server::start().await;
    let user = Client::new_user(&server, EMAIL).await;
    let anonymous = Client::anonymous(&server);
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let challenge = BASE64URL.encode(Sha256::digest(verifier));
    // RFC 7636, appendix B.
    assert_eq!(challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    let complete = json!({"action": "cli_complete", "challenge": challenge});
    let code_for = async || {
        user.post::<CliCode>("/api/auth", &complete)
            .await
            .unwrap()
            .code
    };
    let exchange = async |code: &str, verifier: &str| {
        let body = json!({"action": "cli_exchange", "code": code, "verifier": verifier});
        anonymous.post::<Session>("/api/auth", body).await
    };

    let one_time = code_for().await;
    let session = exchange(&one_time, verifier).await.unwrap();
    let me: Me = anonymous
        .bearer(&session.access_token)
        .get("/api/auth/me")
        .await
        .unwrap();
    assert_eq!(me.email, EMAIL);
    assert_eq!(
        code(exchange(&one_time, verifier).await),
        ErrorCode::Unauthorized
    );

    // A wrong verifier uses the code up.
    let one_time = code_for().await;
    assert_eq!(
        code(exchange(&one_time, "guess").await),
        ErrorCode::Unauthorized
    );
    assert_eq!(
        code(exchange(&one_time, verifier).await),
        ErrorCode::Unauthorized
    );

    let stranger = anonymous.post::<CliCode>("/api/auth", &complete).await;
    assert_eq!(code(stranger), ErrorCode::Unauthorized);
    let malformed = json!({"action": "cli_complete", "challenge": "short"});
    let refused = user.post::<CliCode>("/api/auth", malformed).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
}
