//! What the map does with what it cannot read, with bounds, and with the end of a stream.

#![allow(clippy::unwrap_used, clippy::panic)] // The lints' leave for tests ends at test functions.

mod common;

use std::collections::BTreeMap;

use common::{State, id, volatile};
use serde_json::value::RawValue;
use ztna_netmap::records::{Record, RecordSet};
use ztna_netmap::{LoadError, Netmap, NetmapError, Update};
use ztna_proto::error::{ErrorBody, ErrorCode};
use ztna_proto::filter::Action;
use ztna_proto::ids::RegionId;
use ztna_proto::netmap::{
    ClientMessage, Endpoint, EndpointKind, MAX_ENDPOINTS, RecordKind, Resume, ServerMessage,
    VolatileUpdate,
};

fn state() -> State {
    State {
        name: 0,
        peers: BTreeMap::from([(1, 0), (2, 0)]),
        rules: 1,
        regions: 1,
    }
}

fn raw(kind: RecordKind, text: &str) -> Record {
    Record::from_raw(kind, RawValue::from_string(text.to_owned()).unwrap())
}

/// The state with other text in places.
fn records(peer: Option<&str>, filter: Option<&str>, relays: Option<&str>) -> RecordSet {
    let good = state().records();
    let mut peers = good.peers().clone();
    if let Some(text) = peer {
        peers.insert(id(2), raw(RecordKind::Peer, text));
    }
    let part = |kind, text: Option<&str>, good: &Record| {
        text.map_or_else(|| good.clone(), |text| raw(kind, text))
    };
    let filter = part(RecordKind::Filter, filter, good.filter());
    let relays = part(RecordKind::Relays, relays, good.relays());
    RecordSet::new(good.this().clone(), peers, filter, relays)
}

fn netmap(records: &RecordSet) -> Netmap {
    let mut netmap = Netmap::default();
    netmap.handle(ServerMessage::Full(records.full(5))).unwrap();
    netmap
}

fn warnings(netmap: &Netmap) -> Vec<String> {
    netmap.warnings().map(ToString::to_string).collect()
}

#[test]
fn a_peer_that_cannot_be_read_is_left_out_and_counts_for_the_hash() {
    let later = format!(r#"{{"id":"{}","wg_key":{{"new":"form"}}}}"#, id(2));
    let odd = records(Some(&later), None, None);
    let mut map = netmap(&odd);
    assert!(map.peers().keys().eq([&id(1)]));
    assert_eq!(warnings(&map).len(), 1);
    assert!(
        warnings(&map)[0].contains(&id(2).to_string()),
        "{:?}",
        warnings(&map)
    );
    assert_eq!(map.resume().unwrap().hash, odd.hash());
    assert_eq!(
        warnings(&Netmap::load(&map.save()).unwrap()),
        warnings(&map)
    );

    let good = state().records();
    let delta = odd.diff(&good, 5, 6).unwrap();
    let Update::Delta(changes) = map.handle(ServerMessage::Delta(delta)).unwrap() else {
        panic!("not a delta");
    };
    assert!(changes.peers_changed.iter().eq([&id(2)]));
    assert!(warnings(&map).is_empty());

    let delta = good.diff(&odd, 6, 7).unwrap();
    let Update::Delta(changes) = map.handle(ServerMessage::Delta(delta)).unwrap() else {
        panic!("not a delta");
    };
    assert!(changes.peers_removed.iter().eq([&id(2)]));
    assert!(changes.peers_changed.is_empty());
}

#[test]
fn the_machine_is_not_its_own_peer() {
    let this = state().this().id;
    let good = state().records();
    let mut peers = good.peers().clone();
    peers.insert(this, Record::peer(&common::peer(255, "me")).unwrap());
    let parts = (
        good.this().clone(),
        good.filter().clone(),
        good.relays().clone(),
    );
    let map = netmap(&RecordSet::new(parts.0, peers, parts.1, parts.2));
    assert!(!map.peers().contains_key(&this));
    assert_eq!(warnings(&map).len(), 1);
}

#[test]
fn a_rule_that_cannot_be_read_never_opens_anything() {
    let rule = |action: &str| {
        format!(
            r#"{{"rule":"{}","action":"{action}","peers":["any"],"protocols":["quic"]}}"#,
            common::id(7)
        )
    };
    let good = serde_json::to_string(&common::filter(1).inbound[0]).unwrap();
    let filter = |inbound: &str| format!(r#"{{"inbound":[{inbound},{good}],"outbound":[]}}"#);

    let map = netmap(&records(None, Some(&filter(&rule("allow"))), None));
    assert_eq!(map.filter(), &common::filter(1), "left out");
    assert_eq!(warnings(&map).len(), 1);
    for text in [
        rule("deny"),
        rule("later"),
        "7".to_owned(),
        r#"{"peers":[]}"#.to_owned(),
    ] {
        let map = netmap(&records(None, Some(&filter(&text)), None));
        let rules = &map.filter().inbound;
        assert_eq!((rules.len(), rules[0].action), (2, Action::Deny), "{text}");
        assert!(rules[0].protocols.is_empty() && rules[0].ports.is_empty());
        assert_eq!(rules[0].networks.len(), 2);
        assert_eq!(warnings(&map).len(), 1);
    }
    for text in ["null", "{}", r#"{"inbound":7,"outbound":[]}"#] {
        let map = netmap(&records(None, Some(text), None));
        assert!(map.filter().inbound.is_empty(), "{text}");
        assert_eq!(warnings(&map).len(), 1);
    }
}

#[test]
fn a_region_that_cannot_be_read_is_no_region() {
    let text = r#"{"regions":{
        "1":{"id":1,"code":"a","name":"A","nodes":[{"name":"n","host":"h","derp_port":1,"stun_port":1,"certificate":{"raw":"x"}}]},
        "2":{"id":2,"code":"b","name":"B","nodes":[]},
        "3":{"id":4,"code":"c","name":"C","nodes":[]}}}"#;
    let map = netmap(&records(None, None, Some(text)));
    assert!(map.relays().regions.keys().eq([&RegionId(2)]));
    assert_eq!(warnings(&map).len(), 2);
    let map = netmap(&records(None, None, Some("[]")));
    assert!(map.relays().regions.is_empty());
    assert_eq!(warnings(&map).len(), 1);
}

