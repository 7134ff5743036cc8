use proptest::prelude::*;

use super::*;

fn org() -> impl Strategy<Value = Option<OrgId>> {
    any::<Option<[u8; 16]>>().prop_map(|bytes| bytes.map(OrgId::from_bytes))
}

fn key(byte: u8) -> WgPublicKey {
    WgPublicKey([byte; KEY_LEN])
}

/// `type`, then the payload's bytes: what goes over the wire.
fn wire(kind: u8, payload: &[&[u8]]) -> Vec<u8> {
    let payload = payload.concat();
    let mut out = vec![kind];
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend_from_slice(&payload);
    out
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    Decoder::default().decode(&mut BytesMut::from(bytes))
}

/// One row of the frame table: these bytes are this frame, both ways.
fn row(bytes: &[u8], frame: Frame) {
    assert_eq!(decode(bytes), Ok(Some(frame.clone())));
    assert_eq!(frame.to_bytes(), bytes);
    for cut in 0..bytes.len() {
        let mut buf = BytesMut::from(&bytes[..cut]);
        assert_eq!(
            Decoder::default().decode(&mut buf),
            Ok(None),
            "cut at {cut}"
        );
        assert_eq!(
            buf.len(),
            cut,
            "nothing may be taken of an incomplete frame"
        );
    }
}

#[test]
fn x01_server_key() {
    let key = RelayPublicKey([7; 32]);
    let frame = |spare: &'static [u8]| Frame::ServerKey {
        key,
        spare: Bytes::from_static(spare),
    };
    row(&wire(1, &[&MAGIC, &[7; 32]]), frame(b""));
    row(&wire(1, &[&MAGIC, &[7; 32], b"spare"]), frame(b"spare"));
    assert_eq!(
        decode(&wire(1, &[b"DERPDERP", &[7; 32]])),
        Err(FrameError::Magic)
    );
}

#[test]
fn x02_client_info() {
    let frame = Frame::ClientInfo {
        key: key(1),
        nonce: [2; NONCE_LEN],
        sealed: Bytes::from_static(b"box"),
    };
    row(&wire(2, &[&[1; 32], &[2; 24], b"box"]), frame);
}

#[test]
fn x03_server_info() {
    let frame = Frame::ServerInfo {
        nonce: [2; NONCE_LEN],
        sealed: Bytes::from_static(b"box"),
    };
    row(&wire(3, &[&[2; 24], b"box"]), frame);
}

#[test]
fn x04_send_packet() {
    let frame = Frame::SendPacket {
        to: key(1),
        packet: Bytes::from_static(b"packet"),
    };
    row(&wire(4, &[&[1; 32], b"packet"]), frame);
    let head = [send_packet_head(&key(1), 6).as_slice(), b"packet"].concat();
    assert_eq!(head, wire(4, &[&[1; 32], b"packet"]));
}

#[test]
fn x05_recv_packet() {
    let frame = Frame::RecvPacket {
        from: key(1),
        packet: Bytes::from_static(b"packet"),
    };
    row(&wire(5, &[&[1; 32], b"packet"]), frame);
    let head = [recv_packet_head(&key(1), 6).as_slice(), b"packet"].concat();
    assert_eq!(head, wire(5, &[&[1; 32], b"packet"]));
}

#[test]
fn x06_keep_alive() {
    row(&wire(6, &[]), Frame::KeepAlive);
}

#[test]
fn x07_note_preferred() {
    row(&wire(7, &[&[1]]), Frame::NotePreferred(true));
    row(&wire(7, &[&[0]]), Frame::NotePreferred(false));
    assert_eq!(
        decode(&wire(7, &[&[2]])),
        Ok(Some(Frame::NotePreferred(false)))
    );
}

#[test]
fn x08_peer_gone() {
    for (byte, reason) in [
        (0, GoneReason::Disconnected),
        (1, GoneReason::NotHere),
        (9, GoneReason::Other(9)),
    ] {
        let frame = Frame::PeerGone {
            peer: key(1),
            reason,
        };
        row(&wire(8, &[&[1; 32], &[byte]]), frame);
    }
    let silent = Frame::PeerGone {
        peer: key(1),
        reason: GoneReason::Disconnected,
    };
    assert_eq!(decode(&wire(8, &[&[1; 32]])), Ok(Some(silent)));
}

