//! What ends a connection: rights that end, tokens that end.

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{Member, Role, Session};
use ztna_proto::error::ErrorCode;
use ztna_proto::realtime::{Channel, RealtimeMessage};

use super::{ROWS, id_of, put_dns};
use crate::common::client::{Owner, PASSWORD};
use crate::common::listener::Listener;
use crate::common::{Client, Server, connect};

#[tokio::test]
async fn rights_that_end_end_the_connection() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let path_of = async |client: &Client| owner.path(&format!("/members/{}", id_of(client).await));
    let nobody = Client::anonymous(&server);
    let bob = owner.add(&server, "bob", Role::Auditor).await;
    let (mut at_owner, _) = Listener::on(&server, owner.org.id, &owner.client, &ROWS).await;

    // A session is ended, another of the same person goes on.
    let other = nobody.login("bob@example.com", PASSWORD).await.unwrap();
    let other = nobody.bearer(&other.access_token);
    let (at_other, _) = Listener::on(&server, owner.org.id, &other, &ROWS).await;
    let (mut at_bob, _) = Listener::on(&server, owner.org.id, &bob, &ROWS).await;
    let sessions: Value = bob.get("/api/auth/sessions").await.unwrap();
    let mut others = sessions
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["current"] == false);
    let ended = others.next_back().unwrap()["id"].as_str().unwrap();
    let mine = other.get::<Value>("/api/auth/sessions").await.unwrap();
    let mine = mine
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["current"] == true)
        .unwrap();
    assert_eq!(mine["id"].as_str().unwrap(), ended);
    bob.delete(&format!("/api/auth/sessions/{ended}"))
        .await
        .unwrap();
    let (code, said) = at_other.closed().await;
    assert_eq!((code, said.unwrap().code), (4003, ErrorCode::Unauthorized));
    put_dns(&owner, "a.example").await;
    at_bob.until("dns.create").await;

    // A lesser role hears less, and is told.
    let path = path_of(&bob).await;
    let call = owner
        .client
        .call::<Member>(Method::PATCH, &path, json!({"role": "member"}));
    call.await.unwrap();
    match at_bob.next().await {
        RealtimeMessage::Subscribed { refused, .. } => {
            assert_eq!(refused, [Channel::Keys, Channel::Acl, Channel::Routes]);
        }
        other => panic!("{other:?}"),
    }
    // Told as to a member already.
    let event = at_bob.event().await;
    assert_eq!(
        (event.action.as_str(), event.after.is_none()),
        ("member.update", true)
    );
    owner.put_policy("{\"acls\": []}").await.unwrap();
    put_dns(&owner, "b.example").await;
    assert_eq!(at_bob.event().await.action, "dns.update");

    // The org asks for its own sign-in: members are out, owners stay.
    let admin = connect(&server.database.setup).await;
    admin
        .execute(
            "INSERT INTO sso_providers (org_id, issuer, client_id, client_secret, groups_claim, group_rules,
                 create_members, required, trust_email)
             VALUES ($1, 'https://id.example', 'x', '\\x00', 'groups', '[]', false, true, false)",
            &[&owner.org.id.0],
        )
        .await
        .unwrap();
    let (code, said) = at_bob.closed().await;
    assert_eq!((code, said.unwrap().code), (4003, ErrorCode::Forbidden));
    admin
        .execute("DELETE FROM sso_providers", &[])
        .await
        .unwrap();

    // The member is removed.
    let (at_bob, _) = Listener::on(&server, owner.org.id, &bob, &ROWS).await;
    owner.client.delete(&path_of(&bob).await).await.unwrap();
    let (code, said) = at_bob.closed().await;
    assert_eq!((code, said.unwrap().code), (4003, ErrorCode::NotFound));
    at_owner.until("member.delete").await;
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_ends_ends_the_connection_unless_another_came() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let nobody = Client::anonymous(&server);
    let session = nobody.login("acme@example.com", PASSWORD).await.unwrap();
    // The session ends soon, and so does what is given out for it.
    let admin = connect(&server.database.setup).await;
    let me = id_of(&nobody.bearer(&session.access_token)).await;
    let soon = format!(
        "UPDATE refresh_tokens SET ends_at = now() + interval '8 seconds', vouched_by = '{}'
         WHERE user_id = '{me}' AND family = (SELECT family FROM refresh_tokens
             WHERE user_id = '{me}' ORDER BY began_at DESC LIMIT 1)",
        owner.org.id
    );
    admin.batch_execute(&soon).await.unwrap();
    let body = json!({"refresh_token": session.refresh_token});
    let short: Session = nobody.post("/api/auth/refresh", body).await.unwrap();
    assert!(short.expires_in <= 8);
    let short = nobody.bearer(&short.access_token);
    let (left, _) = Listener::on(&server, owner.org.id, &short, &[Channel::Dns]).await;
    let (mut renewed, _) = Listener::on(&server, owner.org.id, &short, &[Channel::Dns]).await;
    renewed
        .send(json!({"type": "token", "token": owner.client.token()}))
        .await;
    let taken = renewed.next().await;
    assert!(
        matches!(taken, RealtimeMessage::TokenTaken { .. }),
        "{taken:?}"
    );
    assert_eq!(left.closed().await.0, 4001);
    put_dns(&owner, "a.example").await;
    assert_eq!(renewed.event().await.action, "dns.create");

    // Somebody else's token is none.
    let bob = owner.add(&server, "bob", Role::Admin).await;
    renewed
        .send(json!({"type": "token", "token": bob.token()}))
        .await;
    assert_eq!(renewed.closed().await.0, 4001);
    server.stop().await;
}
