//! Sign-in by an org's own provider, which is a real one: see `common/provider.rs`.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{Me, Member, Role, Session};
use ztna_proto::error::ErrorCode;
use ztna_proto::sso::{SsoDiscovery, SsoDomain, SsoSettings};

use crate::common::browser::Browser;
use crate::common::client::{Owner, code, machine};
use crate::common::provider::{
    CLIENT, Dns, Provider, SECRET, anywhere, at_provider, callback_of, connect, org_with_provider,
    prove, settings, sign_in,
};
use crate::common::stream::Stream;
use crate::common::{Client, Server, connect as database};

fn accounts() -> Value {
    json!({
        "alice": {"email": "Alice@Corp.example", "email_verified": true, "groups": ["Engineering", "IT"]},
        "bob": {"email": "bob@corp.example", "email_verified": true, "groups": ["Engineering"]},
    })
}

async fn put(owner: &Owner, body: Value) -> Result<SsoSettings, ztna_proto::error::ErrorBody> {
    owner
        .client
        .call(Method::PUT, &owner.path("/sso"), body)
        .await
}

async fn members(owner: &Owner) -> Vec<Member> {
    owner.client.get(&owner.path("/members")).await.unwrap()
}

#[tokio::test]
async fn a_person_of_a_proved_domain_signs_in_and_joins_a_machine() {
    let mut dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&accounts(), |config| {
        config.sign_in.dns_servers = vec![address]
    })
    .await;
    let stored = put(&owner, settings(&provider)).await.unwrap();
    assert_eq!(
        stored.redirect_uri,
        callback_of(&server, &owner.org.id.to_string())
    );
    prove(&mut dns, &owner, "corp.example").await;

    // By the address, and by the org's label.
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "someone@CORP.example", "alice").await;
    let session = connect(&mut browser, &server, &page).await;
    let alice = Client::anonymous(&server).bearer(&session.access_token);
    let me: Me = alice.get("/api/auth/me").await.unwrap();
    assert_eq!(me.email, "alice@corp.example");
    assert_eq!((me.orgs.len(), me.orgs[0].id), (1, owner.org.id));
    assert_eq!(me.orgs[0].role, Role::Member);
    let joined = alice.register(&machine("laptop")).await.unwrap();
    assert_eq!(joined.org, owner.org.id);

    // The second time is the same person, by whatever way.
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    let session = connect(&mut browser, &server, &page).await;
    let again: Me = alice
        .bearer(&session.access_token)
        .get("/api/auth/me")
        .await
        .unwrap();
    assert_eq!(again.id, me.id);
    assert_eq!(members(&owner).await.len(), 2);

    // There is no password that would do.
    for password in ["", "any password at all"] {
        let refused = alice.login("alice@corp.example", password).await;
        assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    }
}

#[tokio::test]
async fn a_vouched_session_ends_within_a_day_and_the_clis_with_it() {
    let mut dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&accounts(), |config| {
        config.sign_in.dns_servers = vec![address]
    })
    .await;
    put(&owner, settings(&provider)).await.unwrap();
    prove(&mut dns, &owner, "corp.example").await;
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    let session = connect(&mut browser, &server, &page).await;
    let admin = database(&server.database.setup).await;
    let ends = "SELECT count(DISTINCT ends_at), count(*), max(expires_at) <= max(ends_at),
            max(ends_at) - now() BETWEEN interval '23 hours 50 minutes' AND interval '24 hours'
        FROM refresh_tokens WHERE vouched_by IS NOT NULL";
    let row = admin.query_one(ends, &[]).await.unwrap();
    // The browser's and the CLI's end at the same time.
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 2));
    assert!(row.get::<_, bool>(2) && row.get::<_, bool>(3));

    // A refresh does not put the end off.
    let client = Client::anonymous(&server);
    let body = json!({"refresh_token": session.refresh_token});
    let next: Session = client.post("/api/auth/refresh", body).await.unwrap();
    let row = admin.query_one(ends, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 3));
    assert!(row.get::<_, bool>(2));
    // Nor does a second sign-in of the CLI by the first one's session.
    admin
        .execute(
            "UPDATE refresh_tokens SET ends_at = now() + interval '100 seconds',
                 expires_at = LEAST(expires_at, now() + interval '100 seconds') WHERE vouched_by IS NOT NULL",
            &[],
        )
        .await
        .unwrap();
    let body = json!({"refresh_token": next.refresh_token});
    let last: Session = client.post("/api/auth/refresh", body).await.unwrap();
    assert!(last.expires_in <= 100);
    admin
        .execute(
            "UPDATE refresh_tokens SET ends_at = now(), expires_at = now() WHERE vouched_by IS NOT NULL",
            &[],
        )
        .await
        .unwrap();
    let body = json!({"refresh_token": last.refresh_token});
    let over = client.post::<Session>("/api/auth/refresh", body).await;
    assert_eq!(code(over), ErrorCode::Unauthorized);
    let complete = json!({"action": "cli_complete", "challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"});
    let client = client.bearer(&last.access_token);
    let over = client.post::<Value>("/api/auth", complete).await;
    assert_eq!(code(over), ErrorCode::Unauthorized);
}

