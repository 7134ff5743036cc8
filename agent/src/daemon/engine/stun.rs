//! Asking STUN services where we are seen from, over the very socket that peers will use.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::RngExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use ztna_proto::RegionId;
use ztna_proto::relay::{RelayMap, RelayNode};
use ztna_stun::client::{TransactionId, parse_response, request};

/// Between two rounds: just under the 30 s after which many NATs forget a UDP mapping.
const ROUND: std::ops::Range<f64> = 20.0..26.0;
/// An unanswered request is sent again after this long …
const RETRY: Duration = Duration::from_millis(250);
/// … at most this many times a round.
const TRIES: u32 = 4;
/// STUN services asked a round, at most.
const MAX_TARGETS: usize = 32;

/// The STUN services, and what was asked of them.
pub struct Stun {
    targets: Vec<(RegionId, SocketAddr)>,
    /// What was asked in this round and is not answered.
    pending: BTreeMap<SocketAddr, Pending>,
    tries: u32,
    next: Option<Instant>,
    /// Every service of the relay map.
    services: Vec<Service>,
    /// Those of them that have no address yet.
    unresolved: Vec<Service>,
    /// Look-ups of names on their way.
    lookups: JoinSet<(Service, Vec<SocketAddr>)>,
}

#[derive(Clone)]
struct Service {
    region: RegionId,
    node: RelayNode,
    port: u16,
}

struct Pending {
    region: RegionId,
    transaction: TransactionId,
    first_sent: Instant,
}

impl Stun {
    /// Nothing to ask yet.
    pub fn new() -> Self {
        Self {
            targets: Vec::new(),
            pending: BTreeMap::new(),
            tries: 0,
            next: None,
            services: Vec::new(),
            unresolved: Vec::new(),
            lookups: JoinSet::new(),
        }
    }

    /// Whom to ask. Names are looked up in the background; see [`Stun::looked_up`].
    pub fn set_map(&mut self, map: &RelayMap, now: Instant) {
        let nodes = map.regions.values().flat_map(|region| {
            let of_region = |node: &RelayNode| {
                Some(Service {
                    region: region.id,
                    node: node.clone(),
                    port: node.stun_port?,
                })
            };
            region.nodes.iter().filter_map(of_region)
        });
        self.services = nodes.collect();
        self.network_changed(now);
    }

    /// Other networks, other names and other paths: everything is looked up and asked anew.
    pub fn network_changed(&mut self, now: Instant) {
        self.lookups = JoinSet::new();
        self.targets.clear();
        self.unresolved = self.services.clone();
        self.look_up_unresolved();
        self.start_round(now);
    }

    fn look_up_unresolved(&mut self) {
        for service in self.unresolved.drain(..) {
            self.lookups.spawn(async move {
                let found = look_up(&service).await;
                (service, found)
            });
        }
    }

    /// Waits for a look-up, and begins a round when one has come. Dropping the future loses none.
    pub async fn looked_up(&mut self) {
        match self.lookups.join_next().await {
            Some(Ok((service, found))) => {
                let room = MAX_TARGETS.saturating_sub(self.targets.len());
                let targets = found.iter().map(|addr| (service.region, *addr));
                self.targets.extend(targets.take(room));
                if found.is_empty() {
                    // After the next round.
                    self.unresolved.push(service);
                } else {
                    self.start_round(Instant::now());
                }
            }
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// Asks everybody anew, now.
    fn start_round(&mut self, now: Instant) {
        self.pending.clear();
        self.tries = 0;
        self.next = (!self.services.is_empty()).then_some(now);
    }

    /// When [`Stun::requests`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether every service has been asked as often as a round does, or none is known.
    pub fn is_settled(&self) -> bool {
        self.lookups.is_empty() && (self.targets.is_empty() || self.tries > 1)
    }

    /// What is to be sent by now.
    pub fn requests(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        if self.next.is_none_or(|at| at > now) {
            return Vec::new();
        }
        if self.tries == 0 {
            let mut rng = rand::rng();
            self.pending = self
                .targets
                .iter()
                .map(|(region, target)| {
                    let transaction = TransactionId(rng.random());
                    (
                        *target,
                        Pending {
                            region: *region,
                            transaction,
                            first_sent: now,
                        },
                    )
                })
                .collect();
        }
        self.tries += 1;
        if self.pending.is_empty() || self.tries > TRIES {
            self.tries = 0;
            self.look_up_unresolved();
            self.next = Some(now + Duration::from_secs_f64(rand::rng().random_range(ROUND)));
            return Vec::new();
        }
        self.next = Some(now + RETRY);
        let asked = self.pending.iter();
        asked
            .map(|(target, pending)| (*target, request(pending.transaction)))
            .collect()
    }

    /// A STUN datagram: the region that answered, where it saw us, and how long it took.
    pub fn handle(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Option<(RegionId, SocketAddr, Duration)> {
        let (transaction, seen) = parse_response(datagram)?;
        let pending = self
            .pending
            .get(&from)
            .filter(|asked| asked.transaction == transaction)?;
        let (region, latency) = (pending.region, now.duration_since(pending.first_sent));
        self.pending.remove(&from);
        Some((region, seen, latency))
    }
}

/// One address of each family, which tell all there is to know. None: ask again later.
async fn look_up(service: &Service) -> Vec<SocketAddr> {
    let Service { node, port, .. } = service;
    let known = node
        .addresses
        .iter()
        .copied()
        .chain(node.host.parse::<IpAddr>());
    let mut addresses: Vec<SocketAddr> = known.map(|ip| SocketAddr::new(ip, *port)).collect();
    if addresses.is_empty() {
        match tokio::net::lookup_host((node.host.as_str(), *port)).await {
            Ok(found) => addresses.extend(found),
            Err(error) => tracing::info!(host = node.host, %error, "cannot look up STUN service"),
        }
    }
    let v4 = addresses.iter().find(|addr| addr.is_ipv4());
    let v6 = addresses.iter().find(|addr| addr.is_ipv6());
    v4.into_iter().chain(v6).copied().collect()
}
