//! What a region must look like.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ztna_proto::error::ErrorCode;
use ztna_proto::ids::RegionId;
use ztna_proto::keys::parse_hex;
use ztna_proto::relay::{CertificatePin, ORG_REGIONS, RegionDocument, RelayNode};

use crate::http::{ApiError, refuse};
use crate::text::has_hidden;

/// Regions that an org may have.
pub(super) const MAX_OWN_REGIONS: usize = 8;
/// Regions of the deployment. A ticket names all of them, and has its bound.
const MAX_DEPLOYMENT_REGIONS: usize = 256;
/// Relays of a region.
const MAX_NODES: usize = 8;
/// Addresses of a relay.
const MAX_ADDRESSES: usize = 8;
/// Longest code of a region and name of a node, in characters: one DNS label.
const MAX_LABEL: usize = 63;
/// Longest name of a region, in characters.
const MAX_NAME: usize = 64;
/// Longest host name (RFC 1035 §2.3.4), as text.
const MAX_HOST: usize = 253;

/// Checks the deployment's regions, which its operator writes.
pub(super) fn deployment(regions: &[RegionDocument]) -> Result<(), ApiError> {
    if regions.len() > MAX_DEPLOYMENT_REGIONS {
        return Err(invalid(format!(
            "the relay map has {} regions; at most {MAX_DEPLOYMENT_REGIONS} are possible",
            regions.len()
        )));
    }
    for document in regions {
        let id = document.region.id.0;
        if id == 0 || ORG_REGIONS.contains(&id) {
            return Err(invalid(format!(
                "region {id} of the relay map: 0 is no region, and {} to {} are for the orgs' own; \
                 choose another number",
                ORG_REGIONS.start(),
                ORG_REGIONS.end()
            )));
        }
    }
    Ok(())
}

/// Checks a region that an org wants as `id`.
pub(super) fn own(id: RegionId, document: &RegionDocument) -> Result<(), ApiError> {
    let region = &document.region;
    if !ORG_REGIONS.contains(&id.0) {
        return Err(invalid(format!(
            "region {id} is not an org's own: those have the numbers {} to {}",
            ORG_REGIONS.start(),
            ORG_REGIONS.end()
        )));
    }
    if region.id != id {
        return Err(invalid(format!(
            "`id` is {}, the path says {id}; make them one",
            region.id
        )));
    }
    label("code", &region.code)?;
    if region.name.trim().is_empty()
        || region.name.chars().count() > MAX_NAME
        || has_hidden(&region.name)
    {
        return Err(invalid(format!(
            "`name` needs 1 to {MAX_NAME} characters, none of them invisible"
        )));
    }
    location(document)?;
    if region.nodes.is_empty() || region.nodes.len() > MAX_NODES {
        return Err(invalid(format!(
            "`nodes` has {} relays; a region has 1 to {MAX_NODES}",
            region.nodes.len()
        )));
    }
    let mut names = BTreeSet::new();
    for node in &region.nodes {
        check_node(node)?;
        if !names.insert(&node.name) {
            return Err(invalid(format!(
                "two of `nodes` are named {:?}; give each its own name",
                node.name
            )));
        }
    }
    Ok(())
}

fn location(document: &RegionDocument) -> Result<(), ApiError> {
    let within = |degrees: Option<f64>, bound: f64| degrees.is_none_or(|d| d.abs() <= bound);
    let at = &document.location;
    let whole = at.latitude.is_some() == at.longitude.is_some();
    if whole && within(at.latitude, 90.0) && within(at.longitude, 180.0) {
        return Ok(());
    }
    Err(invalid(
        "`latitude` (-90 to 90) and `longitude` (-180 to 180) go together; give both or neither",
    ))
}

fn check_node(node: &RelayNode) -> Result<(), ApiError> {
    label("name of a node", &node.name)?;
    let of = &node.name;
    if !is_host(&node.host) {
        return Err(invalid(format!(
            "`host` of node {of} is neither a DNS name nor an IP address"
        )));
    }
    if node.addresses.len() > MAX_ADDRESSES {
        return Err(invalid(format!(
            "node {of} has {} addresses; at most {MAX_ADDRESSES} are possible",
            node.addresses.len()
        )));
    }
    if node.derp_port.is_none() && node.stun_port.is_none() {
        return Err(invalid(format!(
            "node {of} has neither a `derp_port` nor a `stun_port`; name what it serves"
        )));
    }
    let ports = [
        node.derp_port,
        node.stun_port,
        node.quic_port,
        node.http_port,
    ];
    if ports.contains(&Some(0)) {
        return Err(invalid(format!(
            "node {of} names port 0; leave out what it does not serve"
        )));
    }
    if let CertificatePin::Sha256(digits) = &node.certificate
        && parse_hex::<32>(digits).is_none()
    {
        return Err(invalid(format!(
            "`certificate` of node {of} is not \"web_pki\" or {{\"sha256\": 64 hex digits}}; the relay \
             prints its pin at start"
        )));
    }
    Ok(())
}

