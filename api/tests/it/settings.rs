//! Settings of an org, what a machine needs to join, and what an invitation is about.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{AUTH_KEY_PLACE, InvitationPreview, JoinInfo, Machine, OrgMembership, Role};
use ztna_proto::audit::{AuditEntry, AuditPage};
use ztna_proto::error::ErrorCode;
use ztna_proto::machines::OrgSettings;
use ztna_proto::netmap::PqMode;
use ztna_proto::policy::Evaluation;

use crate::common::acts::this;
use crate::common::client::{Owner, code, machine};
use crate::common::stream::Stream;
use crate::common::{Client, Server};

async fn changes(owner: &Owner) -> Vec<AuditEntry> {
    let path = owner.path("/audit?action=org.update");
    let page: AuditPage = owner.client.get(&path).await.unwrap();
    page.entries
}

#[tokio::test]
async fn an_org_is_renamed_and_its_machines_hear_of_it() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "member", Role::Member).await;
    let (_, joined) = owner.enrol("box").await;
    let mut stream = Stream::connect(&server, &joined.node_key).await;
    let settings = owner.path("/settings");
    let shown: OrgSettings = member.get(&settings).await.unwrap();
    assert_eq!((shown.name.as_str(), shown.slug.as_str()), ("acme", "acme"));
    assert_eq!(shown.pq, PqMode::Required);
    assert_eq!(shown.ipv4_network.to_string(), "100.64.0.0/10");
    assert!(shown.ipv4_network.contains(&joined.ipv4));
    assert!(shown.ipv6_network.contains(&joined.ipv6));
    assert_eq!(shown.ipv6_network.prefix_len(), 48);

    let renamed = owner.set(json!({"name": "  Acme & Söhne "})).await;
    assert_eq!(renamed.name, "Acme & Söhne");
    let same = OrgSettings {
        name: shown.name.clone(),
        ..renamed.clone()
    };
    assert_eq!(same, shown, "nothing else changes");
    let told = |stream: &Stream| this(stream).org_name == "Acme & Söhne";
    stream.until("the org's new name", told).await;
    assert_eq!(this(&stream).dns_name, "box.acme.ztna.internal");
    let row = &changes(&owner).await[0];
    let texts = |raw: &Option<Box<serde_json::value::RawValue>>| {
        raw.as_ref().map(|raw| raw.get().to_owned()).unwrap()
    };
    assert_eq!(texts(&row.before), r#"{"name": "acme"}"#);
    assert_eq!(texts(&row.after), r#"{"name": "Acme & Söhne"}"#);

    for bad in [
        "",
        "   ",
        "a\u{7}b",
        "Ac\u{200b}me",
        "\u{202e}emcA",
        &"x".repeat(65),
    ] {
        let refused = owner
            .client
            .call::<Value>(Method::PATCH, &settings, json!({ "name": bad }))
            .await;
        assert_eq!(code(refused), ErrorCode::ValidationError, "{bad:?}");
    }
    let refused = member
        .call::<Value>(Method::PATCH, &settings, json!({"name": "Mine"}))
        .await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
}

#[tokio::test]
async fn a_lockdown_ends_everything_between_machines_until_it_is_lifted() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, one) = owner.enrol("one").await;
    let (_, other) = owner.enrol("other").await;
    let mut stream = Stream::connect(&server, &one.node_key).await;
    stream
        .until("its peer", |stream| stream.peer_names() == ["other"])
        .await;
    let question = json!({"src": "one", "dst": "other", "port": 22});
    let ask = async || {
        let path = owner.path("/acl-evaluate");
        let answer: Evaluation = owner.client.post(&path, &question).await.unwrap();
        answer.verdict
    };
    assert!(ask().await.allowed);

    assert!(owner.set(json!({"lockdown": true})).await.lockdown);
    stream
        .until("no peers", |stream| stream.peers().is_empty())
        .await;
    let verdict = ask().await;
    assert!(!verdict.allowed);
    assert!(
        verdict.reason.contains("org:lockdown"),
        "{}",
        verdict.reason
    );
    // Who comes meanwhile comes into the same silence, and stays managed.
    let (_, late) = owner.enrol("late").await;
    let late_stream = Stream::connect(&server, &late.node_key).await;
    assert!(late_stream.peers().is_empty());
    let machines: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    assert_eq!(machines.len(), 3);
    assert!(
        machines
            .iter()
            .any(|machine| machine.id == other.machine_id)
    );
    // Another policy does not lift it.
    owner
        .put_policy(r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#)
        .await
        .unwrap();
    assert!(!ask().await.allowed);
    // Nor does a restart.
    let server = server.restart().await;
    let stream = Stream::connect(&server, &one.node_key).await;
    assert!(stream.peers().is_empty());
}

