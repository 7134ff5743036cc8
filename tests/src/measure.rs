//! What is measured between two machines, and how the path is proved.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::agent::Agent;
use crate::net::{Host, Netns, nat};
use crate::program::{Finished, Program, Tool, finish};
use crate::record::Figures;
use crate::tools::stream::StreamReport;

/// UDP port of both ends of the stream.
pub const STREAM_PORT: u16 = 9000;
/// Packets a second of the stream.
pub const STREAM_RATE: u32 = 1000;
/// How long iperf3 sends.
const IPERF_SECONDS: u32 = 3;
/// Longest wait for iperf3.
const IPERF_LIMIT: Duration = Duration::from_secs(30);
/// Share of all bytes that must take a path for it to be *the* path. The rest is probes.
const CLEAR_SHARE: f64 = 0.95;

/// Both ends of a stream that runs.
pub struct Stream {
    ends: [Tool; 2],
}

/// What both ends of a stream saw together.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Sent by the first end and never received.
    pub forward: u64,
    /// Sent by the second end and never received.
    pub backward: u64,
    /// What the ends reported.
    pub ends: [StreamReport; 2],
}

impl Stream {
    /// Starts a stream. `ends`: where each end runs and the address that it binds; `seen_as`: the
    /// address at which the other end reaches it.
    ///
    /// # Errors
    /// An end does not have its address.
    pub fn start(ends: [(&Netns, Ipv4Addr); 2], seen_as: [Ipv4Addr; 2]) -> Result<Self> {
        Self::start_at(STREAM_RATE, ends, seen_as)
    }

    /// [`Stream::start`] with so many packets a second.
    ///
    /// # Errors
    /// An end does not have its address.
    pub fn start_at(
        rate: u32,
        ends: [(&Netns, Ipv4Addr); 2],
        seen_as: [Ipv4Addr; 2],
    ) -> Result<Self> {
        let rate = rate.to_string();
        let end = |own: usize, far: usize| {
            let bind = format!("{}:{STREAM_PORT}", ends[own].1);
            let peer = format!("{}:{STREAM_PORT}", seen_as[far]);
            let args = ["stream", "--bind", &bind, "--peer", &peer, "--rate", &rate];
            Tool::start_ready(ends[own].0, &args)
        };
        let mut ends = [end(0, 1)?, end(1, 0)?];
        for end in &mut ends {
            end.say("go")?;
        }
        Ok(Self { ends })
    }

    /// [`Stream::start`] between two agents.
    ///
    /// # Errors
    /// One is not enrolled.
    pub fn between(a: &Agent, b: &Agent) -> Result<Self> {
        Self::between_at(STREAM_RATE, a, b)
    }

    /// [`Stream::between`] with so many packets a second.
    ///
    /// # Errors
    /// One is not enrolled.
    pub fn between_at(rate: u32, a: &Agent, b: &Agent) -> Result<Self> {
        let addresses = [a.ipv4()?, b.ipv4()?];
        let ends = [(a.netns(), addresses[0]), (b.netns(), addresses[1])];
        Self::start_at(rate, ends, addresses)
    }

    /// Ends the stream and counts.
    ///
    /// # Errors
    /// An end died.
    pub fn finish(mut self) -> Result<Loss> {
        for end in &mut self.ends {
            end.close_input();
        }
        let mut report = |end: usize| -> Result<StreamReport> {
            let json = self.ends[end].read_line()?;
            serde_json::from_str(&json).with_context(|| format!("stream report {json}"))
        };
        let ends = [report(0)?, report(1)?];
        let loss = |from: usize, to: usize| ends[from].sent.saturating_sub(ends[to].received);
        Ok(Loss {
            forward: loss(0, 1),
            backward: loss(1, 0),
            ends,
        })
    }
}

impl Loss {
    /// Notes what the stream lost.
    pub fn note(&self, figures: &mut Figures) {
        figures.set("stream_sent", self.ends[0].sent + self.ends[1].sent);
        figures.set("lost_a_to_b", self.forward);
        figures.set("lost_b_to_a", self.backward);
        figures.set("max_gap_ms", self.max_gap_ms());
    }

    /// Longest silence at either end.
    #[must_use]
    pub fn max_gap_ms(&self) -> u64 {
        self.ends[0].max_gap_ms.max(self.ends[1].max_gap_ms)
    }

    /// Demands that nothing was lost.
    ///
    /// # Errors
    /// Something was: the error names the numbers.
    pub fn demand_none(&self) -> Result<()> {
        if self.forward == 0 && self.backward == 0 {
            return Ok(());
        }
        bail!(
            "the stream lost {} of {} packets one way (missing {:?}) and {} of {} the other way (missing {:?})",
            self.forward,
            self.ends[0].sent,
            self.ends[1].missing,
            self.backward,
            self.ends[1].sent,
            self.ends[0].missing,
        );
    }
}

/// Where a pair's packets went, by the counters of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// UDP between the two.
    Direct,
    /// TCP with the relay.
    Relay,
    /// Some of each.
    Mixed,
}

impl Path {
    /// The word for it in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Mixed => "mixed",
        }
    }
}

/// Place where a machine's packets are counted: its router outside NAT, or the machine itself.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// The namespace that counts.
    pub at: Netns,
    /// The other machine, as seen from there.
    pub peer: Ipv4Addr,
    /// The relay, as seen from there.
    pub relay: (Ipv4Addr, u16),
}

