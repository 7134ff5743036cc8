//! How often strangers may try.

use std::net::IpAddr;
use std::time::Duration;

use ztna_proto::error::ErrorCode;
use ztna_proto::ids::{MachineId, UserId};

use super::answer::{ApiError, refuse};
use crate::kv::{Kv, Rate};

/// What is counted, for whom.
pub(crate) struct Counted<'a> {
    kv: &'a dyn Kv,
    key: String,
    rate: Rate,
    what: &'static str,
    whose: &'static str,
}

impl<'a> Counted<'a> {
    /// `what` completes "too many … from this address".
    pub(crate) fn by_address(kv: &'a dyn Kv, what: &'static str, rate: Rate, ip: IpAddr) -> Self {
        Self {
            kv,
            key: format!("rate:{what}:{}", prefix(ip)),
            rate,
            what,
            whose: "from this address",
        }
    }

    /// `what` completes "too many … of your account".
    pub(crate) fn by_user(kv: &'a dyn Kv, what: &'static str, rate: Rate, user: UserId) -> Self {
        Self {
            kv,
            key: format!("rate:{what}:{user}"),
            rate,
            what,
            whose: "of your account",
        }
    }

    /// `what` completes "too many … of this machine".
    pub(crate) fn by_machine(
        kv: &'a dyn Kv,
        what: &'static str,
        rate: Rate,
        machine: MachineId,
    ) -> Self {
        Self {
            kv,
            key: format!("rate:{what}:{machine}"),
            rate,
            what,
            whose: "of this machine",
        }
    }

    /// Refuses if the count is reached; counts nothing.
    pub(crate) async fn check(&self) -> Result<(), ApiError> {
        if self.kv.count(&self.key).await? >= self.rate.count {
            return Err(self.refusal());
        }
        Ok(())
    }

    /// Counts one more.
    pub(crate) async fn count(&self) -> Result<(), ApiError> {
        self.kv.increment(&self.key, self.rate.window).await?;
        Ok(())
    }

    /// Counts one more, and refuses if that is one too many.
    pub(crate) async fn spend(&self) -> Result<(), ApiError> {
        if self.kv.increment(&self.key, self.rate.window).await? > self.rate.count {
            return Err(self.refusal());
        }
        Ok(())
    }

    fn refusal(&self) -> ApiError {
        refuse(
            ErrorCode::RateLimited,
            format!(
                "too many {} {}; try again in {}",
                self.what,
                self.whose,
                minutes(self.rate.window)
            ),
        )
    }
}

/// IPv6 hosts have a whole /64 to call from, so they count by it.
pub(crate) fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// `5 minutes`, for messages.
pub(crate) fn minutes(duration: Duration) -> String {
    match duration.as_secs().div_ceil(60) {
        1 => "a minute".to_owned(),
        n => format!("{n} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::MemoryKv;

    #[tokio::test]
    async fn an_address_has_its_count_and_a_v6_host_one_for_its_64() {
        let kv = MemoryKv::default();
        let rate = Rate {
            count: 2,
            window: Duration::from_secs(300),
        };
        let tries = |ip: &str| Counted::by_address(&kv, "sign-ups", rate, ip.parse().unwrap());
        tries("192.0.2.1").spend().await.unwrap();
        tries("192.0.2.1").spend().await.unwrap();
        let error = tries("192.0.2.1").spend().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "too many sign-ups from this address; try again in 5 minutes"
        );
        tries("192.0.2.2").check().await.unwrap();
        tries("2001:db8::1").count().await.unwrap();
        tries("2001:db8::2").count().await.unwrap();
        assert!(tries("2001:db8::3").check().await.is_err());
        tries("2001:db8:0:1::1").check().await.unwrap();
    }
}
