//! The program `ztna-api`: secrets in files, and what asks a node for its health.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::config::Host;

use crate::common::database;

/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ztna-api"));
    for name in ["DATABASE_URL", "DATABASE_URL_FILE", "ZTNA_KV_URL"] {
        command.env_remove(name);
    }
    command
}

fn health(data: &Path) -> Output {
    let mut command = program();
    command.args(["health", "--data-dir"]).arg(data);
    command.output().unwrap()
}

/// A database's address, as an operator writes it.
fn address(config: &tokio_postgres::Config) -> String {
    let host = match &config.get_hosts()[0] {
        Host::Tcp(name) => name.clone(),
        // The cluster's folder, by our descriptor of it: another process names whose.
        Host::Unix(path) => path
            .to_str()
            .unwrap()
            .replace("/proc/self/", &format!("/proc/{}/", std::process::id())),
    };
    let mut text = format!(
        "host='{host}' user='{}' dbname='{}'",
        config.get_user().unwrap(),
        config.get_dbname().unwrap()
    );
    if let Some(port) = config.get_ports().first() {
        text += &format!(" port={port}");
    }
    text
}

#[tokio::test]
async fn a_node_reads_its_secrets_from_files_and_tells_its_health() {
    let folder = tempfile::tempdir().unwrap();
    let database = database().await;
    let file = folder.path().join("database-url");
    std::fs::write(&file, format!("{}\n", address(&database.setup))).unwrap();
    let mail = folder.path().join("mail-url");
    std::fs::write(&mail, format!("file://{}\n", folder.path().display())).unwrap();
    // One folder: a database is read with the keys that it was begun with.
    let data = folder.path().join("data");
    let before = health(&data);
    assert_eq!(before.status.code(), Some(1));
    let said = String::from_utf8(before.stderr).unwrap();
    assert!(said.contains("api.json"), "{said}");
    for tls in [true, false] {
        let mut command = program();
        command
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .env("DATABASE_URL_FILE", &file)
            .env("ZTNA_MAIL_URL_FILE", &mail)
            .env("ZTNA_MAIL_FROM", "ztna <noreply@example.org>")
            .stderr(Stdio::null());
        if !tls {
            command.arg("--no-tls");
        }
        let mut node = Program(command.spawn().unwrap());
        let begun = Instant::now();
        while !health(&data).status.success() {
            assert_eq!(node.0.try_wait().unwrap(), None, "it has ended");
            assert!(begun.elapsed() < LIMIT, "it is never well");
            tokio::time::sleep(PAUSE).await;
        }
        let ready = std::fs::read_to_string(data.join("api.json")).unwrap();
        assert_eq!(ready.contains("https://"), tls, "{ready}");
        node.0.kill().unwrap();
        node.0.wait().unwrap();
        assert_eq!(health(&data).status.code(), Some(1), "nobody is there");
    }
}

#[test]
fn a_secret_is_given_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "secret\n").unwrap();
    let others = [
        ("ZTNA_MAIL_FROM", "a@example.org"),
        ("ZTNA_GOOGLE_CLIENT_ID", "id"),
        ("ZTNA_GITHUB_CLIENT_ID", "id"),
    ];
    for name in [
        "DATABASE_URL",
        "ZTNA_KV_URL",
        "ZTNA_MAIL_URL",
        "ZTNA_GOOGLE_CLIENT_SECRET",
        "ZTNA_GITHUB_CLIENT_SECRET",
    ] {
        let mut command = program();
        if name != "DATABASE_URL" {
            command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
        }
        let wanted = name.replace("CLIENT_SECRET", "CLIENT_ID");
        let beside = others.iter().filter(|(other, _)| {
            *other == wanted || name == "ZTNA_MAIL_URL" && *other == "ZTNA_MAIL_FROM"
        });
        for (other, value) in beside {
            command.env(other, value);
        }
        let file_name = format!("{name}_FILE");
        let twice = command
            .env(name, "secret")
            .env(&file_name, &file)
            .output()
            .unwrap();
        assert_eq!(twice.status.code(), Some(2), "{name}");
        let said = String::from_utf8(twice.stderr).unwrap();
        assert!(said.contains("cannot be used with"), "{name}: {said}");
    }
    let gone = folder.path().join("gone");
    let mut command = program();
    command
        .env("DATABASE_URL_FILE", &gone)
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path());
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("cannot read the secret in"), "{said}");
    // S3's, which is no flag.
    let mut command = program();
    command
        .args(["backup", "s3://bucket/x"])
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
        .env("AWS_ACCESS_KEY_ID", "id")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_SECRET_ACCESS_KEY_FILE", &file);
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("are both set"), "{said}");
}
