//! What client and relay tell each other before packets flow.
//!
//! Both texts are JSON in a NaCl `crypto_box` (X25519, XSalsa20-Poly1305) between the client's
//! WireGuard key and the relay's key, so the client proves that it holds its key. That alone could
//! be replayed by whoever saw it; therefore our relay puts a nonce into the spare bytes of
//! ServerKey, and our client echoes it inside the box. Stock clients and relays ignore both.

use bytes::Bytes;
use crypto_box::aead::Aead;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use x25519_dalek::StaticSecret;
use ztna_proto::keys::{KEY_LEN, hex, parse_hex};
use ztna_proto::{RegionId, WgPrivateKey, WgPublicKey};

use crate::PROTOCOL_VERSION;
use crate::frame::{Frame, NONCE_LEN};
use crate::key::{RelayPrivateKey, RelayPublicKey};

/// Bytes of the relay's nonce at the start of ServerKey's spare bytes.
pub const FRESHNESS_LEN: usize = 16;

/// The relay's nonce of one connection.
pub type Freshness = [u8; FRESHNESS_LEN];

/// What a client says of itself. Members and their casing are those of Tailscale's `derp`;
/// unknown ones are ignored, those that start with `ztna` are ours.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo {
    /// Protocol version, [`PROTOCOL_VERSION`].
    #[serde(default)]
    pub version: u32,
    /// The client answers a relay's Pings.
    #[serde(rename = "CanAckPings", default)]
    pub can_ack_pings: bool,
    /// Program and version, for the relay's logs.
    #[serde(rename = "AppName", default, skip_serializing_if = "String::is_empty")]
    pub app_name: String,
    /// The ticket that admits the client ([`ztna_proto::ticket`]).
    #[serde(
        rename = "ztnaTicket",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub ticket: Option<String>,
    /// The secret that relays of a region share: the client is one of them. 64 hex digits.
    #[serde(rename = "meshKey", default, skip_serializing_if = "Option::is_none")]
    pub mesh_key: Option<String>,
    /// The region of a client that is a relay.
    #[serde(
        rename = "ztnaRegion",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub region: Option<RegionId>,
    /// The relay's nonce, in hex.
    #[serde(rename = "ztnaNonce", default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

impl ClientInfo {
    /// What our client says, to a relay that sent `freshness`.
    #[must_use]
    pub fn new(app_name: String, ticket: String, freshness: Option<&Freshness>) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            can_ack_pings: true,
            app_name,
            ticket: Some(ticket),
            nonce: freshness.map(|nonce| hex(nonce)),
            ..Self::default()
        }
    }

    /// Whether the client made this for the connection on which the relay sent `freshness`.
    #[must_use]
    pub fn is_fresh(&self, freshness: &Freshness) -> bool {
        let echoed: Option<Freshness> = self.nonce.as_deref().and_then(parse_hex);
        echoed.is_some_and(|echoed| echoed.ct_eq(freshness).into())
    }
}

/// What a relay says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Protocol version, [`PROTOCOL_VERSION`].
    #[serde(default)]
    pub version: u32,
    /// Bytes per second of frames that the client may send. 0: no bound.
    #[serde(
        rename = "TokenBucketBytesPerSecond",
        default,
        skip_serializing_if = "is_zero"
    )]
    pub bytes_per_second: u64,
    /// Bytes at once.
    #[serde(
        rename = "TokenBucketBytesBurst",
        default,
        skip_serializing_if = "is_zero"
    )]
    pub burst: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A handshake that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The box was not made by the key that it claims, or not for us.
    #[error("the handshake is not sealed by the key that it names")]
    Seal,
    /// The key is one that anybody can compute with (RFC 7748 §6.1, all-zero check).
    #[error("the key is of low order; make a new one")]
    WeakKey,
    /// The box holds something else than the JSON it should.
    #[error("the handshake holds no valid JSON")]
    Json,
}

/// Reads the relay's nonce out of ServerKey's spare bytes. `None` from a stock relay.
#[must_use]
pub fn freshness_in(spare: &[u8]) -> Option<Freshness> {
    spare.first_chunk().copied()
}

