//! Loads, and one run of each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use super::derp;
use super::packet::{Clock, Flow, PACKET};
use super::target::{Receiver, Running, Sender, pair};
use crate::process::Meter;
use ztna_bench_record::Run;

/// Packets that a sender writes at once.
const BURST: usize = 32;

/// From the first packet to the first that counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Who sends how much to whom.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Pairs of clients.
    pub pairs: usize,
    /// Both of a pair send.
    pub both_ways: bool,
    /// Packets under way in one direction of a pair.
    pub window: u64,
}

/// What was seen during one run.
pub struct Seen {
    pub seconds: f64,
    pub server_seconds: f64,
    pub delivered: u64,
    run: Run,
}

impl Seen {
    /// The run with its figure.
    pub fn worth(&self, value: f64) -> Run {
        Run { value, ..self.run }
    }

    pub fn packets_per_second(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }

    pub fn packets_per_cpu_second(&self) -> f64 {
        self.delivered as f64 / self.server_seconds
    }

    pub fn gigabits_per_second(&self) -> f64 {
        self.packets_per_second() * (PACKET * 8) as f64 / 1e9
    }
}

/// Sends as much as the relay takes.
pub async fn flood(relay: &Running, shape: Shape, length: Duration) -> Result<Seen> {
    let mut load = Load::new(relay, shape, None).await?;
    load.measure(relay, length).await
}

/// Sends `rate` packets a second over one pair; their one-way times in microseconds, in order.
pub async fn paced(relay: &Running, rate: f64, length: Duration) -> Result<(Seen, Vec<f64>)> {
    let shape = Shape {
        pairs: 1,
        both_ways: false,
        window: u64::MAX,
    };
    let mut load = Load::new(relay, shape, Some(rate)).await?;
    let seen = load.measure(relay, length).await?;
    Ok((seen, load.times()?))
}

/// The same without a relay.
pub async fn paced_without_relay(rate: f64, length: Duration) -> Result<Vec<f64>> {
    let (sender, receiver) = derp::without_relay(BURST).await?;
    let mut load = Load::empty();
    let flow = Flow::new(u64::MAX, Clock::start(), true);
    let (sender, receiver) = (Sender::Derp(sender), Receiver::Derp(receiver));
    load.direct(sender, receiver, flow, Some(rate));
    load.last(WARM_UP).await?;
    load.forget_times();
    load.last(length).await?;
    load.times()
}

/// A percentile of times in order.
pub fn percentile(times: &[f64], percent: usize) -> f64 {
    let at = times.len() * percent / 100;
    times.get(at).copied().unwrap_or(f64::NAN)
}

struct Load {
    flows: Vec<Arc<Flow>>,
    tasks: JoinSet<Result<()>>,
    /// Directions in which nothing flows.
    _idle: Vec<(Option<Sender>, Option<Receiver>)>,
}

impl Load {
    fn empty() -> Self {
        Self {
            flows: Vec::new(),
            tasks: JoinSet::new(),
            _idle: Vec::new(),
        }
    }

    fn forget_times(&self) {
        for flow in &self.flows {
            flow.take_times();
        }
    }

