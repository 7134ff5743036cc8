//! Whether a log is what was written: each row's hash is made again of what the row says and of the
//! hash before it.

use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use ztna_proto::audit::{AUDIT_VERIFY_PAGE, AuditFault, AuditMark, AuditVerification};
use ztna_proto::ids::OrgId;
use ztna_proto::keys::hex;

use crate::db::Tx;
use crate::http::ApiError;

/// The hash of a row: of the hash before it, and of each value, in UTF-8, behind its length in four
/// bytes. A value that is not there is the length `ff ff ff ff`.
fn hash(before: &[u8], fields: &[Option<String>]) -> Vec<u8> {
    let mut sha = Sha256::new();
    sha.update(before);
    for field in fields {
        match field {
            Some(text) => {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                sha.update(length.to_be_bytes());
                sha.update(text.as_bytes());
            }
            None => sha.update(u32::MAX.to_be_bytes()),
        }
    }
    sha.finalize().to_vec()
}

/// Where the chain begins and ends.
struct Head {
    seq: i64,
    hash: Vec<u8>,
    cut_seq: i64,
    cut_hash: Vec<u8>,
}

/// Checks the org's rows from `from` on, in a transaction that sees one state of the database; one
/// page of them.
pub(super) async fn verify(
    tx: &Tx<'_>,
    org: OrgId,
    from: Option<i64>,
) -> Result<AuditVerification, ApiError> {
    let row = tx
        .query_one(
            "SELECT seq, hash, cut_seq, cut_hash FROM audit_heads WHERE org_id = $1",
            &[&org.0],
        )
        .await?;
    let head = Head {
        seq: row.get(0),
        hash: row.get(1),
        cut_seq: row.get(2),
        cut_hash: row.get(3),
    };
    let from = from.unwrap_or(0).clamp(head.cut_seq + 1, head.seq + 1);
    let last = head
        .seq
        .min(from.saturating_add(AUDIT_VERIFY_PAGE).saturating_sub(1));
    let mut checked = 0;
    let broken = find_fault(tx, org, &head, from, last, &mut checked).await?;
    Ok(AuditVerification {
        intact: broken.is_none(),
        next: (broken.is_none() && last < head.seq).then_some(last + 1),
        broken,
        checked,
        begins: head.cut_seq + 1,
        head: AuditMark {
            seq: head.seq,
            hash: hex(&head.hash),
        },
    })
}

async fn find_fault(
    tx: &Tx<'_>,
    org: OrgId,
    head: &Head,
    from: i64,
    last: i64,
    checked: &mut i64,
) -> Result<Option<AuditFault>, ApiError> {
    let fault = |seq: i64, message: String| Ok(Some(AuditFault { seq, message }));
    if from == head.cut_seq + 1 && !cut_is_recorded(tx, org, head).await? {
        return fault(
            from,
            format!(
                "the rows before it are gone, and the log has no `audit.cut` that says so: \
                 somebody else removed the rows up to {}",
                head.cut_seq
            ),
        );
    }
    let mut before = match from - 1 {
        cut if cut == head.cut_seq => head.cut_hash.clone(),
        other => match stored_hash(tx, org, other).await? {
            Some(hash) => hash,
            None => return fault(other, "the row is missing".to_owned()),
        },
    };
    let rows = tx
        .query(
            "SELECT seq, hash, audit_fields(l) FROM audit_log l
             WHERE org_id = $1 AND seq BETWEEN $2 AND $3 ORDER BY seq",
            &[&org.0, &from, &last],
        )
        .await?;
    for (row, expected) in rows.iter().zip(from..) {
        let (seq, stored): (i64, Vec<u8>) = (row.get(0), row.get(1));
        if seq != expected {
            return fault(expected, "the row is missing".to_owned());
        }
        *checked += 1;
        if stored != hash(&before, &read_fields(row)) {
            return fault(
                seq,
                "the row, or its hash, is not what was written".to_owned(),
            );
        }
        before = stored;
    }
    let read = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    if from + read <= last {
        return fault(from + read, "the row is missing".to_owned());
    }
    if last == head.seq && before != head.hash {
        return fault(
            last,
            "it was not the last row: the chain's end has another hash".to_owned(),
        );
    }
    // Rows behind the end would never be looked at.
    if let Some(row) = tx
        .query_opt(
            "SELECT seq FROM audit_log WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT 1",
            &[&org.0, &head.seq],
        )
        .await?
    {
        return fault(
            row.get(0),
            "the row stands behind the chain's end".to_owned(),
        );
    }
    Ok(None)
}

fn read_fields(row: &Row) -> Vec<Option<String>> {
    row.get(2)
}

async fn stored_hash(tx: &Tx<'_>, org: OrgId, seq: i64) -> Result<Option<Vec<u8>>, ApiError> {
    let row = tx
        .query_opt(
            "SELECT hash FROM audit_log WHERE org_id = $1 AND seq = $2",
            &[&org.0, &seq],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Whether the log's latest `audit.cut` says that it begins where it does.
async fn cut_is_recorded(tx: &Tx<'_>, org: OrgId, head: &Head) -> Result<bool, ApiError> {
    if head.cut_seq == 0 {
        return Ok(true);
    }
    let row = tx
        .query_opt(
            "SELECT (after ->> 'to')::bigint, after ->> 'hash' FROM audit_log
             WHERE org_id = $1 AND action = 'audit.cut' ORDER BY seq DESC LIMIT 1",
            &[&org.0],
        )
        .await?;
    Ok(row.is_some_and(|row| {
        row.get::<_, Option<i64>>(0) == Some(head.cut_seq)
            && row.get::<_, Option<String>>(1) == Some(hex(&head.cut_hash))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_covers_where_values_end_and_which_are_missing() {
        let some = |text: &str| Some(text.to_owned());
        let one = hash(&[0; 32], &[some("ab"), some("c"), None]);
        assert_eq!(one, hash(&[0; 32], &[some("ab"), some("c"), None]));
        for other in [
            hash(&[1; 32], &[some("ab"), some("c"), None]),
            hash(&[0; 32], &[some("a"), some("bc"), None]),
            hash(&[0; 32], &[some("ab"), some("c"), some("")]),
            hash(&[0; 32], &[some("ab"), some("c")]),
        ] {
            assert_ne!(one, other);
        }
        // 32 zeros ‖ 00000002 6162 ‖ ffffffff, by another program.
        assert_eq!(
            hex(&hash(&[0; 32], &[some("ab"), None])),
            "410fddbb1779fe2c59c118969df0e0c953c211b9fd77558a5b5529e58ddfe68e"
        );
    }
}
