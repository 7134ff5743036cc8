//! The program with its flags, as its operator runs it.

// A failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic)]
// Signals, and a certificate authority from Debian.
#![cfg(unix)]

mod acme;
mod admission;
mod check;
mod ports;
mod relay;
