//! What happens by mail: addresses confirmed, passwords replaced. Letters are read where they are
//! written, in a folder or in the mailbox of a real SMTP server.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::client::{PASSWORD, code};
use crate::common::{Client, Server};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use ztna_api::MailConfig;
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::people::{RESET_PASSWORD_PATH, VERIFY_EMAIL_PATH};

const EMAIL: &str = "alice@example.com";
const NEW_PASSWORD: &str = "another good password";
const BASE: &str = "https://ztna.example.com";
/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// A control plane that writes letters into a folder, and what was read there.
pub struct Post {
    folder: tempfile::TempDir,
    read: Vec<PathBuf>,
}

impl Post {
    async fn start() -> (Server, Self) {
        Self::start_with(|_| {}).await
    }

    async fn start_with(adjust: impl FnOnce(&mut ztna_api::Config)) -> (Server, Self) {
        let (post, mail) = Self::new();
        let server = Server::start_with(|config| {
            config.mail = Some(mail);
            adjust(config);
        })
        .await;
        (server, post)
    }

    /// Letters of a control plane that is started by somebody else, with this.
    pub fn new() -> (Self, MailConfig) {
        let folder = tempfile::tempdir().unwrap();
        let config = mail_config(format!("file://{}", folder.path().display()));
        let read = Vec::new();
        (Self { folder, read }, config)
    }

