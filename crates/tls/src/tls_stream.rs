//! A server's TLS stream that holds no buffers while it is idle.
//!
//! Ten thousand idle connections should cost what their keys cost. rustls' buffered connection
//! keeps 4 KiB for what may come, and reads no more than that at a time; here a connection reads
//! and encrypts through a buffer of its thread, and keeps only what is left over: the beginning of
//! a record, plaintext that nobody has read yet, ciphertext that the socket did not take.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Most that one read takes from the socket, and one write from the caller.
const CHUNK: usize = 64 * 1024;

/// Most ciphertext that is kept for want of its rest: a record (16 KiB and overhead), or a
/// handshake message of several (64 KiB).
const MAX_PARTIAL: usize = 64 * 1024 + 18 * 1024;

/// Room for [`CHUNK`] of plaintext in records: 22 bytes for each 16 KiB, and some to spare.
const MAX_SEALED: usize = CHUNK + 1024;

/// An idle stream keeps a buffer that the last read filled with more than this: more is to come at
/// once, as a rule, and the next small read gives it back.
const SMALL: usize = 1024;

thread_local! {
    /// What is read, and what is encrypted, by the connection at work.
    static SCRATCH: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; MAX_PARTIAL + CHUNK].into_boxed_slice());
}

/// A TLS connection that was accepted.
pub struct TlsStream {
    tcp: TcpStream,
    /// Apart, so that a stream is cheap to hand on.
    session: Box<Session>,
}

/// All but the socket.
struct Session {
    connection: UnbufferedServerConnection,
    /// Ciphertext that waits for its rest.
    partial: Vec<u8>,
    /// Plaintext, of which the first `given` bytes are read.
    plain: Vec<u8>,
    given: usize,
    /// Ciphertext for the socket, of which the first `sent` bytes are out.
    out: Vec<u8>,
    sent: usize,
    /// The other side has said that nothing more comes.
    peer_closed: bool,
    /// We have said so.
    closed: bool,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).finish()
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Session {
    fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config).map_err(invalid)?,
            partial: Vec::new(),
            plain: Vec::new(),
            given: 0,
            out: Vec::new(),
            sent: 0,
            peer_closed: false,
            closed: false,
        })
    }

    /// Takes in ciphertext. Returns how much of it is used up.
    fn take_in(&mut self, incoming: &mut [u8]) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut incoming[used..]);
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        self.plain.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.out)?,
                // It goes out before anything else does.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::Closed) => {
                    self.peer_closed = true;
                    waits = true;
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    waits = true;
                }
                Ok(_) => return Err(invalid("early data was not offered")),
                Err(error) => {
                    self.collect_alert();
                    return Err(invalid(error));
                }
            }
            used += discard;
            if waits {
                return Ok(used);
            }
        }
    }

    /// After an error: what the other side is to be told.
    fn collect_alert(&mut self) {
        let status = self.connection.process_tls_records(&mut []);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state {
            // Without it the other side learns nothing but that the connection ends.
            let _ = encode(&mut data, &mut self.out);
        }
    }

    /// Encrypts into `sealed`, and returns the length.
    fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> io::Result<usize> {
        let status = self.connection.process_tls_records(&mut self.partial);
        match status.state.map_err(invalid)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                traffic.encrypt(plain, sealed).map_err(invalid)
            }
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn seal_close_notify(&mut self) -> io::Result<()> {
        let status = self.connection.process_tls_records(&mut self.partial);
        if let ConnectionState::WriteTraffic(mut traffic) = status.state.map_err(invalid)? {
            let mut alert = [0; 64];
            let length = traffic.queue_close_notify(&mut alert).map_err(invalid)?;
            self.out.extend_from_slice(&alert[..length]);
        }
        Ok(())
    }
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let needed = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(error) => return Err(invalid(error)),
    };
    out.resize(start + needed, 0);
    data.encode(&mut out[start..]).map_err(invalid)?;
    Ok(())
}

