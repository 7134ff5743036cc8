//! Google (OpenID Connect) and GitHub (OAuth 2 and its API), with a real provider in their place.

use serde_json::{Value, json};
use ztna_api::{Config, GitHubConfig, GoogleConfig, SignUp};
use ztna_proto::api::{Me, Role, Session};
use ztna_proto::error::ErrorCode;
use ztna_proto::sso::SignInWays;

use crate::common::browser::{Browser, Shown};
use crate::common::client::{Owner, PASSWORD, code};
use crate::common::provider::{
    CLIENT, Provider, SECRET, at_provider, connect, link_to, login_page,
};
use crate::common::{Client, Server, database, free_address};

fn accounts() -> Value {
    let email = |email: &str, primary: bool, verified: bool| json!({"email": email, "primary": primary, "verified": verified, "visibility": null});
    json!({
        "alice": {
            "email": "alice@gmail.example", "email_verified": true, "id": 583_231,
            "emails": [email("old@gmail.example", false, true), email("Alice@gmail.example", true, true)],
        },
        "mallory": {
            "email": "alice@gmail.example", "email_verified": false, "id": 6,
            "emails": [email("victim@example.com", true, false), email("m@gmail.example", false, true)],
        },
        "victim": {
            "email": "victim@example.com", "email_verified": true, "id": 7,
            "emails": [email("victim@example.com", true, true)],
        },
        "blank": {"id": 8, "emails": []},
    })
}

/// A control plane that knows Google and GitHub, both the same provider.
async fn start() -> (Server, Provider) {
    start_with(SignUp::Open).await
}

async fn start_with(sign_up: SignUp) -> (Server, Provider) {
    let listener = free_address().await;
    let address = listener.local_addr().unwrap();
    let callback = |name: &str| format!("http://{address}/sign-in/{name}/callback");
    let clients = json!([
        {"id": CLIENT, "secret": SECRET, "redirect_uris": [callback("google")]},
        {"id": "Iv1.github", "secret": SECRET, "redirect_uris": [callback("github")], "post": true},
    ]);
    let provider = Provider::start(&clients, &accounts());
    let adjust = |config: &mut Config| {
        let client_secret = SECRET.to_owned().into();
        config.sign_in.sign_up = sign_up;
        config.sign_in.google = Some(GoogleConfig {
            issuer: provider.issuer.clone(),
            client_id: CLIENT.to_owned(),
            client_secret,
        });
        config.sign_in.github = Some(GitHubConfig {
            url: provider.issuer.clone(),
            api_url: provider.issuer.clone(),
            client_id: "Iv1.github".to_owned(),
            client_secret: SECRET.to_owned().into(),
        });
        config.limits.sign_in.count = 10_000;
    };
    let server = Server::start_at(listener, database().await, adjust).await;
    (server, provider)
}

async fn by(browser: &mut Browser, server: &Server, name: &str, login: &str) -> Shown {
    let page = browser.open(&login_page(server)).await;
    // A form that led to another site would be stopped by this; links are not.
    assert!(
        page.policy
            .contains("form-action 'self' http://127.0.0.1:9;")
    );
    let link = link_to(&page, &format!("/sign-in/{name}"));
    let page = browser.follow(&page, &link).await;
    at_provider(browser, &page, login).await
}

async fn me(browser: &mut Browser, server: &Server, page: &Shown) -> Me {
    let page = match page.text.contains("name=\"org\"") {
        true => {
            browser
                .submit(page, &[("step", "connect"), ("org", "New")])
                .await
        }
        false => browser.submit(page, &[("step", "connect")]).await,
    };
    assert_eq!(page.url.path(), "/callback", "{}", page.text);
    let page = browser.open(&login_page(server)).await;
    let session = connect(browser, server, &page).await;
    let client = Client::anonymous(server).bearer(&session.access_token);
    client.get("/api/auth/me").await.unwrap()
}

#[tokio::test]
async fn a_new_person_comes_by_google_or_github() {
    for name in ["google", "github"] {
        let (server, _provider) = start().await;
        let mut browser = Browser::new();
        let page = by(&mut browser, &server, name, "alice").await;
        let first = me(&mut browser, &server, &page).await;
        assert_eq!(first.email, "alice@gmail.example");
        let mut browser = Browser::new();
        let page = by(&mut browser, &server, name, "alice").await;
        let again = me(&mut browser, &server, &page).await;
        assert_eq!((again.id, again.orgs.len()), (first.id, 1));
        // No org vouched for it.
        let refused = Client::anonymous(&server)
            .login("alice@gmail.example", PASSWORD)
            .await;
        assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    }
}

#[tokio::test]
async fn only_a_verified_primary_address_counts() {
    let (server, _provider) = start().await;
    for name in ["google", "github"] {
        for login in ["mallory", "blank"] {
            let mut browser = Browser::new();
            let page = by(&mut browser, &server, name, login).await;
            assert_eq!(page.status, 403, "{name} {login} {}", page.text);
            assert!(page.text.contains("has not verified your address"));
        }
    }
}

