//! Nothing that changes is left out, and no secret comes in.

use std::collections::BTreeSet;

use crate::common::{Server, connect};

/// Tables of orgs and people whose changes the log does not have, and why.
const EXEMPT: [(&str, &str); 10] = [
    ("audit_heads", "the log itself"),
    ("audit_log", "the log itself"),
    (
        "backup_codes",
        "made and gone with the second factor; the sign-in says that one was used",
    ),
    (
        "changes",
        "says which machines to tell; what changed, the row itself says",
    ),
    (
        "deleted_machines",
        "written as a machine is deleted, which the machine's row says",
    ),
    (
        "machine_presence",
        "machines come and go; who changed nothing is not in the log",
    ),
    (
        "mail_tokens",
        "letters that were asked for; what they lead to is in the log",
    ),
    (
        "org_keys",
        "made and gone with the org; what is sealed under it is in the log",
    ),
    ("org_relay_health", "what probes found"),
    (
        "refresh_tokens",
        "each is used once within minutes; the end of a session is in the log, and so is its sign-in",
    ),
];

/// Columns that are no secret though their names sound like it, and why.
const PUBLIC: [(&str, &str, &str); 3] = [
    ("machines", "wg_key", "a public key"),
    ("machines", "kem_hash", "of a public key"),
    ("static_peers", "public_key", "a public key"),
];

#[tokio::test]
async fn every_table_is_in_the_log_or_exempt() {
    let server = Server::start().await;
    let admin = connect(&server.database.setup).await;
    let rows = admin
        .query(
            "SELECT c.relname::text, count(t.oid) FROM pg_class c
             LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgdeferrable AND t.tginitdeferred
                  AND t.tgenabled = 'O' AND t.tgfoid = 'ztna.audit_row'::regproc
             WHERE c.relnamespace = 'ztna'::regnamespace AND c.relkind IN ('r', 'p') AND c.relrowsecurity
             GROUP BY c.relname ORDER BY c.relname",
            &[],
        )
        .await
        .unwrap();
    let mut exempt: BTreeSet<&str> = EXEMPT.iter().map(|(table, _)| *table).collect();
    for row in &rows {
        let (table, triggers): (&str, i64) = (row.get(0), row.get(1));
        let expected = match table {
            // A version never changes; accounts are made and deleted where they are in no org.
            // Of reports, only what policies come to say of one.
            "policy_versions" | "users" | "machine_posture" => 1,
            "refresh_tokens" => {
                exempt.remove(table);
                1
            }
            _ if exempt.remove(table) => 0,
            _ => 3,
        };
        assert_eq!(
            triggers, expected,
            "{table}: its migration calls audit_table('{table}', …), as V7__audit.sql says (for a table \
             of V1 to V6, add the call there), or EXEMPT gives a reason"
        );
    }
    assert!(exempt.is_empty(), "there are no such tables: {exempt:?}");
}

#[tokio::test]
async fn no_secret_column_is_shown() {
    let server = Server::start().await;
    let admin = connect(&server.database.setup).await;
    // Columns that sound like secrets, of tables that the log has, by what their triggers hide.
    let rows = admin
        .query(
            "SELECT DISTINCT c.relname::text, a.attname::text
             FROM pg_trigger t
             JOIN pg_class c ON c.oid = t.tgrelid
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             CROSS JOIN LATERAL string_to_array(encode(t.tgargs, 'escape'), '\\000') AS args
             WHERE t.tgfoid = 'ztna.audit_row'::regproc
               AND (a.atttypid = 'bytea'::regtype OR a.attname ~ 'hash|secret|token|password|sealed|private')
               AND a.attname <> ALL (args[5]::text[]) AND a.attname <> ALL (args[6]::text[])
             ORDER BY 1, 2",
            &[],
        )
        .await
        .unwrap();
    let shown: BTreeSet<(&str, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let public = PUBLIC
        .iter()
        .map(|(table, column, _)| (*table, *column))
        .collect();
    assert_eq!(shown, public);
    let hidden: i64 = admin
        .query_one(
            "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'ztna.audit_row'::regproc
             AND encode(tgargs, 'escape') LIKE '%{hash}%'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(hidden > 3, "the query above finds arguments");
}
