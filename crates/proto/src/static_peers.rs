//! Static peers: devices with a stock WireGuard app and no agent, and the gateways that carry them.
//!
//! A static peer is a machine of its org. Its gateway's agent runs its end of the mesh and speaks plain
//! WireGuard with the device, so the last hop, and only that, is protected by classic WireGuard alone: not
//! against quantum computers, unless with a preshared key.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::api::{Machine, Registered};
use crate::ids::{MachineId, UserId};
use crate::keys::{KEY_LEN, KemPublicKey, WgPublicKey};

/// Most static peers of one gateway: each has a mesh, sockets and a relay connection of its own there.
pub const MAX_STATIC_PEERS: usize = 100;

/// Most static peers that one person may have in an org: a gateway has room for several people.
pub const MAX_STATIC_PEERS_OF_PERSON: usize = 10;

/// The operating system that static peers are said to have.
pub const STATIC_OS: &str = "wireguard";

/// A WireGuard preshared key: base64 in JSON. Zeroized on drop, no `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop, ToSchema)]
#[schema(value_type = String)]
pub struct PresharedKey([u8; KEY_LEN]);

impl PresharedKey {
    /// A new key.
    pub fn generate(rng: &mut (impl rand::CryptoRng + ?Sized)) -> Self {
        let mut key = [0; KEY_LEN];
        rng.fill_bytes(&mut key);
        let made = Self(key);
        key.zeroize();
        made
    }

    /// The key of these bytes. `None`: they are not as many as it has.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// As `wg` writes it.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0))
    }
}

impl Serialize for PresharedKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for PresharedKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(d)?);
        let bytes = BASE64.decode(text.as_bytes()).map(Zeroizing::new);
        bytes
            .ok()
            .and_then(|bytes| Self::from_slice(&bytes))
            .ok_or_else(|| serde::de::Error::custom("a preshared key is 44 characters of base64"))
    }
}

/// What a gateway has to do; part of [`crate::network::SelfNetwork`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayDuty {
    /// UDP port of its plain WireGuard, whose key is the machine's own.
    pub listen_port: u16,
    /// The static peers that it carries, by id: those that are approved.
    pub peers: Vec<CarriedPeer>,
}

/// A static peer, as its gateway is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedPeer {
    /// The peer.
    pub id: MachineId,
    /// Another one than before: its keys are others, and it has to be taken up anew.
    pub revision: i64,
}

/// `POST /api/machine-static-peers/{machine}`, by its gateway: takes a static peer up. Answer: [`Attached`].
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The key of the peer's end of the mesh, which the gateway has made.
    pub wg_key: WgPublicKey,
    /// Likewise.
    pub kem_key: KemPublicKey,
    /// The agent's version.
    pub agent_version: String,
}

/// A static peer that was taken up.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct Attached {
    /// The machine that the gateway speaks for from now on. The token of a taking up before is void.
    pub machine: Registered,
    /// The device's WireGuard key.
    pub public_key: WgPublicKey,
    /// What the device's tunnel has as preshared key.
    pub preshared_key: Option<PresharedKey>,
}

/// `PUT /api/orgs/{org}/machines/{machine}/gateway`. Answer: [`Gateway`].
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayRequest {
    /// Where devices reach the machine from outside: `host:port`, `[2001:db8::1]:port`.
    pub endpoint: String,
    /// The UDP port that its agent listens at. `None`: that of the endpoint.
    #[serde(default)]
    pub listen_port: Option<u16>,
}

/// A machine that carries static peers. `GET /api/orgs/{org}/gateways` lists them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
pub struct Gateway {
    /// The machine.
    pub machine: MachineId,
    /// Its name.
    pub name: String,
    /// As in [`GatewayRequest`].
    pub endpoint: String,
    /// As in [`GatewayRequest`].
    pub listen_port: u16,
    /// Whether it is connected.
    pub online: bool,
    /// How many static peers it has, approved or not, at most [`MAX_STATIC_PEERS`].
    pub static_peers: u32,
}

/// `POST /api/orgs/{org}/static-peers`. Answer: [`StaticPeerConfig`].
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateStaticPeer {
    /// Its name in the org.
    pub name: String,
    /// The gateway that carries it.
    pub gateway: MachineId,
    /// The device's WireGuard key. `None`: a key is made, shown once, and not kept.
    #[serde(default)]
    pub public_key: Option<WgPublicKey>,
    /// Whether to have a preshared key too.
    #[serde(default)]
    pub preshared_key: bool,
    /// Its tags, as in `tag:phones`. One with tags is nobody's.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whose it is, if not the caller's; for owners and admins. One person has at most
    /// [`MAX_STATIC_PEERS_OF_PERSON`], with tags or without; one with tags that owners and admins make and name
    /// nobody for is the org's.
    #[serde(default)]
    pub user: Option<UserId>,
}

/// `POST /api/orgs/{org}/static-peers/{machine}/keys`: new keys, maybe another gateway. What was configured
/// before ends at once. It may be another device, so where new machines wait for approval, one that a member
/// gives new keys waits again. Its sign-in is renewed, unless an API key asks. Answer: [`StaticPeerConfig`].
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateStaticPeer {
    /// Another gateway. `None`: the one that it has.
    #[serde(default)]
    pub gateway: Option<MachineId>,
    /// As in [`CreateStaticPeer`].
    #[serde(default)]
    pub public_key: Option<WgPublicKey>,
    /// As in [`CreateStaticPeer`].
    #[serde(default)]
    pub preshared_key: bool,
}

/// A static peer. `GET /api/orgs/{org}/static-peers` lists them; as machines, they are in
/// `GET /api/orgs/{org}/machines` too, and everything else is done with them there.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct StaticPeer {
    /// The machine. It is online while its gateway carries it, whether the device is there or not.
    #[serde(flatten)]
    pub machine: Machine,
    /// The device's WireGuard key.
    pub public_key: WgPublicKey,
    /// Whether it has a preshared key.
    pub preshared_key: bool,
    /// Its gateway. `None`: that is gone; name another.
    pub gateway: Option<MachineId>,
    /// The gateway's name.
    pub gateway_name: Option<String>,
    /// Why it is not online, if that is its gateway's doing. For people.
    pub message: Option<String>,
}

/// What a device is configured with. Shown once.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct StaticPeerConfig {
    /// The static peer.
    pub peer: StaticPeer,
    /// The file for `wg-quick` and the WireGuard apps. Without a private key if the device has made its own.
    #[schema(value_type = String)]
    pub config: SecretText,
    /// The same as a QR code, in SVG. `None`: without a private key it would be of no use.
    #[schema(value_type = Option<String>)]
    pub qr_svg: Option<SecretText>,
    /// The same for terminals: lines of block characters.
    #[schema(value_type = Option<String>)]
    pub qr_text: Option<SecretText>,
    /// What to know of it. For people.
    pub notice: String,
}

/// A text that holds a secret. Zeroized on drop, no `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preshared_key_is_written_as_wg_writes_it() {
        let key = PresharedKey::from_slice(&[1; 32]).unwrap();
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, "\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"");
        let back: PresharedKey = serde_json::from_str(&json).unwrap();
        assert_eq!(back.expose(), key.expose());
        for bad in ["\"\"", "\"AQE=\"", "\"?\"", "1"] {
            assert!(serde_json::from_str::<PresharedKey>(bad).is_err(), "{bad}");
        }
    }
}
