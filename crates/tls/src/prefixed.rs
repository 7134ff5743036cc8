//! A stream with bytes put back in front of it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads `prefix` first, then the stream; writes to the stream.
///
/// For a listener that looked at the first bytes of a connection to decide who serves it.
#[derive(Debug)]
pub struct Prefixed<S> {
    prefix: Vec<u8>,
    /// Bytes of `prefix` that were read already.
    given: usize,
    stream: S,
}

impl<S> Prefixed<S> {
    /// Puts `prefix` in front of `stream`.
    pub fn new(prefix: Vec<u8>, stream: S) -> Self {
        Self {
            prefix,
            given: 0,
            stream,
        }
    }

    /// What of the prefix is not read yet, and the stream.
    pub fn into_parts(mut self) -> (Vec<u8>, S) {
        (self.prefix.split_off(self.given), self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = &self.prefix[self.given..];
        if left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = left.len().min(buf.remaining());
        buf.put_slice(&left[..count]);
        self.given += count;
        if self.given == self.prefix.len() {
            self.prefix = Vec::new();
            self.given = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn the_prefix_comes_first_however_small_the_reads() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b" and the stream").await.unwrap();
        far.shutdown().await.unwrap();
        let mut stream = Prefixed::new(b"prefix".to_vec(), near);
        let mut got = Vec::new();
        let mut chunk = [0; 4];
        loop {
            let count = stream.read(&mut chunk).await.unwrap();
            if count == 0 {
                break;
            }
            got.extend_from_slice(&chunk[..count]);
        }
        assert_eq!(got, b"prefix and the stream");
        assert!(stream.into_parts().0.is_empty());

        let (near, _far) = tokio::io::duplex(64);
        let mut stream = Prefixed::new(b"prefix".to_vec(), near);
        stream.read_exact(&mut chunk).await.unwrap();
        assert_eq!(stream.into_parts().0, b"ix");
    }
}