    /// One-way times in microseconds, in order.
    fn times(&self) -> Result<Vec<f64>> {
        let mut times: Vec<f64> = self
            .flows
            .iter()
            .flat_map(|flow| flow.take_times())
            .map(|nanos| nanos as f64 / 1e3)
            .collect();
        if times.is_empty() {
            bail!("no packet arrived");
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }

    async fn new(relay: &Running, shape: Shape, rate: Option<f64>) -> Result<Self> {
        let clock = Clock::start();
        let mut pairs = Vec::new();
        for _ in 0..shape.pairs {
            let (one, other) = (relay.join().await?, relay.join().await?);
            pairs.push(pair(one, other, BURST)?);
        }
        let mut load = Self::empty();
        for [(send_a, receive_a), (send_b, receive_b)] in pairs {
            load.direct(
                send_a,
                receive_b,
                Flow::new(shape.window, clock, rate.is_some()),
                rate,
            );
            if shape.both_ways {
                load.direct(
                    send_b,
                    receive_a,
                    Flow::new(shape.window, clock, false),
                    rate,
                );
            } else {
                load._idle.push((Some(send_b), Some(receive_a)));
            }
        }
        Ok(load)
    }

    fn direct(
        &mut self,
        mut sender: Sender,
        mut receiver: Receiver,
        flow: Flow,
        rate: Option<f64>,
    ) {
        let flow = Arc::new(flow);
        self.flows.push(Arc::clone(&flow));
        let receiving = Arc::clone(&flow);
        self.tasks.spawn(async move {
            loop {
                receiver.receive(&receiving).await?;
            }
        });
        if let Some(rate) = rate {
            self.tasks
                .spawn(async move { pace(&mut sender, &flow, rate).await });
            return;
        }
        let watched = Arc::clone(&flow);
        self.tasks.spawn(async move {
            watched.give_up_lost().await;
            Ok(())
        });
        self.tasks.spawn(async move {
            loop {
                let room = flow.room(BURST as u64 / 2).await;
                sender
                    .send(&flow, BURST.min(usize::try_from(room)?))
                    .await?;
            }
        });
    }

    async fn measure(&mut self, relay: &Running, length: Duration) -> Result<Seen> {
        self.last(WARM_UP).await?;
        self.forget_times();
        let count =
            |load: &Self, of: fn(&Flow) -> u64| load.flows.iter().map(|flow| of(flow)).sum::<u64>();
        let meter = Meter::start(&relay.server)?;
        let (sent, delivered) = (count(self, Flow::sent), count(self, Flow::delivered));
        self.last(length).await?;
        let used = meter.stop()?;
        let delivered = count(self, Flow::delivered) - delivered;
        let sent = count(self, Flow::sent) - sent;
        if delivered == 0 {
            bail!("the relay forwarded nothing");
        }
        Ok(Seen {
            seconds: used.seconds,
            server_seconds: used.server_seconds,
            delivered,
            run: Run {
                lost: sent.saturating_sub(delivered) as f64 / sent.max(1) as f64,
                ..used.run
            },
        })
    }

    /// Lets the load run; fails if a connection does.
    async fn last(&mut self, length: Duration) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(length) => Ok(()),
            ended = self.tasks.join_next() => {
                ended.context("no load")??.context("under load")
            }
        }
    }
}

/// Sends single packets, evenly spaced. It spins rather than sleeps: timers are coarser than the
/// gaps.
async fn pace(sender: &mut Sender, flow: &Flow, rate: f64) -> Result<()> {
    let start = Instant::now();
    let mut sent = 0;
    loop {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
        let due = (start.elapsed().as_secs_f64() * rate) as u64;
        let count = usize::try_from(due - sent)?.min(BURST);
        if count > 0 {
            sender.send(flow, count).await?;
            sent += count as u64;
        }
        tokio::task::yield_now().await;
    }
}

/// Handshakes at a time.
const JOINING: usize = 32;

/// The server's memory settles.
const SETTLE: Duration = Duration::from_secs(3);

/// Connects so many clients that do nothing; KiB of the server's memory for each.
pub async fn idle(relay: &Running, clients: usize) -> Result<Run> {
    // What the first clients need is not theirs alone: code pages, thread caches.
    let mut idle = JoinSet::new();
    join_all(relay, JOINING, &mut idle).await?;
    tokio::time::sleep(SETTLE).await;
    let before = relay.server.resident()?;
    let meter = Meter::start(&relay.server)?;
    join_all(relay, clients, &mut idle).await?;
    let used = meter.stop()?;
    tokio::time::sleep(SETTLE).await;
    if let Some(ended) = idle.try_join_next() {
        ended?.context("while idle")?;
    }
    let growth = relay.server.resident()?.saturating_sub(before);
    Ok(Run {
        value: growth as f64 / 1024.0 / clients as f64,
        ..used.run
    })
}

async fn join_all(relay: &Running, count: usize, idle: &mut JoinSet<Result<()>>) -> Result<()> {
    use futures_util::{StreamExt, TryStreamExt};
    futures_util::stream::iter(0..count)
        .map(|_| relay.join())
        .buffer_unordered(JOINING)
        .try_for_each(|client| {
            idle.spawn(client.idle());
            std::future::ready(Ok(()))
        })
        .await
}
