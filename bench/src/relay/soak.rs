//! `ztna-bench soak`: the relay under everything at once, for long, and what it has kept of that.
//!
//! Clients come, send and go; some receive nothing of what they are sent; some break off in the
//! middle of a handshake, or send what is no frame. Meanwhile two that behave are served. In the end
//! the relay's memory must be flat and every descriptor closed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::RngExt;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use ztna_derp::frame::Frame;
use ztna_proto::WgPublicKey;

use super::derp::{Client, Target, UPGRADE};
use super::packet::{Clock, Flow, PACKET};
use super::target::{Relay, Running};
use crate::process::Cpus;
use ztna_bench_record::median;

/// How.
#[derive(clap::Args)]
pub struct Options {
    /// Our relay
    #[arg(long, default_value = "target/release/ztna-derp", value_name = "FILE")]
    ztna_derp: PathBuf,
    /// How long
    #[arg(long, default_value_t = 600, value_name = "N")]
    seconds: u64,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

/// Clients of each kind at a time.
const TASKS: usize = 8;

/// Packets that a client sends before it goes, at most.
const PACKETS: u64 = 2000;

/// Packets to a client that reads nothing: more than the relay keeps for it.
const FLOOD: usize = 4000;

/// Between two looks at the relay.
const LOOK: Duration = Duration::from_millis(500);

/// After the last client has gone, the relay has so long to notice.
const AFTER: Duration = Duration::from_secs(10);

/// Descriptors that may be open at the end beyond those at the start.
const SPARE_DESCRIPTORS: usize = 2;

/// Memory may grow by so much from the third quarter of the time to the last: allocators do not give
/// back everything at once.
const GROWTH: f64 = 0.05;

/// What came of it.
#[derive(Debug, Serialize)]
struct Soaked {
    name: &'static str,
    ok: bool,
    seconds: u64,
    connections: u64,
    malformed: u64,
    slow_receivers: u64,
    packets_delivered: u64,
    descriptors_before: usize,
    descriptors_after: usize,
    descriptors_most: usize,
    memory_third_quarter_kib: f64,
    memory_last_quarter_kib: f64,
    problems: Vec<String>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    malformed: AtomicU64,
    slow: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Runs it; whether all is well.
pub async fn run(options: &Options, cpus: Cpus) -> Result<bool> {
    let running = Relay::Ztna(options.ztna_derp.clone()).start(cpus)?;
    let relay = running.derp().context("not a DERP relay")?;
    // What every process opens at its first connection is not leaked.
    drop(relay.join().await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let descriptors_before = running.server.descriptors()?;

    let counts = Arc::new(Counts::default());
    let steady = [(), ()].map(|()| Arc::new(Flow::new(64, Clock::start(), false)));
    let mut tasks = JoinSet::new();
    spawn_steady(&relay, &steady, &mut tasks).await?;
    for _ in 0..TASKS {
        tasks.spawn(coming_and_going(Arc::clone(&relay), Arc::clone(&counts)));
        tasks.spawn(malformed(Arc::clone(&relay), Arc::clone(&counts)));
    }
    tasks.spawn(slow_receivers(Arc::clone(&relay), Arc::clone(&counts)));

    let mut problems = Vec::new();
    let looks = look(
        &running,
        Duration::from_secs(options.seconds),
        &mut tasks,
        &steady,
        &mut problems,
    )
    .await?;
    tasks.shutdown().await;
    let descriptors_after = descriptors_in_the_end(&running, descriptors_before).await?;

    let quarter = looks.len() / 4;
    let memory = |from: usize, to: usize| {
        median(
            &looks[from..to]
                .iter()
                .map(|look| look.memory)
                .collect::<Vec<_>>(),
        ) / 1024.0
    };
    let third = memory(quarter * 2, quarter * 3);
    let last = memory(quarter * 3, looks.len());
    if last > third * (1.0 + GROWTH) {
        problems.push(format!("memory grows: {third:.0} KiB, then {last:.0} KiB"));
    }
    if descriptors_after > descriptors_before + SPARE_DESCRIPTORS {
        problems.push(format!(
            "descriptors leaked: {descriptors_before} before, {descriptors_after} after"
        ));
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let soaked = Soaked {
        name: "relay-soak",
        ok: problems.is_empty(),
        seconds: options.seconds,
        connections: get(&counts.connections),
        malformed: get(&counts.malformed),
        slow_receivers: get(&counts.slow),
        packets_delivered: steady.iter().map(|flow| flow.delivered()).sum(),
        descriptors_before,
        descriptors_after,
        descriptors_most: looks.iter().map(|look| look.descriptors).max().unwrap_or(0),
        memory_third_quarter_kib: third,
        memory_last_quarter_kib: last,
        problems,
    };
    report(&soaked, options.json)?;
    Ok(soaked.ok)
}

fn report(soaked: &Soaked, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&[soaked])?);
        return Ok(());
    }
    println!(
        "{} {}: {} s, {} connections, {} malformed, {} slow receivers, {} packets delivered meanwhile",
        if soaked.ok { "✔" } else { "✘" },
        soaked.name,
        soaked.seconds,
        soaked.connections,
        soaked.malformed,
        soaked.slow_receivers,
        soaked.packets_delivered
    );
    println!(
        "    memory {:.0} KiB in the third quarter, {:.0} KiB in the last; descriptors {} before, {} at most, {} after",
        soaked.memory_third_quarter_kib,
        soaked.memory_last_quarter_kib,
        soaked.descriptors_before,
        soaked.descriptors_most,
        soaked.descriptors_after
    );
    for problem in &soaked.problems {
        println!("    {problem}");
    }
    Ok(())
}

struct Look {
    memory: f64,
    descriptors: usize,
}

/// Watches the relay for so long. Ends early when the relay, or a client that it should serve, does.
async fn look(
    running: &Running,
    length: Duration,
    tasks: &mut JoinSet<Result<()>>,
    steady: &[Arc<Flow>; 2],
    problems: &mut Vec<String>,
) -> Result<Vec<Look>> {
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut delivered = [0, 0];
    let mut looks = Vec::new();
    while start.elapsed() < length {
        tokio::time::sleep(LOOK).await;
        looks.push(Look {
            memory: running.server.resident()? as f64,
            descriptors: running.server.descriptors()?,
        });
        if let Some(ended) = tasks.try_join_next() {
            let why = ended?
                .err()
                .map_or_else(String::new, |error| format!("{error:#}"));
            problems.push(format!("a client that behaves was cut off: {why}"));
            break;
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let now = steady.each_ref().map(|flow| flow.delivered());
            eprintln!(
                "  {} s: {:.1} MiB, {} descriptors, {} packets",
                start.elapsed().as_secs(),
                looks.last().map_or(0.0, |look| look.memory) / 1024.0 / 1024.0,
                looks.last().map_or(0, |look| look.descriptors),
                now[0] + now[1]
            );
            if now[0] == delivered[0] || now[1] == delivered[1] {
                problems.push("two clients that behave were not served for 10 s".to_owned());
                break;
            }
            delivered = now;
        }
    }
    if looks.len() < 4 {
        bail!("too short to tell anything: {}", problems.join("; "));
    }
    Ok(looks)
}

/// Waits for the relay to close what is left.
async fn descriptors_in_the_end(running: &Running, before: usize) -> Result<usize> {
    let start = Instant::now();
    loop {
        let now = running.server.descriptors()?;
        if now <= before + SPARE_DESCRIPTORS || start.elapsed() > AFTER {
            return Ok(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Two clients that send to each other, and must be served all the time.
async fn spawn_steady(
    relay: &Target,
    flows: &[Arc<Flow>; 2],
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    const AT_ONCE: usize = 4;
    const PAUSE: Duration = Duration::from_millis(2);
    let (one, other) = (relay.join().await?, relay.join().await?);
    let (a, b) = (one.key, other.key);
    let (send_a, receive_a) = one.split(b, AT_ONCE);
    let (send_b, receive_b) = other.split(a, AT_ONCE);
    let directions = [(send_a, receive_b), (send_b, receive_a)];
    for ((mut send, mut receive), flow) in directions.into_iter().zip(flows) {
        let sending = Arc::clone(flow);
        tasks.spawn(async move {
            loop {
                sending.room(AT_ONCE as u64).await;
                send.send(&sending, AT_ONCE).await?;
                tokio::time::sleep(PAUSE).await;
            }
        });
        let receiving = Arc::clone(flow);
        tasks.spawn(async move {
            loop {
                receive.receive(&receiving).await?;
            }
        });
        let watched = Arc::clone(flow);
        tasks.spawn(async move {
            watched.give_up_lost().await;
            Ok(())
        });
    }
    Ok(())
}

/// Clients that join, exchange packets, and leave.
async fn coming_and_going(relay: Arc<Target>, counts: Arc<Counts>) -> Result<()> {
    loop {
        let (one, other) = (relay.join().await?, relay.join().await?);
        counts.connections.fetch_add(2, Ordering::Relaxed);
        let flow = Flow::new(128, Clock::start(), false);
        let (a, b) = (one.key, other.key);
        let packets = rand::rng().random_range(1..PACKETS);
        let (mut send, _silent_receive) = one.split(b, 16);
        let (_silent_send, mut receive) = other.split(a, 16);
        let exchange = async {
            while flow.sent() < packets {
                flow.room(16).await;
                send.send(&flow, 16).await?;
            }
            anyhow::Ok(())
        };
        let reading = async {
            loop {
                receive.receive(&flow).await?;
            }
        };
        // They leave in the middle of it, with packets under way.
        tokio::select! {
            done = exchange => done,
            failed = reading => failed,
            () = flow.give_up_lost() => Ok(()),
            () = tokio::time::sleep(Duration::from_secs(5)) => Ok(()),
        }?;
    }
}

/// Clients to which much is sent and that read nothing.
async fn slow_receivers(relay: Arc<Target>, counts: Arc<Counts>) -> Result<()> {
    loop {
        let (mut fast, slow) = (relay.join().await?, relay.join().await?);
        counts.connections.fetch_add(2, Ordering::Relaxed);
        count(&counts.slow);
        let bytes = packet_to(slow.key).repeat(FLOOD / 40);
        for _ in 0..40 {
            fast.write(&bytes).await?;
        }
        let pause = rand::rng().random_range(0..3000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        drop((fast, slow));
    }
}

fn packet_to(to: WgPublicKey) -> Vec<u8> {
    let packet = super::packet::template().to_vec().into();
    Frame::SendPacket { to, packet }.to_bytes().to_vec()
}

/// Connections that are broken in one way or another.
async fn malformed(relay: Arc<Target>, counts: Arc<Counts>) -> Result<()> {
    loop {
        let (garbage, way): (Vec<u8>, u8) = {
            let mut rng = rand::rng();
            let len = rng.random_range(1..4 * PACKET);
            let garbage = (0..len).map(|_| rng.random()).collect();
            (garbage, rng.random_range(0..5))
        };
        // However the relay ends such a connection, it does; that is not ours to judge here.
        let _ = match way {
            0 => before_the_upgrade(&relay, &garbage).await,
            1 => before_the_upgrade(&relay, UPGRADE).await,
            2 => before_the_upgrade(&relay, &[UPGRADE, &garbage].concat()).await,
            3 => after_the_handshake(relay.join().await?, &garbage).await,
            // A frame that announces more than ever comes.
            _ => after_the_handshake(relay.join().await?, &[4, 0, 0, 5, 0, 1, 2, 3]).await,
        };
        count(&counts.malformed);
        counts.connections.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn before_the_upgrade(relay: &Target, bytes: &[u8]) -> Result<()> {
    let mut stream = relay.connect().await?;
    stream.write_all(bytes).await?;
    stream.flush().await?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(())
}

async fn after_the_handshake(mut client: Client, bytes: &[u8]) -> Result<()> {
    client.write(bytes).await?;
    tokio::time::sleep(Duration::from_millis(10)).await;
    Ok(())
}
