//! A client of the control plane, as labs and the demo use it: an owner and what an owner does.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ztna_proto::api::{
    CreateAuthKeyRequest, CreateOrgRequest, CreatedAuthKey, LoginRequest, Machine, OrgMembership,
    Session, SignupRequest, UpdateMachineRequest,
};
use ztna_proto::error::Envelope;
use ztna_proto::machines::{MachineAction, OrgSettings, UpdateOrgSettings};
use ztna_proto::network::DnsSettings;
use ztna_proto::policy::{PolicyDocument, PutPolicyRequest};
use ztna_proto::static_peers::{
    CreateStaticPeer, Gateway, GatewayRequest, RotateStaticPeer, StaticPeer, StaticPeerConfig,
};
use ztna_proto::{ErrorBody, MachineId, OrgId};
use ztna_tls::{KeyExchange, client_config, parse_pin};

use crate::net::Netns;

/// Longest wait for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Where the control plane is and how it proves itself.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Server {
    /// `https://HOST:PORT`
    pub url: String,
    /// `sha256:…`
    pub pin: String,
}

/// Calls without and with a session.
pub struct Api {
    server: Server,
    tls: Arc<rustls::ClientConfig>,
    /// The namespace to call from. `None`: the one this program runs in.
    from: Option<Netns>,
}

/// A signed-in person and the org they made.
pub struct Owner<'a> {
    api: &'a Api,
    token: String,
    /// Their org.
    pub org: OrgId,
}

impl Api {
    /// A client that calls from a namespace.
    ///
    /// # Errors
    /// The pin is malformed.
    pub fn new(server: &Server, from: Option<&Netns>) -> Result<Self> {
        let pin = parse_pin(&server.pin)?;
        Ok(Self {
            server: server.clone(),
            tls: client_config(&pin, KeyExchange::RequirePostQuantum)?,
            from: from.cloned(),
        })
    }

    /// Signs a new person up, signs in, and makes an org.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn sign_up(&self, email: &str, password: &str, org: &str) -> Result<Owner<'_>> {
        let request = SignupRequest {
            email: email.to_owned(),
            password: password.to_owned(),
            invitation: None,
        };
        self.post::<serde_json::Value>("/api/auth/signup", None, &request)?;
        let token = self.session(email, password)?;
        let request = CreateOrgRequest {
            name: org.to_owned(),
        };
        let made: OrgMembership = self.post("/api/orgs", Some(&token), &request)?;
        Ok(Owner {
            api: self,
            token,
            org: made.id,
        })
    }

    /// Signs in a person who has made their org before.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn sign_in(&self, email: &str, password: &str, org: OrgId) -> Result<Owner<'_>> {
        Ok(Owner {
            api: self,
            token: self.session(email, password)?,
            org,
        })
    }

    fn session(&self, email: &str, password: &str) -> Result<String> {
        let request = LoginRequest {
            email: email.to_owned(),
            password: password.to_owned(),
            totp_code: None,
        };
        let session: Session = self.post("/api/auth/login", None, &request)?;
        Ok(session.access_token)
    }

    fn post<T: DeserializeOwned + Send>(
        &self,
        path: &str,
        token: Option<&str>,
        body: &(impl Serialize + Sync),
    ) -> Result<T> {
        self.call(reqwest::Method::POST, path, token, Some(body))
    }

    /// One call. `body` of `None` sends none.
    fn call<T: DeserializeOwned + Send>(
        &self,
        method: reqwest::Method,
        path: &str,
        token: Option<&str>,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T> {
        let url = format!("{}{path}", self.server.url);
        let what = format!("{method} {url}");
        let work = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    let client = reqwest::Client::builder()
                        .tls_backend_preconfigured((*self.tls).clone())
                        .timeout(ANSWER_LIMIT)
                        .no_proxy()
                        .build()?;
                    let mut request = client.request(method, &url);
                    if let Some(token) = token {
                        request = request.bearer_auth(token);
                    }
                    if let Some(body) = body {
                        request = request.json(body);
                    }
                    let answer: Envelope<T> = request.send().await?.json().await?;
                    anyhow::Ok(answer.into_result())
                })
        };
        let answer: Result<T, ErrorBody> = match &self.from {
            Some(netns) => netns.within(work),
            None => work(),
        }
        .with_context(|| what.clone())?;
        answer.map_err(|error| anyhow::Error::new(error).context(what))
    }
}

