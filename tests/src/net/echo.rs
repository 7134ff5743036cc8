//! Pings out of a namespace to many addresses, without a process for each.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Ipv4Slice};
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::TimeVal;

use super::Netns;

/// One that has not answered is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Pings one address after the other until it has answered; returns the longest time that one took.
///
/// # Errors
/// One does not answer in time, or there can be no socket.
pub fn reach_all(netns: &Netns, addresses: &[Ipv4Addr], limit: Duration) -> Result<Duration> {
    netns.within(|| {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Icmp,
        )
        .context("cannot open a socket for ICMP")?;
        let patience = TimeVal::new(i64::try_from(AGAIN.as_secs())?, 0);
        setsockopt(&socket, ReceiveTimeout, &patience)?;
        let mut slowest = Duration::ZERO;
        for address in addresses {
            let since = Instant::now();
            ask(&socket, *address);
            let mut asked = since;
            while answer(&socket)? != Some(*address) {
                if since.elapsed() > limit {
                    bail!("{address} does not answer within {} s", limit.as_secs());
                }
                if asked.elapsed() >= AGAIN {
                    ask(&socket, *address);
                    asked = Instant::now();
                }
            }
            slowest = slowest.max(since.elapsed());
        }
        Ok(slowest)
    })
}

/// Whoever cannot be asked now is asked again.
fn ask(socket: &OwnedFd, address: Ipv4Addr) {
    let echo = IcmpEchoHeader { id: 1, seq: 1 };
    let request = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &[]);
    let to = SockaddrIn::from(SocketAddrV4::new(address, 0));
    let _ = sendto(
        socket.as_raw_fd(),
        &request.to_bytes(),
        &to,
        MsgFlags::empty(),
    );
}

/// Who answered, if somebody did before it is time to ask again.
fn answer(socket: &OwnedFd) -> Result<Option<Ipv4Addr>> {
    let mut buffer = [0; 2048];
    let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        Ok(length) => length,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        Err(error) => return Err(error).context("cannot receive pings"),
    };
    let Ok(packet) = Ipv4Slice::from_slice(&buffer[..length]) else {
        return Ok(None);
    };
    let is_reply = Icmpv4Slice::from_slice(packet.payload().payload)
        .is_ok_and(|message| matches!(message.icmp_type(), Icmpv4Type::EchoReply(_)));
    Ok(is_reply.then(|| packet.header().source_addr()))
}