/// Makes the client's frame.
///
/// # Errors
/// The relay's key is of low order.
pub fn seal_client_info(
    key: &WgPrivateKey,
    relay: &RelayPublicKey,
    info: &ClientInfo,
    rng: &mut impl CryptoRng,
) -> Result<Frame, HandshakeError> {
    let (nonce, sealed) = seal(key.expose(), &relay.0, info, rng)?;
    Ok(Frame::ClientInfo {
        key: key.public(),
        nonce,
        sealed,
    })
}

/// Opens what [`seal_client_info`] made: proof that the client holds `client`'s private key.
///
/// # Errors
/// It does not, or the content is malformed.
pub fn open_client_info(
    key: &RelayPrivateKey,
    client: &WgPublicKey,
    nonce: &[u8; NONCE_LEN],
    sealed: &[u8],
) -> Result<ClientInfo, HandshakeError> {
    open(key.expose(), &client.0, nonce, sealed)
}

/// Makes the relay's frame.
///
/// # Errors
/// The client's key is of low order.
pub fn seal_server_info(
    key: &RelayPrivateKey,
    client: &WgPublicKey,
    info: &ServerInfo,
    rng: &mut impl CryptoRng,
) -> Result<Frame, HandshakeError> {
    let (nonce, sealed) = seal(key.expose(), &client.0, info, rng)?;
    Ok(Frame::ServerInfo { nonce, sealed })
}

/// Opens what [`seal_server_info`] made.
///
/// # Errors
/// It was not made by `relay` for us, or the content is malformed.
pub fn open_server_info(
    key: &WgPrivateKey,
    relay: &RelayPublicKey,
    nonce: &[u8; NONCE_LEN],
    sealed: &[u8],
) -> Result<ServerInfo, HandshakeError> {
    open(key.expose(), &relay.0, nonce, sealed)
}

fn seal(
    ours: &[u8; KEY_LEN],
    theirs: &[u8; KEY_LEN],
    info: &impl Serialize,
    rng: &mut impl CryptoRng,
) -> Result<([u8; NONCE_LEN], Bytes), HandshakeError> {
    let json = serde_json::to_vec(info).map_err(|_| HandshakeError::Json)?;
    let mut nonce = [0; NONCE_LEN];
    rng.fill_bytes(&mut nonce);
    let sealed = salsa_box(ours, theirs)?
        .encrypt(&nonce.into(), json.as_slice())
        .map_err(|_| HandshakeError::Seal)?;
    Ok((nonce, sealed.into()))
}

fn open<T: for<'de> Deserialize<'de>>(
    ours: &[u8; KEY_LEN],
    theirs: &[u8; KEY_LEN],
    nonce: &[u8; NONCE_LEN],
    sealed: &[u8],
) -> Result<T, HandshakeError> {
    let json = salsa_box(ours, theirs)?
        .decrypt(nonce.into(), sealed)
        .map_err(|_| HandshakeError::Seal)?;
    serde_json::from_slice(&json).map_err(|_| HandshakeError::Json)
}

