//! Backup and restore: what comes back is what was there, and what is not safe is refused.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use reqwest::Method;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use ztna_api::{
    BackupConfig, BackupError, DatabaseConfig, Restore, backup, backups, reseal, restore,
    rotate_master_key,
};
use ztna_objects::{Objects, S3Settings};
use ztna_proto::api::Machine;
use ztna_proto::audit::AuditVerification;

use crate::common::client::{Owner, PASSWORD};
use crate::common::stream::{Begun, Stream};
use crate::common::{Client, Server, connect, database};

fn folder() -> (TempDir, Objects) {
    let folder = tempfile::tempdir().unwrap();
    let location = folder.path().to_str().unwrap().to_owned();
    let objects = Objects::open(&location, S3Settings::default()).unwrap();
    (folder, objects)
}

fn config<'a>(
    database: &'a DatabaseConfig,
    data_dir: &'a Path,
    objects: &'a Objects,
) -> BackupConfig<'a> {
    BackupConfig {
        database,
        data_dir,
        objects,
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Why something was refused.
fn refusal<T>(result: Result<T, BackupError>) -> String {
    match result {
        Ok(_) => panic!("it was done"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_comes_back_is_what_was_there() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    let (_, alice) = owner.enrol("alice").await;
    owner.enrol("bob").await;
    // Text that COPY has to escape.
    let odd = "tab\tline\nback\\slash \u{1F980} \\N";
    let admin = connect(&server.database.setup).await;
    admin
        .execute("UPDATE auth_keys SET description = $1", &[&odd])
        .await
        .unwrap();
    let path = owner.path("/audit/verify");
    let verified: AuditVerification = owner.client.get(&path).await.unwrap();
    let at_alice = Stream::connect(&server, &alice.node_key).await;
    let keys = server.data_dir();
    let (_folder, objects) = folder();
    let (name, written) = backup(&config(&server.database, keys.path(), &objects))
        .await
        .unwrap();
    let rows = |table: &str| {
        let found = written.tables.iter().find(|found| found.name == table);
        found.unwrap().rows
    };
    assert_eq!((rows("machines"), rows("orgs"), rows("users")), (2, 1, 1));
    assert_eq!(
        backups(&objects).await.unwrap(),
        std::slice::from_ref(&name)
    );

    // What happens afterwards is not in it.
    owner.enrol("carol").await;
    let fresh = database().await;
    let to = config(&fresh, keys.path(), &objects);
    let (restored, _) = restore(&to, &Restore::default()).await.unwrap();
    assert_eq!(restored, name);

    // Row by row the same, and again after a second round.
    let (_again, elsewhere) = folder();
    let again = config(&fresh, keys.path(), &elsewhere);
    let (_, second) = backup(&again).await.unwrap();
    assert_eq!(second.tables, written.tables);
    assert_eq!(second.schema_version, written.schema_version);

    let server = server.moved_to(fresh.clone()).await;
    let client = Client::anonymous(&server);
    let session = client.login("acme@example.com", PASSWORD).await.unwrap();
    let client = client.bearer(&session.access_token);
    // The log is the one that was there, with the sign-in of just now behind it.
    let path = owner.path("/audit/verify");
    let now: AuditVerification = client.get(&path).await.unwrap();
    assert!(now.intact, "{now:?}");
    assert!(now.head.seq > verified.head.seq, "{now:?}, {verified:?}");
    let list: Vec<Machine> = client.get(&owner.path("/machines")).await.unwrap();
    let names: Vec<_> = list.iter().map(|machine| machine.name.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);
    // An agent is where it was, and goes on from there.
    let (mut at_alice, begun) = Stream::again(&server, &alice.node_key, at_alice).await;
    assert_eq!(begun, Begun::InSync);
    let (_, dave) = Owner {
        client: client.clone(),
        org: owner.org.clone(),
        key: client.new_auth_key(owner.org.id, true).await,
    }
    .enrol("dave")
    .await;
    at_alice
        .until("dave", |s| s.peer_names() == ["bob", "dave"])
        .await;
    assert_ne!(dave.ipv4, alice.ipv4);

    // Not while a node works on it, nor over what is there.
    let over = config(&fresh, keys.path(), &objects);
    let replace = Restore {
        replace: true,
        ..Restore::default()
    };
    assert!(refusal(restore(&over, &replace).await).contains("stop them"));
    server.stop().await;
    // Its connections end a moment later.
    let admin = connect(&fresh.setup).await;
    let nodes = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'ztna-api'";
    while admin.query_one(nodes, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(refusal(restore(&over, &Restore::default()).await).contains("--replace"));
    restore(&over, &replace).await.unwrap();
    let machines = admin
        .query_one("SELECT count(*) FROM machines", &[])
        .await
        .unwrap();
    assert_eq!(machines.get::<_, i64>(0), 2);
}

/// What a generated row holds where the schema does not take anything of the column's type.
const TAKEN: [(&str, &str, &str); 7] = [
    (
        "api_keys",
        "created_by",
        "(SELECT user_id FROM members LIMIT 1)",
    ),
    ("api_keys", "scopes", "'{write}'"),
    ("invitations", "role", "'member'"),
    ("mail_tokens", "purpose", "'reset'"),
    ("org_relay_nodes", "region_id", "900"),
    ("org_relay_regions", "id", "900"),
    ("user_identities", "provider", "'google'"),
];

/// Puts a row into every table that has none, so that a table of a later migration is in the test too.
async fn fill(admin: &tokio_postgres::Client) {
    let empty = admin
        .query(
            "SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum),
                 array_agg(format_type(a.atttypid, NULL) ORDER BY a.attnum)
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
             WHERE c.relnamespace = 'ztna'::regnamespace AND c.relkind = 'r'
                 AND c.relname <> 'refinery_schema_history' AND NOT a.attisdropped
                 AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
             GROUP BY c.relname ORDER BY c.relname",
            &[],
        )
        .await
        .unwrap();
    let mut waiting: Vec<(String, Vec<String>, Vec<String>)> = Vec::new();
    for row in &empty {
        let table: String = row.get(0);
        let rows = format!("SELECT count(*) FROM {table}");
        if admin.query_one(&rows, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            waiting.push((table, row.get(1), row.get(2)));
        }
    }
    // What refers to another of them comes in a later round.
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut refused = Vec::new();
        for (table, columns, types) in std::mem::take(&mut waiting) {
            let values: Vec<&str> = columns
                .iter()
                .zip(&types)
                .map(|(column, kind)| value(&table, column, kind))
                .collect();
            let insert = format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                columns.join(", "),
                values.join(", ")
            );
            if let Err(error) = admin.execute(&insert, &[]).await {
                let said = error.as_db_error().unwrap().to_string();
                refused.push(format!("{insert}: {said}"));
                waiting.push((table, columns, types));
            }
        }
        assert!(
            waiting.len() < before,
            "teach TAKEN what these tables take: {refused:#?}"
        );
    }
}

fn value<'a>(table: &str, column: &str, kind: &str) -> &'a str {
    let known = TAKEN.iter().find(|(t, c, _)| (*t, *c) == (table, column));
    match (known, column, kind) {
        (Some((_, _, taken)), _, _) => taken,
        (_, "org_id", _) => "(SELECT org_id FROM members LIMIT 1)",
        (_, "user_id", _) => "(SELECT user_id FROM members LIMIT 1)",
        (_, "machine_id", _) => "(SELECT id FROM machines ORDER BY id LIMIT 1)",
        (_, _, "uuid") => "gen_random_uuid()",
        (_, _, "text") => "'some words of a row'",
        (_, _, "bytea") => "decode(repeat('ab', 32), 'hex')",
        (_, _, "smallint" | "integer" | "bigint") => "1",
        (_, _, "boolean") => "true",
        (_, _, "timestamp with time zone") => "now()",
        (_, _, "json" | "jsonb") => "'{}'",
        (_, _, "inet") => "'192.0.2.1'",
        (_, _, "cidr") => "'192.0.2.0/24'",
        (_, _, array) if array.ends_with("[]") => "'{}'",
        _ => panic!("teach TAKEN what {table}.{column} of type {kind} takes"),
    }
}

/// Every table: its rows, who may do what with it, and its row-level security.
async fn all(admin: &tokio_postgres::Client) -> BTreeMap<String, (String, String)> {
    let tables = admin
        .query(
            "SELECT c.relname::text, concat_ws(' ', c.relkind, c.relrowsecurity, c.relforcerowsecurity,
                 c.relacl, (SELECT string_agg(concat(a.attname, ' ', a.attacl), ' ' ORDER BY attnum)
                     FROM pg_attribute a WHERE a.attrelid = c.oid)),
                 c.relkind = 'S'
             FROM pg_class c WHERE c.relnamespace = 'ztna'::regnamespace AND c.relkind IN ('r', 'S')
                 AND c.relname <> 'refinery_schema_history'",
            &[],
        )
        .await
        .unwrap();
    let mut found = BTreeMap::new();
    for row in tables {
        let table: String = row.get(0);
        let rows = match row.get(2) {
            true => format!("SELECT concat_ws(' ', last_value, is_called) FROM {table}"),
            false => format!(
                "SELECT COALESCE(string_agg(t::text, ';' ORDER BY t::text), '') FROM {table} t"
            ),
        };
        let rows: String = admin.query_one(&rows, &[]).await.unwrap().get(0);
        assert!(!rows.is_empty(), "{table} is empty: the test shows nothing");
        found.insert(table, (rows, row.get(1)));
    }
    found
}

/// Holds the rows against the foreign keys anew.
async fn refers_to_what_is_there(admin: &tokio_postgres::Client) {
    let keys = admin
        .query(
            "SELECT format('ALTER TABLE %s ADD CONSTRAINT again_%s %s', conrelid::regclass, oid,
                 pg_get_constraintdef(oid))
             FROM pg_constraint WHERE contype = 'f' AND connamespace = 'ztna'::regnamespace",
            &[],
        )
        .await
        .unwrap();
    assert!(keys.len() > 20);
    for key in keys {
        admin.batch_execute(key.get(0)).await.unwrap();
    }
}

