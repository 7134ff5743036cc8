//! The four messages as functions: keys, randomness and the other side's message in; a message and
//! what is to be remembered out. No state, no clock, no generator, so test vectors can name every
//! input.

use ml_kem::{Decapsulate, TryKeyInit, ml_kem_768};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};
use ztna_proto::keys::KemPublicKey;
use ztna_proto::netmap::PqMode;
use ztna_proto::{KemKeyHash, WgPublicKey};

use crate::aead;
use crate::biscuit::BISCUIT_LEN;
use crate::keys::{Identity, encapsulation_key};
use crate::schedule::{ChainKey, Item, Master, Secret, Transcript, label};
use crate::wire::{
    self, ACK_LEN, Ack, CIPHERTEXT_LEN, CONF_LEN, Conf, EPOCH_LEN, INIT_FULL_LEN, Init, Kind,
    MAC_LEN, Mode, RESP_FULL_LEN, Reject, Resp, Session, Who, mac1_key,
};

/// This machine's keys, expanded for use.
pub(crate) struct Local {
    wg: StaticSecret,
    pub wg_public: WgPublicKey,
    kem: Box<ml_kem_768::DecapsulationKey>,
    kem_hash: KemKeyHash,
    mac1_key: [u8; 32],
}

impl Local {
    pub(crate) fn new(identity: &Identity) -> Self {
        let kem = Box::new(identity.kem.expand());
        let wg_public = identity.wg.public();
        Self {
            wg: identity.wg.secret(),
            wg_public,
            kem_hash: KemKeyHash::of(&encapsulation_key(kem.encapsulation_key())),
            kem,
            mac1_key: mac1_key(&wg_public),
        }
    }

    /// Whether mac1 says that a message is meant for this machine.
    pub(crate) fn mac1_is(&self, covered: &[u8], claimed: &wire::MacTag) -> Result<(), Reject> {
        if wire::mac_is(&self.mac1_key, covered, claimed) {
            Ok(())
        } else {
            Err(Reject::Mac1)
        }
    }
}

/// The other side, as the netmap has it.
#[derive(Clone, Copy)]
pub(crate) struct Remote {
    pub wg: WgPublicKey,
    pub kem_hash: KemKeyHash,
    pub pq: PqMode,
}

/// What authenticates an Init besides the static X25519 keys.
pub(crate) enum InitAuth<'a> {
    Full(&'a KemPublicKey),
    Light(&'a ChainKey),
}

/// Randomness of an Init.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct InitRandom {
    pub session: Session,
    /// X25519 private key.
    pub ephemeral: [u8; 32],
    /// Seed `d ‖ z` of the ephemeral ML-KEM key (FIPS 203 §7.1).
    pub kem_seed: [u8; 64],
    /// `m` of the encapsulation to the responder's static key (FIPS 203 §7.2). Unused if LIGHT.
    pub static_m: [u8; 32],
}

/// Randomness of a Resp.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct RespRandom {
    /// X25519 private key.
    pub ephemeral: [u8; 32],
    /// `m` of the encapsulation to the ephemeral key.
    pub ephemeral_m: [u8; 32],
    /// `m` of the encapsulation to the initiator's static key. Unused if LIGHT.
    pub static_m: [u8; 32],
}

impl InitRandom {
    pub(crate) fn draw(rng: &mut (dyn rand::CryptoRng + Send)) -> Self {
        let mut random = Self {
            session: [0; 8],
            ephemeral: [0; 32],
            kem_seed: [0; 64],
            static_m: [0; 32],
        };
        rng.fill_bytes(&mut random.session);
        rng.fill_bytes(&mut random.ephemeral);
        rng.fill_bytes(&mut random.kem_seed);
        rng.fill_bytes(&mut random.static_m);
        random
    }
}

impl RespRandom {
    pub(crate) fn draw(rng: &mut (dyn rand::CryptoRng + Send)) -> Self {
        let mut random = Self {
            ephemeral: [0; 32],
            ephemeral_m: [0; 32],
            static_m: [0; 32],
        };
        rng.fill_bytes(&mut random.ephemeral);
        rng.fill_bytes(&mut random.ephemeral_m);
        rng.fill_bytes(&mut random.static_m);
        random
    }
}

