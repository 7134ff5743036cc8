//! Packets between two clients of the check's own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use tokio::sync::watch;
use zeroize::Zeroizing;
use ztna_derp::client::{ClientConfig, ConnectError, Event, Receiver, Sender, connect};
use ztna_proto::keys::parse_hex;
use ztna_proto::relay::RelayNode;
use ztna_proto::{WgPrivateKey, WgPublicKey};

use super::front::{median, milliseconds};
use super::report::Fault;
use super::{Done, Outcome};

/// Packets whose round trips are taken.
const ECHOES: u32 = 20;
/// Bytes of each, as a full packet of a tunnel.
const PACKET: usize = 1280;
/// How long as much is sent as arrives.
const FLOOD: Duration = Duration::from_secs(2);
/// Packets that are on their way at a time, to begin with and at least …
const MIN_WINDOW: u64 = 16;
/// … and at most.
const MAX_WINDOW: u64 = 4096;
/// A packet that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// First bytes of WireGuard's transport data: what relays take for bulk.
const DATA: [u8; 4] = [4, 0, 0, 0];
/// Longest client file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Two clients, or why there are none.
pub enum Joined {
    Pair(Pair),
    NotAdmitted(String),
}

/// Two clients that the relay admitted.
pub struct Pair {
    from: Client,
    to: Client,
}

struct Client {
    key: WgPublicKey,
    sender: Sender,
    receiver: Receiver,
}

/// The file of `--client`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientFile<'a> {
    private_key: &'a str,
    ticket: &'a str,
}

/// Connects both. Without files, as strangers, whom only an open relay admits.
pub async fn join(node: RelayNode, files: &[PathBuf]) -> Result<Joined, Fault> {
    let configs = match files {
        [] => [(); 2].map(|()| ClientConfig {
            node: node.clone(),
            key: WgPrivateKey::generate(&mut rand::rng()),
            ticket: String::new(),
        }),
        [first, second] => {
            let read = |path| {
                read_client(path, &node)
                    .map_err(|error| Fault::new(format!("{error:#}"), "correct the file"))
            };
            [read(first)?, read(second)?]
        }
        _ => return Err(Fault::new("one --client", "give two, of one org")),
    };
    let [first, second] = configs;
    let (from, to) = tokio::join!(enter(first), enter(second));
    match (from, to) {
        (Ok(from), Ok(to)) => Ok(Joined::Pair(Pair { from, to })),
        (Err(ConnectError::Refused(reason)), _) | (_, Err(ConnectError::Refused(reason)))
            if files.is_empty() =>
        {
            Ok(Joined::NotAdmitted(format!(
                "the relay does not admit strangers ({reason}); --client twice would send packets as two machines"
            )))
        }
        (Err(error), _) | (_, Err(error)) => Err(Fault::new(error, "look into the relay's log")),
    }
}

fn read_client(path: &Path, node: &RelayNode) -> Result<ClientConfig> {
    let read = || {
        let size = std::fs::metadata(path)?.len();
        ensure!(size <= MAX_FILE, "more than {MAX_FILE} bytes");
        let text = Zeroizing::new(std::fs::read(path)?);
        let file: ClientFile<'_> = serde_json::from_slice(&text)?;
        let key = Zeroizing::new(
            parse_hex(file.private_key).context("private_key is not 64 hex digits")?,
        );
        Ok(ClientConfig {
            node: node.clone(),
            key: WgPrivateKey::from_bytes(*key),
            ticket: file.ticket.to_owned(),
        })
    };
    read().with_context(|| format!("cannot use {}", path.display()))
}

async fn enter(config: ClientConfig) -> Result<Client, ConnectError> {
    let key = config.key.public();
    let (sender, receiver) = connect(config).await?;
    Ok(Client {
        key,
        sender,
        receiver,
    })
}

