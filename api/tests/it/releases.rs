//! Releases of the agent: which one a machine is to have, and its file, checked as an installer checks it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ztna_api::Releases;
use ztna_proto::api::{AUTH_KEY_PLACE, Health, JoinInfo};
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::MachineId;
use ztna_proto::keys::hex;
use ztna_proto::releases::{ClientVersion, installer_statement, release_statement};

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

/// The signature of a statement, by a key that is made first if there is none.
fn sign(folder: &Path, statement: &str) -> String {
    fs::write(folder.join("statement"), statement).unwrap();
    let done = |args: &str| {
        let args: Vec<&str> = args.split(' ').collect();
        assert!(openssl(folder, &args).status.success(), "{args:?}");
    };
    if !folder.join("key.pem").exists() {
        done("ecparam -name prime256v1 -genkey -noout -out key.pem");
        done("ec -in key.pem -pubout -out pub.pem");
    }
    done("dgst -sha256 -sign key.pem -out signature statement");
    let text = openssl(folder, &["base64", "-A", "-in", "signature"]).stdout;
    String::from_utf8(text).unwrap()
}

/// A release of one file, signed as the operator signs it.
fn publish(folder: &Path, version: &str) -> Value {
    fs::create_dir_all(folder.join(version)).unwrap();
    let mut content = vec![42; SIZE];
    content.extend(version.as_bytes());
    fs::write(folder.join(version).join("ztna"), &content).unwrap();
    let sha256 = hex(&Sha256::digest(&content));
    let statement = release_statement(version, "linux-x86_64", &sha256);
    let signature = sign(folder, &statement);
    json!({"target": "linux-x86_64", "name": "ztna", "size": content.len(), "sha256": sha256, "signature": signature})
}

fn manifest(folder: &Path, releases: Value) {
    manifest_with(folder, releases, json!([]));
}

fn manifest_with(folder: &Path, releases: Value, installers: Value) {
    let text = json!({"releases": releases, "installers": installers}).to_string();
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

/// An installer, signed as the operator signs it.
fn installer(folder: &Path, name: &str, text: &str) -> Value {
    fs::write(folder.join(name), text).unwrap();
    let sha256 = hex(&Sha256::digest(text));
    let signature = sign(folder, &installer_statement(name, &sha256));
    json!({"name": name, "sha256": sha256, "signature": signature})
}

async fn joining(server: &Server) -> JoinInfo {
    let client = Client::anonymous(server);
    client.get("/api/join").await.unwrap()
}

const SHELL: &str = "# for the others\n";

#[tokio::test]
async fn installers_come_with_their_releases_and_are_in_the_lines_that_join_a_machine() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = publish(folder, "0.1.0");
    let shell = installer(folder, "install.sh", SHELL);
    let powershell = installer(folder, "install.ps1", "# for Windows");
    let installers = json!([shell, powershell]);
    // To whom a release is rolled out first, nobody knows of a machine that has not joined.
    let first = |rollout: u8| json!([{"version": "0.1.0", "rollout": rollout, "files": [file]}]);
    manifest_with(folder, first(50), installers.clone());
    let start = async |pin: Option<&str>| {
        let key = folder.join("pub.pem");
        let releases = Releases::open(folder, Some(&key)).unwrap();
        let server = Server::start_with(|config| {
            config.releases = Some(releases);
            config.public_url = "https://vpn.example.org".to_owned();
            config.pin = pin.map(str::to_owned);
        });
        server.await
    };
    let server = start(None).await;
    let client = Client::anonymous(&server);
    let is_out = |told: &JoinInfo| told.lines.iter().any(|line| line.installs);
    assert!(!is_out(&joining(&server).await));
    manifest_with(folder, first(100), installers.clone());
    let told = async {
        while !is_out(&joining(&server).await) {
            tokio::time::sleep(PAUSE).await;
        }
        joining(&server).await
    };
    let told = tokio::time::timeout(LIMIT, told).await.unwrap();
    let script = "script=$(curl -fsSL https://vpn.example.org/install.sh) && sudo";
    let run = "sh -c \"$script\" install.sh --server https://vpn.example.org";
    let login = "ztna login --server https://vpn.example.org && sudo ztna up";
    assert_eq!(told.lines[0].login, format!("{script} {run} && {login}"));
    assert_eq!(
        told.lines[0].auth_key,
        format!("{script} ZTNA_AUTH_KEY={AUTH_KEY_PLACE} {run}")
    );
    // There is no release for the others.
    assert!(told.lines[1..].iter().all(|line| !line.installs));
    for (path, text) in [("/install.sh", SHELL), ("/install.ps1", "# for Windows")] {
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
    let statement = release_statement(
        "0.1.0",
        "windows-x86_64",
        windows["sha256"].as_str().unwrap(),
    );
    windows["signature"] = json!(sign(folder, &statement));
    let both = json!([{"version": "0.1.0", "files": [file, windows]}]);
    manifest_with(folder, both, installers);
    let server = start(None).await;
    assert_eq!(
        joining(&server).await.lines[2].auth_key,
        format!(
            "$env:ZTNA_AUTH_KEY = '{AUTH_KEY_PLACE}'; & ([scriptblock]::Create((irm \
             https://vpn.example.org/install.ps1))) -Server https://vpn.example.org"
        )
    );
    server.stop().await;
    let server = start(Some("sha256:00ff")).await;
    let told = joining(&server).await;
    let digest = hex(&Sha256::digest(SHELL));
    let checked = format!(
        "script=$(curl -fsSk https://vpn.example.org/install.sh) && printf '%s\\n' \"$script\" | openssl dgst \
         -sha256 | grep -o {digest} && sudo "
    );
    let line = &told.lines[0].auth_key;
    assert!(line.starts_with(&checked), "{line}");
    assert!(!told.lines[2].installs, "{told:?}");
    server.stop().await;

    let server = Server::start().await;
    let client = Client::anonymous(&server);
    for path in ["/install.sh", "/install.ps1"] {
        let refused = client.get::<Value>(path).await;
        assert_eq!(code(refused), ErrorCode::NotFound);
    }
}

#[tokio::test]
async fn an_installer_that_is_not_as_it_was_signed_is_not_served_and_releases_are() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = publish(folder, "0.1.0");
    let shell = installer(folder, "install.sh", SHELL);
    let releases = json!([{"version": "0.1.0", "files": [file]}]);
    let mut foreign = shell.clone();
    foreign["signature"] = json!(sign(folder, &installer_statement("install.ps1", "00")));
    let key = folder.join("pub.pem");
    for (text, named) in [
        // Somebody who may write there and has no key.
        ("# something else\n", &shell),
        (SHELL, &foreign),
    ] {
        fs::write(folder.join("install.sh"), text).unwrap();
        manifest_with(folder, releases.clone(), json!([named]));
        let opened = Releases::open(folder, Some(&key)).unwrap();
        let server = Server::start_with(|config| config.releases = Some(opened)).await;
        let client = Client::anonymous(&server);
        let refused = client.get::<Value>("/install.sh").await;
        assert_eq!(code(refused), ErrorCode::NotFound);
        wanted(&client, "target=linux-x86_64").await.unwrap();
        health(&client, |status| status.starts_with("degraded")).await;
        server.stop().await;
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
