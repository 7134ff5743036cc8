//! One static peer that this machine carries: taken up, and its end of the mesh.

use std::io;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use ztna_mesh::stock::Device;
use ztna_mesh::tunnel::NewWireGuard;
use ztna_netmap::Netmap;
use ztna_proto::MachineId;
use ztna_proto::static_peers::{AttachRequest, Attached};
use ztna_proto::tokens::MachineToken;

use super::Gateway;
use super::listener::Listener;
use crate::control::Api;
use crate::daemon::backoff::Backoff;
use crate::daemon::engine::{self, CHANNEL_CAPACITY, EngineConfig};
use crate::daemon::link::{Link, LinkView};
use crate::daemon::state::Keys;
use crate::platform::NetworkMonitor;

/// A peer that was carried this long was so in order: the next failure is a first one.
const GOOD: Duration = Duration::from_secs(10);

/// A static peer that is carried, or tried to. Dropping it does not end it.
pub struct Carried {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Carried {
    /// Begins to carry a static peer.
    pub fn start(gateway: &Gateway, id: MachineId, listener: Arc<Listener>) -> Self {
        let stop = gateway.stop.child_token();
        let carrier = Carrier {
            id,
            api: gateway.api.clone(),
            token: gateway.token.clone(),
            index: gateway.index,
            psk_interval: gateway.psk_interval,
            wireguard: gateway.wireguard,
            keys: Keys::generate(),
            listener,
            stop: stop.clone(),
        };
        Self {
            stop,
            task: tokio::spawn(carrier.run()),
        }
    }

    /// Begins its end.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    /// Waits until nothing of it is left.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a static peer was not let go well");
        }
    }
}

struct Carrier {
    id: MachineId,
    api: Api,
    /// The gateway's own.
    token: watch::Receiver<MachineToken>,
    index: u32,
    psk_interval: Option<Duration>,
    wireguard: NewWireGuard,
    /// Of the static peer's end of the mesh.
    keys: Keys,
    listener: Arc<Listener>,
    stop: CancellationToken,
}

impl Carrier {
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let tried = tokio::select! {
                () = self.stop.cancelled() => return,
                attached = self.attach() => attached,
            };
            match tried {
                Ok(attached) => match self.carry(attached).await {
                    Ok(()) if began.elapsed() >= GOOD => backoff.reset(),
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(peer = %self.id, %error, "cannot carry a static peer")
                    }
                },
                Err(error) => {
                    tracing::info!(peer = %self.id, %error, "cannot take a static peer up")
                }
            }
            let pause = backoff.after_failure(Instant::now(), &mut rand::rng());
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    async fn attach(&self) -> Result<Attached, crate::control::ControlError> {
        let request = AttachRequest {
            wg_key: self.keys.wg.public(),
            kem_key: self.keys.kem.public(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let token = self.token.borrow().clone();
        self.api.attach(token.expose(), self.id, &request).await
    }

    /// Carries the peer until that is not wanted any more, or the control plane ends it.
    async fn carry(&self, attached: Attached) -> io::Result<()> {
        let machine = attached.machine;
        let psk = attached.preshared_key.as_ref();
        let from = self.listener.set(
            self.id,
            Device {
                key: attached.public_key,
                psk: psk.map_or([0; 32], |psk| *psk.expose()),
                addresses: [machine.ipv4.into(), machine.ipv6.into()],
            },
        );
        let ended = self.run_engine(machine.node_key, from).await;
        self.listener.remove(self.id);
        ended
    }

    async fn run_engine(
        &self,
        token: MachineToken,
        from: mpsc::Receiver<bytes::BytesMut>,
    ) -> io::Result<()> {
        let netmap = Arc::new(RwLock::new(Netmap::default()));
        let (to_engine, from_control) = mpsc::channel(CHANNEL_CAPACITY);
        let (to_control, from_engine) = mpsc::channel(CHANNEL_CAPACITY);
        let config = EngineConfig {
            wg_key: self.keys.wg.clone(),
            kem: self.keys.kem.clone(),
            device: engine::Device::Carried {
                id: self.id,
                from,
                to: self.listener.packets(),
            },
            port: 0,
            // The gateway's own engine has asked the router for a port, and looks for neighbours.
            port_mapping: false,
            lan_discovery: false,
            psk_interval: self.psk_interval,
            wireguard: self.wireguard,
            network: NetworkMonitor::start(self.index).await?,
            netmap: Arc::clone(&netmap),
        };
        let engine = engine::start(config, from_control, to_control)?;
        let (view, mut seen) = watch::channel(LinkView::default());
        // Never renewed: a taking up brings a token of its own.
        let (_keep, token) = watch::channel(token);
        let stop = self.stop.child_token();
        let link = Link {
            api: self.api.clone(),
            token,
            netmap,
            dir: None,
            to_engine,
            view,
            stop: stop.clone(),
            map_news: watch::channel(()).0,
        };
        let link = tokio::spawn(link.run(from_engine, None));
        tracing::info!(peer = %self.id, "a static peer is carried");
        tokio::select! {
            () = self.stop.cancelled() => {}
            _ = seen.wait_for(|view| view.ended.is_some() || view.engine_failed.is_some()) => {}
        }
        stop.cancel();
        if let Err(error) = link.await {
            tracing::error!(%error, "the link of a static peer ended badly");
        }
        engine.shutdown().await;
        tracing::info!(peer = %self.id, "a static peer is let go");
        Ok(())
    }
}
