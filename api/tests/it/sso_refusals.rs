//! What a provider, or somebody between, could try.

use reqwest::{Method, Url};
use serde_json::{Value, json};
use ztna_proto::sso::SsoSettings;

use crate::common::Server;
use crate::common::browser::{Browser, Shown, between};
use crate::common::client::Owner;
use crate::common::provider::{
    CLIENT, Dns, Provider, SECRET, at_provider, callback_of, connect, login_page,
    org_with_provider, prove, settings, sign_in, to_org,
};

/// Tokens that a good provider never makes, and what is said of them.
const BAD: [(&str, &str); 16] = [
    ("expired", "is too old"),
    ("old", "is too old"),
    ("future", "is from the future"),
    ("nonce", "is of another sign-in"),
    ("nononce", "is of another sign-in"),
    ("audience", "is for another client"),
    ("several", "was asked for by another client"),
    ("party", "was asked for by another client"),
    ("issuer", "is of another issuer"),
    ("noexpiry", "is malformed"),
    ("nobody", "names nobody"),
    ("foreign", "has a wrong signature"),
    ("unpublished", "with a key that it does not publish"),
    ("unsigned", "is not signed in a way that is taken"),
    ("symmetric", "is not signed in a way that is taken"),
    ("impostor", "speaks of somebody else"),
];

fn accounts() -> Value {
    let mut accounts = json!({});
    let good = ["alice", "rotated", "elliptic"];
    for name in good.into_iter().chain(BAD.map(|(name, _)| name)) {
        let email = format!("{name}@corp.example");
        accounts[name] =
            json!({"email": email, "email_verified": true, "impostor": name == "impostor"});
    }
    accounts
}

async fn start() -> (Server, Owner, Provider) {
    let mut dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&accounts(), |config| {
        config.sign_in.dns_servers = vec![address]
    })
    .await;
    put(&owner, settings(&provider)).await;
    prove(&mut dns, &owner, "corp.example").await;
    (server, owner, provider)
}

async fn put(owner: &Owner, body: Value) -> SsoSettings {
    let path = owner.path("/sso");
    owner.client.call(Method::PUT, &path, body).await.unwrap()
}

fn refused(page: &Shown, text: &str) {
    assert_eq!(page.status, 401, "{}", page.text);
    assert!(page.text.contains(text), "{text}: {}", page.text);
}

fn has_session(browser: &Browser, server: &Server) -> bool {
    let url = format!("http://{}", server.address);
    browser.cookie(&url, "__Host-refresh_token").is_some()
}

/// Signs in at the provider (which remembers who did before), up to the address that it sends the browser back
/// to, which is not opened.
async fn back(browser: &mut Browser, server: &Server, login: &str) -> Url {
    browser.stop_at = Some("/callback".to_owned());
    let mut page = to_org(browser, server, "acme").await;
    if page.status != 0 {
        page = at_provider(browser, &page, login).await;
    }
    browser.stop_at = None;
    assert!(
        page.url.path().ends_with("/callback"),
        "{} {}",
        page.url,
        page.text
    );
    page.url
}

fn with(url: &Url, name: &str, value: Option<&str>) -> String {
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(key, _)| key != name)
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    if let Some(value) = value {
        url.query_pairs_mut().append_pair(name, value);
    }
    url.into()
}

#[tokio::test]
async fn tokens_that_are_not_right_in_everything_are_refused() {
    let (server, owner, _provider) = start().await;
    for (login, text) in BAD {
        let mut browser = Browser::new();
        let page = sign_in(&mut browser, &server, "acme", login).await;
        refused(&page, text);
        assert!(!has_session(&browser, &server), "{login}");
    }
    let members: Vec<Value> = owner.client.get(&owner.path("/members")).await.unwrap();
    assert_eq!(members.len(), 1);
    // Good ones of other kinds are taken: another algorithm, and a key that was not there before.
    for login in ["alice", "elliptic", "rotated"] {
        let mut browser = Browser::new();
        let page = sign_in(&mut browser, &server, "acme", login).await;
        connect(&mut browser, &server, &page).await;
    }
}

#[tokio::test]
async fn keys_that_nobody_publishes_do_not_have_us_ask_for_ever() {
    let (server, _owner, _provider) = start().await;
    // The bound is five within the hour; the provider's new key comes too late then.
    for _ in 0..6 {
        let page = sign_in(&mut Browser::new(), &server, "acme", "unpublished").await;
        refused(&page, "with a key that it does not publish");
    }
    let page = sign_in(&mut Browser::new(), &server, "acme", "rotated").await;
    refused(&page, "with a key that it does not publish");
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    connect(&mut browser, &server, &page).await;
}

