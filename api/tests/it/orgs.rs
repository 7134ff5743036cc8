//! Who is in an org: invited, given another role, gone; and the end of an account.

use crate::common::client::{Owner, PASSWORD, code, machine};
use crate::common::stream::Stream;
use crate::common::{Client, Server, connect};
use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{
    InvitationInfo, Machine, Me, Member, OrgMembership, RegisterRequest, Registered, Role,
};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::ids::UserId;
use ztna_proto::tokens::InvitationToken;

async fn accept(client: &Client, token: &InvitationToken) -> Result<OrgMembership, ErrorBody> {
    let body = json!({"token": token.expose()});
    client.post("/api/accept-invitation", body).await
}

async fn id_of(client: &Client) -> UserId {
    let me: Me = client.get("/api/auth/me").await.unwrap();
    me.id
}

async fn set_role(
    owner: &Owner,
    who: &Client,
    member: UserId,
    role: Role,
) -> Result<Member, ErrorBody> {
    let path = owner.path(&format!("/members/{member}"));
    who.call(Method::PATCH, &path, json!({"role": role})).await
}

async fn remove(owner: &Owner, who: &Client, member: UserId) -> Result<Value, ErrorBody> {
    who.delete(&owner.path(&format!("/members/{member}"))).await
}

async fn enrol(owner: &Owner, client: &Client, name: &str) -> Registered {
    let request = RegisterRequest {
        org: Some(owner.org.id),
        ..machine(name)
    };
    client.register(&request).await.unwrap()
}

#[tokio::test]
async fn an_invitation_is_for_one_address_and_works_once() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let email = "bob@example.com";
    let token = owner
        .invite(&owner.client, " Bob@example.com", Role::Auditor)
        .await
        .unwrap();
    let list: Vec<InvitationInfo> = owner.client.get(&owner.path("/invitations")).await.unwrap();
    assert_eq!(
        (list[0].email.as_str(), list[0].role),
        (email, Role::Auditor)
    );
    let seven_days = list[0].expires_at.duration_since(list[0].created_at);
    assert_eq!(seven_days.as_hours(), 7 * 24);
    assert_eq!(
        code(owner.invite(&owner.client, email, Role::Member).await),
        ErrorCode::DuplicateInvitation
    );

    let other = Client::new_user(&server, "mallory@example.com").await;
    assert_eq!(code(accept(&other, &token).await), ErrorCode::EmailMismatch);
    let bob = Client::new_user(&server, email).await;
    assert_eq!(
        code(accept(&Client::anonymous(&server), &token).await),
        ErrorCode::Unauthorized
    );
    // Of many at once, one.
    let tries = (0..6).map(|_| accept(&bob, &token));
    let results = futures_util::future::join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(code(accept(&bob, &token).await), ErrorCode::InvalidKey);
    let me: Me = bob.get("/api/auth/me").await.unwrap();
    assert_eq!(me.orgs[0].role, Role::Auditor);
    assert_eq!(
        code(owner.invite(&owner.client, email, Role::Member).await),
        ErrorCode::AlreadyMember
    );

    // Withdrawn, and over.
    let token = owner
        .invite(&owner.client, "mallory@example.com", Role::Member)
        .await
        .unwrap();
    let list: Vec<InvitationInfo> = owner.client.get(&owner.path("/invitations")).await.unwrap();
    let path = owner.path(&format!("/invitations/{}", list[0].id));
    owner.client.delete(&path).await.unwrap();
    assert_eq!(code(owner.client.delete(&path).await), ErrorCode::NotFound);
    assert_eq!(code(accept(&other, &token).await), ErrorCode::InvalidKey);
    let token = owner
        .invite(&owner.client, "mallory@example.com", Role::Member)
        .await
        .unwrap();
    let admin = connect(&server.database.setup).await;
    admin
        .execute("UPDATE invitations SET expires_at = now()", &[])
        .await
        .unwrap();
    assert_eq!(code(accept(&other, &token).await), ErrorCode::InvalidKey);
    // One that is over does not stand in the way of the next.
    let token = owner
        .invite(&owner.client, "mallory@example.com", Role::Member)
        .await
        .unwrap();
    accept(&other, &token).await.unwrap();
}

