//! Tailnet addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;
use tokio_postgres::Row;
use ztna_proto::error::ErrorCode;
use ztna_proto::ids::OrgId;

use crate::db::Tx;
use crate::http::{ApiError, refuse};

/// First host numbers that machines get.
const FIRST: i64 = 1;
/// Kept for the machine's own DNS service (100.100.100.100).
const RESERVED: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);

/// The org's row, locked for this transaction: what addresses are made of.
pub(super) struct Networks {
    pub(super) ipv4: Ipv4Net,
    pub(super) ipv4_next: i64,
    pub(super) ipv6: Ipv6Addr,
}

impl Networks {
    /// The columns that [`Networks::read`] reads.
    pub(super) const COLUMNS: &str = "ipv4_network, ipv4_next, ipv6_network, masklen(ipv4_network)";

    /// Reads the columns, which begin at `first`.
    pub(super) fn read(row: &Row, first: usize) -> Result<Self, ApiError> {
        let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (row.get(first), row.get(first + 2)) else {
            return Err(damaged());
        };
        let bits = u8::try_from(row.get::<_, i32>(first + 3)).map_err(|_| damaged())?;
        Ok(Self {
            ipv4: Ipv4Net::new(ipv4, bits).map_err(|_| damaged())?,
            ipv4_next: row.get(first + 1),
            ipv6,
        })
    }

    /// The last host number that machines get: the one before the network's broadcast address.
    fn last(&self) -> i64 {
        i64::from(self.ipv4.hostmask().to_bits()) - 1
    }
}

fn damaged() -> ApiError {
    ApiError::Internal("an org's networks are damaged".to_owned())
}

/// Takes the next free pairs of addresses. The org's row is locked by the caller's change, so no two
/// registrations choose at once; the unique constraints are the second lock.
pub(super) async fn allocate(
    tx: &Tx<'_>,
    org: OrgId,
    networks: &Networks,
    count: usize,
) -> Result<Vec<(Ipv4Addr, Ipv6Addr)>, ApiError> {
    let base = i64::from(networks.ipv4.addr().to_bits());
    let hosts: Vec<i64> = (networks.ipv4_next.max(FIRST)..=networks.last())
        .filter(|host| base + host != i64::from(RESERVED.to_bits()))
        .take(count)
        .collect();
    if let (Some(last), true) = (hosts.last(), hosts.len() == count) {
        tx.execute(
            "UPDATE orgs SET ipv4_next = $2 WHERE id = $1",
            &[&org.0, &(last + 1)],
        )
        .await?;
        return Ok(hosts.iter().map(|host| pair(networks, *host)).collect());
    }
    // Fewer numbers are left than are asked for: of those handed out before, take the lowest that deletions have
    // freed.
    let last = networks.last().min(networks.ipv4_next - 1);
    let rows = tx
        .query(
            "WITH used AS (
                 SELECT ipv4 - $2::inet AS host FROM machines WHERE org_id = $1
                 UNION SELECT $3::bigint - 1 UNION SELECT $5::inet - $2::inet
             ), gaps AS (
                 SELECT host + 1 AS first, lead(host) OVER (ORDER BY host) - 1 AS last FROM used
             )
             SELECT host FROM gaps, generate_series(
                 GREATEST(first, $3), LEAST(COALESCE(last, $4), $4, first + $6::bigint - 1)) AS host
             ORDER BY host LIMIT $6",
            &[
                &org.0,
                &IpAddr::V4(networks.ipv4.addr()),
                &FIRST,
                &last,
                &IpAddr::V4(RESERVED),
                &i64::try_from(count).unwrap_or(i64::MAX),
            ],
        )
        .await?;
    if rows.len() == count {
        return Ok(rows.iter().map(|row| pair(networks, row.get(0))).collect());
    }
    Err(refuse(
        ErrorCode::AddressesExhausted,
        "every address of the org is in use; delete machines that are gone and try again",
    ))
}

/// [`allocate`] for one machine.
pub(super) async fn allocate_one(
    tx: &Tx<'_>,
    org: OrgId,
    networks: &Networks,
) -> Result<(Ipv4Addr, Ipv6Addr), ApiError> {
    let lost = || ApiError::Internal("no address was allocated".to_owned());
    let allocated = allocate(tx, org, networks, 1).await?;
    allocated.into_iter().next().ok_or_else(lost)
}

/// Both addresses of a host number: the IPv6 one holds the IPv4 one in its last 32 bits.
fn pair(networks: &Networks, host: i64) -> (Ipv4Addr, Ipv6Addr) {
    let host = u32::try_from(host).unwrap_or_default();
    let ipv4 = Ipv4Addr::from_bits(networks.ipv4.addr().to_bits() | host);
    let ipv6 = Ipv6Addr::from_bits(networks.ipv6.to_bits() | u128::from(ipv4.to_bits()));
    (ipv4, ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_address_of_each_kind() {
        let networks = Networks {
            ipv4: "100.64.0.0/10".parse().unwrap(),
            ipv4_next: 1,
            ipv6: "fd12:3456:789a::".parse().unwrap(),
        };
        let (ipv4, ipv6) = pair(&networks, 258);
        assert_eq!(ipv4, Ipv4Addr::new(100, 64, 1, 2));
        assert_eq!(
            ipv6,
            "fd12:3456:789a::6440:102".parse::<Ipv6Addr>().unwrap()
        );
        assert_eq!(
            pair(&networks, networks.last()).0,
            Ipv4Addr::new(100, 127, 255, 254)
        );
    }
}
