//! A request: does it want the relay, or a web page? The first on a connection is looked at before HTTP is.

use std::io;
use std::time::Duration;

use axum::extract::Request;
use axum::http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt};
use ztna_tls::http::FORWARDED_FOR;

use super::websocket::SUBPROTOCOL;
use crate::{MAX_HTTP_HEAD, MAX_HTTP_HEADERS};

/// A client gets this long for its first request's head.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// What the first bytes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// More bytes are needed to tell.
    Unclear,
    /// The relay.
    Relay {
        /// Bytes of the request; what follows is for the relay.
        head: usize,
        /// No HTTP answer, please (`Derp-Fast-Start: 1`).
        fast_start: bool,
        /// Another relay of the region would have been the right one (`Ideal-Node`).
        not_ideal: bool,
    },
    /// The relay, over WebSocket.
    WebSocket {
        /// As above.
        not_ideal: bool,
    },
    /// Whatever else HTTP, or a malformed request, serves: the router's.
    Http,
}

/// Reads until it is clear what the client wants. `Unclear` with a head of [`MAX_HTTP_HEAD`].
pub(super) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<(Wants, Vec<u8>)> {
    let mut buf = Vec::with_capacity(1024);
    while buf.len() < MAX_HTTP_HEAD {
        let before = buf.len();
        if stream.read_buf(&mut buf).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Only the end of a line can complete anything: a head that comes byte by byte is not
        // parsed for each of them.
        if !buf[before..].contains(&b'\n') {
            continue;
        }
        match classify(&buf) {
            Wants::Unclear => {}
            wants => return Ok((wants, buf)),
        }
    }
    Ok((Wants::Unclear, buf))
}

/// The `X-Forwarded-For` values of a head that was read already.
pub(super) fn forwarded_for(buf: &[u8]) -> Vec<&[u8]> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HTTP_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(buf).is_err() {
        return Vec::new();
    }
    let headers = request.headers.iter();
    headers
        .filter(|header| header.name.eq_ignore_ascii_case(FORWARDED_FOR))
        .map(|header| header.value)
        .collect()
}

/// Looks at the first bytes of a connection. Public for those who test it with bytes of their own.
#[must_use]
pub fn classify(buf: &[u8]) -> Wants {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HTTP_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(buf) {
        Ok(httparse::Status::Partial) => return Wants::Unclear,
        Ok(httparse::Status::Complete(head)) => head,
        Err(_) => return Wants::Http,
    };
    let path = path_of(request.path.unwrap_or_default());
    let values = |name: &'static str| -> Vec<&[u8]> {
        let headers = request.headers.iter();
        headers
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
            .collect()
    };
    wanted(request.method.unwrap_or_default(), path, head, values)
}

/// The same of a request that HTTP has read: its head has no length any more.
pub(super) fn classify_request(request: &Request) -> Wants {
    let values = |name: &'static str| -> Vec<&[u8]> {
        let headers = request.headers().get_all(name).iter();
        headers.map(HeaderValue::as_bytes).collect()
    };
    wanted(request.method().as_str(), request.uri().path(), 0, values)
}

fn wanted<'a>(
    method: &str,
    path: &str,
    head: usize,
    values: impl Fn(&'static str) -> Vec<&'a [u8]>,
) -> Wants {
    let is = |name, value: &str| {
        let mut found = values(name).into_iter();
        found.any(|found| found.eq_ignore_ascii_case(value.as_bytes()))
    };
    // Tailscale's Rust client asks with POST (`ts_http_util`), its Go client with GET.
    if !["GET", "POST"].contains(&method) || path.split('?').next() != Some("/derp") {
        return Wants::Http;
    }
    let has_body = values("content-length")
        .iter()
        .any(|length| *length != b"0")
        || !values("transfer-encoding").is_empty();
    if has_body {
        return Wants::Http;
    }
    let not_ideal = values("ideal-node").iter().any(|name| !name.is_empty());
    let websocket = is("upgrade", "websocket");
    let subprotocol = values("sec-websocket-protocol")
        .into_iter()
        .flat_map(|list| list.split(|byte| *byte == b','))
        .any(|name| name.trim_ascii() == SUBPROTOCOL.as_bytes());
    if websocket && subprotocol && method == "GET" {
        return Wants::WebSocket { not_ideal };
    }
    // Old stock clients say "websocket" and mean the native protocol (`derp/derpserver`).
    if !websocket && !is("upgrade", "derp") {
        return Wants::Http;
    }
    Wants::Relay {
        head,
        fast_start: is("derp-fast-start", "1"),
        not_ideal,
    }
}

