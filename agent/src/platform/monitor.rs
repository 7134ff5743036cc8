//! The machine's own addresses, and when they change.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::LocalAddress;

/// Changes come in bursts (link, address, routes). One is told after this much silence …
const SETTLE: Duration = Duration::from_millis(250);
/// … or after this long in an unquiet network.
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);

/// Tells the addresses at which this machine may be reached on its own networks, and when they or
/// the default routes change.
pub struct NetworkMonitor {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

/// How the machine is attached to its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Its addresses, those that are [`reachable`].
    pub(super) addresses: BTreeSet<LocalAddress>,
    /// Outgoing interface and gateway of each default route: another one is another NAT, even if
    /// the addresses are the same.
    pub(super) defaults: BTreeSet<(u32, Option<IpAddr>)>,
}

/// Where the system tells of its networks.
pub(super) trait Source: Send + 'static {
    /// Waits until something may have changed. Dropping the future loses nothing. False: nothing is told
    /// any more.
    fn news(&mut self) -> impl Future<Output = bool> + Send;

    /// Reads the state as it is now.
    fn read(&mut self) -> impl Future<Output = io::Result<State>> + Send;
}

impl NetworkMonitor {
    /// Starts watching a system.
    ///
    /// # Errors
    /// The state cannot be read.
    pub(super) async fn of(mut source: impl Source) -> io::Result<Self> {
        let (sender, state) = watch::channel(source.read().await?);
        let task = tokio::spawn(async move {
            while source.news().await {
                let latest = Instant::now() + SETTLE_AT_MOST;
                loop {
                    let settled = latest.min(Instant::now() + SETTLE);
                    match timeout_at(settled, source.news()).await {
                        Ok(true) if Instant::now() < latest => {}
                        _ => break,
                    }
                }
                let state = match source.read().await {
                    Ok(state) => state,
                    Err(error) => {
                        tracing::warn!(%error, "cannot read this machine's addresses");
                        continue;
                    }
                };
                sender.send_if_modified(|old| {
                    let changed = *old != state;
                    *old = state;
                    changed
                });
            }
        });
        Ok(Self { state, task })
    }

    /// The addresses now, without loopback, link-local ones and our own tunnel's.
    #[must_use]
    pub fn addresses(&self) -> Vec<LocalAddress> {
        self.state.borrow().addresses.iter().copied().collect()
    }

    /// The router that IPv4 packets leave by.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let state = self.state.borrow();
        let mut gateways = state.defaults.iter().filter_map(|(_, gateway)| *gateway);
        gateways.find_map(|gateway| match gateway {
            IpAddr::V4(gateway) => Some(gateway),
            IpAddr::V6(_) => None,
        })
    }

    /// Waits until addresses or default routes change. Dropping the future loses no change.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            // The system tells nothing any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for NetworkMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a peer could send to an address of an interface.
pub(super) fn reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_loopback() || address.is_link_local() || address.is_unspecified())
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_are_read_and_none_is_only_this_machine_s() {
        let monitor = NetworkMonitor::start(u32::MAX).await.unwrap();
        for LocalAddress { ip, .. } in monitor.addresses() {
            assert!(reachable(ip), "{ip}");
        }
    }

    /// Tells what it is given, in bursts.
    struct Script {
        news: tokio::sync::mpsc::Receiver<()>,
        reads: u8,
    }

    impl Source for Script {
        async fn news(&mut self) -> bool {
            self.news.recv().await.is_some()
        }

        async fn read(&mut self) -> io::Result<State> {
            self.reads += 1;
            let ip = Ipv4Addr::new(192, 0, 2, self.reads).into();
            let in_tunnel = false;
            Ok(State {
                addresses: [LocalAddress { ip, in_tunnel }].into(),
                defaults: [(1, Some(ip))].into(),
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_one_change_and_the_end_of_news_is_none() {
        let (tell, news) = tokio::sync::mpsc::channel(8);
        let mut monitor = NetworkMonitor::of(Script { news, reads: 0 }).await.unwrap();
        assert_eq!(monitor.gateway(), Some(Ipv4Addr::new(192, 0, 2, 1)));
        for _ in 0..5 {
            tell.send(()).await.unwrap();
            tokio::time::sleep(SETTLE / 2).await;
        }
        monitor.changed().await;
        assert_eq!(monitor.gateway(), Some(Ipv4Addr::new(192, 0, 2, 2)));
        drop(tell);
        let more = tokio::time::timeout(Duration::from_secs(60), monitor.changed()).await;
        assert!(more.is_err(), "nothing changed");
    }
}
