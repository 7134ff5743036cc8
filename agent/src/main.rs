//! `ztna`: the command line and the daemon of a machine in a tailnet.

use ztna_mesh::wireguard::Gotatun;

fn main() -> std::process::ExitCode {
    ztna_agent::main(Gotatun::boxed)
}
