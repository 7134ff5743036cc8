//! What is larger than the direct path.

use std::net::SocketAddr;

use bytes::BytesMut;
use ztna_proto::{RegionId, WgPublicKey};

use super::run::Engine;

impl Engine {
    /// By relay where one stands; else in fragments, and by relay as well, which opens the connection
    /// for the next one. WireGuard takes one of the two.
    pub(super) fn send_oversize(
        &mut self,
        to: SocketAddr,
        relay: Option<(RegionId, WgPublicKey)>,
        datagram: BytesMut,
    ) {
        if let Some((region, peer)) = relay {
            let stands = self.relays.is_up(region);
            if stands {
                return self.relays.send(region, peer, datagram.freeze());
            }
            self.relays.send(region, peer, datagram.clone().freeze());
        }
        self.fragmentable.push((to, datagram));
    }
}
