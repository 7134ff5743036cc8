//! Keys of orgs under the master key: what stands in the database is what the format says, orgs of before
//! get theirs, and a new master key takes the old one's place while everybody goes on signing in.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use hkdf::Hkdf;
use serde_json::json;
use sha2::Sha256;
use uuid::Uuid;
use ztna_api::{DatabaseConfig, Resealed, forget_old_master_keys, reseal, rotate_master_key};
use ztna_proto::api::Session;
use ztna_proto::error::{ErrorBody, ErrorCode};

use crate::common::client::{Owner, PASSWORD, code};
use crate::common::{Client, Server, connect};
use crate::mfa;

const CLIENT_SECRET: &[u8] = b"the provider's secret";
const PURPOSE: &str = "oidc client secret";

/// A key derived for an owner, as api/src/seal.rs describes it.
fn derived(master: &[u8; 32], owner: Uuid) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, master)
        .expand_multi_info(&[b"ztna seal v1", owner.as_bytes()], &mut key)
        .unwrap();
    key
}

fn aad(owner: Uuid, purpose: &str) -> Aad<Vec<u8>> {
    Aad::from([owner.as_bytes().as_slice(), purpose.as_bytes()].concat())
}

fn seal(key: &[u8; 32], owner: Uuid, purpose: &str, secret: &[u8]) -> Vec<u8> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).unwrap();
    let mut text = secret.to_vec();
    let nonce = key
        .seal_in_place_append_tag(aad(owner, purpose), &mut text)
        .unwrap();
    [&[1], nonce.as_ref().as_slice(), &text].concat()
}

fn open(key: &[u8; 32], version: u8, owner: Uuid, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    assert_eq!(sealed[0], version);
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).unwrap();
    let nonce = Nonce::try_assume_unique_for_key(&sealed[1..13]).unwrap();
    let mut text = sealed[13..].to_vec();
    let opened = key.open_in_place(nonce, aad(owner, purpose), &mut text);
    Some(opened.ok()?.to_vec())
}

/// The master keys of a data folder, the current one first.
fn masters(folder: &Path) -> Vec<[u8; 32]> {
    let text = std::fs::read_to_string(folder.join("master.key")).unwrap();
    let keys = text.split_whitespace().map(ztna_proto::keys::parse_hex);
    keys.map(Option::unwrap).collect()
}

