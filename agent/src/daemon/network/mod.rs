//! This machine's part in the network: what it routes for others, and what it sends to others.
//!
//! One task brings the system to what preferences and netmap want, and takes everything back when the
//! tunnel goes down. What fails is told and tried again.

mod outside;
mod prefs;
mod wanted;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use ztna_mesh::RouteUse;
use ztna_netmap::Netmap;
use ztna_proto::ErrorCode;
use ztna_proto::network::{AdvertiseRoutesRequest, EXIT_ROUTES};
use ztna_proto::tokens::MachineToken;

use self::outside::{Names, Outside};
pub use self::prefs::NetworkPrefs;
pub use self::wanted::exit_fault;
use self::wanted::wanted;
use super::backoff::Backoff;
use super::dns::{self, Dns};
use super::engine::ControlEvent;
use super::state_dir::StateDir;
use crate::control::{Api, ControlError};
use crate::platform::{
    Behind, Families, Steer, Steering, loosen_source_check, masquerade, on_link, remove_masquerade,
    restore_source_check, strict_source_check, switch_forwarding_on,
};

/// A file that is there while nftables has a table of ours: after a crash it is removed.
/// It names the device that the table is for.
pub const FORWARDING_FILE: &str = "forwarding";
/// The kernel's check of sources as it was before it was loosened. It is there while it is loose.
const SOURCE_CHECK_FILE: &str = "rp_filter.before";
/// How often servers' names are looked up while something is routed into the tunnel, and how often an
/// exit node looks for networks on its links.
const LOOKUP_PERIOD: Duration = Duration::from_secs(60);
/// Without an event nothing changes.
const IDLE: Duration = Duration::from_secs(3600);

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// What is wanted.
    pub prefs: NetworkPrefs,
    /// Networks behind peers that lead into the tunnel.
    pub routes: BTreeSet<IpNet>,
    /// Whether the exit node that is wanted is there and may be used.
    pub exit_node_ready: bool,
    /// How the offer to route stands.
    pub offer: Offer,
    /// What was done to this system, one line each.
    pub notes: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// How the offer to route stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Offer {
    /// On its way.
    #[default]
    Pending,
    /// The control plane has it.
    Told,
    /// It is not taken, and why.
    Failed(String),
}

/// What the task is made of.
pub struct Network {
    pub api: Api,
    /// A renewal brings another.
    pub token: watch::Receiver<MachineToken>,
    pub netmap: Arc<RwLock<Netmap>>,
    /// Told after each change of the map.
    pub map_changed: watch::Receiver<()>,
    pub dir: Arc<StateDir>,
    pub to_engine: mpsc::Sender<ControlEvent>,
    pub view: watch::Sender<NetworkView>,
    pub stop: CancellationToken,
    /// The TUN device.
    pub device: String,
    /// Its index.
    pub index: u32,
    /// The file that names this machine's nameservers.
    pub resolv_conf: PathBuf,
}

/// What is in force.
#[derive(Default)]
struct Held {
    steer: Option<Steer>,
    steering: Steering,
    /// Whether that is in force. Nothing is at first, not even that there is nothing: a process before
    /// may have left something.
    is_steered: bool,
    outside: Outside,
    looked_up: Option<(Instant, Names)>,
    route_use: Option<RouteUse>,
    forwarding: Option<(Families, Behind)>,
    forwarding_notes: Vec<String>,
    /// Whether the kernel's check of sources was loosened.
    is_loose: bool,
    /// What the control plane refused, and why: it would again.
    refused: Option<(BTreeSet<IpNet>, String)>,
    dns: Option<Dns>,
    dns_note: Option<String>,
}

