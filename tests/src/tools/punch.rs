//! The smallest hole punch there is, to prove what the lab's NATs do.
//!
//! `reflect` tells everybody the address that they come from, like STUN. `punch` asks it, prints
//! what it learnt, is told the peer's address, and sends there until something comes back.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{READY, demand_line};

/// Packets of the punch begin so.
const MAGIC: &[u8] = b"ztpunch";
/// A packet each so often …
const INTERVAL: Duration = Duration::from_millis(50);
/// … for at most this long.
const LIMIT: Duration = Duration::from_secs(2);
/// Who was reached goes on for so long, for the other end's sake.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// One end of a punch.
#[derive(Clone, Debug, clap::Args)]
pub struct PunchArgs {
    /// Own address and port
    #[arg(long)]
    pub bind: SocketAddr,
    /// Where `reflect` runs
    #[arg(long)]
    pub reflector: SocketAddr,
}

/// Answers every packet with the address that it came from, as text, for ever.
///
/// # Errors
/// The socket cannot be opened.
#[allow(clippy::print_stdout)]
pub fn reflect(bind: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(bind).with_context(|| format!("cannot bind {bind}"))?;
    println!("{READY}");
    let mut buffer = [0; 64];
    loop {
        let (_, from) = socket.recv_from(&mut buffer)?;
        // Whoever asked asks again.
        let _ = socket.send_to(from.to_string().as_bytes(), from);
    }
}

/// Runs one end: prints the public address, reads the peer's from standard input, and prints
/// `reached` or `not reached`.
///
/// # Errors
/// The socket cannot be opened, or the reflector does not answer.
#[allow(clippy::print_stdout)]
pub fn punch(args: &PunchArgs) -> Result<()> {
    let socket =
        UdpSocket::bind(args.bind).with_context(|| format!("cannot bind {}", args.bind))?;
    socket.set_read_timeout(Some(INTERVAL))?;
    println!("{}", public_address(&socket, args.reflector)?);
    let peer: SocketAddr = demand_line("the peer's address")?.parse()?;
    let reached = exchange(&socket, peer)?;
    println!("{}", if reached { "reached" } else { "not reached" });
    Ok(())
}

fn public_address(socket: &UdpSocket, reflector: SocketAddr) -> Result<SocketAddr> {
    let deadline = Instant::now() + LIMIT;
    let mut buffer = [0; 64];
    while Instant::now() < deadline {
        socket.send_to(b"?", reflector)?;
        if let Ok((length, from)) = socket.recv_from(&mut buffer)
            && from == reflector
        {
            return Ok(std::str::from_utf8(&buffer[..length])?.parse()?);
        }
    }
    bail!("no answer from the reflector {reflector}");
}

/// Whether a packet of the peer comes. Keeps sending for a while after, so that the end that is
/// reached first does not leave the other one alone, and answers to where the peer's packets come
/// from: behind a hard NAT that is another port than the one the reflector saw.
fn exchange(socket: &UdpSocket, mut peer: SocketAddr) -> Result<bool> {
    let mut deadline = Instant::now() + LIMIT;
    let mut reached = false;
    let mut buffer = [0; 64];
    while Instant::now() < deadline {
        socket.send_to(MAGIC, peer)?;
        let until_next = Instant::now() + INTERVAL;
        while Instant::now() < until_next {
            if let Ok((length, from)) = socket.recv_from(&mut buffer)
                && &buffer[..length] == MAGIC
            {
                if !reached {
                    deadline = Instant::now() + AFTERWARDS;
                }
                reached = true;
                peer = from;
            }
        }
    }
    Ok(reached)
}
