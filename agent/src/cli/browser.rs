//! The browser's half of a sign-in: opens it, and waits at a loopback address until it comes back
//! with a one-time code (RFC 8252 §7.3).

use std::convert::Infallible;
use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Where the browser is sent back to.
const CALLBACK_PATH: &str = "/callback";

/// A server for one visit of the browser.
pub struct Callback {
    listener: TcpListener,
    port: u16,
}

impl Callback {
    /// Listens at a free port of the loopback address.
    ///
    /// # Errors
    /// The system refused.
    pub async fn listen() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("cannot listen at 127.0.0.1 for the browser's return")?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the browser and gives the code that it brings. Visits without the right `state`
    /// are not the browser's that was sent away, and do not count.
    ///
    /// # Errors
    /// The sign-in was refused there.
    pub async fn code(self, state: &str) -> anyhow::Result<String> {
        let (sender, mut receiver) = mpsc::channel(1);
        loop {
            tokio::select! {
                Some(result) = receiver.recv() => return result,
                accepted = self.listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let (sender, state) = (sender.clone(), state.to_owned());
                    tokio::spawn(async move {
                        let service = service_fn(move |request: Request<Incoming>| {
                            let (answer, result) = visit(request.uri(), &state);
                            let sender = sender.clone();
                            async move {
                                if let Some(result) = result {
                                    // The second visit of an impatient browser.
                                    let _ = sender.try_send(result);
                                }
                                Ok::<_, Infallible>(answer)
                            }
                        });
                        // A visitor that hangs up is none.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .keep_alive(false)
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            }
        }
    }
}

/// What a visitor sees, and what its visit means.
fn visit(uri: &http::Uri, state: &str) -> (Response<Full<Bytes>>, Option<anyhow::Result<String>>) {
    let parsed = Url::parse("http://127.0.0.1")
        .and_then(|base| base.join(&uri.to_string()))
        .ok()
        .filter(|url| url.path() == CALLBACK_PATH);
    let Some(url) = parsed else {
        return (page(StatusCode::NOT_FOUND, "Nothing is here."), None);
    };
    let parameter = |name| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    if parameter("state").as_deref() != Some(state) {
        let text = "This sign-in was not begun by the ztna that waits here.";
        return (page(StatusCode::BAD_REQUEST, text), None);
    }
    match parameter("code") {
        Some(code) => {
            let text = "You are signed in. Go back to the terminal; this window can be closed.";
            (page(StatusCode::OK, text), Some(Ok(code)))
        }
        None => {
            let text = "You are not signed in. Run <code>ztna login</code> again.";
            let refused = refused(parameter("error").as_deref());
            (page(StatusCode::OK, text), Some(refused))
        }
    }
}

fn refused(why: Option<&str>) -> anyhow::Result<String> {
    let why: String = why
        .unwrap_or("no code came back")
        .chars()
        .filter(|c| !c.is_control())
        .take(100)
        .collect();
    bail!("the sign-in was refused: {why}; run `ztna login` again")
}

fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>ztna</title>\
         <style>body{{font:1.1rem system-ui;margin:20vh auto;max-width:32rem;text-align:center;\
         color-scheme:light dark}}</style><p>{text}</p></html>"
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let html = header::HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    let bare = header::HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(header::CONTENT_SECURITY_POLICY, bare);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(port: u16, path: &str) -> u16 {
        let client = reqwest::Client::builder().no_proxy();
        let tls = ztna_tls::client_config(
            &ztna_proto::relay::CertificatePin::WebPki,
            ztna_tls::KeyExchange::PreferPostQuantum,
        )
        .unwrap();
        let client = client.tls_backend_preconfigured((*tls).clone()).build();
        let response = client
            .unwrap()
            .get(format!("http://127.0.0.1:{port}{path}"))
            .send()
            .await
            .unwrap();
        response.status().as_u16()
    }

    #[tokio::test]
    async fn only_the_browser_that_was_sent_away_brings_the_code() {
        let callback = Callback::listen().await.unwrap();
        let port = callback.port();
        let waiting = tokio::spawn(async move { callback.code("right").await });
        assert_eq!(get(port, "/favicon.ico").await, 404);
        assert_eq!(get(port, "/callback?code=evil&state=wrong").await, 400);
        assert_eq!(get(port, "/callback?code=evil").await, 400);
        assert!(!waiting.is_finished());
        assert_eq!(get(port, "/callback?code=a%2Bb&state=right").await, 200);
        assert_eq!(waiting.await.unwrap().unwrap(), "a+b");
    }

    #[tokio::test]
    async fn a_refusal_is_told() {
        let callback = Callback::listen().await.unwrap();
        let port = callback.port();
        let waiting = tokio::spawn(async move { callback.code("s").await });
        assert_eq!(
            get(port, "/callback?error=access_denied&state=s").await,
            200
        );
        let error = waiting.await.unwrap().unwrap_err().to_string();
        assert_eq!(
            error,
            "the sign-in was refused: access_denied; run `ztna login` again"
        );
    }
}
