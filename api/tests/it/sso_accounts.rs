//! What a provider's word is worth for accounts that are here already, and for those that are not.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{Me, Member, Role};
use ztna_proto::error::ErrorCode;
use ztna_proto::people::{BackupCodes, TotpSetup};
use ztna_proto::sso::SsoSettings;

use crate::common::browser::{Browser, Shown};
use crate::common::client::{Owner, PASSWORD, code};
use crate::common::provider::{
    Dns, Provider, callback_of, connect, login_page, org_with_provider, prove, settings, sign_in,
    to_org,
};
use crate::common::{Client, Server};

/// A provider that says whatever its org likes.
fn claims() -> Value {
    json!({
        "victim": {"email": "victim@example.com", "email_verified": true},
        "unknown": {"email": "nobody@example.com", "email_verified": true},
        "ceo": {"email": "ceo@corp.example", "email_verified": true},
        "alice": {"email": "alice@corp.example", "email_verified": true},
        "unverified": {"email": "new@corp.example", "email_verified": false},
        "silent": {"email": "quiet@corp.example"},
        "nameless": {},
    })
}

async fn start() -> (Server, Owner, Provider, Dns) {
    let dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&claims(), |config| {
        config.sign_in.dns_servers = vec![address]
    })
    .await;
    put(&owner, settings(&provider)).await;
    (server, owner, provider, dns)
}

async fn put(owner: &Owner, body: Value) -> SsoSettings {
    let path = owner.path("/sso");
    owner.client.call(Method::PUT, &path, body).await.unwrap()
}

async fn attempt(server: &Server, login: &str) -> (Browser, Shown) {
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, server, "acme", login).await;
    (browser, page)
}

