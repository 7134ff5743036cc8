//! What the STUN service answers to a message.
//!
//! Input: flags, then the message.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ztna_fuzz::framed;
use ztna_stun::client::{is_stun, parse_response};
use ztna_stun::discovery::{CORNERS, Corners, Vantage};
use ztna_stun::respond::{Answer, MAX_AMPLIFICATION, MAX_ANSWER, MAX_BARE_ANSWER, respond};

/// The request gets the length that it has.
const FRAMED: u8 = 1;
/// It gets a FINGERPRINT too.
const FINGERPRINT: u8 = 2;
/// It comes from an IPv6 address.
const IPV6: u8 = 4;
/// The server has two addresses; the two bits after it are the place of the one that was asked.
const VANTAGE: u8 = 8;
const PLACE: u32 = 4;

const BARE_REQUEST: usize = 20;

static V4: LazyLock<Option<Corners>> = LazyLock::new(|| {
    let corner = |last, port| SocketAddr::new(Ipv4Addr::new(192, 0, 2, last).into(), port);
    Corners::new(corner(1, 3478), corner(2, 3479)).ok()
});
static V6: LazyLock<Option<Corners>> = LazyLock::new(|| {
    let ip = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    let corner = |last, port| SocketAddr::new(ip(last).into(), port);
    Corners::new(corner(1, 3478), corner(2, 3479)).ok()
});

fuzz_target!(|data: &[u8]| {
    let Some((&flags, request)) = data.split_first() else {
        return;
    };
    let made;
    let request = if flags & FRAMED != 0 {
        made = framed(request, flags & FINGERPRINT != 0);
        &made
    } else {
        request
    };
    let v6 = flags & IPV6 != 0;
    let ip: IpAddr = if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into()
    } else {
        Ipv4Addr::new(198, 51, 100, 7).into()
    };
    let from = SocketAddr::new(ip, 40000);
    let corners = if v6 { &V6 } else { &V4 }.as_ref();
    let vantage = corners
        .filter(|_| flags & VANTAGE != 0)
        .map(|corners| Vantage {
            corners,
            at: usize::from(flags >> PLACE) % CORNERS,
        });

    let mut memory = [0; MAX_ANSWER];
    let (length, success) = match respond(request, from, vantage, &mut memory) {
        Answer::Success {
            length,
            corner,
            port,
        } => {
            assert!(corner < CORNERS && port != Some(0));
            assert!(vantage.is_some() || (corner == 0 && port.is_none()));
            (length, true)
        }
        Answer::UnknownAttribute { length } => (length, false),
        Answer::Silence => return,
    };
    let limit = match request.len() {
        BARE_REQUEST => MAX_BARE_ANSWER,
        length => length * MAX_AMPLIFICATION,
    };
    assert!(
        length <= limit,
        "{length} bytes in answer to {}",
        request.len()
    );
    let answer = &memory[..length];
    assert!(length.is_multiple_of(4));
    assert_eq!(
        answer[2..4],
        u16::try_from(length - 20).unwrap_or_default().to_be_bytes()
    );
    assert_eq!(answer[4..20], request[4..20], "another transaction");
    if is_stun(answer) {
        let read = parse_response(answer).map(|(_, address)| address);
        assert_eq!(read, success.then_some(from));
    }
});
