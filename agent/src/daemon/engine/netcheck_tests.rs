//! The network check against real STUN services at a distance.

use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::*;
use crate::testing::relay::{Realm, TestRelay, TestStun, region};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const ONE: RegionId = RegionId(1);
const TWO: RegionId = RegionId(2);

struct Machine {
    check: Check,
    socket: UdpSocket,
    seen: Vec<Seen>,
}

impl Machine {
    async fn new() -> Self {
        Self {
            check: Check::new(),
            socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            seen: Vec::new(),
        }
    }

    /// Does what the engine does, until a report that was asked for is there.
    async fn report(&mut self) -> Report {
        let (answer, mut report) = oneshot::channel();
        self.check.request(answer, Instant::now());
        let run = async {
            let mut datagram = [0; 2048];
            loop {
                for (to, request) in self.check.requests(Instant::now()) {
                    // Not by IPv6: there is no such socket here.
                    let _ = self.socket.send_to(&request, to).await;
                }
                let next = self.check.poll_timeout().unwrap();
                tokio::select! {
                    Ok(report) = &mut report => return report,
                    received = self.socket.recv_from(&mut datagram) => {
                        let (length, from) = received.unwrap();
                        let seen = self.check.handle(from, &datagram[..length], Instant::now());
                        self.seen.extend(seen);
                    }
                    () = self.check.found() => {}
                    () = sleep_until(next) => {}
                }
            }
        };
        timeout(PATIENCE, run).await.unwrap()
    }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[tokio::test]
async fn distances_are_measured_and_the_nearest_region_comes_first() {
    let realm = Realm::new();
    let (near, far) = (TestStun::start(ms(1)).await, TestStun::start(ms(100)).await);
    let relays = [
        TestRelay::start(&realm, 1).await,
        TestRelay::start(&realm, 2).await,
    ];
    let map = RelayMap {
        regions: [
            region(1, vec![relays[0].node.clone(), far.node()]),
            region(2, vec![relays[1].node.clone(), near.node()]),
        ]
        .into(),
    };
    let mut machine = Machine::new().await;
    machine.check.set_map(&map, Instant::now());
    let report = machine.report().await;
    assert!(report.udp && report.ipv4);
    assert_eq!(report.regions.len(), 2);
    assert!(report.regions[&ONE].v4.unwrap() >= ms(200));
    assert_eq!(report.preferred, Some(TWO));
    let tls = report.regions[&TWO].tls_group.as_deref();
    assert_eq!(tls, Some("X25519MLKEM768"), "the nearest relay was asked");
    let services: Vec<SocketAddr> = machine.seen.iter().map(|seen| seen.service).collect();
    assert!(services.contains(&near.addr) && services.contains(&far.addr));

    // The near one falls silent.
    near.delay.send_replace(None);
    let again = machine.report().await;
    assert_eq!(again, report, "who asks in haste is told the same");
    tokio::time::sleep(NEW).await;
    let report = machine.report().await;
    assert_eq!(report.regions[&TWO].v4, None);
    assert_eq!(report.preferred, Some(ONE));
}

#[tokio::test]
async fn where_udp_is_blocked_relays_are_measured_by_https() {
    let realm = Realm::new();
    let blocked = TestStun::start(ms(0)).await;
    blocked.delay.send_replace(None);
    let relay = TestRelay::start(&realm, 2).await;
    let gone = TestRelay::start(&realm, 1).await;
    gone.kill();
    let map = RelayMap {
        regions: [
            region(1, vec![gone.node.clone(), blocked.node()]),
            region(2, vec![relay.node.clone(), blocked.node()]),
        ]
        .into(),
    };
    let mut machine = Machine::new().await;
    machine.check.set_map(&map, Instant::now());
    let report = machine.report().await;
    assert!(!report.udp);
    assert_eq!(report.preferred, Some(TWO));
    assert_eq!(report.regions[&ONE].latency(), None);
    let found = &report.regions[&TWO];
    assert!(found.https.is_some() && found.v4.is_none());
    assert_eq!(found.tls_group.as_deref(), Some("X25519MLKEM768"));
}

#[tokio::test]
async fn names_are_looked_up_and_those_that_do_not_exist_hold_nothing_up() {
    let service = TestStun::start(ms(1)).await;
    let mut named = service.node();
    named.host = "localhost".into();
    let mut wrong = service.node();
    wrong.host = "no-such-host.invalid".into();
    let map = RelayMap {
        regions: [region(1, vec![named]), region(2, vec![wrong])].into(),
    };
    let mut machine = Machine::new().await;
    machine.check.set_map(&map, Instant::now());
    let report = machine.report().await;
    assert!(report.regions[&ONE].v4.is_some());
    assert!(!report.regions.contains_key(&TWO));
}

#[tokio::test]
async fn people_who_wait_are_bounded() {
    let mut machine = Machine::new().await;
    let service = TestStun::start(ms(0)).await;
    let map = RelayMap {
        regions: [region(1, vec![service.node()])].into(),
    };
    machine.check.set_map(&map, Instant::now());
    let mut waiting = Vec::new();
    for _ in 0..2 * MAX_WAITING {
        let (answer, report) = oneshot::channel();
        machine.check.request(answer, Instant::now());
        waiting.push(report);
    }
    assert_eq!(machine.check.waiting.len(), MAX_WAITING);
    waiting.clear();
    let (answer, _report) = oneshot::channel();
    machine.check.request(answer, Instant::now());
    assert_eq!(
        machine.check.waiting.len(),
        1,
        "those who have gone make room"
    );
}
