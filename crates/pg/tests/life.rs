//! A cluster of its own: first start, data that stays, every kind of sudden end.

#![allow(clippy::unwrap_used, clippy::panic)] // Clippy allows them in test functions, not in their helpers.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;
use ztna_pg::{ADMIN_ROLE, Cluster, Durability, Options, PgError};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn options(folder: &Path) -> Options {
    Options {
        folder: folder.join("postgres"),
        durability: Durability::Safe,
        roles: vec!["someone".to_owned()],
    }
}

async fn run(cluster: &Cluster, sql: &str) -> Vec<String> {
    let (client, connection) = cluster
        .config(ADMIN_ROLE, "postgres")
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let messages = client.simple_query(sql).await.unwrap();
    messages
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect()
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !check() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn data_outlives_stops_and_kills() {
    let folder = folder();
    let cluster = Cluster::start(options(folder.path())).await.unwrap();
    run(&cluster, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await;
    cluster.stop().await;

    let cluster = Cluster::start(options(folder.path())).await.unwrap();
    run(&cluster, "INSERT INTO t VALUES (2)").await;
    // The postmaster dies; the cluster brings it back by itself.
    let before = cluster.pid().unwrap();
    signal(before, "-KILL");
    until("the server was not started again", || {
        cluster.pid().is_some_and(|pid| pid != before)
    })
    .await;
    until("no socket", || {
        folder.path().join("postgres/run/.s.PGSQL.5432").exists()
    })
    .await;
    let mut rows = Vec::new();
    for _ in 0..200 {
        if let Ok((client, connection)) =
            cluster.config(ADMIN_ROLE, "postgres").connect(NoTls).await
        {
            tokio::spawn(connection);
            rows = client
                .query("SELECT n FROM t ORDER BY n", &[])
                .await
                .unwrap();
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(rows.len(), 2);

    // Lock files of a crash whose process number is somebody else's now.
    cluster.stop().await;
    for lock in ["data/postmaster.pid", "run/.s.PGSQL.5432.lock"] {
        let lock = folder.path().join("postgres").join(lock);
        std::fs::write(&lock, format!("{}\n", std::process::id())).unwrap();
    }
    let cluster = Cluster::start(options(folder.path())).await.unwrap();
    assert_eq!(run(&cluster, "SELECT count(*) FROM t").await, ["2"]);
    cluster.stop().await;
}

#[tokio::test]
async fn a_half_made_cluster_is_made_anew() {
    let folder = folder();
    let aside = folder.path().join("postgres/data.new");
    std::fs::create_dir_all(&aside).unwrap();
    std::fs::write(aside.join("PG_VERSION"), "15\n").unwrap();
    let cluster = Cluster::start(options(folder.path())).await.unwrap();
    assert_eq!(run(&cluster, "SELECT 1").await, ["1"]);
    cluster.stop().await;
}

#[tokio::test]
async fn only_the_socket_is_open_and_only_for_us() {
    let folder = folder();
    let cluster = Cluster::start(options(folder.path())).await.unwrap();
    assert_eq!(run(&cluster, "SHOW listen_addresses").await, [""]);
    assert_eq!(run(&cluster, "SHOW fsync").await, ["on"]);
    let stranger = cluster.config("postgres", "postgres").connect(NoTls).await;
    assert!(stranger.is_err(), "a role that is not mapped was let in");
    cluster.stop().await;
}

#[tokio::test]
async fn data_of_a_version_that_is_missing_is_named() {
    let folder = folder();
    let data = folder.path().join("postgres/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "99\n").unwrap();
    let Err(error) = Cluster::start(options(folder.path())).await else {
        panic!("it started");
    };
    assert!(
        matches!(error, PgError::OtherVersion { wanted: 99, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_long_path_behind_a_closed_folder_will_do() {
    let folder = folder();
    let closed = folder.path().join("x".repeat(100));
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let cluster = Cluster::start(options(&closed)).await.unwrap();
    assert_eq!(run(&cluster, "SELECT 1").await, ["1"]);
    cluster.stop().await;
}