#[tokio::test]
async fn what_concerns_owners_owners_do() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let admin = owner.add(&server, "admin", Role::Admin).await;
    let member = owner.add(&server, "member", Role::Member).await;
    let auditor = owner.add(&server, "auditor", Role::Auditor).await;
    let (first, admin_id, member_id) = (
        id_of(&owner.client).await,
        id_of(&admin).await,
        id_of(&member).await,
    );
    for who in [&member, &auditor] {
        assert_eq!(
            code(owner.invite(who, "x@example.com", Role::Member).await),
            ErrorCode::Forbidden
        );
        assert_eq!(
            code(set_role(&owner, who, member_id, Role::Admin).await),
            ErrorCode::Forbidden
        );
        assert_eq!(
            code(remove(&owner, who, admin_id).await),
            ErrorCode::Forbidden
        );
    }
    // An admin makes no owner, and touches none.
    assert_eq!(
        code(owner.invite(&admin, "x@example.com", Role::Owner).await),
        ErrorCode::Forbidden
    );
    for (target, role) in [
        (member_id, Role::Owner),
        (admin_id, Role::Owner),
        (first, Role::Member),
    ] {
        assert_eq!(
            code(set_role(&owner, &admin, target, role).await),
            ErrorCode::Forbidden
        );
    }
    assert_eq!(
        code(remove(&owner, &admin, first).await),
        ErrorCode::Forbidden
    );
    let changed = set_role(&owner, &admin, member_id, Role::Auditor).await;
    assert_eq!(changed.unwrap().role, Role::Auditor);
    assert_eq!(
        code(set_role(&owner, &admin, UserId::generate(), Role::Admin).await),
        ErrorCode::NotFound
    );

    // The last owner stays.
    assert_eq!(
        code(set_role(&owner, &owner.client, first, Role::Admin).await),
        ErrorCode::Conflict
    );
    assert_eq!(
        code(remove(&owner, &owner.client, first).await),
        ErrorCode::Conflict
    );
    set_role(&owner, &owner.client, admin_id, Role::Owner)
        .await
        .unwrap();
    // Of two owners who step down at once, one stays.
    let (one, two) = tokio::join!(
        set_role(&owner, &owner.client, first, Role::Member),
        set_role(&owner, &admin, admin_id, Role::Member)
    );
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test]
async fn who_leaves_takes_the_machines_along_and_loses_every_right() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "member", Role::Member).await;
    let laptop = enrol(&owner, &member, "laptop").await;
    let (_, shared) = owner.enrol("shared").await;
    let mut watcher = Stream::connect(&server, &shared.node_key).await;
    let stream = Stream::connect(&server, &laptop.node_key).await;
    watcher
        .until("the laptop is a peer", |stream| stream.peers().len() == 1)
        .await;
    remove(&owner, &member, id_of(&member).await).await.unwrap();
    watcher
        .until("the laptop is gone", |stream| stream.peers().is_empty())
        .await;
    drop(stream);
    assert_eq!(server.cut.lock().unwrap().len(), 1);
    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    assert_eq!(list.len(), 1);
    let refused = member.get::<Value>(&owner.path("/machines")).await;
    assert_eq!(code(refused), ErrorCode::NotFound);
    let me: Me = member.get("/api/auth/me").await.unwrap();
    assert!(me.orgs.is_empty());
}