fn salsa_box(ours: &[u8; KEY_LEN], theirs: &[u8; KEY_LEN]) -> Result<SalsaBox, HandshakeError> {
    // A low-order key makes a shared secret that everybody knows: it proves nothing.
    let shared = StaticSecret::from(*ours).diffie_hellman(&(*theirs).into());
    if !shared.was_contributory() {
        return Err(HandshakeError::WeakKey);
    }
    Ok(SalsaBox::new(
        &PublicKey::from(*theirs),
        &SecretKey::from(*ours),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> (WgPrivateKey, RelayPrivateKey) {
        let mut rng = rand::rng();
        (
            WgPrivateKey::generate(&mut rng),
            RelayPrivateKey::generate(&mut rng),
        )
    }

    fn parts(frame: Frame) -> (WgPublicKey, [u8; NONCE_LEN], Bytes) {
        let Frame::ClientInfo { key, nonce, sealed } = frame else {
            panic!("not a ClientInfo: {frame:?}");
        };
        (key, nonce, sealed)
    }

    #[test]
    fn both_infos_arrive() {
        let (client, relay) = keys();
        let info = ClientInfo::new("ztna/1".into(), "ticket".into(), Some(&[3; FRESHNESS_LEN]));
        let frame = seal_client_info(&client, &relay.public(), &info, &mut rand::rng()).unwrap();
        let (key, nonce, sealed) = parts(frame);
        assert_eq!(key, client.public());
        let got = open_client_info(&relay, &key, &nonce, &sealed).unwrap();
        assert!(got == info);
        assert!(got.is_fresh(&[3; FRESHNESS_LEN]));
        assert!(!got.is_fresh(&[4; FRESHNESS_LEN]));

        let info = ServerInfo {
            version: PROTOCOL_VERSION,
            bytes_per_second: 5,
            burst: 6,
        };
        let frame = seal_server_info(&relay, &key, &info, &mut rand::rng()).unwrap();
        let Frame::ServerInfo { nonce, sealed } = frame else {
            panic!("not a ServerInfo: {frame:?}");
        };
        let got = open_server_info(&client, &relay.public(), &nonce, &sealed).unwrap();
        assert_eq!(got, info);
    }

    #[test]
    fn only_the_named_key_can_have_sealed_it() {
        let (client, relay) = keys();
        let (other, _) = keys();
        let info = ClientInfo::new(String::new(), "ticket".into(), None);
        let frame = seal_client_info(&client, &relay.public(), &info, &mut rand::rng()).unwrap();
        let (_, nonce, sealed) = parts(frame);
        let refused = open_client_info(&relay, &other.public(), &nonce, &sealed);
        assert!(refused.is_err_and(|error| error == HandshakeError::Seal));
        for low_order in [[0; KEY_LEN], {
            let mut one = [0; KEY_LEN];
            one[0] = 1;
            one
        }] {
            let refused = open_client_info(&relay, &WgPublicKey(low_order), &nonce, &sealed);
            assert!(refused.is_err_and(|error| error == HandshakeError::WeakKey));
        }
    }

    #[test]
    fn the_json_is_cased_as_stock_peers_case_it() {
        let info = ClientInfo::new("app".into(), "t".into(), Some(&[0xab; FRESHNESS_LEN]));
        let json = serde_json::to_value(&info).unwrap();
        let expected = serde_json::json!({
            "version": 2, "CanAckPings": true, "AppName": "app",
            "ztnaTicket": "t", "ztnaNonce": "ab".repeat(FRESHNESS_LEN),
        });
        assert_eq!(json, expected);

        let stock = r#"{"meshKey":"00","version":2,"CanAckPings":false,"IsProber":true}"#;
        let info: ClientInfo = serde_json::from_str(stock).unwrap();
        assert_eq!(info.version, 2);
        assert!(info.ticket.is_none() && !info.is_fresh(&[0; FRESHNESS_LEN]));

        let plain = serde_json::to_string(&ServerInfo {
            version: 2,
            ..ServerInfo::default()
        });
        assert_eq!(plain.unwrap(), r#"{"version":2}"#);
        let limits = serde_json::to_value(ServerInfo {
            version: 2,
            bytes_per_second: 1,
            burst: 2,
        });
        let expected = serde_json::json!({
            "version": 2, "TokenBucketBytesPerSecond": 1, "TokenBucketBytesBurst": 2,
        });
        assert_eq!(limits.unwrap(), expected);
    }

    proptest! {
        #[test]
        fn random_boxes_never_open(
            client in any::<[u8; KEY_LEN]>(),
            nonce in any::<[u8; NONCE_LEN]>(),
            sealed in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let relay = RelayPrivateKey::from_bytes([9; KEY_LEN]);
            let opened = open_client_info(&relay, &WgPublicKey(client), &nonce, &sealed);
            prop_assert!(opened.is_err());
        }
    }
}