#[tokio::test]
async fn strangers_do_not_come_where_accounts_are_by_invitation() {
    let (server, _provider) = start_with(SignUp::Invited).await;
    for name in ["google", "github"] {
        let mut browser = Browser::new();
        let page = by(&mut browser, &server, name, "alice").await;
        assert_eq!(page.status, 403, "{name} {}", page.text);
        assert!(page.text.contains("by invitation"), "{}", page.text);
    }
}

#[tokio::test]
async fn an_account_is_linked_by_its_password_whoever_vouches() {
    let (server, _provider) = start().await;
    let victim = Client::new_user(&server, "victim@example.com").await;
    let own: Me = victim.get("/api/auth/me").await.unwrap();
    victim.new_org("victims").await;
    for name in ["google", "github"] {
        let mut browser = Browser::new();
        let page = by(&mut browser, &server, name, "victim").await;
        assert!(
            page.text.contains("Is this account yours?"),
            "{}",
            page.text
        );
        let page = browser.submit(&page, &[("password", PASSWORD)]).await;
        assert_eq!(me(&mut browser, &server, &page).await.id, own.id);
        let mut browser = Browser::new();
        let page = by(&mut browser, &server, name, "victim").await;
        assert_eq!(me(&mut browser, &server, &page).await.id, own.id);
    }
}

#[tokio::test]
async fn an_org_that_wants_its_own_sign_in_takes_no_other() {
    let (server, _provider) = start().await;
    let owner = Owner::new(&server, "acme").await;
    let victim = owner.add(&server, "victim", Role::Member).await;
    let admin = crate::common::connect(&server.database.setup).await;
    admin
        .execute(
            "INSERT INTO sso_providers VALUES ($1, 'https://idp.example.com', 'c', '', 'groups', '[]', true, true, false)",
            &[&owner.org.id.0],
        )
        .await
        .unwrap();
    let mut browser = Browser::new();
    let page = by(&mut browser, &server, "github", "victim").await;
    let page = browser.submit(&page, &[("password", PASSWORD)]).await;
    let session = connect(&mut browser, &server, &page).await;
    let client = victim.bearer(&session.access_token);
    let refused = client.get::<Value>(&owner.path("/members")).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
}

#[tokio::test]
async fn what_is_not_configured_is_not_there() {
    let server = Server::start().await;
    let mut browser = Browser::new();
    let page = browser.open(&login_page(&server)).await;
    assert!(!page.text.contains("Google") && !page.text.contains("GitHub"));
    for name in [
        "google",
        "github",
        "gitlab",
        "",
        "019ab3c4-0000-7000-8000-000000000000",
    ] {
        let address = login_page(&server).replace("/cli-login", &format!("/sign-in/{name}"));
        let page = browser.open(&address).await;
        assert_eq!(page.status, 404, "{name} {}", page.text);
    }
    // Nor is what the CLI did not ask for.
    let address = format!(
        "http://{}/sign-in/google?port=80@evil&state=s&challenge=c",
        server.address
    );
    assert_eq!(browser.open(&address).await.status, 400);
}

#[tokio::test]
async fn ways_to_sign_in_are_told_and_lead_back_into_the_dashboard() {
    let bare = Server::start().await;
    let ways = json!({"sign_up": true, "mail": false, "providers": []});
    let told: Value = Client::anonymous(&bare)
        .get("/api/auth/ways")
        .await
        .unwrap();
    assert_eq!(told, ways);

    let (server, _provider) = start().await;
    let client = Client::anonymous(&server);
    let told: SignInWays = client.get("/api/auth/ways").await.unwrap();
    let ids: Vec<&str> = told.providers.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["google", "github"]);
    let here = format!("http://{}", server.address);
    // An account of the first would have to be linked to the second by its password.
    let people = [
        ("alice", "alice@gmail.example"),
        ("victim", "victim@example.com"),
    ];
    for (provider, (login, email)) in told.providers.into_iter().zip(people) {
        let mut browser = Browser::new();
        let start = format!(
            "{here}{}?return_to=/machines%3Ftag%3Dtag:web%23top",
            provider.start
        );
        let page = browser.open(&start).await;
        browser.stop_at = Some("/machines".to_owned());
        let page = at_provider(&mut browser, &page, login).await;
        assert_eq!(
            page.url.as_str(),
            format!("{here}/machines?tag=tag:web#top")
        );
        let token = browser.cookie(&here, "__Host-refresh_token").unwrap();
        let body = json!({ "refresh_token": token });
        let session: Session = client.post("/api/auth/refresh", body).await.unwrap();
        let client = client.bearer(&session.access_token);
        let me: Me = client.get("/api/auth/me").await.unwrap();
        assert_eq!(me.email, email);

        for elsewhere in [
            "https://evil.example/",
            "//evil.example/",
            "/%5Cevil.example",
            "/.//evil.example",
            "/sign-in/sso%3Forg%3Devil",
            "",
        ] {
            let start = format!("{here}{}?return_to={elsewhere}", provider.start);
            let page = Browser::new().open(&start).await;
            assert_eq!(page.status, 400, "{elsewhere}");
            assert!(page.text.contains("`return_to` is not"), "{}", page.text);
        }
    }
}
