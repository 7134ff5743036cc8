//! A machine's end of the stream.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use ztna_netmap::records::RecordSet;
use ztna_proto::CAPABILITY;
use ztna_proto::error::ErrorBody;
use ztna_proto::ids::MachineId;
use ztna_proto::netmap::{ClientMessage, PeerRecord, PeerVolatile, Resume, ServerMessage};
use ztna_proto::tokens::MachineToken;

use super::Server;

/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(30);

pub struct Stream {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub map: RecordSet,
    pub seq: u64,
    pub volatile: BTreeMap<MachineId, PeerVolatile>,
    pub ticket: Option<String>,
}

/// Opens the WebSocket; an error is the HTTP status and the answer's body.
pub async fn open(
    server: &Server,
    token: &MachineToken,
) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, (u16, String)> {
    open_from(server, token, None).await
}

/// The same, as a proxy passes it on that says where it comes from.
async fn open_from(
    server: &Server,
    token: &MachineToken,
    forwarded: Option<&str>,
) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, (u16, String)> {
    let mut request = format!("ws://{}/api/machine-stream", server.address)
        .into_client_request()
        .unwrap();
    let bearer = format!("Bearer {}", token.expose());
    request
        .headers_mut()
        .insert("authorization", bearer.parse().unwrap());
    if let Some(forwarded) = forwarded {
        request
            .headers_mut()
            .insert("x-forwarded-for", forwarded.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
        }
        Err(error) => panic!("{error}"),
    }
}

pub fn hello(capability: u32) -> ClientMessage {
    ClientMessage::Hello {
        capability,
        agent_version: "0.1.0".to_owned(),
        resume: None,
    }
}

/// With what a stream began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    InSync,
    Delta,
    Full,
}

impl Stream {
    /// Connects again, maybe elsewhere, with the map that `held` has, and reads up to and with the
    /// first ticket.
    pub async fn again(server: &Server, token: &MachineToken, held: Self) -> (Self, Begun) {
        let resume = Resume {
            seq: held.seq,
            hash: held.map.hash(),
        };
        let mut socket = open(server, token).await.unwrap();
        let mut hello = hello(CAPABILITY);
        if let ClientMessage::Hello { resume: from, .. } = &mut hello {
            *from = Some(resume);
        }
        send(&mut socket, &hello).await;
        let mut stream = Self {
            socket,
            map: held.map,
            seq: held.seq,
            volatile: BTreeMap::new(),
            ticket: None,
        };
        let begun = match stream.next().await {
            ServerMessage::KeepAlive(at) => {
                assert_eq!(at.hash, stream.map.hash());
                stream.seq = at.seq;
                Begun::InSync
            }
            ServerMessage::Delta(delta) => {
                assert_eq!(delta.base_seq, stream.seq);
                stream.seq = delta.seq;
                stream.map.apply(delta).unwrap();
                Begun::Delta
            }
            ServerMessage::Full(full) => {
                stream.seq = full.seq;
                stream.map = RecordSet::from_full(full).unwrap();
                Begun::Full
            }
            other => panic!("a stream begins with {other:?}"),
        };
        stream.until("the ticket", |s| s.ticket.is_some()).await;
        (stream, begun)
    }

    /// Connects, says hello, and reads up to and with the first ticket.
    pub async fn connect(server: &Server, token: &MachineToken) -> Self {
        Self::with_ticket(Self::connect_held(server, token).await).await
    }

    /// The same, from where a proxy says.
    pub async fn connect_from(server: &Server, token: &MachineToken, forwarded: &str) -> Self {
        let socket = open_from(server, token, Some(forwarded)).await.unwrap();
        Self::with_ticket(Self::begin(socket).await).await
    }

    async fn with_ticket(mut stream: Self) -> Self {
        let ServerMessage::RelayTicket(ticket) = receive(&mut stream.socket).await else {
            panic!("the third message is no ticket");
        };
        stream.ticket = Some(ticket);
        stream
    }

    /// Connects as a machine that is kept out of the network, and gets no ticket.
    pub async fn connect_held(server: &Server, token: &MachineToken) -> Self {
        Self::begin(open(server, token).await.unwrap()).await
    }

