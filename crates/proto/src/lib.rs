//! The contract between control plane, agents, relays and tools.
//!
//! Everything that crosses a process boundary is defined here once: ids and keys, API requests and
//! answers, error codes, the machine stream (netmap), the relay map, relay tickets and the packet
//! filter. The crate does no IO and reads no clock.

pub mod api;
pub mod audit;
pub mod connections;
pub mod error;
pub mod filter;
pub mod ids;
pub mod keys;
pub mod machines;
pub mod netmap;
pub mod network;
pub mod people;
pub mod policy;
pub mod posture;
pub mod realtime;
pub mod relay;
pub mod releases;
pub mod revocation;
pub mod sso;
pub mod static_peers;
pub mod ticket;
pub mod tokens;

pub use error::{ErrorBody, ErrorCode};
pub use ids::{
    ApiKeyId, AuthKeyId, InvitationId, MachineId, OrgId, PosturePolicyId, RegionId, RuleId,
    SessionId, UserId,
};
pub use keys::{DiscoPrivateKey, DiscoPublicKey, KemKeyHash, WgPrivateKey, WgPublicKey};

/// Capability number of this build, sent in the stream's `hello`.
///
/// It grows by one with every change of the contract that the other side has to know of.
pub const CAPABILITY: u32 = 1;

/// Oldest capability that this build's control plane serves.
pub const MIN_CAPABILITY: u32 = 1;