impl Gauge {
    /// A gauge on a machine itself, for peers on its own LAN.
    #[must_use]
    pub fn on_host(host: &Host, peer: &Host, relay: (Ipv4Addr, u16)) -> Self {
        Self {
            at: host.netns.clone(),
            peer: peer.address,
            relay,
        }
    }

    /// Sets the counters to zero.
    ///
    /// # Errors
    /// The namespace counts nothing.
    pub fn reset(&self) -> Result<()> {
        nat::reset(&self.at)
    }

    /// Bytes since the reset: direct and relayed.
    ///
    /// # Errors
    /// The namespace counts nothing.
    pub fn bytes(&self) -> Result<(u64, u64)> {
        let meter = nat::read(&self.at)?;
        let direct = meter.udp_with(self.peer).bytes;
        let relayed = meter.either_with(self.relay.0, self.relay.1).bytes;
        Ok((direct, relayed))
    }

    /// Which path the packets since the reset took, of which there were `packets` at least.
    ///
    /// # Errors
    /// Fewer bytes passed than those packets must have: they went somewhere else.
    pub fn path(&self, packets: u64) -> Result<Path> {
        let (direct, relayed) = self.bytes()?;
        classify(direct, relayed, packets).with_context(|| format!("counted at {}", self.at.name()))
    }
}

fn classify(direct: u64, relayed: u64, packets: u64) -> Result<Path> {
    // A stream packet is 172 bytes, before any header.
    let least = packets * 172;
    if direct + relayed < least {
        bail!("{direct} bytes direct and {relayed} relayed cannot be {packets} packets");
    }
    let share = direct as f64 / (direct + relayed) as f64;
    Ok(if share >= CLEAR_SHARE {
        Path::Direct
    } else if share <= 1.0 - CLEAR_SHARE {
        Path::Relay
    } else {
        Path::Mixed
    })
}

/// TCP throughput from `client` to `server` through the tailnet, in Mbit/s.
///
/// # Errors
/// iperf3 fails.
pub fn throughput(client: &Agent, server: &Agent, log: &std::path::Path) -> Result<f64> {
    let to = (server.netns(), server.ipv4()?);
    Bulk::start(client.netns(), to, IPERF_SECONDS, log)?.finish()
}

/// A TCP flow that sends as fast as it can.
pub struct Bulk {
    sender: std::thread::JoinHandle<Result<Finished>>,
    // Killed when the flow has ended.
    _listening: Program,
}

impl Bulk {
    /// Starts a flow of so many seconds to an address of another namespace.
    ///
    /// # Errors
    /// iperf3 cannot be started.
    pub fn start(
        from: &Netns,
        to: (&Netns, Ipv4Addr),
        seconds: u32,
        log: &std::path::Path,
    ) -> Result<Self> {
        let address = to.1.to_string();
        let mut listen = to.0.command("iperf3");
        listen.args(["-s", "-1", "-B", &address, "--forceflush"]);
        let mut listening = Program::start("iperf3", listen, log)?;
        wait_listening(&mut listening, to.0, 5201)?;
        let mut send = from.command("iperf3");
        send.args(["-c", &address, "-J", "-t", &seconds.to_string()]);
        let limit = IPERF_LIMIT + Duration::from_secs(u64::from(seconds));
        Ok(Self {
            sender: std::thread::spawn(move || finish(send, limit)),
            _listening: listening,
        })
    }

    /// Waits for the flow's end and returns what arrived, in Mbit/s.
    ///
    /// # Errors
    /// iperf3 fails.
    pub fn finish(self) -> Result<f64> {
        let finished = self
            .sender
            .join()
            .map_err(|_| anyhow::anyhow!("the thread of iperf3 panicked"))??;
        let result: Value = serde_json::from_str(&finished.stdout)
            .with_context(|| format!("iperf3 said {} {}", finished.stdout, finished.stderr))?;
        if let Some(error) = result["error"].as_str() {
            bail!("iperf3: {error}");
        }
        let bits = result["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .context("iperf3 names no figure")?;
        Ok((bits / 1e5).round() / 10.0)
    }
}

/// Waits until something listens on a TCP port in a namespace.
fn wait_listening(program: &mut Program, netns: &Netns, port: u16) -> Result<()> {
    let what = format!("something listens on port {port}");
    crate::net::cmd::poll(Duration::from_secs(10), &what, || {
        program.check_running()?;
        let mut ss = netns.command("ss");
        ss.args(["-Hltn", "sport", "=", &format!(":{port}")]);
        let listening = finish(ss, Duration::from_secs(10))?.stdout;
        Ok((!listening.trim().is_empty()).then_some(()))
    })
}

/// Lets a stream run for a while.
pub fn let_run(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::sleep(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_where_the_bytes_went() {
        assert_eq!(classify(1_000_000, 900, 1000).unwrap(), Path::Direct);
        assert_eq!(classify(900, 1_000_000, 1000).unwrap(), Path::Relay);
        assert_eq!(classify(500_000, 500_000, 1000).unwrap(), Path::Mixed);
    }

    #[test]
    fn packets_that_nobody_counted_are_an_error() {
        assert!(classify(100, 100, 1000).is_err());
    }
}