    async fn begin(mut socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        send(&mut socket, &hello(CAPABILITY)).await;
        let ServerMessage::Full(full) = receive(&mut socket).await else {
            panic!("the first message is no full map");
        };
        let seq = full.seq;
        let map = RecordSet::from_full(full).unwrap();
        let ServerMessage::Volatile(first) = receive(&mut socket).await else {
            panic!("the second message is no volatile state");
        };
        assert!(first.whole);
        let mut stream = Self {
            socket,
            map,
            seq,
            volatile: BTreeMap::new(),
            ticket: None,
        };
        stream.take_volatile(first.peers);
        stream
    }

    pub async fn send(&mut self, message: &ClientMessage) {
        send(&mut self.socket, message).await;
    }

    /// Says goodbye as an agent does that goes down.
    pub async fn leave(mut self) {
        self.socket.close(None).await.unwrap();
    }

    /// Reads and applies messages until the map is as wanted.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            match receive(&mut self.socket).await {
                ServerMessage::Full(full) => {
                    self.seq = full.seq;
                    self.map = RecordSet::from_full(full).unwrap();
                }
                ServerMessage::Delta(delta) => {
                    assert_eq!(delta.base_seq, self.seq);
                    self.seq = delta.seq;
                    self.map.apply(delta).unwrap();
                }
                ServerMessage::Volatile(update) => {
                    if update.whole {
                        self.volatile.clear();
                    }
                    self.take_volatile(update.peers);
                }
                ServerMessage::RelayTicket(ticket) => self.ticket = Some(ticket),
                ServerMessage::KeepAlive(at) => {
                    assert_eq!((at.seq, at.hash), (self.seq, self.map.hash()));
                }
                ServerMessage::Error(error) => panic!("waiting for {what}: {error}"),
                ServerMessage::Unknown => panic!("an unknown message"),
            }
        }
    }

    /// The error with which the control plane ends the stream.
    pub async fn ends(&mut self) -> ErrorBody {
        loop {
            if let ServerMessage::Error(error) = receive(&mut self.socket).await {
                loop {
                    match tokio::time::timeout(LIMIT, self.socket.next())
                        .await
                        .unwrap()
                    {
                        None | Some(Ok(Message::Close(_)) | Err(_)) => return error,
                        Some(Ok(_)) => {}
                    }
                }
            }
        }
    }

    /// The next message, whatever it is, without applying it.
    pub async fn next(&mut self) -> ServerMessage {
        receive(&mut self.socket).await
    }

    /// Whether the connection ends without another message.
    pub async fn is_cut(&mut self) -> bool {
        loop {
            match tokio::time::timeout(LIMIT, self.socket.next())
                .await
                .unwrap()
            {
                None | Some(Ok(Message::Close(_)) | Err(_)) => return true,
                Some(Ok(Message::Text(_))) => return false,
                Some(Ok(_)) => {}
            }
        }
    }

    pub fn peers(&self) -> Vec<PeerRecord> {
        let records = self.map.peers().values();
        records
            .map(|record| serde_json::from_str(record.raw().get()).unwrap())
            .collect()
    }

    pub fn peer_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.peers().into_iter().map(|peer| peer.name).collect();
        names.sort();
        names
    }

    fn take_volatile(&mut self, peers: Vec<PeerVolatile>) {
        for peer in peers {
            let held = self.volatile.get(&peer.id).map(|held| held.version);
            if held.is_none_or(|held| held < peer.version) {
                self.volatile.insert(peer.id, peer);
            }
        }
    }
}

pub async fn send(
    socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>,
    message: &ClientMessage,
) {
    let text = serde_json::to_string(message).unwrap();
    socket.send(Message::Text(text.into())).await.unwrap();
}

pub async fn receive(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> ServerMessage {
    loop {
        let message = tokio::time::timeout(LIMIT, socket.next())
            .await
            .expect("no message came")
            .expect("the stream ended")
            .unwrap();
        if let Message::Text(text) = message {
            return ServerMessage::decode(&text).unwrap();
        }
    }
}
