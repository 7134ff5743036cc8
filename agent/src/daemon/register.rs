//! Registration: from a credential to a machine in an org.

use ztna_local::{Failure, FailureKind, UpOptions};
use ztna_proto::api::{MAX_MACHINE_NAME, RegisterRequest};
use ztna_proto::{ErrorBody, ErrorCode};

use super::state::{Keys, Machine, State};
use crate::control::{Api, ControlError};

/// Name of a machine whose own name has nothing that a DNS label may have.
const NAMELESS: &str = "machine";

/// Whether the options hold something to register with.
#[must_use]
pub fn has_credential(options: &UpOptions) -> bool {
    options.auth_key.is_some() || options.access_token.is_some()
}

/// Registers the machine, anew or again, and puts the result into the state.
///
/// A machine that was deleted from its org comes back with new keys: the old ones are the deleted
/// machine's.
///
/// # Errors
/// No credential, or the control plane refused it or was not reached; the state is as it was.
pub async fn register(
    api: &Api,
    state: &mut State,
    options: &UpOptions,
    deleted: bool,
) -> Result<(), Failure> {
    let credential = options.auth_key.as_ref().or(options.access_token.as_ref());
    let Some(credential) = credential else {
        return Err(Failure::new(
            FailureKind::NeedsLogin,
            "this machine is not registered; give an auth key (`sudo ztna up --auth-key KEY`) or \
             sign in first (`ztna login`)",
        ));
    };
    let fresh = deleted.then(Keys::generate);
    let keys = fresh.as_ref().unwrap_or(&state.keys);
    let request = RegisterRequest {
        name: machine_name(state.hostname.as_deref()),
        os: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        wg_key: keys.wg.public(),
        kem_key: keys.kem.public(),
        node_key: match (&state.machine, deleted) {
            (Some(machine), false) => Some(machine.token.clone()),
            _ => None,
        },
        org: options.org,
    };
    let registered = api
        .register(credential.expose(), &request)
        .await
        .map_err(|error| explain(&error))?;
    state.machine = Some(Machine::from(registered));
    if let Some(fresh) = fresh {
        state.keys = fresh;
    }
    Ok(())
}

/// What a refusal means and what to do next, in one line.
fn explain(error: &ControlError) -> Failure {
    let ControlError::Refused(ErrorBody { code, message }) = error else {
        return Failure::new(FailureKind::Failed, error.to_string());
    };
    let next = match code {
        ErrorCode::InvalidKey => "copy the whole key, or ask an admin of the org for a new one",
        ErrorCode::KeyUsed | ErrorCode::KeyExpired => "ask an admin of the org for a new auth key",
        ErrorCode::Unauthorized => "sign in again with `ztna login`",
        ErrorCode::RegistrationConflict => {
            "forget the old registration with `sudo ztna logout --forget`, then run `ztna up` again"
        }
        ErrorCode::UpgradeRequired => "install a newer ztna",
        ErrorCode::RateLimited | ErrorCode::Unavailable | ErrorCode::InternalError => {
            "try again in a moment"
        }
        _ => "",
    };
    let kind = match code {
        ErrorCode::InvalidKey
        | ErrorCode::KeyUsed
        | ErrorCode::KeyExpired
        | ErrorCode::Unauthorized => FailureKind::NeedsLogin,
        _ => FailureKind::Failed,
    };
    Failure::new(kind, with_next_step(message, next))
}

/// Joins a message and the next step, unless the message tells one already.
fn with_next_step(message: &str, next: &str) -> String {
    let message = message.trim_end_matches('.');
    if next.is_empty() || message.contains(';') {
        return format!("registration refused: {message}");
    }
    format!("registration refused: {message}; {next}")
}

/// The wanted name, or the system's, as a DNS label (RFC 1035 §2.3.1).
fn machine_name(wanted: Option<&str>) -> String {
    let system = crate::platform::host_name();
    label(wanted.or(system.as_deref()).unwrap_or_default())
}

fn label(name: &str) -> String {
    let host = name.split('.').next().unwrap_or_default();
    let mut label: String = host
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    label.truncate(MAX_MACHINE_NAME);
    let label = label.trim_matches('-');
    if label.is_empty() {
        return NAMELESS.to_owned();
    }
    label.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_labels() {
        for (name, expected) in [
            ("db-1", "db-1"),
            ("DB_1.example.com", "db-1"),
            ("Anna's laptop", "anna-s-laptop"),
            ("-x-", "x"),
            ("", NAMELESS),
            ("___", NAMELESS),
            ("日本", NAMELESS),
        ] {
            assert_eq!(label(name), expected, "{name:?}");
        }
        assert_eq!(label(&"a".repeat(100)).len(), MAX_MACHINE_NAME);
    }

    #[test]
    fn refusals_are_one_line_with_the_next_step() {
        let refused = |code, message: &str| {
            let failure = explain(&ErrorBody::new(code, message).into());
            (failure.kind, failure.message)
        };
        assert_eq!(
            refused(ErrorCode::InvalidKey, "this auth key is not known"),
            (
                FailureKind::NeedsLogin,
                "registration refused: this auth key is not known; copy the whole key, or ask an \
                 admin of the org for a new one"
                    .to_owned()
            )
        );
        assert_eq!(
            refused(ErrorCode::KeyUsed, "this auth key was used.").1,
            "registration refused: this auth key was used; ask an admin of the org for a new auth \
             key"
        );
        assert_eq!(
            refused(ErrorCode::KeyExpired, "it expired; make a new one").1,
            "registration refused: it expired; make a new one"
        );
    }
}