#[tokio::test]
async fn groups_become_roles_and_groups_of_the_policy() {
    let mut dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&accounts(), |config| {
        config.sign_in.dns_servers = vec![address]
    })
    .await;
    prove(&mut dns, &owner, "corp.example").await;
    let mut body = settings(&provider);
    body["group_rules"] = json!([
        {"group": "IT", "role": "admin"},
        {"group": "Engineering", "policy_group": "eng"},
    ]);
    put(&owner, body.clone()).await.unwrap();
    owner
        .put_policy(
            r#"{"groups": {"group:eng": []},
                "acls": [{"action": "accept", "src": ["group:eng"], "dst": ["autogroup:owner:22"]}]}"#,
        )
        .await
        .unwrap();
    let own = owner.client.register(&machine("server")).await.unwrap();
    let mut stream = Stream::connect(&server, &own.node_key).await;

    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "alice").await;
    let session = connect(&mut browser, &server, &page).await;
    let alice = Client::anonymous(&server).bearer(&session.access_token);
    let me: Me = alice.get("/api/auth/me").await.unwrap();
    assert_eq!(me.orgs[0].role, Role::Admin);
    alice.register(&machine("laptop")).await.unwrap();
    stream
        .until("the group's machine", |s| s.peer_names() == ["laptop"])
        .await;

    // What the provider says at the next sign-in, counts: machines hear of it.
    body["group_rules"] = json!([{"group": "IT", "role": "auditor"}]);
    put(&owner, body).await.unwrap();
    sign_in(&mut Browser::new(), &server, "acme", "alice").await;
    stream
        .until("the group to be gone", |s| s.peer_names().is_empty())
        .await;
    let me: Me = alice.get("/api/auth/me").await.unwrap();
    assert_eq!(me.orgs[0].role, Role::Auditor);
}