/// The org's key and the client secret of its provider, as they stand in the database.
async fn stored(database: &DatabaseConfig, org: Uuid) -> (Vec<u8>, Vec<u8>) {
    let row = connect(&database.setup)
        .await
        .query_one(
            "SELECT k.key, p.client_secret FROM org_keys k JOIN sso_providers p USING (org_id)
             WHERE org_id = $1",
            &[&org],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

/// Opens the client secret with a master key by way of the org's key.
fn client_secret(
    master: &[u8; 32],
    org: Uuid,
    (key, secret): &(Vec<u8>, Vec<u8>),
) -> Option<Vec<u8>> {
    let key = open(&derived(master, org), 1, org, "org key", key)?;
    open(&key.try_into().unwrap(), 2, org, PURPOSE, secret)
}

/// A provider as a version before orgs had keys left it.
async fn leave_as_before(database: &DatabaseConfig, org: Uuid, sealed: &[u8]) {
    let admin = connect(&database.setup).await;
    let drop = "DELETE FROM org_keys WHERE org_id = $1";
    admin.execute(drop, &[&org]).await.unwrap();
    admin
        .execute(
            "INSERT INTO sso_providers (org_id, issuer, client_id, client_secret, groups_claim,
                 group_rules, create_members, required, trust_email)
             VALUES ($1, 'https://idp.example.com', 'ztna', $2, 'groups', '[]', true, false, false)",
            &[&org, &sealed],
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn an_org_has_its_key_from_birth_to_end_and_orgs_of_before_get_theirs() {
    let server = Server::start().await;
    let acme = Owner::new(&server, "acme").await;
    let other = Owner::new(&server, "other").await;
    let admin = connect(&server.database.setup).await;
    let count = async || -> i64 {
        let query = "SELECT count(DISTINCT key) FROM org_keys JOIN orgs ON orgs.id = org_id";
        admin.query_one(query, &[]).await.unwrap().get(0)
    };
    assert_eq!(count().await, 2);
    let folder = server.data_dir();
    let org = acme.org.id.0;
    let master = masters(folder.path())[0];
    let before = seal(&derived(&master, org), org, PURPOSE, CLIENT_SECRET);
    leave_as_before(&server.database, org, &before).await;
    // Of an org whose secret does not open, the start is not refused.
    let lost = seal(
        &derived(&[7; 32], other.org.id.0),
        other.org.id.0,
        PURPOSE,
        b"x",
    );
    leave_as_before(&server.database, other.org.id.0, &lost).await;

    let server = server.restart().await;
    assert_eq!(count().await, 2);
    let now = stored(&server.database, org).await;
    assert_eq!(client_secret(&master, org, &now).unwrap(), CLIENT_SECRET);
    let untouched = stored(&server.database, other.org.id.0).await;
    assert_eq!(untouched.1, lost);
    // Another start finds nothing to do.
    let server = server.restart().await;
    assert_eq!(stored(&server.database, org).await, now);

    // In another org's row neither is of use.
    let other = other.org.id.0;
    assert_eq!(client_secret(&master, other, &now), None);
    let mixed = (untouched.0, now.1);
    assert_eq!(client_secret(&master, other, &mixed), None);

    admin
        .execute("DELETE FROM orgs WHERE id = $1", &[&org])
        .await
        .unwrap();
    let gone = "SELECT count(*) FROM org_keys WHERE org_id = $1";
    let gone = admin.query_one(gone, &[&org]).await.unwrap();
    assert_eq!(gone.get::<_, i64>(0), 0);
    server.stop().await;
}

#[tokio::test]
async fn keys_are_changed_by_one_command_at_a_time() {
    let server = Server::start().await;
    Owner::new(&server, "acme").await;
    let (data_dir, database) = (server.data_dir(), server.database.clone());
    let folder = data_dir.path();
    rotate_master_key(folder).unwrap();
    let before = masters(folder);
    // Holds the forgetting up in its middle.
    let mut admin = connect(&database.setup).await;
    let held = admin.transaction().await.unwrap();
    let take = "SELECT FROM org_keys FOR UPDATE";
    held.query(take, &[]).await.unwrap();
    let forget = forget_old_master_keys(&database, folder);
    let meanwhile = async {
        let watch = connect(&database.setup).await;
        let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'
                AND query LIKE '%org_keys FOR UPDATE%')";
        while !watch
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
        {
            tokio::task::yield_now().await;
        }
        let refused = rotate_master_key(folder).unwrap_err().to_string();
        assert!(refused.contains("run this one again"), "{refused}");
        let refused = reseal(&database, folder).await.unwrap_err().to_string();
        assert!(refused.contains("run this one again"), "{refused}");
        held.rollback().await.unwrap();
    };
    let (forgotten, ()) = tokio::join!(forget, meanwhile);
    assert_eq!(forgotten.unwrap(), 1);
    assert_eq!(masters(folder), before[..1]);
    reseal(&database, folder).await.unwrap();
    assert_eq!(rotate_master_key(folder).unwrap(), 2);
    server.stop().await;
}

async fn login(client: &Client, totp_code: &str) -> Result<Session, ErrorBody> {
    let body = json!({"email": mfa::EMAIL, "password": PASSWORD, "totp_code": totp_code});
    client.post("/api/auth/login", body).await
}

#[tokio::test]
async fn a_new_master_key_takes_the_old_ones_place() {
    let server = Server::start_with(|config| config.limits.credentials.count = 100).await;
    let owner = Owner::new(&server, "acme").await;
    let alice = Client::new_user(&server, mfa::EMAIL).await;
    let (phone, _, backup) = mfa::set_up(&alice).await;
    let (folder, database) = (server.data_dir(), server.database.clone());
    let (folder, org) = (folder.path(), owner.org.id.0);
    let old = masters(folder)[0];
    let before = seal(&derived(&old, org), org, PURPOSE, CLIENT_SECRET);
    leave_as_before(&database, org, &before).await;
    let server = server.restart().await;
    let was = stored(&database, org).await;
    let fresh_code = async || {
        let admin = connect(&database.setup).await;
        let forget = "UPDATE totp_secrets SET last_step = 0";
        admin.execute(forget, &[]).await.unwrap();
        phone.code(0)
    };

    // Both keys: everything opens.
    assert_eq!(rotate_master_key(folder).unwrap(), 2);
    let new = masters(folder)[0];
    assert_ne!(new, old);
    assert_eq!(masters(folder)[1], old);
    let server = server.restart().await;
    let anonymous = Client::anonymous(&server);
    login(&anonymous, &fresh_code().await).await.unwrap();
    login(&anonymous, &backup[0]).await.unwrap();
    assert_eq!(stored(&database, org).await, was);

    // The org's key alone is sealed anew, not what is sealed under it.
    let done = reseal(&database, folder).await.unwrap();
    let all = Resealed {
        org_keys: 1,
        authenticators: 1,
    };
    assert_eq!(done, all);
    let now = stored(&database, org).await;
    assert_eq!(now.1, was.1);
    assert_eq!(client_secret(&old, org, &now), None);
    assert_eq!(client_secret(&new, org, &now).unwrap(), CLIENT_SECRET);
    login(&anonymous, &fresh_code().await).await.unwrap();

    // The old key goes.
    assert_eq!(forget_old_master_keys(&database, folder).await.unwrap(), 1);
    assert_eq!(masters(folder), [new]);
    assert_eq!(forget_old_master_keys(&database, folder).await.unwrap(), 0);
    let server = server.restart().await;
    let anonymous = Client::anonymous(&server);
    login(&anonymous, &fresh_code().await).await.unwrap();
    let refused = login(&anonymous, &backup[1]).await;
    assert_eq!(code(refused), ErrorCode::InvalidCredentials);

    // What does not open is not lost: the old key stays.
    assert_eq!(rotate_master_key(folder).unwrap(), 2);
    let admin = connect(&database.setup).await;
    let damage = "UPDATE org_keys SET key = key || '\\x00'::bytea";
    admin.execute(damage, &[]).await.unwrap();
    let refused = forget_old_master_keys(&database, folder).await.unwrap_err();
    assert!(
        refused.to_string().contains("nothing was changed"),
        "{refused}"
    );
    assert_eq!(masters(folder).len(), 2);
    server.stop().await;
}