#[test]
fn messages_that_do_not_fit_leave_the_map() {
    let good = state().records();
    let other = State {
        name: 1,
        rules: 2,
        ..state()
    }
    .records();
    let mut map = netmap(&good);
    let before = map.save();
    let delta = || good.diff(&other, 5, 6).unwrap();
    let refused = |map: &mut Netmap, spoil: &dyn Fn(&mut ztna_proto::netmap::MapDelta)| {
        map.disconnected();
        let mut delta = delta();
        spoil(&mut delta);
        let error = map.handle(ServerMessage::Delta(delta)).unwrap_err();
        assert_eq!(map.save(), before);
        error
    };
    let gap = NetmapError::Gap {
        ours: Some(5),
        theirs: 4,
    };
    assert_eq!(refused(&mut map, &|d| d.base_seq = 4), gap);
    let malformed = |error| matches!(error, NetmapError::Malformed { .. });
    assert!(malformed(refused(&mut map, &|d| d.seq = 5)));
    let mismatch = NetmapError::HashMismatch { seq: 6 };
    assert_eq!(refused(&mut map, &|d| d.hash.0[0] ^= 1), mismatch);
    let number = || Some(RawValue::from_string("7".to_owned()).unwrap());
    assert!(malformed(refused(&mut map, &|d| d.this = number())));
    assert!(malformed(refused(&mut map, &|d| {
        let mut this = common::this("x");
        this.id = id(77);
        d.this = Some(serde_json::value::to_raw_value(&this).unwrap());
    })));

    let resume = |seq, hash| ServerMessage::KeepAlive(Resume { seq, hash });
    assert_eq!(
        map.handle(resume(5, other.hash())),
        Err(NetmapError::HashMismatch { seq: 5 })
    );
    assert_eq!(
        map.handle(resume(6, other.hash())),
        Err(NetmapError::Gap {
            ours: Some(5),
            theirs: 6
        })
    );
    let pending = map.handle(ServerMessage::Delta(delta()));
    assert_eq!(pending, Ok(Update::Ignored), "waits for the full map");
    assert_eq!(map.handle(resume(9, good.hash())), Ok(Update::InSync));
    assert_eq!(
        map.resume().unwrap().seq,
        9,
        "other machines' changes move the seq"
    );

    let mut full = other.full(10);
    full.peers.pop();
    assert!(matches!(
        map.handle(ServerMessage::Full(full)),
        Err(NetmapError::HashMismatch { seq: 10 })
    ));
    assert_eq!(map.this(), Some(&state().this()));
    map.handle(ServerMessage::Full(other.full(10))).unwrap();
    let delta = other.diff(&good, 10, 11).unwrap();
    assert!(matches!(
        map.handle(ServerMessage::Delta(delta)),
        Ok(Update::Delta(_))
    ));
}