/// What the initiator remembers of its Init until Resp. The keys wipe themselves.
pub(crate) struct Offer {
    pub session: Session,
    pub full: bool,
    transcript: Transcript,
    ephemeral: StaticSecret,
    kem: Box<ml_kem_768::DecapsulationKey>,
}

// ── Message 1 ────────────────────────────────────────────────────────────────────────────────

/// Makes an Init. mac2 is zero; see [`set_mac2`].
pub(crate) fn init(
    local: &Local,
    remote: &Remote,
    auth: &InitAuth<'_>,
    epoch: u64,
    random: &InitRandom,
) -> Result<(Vec<u8>, Offer), Reject> {
    let mode = match auth {
        InitAuth::Full(_) => Mode::Full,
        InitAuth::Light(_) => Mode::Light,
    };
    let ephemeral = StaticSecret::from(random.ephemeral);
    let ephemeral_public = PublicKey::from(&ephemeral);
    let mut seed = ml_kem::Seed::from(random.kem_seed);
    let kem = Box::new(ml_kem_768::DecapsulationKey::from_seed(seed));
    seed.as_mut_slice().zeroize();
    let kem_public = encapsulation_key(kem.encapsulation_key());

    let mut out = wire::head(Kind::Init, mode, &random.session, INIT_FULL_LEN);
    let mut transcript = begin(&remote.wg, &remote.kem_hash);
    transcript.mix(Item::InitHead, &out);
    transcript.mix(Item::InitiatorEphemeralX25519, ephemeral_public.as_bytes());
    transcript.mix(Item::InitiatorEphemeralMlKem, kem_public.as_bytes());
    out.extend_from_slice(ephemeral_public.as_bytes());
    out.extend_from_slice(kem_public.as_bytes());
    let es = dh(&ephemeral, remote.wg.as_bytes())?;
    transcript.mix_secret(Secret::EphemeralStaticDh, es.as_slice());

    match auth {
        InitAuth::Full(key) => {
            let (ciphertext, shared) = encapsulate(key.as_bytes(), &random.static_m)?;
            transcript.mix(Item::CiphertextToResponder, &ciphertext);
            transcript.mix_secret(Secret::ResponderKem, shared.as_slice());
            out.extend_from_slice(&ciphertext);
            let sealed_at = out.len();
            aead::seal_once(
                &transcript.key(label::IDENTITY),
                transcript.hash(),
                local.wg_public.as_bytes(),
                &mut out,
            );
            transcript.mix(Item::SealedIdentity, &out[sealed_at..]);
        }
        InitAuth::Light(chain) => {
            let handle = chain.handle(&local.wg_public);
            transcript.mix(Item::Handle, &handle);
            out.extend_from_slice(&handle);
        }
    }

    let ss = dh(&local.wg, remote.wg.as_bytes())?;
    join(
        &mut transcript,
        &local.wg_public,
        &local.kem_hash,
        remote.pq,
        &ss,
    );
    if let InitAuth::Light(chain) = auth {
        transcript.mix_secret(Secret::Chain, &chain.0);
    }
    let sealed_at = out.len();
    aead::seal_once(
        &transcript.key(label::INIT_EPOCH),
        transcript.hash(),
        &epoch.to_be_bytes(),
        &mut out,
    );
    transcript.mix(Item::SealedInitEpoch, &out[sealed_at..]);

    push_mac1(&mut out, &remote.wg);
    out.extend_from_slice(&[0; MAC_LEN]);
    let offer = Offer {
        session: random.session,
        full: mode == Mode::Full,
        transcript,
        ephemeral,
        kem,
    };
    Ok((out, offer))
}

/// Writes mac2 into an Init, keyed by the cookie that the responder sent.
pub(crate) fn set_mac2(init: &mut [u8], cookie: &wire::MacTag) {
    let (covered, mac2) = init.split_at_mut(init.len() - MAC_LEN);
    mac2.copy_from_slice(&wire::mac(cookie, covered));
}

