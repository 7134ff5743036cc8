//! Releases of the agent: which one a machine is to have, and its file, checked as an installer checks it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ztna_api::{OwnCertificate, Releases};
use ztna_proto::api::{AUTH_KEY_PLACE, Health, JoinInfo};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::MachineId;
use ztna_proto::keys::hex;
use ztna_proto::releases::{ClientVersion, release_statement};

use crate::common::client::code;
use crate::common::{Client, Server};

/// Pause between two looks at the server's health.
const PAUSE: Duration = Duration::from_millis(50);
/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Larger than what is read at once.
const SIZE: usize = 200_000;

fn openssl(folder: &Path, args: &[&str]) -> std::process::Output {
    let mut command = Command::new("openssl");
    command.args(args).current_dir(folder);
    command
        .output()
        .expect("openssl is not here; `./dev test` installs it")
}

/// A release of one file, signed as the operator signs it.
fn publish(folder: &Path, version: &str) -> Value {
    fs::create_dir_all(folder.join(version)).unwrap();
    let mut content = vec![42; SIZE];
    content.extend(version.as_bytes());
    fs::write(folder.join(version).join("ztna"), &content).unwrap();
    let sha256 = hex(&Sha256::digest(&content));
    let statement = release_statement(version, "linux-x86_64", &sha256);
    fs::write(folder.join("statement"), statement).unwrap();
    if !folder.join("key.pem").exists() {
        let made = [
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            "key.pem",
        ];
        assert!(openssl(folder, &made).status.success());
        assert!(
            openssl(
                folder,
                &["ec", "-in", "key.pem", "-pubout", "-out", "pub.pem"]
            )
            .status
            .success()
        );
    }
    let signed = [
        "dgst",
        "-sha256",
        "-sign",
        "key.pem",
        "-out",
        "signature",
        "statement",
    ];
    assert!(openssl(folder, &signed).status.success());
    let text = openssl(folder, &["base64", "-A", "-in", "signature"]).stdout;
    let signature = String::from_utf8(text).unwrap();
    json!({"target": "linux-x86_64", "name": "ztna", "size": content.len(), "sha256": sha256, "signature": signature})
}

fn manifest(folder: &Path, releases: Value) {
    let text = json!({ "releases": releases }).to_string();
    // As operators should: whole or not at all.
    fs::write(folder.join("manifest.new"), text).unwrap();
    fs::rename(folder.join("manifest.new"), folder.join("manifest.json")).unwrap();
}

async fn serve(folder: &Path) -> Server {
    let releases = Releases::open(folder, None).unwrap();
    Server::start_with(|config| config.releases = Some(releases)).await
}

