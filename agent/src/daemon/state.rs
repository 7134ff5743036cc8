//! What the daemon remembers between two starts.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;
use ztna_handshake::KemPrivateKey;
use ztna_proto::api::Registered;
use ztna_proto::netmap::SelfRecord;
use ztna_proto::tokens::MachineToken;
use ztna_proto::{MachineId, OrgId, WgPrivateKey};

use super::network::NetworkPrefs;
use super::state_dir::StateDir;
use crate::control::Server;

/// Name of the file.
pub const STATE_FILE: &str = "state.json";

/// Version of the file's form. It grows when an older daemon could misread a newer file.
const VERSION: u32 = 2;

/// Room for the file's text, in bytes: some ten times what it has.
const FILE_ROOM: usize = 16 * 1024;

/// What the daemon remembers. Members that this build does not know are errors: the file is
/// written whole, and what is not understood would be lost.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// Whether the tunnel is to be up.
    pub wanted: Wanted,
    /// This machine's keys.
    pub keys: Keys,
    /// The control plane, once one was named.
    pub server: Option<Server>,
    /// The registration there.
    pub machine: Option<Machine>,
    /// User id of the one who may change things beside root.
    pub operator: Option<u32>,
    /// Wanted name, if it is not the system's.
    pub hostname: Option<String>,
    /// Its part in the network.
    #[serde(default)]
    pub network: NetworkPrefs,
}

/// Whether the tunnel is to be up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Up, and up again after a restart.
    Up,
    /// Down.
    Down,
}

/// This machine's private keys: made here, never sent.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// WireGuard private key, X25519.
    #[serde(with = "base64_wg")]
    pub wg: WgPrivateKey,
    /// ML-KEM-768 private key; its 64-byte seed in the file (FIPS 203 §7.1: d ‖ z).
    #[serde(with = "base64_kem")]
    pub kem: KemPrivateKey,
}

/// A registration.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The machine's id.
    pub id: MachineId,
    /// Its bearer towards the control plane.
    pub token: MachineToken,
    /// Its org.
    pub org: OrgId,
    /// The org's name.
    pub org_name: String,
    /// Its name.
    pub name: String,
    /// Its full DNS name.
    pub dns_name: String,
    /// Tailnet address, IPv4.
    pub ipv4: Ipv4Addr,
    /// Tailnet address, IPv6.
    pub ipv6: Ipv6Addr,
    /// When it must sign in again.
    pub key_expires_at: Option<Timestamp>,
}

impl From<Registered> for Machine {
    fn from(registered: Registered) -> Self {
        Self {
            id: registered.machine_id,
            token: registered.node_key,
            org: registered.org,
            org_name: registered.org_name,
            name: registered.name,
            dns_name: registered.dns_name,
            ipv4: registered.ipv4,
            ipv6: registered.ipv6,
            key_expires_at: registered.key_expires_at,
        }
    }
}

impl Machine {
    /// Takes over what the control plane has changed since the registration.
    pub fn follow(&mut self, this: &SelfRecord) {
        if self.id != this.id {
            return;
        }
        self.name.clone_from(&this.name);
        self.dns_name.clone_from(&this.dns_name);
        self.org_name.clone_from(&this.org_name);
        (self.ipv4, self.ipv6) = (this.ipv4, this.ipv6);
        self.key_expires_at = this.key_expires_at;
    }
}

impl Keys {
    /// New keys.
    #[must_use]
    pub fn generate() -> Self {
        let mut rng = rand::rng();
        Self {
            wg: WgPrivateKey::generate(&mut rng),
            kem: KemPrivateKey::generate(&mut rng),
        }
    }
}

impl State {
    /// The state of a machine that was never up: new keys and nothing else.
    #[must_use]
    pub fn fresh() -> Self {
        Self {
            version: VERSION,
            wanted: Wanted::Down,
            keys: Keys::generate(),
            server: None,
            machine: None,
            operator: None,
            hostname: None,
            network: NetworkPrefs::default(),
        }
    }

    /// Reads the state; a fresh one if there is none.
    ///
    /// # Errors
    /// The file cannot be read; it is of a newer build; or it is damaged: then it is set aside,
    /// and the message says where and what to do.
    pub fn load(dir: &StateDir) -> anyhow::Result<Self> {
        let path = dir.join(STATE_FILE);
        let bytes = dir
            .read(STATE_FILE)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let Some(bytes) = bytes else {
            return Ok(Self::fresh());
        };
        if let Some(version) = version_of(&bytes)
            && version > VERSION
        {
            bail!(
                "{} was written by a newer ztna (form {version}, this build reads {VERSION}); \
                 install that version again",
                path.display()
            );
        }
        match serde_json::from_slice::<Self>(&bytes) {
            // It is written in the form of now.
            Ok(state) => Ok(Self {
                version: VERSION,
                ..state
            }),
            Err(error) => {
                let why = describe(&error);
                let aside = dir.set_aside(STATE_FILE).with_context(|| {
                    format!(
                        "the state file {} is damaged ({why}) and cannot be moved aside; \
                         move it away or restore a copy of it",
                        path.display()
                    )
                })?;
                bail!(
                    "the state file {} is damaged ({why}); it is kept as {}; restore a copy of \
                     it, or register this machine anew with `sudo ztna up --auth-key KEY`",
                    path.display(),
                    aside.display()
                )
            }
        }
    }

