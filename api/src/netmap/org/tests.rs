use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use ztna_policy::document::Attributes;
use ztna_policy::{Document, FIRST_DOCUMENT};
use ztna_proto::ErrorCode;
use ztna_proto::ids::RegionId;
use ztna_proto::keys::WgPublicKey;
use ztna_proto::netmap::{PeerVolatile, Resume, ServerMessage, VolatileReport};

use super::*;
use crate::netmap::Changed;
use crate::netmap::load::{Since, Standing};

fn id(n: u128) -> MachineId {
    MachineId(uuid::Uuid::from_u128(n))
}

fn row(n: u128, name: &str) -> MachineRow {
    MachineRow {
        id: id(n),
        name: name.to_owned(),
        os: "linux-x86_64".to_owned(),
        wg_key: WgPublicKey([1; 32]),
        kem_hash: KemKeyHash([2; 32]),
        ipv4: Ipv4Addr::from_bits(0x6440_0000 + n as u32),
        ipv6: Ipv6Addr::from_bits(n),
        user: String::new(),
        groups: BTreeSet::new(),
        role: None,
        key_expires_at: None,
        advertised: Vec::new(),
        routes: Vec::new(),
        gateway: None,
        attributes: Attributes::new(),
        posture: Vec::new(),
        tags: Vec::new(),
        standing: crate::machines::Standing {
            approved: true,
            ..Default::default()
        },
        token_hash: [3; 32],
        agent_version: None,
    }
}

/// A machine that is sometimes kept out of the network.
fn row_or_held(rng: &mut StdRng, n: u128, name: &str) -> MachineRow {
    let mut row = row(n, name);
    match rng.random_range(0..8) {
        0 => row.standing.approved = false,
        1 => row.standing.quarantined = Some("a worm".to_owned()),
        _ => {}
    }
    row
}

fn document(text: &str) -> Arc<Document> {
    Arc::new(Document::parse(text).unwrap())
}

fn whole(seq: i64, policy: Arc<Document>, machines: Vec<MachineRow>) -> Whole {
    Whole {
        seq,
        log: Vec::new(),
        name: "Acme".to_owned(),
        slug: "acme".to_owned(),
        policy,
        dns: DnsSettings::default(),
        relays: RelayMap::default(),
        machines,
        presence: Vec::new(),
    }
}

fn org(machines: Vec<MachineRow>) -> OrgState {
    let shared = Shared {
        signer: Arc::new(TicketSigner::from_seed(&[1; 32])),
        dns_suffix: "ztna.internal".to_owned(),
        has_others: false,
    };
    let whole = whole(1, document(FIRST_DOCUMENT), machines);
    OrgState::new(OrgId::generate(), shared, whole).unwrap()
}

/// Regions 1 to `count`, without relays.
fn relay_map(count: u32) -> RelayMap {
    let region = |n| ztna_proto::relay::RelayRegion {
        id: RegionId(n),
        code: format!("r{n}"),
        name: format!("Region {n}"),
        nodes: Vec::new(),
    };
    RelayMap {
        regions: (1..=count).map(|n| (RegionId(n), region(n))).collect(),
    }
}

/// A machine's end: applies what comes.
struct Client {
    inbox: mpsc::Receiver<Utf8Bytes>,
    map: Option<RecordSet>,
    seq: u64,
    volatile: BTreeMap<MachineId, PeerVolatile>,
    error: Option<ErrorCode>,
    ticket: Option<String>,
}

impl Client {
    fn connect(org: &mut OrgState, n: u128) -> Self {
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        org.connect(id(n), outbox, None, Instant::now())
            .unwrap()
            .unwrap();
        Self {
            inbox,
            map: None,
            seq: 0,
            volatile: BTreeMap::new(),
            error: None,
            ticket: None,
        }
    }

