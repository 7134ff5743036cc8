//! The service and a nameserver behind it, in a namespace where port 53 is free.

use std::net::Ipv4Addr;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::daemon::dns::PORT;
use crate::testing::in_new_namespace;

const SERVICE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const NAMESERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
/// An address where nobody answers.
const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 54);
/// What the nameserver says of every name.
const ANSWER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Addresses that it has of a name that begins with `long`.
const MANY: u8 = 200;

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn answer_of(question: &[u8]) -> Vec<u8> {
    let asked = Message::from_vec(question).unwrap();
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    let query = asked.queries[0].clone();
    let count = if query.name().to_ascii().starts_with("long") {
        MANY
    } else {
        1
    };
    for n in 0..count {
        let [a, b, c, d] = ANSWER.octets();
        let data = RData::A(A(Ipv4Addr::new(a, b, c, d.wrapping_add(n))));
        answer.add_answer(Record::from_rdata(query.name().clone(), 5, data));
    }
    answer.add_query(query);
    answer.to_vec().unwrap()
}

/// Answers everything, first with the number of another question.
async fn nameserver() {
    let udp = UdpSocket::bind((NAMESERVER, PORT)).await.unwrap();
    let tcp = TcpListener::bind((NAMESERVER, PORT)).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            let mut answer = answer_of(&buffer[..length]);
            answer[0] ^= 1;
            udp.send_to(&answer, from).await.unwrap();
            answer[0] ^= 1;
            udp.send_to(&answer, from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let question = read_framed(&mut stream).await.unwrap();
            write_framed(&mut stream, &answer_of(&question))
                .await
                .unwrap();
        }
    });
}

async fn ask(question: &[u8]) -> Message {
    let socket = UdpSocket::bind((SERVICE, 0)).await.unwrap();
    socket.send_to(question, (SERVICE, PORT)).await.unwrap();
    let mut buffer = [0; MAX_MESSAGE];
    let length = socket.recv(&mut buffer).await.unwrap();
    assert_eq!(buffer[..2], question[..2], "the sender's own number");
    Message::from_vec(&buffer[..length]).unwrap()
}

#[test]
fn what_others_know_is_passed_on_by_udp_and_by_tcp() {
    in_new_namespace(|| async {
        nameserver().await;
        let zone = Zone {
            domain: "acme.test".to_owned(),
            split: [("silent.test".to_owned(), vec![SILENT.into()])].into(),
            nameservers: vec![SILENT.into(), NAMESERVER.into()],
            ..Zone::default()
        };
        let knowledge = Knowledge {
            zone,
            ..Knowledge::default()
        };
        let shared = Arc::new(RwLock::new(knowledge));
        let _server = Server::start(SERVICE.into(), PORT, shared).await.unwrap();

        let answer = ask(&question("www.example.")).await;
        assert_eq!(answer.answers.len(), 1);
        assert_eq!(answer.answers[0].data, RData::A(A(ANSWER)));
        let none = ask(&question("gone.acme.test.")).await;
        assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
        let failed = ask(&question("a.silent.test.")).await;
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);

        // Longer than a plain query's sender takes: it is sent to TCP, twice by one connection.
        let long = question("long.example.");
        let cut = ask(&long).await;
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        let mut stream = TcpStream::connect((SERVICE, PORT)).await.unwrap();
        for _ in 0..2 {
            write_framed(&mut stream, &long).await.unwrap();
            let answer = read_framed(&mut stream).await.unwrap();
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(answer.answers.len(), usize::from(MANY));
        }

        // From an address that is not the service's own, as from another machine: nothing.
        let stranger = UdpSocket::bind((NAMESERVER, 0)).await.unwrap();
        stranger
            .send_to(&question("www.example."), (SERVICE, PORT))
            .await
            .unwrap();
        let mut buffer = [0; 512];
        assert!(
            timeout(Duration::from_millis(300), stranger.recv(&mut buffer))
                .await
                .is_err()
        );
    });
}

/// Drops what is asked of the nameserver without the mark that keeps packets out of the tunnel.
const ONLY_OUTSIDE: &str = "add table inet t;
    add chain inet t c { type filter hook output priority 0; };
    add rule inet t c ip daddr 127.0.0.53 meta mark != 0x5a740001 drop";

#[test]
fn servers_that_the_tunnel_needs_are_looked_up_outside_it() {
    in_new_namespace(|| async {
        nameserver().await;
        let mut nft = tokio::process::Command::new("nft");
        assert!(nft.arg(ONLY_OUTSIDE).status().await.unwrap().success());
        let knowledge = Knowledge {
            zone: Zone {
                domain: "acme.test".to_owned(),
                ..Zone::default()
            },
            before: vec![(NAMESERVER, PORT).into()],
            servers: ["control.example".to_owned()].into(),
        };
        let shared = Arc::new(RwLock::new(knowledge));
        let _server = Server::start(SERVICE.into(), PORT, shared).await.unwrap();

        let answer = ask(&question("Control.Example.")).await;
        assert_eq!(answer.answers[0].data, RData::A(A(ANSWER)));
        let mut stream = TcpStream::connect((SERVICE, PORT)).await.unwrap();
        write_framed(&mut stream, &question("control.example."))
            .await
            .unwrap();
        let answer = read_framed(&mut stream).await.unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
        let other = ask(&question("www.example.")).await;
        assert_eq!(other.metadata.response_code, ResponseCode::ServFail);
    });
}