#[test]
fn x09_peer_present() {
    let v4: SocketAddr = "192.0.2.1:258".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::1]:258".parse().unwrap();
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 1, 2];
    let plain = [
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2,
    ];
    for (payload, endpoint, flags) in [
        (vec![], None, None),
        (mapped.to_vec(), Some(v4), None),
        ([mapped.as_slice(), &[5]].concat(), Some(v4), Some(5)),
        (plain.to_vec(), Some(v6), None),
    ] {
        let frame = Frame::PeerPresent {
            peer: key(1),
            endpoint,
            flags,
            org: None,
        };
        row(&wire(9, &[&[1; 32], &payload]), frame);
    }
    let with_org = Frame::PeerPresent {
        peer: key(1),
        endpoint: Some(v6),
        flags: Some(3),
        org: Some(OrgId::from_bytes([5; 16])),
    };
    row(&wire(9, &[&[1; 32], &plain, &[3], &[5; 16]]), with_org);
}

#[test]
fn x0a_forward_packet() {
    let frame = |org| Frame::ForwardPacket {
        org,
        from: key(1),
        to: key(2),
        packet: Bytes::from_static(b"packet"),
    };
    let payload: &[&[u8]] = &[&[1; 32], &[2; 32], b"packet"];
    row(&wire(0x0a, payload), frame(None));
    let in_org = [&[&[5; 16][..]], payload].concat();
    let org = OrgId::from_bytes([5; 16]);
    row(&wire(0x41, &in_org), frame(Some(org)));
}

#[test]
fn x10_watch_conns() {
    row(&wire(0x10, &[]), Frame::WatchConns);
}

#[test]
fn x11_close_peer() {
    row(&wire(0x11, &[&[1; 32]]), Frame::ClosePeer(key(1)));
}

#[test]
fn x12_ping_and_x13_pong() {
    row(&wire(0x12, &[b"12345678"]), Frame::Ping(*b"12345678"));
    row(&wire(0x13, &[b"12345678"]), Frame::Pong(*b"12345678"));
    let long = decode(&wire(0x12, &[b"12345678", &[0; 992]]));
    assert_eq!(long, Ok(Some(Frame::Ping(*b"12345678"))));
}

#[test]
fn x14_health() {
    row(&wire(0x14, &[b"broken"]), Frame::Health("broken".into()));
    row(&wire(0x14, &[]), Frame::Health(String::new()));
    let error = decode(&wire(0x14, &[&[0xff]]));
    assert_eq!(error, Err(FrameError::Text { kind: 0x14 }));
    let long = Frame::Health("é".repeat(MAX_HEALTH)).to_bytes();
    assert!(matches!(decode(&long), Ok(Some(Frame::Health(text))) if text.len() == MAX_HEALTH));
}

#[test]
fn x15_restarting() {
    let frame = Frame::Restarting {
        reconnect_in: Duration::from_millis(258),
        try_for: Duration::from_secs(30),
    };
    row(&wire(0x15, &[&[0, 0, 1, 2], &[0, 0, 0x75, 0x30]]), frame);
}

#[test]
fn x40_renew_ticket() {
    row(&wire(0x40, &[b"a.b"]), Frame::RenewTicket("a.b".into()));
}

#[test]
fn unknown_types_are_skipped_up_to_the_cap() {
    for kind in [0x00, 0x0b, 0x16, 0x7f, 0xff] {
        let mut decoder = Decoder::default();
        let mut buf = BytesMut::from(wire(kind, &[&[0xaa; 300]]).as_slice());
        buf.extend_from_slice(&wire(6, &[]));
        let unknown = Frame::Unknown { kind, len: 300 };
        assert_eq!(decoder.decode(&mut buf), Ok(Some(unknown)));
        assert_eq!(decoder.decode(&mut buf), Ok(Some(Frame::KeepAlive)));
        assert_eq!(decoder.decode(&mut buf), Ok(None));
    }
    let len = MAX_UNKNOWN + 1;
    let mut header = vec![0x7f];
    header.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
    assert_eq!(decode(&header), Err(FrameError::Length { kind: 0x7f, len }));
}

