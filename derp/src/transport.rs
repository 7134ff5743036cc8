//! What carries frames: a stream of bytes (TCP and TLS, WebSocket), or QUIC.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::frame::{Frame, FrameError};
use crate::outbox::{Account, Outbox};
use crate::reader::{FrameReader, ReadError};

/// Frames that come in.
pub(crate) trait Source: Send {
    /// A frame that has arrived already.
    fn buffered(&mut self) -> Result<Option<Frame>, FrameError>;

    /// Waits for bytes and says how many came. Cancel-safe. The end is an error.
    fn fill(&mut self) -> impl Future<Output = io::Result<usize>> + Send;

    /// The next frame. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Frame, ReadError>> + Send {
        async {
            loop {
                if let Some(frame) = self.buffered()? {
                    return Ok(frame);
                }
                self.fill().await?;
            }
        }
    }
}

impl<R: AsyncRead + Unpin + Send> Source for FrameReader<R> {
    fn buffered(&mut self) -> Result<Option<Frame>, FrameError> {
        Self::buffered(self)
    }

    async fn fill(&mut self) -> io::Result<usize> {
        Self::fill(self).await
    }
}

/// Takes an outbox's frames out.
pub(crate) trait Sink: Send + 'static {
    /// Sends what is queued until the outbox is closed and empty, then ends the connection in good
    /// order.
    ///
    /// # Errors
    /// The connection is lost, or took nothing for `stall`.
    fn drain(
        self,
        outbox: &Outbox,
        stall: Duration,
        account: &(impl Account + Sync),
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// A stream of bytes.
pub(crate) struct StreamSink<W>(pub W);

impl<W: AsyncWrite + Unpin + Send + 'static> Sink for StreamSink<W> {
    async fn drain(
        self,
        outbox: &Outbox,
        stall: Duration,
        account: &(impl Account + Sync),
    ) -> io::Result<()> {
        outbox.drain_into(self.0, stall, account).await
    }
}
