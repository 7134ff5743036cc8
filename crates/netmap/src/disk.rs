//! The map on the machine's disk, from which it starts when the control plane is away.
//!
//! The file says who the org's machines are, so it is written with mode 0600. It holds no secret
//! and is trusted as far as its owner is: the hash finds damage, not forgery.

use serde::{Deserialize, Serialize};
use ztna_proto::netmap::{FullMap, PeerVolatile};

use crate::volatile::VolatileStates;
use crate::{Durable, Netmap, NetmapError};

/// Largest text that [`Netmap::load`] reads, in bytes.
pub const MAX_SAVED: usize = 256 * 1024 * 1024;

/// Form of the text. A text of another form is not read.
const FORMAT: u32 = 1;

/// Why a saved map cannot be used. Start without it; the control plane sends a full map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is larger than [`MAX_SAVED`].
    #[error("the saved map has {0} bytes, more than any map has; delete it")]
    TooLarge(usize),
    /// It is not the text that [`Netmap::save`] makes.
    #[error("the saved map cannot be read ({0}); delete it, the control plane sends a new one")]
    Syntax(String),
    /// It was written by a version with another form.
    #[error("the saved map has form {0}, this version reads {FORMAT}; delete it")]
    Format(u32),
    /// It is damaged.
    #[error("the saved map is damaged: {0}")]
    Damaged(#[from] NetmapError),
}

#[derive(Serialize, Deserialize)]
struct Saved {
    format: u32,
    map: Option<FullMap>,
    volatile: Vec<PeerVolatile>,
}

/// Read first, so that another form is not called a syntax error.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

impl Netmap {
    /// The map as text for the disk, with what is known of how peers are reached.
    #[must_use]
    pub fn save(&self) -> String {
        let map = self.durable.as_ref();
        let saved = Saved {
            format: FORMAT,
            map: map.map(|durable| durable.records.full(durable.seq)),
            volatile: self.volatile.values().cloned().collect(),
        };
        #[allow(clippy::expect_used)] // Strings, numbers and text that was JSON before.
        serde_json::to_string(&saved).expect("a map is JSON")
    }

    /// Reads what [`Netmap::save`] made. Volatile state is not current.
    ///
    /// # Errors
    /// The text is not whole and unchanged. There is never half a map.
    pub fn load(text: &str) -> Result<Self, LoadError> {
        if text.len() > MAX_SAVED {
            return Err(LoadError::TooLarge(text.len()));
        }
        let syntax = |error: serde_json::Error| LoadError::Syntax(error.to_string());
        let Form { format } = serde_json::from_str(text).map_err(syntax)?;
        if format != FORMAT {
            return Err(LoadError::Format(format));
        }
        let saved: Saved = serde_json::from_str(text).map_err(syntax)?;
        Ok(Self {
            durable: saved.map.map(Durable::from_full).transpose()?,
            volatile: VolatileStates::restored(saved.volatile),
            resync_pending: false,
        })
    }
}