    /// Writes the state.
    ///
    /// # Errors
    /// The system refused; the old file is as it was.
    pub fn save(&self, dir: &StateDir) -> anyhow::Result<()> {
        let path = dir.join(STATE_FILE);
        // A buffer that grows leaves copies of the keys behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_ROOM));
        serde_json::to_writer_pretty(&mut *bytes, self)?;
        dir.write(STATE_FILE, &bytes)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// What is wrong with the file, without quoting it: it holds keys.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is not JSON",
        _ => "it does not have the members that it should have",
    };
    format!("{what}, line {}", error.line())
}

fn version_of(bytes: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    serde_json::from_slice::<Versioned>(bytes)
        .ok()
        .map(|file| file.version)
}

mod base64_wg {
    use super::*;

    pub fn serialize<S: Serializer>(key: &WgPrivateKey, s: S) -> Result<S::Ok, S::Error> {
        encode(key.expose(), s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<WgPrivateKey, D::Error> {
        decode(d).map(|bytes| WgPrivateKey::from_bytes(*bytes))
    }
}

mod base64_kem {
    use super::*;

    pub fn serialize<S: Serializer>(key: &KemPrivateKey, s: S) -> Result<S::Ok, S::Error> {
        encode(key.expose_seed(), s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<KemPrivateKey, D::Error> {
        decode(d).map(|seed| KemPrivateKey::from_seed(*seed))
    }
}

fn encode<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&Zeroizing::new(BASE64.encode(bytes)))
}

fn decode<'de, const N: usize, D: Deserializer<'de>>(d: D) -> Result<Zeroizing<[u8; N]>, D::Error> {
    let text = Zeroizing::new(String::deserialize(d)?);
    let bytes = Zeroizing::new(
        BASE64
            .decode(text.as_bytes())
            .map_err(|_| D::Error::custom("a key is not base64"))?,
    );
    let array: [u8; N] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| D::Error::custom("a key has another length"))?;
    Ok(Zeroizing::new(array))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            id: MachineId::generate(),
            token: MachineToken::generate(&mut rand::rng()),
            org: OrgId::generate(),
            org_name: "Acme".to_owned(),
            name: "db-1".to_owned(),
            dns_name: "db-1.acme.ztna.internal".to_owned(),
            ipv4: "100.64.0.5".parse().unwrap(),
            ipv6: "fd00::5".parse().unwrap(),
            key_expires_at: None,
        }
    }

    #[test]
    fn state_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let mut state = State::load(&dir).unwrap();
        state.wanted = Wanted::Up;
        state.machine = Some(machine());
        state.operator = Some(1000);
        state.save(&dir).unwrap();
        let back = State::load(&dir).unwrap();
        assert_eq!(back.keys.wg.expose(), state.keys.wg.expose());
        assert_eq!(back.keys.kem.expose_seed(), state.keys.kem.expose_seed());
        assert_eq!(back.wanted, Wanted::Up);
        assert_eq!(back.operator, Some(1000));
        let (back, machine) = (back.machine.unwrap(), state.machine.unwrap());
        assert_eq!(back.token.expose(), machine.token.expose());
        assert_eq!((back.id, back.ipv6), (machine.id, machine.ipv6));
    }

    #[test]
    fn a_damaged_file_is_kept_and_the_message_says_where_and_what_next() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        State::fresh().save(&dir).unwrap();
        let good = std::fs::read(dir.join(STATE_FILE)).unwrap();
        let unknown = String::from_utf8(good.clone())
            .unwrap()
            .replacen('{', r#"{"later": 1,"#, 1);
        let short_key =
            String::from_utf8(good.clone())
                .unwrap()
                .replacen("\"wg\": \"", "\"wg\": \"AAAA", 1);
        for damaged in [
            good[..good.len() / 2].to_vec(),
            Vec::new(),
            b"\0\0\0\0".to_vec(),
            unknown.into_bytes(),
            short_key.into_bytes(),
        ] {
            std::fs::write(dir.join(STATE_FILE), &damaged).unwrap();
            let Err(error) = State::load(&dir) else {
                panic!("a damaged file was read");
            };
            let message = error.to_string();
            let aside = message
                .split("it is kept as ")
                .nth(1)
                .and_then(|rest| rest.split(';').next())
                .unwrap();
            assert_eq!(std::fs::read(aside).unwrap(), damaged);
            assert!(message.contains("ztna up --auth-key"), "{message}");
            assert!(!message.contains('\n'), "{message}");
            assert!(dir.read(STATE_FILE).unwrap().is_none());
        }
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        dir.write(STATE_FILE, br#"{"version": 3, "later": true}"#)
            .unwrap();
        let Err(error) = State::load(&dir) else {
            panic!("a newer file was read");
        };
        assert!(error.to_string().contains("newer ztna"), "{error}");
        assert!(dir.read(STATE_FILE).unwrap().is_some());
    }
}