/// A header alone decides: nobody waits for, or makes room for, a frame that cannot be.
#[test]
fn every_type_is_bounded_both_ways() {
    for kind in 0..=u8::MAX {
        let Some((min, max)) = bounds(kind) else {
            continue;
        };
        let claim = |len: usize| {
            let mut header = vec![kind];
            header.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
            decode(&header)
        };
        assert_eq!(
            claim(max + 1),
            Err(FrameError::Length { kind, len: max + 1 })
        );
        if min > 0 {
            assert_eq!(
                claim(min - 1),
                Err(FrameError::Length { kind, len: min - 1 })
            );
            assert_eq!(claim(min), Ok(None));
        }
        assert_eq!(claim(max), Ok(None));
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let key = || any::<[u8; KEY_LEN]>().prop_map(WgPublicKey);
    let bytes = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let millis = || any::<u32>().prop_map(|millis| Duration::from_millis(millis.into()));
    prop_oneof![
        (any::<[u8; KEY_LEN]>(), bytes()).prop_map(|(key, spare)| Frame::ServerKey {
            key: RelayPublicKey(key),
            spare,
        }),
        (key(), any::<[u8; NONCE_LEN]>(), bytes())
            .prop_map(|(key, nonce, sealed)| Frame::ClientInfo { key, nonce, sealed }),
        (any::<[u8; NONCE_LEN]>(), bytes())
            .prop_map(|(nonce, sealed)| Frame::ServerInfo { nonce, sealed }),
        (key(), bytes()).prop_map(|(to, packet)| Frame::SendPacket { to, packet }),
        (key(), bytes()).prop_map(|(from, packet)| Frame::RecvPacket { from, packet }),
        (org(), key(), key(), bytes()).prop_map(|(org, from, to, packet)| {
            Frame::ForwardPacket {
                org,
                from,
                to,
                packet,
            }
        }),
        any::<bool>().prop_map(Frame::NotePreferred),
        (key(), any::<u8>()).prop_map(|(peer, reason)| Frame::PeerGone {
            peer,
            reason: reason.into(),
        }),
        (key(), any::<([u8; 4], u16, Option<u8>)>(), org()).prop_map(
            |(peer, (ip, port, flags), org)| {
                Frame::PeerPresent {
                    peer,
                    endpoint: Some((ip, port).into()),
                    flags,
                    org: org.filter(|_| flags.is_some()),
                }
            }
        ),
        key().prop_map(Frame::ClosePeer),
        any::<[u8; PING_LEN]>().prop_map(Frame::Ping),
        any::<[u8; PING_LEN]>().prop_map(Frame::Pong),
        ".{0,300}".prop_map(Frame::Health),
        (millis(), millis()).prop_map(|(reconnect_in, try_for)| Frame::Restarting {
            reconnect_in,
            try_for,
        }),
        "[a-zA-Z0-9._-]{0,300}".prop_map(Frame::RenewTicket),
        (0x42..=u8::MAX, 0..300usize).prop_map(|(kind, len)| Frame::Unknown { kind, len }),
        Just(Frame::KeepAlive),
        Just(Frame::WatchConns),
    ]
}

proptest! {
    /// Whatever the network's cuts, the frames that went in come out.
    #[test]
    fn frames_round_trip_through_any_cuts(
        frames in prop::collection::vec(any_frame(), 1..8),
        cut in 1..200usize,
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut wire);
        }
        let mut decoder = Decoder::default();
        let mut buf = BytesMut::new();
        let mut got = Vec::new();
        for chunk in wire.chunks(cut) {
            buf.extend_from_slice(chunk);
            while let Some(frame) = decoder.decode(&mut buf).unwrap() {
                got.push(frame);
            }
        }
        prop_assert_eq!(got, frames);
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut decoder = Decoder::default();
        let mut buf = BytesMut::from(bytes.as_slice());
        while let Ok(Some(_)) = decoder.decode(&mut buf) {}
    }

    /// The same with headers that are mostly right, which get further.
    #[test]
    fn random_payloads_never_panic(
        kind in 0..0x42u8,
        payload in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let mut decoder = Decoder::default();
        let mut buf = BytesMut::from(wire(kind, &[&payload]).as_slice());
        while let Ok(Some(_)) = decoder.decode(&mut buf) {}
    }
}
