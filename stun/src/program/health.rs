//! `ztna-stun health`: does the service of this machine answer? For images, which have no other program to ask with.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use ztna_stun::client::{TransactionId, parse_response, request};

/// Requests that are sent: on this machine itself one is lost only if the service has no time for it …
const TRIES: u8 = 3;
/// … and how long each is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Room for an answer.
const MAX_ANSWER: usize = 256;

/// Fails unless the service at an address answers.
pub async fn run(address: SocketAddr) -> Result<()> {
    let (address, own) = local(address);
    let socket = UdpSocket::bind(own).await?;
    socket
        .connect(address)
        .await
        .with_context(|| format!("{address} cannot be reached"))?;
    for number in 0..TRIES {
        // Nobody but this machine can send to the socket that it is compared at.
        let transaction = TransactionId([number; 12]);
        if let Some(answer) = ask(&socket, transaction).await
            && answer == transaction
        {
            tracing::info!(%address, "the STUN service answers");
            return Ok(());
        }
    }
    bail!("no STUN service answers at {address}")
}

async fn ask(socket: &UdpSocket, transaction: TransactionId) -> Option<TransactionId> {
    let mut answer = [0; MAX_ANSWER];
    let exchange = async {
        socket.send(&request(transaction)).await.ok()?;
        let length = socket.recv(&mut answer).await.ok()?;
        Some(parse_response(&answer[..length])?.0)
    };
    let answer = timeout(PATIENCE, exchange).await.ok().flatten();
    if answer.is_none() {
        // A refusal comes at once; the service may be about to start.
        tokio::time::sleep(PATIENCE / 4).await;
    }
    answer
}

/// The same port on this machine, and a place of its family to ask from.
fn local(mut address: SocketAddr) -> (SocketAddr, SocketAddr) {
    let is_v4 = address.is_ipv4();
    if address.ip().is_unspecified() {
        match is_v4 {
            true => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            false => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
    }
    let own: SocketAddr = match is_v4 {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    (address, own)
}