#[tokio::test]
async fn an_org_may_want_its_own_sign_in() {
    let mut dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&accounts(), |config| {
        config.sign_in.dns_servers = vec![address]
    })
    .await;
    prove(&mut dns, &owner, "corp.example").await;
    let guest = owner.add(&server, "guest", Role::Admin).await;
    let mut body = settings(&provider);
    body["required"] = json!(true);
    put(&owner, body).await.unwrap();

    // Sessions by password reach nothing of the org any more: whatever the document has.
    let document: Value = serde_json::from_str(
        &guest
            .request(Method::GET, "/api/openapi.json")
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
    )
    .unwrap();
    let mut calls = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/api/orgs/{org}/") {
            continue;
        }
        let mut path = path.replace("{org}", &owner.org.id.to_string());
        while let Some((before, rest)) = path.split_once('{') {
            let after = rest.split_once('}').unwrap().1;
            path = format!("{before}{}{after}", owner.org.id);
        }
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let refused = guest.call::<Value>(method.clone(), &path, json!({})).await;
            assert_eq!(code(refused), ErrorCode::Forbidden, "{method} {path}");
            calls += 1;
        }
    }
    assert!(calls > 20, "{calls}");
    // However the org is written.
    let id = owner.org.id.to_string();
    let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let half = id.replacen('-', "%2D", 1);
    for written in [encoded, half, id.replace('-', ""), id.to_uppercase()] {
        let path = format!("/api/orgs/{written}/members");
        let refused = guest.get::<Value>(&path).await;
        assert_eq!(code(refused), ErrorCode::Forbidden, "{path}");
    }
    let refused = guest.get::<Value>("/api/orgs/none/members").await;
    assert_eq!(code(refused), ErrorCode::NotFound);
    let refused = guest.register(&machine("laptop")).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    let health = format!("/api/derp-health?org={}", owner.org.id);
    assert_eq!(
        code(guest.get::<Value>(&health).await),
        ErrorCode::Forbidden
    );
    // The person is still who they are, elsewhere too.
    guest.get::<Me>("/api/auth/me").await.unwrap();
    guest.new_org("own").await;

    // A session of the provider does; and an owner's password, so that somebody can mend it.
    let mut browser = Browser::new();
    let page = sign_in(&mut browser, &server, "acme", "bob").await;
    let session = connect(&mut browser, &server, &page).await;
    let bob = Client::anonymous(&server).bearer(&session.access_token);
    bob.get::<Value>(&owner.path("/members")).await.unwrap();
    bob.register(&machine("laptop")).await.unwrap();
    owner
        .client
        .get::<Value>(&owner.path("/members"))
        .await
        .unwrap();
    // It says nothing for another org that wants its own.
    let other = Owner::new(&server, "other").await;
    let callback = callback_of(&server, &other.org.id.to_string());
    let second = Provider::for_us(&callback, &accounts());
    let mut body = settings(&second);
    body["required"] = json!(true);
    put(&other, body).await.unwrap();
    let token = other
        .invite(&other.client, "bob@corp.example", Role::Member)
        .await
        .unwrap();
    bob.post::<Value>("/api/accept-invitation", json!({ "token": token }))
        .await
        .unwrap();
    let refused = bob.get::<Value>(&other.path("/members")).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
}

#[tokio::test]
async fn settings_are_kept_sealed_and_checked() {
    let (server, owner, provider) = org_with_provider(&accounts(), |_| {}).await;
    let none = owner.client.get::<Value>(&owner.path("/sso")).await;
    assert_eq!(code(none), ErrorCode::NotFound);
    put(&owner, settings(&provider)).await.unwrap();
    let admin = database(&server.database.setup).await;
    let sealed: Vec<u8> = admin
        .query_one("SELECT client_secret FROM sso_providers", &[])
        .await
        .unwrap()
        .get(0);
    assert!(
        !sealed
            .windows(8)
            .any(|w| SECRET.as_bytes().windows(8).any(|s| s == w))
    );
    let shown: Value = owner.client.get(&owner.path("/sso")).await.unwrap();
    assert!(!shown.to_string().contains("cret"), "{shown}");

    // Without a secret: the one of before, for the same issuer and client alone.
    let keep = json!({"issuer": provider.issuer, "client_id": CLIENT, "create_members": false});
    assert!(!put(&owner, keep).await.unwrap().create_members);
    let other = json!({"issuer": provider.issuer, "client_id": "other"});
    assert_eq!(code(put(&owner, other).await), ErrorCode::ValidationError);
    for bad in [
        json!({"issuer": format!("{}/none", provider.issuer), "client_id": CLIENT, "client_secret": "x"}),
        json!({"issuer": "ftp://127.0.0.1", "client_id": CLIENT, "client_secret": "x"}),
        json!({"issuer": "", "client_id": CLIENT, "client_secret": "x"}),
        json!({"issuer": provider.issuer, "client_id": "", "client_secret": "x"}),
        json!({"issuer": provider.issuer, "client_id": CLIENT, "client_secret": ""}),
        json!({"issuer": provider.issuer, "client_id": CLIENT, "group_rules": [{"group": "a", "role": "owner"}]}),
        json!({"issuer": provider.issuer, "client_id": CLIENT, "group_rules": [{"group": ""}]}),
        json!({"issuer": provider.issuer, "client_id": CLIENT,
            "group_rules": [{"group": "a", "policy_group": "group:a"}]}),
    ] {
        assert_eq!(
            code(put(&owner, bad.clone()).await),
            ErrorCode::ValidationError,
            "{bad}"
        );
    }
    // A slash more is another issuer (OpenID Connect Discovery §4.3).
    let slash = json!({"issuer": format!("{}/", provider.issuer), "client_id": CLIENT, "client_secret": "x"});
    let refused = put(&owner, slash).await.unwrap_err();
    assert!(refused.message.contains("is of the issuer"), "{refused}");

    let member = owner.add(&server, "member", Role::Member).await;
    let auditor = owner.add(&server, "auditor", Role::Auditor).await;
    for path in ["/sso", "/sso/domains"] {
        let path = owner.path(path);
        assert_eq!(code(member.get::<Value>(&path).await), ErrorCode::Forbidden);
        auditor.get::<Value>(&path).await.unwrap();
    }
    let refused = auditor.delete(&owner.path("/sso")).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    owner.client.delete(&owner.path("/sso")).await.unwrap();
    assert_eq!(
        code(owner.client.delete(&owner.path("/sso")).await),
        ErrorCode::NotFound
    );
}

