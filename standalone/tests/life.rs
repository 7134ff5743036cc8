//! The program as it runs: first start, one URL for everything, and starts after every kind of
//! sudden end.

#![allow(clippy::unwrap_used, clippy::panic)] // Clippy allows them in test functions, not in their helpers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use ztna_derp::client::{ClientConfig, ConnectError, connect};
use ztna_proto::keys::{KEM_PUBLIC_KEY_LEN, KemPublicKey, WgPrivateKey};
use ztna_proto::relay::RelayNode;
use ztna_tls::KeyExchange;

const LIMIT: Duration = Duration::from_secs(120);
const EMAIL: &str = "owner@example.com";
const PASSWORD: &str = "correct horse battery";

struct Program {
    child: Child,
    data: PathBuf,
}

impl Program {
    fn spawn(data: &Path) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztna-server"));
        command
            .env_remove("DATABASE_URL")
            .arg("--data-dir")
            .arg(data)
            .args(["--listen", "127.0.0.1:0"])
            .args(["--stun-listen", "127.0.0.1:0"])
            .args(["--public-host", "127.0.0.1"])
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Starts it and waits until it is ready.
    fn start(data: &Path) -> Self {
        let mut program = Self {
            child: Self::spawn(data),
            data: data.to_owned(),
        };
        // Its log must not fill the pipe.
        let mut log = program.child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
        let deadline = Instant::now() + LIMIT;
        while program.try_ready().is_none() {
            if let Some(status) = program.child.try_wait().unwrap() {
                panic!("it ended: {status}");
            }
            assert!(Instant::now() < deadline, "it is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        program
    }

    fn try_ready(&self) -> Option<Value> {
        let text = std::fs::read(self.data.join("server.json")).ok()?;
        let ready: Value = serde_json::from_slice(&text).unwrap();
        (ready["pid"] == self.child.id()).then_some(ready)
    }

    fn ready(&self) -> Value {
        self.try_ready().unwrap()
    }

    fn postmaster(&self) -> i32 {
        let text = std::fs::read_to_string(self.data.join("postgres/data/postmaster.pid")).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    /// Waits until it has ended, and says whether well.
    fn wait(mut self) -> bool {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        kill(name, self.child.id().cast_signed());
    }

    fn client(&self) -> reqwest::Client {
        let pin = ztna_tls::parse_pin(self.ready()["pin"].as_str().unwrap()).unwrap();
        let tls = ztna_tls::client_config(&pin, KeyExchange::RequirePostQuantum).unwrap();
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls.as_ref().clone())
            .no_proxy()
            .build()
            .unwrap()
    }

    async fn post(&self, path: &str, bearer: Option<&str>, body: Value) -> (u16, Value) {
        let url = format!("{}{path}", self.ready()["url"].as_str().unwrap());
        let mut request = self.client().post(url).json(&body);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The `data` of an answer.
    async fn get(&self, path: &str, bearer: Option<&str>) -> Value {
        let url = format!("{}{path}", self.ready()["url"].as_str().unwrap());
        let request = self.client().get(url);
        let request = match bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        };
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["data"].clone()
    }

    async fn login(&self) -> (u16, String) {
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let (status, answer) = self.post("/api/auth/login", None, body).await;
        let token = answer["data"]["access_token"].as_str().unwrap_or_default();
        (status, token.to_owned())
    }

    /// Whether the account and its org are there; patient, for a database that just comes back.
    async fn has_its_data(&self) -> bool {
        for _ in 0..200 {
            let (status, token) = self.login().await;
            if status == 200 {
                let url = format!("{}/api/auth/me", self.ready()["url"].as_str().unwrap());
                let me = self
                    .client()
                    .get(url)
                    .bearer_auth(token)
                    .send()
                    .await
                    .unwrap();
                let me: Value = me.json().await.unwrap();
                return me["data"]["orgs"][0]["name"] == "acme";
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(signal: &str, pid: i32) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn it_starts_from_nothing_and_after_every_sudden_end() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let program = Program::start(&data);
    let first = program.ready();
    let body = json!({"email": EMAIL, "password": PASSWORD});
    assert_eq!(program.post("/api/auth/signup", None, body).await.0, 201);
    let (_, token) = program.login().await;
    let (status, _) = program
        .post("/api/orgs", Some(&token), json!({"name": "acme"}))
        .await;
    assert_eq!(status, 201);

    // A second one on the same data is told so.
    let second = Program::spawn(&data).wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another ztna-server (process"), "{said}");
    assert_eq!(program.ready()["pid"], first["pid"]);

    // The server is killed: its database ends by itself, or the next start sees to it.
    program.signal("-KILL");
    assert!(!program.wait());
    let program = Program::start(&data);
    assert!(program.has_its_data().await);
    assert_eq!(program.ready()["pin"], first["pin"]);

    // The database is killed: it comes back without the server's end.
    kill("-KILL", program.postmaster());
    assert!(program.has_its_data().await);

    // Both are killed.
    kill("-KILL", program.postmaster());
    program.signal("-KILL");
    assert!(!program.wait());
    let program = Program::start(&data);
    assert!(program.has_its_data().await);

    // An orderly stop leaves no process behind.
    let postmaster = program.postmaster();
    program.signal("-TERM");
    assert!(program.wait());
    assert!(!Path::new(&format!("/proc/{postmaster}")).exists());
    let program = Program::start(&data);
    assert!(program.has_its_data().await);
}

/// Names say which service and which unit, no two are the same, and each is explained.
fn hold_the_scheme(metrics: &str) {
    let told = |word: &str| {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(word));
        let pairs: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(' ')).collect();
        let map: BTreeMap<&str, &str> = pairs.iter().copied().collect();
        assert_eq!(map.len(), pairs.len(), "told twice: {pairs:?}");
        map
    };
    let (kinds, helps) = (told("# TYPE "), told("# HELP "));
    assert!(kinds.keys().eq(helps.keys()), "{kinds:?} and {helps:?}");
    for service in ["ztna_api_", "ztna_derp_", "ztna_stun_"] {
        assert!(
            kinds.keys().any(|name| name.starts_with(service)),
            "no figures of {service}"
        );
    }
    for (name, kind) in &kinds {
        let known = ["ztna_api_", "ztna_derp_", "ztna_stun_"];
        assert!(
            known.iter().any(|service| name.starts_with(service)),
            "{name}"
        );
        assert_eq!(
            name.ends_with("_total"),
            *kind == "counter",
            "{name}: {kind}"
        );
    }
    for line in metrics.lines().filter(|line| line.starts_with("ztna")) {
        let name = &line[..line.find(['{', ' ']).unwrap()];
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| {
                name.strip_suffix(part)
                    .filter(|name| kinds.contains_key(name))
            })
            .unwrap_or(name);
        assert!(kinds.contains_key(family), "{name} is not explained");
    }
}

#[tokio::test]
async fn one_port_serves_control_plane_and_relay_and_stun_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&folder.path().join("data"));
    let ready = program.ready();
    let url = ready["url"].as_str().unwrap();

    let health = program
        .client()
        .get(format!("{url}/health"))
        .send()
        .await
        .unwrap();
    let health: Value = health.json().await.unwrap();
    assert_eq!(health["status"], "ok");
    let metrics = program
        .client()
        .get(format!("{url}/metrics"))
        .send()
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    hold_the_scheme(&metrics);

    // RFC 9110 §7.8: the relay takes the connection over.
    let derp = program
        .client()
        .get(format!("{url}/derp"))
        .header("upgrade", "DERP")
        .header("connection", "Upgrade")
        .send()
        .await
        .unwrap();
    assert_eq!(derp.status().as_u16(), 101);

    let stun = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = u16::try_from(ready["stun_port"].as_u64().unwrap()).unwrap();
    let transaction = ztna_stun::client::TransactionId([7; 12]);
    let request = ztna_stun::client::request(transaction);
    stun.send_to(&request, ("127.0.0.1", port)).await.unwrap();
    let mut answer = [0; 256];
    let received = tokio::time::timeout(LIMIT, stun.recv(&mut answer)).await;
    let length = received.unwrap().unwrap();
    let (id, seen) = ztna_stun::client::parse_response(&answer[..length]).unwrap();
    assert_eq!((id, seen), (transaction, stun.local_addr().unwrap()));
}

#[tokio::test]
async fn a_deleted_machine_stays_out_of_the_relay_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let program = Program::start(&data);
    let body = json!({"email": EMAIL, "password": PASSWORD});
    assert_eq!(program.post("/api/auth/signup", None, body).await.0, 201);
    let (_, token) = program.login().await;
    let (_, org) = program
        .post("/api/orgs", Some(&token), json!({"name": "acme"}))
        .await;
    let org = org["data"]["id"].as_str().unwrap().to_owned();

