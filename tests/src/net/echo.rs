//! Pings out of a namespace to many addresses, without a process for each.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Ipv4Slice};
use socket2::{Domain, Protocol, Socket, Type};

use super::Netns;

/// Addresses that are asked at the same time.
const AT_ONCE: usize = 4;
/// One that has not answered is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// How long is waited for an answer before it is looked who has to be asked again.
const LOOK: Duration = Duration::from_millis(50);

/// Pings every address until it has answered; returns the longest time that one took.
///
/// # Errors
/// One does not answer in time, or there can be no socket.
pub fn reach_all(netns: &Netns, addresses: &[Ipv4Addr], limit: Duration) -> Result<Duration> {
    netns.within(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
            .context("cannot open a socket for ICMP")?;
        socket.set_read_timeout(Some(LOOK))?;
        let mut waiting: VecDeque<Ipv4Addr> = addresses.iter().copied().collect();
        // Since when, and when last.
        let mut asked: BTreeMap<Ipv4Addr, (Instant, Instant)> = BTreeMap::new();
        let mut slowest = Duration::ZERO;
        while !(waiting.is_empty() && asked.is_empty()) {
            let now = Instant::now();
            while asked.len() < AT_ONCE
                && let Some(address) = waiting.pop_front()
            {
                ask(&socket, address);
                asked.insert(address, (now, now));
            }
            for (address, (since, last)) in &mut asked {
                if since.elapsed() > limit {
                    bail!("{address} does not answer within {} s", limit.as_secs());
                }
                if last.elapsed() >= AGAIN {
                    ask(&socket, *address);
                    *last = Instant::now();
                }
            }
            if let Some((since, _)) = answer(&socket)?.and_then(|from| asked.remove(&from)) {
                slowest = slowest.max(since.elapsed());
            }
        }
        Ok(slowest)
    })
}

/// Whoever cannot be asked now is asked again.
fn ask(socket: &Socket, address: Ipv4Addr) {
    let echo = IcmpEchoHeader { id: 1, seq: 1 };
    let request = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &[]);
    let _ = socket.send_to(&request.to_bytes(), &SocketAddr::from((address, 0)).into());
}

/// Who answered, if somebody did before it is time to look.
fn answer(socket: &Socket) -> Result<Option<Ipv4Addr>> {
    let mut buffer = [0; 2048];
    let length = match (&*socket).read(&mut buffer) {
        Ok(length) => length,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Ok(None);
        }
        Err(error) => return Err(error).context("cannot receive pings"),
    };
    let Ok(packet) = Ipv4Slice::from_slice(&buffer[..length]) else {
        return Ok(None);
    };
    let is_reply = Icmpv4Slice::from_slice(packet.payload().payload)
        .is_ok_and(|message| matches!(message.icmp_type(), Icmpv4Type::EchoReply(_)));
    Ok(is_reply.then(|| packet.header().source_addr()))
}
