//! This machine as a gateway: static peers that it carries.
//!
//! Each static peer is a machine of its own. Its end of the mesh runs here, with keys that are made as it is
//! taken up and never written down: an engine as this machine's own has one, whose device is not the TUN
//! device but the static peer ([`carried`]). So its packets are filtered, sealed and found a path for as any
//! machine's are. With the devices themselves one socket speaks plain WireGuard ([`listener`]).

mod carried;
mod listener;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use ztna_mesh::tunnel::NewWireGuard;
use ztna_netmap::Netmap;
use ztna_proto::static_peers::{CarriedPeer, GatewayDuty, MAX_STATIC_PEERS};
use ztna_proto::tokens::MachineToken;
use ztna_proto::{MachineId, WgPrivateKey};

use self::carried::Carried;
use self::listener::Listener;
use crate::control::Api;

/// How often a port is asked for that another program has.
const PORT_RETRY: Duration = Duration::from_secs(5);

/// What the task is made of.
pub struct Gateway {
    pub api: Api,
    /// This machine's. A renewal brings another.
    pub token: watch::Receiver<MachineToken>,
    /// This machine's, which devices know too.
    pub key: WgPrivateKey,
    pub netmap: Arc<RwLock<Netmap>>,
    /// Told after each change of the map.
    pub map_changed: watch::Receiver<()>,
    /// The TUN device's index.
    pub index: u32,
    pub psk_interval: Option<Duration>,
    pub wireguard: NewWireGuard,
    /// Why static peers are not carried, for people.
    pub warning: watch::Sender<Option<String>>,
    pub stop: CancellationToken,
}

/// What is in force.
#[derive(Default)]
struct Held {
    listener: Option<Arc<Listener>>,
    carried: BTreeMap<MachineId, (CarriedPeer, Carried)>,
}

impl Gateway {
    /// Runs until the tunnel goes down; then nothing of it is left.
    pub async fn run(mut self) {
        let mut held = Held::default();
        loop {
            let fine = self.apply(&mut held).await;
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = self.map_changed.changed() => {
                    if changed.is_err() {
                        // The control plane has ended this machine's registration.
                        break;
                    }
                }
                () = sleep(PORT_RETRY), if !fine => {}
            }
        }
        held.let_go(|_| false).await;
    }

    /// What this machine is to do.
    fn duty(&self) -> Option<GatewayDuty> {
        let map = self.netmap.read().unwrap_or_else(PoisonError::into_inner);
        map.this()?.network.gateway.clone()
    }

    /// Brings everything to what is wanted. `false`: something failed that may succeed later.
    async fn apply(&self, held: &mut Held) -> bool {
        let Some(duty) = self.duty() else {
            held.let_go(|_| false).await;
            held.listener = None;
            self.warn(None);
            return true;
        };
        let port = duty.listen_port;
        if held.listener.as_ref().is_some_and(|it| it.port() != port) {
            held.let_go(|_| false).await;
            held.listener = None;
        }
        let listener = match &held.listener {
            Some(listener) => Arc::clone(listener),
            None => match Listener::start(port, (self.wireguard)(&self.key)) {
                Ok(listener) => {
                    tracing::info!(port, "a gateway for static peers");
                    Arc::clone(held.listener.insert(Arc::new(listener)))
                }
                Err(error) => {
                    let why = format!(
                        "this machine is a gateway and cannot listen at UDP port {port}: {error}; static \
                         peers are offline until it can"
                    );
                    tracing::debug!("{why}");
                    self.warn(Some(why));
                    return false;
                }
            },
        };
        self.warn(None);
        held.let_go(|peer| duty.peers.contains(peer)).await;
        for peer in duty.peers.iter().take(MAX_STATIC_PEERS) {
            held.carried
                .entry(peer.id)
                .or_insert_with(|| (*peer, Carried::start(self, peer.id, Arc::clone(&listener))));
        }
        true
    }

    fn warn(&self, warning: Option<String>) {
        self.warning.send_if_modified(|told| {
            let changed = *told != warning;
            *told = warning;
            changed
        });
    }
}

impl Held {
    /// Lets the static peers go that are not to be kept, and waits until nothing of them is left.
    async fn let_go(&mut self, keep: impl Fn(&CarriedPeer) -> bool) {
        let gone = self.carried.extract_if(.., |_, (peer, _)| !keep(peer));
        let gone: Vec<Carried> = gone.map(|(_, (_, carried))| carried).collect();
        for carried in &gone {
            carried.cancel();
        }
        for carried in gone {
            carried.ended().await;
        }
    }
}