fn refused(page: &Shown, status: u16, text: &str) {
    assert_eq!(page.status, status, "{}", page.text);
    assert!(
        page.text.contains("role=\"alert\"") && page.text.contains(text),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn an_orgs_provider_opens_no_strangers_account() {
    let (server, owner, provider, _dns) = start().await;
    let victim = Client::new_user(&server, "victim@example.com").await;
    let org = victim.new_org("victims").await;
    // Somebody else's account, and an address without one, are told apart by nothing.
    let (browser, page) = attempt(&server, "victim").await;
    refused(&page, 403, "victim@example.com is no member");
    assert!(
        browser
            .cookie(&server_url(&server), "__Host-refresh_token")
            .is_none()
    );
    let (_, other) = attempt(&server, "unknown").await;
    assert_eq!(
        page.text
            .replace("victim@", "nobody@")
            .split("<body>")
            .nth(1),
        other.text.split("<body>").nth(1)
    );

    // Nor by an invitation, which whoever holds the org can make out.
    let invite = async |email| {
        let invited = owner.invite(&owner.client, email, Role::Member).await;
        invited.unwrap()
    };
    invite("nobody@example.com").await;
    let token = invite("victim@example.com").await;
    for login in ["victim", "unknown"] {
        let (_, invited) = attempt(&server, login).await;
        assert_eq!(
            invited
                .text
                .replace("victim@", "nobody@")
                .split("<body>")
                .nth(1),
            other.text.split("<body>").nth(1)
        );
    }

    // Not even once they are a member: their own password is asked for.
    victim
        .post::<Value>("/api/accept-invitation", json!({ "token": token }))
        .await
        .unwrap();
    let (mut browser, page) = attempt(&server, "victim").await;
    assert!(
        page.text.contains("Is this account yours?"),
        "{}",
        page.text
    );
    assert!(
        browser
            .cookie(&server_url(&server), "__Host-refresh_token")
            .is_none()
    );
    let wrong = browser
        .submit(&page, &[("password", "a wrong password")])
        .await;
    refused(&wrong, 401, "do not match");
    let right = browser.submit(&wrong, &[("password", PASSWORD)]).await;
    let session = connect(&mut browser, &server, &right).await;
    let me: Me = victim
        .bearer(&session.access_token)
        .get("/api/auth/me")
        .await
        .unwrap();
    assert_eq!(me.orgs.len(), 2);
    // From then on it is not asked for.
    let (mut browser, page) = attempt(&server, "victim").await;
    connect(&mut browser, &server, &page).await;

    // Who leaves, the provider knows no more.
    let path = owner.path(&format!("/members/{}", me.id));
    victim.delete(&path).await.unwrap();
    let (_, page) = attempt(&server, "victim").await;
    refused(&page, 403, "is no member");

    // Another provider under the org's roof is not the one that was trusted.
    let callback = callback_of(&server, &owner.org.id.to_string());
    let second = Provider::for_us(&callback, &claims());
    assert_ne!(second.issuer, provider.issuer);
    assert_eq!(
        victim.get::<Me>("/api/auth/me").await.unwrap().orgs[0].id,
        org.id
    );
}

fn server_url(server: &Server) -> String {
    format!("http://{}", server.address)
}

#[tokio::test]
async fn another_issuer_is_trusted_by_nobody_yet() {
    let (server, owner, _first, mut dns) = start().await;
    prove(&mut dns, &owner, "corp.example").await;
    let (mut browser, page) = attempt(&server, "alice").await;
    connect(&mut browser, &server, &page).await;
    // An admin points the org to a provider of their own, which knows everybody's subject.
    let callback = callback_of(&server, &owner.org.id.to_string());
    let second = Provider::for_us(&callback, &claims());
    put(&owner, settings(&second)).await;
    let (_, page) = attempt(&server, "alice").await;
    assert!(
        page.text.contains("Is this account yours?"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn an_account_that_was_there_is_linked_by_password_and_second_factor() {
    let (server, owner, _provider, mut dns) = start().await;
    prove(&mut dns, &owner, "corp.example").await;
    // Even within a proved domain: who holds a domain need not be who holds the account.
    let ceo = Client::new_user(&server, "ceo@corp.example").await;
    let setup: TotpSetup = ceo
        .post("/api/auth/mfa/setup", json!({"password": PASSWORD}))
        .await
        .unwrap();
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    let phone = totp_rs::Totp::from_url(&setup.url).unwrap();
    let code_now = phone.generate(now).to_string();
    let codes: BackupCodes = ceo
        .post("/api/auth/mfa/verify", json!({ "code": code_now }))
        .await
        .unwrap();
    let (mut browser, page) = attempt(&server, "ceo").await;
    assert!(
        page.text.contains("Is this account yours?"),
        "{}",
        page.text
    );
    let half = browser.submit(&page, &[("password", PASSWORD)]).await;
    refused(&half, 403, "second factor");
    let both = [
        ("password", PASSWORD),
        ("code", codes.backup_codes[0].as_str()),
    ];
    let page = browser.submit(&half, &both).await;
    connect(&mut browser, &server, &page).await;

    // The second factor is asked for at every sign-in, and a used code is none.
    let (mut browser, page) = attempt(&server, "ceo").await;
    assert!(page.text.contains("One more step"), "{}", page.text);
    assert!(!page.text.contains("name=\"password\""));
    let page = browser
        .submit(&page, &[("code", codes.backup_codes[0].as_str())])
        .await;
    refused(&page, 401, "the code is wrong");
    assert!(
        browser
            .cookie(&server_url(&server), "__Host-refresh_token")
            .is_none()
    );
    let page = browser
        .submit(&page, &[("code", codes.backup_codes[1].as_str())])
        .await;
    connect(&mut browser, &server, &page).await;
    // What waited is over.
    let page = browser.open(&login_page(&server)).await;
    assert!(page.text.contains("Connect this computer"));
}

#[tokio::test]
async fn accounts_are_made_for_verified_addresses_of_proved_domains_alone() {
    let (server, owner, provider, mut dns) = start().await;
    let (_, page) = attempt(&server, "alice").await;
    refused(&page, 403, "prove that its domain");
    // An invitation makes no account either: it was sent to the address, which has to be shown.
    owner
        .invite(&owner.client, "alice@corp.example", Role::Auditor)
        .await
        .unwrap();
    let (_, page) = attempt(&server, "alice").await;
    refused(&page, 403, "accept the invitation by its link first");

    prove(&mut dns, &owner, "corp.example").await;
    for login in ["unverified", "silent"] {
        let (_, page) = attempt(&server, login).await;
        refused(&page, 403, "has not verified your address");
    }
    let (_, page) = attempt(&server, "nameless").await;
    refused(&page, 403, "does not tell your address");

    // Where the org says that its provider's addresses can be trusted, silence will do; a no stays one.
    let mut body = settings(&provider);
    body["trust_email"] = json!(true);
    put(&owner, body.clone()).await;
    let (mut browser, page) = attempt(&server, "silent").await;
    connect(&mut browser, &server, &page).await;
    let (_, page) = attempt(&server, "unverified").await;
    refused(&page, 403, "has not verified your address");

    // Who is invited gets the invitation's role, and is let in where others are not.
    body["create_members"] = json!(false);
    put(&owner, body).await;
    let (mut browser, page) = attempt(&server, "alice").await;
    connect(&mut browser, &server, &page).await;
    let members: Vec<Member> = owner.client.get(&owner.path("/members")).await.unwrap();
    let alice = members.iter().find(|m| m.email == "alice@corp.example");
    assert_eq!(alice.unwrap().role, Role::Auditor);
    let (_, page) = attempt(&server, "ceo").await;
    refused(&page, 403, "is no member");
    let open: Vec<Value> = owner.client.get(&owner.path("/invitations")).await.unwrap();
    assert!(open.is_empty());
}

#[tokio::test]
async fn an_account_that_nobody_could_use_yet_is_taken_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&claims(), |config| {
        config.sign_in.dns_servers = vec![address];
    })
    .await;
    let mut dns = dns;
    put(&owner, settings(&provider)).await;
    prove(&mut dns, &owner, "corp.example").await;
    // From here on with mail: a stranger signs up with the address, and cannot confirm it.
    let server = server
        .restart_with(|config| {
            crate::common::provider::anywhere(config);
            config.mail = Some(ztna_api::MailConfig {
                url,
                from: "ztna <noreply@example.com>".to_owned(),
                public_url: config.public_url.clone(),
            });
        })
        .await;
    let stranger = Client::anonymous(&server);
    let body = json!({"email": "alice@corp.example", "password": PASSWORD});
    stranger
        .post::<Value>("/api/auth/signup", body)
        .await
        .unwrap();
    let callback = callback_of(&server, &owner.org.id.to_string());
    let second = Provider::for_us(&callback, &claims());
    let owner = Owner {
        client: Client::anonymous(&server).bearer(
            &stranger
                .login("acme@example.com", PASSWORD)
                .await
                .unwrap()
                .access_token,
        ),
        ..owner
    };
    put(&owner, settings(&second)).await;
    let (mut browser, page) = attempt(&server, "alice").await;
    connect(&mut browser, &server, &page).await;
    let refused = stranger.login("alice@corp.example", PASSWORD).await;
    assert_eq!(code(refused), ErrorCode::InvalidCredentials);
}

#[tokio::test]
async fn an_org_without_a_provider_is_told_apart_from_none_by_nothing() {
    let (server, _owner, _provider, _dns) = start().await;
    Owner::new(&server, "bare").await;
    for org in ["bare", "none", "someone@corp.example", "a b<script>"] {
        let page = to_org(&mut Browser::new(), &server, org).await;
        refused(&page, 404, "leads to no organisation");
        assert!(!page.text.contains("<script>"));
    }
}