    /// The next letter that was not read yet.
    pub async fn letter(&mut self) -> String {
        let begin = Instant::now();
        loop {
            for path in letters_in(self.folder.path()) {
                if !self.read.contains(&path) {
                    let text = read_letter(&path);
                    self.read.push(path);
                    return text;
                }
            }
            assert!(begin.elapsed() < LIMIT, "no letter comes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn unread(&self) -> usize {
        letters_in(self.folder.path()).len() - self.read.len()
    }
}

fn mail_config(url: String) -> MailConfig {
    MailConfig {
        url,
        from: "ztna <noreply@example.com>".to_owned(),
        public_url: format!("{BASE}/"),
    }
}

/// Whole letters, in the order in which they were sent.
fn letters_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut letters: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'))
        .collect();
    letters.sort();
    letters
}

/// A letter as a person sees it: without quoted-printable's line ends and equals signs (RFC 2045 §6.7).
fn read_letter(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    text.replace("=\n", "").replace("=3D", "=")
}

/// The token of a letter's link to a page.
pub fn token(letter: &str, path: &str) -> String {
    let (_, rest) = letter.split_once(&format!("{BASE}{path}?token=")).unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

async fn sign_up(client: &Client, password: &str) -> Value {
    let body = json!({"email": EMAIL, "password": password});
    client.post("/api/auth/signup", body).await.unwrap()
}

async fn confirm(client: &Client, token: &str) -> Result<Value, ErrorBody> {
    confirm_with(client, token, PASSWORD).await
}

async fn confirm_with(client: &Client, token: &str, password: &str) -> Result<Value, ErrorBody> {
    let body = json!({"token": token, "password": password});
    client.post("/api/auth/verify-email", body).await
}

async fn reset(client: &Client, token: &str, password: &str) -> Result<Value, ErrorBody> {
    let body = json!({"token": token, "password": password});
    client.post("/api/auth/reset-password/confirm", body).await
}

#[tokio::test]
async fn an_account_waits_for_its_address_to_be_confirmed() {
    let (server, mut post) = Post::start().await;
    let client = Client::anonymous(&server);
    sign_up(&client, PASSWORD).await;
    let letter = post.letter().await;
    assert!(letter.contains("To: alice@example.com"), "{letter}");
    let token = token(&letter, VERIFY_EMAIL_PATH);

    // Only who knows the password learns that the account waits, and gets the mail once more.
    assert_eq!(
        code(client.login(EMAIL, "wrong password").await),
        ErrorCode::InvalidCredentials
    );
    assert_eq!(post.unread(), 0);
    assert_eq!(
        code(client.login(EMAIL, PASSWORD).await),
        ErrorCode::EmailUnconfirmed
    );
    let again = self::token(&post.letter().await, VERIFY_EMAIL_PATH);
    // The newer takes the older's place.
    assert_eq!(code(confirm(&client, &token).await), ErrorCode::InvalidKey);
    assert_eq!(
        code(reset(&client, &again, NEW_PASSWORD).await),
        ErrorCode::InvalidKey,
        "a token does only what it was sent for"
    );
    confirm(&client, &again).await.unwrap();
    client.login(EMAIL, PASSWORD).await.unwrap();
    assert_eq!(code(confirm(&client, &again).await), ErrorCode::InvalidKey);
}

#[tokio::test]
async fn who_signs_up_again_is_told_by_mail_alone() {
    let (server, mut post) = Post::start().await;
    let client = Client::anonymous(&server);
    let first = sign_up(&client, "the password of a stranger").await;
    let stale = token(&post.letter().await, VERIFY_EMAIL_PATH);
    // Nobody has confirmed it: whoever has the address decides, with the latest password.
    let second = sign_up(&client, PASSWORD).await;
    let token = token(&post.letter().await, VERIFY_EMAIL_PATH);
    assert_eq!(code(confirm(&client, &stale).await), ErrorCode::InvalidKey);
    // The link alone is not enough: its reader might confirm what a stranger began.
    let stranger = confirm_with(&client, &token, "the password of a stranger").await;
    assert_eq!(code(stranger), ErrorCode::InvalidCredentials);
    confirm(&client, &token).await.unwrap();
    client.login(EMAIL, PASSWORD).await.unwrap();

    let third = sign_up(&client, "the password of a stranger").await;
    assert_eq!((&first, &second), (&second, &third));
    let letter = post.letter().await;
    assert!(letter.contains("You have an account already"), "{letter}");
    assert!(!letter.contains("token="), "{letter}");
    client.login(EMAIL, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_and_every_session_ends() {
    let (server, mut post) = Post::start_with(|config| config.limits.account.count = 2).await;
    let client = Client::anonymous(&server);
    sign_up(&client, PASSWORD).await;
    let confirmation = token(&post.letter().await, VERIFY_EMAIL_PATH);
    confirm(&client, &confirmation).await.unwrap();
    let session = client.login(EMAIL, PASSWORD).await.unwrap();
    for _ in 0..2 {
        let _ = client.login(EMAIL, "forgotten password").await;
    }
    assert_eq!(
        code(client.login(EMAIL, PASSWORD).await),
        ErrorCode::AccountLocked
    );

    let ask = async |email: &str| {
        let body = json!({"email": email});
        client.post::<Value>("/api/auth/reset-password", body).await
    };
    let unknown = ask("nobody@example.com").await.unwrap();
    assert_eq!(ask(EMAIL).await.unwrap(), unknown);
    let token = token(&post.letter().await, RESET_PASSWORD_PATH);
    assert_eq!(post.unread(), 0, "nobody has an account");

    let short = reset(&client, &token, "short").await;
    assert_eq!(code(short), ErrorCode::ValidationError);
    assert_eq!(code(confirm(&client, &token).await), ErrorCode::InvalidKey);
    reset(&client, &token, NEW_PASSWORD).await.unwrap();
    let used = reset(&client, &token, PASSWORD).await;
    assert_eq!(code(used), ErrorCode::InvalidKey);
    let body = json!({"refresh_token": session.refresh_token});
    let ended = client.post::<Value>("/api/auth/refresh", body).await;
    assert_eq!(code(ended), ErrorCode::Unauthorized);
    // The lock is gone too: the owner has shown to be one.
    client.login(EMAIL, NEW_PASSWORD).await.unwrap();
    assert_eq!(
        code(client.login(EMAIL, PASSWORD).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn an_address_is_not_flooded_with_letters() {
    let (server, mut post) = Post::start_with(|config| config.limits.letters.count = 2).await;
    let client = Client::anonymous(&server);
    for _ in 0..4 {
        sign_up(&client, PASSWORD).await;
    }
    let body = json!({"email": "other@example.com", "password": PASSWORD});
    let _: Value = client.post("/api/auth/signup", body).await.unwrap();
    // Letters go out in order, so the other's comes after all that there are.
    post.letter().await;
    post.letter().await;
    assert!(post.letter().await.contains("To: other@example.com"));
    assert_eq!(post.unread(), 0);
}

#[tokio::test]
async fn links_lead_to_pages_that_ask_before_they_act() {
    let (server, mut post) = Post::start().await;
    let client = Client::anonymous(&server);
    let origin = format!("http://{}", server.address);
    let page = async |method: Method, path: &str, form: &str| {
        let request = client
            .request(method, path)
            .header("origin", &origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned());
        let response = request.send().await.unwrap();
        let headers = response.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        (response.status(), response.text().await.unwrap())
    };
    sign_up(&client, PASSWORD).await;
    let link = token(&post.letter().await, VERIFY_EMAIL_PATH);
    let address = format!("{VERIFY_EMAIL_PATH}?token={link}");
    let (status, text) = page(Method::GET, &address, "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("Is this your address?"), "{text}");
    assert_eq!(
        code(client.login(EMAIL, PASSWORD).await),
        ErrorCode::EmailUnconfirmed,
        "opening the link alone does nothing"
    );
    let link = token(&post.letter().await, VERIFY_EMAIL_PATH);
    let wrong = format!("token={link}&password=wrong");
    let (status, text) = page(Method::POST, VERIFY_EMAIL_PATH, &wrong).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        text.contains(&link) && text.contains("role=\"alert\""),
        "{text}"
    );
    let verification = format!("token={link}&password={}", PASSWORD.replace(' ', "+"));
    let (status, text) = page(Method::POST, VERIFY_EMAIL_PATH, &verification).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains("is confirmed"), "{text}");
    client.login(EMAIL, PASSWORD).await.unwrap();
    let (status, text) = page(Method::POST, VERIFY_EMAIL_PATH, &verification).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(text.contains("role=\"alert\""), "{text}");
    let (status, _) = page(Method::GET, "/verify-email?token=%3Cscript%3E", "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let (status, text) = page(Method::GET, RESET_PASSWORD_PATH, "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("Send the link"), "{text}");
    let (_, text) = page(
        Method::POST,
        RESET_PASSWORD_PATH,
        "email=alice%40example.com",
    )
    .await;
    assert!(text.contains("Look into your mail"), "{text}");
    let link = token(&post.letter().await, RESET_PASSWORD_PATH);
    let (_, text) = page(
        Method::GET,
        &format!("{RESET_PASSWORD_PATH}?token={link}"),
        "",
    )
    .await;
    assert!(text.contains(&link), "{text}");
    let form = |password: &str| format!("token={link}&password={password}");
    let (status, text) = page(Method::POST, RESET_PASSWORD_PATH, &form("short")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        text.contains(&link) && text.contains("role=\"alert\""),
        "{text}"
    );
    let good = form(&NEW_PASSWORD.replace(' ', "+"));
    let (status, text) = page(Method::POST, RESET_PASSWORD_PATH, &good).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    client.login(EMAIL, NEW_PASSWORD).await.unwrap();
}

#[tokio::test]
async fn without_mail_there_is_no_reset_and_nothing_to_confirm() {
    let server = Server::start().await;
    let client = Client::anonymous(&server);
    sign_up(&client, PASSWORD).await;
    client.login(EMAIL, PASSWORD).await.unwrap();
    let asked = client
        .post::<Value>("/api/auth/reset-password", json!({"email": EMAIL}))
        .await;
    assert_eq!(code(asked), ErrorCode::Unavailable);
}

/// An SMTP server that is not ours, and its mailbox.
struct Smtp {
    server: Child,
    mailbox: tempfile::TempDir,
}

impl Smtp {
    fn start(address: SocketAddr) -> Self {
        let mailbox = tempfile::tempdir().unwrap();
        let folder = mailbox.path().join("mail");
        let server = Command::new("/usr/bin/python3")
            .args(["-m", "aiosmtpd", "-n", "-l", &address.to_string()])
            .args(["-c", "aiosmtpd.handlers.Mailbox"])
            .arg(&folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(
                begin.elapsed() < LIMIT,
                "python3-aiosmtpd does not start; `./dev test` installs it"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { server, mailbox }
    }

    async fn letter(&self) -> String {
        let folder = self.mailbox.path().join("mail/new");
        let begin = Instant::now();
        loop {
            if folder.exists()
                && let [letter] = letters_in(&folder).as_slice()
            {
                return read_letter(letter);
            }
            assert!(begin.elapsed() < LIMIT, "no letter comes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

#[tokio::test]
async fn a_mail_server_gets_the_letter_also_if_it_was_away_for_a_moment() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let server =
        Server::start_with(|config| config.mail = Some(mail_config(format!("smtp://{address}"))))
            .await;
    let client = Client::anonymous(&server);
    // Nobody listens there yet; the answer does not wait for it.
    sign_up(&client, PASSWORD).await;
    let smtp = Smtp::start(address);
    let letter = smtp.letter().await;
    assert!(
        letter.contains("From: ztna <noreply@example.com>"),
        "{letter}"
    );
    assert!(letter.contains("To: alice@example.com"), "{letter}");
    assert!(letter.contains("Message-ID: <"), "{letter}");
    confirm(&client, &token(&letter, VERIFY_EMAIL_PATH))
        .await
        .unwrap();
    client.login(EMAIL, PASSWORD).await.unwrap();
    server.stop().await;
}
