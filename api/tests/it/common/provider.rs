//! Providers that are not ours: see `api/tests/provider/server.mjs`. And a DNS server for the records that
//! prove domains.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ztna_api::{Config, IssuerRules};
use ztna_proto::api::{CLI_LOGIN_PATH, Session};
use ztna_proto::sso::SsoDomain;

use super::browser::{Browser, Shown, between};
use super::client::Owner;
use super::{Client, Server};

/// Longer than a start ever takes.
const PATIENCE: Duration = Duration::from_secs(60);
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// What we are called at every provider.
pub const CLIENT: &str = "ztna";
/// With characters that have to be encoded (RFC 6749 §2.3.1).
pub const SECRET: &str = "s e:cret+100%&of=the tests, which is long";

/// A running provider.
pub struct Provider {
    pub issuer: String,
    process: Child,
    /// Kept open: it writes more than its first line.
    _output: BufReader<ChildStdout>,
}

impl Provider {
    pub fn start(clients: &Value, accounts: &Value) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/provider");
        let config = json!({"clients": clients, "accounts": accounts});
        let mut process = Command::new("node")
            .args(["server.mjs", &config.to_string()])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Node.js is not here; `./dev test` installs it");
        let mut issuer = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut issuer).unwrap();
        let issuer = issuer.trim().to_owned();
        assert!(
            issuer.starts_with("http"),
            "the provider does not start; `./dev test` installs it in {folder}"
        );
        Self {
            issuer,
            process,
            _output: output,
        }
    }

    /// With one client of ours that comes back to `redirect_uri`.
    pub fn for_us(redirect_uri: &str, accounts: &Value) -> Self {
        let client = json!({"id": CLIENT, "secret": SECRET, "redirect_uris": [redirect_uri]});
        Self::start(&json!([client]), accounts)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A DNS server that knows some TXT records, and that all others do not exist.
pub struct Dns {
    pub address: SocketAddr,
    process: Option<Child>,
}

impl Dns {
    pub fn start() -> Self {
        Self {
            address: unused_address(),
            process: None,
        }
    }

    /// Answers with these records from now on.
    pub fn hold(&mut self, domains: &[&SsoDomain]) {
        self.stop();
        let mut command = Command::new("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
            ])
            .args([
                "--bind-interfaces",
                "--listen-address=127.0.0.1",
                "--user=",
                "--pid-file",
            ])
            .arg(format!("--port={}", self.address.port()))
            .arg("--local=/example/")
            .stderr(Stdio::null());
        for domain in domains {
            let (name, value) = (&domain.record_name, &domain.record_value);
            command.arg(format!("--txt-record={name},{value}"));
        }
        let process = command.spawn();
        self.process = Some(process.expect("dnsmasq is not here; `./dev test` installs it"));
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "the DNS server does not start");
            assert!(begin.elapsed() < PATIENCE, "the DNS server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An address that nobody has, on UDP and TCP, and that the system gives to nobody who asks for any port
/// (`net.ipv4.ip_local_port_range` begins at 32,768): it is still free when a program listens there later.
fn unused_address() -> SocketAddr {
    loop {
        let port = rand::random_range(10_000..32_768);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Providers of orgs may be here.
pub fn anywhere(config: &mut Config) {
    config.sign_in.issuers = IssuerRules {
        allow_private: true,
        allow_http: true,
    };
    config.limits.credentials.count = 10_000;
    config.limits.sign_in.count = 10_000;
}

/// Where the provider of an org sends browsers back to.
pub fn callback_of(server: &Server, provider: &str) -> String {
    format!("http://{}/sign-in/{provider}/callback", server.address)
}

/// Settings of an org that signs in at the provider.
pub fn settings(provider: &Provider) -> Value {
    json!({"issuer": provider.issuer, "client_id": CLIENT, "client_secret": SECRET})
}

/// A control plane, an org in it, and its provider.
pub async fn org_with_provider(
    accounts: &Value,
    adjust: impl FnOnce(&mut Config),
) -> (Server, Owner, Provider) {
    let server = Server::start_with(|config| {
        anywhere(config);
        adjust(config);
    })
    .await;
    let owner = Owner::new(&server, "acme").await;
    let callback = callback_of(&server, &owner.org.id.to_string());
    let provider = Provider::for_us(&callback, accounts);
    (server, owner, provider)
}

/// Adds a domain to the org and proves it.
pub async fn prove(dns: &mut Dns, owner: &Owner, domain: &str) -> SsoDomain {
    let path = owner.path("/sso/domains");
    let body = json!({ "domain": domain });
    let added: SsoDomain = owner.client.post(&path, body).await.unwrap();
    dns.hold(&[&added]);
    let path = format!("{path}/{domain}/prove");
    owner.client.post(&path, json!({})).await.unwrap()
}

/// The address that `ztna login` opens.
pub fn login_page(server: &Server) -> String {
    let challenge = BASE64URL.encode(Sha256::digest(VERIFIER));
    format!(
        "http://{}{CLI_LOGIN_PATH}?port=9&state=s-1&challenge={challenge}",
        server.address
    )
}

/// Up to the provider's own form.
pub async fn to_org(browser: &mut Browser, server: &Server, org: &str) -> Shown {
    let page = browser.open(&login_page(server)).await;
    let link = between(&page.text, "Continue with", "</a>").map(|_| ());
    assert!(link.is_some(), "{}", page.text);
    let link = link_to(&page, "/sign-in/sso");
    let ask = browser.follow(&page, &link).await;
    assert_eq!(ask.status, 200);
    browser.submit(&ask, &[("org", org)]).await
}

/// The address of the page's link that starts so.
pub fn link_to(page: &Shown, start: &str) -> String {
    let rest = between(&page.text, &format!("href=\"{start}"), "\"").expect(start);
    format!("{start}{rest}")
}

/// Signs in at the provider, and agrees.
pub async fn at_provider(browser: &mut Browser, page: &Shown, login: &str) -> Shown {
    assert!(page.text.contains("name=\"login\""), "{}", page.text);
    let fields = [("login", login), ("password", "any")];
    let consent = browser.submit(page, &fields).await;
    if consent.text.contains("value=\"consent\"") {
        return browser.submit(&consent, &[]).await;
    }
    consent
}

/// All of it: the page after the provider.
pub async fn sign_in(browser: &mut Browser, server: &Server, org: &str, login: &str) -> Shown {
    let page = to_org(browser, server, org).await;
    at_provider(browser, &page, login).await
}

/// Connects the computer, and turns the CLI's code into a session.
pub async fn connect(browser: &mut Browser, server: &Server, page: &Shown) -> Session {
    assert!(
        page.text.contains("Connect this computer"),
        "{} {}",
        page.url,
        page.text
    );
    let back = browser.submit(page, &[("step", "connect")]).await;
    assert_eq!((back.url.port(), back.url.path()), (Some(9), "/callback"));
    let code = back.url.query_pairs().find(|(name, _)| name == "code");
    let code = code.unwrap().1.into_owned();
    let exchange = json!({"action": "cli_exchange", "code": code, "verifier": VERIFIER});
    let client = Client::anonymous(server);
    client.post("/api/auth", exchange).await.unwrap()
}
