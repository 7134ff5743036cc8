//! `/api/join`: what a machine has to know to join.

use std::borrow::Cow;

use axum::extract;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::api::{AUTH_KEY_PLACE, JoinInfo, JoinLine};
use ztna_proto::error::Envelope;

use crate::app::State;
use crate::http::{Answer, ok};

/// Systems that there are agents for.
const SYSTEMS: [&str; 3] = ["linux", "macos", "windows"];

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(show))
}

/// What a machine has to know of this deployment to join it.
#[utoipa::path(get, path = "/api/join", tag = "machines", responses((status = 200, body = Envelope<JoinInfo>)))]
async fn show(extract::State(state): extract::State<State>) -> Answer<JoinInfo> {
    let (server, pin) = (&state.public_url, state.pin.as_deref());
    let lines = SYSTEMS.map(|os| {
        // The installers insist on TLS.
        let installer = state.releases.installer(os);
        let installer = installer.filter(|_| server.starts_with("https://"));
        match os {
            "windows" => in_powershell(server, pin, installer.is_some()),
            _ => in_shell(os, server, pin, installer.as_deref()),
        }
    });
    ok(JoinInfo {
        lines: lines.into(),
        server: server.clone(),
        pin: state.pin.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// What programs are told of the control plane, whose address is written as the shell wants it.
fn flags(server: &str, pin: Option<&str>) -> String {
    let pin = pin.map(|pin| format!(" --server-pin {pin}"));
    format!("--server {server}{}", pin.unwrap_or_default())
}

/// A word as a shell takes it: in quotes if anything in it could mean something. `escaped`: a quote within quotes.
fn quoted<'a>(word: &'a str, escaped: &str) -> Cow<'a, str> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b":/._-".contains(&b);
    match word.bytes().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', escaped))),
    }
}

/// For Linux and macOS. `installer`: its digest.
fn in_shell(os: &str, server: &str, pin: Option<&str>, installer: Option<&str>) -> JoinLine {
    const ESCAPED: &str = r"'\''";
    let flags = flags(&quoted(server, ESCAPED), pin);
    let login = format!("ztna login {flags} && sudo ztna up");
    let (login, auth_key) = match installer {
        Some(digest) => {
            let script = format!("{server}/install.sh");
            let script = quoted(&script, ESCAPED);
            // Into a variable first: nothing runs of what came in part. What runs as root is what this server has: where no
            // authority vouches for it, by the digest.
            let fetch = match pin {
                None => format!("script=$(curl -fsSL {script})"),
                Some(_) => format!(
                    "script=$(curl -fsSk {script}) && printf '%s\\n' \"$script\" | openssl dgst -sha256 | grep -o {digest}"
                ),
            };
            (
                format!("{fetch} && sudo sh -c \"$script\" install.sh {flags} && {login}"),
                format!(
                    "{fetch} && sudo ZTNA_AUTH_KEY={AUTH_KEY_PLACE} sh -c \"$script\" install.sh {flags}"
                ),
            )
        }
        None => (
            login,
            format!("sudo ztna up {flags} --auth-key {AUTH_KEY_PLACE}"),
        ),
    };
    JoinLine {
        os: os.to_owned(),
        login,
        auth_key,
        installs: installer.is_some(),
    }
}

/// For Windows, whose PowerShell downloads from servers alone that a public authority knows.
fn in_powershell(server: &str, pin: Option<&str>, has_installer: bool) -> JoinLine {
    const ESCAPED: &str = "''";
    let address = quoted(server, ESCAPED);
    let flags = flags(&address, pin);
    let installs = has_installer && pin.is_none();
    let login = format!("ztna login {flags}; ztna up");
    let (login, auth_key) = match installs {
        true => {
            let script = format!("{server}/install.ps1");
            let script = quoted(&script, ESCAPED);
            let install = format!("& ([scriptblock]::Create((irm {script}))) -Server {address}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_something_to_a_shell_are_quoted() {
        let server = "https://[2001:db8::1]:8443";
        let line = in_shell("macos", server, None, Some("00ff"));
        assert_eq!(
            line.auth_key,
            "script=$(curl -fsSL 'https://[2001:db8::1]:8443/install.sh') && sudo ZTNA_AUTH_KEY=YOUR_KEY sh -c \"$script\" \
             install.sh --server 'https://[2001:db8::1]:8443'"
        );
        assert_eq!(
            in_powershell("https://o'neill", None, false).login,
            "ztna login --server 'https://o''neill'; ztna up"
        );
        assert_eq!(quoted("a'b", r"'\''"), r"'a'\''b'");
    }
}
