//! Certificates by ACME from Pebble, Let's Encrypt's server for tests (Debian: `pebble`).
//!
//! Where it is not installed, these tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use ztna_tls::ServerIdentity;

use crate::relay::{Relay, free_port, until};

/// The authority, with its DNS: every name leads to this machine.
struct Pebble {
    dir: TempDir,
    directory: String,
    pin: String,
    children: Vec<Child>,
}

fn installed() -> bool {
    let missing = ["pebble", "pebble-challtestsrv"]
        .iter()
        .find(|program| !Path::new("/usr/bin").join(program).exists());
    if let Some(program) = missing {
        eprintln!("skipped: {program} is not installed (apt install pebble)");
    }
    missing.is_none()
}

impl Pebble {
    /// Checks names at these ports.
    async fn start(tls_port: u16, http_port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = ["127.0.0.1".to_owned()];
        let identity = ServerIdentity::load_or_create(dir.path(), &names).unwrap();
        let own = dir.path().join("tls.pem");
        let (acme, management, dns) = (free_port(), free_port(), free_port());
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{acme}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": own, "privateKey": own,
            "httpPort": http_port, "tlsPort": tls_port,
        }});
        let file = dir.path().join("pebble.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let spawn = |command: &mut Command| {
            let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
            quiet.kill_on_drop(true).spawn().unwrap()
        };
        let names = spawn(
            Command::new("pebble-challtestsrv")
                .args([
                    "-http01",
                    "",
                    "-https01",
                    "",
                    "-tlsalpn01",
                    "",
                    "-defaultIPv6",
                    "",
                ])
                .args(["-dns01", &format!("127.0.0.1:{dns}")])
                .args(["-management", &format!("127.0.0.1:{}", free_port())]),
        );
        let authority = spawn(
            Command::new("pebble")
                .arg("-config")
                .arg(&file)
                .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
                // No pause before each check; some nonces are refused nevertheless.
                .env("PEBBLE_VA_NOSLEEP", "1"),
        );
        until(async || TcpStream::connect(("127.0.0.1", acme)).await.ok()).await;
        Self {
            dir,
            directory: format!("https://127.0.0.1:{acme}/dir"),
            pin: identity.pin(),
            children: vec![names, authority],
        }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The certificate that the relay got, once it is there.
    async fn issued(&self) -> ServerIdentity {
        until(async || {
            let files = std::fs::read_dir(self.cache()).ok()?;
            let paths = files.map(|file| file.unwrap().path());
            let mut kept = paths.filter(|path| path.extension().is_some_and(|end| end == "pem"));
            let path = kept.next()?;
            ServerIdentity::from_pem_files(&path, &path).ok()
        })
        .await
    }
}

/// A relay that gets its certificate there; `more` flags beside.
async fn relay(pebble: &Pebble, port: u16, more: &[&str]) -> Relay {
    let cache = pebble.cache();
    let flags = [
        "--open",
        "--acme-domain",
        "relay.example",
        "--acme-email",
        "ops@relay.example",
        "--acme-directory",
        &pebble.directory,
        "--acme-pin",
        &pebble.pin,
        "--acme-cache",
        cache.to_str().unwrap(),
    ];
    Relay::start_on(&format!("127.0.0.1:{port}"), &[&flags[..], more].concat()).await
}

async fn shows(relay: &Relay, identity: &ServerIdentity) {
    let pin = identity.certificate_pin();
    until(async || relay.get_with("/derp/probe", &pin, "").await.ok()).await;
}

#[tokio::test]
async fn a_certificate_comes_by_tls_alpn_and_is_kept() {
    if !installed() {
        return;
    }
    let port = free_port();
    let mut pebble = Pebble::start(port, free_port()).await;
    let first = relay(&pebble, port, &[]).await;
    let identity = pebble.issued().await;
    shows(&first, &identity).await;
    let (from, to) = identity.validity().unwrap();
    assert!(
        to - from
            > Duration::from_secs(24 * 60 * 60)
                .as_secs()
                .try_into()
                .unwrap()
    );
    for file in std::fs::read_dir(pebble.cache()).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read it");
    }
    drop(first);

    // The next start shows the same one, and asks nobody: there is nobody.
    pebble.children.clear();
    let second = relay(&pebble, free_port(), &[]).await;
    shows(&second, &identity).await;
}

#[tokio::test]
async fn a_certificate_comes_by_http() {
    if !installed() {
        return;
    }
    // Nobody listens where TLS-ALPN-01 would be checked.
    let http_port = free_port();
    let pebble = Pebble::start(free_port(), http_port).await;
    let http = format!("127.0.0.1:{http_port}");
    let relay = relay(&pebble, free_port(), &["--http-listen", &http]).await;
    let identity = pebble.issued().await;
    shows(&relay, &identity).await;
}
