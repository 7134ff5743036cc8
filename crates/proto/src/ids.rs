//! Typed identifiers. All are UUIDv7 made by the control plane, except [`RegionId`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            utoipa::ToSchema,
        )]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new id. UUIDv7: ids sort by the time they were made.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Takes the id's 16 bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The id's 16 bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }
    };
}

uuid_id!(
    /// An organisation: the tenant, and the boundary that nothing crosses.
    OrgId
);
uuid_id!(
    /// A person with an account. One user may be a member of several orgs.
    UserId
);
uuid_id!(
    /// A person's session: everything that came of one sign-in.
    SessionId
);
uuid_id!(
    /// A machine enrolled in an org.
    MachineId
);
uuid_id!(
    /// An auth key that enrols machines.
    AuthKeyId
);
uuid_id!(
    /// An API key.
    ApiKeyId
);
uuid_id!(
    /// An invitation into an org.
    InvitationId
);
uuid_id!(
    /// A rule of an org's policy.
    RuleId
);
uuid_id!(
    /// A posture policy of an org.
    PosturePolicyId
);

/// A relay region. Small numbers chosen by the operator; 900 to 999 are for an org's own regions.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = u32)]
pub struct RegionId(pub u32);

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse() {
        let id = MachineId::generate();
        assert_eq!(id.to_string().parse::<MachineId>().unwrap(), id);
        assert!("not-an-id".parse::<OrgId>().is_err());
    }

    #[test]
    fn ids_are_plain_strings_in_json() {
        let id = OrgId::generate();
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }
}