/// The responder's first look: as far as one gets without knowing who sent the Init. A FULL one
/// then names its sender.
pub(crate) fn open_init(
    local: &Local,
    init: &Init<'_>,
) -> Result<(Transcript, Option<WgPublicKey>), Reject> {
    let mut transcript = begin(&local.wg_public, &local.kem_hash);
    transcript.mix(Item::InitHead, init.head);
    transcript.mix(Item::InitiatorEphemeralX25519, init.ephemeral);
    transcript.mix(Item::InitiatorEphemeralMlKem, init.kem_key);
    let es = dh(&local.wg, init.ephemeral)?;
    transcript.mix_secret(Secret::EphemeralStaticDh, es.as_slice());
    match init.who {
        Who::Full {
            ciphertext,
            identity,
        } => {
            let shared = decapsulate(&local.kem, ciphertext)?;
            transcript.mix(Item::CiphertextToResponder, ciphertext);
            transcript.mix_secret(Secret::ResponderKem, shared.as_slice());
            let key = transcript.key(label::IDENTITY);
            let plain = aead::open_once(&key, transcript.hash(), identity).ok_or(Reject::Seal)?;
            let sender: [u8; 32] = plain.as_slice().try_into().map_err(|_| Reject::Seal)?;
            transcript.mix(Item::SealedIdentity, identity);
            Ok((transcript, Some(WgPublicKey(sender))))
        }
        Who::Light { handle } => {
            transcript.mix(Item::Handle, handle);
            Ok((transcript, None))
        }
    }
}

/// The responder's second look, once it knows the sender: gives the epoch that it proposes.
pub(crate) fn authenticate_init(
    local: &Local,
    remote: &Remote,
    chain: Option<&ChainKey>,
    transcript: &mut Transcript,
    init: &Init<'_>,
) -> Result<u64, Reject> {
    let ss = dh(&local.wg, remote.wg.as_bytes())?;
    join(transcript, &remote.wg, &remote.kem_hash, remote.pq, &ss);
    if let Some(chain) = chain {
        transcript.mix_secret(Secret::Chain, &chain.0);
    }
    let key = transcript.key(label::INIT_EPOCH);
    let epoch = open_epoch(&key, transcript.hash(), init.epoch)?;
    transcript.mix(Item::SealedInitEpoch, init.epoch);
    Ok(epoch)
}

// ── Message 2 ────────────────────────────────────────────────────────────────────────────────

/// What the responder answers an authenticated Init with.
pub(crate) struct Answer<'a> {
    pub remote: &'a Remote,
    /// The initiator's static ML-KEM key, if the Init is FULL.
    pub kem_key: Option<&'a KemPublicKey>,
    pub epoch: u64,
    pub random: &'a RespRandom,
}

impl Answer<'_> {
    /// Makes a Resp. `biscuit` seals the responder's state.
    pub(crate) fn resp(
        &self,
        mut transcript: Transcript,
        init: &Init<'_>,
        biscuit: impl FnOnce(&Master) -> [u8; BISCUIT_LEN],
    ) -> Result<Vec<u8>, Reject> {
        let mode = match self.kem_key {
            Some(_) => Mode::Full,
            None => Mode::Light,
        };
        let mut out = wire::head(Kind::Resp, mode, init.session, RESP_FULL_LEN);
        let ephemeral = StaticSecret::from(self.random.ephemeral);
        let ephemeral_public = PublicKey::from(&ephemeral);
        transcript.mix(Item::RespHead, &out);
        transcript.mix(Item::ResponderEphemeralX25519, ephemeral_public.as_bytes());
        out.extend_from_slice(ephemeral_public.as_bytes());
        let ee = dh(&ephemeral, init.ephemeral)?;
        transcript.mix_secret(Secret::EphemeralEphemeralDh, ee.as_slice());
        let se = dh(&ephemeral, self.remote.wg.as_bytes())?;
        transcript.mix_secret(Secret::StaticEphemeralDh, se.as_slice());

        let (ciphertext, shared) = encapsulate(init.kem_key, &self.random.ephemeral_m)?;
        transcript.mix(Item::CiphertextToEphemeral, &ciphertext);
        transcript.mix_secret(Secret::EphemeralKem, shared.as_slice());
        out.extend_from_slice(&ciphertext);
        if let Some(key) = self.kem_key {
            let (ciphertext, shared) = encapsulate(key.as_bytes(), &self.random.static_m)?;
            transcript.mix(Item::CiphertextToInitiator, &ciphertext);
            transcript.mix_secret(Secret::InitiatorKem, shared.as_slice());
            out.extend_from_slice(&ciphertext);
        }

        let master = transcript.finish();
        out.extend_from_slice(&biscuit(&master));
        let covered = out.clone();
        aead::seal_once(
            &master.key(label::RESP_EPOCH),
            &covered,
            &self.epoch.to_be_bytes(),
            &mut out,
        );
        push_mac1(&mut out, &self.remote.wg);
        Ok(out)
    }
}