fn label(field: &str, text: &str) -> Result<(), ApiError> {
    if is_label(text, false) {
        return Ok(());
    }
    Err(invalid(format!(
        "`{field}` is {text:?}; it needs 1 to {MAX_LABEL} lower-case letters, digits and dashes, no \
         dash at either end"
    )))
}

fn is_label(text: &str, upper: bool) -> bool {
    let fits = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || b == b'-'
            || (upper && b.is_ascii_uppercase())
    };
    (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    // What looks like an address and is none is not taken for a name.
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= MAX_HOST && !numeric && name.split('.').all(|part| is_label(part, true))
}

fn invalid(message: impl Into<String>) -> ApiError {
    refuse(ErrorCode::ValidationError, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document(change: impl FnOnce(&mut Value)) -> RegionDocument {
        let mut value = json!({
            "id": 900, "code": "hq", "name": "Head office", "latitude": 52.5, "longitude": 13.4,
            "nodes": [{"name": "hq1", "host": "relay.example.com", "derp_port": 443,
                "stun_port": 3478, "certificate": {"sha256": "a".repeat(64)}}],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_good_region_passes() {
        let id = RegionId(900);
        own(id, &document(|_| {})).unwrap();
        for host in ["192.0.2.1", "2001:db8::1", "relay", "Relay.Example.com."] {
            own(id, &document(|d| d["nodes"][0]["host"] = json!(host))).unwrap();
        }
        own(
            id,
            &document(|d| d["nodes"][0]["certificate"] = json!("web_pki")),
        )
        .unwrap();
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let node = || document(|_| {}).region.nodes[0].clone();
        let many = |n: usize| {
            let node = |i| RelayNode {
                name: format!("n{i}"),
                ..node()
            };
            json!((0..n).map(node).collect::<Vec<_>>())
        };
        let cases: Vec<(&str, Value, &str)> = vec![
            ("/id", json!(901), "`id`"),
            ("/code", json!("Head Office"), "`code`"),
            ("/code", json!(""), "`code`"),
            ("/name", json!(" "), "`name`"),
            ("/name", json!("x".repeat(65)), "`name`"),
            ("/name", json!("a\u{7}"), "`name`"),
            ("/latitude", json!(91), "`latitude`"),
            ("/longitude", json!(-181), "`longitude`"),
            ("/longitude", json!(null), "go together"),
            ("/nodes", json!([]), "1 to 8"),
            ("/nodes", many(9), "1 to 8"),
            ("/nodes", json!([node(), node()]), "its own name"),
            ("/nodes/0/name", json!("-"), "name of a node"),
            ("/nodes/0/host", json!("a b"), "`host`"),
            ("/nodes/0/host", json!(""), "`host`"),
            ("/nodes/0/host", json!("127.1"), "`host`"),
            ("/nodes/0/host", json!("user@host"), "`host`"),
            ("/nodes/0/host", json!("ab.".repeat(90)), "`host`"),
            ("/nodes/0/derp_port", json!(0), "port 0"),
            (
                "/nodes/0/certificate",
                json!({"sha256": "zz"}),
                "`certificate`",
            ),
        ];
        for (field, value, says) in cases {
            let bad = document(|d| *d.pointer_mut(field).unwrap() = value.clone());
            let error = own(RegionId(900), &bad).unwrap_err().to_string();
            assert!(error.contains(says), "{field} {value}: {error}");
        }
        let idle = document(|d| {
            d["nodes"][0]["derp_port"] = json!(null);
            d["nodes"][0]["stun_port"] = json!(null);
        });
        let error = own(RegionId(900), &idle).unwrap_err().to_string();
        assert!(error.contains("neither"), "{error}");
        let crowded = document(|d| d["nodes"][0]["addresses"] = json!(vec!["192.0.2.1"; 9]));
        let error = own(RegionId(900), &crowded).unwrap_err().to_string();
        assert!(error.contains("9 addresses"), "{error}");
        let foreign = document(|d| d["id"] = json!(1));
        let error = own(RegionId(1), &foreign).unwrap_err().to_string();
        assert!(error.contains("900 to 999"), "{error}");
    }

    #[test]
    fn the_deployment_keeps_off_the_orgs_numbers() {
        for (id, good) in [
            (1, true),
            (899, true),
            (1000, true),
            (0, false),
            (900, false),
        ] {
            let regions = [document(|d| d["id"] = json!(id))];
            assert_eq!(deployment(&regions).is_ok(), good, "{id}");
        }
        let many = vec![document(|d| d["id"] = json!(1)); MAX_DEPLOYMENT_REGIONS + 1];
        assert!(deployment(&many).is_err());
    }
}
