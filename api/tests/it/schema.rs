//! The API does what its OpenAPI document says: Schemathesis calls every endpoint with values that the
//! document allows, and with values that it does not, and holds each answer against it.

use std::path::PathBuf;
use std::process::Stdio;

use crate::common::client::{Owner, machine};
use crate::common::{Client, Server};
use serde_json::Value;
use tokio::process::Command;

/// Calls of each endpoint with values made at random, beside those at the bounds of what is allowed.
const EXAMPLES: &str = "10";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// What is not called, and why.
const LEFT_OUT: [(&str, &str); 6] = [
    ("/api/realtime", "a WebSocket; its tests are in realtime.rs"),
    (
        "/api/machine-stream",
        "a WebSocket; its tests are in stream.rs",
    ),
    (
        "/api/relays/revocations",
        "waits for news as long as it is asked to",
    ),
    (
        "/api/auth/reset-password",
        "answers 503 where no mail is sent; its tests are in mail.rs",
    ),
    (
        "/api/orgs/{org}/sso",
        "asks the provider; its tests are in sso.rs",
    ),
    ("/api/orgs/{org}/sso/domains/{domain}/prove", "asks the DNS"),
];

/// Where `./dev test` has installed it. `None`: this system's Python is too old for it.
fn schemathesis() -> Option<PathBuf> {
    let program = std::env::var_os("ZTNA_SCHEMATHESIS").map(PathBuf::from);
    let program = program.unwrap_or_else(|| {
        let pinned = include_str!("../../../scripts/schemathesis.txt");
        let pinned = pinned
            .lines()
            .find_map(|line| line.strip_prefix("schemathesis=="));
        let version = pinned.unwrap().split_whitespace().next().unwrap();
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
            .unwrap();
        cache.join(format!(
            "ztna/tools/schemathesis-{version}/bin/schemathesis"
        ))
    });
    (program.as_os_str() != "none").then_some(program)
}

struct Run<'a> {
    program: &'a PathBuf,
    server: &'a Server,
    folder: &'a std::path::Path,
}

impl Run<'_> {
    /// Calls what the options name, as the bearer.
    async fn check(&self, what: &str, bearer: &str, options: &[&str]) {
        let address = self.server.address;
        let output = Command::new(self.program)
            .current_dir(self.folder)
            .arg("run")
            .arg(format!("http://{address}/api/openapi.json"))
            .args(["--url", &format!("http://{address}")])
            .args(["--header", &format!("Authorization: Bearer {bearer}")])
            .args(["--checks", CHECKS])
            .args(["--phases", "examples,coverage,fuzzing"])
            .args(["--max-examples", EXAMPLES])
            // Every run makes the same calls.
            .arg("--generation-deterministic")
            .args(["--no-shrink", "--no-color", "--continue-on-failure"])
            .args(["--suppress-health-check", "all", "--warnings", "off"])
            .args(options)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; `./dev test` installs it",
                    self.program.display()
                )
            });
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "as {what}:\n{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_as_the_document_says() {
    let Some(program) = schemathesis() else {
        eprintln!("skipped: Schemathesis does not run on this system's Python");
        return;
    };
    let server = Server::start_with(|config| {
        let limits = &mut config.limits;
        for rate in [
            &mut limits.signup,
            &mut limits.login,
            &mut limits.reset,
            &mut limits.registration,
            &mut limits.account,
            &mut limits.credentials,
        ] {
            rate.count = u64::from(u32::MAX);
        }
    })
    .await;
    let owner = Owner::new(&server, "acme").await;
    let (_, joined) = owner.enrol("box").await;
    let anonymous = Client::anonymous(&server);
    let session = anonymous
        .login("acme@example.com", crate::common::client::PASSWORD)
        .await
        .unwrap();
    // Ids of things that there are: with made-up ones every call would end at the first check.
    let folder = tempfile::tempdir().unwrap();
    let parameters = format!(
        "[parameters]\n\"path.org\" = \"{}\"\n\"path.machine\" = \"{}\"\n",
        owner.org.id, joined.machine_id
    );
    std::fs::write(folder.path().join("schemathesis.toml"), parameters).unwrap();
    let run = Run {
        program: &program,
        server: &server,
        folder: folder.path(),
    };
    let mut options = vec!["--exclude-tag", "pages"];
    for (path, _) in &LEFT_OUT {
        options.extend(["--exclude-path", path]);
    }
    run.check("a person", &session.access_token, &options).await;
    let machines = [
        "--include-path",
        "/api/machine-heartbeat",
        "--include-path",
        "/api/kem-keys/{hash}",
    ];
    let (_, alive) = owner.enrol("other").await;
    run.check("a machine", alive.node_key.expose(), &machines)
        .await;
    let enrol = ["--include-path", "/api/register-machine"];
    run.check("an auth key", owner.key.key.expose(), &enrol)
        .await;

    // It still works.
    let request = machine("last");
    anonymous
        .bearer(owner.key.key.expose())
        .register(&request)
        .await
        .unwrap();
    let health: Value = anonymous
        .request(reqwest::Method::GET, "/health")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(health["status"], "ok");
}
