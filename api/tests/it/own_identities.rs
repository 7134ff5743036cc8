//! What a person sees of their links to providers, and how they end one.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::error::ErrorCode;
use ztna_proto::people::{BackupCodes, TotpSetup};
use ztna_proto::sso::OwnIdentity;

use crate::common::browser::Browser;
use crate::common::client::{Owner, PASSWORD, code};
use crate::common::provider::{
    Provider, anywhere, callback_of, org_with_provider, settings, sign_in,
};
use crate::common::{Client, connect as database};
use crate::mail::Post;

const UNLINK: &str = "/api/auth/identities/unlink";

#[tokio::test]
async fn links_are_listed_and_ended_by_the_password_alone() {
    let people = json!({"alice": {"email": "alice@corp.example", "email_verified": true}});
    let (server, owner, _) = org_with_provider(&people, |_| {}).await;
    owner
        .add(&server, "bob", ztna_proto::api::Role::Member)
        .await;
    let alice = Client::new_user(&server, "alice@corp.example").await;
    let token = owner.invite(
        &owner.client,
        "alice@corp.example",
        ztna_proto::api::Role::Member,
    );
    let body = json!({"token": token.await.unwrap()});
    alice
        .post::<Value>("/api/accept-invitation", body)
        .await
        .unwrap();
    let (mut post, mail) = Post::new();
    let server = server
        .restart_with(|config| {
            anywhere(config);
            config.mail = Some(mail);
        })
        .await;
    let (alice, client) = (alice.at(&server), owner.client.at(&server));
    let owner = Owner { client, ..owner };
    let callback = callback_of(&server, &owner.org.id.to_string());
    let provider = Provider::for_us(&callback, &people);
    let path = owner.path("/sso");
    let put = owner
        .client
        .call::<Value>(Method::PUT, &path, settings(&provider));
    put.await.unwrap();
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    let page = browser.submit(&page, &[("password", PASSWORD)]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(post.letter().await.contains("can sign you in"));
    let admin = database(&server.database.setup).await;
    for email in ["alice@corp.example", "bob@example.com"] {
        let link = "INSERT INTO user_identities (provider, subject, user_id)
                    SELECT 'github', 'of ' || email, id FROM users WHERE email = $1";
        admin.execute(link, &[&email]).await.unwrap();
    }

    let list = async || {
        alice
            .get::<Vec<OwnIdentity>>("/api/auth/identities")
            .await
            .unwrap()
    };
    let own = list().await;
    assert_eq!(own.len(), 2, "{own:?}");
    let org = owner.org.id.to_string();
    let shown = |own: &OwnIdentity| {
        (
            own.provider.clone(),
            own.org_name.clone(),
            own.issuer.clone(),
        )
    };
    assert_eq!(
        (shown(&own[0]), shown(&own[1])),
        (
            (
                org.clone(),
                Some("acme".to_owned()),
                Some(provider.issuer.clone())
            ),
            ("github".to_owned(), None, None)
        )
    );
    assert_eq!(own[1].subject, "of alice@corp.example");

    // A second factor is asked for like the password.
    let body = json!({"password": PASSWORD});
    let setup: TotpSetup = alice.post("/api/auth/mfa/setup", body).await.unwrap();
    let phone = totp_rs::Totp::from_url(&setup.url).unwrap();
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    let body = json!({"code": phone.generate(now).to_string()});
    let codes: BackupCodes = alice.post("/api/auth/mfa/verify", body).await.unwrap();
    let unlink = async |provider: &str, subject: &str, password: &str, totp: Option<&str>| {
        let body = json!({"provider": provider, "subject": subject, "password": password, "totp_code": totp});
        alice.post::<Value>(UNLINK, body).await
    };
    let (subject, code_) = (
        own[0].subject.as_str(),
        Some(codes.backup_codes[0].as_str()),
    );
    let wrong = unlink(&org, subject, "not the password", code_).await;
    assert_eq!(code(wrong), ErrorCode::InvalidCredentials);
    let missing = unlink(&org, subject, PASSWORD, None).await;
    assert_eq!(code(missing), ErrorCode::MfaRequired);
    let bobs = unlink("github", "of bob@example.com", PASSWORD, code_).await;
    assert_eq!(code(bobs), ErrorCode::NotFound);
    assert_eq!(list().await.len(), 2);
    let limited = unlink("facebook", "x", PASSWORD, None).await;
    assert_eq!(code(limited), ErrorCode::ValidationError);

    let code_ = Some(codes.backup_codes[1].as_str());
    unlink(&org, subject, PASSWORD, code_).await.unwrap();
    let left: Vec<String> = list().await.into_iter().map(|own| own.provider).collect();
    assert_eq!(left, ["github"]);
    let letter = post.letter().await;
    assert!(letter.contains("To: alice@corp.example"), "{letter}");
    assert!(letter.contains("can no longer sign you in"), "{letter}");
    let log: Value = owner.client.get(&owner.path("/audit")).await.unwrap();
    let actions: Vec<&str> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["action"].as_str())
        .collect();
    assert!(actions.contains(&"session.unlink") && actions.contains(&"sso_identity.delete"));
    // The browser that came by it is out, who ended it is not, and the provider is a stranger again.
    let sessions: Value = alice.get("/api/auth/sessions").await.unwrap();
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    assert!(
        page.text.contains("Is this account yours?"),
        "{}",
        page.text
    );
    server.stop().await;
}