#[tokio::test]
async fn every_table_comes_back_row_by_row() {
    let server = Server::start().await;
    let owner = Owner::new(&server, "acme").await;
    owner.enrol("alice").await;
    owner.enrol("bob").await;
    let admin = connect(&server.database.setup).await;
    let (from, keys) = (server.database.clone(), server.data_dir());
    server.stop().await;
    fill(&admin).await;
    let there = all(&admin).await;
    let (_folder, objects) = folder();
    backup(&config(&from, keys.path(), &objects)).await.unwrap();
    let fresh = database().await;
    let to = config(&fresh, keys.path(), &objects);
    restore(&to, &Restore::default()).await.unwrap();

    let back = connect(&fresh.setup).await;
    let here = all(&back).await;
    assert_eq!(
        here.keys().collect::<Vec<_>>(),
        there.keys().collect::<Vec<_>>()
    );
    for (table, what) in &there {
        assert_eq!(&here[table], what, "{table}");
    }
    refers_to_what_is_there(&back).await;
}

/// Replaces the fingerprints of a backup's master keys, with digests that fit.
fn claim_master_keys(backup: &Path, fingerprints: &[String]) {
    let path = backup.join("manifest.json");
    let before = std::fs::read(&path).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&before).unwrap();
    manifest["master_keys"] = serde_json::to_value(fingerprints).unwrap();
    let after = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(&path, &after).unwrap();
    let digest = |bytes: &[u8]| ztna_proto::keys::hex(&Sha256::digest(bytes));
    let sums = backup.join("SHA256SUMS");
    let text = std::fs::read_to_string(&sums).unwrap();
    std::fs::write(sums, text.replace(&digest(&before), &digest(&after))).unwrap();
}

