//! Who may make an account.

use serde_json::{Value, json};
use ztna_api::SignUp;
use ztna_proto::api::{Me, OrgMembership, Role};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::sso::SignInWays;
use ztna_proto::tokens::InvitationToken;

use crate::common::client::{Owner, PASSWORD, code};
use crate::common::{Client, Server};
use crate::mail::Post;

async fn sign_up(client: &Client, body: Value) -> Result<Value, ErrorBody> {
    client.post("/api/auth/signup", body).await
}

#[tokio::test]
async fn where_accounts_are_by_invitation_nobody_else_makes_one() {
    let open = Server::start().await;
    let owner = Owner::new(&open, "acme").await;
    let server = open
        .beside(|config| config.sign_in.sign_up = SignUp::Invited)
        .await;
    let client = Client::anonymous(&server);
    let ways: SignInWays = client.get("/api/auth/ways").await.unwrap();
    assert!(!ways.sign_up);

    let stranger = json!({"email": "mallory@example.com", "password": PASSWORD});
    let refused = sign_up(&client, stranger).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(refused.message.contains("by invitation"), "{refused}");
    // Whether an address has an account is not told.
    let known = json!({"email": "acme@example.com", "password": PASSWORD});
    let same = sign_up(&client, known).await.unwrap_err();
    assert_eq!(same.to_string(), refused.to_string());

    let token = owner
        .invite(&owner.client, "new@example.com", Role::Member)
        .await
        .unwrap();
    let by = |email: &str, token: &InvitationToken| json!({"email": email, "password": PASSWORD, "invitation": token.expose()});
    let other = sign_up(&client, by("mallory@example.com", &token)).await;
    assert_eq!(code(other), ErrorCode::ValidationError);
    let unknown = InvitationToken::generate(&mut rand::rng());
    let guess = sign_up(&client, by("new@example.com", &unknown)).await;
    assert_eq!(code(guess), ErrorCode::InvalidKey);
    sign_up(&client, by("New@example.com", &token))
        .await
        .unwrap();
    let session = client.login("new@example.com", PASSWORD).await.unwrap();
    let new = client.bearer(&session.access_token);
    let body = json!({"token": token.expose()});
    let joined: OrgMembership = new.post("/api/accept-invitation", body).await.unwrap();
    assert_eq!(joined.id, owner.org.id);
    let again = sign_up(&client, by("new@example.com", &token)).await;
    assert_eq!(code(again), ErrorCode::InvalidKey, "it was accepted");
}

#[tokio::test]
async fn an_invitation_confirms_its_address() {
    // The token is told where no mail is sent.
    let silent = Server::start().await;
    let owner = Owner::new(&silent, "acme").await;
    let (_post, mail) = Post::new();
    let server = silent.beside(|config| config.mail = Some(mail)).await;
    let email = "new@example.com";
    // Somebody else was there before, with a password of theirs.
    let early = json!({"email": email, "password": "a password of somebody else"});
    let client = Client::anonymous(&server);
    sign_up(&client, early).await.unwrap();

    let token = owner
        .invite(&owner.client, email, Role::Member)
        .await
        .unwrap();
    let token = token.expose();
    let body = json!({"email": email, "password": PASSWORD, "invitation": token});
    sign_up(&client, body).await.unwrap();
    let theirs = client.login(email, "a password of somebody else").await;
    assert_eq!(code(theirs), ErrorCode::InvalidCredentials);
    let session = client.login(email, PASSWORD).await.unwrap();
    let me: Me = client
        .bearer(&session.access_token)
        .get("/api/auth/me")
        .await
        .unwrap();
    assert!(me.orgs.is_empty(), "it is not accepted by that");
}
