//! Who may use the relay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use ztna_proto::revocation::WgKeyHash;
use ztna_proto::ticket::{TICKET_LIFETIME, TicketVerifier};
use ztna_proto::{OrgId, RegionId, WgPublicKey};

/// The wall clock, injected.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Revoked keys that are remembered, each for [`TICKET_LIFETIME`]. Beyond, the oldest goes.
const MAX_REVOCATIONS: usize = 65_536;

/// A client that wants in. That it holds the key is proved.
#[derive(Clone)]
pub struct Applicant {
    /// Its WireGuard key.
    pub key: WgPublicKey,
    /// Where it connects from.
    pub address: SocketAddr,
    /// The ticket that it brings.
    pub ticket: Option<String>,
    /// Whether it proved its key for this very connection.
    pub fresh: bool,
}

/// What an admitted client may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Its org. Packets pass between clients of equal orgs only.
    pub org: Option<OrgId>,
    /// Its connection is cut after this time, unless it renews its ticket.
    pub expires_in: Option<Duration>,
    /// Bytes per second that it may send.
    pub bytes_per_second: Option<u64>,
}

/// Why a client is not admitted: a sentence for the client's user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Decides who may use the relay. Whatever is not surely allowed is refused.
pub trait Admission: Send + Sync + 'static {
    /// Decides on one client; called again when it renews its ticket.
    fn admit<'a>(&'a self, applicant: &'a Applicant) -> BoxFuture<'a, Result<Admitted, Refusal>>;

    /// Takes back what the client was given until `at`.
    fn revoke(&self, key: &WgPublicKey, at: Timestamp);

    /// Whether the client's right was taken back since it was admitted: asked once more when its
    /// connection is known, so that a revocation meets either the connection or this question.
    fn is_revoked(&self, _applicant: &Applicant) -> bool {
        false
    }

    /// The same as [`Admission::revoke`] for the key with this hash, as a list of the control plane names it. Does nothing
    /// where no ticket admits.
    fn revoke_hash(&self, _key: &WgKeyHash, _at: Timestamp) {}
}

/// Admission by the control plane's signed tickets, checked offline.
pub struct TicketAdmission {
    verifier: TicketVerifier,
    region: RegionId,
    /// The only org whose machines are served, if there is one.
    org: Option<OrgId>,
    clock: Clock,
    /// Tickets of these keys, issued until then, are void.
    revoked: Mutex<BTreeMap<WgKeyHash, Timestamp>>,
}

impl TicketAdmission {
    /// Checks tickets for a relay of `region`.
    #[must_use]
    pub fn new(verifier: TicketVerifier, region: RegionId, clock: Clock) -> Self {
        Self {
            verifier,
            region,
            org: None,
            clock,
            revoked: Mutex::default(),
        }
    }

    /// The same with the system's clock.
    #[must_use]
    pub fn with_system_clock(verifier: TicketVerifier, region: RegionId) -> Self {
        Self::new(verifier, region, Arc::new(Timestamp::now))
    }

    /// Serves machines of this org only: for a relay that an org runs for itself. Own regions of two
    /// orgs may have the same number, so the region alone does not keep the other's machines out.
    #[must_use]
    pub fn for_org(self, org: Option<OrgId>) -> Self {
        Self { org, ..self }
    }

    fn decide(&self, applicant: &Applicant) -> Result<Admitted, Refusal> {
        let Some(ticket) = &applicant.ticket else {
            return Err(Refusal(
                "this relay serves only machines with a relay ticket of its control plane".into(),
            ));
        };
        if !applicant.fresh {
            return Err(Refusal(
                "the client did not prove its key for this connection".into(),
            ));
        }
        let now = (self.clock)();
        let claims = self
            .verifier
            .verify(ticket, &applicant.key, self.region, now)
            .map_err(|error| Refusal(error.to_string()))?;
        if self.org.is_some_and(|org| org != claims.org) {
            return Err(Refusal(
                "this relay serves another org's machines only".into(),
            ));
        }
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if revoked
            .get(&WgKeyHash::of(&applicant.key))
            .is_some_and(|at| claims.issued_at <= *at)
        {
            return Err(Refusal(
                "the relay ticket was revoked by the control plane".into(),
            ));
        }
        let left = claims.expires_at.duration_since(now);
        Ok(Admitted {
            org: Some(claims.org),
            expires_in: Some(left.try_into().unwrap_or_default()),
            bytes_per_second: claims.bytes_per_second,
        })
    }
}

impl Admission for TicketAdmission {
    fn admit<'a>(&'a self, applicant: &'a Applicant) -> BoxFuture<'a, Result<Admitted, Refusal>> {
        Box::pin(std::future::ready(self.decide(applicant)))
    }

    fn is_revoked(&self, applicant: &Applicant) -> bool {
        self.decide(applicant).is_err()
    }

