//! The client of the control plane: HTTP API and machine stream.
//!
//! The daemon uses it with the machine token, the command line with a person's session.

mod api;
mod server;
mod stream;

pub use api::Api;
pub use server::{Server, ServerError};
pub use stream::MachineStream;

use ztna_proto::{ErrorBody, ErrorCode};

/// Why a call to the control plane failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It was not reached.
    #[error("cannot reach {url}: {why}; check the address and this machine's network")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened on the way.
        why: String,
    },
    /// It showed another certificate than the pinned one, or one that nobody vouches for.
    #[error("{url} cannot be trusted: {why}")]
    Untrusted {
        /// Where it should be.
        url: String,
        /// What is wrong with the certificate.
        why: String,
    },
    /// It answered no.
    #[error(transparent)]
    Refused(#[from] ErrorBody),
    /// It answered with something that is not of the contract.
    #[error("{url} does not answer as a ztna control plane does ({why}); check the address")]
    NotOurs {
        /// Where it should be.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// TLS cannot be set up with the given pin.
    #[error(transparent)]
    Tls(#[from] ztna_tls::client::ClientConfigError),
}

impl ControlError {
    /// Whether a machine need not try again with the token that it has: it has to register anew.
    #[must_use]
    pub fn ends_registration(&self) -> bool {
        matches!(
            self,
            Self::Refused(ErrorBody {
                code: ErrorCode::Unauthorized | ErrorCode::KeyExpired | ErrorCode::MachineDeleted,
                ..
            })
        )
    }

    /// An error of the transport: untrusted if a certificate was the cause, else unreachable.
    fn transport(url: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let url = url.to_owned();
        let mut cause = Some(error);
        while let Some(error) = cause {
            // An `io::Error` hides what it wraps from `source`.
            let inner = error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .map(|inner| inner as &(dyn std::error::Error + 'static));
            let tls = [Some(error), inner]
                .into_iter()
                .flatten()
                .find_map(|error| error.downcast_ref::<rustls::Error>());
            if let Some(tls) = tls {
                return match tls {
                    rustls::Error::InvalidCertificate(why) => Self::Untrusted {
                        url,
                        why: format!(
                            "its certificate is not valid ({why:?}); if it is self-signed, give \
                             its pin with --server-pin"
                        ),
                    },
                    rustls::Error::Other(why) => Self::Untrusted {
                        url,
                        why: why.to_string(),
                    },
                    other => Self::Unreachable {
                        url,
                        why: format!("TLS: {other}"),
                    },
                };
            }
            cause = error.source();
        }
        Self::Unreachable {
            url,
            why: root_cause(error),
        }
    }
}

/// The innermost message, which is the one that says something.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
