//! The IO around the network check: name look-ups, requests by HTTPS, waiting people.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use ztna_netcheck::{Answer, Netcheck, Output, PortMapping, Region, Report, Seen, TransactionId};
use ztna_proto::RegionId;
use ztna_proto::relay::{RelayMap, RelayNode, RelayRegion};
use ztna_stun::client::{self, parse_response};

use super::probes::{self, Portal};

/// A look-up of a name takes no longer.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// Names that could not be looked up are tried again this often.
const LOOKUP_AGAIN: Duration = Duration::from_secs(25);
/// People who may wait for one report.
const MAX_WAITING: usize = 64;
/// A report of so long ago is new: however often somebody asks, services are not.
const NEW: Duration = Duration::from_secs(1);

/// A network check with its IO.
pub struct Check {
    state: Netcheck,
    map: Arc<RelayMap>,
    tasks: JoinSet<Found>,
    /// Regions with names that could not be looked up.
    unresolved: Vec<RegionId>,
    look_up_at: Option<Instant>,
    waiting: Vec<oneshot::Sender<Report>>,
    /// When the last check that people asked for was over.
    answered: Option<Instant>,
    /// Requests that are to leave by the engine's socket.
    requests: Vec<(SocketAddr, Vec<u8>)>,
    /// Whether a home region is to be chosen anew.
    measured: bool,
}

/// What came of something that took time.
enum Found {
    Names(RegionId, Vec<SocketAddr>, Lookup),
    Https(RegionId, Option<Answer>),
    Portal(Option<bool>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lookup {
    Done,
    Failed,
}

impl Check {
    /// Nothing to ask yet.
    pub fn new() -> Self {
        Self {
            state: Netcheck::new(rand::random()),
            map: Arc::default(),
            tasks: JoinSet::new(),
            unresolved: Vec::new(),
            look_up_at: None,
            waiting: Vec::new(),
            answered: None,
            requests: Vec::new(),
            measured: false,
        }
    }

    /// Whom to ask. Names are looked up in the background; see [`Check::found`].
    pub fn set_map(&mut self, map: &RelayMap, now: Instant) {
        self.map = Arc::new(map.clone());
        self.begin(now);
    }

    /// Other networks, other names and other paths: everything is looked up and asked anew.
    pub fn network_changed(&mut self, now: Instant) {
        self.state.network_changed(now.into_std());
        self.begin(now);
    }

    fn begin(&mut self, now: Instant) {
        self.tasks = JoinSet::new();
        self.requests.clear();
        self.answered = None;
        self.unresolved.clear();
        self.look_up_at = None;
        let regions: Vec<Region> = self.map.regions.values().map(described).collect();
        let named: Vec<RegionId> = regions
            .iter()
            .filter(|region| region.resolving)
            .map(|region| region.id)
            .collect();
        let nodes = self.map.regions.values().flat_map(|region| &region.nodes);
        let portal = nodes.into_iter().any(|node| node.http_port.is_some());
        self.state.set_regions(regions, portal, now.into_std());
        for region in named {
            self.look_up(region);
        }
        self.drain();
    }

    fn look_up(&mut self, id: RegionId) {
        let Some(region) = self.map.regions.get(&id).cloned() else {
            return;
        };
        self.tasks.spawn(async move {
            let (mut addresses, mut outcome) = (Vec::new(), Lookup::Done);
            for (node, port) in stun_nodes(&region).filter(|(node, _)| literal(node).is_empty()) {
                match look_up(&node.host, port).await {
                    Ok(found) => addresses.extend(one_of_each_family(&found)),
                    Err(error) => {
                        tracing::info!(host = node.host, %error, "cannot look up STUN service");
                        outcome = Lookup::Failed;
                    }
                }
            }
            Found::Names(id, addresses, outcome)
        });
    }

    /// The home region, and what the router offers.
    pub fn set_home(&mut self, home: Option<RegionId>) {
        self.state.set_home(home);
    }

    /// What the router offers, for reports.
    pub fn set_port_mapping(&mut self, found: PortMapping) {
        self.state.set_port_mapping(found);
    }

    /// Makes a full check now; the report goes to `answer`.
    pub fn request(&mut self, answer: oneshot::Sender<Report>, now: Instant) {
        let is_new = |at: Instant| now.duration_since(at) < NEW;
        if let (true, Some(report)) = (self.answered.is_some_and(is_new), self.state.last()) {
            // Whoever asked may have gone.
            let _ = answer.send(report.clone());
            return;
        }
        self.waiting.retain(|waiting| !waiting.is_closed());
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(answer);
            self.state.request(now.into_std());
            self.drain();
        }
    }

    /// Makes the next check now: the NAT may have changed.
    pub fn hurry(&mut self, now: Instant) {
        self.state.hurry(now.into_std());
        self.drain();
    }

    /// The last report.
    pub fn last(&self) -> Option<&Report> {
        self.state.last()
    }

    /// A region's distance.
    pub fn latency(&self, region: RegionId, now: Instant) -> Option<Duration> {
        self.state.latency(region, now.into_std())
    }

    /// Whether a first home region may be chosen.
    pub fn is_settled(&self, now: Instant) -> bool {
        self.state.is_settled(now.into_std())
    }

    /// Whether the regions were measured since [`Check::take_measured`].
    pub fn is_measured(&self) -> bool {
        self.measured
    }

    /// Whether the regions were measured since this was asked last.
    pub fn take_measured(&mut self) -> bool {
        std::mem::take(&mut self.measured)
    }

    /// The regions that are fit to be home, in the order in which they are to be tried.
    pub fn rank(
        &self,
        home: Option<RegionId>,
        heard: Option<Instant>,
        fit: &[RegionId],
        now: Instant,
    ) -> Vec<RegionId> {
        let heard = heard.map(Instant::into_std);
        self.state.rank(home, heard, fit, now.into_std())
    }

    /// When [`Check::requests`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.requests.is_empty() {
            return Some(Instant::now());
        }
        let check = self.state.poll_timeout().map(Instant::from_std);
        check.into_iter().chain(self.look_up_at).min()
    }

    /// What is to be sent by now.
    pub fn requests(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        if self.look_up_at.is_some_and(|at| at <= now) {
            self.look_up_at = None;
            for region in std::mem::take(&mut self.unresolved) {
                self.look_up(region);
            }
        }
        self.state.handle_timeout(now.into_std());
        self.drain();
        std::mem::take(&mut self.requests)
    }

    /// Carries out what is wanted.
    fn drain(&mut self) {
        while let Some(output) = self.state.poll_output() {
            match output {
                Output::Stun { to, id } => {
                    let request = client::request(client::TransactionId(id.0));
                    self.requests.push((to, request));
                }
                Output::Https(id) => self.ask_https(id),
                Output::Portal => self.look_for_portal(),
                Output::Measured => self.measured = true,
                Output::Done { thorough } => self.done(thorough),
            }
        }
    }

    fn done(&mut self, thorough: bool) {
        let Some(report) = self.state.last() else {
            return;
        };
        tracing::debug!(?report, "network check");
        if thorough {
            self.answered = Some(Instant::now());
            for waiting in self.waiting.drain(..) {
                // Whoever asked may have gone.
                let _ = waiting.send(report.clone());
            }
        }
    }

    fn ask_https(&mut self, id: RegionId) {
        let nodes = self.map.regions.get(&id).map(|region| region.nodes.clone());
        self.tasks.spawn(async move {
            let answer = probes::https(&nodes.unwrap_or_default()).await;
            Found::Https(id, answer)
        });
    }

    fn look_for_portal(&mut self) {
        let map = Arc::clone(&self.map);
        self.tasks.spawn(async move {
            let nodes = map.regions.values().flat_map(|region| &region.nodes);
            let found = match probes::portal(nodes).await {
                Portal::None => Some(false),
                Portal::Found => Some(true),
                Portal::Unknown => None,
            };
            Found::Portal(found)
        });
    }

    /// Waits for something that was begun. Dropping the future loses none.
    pub async fn found(&mut self) {
        let Some(found) = self.tasks.join_next().await else {
            return std::future::pending().await;
        };
        let now = Instant::now();
        match found {
            Ok(Found::Names(region, addresses, outcome)) => {
                if outcome == Lookup::Failed {
                    self.unresolved.push(region);
                    self.look_up_at.get_or_insert(now + LOOKUP_AGAIN);
                }
                self.state
                    .add_services(region, &addresses, false, now.into_std());
            }
            Ok(Found::Https(region, answer)) => {
                self.state.handle_https(region, answer, now.into_std());
            }
            Ok(Found::Portal(found)) => self.state.handle_portal(found, now.into_std()),
            // Aborted: another map, another network.
            Err(_) => {}
        }
        self.drain();
    }

    /// A STUN datagram: what it tells, if it answers a request.
    pub fn handle(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) -> Option<Seen> {
        let (transaction, seen) = parse_response(datagram)?;
        let id = TransactionId(transaction.0);
        let seen = self.state.handle_stun(from, id, seen, now.into_std());
        self.drain();
        seen
    }
}