/// Waits until `/health` says what is wanted.
async fn health(client: &Client, wanted: impl Fn(&str) -> bool) {
    let search = async {
        loop {
            let answer = client.request(Method::GET, "/health").send().await.unwrap();
            let health: Health = answer.json().await.unwrap();
            if wanted(&health.status) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LIMIT, search)
        .await
        .expect("the health is never as wanted");
}

async fn wanted(
    client: &Client,
    query: &str,
) -> Result<ClientVersion, ztna_proto::error::ErrorBody> {
    client.get(&format!("/api/client-version?{query}")).await
}

#[tokio::test]
async fn a_machine_gets_a_release_that_openssl_can_check() {
    let folder = tempfile::tempdir().unwrap();
    let old = publish(folder.path(), "0.1.0");
    let new = publish(folder.path(), "0.2.0");
    let releases = json!([
        {"version": "0.2.0", "rollout": 0, "files": [new]},
        {"version": "0.1.0", "files": [old]},
    ]);
    manifest(folder.path(), releases);
    let server = serve(folder.path()).await;
    let client = Client::anonymous(&server);
    let release = wanted(&client, "target=linux-x86_64").await.unwrap();
    assert_eq!(release.version, "0.1.0");
    let response = client
        .request(Method::GET, &release.path)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(
        response.headers()["content-length"],
        release.size.to_string().as_str()
    );
    assert_eq!(
        response.headers()["content-type"],
        "application/octet-stream"
    );
    // The path does not name the file's digest: who keeps a copy has to ask.
    assert_eq!(response.headers()["cache-control"], "public, no-cache");
    let tag = response.headers()["etag"].clone();
    assert_eq!(tag, format!("\"{}\"", release.sha256).as_str());
    for (tag, status) in [(tag.to_str().unwrap(), 304), ("\"another\"", 200)] {
        let again = client
            .request(Method::GET, &release.path)
            .header("if-none-match", tag);
        assert_eq!(again.send().await.unwrap().status().as_u16(), status);
    }
    let bytes = response.bytes().await.unwrap();
    assert_eq!(bytes.len() as u64, release.size);
    assert_eq!(hex(&Sha256::digest(&bytes)), release.sha256);

    // What an installer does in a shell.
    let verify = |version: &str| {
        let statement = release_statement(version, &release.target, &release.sha256);
        fs::write(folder.path().join("statement"), statement).unwrap();
        fs::write(folder.path().join("signature.b64"), &release.signature).unwrap();
        let decoded = [
            "base64",
            "-d",
            "-A",
            "-in",
            "signature.b64",
            "-out",
            "signature",
        ];
        assert!(openssl(folder.path(), &decoded).status.success());
        let verified = [
            "dgst",
            "-sha256",
            "-verify",
            "pub.pem",
            "-signature",
            "signature",
            "statement",
        ];
        openssl(folder.path(), &verified).status.success()
    };
    assert!(verify("0.1.0"));
    assert!(!verify("0.2.0"), "an old file is none of a new version");

    // The newer one comes to who is drawn: nobody yet.
    let query = format!("target=linux-x86_64&machine={}", MachineId::generate());
    assert_eq!(wanted(&client, &query).await.unwrap().version, "0.1.0");
    assert_eq!(
        code(wanted(&client, "target=plan9-mips").await),
        ErrorCode::NotFound
    );
    for bad in ["", "target=linux-x86_64&machine=x"] {
        assert_eq!(
            code(wanted(&client, bad).await),
            ErrorCode::ValidationError,
            "{bad}"
        );
    }
    // Nothing else of the folder is served.
    for path in [
        "0.1.0/gone",
        "0.3.0/ztna",
        "0.1.0/..%2Fkey.pem",
        "..%2F/key.pem",
        "0.1.0/%2e%2e%2fkey.pem",
        ".%2e/manifest.json",
    ] {
        let refused = client.get::<Value>(&format!("/api/releases/{path}")).await;
        assert_eq!(code(refused), ErrorCode::NotFound, "{path}");
    }
}

#[tokio::test]
async fn installers_come_with_their_releases_and_are_in_the_lines_that_join_a_machine() {
    let folder = tempfile::tempdir().unwrap();
    let file = publish(folder.path(), "0.1.0");
    fs::write(folder.path().join("install.ps1"), "# for Windows").unwrap();
    fs::write(folder.path().join("install.sh"), "# for the others").unwrap();
    // To whom a release is rolled out first, nobody knows of a machine that has not joined.
    let first = |rollout: u8| json!({"version": "0.1.0", "rollout": rollout, "files": [file]});
    manifest(folder.path(), json!([first(50)]));
    let start = async |certificate: Option<OwnCertificate>| {
        let releases = Releases::open(folder.path(), None).unwrap();
        let server = Server::start_with(|config| {
            config.releases = Some(releases);
            config.public_url = "https://vpn.example.org".to_owned();
            config.certificate = certificate;
        });
        server.await
    };
    let server = start(None).await;
    let client = Client::anonymous(&server);
    let join = async || client.get::<JoinInfo>("/api/join").await.unwrap();
    assert!(join().await.lines.iter().all(|line| !line.installs));
    manifest(folder.path(), json!([first(100)]));
    let told = async {
        loop {
            let told = join().await;
            if told.lines[0].installs {
                return told;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let told = tokio::time::timeout(LIMIT, told).await.unwrap();
    let fetch = "curl -fsSL https://vpn.example.org/install.sh |";
    let flags = "--server https://vpn.example.org";
    assert_eq!(
        (&*told.lines[0].login, &*told.lines[0].auth_key),
        (
            &*format!("{fetch} sudo sh -s -- {flags} && ztna login {flags} && sudo ztna up"),
            &*format!("{fetch} sudo ZTNA_AUTH_KEY={AUTH_KEY_PLACE} sh -s -- {flags}"),
        )
    );
    // There is no release for the others.
    assert!(told.lines[1..].iter().all(|line| !line.installs));
    for (path, text) in [
        ("/install.sh", "# for the others"),
        ("/install.ps1", "# for Windows"),
    ] {
        let answer = client.request(Method::GET, path).send().await.unwrap();
        assert_eq!(
            answer.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
        assert_eq!(answer.text().await.unwrap(), text);
    }
    server.stop().await;

    // Windows: a release, and a certificate that PowerShell would not take.
    let mut windows = file.clone();
    windows["target"] = json!("windows-x86_64");
    let both = json!([{"version": "0.1.0", "files": [file, windows]}]);
    manifest(folder.path(), both);
    let server = start(None).await;
    let told: JoinInfo = Client::anonymous(&server).get("/api/join").await.unwrap();
    assert_eq!(
        told.lines[2].auth_key,
        format!(
            "$env:ZTNA_AUTH_KEY = '{AUTH_KEY_PLACE}'; & ([scriptblock]::Create((irm \
             https://vpn.example.org/install.ps1))) -Server https://vpn.example.org"
        )
    );
    server.stop().await;
    let own = OwnCertificate {
        pin: "sha256:00ff".to_owned(),
        public_key_sha256: [1; 32],
    };
    let server = start(Some(own)).await;
    let told: JoinInfo = Client::anonymous(&server).get("/api/join").await.unwrap();
    let [linux, _, windows] = &*told.lines else {
        panic!("{told:?}");
    };
    let pinned = "curl -fsSLk --pinnedpubkey 'sha256//AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=' https://";
    assert!(linux.auth_key.starts_with(pinned), "{linux:?}");
    assert!(!windows.installs, "{windows:?}");
    server.stop().await;

    let server = Server::start().await;
    let client = Client::anonymous(&server);
    for path in ["/install.sh", "/install.ps1"] {
        let refused = client.get::<Value>(path).await;
        assert_eq!(code(refused), ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn a_new_manifest_is_taken_while_the_server_runs_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let old = publish(folder.path(), "0.1.0");
    let first = json!({"version": "0.1.0", "files": [old]});
    manifest(folder.path(), json!([first]));
    let server = serve(folder.path()).await;
    let client = Client::anonymous(&server);
    health(&client, |status| status == "ok").await;
    let new = publish(folder.path(), "0.2.0");
    let mut damaged = new.clone();
    damaged["sha256"] = json!("0".repeat(64));
    manifest(
        folder.path(),
        json!([{"version": "0.2.0", "files": [damaged]}, first]),
    );
    health(&client, |status| {
        status.starts_with("degraded: the folder of releases")
    })
    .await;
    let metrics = client
        .request(Method::GET, "/metrics")
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "ztna_api_degraded{part=\"releases\"} 1",
        "ztna_api_database_up 1",
    ] {
        assert!(
            metrics.lines().any(|other| other == line),
            "{line} in {metrics}"
        );
    }
    assert_eq!(
        wanted(&client, "target=linux-x86_64")
            .await
            .unwrap()
            .version,
        "0.1.0"
    );
    manifest(
        folder.path(),
        json!([{"version": "0.2.0", "files": [new]}, first]),
    );
    health(&client, |status| status == "ok").await;
    assert_eq!(
        wanted(&client, "target=linux-x86_64")
            .await
            .unwrap()
            .version,
        "0.2.0"
    );
}

#[tokio::test]
async fn a_server_starts_without_the_releases_that_it_was_told_of_and_takes_them_later() {
    let folder = tempfile::tempdir().unwrap();
    let releases = folder.path().join("releases");
    let server = serve(&releases).await;
    let client = Client::anonymous(&server);
    health(&client, |status| {
        status.starts_with("degraded: the folder of releases")
    })
    .await;
    let refused = wanted(&client, "target=linux-x86_64").await;
    assert_eq!(code(refused), ErrorCode::Unavailable);
    fs::create_dir(&releases).unwrap();
    let file = publish(&releases, "0.1.0");
    manifest(&releases, json!([{"version": "0.1.0", "files": [file]}]));
    health(&client, |status| status == "ok").await;
    assert!(wanted(&client, "target=linux-x86_64").await.is_ok());
}

#[tokio::test]
async fn with_a_release_key_only_what_it_has_signed_is_served() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = publish(folder.path(), "0.1.0");
    let forged = publish(other.path(), "0.1.0");
    let key = folder.path().join("pub.pem");
    let sound = |file: &Value, version: &str| {
        manifest(
            folder.path(),
            json!([{"version": version, "files": [file]}]),
        );
        let served = Releases::open(folder.path(), Some(key.as_path())).unwrap();
        served.is_sound()
    };
    assert!(sound(&good, "0.1.0"));
    assert!(!sound(&forged, "0.1.0"), "another key");
    let mut bare = good.clone();
    bare["signature"] = json!("none");
    assert!(!sound(&bare, "0.1.0"));
    fs::rename(folder.path().join("0.1.0"), folder.path().join("0.2.0")).unwrap();
    assert!(!sound(&good, "0.2.0"), "another version");
    for none in ["key.pem", "manifest.json", "gone.pem"] {
        let none_there = folder.path().join(none);
        let refused = Releases::open(folder.path(), Some(none_there.as_path()));
        let text = refused.err().unwrap().to_string();
        assert!(
            text.contains(none) && text.contains("--release-key"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_server_without_releases_says_so() {
    let server = Server::start().await;
    let client = Client::anonymous(&server);
    let refused = wanted(&client, "target=linux-x86_64").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    assert!(refused.message.contains("--releases"), "{refused}");
    let refused = client.get::<Value>("/api/releases/0.1.0/ztna").await;
    assert_eq!(code(refused), ErrorCode::NotFound);
}