#[tokio::test]
async fn who_comes_back_hears_of_a_lockdown_that_came_with_a_new_name() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, one) = owner.enrol("one").await;
    owner.enrol("other").await;
    // Holds the org in the node's memory while the other is away.
    let (_, watcher) = owner.enrol("watcher").await;
    let mut watching = Stream::connect(&server, &watcher.node_key).await;
    let held = Stream::connect(&server, &one.node_key).await;
    owner
        .set(json!({"name": "Under attack", "lockdown": true}))
        .await;
    watching
        .until("no peers", |stream| stream.peers().is_empty())
        .await;
    let (stream, _) = Stream::again(&server, &one.node_key, held).await;
    assert!(stream.peers().is_empty());
}

#[tokio::test]
async fn after_a_lockdown_everything_is_as_it_was() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, one) = owner.enrol("one").await;
    owner.enrol("other").await;
    owner.set(json!({"lockdown": true})).await;
    let mut stream = Stream::connect(&server, &one.node_key).await;
    assert!(stream.peers().is_empty());
    assert!(!owner.set(json!({"lockdown": false})).await.lockdown);
    stream
        .until("its peer again", |stream| stream.peer_names() == ["other"])
        .await;
    let rows = changes(&owner).await;
    let last = rows[0].after.as_ref().unwrap().get();
    assert_eq!(last, r#"{"lockdown": false}"#);
}

#[tokio::test]
async fn machines_are_told_how_to_join() {
    let told = async |proxies: usize| -> JoinInfo {
        let server = Server::start_with(|config| {
            config.public_url = "https://vpn.example.org:8443/".to_owned();
            config.pin = Some("sha256:00ff".to_owned());
            config.trusted_proxies = proxies;
        });
        let server = server.await;
        Client::anonymous(&server).get("/api/join").await.unwrap()
    };
    let direct = told(0).await;
    assert_eq!(direct.server, "https://vpn.example.org:8443");
    assert_eq!(direct.pin.as_deref(), Some("sha256:00ff"));
    let flags = "--server https://vpn.example.org:8443 --server-pin sha256:00ff";
    for (line, os) in direct.lines.iter().zip(["linux", "macos", "windows"]) {
        assert_eq!((line.os.as_str(), line.installs), (os, false));
        let (sudo, and) = match os {
            "windows" => ("", ";"),
            _ => ("sudo ", " &&"),
        };
        let login = format!("ztna login {flags}{and} {sudo}ztna up");
        let auth_key = format!("{sudo}ztna up {flags} --auth-key {AUTH_KEY_PLACE}");
        assert_eq!((&line.login, &line.auth_key), (&login, &auth_key));
    }
    // Machines see the proxy's certificate, which is not for us to know.
    let proxied = told(1).await;
    assert_eq!(proxied.pin, None);
    assert!(!proxied.lines[0].login.contains("pin"), "{proxied:?}");
}

#[tokio::test]
async fn an_invitation_is_shown_to_who_holds_its_token() {
    let server = Server::start_with(|config| config.limits.invitations.count = 4).await;
    let owner = Owner::new(&server, "acme").await;
    let admin = owner.add(&server, "admin", Role::Admin).await;
    let token = owner.invite(&admin, "new@example.com", Role::Auditor);
    let token = token.await.unwrap();
    let nobody = Client::anonymous(&server);
    let look = async |token: Value| {
        let body = json!({ "token": token });
        nobody
            .post::<InvitationPreview>("/api/invitations/preview", body)
            .await
    };
    let shown = look(json!(token.expose())).await.unwrap();
    assert_eq!(
        (shown.org_name.as_str(), shown.role),
        ("acme", Role::Auditor)
    );
    assert_eq!(shown.email, "new@example.com");
    assert_eq!(shown.inviter.as_deref(), Some("admin@example.com"));
    // Looking changes nothing.
    assert_eq!(look(json!(token.expose())).await.unwrap(), shown);

    let other = ztna_proto::tokens::InvitationToken::generate(&mut rand::rng());
    let unknown = look(json!(other.expose())).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::InvalidKey);
    let new = Client::new_user(&server, "new@example.com").await;
    let body = json!({"token": token.expose()});
    let _: OrgMembership = new.post("/api/accept-invitation", body).await.unwrap();
    let used = look(json!(token.expose())).await.unwrap_err();
    assert_eq!(used.to_string(), unknown.to_string());

    let malformed = look(json!("ztna-invite-x")).await;
    assert_eq!(code(malformed), ErrorCode::ValidationError);
    // Whoever knows it may look as often as they like.
    let token = owner.invite(&admin, "another@example.com", Role::Member);
    let token = token.await.unwrap();
    for _ in 0..6 {
        look(json!(token.expose())).await.unwrap();
    }
    look(json!(other.expose())).await.unwrap_err();
    look(json!(other.expose())).await.unwrap_err();
    let often = look(json!(other.expose())).await;
    assert_eq!(code(often), ErrorCode::RateLimited);
}

