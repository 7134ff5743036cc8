//! `ztna login`

use std::io::{IsTerminal, stderr, stdin};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use clap::Args;
use rand::Rng;
use reqwest::Url;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use ztna_proto::api::{CLI_LOGIN_PATH, Session};

use super::browser::Callback;
use super::session::{Kept, Store};
use super::{ServerArgs, ui};
use crate::control::{Api, Server};
use crate::platform::open_browser;

/// Signs you in by browser, so that `ztna up` can join your org without an auth key
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct LoginArgs {
    #[command(flatten)]
    server: ServerArgs,
}

const EXAMPLES: &str = "Examples:
  ztna login --server https://ztna.example
  ztna login                                 with the control plane of the last time

The browser has to run on this machine. On a server without one, forward the printed port
(`ssh -L PORT:127.0.0.1:PORT …`) or join with an auth key.";

/// How long a person may take in the browser.
const PATIENCE: Duration = Duration::from_secs(300);
/// Random bytes of a verifier (RFC 7636 §4.1 recommends 32) and of a state.
const SECRET_LEN: usize = 32;

pub async fn run(args: LoginArgs) -> anyhow::Result<ExitCode> {
    let store = Store::of_caller()?;
    let named = args.server.server.as_deref();
    let server = match named {
        Some(url) => Server::parse(
            url,
            args.server.server_pin.as_deref(),
            args.server.allow_http,
        )?,
        None => match store.load()? {
            Some(kept) => kept.server,
            None => bail!("no control plane is known yet; name it: `ztna login --server URL`"),
        },
    };
    let session = sign_in(&server).await?;
    store.save(&Kept::of(server.clone(), &session))?;
    let me = Api::new(server)?.me(&session.access_token).await?;
    ui::line(format_args!(
        "signed in as {}; join with `sudo ztna up`",
        me.email
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a person sits before the terminal, who can be sent to the browser.
pub fn somebody_is_there() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// Sends the person to the browser and waits for the session (PKCE, S256).
///
/// # Errors
/// The control plane was not reached or refused, or nobody came back in time.
pub async fn sign_in(server: &Server) -> anyhow::Result<Session> {
    let callback = Callback::listen().await?;
    let verifier = random_text();
    let state = random_text();
    let url = login_url(server, &challenge(&verifier), callback.port(), &state)?;
    ui::note(format_args!("Sign in at {url}"));
    open_browser(url.as_str());
    let Ok(code) = timeout(PATIENCE, callback.code(&state)).await else {
        bail!(
            "nobody signed in within {} minutes; run `ztna login` again",
            PATIENCE.as_secs() / 60
        );
    };
    Ok(Api::new(server.clone())?.exchange(code?, verifier).await?)
}

fn login_url(server: &Server, challenge: &str, port: u16, state: &str) -> anyhow::Result<Url> {
    let page = format!("{}{CLI_LOGIN_PATH}", server.origin());
    let query = [
        ("challenge", challenge),
        ("port", &port.to_string()),
        ("state", state),
    ];
    Url::parse_with_params(&page, query).context("the sign-in page has no address")
}

/// RFC 7636 §4.2
fn challenge(verifier: &str) -> String {
    BASE64URL.encode(Sha256::digest(verifier.as_bytes()))
}

fn random_text() -> String {
    let mut bytes = [0; SECRET_LEN];
    rand::rng().fill_bytes(&mut bytes);
    BASE64URL.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_rfcs() {
        // RFC 7636, appendix B
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn the_page_gets_what_it_needs_and_not_the_verifier() {
        let server = Server::parse("https://z.example:8443", None, false).unwrap();
        let url = login_url(&server, "c-h", 4711, "s_t").unwrap();
        assert_eq!(
            url.as_str(),
            "https://z.example:8443/cli-login?challenge=c-h&port=4711&state=s_t"
        );
    }
}
