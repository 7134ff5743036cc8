//! Releases of the agent: which one a machine is to have, and its file, checked as an installer checks it.

use std::fs;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ztna_api::Releases;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::MachineId;
use ztna_proto::keys::hex;
use ztna_proto::releases::{ClientVersion, release_statement};

use crate::common::client::code;
use crate::common::{Client, Server};

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
    let served = Releases::open(folder.path()).unwrap();
    let server = Server::start_with(|config| config.releases = Some(served)).await;
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
async fn a_new_manifest_is_taken_while_the_server_runs_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let old = publish(folder.path(), "0.1.0");
    let first = json!({"version": "0.1.0", "files": [old]});
    manifest(folder.path(), json!([first]));
    let served = Releases::open(folder.path()).unwrap();
    let server = Server::start_with(|config| config.releases = Some(served)).await;
    let client = Client::anonymous(&server);
    let new = publish(folder.path(), "0.2.0");
    let mut damaged = new.clone();
    damaged["sha256"] = json!("0".repeat(64));
    manifest(
        folder.path(),
        json!([{"version": "0.2.0", "files": [damaged]}, first]),
    );
    // Longer than it is looked at again.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
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
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert_eq!(
        wanted(&client, "target=linux-x86_64")
            .await
            .unwrap()
            .version,
        "0.2.0"
    );
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
