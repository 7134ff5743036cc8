//! Calls to other servers: the verifier of clients, the control plane.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Response, Url};
use ztna_proto::relay::CertificatePin;
use ztna_tls::{KeyExchange, client_config};

/// Connecting takes this long at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for one server, whose calls take `timeout` at most. It follows no redirects and uses no
/// proxy: what it asks decides on access.
pub fn client(pin: &CertificatePin, timeout: Duration) -> Result<reqwest::Client> {
    Ok(builder(pin, timeout)?.build()?)
}

/// The same for a server whose name is taken to be at an address.
pub fn client_at(
    pin: &CertificatePin,
    timeout: Duration,
    name: &str,
    address: SocketAddr,
) -> Result<reqwest::Client> {
    let builder = builder(pin, timeout)?;
    Ok(builder.resolve(name, address).build()?)
}

fn builder(pin: &CertificatePin, timeout: Duration) -> Result<reqwest::ClientBuilder> {
    let tls = client_config(pin, KeyExchange::PreferPostQuantum)?;
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .user_agent(concat!("ztna-derp/", env!("CARGO_PKG_VERSION")));
    Ok(builder)
}

/// An address that may decide on access: https, or this machine's own.
pub fn trustworthy(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    let host = url.host_str().unwrap_or_default();
    let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let local = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        _ => Err("use https://, or http:// to this machine itself".to_owned()),
    }
}

/// The body of a successful answer, of `most` bytes at most.
pub async fn body(mut answer: Response, most: usize) -> Result<Vec<u8>> {
    ensure!(
        answer.status().is_success(),
        "HTTP status {}",
        answer.status()
    );
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.context("the answer broke off")? {
        body.extend_from_slice(&chunk);
        ensure!(body.len() <= most, "an answer of more than {most} bytes");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_encrypted_or_local_servers_decide() {
        for good in [
            "https://verify.example/x",
            "http://127.0.0.1:8080/verify",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert!(trustworthy(good).is_ok(), "{good}");
        }
        for bad in [
            "http://verify.example/",
            "ftp://127.0.0.1/",
            "verify",
            "",
            "http://127.0.0.1.example/",
        ] {
            assert!(trustworthy(bad).is_err(), "{bad}");
        }
    }
}