#[test]
fn an_empty_map_takes_no_delta_and_lets_nothing_through() {
    let (old, new) = (
        state().records(),
        State {
            rules: 2,
            ..state()
        }
        .records(),
    );
    let mut map = Netmap::default();
    assert!(map.this().is_none() && map.peers().is_empty() && map.resume().is_none());
    assert!(map.filter().inbound.is_empty() && map.filter().outbound.is_empty());
    let delta = old.diff(&new, 0, 1).unwrap();
    let gap = NetmapError::Gap {
        ours: None,
        theirs: 0,
    };
    assert_eq!(map.handle(ServerMessage::Delta(delta)), Err(gap));
    let hello = map.next_hello("1.2.3");
    let ClientMessage::Hello {
        capability, resume, ..
    } = hello
    else {
        panic!("no hello");
    };
    assert_eq!((capability, resume), (ztna_proto::CAPABILITY, None));
    let loaded = Netmap::load(&map.save()).unwrap();
    assert!(loaded.resume().is_none());
}

#[test]
fn the_newest_volatile_state_wins_and_outlives_the_stream() {
    let mut map = netmap(&state().records());
    let update = |whole, peers| ServerMessage::Volatile(VolatileUpdate { whole, peers });
    assert!(!map.is_volatile_current());
    let first = update(true, vec![volatile(1, 5, true), volatile(2, 1, false)]);
    assert_eq!(map.handle(first), Ok(Update::Volatile(vec![id(1), id(2)])));
    assert!(map.is_volatile_current());
    let mixed = update(
        false,
        vec![
            volatile(1, 4, false),
            volatile(1, 5, false),
            volatile(2, 2, true),
        ],
    );
    assert_eq!(map.handle(mixed), Ok(Update::Volatile(vec![id(2)])));
    assert!(map.volatile(&id(1)).unwrap().online);
    map.disconnected();
    assert!(!map.is_volatile_current());
    assert_eq!(map.volatile(&id(1)).unwrap().version, 5);
    let loaded = Netmap::load(&map.save()).unwrap();
    assert_eq!(loaded.volatile(&id(1)), map.volatile(&id(1)));
    assert!(!loaded.is_volatile_current());

    let anew = update(true, vec![volatile(1, 1, false)]);
    assert_eq!(map.handle(anew), Ok(Update::Volatile(vec![id(1), id(2)])));
    assert!(map.volatile(&id(2)).is_none() && !map.volatile(&id(1)).unwrap().online);

    let without = State {
        peers: BTreeMap::from([(2, 0)]),
        ..state()
    };
    let delta = state().records().diff(&without.records(), 5, 6).unwrap();
    map.handle(ServerMessage::Delta(delta)).unwrap();
    assert!(map.volatile(&id(1)).is_none(), "gone with its peer");
}

#[test]
fn endpoints_are_bounded() {
    let mut map = netmap(&state().records());
    let mut many = volatile(1, 1, true);
    many.report.endpoints = (0..1000)
        .map(|port| Endpoint {
            addr: ([192, 0, 2, 1], port).into(),
            kind: EndpointKind::Stun,
        })
        .collect();
    let update = VolatileUpdate {
        whole: false,
        peers: vec![many],
    };
    map.handle(ServerMessage::Volatile(update)).unwrap();
    assert_eq!(
        map.volatile(&id(1)).unwrap().report.endpoints.len(),
        MAX_ENDPOINTS
    );
}

#[test]
fn other_messages_pass_through() {
    let mut map = Netmap::default();
    let ticket = map.handle(ServerMessage::RelayTicket("t".into()));
    assert_eq!(ticket, Ok(Update::Ticket("t".into())));
    let error = ErrorBody::new(ErrorCode::MachineDeleted, "gone");
    let ended = map.handle(ServerMessage::Error(error.clone()));
    assert_eq!(ended, Ok(Update::Ended(error)));
    assert_eq!(
        map.handle_text(r#"{"type":"later","body":1}"#),
        Ok(Update::Ignored)
    );
    assert!(matches!(
        map.handle_text(&" ".repeat(ztna_proto::netmap::MAX_MESSAGE + 1)),
        Err(NetmapError::Malformed { .. })
    ));
}

#[test]
fn a_damaged_file_is_an_error() {
    let text = netmap(&state().records()).save();
    assert!(matches!(Netmap::load(""), Err(LoadError::Syntax(_))));
    assert!(matches!(
        Netmap::load(&text[..text.len() - 1]),
        Err(LoadError::Syntax(_))
    ));
    let later = text.replacen(r#""format":1"#, r#""format":2"#, 1);
    assert_eq!(Netmap::load(&later).err(), Some(LoadError::Format(2)));
    let flipped = text.replacen("p0.acme", "p9.acme", 1);
    assert!(matches!(
        Netmap::load(&flipped),
        Err(LoadError::Damaged(NetmapError::HashMismatch { .. }))
    ));
    Netmap::load(&text).unwrap();
}