#[tokio::test]
async fn providers_in_our_own_network_are_not_called_unless_allowed() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let callback = callback_of(&server, &owner.org.id.to_string());
    let provider = Provider::for_us(&callback, &accounts());
    let port = provider.issuer.rsplit_once(':').unwrap().1.to_owned();
    for (issuer, why) in [
        (provider.issuer.clone(), "not https"),
        (
            format!("https://127.0.0.1:{port}"),
            "not on the public internet",
        ),
        (
            format!("https://localhost:{port}"),
            "on the public internet",
        ),
        (
            format!("https://[::ffff:127.0.0.1]:{port}"),
            "not on the public internet",
        ),
        (
            "https://169.254.169.254".to_owned(),
            "not on the public internet",
        ),
    ] {
        let body = json!({"issuer": issuer, "client_id": CLIENT, "client_secret": "x"});
        let refused = put(&owner, body).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ValidationError);
        assert!(refused.message.contains(why), "{issuer}: {refused}");
    }
}

#[tokio::test]
async fn a_domain_is_one_orgs_and_has_to_be_proved() {
    let mut dns = Dns::start();
    let address = dns.address;
    let server = Server::start_with(|config| {
        anywhere(config);
        config.sign_in.dns_servers = vec![address];
    })
    .await;
    let acme = Owner::new(&server, "acme").await;
    let rival = Owner::new(&server, "rival").await;
    let add = async |owner: &Owner| -> SsoDomain {
        let body = json!({"domain": "Corp.Example."});
        owner
            .client
            .post(&owner.path("/sso/domains"), body)
            .await
            .unwrap()
    };
    let prove = async |owner: &Owner| {
        let path = owner.path("/sso/domains/corp.example/prove");
        owner.client.post::<SsoDomain>(&path, json!({})).await
    };
    let (ours, theirs) = (add(&acme).await, add(&rival).await);
    assert_eq!(ours.record_name, "_ztna.corp.example");
    assert_ne!(ours.record_value, theirs.record_value);
    assert!(ours.proved_at.is_none());
    let twice = json!({"domain": "corp.example"});
    let twice = acme
        .client
        .post::<Value>(&acme.path("/sso/domains"), twice)
        .await;
    assert_eq!(code(twice), ErrorCode::Conflict);

    // No record; somebody else's record.
    dns.hold(&[]);
    assert_eq!(code(prove(&acme).await), ErrorCode::Conflict);
    dns.hold(&[&theirs]);
    assert_eq!(code(prove(&acme).await), ErrorCode::Conflict);
    dns.hold(&[&ours]);
    assert!(prove(&acme).await.unwrap().proved_at.is_some());
    assert_eq!(code(prove(&rival).await), ErrorCode::Conflict);
    // Both stand: it stays whose it is. The first is gone: it changes hands.
    dns.hold(&[&ours, &theirs]);
    let taken = prove(&rival).await.unwrap_err();
    assert!(taken.message.contains("another org"), "{taken}");
    dns.hold(&[&theirs]);
    prove(&rival).await.unwrap();
    let list: Vec<SsoDomain> = acme.client.get(&acme.path("/sso/domains")).await.unwrap();
    assert!(list[0].proved_at.is_none());

    acme.client
        .delete(&acme.path("/sso/domains/corp.example"))
        .await
        .unwrap();
    assert_eq!(code(prove(&acme).await), ErrorCode::NotFound);
    for bad in ["example", "192.0.2.1", "a@b.example", "*.example.com"] {
        let body = json!({ "domain": bad });
        let refused = acme
            .client
            .post::<Value>(&acme.path("/sso/domains"), body)
            .await;
        assert_eq!(code(refused), ErrorCode::ValidationError, "{bad}");
    }
}

