//! What our daemon weighs in a large tailnet: real control plane, real netmap, and peers that are
//! registered and have reported where they are, but do not run.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde_json::Value;
use ztna_bench_record::{Bar, Better, Record, Run, Sample};
use ztna_handshake::KemPrivateKey;
use ztna_proto::api::{HeartbeatRequest, RegisterRequest};
use ztna_proto::netmap::{Endpoint, EndpointKind, VolatileReport};
use ztna_proto::{DiscoPrivateKey, RegionId, WgPrivateKey};

use crate::load;
use crate::net::{End, Net, OUTER, output, wait_for};
use crate::tunnels::{Server, server, start_daemon, status};

/// Machines besides the one that is weighed.
const PEERS: usize = 1_000;
/// Requests that one curl makes.
const BATCH: usize = 100;
/// After the map has come, the daemon gets so long to put it away.
const SETTLE: Duration = Duration::from_secs(5);
/// The region of `ztna-server`'s own relay.
const REGION: RegionId = RegionId(1);

/// Runs it.
pub fn run(programs: &Path, runs: usize) -> Result<Vec<Record>> {
    let mut net = Net::make("memory-")?;
    let server = server(&mut net, programs)?;
    let program = &programs.join("ztna");
    let mut pid = start_daemon(&mut net, End::A, program)?;
    server.enrol(&net, End::A, program)?;
    sleep(SETTLE);
    let alone = load::resident(pid)?;
    eprintln!("▶ memory: registering {PEERS} peers");
    register_peers(&net, &server)?;
    wait_for_peers(&net, program)?;
    sleep(SETTLE);
    let grown = load::resident(pid)?;
    let mut started = Vec::new();
    for run in 1..=runs {
        eprintln!("▶ memory, run {run} of {runs}");
        net.stop(pid)?;
        pid = start_daemon(&mut net, End::A, program)?;
        wait_for_peers(&net, program)?;
        sleep(SETTLE);
        started.push(load::resident(pid)?);
    }
    let samples = |of: &dyn Fn(f64) -> f64| {
        let sample = |name: &str, values: &[f64]| {
            let runs: Vec<_> = values
                .iter()
                .map(|value| Run {
                    value: of(*value),
                    ..Run::default()
                })
                .collect();
            Sample::new(name, &runs, false)
        };
        vec![
            sample("started with them", &started),
            sample("told of one after the other", &[grown]),
            sample("without peers", &[alone]),
        ]
    };
    let mut whole = samples(&|bytes| bytes / 1e6);
    let mut each = samples(&|bytes| (bytes - alone) / PEERS as f64 / 1e3);
    each.truncate(2);
    // The worse of the two is what the bar is for.
    for samples in [&mut whole, &mut each] {
        samples[..2].sort_by(|one, other| other.median.total_cmp(&one.median));
    }
    let words = |name, figure, unit| (name, figure, unit);
    Ok(vec![
        Record::compare(
            words(
                "memory-daemon",
                "resident memory of the daemon, 1,000 peers configured",
                "MB",
            ),
            (Better::Less, Bar::Absolute(40.0)),
            whole,
            &[],
        ),
        Record::compare(
            words(
                "memory-peer",
                "resident memory of the daemon for each of 1,000 peers",
                "kB",
            ),
            (Better::Less, Bar::Absolute(20.0)),
            each,
            &[],
        ),
    ])
}

fn wait_for_peers(net: &Net, program: &Path) -> Result<()> {
    wait_for("the daemon knows all peers", || {
        let status = status(net, End::A, program).ok()?;
        (status["peers"].as_array()?.len() == PEERS).then_some(())
    })
}

/// Registers machines, and has each report what an ordinary one does.
fn register_peers(net: &Net, server: &Server) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(1);
    for first in (0..PEERS).step_by(BATCH) {
        let numbers = first..(first + BATCH).min(PEERS);
        let requests = numbers.clone().map(|number| {
            let request = RegisterRequest {
                name: format!("machine-{number}"),
                os: "linux-x86_64".into(),
                agent_version: "0.1.0".into(),
                wg_key: WgPrivateKey::generate(&mut rng).public(),
                kem_key: KemPrivateKey::generate(&mut rng).public(),
                node_key: None,
                org: None,
            };
            (server.auth_key.clone(), request)
        });
        let registered = post_all(net, &server.url, "/api/register-machine", requests)?;
        let reports = numbers.zip(registered).map(|(number, registered)| {
            let token = registered["node_key"].as_str().unwrap_or_default();
            let request = HeartbeatRequest {
                agent_version: "0.1.0".into(),
                report: report(number, &mut rng),
                posture: None,
            };
            (token.to_owned(), request)
        });
        post_all(net, &server.url, "/api/machine-heartbeat", reports)?;
    }
    Ok(())
}

/// Two addresses of its own networks, one of IPv6, and what the STUN service saw.
fn report(number: usize, rng: &mut StdRng) -> VolatileReport {
    let low = number as u16;
    let [high, last] = low.to_be_bytes();
    let v4 = |a, b| SocketAddr::from((Ipv4Addr::new(a, b, high, last), 41_641));
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, low, 0, 0, 0, 1);
    let at = |addr, kind| Endpoint { addr, kind };
    VolatileReport {
        endpoints: vec![
            at(v4(192, 168), EndpointKind::Local),
            at(v4(172, 17), EndpointKind::Local),
            at((v6, 41_641).into(), EndpointKind::Local),
            at(v4(203, 0), EndpointKind::Stun),
        ],
        home_region: Some(REGION),
        disco_key: Some(DiscoPrivateKey::from_bytes(rng.random()).public()),
    }
}

/// Makes many calls, each with a bearer of its own, over one connection. Gives their answers.
fn post_all(
    net: &Net,
    url: &str,
    path: &str,
    calls: impl Iterator<Item = (String, impl Serialize)>,
) -> Result<Vec<Value>> {
    let mut config = String::new();
    let mut count = 0;
    for (token, body) in calls {
        let body = serde_json::to_string(&body)?.replace('"', "\\\"");
        // The certificate is the server's own, and the network is ours.
        write!(
            config,
            "next\nurl = \"{url}{path}\"\ninsecure\nsilent\nshow-error\nnoproxy = \"*\"\n\
             header = \"content-type: application/json\"\n\
             header = \"authorization: Bearer {token}\"\ndata = \"{body}\"\n"
        )?;
        count += 1;
    }
    let file = net.path("curl");
    std::fs::write(&file, config.strip_prefix("next\n").unwrap_or_default())?;
    let said = output(net.command(End::B, "curl").arg("--config").arg(&file))?;
    let answers = serde_json::Deserializer::from_str(&said).into_iter::<Value>();
    let answers = answers
        .map(|answer| {
            let answer = answer?;
            let data = answer.get("data").cloned();
            data.with_context(|| format!("{path}: {answer}"))
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        answers.len() == count,
        "{} answers to {count} calls of {path} at {}",
        answers.len(),
        OUTER[1]
    );
    Ok(answers)
}
