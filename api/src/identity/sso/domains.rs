//! `/api/orgs/{org}/sso/domains`: domains that an org proves to hold by a DNS record.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::extract;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio_postgres::Row;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::sso::{AddDomainRequest, MAX_DOMAINS, SsoDomain};

use crate::app::State;
use crate::http::{Answer, ApiError, Counted, Empty, Json, Path, User, created, ok, refuse};
use crate::orgs::{Right, authorise};

/// Label of the record, before the domain. A host name cannot start so (RFC 8552).
const LABEL: &str = "_ztna";
/// What the record's text starts with.
const PREFIX: &str = "ztna-domain=";
/// Random bytes of a record's value.
const PROOF_LEN: usize = 20;
/// Longest domain that has room for the label before it (RFC 1035 §2.3.4).
const MAX_DOMAIN: usize = 253 - LABEL.len() - 1;
/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;
/// A name server answers within this time.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How often it is asked.
const ATTEMPTS: usize = 2;
/// Most texts of the record that are looked at.
const MAX_TEXTS: usize = 100;

pub(super) fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(add, list))
        .routes(routes!(prove))
        .routes(routes!(give_up))
}

/// Where a system asks that names no name server (resolv.conf(5)).
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// Asks these name servers, or the system's.
///
/// # Errors
/// They cannot be used; in words for the operator.
pub(super) fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let of_system = TokioResolver::builder_tokio();
    let mut builder = if let (true, Ok(builder)) = (servers.is_empty(), of_system) {
        builder
    } else {
        let servers = match servers.is_empty() {
            true => &[LOCAL],
            false => servers,
        };
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let connections = connections.map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    // Somebody who has just written the record does not want to hear of the one before.
    options.cache_size = 0;
    builder
        .build()
        .map_err(|error| format!("DNS cannot be set up: {error}"))
}

/// The texts of a domain's record.
async fn look_up(dns: &TokioResolver, domain: &str) -> Result<Vec<String>, ApiError> {
    // The dot at its end keeps the system's search domains out.
    let name = format!("{LABEL}.{domain}.");
    let found = match dns.lookup(name.as_str(), RecordType::TXT).await {
        Ok(found) => found,
        Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
        Err(error) => {
            return Err(refuse(
                ErrorCode::Conflict,
                format!(
                    "the name servers of {domain} do not answer ({error}); try again in a moment"
                ),
            ));
        }
    };
    let texts = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::TXT(text) => Some(text.to_string()),
            _ => None,
        });
    let proofs = texts.filter_map(|text| text.strip_prefix(PREFIX).map(str::to_owned));
    Ok(proofs.take(MAX_TEXTS).collect())
}

/// A domain in the form that is stored.
fn normalise(text: &str) -> Result<String, ApiError> {
    let domain = text.trim().trim_end_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let well_formed = domain.len() <= MAX_DOMAIN
        && domain.contains('.')
        && domain.split('.').all(label)
        && domain.parse::<std::net::Ipv4Addr>().is_err();
    match well_formed {
        true => Ok(domain),
        false => Err(refuse(
            ErrorCode::ValidationError,
            "`domain` is not of the form example.com; write it as it stands behind the @, an international one as xn--…",
        )),
    }
}

fn read(row: &Row) -> SsoDomain {
    let domain: String = row.get(0);
    SsoDomain {
        record_name: format!("{LABEL}.{domain}"),
        record_value: format!("{PREFIX}{}", row.get::<_, &str>(1)),
        proved_at: row.get(2),
        domain,
    }
}

fn unknown() -> ApiError {
    refuse(
        ErrorCode::NotFound,
        "the org has no such domain; `GET /api/orgs/{org}/sso/domains` lists those that there are",
    )
}

/// Adds a domain. It counts once its TXT record was found.
#[utoipa::path(post, path = "/api/orgs/{org}/sso/domains", tag = "sso", params(("org" = OrgId, Path)),
    request_body = AddDomainRequest, responses(
    (status = 201, body = Envelope<SsoDomain>), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
))]
async fn add(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
    Json(request): Json<AddDomainRequest>,
) -> Answer<SsoDomain> {
    let domain = normalise(&request.domain)?;
    let proof: [u8; PROOF_LEN] = rand::random();
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let row = tx
        .query_opt(
            "INSERT INTO sso_domains (org_id, domain, proof)
             SELECT $1, $2, $3 WHERE (SELECT count(*) FROM sso_domains WHERE org_id = $1) < $4
             ON CONFLICT (org_id, domain) DO NOTHING RETURNING domain, proof, proved_at",
            &[
                &org.0,
                &domain,
                &BASE64URL.encode(proof),
                &i64::try_from(MAX_DOMAINS).unwrap_or(i64::MAX),
            ],
        )
        .await?;
    let Some(row) = row else {
        return Err(refuse(
            ErrorCode::Conflict,
            format!(
                "the org has {domain} already, or {MAX_DOMAINS} domains, which is the most; remove one"
            ),
        ));
    };
    tx.commit().await?;
    created(read(&row))
}

