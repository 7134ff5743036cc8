use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::{KeyExchange, ServerIdentity, client_config};

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn identity() -> ServerIdentity {
    let dir = tempfile::tempdir().unwrap();
    ServerIdentity::load_or_create(dir.path(), &["127.0.0.1".to_owned()]).unwrap()
}

/// A client of a well-kept library, and our stream, connected.
async fn pair() -> (ClientStream<TcpStream>, TlsStream) {
    let identity = identity();
    let (near, far) = tcp_pair().await;
    let pin = identity.certificate_pin();
    let config = client_config(&pin, KeyExchange::RequirePostQuantum).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let client = TlsConnector::from(config);
    let server = identity.server_config().unwrap();
    let (client, server) = tokio::join!(
        client.connect(name, near),
        TlsStream::accept(far, server, Vec::new())
    );
    (client.unwrap(), server.unwrap())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

#[tokio::test]
async fn bytes_pass_both_ways_in_pieces_of_all_sizes() {
    let (client, server) = pair().await;
    let sent = pattern(3_000_000);
    let (mut from_client, mut to_server) = tokio::io::split(client);
    let (mut from_server, mut to_client) = tokio::io::split(server);
    let write = |sizes: &'static [usize]| {
        let sent = &sent;
        move || {
            sizes.iter().cycle().scan(0, move |at, size| {
                let piece = sent.get(*at..(*at + size).min(sent.len()))?;
                *at += size;
                Some(piece)
            })
        }
    };
    let up = write(&[1, 16_384, 16_385, 100_000, 7]);
    let down = write(&[70_000, 3, 65_536, 1_280]);
    let send_up = async {
        for piece in up() {
            to_server.write_all(piece).await.unwrap();
        }
        to_server.shutdown().await.unwrap();
    };
    let send_down = async {
        for piece in down() {
            to_client.write_all(piece).await.unwrap();
        }
        to_client.shutdown().await.unwrap();
    };
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    let (up, down, (), ()) = tokio::join!(
        from_server.read_to_end(&mut at_server),
        from_client.read_to_end(&mut at_client),
        send_up,
        send_down
    );
    assert_eq!((up.unwrap(), down.unwrap()), (sent.len(), sent.len()));
    assert!(at_server == sent && at_client == sent);
}

#[tokio::test]
async fn an_idle_stream_holds_no_buffer() {
    let (mut client, mut server) = pair().await;
    let sent = pattern(50_000);
    let mut got = vec![0; sent.len()];
    client.write_all(&sent).await.unwrap();
    server.read_exact(&mut got).await.unwrap();
    server.write_all(&got).await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut got).await.unwrap();
    assert!(got == sent);
    // After the burst, what is small gives the buffers back.
    client.write_all(&sent[..9]).await.unwrap();
    server.read_exact(&mut got[..9]).await.unwrap();
    let mut one = [0];
    let nothing = tokio::time::timeout(std::time::Duration::from_millis(50), server.read(&mut one));
    assert!(nothing.await.is_err());
    let held = [
        &server.session.partial,
        &server.session.plain,
        &server.session.out,
    ];
    assert_eq!(held.map(Vec::capacity), [0; 3]);
}

#[tokio::test]
async fn new_keys_of_the_client_are_taken_and_answered() {
    let (mut client, mut server) = pair().await;
    for round in 0..3 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        let text = [round; 1000];
        client.write_all(&text).await.unwrap();
        client.flush().await.unwrap();
        let mut got = [0; 1000];
        server.read_exact(&mut got).await.unwrap();
        server.write_all(&got).await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, text);
    }
}

#[tokio::test]
async fn what_was_read_before_the_handshake_counts() {
    let identity = identity();
    let (mut near, far) = tcp_pair().await;
    let config = client_config(&identity.certificate_pin(), KeyExchange::RequirePostQuantum);
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(config.unwrap(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let server = identity.server_config().unwrap();
    let rest = hello.split_off(100);
    near.write_all(&rest).await.unwrap();
    let accept = tokio::spawn(TlsStream::accept(far, server, hello));
    let mut near = near.into_std().unwrap();
    near.set_nonblocking(false).unwrap();
    let client = tokio::task::spawn_blocking(move || client.complete_io(&mut near).map(drop));
    client.await.unwrap().unwrap();
    accept.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_end_without_notice_is_an_error_and_one_with_notice_is_none() {
    let (mut client, mut server) = pair().await;
    client.get_mut().0.shutdown().await.unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

    let (mut client, mut server) = pair().await;
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    server.write_all(b"still").await.unwrap();
    server.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"still");
}

#[tokio::test]
async fn what_is_no_tls_is_refused_with_an_alert() {
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0x16; 70_000],
        &[0; 300],
    ] {
        let (mut near, far) = tcp_pair().await;
        let server = identity().server_config().unwrap();
        let accept = tokio::spawn(TlsStream::accept(far, server, Vec::new()));
        // The other side may close while this is being written.
        let _ = near.write_all(garbage).await;
        let refused = accept.await.unwrap();
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let mut answer = Vec::new();
        let _ = near.read_to_end(&mut answer).await;
        // Unread bytes make the system reset the connection, which may overtake the alert.
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_holds_up_the_writer_and_loses_nothing() {
    let (mut client, mut server) = pair().await;
    let sent = pattern(8_000_000);
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        server.write_all(&copy).await.unwrap();
        server.shutdown().await.unwrap();
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!writer.is_finished(), "somebody holds 8 MB");
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert!(got == sent);
    writer.await.unwrap();
}
