//! Which control plane, and how it proves itself.

use reqwest::Url;
use serde::{Deserialize, Serialize};
use ztna_proto::relay::CertificatePin;

/// A control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Server {
    url: Url,
    pin: CertificatePin,
    allow_http: bool,
}

/// The form in files.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    url: String,
    pin: Option<String>,
    #[serde(default)]
    allow_http: bool,
}

/// A control plane's address cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Not a URL of ours.
    #[error("{0:?} is not a server's address; give it as https://HOST or https://HOST:PORT")]
    Form(String),
    /// Plain HTTP to another machine.
    #[error(
        "{0} is not encrypted: keys and tokens would cross the network in the clear; use https://, or --allow-http on a network that you trust"
    )]
    PlainHttp(Url),
    /// The pin is malformed.
    #[error(transparent)]
    Pin(#[from] ztna_tls::PinError),
}

impl Server {
    /// Reads an address. Without a scheme it is HTTPS; path and query are not part of it.
    ///
    /// # Errors
    /// The address or pin is malformed, or it is plain HTTP to another machine and `allow_http` is
    /// not given.
    pub fn parse(url: &str, pin: Option<&str>, allow_http: bool) -> Result<Self, ServerError> {
        let form = || ServerError::Form(url.to_owned());
        let text = if url.contains("://") {
            url.to_owned()
        } else {
            format!("https://{url}")
        };
        let parsed = Url::parse(&text).map_err(|_| form())?;
        let plain = parsed.username().is_empty()
            && parsed.password().is_none()
            && matches!(parsed.path(), "" | "/")
            && parsed.query().is_none()
            && parsed.fragment().is_none();
        if !plain || !matches!(parsed.scheme(), "https" | "http") || parsed.host_str().is_none() {
            return Err(form());
        }
        let pin = pin
            .map(ztna_tls::parse_pin)
            .transpose()?
            .unwrap_or_default();
        let server = Self {
            url: parsed,
            pin,
            allow_http,
        };
        if !server.encrypted() && !allow_http && !server.is_loopback() {
            return Err(ServerError::PlainHttp(server.url));
        }
        Ok(server)
    }

    /// The URL without a slash at its end, for people and to put paths behind.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// How it proves itself.
    #[must_use]
    pub fn pin(&self) -> &CertificatePin {
        &self.pin
    }

    /// Whether it is spoken to over TLS.
    #[must_use]
    pub fn encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Host as a TLS server name, and as a resolver takes it: IPv6 addresses without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url
            .host_str()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
    }

    /// TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        // Both schemes that `parse` lets through have a port of their own.
        self.url.port_or_known_default().unwrap_or(443)
    }

    /// The text form of its pin, if it has one.
    #[must_use]
    pub fn pin_text(&self) -> Option<String> {
        ztna_tls::format_pin(&self.pin)
    }

    /// Whether plain HTTP was allowed.
    #[must_use]
    pub fn allow_http(&self) -> bool {
        self.allow_http
    }

    /// Whether `other` is at the same place, however it proves itself.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        self.url == other.url
    }

    fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl From<Server> for Stored {
    fn from(server: Server) -> Self {
        Self {
            url: server.origin().to_owned(),
            pin: server.pin_text(),
            allow_http: server.allow_http,
        }
    }
}

impl TryFrom<Stored> for Server {
    type Error = ServerError;
    fn try_from(stored: Stored) -> Result<Self, ServerError> {
        Self::parse(&stored.url, stored.pin.as_deref(), stored.allow_http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_generously() {
        for (text, origin, host, port) in [
            ("ztna.example", "https://ztna.example", "ztna.example", 443),
            (
                "https://ztna.example/",
                "https://ztna.example",
                "ztna.example",
                443,
            ),
            (
                "https://10.0.0.1:8443",
                "https://10.0.0.1:8443",
                "10.0.0.1",
                8443,
            ),
            (
                "https://[fd00::1]:8443",
                "https://[fd00::1]:8443",
                "fd00::1",
                8443,
            ),
            (
                "http://127.0.0.1:8080",
                "http://127.0.0.1:8080",
                "127.0.0.1",
                8080,
            ),
            ("http://localhost", "http://localhost", "localhost", 80),
        ] {
            let server = Server::parse(text, None, false).unwrap();
            assert_eq!(
                (server.origin(), server.host(), server.port()),
                (origin, host, port)
            );
        }
    }

    #[test]
    fn other_things_are_refused() {
        for bad in [
            "",
            "https://",
            "ftp://ztna.example",
            "https://user@ztna.example",
            "https://ztna.example/api",
            "https://ztna.example?x",
        ] {
            let error = Server::parse(bad, None, false).unwrap_err();
            assert_eq!(error, ServerError::Form(bad.to_owned()));
        }
        assert!(matches!(
            Server::parse("ztna.example", Some("sha256:00"), false),
            Err(ServerError::Pin(_))
        ));
    }

    #[test]
    fn plain_http_to_another_machine_needs_a_word() {
        let error = Server::parse("http://ztna.example", None, false).unwrap_err();
        assert!(error.to_string().contains("--allow-http"), "{error}");
        assert!(Server::parse("http://ztna.example", None, true).is_ok());
    }

    #[test]
    fn the_stored_form_keeps_everything() {
        let pin = format!("sha256:{}", "ab".repeat(32));
        let server = Server::parse("https://10.0.0.1:8443", Some(&pin), false).unwrap();
        let json = serde_json::to_string(&server).unwrap();
        assert_eq!(serde_json::from_str::<Server>(&json).unwrap(), server);
        assert!(json.contains(&pin));
        assert!(serde_json::from_str::<Server>(r#"{"url":"x://","pin":null}"#).is_err());
    }
}
