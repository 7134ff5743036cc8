//! Two orgs with everything in them, and everybody who calls.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use ztna_proto::api::{CreatedApiKey, Invited, Machine, Me, Registered, Role};
use ztna_proto::policy::PolicyRule;
use ztna_proto::posture::PosturePolicy;

use super::Answered;
use crate::common::client::Owner;
use crate::common::{Client, Server};

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    Nobody,
    Garbage,
    /// The owner of the other org.
    Outsider,
    OtherMachine,
    /// An API key of the other org, for everything.
    KeyOfOther,
    Machine,
    /// An API key for relays alone, which reads.
    KeyOfOtherArea,
    /// An API key that reads everything.
    KeyThatReads,
    Member,
    Auditor,
    /// An API key for everything, of the owner's.
    Key,
    Admin,
    Owner,
}

impl Caller {
    pub const ALL: [Self; 13] = [
        Self::Nobody,
        Self::Garbage,
        Self::Outsider,
        Self::OtherMachine,
        Self::KeyOfOther,
        Self::Machine,
        Self::KeyOfOtherArea,
        Self::KeyThatReads,
        Self::Member,
        Self::Auditor,
        Self::Key,
        Self::Admin,
        Self::Owner,
    ];

    pub fn is_key(self) -> bool {
        matches!(
            self,
            Self::KeyOfOther | Self::KeyOfOtherArea | Self::KeyThatReads | Self::Key
        )
    }

    pub fn is_person(self) -> bool {
        matches!(
            self,
            Self::Outsider | Self::Member | Self::Auditor | Self::Admin | Self::Owner
        )
    }

    pub fn is_of_other(self) -> bool {
        matches!(self, Self::Outsider | Self::OtherMachine | Self::KeyOfOther)
    }
}

/// Whose ids stand in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Of the org that the test is about.
    Own,
    /// That org, and in it the ids of the other's things.
    OtherInOwn,
    /// That org, and in it ids that nothing has.
    NoneInOwn,
    /// The other org, and its things.
    OtherOrg,
    /// An org that is not there.
    NoOrg,
}

impl Ids {
    pub fn for_path(path: &str) -> &'static [Self] {
        match path.matches('{').count() {
            0 => &[Self::Own],
            1 if path.contains("{org}") => &[Self::Own, Self::OtherOrg, Self::NoOrg],
            1 => &[Self::Own, Self::OtherInOwn, Self::NoneInOwn],
            _ => &[
                Self::Own,
                Self::OtherInOwn,
                Self::NoneInOwn,
                Self::OtherOrg,
                Self::NoOrg,
            ],
        }
    }
}

/// Whether a path names a thing by what each org has of its own: a number, a domain.
pub fn has_own_numbers(path: &str) -> bool {
    ["{version}", "{region}", "{domain}"]
        .iter()
        .any(|name| path.contains(name))
}

/// One org, its people and its things.
struct Side {
    owner: Owner,
    machine: Registered,
    key: CreatedApiKey,
    parameters: BTreeMap<(&'static str, &'static str), String>,
    /// What nobody outside may read.
    secrets: Vec<String>,
}