#[tokio::test]
async fn a_forgery_does_not_pass_as_made_under_another_master_key() {
    let server = Server::start().await;
    Owner::new(&server, "acme").await;
    let keys = server.data_dir();
    let (folder, objects) = folder();
    let fresh = database().await;
    let to = config(&fresh, keys.path(), &objects);
    let (name, manifest) = backup(&config(&server.database, keys.path(), &objects))
        .await
        .unwrap();
    let manifest = serde_json::to_value(&manifest).unwrap();
    let ours = manifest["master_keys"][0].as_str().unwrap().to_owned();
    let unknown = "00".repeat(16);
    let backup = folder.path().join(&name);
    let by_name = Restore {
        name: Some(name.clone()),
        other_master_key: true,
        ..Restore::default()
    };
    // A key of ours among others is a claim that the MAC has to bear out, whatever was asked for.
    for claim in [vec![ours.clone()], vec![unknown.clone(), ours]] {
        claim_master_keys(&backup, &claim);
        for wanted in [&Restore::default(), &by_name] {
            let refused = refusal(restore(&to, wanted).await);
            assert!(refused.contains("by this deployment"), "{refused}");
        }
    }
    for claim in [vec![unknown], vec![]] {
        claim_master_keys(&backup, &claim);
        let refused = refusal(restore(&to, &Restore::default()).await);
        assert!(refused.contains("nothing shows who wrote"), "{refused}");
    }
    let unnamed = Restore {
        other_master_key: true,
        ..Restore::default()
    };
    let refused = refusal(restore(&to, &unnamed).await);
    assert!(refused.contains("--name"), "{refused}");
    restore(&to, &by_name).await.unwrap();
}

