//! The program: what it serves, what it counts, and how it ends.
// The lints know tests by their attribute; the helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use program::Program;
use ztna_stun::client::{TransactionId, parse_response, request};

/// Only a failing test waits for so long.
const LIMIT: Duration = Duration::from_secs(20);

fn ask_udp(server: SocketAddr) -> SocketAddr {
    let client = UdpSocket::bind((server.ip(), 0)).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client
        .send_to(&request(TransactionId([8; 12])), server)
        .unwrap();
    let mut answer = [0; 200];
    let (length, from) = client.recv_from(&mut answer).unwrap();
    assert_eq!(from, server);
    let (transaction, seen) = parse_response(&answer[..length]).unwrap();
    assert_eq!(transaction, TransactionId([8; 12]));
    assert_eq!(seen, client.local_addr().unwrap());
    seen
}

fn figures(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn both_families_and_both_transports_are_served_and_counted() {
    let arguments = [
        "--listen",
        "127.0.0.1:0,[::1]:0",
        "--metrics-listen",
        "127.0.0.1:0",
    ];
    let server = Program::start(&arguments).unwrap();
    let [metrics, v4, v6] = server.addresses() else {
        panic!("not three addresses");
    };
    ask_udp(*v4);
    ask_udp(*v6);
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .send_to(b"noise", v4)
        .unwrap();
    let mut stream = TcpStream::connect(v4).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&request(TransactionId([9; 12]))).unwrap();
    let mut answer = [0; 48];
    stream.read_exact(&mut answer).unwrap();
    let seen = parse_response(&answer).unwrap();
    assert_eq!(seen, (TransactionId([9; 12]), stream.local_addr().unwrap()));
    let expected = [
        "ztna_stun_requests_total{disposition=\"success\"} 3",
        "ztna_stun_requests_total{disposition=\"not_stun\"} 1",
        "ztna_stun_addrfamily_total{family=\"ipv4\"} 2",
        "ztna_stun_addrfamily_total{family=\"ipv6\"} 1",
        "ztna_stun_tcp_connections_total{disposition=\"accepted\"} 1",
    ];
    // Counts come after answers.
    let started = Instant::now();
    loop {
        let text = figures(*metrics);
        let Some(missing) = expected.iter().find(|line| !text.contains(**line)) else {
            break;
        };
        assert!(started.elapsed() < LIMIT, "no {missing:?} in:\n{text}");
    }
    assert!(server.terminate().success());
}

/// Each client comes by its own way through the kernel's choice of sockets.
#[test]
fn every_worker_answers() {
    let server = Program::start(&["--listen", "127.0.0.1:0", "--workers", "8"]).unwrap();
    for _ in 0..64 {
        ask_udp(server.address());
    }
    assert!(server.terminate().success());
}

#[test]
fn what_cannot_be_served_is_told_with_the_next_step() {
    let taken = Program::start(&["--listen", "127.0.0.1:0"]).unwrap();
    let at = taken.address().to_string();
    let table: [(&[&str], &str); 4] = [
        (&["--listen", &at], "stop what is there"),
        (&["--listen", "192.0.2.1:3478"], "no such address"),
        (
            &["--listen", "0.0.0.0:0", "--alternate", "127.0.0.2:1"],
            "names no address",
        ),
        (
            &["--listen", "127.0.0.1:0", "--alternate", "[::1]:1"],
            "needs a --listen of its own",
        ),
    ];
    for (arguments, expected) in table {
        let said = Program::start(&[arguments, &["--listen", "127.0.0.1:0"]].concat()).err();
        let said = said.unwrap_or_else(|| panic!("{arguments:?} is served"));
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn its_health_can_be_asked_without_another_program() {
    let health = |address: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ztna-stun"));
        command
            .args(["health", "--listen", address])
            .output()
            .unwrap()
    };
    let server = Program::start(&["--listen", "0.0.0.0:0"]).unwrap();
    let port = server.address().port();
    let answer = health(&format!("0.0.0.0:{port}"));
    assert!(answer.status.success(), "{answer:?}");
    let log = String::from_utf8(answer.stderr).unwrap();
    assert!(
        !log.contains('\u{1b}'),
        "colours where no terminal is: {log:?}"
    );
    assert!(server.terminate().success());
    let answer = health(&format!("127.0.0.1:{port}"));
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
}
