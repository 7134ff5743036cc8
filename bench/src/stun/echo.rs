//! The yardstick: a server that sends every datagram back, with the socket calls of `ztna-stun`.

use std::net::SocketAddrV4;

use anyhow::Result;

use super::mmsg::{Batch, bind_shared};

/// Serves until it is killed, with a socket and a thread per core.
pub fn serve(address: SocketAddrV4) -> Result<()> {
    let workers = std::thread::available_parallelism()?.get();
    let mut threads = Vec::new();
    for _ in 0..workers {
        let socket = bind_shared(address)?;
        threads.push(std::thread::spawn(move || -> Result<()> {
            let mut batch = Batch::new(true);
            loop {
                let count = batch.receive(&socket)?;
                batch.send(&socket, count)?;
            }
        }));
    }
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a thread of the echo server panicked"))??;
    }
    Ok(())
}