#[tokio::test]
async fn a_return_belongs_to_its_browser_and_works_once() {
    let (server, _owner, _provider) = start().await;
    // Another `state`, none, or another browser: a link that signs somebody in as somebody else.
    let mut mallory = Browser::new();
    let url = back(&mut mallory, &server, "alice").await;
    let mut victim = Browser::new();
    refused(
        &victim.open(url.as_str()).await,
        "was not begun in this browser",
    );
    let mut alice = Browser::new();
    let url = back(&mut alice, &server, "alice").await;
    for state in [Some("another"), Some(""), None] {
        let page = alice.open(&with(&url, "state", state)).await;
        refused(&page, "was not begun in this browser");
    }
    // A victim with a sign-in of its own under way.
    let mut victim = Browser::new();
    to_org(&mut victim, &server, "acme").await;
    refused(
        &victim.open(url.as_str()).await,
        "was not begun in this browser",
    );
    // That used it up.
    refused(
        &alice.open(url.as_str()).await,
        "was not begun in this browser",
    );

    // A code works once, at the provider and here.
    let url = back(&mut alice, &server, "alice").await;
    let page = alice.open(url.as_str()).await;
    assert!(page.text.contains("Connect this computer"), "{}", page.text);
    refused(&alice.open(url.as_str()).await, "was finished before");
    // Alice is signed in there; another browser is not.
    let mut again = Browser::new();
    let other = back(&mut again, &server, "alice").await;
    let code = url.query_pairs().find(|(name, _)| name == "code");
    let replayed = with(&other, "code", Some(&code.unwrap().1));
    refused(&again.open(&replayed).await, "invalid_grant");
    // A code of another sign-in, never used: its verifier is another.
    let (one, two) = (
        back(&mut again, &server, "alice").await,
        back(&mut again, &server, "alice").await,
    );
    let code = one.query_pairs().find(|(name, _)| name == "code");
    let injected = with(&two, "code", Some(&code.unwrap().1));
    refused(&again.open(&injected).await, "invalid_grant");
}

#[tokio::test]
async fn a_provider_gets_no_other_ones_codes() {
    let (server, acme, provider) = start().await;
    // RFC 9207: the answer names its issuer, which is checked, and must not be missing.
    let mut browser = Browser::new();
    for iss in [Some("https://evil.example.com"), Some(""), None] {
        let url = back(&mut browser, &server, "alice").await;
        let page = browser.open(&with(&url, "iss", iss)).await;
        refused(&page, "is of another provider");
    }
    // An answer of one org's provider at the place of another's, with that one's state.
    let rival = Owner::new(&server, "rival").await;
    let callback = callback_of(&server, &rival.org.id.to_string());
    let second = Provider::for_us(&callback, &accounts());
    put(&rival, settings(&second)).await;
    let code = back(&mut browser, &server, "alice").await;
    let page = to_org(&mut browser, &server, "rival").await;
    let theirs = between(&page.text, "<strong>state</strong>: &#39;", "&#39;").unwrap();
    let mixed = with(&code, "state", Some(theirs));
    refused(&browser.open(&mixed).await, "was not begun in this browser");
    let page = to_org(&mut browser, &server, "rival").await;
    let theirs = between(&page.text, "<strong>state</strong>: &#39;", "&#39;").unwrap();
    let place = (acme.org.id.to_string(), rival.org.id.to_string());
    let mixed = with(&code, "state", Some(theirs)).replace(&place.0, &place.1);
    refused(&browser.open(&mixed).await, "is of another provider");

    // A token for another client of the same provider: our secret is not that one's.
    let mut body = settings(&provider);
    body["client_secret"] = json!("another secret");
    put(&acme, body).await;
    let url = back(&mut browser, &server, "alice").await;
    refused(&browser.open(url.as_str()).await, "invalid_client");
    assert!(!has_session(&browser, &server));
}

#[tokio::test]
async fn what_the_provider_says_instead_of_a_code_is_told() {
    let (server, owner, provider) = start().await;
    let mut browser = Browser::new();
    let url = back(&mut browser, &server, "alice").await;
    let denied = with(&url, "code", None);
    let denied = format!("{denied}&error=access_denied&error_description=%3Cscript%3Eno%0d%0a");
    let page = browser.open(&denied).await;
    refused(&page, "it says access_denied &lt;script&gt;no");

    // The provider is gone: told, and nothing hangs.
    drop(provider);
    let page = browser.open(&login_page(&server)).await;
    let ask = browser
        .follow(
            &page,
            &crate::common::provider::link_to(&page, "/sign-in/sso"),
        )
        .await;
    let page = browser.submit(&ask, &[("org", "acme")]).await;
    // What it said of itself is still known; who goes there finds nobody.
    assert_eq!(page.status, 0);
    let body =
        json!({"issuer": "http://127.0.0.1:9", "client_id": CLIENT, "client_secret": SECRET});
    let path = owner.path("/sso");
    let refused = owner.client.call::<Value>(Method::PUT, &path, body).await;
    let refused = refused.unwrap_err();
    assert!(
        refused
            .message
            .contains("discovery document cannot be read"),
        "{refused}"
    );
}

#[tokio::test]
async fn begun_sign_ins_are_bounded_per_address() {
    let (server, owner, _provider) = start().await;
    let server = server
        .restart_with(|config| {
            crate::common::provider::anywhere(config);
            config.limits.sign_in.count = 2;
        })
        .await;
    let callback = callback_of(&server, &owner.org.id.to_string());
    let provider = Provider::for_us(&callback, &accounts());
    let admin = crate::common::connect(&server.database.setup).await;
    admin
        .execute("UPDATE sso_providers SET issuer = $1", &[&provider.issuer])
        .await
        .unwrap();
    let mut browser = Browser::new();
    for _ in 0..2 {
        let page = to_org(&mut browser, &server, "acme").await;
        assert!(page.text.contains("name=\"login\""), "{}", page.text);
    }
    let page = to_org(&mut browser, &server, "acme").await;
    assert_eq!(page.status, 429);
}
