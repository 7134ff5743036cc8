//! A tunnel that is up: device, engine and link, made and ended together.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use ztna_netmap::Netmap;
use ztna_proto::tokens::MachineToken;

use super::connections::Reporter;
use super::engine::{self, CHANNEL_CAPACITY, Device, EngineConfig, EngineHandle};
use super::gateway::Gateway;
use super::link::{Link, LinkView, NETMAP_FILE};
use super::network::{Network, NetworkPrefs, NetworkView};
use super::state::{Keys, Machine};
use super::state_dir::StateDir;
use super::{Options, routes};
use crate::control::Api;
use crate::platform::{Addresses, Interface, NetworkMonitor, Tun, device_hint};

/// Why a tunnel could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The device could not be made.
    #[error("cannot make the tunnel device {name}: {}", device_hint(.error))]
    Tun {
        /// Its name.
        name: String,
        /// What the system said.
        error: io::Error,
    },
    /// The device could not be set up.
    #[error("cannot set the addresses and routes of {name}: {error}")]
    Interface {
        /// Its name.
        name: String,
        /// What the system said.
        error: io::Error,
    },
    /// The machine's addresses cannot be watched.
    #[error("cannot read this machine's network addresses: {0}")]
    Network(io::Error),
    /// The engine did not start.
    #[error("cannot open a UDP socket for the tunnel: {0}")]
    Engine(io::Error),
}

/// A tunnel that is up.
pub struct Session {
    engine: Arc<EngineHandle>,
    netmap: Arc<RwLock<Netmap>>,
    view: watch::Receiver<LinkView>,
    token: watch::Sender<MachineToken>,
    stop: CancellationToken,
    link: Mutex<Option<JoinHandle<()>>>,
    network: Mutex<Option<JoinHandle<()>>>,
    gateway: Mutex<Option<JoinHandle<()>>>,
    reporter: Mutex<Option<JoinHandle<()>>>,
    gateway_warning: watch::Receiver<Option<String>>,
    prefs: watch::Sender<NetworkPrefs>,
    network_view: watch::Receiver<NetworkView>,
    /// What a person should know of how it came up.
    warnings: Vec<String>,
}

impl Session {
    /// Brings a tunnel up: with the map that is on disk, before the control plane has answered.
    ///
    /// # Errors
    /// The system refused something; nothing is left behind.
    pub async fn start(
        options: &Options,
        dir: &Arc<StateDir>,
        api: Api,
        keys: &Keys,
        machine: &Machine,
        prefs: &NetworkPrefs,
    ) -> Result<Self, SessionError> {
        let map = cached_map(dir, machine);
        // The map may know of an address that the machine was given later.
        let (ipv4, ipv6) = map
            .this()
            .map_or((machine.ipv4, machine.ipv6), |this| (this.ipv4, this.ipv6));
        let mut warnings = Vec::new();
        let name = options.tun.clone();
        let tun = Tun::create(&name).map_err(|error| SessionError::Tun {
            name: name.clone(),
            error,
        })?;
        let setup = |error| SessionError::Interface {
            name: name.clone(),
            error,
        };
        let index = tun.index().map_err(setup)?;
        // Some systems name their devices themselves.
        let device = tun.name().map_err(setup)?;
        let mut interface = Interface::of(&tun, &device).map_err(setup)?;
        let addresses = interface.set_addresses(ipv4, ipv6).await.map_err(setup)?;
        if addresses == Addresses::Ipv4Only {
            warnings.push(format!(
                "IPv6 is switched off on this machine: {device} has its IPv4 address only"
            ));
        }
        let wanted = routes::wanted(ipv4, ipv6, map.peers().values());
        interface.set_routes(&wanted).await.map_err(setup)?;
        let network = NetworkMonitor::start(index)
            .await
            .map_err(SessionError::Network)?;

        let netmap = Arc::new(RwLock::new(map));
        let (to_engine, from_control) = mpsc::channel(CHANNEL_CAPACITY);
        let (to_control, from_engine) = mpsc::channel(CHANNEL_CAPACITY);
        let config = EngineConfig {
            wg_key: keys.wg.clone(),
            kem: keys.kem.clone(),
            device: Device::Tun(tun),
            port: options.port,
            port_mapping: options.port_mapping,
            lan_discovery: options.lan_discovery,
            psk_interval: options.psk_interval,
            wireguard: options.wireguard,
            network,
            netmap: Arc::clone(&netmap),
        };
        let engine =
            engine::start(config, from_control, to_control).map_err(SessionError::Engine)?;
        let (view, seen) = watch::channel(LinkView::default());
        let (token, current) = watch::channel(machine.token.clone());
        let stop = CancellationToken::new();
        let (map_news, map_changed) = watch::channel(());
        let (network_view, network_seen) = watch::channel(NetworkView::default());
        let network = Network {
            api: api.clone(),
            token: current.clone(),
            netmap: Arc::clone(&netmap),
            map_changed: map_changed.clone(),
            dir: Arc::clone(dir),
            to_engine: to_engine.clone(),
            view: network_view,
            stop: stop.clone(),
            device,
            index,
            resolv_conf: options.resolv_conf.clone(),
        };
        let (prefs, wanted) = watch::channel(prefs.clone());
        let network = tokio::spawn(network.run(wanted));
        let (gateway_warning, warned) = watch::channel(None);
        let gateway = Gateway {
            api: api.clone(),
            token: current.clone(),
            key: keys.wg.clone(),
            netmap: Arc::clone(&netmap),
            map_changed,
            index,
            psk_interval: options.psk_interval,
            wireguard: options.wireguard,
            warning: gateway_warning,
            stop: stop.clone(),
        };
        let gateway = tokio::spawn(gateway.run());
        let engine = Arc::new(engine);
        let reporter = Reporter {
            api: api.clone(),
            token: current.clone(),
            engine: Arc::downgrade(&engine),
            stop: stop.clone(),
        };
        let reporter = tokio::spawn(reporter.run());
        let link = Link {
            api,
            token: current,
            netmap: Arc::clone(&netmap),
            dir: Some(Arc::clone(dir)),
            to_engine,
            view,
            stop: stop.clone(),
            map_news,
        };
        let link = tokio::spawn(link.run(from_engine, Some(interface)));
        Ok(Self {
            engine,
            netmap,
            view: seen,
            token,
            stop,
            link: Mutex::new(Some(link)),
            network: Mutex::new(Some(network)),
            gateway: Mutex::new(Some(gateway)),
            reporter: Mutex::new(Some(reporter)),
            gateway_warning: warned,
            prefs,
            network_view: network_seen,
            warnings,
        })
    }