#[tokio::test]
async fn an_account_ends_with_all_that_is_the_persons() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let member = owner.add(&server, "member", Role::Member).await;
    enrol(&owner, &member, "laptop").await;
    let session = member.login("member@example.com", PASSWORD).await.unwrap();
    let delete = async |client: &Client, password: &str| {
        let body = json!({"password": password});
        client.post::<Value>("/api/auth/delete-account", body).await
    };
    assert_eq!(
        code(delete(&member, "wrong password").await),
        ErrorCode::InvalidCredentials
    );
    assert_eq!(
        code(delete(&owner.client, PASSWORD).await),
        ErrorCode::Conflict,
        "others would be left without an owner"
    );
    delete(&member, PASSWORD).await.unwrap();
    assert_eq!(server.cut.lock().unwrap().len(), 1);
    let body = json!({"refresh_token": session.refresh_token});
    let ended = member.post::<Value>("/api/auth/refresh", body).await;
    assert_eq!(code(ended), ErrorCode::Unauthorized);
    assert_eq!(
        code(member.get::<Me>("/api/auth/me").await),
        ErrorCode::Unauthorized
    );
    assert_eq!(
        code(member.login("member@example.com", PASSWORD).await),
        ErrorCode::InvalidCredentials
    );
    let members: Vec<Member> = owner.client.get(&owner.path("/members")).await.unwrap();
    assert_eq!(members.len(), 1);

    // The last one takes the org along, and its label is free again.
    let (_, shared) = owner.enrol("shared").await;
    delete(&owner.client, PASSWORD).await.unwrap();
    let heartbeat = owner
        .as_machine(&shared.node_key)
        .post::<Value>("/api/machine-heartbeat", json!({}))
        .await;
    assert_eq!(code(heartbeat), ErrorCode::MachineDeleted);
    let key = owner.client.bearer(owner.key.key.expose());
    assert_eq!(
        code(key.register(&machine("late")).await),
        ErrorCode::InvalidKey
    );
    let next = Owner::new(&server, "acme").await;
    assert_eq!(next.org.slug, "acme");
    let admin = connect(&server.database.setup).await;
    admin
        .execute("SELECT sweep_leftovers()", &[])
        .await
        .unwrap();
    let row = admin
        .query_one("SELECT count(*) FROM orgs", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    let list: Vec<Machine> = next.client.get(&next.path("/machines")).await.unwrap();
    assert!(list.is_empty());
}

#[tokio::test]
async fn an_invitations_page_signs_up_and_joins() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let token = owner
        .invite(&owner.client, "new@example.com", Role::Member)
        .await
        .unwrap();
    let client = Client::anonymous(&server);
    let origin = format!("http://{}", server.address);
    let page = async |method: Method, path: &str, form: &str| {
        let request = client
            .request(method, path)
            .header("origin", &origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let address = format!("/accept-invitation?token={}", token.expose());
    let (status, text) = page(Method::GET, &address, "").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("Join acme?") && text.contains("new@example.com"),
        "{text}"
    );
    let form = |step: &str, password: &str| {
        let password = password.replace(' ', "+");
        format!("token={}&step={step}&password={password}", token.expose())
    };
    let path = "/accept-invitation";
    let (status, text) = page(Method::POST, path, &form("sign-in", PASSWORD)).await;
    assert_eq!(status, 401, "{text}");
    let (status, text) = page(Method::POST, path, &form("sign-up", "short")).await;
    assert_eq!(status, 400, "{text}");
    let (status, text) = page(Method::POST, path, &form("sign-up", PASSWORD)).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("You are a member of acme"), "{text}");
    let session = client.login("new@example.com", PASSWORD).await.unwrap();
    let me: Me = client
        .bearer(&session.access_token)
        .get("/api/auth/me")
        .await
        .unwrap();
    assert_eq!(me.orgs[0].id, owner.org.id);
    let (status, _) = page(Method::GET, &address, "").await;
    assert_eq!(status, 401, "it works once");
    let (status, _) = page(Method::GET, "/accept-invitation?token=x", "").await;
    assert_eq!(status, 400);
}
