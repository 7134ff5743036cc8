//! Load: who may cost this machine a key agreement.
//!
//! An Init that names a peer before any key agreement has that peer's own bucket, so a flood of others
//! cannot hold it up: a relay vouches for its sender, or it carries a handle that only the peer knows.
//! Anybody else's is answered freely from one bucket. When that is empty, an Init has to show that its
//! sender receives at the address it sends from: mac2, keyed by a cookie that was sent there. The
//! cookie covers address **and** port, or relay region and the key that the relay vouches for. A
//! source that has used up its share under load costs nothing but a look-up.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;
use ztna_proto::{RegionId, WgPublicKey};

use crate::aead;
use crate::config::Config;
use crate::schedule::label;
use crate::wire::{
    self, COOKIE_LEN, CookieReply, Init, Kind, MAC_LEN, MacTag, Mode, Reject, SALT_LEN, Session,
};
use crate::{Source, wire::mac_is};

/// Origins whose rate is remembered under load.
const MAX_ORIGINS: usize = 1024;
/// An IPv6 site: its machines have one bucket (RFC 6177 §2 gives a site at least a /64).
const IPV6_SITE_BYTES: usize = 8;

/// Whom a rate is counted for: an address without port, an IPv6 site, a relayed key, or the peer whose
/// handle an Init shows. The last two are apart, since whoever saw a handle can show it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Address([u8; 16]),
    Relayed(RegionId, WgPublicKey),
    Named(WgPublicKey),
}

impl Origin {
    pub(crate) fn of(source: Source) -> Self {
        match source {
            Source::Direct(address) => {
                let ip = address.ip().to_canonical();
                let mut octets = ipv6(ip).octets();
                if ip.is_ipv6() {
                    octets[IPV6_SITE_BYTES..].fill(0);
                }
                Self::Address(octets)
            }
            Source::Relay { region, peer } => Self::Relayed(region, peer),
        }
    }
}

fn ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// What a cookie covers, as bytes: a type tag and the source.
fn cookie_input(source: Source) -> Vec<u8> {
    match source {
        Source::Direct(address) => {
            let mut out = vec![1];
            out.extend_from_slice(&ipv6(address.ip().to_canonical()).octets());
            out.extend_from_slice(&address.port().to_be_bytes());
            out
        }
        Source::Relay { region, peer } => {
            let mut out = vec![2];
            out.extend_from_slice(&region.0.to_be_bytes());
            out.extend_from_slice(peer.as_bytes());
            out
        }
    }
}

/// A token bucket that holds one second's worth.
struct Bucket {
    per_second: u32,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second,
            tokens: f64::from(per_second),
            filled: now,
        }
    }

    fn is_empty(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens < 1.0
    }

    fn fill(&mut self, now: Instant) {
        let rate = f64::from(self.per_second);
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(rate);
        self.filled = self.filled.max(now);
    }

    fn take(&mut self, now: Instant) -> bool {
        if self.is_empty(now) {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// Decides which Inits are worth a key agreement.
pub(crate) struct Guard {
    free: Bucket,
    total: Bucket,
    total_of_peers: Bucket,
    per_origin: u32,
    origins: BTreeMap<Origin, Bucket>,
    secrets: Secrets,
}

/// Verdict on an Init.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Answer,
    AskForCookie,
    Drop,
}

impl Guard {
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        Self {
            free: Bucket::new(config.free_inits, now),
            total: Bucket::new(config.total_inits, now),
            total_of_peers: Bucket::new(config.total_inits, now),
            per_origin: config.source_inits,
            origins: BTreeMap::new(),
            secrets: Secrets {
                lifetime: config.cookie,
                current: None,
                previous: None,
            },
        }
    }

    /// Whether an Init of this source would be dropped for its rate whatever mac2 says: to be asked
    /// before anything is computed. Only what a cookie or a relay vouches for counts towards it, so
    /// nobody can use up the share of a source that is not theirs.
    pub(crate) fn is_spent(&mut self, source: Source, init: &Init<'_>, now: Instant) -> bool {
        *init.mac2 != [0; MAC_LEN]
            && self
                .origins
                .get_mut(&Origin::of(source))
                .is_some_and(|bucket| bucket.is_empty(now))
    }

    /// Decides on an Init whose mac1 holds. `named`: whose handle it shows.
    pub(crate) fn admit(
        &mut self,
        source: Source,
        named: Option<WgPublicKey>,
        init: &Init<'_>,
        now: Instant,
    ) -> Admission {
        let peer = match source {
            Source::Relay { .. } => Some(Origin::of(source)),
            Source::Direct(_) => named.map(Origin::Named),
        };
        if let Some(origin) = peer
            && self.bucket(origin, now).take(now)
            && self.total_of_peers.take(now)
        {
            return Admission::Answer;
        }
        if self.secrets.covers(source, init, now) {
            let share = self.bucket(Origin::of(source), now).take(now);
            let admitted = share && self.total.take(now);
            return if admitted {
                Admission::Answer
            } else {
                Admission::Drop
            };
        }
        if self.free.take(now) && self.total.take(now) {
            Admission::Answer
        } else {
            Admission::AskForCookie
        }
    }

    fn bucket(&mut self, origin: Origin, now: Instant) -> &mut Bucket {
        if self.origins.len() >= MAX_ORIGINS && !self.origins.contains_key(&origin) {
            let oldest = self
                .origins
                .iter()
                .min_by_key(|(_, bucket)| bucket.filled)
                .map(|(origin, _)| *origin);
            if let Some(oldest) = oldest {
                self.origins.remove(&oldest);
            }
        }
        self.origins
            .entry(origin)
            .or_insert_with(|| Bucket::new(self.per_origin, now))
    }

    /// The reply that brings the sender of `init` its cookie.
    pub(crate) fn reply(
        &mut self,
        rng: &mut (dyn rand::CryptoRng + Send),
        source: Source,
        init: &Init<'_>,
        local: &WgPublicKey,
        now: Instant,
    ) -> Vec<u8> {
        let cookie = self.secrets.issue(rng, source, now);
        let mut salt = [0; SALT_LEN];
        rng.fill_bytes(&mut salt);
        seal(&cookie, &salt, local, init.session, init.mac1)
    }
}