impl Side {
    async fn build(server: &Server, name: &str) -> Self {
        let owner = Owner::new(server, name).await;
        let (_, machine) = owner.enrol(&format!("{name}-box")).await;
        let region = crate::relays::region(900, &format!("{name}rel"));
        let path = owner.path("/relays/900");
        let _: Value = owner.client.call(Method::PUT, &path, region).await.unwrap();
        let body = json!({"email": format!("{name}-guest@example.com"), "role": "member"});
        let invited: Invited = owner
            .client
            .post(&owner.path("/invitations"), body)
            .await
            .unwrap();
        let body = json!({"scopes": ["write"], "expires_in_days": 1, "description": format!("{name}-robot")});
        let key: CreatedApiKey = owner
            .client
            .post(&owner.path("/api-keys"), body)
            .await
            .unwrap();
        let rule = json!({"action": "accept", "src": [format!("{name}-guest@example.com")], "dst": ["*:22"]});
        let body = json!({"section": "acls", "rule": rule});
        let _: Value = owner
            .client
            .post(&owner.path("/policy/rules"), body)
            .await
            .unwrap();
        let rules: Vec<PolicyRule> = owner
            .client
            .get(&owner.path("/policy/rules"))
            .await
            .unwrap();
        let rule = rules.last().unwrap().id.to_string();
        let body = super::rules::posture_policy(&format!("{name}-posture"));
        let path = owner.path("/posture/policies");
        let posture: PosturePolicy = owner.client.post(&path, body).await.unwrap();
        let path = owner.path(&format!("/machines/{}/gateway", machine.machine_id));
        let body = json!({"endpoint": format!("{name}-gate.example.com:51820")});
        let _: Value = owner.client.call(Method::PUT, &path, body).await.unwrap();
        owner.set(json!({"pq": "preferred"})).await;
        let body = json!({"name": format!("{name}-phone"), "gateway": machine.machine_id});
        let path = owner.path("/static-peers");
        let phone: Value = owner.client.post(&path, body).await.unwrap();
        let phone = phone["peer"]["id"].as_str().unwrap().to_owned();
        let me: Me = owner.client.get("/api/auth/me").await.unwrap();
        let sessions: Value = owner.client.get("/api/auth/sessions").await.unwrap();
        let parameters = BTreeMap::from([
            (("", "org"), owner.org.id.to_string()),
            (("releases", "version"), "0.1.0".to_owned()),
            (("{version}", "file"), "ztna-linux-x86_64".to_owned()),
            (("machines", "machine"), machine.machine_id.to_string()),
            (("static-peers", "machine"), phone.clone()),
            (("machine-static-peers", "machine"), phone),
            (("auth-keys", "id"), owner.key.info.id.to_string()),
            (("api-keys", "id"), key.info.id.to_string()),
            (("invitations", "id"), invited.invitation.id.to_string()),
            (("policies", "policy"), posture.id.to_string()),
            (("members", "user"), me.id.to_string()),
            (
                ("sessions", "id"),
                sessions[0]["id"].as_str().unwrap().to_owned(),
            ),
            (("rules", "rule"), rule),
            (("versions", "version"), "1".to_owned()),
            (("relays", "region"), "900".to_owned()),
            (("kem-keys", "hash"), "0".repeat(64)),
            (("sign-in", "provider"), "github".to_owned()),
            (("domains", "domain"), format!("{name}.example")),
        ]);
        let secrets = vec![
            format!("{name}@example.com"),
            format!("{name}-guest"),
            format!("{name}-box"),
            format!("{name}-phone"),
            format!("{name}-gate"),
            format!("{name}-posture"),
            format!("{name}-robot"),
            format!("{name}rel"),
            machine.ipv6.to_string(),
            machine.node_key.expose().to_owned(),
        ];
        Self {
            owner,
            machine,
            key,
            parameters,
            secrets,
        }
    }
}

pub struct World {
    own: Side,
    other: Side,
    callers: BTreeMap<Caller, Client>,
    _server: Server,
}

impl World {
    pub async fn build() -> Self {
        let server = Server::start_with(|config| {
            config.limits.credentials.count = 100_000;
            config.limits.account.count = 100_000;
            config.limits.api_key.count = 100_000;
        })
        .await;
        let own = Side::build(&server, "acme").await;
        let other = Side::build(&server, "rival").await;
        let nobody = Client::anonymous(&server);
        let key = async |side: &Side, scopes: &[&str]| {
            let body = json!({"scopes": scopes, "expires_in_days": 1});
            let path = side.owner.path("/api-keys");
            let made: CreatedApiKey = side.owner.client.post(&path, body).await.unwrap();
            nobody.bearer(made.key.expose())
        };
        let add = async |name: &str, role: Role| own.owner.add(&server, name, role).await;
        let callers = BTreeMap::from([
            (Caller::Nobody, nobody.clone()),
            (Caller::Garbage, nobody.bearer("garbage.in.it")),
            (Caller::Outsider, other.owner.client.clone()),
            (
                Caller::OtherMachine,
                nobody.bearer(other.machine.node_key.expose()),
            ),
            (Caller::KeyOfOther, nobody.bearer(other.key.key.expose())),
            (
                Caller::Machine,
                nobody.bearer(own.machine.node_key.expose()),
            ),
            (Caller::KeyOfOtherArea, key(&own, &["relays:read"]).await),
            (Caller::KeyThatReads, key(&own, &["read"]).await),
            (Caller::Member, add("member", Role::Member).await),
            (Caller::Auditor, add("auditor", Role::Auditor).await),
            (Caller::Key, nobody.bearer(own.key.key.expose())),
            (Caller::Admin, add("admin", Role::Admin).await),
            (Caller::Owner, own.owner.client.clone()),
        ]);
        assert_eq!(callers.len(), Caller::ALL.len());
        Self {
            own,
            other,
            callers,
            _server: server,
        }
    }

