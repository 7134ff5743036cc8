//! What a person wants of this machine's part in the network.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use ztna_local::{Failure, FailureKind, UpOptions};
use ztna_proto::network::{EXIT_ROUTES, check_routes};

/// Remembered between two starts; what `ztna up` does not say stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkPrefs {
    /// Networks that this machine offers to route; of an exit node everything.
    pub advertise: BTreeSet<IpNet>,
    /// Whether it sends to the networks that others route.
    pub accept_routes: bool,
    /// Name or address of the peer that everything else goes through.
    pub exit_node: Option<String>,
    /// Whether this machine's programs ask the tailnet's names.
    pub accept_dns: bool,
}

impl Default for NetworkPrefs {
    fn default() -> Self {
        Self {
            advertise: BTreeSet::new(),
            accept_routes: false,
            exit_node: None,
            accept_dns: true,
        }
    }
}

impl NetworkPrefs {
    /// Takes over what `ztna up` was given.
    ///
    /// # Errors
    /// It makes no sense; nothing is taken over.
    pub fn with(&self, options: &UpOptions) -> Result<Self, Failure> {
        let mut prefs = self.clone();
        let is_exit = |route: &IpNet| EXIT_ROUTES.contains(route);
        if let Some(routes) = &options.advertise_routes {
            if routes.iter().any(is_exit) {
                return Err(bad(
                    "an exit node is no subnet route; say --advertise-exit-node instead of 0.0.0.0/0",
                ));
            }
            let routes = check_routes(routes, &[]).map_err(|error| bad(error.to_string()))?;
            prefs.advertise.retain(is_exit);
            prefs.advertise.extend(routes);
        }
        match options.advertise_exit_node {
            Some(true) => prefs.advertise.extend(EXIT_ROUTES),
            Some(false) => prefs.advertise.retain(|route| !is_exit(route)),
            None => {}
        }
        let all: Vec<IpNet> = prefs.advertise.iter().copied().collect();
        check_routes(&all, &[]).map_err(|error| bad(error.to_string()))?;
        prefs.accept_routes = options.accept_routes.unwrap_or(prefs.accept_routes);
        prefs.accept_dns = options.accept_dns.unwrap_or(prefs.accept_dns);
        if let Some(name) = &options.exit_node {
            prefs.exit_node = Some(name.clone()).filter(|name| !name.is_empty());
        }
        if prefs.exit_node.is_some() && prefs.advertise.iter().any(is_exit) {
            return Err(bad(
                "a machine cannot be an exit node and use one; say --advertise-exit-node=false or \
                 --exit-node=\"\"",
            ));
        }
        Ok(prefs)
    }
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(texts: &[&str]) -> Option<Vec<IpNet>> {
        Some(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn what_is_not_said_stays_and_nonsense_changes_nothing() {
        let prefs = NetworkPrefs::default();
        let prefs = prefs
            .with(&UpOptions {
                advertise_routes: routes(&["10.0.0.0/24"]),
                advertise_exit_node: Some(true),
                accept_routes: Some(true),
                ..UpOptions::default()
            })
            .unwrap();
        assert_eq!(prefs.advertise.len(), 3);
        assert_eq!(prefs.with(&UpOptions::default()), Ok(prefs.clone()));

        let fewer = prefs.with(&UpOptions {
            advertise_routes: routes(&[]),
            ..UpOptions::default()
        });
        assert_eq!(fewer.unwrap().advertise, EXIT_ROUTES.into());
        let subnet = prefs.with(&UpOptions {
            advertise_exit_node: Some(false),
            exit_node: Some("home".to_owned()),
            ..UpOptions::default()
        });
        let subnet = subnet.unwrap();
        assert_eq!(subnet.advertise.len(), 1);
        assert_eq!(subnet.exit_node.as_deref(), Some("home"));
        let cleared = subnet.with(&UpOptions {
            exit_node: Some(String::new()),
            ..UpOptions::default()
        });
        assert_eq!(cleared.unwrap().exit_node, None);

        for (bad, part) in [
            (
                UpOptions {
                    exit_node: Some("home".to_owned()),
                    ..UpOptions::default()
                },
                "cannot be an exit node and use one",
            ),
            (
                UpOptions {
                    advertise_routes: routes(&["10.0.0.1/24"]),
                    ..UpOptions::default()
                },
                "write 10.0.0.0/24",
            ),
            (
                UpOptions {
                    advertise_routes: routes(&["0.0.0.0/0"]),
                    ..UpOptions::default()
                },
                "--advertise-exit-node",
            ),
        ] {
            let error = prefs.with(&bad).unwrap_err();
            assert_eq!(error.kind, FailureKind::BadRequest);
            assert!(error.message.contains(part), "{}", error.message);
        }
    }
}
