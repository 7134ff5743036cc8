//! Rules that ask for the country of their source.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use ztna_api::GeoIp;
use ztna_proto::policy::PolicyDocument;

use crate::common::Server;
use crate::common::client::Owner;
use crate::common::stream::Stream;

/// Machines see each other if they call from Germany.
const POLICY: &str = r#"{
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"], "srcCountry": ["DE"]}],
}"#;

/// A database in the MaxMind DB format, version 2.0: a binary tree over the bits of IPv4 addresses with
/// records of 24 bits, 16 zeros, the data, and the metadata behind their mark.
fn database(countries: &[(Ipv4Addr, u8, &str)]) -> Vec<u8> {
    const NONE: usize = usize::MAX;
    let text = |text: &str| [&[0x40 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let number = |kind: u8, value: u8| match kind {
        // Kinds above 7 stand in a second byte.
        8.. => vec![1, kind - 7, value],
        _ => vec![kind << 5 | 1, value],
    };
    let mut nodes = vec![[NONE, NONE]];
    let mut leaves = Vec::new();
    let mut data = Vec::new();
    for (address, prefix, code) in countries {
        let mut node = 0;
        for bit in 0..u32::from(*prefix) {
            let side = (address.to_bits() >> (31 - bit) & 1) as usize;
            if bit + 1 == u32::from(*prefix) {
                leaves.push((node, side, data.len()));
            } else if nodes[node][side] == NONE {
                nodes.push([NONE, NONE]);
                nodes[node][side] = nodes.len() - 1;
            }
            node = nodes[node][side];
        }
        // {"country": {"iso_code": code}}
        data.extend(
            [
                &[0xe1][..],
                &text("country"),
                &[0xe1],
                &text("iso_code"),
                &text(code),
            ]
            .concat(),
        );
    }
    let count = nodes.len();
    for (node, side, at) in leaves {
        nodes[node][side] = count + 16 + at;
    }
    let mut file = Vec::new();
    for record in nodes.into_iter().flatten() {
        let record = if record == NONE { count } else { record };
        file.extend(&u32::try_from(record).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let fields = [
        ("binary_format_major_version", number(5, 2)),
        ("binary_format_minor_version", number(5, 0)),
        ("build_epoch", number(9, 1)),
        ("database_type", text("Test")),
        ("description", vec![0xe0]),
        ("ip_version", number(5, 4)),
        ("languages", vec![0, 4]),
        ("node_count", number(6, u8::try_from(count).unwrap())),
        ("record_size", number(5, 24)),
    ];
    file.push(0xe0 | u8::try_from(fields.len()).unwrap());
    for (name, value) in fields {
        file.extend(text(name));
        file.extend(value);
    }
    file
}

fn geoip() -> GeoIp {
    let file = tempfile::NamedTempFile::new().unwrap();
    let german = (Ipv4Addr::new(192, 0, 2, 0), 24, "DE");
    let french = (Ipv4Addr::new(198, 51, 100, 0), 24, "FR");
    std::fs::write(file.path(), database(&[german, french])).unwrap();
    GeoIp::open(file.path()).unwrap()
}

async fn put(owner: &Owner) -> PolicyDocument {
    owner.put_policy(POLICY).await.unwrap()
}

#[tokio::test]
async fn machines_are_let_in_by_the_country_that_they_call_from() {
    let server = Server::start_with(|config| {
        config.geoip = Some(geoip());
        config.trusted_proxies = 1;
    })
    .await;
    let owner = Owner::new(&server, "acme").await;
    assert_eq!(put(&owner).await.warnings, Vec::<String>::new());
    let (_, near) = owner.enrol("near").await;
    let (_, far) = owner.enrol("far").await;
    let mut at_far = Stream::connect_from(&server, &far.node_key, "198.51.100.7").await;
    assert_eq!(at_far.peer_names(), Vec::<String>::new());
    let at_near = Stream::connect_from(&server, &near.node_key, "192.0.2.1, 198.51.100.7").await;
    assert_eq!(
        at_near.peer_names(),
        Vec::<String>::new(),
        "what the proxy saw counts, not what the client wrote"
    );
    at_near.leave().await;
    let at_near = Stream::connect_from(&server, &near.node_key, "198.51.100.7, 192.0.2.1").await;
    assert_eq!(at_near.peer_names(), ["far"]);
    at_far.until("near", |s| s.peer_names() == ["near"]).await;

    // It travels, and is seen no more.
    at_near.leave().await;
    let at_near = Stream::connect_from(&server, &near.node_key, "203.0.113.1").await;
    assert_eq!(at_near.peer_names(), Vec::<String>::new());
    at_far.until("nobody", |s| s.peer_names().is_empty()).await;
    let log: Value = owner
        .client
        .get(&owner.path("/audit?action=machine.update"))
        .await
        .unwrap();
    let told: Vec<(&Value, &Value)> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["before"]["country"], &entry["after"]["country"]))
        .filter(|(before, after)| *before != *after)
        .collect();
    let (fr, de, none) = (json!("FR"), json!("DE"), json!(null));
    assert_eq!(told, [(&de, &none), (&fr, &de), (&none, &fr), (&none, &fr)]);
    server.stop().await;
}

#[tokio::test]
async fn without_a_database_no_country_is_known() {
    let server = Server::start_with(|config| {
        config.geoip = Some(geoip());
        config.trusted_proxies = 1;
    })
    .await;
    let owner = Owner::new(&server, "acme").await;
    put(&owner).await;
    let (_, near) = owner.enrol("near").await;
    let (_, other) = owner.enrol("other").await;
    let at_near = Stream::connect_from(&server, &near.node_key, "192.0.2.1").await;
    assert_eq!(at_near.peer_names(), ["other"]);
    let server = server.restart().await;
    let owner = Owner {
        client: owner.client.at(&server),
        ..owner
    };
    // What was known is forgotten.
    let mut at_other = Stream::connect(&server, &other.node_key).await;
    at_other
        .until("nobody", |s| s.peer_names().is_empty())
        .await;
    let at_near = Stream::connect(&server, &near.node_key).await;
    assert_eq!(at_near.peer_names(), Vec::<String>::new());

    let saved = put(&owner).await;
    assert_eq!(saved.warnings.len(), 1, "{saved:?}");
    assert!(saved.warnings[0].contains("--geoip"), "{saved:?}");
    assert_eq!(owner.policy().await.warnings, saved.warnings);
    let posture = r#"{
        "postures": {"posture:near": ["ip:country == 'DE'"]},
        "acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"], "srcPosture": ["posture:near"]}],
    }"#;
    let saved = owner.put_policy(posture).await.unwrap();
    assert_eq!(saved.warnings.len(), 1, "{saved:?}");
    let plain = r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:22"]}]}"#;
    let saved = owner.put_policy(plain).await.unwrap();
    assert_eq!(saved.warnings, Vec::<String>::new());
    server.stop().await;
}

#[test]
fn what_is_no_database_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no database").unwrap();
    for path in [file.path(), std::path::Path::new("/nowhere.mmdb")] {
        let Err(error) = GeoIp::open(path) else {
            panic!("{} is taken", path.display());
        };
        assert!(error.to_string().contains("--geoip"), "{error}");
    }
}
