//! A machine's WebSocket: axum checks the call, the buffers are such that a process can have ten
//! thousand of them.

use std::future::Future;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use futures_util::{SinkExt, StreamExt};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use ztna_proto::error::ErrorCode;

use crate::app::State;
use crate::http::{ApiError, refuse};

/// Largest message of a machine, in bytes: a report with all its endpoints has 4 KiB.
const MAX_CLIENT_MESSAGE: usize = 64 * 1024;
/// Bytes that are read at a time. The buffer is filled with zeros for each read, and stays.
const READ_BUFFER: usize = 512;
/// Longest header of a frame that a server sends, in bytes.
const MAX_HEADER: usize = 10;
/// Largest task that serves a WebSocket, in bytes; what is awaited once, at its beginning, is boxed.
const MAX_TASK: usize = 2560;

/// A call that asks for a WebSocket.
pub(super) struct Upgrade {
    waiting: OnUpgrade,
    accept: HeaderValue,
}

impl FromRequestParts<State> for Upgrade {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let refusal = |why: &str| {
            let message = format!("the machine stream is a WebSocket: {why}");
            refuse(ErrorCode::ValidationError, message)
        };
        let waiting = parts.extensions.get::<OnUpgrade>().cloned();
        if let Err(rejection) = WebSocketUpgrade::from_request_parts(parts, state).await {
            return Err(refusal(&rejection.body_text()));
        }
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
        let accept = key.map(|key| derive_accept_key(key.as_bytes()));
        let accept = accept.and_then(|text| HeaderValue::try_from(text).ok());
        match (waiting, accept) {
            (Some(waiting), Some(accept)) => Ok(Self { waiting, accept }),
            _ => Err(refusal("it needs HTTP/1.1")),
        }
    }
}

impl Upgrade {
    /// Agrees, and runs `serve` with the WebSocket as soon as the client can be spoken to. That the
    /// client is gone by then is nothing to tell.
    pub(super) fn accept<F: Future<Output = ()> + Send>(
        self,
        serve: impl FnOnce(Socket) -> F + Send + 'static,
    ) -> Response {
        let Self { waiting, accept } = self;
        let task = async move {
            if let Ok(upgraded) = waiting.await {
                let socket = Box::pin(Socket::new(upgraded)).await;
                serve(socket).await;
            }
        };
        let size = size_of_val(&task);
        debug_assert!(size <= MAX_TASK, "the task has {size} bytes");
        tokio::spawn(task);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

/// The WebSocket of one machine.
pub(super) struct Socket(Box<WebSocketStream<TokioIo<Upgraded>>>);

impl Socket {
    async fn new(upgraded: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_CLIENT_MESSAGE))
            .max_frame_size(Some(MAX_CLIENT_MESSAGE))
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0);
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config));
        Self(Box::new(socket.await))
    }

    /// The next message. `None`: there will be no more.
    pub(super) async fn recv(&mut self) -> Option<Message> {
        self.0.next().await?.ok()
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(super) async fn send(&mut self, message: Message) -> Result<(), ()> {
        let sent = match message {
            Message::Text(text) => self.send_text(text).await,
            other => self.0.send(other).await,
        };
        sent.map_err(|_| ())
    }

    /// Writes the frame (RFC 6455, section 5.2) past tungstenite's buffer, which would stay as large as the
    /// largest map for as long as the connection lasts.
    async fn send_text(
        &mut self,
        text: Utf8Bytes,
    ) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        // What waits there, an answer to a ping, is before it.
        self.0.flush().await?;
        let mut frame = Vec::with_capacity(MAX_HEADER + text.len());
        Frame::message(text, OpCode::Data(Data::Text), true).format(&mut frame)?;
        let io = self.0.get_mut();
        io.write_all(&frame).await?;
        io.flush().await?;
        Ok(())
    }
}
