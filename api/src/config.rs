//! What a control plane has to be told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use ztna_proto::ids::RegionId;
use ztna_proto::keys::WgPublicKey;
use ztna_proto::machines::EPHEMERAL_SILENCE_SECONDS;
use ztna_proto::posture::POSTURE_STALE_SECONDS;
use ztna_proto::realtime::REALTIME_PING_SECONDS;
use ztna_proto::relay::RegionDocument;

use crate::dashboard::Dashboard;
use crate::db::DatabaseConfig;
use crate::geoip::GeoIp;
use crate::identity::SignInConfig;
use crate::keys::ServerKeys;
use crate::kv::Rate;
use crate::mail::MailConfig;
use crate::releases::Releases;

/// Called with the key of a machine that lost its place in its org, so that a relay in the same
/// process cuts its connection.
pub type OnCut = Arc<dyn Fn(WgPublicKey) + Send + Sync>;

/// Gives figures that the recorder does not hold, in Prometheus' text format: of a relay in the same process.
pub type MoreFigures = Arc<dyn Fn() -> String + Send + Sync>;

/// How to run a control plane.
pub struct Config {
    /// The database.
    pub database: DatabaseConfig,
    /// Where Valkey or Redis is, `redis://host:port/database` (`rediss://` with TLS), for deployments of several
    /// nodes. `None`: counters and one-time codes live in this process.
    pub kv_url: Option<String>,
    /// The authorities that its certificate is checked against, in PEM. `None`: the public web's.
    pub kv_authorities: Option<PathBuf>,
    /// How letters to people are sent. `None`: not at all, and addresses need not be confirmed.
    pub mail: Option<MailConfig>,
    /// What addresses of this control plane start with, as browsers see them.
    pub public_url: String,
    /// The pin of our own certificate, which machines have to be told. `None`: it is a public authority's. Behind
    /// [`Config::trusted_proxies`] it is theirs that machines see.
    pub pin: Option<String>,
    /// Sign-in by others.
    pub sign_in: SignInConfig,
    /// Keys that sign access tokens and relay tickets.
    pub keys: ServerKeys,
    /// Regions to write into the relay map before anything is served; others stay.
    pub relays: Vec<RegionDocument>,
    /// How often every relay is probed.
    pub probe_period: Duration,
    /// Whether relays of orgs are probed that are not on the public internet. Not where strangers
    /// may sign up: they would learn what answers in the server's own network.
    pub allow_private_relays: bool,
    /// What machine names end in, after the org's label.
    pub dns_suffix: String,
    /// How often strangers may try.
    pub limits: Limits,
    /// Proxies in front of us, each of which appends to `X-Forwarded-For`. 0: none, the header is
    /// not believed.
    pub trusted_proxies: usize,
    /// In which country addresses are. `None`: rules that ask for a country are never met.
    pub geoip: Option<GeoIp>,
    /// The dashboard to serve beside the API. `None`: plain pages take the place of those that cannot be missed.
    pub dashboard: Option<Dashboard>,
    /// Releases of the agent to serve. `None`: none.
    pub releases: Option<Releases>,
    /// How often listeners of `/api/realtime` are pinged; three pings without an answer end the connection.
    pub realtime_ping: Duration,
    /// Age at which a posture report says nothing any more.
    pub posture_stale: Duration,
    /// Silence after which an ephemeral machine is deleted.
    pub ephemeral_silence: Duration,
    /// Told of machines that lost their place: deleted, expired, quarantined, locked or disabled.
    pub on_cut: Option<OnCut>,
    /// What `/metrics` says besides.
    pub more_figures: Option<MoreFigures>,
}

impl Config {
    /// Everything but the database and the keys at its default.
    #[must_use]
    pub fn new(database: DatabaseConfig, keys: ServerKeys) -> Self {
        Self {
            database,
            kv_url: None,
            kv_authorities: None,
            mail: None,
            public_url: "https://localhost:8443".to_owned(),
            pin: None,
            sign_in: SignInConfig::default(),
            keys,
            relays: Vec::new(),
            probe_period: Duration::from_secs(5),
            allow_private_relays: false,
            dns_suffix: "ztna.internal".to_owned(),
            limits: Limits::default(),
            trusted_proxies: 0,
            geoip: None,
            dashboard: None,
            releases: None,
            realtime_ping: Duration::from_secs(REALTIME_PING_SECONDS),
            posture_stale: Duration::from_secs(POSTURE_STALE_SECONDS),
            ephemeral_silence: Duration::from_secs(EPHEMERAL_SILENCE_SECONDS),
            on_cut: None,
            more_figures: None,
        }
    }
}

/// The file that holds relay regions: a relay map (`{"regions": {"1": …}}`), each region with its
/// `latitude` and `longitude` if wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayFile {
    /// The regions, by number.
    pub regions: BTreeMap<RegionId, RegionDocument>,
}

/// How often something may be tried.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Failed sign-ins per address.
    pub login: Rate,
    /// Failed sign-ins per account; then it is locked for [`Limits::lockout`].
    pub account: Rate,
    /// How long an account stays locked.
    pub lockout: Duration,
    /// Sign-ins with others that are begun, per address.
    pub sign_in: Rate,
    /// Sign-ups per address.
    pub signup: Rate,
    /// Password resets asked for or confirmed, per address.
    pub reset: Rate,
    /// Letters to one e-mail address.
    pub letters: Rate,
    /// Checks of the password, or of a first code, per person who is signed in.
    pub credentials: Rate,
    /// Looks at invitations, per address.
    pub invitations: Rate,
    /// Calls per API key.
    pub api_key: Rate,
    /// Failed registrations per address. Those that succeed do not count: a fleet may enrol
    /// through one NAT.
    pub registration: Rate,
    /// Calls for revocations per address. A relay makes one every 25 seconds, and one more with
    /// each revocation.
    pub revocations: Rate,
    /// Takings-up of static peers per gateway, which takes up all of them as it starts.
    pub attach: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let rate = |count, window| Rate { count, window };
        Self {
            login: rate(10, minutes(5)),
            account: rate(10, minutes(5)),
            lockout: minutes(15),
            sign_in: rate(60, minutes(5)),
            signup: rate(5, minutes(5)),
            reset: rate(5, minutes(5)),
            letters: rate(5, minutes(5)),
            credentials: rate(5, minutes(5)),
            invitations: rate(30, minutes(5)),
            api_key: rate(60, minutes(1)),
            registration: rate(10, minutes(10)),
            revocations: rate(1200, minutes(5)),
            attach: rate(600, minutes(5)),
        }
    }
}
