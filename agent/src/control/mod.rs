//! The client of the control plane: HTTP API and machine stream.
//!
//! The daemon uses it with the machine token, the command line with a person's session.

mod api;
#[cfg(target_os = "linux")]
mod releases;
mod server;
mod stream;

pub use api::Api;
pub use server::{Server, ServerError};
pub use stream::MachineStream;

use std::error::Error;

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
    fn transport(url: &str, error: &(dyn Error + 'static)) -> Self {
        let url = url.to_owned();
        match chain(error).find_map(|error| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => Self::Untrusted {
                url,
                why: format!(
                    "its certificate is not valid ({why:?}); if it is self-signed, give its pin \
                     with --server-pin"
                ),
            },
            Some(rustls::Error::Other(why)) => Self::Untrusted {
                url,
                why: why.to_string(),
            },
            Some(other) => Self::Unreachable {
                url,
                why: format!("TLS: {other}"),
            },
            None => Self::Unreachable {
                url,
                why: root_cause(error),
            },
        }
    }
}

/// An error, its cause, that one's cause and so on.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // An `io::Error` hides what it wraps from `source`.
        match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// The innermost message, which is the one that says something.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_wrong_certificate_is_told_however_deep_it_is_wrapped() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::other(tls));
        let error = ControlError::transport("https://z.example", &wrapped);
        assert_eq!(
            error.to_string(),
            "https://z.example cannot be trusted: its certificate is not valid (UnknownIssuer); if \
             it is self-signed, give its pin with --server-pin"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn other_trouble_tells_its_root() {
        let wrapped = io::Error::other(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        let error = ControlError::transport("https://z.example", &wrapped);
        assert_eq!(
            error.to_string(),
            "cannot reach https://z.example: Connection refused (os error 111); check the address \
             and this machine's network"
        );
    }

    #[test]
    fn only_some_refusals_end_a_registration() {
        for (code, ends) in [
            (ErrorCode::Unauthorized, true),
            (ErrorCode::KeyExpired, true),
            (ErrorCode::MachineDeleted, true),
            (ErrorCode::Unavailable, false),
            (ErrorCode::InternalError, false),
            (ErrorCode::RateLimited, false),
            (ErrorCode::UpgradeRequired, false),
        ] {
            let error = ControlError::from(ErrorBody::new(code, ""));
            assert_eq!(error.ends_registration(), ends, "{code:?}");
        }
    }
}
