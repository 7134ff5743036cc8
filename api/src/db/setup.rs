//! Roles and migrations, before anything is served.

use std::time::Duration;

use refinery::Target;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient, NoTls};

/// Role that requests run as: no table of its own, bound by row-level security.
pub const APP_ROLE: &str = "ztna_app";
/// Role that owns the tables.
const OWNER_ROLE: &str = "ztna_owner";
/// Role of the functions that look across orgs.
const LOOKUP_ROLE: &str = "ztna_lookup";
/// Role of the functions that write the audit log.
const AUDIT_ROLE: &str = "ztna_audit";
/// Schema that holds everything of ours.
pub(crate) const SCHEMA: &str = "ztna";
/// Oldest server, as `server_version_num` counts.
const MIN_VERSION: i32 = 150_000;
/// What the schema is called while a restore goes on.
const RESTORING: &str = "a restore is going on";
/// Key of the advisory lock under which one node at a time migrates. Any number of ours.
const LOCK: i64 = 0x7a74_6e61_6d69_6772;
/// A database that is just starting gets this long.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_PAUSE: Duration = Duration::from_millis(250);

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No connection.
    #[error("cannot connect to the database: {0}; check DATABASE_URL and that PostgreSQL runs")]
    Connect(tokio_postgres::Error),
    /// A query failed.
    #[error("preparing the database failed: {0}")]
    Query(#[from] tokio_postgres::Error),
    /// Too old.
    #[error("the database is PostgreSQL {0}; version 15 or newer is needed")]
    Version(String),
    /// The roles are missing and we may not make them.
    #[error(
        "the database lacks the control plane's roles, and the account of DATABASE_URL may not make \
         them. Have an administrator run:\n{0}"
    )]
    Roles(String),
    /// A migration failed.
    #[error("migrating the database failed: {0}")]
    Migration(#[from] refinery::Error),
    /// A restore was cut short: rows are missing.
    #[error(
        "a restore into this database was cut short; run it again with --replace (`ztna-api restore`)"
    )]
    HalfRestored,
    /// Requests would run with rights that row-level security does not bind.
    #[error(
        "{APP_ROLE} is a superuser or has BYPASSRLS; take that away: ALTER ROLE {APP_ROLE} NOSUPERUSER NOBYPASSRLS"
    )]
    TooPowerful,
    /// The pool does not open.
    #[error("cannot connect to the database as {APP_ROLE}: {0}")]
    Pool(String),
}

/// Makes roles and schema where they are missing, and migrates.
pub(crate) async fn prepare(config: &tokio_postgres::Config) -> Result<(), SetupError> {
    let mut client = connect(config).await?;
    begin(&client).await?;
    let comment = client
        .query_one(
            "SELECT obj_description(to_regnamespace($1), 'pg_namespace') IS NOT DISTINCT FROM $2",
            &[&SCHEMA, &RESTORING],
        )
        .await?;
    if comment.get(0) {
        return Err(SetupError::HalfRestored);
    }
    migrate(&mut client, Target::Latest).await
}

/// Makes an empty schema as it was after an earlier migration, in which nothing is served until
/// [`end_restore`].
pub(crate) async fn make_schema(client: &mut Client, version: i32) -> Result<(), SetupError> {
    begin(client).await?;
    client
        .batch_execute(&format!("COMMENT ON SCHEMA {SCHEMA} IS '{RESTORING}'"))
        .await?;
    migrate(client, Target::Version(version)).await
}

/// The rows are in: nodes may serve the database.
pub(crate) async fn end_restore(client: &impl GenericClient) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&format!("COMMENT ON SCHEMA {SCHEMA} IS NULL"))
        .await
}

/// The last migration that the database has.
pub(crate) async fn schema_version(
    client: &impl GenericClient,
) -> Result<i32, tokio_postgres::Error> {
    let query = format!("SELECT COALESCE(max(version), 0) FROM {SCHEMA}.refinery_schema_history");
    Ok(client.query_one(&query, &[]).await?.get(0))
}

/// The last migration that this build has.
pub(crate) fn newest_migration() -> i32 {
    let runner = embedded::migrations::runner();
    let versions = runner.get_migrations().iter().map(|known| known.version());
    versions.max().unwrap_or_default()
}

