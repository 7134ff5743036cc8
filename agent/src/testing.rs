//! For tests: a network namespace of one's own, and a control plane that says what it is told to.

pub mod relay;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rtnetlink::{Handle, LinkUnspec};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use ztna_netmap::records::{Record, RecordSet};
use ztna_proto::api::{
    HeartbeatAnswer, HeartbeatRequest, KemKeyAnswer, RegisterRequest, Registered, WIPED_PATH,
};
use ztna_proto::error::Envelope;
use ztna_proto::filter::PacketFilter;
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::{ClientMessage, PeerRecord, SelfRecord, ServerMessage};
use ztna_proto::relay::RelayMap;
use ztna_proto::tokens::MachineToken;
use ztna_proto::{ErrorBody, KemKeyHash, MachineId, OrgId, WgPublicKey};

/// Runs a test in a fresh network namespace with nothing but a loopback interface. Without root
/// it says so and runs nothing.
pub fn in_new_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can make network namespaces");
        return;
    }
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let handle = netlink();
            let up = LinkUnspec::new_with_index(LOOPBACK).up().build();
            handle.link().set(up).execute().await.unwrap();
            test().await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Index of the loopback interface.
pub const LOOPBACK: u32 = 1;

/// Route netlink of this thread's namespace.
pub fn netlink() -> Handle {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

/// A control plane on the loopback address that says what it is told to.
pub struct ControlPlane {
    pub url: String,
    pub script: Arc<Script>,
    /// What machines send over their streams.
    pub heard: mpsc::UnboundedReceiver<ClientMessage>,
}

/// What a [`ControlPlane`] says and has heard.
pub struct Script {
    state: Mutex<State>,
    said: broadcast::Sender<String>,
    heard: mpsc::UnboundedSender<ClientMessage>,
}

#[derive(Default)]
pub struct State {
    /// Registrations so far: bearer and request.
    pub registrations: Vec<(String, RegisterRequest)>,
    /// What registrations are answered, if not with a machine.
    pub refuse_registration: Option<ErrorBody>,
    /// What streams are answered, if not with one.
    pub refuse_stream: Option<ErrorBody>,
    /// Sent to each stream after its hello.
    pub greeting: Vec<String>,
    /// Answered to whoever asks for that hash, whatever its own hash is.
    pub kem_keys: BTreeMap<String, KemPublicKey>,
    /// Heartbeats so far.
    pub heartbeats: Vec<HeartbeatRequest>,
    /// Bearers of streams so far.
    pub streams: Vec<String>,
    /// Bearers that said that they are wiped.
    pub wiped: Vec<String>,
    /// What those are answered, if not that it is well.
    pub refuse_wiped: Option<ErrorBody>,
    /// The relay ticket that heartbeats are answered with, if not one that no relay takes.
    pub relay_ticket: Option<String>,
    /// The machine that registrations are answered with.
    pub machine: Option<Registered>,
}

impl ControlPlane {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::serve(listener)
    }

    /// The same place again, with nothing of what was said before.
    pub fn start_at(url: &str) -> Self {
        let address = url.trim_start_matches("http://");
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        Self::serve(socket.listen(16).unwrap())
    }

    fn serve(listener: TcpListener) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heard_sender, heard) = mpsc::unbounded_channel();
        let script = Arc::new(Script {
            state: Mutex::default(),
            said: broadcast::channel(64).0,
            heard: heard_sender,
        });
        let shared = Arc::downgrade(&script);
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            // Ends, with every connection, when the test drops the control plane.
            while let Some(script) = shared.upgrade() {
                let wait = std::time::Duration::from_millis(20);
                drop(script);
                let Ok(accepted) = tokio::time::timeout(wait, listener.accept()).await else {
                    continue;
                };
                let (stream, _) = accepted.unwrap();
                let shared = shared.clone();
                let service = service_fn(move |request| {
                    let script = shared.upgrade();
                    async move {
                        let script = script.ok_or("gone")?;
                        Ok::<_, &'static str>(script.answer(request).await)
                    }
                });
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self { url, script, heard }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.script.state.lock().unwrap()
    }

    /// Says something to all streams.
    pub fn say(&self, message: &ServerMessage) {
        let _ = self.script.said.send(message.encode().unwrap());
    }

    /// Says this first to every stream from now on.
    pub fn greet_with(&self, message: &ServerMessage) {
        self.state().greeting = vec![message.encode().unwrap()];
    }

    /// Waits for a message that is wanted.
    pub async fn hear(&mut self, wanted: impl Fn(&ClientMessage) -> bool) -> ClientMessage {
        loop {
            let message = self.heard.recv().await.unwrap();
            if wanted(&message) {
                return message;
            }
        }
    }
}