impl Owner<'_> {
    /// A new auth key.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn auth_key(&self, reusable: bool, expires_in: Option<u64>) -> Result<CreatedAuthKey> {
        self.make_key(&CreateAuthKeyRequest {
            reusable,
            expires_in,
            description: "lab".to_owned(),
            ..CreateAuthKeyRequest::default()
        })
    }

    /// An auth key as it is asked for.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn make_key(&self, request: &CreateAuthKeyRequest) -> Result<CreatedAuthKey> {
        let path = format!("/api/orgs/{}/auth-keys", self.org);
        self.api.post(&path, Some(&self.token), request)
    }

    /// Changes the org's settings.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn settings(&self, change: &UpdateOrgSettings) -> Result<()> {
        let path = format!("/api/orgs/{}/settings", self.org);
        let token = Some(&*self.token);
        let changed =
            self.api
                .call::<OrgSettings>(reqwest::Method::PATCH, &path, token, Some(change));
        changed.map(|_| ())
    }

    /// Approves, quarantines, locks a machine, or the like.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn act(&self, machine: MachineId, action: &MachineAction) -> Result<()> {
        let path = format!("/api/orgs/{}/machines/{machine}/actions", self.org);
        let done = self.api.post::<Machine>(&path, Some(&self.token), action);
        done.map(|_| ())
    }

    /// The org's machines.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn machines(&self) -> Result<Vec<Machine>> {
        let path = format!("/api/orgs/{}/machines", self.org);
        self.api
            .call(reqwest::Method::GET, &path, Some(&self.token), None::<&()>)
    }

    /// The machine of a name.
    ///
    /// # Errors
    /// There is none, or the control plane refuses.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        self.machines()?
            .into_iter()
            .find(|machine| machine.name == name)
            .with_context(|| format!("the org has no machine {name}"))
    }

    /// Renames a machine, or sets when its key expires.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn update(&self, machine: MachineId, change: &UpdateMachineRequest) -> Result<()> {
        self.change(reqwest::Method::PATCH, machine, Some(change))
    }

    /// Replaces the org's policy.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn set_policy(&self, text: &str) -> Result<()> {
        use reqwest::Method;
        let path = format!("/api/orgs/{}/policy", self.org);
        let token = Some(&*self.token);
        let in_force: PolicyDocument = self.api.call(Method::GET, &path, token, None::<&()>)?;
        let request = PutPolicyRequest {
            version: in_force.info.version,
            text: text.to_owned(),
        };
        let put = self
            .api
            .call::<PolicyDocument>(Method::PUT, &path, token, Some(&request));
        put.map(|_| ())
    }

    /// Says which of the networks that a machine offers it may route.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn approve_routes(&self, machine: MachineId, networks: &[&str]) -> Result<()> {
        let path = format!("/api/orgs/{}/machines/{machine}/routes", self.org);
        let body = serde_json::json!({ "approved": networks });
        let token = Some(&*self.token);
        self.api
            .call::<serde_json::Value>(reqwest::Method::PUT, &path, token, Some(&body))?;
        Ok(())
    }

    /// Has a machine carry static peers.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn make_gateway(&self, machine: MachineId, endpoint: &str) -> Result<Gateway> {
        let path = format!("/api/orgs/{}/machines/{machine}/gateway", self.org);
        let request = GatewayRequest {
            endpoint: endpoint.to_owned(),
            listen_port: None,
        };
        self.api.call(
            reqwest::Method::PUT,
            &path,
            Some(&self.token),
            Some(&request),
        )
    }

    /// A new static peer, and what its device is configured with.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn static_peer(&self, request: &CreateStaticPeer) -> Result<StaticPeerConfig> {
        let path = format!("/api/orgs/{}/static-peers", self.org);
        self.api.post(&path, Some(&self.token), request)
    }

    /// New keys for a static peer.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn rotate(&self, peer: MachineId) -> Result<StaticPeerConfig> {
        let path = format!("/api/orgs/{}/static-peers/{peer}/keys", self.org);
        self.api
            .post(&path, Some(&self.token), &RotateStaticPeer::default())
    }

    /// The org's static peers.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn static_peers(&self) -> Result<Vec<StaticPeer>> {
        let path = format!("/api/orgs/{}/static-peers", self.org);
        self.api
            .call(reqwest::Method::GET, &path, Some(&self.token), None::<&()>)
    }

    /// Sets the org's names.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn set_dns(&self, settings: &DnsSettings) -> Result<()> {
        let path = format!("/api/orgs/{}/dns", self.org);
        let token = Some(&*self.token);
        self.api
            .call::<DnsSettings>(reqwest::Method::PUT, &path, token, Some(settings))?;
        Ok(())
    }

    /// Deletes a machine.
    ///
    /// # Errors
    /// The control plane refuses.
    pub fn delete(&self, machine: MachineId) -> Result<()> {
        self.change(reqwest::Method::DELETE, machine, None::<&()>)
    }

    fn change(
        &self,
        method: reqwest::Method,
        machine: MachineId,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<()> {
        let path = format!("/api/orgs/{}/machines/{machine}", self.org);
        self.api
            .call::<serde_json::Value>(method, &path, Some(&self.token), body)?;
        Ok(())
    }
}
