//! The control plane: people, orgs, auth keys, machines and what each machine is told.
//!
//! A folder per capability, with its routes, its rules and its SQL side by side:
//!
//! * [`identity`]: accounts, sessions, the CLI's sign-in through a browser;
//! * [`orgs`]: orgs and their members;
//! * [`api_keys`]: keys for programs that act for a person;
//! * [`auth_keys`]: keys that enrol machines without a person;
//! * [`machines`]: registration, heartbeat, the machines of an org;
//! * [`policy`]: an org's rules;
//! * [`audit`]: what was changed, and who signed in;
//! * [`posture`]: the health of machines, and what orgs ask of it;
//! * [`realtime`]: what dashboards hear as it happens;
//! * [`relays`]: the relay map, tickets, revocations, health;
//! * [`netmap`]: the machine stream, and the hub that feeds it;
//! * [`releases`]: the agent's, for installers and updates;
//! * [`backup`]: everything in the database, written down and brought back.
//!
//! Below them: [`db`] (PostgreSQL, one transaction per request, row-level security), [`geoip`] (countries of addresses), [`dashboard`] (the dashboard's files), [`kv`] (what
//! may be lost: counters and one-time codes) [`mail`] (letters to people), [`seal`] (secrets at rest), [`text`] (what names may hold) and [`http`] (the envelope, callers, limits,
//! layers).
//!
//! [`App::start`] makes all of it into an [`axum::Router`] that `ztna-api` serves by itself and
//! `ztna-server` beside a relay.

mod api_keys;
mod app;
mod audit;
mod auth_keys;
mod backup;
mod config;
mod dashboard;
mod db;
mod geoip;
mod http;
mod identity;
mod keys;
mod kv;
mod machines;
mod mail;
mod master_key;
mod netmap;
mod network;
mod orgs;
mod policy;
mod posture;
mod realtime;
mod relays;
mod releases;
mod seal;
mod secrets;
mod serve;
mod text;

pub use app::{App, StartError};
pub use backup::{BackupConfig, BackupError, Manifest, Restore, Table, backup, backups, restore};
pub use config::{Config, Limits, MoreFigures, OnCut, RelayFile};
pub use dashboard::{Dashboard, DashboardError};
pub use db::{APP_ROLE, DatabaseConfig, SetupError};
pub use geoip::{GeoIp, GeoIpError};
pub use identity::{GitHubConfig, GoogleConfig, IssuerRules, SignInConfig, SignInFlags, SignUp};
pub use keys::{KeysError, ServerKeys};
pub use kv::{Heard, Kv, KvError, KvFuture, MemoryKv, Rate, ValkeyKv};
pub use mail::{MailConfig, MailError};
pub use master_key::{MasterKeyError, Resealed, forget_old_master_keys, reseal, rotate_master_key};
pub use relays::{RevocationFeed, RevocationFeedError};
pub use releases::{ReleaseKeyError, Releases};
pub use secrets::{DatabaseFlags, MailFlags, SecretError, read_secret, s3_settings, secret};
pub use serve::{default_host, serve_plain, url, write_ready_file};