impl Script {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let bearer = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .unwrap_or_default()
            .to_owned();
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::POST, "/api/register-machine") => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut state = self.state.lock().unwrap();
                state
                    .registrations
                    .push((bearer, serde_json::from_slice(&body).unwrap()));
                match (&state.refuse_registration, &state.machine) {
                    (Some(error), _) => refuse(error.clone()),
                    (None, machine) => answer(machine.clone().unwrap()),
                }
            }
            (&Method::POST, "/api/machine-heartbeat") => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut state = self.state.lock().unwrap();
                state
                    .heartbeats
                    .push(serde_json::from_slice(&body).unwrap());
                let ticket = state.relay_ticket.clone();
                answer(HeartbeatAnswer {
                    server_time: jiff::Timestamp::now(),
                    relay_ticket: Some(ticket.unwrap_or_else(|| "ticket".to_owned())),
                })
            }
            (&Method::POST, WIPED_PATH) => {
                let mut state = self.state.lock().unwrap();
                state.wiped.push(bearer);
                match &state.refuse_wiped {
                    Some(error) => refuse(error.clone()),
                    None => answer(serde_json::json!({})),
                }
            }
            (&Method::GET, "/api/machine-stream") => {
                self.state.lock().unwrap().streams.push(bearer);
                self.stream(request)
            }
            (&Method::GET, path) if path.starts_with("/api/kem-keys/") => {
                let hash = path.trim_start_matches("/api/kem-keys/");
                match self.state.lock().unwrap().kem_keys.get(hash) {
                    Some(kem_key) => answer(KemKeyAnswer {
                        kem_key: kem_key.clone(),
                    }),
                    None => refuse(ErrorBody::new(
                        ztna_proto::ErrorCode::NotFound,
                        "no such key",
                    )),
                }
            }
            _ => {
                let mut response = Response::new(Full::new(Bytes::from("not here")));
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }

    fn stream(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(error) = self.state.lock().unwrap().refuse_stream.clone() {
            return refuse(error);
        }
        let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key));
        let mut said = self.said.subscribe();
        let heard = self.heard.clone();
        let greeting = self.state.lock().unwrap().greeting.clone();
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let mut socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            // The script must not be kept alive by its streams.
            drop(self);
            let mut greeting = greeting.into_iter();
            loop {
                tokio::select! {
                    text = said.recv() => match text {
                        Ok(text) => drop(socket.send(Message::text(text)).await),
                        Err(_) => return,
                    },
                    message = socket.next() => {
                        let Some(Ok(Message::Text(text))) = message else { return };
                        let message: ClientMessage = serde_json::from_str(&text).unwrap();
                        let is_hello = matches!(message, ClientMessage::Hello { .. });
                        let _ = heard.send(message);
                        if is_hello {
                            for text in greeting.by_ref() {
                                socket.send(Message::text(text)).await.unwrap();
                            }
                        }
                    }
                }
            }
        });
        response.body(Full::default()).unwrap()
    }
}

fn answer<T: serde::Serialize>(data: T) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(&Envelope::ok(data)).unwrap();
    Response::new(Full::new(Bytes::from(body)))
}

fn refuse(error: ErrorBody) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(error.code.status()).unwrap();
    let body = serde_json::to_vec(&Envelope::<()>::err(error)).unwrap();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

/// An org with one machine and its peers.
pub struct Org {
    pub this: SelfRecord,
    pub peers: Vec<PeerRecord>,
    pub relays: RelayMap,
}

impl Org {
    pub fn new() -> Self {
        let this = SelfRecord {
            id: MachineId::generate(),
            org: OrgId::generate(),
            org_name: "Acme".to_owned(),
            name: "m".to_owned(),
            dns_name: "m.acme.ztna.internal".to_owned(),
            wg_key: WgPublicKey([1; 32]),
            ipv4: "100.64.0.1".parse().unwrap(),
            ipv6: "fd00:1:2::1".parse().unwrap(),
            key_expires_at: None,
            network: Default::default(),
            posture: Vec::new(),
            hold: None,
        };
        Self {
            this,
            peers: Vec::new(),
            relays: RelayMap::default(),
        }
    }

    pub fn with_peer(mut self, name: &str, number: u8, kem: Option<KemKeyHash>) -> Self {
        self.peers.push(PeerRecord {
            id: MachineId::generate(),
            name: name.to_owned(),
            dns_name: format!("{name}.acme.ztna.internal"),
            wg_key: WgPublicKey([number; 32]),
            kem_key: kem,
            ipv4: Ipv4Addr::new(100, 64, 0, number),
            ipv6: format!("fd00:1:2::{number:x}").parse().unwrap(),
            routes: Vec::new(),
            groups: Vec::new(),
            pq: Default::default(),
            os: "linux-x86_64".to_owned(),
            user: String::new(),
        });
        self
    }

    pub fn registered(&self) -> Registered {
        Registered {
            machine_id: self.this.id,
            node_key: MachineToken::generate(&mut rand::rng()),
            org: self.this.org,
            org_name: self.this.org_name.clone(),
            name: self.this.name.clone(),
            dns_name: self.this.dns_name.clone(),
            ipv4: self.this.ipv4,
            ipv6: self.this.ipv6,
            key_expires_at: None,
        }
    }

    pub fn records(&self) -> RecordSet {
        let peers = self
            .peers
            .iter()
            .map(|peer| (peer.id, Record::peer(peer).unwrap()));
        RecordSet::new(
            Record::this(&self.this).unwrap(),
            peers.collect(),
            Record::filter(&PacketFilter::default()).unwrap(),
            Record::relays(&self.relays).unwrap(),
        )
    }

    pub fn full(&self, seq: u64) -> ServerMessage {
        ServerMessage::Full(self.records().full(seq))
    }
}
