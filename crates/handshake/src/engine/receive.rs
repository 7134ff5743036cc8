//! What this machine answers: one function per message.

use std::time::Instant;

use ztna_proto::WgPublicKey;

use super::{Handshakes, MAX_EPOCH};
use crate::biscuit::Contents;
use crate::cookie::{self, Admission};
use crate::exchange::{self, Answer, RespRandom};
use crate::peer::{Attempt, Backoff, Chain, Confirming, Peer, Phase};
use crate::wire::{Ack, Conf, CookieReply, Init, Message, Reject, Resp, Who};
use crate::{Destination, Output, Role, Source};

/// Answers to one transmission of an Init that may fail to open before the rest is dropped unseen:
/// bounds what somebody on the path can make the initiator compute.
const MAX_WRONG_ANSWERS: u32 = 16;

/// Own Inits out before the peer's are answered although this machine's win. If they do not get
/// through, but the peer's do, somebody has to give way.
const PATIENT_TRIES: u32 = 2;

impl Handshakes {
    pub(crate) fn receive(
        &mut self,
        source: Source,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), Reject> {
        match Message::parse(bytes)? {
            Message::Fragment(piece) => {
                let whole = self.reassembly.insert(source, &piece, now)?;
                match Message::parse(&whole)? {
                    Message::Fragment(_) => Err(Reject::Form),
                    message => self.receive_whole(source, &message, now),
                }
            }
            message => self.receive_whole(source, &message, now),
        }
    }

