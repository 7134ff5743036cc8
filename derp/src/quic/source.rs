//! Frames that come in by QUIC.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quinn::{Connection, RecvStream};
use ztna_proto::WgPublicKey;
use ztna_proto::keys::KEY_LEN;

use super::Side;
use crate::MAX_PACKET;
use crate::frame::{Frame, FrameError};
use crate::reader::FrameReader;
use crate::transport::Source;

/// Datagrams that are taken at once.
const BATCH: usize = 64;

/// What a datagram that is none counts as: the type that no frame has.
const NO_FRAME: u8 = 0;

/// The stream and the datagrams of a connection.
pub(crate) struct QuicSource {
    side: Side,
    connection: Connection,
    stream: FrameReader<RecvStream>,
    datagrams: VecDeque<Frame>,
}

impl QuicSource {
    /// Reads as `side`.
    pub(crate) fn new(side: Side, connection: Connection, stream: FrameReader<RecvStream>) -> Self {
        Self {
            side,
            connection,
            stream,
            datagrams: VecDeque::new(),
        }
    }

    /// UDP datagrams that the connection has got.
    #[cfg(feature = "client")]
    pub(crate) fn received(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    /// Keeps the datagram, and all that are there with it. Returns their bytes.
    fn take(&mut self, first: Bytes) -> usize {
        let mut count = 0;
        let mut next = Some(first);
        while let Some(datagram) = next.take() {
            count += datagram.len();
            self.datagrams.push_back(parse(self.side, datagram));
            if self.datagrams.len() < BATCH {
                next = now(self.connection.read_datagram()).and_then(Result::ok);
            }
        }
        count
    }
}

impl Source for QuicSource {
    fn buffered(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(frame) = self.stream.buffered()? {
            return Ok(Some(frame));
        }
        let frame = self.datagrams.pop_front();
        if frame.is_none() {
            // An idle connection holds no memory for what once came.
            self.datagrams = VecDeque::new();
        }
        Ok(frame)
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let datagram = tokio::select! {
            count = self.stream.fill() => return count,
            datagram = self.connection.read_datagram() => datagram?,
        };
        Ok(self.take(datagram))
    }
}

/// A packet without its frame.
fn parse(side: Side, mut datagram: Bytes) -> Frame {
    let len = datagram.len();
    let key = datagram.first_chunk::<KEY_LEN>().copied();
    let (Some(key), ..=MAX_PACKET) = (key.map(WgPublicKey), len.saturating_sub(KEY_LEN)) else {
        return Frame::Unknown {
            kind: NO_FRAME,
            len,
        };
    };
    let packet = datagram.split_off(KEY_LEN);
    match side {
        #[cfg(feature = "client")]
        Side::Client => Frame::RecvPacket { from: key, packet },
        #[cfg(feature = "server")]
        Side::Relay => Frame::SendPacket { to: key, packet },
    }
}

/// What a future yields without waiting.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_datagram_is_a_key_and_a_packet() {
        let mut bytes = vec![7; KEY_LEN];
        let key = WgPublicKey([7; KEY_LEN]);
        for packet in [&b""[..], b"packet"] {
            bytes.truncate(KEY_LEN);
            bytes.extend_from_slice(packet);
            let packet = Bytes::from_static(packet);
            let datagram = Bytes::copy_from_slice(&bytes);
            #[cfg(feature = "client")]
            assert_eq!(
                parse(Side::Client, datagram.clone()),
                Frame::RecvPacket {
                    from: key,
                    packet: packet.clone()
                }
            );
            #[cfg(feature = "server")]
            assert_eq!(
                parse(Side::Relay, datagram),
                Frame::SendPacket { to: key, packet }
            );
        }
    }

    proptest! {
        #[test]
        fn short_ones_are_unknown_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let len = bytes.len();
            #[cfg(feature = "client")]
            {
                let frame = parse(Side::Client, bytes.into());
                prop_assert_eq!(matches!(frame, Frame::Unknown { .. }), len < KEY_LEN);
            }
        }
    }
}
