use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;
use crate::client::{TransactionId, parse_response, request};

/// Only a failing test waits for so long.
const LIMIT: Duration = Duration::from_secs(20);

struct Serving {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    fn start(listener: Listener) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(listener, stop.clone()));
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.task)
            .await
            .expect("the service did not stop")
            .unwrap();
    }
}

fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Asks, and tells what the answer says and where it came from.
fn ask(client: &UdpSocket, message: &[u8], server: SocketAddr) -> (Vec<u8>, SocketAddr) {
    client.send_to(message, server).unwrap();
    let mut answer = [0; 200];
    let (length, from) = client.recv_from(&mut answer).unwrap();
    (answer[..length].to_vec(), from)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_from_where_the_request_went() {
    let listener = bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let port = listener.local_addr().port();
    let serving = Serving::start(listener);
    let client = client("127.0.0.1:0");
    for asked in [Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 9, 8, 7)] {
        let server = SocketAddr::from((asked, port));
        let (_, from) = ask(&client, &request(TransactionId([4; 12])), server);
        assert_eq!(from, server);
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_its_address() {
    for (at, to, mine) in [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1:0"),
        ("0.0.0.0:0", "127.0.0.1", "127.0.0.1:0"),
        ("[::]:0", "127.0.0.1", "127.0.0.1:0"),
        ("[::]:0", "127.9.8.7", "127.0.0.1:0"),
        ("[::]:0", "::1", "[::1]:0"),
        ("[::1]:0", "::1", "[::1]:0"),
    ] {
        let listener = bind(at.parse().unwrap()).unwrap();
        let server = SocketAddr::new(to.parse().unwrap(), listener.local_addr().port());
        let serving = Serving::start(listener);
        let client = client(mine);
        client.send_to(b"noise", server).unwrap();
        let (answer, from) = ask(&client, &request(TransactionId([3; 12])), server);
        let (transaction, seen) = parse_response(&answer).unwrap();
        assert_eq!(transaction, TransactionId([3; 12]));
        assert_eq!(seen, client.local_addr().unwrap(), "{at} {to}");
        assert_eq!(from, server, "{at} {to}");
        serving.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_are_served_at_one_port() {
    let options = Options {
        dual_stack: false,
        workers: 2.try_into().unwrap(),
        ..Options::default()
    };
    let v4 = bind_with("0.0.0.0:0".parse().unwrap(), &options).unwrap();
    let port = v4.local_addr().port();
    let v6 = bind_with(format!("[::]:{port}").parse().unwrap(), &options).unwrap();
    let both = [v4, v6].map(Serving::start);
    for (mine, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
        let client = client(mine);
        let server = SocketAddr::new(to.parse().unwrap(), port);
        let (answer, _) = ask(&client, &request(TransactionId([3; 12])), server);
        assert!(parse_response(&answer).is_some());
    }
    for serving in both {
        serving.end().await;
    }
}

/// More clients than slots, at once, so that batches are full and every worker has some.
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_are_each_told_their_own_address() {
    let options = Options {
        workers: 4.try_into().unwrap(),
        ..Options::default()
    };
    let listener = bind_with("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let server = listener.local_addr();
    let clients: Vec<_> = (0..200).map(|_| client("127.0.0.1:0")).collect();
    let id = |n: usize| TransactionId([u8::try_from(n).unwrap(); 12]);
    // All wait in the kernel before anybody reads.
    for (n, client) in clients.iter().enumerate() {
        client.send_to(&request(id(n)), server).unwrap();
    }
    let serving = Serving::start(listener);
    for (n, client) in clients.iter().enumerate() {
        let mut answer = [0; 200];
        let length = client.recv(&mut answer).unwrap();
        let seen = parse_response(&answer[..length]).unwrap();
        assert_eq!(seen, (id(n), client.local_addr().unwrap()));
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused() {
    let options = Options {
        workers: 2.try_into().unwrap(),
        ..Options::default()
    };
    let first = bind_with("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    for options in [options, Options::default()] {
        let second = bind_with(first.local_addr(), &options);
        let error = second.err().expect("two servers at one address");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_ends_if_its_future_is_dropped() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = listener.local_addr();
    let Serving { task, .. } = Serving::start(listener);
    let client = client("127.0.0.1:0");
    ask(&client, &request(TransactionId([3; 12])), server);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let waited = Instant::now();
    while bind(server).is_err() {
        assert!(waited.elapsed() < LIMIT, "the address stays taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_leave_from_the_corner_that_was_asked_for() {
    // Ports that are free at one address may be taken at the other.
    let options = Options::default();
    let (corners, listener) = (0..20)
        .find_map(|_| {
            let addresses = ["127.0.0.1:0", "127.0.0.2:0"].map(|at| {
                let socket = UdpSocket::bind(at).unwrap();
                socket.local_addr().unwrap()
            });
            let corners = Corners::new(addresses[0], addresses[1]).ok()?;
            let listener = bind_corners(corners, &options).ok()?;
            Some((corners, listener))
        })
        .expect("no free ports");
    let serving = Serving::start(listener);
    let client = client("127.0.0.1:0");
    for (at, server) in corners.addresses().iter().enumerate() {
        for (flags, corner) in [(0, at), (2, at ^ 1), (4, at ^ 2), (6, at ^ 3)] {
            let mut message = request(TransactionId([3; 12]));
            message.truncate(20);
            message[3] = 8;
            message.extend([0, 3, 0, 4, 0, 0, 0, flags]);
            let (answer, from) = ask(&client, &message, *server);
            assert_eq!(from, corners.addresses()[corner], "{server} {flags}");
            let (_, seen) = parse_response(&answer).unwrap();
            assert_eq!(seen, client.local_addr().unwrap());
        }
        let elsewhere = self::client("127.0.0.1:0");
        let mut message = request(TransactionId([3; 12]));
        message.truncate(20);
        message[3] = 8;
        message.extend([0, 0x27, 0, 4]);
        message.extend(elsewhere.local_addr().unwrap().port().to_be_bytes());
        message.extend([0, 0]);
        client.send_to(&message, server).unwrap();
        let mut answer = [0; 200];
        let (length, _) = elsewhere.recv_from(&mut answer).unwrap();
        let (_, seen) = parse_response(&answer[..length]).unwrap();
        assert_eq!(seen, client.local_addr().unwrap());
    }
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_carries_requests_one_after_another() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let listener = bind(at.parse().unwrap()).unwrap();
        let server = listener.local_addr();
        let serving = Serving::start(listener);
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // Cut anywhere, and two at once.
        let messages: Vec<u8> = (0..4)
            .flat_map(|n| request(TransactionId([n; 12])))
            .collect();
        for piece in [&messages[..10], &messages[10..33], &messages[33..]] {
            stream.write_all(piece).unwrap();
            stream.flush().unwrap();
        }
        for n in 0..4 {
            let mut answer = vec![0; 20];
            stream.read_exact(&mut answer).unwrap();
            answer.resize(20 + usize::from(answer[3]), 0);
            stream.read_exact(&mut answer[20..]).unwrap();
            let seen = parse_response(&answer).unwrap();
            assert_eq!(seen, (TransactionId([n; 12]), stream.local_addr().unwrap()));
        }
        // Something else ends the connection.
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut rest = vec![];
        let ended = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{ended:?} {rest:?}");
        serving.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_network_has_so_many_connections() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = listener.local_addr();
    let serving = Serving::start(listener);
    let mut open = vec![];
    let mut refused = 0;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // A refused one may be reset before or after this.
        let _ = stream.write_all(&request(TransactionId([3; 12])));
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => open.push(stream),
            _ => refused += 1,
        }
    }
    assert_eq!((open.len(), refused), (16, 4));
    serving.end().await;
}