    /// Connects with the map that it held. Says with what the stream began.
    fn connect_again(org: &mut OrgState, n: u128, held: Self) -> (Self, &'static str) {
        let map = held.map.unwrap();
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        let resume = Resume {
            seq: held.seq,
            hash: map.hash(),
        };
        org.connect(id(n), outbox, Some(resume), Instant::now())
            .unwrap()
            .unwrap();
        let mut client = Self {
            inbox,
            map: Some(map),
            seq: held.seq,
            volatile: BTreeMap::new(),
            error: None,
            ticket: None,
        };
        let first = client.inbox.try_recv().unwrap();
        let with = match ServerMessage::decode(&first).unwrap() {
            ServerMessage::KeepAlive(at) => {
                assert_eq!(at.hash, resume.hash);
                client.seq = at.seq;
                "nothing"
            }
            message @ (ServerMessage::Delta(_) | ServerMessage::Full(_)) => {
                let with = match message {
                    ServerMessage::Full(_) => "all",
                    _ => "a delta",
                };
                client.take(message);
                with
            }
            other => panic!("a stream begins with {other:?}"),
        };
        (client, with)
    }

    /// Machines that are kept out of the network are in nobody's map, and have nothing in their own.
    fn sees_only_who_is_in(&self, org: &OrgState, id: MachineId) {
        let map = self.map.as_ref().unwrap();
        let is_in = |id: &MachineId| org.machines[id].row.standing.is_in();
        assert!(map.peers().keys().all(is_in));
        let this: ztna_proto::netmap::SelfRecord =
            serde_json::from_str(map.this().raw().get()).unwrap();
        assert_eq!(this.hold.is_none(), is_in(&id));
        if !is_in(&id) {
            assert!(map.peers().is_empty());
            assert_eq!(map.relays(), &org.no_relays);
            assert_eq!(map.filter(), &Record::filter(&Default::default()).unwrap());
        }
    }

    /// Reads everything that is there.
    fn read(&mut self) {
        while let Ok(text) = self.inbox.try_recv() {
            self.take(ServerMessage::decode(&text).unwrap());
        }
    }

    fn take(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Full(full) => {
                self.seq = full.seq;
                self.map = Some(RecordSet::from_full(full).unwrap());
            }
            ServerMessage::Delta(delta) => {
                assert_eq!(delta.base_seq, self.seq);
                self.seq = delta.seq;
                self.map.as_mut().unwrap().apply(delta).unwrap();
            }
            ServerMessage::Volatile(update) => {
                if update.whole {
                    self.volatile.clear();
                }
                let peers = update.peers.into_iter().map(|peer| (peer.id, peer));
                self.volatile.extend(peers);
            }
            ServerMessage::KeepAlive(at) => {
                let map = self.map.as_ref().unwrap();
                assert_eq!((at.seq, at.hash), (self.seq, map.hash()));
            }
            ServerMessage::Error(error) => self.error = Some(error.code),
            ServerMessage::RelayTicket(ticket) => self.ticket = Some(ticket),
            ServerMessage::Unknown => panic!("an unknown message"),
        }
    }
}

