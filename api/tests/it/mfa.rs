//! The second factor: an authenticator that computes as the RFC says, and backup codes.

use crate::common::client::{Owner, PASSWORD, code};
use crate::common::{Client, Server, connect};
use serde_json::{Value, json};
use totp_rs::{Secret, Totp};
use ztna_proto::api::{Me, Role, Session};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::people::{BackupCodes, TotpSetup};

pub const EMAIL: &str = "alice@example.com";

/// The person's authenticator.
pub struct Phone(Totp);

impl Phone {
    fn scan(setup: &TotpSetup) -> Self {
        let scanned = Totp::from_url(&setup.url).unwrap();
        assert_eq!(scanned.secret().to_base32(), setup.secret);
        assert_eq!((scanned.digits(), scanned.step()), (6, 30));
        assert_eq!(scanned.issuer(), Some("ztna"));
        assert_eq!(scanned.account_name(), EMAIL);
        Self(scanned)
    }

    /// The code of the time step that is `steps` away from now.
    pub fn code(&self, steps: i64) -> String {
        let now = jiff::Timestamp::now().as_second() + 30 * steps;
        self.0.generate(now.unsigned_abs()).to_string()
    }
}

async fn login(client: &Client, totp_code: Option<&str>) -> Result<Session, ErrorBody> {
    let body = json!({"email": EMAIL, "password": PASSWORD, "totp_code": totp_code});
    client.post("/api/auth/login", body).await
}

/// The authenticator, the code that switched it on, and the backup codes.
pub async fn set_up(client: &Client) -> (Phone, String, Vec<String>) {
    let body = json!({"password": PASSWORD});
    let setup: TotpSetup = client.post("/api/auth/mfa/setup", body).await.unwrap();
    let phone = Phone::scan(&setup);
    let used = phone.code(0);
    let body = json!({"code": used});
    let codes: BackupCodes = client.post("/api/auth/mfa/verify", body).await.unwrap();
    (phone, used, codes.backup_codes)
}

#[tokio::test]
async fn sign_in_asks_for_a_code_and_takes_each_once() {
    let server = Server::start_with(|config| config.limits.credentials.count = 100).await;
    let client = Client::new_user(&server, EMAIL).await;
    let anonymous = Client::anonymous(&server);

    // Begun and not finished: sign-in goes on without.
    let body = json!({"password": "wrong password"});
    let refused = client.post::<TotpSetup>("/api/auth/mfa/setup", body).await;
    assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    let early = json!({"code": "000000"});
    let refused = client
        .post::<BackupCodes>("/api/auth/mfa/verify", &early)
        .await;
    assert_eq!(code(refused), ErrorCode::Conflict);
    let body = json!({"password": PASSWORD});
    let first: TotpSetup = client.post("/api/auth/mfa/setup", body).await.unwrap();
    let stale = Phone::scan(&first).code(0);
    login(&anonymous, None).await.unwrap();

    let (phone, first_code, backup) = set_up(&client).await;
    let me: Me = client.get("/api/auth/me").await.unwrap();
    assert!(me.mfa);
    assert_eq!(backup.len(), 10);
    assert_eq!(code(login(&anonymous, None).await), ErrorCode::MfaRequired);
    let wrong = json!({"email": EMAIL, "password": "wrong password"});
    let refused = anonymous.post::<Session>("/api/auth/login", wrong).await;
    assert_eq!(
        code(refused),
        ErrorCode::InvalidCredentials,
        "only the right password learns of the second factor"
    );
    // The secret of before, and the code that switched it on.
    for used in [stale, first_code] {
        let refused = login(&anonymous, Some(&used)).await;
        assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    }
    // A clock that is half a minute ahead is taken too.
    let next = phone.code(1);
    login(&anonymous, Some(&next)).await.unwrap();
    assert_eq!(
        code(login(&anonymous, Some(&next)).await),
        ErrorCode::InvalidCredentials
    );

    // Backup codes: each once, however it is written.
    login(&anonymous, Some(&backup[0])).await.unwrap();
    assert_eq!(
        code(login(&anonymous, Some(&backup[0])).await),
        ErrorCode::InvalidCredentials
    );
    let typed = backup[1].replace('-', "").to_uppercase();
    login(&anonymous, Some(&typed)).await.unwrap();

    let again = client
        .post::<TotpSetup>("/api/auth/mfa/setup", json!({"password": PASSWORD}))
        .await;
    assert_eq!(code(again), ErrorCode::Conflict);
    let disable = async |password: &str, code: &str| {
        let body = json!({"password": password, "code": code});
        client.post::<Value>("/api/auth/mfa/disable", body).await
    };
    let refused = disable(PASSWORD, &backup[0]).await;
    assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    let refused = disable("wrong password", &backup[2]).await;
    assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    disable(PASSWORD, &backup[2]).await.unwrap();
    login(&anonymous, None).await.unwrap();
}

