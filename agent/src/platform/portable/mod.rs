//! What macOS and Windows have in common: a TUN device without segmentation offload, routes by the system's
//! own calls, and what is on Linux alone so far.

mod interface;
mod network;
mod routing;
mod socket;
mod tun;

pub use interface::{Addresses, Interface};
pub use routing::{
    Steer, check_forwarding, loosen_source_check, masquerade, on_link, remove_masquerade,
    restore_source_check, strict_source_check, switch_forwarding_on,
};
pub use socket::{grow_buffers, keep_outside};
pub use tun::{Tun, TunReader, TunWriter};

/// How much of this process is in memory, in bytes: not known here yet.
pub fn resident_memory() -> Option<u64> {
    None
}
