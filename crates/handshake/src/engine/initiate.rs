//! What this machine starts: Init, its retransmission, the fall back from LIGHT to FULL.

use std::time::{Duration, Instant};

use ztna_proto::WgPublicKey;

use super::Handshakes;
use crate::exchange::{self, InitAuth, InitRandom};
use crate::peer::{Attempt, Backoff, Offered, Peer, Phase};
use crate::wire::Reject;
use crate::{Destination, Output};

impl Handshakes {
    /// Starts an attempt.
    pub(super) fn start(&mut self, name: &WgPublicKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let ends = now + self.config.attempt;
        peer.attempt = Some(Attempt {
            ends,
            full: false,
            tries: 0,
            retry: Backoff {
                delay: self.config.retry_first,
                next_at: ends,
            },
            phase: Phase::AwaitKemKey,
        });
        self.offer(name, now);
    }

    /// Does what is due of the attempt, or starts one if the epoch is due.
    pub(super) fn drive(&mut self, name: &WgPublicKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let Some(attempt) = &mut peer.attempt else {
            let due = peer
                .epoch
                .as_ref()
                .is_some_and(|epoch| now >= epoch.rotates(&self.config));
            if peer.wants_rotation(&self.config) && due {
                self.start(name, now);
            }
            return;
        };
        if now >= attempt.ends {
            peer.used_at = None;
            self.end_attempt(name);
            return;
        }
        if now < attempt.retry.next_at {
            return;
        }
        match &mut attempt.phase {
            Phase::AwaitKemKey => self.offer(name, now),
            Phase::Impossible => {}
            Phase::Offered(_) if !attempt.full && attempt.tries >= self.config.light_tries => {
                attempt.full = true;
                self.renew(name, now);
            }
            Phase::Offered(offered) => {
                offered.wrong_answers = 0;
                offered.hurried = false;
                attempt.tries += 1;
                self.send_init(name, now);
                self.back_off(name, now);
            }
            Phase::Confirming(confirming) if now >= confirming.until => self.renew(name, now),
            Phase::Confirming(confirming) => {
                self.outputs.push_back(Output::Send {
                    to: Destination::Peer(*name),
                    bytes: confirming.conf.clone(),
                });
                self.back_off(name, now);
            }
        }
    }

    /// Goes on with a new Init, as patiently as at the start.
    fn renew(&mut self, name: &WgPublicKey, now: Instant) {
        if let Some(attempt) = self.attempt_mut(name) {
            attempt.tries = 0;
            attempt.retry.delay = Duration::ZERO;
        }
        self.offer(name, now);
    }

    /// Makes and sends an Init: LIGHT if there is a chain and LIGHT has not failed in this attempt.
    pub(super) fn offer(&mut self, name: &WgPublicKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let Some(attempt) = &mut peer.attempt else {
            return;
        };
        if let Some(session) = attempt.session() {
            self.sessions.remove(&session);
        }
        let chain = peer
            .current
            .as_ref()
            .filter(|chain| !attempt.full && now < chain.ends(&self.config));
        let auth = match (chain, &peer.kem_key) {
            (Some(chain), _) => InitAuth::Light(&chain.key),
            (None, Some(key)) => InitAuth::Full(key),
            (None, None) => {
                attempt.full = true;
                attempt.phase = Phase::AwaitKemKey;
                self.ask_for_kem_key(name, now);
                return;
            }
        };
        attempt.full = chain.is_none();
        let epoch = peer.counter.saturating_add(1);
        let random = InitRandom::draw(&mut *self.rng);
        match exchange::init(&self.local, &peer.remote, &auth, epoch, &random) {
            Ok((init, offer)) => {
                self.sessions.insert(offer.session, *name);
                attempt.tries = 1;
                attempt.phase = Phase::Offered(Box::new(Offered {
                    offer,
                    init,
                    epoch,
                    full_at: chain.map(|chain| chain.full_at),
                    wrong_answers: 0,
                    hurried: false,
                }));
                attempt.retry.delay = Duration::ZERO;
                self.send_init(name, now);
                self.back_off(name, now);
            }
            Err(reason) => {
                tracing::warn!(peer = %name, %reason, "no handshake can be made with this peer's keys");
                attempt.phase = Phase::Impossible;
                attempt.retry.next_at = attempt.ends;
            }
        }
    }

    /// Sends the Init that is out, with mac2 if the peer gave a cookie.
    pub(super) fn send_init(&mut self, name: &WgPublicKey, now: Instant) {
        let lifetime = self.config.cookie;
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        peer.cookie.take_if(|(_, came)| now >= *came + lifetime);
        let Some(Attempt {
            phase: Phase::Offered(offered),
            ..
        }) = &mut peer.attempt
        else {
            return;
        };
        if let Some((cookie, _)) = &peer.cookie {
            exchange::set_mac2(&mut offered.init, cookie);
        }
        self.outputs.push_back(Output::Send {
            to: Destination::Peer(*name),
            bytes: offered.init.clone(),
        });
    }

    /// Sets the next retransmission: the wait doubles, and varies so that machines that were cut
    /// off together do not come back in step.
    pub(super) fn back_off(&mut self, name: &WgPublicKey, now: Instant) {
        let vary = 0.75 + 0.5 * f64::from(self.rng.next_u32()) / f64::from(u32::MAX);
        let (first, max) = (self.config.retry_first, self.config.retry_max);
        if let Some(attempt) = self.attempt_mut(name) {
            attempt.retry.delay = if attempt.retry.delay.is_zero() {
                first
            } else {
                (attempt.retry.delay * 2).min(max)
            };
            attempt.retry.next_at = now + attempt.retry.delay.mul_f64(vary);
        }
    }

    /// Asks the caller for the peer's ML-KEM key, unless it was asked just now.
    pub(super) fn ask_for_kem_key(&mut self, name: &WgPublicKey, now: Instant) {
        let config = &self.config;
        let Some(peer) = self.peers.get_mut(name) else {
            return;
        };
        let due = peer.ask.as_ref().is_none_or(|ask| now >= ask.next_at);
        if due {
            let delay = peer.ask.as_ref().map_or(config.kem_key_retry_first, |ask| {
                (ask.delay * 2).min(config.kem_key_retry_max)
            });
            peer.ask = Some(Backoff {
                delay,
                next_at: now + delay,
            });
            self.outputs.push_back(Output::NeedKemKey {
                peer: *name,
                hash: peer.remote.kem_hash,
            });
        }
        if let (Some(ask), Some(attempt)) = (&peer.ask, &mut peer.attempt)
            && matches!(attempt.phase, Phase::AwaitKemKey)
        {
            attempt.retry.next_at = ask.next_at;
        }
    }

    pub(super) fn attempt_mut(&mut self, name: &WgPublicKey) -> Option<&mut Attempt> {
        self.peers
            .get_mut(name)
            .and_then(|peer| peer.attempt.as_mut())
    }

    /// The peer whose attempt an answer belongs to.
    pub(super) fn peer_of_session(
        &mut self,
        session: &[u8; 8],
    ) -> Result<(WgPublicKey, &mut Peer), Reject> {
        let name = *self.sessions.get(session).ok_or(Reject::UnknownSession)?;
        let peer = self.peers.get_mut(&name).ok_or(Reject::UnknownSession)?;
        Ok((name, peer))
    }
}
