//! What a machine is told whose stream ends for good.

use ztna_proto::ErrorBody;

use crate::machines;

/// Why a stream ends for good.
pub(super) enum Ended<'a> {
    Deleted,
    Expired,
    /// With the reason that was given.
    Disabled(&'a str),
}

impl Ended<'_> {
    pub fn body(&self) -> ErrorBody {
        let error = match self {
            Self::Deleted => machines::deleted(),
            Self::Expired => machines::expired(),
            Self::Disabled(reason) => machines::disabled(reason),
        };
        error.into_body()
    }
}
