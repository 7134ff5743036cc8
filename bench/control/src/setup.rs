//! Accounts, orgs, machines and rules, made over the API.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use ztna_proto::api::{CreatedAuthKey, OrgMembership, RegisterRequest, Registered, Session};
use ztna_proto::ids::OrgId;
use ztna_proto::keys::{KEM_PUBLIC_KEY_LEN, KemPublicKey, WgPublicKey};
use ztna_proto::netmap::{Endpoint, EndpointKind, VolatileReport};
use ztna_proto::policy::{PolicyDocument, PutPolicyRequest};

use crate::agent::{Machine, source};
use crate::deployment::Target;
use crate::http::{Client, request};

const EMAIL: &str = "bench@example.com";
const PASSWORD: &str = "correct horse battery staple";
/// Connections that registrations and heartbeats come over.
pub const CONNECTIONS: usize = 64;
/// Machines that see each other, apart from the hub that all see: each sees 100 others.
pub const GROUP: usize = 100;

/// A person who owns orgs, signed in anew for each use: access tokens last 15 minutes.
pub struct Admin {
    client: Client,
}

impl Admin {
    /// Signs up.
    pub async fn create(target: &Target) -> Result<Self> {
        let mut client = Client::new(target, Ipv4Addr::LOCALHOST, "none").await?;
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let _: Value = client.call("POST", "/api/auth/signup", body).await?;
        drop(client);
        Self::sign_in(target).await
    }

    pub async fn sign_in(target: &Target) -> Result<Self> {
        let mut client = Client::new(target, Ipv4Addr::LOCALHOST, "none").await?;
        let body = json!({"email": EMAIL, "password": PASSWORD});
        let session: Session = client.call("POST", "/api/auth/login", body).await?;
        client.set_bearer(&session.access_token);
        Ok(Self { client })
    }

    /// A new org and a reusable auth key.
    pub async fn new_org(&mut self, name: &str) -> Result<(OrgId, String)> {
        let body = json!({"name": name});
        let org: OrgMembership = self.client.call("POST", "/api/orgs", body).await?;
        let path = format!("/api/orgs/{}/auth-keys", org.id);
        let key: CreatedAuthKey = self
            .client
            .call(
                "POST",
                &path,
                json!({"reusable": true, "max_uses": 100_000}),
            )
            .await?;
        Ok((org.id, key.key.expose().to_owned()))
    }

    /// Puts another policy in force.
    pub async fn put_policy(&mut self, org: OrgId, text: String) -> Result<()> {
        let path = format!("/api/orgs/{org}/policy");
        let held: PolicyDocument = self.client.call("GET", &path, Value::Null).await?;
        let version = held.info.version;
        let body = PutPolicyRequest { version, text };
        let _: PolicyDocument = self.client.call("PUT", &path, body).await?;
        Ok(())
    }

    pub async fn rename(&mut self, org: OrgId, machine: &Machine, name: &str) -> Result<()> {
        let path = format!("/api/orgs/{org}/machines/{}", machine.id);
        let body = json!({"name": name});
        let _: Value = self.client.call("PATCH", &path, body).await?;
        Ok(())
    }
}