/// Where the org's log of changes stands.
async fn seq(server: &Server) -> i64 {
    let admin = crate::common::connect(&server.database.setup).await;
    let row = admin.query_one("SELECT seq FROM orgs", &[]).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn what_is_so_already_is_no_change() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let shown = owner.set(json!({"lockdown": true, "name": "Acme"})).await;
    let (before, rows) = (seq(&server).await, changes(&owner).await.len());
    let same = json!({
        "lockdown": true, "name": " Acme ", "machine_approval": false, "pq": "required",
        "key_expiry_days": shown.key_expiry_days, "ipv4_network": "100.64.0.0/10",
    });
    for same in [same, json!({})] {
        assert_eq!(owner.set(same).await, shown);
    }
    assert_eq!(seq(&server).await, before);
    assert_eq!(changes(&owner).await.len(), rows);
    owner.set(json!({"lockdown": false, "name": "Acme"})).await;
    assert_eq!(seq(&server).await, before + 1);
}

#[tokio::test]
async fn an_org_chooses_its_ipv4_network_before_its_first_machine() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let path = owner.path("/settings");
    let ask = async |network: &str| {
        let body = json!({ "ipv4_network": network });
        let call = owner.client.call::<OrgSettings>(Method::PATCH, &path, body);
        call.await
    };
    for bad in [
        "8.8.8.0/24",
        "0.0.0.0/0",
        "100.0.0.0/8",
        "10.0.0.1/24",
        "10.0.0.0/29",
        "fd00::/64",
        "x",
    ] {
        assert_eq!(code(ask(bad).await), ErrorCode::ValidationError, "{bad}");
    }
    let shown = ask("192.168.77.0/28").await.unwrap();
    assert_eq!(shown.ipv4_network.to_string(), "192.168.77.0/28");
    let mut addresses = Vec::new();
    for number in 1..=13 {
        let (_, joined) = owner.enrol(&format!("box-{number}")).await;
        assert!(shown.ipv4_network.contains(&joined.ipv4), "{}", joined.ipv4);
        assert!(shown.ipv6_network.contains(&joined.ipv6), "{}", joined.ipv6);
        addresses.push((joined.machine_id, joined.ipv4));
    }
    // 14 hosts have an address; the network of 16 has no fifteenth.
    owner.enrol("box-14").await;
    let key = owner.key(json!({})).await;
    let full = Client::anonymous(&server)
        .bearer(key.key.expose())
        .register(&machine("box-15"))
        .await;
    assert_eq!(code(full), ErrorCode::AddressesExhausted);
    assert_eq!(code(ask("10.0.0.0/8").await), ErrorCode::Conflict);
    // One that is freed is used again, and no other: the service's own address lies elsewhere.
    let (gone, freed) = addresses[4];
    let path = owner.path(&format!("/machines/{gone}"));
    let _: Value = owner
        .client
        .call(Method::DELETE, &path, json!({}))
        .await
        .unwrap();
    let (_, joined) = owner.enrol("box-15").await;
    assert_eq!(joined.ipv4, freed);
}

#[tokio::test]
async fn an_org_lets_devices_without_post_quantum_keys_in_or_not() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, gate) = owner.enrol("gate").await;
    let path = owner.path(&format!("/machines/{}/gateway", gate.machine_id));
    let body = json!({"endpoint": "vpn.example.com:51820"});
    let _: Value = owner.client.call(Method::PUT, &path, body).await.unwrap();
    let device = json!({"name": "phone", "gateway": gate.machine_id});
    let refused = owner.phone(&owner.client, device.clone()).await;
    let refused = refused.err().unwrap();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.to_string().contains("`preferred`"), "{refused}");

    let shown = owner.set(json!({"pq": "preferred"})).await;
    assert_eq!(shown.pq, PqMode::Preferred);
    let phone = owner.phone(&owner.client, device).await.unwrap();
    let settings = owner.path("/settings");
    let back = async |pq: &str| {
        let body = json!({ "pq": pq });
        let call = owner
            .client
            .call::<OrgSettings>(Method::PATCH, &settings, body);
        call.await
    };
    assert_eq!(code(back("required").await), ErrorCode::Conflict);
    let path = owner.path(&format!("/machines/{}", phone.peer.machine.id));
    let _: Value = owner
        .client
        .call(Method::DELETE, &path, json!({}))
        .await
        .unwrap();
    assert_eq!(back("required").await.unwrap().pq, PqMode::Required);
    // What this server does not know is the stricter one.
    back("preferred").await.unwrap();
    assert_eq!(back("later").await.unwrap().pq, PqMode::Required);
    let row = &changes(&owner).await[0];
    assert_eq!(row.after.as_ref().unwrap().get(), r#"{"pq": "required"}"#);
}