    fn receive_whole(
        &mut self,
        source: Source,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<(), Reject> {
        match message {
            Message::Init(init) => self.on_init(source, init, now),
            Message::Resp(resp) => self.on_resp(source, resp, now),
            Message::Conf(conf) => self.on_conf(source, conf, now),
            Message::Ack(ack) => self.on_ack(source, ack, now),
            Message::Cookie(reply) => self.on_cookie(source, reply, now),
            Message::Fragment(_) => Err(Reject::Form),
        }
    }

    /// Cheap checks first; then the key agreement; nothing is kept of it but a counter.
    fn on_init(&mut self, source: Source, init: &Init<'_>, now: Instant) -> Result<(), Reject> {
        if self.guard.is_spent(source, init, now) {
            return Err(Reject::Load);
        }
        self.local.mac1_is(init.under_mac1(), init.mac1)?;
        if let Source::Relay { peer, .. } = source
            && !self.peers.contains_key(&peer)
        {
            return Err(Reject::UnknownPeer);
        }
        let announced = match init.who {
            Who::Full { .. } => None,
            Who::Light { handle } => Some(*self.handles.get(handle).ok_or(Reject::UnknownHandle)?),
        };
        match self.guard.admit(source, announced, init, now) {
            Admission::Answer => {}
            Admission::Drop => return Err(Reject::Load),
            Admission::AskForCookie => {
                let bytes =
                    self.guard
                        .reply(&mut *self.rng, source, init, &self.local.wg_public, now);
                self.reply(source, bytes);
                return Err(Reject::Load);
            }
        }

        let (mut transcript, sealed) = exchange::open_init(&self.local, init)?;
        let name = announced.or(sealed).ok_or(Reject::UnknownPeer)?;
        vouched(source, &name)?;
        let full = announced.is_none();
        let peer = self.peers.get_mut(&name).ok_or(Reject::UnknownPeer)?;
        if own_init_wins(&self.local.wg_public, &name, peer, full) {
            return Err(Reject::OwnInitWins);
        }
        let chain = match init.who {
            Who::Full { .. } => None,
            Who::Light { handle } => Some(
                peer.chain_named(handle, &self.config, now)
                    .ok_or(Reject::UnknownHandle)?,
            ),
        };
        let proposed = exchange::authenticate_init(
            &self.local,
            &peer.remote,
            chain.map(|chain| &chain.key),
            &mut transcript,
            init,
        )?;
        let base = chain.map_or(0, |chain| chain.epoch);
        if full && peer.kem_key.is_none() {
            peer.deferred = Some((source, init.whole.to_vec()));
            self.ask_for_kem_key(&name, now);
            self.set_timer(&name);
            return Err(Reject::AwaitsKemKey);
        }
        let epoch = proposed.max(peer.counter.saturating_add(1));
        if proposed == 0 || epoch > MAX_EPOCH {
            return Err(Reject::Epoch);
        }

        let random = RespRandom::draw(&mut *self.rng);
        let answer = Answer {
            remote: &peer.remote,
            kem_key: peer.kem_key.as_ref().filter(|_| full),
            epoch,
            random: &random,
        };
        let (biscuits, rng) = (&mut self.biscuits, &mut self.rng);
        let bytes = answer.resp(transcript, init, |master| {
            let contents = Contents {
                master: master.clone(),
                initiator: name,
                epoch,
                base,
            };
            biscuits.seal(&mut **rng, &contents, init.session, now)
        })?;
        self.reply(source, bytes);
        Ok(())
    }

    fn on_resp(&mut self, source: Source, resp: &Resp<'_>, now: Instant) -> Result<(), Reject> {
        let covered = &resp.whole[..resp.whole.len() - resp.mac1.len()];
        self.local.mac1_is(covered, resp.mac1)?;
        let name = *self
            .sessions
            .get(resp.session)
            .ok_or(Reject::UnknownSession)?;
        vouched(source, &name)?;
        let until = now + self.config.confirm;
        let peer = self.peers.get_mut(&name).ok_or(Reject::UnknownSession)?;
        let Some(attempt) = &mut peer.attempt else {
            return Err(Reject::UnknownSession);
        };
        let Phase::Offered(offered) = &mut attempt.phase else {
            return Err(Reject::UnknownSession);
        };
        if offered.wrong_answers >= MAX_WRONG_ANSWERS {
            return Err(Reject::TooManyAnswers);
        }
        let (master, epoch) = exchange::open_resp(&self.local, &offered.offer, resp)
            .inspect_err(|_| offered.wrong_answers += 1)?;
        if epoch < offered.epoch || epoch > MAX_EPOCH {
            return Err(Reject::Epoch);
        }
        let conf = exchange::conf(&master, resp.session, resp.biscuit, &name);
        attempt.phase = Phase::Confirming(Box::new(Confirming {
            session: *resp.session,
            master,
            conf: conf.clone(),
            epoch,
            full_at: offered.full_at,
            until,
        }));
        attempt.retry = Backoff {
            delay: std::time::Duration::ZERO,
            next_at: now,
        };
        self.back_off(&name, now);
        self.set_timer(&name);
        self.reply(source, conf);
        Ok(())
    }

    fn on_conf(&mut self, source: Source, conf: &Conf<'_>, now: Instant) -> Result<(), Reject> {
        let covered = &conf.whole[..conf.whole.len() - conf.mac1.len()];
        self.local.mac1_is(covered, conf.mac1)?;
        let (number, contents) = self
            .biscuits
            .open(conf.biscuit, conf.session, now)
            .ok_or(Reject::Biscuit)?;
        exchange::check_conf(&contents.master, conf)?;
        let Contents {
            master,
            initiator: name,
            epoch,
            base,
        } = contents;
        vouched(source, &name)?;
        let peer = self.peers.get_mut(&name).ok_or(Reject::UnknownPeer)?;

        if let Some((accepted, ack)) = &peer.accepted
            && *accepted == number
        {
            let ack = ack.clone();
            self.reply(source, ack);
            return Ok(());
        }
        if number < peer.floor {
            return Err(Reject::Replay);
        }
        // Both are about to confirm. The peer may have installed this machine's epoch already, and
        // will drop its own when it does; were both to go on, the two ends could install in
        // different order and be left with different keys.
        let confirming = peer
            .attempt
            .as_ref()
            .is_some_and(|attempt| matches!(attempt.phase, Phase::Confirming(_)));
        if confirming && self.local.wg_public < name {
            return Err(Reject::OwnInitWins);
        }
        if epoch <= peer.counter {
            return Err(Reject::Epoch);
        }
        // The chain that the peer still holds if it never sees the Ack.
        let (full_at, fallback) = if base == 0 {
            (now, peer.current.clone())
        } else {
            let chain = peer
                .chain_of(base, &self.config, now)
                .ok_or(Reject::UnknownHandle)?;
            (chain.full_at, Some(chain.clone()))
        };

        let ack = exchange::ack(&master, conf.session, &name);
        peer.floor = number + 1;
        peer.accepted = Some((number, ack.clone()));
        let chain = Chain::new(&master, &name, epoch, full_at);
        self.set_chains(&name, Some(chain), fallback);
        self.reply(source, ack);
        self.install(&name, epoch, Role::Responder, base == 0, master.psk(), now);
        self.set_timer(&name);
        Ok(())
    }

    fn on_ack(&mut self, source: Source, ack: &Ack<'_>, now: Instant) -> Result<(), Reject> {
        let covered = &ack.whole[..ack.whole.len() - ack.mac1.len()];
        self.local.mac1_is(covered, ack.mac1)?;
        let (name, peer) = self.peer_of_session(ack.session)?;
        vouched(source, &name)?;
        let Some(Attempt {
            phase: Phase::Confirming(confirming),
            ..
        }) = &peer.attempt
        else {
            return Err(Reject::UnknownSession);
        };
        exchange::check_ack(&confirming.master, ack)?;
        let (epoch, full) = (confirming.epoch, confirming.full_at.is_none());
        let full_at = confirming.full_at.unwrap_or(now);
        let chain = Chain::new(&confirming.master, &name, epoch, full_at);
        let psk = confirming.master.psk();
        // The Ack shows that the peer has the new chain; nobody needs the old one.
        self.set_chains(&name, Some(chain), None);
        self.install(&name, epoch, Role::Initiator, full, psk, now);
        self.set_timer(&name);
        Ok(())
    }

    /// A cookie is kept, and used at once, but not more than once per regular retransmission:
    /// else a flood of 64-byte replies would call forth a flood of Inits.
    fn on_cookie(
        &mut self,
        source: Source,
        reply: &CookieReply<'_>,
        now: Instant,
    ) -> Result<(), Reject> {
        let (name, peer) = self.peer_of_session(reply.session)?;
        vouched(source, &name)?;
        let Some(Attempt {
            phase: Phase::Offered(offered),
            ..
        }) = &mut peer.attempt
        else {
            return Err(Reject::UnknownSession);
        };
        let Message::Init(init) = Message::parse(&offered.init)? else {
            return Err(Reject::Form);
        };
        let cookie = cookie::open(reply, &name, init.mac1)?;
        peer.cookie = Some((cookie, now));
        if !offered.hurried {
            offered.hurried = true;
            self.send_init(&name, now);
        }
        Ok(())
    }

    fn reply(&mut self, source: Source, bytes: Vec<u8>) {
        self.outputs.push_back(Output::Send {
            to: Destination::Reply(source),
            bytes,
        });
    }
}

/// A relay vouches for the sender's key: it has to be the peer's whose message it carries.
fn vouched(source: Source, name: &WgPublicKey) -> Result<(), Reject> {
    match source {
        Source::Relay { peer, .. } if peer != *name => Err(Reject::WrongSource),
        _ => Ok(()),
    }
}

/// Simultaneous open: the smaller WireGuard key's Init wins, except a LIGHT one over a FULL one
/// (the peer may have lost the chain) and one that visibly does not get through.
fn own_init_wins(own: &WgPublicKey, other: &WgPublicKey, peer: &Peer, other_full: bool) -> bool {
    let Some(attempt) = &peer.attempt else {
        return false;
    };
    own < other
        && match attempt.phase {
            Phase::AwaitKemKey | Phase::Impossible => false,
            Phase::Offered(_) => attempt.tries <= PATIENT_TRIES && (attempt.full || !other_full),
            Phase::Confirming(_) => true,
        }
}
