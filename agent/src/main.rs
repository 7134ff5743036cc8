//! `ztna`: the command line and the daemon of a machine in a tailnet.

mod cli;
mod control;
mod daemon;
mod platform;
#[cfg(test)]
mod testing;

fn main() -> std::process::ExitCode {
    cli::main()
}
