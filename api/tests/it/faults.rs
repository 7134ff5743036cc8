//! What the control plane does when what it stands on fails.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ztna_api::{APP_ROLE, App, Config, DatabaseConfig, ServerKeys, StartError};
use ztna_pg::{ADMIN_ROLE, Cluster, Durability, Options};
use ztna_proto::api::Machine;
use ztna_proto::error::ErrorCode;
use ztna_proto::netmap::{ClientMessage, VolatileReport};

use crate::common::client::{Owner, machine};
use crate::common::stream::Stream;
use crate::common::{Server, connect, database};

/// Longer than anything here takes; a test that waits so long has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Registrations that go on while the database restarts.
const LOAD: usize = 40;

/// A cluster that a test may break.
async fn own_cluster(
    folder: &std::path::Path,
    durability: Durability,
) -> (Cluster, DatabaseConfig) {
    let cluster = Cluster::start(Options {
        folder: folder.to_owned(),
        durability,
        roles: vec![APP_ROLE.to_owned()],
    })
    .await
    .unwrap();
    cluster.create_database("t").await.unwrap();
    let config = DatabaseConfig {
        setup: cluster.config(ADMIN_ROLE, "t"),
        app: Some(cluster.config(APP_ROLE, "t")),
    };
    (cluster, config)
}

