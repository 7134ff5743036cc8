//! PostgreSQL: the truth.
//!
//! Every query runs in a transaction that names what it works for: an org, a person, or neither
//! ([`Connection::org`], [`Connection::person`], [`Connection::bare`]). Row-level security holds it
//! to that: a query that forgets its org sees nothing. It names who acts, too, for the audit log, whose
//! triggers write what the transaction changes.

mod setup;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};
use ztna_proto::ids::{OrgId, UserId};

pub use setup::{APP_ROLE, SetupError};
pub(crate) use setup::{
    SCHEMA, blind_account, connect, end_restore, lock, make_schema, newest_migration, prepare,
    schema_version,
};

/// By which the connections of nodes are known to the database.
pub(crate) const APPLICATION: &str = "ztna-api";

use crate::http::{Actor, ApiError, act_as, actor_setting};

/// A query's error with what the server said.
pub(crate) fn detail(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.to_string(),
        None => error.to_string(),
    }
}

/// Connections that requests share.
const MAX_CONNECTIONS: usize = 24;
/// A request waits this long for one of them, then the caller is told to come back.
const WAIT: Duration = Duration::from_secs(10);
/// One statement may take this long.
const STATEMENT_TIMEOUT: &str = "20s";
/// A transaction of ours never waits for anything but the database.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "30s";

/// Where the database is.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// For start-up: makes roles (where it may) and runs migrations.
    pub setup: tokio_postgres::Config,
    /// For requests, as [`APP_ROLE`]. `None`: the same as `setup`, with `SET ROLE`.
    pub app: Option<tokio_postgres::Config>,
}

/// The connections.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    /// How often no connection came free in time.
    timeouts: Arc<AtomicU64>,
}

/// How the connections are used at a moment.
pub(crate) struct PoolFigures {
    pub in_use: u64,
    pub idle: u64,
    pub max: u64,
    /// Calls that wait for one.
    pub waiting: u64,
    /// Calls that have waited in vain, since the start.
    pub timeouts: u64,
}

impl Db {
    /// Prepares the schema and opens the pool.
    pub(crate) async fn open(config: &DatabaseConfig) -> Result<Self, SetupError> {
        setup::prepare(&config.setup).await?;
        let mut app = config.app.clone().unwrap_or_else(|| config.setup.clone());
        app.application_name(APPLICATION);
        let manager = Manager::from_config(
            app,
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(MAX_CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(WAIT))
            .recycle_timeout(Some(WAIT))
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move {
                    client
                        .batch_execute(&format!(
                            "SET ROLE {APP_ROLE};
                             SET search_path = {schema};
                             SET timezone = 'UTC';
                             SET statement_timeout = '{STATEMENT_TIMEOUT}';
                             SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_TIMEOUT}'",
                            schema = setup::SCHEMA,
                        ))
                        .await
                        .map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|error| SetupError::Pool(error.to_string()))?;
        let db = Self {
            pool,
            timeouts: Arc::default(),
        };
        db.check_rights().await?;
        Ok(db)
    }

    /// A connection for one request.
    pub(crate) async fn connect(&self) -> Result<Connection, ApiError> {
        Ok(Connection(self.get().await?))
    }

    /// How the connections are used now.
    pub(crate) fn figures(&self) -> PoolFigures {
        let status = self.pool.status();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        PoolFigures {
            in_use: count(status.size.saturating_sub(status.available)),
            idle: count(status.available),
            max: count(status.max_size),
            waiting: count(status.waiting),
            timeouts: self.timeouts.load(Ordering::Relaxed),
        }
    }

    async fn get(&self) -> Result<Object, PoolError> {
        let got = self.pool.get().await;
        if matches!(got, Err(PoolError::Timeout(_))) {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
        }
        got
    }

    /// Takes an advisory lock for as long as the answer lives. `None`: another process has it.
    pub(crate) async fn lead(&self, lock: i64) -> Result<Option<Lead>, ApiError> {
        let mut lead = Lead(Some(self.get().await?));
        let Some(client) = &lead.0 else {
            return Ok(None);
        };
        let row = client
            .query_one("SELECT pg_try_advisory_lock($1)", &[&lock])
            .await?;
        if row.get(0) {
            return Ok(Some(lead));
        }
        // Nothing hangs on this connection: back into the pool with it.
        lead.0.take();
        Ok(None)
    }

    /// Refuses to serve with more rights than the policies of the schema reckon with.
    async fn check_rights(&self) -> Result<(), SetupError> {
        let client = self
            .get()
            .await
            .map_err(|error| SetupError::Pool(error.to_string()))?;
        let row = client
            .query_one(
                "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
                &[],
            )
            .await?;
        if row.get(0) {
            return Err(SetupError::TooPowerful);
        }
        Ok(())
    }
}