/// The initiator's look at a Resp: the master secret and the epoch's number.
pub(crate) fn open_resp(
    local: &Local,
    offer: &Offer,
    resp: &Resp<'_>,
) -> Result<(Master, u64), Reject> {
    if offer.full != resp.static_ciphertext.is_some() {
        return Err(Reject::Form);
    }
    let mut transcript = offer.transcript.clone();
    transcript.mix(Item::RespHead, resp.head);
    transcript.mix(Item::ResponderEphemeralX25519, resp.ephemeral);
    let ee = dh(&offer.ephemeral, resp.ephemeral)?;
    transcript.mix_secret(Secret::EphemeralEphemeralDh, ee.as_slice());
    let se = dh(&local.wg, resp.ephemeral)?;
    transcript.mix_secret(Secret::StaticEphemeralDh, se.as_slice());
    let shared = decapsulate(&offer.kem, resp.ciphertext)?;
    transcript.mix(Item::CiphertextToEphemeral, resp.ciphertext);
    transcript.mix_secret(Secret::EphemeralKem, shared.as_slice());
    if let Some(ciphertext) = resp.static_ciphertext {
        let shared = decapsulate(&local.kem, ciphertext)?;
        transcript.mix(Item::CiphertextToInitiator, ciphertext);
        transcript.mix_secret(Secret::InitiatorKem, shared.as_slice());
    }
    let master = transcript.finish();
    let covered = &resp.whole[..resp.whole.len() - EPOCH_LEN - MAC_LEN];
    let epoch = open_epoch(&master.key(label::RESP_EPOCH), covered, resp.epoch)?;
    Ok((master, epoch))
}

// ── Messages 3 and 4 ─────────────────────────────────────────────────────────────────────────

/// Makes a Conf: the initiator's proof that it knows the master secret.
pub(crate) fn conf(
    master: &Master,
    session: &Session,
    biscuit: &[u8; BISCUIT_LEN],
    responder: &WgPublicKey,
) -> Vec<u8> {
    let mut out = wire::head(Kind::Conf, Mode::None, session, CONF_LEN);
    out.extend_from_slice(biscuit);
    push_proof(&master.key(label::CONF), &mut out);
    push_mac1(&mut out, responder);
    out
}

pub(crate) fn check_conf(master: &Master, conf: &Conf<'_>) -> Result<(), Reject> {
    check_proof(&master.key(label::CONF), conf.whole, conf.proof)
}

/// Makes an Ack: the responder's proof that it has installed the epoch.
pub(crate) fn ack(master: &Master, session: &Session, initiator: &WgPublicKey) -> Vec<u8> {
    let mut out = wire::head(Kind::Ack, Mode::None, session, ACK_LEN);
    push_proof(&master.key(label::ACK), &mut out);
    push_mac1(&mut out, initiator);
    out
}

pub(crate) fn check_ack(master: &Master, ack: &Ack<'_>) -> Result<(), Reject> {
    check_proof(&master.key(label::ACK), ack.whole, ack.proof)
}

// ── Pieces ───────────────────────────────────────────────────────────────────────────────────

