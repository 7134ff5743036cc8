//! Frames that go out by QUIC.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, SendDatagramError, SendStream};

use super::{CLOSED, SEND_BUFFER};
use crate::frame::HEADER_LEN;
use crate::outbox::{Account, Item, Outbox};
use crate::transport::Sink;

/// What quinn's own record of a datagram takes of its buffer, even of an empty one.
const RECORD: usize = size_of::<Bytes>();

/// How often is looked whether datagrams have gone out.
const LOOK: Duration = Duration::from_millis(1);

/// The other side acknowledges the last words within this time, or may miss them.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection and its stream.
pub(crate) struct QuicSink {
    connection: Connection,
    stream: SendStream,
}

impl QuicSink {
    /// Sends by `stream` and by datagrams of `connection`.
    pub(crate) fn new(connection: Connection, stream: SendStream) -> Self {
        Self { connection, stream }
    }

    async fn send(&mut self, item: &Item) -> io::Result<()> {
        let Item::Packet(head, packet) = item else {
            return self.write(item).await;
        };
        let key = &head[HEADER_LEN..];
        let mut datagram = BytesMut::with_capacity(key.len() + packet.len());
        datagram.extend_from_slice(key);
        datagram.extend_from_slice(packet);
        match self.connection.send_datagram_wait(datagram.freeze()).await {
            Ok(()) => Ok(()),
            Err(SendDatagramError::ConnectionLost(error)) => Err(error.into()),
            // What is too large, and everything to a peer that takes no datagrams.
            Err(_) => self.write(item).await,
        }
    }

    async fn write(&mut self, item: &Item) -> io::Result<()> {
        let mut frame = BytesMut::with_capacity(item.len());
        item.write(&mut frame);
        self.stream.write_chunk(frame.freeze()).await?;
        self.let_stream_out().await
    }

    /// quinn puts the stream's bytes where datagrams leave room. While full ones wait all the time
    /// they leave none, so the next ones wait here until the stream had its turn.
    async fn let_stream_out(&self) -> io::Result<()> {
        let waits = || self.connection.datagram_send_buffer_space() < SEND_BUFFER - RECORD;
        if !waits() {
            return Ok(());
        }
        while waits() {
            if let Some(error) = self.connection.close_reason() {
                return Err(error.into());
            }
            tokio::time::sleep(LOOK).await;
        }
        // The last datagram may have used up the congestion window; acknowledgements open it.
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    /// Ends the stream, waits until its end has arrived, and closes.
    async fn finish(&mut self) -> io::Result<()> {
        let arrived = async {
            self.stream.finish()?;
            self.stream.stopped().await?;
            Ok(())
        };
        let ended = tokio::time::timeout(FAREWELL, arrived).await;
        self.connection.close(CLOSED, b"");
        ended?
    }
}

impl Drop for QuicSink {
    fn drop(&mut self) {
        let path = self.connection.stats().path;
        tracing::debug!(
            mtu = path.current_mtu,
            shrank = path.black_holes_detected,
            lost = path.lost_packets,
            sent = path.sent_packets,
            "QUIC connection ends"
        );
    }
}

impl Sink for QuicSink {
    async fn drain(
        mut self,
        outbox: &Outbox,
        stall: Duration,
        account: &(impl Account + Sync),
    ) -> io::Result<()> {
        // One at a time: what is not with QUIC yet may still be overtaken, or dropped for its age.
        while let Some(item) = outbox.next(account).await {
            tokio::time::timeout(stall, self.send(&item)).await??;
            account.wrote(item.len());
        }
        self.finish().await
    }
}
