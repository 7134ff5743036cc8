//! `ztna-stun` as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running server; it ends with this.
pub struct Program {
    child: Child,
    addresses: Vec<SocketAddr>,
}

impl Program {
    /// Starts it, and waits until it serves at every address. The error is what it said if it ended
    /// before.
    pub fn start(arguments: &[&str]) -> Result<Self, String> {
        let expected = arguments
            .iter()
            .zip(arguments.iter().skip(1))
            .filter(|(flag, _)| **flag == "--listen" || **flag == "--metrics-listen")
            .map(|(_, value)| value.split(',').count())
            .sum();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ztna-stun"))
            .args(arguments)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut addresses = Vec::new();
        let mut said = String::new();
        while addresses.len() < expected {
            let start = said.len();
            if log.read_line(&mut said).unwrap() == 0 {
                child.wait().unwrap();
                return Err(said);
            }
            let address: Option<SocketAddr> = said[start..]
                .split_once("address=")
                .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
            addresses.extend(address);
        }
        // It must not stop at a full pipe.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Ok(Self { child, addresses })
    }

    /// Where it serves, if it has one address.
    pub fn address(&self) -> SocketAddr {
        *self.addresses.last().unwrap()
    }

    /// Where it serves: figures first, if it has any.
    #[allow(dead_code)] // Not every test has several.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends it as a service manager does.
    #[allow(dead_code)] // Not every test asks.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