fn begin(responder: &WgPublicKey, responder_kem: &KemKeyHash) -> Transcript {
    let mut transcript = Transcript::new();
    transcript.mix(Item::ResponderX25519, responder.as_bytes());
    transcript.mix(Item::ResponderMlKemHash, responder_kem.as_bytes());
    transcript
}

/// Mixes in the pair: what could not be said before the responder knew the initiator.
fn join(
    transcript: &mut Transcript,
    initiator: &WgPublicKey,
    initiator_kem: &KemKeyHash,
    pq: PqMode,
    static_static: &Zeroizing<[u8; 32]>,
) {
    let pq = match pq {
        PqMode::Preferred => 1,
        PqMode::Required => 2,
    };
    transcript.mix(Item::InitiatorX25519, initiator.as_bytes());
    transcript.mix(Item::InitiatorMlKemHash, initiator_kem.as_bytes());
    transcript.mix(Item::PqMode, &[pq]);
    transcript.mix_secret(Secret::StaticStaticDh, static_static.as_slice());
}

/// X25519 (RFC 7748 §6.1); refuses the all-zero result of a low-order key.
fn dh(secret: &StaticSecret, public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, Reject> {
    #[cfg(test)]
    crate::cost::agreement();
    let shared = secret.diffie_hellman(&PublicKey::from(*public));
    if !shared.was_contributory() {
        return Err(Reject::LowOrder);
    }
    Ok(Zeroizing::new(shared.to_bytes()))
}

/// ML-KEM-768 encapsulation (FIPS 203 §7.2, with its modulus check of the key).
pub(crate) fn encapsulate(
    key: &[u8],
    m: &[u8; 32],
) -> Result<([u8; CIPHERTEXT_LEN], Zeroizing<[u8; 32]>), Reject> {
    #[cfg(test)]
    crate::cost::agreement();
    let key = ml_kem_768::EncapsulationKey::new_from_slice(key).map_err(|_| Reject::KemKey)?;
    let mut m = ml_kem::B32::from(*m);
    let (ciphertext, mut shared) = key.encapsulate_deterministic(&m);
    m.as_mut_slice().zeroize();
    let mut out = [0; CIPHERTEXT_LEN];
    out.copy_from_slice(&ciphertext);
    let secret = Zeroizing::new(shared.into());
    shared.as_mut_slice().zeroize();
    Ok((out, secret))
}

/// ML-KEM-768 decapsulation (FIPS 203 §7.3). A wrong ciphertext gives a wrong secret (implicit
/// rejection), which the next seal shows.
pub(crate) fn decapsulate(
    key: &ml_kem_768::DecapsulationKey,
    ciphertext: &[u8; CIPHERTEXT_LEN],
) -> Result<Zeroizing<[u8; 32]>, Reject> {
    #[cfg(test)]
    crate::cost::agreement();
    let mut shared = key
        .decapsulate_slice(ciphertext)
        .map_err(|_| Reject::Form)?;
    let secret = Zeroizing::new(shared.into());
    shared.as_mut_slice().zeroize();
    Ok(secret)
}

fn open_epoch(key: &aead::Key, associated: &[u8], sealed: &[u8; EPOCH_LEN]) -> Result<u64, Reject> {
    let plain = aead::open_once(key, associated, sealed).ok_or(Reject::Seal)?;
    let bytes: [u8; 8] = plain.as_slice().try_into().map_err(|_| Reject::Seal)?;
    Ok(u64::from_be_bytes(bytes))
}

fn push_mac1(out: &mut Vec<u8>, receiver: &WgPublicKey) {
    let mac = wire::mac(&mac1_key(receiver), out);
    out.extend_from_slice(&mac);
}

/// A seal of nothing, over all that precedes it.
fn push_proof(key: &aead::Key, out: &mut Vec<u8>) {
    let covered = out.clone();
    aead::seal_once(key, &covered, &[], out);
}

fn check_proof(key: &aead::Key, whole: &[u8], proof: &[u8]) -> Result<(), Reject> {
    let covered = &whole[..whole.len() - proof.len() - MAC_LEN];
    aead::open_once(key, covered, proof)
        .map(|_| ())
        .ok_or(Reject::Seal)
}