    pub async fn document(&self) -> Value {
        let nobody = &self.callers[&Caller::Nobody];
        let request = nobody.request(Method::GET, "/api/openapi.json");
        request.send().await.unwrap().json().await.unwrap()
    }

    /// A parameter of the path that the world has no id for.
    pub fn unknown_parameter(&self, path: &str) -> Option<String> {
        parameters(path)
            .find(|(place, name)| lookup(&self.own, place, name).is_none())
            .map(|(_, name)| name.to_owned())
    }

    pub async fn call(
        &self,
        method: &Method,
        path: &str,
        caller: Caller,
        ids: Ids,
        body: Option<&Value>,
    ) -> Answered {
        let mut filled = path.to_owned();
        for (place, name) in parameters(path) {
            let value = match (ids, name) {
                (Ids::Own, _) => lookup(&self.own, place, name),
                (Ids::OtherInOwn | Ids::NoneInOwn, "org") => lookup(&self.own, place, name),
                (Ids::OtherInOwn | Ids::OtherOrg, _) => lookup(&self.other, place, name),
                // A number, a hash or an id that nothing has.
                (Ids::NoneInOwn | Ids::NoOrg, "version") => Some("987654".to_owned()),
                (Ids::NoneInOwn | Ids::NoOrg, "region") => Some("999".to_owned()),
                (Ids::NoneInOwn | Ids::NoOrg, "hash") => Some("f".repeat(64)),
                (Ids::NoneInOwn | Ids::NoOrg, _) => Some(uuid::Uuid::now_v7().to_string()),
            };
            filled = filled.replacen(&format!("{{{name}}}"), &value.unwrap(), 1);
        }
        let mut request = self.callers[&caller].request(method.clone(), &filled);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let body = response.text().await.unwrap();
        Answered {
            what: format!("{method} {path} as {caller:?} with {ids:?} ids"),
            status,
            body,
        }
    }

    /// What must stand in no answer to the caller.
    pub fn secrets_of_others(&self, caller: Caller, ids: Ids) -> Vec<String> {
        let side = match caller.is_of_other() {
            true => &self.own,
            false => &self.other,
        };
        let mut secrets = side.secrets.clone();
        // Whoever does not belong there reads no id that the call has not named itself.
        if matches!(ids, Ids::Own | Ids::NoneInOwn | Ids::NoOrg) && !caller.is_of_other() {
            secrets.extend(
                side.parameters
                    .values()
                    .filter(|id| id.len() == 36)
                    .cloned(),
            );
        }
        if matches!(caller, Caller::Nobody | Caller::Garbage) {
            secrets.extend(self.own.secrets.clone());
        }
        secrets
    }

    /// A text without the ids that calls have named.
    pub fn without_ids(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for side in [&self.own, &self.other] {
            for id in side.parameters.values().filter(|id| id.len() >= 36) {
                text = text.replace(id, "ID");
            }
        }
        text
    }

    /// Nothing of the other org's was changed by all this.
    pub async fn is_as_it_was(&self) {
        let Owner { client, .. } = &self.other.owner;
        let path = self.other.owner.path("/machines");
        let machines: Vec<Machine> = client.get(&path).await.unwrap();
        assert!(machines.iter().any(|machine| machine.name == "rival-box"));
        let path = self.other.owner.path("/audit?limit=500");
        let log: Value = client.get(&path).await.unwrap();
        let own = self.other.secrets[0].as_str();
        for row in log["entries"].as_array().unwrap() {
            let actor = row["actor"]["name"].as_str().unwrap_or_default();
            assert!(
                actor == own || actor.is_empty() || actor.starts_with("rival"),
                "{row}"
            );
        }
    }
}

/// The parameters of a path and its query, each with the part before it.
fn parameters(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts: Vec<&str> = path.split(['/', '=']).collect();
    (1..parts.len()).filter_map(move |place| {
        let name = parts[place].strip_prefix('{')?.strip_suffix('}')?;
        Some((parts[place - 1], name))
    })
}

fn lookup(side: &Side, place: &str, name: &str) -> Option<String> {
    let place = if name == "org" { "" } else { place };
    let found = side
        .parameters
        .iter()
        .find(|((p, n), _)| *p == place && *n == name);
    found.map(|(_, value)| value.clone())
}