    fn revoke(&self, key: &WgPublicKey, at: Timestamp) {
        self.revoke_hash(&WgKeyHash::of(key), at);
    }

    fn revoke_hash(&self, key: &WgKeyHash, at: Timestamp) {
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.clock)();
        if revoked.len() >= MAX_REVOCATIONS {
            // Tickets that old have expired by themselves.
            let age = |at: &Timestamp| now.duration_since(*at);
            revoked.retain(|_, at| age(at) <= TICKET_LIFETIME);
        }
        if revoked.len() >= MAX_REVOCATIONS
            && let Some(oldest) = revoked
                .iter()
                .min_by_key(|(_, at)| **at)
                .map(|(key, _)| *key)
        {
            tracing::warn!(%oldest, "too many revocations; forgetting the oldest");
            revoked.remove(&oldest);
        }
        let latest = revoked.entry(*key).or_insert(at);
        *latest = at.max(*latest);
    }
}

/// Admits everybody who holds the key that it names. Who runs such a relay pays for strangers'
/// traffic.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenAdmission;

impl Admission for OpenAdmission {
    fn admit<'a>(&'a self, _: &'a Applicant) -> BoxFuture<'a, Result<Admitted, Refusal>> {
        Box::pin(std::future::ready(Ok(Admitted::default())))
    }

    /// Nothing was given that could be taken back.
    fn revoke(&self, _: &WgPublicKey, _: Timestamp) {}
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use ztna_proto::MachineId;
    use ztna_proto::ticket::{TicketClaims, TicketSigner};

    use super::*;

    const REGION: RegionId = RegionId(1);

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn applicant(signer: &TicketSigner, issued_at: Timestamp) -> Applicant {
        let key = WgPublicKey([2; 32]);
        let claims = TicketClaims {
            org: OrgId::generate(),
            machine: MachineId::generate(),
            wg_key: key,
            regions: vec![REGION],
            issued_at,
            expires_at: now().checked_add(SignedDuration::from_secs(60)).unwrap(),
            bytes_per_second: Some(7),
        };
        Applicant {
            key,
            address: "192.0.2.1:1".parse().unwrap(),
            ticket: Some(signer.sign(&claims)),
            fresh: true,
        }
    }

    fn admission(signer: &TicketSigner) -> TicketAdmission {
        TicketAdmission::new(signer.verifier(), REGION, Arc::new(now))
    }

    #[tokio::test]
    async fn a_ticket_gives_its_time_and_rate() {
        let signer = TicketSigner::from_seed(&[1; 32]);
        let admitted = admission(&signer)
            .admit(&applicant(&signer, now()))
            .await
            .unwrap();
        assert_eq!(admitted.expires_in, Some(Duration::from_secs(60)));
        assert_eq!(admitted.bytes_per_second, Some(7));
    }

    #[tokio::test]
    async fn an_orgs_own_relay_serves_no_other_org() {
        let signer = TicketSigner::from_seed(&[1; 32]);
        let applicant = applicant(&signer, now());
        let open = admission(&signer).admit(&applicant).await.unwrap();
        let own = admission(&signer).for_org(open.org);
        assert!(own.admit(&applicant).await.is_ok());
        let others = admission(&signer).for_org(Some(OrgId::generate()));
        let refusal = others.admit(&applicant).await.unwrap_err();
        assert!(refusal.0.contains("another org"), "{refusal}");
    }

    #[tokio::test]
    async fn without_ticket_or_freshness_nobody_comes_in() {
        let signer = TicketSigner::from_seed(&[1; 32]);
        let admission = admission(&signer);
        let good = applicant(&signer, now());
        let bare = Applicant {
            ticket: None,
            ..good.clone()
        };
        assert!(
            admission
                .admit(&bare)
                .await
                .unwrap_err()
                .0
                .contains("ticket")
        );
        let stale = Applicant {
            fresh: false,
            ..good
        };
        assert!(
            admission
                .admit(&stale)
                .await
                .unwrap_err()
                .0
                .contains("prove")
        );
    }

    #[tokio::test]
    async fn revocation_voids_older_tickets_and_no_newer_ones() {
        let signer = TicketSigner::from_seed(&[1; 32]);
        let admission = admission(&signer);
        let old = applicant(&signer, now());
        admission.revoke_hash(&WgKeyHash::of(&old.key), now());
        let refusal = admission.admit(&old).await.unwrap_err();
        assert!(refusal.0.contains("revoked"), "{refusal}");
        assert!(admission.is_revoked(&old));
        let later = now().checked_add(SignedDuration::from_secs(1)).unwrap();
        assert!(admission.admit(&applicant(&signer, later)).await.is_ok());
        let earlier = now().checked_sub(SignedDuration::from_secs(9)).unwrap();
        admission.revoke(&old.key, earlier);
        assert!(
            admission.admit(&old).await.is_err(),
            "the later revocation stays"
        );
    }
}