#[tokio::test]
async fn a_backup_of_the_middle_of_a_rotation_needs_both_master_keys() {
    let server = Server::start().await;
    Owner::new(&server, "acme").await;
    let keys = server.data_dir();
    rotate_master_key(keys.path()).unwrap();
    let server = server.restart().await;
    Owner::new(&server, "beta").await;
    let (_folder, objects) = folder();
    let client = Client::anonymous(&server);
    let taken_at = async || {
        let metrics = client.request(Method::GET, "/metrics").send().await;
        let metrics = metrics.unwrap().text().await.unwrap();
        let mut lines = metrics.lines();
        let told =
            lines.find_map(|line| line.strip_prefix("ztna_api_last_backup_timestamp_seconds "));
        told.unwrap().parse::<i64>().unwrap()
    };
    assert_eq!(taken_at().await, 0);
    let taken = backup(&config(&server.database, keys.path(), &objects)).await;
    let (_, manifest) = taken.unwrap();
    assert_eq!(taken_at().await, manifest.created_at.as_second());

    let fresh = database().await;
    let to = config(&fresh, keys.path(), &objects);
    let file = keys.path().join("master.key");
    let both = std::fs::read_to_string(&file).unwrap();
    let (new, old) = both.trim().split_once('\n').unwrap();
    for one in [new, old] {
        std::fs::write(&file, one).unwrap();
        let refused = refusal(restore(&to, &Restore::default()).await);
        assert!(refused.contains("does not have"), "{refused}");
    }
    std::fs::write(&file, &both).unwrap();
    restore(&to, &Restore::default()).await.unwrap();
    let done = reseal(&fresh, keys.path()).await.unwrap();
    assert_eq!(done.org_keys, 2, "both open");

    // Once everything is under the new key, that is enough.
    backup(&to).await.unwrap();
    std::fs::write(&file, new).unwrap();
    let last = database().await;
    let to = config(&last, keys.path(), &objects);
    restore(&to, &Restore::default()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn what_is_damaged_or_not_ours_is_refused_and_touches_nothing() {
    let server = Server::start().await;
    Owner::new(&server, "acme").await;
    let keys = server.data_dir();
    let (folder, objects) = folder();
    let fresh = database().await;
    let to = config(&fresh, keys.path(), &objects);
    let anything = Restore::default();
    assert!(refusal(restore(&to, &anything).await).contains("no backup"));
    let (name, _) = backup(&config(&server.database, keys.path(), &objects))
        .await
        .unwrap();

    let rows = folder.path().join(&name).join("tables/users.copy");
    let good = std::fs::read(&rows).unwrap();
    let bad: Vec<u8> = good
        .iter()
        .map(|byte| byte ^ u8::from(*byte == b'a'))
        .collect();
    std::fs::write(&rows, &bad).unwrap();
    assert!(refusal(restore(&to, &anything).await).contains("not what was written"));
    // Nor with digests that fit: who may write there has not the deployment's keys.
    let sums = folder.path().join(&name).join("SHA256SUMS");
    let written = std::fs::read_to_string(&sums).unwrap();
    let digest = |bytes: &[u8]| ztna_proto::keys::hex(&Sha256::digest(bytes));
    let forged = written.replace(&digest(&good), &digest(&bad));
    assert_ne!(forged, written);
    std::fs::write(&sums, forged).unwrap();
    let refused = refusal(restore(&to, &anything).await);
    assert!(refused.contains("by this deployment"), "{refused}");
    std::fs::write(&sums, &written).unwrap();
    std::fs::write(&rows, good).unwrap();

    // One that was cut off has no digests, and is none.
    std::fs::remove_file(&sums).unwrap();
    assert!(refusal(restore(&to, &anything).await).contains("no backup"));
    let by_name = Restore {
        name: Some(name.clone()),
        ..Restore::default()
    };
    assert!(refusal(restore(&to, &by_name).await).contains(&name));
    std::fs::write(&sums, &written).unwrap();
    // Nor is an old one the newest by another name.
    let later = folder.path().join("ztna-29990101T000000.000000Z");
    copy(&folder.path().join(&name), &later);
    assert!(refusal(restore(&to, &anything).await).contains("by this deployment"));
    std::fs::remove_dir_all(&later).unwrap();

    // Another deployment's master key.
    let other = tempfile::tempdir().unwrap();
    std::fs::set_permissions(other.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let strange = config(&fresh, other.path(), &objects);
    assert!(refusal(restore(&strange, &anything).await).contains("is missing"));
    ztna_api::ServerKeys::load_or_create(other.path()).unwrap();
    assert!(refusal(restore(&strange, &anything).await).contains("master key"));
    let unnamed = Restore {
        other_master_key: true,
        ..Restore::default()
    };
    let refused = refusal(restore(&strange, &unnamed).await);
    assert!(refused.contains("--name"), "{refused}");
    let sealed = Restore {
        other_master_key: true,
        ..by_name
    };
    let empty = connect(&fresh.setup).await;
    let schema = empty
        .query_one("SELECT to_regnamespace('ztna') IS NULL", &[])
        .await
        .unwrap();
    assert!(schema.get::<_, bool>(0), "nothing was touched");
    restore(&strange, &sealed).await.unwrap();
    let useless = "SELECT (SELECT count(*) FROM org_keys) + (SELECT count(*) FROM totp_secrets)";
    let empty = connect(&fresh.setup).await;
    let useless = empty.query_one(useless, &[]).await.unwrap();
    assert_eq!(useless.get::<_, i64>(0), 0);

    // An account that sees one org at a time would write a backup with holes.
    let blind = DatabaseConfig {
        setup: server.database.app.clone().unwrap(),
        app: None,
    };
    let refused = refusal(backup(&config(&blind, keys.path(), &objects)).await);
    assert!(refused.contains("BYPASSRLS"), "{refused}");
}