/// Registers machines over several connections; how long that took. Keys are random: nobody uses
/// them.
pub async fn register(
    target: &Target,
    key: &str,
    count: usize,
) -> Result<(Vec<Registered>, Duration)> {
    let connections = CONNECTIONS.min(count);
    let mut requests = vec![Vec::new(); connections];
    for n in 0..count {
        let body = RegisterRequest {
            name: format!("m{n}"),
            os: "linux-x86_64".to_owned(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            wg_key: WgPublicKey(rand::random()),
            kem_key: random_kem_key()?,
            node_key: None,
            org: None,
        };
        let body = serde_json::to_vec(&body)?;
        requests[n % connections].push(request("POST", "/api/register-machine", key, &body));
    }
    let mut clients = Vec::new();
    for (n, requests) in requests.into_iter().enumerate() {
        clients.push((Client::new(target, source(n), key).await?, requests));
    }
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (mut client, requests) in clients {
        tasks.spawn(async move {
            let mut registered = Vec::new();
            for request in requests {
                let (status, body) = client.exchange(&request).await?;
                ensure!(status == 200, "{}", String::from_utf8_lossy(body));
                let answer: ztna_proto::error::Envelope<Registered> = serde_json::from_slice(body)?;
                registered.push(answer.into_result()?);
            }
            Ok(registered)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let took = begin.elapsed();
    let addresses: BTreeSet<_> = all.iter().map(|machine| machine.ipv4).collect();
    ensure!(addresses.len() == count, "an address was given twice");
    Ok((all, took))
}

fn random_kem_key() -> Result<KemPublicKey> {
    let bytes: Vec<u8> = (0..KEM_PUBLIC_KEY_LEN).map(|_| rand::random()).collect();
    KemPublicKey::try_from(bytes.as_slice())
        .ok()
        .context("no ML-KEM key")
}

/// The machines of one org, by address. The first is the hub.
pub fn machines(mut registered: Vec<Registered>, first_index: usize) -> Vec<Arc<Machine>> {
    registered.sort_by_key(|machine| machine.ipv4);
    let Some(hub) = registered.first().map(|machine| machine.machine_id) else {
        return Vec::new();
    };
    let all = registered.into_iter().enumerate();
    all.map(|(n, machine)| {
        Arc::new(Machine {
            index: first_index + n,
            id: machine.machine_id,
            ipv4: machine.ipv4,
            token: machine.node_key.expose().to_owned(),
            hub,
        })
    })
    .collect()
}

/// What a machine reports: four addresses, as one at home behind a NAT has them.
pub fn report(machine: &Machine, port: u16) -> VolatileReport {
    let last = machine.ipv4.octets()[3];
    let endpoint = |addr: [u8; 4], kind| Endpoint {
        addr: (addr, port).into(),
        kind,
    };
    VolatileReport {
        endpoints: vec![
            endpoint([192, 168, 1, last], EndpointKind::Local),
            endpoint([172, 17, 0, 1], EndpointKind::Local),
            endpoint([203, 0, 113, last], EndpointKind::Stun),
            endpoint([198, 51, 100, last], EndpointKind::PortMapped),
        ],
        home_region: Some(ztna_proto::ids::RegionId(1)),
        disco_key: Some(ztna_proto::keys::DiscoPublicKey([last; 32])),
    }
}

/// Rules by which everybody sees the first machine and the [`GROUP`] machines around it. `port` is what
/// the rule of `edited`, a group's number, opens.
pub fn policy(machines: &[Arc<Machine>], edited: Option<(usize, u16)>) -> String {
    let Some((hub, others)) = machines.split_first() else {
        return "{}".to_owned();
    };
    let mut rules = vec![json!({
        "action": "accept", "src": ["*"], "dst": [format!("{}/32:*", hub.ipv4)],
    })];
    for (number, group) in others.chunks(GROUP).enumerate() {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let networks = networks(first.ipv4.to_bits(), last.ipv4.to_bits());
        let port = match edited {
            Some((group, port)) if group == number => port.to_string(),
            _ => "*".to_owned(),
        };
        let to: Vec<String> = networks.iter().map(|net| format!("{net}:{port}")).collect();
        rules.push(json!({"action": "accept", "src": networks, "dst": to}));
    }
    json!({ "acls": rules }).to_string()
}

/// The networks that make up a range of addresses.
fn networks(first: u32, last: u32) -> Vec<String> {
    let mut networks = Vec::new();
    let mut at = u64::from(first);
    let end = u64::from(last) + 1;
    while at < end {
        let mut size = 1u64 << at.trailing_zeros().min(31);
        while at + size > end {
            size /= 2;
        }
        let address = Ipv4Addr::from_bits(u32::try_from(at).unwrap_or(u32::MAX));
        networks.push(format!("{address}/{}", 32 - size.trailing_zeros()));
        at += size;
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_made_of_networks() {
        let text = |a: [u8; 4], b: [u8; 4]| {
            networks(Ipv4Addr::from(a).to_bits(), Ipv4Addr::from(b).to_bits())
        };
        assert_eq!(text([100, 64, 0, 3], [100, 64, 0, 3]), ["100.64.0.3/32"]);
        assert_eq!(
            text([100, 64, 0, 3], [100, 64, 0, 9]),
            ["100.64.0.3/32", "100.64.0.4/30", "100.64.0.8/31"]
        );
    }
}