/// The org's domains.
#[utoipa::path(get, path = "/api/orgs/{org}/sso/domains", tag = "sso", params(("org" = OrgId, Path)), responses(
    (status = 200, body = Envelope<Vec<SsoDomain>>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn list(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path(org): Path<OrgId>,
) -> Answer<Vec<SsoDomain>> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Read).await?;
    let rows = tx
        .query(
            "SELECT domain, proof, proved_at FROM sso_domains WHERE org_id = $1 ORDER BY domain",
            &[&org.0],
        )
        .await?;
    ok(rows.iter().map(read).collect())
}

/// Looks a domain's TXT record up. A domain that another org has proved passes to this one if that org's
/// record stands there no longer.
#[utoipa::path(post, path = "/api/orgs/{org}/sso/domains/{domain}/prove", tag = "sso",
    params(("org" = OrgId, Path), ("domain" = String, Path)), responses(
    (status = 200, body = Envelope<SsoDomain>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, body = ErrorBody), (status = 429, body = ErrorBody),
))]
async fn prove(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, domain)): Path<(OrgId, String)>,
) -> Answer<SsoDomain> {
    let stored =
        "SELECT domain, proof, proved_at FROM sso_domains WHERE org_id = $1 AND domain = $2";
    let domain = {
        let mut connection = state.db.connect().await?;
        let tx = connection.org(org).await?;
        authorise(&tx, org, user, Right::Manage).await?;
        let row = tx.query_opt(stored, &[&org.0, &domain]).await?;
        read(&row.ok_or_else(unknown)?)
    };
    let limit = state.limits.credentials;
    Counted::by_user(&*state.kv, "look-ups of a domain", limit, user)
        .spend()
        .await?;
    let found = look_up(&state.providers.dns, &domain.domain).await?;
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let outcome = tx
        .query_opt(
            "SELECT outcome FROM prove_domain($1, $2, $3)",
            &[&org.0, &domain.domain, &found],
        )
        .await?
        .ok_or_else(unknown)?;
    match outcome.get(0) {
        "proved" => {}
        "taken" => {
            return Err(refuse(
                ErrorCode::Conflict,
                format!(
                    "{} is another org's; remove that one's record first",
                    domain.domain
                ),
            ));
        }
        _ => {
            return Err(refuse(
                ErrorCode::Conflict,
                format!(
                    "{} has no TXT record `{}`; add it at the domain's name servers, and try again once they answer with it",
                    domain.record_name, domain.record_value
                ),
            ));
        }
    }
    let row = tx.query_one(stored, &[&org.0, &domain.domain]).await?;
    tx.commit().await?;
    tracing::info!(%org, by = %user, domain = domain.domain, "a domain was proved");
    ok(read(&row))
}

/// Gives a domain up. Accounts that were made stay.
#[utoipa::path(delete, path = "/api/orgs/{org}/sso/domains/{domain}", tag = "sso",
    params(("org" = OrgId, Path), ("domain" = String, Path)), responses(
    (status = 200, body = Envelope<Empty>), (status = 403, body = ErrorBody), (status = 404, body = ErrorBody),
))]
async fn give_up(
    extract::State(state): extract::State<State>,
    User(user): User,
    Path((org, domain)): Path<(OrgId, String)>,
) -> Answer<Empty> {
    let mut connection = state.db.connect().await?;
    let tx = connection.org(org).await?;
    authorise(&tx, org, user, Right::Manage).await?;
    let gone = tx
        .execute(
            "DELETE FROM sso_domains WHERE org_id = $1 AND domain = $2",
            &[&org.0, &domain],
        )
        .await?;
    if gone == 0 {
        return Err(unknown());
    }
    tx.commit().await?;
    ok(Empty {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_normalised_or_refused() {
        assert_eq!(normalise(" Example.COM. ").unwrap(), "example.com");
        assert_eq!(
            normalise("xn--mller-kva.example").unwrap(),
            "xn--mller-kva.example"
        );
        let long = format!("{}.example", "a".repeat(64));
        let longer = vec!["a".repeat(60); 5].join(".");
        for bad in [
            "",
            ".",
            "com",
            "a..b",
            "-a.example",
            "a-.example",
            "a_b.example",
            "müller.example",
            "a@b.example",
            "192.0.2.1",
            "a b.example",
            &long,
            &longer,
        ] {
            assert!(normalise(bad).is_err(), "{bad}");
        }
    }
}
