//! Which relays form a region together.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use zeroize::Zeroizing;
use ztna_derp::server::{Mesh, MeshKey};
use ztna_proto::RegionId;
use ztna_proto::relay::{CertificatePin, DEFAULT_DERP_PORT, RelayNode};

/// Other relays of a region.
const MAX_MESH_PEERS: usize = 32;

/// Longest mesh key file, in bytes.
const MAX_KEY_FILE: u64 = 1024;

/// The flags.
#[derive(Args)]
pub struct MeshArgs {
    /// File with the secret that the relays of this region share: 64 hex digits, the same at each
    #[arg(long, env = "ZTNA_DERP_MESH_KEY_FILE", value_name = "FILE")]
    pub mesh_key_file: Option<PathBuf>,

    /// The other relays of this region, each with the pin of a self-signed certificate; repeatable,
    /// and this relay itself may be among them, so that all get the same list
    #[arg(
        long,
        env = "ZTNA_DERP_MESH_WITH",
        requires = "mesh_key_file",
        value_delimiter = ',',
        value_parser = peer,
        value_name = "HOST[:PORT][=sha256:PIN]"
    )]
    pub mesh_with: Vec<RelayNode>,
}

impl MeshArgs {
    /// Reads the key. `None`: the relay stands alone.
    pub fn mesh(&self, region: RegionId) -> Result<Option<Mesh>> {
        let Some(path) = &self.mesh_key_file else {
            return Ok(None);
        };
        ensure!(
            self.mesh_with.len() <= MAX_MESH_PEERS,
            "--mesh-with names {} relays; a region has at most {MAX_MESH_PEERS} others",
            self.mesh_with.len()
        );
        let key = read_key(path)
            .with_context(|| format!("cannot use the mesh key in {}", path.display()))?;
        Ok(Some(Mesh {
            key,
            region: Some(region),
        }))
    }
}

fn read_key(path: &std::path::Path) -> Result<MeshKey> {
    let size = std::fs::metadata(path)?.len();
    ensure!(size <= MAX_KEY_FILE, "the file is too large for a key");
    let text = Zeroizing::new(std::fs::read_to_string(path)?);
    Ok(text.trim().parse()?)
}

/// `HOST[:PORT][=sha256:PIN]`; an IPv6 address in brackets if a port follows.
fn peer(text: &str) -> Result<RelayNode, String> {
    let (address, pin) = match text.split_once('=') {
        Some((address, pin)) => (address, Some(pin)),
        None => (text, None),
    };
    let certificate = match pin {
        Some(pin) => ztna_tls::parse_pin(pin).map_err(|error| error.to_string())?,
        None => CertificatePin::WebPki,
    };
    let (host, port) = split_port(address)?;
    Ok(RelayNode {
        name: host.clone(),
        host,
        addresses: Vec::new(),
        derp_port: Some(port),
        stun_port: None,
        quic_port: None,
        http_port: None,
        certificate,
    })
}

pub(super) fn split_port(address: &str) -> Result<(String, u16), String> {
    if let Ok(socket) = address.parse::<std::net::SocketAddr>() {
        return Ok((socket.ip().to_string(), socket.port()));
    }
    if let Ok(ip) = address.parse::<std::net::IpAddr>() {
        return Ok((ip.to_string(), DEFAULT_DERP_PORT));
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) => {
            let port = port
                .parse()
                .map_err(|_| format!("{port:?} is no port number"))?;
            (host, port)
        }
        None => (address, DEFAULT_DERP_PORT),
    };
    if host.is_empty() || host.contains([':', '/', '[', ']', ' ']) {
        return Err(format!(
            "{address:?} is no HOST or HOST:PORT (an IPv6 address with a port: [2001:db8::1]:443)"
        ));
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_hosts_with_port_and_pin() {
        let of = |text| {
            let node = peer(text).unwrap();
            (node.host, node.derp_port.unwrap(), node.certificate)
        };
        let web = CertificatePin::WebPki;
        assert_eq!(of("r1.example"), ("r1.example".into(), 443, web.clone()));
        assert_eq!(
            of("r1.example:8443"),
            ("r1.example".into(), 8443, web.clone())
        );
        assert_eq!(of("2001:db8::1"), ("2001:db8::1".into(), 443, web.clone()));
        assert_eq!(of("[2001:db8::1]:5"), ("2001:db8::1".into(), 5, web));
        let pin = "ab".repeat(32);
        let pinned = CertificatePin::Sha256(pin.clone());
        let text = format!("192.0.2.1:99=sha256:{pin}");
        assert_eq!(of(&text), ("192.0.2.1".into(), 99, pinned));
        for wrong in ["", "a:b", "a:70000", "http://a", "a=sha256:1", "[::1:5"] {
            assert!(peer(wrong).is_err(), "{wrong:?}");
        }
    }
}
