//! What owners and admins do to machines.

use reqwest::Method;
use serde_json::Value;
use ztna_proto::api::{CreatedAuthKey, Machine, Registered};
use ztna_proto::error::ErrorBody;
use ztna_proto::ids::MachineId;
use ztna_proto::machines::{HoldKind, OrgSettings};
use ztna_proto::netmap::SelfRecord;

use super::Client;
use super::client::{Owner, machine};
use super::stream::Stream;

impl Owner {
    pub async fn act(
        &self,
        who: &Client,
        id: MachineId,
        action: Value,
    ) -> Result<Machine, ErrorBody> {
        let path = self.path(&format!("/machines/{id}/actions"));
        who.post(&path, action).await
    }

    pub async fn does(&self, id: MachineId, action: Value) -> Machine {
        self.act(&self.client, id, action).await.unwrap()
    }

    pub async fn change(
        &self,
        who: &Client,
        id: MachineId,
        body: Value,
    ) -> Result<Machine, ErrorBody> {
        let path = self.path(&format!("/machines/{id}"));
        who.call(Method::PATCH, &path, body).await
    }

    pub async fn look(&self, id: MachineId) -> Machine {
        let path = self.path(&format!("/machines/{id}"));
        self.client.get(&path).await.unwrap()
    }

    pub async fn set(&self, settings: Value) -> OrgSettings {
        let path = self.path("/settings");
        self.client
            .call(Method::PATCH, &path, settings)
            .await
            .unwrap()
    }

    pub async fn key(&self, body: Value) -> CreatedAuthKey {
        self.client
            .post(&self.path("/auth-keys"), body)
            .await
            .unwrap()
    }

    pub async fn enrol_with(&self, key: &CreatedAuthKey, name: &str) -> Registered {
        let client = self.client.bearer(key.key.expose());
        client.register(&machine(name)).await.unwrap()
    }
}

/// What the machine is told of itself.
pub fn this(stream: &Stream) -> SelfRecord {
    serde_json::from_str(stream.map.this().raw().get()).unwrap()
}

/// What keeps it out of the network.
pub fn hold(stream: &Stream) -> Option<(HoldKind, String)> {
    this(stream).hold.map(|hold| (hold.kind, hold.message))
}
