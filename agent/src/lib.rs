//! `ztna`: the command line and the daemon of a machine in a tailnet. A library only so that a benchmark
//! can run it with another cipher.

mod cli;
mod control;
mod daemon;
mod platform;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod testing;

use ztna_mesh::tunnel::NewWireGuard;

/// Does what the command line says. `wireguard`: what seals packets.
#[must_use]
pub fn main(wireguard: NewWireGuard) -> std::process::ExitCode {
    cli::main(wireguard)
}
