//! A log as a file: written while it is read, a page at a time, so that its size does not matter.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use serde_json::value::RawValue;
use ztna_proto::audit::{AuditEntry, AuditFormat};
use ztna_proto::ids::OrgId;

use super::filter::{Filter, Order, Range, Selected};
use crate::app::State;
use crate::http::ApiError;

/// Rows that are read at a time.
const PAGE: i64 = 500;
/// The first line of a CSV.
const HEADER: [&str; 16] = [
    "seq",
    "at",
    "actor_kind",
    "actor_id",
    "on_behalf_of",
    "actor_name",
    "action",
    "target_id",
    "target_name",
    "before",
    "after",
    "ip",
    "client",
    "route",
    "request_id",
    "hash",
];

/// The answer that holds the file. If it cannot be read to its end, the connection breaks: nobody takes
/// the half for the whole.
pub(super) fn answer(
    state: State,
    org: OrgId,
    filter: Filter,
    range: Range,
    format: AuditFormat,
) -> Response {
    let export = Export {
        state,
        org,
        filter,
        range: Some(range),
        format,
        first: true,
    };
    let pages = stream::try_unfold(export, |mut export| async move {
        let page = export.page().await.inspect_err(|error| {
            tracing::error!(org = %export.org, %error, "an export of the audit log was cut short");
        })?;
        Ok::<_, ApiError>(page.map(|bytes| (bytes, export)))
    });
    let mut response = Response::new(Body::from_stream(pages));
    let (kind, disposition) = match format {
        AuditFormat::Csv => (
            "text/csv; charset=utf-8; header=present",
            "attachment; filename=\"audit.csv\"",
        ),
        AuditFormat::Json => ("application/json", "attachment; filename=\"audit.json\""),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static(disposition),
    );
    response
}

struct Export {
    state: State,
    org: OrgId,
    filter: Filter,
    /// What is still to be read.
    range: Option<Range>,
    format: AuditFormat,
    /// Whether nothing was written yet.
    first: bool,
}

impl Export {
    /// The next piece of the file. `None`: that was all.
    async fn page(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(range) = self.range else {
            return Ok(None);
        };
        let found = self.read(range).await?;
        let rest = Range {
            above: found.reached,
            ..range
        };
        self.range = (rest.above + 1 < rest.below).then_some(rest);
        let bytes = match self.format {
            AuditFormat::Csv => self.write_csv(&found.entries),
            AuditFormat::Json => self.write_json(&found.entries),
        };
        bytes.map(|bytes| Some(bytes.into()))
    }

    async fn read(&self, range: Range) -> Result<Selected, ApiError> {
        debug_assert!(matches!(range.order, Order::Oldest));
        let mut connection = self.state.db.connect().await?;
        let tx = connection.org_snapshot(self.org).await?;
        self.filter.select(&tx, self.org, range, PAGE).await
    }

    fn write_csv(&mut self, entries: &[AuditEntry]) -> Result<Vec<u8>, ApiError> {
        let internal = |error: csv::Error| ApiError::Internal(format!("writing CSV: {error}"));
        let mut csv = csv::WriterBuilder::new()
            .terminator(csv::Terminator::CRLF)
            .from_writer(Vec::new());
        if std::mem::take(&mut self.first) {
            csv.write_record(HEADER).map_err(internal)?;
        }
        for entry in entries {
            csv.write_record(cells(entry).map(harmless))
                .map_err(internal)?;
        }
        csv.into_inner()
            .map_err(|error| ApiError::Internal(format!("writing CSV: {error}")))
    }

    fn write_json(&mut self, entries: &[AuditEntry]) -> Result<Vec<u8>, ApiError> {
        let mut text = Vec::new();
        for entry in entries {
            let before: &[u8] = match std::mem::take(&mut self.first) {
                true => b"[\n",
                false => b",\n",
            };
            text.extend_from_slice(before);
            serde_json::to_writer(&mut text, entry)
                .map_err(|error| ApiError::Internal(format!("writing JSON: {error}")))?;
        }
        if self.range.is_none() {
            let end: &[u8] = match std::mem::take(&mut self.first) {
                true => b"[]\n",
                false => b"\n]\n",
            };
            text.extend_from_slice(end);
        }
        Ok(text)
    }
}

fn cells(entry: &AuditEntry) -> [String; 16] {
    let kind = serde_json::to_value(entry.actor.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str);
    let json = |value: &Option<Box<RawValue>>| value.as_ref().map(|raw| raw.get().to_owned());
    let AuditEntry { actor, target, .. } = entry;
    [
        Some(entry.seq.to_string()),
        Some(entry.at.to_string()),
        kind.map(str::to_owned),
        actor.id.map(|id| id.to_string()),
        actor.on_behalf_of.map(|id| id.to_string()),
        actor.name.clone(),
        Some(entry.action.clone()),
        target.id.clone(),
        target.name.clone(),
        json(&entry.before),
        json(&entry.after),
        entry.ip.map(|ip| ip.to_string()),
        entry.client.clone(),
        entry.route.clone(),
        entry.request_id.clone(),
        Some(entry.hash.clone()),
    ]
    .map(Option::unwrap_or_default)
}

/// A cell that no spreadsheet takes for a formula (OWASP, CSV injection).
fn harmless(cell: String) -> String {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        true => format!("'{cell}"),
        false => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_texts() {
        for cell in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"] {
            assert_eq!(harmless(cell.to_owned()), format!("'{cell}"));
        }
        for cell in ["", "a=1", "1-2", "{\"a\": \"=1\"}", "'=1"] {
            assert_eq!(harmless(cell.to_owned()), cell);
        }
    }
}
