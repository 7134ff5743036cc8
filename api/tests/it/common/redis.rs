//! A Valkey or Redis of our own, on a loopback port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than a start ever takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Redis {
    address: SocketAddr,
    server: Option<Child>,
}

impl Redis {
    pub fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut redis = Self {
            address,
            server: None,
        };
        redis.resume();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Ends the server, and with it what it held.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Starts it on the same port, empty.
    pub fn resume(&mut self) {
        let server = ["valkey-server", "redis-server"]
            .iter()
            .find_map(|program| {
                Command::new(program)
                    .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                    .args(["--port", &self.address.port().to_string()])
                    .stdout(Stdio::null())
                    .spawn()
                    .ok()
            })
            .expect("neither valkey-server nor redis-server is here; `./dev test` installs it");
        self.server = Some(server);
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(begin.elapsed() < PATIENCE, "the server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
