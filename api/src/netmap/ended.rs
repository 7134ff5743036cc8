//! What a machine is told whose stream ends for good.

use ztna_proto::{ErrorBody, ErrorCode};

/// Why a stream ends for good.
pub(super) enum Ended {
    Deleted,
    Expired,
}

impl Ended {
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Deleted => ErrorBody::new(
                ErrorCode::MachineDeleted,
                "this machine was deleted from its org; enrol it again with `ztna up`",
            ),
            Self::Expired => ErrorBody::new(
                ErrorCode::KeyExpired,
                "this machine's sign-in has expired; sign in again with `ztna up`",
            ),
        }
    }
}