impl Network {
    /// Runs until the tunnel goes down; then nothing of it is left.
    pub async fn run(mut self, mut prefs: watch::Receiver<NetworkPrefs>) {
        let mut held = Held::default();
        let mut backoff = Backoff::default();
        // What a process that was killed left for this device stays until something comes in its place.
        let recorded = self.dir.read(FORWARDING_FILE).ok().flatten();
        if recorded.is_some_and(|device| *device != self.device.as_bytes()) {
            remove_table(&self.dir).await;
        }
        loop {
            let wanted = prefs.borrow_and_update().clone();
            let applied = tokio::select! {
                () = self.stop.cancelled() => break,
                applied = self.apply(&wanted, &mut held) => applied,
            };
            let pause = match applied {
                true => {
                    backoff.reset();
                    // Others may write the file of nameservers anew.
                    let is_still = held.steering.routes.is_empty() && held.dns.is_none();
                    if is_still && !offers_exit(&wanted) {
                        IDLE
                    } else {
                        LOOKUP_PERIOD
                    }
                }
                false => backoff.after_failure(Instant::now(), &mut rand::rng()),
            };
            tokio::select! {
                () = self.stop.cancelled() => break,
                Ok(()) = prefs.changed() => {}
                Ok(()) = self.map_changed.changed() => {}
                () = sleep(pause) => {}
            }
        }
        self.take_back(&mut held).await;
    }

    /// Brings everything to what is wanted. `false`: something failed that may succeed later.
    async fn apply(&self, prefs: &NetworkPrefs, held: &mut Held) -> bool {
        let (wanted, names, advertised, own_names, approved) = {
            let map = self.netmap.read().unwrap_or_else(PoisonError::into_inner);
            let advertised = map.this().map(|this| this.network.advertised.clone());
            let own_names = dns::Names::of(&map);
            let (names, approved) = (Names::of(&map), approved(prefs, &map));
            (wanted(prefs, &map), names, advertised, own_names, approved)
        };
        let mut warnings: Vec<String> = wanted.problem.into_iter().collect();
        if held.route_use.replace(wanted.route_use) != Some(wanted.route_use) {
            // An engine that has ended needs no news.
            let news = ControlEvent::RouteUse(wanted.route_use);
            let _ = self.to_engine.send(news).await;
        }
        let mut fine = true;
        let mut beside_exit = None;
        let mut attempt = |what: &str, result: io::Result<()>| {
            if let Err(error) = result {
                tracing::warn!(%error, "cannot {what}");
                warnings.push(format!("cannot {what}: {error}"));
                fine = false;
            }
        };
        let steered = self.steer(wanted.routes, &names, held).await;
        attempt("route to the networks behind peers", steered);
        let checked = check_sources(&self.dir, prefs.exit_node.is_some(), held);
        attempt("loosen the check of sources", checked);
        let forwarded = self.forward(prefs, approved, held).await;
        attempt("route for others", forwarded);

        let named = self.name(prefs, own_names, &names, held).await;
        attempt(
            "have this machine's programs know the tailnet's names",
            named,
        );
        let seen = self.look_at_nameservers(prefs, held).await;
        let seen = seen.map(|warning| beside_exit = warning);
        attempt("look at this machine's nameservers", seen);
        warnings.extend(beside_exit);

        let offer = match advertised {
            None => Offer::Pending,
            Some(held) if held.iter().eq(&prefs.advertise) => Offer::Told,
            Some(_) => self.offer(&prefs.advertise, held).await,
        };
        if let Offer::Failed(why) = &offer {
            warnings.push(format!(
                "the networks behind this machine are not offered: {why}"
            ));
            // A refusal stands until something else is offered.
            fine &= held.refused.is_some();
        }
        let mut notes = held.forwarding_notes.clone();
        notes.extend(held.dns_note.clone());
        notes.extend(held.is_loose.then(|| LOOSE_NOTE.to_owned()));
        let view = NetworkView {
            prefs: prefs.clone(),
            routes: held.steering.routes.clone(),
            exit_node_ready: wanted.route_use.exit.is_some(),
            offer,
            notes,
            warnings,
        };
        self.view.send_if_modified(|old| {
            let changed = *old != view;
            *old = view;
            changed
        });
        fine
    }

