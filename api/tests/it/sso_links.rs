//! Links between accounts and providers' people: who makes them, what they are good for, when they end.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{Member, Role};
use ztna_proto::error::ErrorCode;
use ztna_proto::people::{BackupCodes, RESET_PASSWORD_PATH, TotpSetup};
use ztna_proto::sso::SsoSettings;

use crate::common::browser::{Browser, Shown};
use crate::common::client::{Owner, PASSWORD, code};
use crate::common::provider::{
    Dns, Provider, anywhere, callback_of, connect, link_to, login_page, org_with_provider, prove,
    settings, sign_in,
};
use crate::common::{Client, Server, connect as database};
use crate::mail::{Post, token};

const REFRESH_COOKIE: &str = "__Host-refresh_token";

fn accounts() -> Value {
    json!({
        "alice": {"email": "alice@corp.example", "email_verified": true, "groups": ["IT"]},
        "bob": {"email": "bob@corp.example", "email_verified": true},
    })
}

/// An org whose provider may make accounts for its domain.
async fn start(adjust: impl FnOnce(&mut ztna_api::Config)) -> (Server, Owner, Provider) {
    let mut dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&accounts(), |config| {
        config.sign_in.dns_servers = vec![address];
        adjust(config);
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

fn refused(page: &Shown, status: u16, text: &str) {
    assert_eq!(page.status, status, "{}", page.text);
    assert!(
        page.text.contains("role=\"alert\"") && page.text.contains(text),
        "{}",
        page.text
    );
}

fn has_session(browser: &Browser, server: &Server) -> bool {
    let url = format!("http://{}", server.address);
    browser.cookie(&url, REFRESH_COOKIE).is_some()
}

async fn role_of(owner: &Owner, email: &str) -> Role {
    let members: Vec<Member> = owner.client.get(&owner.path("/members")).await.unwrap();
    let member = members.iter().find(|member| member.email == email);
    member.unwrap().role
}

/// Switches the second factor on.
async fn second_factor(client: &Client) -> BackupCodes {
    let body = json!({"password": PASSWORD});
    let setup: TotpSetup = client.post("/api/auth/mfa/setup", body).await.unwrap();
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    let phone = totp_rs::Totp::from_url(&setup.url).unwrap();
    let body = json!({"code": phone.generate(now).to_string()});
    client.post("/api/auth/mfa/verify", body).await.unwrap()
}

#[tokio::test]
async fn a_proof_is_for_what_its_form_shows() {
    let (server, _owner, provider) = start(|_| {}).await;
    Client::new_user(&server, "alice@corp.example").await;
    Client::new_user(&server, "bob@corp.example").await;
    let mut browser = Browser::new();
    let alices = sign_in(&mut browser, &server, "acme", "alice").await;
    assert!(alices.text.contains("alice@corp.example"));
    // Another sign-in in the same browser, which another site's page may have begun.
    browser.forget(&provider.issuer);
    let bobs = sign_in(&mut browser, &server, "acme", "bob").await;
    assert!(bobs.text.contains("bob@corp.example"));
    let page = browser.submit(&alices, &[("password", PASSWORD)]).await;
    assert!(page.text.contains("alice@corp.example"), "{}", page.text);
    connect(&mut browser, &server, &page).await;
    let admin = database(&server.database.setup).await;
    let linked =
        "SELECT string_agg(email, ' ') FROM sso_identities i JOIN users u ON u.id = i.user_id";
    let linked: String = admin.query_one(linked, &[]).await.unwrap().get(0);
    assert_eq!(linked, "alice@corp.example");

    // It works once, for a sign-in that there is, in its own browser.
    let again = browser.submit(&alices, &[("password", PASSWORD)]).await;
    refused(&again, 401, "was finished before");
    let mut forged = bobs.clone();
    forged.text = bobs
        .text
        .replace("name=\"waiting\" value=\"", "name=\"waiting\" value=\"x");
    let page = browser.submit(&forged, &[("password", PASSWORD)]).await;
    refused(&page, 401, "was finished before");
    forged.text = bobs.text.replace("name=\"waiting\"", "name=\"other\"");
    let page = browser.submit(&forged, &[("password", PASSWORD)]).await;
    refused(&page, 400, "form is incomplete");
    let mut other = Browser::new();
    sign_in(&mut other, &server, "acme", "bob").await;
    let page = other.submit(&bobs, &[("password", PASSWORD)]).await;
    refused(&page, 401, "was finished before");
    assert!(!has_session(&other, &server));
}

#[tokio::test]
async fn a_new_password_by_mail_ends_every_link_and_links_are_told() {
    let (server, owner, _provider) = start(|_| {}).await;
    let (mut post, mail) = Post::new();
    let server = server
        .restart_with(|config| {
            anywhere(config);
            config.mail = Some(mail);
        })
        .await;
    let anybody = Client::anonymous(&server);
    let session = anybody.login("acme@example.com", PASSWORD).await.unwrap();
    let client = anybody.bearer(&session.access_token);
    let owner = Owner { client, ..owner };
    let callback = callback_of(&server, &owner.org.id.to_string());
    let provider = Provider::for_us(&callback, &accounts());
    put(&owner, settings(&provider)).await;

    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    connect(&mut browser, &server, &page).await;
    let letter = post.letter().await;
    assert!(letter.contains("To: alice@corp.example"), "{letter}");
    assert!(
        letter.contains("your organisation's sign-in can sign you in"),
        "{letter}"
    );
    let log: Value = owner.client.get(&owner.path("/audit")).await.unwrap();
    assert!(log.to_string().contains("session.link"), "{log}");
    let admin = database(&server.database.setup).await;
    admin
        .execute(
            "INSERT INTO user_identities (provider, subject, user_id)
             SELECT 'github', '7', id FROM users WHERE email = 'alice@corp.example'",
            &[],
        )
        .await
        .unwrap();

    let body = json!({"email": "alice@corp.example"});
    let asked = anybody
        .post::<Value>("/api/auth/reset-password", body)
        .await;
    asked.unwrap();
    let token = token(&post.letter().await, RESET_PASSWORD_PATH);
    let body = json!({"token": token, "password": PASSWORD});
    let reset = anybody.post::<Value>("/api/auth/reset-password/confirm", body);
    reset.await.unwrap();
    let left =
        "SELECT (SELECT count(*) FROM user_identities) + (SELECT count(*) FROM sso_identities)";
    let left: i64 = admin.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    assert!(
        page.text.contains("Is this account yours?"),
        "{}",
        page.text
    );
    assert!(!has_session(&browser, &server));
}

#[tokio::test]
async fn no_provider_makes_owners_by_their_invitation() {
    let (server, owner, _provider) = start(|_| {}).await;
    let invited = owner.invite(&owner.client, "alice@corp.example", Role::Owner);
    let token = invited.await.unwrap();
    for _ in 0..2 {
        let mut browser = Browser::new();
        let page = sign_in(&mut browser, &server, "acme", "alice").await;
        refused(&page, 403, "accept the invitation by its link first");
        assert!(!has_session(&browser, &server));
        // Nor of who has an account.
        let _ = Client::new_user(&server, "alice@corp.example").await;
    }
    let session = Client::anonymous(&server)
        .login("alice@corp.example", PASSWORD)
        .await
        .unwrap();
    let alice = Client::anonymous(&server).bearer(&session.access_token);
    let body = json!({"token": token});
    let joined = alice.post::<Value>("/api/accept-invitation", body).await;
    joined.unwrap();
    assert_eq!(role_of(&owner, "alice@corp.example").await, Role::Owner);
}

#[tokio::test]
async fn codes_are_guessed_no_faster_by_a_provider_and_change_nothing_before() {
    let (server, owner, provider) = start(|config| config.limits.account.count = 2).await;
    let alice = Client::new_user(&server, "alice@corp.example").await;
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    let page = browser.submit(&page, &[("password", PASSWORD)]).await;
    connect(&mut browser, &server, &page).await;
    let codes = second_factor(&alice).await.backup_codes;
    let mut body = settings(&provider);
    body["group_rules"] = json!([{"group": "IT", "role": "admin"}]);
    put(&owner, body).await;

    // The provider's word alone changes no role.
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    assert!(page.text.contains("One more step"), "{}", page.text);
    assert_eq!(role_of(&owner, "alice@corp.example").await, Role::Member);
    let right = [("code", codes[0].as_str())];
    let page = browser.submit(&page, &right).await;
    connect(&mut browser, &server, &page).await;
    assert_eq!(role_of(&owner, "alice@corp.example").await, Role::Admin);

    // A link that ended while the code was asked for.
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    let admin = database(&server.database.setup).await;
    let held = "UPDATE sso_identities SET subject = subject || '-other'";
    admin.execute(held, &[]).await.unwrap();
    let page = browser.submit(&page, &[("code", &codes[1])]).await;
    refused(&page, 401, "was ended meanwhile");
    assert!(!has_session(&browser, &server));
    let back = "UPDATE sso_identities SET subject = replace(subject, '-other', '')";
    admin.execute(back, &[]).await.unwrap();

    // Two tries, whoever vouches for the first factor; then the account is locked for all ways.
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    let wrong = [("code", "aaaaa-aaaaa")];
    for _ in 0..2 {
        refused(
            &browser.submit(&page, &wrong).await,
            401,
            "the code is wrong",
        );
    }
    let right = [("code", codes[2].as_str())];
    refused(&browser.submit(&page, &right).await, 423, "too many failed");
    assert!(!has_session(&browser, &server));
    let locked = alice.login("alice@corp.example", PASSWORD).await;
    assert_eq!(code(locked), ErrorCode::AccountLocked);
    // Written by a task of its own.
    let begin = std::time::Instant::now();
    loop {
        let log: Value = owner.client.get(&owner.path("/audit")).await.unwrap();
        let log = log.to_string();
        if log.matches("wrong code").count() == 2 && log.contains("too many failures: locked") {
            break;
        }
        assert!(begin.elapsed().as_secs() < 30, "{log}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn another_sites_page_sends_nobody_to_an_orgs_provider() {
    let (server, owner, _provider) = start(|_| {}).await;
    let to = |rest: &str| login_page(&server).replace("/cli-login?", &format!("/sign-in/{rest}"));
    let mut browser = Browser::new();
    let page = browser.open(&to(&format!("{}?", owner.org.id))).await;
    assert_eq!(page.status, 404, "{}", page.text);
    // A page that says where it leads, and waits for the person.
    let page = browser.open(&to("sso?org=acme&")).await;
    assert_eq!(page.status, 200);
    assert!(
        page.text.contains("You sign in at 127.0.0.1"),
        "{}",
        page.text
    );
    assert!(
        !page.text.contains("http-equiv=\"refresh\""),
        "{}",
        page.text
    );
    let link = link_to(&page, "http");
    let there = browser.follow(&page, &link).await;
    assert!(there.text.contains("name=\"login\""), "{}", there.text);
}

#[tokio::test]
async fn another_accounts_session_is_not_replaced_unasked() {
    let (server, _owner, provider) = start(|_| {}).await;
    let mut browser = Browser::new();
    // Begun before the browser has a session, as another site's page would.
    browser.stop_at = Some("/callback".to_owned());
    let back = sign_in(&mut browser, &server, "acme", "bob").await.url;
    browser.stop_at = None;
    browser.forget(&provider.issuer);
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    assert!(
        page.text
            .contains("You are signed in as <strong>alice@corp.example")
    );
    let asked = browser.open(back.as_str()).await;
    assert!(
        asked.text.contains("Use another account?"),
        "{}",
        asked.text
    );
    assert!(
        asked
            .text
            .contains("You are signed in as <strong>alice@corp.example")
    );
    let stayed = browser.open(&login_page(&server)).await;
    assert!(
        stayed.text.contains("<strong>alice@corp.example"),
        "{}",
        stayed.text
    );
    let page = browser.submit(&asked, &[]).await;
    assert!(
        page.text
            .contains("You are signed in as <strong>bob@corp.example"),
        "{}",
        page.text
    );
    // The same account's is, and what was gone on with is over.
    let again = browser.open(asked.url.as_str()).await;
    refused(&again, 401, "was finished before");
}
