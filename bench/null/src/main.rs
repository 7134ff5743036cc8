//! Our daemon with a cipher that does nothing. It is no part of what is shipped: whoever runs it sends
//! everything in the clear.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use ztna_mesh::tunnel::{Admission, Received, Tunnel, WireGuard, sender_index};
use ztna_mesh::wireguard::Gotatun;
use ztna_proto::{WgPrivateKey, WgPublicKey};

/// Lengths of a data message's header and tag (WireGuard whitepaper §5.4.6).
const HEADER: usize = 16;
const TAG: usize = 16;
/// Packets are padded to multiples of this.
const PADDING: usize = 16;
/// Counter of a data message in the clear: one that no session reaches.
const IN_THE_CLEAR: [u8; 8] = [0xff; 8];

/// WireGuard whose handshakes are real, and whose data is in the clear.
struct NullCipher(Gotatun);

struct NullTunnel {
    inner: Box<dyn Tunnel>,
    /// By which the peer knows its session.
    peer_index: [u8; 4],
    /// Where packets are put behind their headers.
    buffer: BytesMut,
}

impl WireGuard for NullCipher {
    fn tunnel(&mut self, peer: &WgPublicKey, now: Instant) -> Box<dyn Tunnel> {
        Box::new(NullTunnel {
            inner: self.0.tunnel(peer, now),
            peer_index: [0; 4],
            buffer: BytesMut::new(),
        })
    }

    fn admit(&mut self, from: SocketAddr, datagram: BytesMut, now: Instant) -> Admission {
        self.0.admit(from, datagram, now)
    }

    fn initiator(&self, initiation: &[u8]) -> Option<WgPublicKey> {
        self.0.initiator(initiation)
    }
}

impl Tunnel for NullTunnel {
    fn seal(&mut self, packet: BytesMut, now: Instant) -> Result<BytesMut, BytesMut> {
        if self.peer_index == [0; 4] {
            return self.inner.seal(packet, now);
        }
        let padded = packet.len().next_multiple_of(PADDING);
        self.buffer.reserve(HEADER + padded + TAG);
        self.buffer.put_slice(&[4, 0, 0, 0]);
        self.buffer.put_slice(&self.peer_index);
        self.buffer.put_slice(&IN_THE_CLEAR);
        self.buffer.put_slice(&packet);
        self.buffer.put_bytes(0, padded - packet.len() + TAG);
        Ok(self.buffer.split())
    }

    fn initiate(&mut self, force: bool, now: Instant) -> Option<BytesMut> {
        self.inner.initiate(force, now)
    }

    fn receive(
        &mut self,
        mut datagram: BytesMut,
        psks: &mut dyn Iterator<Item = &[u8; 32]>,
        now: Instant,
    ) -> Received {
        if datagram.first() == Some(&4) && datagram.get(8..HEADER) == Some(&IN_THE_CLEAR) {
            datagram.advance(HEADER);
            datagram.truncate(datagram.len().saturating_sub(TAG));
            return Received::Packet(datagram);
        }
        let index = sender_index(&datagram);
        let received = self.inner.receive(datagram, psks, now);
        if let (Some(index), Received::Reply { .. }) = (index, &received) {
            self.peer_index = index.to_le_bytes();
        }
        received
    }

    fn tick(&mut self, now: Instant) -> Option<BytesMut> {
        self.inner.tick(now)
    }

    fn set_psk(&mut self, psk: &[u8; 32]) {
        self.inner.set_psk(psk);
    }

    fn reset(&mut self) {
        self.inner.reset();
        self.peer_index = [0; 4];
    }

    fn session_age(&self) -> Option<Duration> {
        self.inner.session_age()
    }
}

fn without_cipher(key: &WgPrivateKey) -> Box<dyn WireGuard> {
    Box::new(NullCipher(Gotatun::new(key)))
}

fn main() -> std::process::ExitCode {
    ztna_agent::main(without_cipher)
}