fn random_policy(rng: &mut StdRng) -> Arc<Document> {
    let selectors = |rng: &mut StdRng, ports: &str| {
        let count = rng.random_range(1..3);
        let one = |rng: &mut StdRng| match rng.random_range(0..5) {
            0 => "*".to_owned(),
            1 => "autogroup:member".to_owned(),
            2 => format!("100.64.0.{}/31", rng.random_range(0..4) * 2),
            _ => format!("machine:{}", id(rng.random_range(0..8))),
        };
        let list = (0..count).map(|_| format!("\"{}{ports}\"", one(rng)));
        list.collect::<Vec<_>>().join(", ")
    };
    let rules = (0..rng.random_range(0..4)).map(|_| {
        let action = if rng.random_bool(0.3) {
            "deny"
        } else {
            "accept"
        };
        let (src, dst) = (selectors(rng, ""), selectors(rng, ":*"));
        format!(r#"{{"action": "{action}", "src": [{src}], "dst": [{dst}]}},"#)
    });
    let rules: String = rules.collect();
    document(&format!(r#"{{"acls": [{rules}]}}"#))
}

/// What was read of changes since the org's state.
fn since(
    org: &OrgState,
    policy: Option<Arc<Document>>,
    relays: Option<RelayMap>,
    machines: Vec<Standing>,
) -> Since {
    let ids = machines.iter().map(|standing| match standing {
        Standing::Good(row) => row.id,
        Standing::Expired(id) | Standing::Disabled(id, _) | Standing::Gone(id) => *id,
    });
    let mut log: Vec<_> = ids.map(Changed::Machine).collect();
    log.extend(policy.as_ref().map(|_| Changed::Policy));
    log.extend(relays.as_ref().map(|_| Changed::Relays));
    Since {
        seq: org.seq() + log.len() as i64,
        log,
        policy,
        relays,
        machines,
    }
}

/// Whatever happens, in whatever order: what a machine made of the messages is what it should hold,
/// also if the last of them were lost and it comes back later.
#[test]
fn deltas_lead_where_a_full_map_would() {
    let mut begun: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut org = org(vec![row(0, "m0"), row(1, "m1")]);
        let mut clients: BTreeMap<u128, Client> = BTreeMap::new();
        let mut away: BTreeMap<u128, Client> = BTreeMap::new();
        for _ in 0..60 {
            let n = rng.random_range(0..8);
            let relays = rng
                .random_bool(0.2)
                .then(|| relay_map(rng.random_range(0..3)));
            let since =
                |org: &OrgState, policy, machines| since(org, policy, relays.clone(), machines);
            match rng.random_range(0..10) {
                0..=1 if org.machines.contains_key(&id(n)) => {
                    let client = match away.remove(&n) {
                        None => Client::connect(&mut org, n),
                        Some(held) => {
                            let (client, with) = Client::connect_again(&mut org, n, held);
                            *begun.entry(with).or_default() += 1;
                            client
                        }
                    };
                    clients.insert(n, client);
                }
                2 if clients.contains_key(&n) => {
                    // It leaves, and has not read the last change.
                    let lost = vec![Standing::Good(row(n, "lost"))];
                    let lost = since(&org, None, lost);
                    let client = clients.remove(&n).unwrap();
                    let serial = org.streams[&id(n)].serial;
                    if rng.random_bool(0.5) {
                        org.apply(lost).unwrap();
                    }
                    org.disconnect(id(n), serial, true).unwrap();
                    away.insert(n, client);
                }
                0..=5 => {
                    let name = format!("m{n}-{}", rng.random_range(0..2));
                    let mut machines = vec![Standing::Good(row_or_held(&mut rng, n, &name))];
                    // Several changes may be read at once.
                    if rng.random_bool(0.3) {
                        machines.push(Standing::Gone(id((n + 1) % 8)));
                    }
                    let since = since(&org, None, machines);
                    org.apply(since).unwrap();
                }
                6 if rng.random_bool(0.3) => {
                    let disabled = vec![Standing::Disabled(id(n), String::new())];
                    let since = since(&org, None, disabled);
                    org.apply(since).unwrap();
                }
                6 => {
                    let since = since(&org, None, vec![Standing::Gone(id(n))]);
                    org.apply(since).unwrap();
                }
                7 => {
                    let since = since(&org, None, vec![Standing::Expired(id(n))]);
                    org.apply(since).unwrap();
                }
                8 => {
                    let machines = vec![Standing::Good(row(n, "both"))];
                    let policy = random_policy(&mut rng);
                    let since = since(&org, Some(policy), machines);
                    org.apply(since).unwrap();
                }
                _ => {
                    let kept: Vec<u128> = (0..8).filter(|_| rng.random_bool(0.7)).collect();
                    let rows = kept.into_iter();
                    let rows = rows.map(|n| row_or_held(&mut rng, n, "again")).collect();
                    let policy = random_policy(&mut rng);
                    let seq = org.seq() + 1;
                    org.replace(whole(seq, policy, rows)).unwrap();
                }
            }
            for (n, client) in &mut clients {
                if let Some(stream) = org.streams.get(&id(*n)) {
                    let serial = stream.serial;
                    org.keep_alive(id(*n), serial).unwrap();
                }
                client.read();
                if org.streams.contains_key(&id(*n)) {
                    assert_eq!(client.map, org.map_of(id(*n)), "seed {seed} machine {n}");
                    client.sees_only_who_is_in(&org, id(*n));
                }
            }
            clients.retain(|n, _| org.streams.contains_key(&id(*n)));
        }
    }
    assert!(begun["a delta"] > 0 && begun["all"] > 0, "{begun:?}");
}

/// A machine that comes back is told what it missed of its peers, and nothing of others.
#[test]
fn who_comes_back_is_told_what_it_missed_and_no_more() {
    let policy =
        r#"{"acls": [{"action": "accept", "src": ["machine:A"], "dst": ["machine:B:*"]}]}"#
            .replace(":A", &format!(":{}", id(0)))
            .replace(":B", &format!(":{}", id(1)));
    let rows = (0..4).map(|n| row(n, &format!("m{n}"))).collect();
    let mut org = org(rows);
    let rules = since(&org, Some(document(&policy)), None, Vec::new());
    org.apply(rules).unwrap();
    let leave = |org: &mut OrgState, mut client: Client| {
        client.read();
        let serial = org.streams[&id(0)].serial;
        org.disconnect(id(0), serial, true).unwrap();
        client
    };
    let change = |org: &mut OrgState, standing| {
        let since = since(org, None, None, vec![standing]);
        org.apply(since).unwrap();
    };

    let client = Client::connect(&mut org, 0);
    let client = leave(&mut org, client);
    // Machines that it does not see come, change and go.
    change(&mut org, Standing::Good(row(2, "other")));
    change(&mut org, Standing::Gone(id(3)));
    change(&mut org, Standing::Good(row(5, "new")));
    let (client, with) = Client::connect_again(&mut org, 0, client);
    assert_eq!((with, client.seq), ("nothing", 5));

    let client = leave(&mut org, client);
    change(&mut org, Standing::Good(row(1, "renamed")));
    change(&mut org, Standing::Gone(id(2)));
    let (client, with) = Client::connect_again(&mut org, 0, client);
    assert_eq!(with, "a delta");
    assert_eq!(client.map, org.map_of(id(0)));

    let client = leave(&mut org, client);
    change(&mut org, Standing::Gone(id(1)));
    let (client, with) = Client::connect_again(&mut org, 0, client);
    assert_eq!(with, "a delta");
    assert!(client.map.as_ref().unwrap().peers().is_empty());

    // Rules that do not touch it are nothing to it, of those that do it is told all.
    let mut client = leave(&mut org, client);
    for (text, begins) in [
        ("{}", "nothing"),
        (
            r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}"#,
            "all",
        ),
    ] {
        let rules = since(&org, Some(document(text)), None, Vec::new());
        org.apply(rules).unwrap();
        let (again, with) = Client::connect_again(&mut org, 0, client);
        assert_eq!(with, begins);
        assert_eq!(again.map, org.map_of(id(0)));
        client = leave(&mut org, again);
    }

    // From behind the log.
    for n in 0..=RESUME_LOG as u128 {
        change(&mut org, Standing::Good(row(5, &format!("n{n}"))));
    }
    let (client, with) = Client::connect_again(&mut org, 0, client);
    assert_eq!(with, "all");
    assert_eq!(client.map, org.map_of(id(0)));
}

#[test]
fn a_machine_that_does_not_read_is_cut_off_and_holds_up_nobody() {
    let mut org = org(vec![row(0, "slow"), row(1, "fast"), row(2, "news")]);
    let slow = Client::connect(&mut org, 0);
    let mut fast = Client::connect(&mut org, 1);
    for n in 0..=OUTBOX as u32 {
        let report = VolatileReport {
            home_region: Some(RegionId(n)),
            ..VolatileReport::default()
        };
        org.report(id(2), report, Instant::now()).unwrap();
        fast.read();
    }
    assert!(slow.inbox.is_closed());
    assert_eq!(org.streams(), 1);
    let last = fast.volatile[&id(2)].report.home_region;
    assert_eq!(last, Some(RegionId(OUTBOX as u32)));
}

#[test]
fn an_old_streams_end_is_not_the_new_ones() {
    let mut org = org(vec![row(0, "a"), row(1, "b")]);
    let mut peer = Client::connect(&mut org, 1);
    let first = Client::connect(&mut org, 0);
    let old = org.streams[&id(0)].serial;
    let mut second = Client::connect(&mut org, 0);
    assert!(first.inbox.is_closed());
    org.report(id(0), VolatileReport::default(), Instant::now())
        .unwrap();
    org.disconnect(id(0), old, true).unwrap();
    peer.read();
    assert!(peer.volatile[&id(0)].online);
    assert_eq!(org.streams(), 2);
    // Nor does an old stream get what is the new one's.
    second.read();
    org.resync(id(0), old).unwrap();
    assert!(second.inbox.is_empty());
}

/// After a crash of the control plane, peers that are connected again must not be told that a machine
/// has no endpoints, only because it has not told them anew.
#[test]
fn a_machine_that_has_not_reported_is_not_spoken_of() {
    let mut org = org(vec![row(0, "a"), row(1, "b")]);
    let mut peer = Client::connect(&mut org, 1);
    let _silent = Client::connect(&mut org, 0);
    peer.read();
    assert!(peer.volatile.is_empty());
    org.report(id(0), VolatileReport::default(), Instant::now())
        .unwrap();
    peer.read();
    assert!(peer.volatile[&id(0)].online);
}

#[test]
fn an_end_is_told_and_then_the_stream_is_closed() {
    let mut org = org(vec![row(0, "a"), row(1, "b")]);
    let mut deleted = Client::connect(&mut org, 0);
    let mut expired = Client::connect(&mut org, 1);
    let ends = vec![Standing::Gone(id(0)), Standing::Expired(id(1))];
    let ends = since(&org, None, None, ends);
    org.apply(ends).unwrap();
    deleted.read();
    expired.read();
    assert_eq!(deleted.error, Some(ErrorCode::MachineDeleted));
    assert_eq!(expired.error, Some(ErrorCode::KeyExpired));
    assert!(deleted.inbox.is_closed() && expired.inbox.is_closed());
    assert!(org.is_idle());
}

/// A ticket opens the regions of the map and no others; who is connected gets one before the map.
#[test]
fn tickets_go_with_the_relay_map() {
    let mut org = org(vec![row(0, "a")]);
    let verifier = org.shared.signer.verifier();
    let mut client = Client::connect(&mut org, 0);
    client.read();
    let opens = |ticket: &Option<String>, region| {
        let ticket = ticket.as_ref().unwrap();
        let key = WgPublicKey([1; 32]);
        verifier
            .verify(ticket, &key, RegionId(region), Timestamp::now())
            .is_ok()
    };
    assert!(!opens(&client.ticket, 1), "there is no region yet");
    let regions = since(&org, None, Some(relay_map(2)), Vec::new());
    org.apply(regions).unwrap();
    let first = client.inbox.try_recv().unwrap();
    let ServerMessage::RelayTicket(ticket) = ServerMessage::decode(&first).unwrap() else {
        panic!("the map came first");
    };
    let ticket = Some(ticket);
    assert!(opens(&ticket, 1) && opens(&ticket, 2) && !opens(&ticket, 3));
    client.read();
    let map: RelayMap =
        serde_json::from_str(client.map.as_ref().unwrap().relays().raw().get()).unwrap();
    assert_eq!(map, relay_map(2));
    assert_eq!(client.seq, 2);
}
