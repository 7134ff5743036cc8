//! Clients that come by WebSocket (RFC 6455): browsers, and whoever a proxy lets nothing else
//! through.
//!
//! Binary messages carry the same bytes as a native connection, cut anywhere: a message is no
//! frame. There is no compression (what passes is sealed), and any origin may ask, for a ticket
//! admits a client and not the page that it runs in.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

/// The subprotocol that a client must name (`derp/derphttp`).
pub(super) const SUBPROTOCOL: &str = "derp";

/// The version of RFC 6455.
const VERSION: &[u8] = b"13";

/// Longest message that is taken or sent, in bytes: the longest frame of the relay fits twice.
const MAX_MESSAGE: usize = 128 * 1024;

/// Bytes of a connection's read buffer, which is there from the beginning.
const READ_BUFFER: usize = 4096;

/// Does the opening handshake on a stream that begins with the client's request.
pub(super) async fn accept<S>(stream: S) -> io::Result<WebSocket<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let inner = accept_hdr_async_with_config(stream, name_subprotocol, Some(config()))
        .await
        .map_err(into_io)?;
    Ok(WebSocket {
        inner,
        unread: Bytes::new(),
    })
}

/// The answer to a request that HTTP has read (RFC 6455 §4.2.2). `None`: its opening handshake is not one.
pub(super) fn answer(request: &HeaderMap) -> Option<axum::response::Response> {
    if request.get(SEC_WEBSOCKET_VERSION)?.as_bytes() != VERSION {
        return None;
    }
    let accept = derive_accept_key(request.get(SEC_WEBSOCKET_KEY)?.as_bytes());
    let headers = [
        (header::UPGRADE, "websocket"),
        (header::CONNECTION, "Upgrade"),
        (SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL),
        (SEC_WEBSOCKET_ACCEPT, accept.as_str()),
    ];
    Some((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// A stream whose opening handshake is over.
pub(super) async fn upgraded<S>(stream: S) -> WebSocket<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    WebSocket {
        inner: WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await,
        unread: Bytes::new(),
    }
}

/// Every message goes out at once: what is to be sent together comes as one buffer already.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

// The library's signature.
#[allow(clippy::result_large_err, clippy::unnecessary_wraps)]
fn name_subprotocol(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let name = HeaderValue::from_static(SUBPROTOCOL);
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    Ok(response)
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

/// The byte stream in a WebSocket's binary messages.
pub(super) struct WebSocket<S> {
    inner: WebSocketStream<S>,
    /// Rest of the last message.
    unread: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// What the socket does not take at once is kept, and `poll_ready` waits for it.
    fn send(&mut self, message: Bytes) -> Poll<io::Result<usize>> {
        let len = message.len();
        let sent = Pin::new(&mut self.inner).start_send(Message::Binary(message));
        Poll::Ready(sent.map(|()| len).map_err(into_io))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_ready(cx).map_err(into_io)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(message))) => self.unread = message,
                Some(Ok(Message::Text(_))) => {
                    let reason = "a text message, where only binary ones carry DERP";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
                }
                // Pings are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        let message = Bytes::copy_from_slice(&buf[..buf.len().min(MAX_MESSAGE)]);
        self.send(message)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        let all: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut message = BytesMut::with_capacity(all.min(MAX_MESSAGE));
        for buf in bufs {
            let room = MAX_MESSAGE - message.len();
            message.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        self.send(message.freeze())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx).map_err(into_io)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::client_async;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    use super::*;

    type Near = WebSocket<tokio::io::DuplexStream>;
    type Far = WebSocketStream<tokio::io::DuplexStream>;

    async fn pair() -> (Near, Far) {
        let (near, far) = tokio::io::duplex(64);
        let mut request = "ws://relay.example/derp".into_client_request().unwrap();
        let name = HeaderValue::from_static("other, derp");
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
        let (near, far) = tokio::join!(accept(near), client_async(request, far));
        let (far, answer) = far.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], "derp");
        assert!(!answer.headers().contains_key("sec-websocket-extensions"));
        (near.unwrap(), far)
    }

    #[tokio::test]
    async fn messages_are_cut_anywhere() {
        let (mut near, mut far) = pair().await;
        let send = async {
            for part in ["fi", "", "rst and", " second"] {
                far.send(Message::binary(part)).await.unwrap();
                far.send(Message::Ping(Bytes::new())).await.unwrap();
            }
            far
        };
        let mut got = [0; 16];
        let (far, read) = tokio::join!(send, near.read_exact(&mut got));
        read.unwrap();
        assert_eq!(&got, b"first and second");
        drop(far);
        assert!(near.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn several_buffers_make_one_message_and_the_end_is_said() {
        let (mut near, mut far) = pair().await;
        let (mut left, right) = (Vec::new(), vec![7; 3 * MAX_MESSAGE]);
        left.extend_from_slice(b"left");
        let write = async {
            let bufs = [IoSlice::new(&left), IoSlice::new(&right)];
            let first = near.write_vectored(&bufs).await.unwrap();
            assert_eq!(first, MAX_MESSAGE);
            near.flush().await.unwrap();
            near.shutdown().await.unwrap();
        };
        let read = async {
            let message = far.next().await.unwrap().unwrap();
            assert_eq!(message.len(), MAX_MESSAGE);
            assert!(message.is_binary() && message.into_data().starts_with(b"left\x07"));
            assert!(far.next().await.unwrap().unwrap().is_close());
        };
        tokio::join!(write, read);
    }

    #[tokio::test]
    async fn text_and_endless_messages_are_refused() {
        for bad in [
            Message::text("text"),
            Message::binary(vec![0; MAX_MESSAGE + 1]),
        ] {
            let (near, mut far) = pair().await;
            let send = async {
                // The relay may have gone before all of it is sent.
                let _ = far.send(bad).await;
            };
            let read = async {
                let mut near = near;
                let error = near.read_u8().await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                drop(near);
            };
            tokio::join!(send, read);
        }
    }
}