    let key = WgPrivateKey::generate(&mut rand::rng());
    let kem = KemPublicKey::try_from([1; KEM_PUBLIC_KEY_LEN].as_slice()).unwrap();
    let machine = json!({"name": "a", "os": "linux", "agent_version": "0.1.0", "org": org,
        "wg_key": key.public(), "kem_key": kem});
    let (status, machine) = program
        .post("/api/register-machine", Some(&token), machine)
        .await;
    assert_eq!(status, 200, "{machine}");
    let node_key = machine["data"]["node_key"].as_str().unwrap().to_owned();
    let beat = json!({"agent_version": "0.1.0",
        "report": {"endpoints": [], "home_region": null, "disco_key": null}});
    let (_, beat) = program
        .post("/api/machine-heartbeat", Some(&node_key), beat)
        .await;
    let ticket = beat["data"]["relay_ticket"].as_str().unwrap().to_owned();

    let relays = program
        .get(&format!("/api/orgs/{org}/relays"), Some(&token))
        .await;
    let node: RelayNode = serde_json::from_value(relays["regions"][0]["nodes"][0].clone()).unwrap();
    let join = async |program: &Program| {
        // The port is another after a restart here.
        let url = program.ready()["url"].as_str().unwrap().to_owned();
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        let node = RelayNode {
            derp_port: Some(port),
            ..node.clone()
        };
        let (key, ticket) = (key.clone(), ticket.clone());
        connect(ClientConfig { node, key, ticket }).await
    };
    let (_sender, mut receiver) = join(&program).await.unwrap();