    async fn steer(
        &self,
        routes: BTreeSet<IpNet>,
        names: &Names,
        held: &mut Held,
    ) -> io::Result<()> {
        let steer = match &mut held.steer {
            Some(steer) => steer,
            None => {
                let steer = Steer::new(self.index).await?;
                held.outside.remember(steer.outside());
                held.steer.insert(steer)
            }
        };
        let mut steering = Steering {
            routes,
            outside: held.steering.outside.clone(),
        };
        let is_due = held
            .looked_up
            .as_ref()
            .is_none_or(|(at, of)| at.elapsed() >= LOOKUP_PERIOD || of != names);
        if steering.routes.is_empty() {
            held.looked_up = None;
            steering.outside.clear();
        } else if is_due {
            steering.outside = held.outside.look_up(self.api.server(), names).await;
            held.looked_up = Some((Instant::now(), names.clone()));
        }
        if held.is_steered && held.steering == steering {
            return Ok(());
        }
        held.is_steered = false;
        steer.set(&steering).await?;
        held.is_steered = true;
        held.steering = steering;
        Ok(())
    }

    async fn forward(
        &self,
        prefs: &NetworkPrefs,
        approved: BTreeSet<IpNet>,
        held: &mut Held,
    ) -> io::Result<()> {
        let families = Families {
            v4: prefs.advertise.iter().any(|route| route.addr().is_ipv4()),
            v6: prefs.advertise.iter().any(|route| route.addr().is_ipv6()),
        };
        if families == Families::default() {
            remove_table(&self.dir).await;
            held.forwarding = None;
            held.forwarding_notes.clear();
            return Ok(());
        }
        let on_link = match offers_exit(prefs) {
            true => on_link(self.index).await?,
            false => BTreeSet::new(),
        };
        let wanted = (families, Behind { approved, on_link });
        if held.forwarding.as_ref() == Some(&wanted) {
            return Ok(());
        }
        // What is written down first is cleaned up after a crash.
        self.dir.write(FORWARDING_FILE, self.device.as_bytes())?;
        masquerade(&self.device, &wanted.1).await?;
        held.forwarding_notes
            .extend(switch_forwarding_on(families)?);
        held.forwarding = Some(wanted);
        tracing::info!(notes = ?held.forwarding_notes, "this machine routes for others");
        Ok(())
    }

    async fn name(
        &self,
        prefs: &NetworkPrefs,
        names: Option<dns::Names>,
        servers: &Names,
        held: &mut Held,
    ) -> io::Result<()> {
        if !prefs.accept_dns {
            held.dns_note = None;
            return match held.dns.take() {
                Some(dns) => dns.end().await,
                None => Ok(()),
            };
        }
        // A map that knows no names yet leaves programs as they are.
        let Some(names) = names else { return Ok(()) };
        let dns = match &mut held.dns {
            Some(dns) => dns,
            None => {
                let (dir, file) = (Arc::clone(&self.dir), self.resolv_conf.clone());
                let started = Dns::start(dir, file, self.device.clone(), self.index).await?;
                held.dns.insert(started)
            }
        };
        let servers = servers.with(self.api.server());
        let has_exit = prefs.exit_node.is_some();
        held.dns_note = dns.set(names, servers, has_exit).await?;
        Ok(())
    }

    /// What there is to say of nameservers beside an exit node.
    async fn look_at_nameservers(
        &self,
        prefs: &NetworkPrefs,
        held: &Held,
    ) -> io::Result<Option<String>> {
        let (Some(_), Some(dns)) = (&prefs.exit_node, &held.dns) else {
            return Ok(None);
        };
        let nameservers = dns.nameservers();
        let links = on_link(self.index).await?;
        let is_near = |ip: &IpAddr| links.iter().any(|link| link.contains(ip));
        Ok(match nameservers.iter().find(|ip| is_near(ip)) {
            _ if nameservers.is_empty() => Some(
                "nobody is known to look names up through the exit node; have an admin set \
                 nameservers for the org"
                    .to_owned(),
            ),
            Some(near) => Some(format!(
                "names are looked up at {near}, on this machine's own network and not through the \
                 exit node: whoever runs that network sees them; have an admin set nameservers for \
                 the org"
            )),
            None => None,
        })
    }