/// The path of a request target: some clients name the whole URL, and a server must take that
/// (RFC 9112 §3.2.2).
fn path_of(target: &str) -> &str {
    let Some((_, rest)) = target.split_once("://") else {
        return target;
    };
    if target.starts_with('/') {
        return target;
    }
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn upgrades_are_told_from_other_requests() {
        let upgrade =
            b"GET /derp HTTP/1.1\r\nHost: x\r\nconnection: upgrade\r\nUpgrade: DERP\r\n\r\n";
        let relay = |fast_start, head| Wants::Relay {
            head,
            fast_start,
            not_ideal: false,
        };
        assert_eq!(classify(upgrade), relay(false, upgrade.len()));
        assert_eq!(
            classify(&[upgrade.as_slice(), b"rest"].concat()),
            relay(false, upgrade.len())
        );
        let post = b"POST https://relay.example/derp HTTP/1.1\r\nUpgrade: DERP\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(classify(post), relay(false, post.len()));
        let fast = b"GET /derp?x=1 HTTP/1.1\r\nUpgrade: derp\r\nDerp-Fast-Start: 1\r\n\r\n";
        assert_eq!(classify(fast), relay(true, fast.len()));
        for http in [
            "GET /derp HTTP/1.1\r\n\r\n",
            "GET /derp HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            "PUT /derp HTTP/1.1\r\nUpgrade: DERP\r\n\r\n",
            "POST /derp HTTP/1.1\r\nUpgrade: DERP\r\nContent-Length: 5\r\n\r\nhello",
            "GET /derp/probe HTTP/1.1\r\nUpgrade: DERP\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\r\n\r\n",
        ] {
            assert_eq!(classify(http.as_bytes()), Wants::Http, "{http:?}");
        }
        assert_eq!(classify(&upgrade[..40]), Wants::Unclear);
    }

    #[test]
    fn websockets_are_told_by_their_subprotocol() {
        let with = |rest: &str| format!("GET /derp HTTP/1.1\r\nUpgrade: WebSocket\r\n{rest}\r\n");
        for header in ["derp", "x, derp ,y"] {
            let request = with(&format!("Sec-WebSocket-Protocol: {header}\r\n"));
            let wanted = Wants::WebSocket { not_ideal: false };
            assert_eq!(classify(request.as_bytes()), wanted, "{header}");
        }
        for header in ["", "Sec-WebSocket-Protocol: derper\r\n"] {
            let request = with(header);
            let legacy = Wants::Relay {
                head: request.len(),
                fast_start: false,
                not_ideal: false,
            };
            assert_eq!(classify(request.as_bytes()), legacy, "{header}");
        }
    }

    #[test]
    fn a_client_says_that_it_wanted_another_node() {
        for upgrade in ["DERP", "websocket\r\nSec-WebSocket-Protocol: derp"] {
            let request =
                format!("GET /derp HTTP/1.1\r\nUpgrade: {upgrade}\r\nIdeal-Node: 1b\r\n\r\n");
            let (Wants::Relay { not_ideal, .. } | Wants::WebSocket { not_ideal }) =
                classify(request.as_bytes())
            else {
                panic!("no upgrade: {request}");
            };
            assert!(not_ideal);
        }
    }

    #[test]
    fn forwarded_addresses_are_found_in_order() {
        let request = b"GET /derp HTTP/1.1\r\nx-forwarded-for: a, b\r\nA: x\r\n\
            X-Forwarded-For: c\r\n\r\nrest";
        assert_eq!(forwarded_for(request), [b"a, b".as_slice(), b"c"]);
        assert!(forwarded_for(b"\x16\x03\x01").is_empty());
    }

    #[test]
    fn a_target_may_be_a_whole_url() {
        for (target, path) in [
            ("/derp", "/derp"),
            ("https://relay.example:8443/derp?x=1", "/derp?x=1"),
            ("https://relay.example", "/"),
            ("/derp?to=https://a/b", "/derp?to=https://a/b"),
            ("*", "*"),
        ] {
            assert_eq!(path_of(target), path);
        }
    }

    #[tokio::test]
    async fn a_head_without_end_is_given_up() {
        let start = b"GET / HTTP/1.1\r\nA: ".as_slice();
        let mut stream = start.chain(tokio::io::repeat(b'a'));
        let (wants, buf) = read_head(&mut stream).await.unwrap();
        assert_eq!(wants, Wants::Unclear);
        assert!(buf.len() >= MAX_HTTP_HEAD);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = (classify(&bytes), forwarded_for(&bytes));
            let _ = classify(&[b"GET /derp HTTP/1.1\r\nUpgrade: ".as_slice(), &bytes].concat());
        }
    }
}