/// Takes the turn among nodes that start, and makes what is missing.
async fn begin(client: &Client) -> Result<(), SetupError> {
    let version: String = client
        .query_one("SHOW server_version_num", &[])
        .await?
        .get(0);
    if version.parse().unwrap_or(0) < MIN_VERSION {
        return Err(SetupError::Version(version));
    }
    lock(client).await?;
    make_roles(client).await
}

/// Takes the turn. It ends with the connection, so a crash does not keep the others waiting.
pub(crate) async fn lock(client: &Client) -> Result<(), SetupError> {
    client
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await?;
    Ok(())
}

async fn migrate(client: &mut Client, target: Target) -> Result<(), SetupError> {
    client
        .batch_execute(&format!(
            "SET ROLE {OWNER_ROLE}; SET search_path = {SCHEMA}"
        ))
        .await?;
    let report = embedded::migrations::runner()
        .set_target(target)
        .run_async(client)
        .await?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "the database was migrated");
    }
    Ok(())
}

/// The account of a connection, if row-level security hides rows from it.
pub(crate) async fn blind_account(
    client: &impl GenericClient,
) -> Result<Option<String>, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT rolsuper OR rolbypassrls, rolname::text FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await?;
    let sees: bool = row.get(0);
    Ok((!sees).then(|| row.get(1)))
}

/// Connects, with patience for a database that is just starting.
pub(crate) async fn connect(config: &tokio_postgres::Config) -> Result<Client, SetupError> {
    let deadline = tokio::time::Instant::now() + CONNECT_PATIENCE;
    loop {
        let error = match config.connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "the set-up connection ended");
                    }
                });
                return Ok(client);
            }
            Err(error) => error,
        };
        let starting =
            error.code() == Some(&SqlState::CANNOT_CONNECT_NOW) || error.code().is_none();
        if !starting || tokio::time::Instant::now() >= deadline {
            return Err(SetupError::Connect(error));
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}

async fn make_roles(client: &Client) -> Result<(), SetupError> {
    let missing = "SELECT count(*) < 4 OR NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)
        OR NOT bool_and(pg_has_role(current_user, oid, 'MEMBER'))
        FROM pg_roles WHERE rolname = ANY($2)";
    let roles = [OWNER_ROLE, LOOKUP_ROLE, AUDIT_ROLE, APP_ROLE].as_slice();
    let incomplete: bool = client.query_one(missing, &[&SCHEMA, &roles]).await?.get(0);
    if !incomplete {
        return Ok(());
    }
    let account: String = client
        .query_one("SELECT quote_ident(current_user)", &[])
        .await?
        .get(0);
    let script = role_script(&account);
    match client.batch_execute(&script).await {
        Ok(()) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(SetupError::Roles(script))
        }
        Err(error) => Err(error.into()),
    }
}

/// What an administrator runs where we may not; it may run twice.
fn role_script(account: &str) -> String {
    let create = |role: &str, login: &str| {
        format!(
            "DO $$ BEGIN CREATE ROLE {role} {login} NOBYPASSRLS; \
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;\n"
        )
    };
    [
        create(OWNER_ROLE, "NOLOGIN"),
        create(LOOKUP_ROLE, "NOLOGIN"),
        create(AUDIT_ROLE, "NOLOGIN"),
        create(APP_ROLE, "LOGIN"),
        format!("GRANT {OWNER_ROLE}, {LOOKUP_ROLE}, {AUDIT_ROLE}, {APP_ROLE} TO {account};\n"),
        // The owner gives functions to the two roles, for which it has to be a member of them.
        format!("GRANT {LOOKUP_ROLE}, {AUDIT_ROLE} TO {OWNER_ROLE};\n"),
        format!("CREATE SCHEMA IF NOT EXISTS {SCHEMA} AUTHORIZATION {OWNER_ROLE};\n"),
        format!("GRANT USAGE ON SCHEMA {SCHEMA} TO {APP_ROLE};\n"),
        // A function's owner must be able to create in its schema, as of the change of owner.
        format!("GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {LOOKUP_ROLE}, {AUDIT_ROLE};\n"),
    ]
    .concat()
}