    /// Takes the tunnel down and waits until nothing of it is left. Calling it twice is harmless.
    pub async fn stop(&self) {
        self.stop.cancel();
        if let Some(link) = self.link.lock().await.take()
            && let Err(error) = link.await
        {
            tracing::error!(%error, "the link to the control plane ended badly");
        }
        if let Some(network) = self.network.lock().await.take()
            && let Err(error) = network.await
        {
            tracing::error!(%error, "the network's settings were not taken back");
        }
        if let Some(gateway) = self.gateway.lock().await.take()
            && let Err(error) = gateway.await
        {
            tracing::error!(%error, "static peers were not let go well");
        }
        if let Some(reporter) = self.reporter.lock().await.take()
            && let Err(error) = reporter.await
        {
            tracing::error!(%error, "what tells of tunnels ended badly");
        }
        self.engine.shutdown().await;
    }

    /// Wants something else of this machine's part in the network.
    pub fn set_prefs(&self, prefs: &NetworkPrefs) {
        self.prefs.send_if_modified(|old| {
            let changed = old != prefs;
            old.clone_from(prefs);
            changed
        });
    }

    /// What is wanted of this machine's part in the network.
    #[must_use]
    pub fn prefs(&self) -> NetworkPrefs {
        self.prefs.borrow().clone()
    }

    /// How this machine's part in the network stands, and when that changes.
    #[must_use]
    pub fn network(&self) -> watch::Receiver<NetworkView> {
        self.network_view.clone()
    }

    /// The machine was registered again while its tunnel was up: calls go on with the token that it was
    /// given, and the stream stays.
    pub fn renewed(&self, token: MachineToken) {
        self.token.send_replace(token);
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// How the link to the control plane stands, and when that changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<LinkView> {
        self.view.clone()
    }

    /// Reads the netmap.
    pub fn read_map<T>(&self, read: impl FnOnce(&Netmap) -> T) -> T {
        read(&self.netmap.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why this machine does not carry the static peers that it should.
    #[must_use]
    pub fn gateway_warning(&self) -> Option<String> {
        self.gateway_warning.borrow().clone()
    }

    /// What a person should know of how it came up.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The map that was saved, if it is this machine's; else an empty one. A damaged map is no loss:
/// the control plane sends it again.
fn cached_map(dir: &StateDir, machine: &Machine) -> Netmap {
    let bytes = match dir.read(NETMAP_FILE) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Netmap::default(),
        Err(error) => {
            tracing::warn!(%error, "cannot read the saved netmap");
            return Netmap::default();
        }
    };
    let loaded = std::str::from_utf8(&bytes)
        .map_err(|error| error.to_string())
        .and_then(|text| Netmap::load(text).map_err(|error| error.to_string()));
    match loaded {
        Ok(map) if map.this().is_some_and(|this| this.id == machine.id) => map,
        Ok(_) => Netmap::default(),
        Err(error) => {
            tracing::warn!(error, "the saved netmap cannot be used");
            Netmap::default()
        }
    }
}
