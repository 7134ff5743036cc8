//! The control plane over HTTP, on a real PostgreSQL.

// Clippy allows these in test functions, not in their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api_keys;
mod audit;
mod backup;
mod common;
mod connections;
mod country;
mod dashboard;
mod faults;
mod health;
mod identity;
mod isolation;
mod kinds;
mod kv;
mod life;
mod lists;
mod machines;
mod mail;
mod master_key;
mod mfa;
mod network;
mod nodes;
mod operation;
mod orgs;
mod own_identities;
mod pages;
mod policy;
mod posture;
mod program;
mod realtime;
mod relays;
mod releases;
mod revocations;
mod schema;
mod sessions;
mod settings;
mod sign_up;
mod sso;
mod sso_accounts;
mod sso_links;
mod sso_others;
mod sso_refusals;
mod static_peers;
mod static_peers_bounds;
mod stream;
mod tenancy;