impl Client {
    /// The next packet's number; `None` if none comes in time.
    async fn number(&mut self) -> Option<u64> {
        let next = async {
            loop {
                match self.receiver.next().await.ok()? {
                    Event::Packet { packet, .. } => return number_of(&packet),
                    // The relay says why nothing will come.
                    Event::PeerGone { .. } => return None,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.ok()?
    }
}

fn packet(number: u64) -> Bytes {
    let mut packet = BytesMut::zeroed(PACKET);
    let mut head = &mut packet[..];
    head.put_slice(&DATA);
    head.put_u64(number);
    packet.freeze()
}

fn number_of(packet: &[u8]) -> Option<u64> {
    packet
        .get(DATA.len()..)?
        .first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
}

const NOTHING_PASSES: &str =
    "two clients of one org must reach each other; are the two --client of one org?";

impl Pair {
    /// Times of packets there and back.
    pub async fn round_trip(&mut self) -> Outcome<()> {
        let mut times = Vec::new();
        for number in 0..u64::from(ECHOES) {
            let start = Instant::now();
            let there = self.from.sender.try_send(self.to.key, packet(number));
            if there.is_err() || self.to.number().await != Some(number) {
                return Err(Fault::new("a packet did not arrive", NOTHING_PASSES));
            }
            let back = self.to.sender.try_send(self.from.key, packet(number));
            if back.is_err() || self.from.number().await != Some(number) {
                return Err(Fault::new("a packet did not come back", NOTHING_PASSES));
            }
            times.push(start.elapsed());
        }
        let middle = median(&mut times);
        let worst = times.last().copied().unwrap_or_default();
        Ok(Done {
            detail: format!(
                "client to client and back in {} (median of {ECHOES}; worst {})",
                milliseconds(middle),
                milliseconds(worst)
            ),
            value: (),
        })
    }

    /// Sends as much as arrives.
    pub async fn throughput(&mut self) -> Outcome<()> {
        let (arrived, mut news) = watch::channel(Arrived::default());
        let to = self.to.key;
        let receive = async {
            while let Some(number) = self.to.number().await {
                arrived.send_modify(|arrived| {
                    arrived.packets += 1;
                    arrived.next = arrived.next.max(number + 1);
                });
            }
        };
        let send = flood(&self.from.sender, to, &mut news);
        let sent = tokio::select! {
            sent = send => sent,
            () = receive => 0,
        };
        let got = arrived.borrow().packets;
        if sent == 0 || got == 0 {
            return Err(Fault::new("packets do not arrive", NOTHING_PASSES));
        }
        // Exact: two seconds' packets.
        #[allow(clippy::cast_precision_loss)]
        let (mbits, lost) = (
            got as f64 * PACKET as f64 * 8.0 / FLOOD.as_secs_f64() / 1e6,
            100.0 * (sent.saturating_sub(got)) as f64 / sent as f64,
        );
        Ok(Done {
            detail: format!("{mbits:.0} Mbit/s of {PACKET} byte packets, {lost:.1} % lost or late"),
            value: (),
        })
    }
}

/// What has come of a flood.
#[derive(Clone, Copy, Default)]
struct Arrived {
    packets: u64,
    /// One more than the highest number.
    next: u64,
}

/// Keeps a window of packets on their way for [`FLOOD`]: it grows with each that arrives and halves
/// when one is lost. Says how many were sent.
async fn flood(sender: &Sender, to: WgPublicKey, news: &mut watch::Receiver<Arrived>) -> u64 {
    let start = Instant::now();
    let (mut sent, mut window, mut known) = (0, MIN_WINDOW, Arrived::default());
    // Numbers below are given up, or have come.
    let mut settled = 0;
    while start.elapsed() < FLOOD {
        while sent - settled < window {
            if sender.try_send(to, packet(sent)).is_err() {
                break;
            }
            sent += 1;
        }
        match tokio::time::timeout(PATIENCE, news.changed()).await {
            Ok(Ok(())) => {
                let now = *news.borrow_and_update();
                let (came, passed) = (now.packets - known.packets, now.next - known.next);
                window = match passed > came {
                    true => (window / 2).max(MIN_WINDOW),
                    false => (window + came).min(MAX_WINDOW),
                };
                settled = settled.max(now.next);
                known = now;
            }
            Ok(Err(_)) => break,
            Err(_) => {
                settled = sent;
                window = MIN_WINDOW;
            }
        }
    }
    sent
}
