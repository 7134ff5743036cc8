//! Timers and bounds that a caller may change.

use std::time::Duration;

/// Timers and bounds of [`crate::Handshakes`]. [`Config::default`] is what the product ships with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Age at which an epoch is replaced if the pair carries traffic. Default 120 s.
    pub rotation: Duration,
    /// Traffic counts as a reason to replace an epoch if it is no older than this at that age. An
    /// epoch whose pair fell silent before is left to end, or to be replaced by the next packet.
    /// Default 30 s.
    pub lately: Duration,
    /// Age at which an epoch that was not replaced is erased. Default 180 s.
    pub expiry: Duration,
    /// How much later than [`Self::rotation`] the epoch's responder starts, so that the two ends
    /// do not start at once. Default 5 s.
    pub responder_lag: Duration,
    /// How long chained (LIGHT) handshakes may follow a FULL one. Default 24 h.
    pub chain_lifetime: Duration,
    /// Wait before the first retransmission; doubles each time. Default 500 ms.
    pub retry_first: Duration,
    /// Longest wait between two retransmissions. Default 5 s.
    pub retry_max: Duration,
    /// Unanswered LIGHT Inits after which the initiator tries FULL. Default 3.
    pub light_tries: u32,
    /// How long Conf is repeated without an Ack before the attempt starts over. Default 8 s.
    pub confirm: Duration,
    /// Life of one attempt, and so of its ephemeral keys. Default 60 s.
    pub attempt: Duration,
    /// Wait before a missing ML-KEM key is asked for again; doubles each time. Default 1 s.
    pub kem_key_retry_first: Duration,
    /// Longest wait between two such questions. Default 30 s.
    pub kem_key_retry_max: Duration,
    /// Age at which the key that seals biscuits is replaced; it is erased at twice that age, which
    /// is how long a recorded handshake depends on the responder's memory. Default 60 s.
    pub biscuit_key: Duration,
    /// Life of a cookie at the initiator; the responder honours it for at least as long.
    /// Default 120 s.
    pub cookie: Duration,
    /// Inits per second that are answered without a cookie; more than that is load. Default 100.
    pub free_inits: u32,
    /// Inits per second that are answered at all: of peers that a relay or a handle names, and as
    /// many again of all others. Default 1,000.
    pub total_inits: u32,
    /// Inits per second that one source (peer, or address without port) gets answered while there is
    /// load. Default 20.
    pub source_inits: u32,
    /// How long half a fragmented message is kept. Default 5 s.
    pub reassembly: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rotation: Duration::from_secs(120),
            lately: Duration::from_secs(30),
            expiry: Duration::from_secs(180),
            responder_lag: Duration::from_secs(5),
            chain_lifetime: Duration::from_secs(24 * 60 * 60),
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(5),
            light_tries: 3,
            confirm: Duration::from_secs(8),
            attempt: Duration::from_secs(60),
            kem_key_retry_first: Duration::from_secs(1),
            kem_key_retry_max: Duration::from_secs(30),
            biscuit_key: Duration::from_secs(60),
            cookie: Duration::from_secs(120),
            free_inits: 100,
            total_inits: 1000,
            source_inits: 20,
            reassembly: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The defaults with another rotation interval; what belongs to it keeps its proportion.
    #[must_use]
    pub fn with_rotation(rotation: Duration) -> Self {
        Self {
            rotation,
            lately: rotation / 4,
            expiry: rotation * 3 / 2,
            responder_lag: rotation / 24,
            ..Self::default()
        }
    }
}