#[tokio::test]
async fn guessing_codes_locks_the_account() {
    let server = Server::start_with(|config| config.limits.account.count = 4).await;
    let client = Client::new_user(&server, EMAIL).await;
    let anonymous = Client::anonymous(&server);
    let (phone, ..) = set_up(&client).await;
    for guess in ["000000", "1", "aaaaa-aaaaa", "999999"] {
        let refused = login(&anonymous, Some(guess)).await;
        assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    }
    let right = login(&anonymous, Some(&phone.code(1))).await;
    assert_eq!(code(right), ErrorCode::AccountLocked);
}

#[tokio::test]
async fn of_many_sign_ins_with_one_code_one_succeeds() {
    let server = Server::start_with(|config| config.limits.account.count = 100).await;
    let client = Client::new_user(&server, EMAIL).await;
    let anonymous = Client::anonymous(&server);
    let (phone, _, backup) = set_up(&client).await;
    for one in [phone.code(1), backup[0].clone()] {
        let tries = (0..6).map(|_| login(&anonymous, Some(&one)));
        let results = futures_util::future::join_all(tries).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    }
}

#[tokio::test]
async fn the_database_holds_neither_secret_nor_codes() {
    let server = Server::start().await;
    let client = Client::new_user(&server, EMAIL).await;
    let (phone, _, backup) = set_up(&client).await;
    let admin = connect(&server.database.setup).await;
    let row = admin
        .query_one("SELECT secret FROM totp_secrets", &[])
        .await
        .unwrap();
    let sealed: Vec<u8> = row.get(0);
    let secret: &Secret = phone.0.secret();
    assert!(!sealed.windows(20).any(|window| window == secret.as_bytes()));
    let rows = admin
        .query("SELECT hash FROM backup_codes", &[])
        .await
        .unwrap();
    assert_eq!(rows.len(), 10);
    for code in &backup {
        let plain = <sha2::Sha256 as sha2::Digest>::digest(code.replace('-', ""));
        assert!(rows.iter().all(|row| row.get::<_, &[u8]>(0) != &plain[..]));
    }
}

#[tokio::test]
async fn an_owner_takes_a_lost_second_factor_off() {
    let server = Server::start_with(|config| config.limits.credentials.count = 100).await;
    let owner = Owner::new(&server, "acme").await;
    let alice = owner.add(&server, "alice", Role::Admin).await;
    let me: Me = alice.get("/api/auth/me").await.unwrap();
    let path = owner.path(&format!("/members/{}/second-factor", me.id));
    let refused = owner.client.delete(&path).await;
    assert_eq!(code(refused), ErrorCode::NotFound, "there is none yet");
    set_up(&alice).await;
    let anonymous = Client::anonymous(&server);
    let lost = login(&anonymous, None).await;
    assert_eq!(code(lost), ErrorCode::MfaRequired);

    // Nobody else does: no admin, not the person, no foreign owner.
    let bob = owner.add(&server, "bob", Role::Admin).await;
    assert_eq!(code(bob.delete(&path).await), ErrorCode::Forbidden);
    assert_eq!(code(alice.delete(&path).await), ErrorCode::Forbidden);
    let rival = Owner::new(&server, "rival").await;
    let foreign = rival.path(&format!("/members/{}/second-factor", me.id));
    assert_eq!(
        code(rival.client.delete(&foreign).await),
        ErrorCode::NotFound
    );
    let own: Me = owner.client.get("/api/auth/me").await.unwrap();
    let own = owner.path(&format!("/members/{}/second-factor", own.id));
    assert_eq!(code(owner.client.delete(&own).await), ErrorCode::Forbidden);

    // Nor an owner who has only lured somebody in: the account is in another org too.
    let token = rival
        .invite(&rival.client, EMAIL, Role::Member)
        .await
        .unwrap();
    alice
        .post::<Value>("/api/accept-invitation", json!({ "token": token }))
        .await
        .unwrap();
    for (org, path) in [(&rival, &foreign), (&owner, &path)] {
        assert_eq!(code(org.client.delete(path).await), ErrorCode::Forbidden);
    }
    // Unless the address is of a domain that is the org's.
    let admin = connect(&server.database.setup).await;
    admin
        .execute(
            "INSERT INTO sso_domains (org_id, domain, proof, proved_at) VALUES ($1, 'example.com', $2, now())",
            &[&owner.org.id.0, &"a proof of the tests"],
        )
        .await
        .unwrap();
    assert_eq!(
        code(rival.client.delete(&foreign).await),
        ErrorCode::Forbidden
    );
    owner.client.delete(&path).await.unwrap();
    login(&anonymous, None).await.unwrap();
    // Sessions of before are over, and the log says who did it.
    let row = admin
        .query_one(
            "SELECT count(*) FILTER (WHERE action = 'mfa.delete'), count(*) FILTER (WHERE action = 'session.end') > 0,
                    bool_and(actor_name = 'acme@example.com')
             FROM audit_log WHERE org_id = $1 AND action IN ('mfa.delete', 'session.end')",
            &[&owner.org.id.0],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    assert!(row.get::<_, bool>(1) && row.get::<_, bool>(2));
}