impl TlsStream {
    /// Shakes hands on a connection, of which `early` was read already.
    ///
    /// # Errors
    /// The connection is lost, or the other side does not speak TLS as `config` asks.
    pub async fn accept(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        early: Vec<u8>,
    ) -> io::Result<Self> {
        let mut stream = Self {
            tcp,
            session: Box::new(Session::new(config)?),
        };
        let mut early = early;
        let used = stream.session.take_in(&mut early);
        stream.session.partial = early.split_off(*used.as_ref().unwrap_or(&0));
        let mut result = used.map(drop);
        loop {
            std::future::poll_fn(|cx| stream.poll_out(cx)).await?;
            result?;
            if !stream.session.connection.is_handshaking() {
                return Ok(stream);
            }
            result = std::future::poll_fn(|cx| stream.poll_in(cx)).await;
        }
    }

    /// The TCP connection below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Reads once from the socket, and takes in what comes.
    fn poll_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &mut *self.session;
        SCRATCH.with_borrow_mut(|scratch| {
            let kept = session.partial.len();
            if kept > MAX_PARTIAL {
                return Poll::Ready(Err(invalid("a TLS message is too long")));
            }
            let mut buf = ReadBuf::new(&mut scratch[kept..]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut buf))?;
            let read = buf.filled().len();
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            scratch[..kept].copy_from_slice(&session.partial);
            let incoming = &mut scratch[..kept + read];
            session.plain.drain(..session.given);
            session.given = 0;
            let used = session.take_in(incoming)?;
            session.partial.clear();
            session.partial.extend_from_slice(&incoming[used..]);
            if session.partial.is_empty() {
                session.partial = Vec::new();
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Writes what waits for the socket.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Session { out, sent, .. } = &mut *self.session;
        while *sent < out.len() {
            let count = ready!(Pin::new(&mut self.tcp).poll_write(cx, &out[*sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += count;
        }
        *out = Vec::new();
        *sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Writes what reading gave rise to, as far as that goes without waiting: the task that reads
    /// must not take the place of the one that waits for room.
    fn try_out(&mut self) -> io::Result<()> {
        let Session { out, sent, .. } = &mut *self.session;
        while *sent < out.len() {
            match self.tcp.try_write(&out[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        *out = Vec::new();
        *sent = 0;
        Ok(())
    }
}

impl AsyncBufRead for TlsStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        while this.session.given == this.session.plain.len() && !this.session.peer_closed {
            let last = this.session.plain.len();
            let taken = this.poll_in(cx);
            if taken.is_pending() {
                if last <= SMALL {
                    this.session.plain = Vec::new();
                    this.session.given = 0;
                }
                return Poll::Pending;
            }
            // An alert goes out before the error is told.
            let written = this.try_out();
            ready!(taken)?;
            written?;
        }
        let session = &this.session;
        Poll::Ready(Ok(&session.plain[session.given..]))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let session = &mut self.get_mut().session;
        session.given = (session.given + amount).min(session.plain.len());
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let plain = ready!(self.as_mut().poll_fill_buf(cx))?;
        let count = plain.len().min(buf.remaining());
        buf.put_slice(&plain[..count]);
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // At most one chunk waits for the socket.
        ready!(this.poll_out(cx))?;
        let plain = &buf[..buf.len().min(CHUNK)];
        SCRATCH.with_borrow_mut(|scratch| {
            let sealed = this.session.seal(plain, &mut scratch[..MAX_SEALED])?;
            let mut rest = &scratch[..sealed];
            while !rest.is_empty() {
                match Pin::new(&mut this.tcp).poll_write(cx, rest) {
                    Poll::Ready(count) => rest = &rest[count?..],
                    Poll::Pending => break,
                }
            }
            this.session.out.extend_from_slice(rest);
            Poll::Ready(Ok(plain.len()))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.session.closed {
            this.session.closed = true;
            this.session.seal_close_notify()?;
        }
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "tls_stream_tests.rs"]
mod tests;
