//! `/api/join`: what a machine has to know to join.

use axum::extract;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{AUTH_KEY_PLACE, JoinInfo, JoinLine};
use ztna_proto::error::Envelope;

use crate::app::State;
use crate::config::OwnCertificate;
use crate::http::{Answer, ok};

/// Systems that there are agents for.
const SYSTEMS: [&str; 3] = ["linux", "macos", "windows"];

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show))
}

/// What a machine has to know of this deployment to join it.
#[utoipa::path(get, path = "/api/join", tag = "machines", responses((status = 200, body = Envelope<JoinInfo>)))]
async fn show(extract::State(state): extract::State<State>) -> Answer<JoinInfo> {
    let (server, certificate) = (&state.public_url, state.certificate.as_ref());
    let lines = SYSTEMS.map(|os| {
        let installs = state.releases.installs(os);
        match os {
            "windows" => in_powershell(server, certificate, installs),
            _ => in_shell(os, server, certificate, installs),
        }
    });
    ok(JoinInfo {
        lines: lines.into(),
        server: server.clone(),
        pin: certificate.map(|certificate| certificate.pin.clone()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// What programs are told of the control plane.
fn flags(server: &str, certificate: Option<&OwnCertificate>) -> String {
    let pin = certificate.map(|certificate| format!(" --server-pin {}", certificate.pin));
    format!("--server {server}{}", pin.unwrap_or_default())
}

/// For Linux and macOS.
fn in_shell(
    os: &str,
    server: &str,
    certificate: Option<&OwnCertificate>,
    installs: bool,
) -> JoinLine {
    let flags = flags(server, certificate);
    // The installer insists on TLS.
    let installs = installs && server.starts_with("https://");
    let login = format!("ztna login {flags} && sudo ztna up");
    let (login, auth_key) = match installs {
        true => {
            // What is run as root comes from the server that was meant, or not at all.
            let trust = certificate.map(|certificate| {
                let digest = BASE64.encode(certificate.public_key_sha256);
                format!("k --pinnedpubkey 'sha256//{digest}'")
            });
            let fetch = format!(
                "curl -fsSL{} {server}/install.sh",
                trust.unwrap_or_default()
            );
            (
                format!("{fetch} | sudo sh -s -- {flags} && {login}"),
                format!("{fetch} | sudo ZTNA_AUTH_KEY={AUTH_KEY_PLACE} sh -s -- {flags}"),
            )
        }
        false => (
            login,
            format!("sudo ztna up {flags} --auth-key {AUTH_KEY_PLACE}"),
        ),
    };
    JoinLine {
        os: os.to_owned(),
        login,
        auth_key,
        installs,
    }
}

/// For Windows, whose PowerShell downloads from servers alone that a public authority knows.
fn in_powershell(server: &str, certificate: Option<&OwnCertificate>, installs: bool) -> JoinLine {
    let flags = flags(server, certificate);
    let installs = installs && certificate.is_none() && server.starts_with("https://");
    let login = format!("ztna login {flags}; ztna up");
    let (login, auth_key) = match installs {
        true => {
            let install =
                format!("& ([scriptblock]::Create((irm {server}/install.ps1))) -Server {server}");
            (
                format!("{install}; {login}"),
                format!("$env:ZTNA_AUTH_KEY = '{AUTH_KEY_PLACE}'; {install}"),
            )
        }
        false => (
            login,
            format!("ztna up {flags} --auth-key {AUTH_KEY_PLACE}"),
        ),
    };
    JoinLine {
        os: "windows".to_owned(),
        login,
        auth_key,
        installs,
    }
}