/// An advisory lock, held by a connection of its own.
pub(crate) struct Lead(Option<deadpool_postgres::Object>);

impl Lead {
    /// Whether the lock is still held: it goes with the connection.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) async fn check(&self) -> Result<(), ApiError> {
        if let Some(client) = &self.0 {
            client.query_one("SELECT 1", &[]).await?;
        }
        Ok(())
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Closed, not given back to the pool, which would go on holding the lock.
        if let Some(client) = self.0.take() {
            drop(deadpool_postgres::Object::take(client));
        }
    }
}

/// A connection out of the pool.
pub(crate) struct Connection(deadpool_postgres::Object);

impl Connection {
    /// A transaction within an org.
    pub(crate) async fn org(&mut self, org: OrgId) -> Result<Tx<'_>, ApiError> {
        self.scoped("ztna.org", &org.to_string()).await
    }

    /// A transaction for a person, who acts, unless it is known that somebody else does.
    pub(crate) async fn person(&mut self, user: UserId) -> Result<Tx<'_>, ApiError> {
        act_as(Actor::User(user));
        self.scoped("ztna.user", &user.to_string()).await
    }

    /// A transaction that sees no org: for the relay map, and for the look-ups that the schema
    /// lists.
    pub(crate) async fn bare(&mut self) -> Result<Tx<'_>, ApiError> {
        Ok(Tx(self.0.transaction().await?))
    }

    /// A look-up that the schema lists, as a transaction of its own that sees no org.
    pub(crate) async fn look_up(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Option<Row>, ApiError> {
        let statement = self.0.prepare_cached(sql).await?;
        Ok(self.0.query_opt(&statement, params).await?)
    }

    /// A transaction within an org that only reads, and sees one state of the database throughout.
    pub(crate) async fn org_snapshot(&mut self, org: OrgId) -> Result<Tx<'_>, ApiError> {
        let tx = self
            .0
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let tx = Tx(tx);
        tx.enter("ztna.org", &org.to_string()).await?;
        Ok(tx)
    }

    async fn scoped(&mut self, setting: &str, value: &str) -> Result<Tx<'_>, ApiError> {
        let tx = self.bare().await?;
        tx.enter(setting, value).await?;
        Ok(tx)
    }
}

/// A transaction. Dropped without [`Tx::commit`], it is rolled back.
pub(crate) struct Tx<'a>(deadpool_postgres::Transaction<'a>);

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Tx<'_> {
    async fn enter(&self, setting: &str, value: &str) -> Result<(), ApiError> {
        self.execute(
            "SELECT set_config($1, $2, true), set_config('ztna.actor', $3, true),
                    set_config('ztna.now', $4, true)",
            &[
                &setting,
                &value,
                &actor_setting(),
                &Timestamp::now().to_string(),
            ],
        )
        .await?;
        Ok(())
    }

    /// Works on within an org that the transaction has just made.
    pub(crate) async fn enter_org(&self, org: OrgId) -> Result<(), ApiError> {
        self.enter("ztna.org", &org.to_string()).await
    }

    /// Works on for a person.
    pub(crate) async fn enter_person(&self, user: UserId) -> Result<(), ApiError> {
        act_as(Actor::User(user));
        self.enter("ztna.user", &user.to_string()).await
    }

    /// Names who acts, in a transaction that works for nobody.
    pub(crate) async fn announce(&self) -> Result<(), ApiError> {
        let actor = actor_setting();
        self.execute("SELECT set_config('ztna.actor', $1, true)", &[&actor])
            .await?;
        Ok(())
    }

    pub(crate) async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, ApiError> {
        let statement = self.0.prepare_cached(sql).await?;
        Ok(self.0.execute(&statement, params).await?)
    }

    pub(crate) async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, ApiError> {
        let statement = self.0.prepare_cached(sql).await?;
        Ok(self.0.query(&statement, params).await?)
    }

    pub(crate) async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, ApiError> {
        let statement = self.0.prepare_cached(sql).await?;
        Ok(self.0.query_one(&statement, params).await?)
    }

    pub(crate) async fn query_opt(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Option<Row>, ApiError> {
        let statement = self.0.prepare_cached(sql).await?;
        Ok(self.0.query_opt(&statement, params).await?)
    }

    pub(crate) async fn commit(self) -> Result<(), ApiError> {
        Ok(self.0.commit().await?)
    }
}
