//! The CLI's sign-in in a browser, as a browser does it: forms, cookies, redirections.

use std::collections::BTreeMap;

use crate::common::client::PASSWORD;
use crate::common::{Client, Server};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use reqwest::{Method, Response};
use serde_json::json;
use sha2::{Digest, Sha256};
use ztna_proto::api::{CLI_LOGIN_PATH, Me, Session};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

struct Browser {
    client: Client,
    origin: String,
    cookie: Option<String>,
}

impl Browser {
    fn new(server: &Server) -> Self {
        Self {
            client: Client::anonymous(server),
            origin: format!("http://{}", server.address),
            cookie: None,
        }
    }

    async fn send(&mut self, mut request: reqwest::RequestBuilder) -> Response {
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let response = request.send().await.unwrap();
        if let Some(set) = response.headers().get("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
            self.cookie = Some(pair).filter(|pair| !pair.ends_with('='));
        }
        response
    }

    async fn get(&mut self, path: &str) -> String {
        let request = self.client.request(Method::GET, path);
        let response = self.send(request).await;
        assert_eq!(response.status().as_u16(), 200);
        response.text().await.unwrap()
    }

    async fn submit(&mut self, fields: &[(&str, &str)]) -> Response {
        let challenge = challenge();
        let mut form = BTreeMap::from([
            ("port", "43210"),
            ("state", "s-1"),
            ("challenge", &challenge),
        ]);
        form.extend(fields.iter().copied());
        let body: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", value.replace('@', "%40").replace(' ', "+")))
            .collect();
        let request = self
            .client
            .request(Method::POST, CLI_LOGIN_PATH)
            .header("origin", &self.origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        self.send(request).await
    }
}

fn challenge() -> String {
    BASE64URL.encode(Sha256::digest(VERIFIER))
}

fn address() -> String {
    format!(
        "{CLI_LOGIN_PATH}?port=43210&state=s-1&challenge={}",
        challenge()
    )
}

fn location(response: &Response) -> String {
    assert_eq!(response.status().as_u16(), 303);
    response.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_new_person_signs_up_names_an_org_and_the_cli_gets_a_session() {
    let server = Server::start().await;
    let mut browser = Browser::new(&server);
    assert!(browser.get(&address()).await.contains("Create an account"));
    let credentials = [
        ("step", "sign-up"),
        ("email", "new@example.com"),
        ("password", PASSWORD),
    ];
    let next = location(&browser.submit(&credentials).await);
    assert_eq!(next, address());
    let page = browser.get(&next).await;
    assert!(
        page.contains("Connect this computer to your account?"),
        "{page}"
    );
    assert!(page.contains("new@example.com") && page.contains("name=\"org\""));

    // An org needs a name.
    let refused = browser.submit(&[("step", "connect"), ("org", " ")]).await;
    assert_eq!(refused.status().as_u16(), 400);
    assert!(refused.text().await.unwrap().contains("role=\"alert\""));

    let back = location(
        &browser
            .submit(&[("step", "connect"), ("org", "New Org")])
            .await,
    );
    let query = back
        .strip_prefix("http://127.0.0.1:43210/callback?code=")
        .unwrap();
    let (code, state) = query.split_once("&state=").unwrap();
    assert_eq!(state, "s-1");
    let exchange = json!({"action": "cli_exchange", "code": code, "verifier": VERIFIER});
    let session: Session = browser.client.post("/api/auth", exchange).await.unwrap();
    let me: Me = browser
        .client
        .bearer(&session.access_token)
        .get("/api/auth/me")
        .await
        .unwrap();
    assert_eq!(me.orgs[0].slug, "new-org");

    // The second computer needs one click, and no org.
    let page = browser.get(&address()).await;
    assert!(page.contains("Connect this computer") && !page.contains("name=\"org\""));
    // Another account: the session ends.
    let next = location(&browser.submit(&[("step", "sign-out")]).await);
    assert!(browser.cookie.is_none());
    assert!(browser.get(&next).await.contains("Sign in"));
    let next = location(&browser.submit(&[("step", "connect")]).await);
    assert_eq!(next, address(), "nobody is signed in");
}

#[tokio::test]
async fn a_wrong_password_is_told_on_the_page() {
    let server = Server::start().await;
    Client::new_user(&server, "a@example.com").await;
    let mut browser = Browser::new(&server);
    let wrong = [
        ("step", "sign-in"),
        ("email", "a@example.com"),
        ("password", "wrong password"),
    ];
    let response = browser.submit(&wrong).await;
    assert_eq!(response.status().as_u16(), 401);
    let page = response.text().await.unwrap();
    assert!(page.contains("do not match an account") && page.contains("value=\"a@example.com\""));
    let right = [
        ("step", "sign-in"),
        ("email", "a@example.com"),
        ("password", PASSWORD),
    ];
    location(&browser.submit(&right).await);
    assert!(browser.cookie.is_some());
}

#[tokio::test]
async fn addresses_that_the_cli_does_not_open_are_refused() {
    let server = Server::start().await;
    let client = Client::anonymous(&server);
    let challenge = challenge();
    for query in [
        String::new(),
        format!("?port=0&state=s&challenge={challenge}"),
        format!("?port=x&state=s&challenge={challenge}"),
        format!("?port=80%40evil.example&state=s&challenge={challenge}"),
        format!("?port=43210&state=%0d%0aset-cookie:x&challenge={challenge}"),
        format!("?port=43210&state=s%22%3e%3cscript%3e&challenge={challenge}"),
        "?port=43210&state=s&challenge=x".to_owned(),
    ] {
        let path = format!("{CLI_LOGIN_PATH}{query}");
        let response = client.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 400, "{query}");
        let page = response.text().await.unwrap();
        assert!(page.contains("Run `ztna login` again"), "{page}");
        assert!(!page.contains("<script>"));
    }
}

#[tokio::test]
async fn pages_are_bound_to_their_origin() {
    let server = Server::start().await;
    let mut browser = Browser::new(&server);
    browser.origin = "https://evil.example".to_owned();
    let fields = [
        ("step", "sign-in"),
        ("email", "a@example.com"),
        ("password", PASSWORD),
    ];
    assert_eq!(browser.submit(&fields).await.status().as_u16(), 403);

    let response = browser
        .client
        .request(Method::GET, &address())
        .send()
        .await
        .unwrap();
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(policy.contains("form-action 'self' http://127.0.0.1:43210;"));
    let nonce = policy
        .split("'nonce-")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    let page = response.text().await.unwrap();
    assert!(page.contains(&format!("<style nonce=\"{nonce}\">")));
}
