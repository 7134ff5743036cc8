//! On whose behalf the work at hand is done: goes with every transaction into the audit log.
//!
//! A layer ([`super::layers`]) notes where a call comes from before any route sees it, the extractors note
//! who calls, and `db` passes both on wherever a transaction begins, so that no route has to. Work
//! outside of a call is the system's own. A task that works on for a call takes it along
//! ([`Call::current`], [`around`]).

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request};
use serde_json::{Map, json};
use ztna_proto::ids::{ApiKeyId, AuthKeyId, MachineId, UserId};

use super::caller::{client_ip, client_name};

tokio::task_local! {
    static CALL: Arc<Call>;
}

/// The id of a request, as the answer tells it.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) String);

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    User(UserId),
    /// A program, for a person.
    ApiKey {
        id: ApiKeyId,
        of: UserId,
    },
    /// Somebody who enrols a machine by an auth key.
    AuthKey(AuthKeyId),
    Machine(MachineId),
}

/// A call: from where, by which route, and, once that is proven, from whom.
#[derive(Debug)]
pub(crate) struct Call {
    ip: Option<IpAddr>,
    client: String,
    route: String,
    request: Option<String>,
    actor: OnceLock<Actor>,
    name: OnceLock<String>,
    /// The calls by which single machines came, where several share a transaction.
    parts: Vec<(MachineId, Arc<Self>)>,
}

impl Call {
    pub(super) fn read(request: &Request, trusted_proxies: usize) -> Self {
        let path = request.extensions().get::<MatchedPath>();
        let path = path.map_or("unmatched", MatchedPath::as_str);
        let id = request.extensions().get::<RequestId>();
        Self {
            ip: client_ip(request.headers(), request.extensions(), trusted_proxies),
            client: client_name(request.headers()),
            route: format!("{} {path}", request.method()),
            request: id.map(|RequestId(id)| id.clone()),
            actor: OnceLock::new(),
            name: OnceLock::new(),
            parts: Vec::new(),
        }
    }

    /// The call at hand. `None`: the system works by itself.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CALL.try_with(Arc::clone).ok()
    }

    /// The call at hand, by nobody: for what somebody tried who did not prove to be anybody.
    pub(crate) fn unproven() -> Option<Arc<Self>> {
        let call = Self::current()?;
        Some(Arc::new(Self {
            ip: call.ip,
            client: call.client.clone(),
            route: call.route.clone(),
            request: call.request.clone(),
            actor: OnceLock::new(),
            name: OnceLock::new(),
            parts: Vec::new(),
        }))
    }

    /// What stands for several calls by one actor in one transaction: from where a machine's row came, the
    /// log tells by the call of that machine. `None`: the system works by itself.
    pub(crate) fn shared(mut parts: Vec<(MachineId, Arc<Self>)>) -> Option<Arc<Self>> {
        if parts.len() == 1 {
            return parts.pop().map(|(_, call)| call);
        }
        let (_, first) = parts.first()?;
        Some(Arc::new(Self {
            ip: None,
            client: String::new(),
            route: first.route.clone(),
            request: None,
            actor: first.actor.clone(),
            name: OnceLock::new(),
            parts,
        }))
    }

    fn setting(&self) -> String {
        let (kind, id, of) = match self.actor.get() {
            None => ("anonymous", None, None),
            Some(Actor::User(id)) => ("user", Some(id.0), None),
            Some(Actor::ApiKey { id, of }) => ("api_key", Some(id.0), Some(of.0)),
            Some(Actor::AuthKey(id)) => ("auth_key", Some(id.0), None),
            Some(Actor::Machine(id)) => ("machine", Some(id.0), None),
        };
        let mut setting = json!({
            "kind": kind, "id": id, "for": of, "name": self.name.get(),
            "ip": self.ip, "client": self.client, "route": self.route, "request": self.request,
        });
        if !self.parts.is_empty() {
            let rows = self.parts.iter().map(|(id, call)| {
                let own = json!({"ip": call.ip, "client": call.client, "request": call.request});
                (id.0.to_string(), own)
            });
            setting["rows"] = rows.collect::<Map<_, _>>().into();
        }
        setting.to_string()
    }
}

/// Notes who calls. Who was proven first, stays.
pub(crate) fn act_as(actor: Actor) {
    let _ = CALL.try_with(|call| call.actor.set(actor));
}

/// Notes the actor's name, for a transaction after which nobody could look it up.
pub(crate) fn name_actor(name: &str) {
    let _ = CALL.try_with(|call| call.name.set(name.to_owned()));
}

/// What a transaction says of the call at hand (`ztna.actor`); empty: the system works by itself.
pub(crate) fn actor_setting() -> String {
    CALL.try_with(|call| call.setting()).unwrap_or_default()
}

/// Works on for a call, in another task.
pub(crate) async fn around<F: Future>(call: Option<Arc<Call>>, work: F) -> F::Output {
    match call {
        Some(call) => CALL.scope(call, work).await,
        None => work.await,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn call() -> Call {
        Call {
            ip: Some("192.0.2.1".parse().unwrap()),
            client: "test".to_owned(),
            route: "GET /".to_owned(),
            request: None,
            actor: OnceLock::new(),
            name: OnceLock::new(),
            parts: Vec::new(),
        }
    }

    #[tokio::test]
    async fn who_was_proven_first_acts_and_tasks_take_the_call_along() {
        assert_eq!(actor_setting(), "");
        act_as(Actor::User(UserId::generate()));
        assert_eq!(actor_setting(), "");
        let user = UserId::generate();
        CALL.scope(Arc::new(call()), async {
            assert!(actor_setting().contains("\"anonymous\""));
            act_as(Actor::User(user));
            act_as(Actor::Machine(MachineId::generate()));
            assert!(actor_setting().contains(&user.to_string()));
            let there = Call::current();
            let there = tokio::spawn(around(there, async { actor_setting() }));
            assert_eq!(there.await.unwrap(), actor_setting());
            let nobody = tokio::spawn(around(Call::unproven(), async { actor_setting() }));
            let nobody = nobody.await.unwrap();
            assert!(nobody.contains("\"anonymous\""), "{nobody}");
            assert!(nobody.contains("192.0.2.1"), "{nobody}");
            assert_eq!(tokio::spawn(async { actor_setting() }).await.unwrap(), "");
            let others = Arc::new(call());
            let (one, other) = (MachineId::generate(), MachineId::generate());
            let alone = Call::shared(vec![(one, Arc::clone(&others))]);
            assert!(Arc::ptr_eq(&alone.unwrap(), &others));
            let mine = Call::current().unwrap();
            let both = Call::shared(vec![(one, mine), (other, others)]).unwrap();
            let both: Value = around(Some(both), async { actor_setting() })
                .await
                .parse()
                .unwrap();
            assert_eq!(both["kind"], "user");
            assert_eq!(both["ip"], Value::Null);
            for id in [one, other] {
                assert_eq!(both["rows"][id.0.to_string()]["ip"], "192.0.2.1");
            }
        })
        .await;
    }
}
