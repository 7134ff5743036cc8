//! Sessions that people see and end, and the passwords behind them.

use crate::common::client::{PASSWORD, code};
use crate::common::{Client, Server};
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::Session;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::people::SessionInfo;

const EMAIL: &str = "alice@example.com";
const NEW_PASSWORD: &str = "another good password";

async fn refresh(client: &Client, session: &Session) -> Result<Session, ErrorBody> {
    let body = json!({"refresh_token": session.refresh_token});
    client.post("/api/auth/refresh", body).await
}

async fn sessions(client: &Client) -> Vec<SessionInfo> {
    client.get("/api/auth/sessions").await.unwrap()
}

#[tokio::test]
async fn people_see_their_sessions_and_end_them() {
    let server = Server::start_with(|config| config.trusted_proxies = 1).await;
    Client::new_user(&server, EMAIL).await;
    let stranger = Client::new_user(&server, "bob@example.com").await;
    let anonymous = Client::anonymous(&server);
    let response = anonymous
        .request(Method::POST, "/api/auth/login")
        .header("user-agent", "Netscape/4.0")
        .header("x-forwarded-for", "203.0.113.7")
        .json(&json!({"email": EMAIL, "password": PASSWORD}))
        .send()
        .await
        .unwrap();
    let body: Value = response.json().await.unwrap();
    let phone: Session = serde_json::from_value(body["data"].clone()).unwrap();
    let laptop = anonymous.login(EMAIL, PASSWORD).await.unwrap();
    let client = anonymous.bearer(&laptop.access_token);

    let list = sessions(&client).await;
    assert_eq!(list.len(), 3, "the first sign-in, the phone, the laptop");
    assert_eq!(list.iter().filter(|session| session.current).count(), 1);
    assert!(list[0].current);
    assert_eq!(list[1].client, "Netscape/4.0");
    assert_eq!(list[1].ip, Some("203.0.113.7".parse().unwrap()));

    // A refresh shows from where, and the session began when it began.
    let renewed = refresh(&anonymous, &phone).await.unwrap();
    let again = sessions(&client).await;
    assert_eq!(again.len(), 3);
    assert_eq!(again[0].id, list[1].id);
    assert_eq!(again[0].began_at, list[1].began_at);
    assert!(again[0].refreshed_at > list[1].refreshed_at);
    assert_eq!(again[0].ip, Some("127.0.0.1".parse().unwrap()));

    let path = format!("/api/auth/sessions/{}", list[1].id);
    assert_eq!(code(stranger.delete(&path).await), ErrorCode::NotFound);
    client.delete(&path).await.unwrap();
    assert_eq!(code(client.delete(&path).await), ErrorCode::NotFound);
    assert_eq!(
        code(refresh(&anonymous, &renewed).await),
        ErrorCode::Unauthorized
    );
    client.delete("/api/auth/sessions").await.unwrap();
    let left = sessions(&client).await;
    assert_eq!(left.len(), 1);
    assert!(left[0].current);
    refresh(&anonymous, &laptop).await.unwrap();
    assert_eq!(sessions(&stranger).await.len(), 1);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let server = Server::start().await;
    Client::new_user(&server, EMAIL).await;
    let anonymous = Client::anonymous(&server);
    let here = anonymous.login(EMAIL, PASSWORD).await.unwrap();
    let there = anonymous.login(EMAIL, PASSWORD).await.unwrap();
    let client = anonymous.bearer(&here.access_token);
    let change = async |current: &str, password: &str| {
        let body = json!({"current_password": current, "password": password});
        client
            .post::<Value>("/api/auth/change-password", body)
            .await
    };
    assert_eq!(
        code(change("wrong password", NEW_PASSWORD).await),
        ErrorCode::InvalidCredentials
    );
    assert_eq!(
        code(change(PASSWORD, "short").await),
        ErrorCode::ValidationError
    );
    change(PASSWORD, NEW_PASSWORD).await.unwrap();
    assert_eq!(
        code(refresh(&anonymous, &there).await),
        ErrorCode::Unauthorized
    );
    refresh(&anonymous, &here).await.unwrap();
    anonymous.login(EMAIL, NEW_PASSWORD).await.unwrap();
    assert_eq!(
        code(anonymous.login(EMAIL, PASSWORD).await),
        ErrorCode::InvalidCredentials
    );
    // Five tries in five minutes, of which two were used.
    for _ in 0..3 {
        assert_eq!(
            code(change(PASSWORD, NEW_PASSWORD).await),
            ErrorCode::InvalidCredentials
        );
    }
    assert_eq!(
        code(change(NEW_PASSWORD, PASSWORD).await),
        ErrorCode::RateLimited
    );
}

#[tokio::test]
async fn other_sites_pages_change_nothing() {
    let server = Server::start().await;
    let client = Client::new_user(&server, EMAIL).await;
    let own = format!("http://{}", server.address);
    let make = async |headers: &[(&str, &str)]| {
        let mut request = client
            .request(Method::POST, "/api/orgs")
            .json(&json!({"name": "acme"}));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.text().await.unwrap())
    };
    let foreign: [&[(&str, &str)]; 4] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ];
    for headers in foreign {
        let (status, text) = make(headers).await;
        assert_eq!(status, 403, "{headers:?}");
        assert!(text.contains("CSRF_REJECTED"), "{text}");
    }
    assert_eq!(make(&[("origin", &own)]).await.0, 201);
    assert_eq!(make(&[("sec-fetch-site", "same-origin")]).await.0, 201);
    assert_eq!(make(&[]).await.0, 201, "programs send neither");
    // Reading is no change.
    let read = client
        .request(Method::GET, "/api/auth/me")
        .header("origin", "https://evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(read.status().as_u16(), 200);
}
