//! The HTTP request that turns a TLS stream into a relay connection.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ConnectError;
use crate::{MAX_HTTP_HEAD, MAX_HTTP_HEADERS};

/// What the server's answer amounts to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// More bytes are needed.
    Partial,
    /// Upgraded; the head has so many bytes.
    Upgraded(usize),
    /// Something else, in words.
    Refused(String),
}

/// How the connection goes on after the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With an HTTP answer.
    Answered,
    /// With DERP at once: the relay has shown by its certificates that it is one.
    Fast,
}

/// Asks for the upgrade; gives back what was read beyond the answer.
pub(super) async fn upgrade<S>(
    mut stream: S,
    host: &str,
    port: u16,
    start: Start,
) -> Result<(S, BytesMut), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let fast = match start {
        Start::Answered => "",
        Start::Fast => "Derp-Fast-Start: 1\r\n",
    };
    let request = format!(
        "GET /derp HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n{fast}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    if start == Start::Fast {
        return Ok((stream, BytesMut::new()));
    }

    let refused = |reason: String| ConnectError::Upgrade {
        host: host.to_owned(),
        reason,
    };
    let mut buf = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut buf).await? == 0 {
            return Err(refused("it closed the connection".to_owned()));
        }
        match parse(&buf) {
            Answer::Partial if buf.len() >= MAX_HTTP_HEAD => {
                return Err(refused("its answer is too long".to_owned()));
            }
            Answer::Partial => {}
            Answer::Upgraded(head) => {
                buf.advance(head);
                return Ok((stream, buf));
            }
            Answer::Refused(reason) => return Err(refused(reason)),
        }
    }
}

fn parse(buf: &[u8]) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HTTP_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(buf) {
        Ok(httparse::Status::Partial) => return Answer::Partial,
        Ok(httparse::Status::Complete(head)) => head,
        Err(error) => return Answer::Refused(format!("not an HTTP answer ({error})")),
    };
    let status = response.code.unwrap_or_default();
    let derp = response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("upgrade") && header.value.eq_ignore_ascii_case(b"derp")
    });
    if status == 101 && derp {
        return Answer::Upgraded(head);
    }
    Answer::Refused(format!("HTTP status {status}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_switch_to_derp_counts() {
        let good = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\nrest";
        assert_eq!(parse(good), Answer::Upgraded(good.len() - 4));
        assert_eq!(parse(&good[..30]), Answer::Partial);
        let other = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        assert!(matches!(parse(other), Answer::Refused(_)));
        let full = b"HTTP/1.1 503 Service Unavailable\r\nUpgrade: DERP\r\n\r\n";
        assert_eq!(parse(full), Answer::Refused("HTTP status 503".into()));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"HTTP/1.1 101 ".as_slice(), &bytes].concat());
        }
    }
}
