//! One STUN Binding request (RFC 8489).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::front::milliseconds;
use super::report::Fault;
use super::{Done, Outcome};

/// Requests that are sent before giving up …
const TRIES: usize = 3;
/// … each after this time.
const PATIENCE: Duration = Duration::from_secs(1);
/// RFC 8489 §5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_LEN: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
/// RFC 8489 §14.2.
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Asks a STUN service what address this machine has for it.
pub async fn ask(service: SocketAddr) -> Outcome<()> {
    let next = "is ztna-stun running, and does a firewall let this UDP port in?";
    match query(service).await {
        Ok((mapped, rtt)) => Ok(Done {
            detail: format!(
                "{service} in {}; this machine is {mapped} for it",
                milliseconds(rtt)
            ),
            value: (),
        }),
        Err(error) => Err(Fault::new(format!("{service}/udp: {error}"), next)),
    }
}

async fn query(service: SocketAddr) -> io::Result<(SocketAddr, Duration)> {
    let any: IpAddr = match service {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(service).await?;
    let transaction: [u8; 12] = rand::random();
    let mut request = Vec::with_capacity(HEADER_LEN);
    request.extend(BINDING_REQUEST);
    request.extend([0, 0]);
    request.extend(MAGIC_COOKIE);
    request.extend(transaction);
    let mut answer = [0; 1500];
    for _ in 0..TRIES {
        let start = Instant::now();
        socket.send(&request).await?;
        let Ok(received) = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await else {
            continue;
        };
        if let Some(mapped) = mapped(&answer[..received?], &transaction) {
            return Ok((mapped, start.elapsed()));
        }
    }
    Err(io::Error::other(format!("no answer to {TRIES} requests")))
}

/// The address in a success answer to our request.
fn mapped(answer: &[u8], transaction: &[u8; 12]) -> Option<SocketAddr> {
    let (header, mut attributes) = answer.split_at_checked(HEADER_LEN)?;
    let ours = header.starts_with(&BINDING_SUCCESS)
        && header[4..8] == MAGIC_COOKIE
        && header[8..] == *transaction;
    if !ours {
        return None;
    }
    let mask = [&MAGIC_COOKIE[..], transaction].concat();
    loop {
        let (head, rest) = attributes.split_first_chunk::<4>()?;
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..len)?;
        if kind == XOR_MAPPED_ADDRESS {
            return unmask(value, &mask);
        }
        attributes = rest.get(len.next_multiple_of(4)..)?;
    }
}

fn unmask(value: &[u8], mask: &[u8]) -> Option<SocketAddr> {
    let (head, address) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([head[2] ^ mask[0], head[3] ^ mask[1]]);
    let clear: Vec<u8> = address
        .iter()
        .zip(mask)
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    let ip: IpAddr = match head[1] {
        1 => <[u8; 4]>::try_from(clear).ok()?.into(),
        2 => <[u8; 16]>::try_from(clear).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769 §2.2 and §2.3, sample responses.
    const TRANSACTION: [u8; 12] = [
        0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
    ];

    fn answer(attributes: &[u8]) -> Vec<u8> {
        let mut answer = vec![1, 1, 0, u8::try_from(attributes.len()).unwrap()];
        answer.extend(MAGIC_COOKIE);
        answer.extend(TRANSACTION);
        answer.extend(attributes);
        answer
    }

    #[test]
    fn the_samples_of_rfc_5769_are_read() {
        let software = b"\x80\x22\x00\x0btest vector ";
        let v4 = b"\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43";
        let got = mapped(&answer(&[&software[..], v4].concat()), &TRANSACTION);
        assert_eq!(got, Some("192.0.2.1:32853".parse().unwrap()));
        let v6 = b"\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\
            \xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9";
        let got = mapped(&answer(v6), &TRANSACTION);
        let expected = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        assert_eq!(got, Some(expected.parse().unwrap()));
        assert_eq!(mapped(&answer(v4), &[0; 12]), None);
        assert_eq!(mapped(&answer(software), &TRANSACTION), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = mapped(&bytes, &TRANSACTION);
            let _ = mapped(&answer(&bytes), &TRANSACTION);
        }
    }
}
