//! UDP packets at an even pace, and how many of them arrive.
//!
//! iperf3's own pace is in bursts that its receiver's socket loses: beside plain veth it finds 20,000
//! packets/s.

// setsockopt with SO_RCVBUFFORCE has no safe wrapper in std.
#![allow(unsafe_code)]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

/// Between two looks at how many packets are due.
const TICK: Duration = Duration::from_micros(250);
/// The receiver's buffer, so that what is lost is lost on the way.
static RECEIVE_BUFFER: libc::c_int = 16 << 20;
/// The receiver ends after so much silence.
const SILENCE: Duration = Duration::from_millis(400);
/// The receiver ends if nothing comes at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends UDP packets at an even pace, or counts them.
#[derive(Parser)]
enum Options {
    /// Send, and print how many packets were sent
    Send {
        /// Where to
        to: SocketAddr,
        /// Payload, in bytes
        payload: usize,
        /// Packets per second
        rate: f64,
        /// For so long
        seconds: f64,
    },
    /// Print `ready`; receive until nothing more comes; print how many packets came
    Receive {
        /// Address to listen at
        at: SocketAddr,
    },
}

fn main() -> Result<()> {
    match Options::parse() {
        Options::Send {
            to,
            payload,
            rate,
            seconds,
        } => println!("{}", send(to, payload, rate, seconds)?),
        Options::Receive { at } => println!("{}", receive(at)?),
    }
    Ok(())
}

fn send(to: SocketAddr, payload: usize, rate: f64, seconds: f64) -> Result<u64> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.connect(to)?;
    let packet = vec![0; payload];
    let start = Instant::now();
    let mut sent = 0_u64;
    loop {
        let elapsed = start.elapsed().as_secs_f64();
        if elapsed >= seconds {
            return Ok(sent);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some 100,000
        let due = (elapsed * rate) as u64;
        while sent < due {
            socket.send(&packet).context("send")?;
            sent += 1;
        }
        sleep(TICK);
    }
}

fn receive(at: SocketAddr) -> Result<u64> {
    let socket = UdpSocket::bind(at)?;
    // SAFETY: the option's value is an int that lives during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const RECEIVE_BUFFER).cast(),
            u32::try_from(size_of_val(&RECEIVE_BUFFER))?,
        )
    };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).context("SO_RCVBUFFORCE");
    }
    println!("ready");
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 2048];
    let mut received = 0_u64;
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) => {
                if received == 0 {
                    socket.set_read_timeout(Some(SILENCE))?;
                }
                received += 1;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(received);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