/// A region as the check sees it, without the names that are to be looked up.
fn described(region: &RelayRegion) -> Region {
    let mut described = Region {
        id: region.id,
        relay: region.relays().next().is_some(),
        resolving: false,
        v4: Vec::new(),
        v6: Vec::new(),
    };
    for (node, port) in stun_nodes(region) {
        let known = literal(node);
        described.resolving |= known.is_empty();
        let addresses: Vec<SocketAddr> = known
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        for addr in one_of_each_family(&addresses) {
            match addr {
                SocketAddr::V4(_) => described.v4.push(addr),
                SocketAddr::V6(_) => described.v6.push(addr),
            }
        }
    }
    described
}

fn stun_nodes(region: &RelayRegion) -> impl Iterator<Item = (&RelayNode, u16)> {
    let nodes = region.nodes.iter();
    nodes.filter_map(|node| Some((node, node.stun_port?)))
}

/// A node's addresses, as far as they are known without a look-up.
pub fn literal(node: &RelayNode) -> Vec<IpAddr> {
    let addresses = node.addresses.iter().copied();
    addresses.chain(node.host.parse::<IpAddr>()).collect()
}

/// Looks a name up, in bounded time.
///
/// # Errors
/// There is no such name, or no answer.
pub async fn look_up(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    let found = timeout(LOOKUP_TIME, tokio::net::lookup_host((host, port))).await??;
    Ok(found.collect())
}

/// One address of each family tells all there is to know of a host.
fn one_of_each_family(addresses: &[SocketAddr]) -> impl Iterator<Item = SocketAddr> {
    let v4 = addresses.iter().find(|addr| addr.is_ipv4());
    let v6 = addresses.iter().find(|addr| addr.is_ipv6());
    v4.into_iter().chain(v6).copied()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "netcheck_tests.rs"]
mod tests;