/// Every call is answered or refused as unavailable, what was answered is there, and streams go on.
#[tokio::test]
async fn the_database_dies_under_load_and_nothing_that_was_answered_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (cluster, config) = own_cluster(folder.path(), Durability::Safe).await;
    let server = Server::start_on_database(config, |_| {}).await;
    let owner = Owner::new(&server, "acme").await;
    let (_, watcher) = owner.enrol("watcher").await;
    let mut at_watcher = Stream::connect(&server, &watcher.node_key).await;
    let with_key = owner.client.bearer(owner.key.key.expose());

    let pid = cluster.pid().unwrap();
    let machines: Vec<_> = (0..LOAD).map(|n| machine(&format!("m{n}"))).collect();
    let calls = machines.iter().enumerate().map(|(n, machine)| {
        let with_key = with_key.clone();
        async move {
            // Spread over the restart.
            tokio::time::sleep(Duration::from_millis(50 * n as u64)).await;
            with_key.register(machine).await
        }
    });
    let kill = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let killed = std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status();
        assert!(killed.unwrap().success());
    };
    let (results, ()) = tokio::join!(join_all(calls), kill);
    let mut registered: Vec<String> = Vec::new();
    for result in results {
        match result {
            Ok(done) => registered.push(done.name),
            Err(error) => assert_eq!(error.code, ErrorCode::Unavailable, "{error}"),
        }
    }
    eprintln!("{} of {LOAD} registrations were answered", registered.len());

    // It comes back by itself.
    let begin = Instant::now();
    let (_, last) = loop {
        let request = machine("last");
        match with_key.register(&request).await {
            Ok(done) => break (request, done),
            Err(error) => assert_eq!(error.code, ErrorCode::Unavailable, "{error}"),
        }
        assert!(begin.elapsed() < LIMIT, "the database does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let list: Vec<Machine> = owner.client.get(&owner.path("/machines")).await.unwrap();
    let names: Vec<String> = list.into_iter().map(|machine| machine.name).collect();
    for name in &registered {
        assert!(names.contains(name), "{name} was answered and is lost");
    }
    // The stream outlived it, and tells of all that is there: of what was committed unanswered too.
    at_watcher
        .until("all", |s| s.peers().len() == names.len() - 1)
        .await;
    let fresh = Stream::connect(&server, &last.node_key).await;
    assert_eq!(fresh.peers().len(), names.len() - 1);
    server.stop().await;
    cluster.stop().await;
}

/// A disk without room: writes are refused and said to be, reads go on, and with room all is well.
#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: only root can mount a small disk");
        return;
    };
    let (cluster, config) = own_cluster(disk.path(), Durability::Safe).await;
    let server = Server::start_on_database(config.clone(), |_| {}).await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    let mut at_alice = Stream::connect(&server, &alice.node_key).await;
    let with_key = owner.client.bearer(owner.key.key.expose());
    let ballast = disk.fill();

    let mut refused = None;
    for n in 0..5000 {
        if let Err(error) = with_key.register(&machine(&format!("m{n}"))).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("the disk was not full");
    assert_eq!(refused.code.status() / 100, 5, "{refused}");
    drop(ballast);

    // The server may have ended over it; it comes back by itself.
    let begin = Instant::now();
    let (mut name, mut n) = (String::new(), 0);
    while name.is_empty() {
        match with_key.register(&machine(&format!("after-{n}"))).await {
            Ok(done) => name = done.name,
            Err(error) => assert_eq!(error.code.status() / 100, 5, "{error}"),
        }
        n += 1;
        assert!(begin.elapsed() < LIMIT, "the database does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    at_alice
        .until("the next machine", |s| s.peer_names().contains(&name))
        .await;
    server.stop().await;
    cluster.stop().await;
}

/// A file system in memory, of which PostgreSQL's first files fill the most.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs"])
            .arg(folder.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(folder))
    }

    fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    /// Takes what room there is, until it is dropped.
    fn fill(&self) -> tempfile::NamedTempFile {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new_in(self.path()).unwrap();
        let piece = vec![0; 64 * 1024];
        while file.write_all(&piece).is_ok() {}
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The database may still be closing its files; a lazy unmount waits for them.
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

/// The database's clock and the one of whoever wrote before are ten minutes apart, in both directions.
#[tokio::test]
async fn clocks_ten_minutes_off_take_nobody_offline_and_hold_no_report_back() {
    for minutes in [-10i64, 10] {
        let server = Server::start().await;
        let owner = Owner::new(&server, "acme").await;
        let (_, alice) = owner.enrol("alice").await;
        let (_, bob) = owner.enrol("bob").await;
        let mut at_bob = Stream::connect(&server, &bob.node_key).await;
        at_bob
            .send(&ClientMessage::Report(VolatileReport::default()))
            .await;
        let mut at_alice = Stream::connect(&server, &alice.node_key).await;
        at_alice
            .until("bob", |s| s.volatile.contains_key(&bob.machine_id))
            .await;
        let admin = connect(&server.database.setup).await;
        let written = Instant::now();
        let count = "SELECT count(*) FROM machine_presence";
        while admin.query_one(count, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            assert!(written.elapsed() < LIMIT, "nothing is written down");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let server = server.restart().await;
        // As a node would have left it whose clock is off: versions are times.
        let shift = minutes * 60 * 1_000_000;
        admin
            .execute(
                "UPDATE machine_presence SET version = version + $1",
                &[&shift],
            )
            .await
            .unwrap();
        let mut at_alice = Stream::connect(&server, &alice.node_key).await;
        let mut at_bob = Stream::connect(&server, &bob.node_key).await;
        let before = at_alice
            .volatile
            .get(&bob.machine_id)
            .map(|bob| bob.version);
        let report = VolatileReport {
            home_region: Some(ztna_proto::ids::RegionId(7)),
            ..VolatileReport::default()
        };
        at_bob.send(&ClientMessage::Report(report.clone())).await;
        at_alice
            .until("bob's report", |s| {
                let bob = s.volatile.get(&bob.machine_id);
                bob.is_some_and(|bob| bob.online && bob.report == report)
            })
            .await;
        let version = at_alice.volatile[&bob.machine_id].version;
        assert!(before.is_none_or(|before| before < version));
        server.stop().await;
    }
}

/// A migration that fails half way leaves the database as it was before it, and says so; when the cause
/// is gone, the next start goes on.
#[tokio::test]
async fn a_migration_that_fails_half_way_leaves_nothing_behind() {
    // Roles are the cluster's: with another database they are there for sure, and are not made with this one.
    Server::start().await.stop().await;
    let config = database().await;
    let (admin, connection) = config.setup.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // In the way of the ninth, in its middle.
    admin
        .batch_execute(
            "CREATE SCHEMA ztna AUTHORIZATION ztna_owner;
             GRANT USAGE ON SCHEMA ztna TO ztna_app;
             GRANT USAGE, CREATE ON SCHEMA ztna TO ztna_lookup, ztna_audit;
             CREATE TABLE ztna.machine_presence_news (in_the_way int)",
        )
        .await
        .unwrap();
    let keys = tempfile::tempdir().unwrap();
    std::fs::set_permissions(keys.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let start = async || {
        let keys = ServerKeys::load_or_create(keys.path()).unwrap();
        App::start(Config::new(config.clone(), keys)).await
    };
    let refused = match start().await {
        Ok(_) => panic!("it started"),
        Err(StartError::Database(error)) => error.to_string(),
        Err(error) => panic!("{error}"),
    };
    assert!(
        refused.contains("migrating the database failed") && refused.contains("V9"),
        "{refused}"
    );
    let state = "SELECT (SELECT max(version) FROM ztna.refinery_schema_history),
        (SELECT count(*) FROM information_schema.columns
         WHERE table_name = 'machine_presence' AND column_name IN ('version', 'written_at'))";
    let row = admin.query_one(state, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(1), 0, "half of it stayed");
    assert!(row.get::<_, i32>(0) < 9);

    admin
        .batch_execute("DROP TABLE ztna.machine_presence_news")
        .await
        .unwrap();
    let server = Server::start_on_database(config.clone(), |_| {}).await;
    let row = admin.query_one(state, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(1), 2);
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    assert!(
        Stream::connect(&server, &alice.node_key)
            .await
            .peers()
            .is_empty()
    );
    server.stop().await;
}