    /// Tells the control plane what this machine offers.
    async fn offer(&self, routes: &BTreeSet<IpNet>, held: &mut Held) -> Offer {
        if let Some((refused, why)) = &held.refused {
            if refused == routes {
                return Offer::Failed(why.clone());
            }
            held.refused = None;
        }
        let request = AdvertiseRoutesRequest {
            routes: routes.iter().copied().collect(),
        };
        let token = self.token.borrow().clone();
        match self.api.advertise(token.expose(), &request).await {
            Ok(_) => Offer::Told,
            Err(error) => {
                if let ControlError::Refused(body) = &error
                    && body.code == ErrorCode::ValidationError
                {
                    held.refused = Some((routes.clone(), error.to_string()));
                }
                Offer::Failed(error.to_string())
            }
        }
    }

    async fn take_back(&self, held: &mut Held) {
        if let Some(dns) = held.dns.take()
            && let Err(error) = dns.end().await
        {
            tracing::warn!(%error, "cannot restore whom programs ask for names");
        }
        held.steer = None;
        remove_leftovers(&self.dir).await;
    }
}

/// Removes what is left of routing, also by a process that was killed, once nothing is wanted any more.
pub async fn remove_leftovers(dir: &StateDir) {
    let unsteered = async {
        // No route is added: the device does not matter.
        let mut steer = Steer::new(0).await?;
        steer.set(&Steering::default()).await
    };
    if let Err(error) = unsteered.await {
        tracing::warn!(%error, "cannot remove routes and rules");
    }
    if let Err(error) = check_sources(dir, false, &mut Held::default()) {
        tracing::warn!(%error, "cannot restore the check of sources");
    }
    remove_table(dir).await;
}

/// Removes the nftables table, if there may be one: that of the device that is written down.
async fn remove_table(dir: &StateDir) {
    let removed = async {
        let Some(device) = dir.read(FORWARDING_FILE)? else {
            return Ok(());
        };
        remove_masquerade(&String::from_utf8_lossy(&device)).await?;
        dir.remove(FORWARDING_FILE)
    };
    if let Err(error) = removed.await {
        tracing::warn!(%error, "cannot remove the nftables table of before");
    }
}

/// What this machine tells while sources are not checked strictly.
const LOOSE_NOTE: &str = "net.ipv4.conf.all.rp_filter is 2 (loose) while an exit node is used";

/// Loosens the check of sources for an exit node, or restores it.
fn check_sources(dir: &StateDir, loose: bool, held: &mut Held) -> io::Result<()> {
    if loose && held.is_loose {
        return Ok(());
    }
    // What a process that was killed wrote down is what it was before.
    let saved = dir.read(SOURCE_CHECK_FILE)?;
    if loose {
        if saved.is_none() {
            let Some(before) = strict_source_check()? else {
                return Ok(());
            };
            dir.write(SOURCE_CHECK_FILE, before.as_bytes())?;
        }
        loosen_source_check()?;
    } else if let Some(before) = saved {
        restore_source_check(&String::from_utf8_lossy(&before))?;
        dir.remove(SOURCE_CHECK_FILE)?;
    }
    held.is_loose = loose;
    Ok(())
}

fn offers_exit(prefs: &NetworkPrefs) -> bool {
    EXIT_ROUTES
        .iter()
        .any(|route| prefs.advertise.contains(route))
}

/// The networks of this machine that it offers and that are approved.
fn approved(prefs: &NetworkPrefs, map: &Netmap) -> BTreeSet<IpNet> {
    let told = map.this().map(|this| this.network.routes.as_slice());
    let told = told.unwrap_or_default().iter().copied();
    told.filter(|route| prefs.advertise.contains(route))
        .collect()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