#[tokio::test]
async fn an_orgs_sign_in_is_found_and_leads_back_into_the_dashboard() {
    let mut dns = Dns::start();
    let address = dns.address;
    let (server, owner, provider) = org_with_provider(&accounts(), |config| {
        config.sign_in.dns_servers = vec![address]
    })
    .await;
    let anonymous = Client::anonymous(&server);
    let found = async |hint: &str| {
        let path = format!("/api/auth/sso?hint={hint}");
        let found: SsoDiscovery = anonymous.get(&path).await.unwrap();
        found.start
    };
    assert_eq!(found("acme").await, None, "it has no provider yet");
    put(&owner, settings(&provider)).await.unwrap();
    let path = owner.path("/sso/domains");
    let body = json!({"domain": "corp.example"});
    let _: SsoDomain = owner.client.post(&path, body).await.unwrap();
    assert_eq!(found("alice@corp.example").await, None, "not proved yet");
    let _: Value = owner
        .client
        .call(Method::DELETE, &format!("{path}/corp.example"), json!({}))
        .await
        .unwrap();
    prove(&mut dns, &owner, "corp.example").await;
    let of_domain = Some("/sign-in/sso?org=corp.example".to_owned());
    // With an account or without: an address is its domain.
    for hint in ["alice@corp.example", "Nobody@CORP.example", "corp.example"] {
        assert_eq!(found(hint).await, of_domain, "{hint}");
    }
    let start = found("%20ACME%20").await.unwrap();
    assert_eq!(start, "/sign-in/sso?org=acme");
    for hint in [
        "acme@example.com",
        "%26org=acme",
        "",
        "a@b@",
        "%00",
        "%F0%9F%92%A9",
    ] {
        assert_eq!(found(hint).await, None, "{hint}");
    }
    let long = "a".repeat(321);
    let refused = anonymous
        .get::<Value>(&format!("/api/auth/sso?hint={long}"))
        .await;
    assert_eq!(code(refused), ErrorCode::ValidationError);

    let mut browser = Browser::new();
    let here = format!("http://{}", server.address);
    let front = browser.open(&here).await;
    let page = browser
        .follow(&front, &format!("{start}&return_to=/map"))
        .await;
    browser.stop_at = Some("/map".to_owned());
    let page = at_provider(&mut browser, &page, "alice").await;
    assert_eq!(page.url.as_str(), format!("{here}/map"));
    let token = browser.cookie(&here, "__Host-refresh_token").unwrap();
    let body = json!({ "refresh_token": token });
    let session: Session = anonymous.post("/api/auth/refresh", body).await.unwrap();
    let alice = anonymous.bearer(&session.access_token);
    let me: Me = alice.get("/api/auth/me").await.unwrap();
    assert_eq!(me.orgs[0].id, owner.org.id);
    // Asked for the org first, it goes there all the same.
    let mut browser = Browser::new();
    let ask = browser
        .open(&format!("{here}/sign-in/sso?return_to=/map"))
        .await;
    let page = browser.submit(&ask, &[("org", "acme")]).await;
    browser.stop_at = Some("/map".to_owned());
    let page = at_provider(&mut browser, &page, "alice").await;
    assert_eq!(page.url.path(), "/map");
}

#[tokio::test]
async fn looking_for_orgs_sign_ins_is_bounded() {
    let server = Server::start_with(|config| config.limits.sign_in.count = 2).await;
    let client = Client::anonymous(&server);
    for _ in 0..2 {
        let _: SsoDiscovery = client.get("/api/auth/sso?hint=x").await.unwrap();
    }
    let refused = client.get::<SsoDiscovery>("/api/auth/sso?hint=x").await;
    assert_eq!(code(refused), ErrorCode::RateLimited);
}