/// The secrets that cookies are made of.
struct Secrets {
    lifetime: Duration,
    current: Option<(Zeroizing<[u8; 32]>, Instant)>,
    previous: Option<(Zeroizing<[u8; 32]>, Instant)>,
}

impl Secrets {
    fn issue(
        &mut self,
        rng: &mut (dyn rand::CryptoRng + Send),
        source: Source,
        now: Instant,
    ) -> MacTag {
        let lifetime = self.lifetime;
        if let Some(old) = self.current.take_if(|(_, made)| now >= *made + lifetime) {
            self.previous = Some(old);
        }
        let (secret, _) = self.current.get_or_insert_with(|| {
            let mut secret = Zeroizing::new([0; 32]);
            rng.fill_bytes(secret.as_mut_slice());
            (secret, now)
        });
        wire::mac(secret.as_slice(), &cookie_input(source))
    }

    /// Whether mac2 is keyed by a cookie that was issued to `source`.
    fn covers(&self, source: Source, init: &Init<'_>, now: Instant) -> bool {
        if *init.mac2 == [0; MAC_LEN] {
            return false;
        }
        [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .filter(|(_, made)| now < *made + self.lifetime * 2)
            .any(|(secret, _)| {
                let cookie = wire::mac(secret.as_slice(), &cookie_input(source));
                mac_is(&cookie, init.under_mac2(), init.mac2)
            })
    }
}

/// Sealed under a key that whoever saw the Init can make, and only they: a cookie reply cannot be
/// forged from off the path.
#[allow(clippy::expect_used)]
fn sealing_key(salt: &[u8; SALT_LEN], responder: &WgPublicKey) -> aead::Key {
    let mut key = aead::Key::default();
    Hkdf::<Sha256>::new(Some(salt), responder.as_bytes())
        .expand(label::COOKIE, key.as_mut_slice())
        .expect("32 bytes are within HKDF's bound");
    key
}

fn associated(session: &Session, mac1: &MacTag) -> Vec<u8> {
    [session.as_slice(), mac1].concat()
}

pub(crate) fn seal(
    cookie: &MacTag,
    salt: &[u8; SALT_LEN],
    responder: &WgPublicKey,
    session: &Session,
    mac1: &MacTag,
) -> Vec<u8> {
    let mut out = wire::head(Kind::Cookie, Mode::None, session, COOKIE_LEN);
    out.extend_from_slice(salt);
    let key = sealing_key(salt, responder);
    aead::seal_once(&key, &associated(session, mac1), cookie, &mut out);
    out
}

/// The cookie in a reply to the Init whose mac1 was `mac1`.
pub(crate) fn open(
    reply: &CookieReply<'_>,
    responder: &WgPublicKey,
    mac1: &MacTag,
) -> Result<MacTag, Reject> {
    let key = sealing_key(reply.salt, responder);
    let plain = aead::open_once(&key, &associated(reply.session, mac1), reply.sealed)
        .ok_or(Reject::Seal)?;
    plain.as_slice().try_into().map_err(|_| Reject::Seal)
}