    // The control plane finds its own relay and STUN service in order.
    let deadline = Instant::now() + LIMIT;
    loop {
        let health = program.get("/api/derp-health", None).await;
        if health["regions"][0]["nodes"][0]["up"] == true {
            break;
        }
        assert!(Instant::now() < deadline, "{health}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let id = machine["data"]["machine_id"].as_str().unwrap();
    let url = format!(
        "{}/api/orgs/{org}/machines/{id}",
        program.ready()["url"].as_str().unwrap()
    );
    let deleted = program
        .client()
        .delete(url)
        .bearer_auth(&token)
        .send()
        .await
        .unwrap();
    assert_eq!(deleted.status().as_u16(), 200);
    let cut = async { while receiver.next().await.is_ok() {} };
    tokio::time::timeout(LIMIT, cut).await.unwrap();

    let refused = |joined: Result<_, ConnectError>| match joined {
        Ok(_) => panic!("it was let in"),
        Err(error) => error.to_string(),
    };
    let says = refused(join(&program).await);
    assert!(says.contains("revoked"), "{says}");
    program.signal("-TERM");
    assert!(program.wait());
    let program = Program::start(&data);
    let says = refused(join(&program).await);
    assert!(says.contains("revoked"), "{says}");
}

/// Runs a command of the program to its end, and says what it logged.
fn command(data: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_ztna-server"))
        .env_remove("DATABASE_URL")
        .arg("--data-dir")
        .arg(data)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    match output.status.success() {
        true => Ok(said),
        false => Err(said),
    }
}

#[tokio::test]
async fn a_backup_is_taken_while_it_runs_and_brought_back_on_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    let backups = folder.path().join("backups");
    let backups = backups.to_str().unwrap();
    let program = Program::start(&data);
    let body = json!({"email": EMAIL, "password": PASSWORD});
    assert_eq!(program.post("/api/auth/signup", None, body).await.0, 201);
    let (_, token) = program.login().await;
    let acme = json!({"name": "acme"});
    assert_eq!(program.post("/api/orgs", Some(&token), acme).await.0, 201);

    command(&data, &["backup", backups]).unwrap();
    let refused = command(&data, &["restore", backups]).unwrap_err();
    assert!(refused.contains("another ztna-server"), "{refused}");
    program.signal("-TERM");
    assert!(program.wait());
    // Also without the server.
    command(&data, &["backup", backups]).unwrap();

    // Another machine has the keys and nothing else.
    std::fs::create_dir(&other).unwrap();
    let refused = command(&other, &["restore", backups]).unwrap_err();
    assert!(refused.contains("is missing"), "{refused}");
    for key in ["master.key", "api-keys.json"] {
        std::fs::copy(data.join(key), other.join(key)).unwrap();
    }
    command(&other, &["restore", backups]).unwrap();
    let refused = command(&other, &["restore", backups]).unwrap_err();
    assert!(refused.contains("--replace"), "{refused}");
    command(&other, &["restore", backups, "--replace"]).unwrap();
    let program = Program::start(&other);
    assert!(program.has_its_data().await);
    program.signal("-TERM");
    assert!(program.wait());
}
