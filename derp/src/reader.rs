//! Frames out of a stream, with little memory while it is idle.

use std::future::Future;
use std::io;
use std::pin::pin;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::frame::{Decoder, Frame, FrameError};

/// First read of an idle stream.
const SMALL_READ: usize = 1024;
/// Largest read: reads double while they come back full.
const LARGE_READ: usize = 64 * 1024;

/// No frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The other side closed the connection, or it broke.
    #[error("the connection is lost: {0}")]
    Io(#[from] io::Error),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Reads frames.
pub(crate) struct FrameReader<R> {
    stream: R,
    buf: BytesMut,
    decoder: Decoder,
    read_size: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames from `buf`, then from `stream`.
    pub(crate) fn new(stream: R, buf: BytesMut) -> Self {
        Self {
            stream,
            buf,
            decoder: Decoder::default(),
            read_size: SMALL_READ,
        }
    }

    /// A frame that has arrived already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Frame>, FrameError> {
        self.decoder.decode(&mut self.buf)
    }

    /// Waits for bytes. Cancel-safe. The end of the stream is an error.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        if self.buf.is_empty() {
            // A frame may have left a large buffer behind, of which slices are still in use.
            self.buf = BytesMut::new();
        }
        let count = std::future::poll_fn(|cx| {
            self.buf.reserve(self.read_size);
            let read = pin!(self.stream.read_buf(&mut self.buf)).poll(cx);
            if read.is_pending() && self.buf.is_empty() && self.read_size == SMALL_READ {
                // While idle, no memory is held for reading.
                self.buf = BytesMut::new();
            }
            read
        })
        .await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_size = if count >= self.read_size {
            (self.read_size * 2).min(LARGE_READ)
        } else if count < self.read_size / 4 {
            (self.read_size / 2).max(SMALL_READ)
        } else {
            self.read_size
        };
        Ok(count)
    }

    /// The same reader, whatever its stream.
    #[cfg(feature = "client")]
    pub(crate) fn boxed(self) -> FrameReader<Box<dyn AsyncRead + Send + Unpin>>
    where
        R: Send + 'static,
    {
        FrameReader {
            stream: Box::new(self.stream),
            buf: self.buf,
            decoder: self.decoder,
            read_size: self.read_size,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::transport::Source;

    #[tokio::test]
    async fn frames_come_out_and_the_end_is_an_error() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut sent = BytesMut::new();
        Frame::Health("first".into()).encode(&mut sent);
        let ahead = sent.split_to(3);
        let feed = async move {
            Frame::KeepAlive.encode(&mut sent);
            far.write_all(&sent).await.unwrap();
        };
        let read = async move {
            let mut reader = FrameReader::new(near, ahead);
            assert_eq!(reader.next().await.unwrap(), Frame::Health("first".into()));
            assert_eq!(reader.next().await.unwrap(), Frame::KeepAlive);
            let end = reader.next().await.unwrap_err();
            assert!(
                matches!(end, ReadError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof)
            );
        };
        tokio::join!(feed, read);
    }
}
