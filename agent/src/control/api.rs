//! Calls of the HTTP API.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use ztna_proto::api::{
    AuthAction, HeartbeatAnswer, HeartbeatRequest, KemKeyAnswer, Me, RefreshRequest,
    RegisterRequest, Registered, Session, WIPED_PATH,
};
use ztna_proto::connections::ReportConnections;
use ztna_proto::error::Envelope;
use ztna_proto::keys::KemPublicKey;
use ztna_proto::network::{AdvertiseRoutesRequest, MachineRoutes};
use ztna_proto::policy::{EvaluateRequest, Evaluation};
use ztna_proto::static_peers::{
    AttachRequest, Attached, CreateStaticPeer, Gateway, RotateStaticPeer, StaticPeer,
    StaticPeerConfig,
};
use ztna_proto::{KemKeyHash, MachineId, OrgId};
use ztna_tls::KeyExchange;

use super::{ControlError, Server};

/// Time for a connection to the control plane, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a whole call.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer that is read, in bytes: no call that we make has one near to it.
const MAX_ANSWER: usize = 1024 * 1024;

/// The HTTP API of one control plane. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(super) server: Server,
    pub(super) http: reqwest::Client,
    tls: Arc<rustls::ClientConfig>,
}

impl Api {
    /// A client. Connects at the first call.
    ///
    /// # Errors
    /// The server's pin is malformed.
    pub fn new(server: Server) -> Result<Self, ControlError> {
        let tls = ztna_tls::client_config(server.pin(), KeyExchange::PreferPostQuantum)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .https_only(server.encrypted())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .user_agent(concat!("ztna/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ControlError::transport(server.origin(), &error))?;
        Ok(Self { server, http, tls })
    }

    /// The control plane.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// TLS settings, for the machine stream.
    pub(super) fn tls(&self) -> &Arc<rustls::ClientConfig> {
        &self.tls
    }

    /// `POST /api/register-machine`; `bearer`: an auth key or a user's access token.
    ///
    /// # Errors
    /// The credential is refused, or the control plane was not reached.
    pub async fn register(
        &self,
        bearer: &str,
        request: &RegisterRequest,
    ) -> Result<Registered, ControlError> {
        self.call(
            Method::POST,
            "/api/register-machine",
            Some(bearer),
            Some(request),
        )
        .await
    }

    /// `POST /api/machine-heartbeat`
    ///
    /// # Errors
    /// The token is refused, or the control plane was not reached.
    pub async fn heartbeat(
        &self,
        token: &str,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatAnswer, ControlError> {
        self.call(
            Method::POST,
            "/api/machine-heartbeat",
            Some(token),
            Some(request),
        )
        .await
    }

    /// `PUT /api/machine-connections`
    ///
    /// # Errors
    /// The token or the report is refused, or the control plane was not reached.
    pub async fn report_connections(
        &self,
        token: &str,
        report: &ReportConnections,
    ) -> Result<IgnoredAny, ControlError> {
        let path = "/api/machine-connections";
        self.call(Method::PUT, path, Some(token), Some(report))
            .await
    }

    /// `POST /api/machine-static-peers/{machine}`
    ///
    /// # Errors
    /// The token is refused, this machine is not the peer's gateway, or the control plane was not reached.
    pub async fn attach(
        &self,
        token: &str,
        peer: MachineId,
        request: &AttachRequest,
    ) -> Result<Attached, ControlError> {
        let path = format!("/api/machine-static-peers/{peer}");
        self.call(Method::POST, &path, Some(token), Some(request))
            .await
    }

    /// `PUT /api/machine-routes`
    ///
    /// # Errors
    /// The routes or the token are refused, or the control plane was not reached.
    pub async fn advertise(
        &self,
        token: &str,
        request: &AdvertiseRoutesRequest,
    ) -> Result<MachineRoutes, ControlError> {
        self.call(
            Method::PUT,
            "/api/machine-routes",
            Some(token),
            Some(request),
        )
        .await
    }

    /// `POST /api/machine-wiped`
    ///
    /// # Errors
    /// Nobody asked for it, the token is refused, or the control plane was not reached.
    pub async fn wiped(&self, token: &str) -> Result<(), ControlError> {
        self.send(Method::POST, WIPED_PATH, Some(token), None::<&()>)
            .await
            .map(drop)
    }

    /// `GET /api/kem-keys/{hash}`, checked against the hash.
    ///
    /// # Errors
    /// No such key, the token is refused, the control plane was not reached, or it sent another
    /// key.
    pub async fn kem_key(
        &self,
        token: &str,
        hash: KemKeyHash,
    ) -> Result<KemPublicKey, ControlError> {
        let path = format!("/api/kem-keys/{hash}");
        let KemKeyAnswer { kem_key } = self
            .call(Method::GET, &path, Some(token), None::<&()>)
            .await?;
        if KemKeyHash::of(&kem_key) != hash {
            return Err(self.not_ours("an ML-KEM key is not the one that was asked for"));
        }
        Ok(kem_key)
    }

    /// `POST /api/auth`, `cli_exchange`: turns the browser's one-time code into a session.
    ///
    /// # Errors
    /// The code is refused, or the control plane was not reached.
    pub async fn exchange(&self, code: String, verifier: String) -> Result<Session, ControlError> {
        let action = AuthAction::CliExchange { code, verifier };
        self.call(Method::POST, "/api/auth", None, Some(&action))
            .await
    }

    /// `POST /api/auth/refresh`: a new session for a refresh token, which is used up.
    ///
    /// # Errors
    /// The token is refused, or the control plane was not reached.
    pub async fn refresh(&self, refresh_token: String) -> Result<Session, ControlError> {
        let request = RefreshRequest {
            refresh_token: Some(refresh_token),
        };
        self.call(Method::POST, "/api/auth/refresh", None, Some(&request))
            .await
    }

    /// `POST /api/auth/logout`: ends the session that the refresh token belongs to.
    ///
    /// # Errors
    /// The control plane was not reached.
    pub async fn logout(&self, refresh_token: String) -> Result<(), ControlError> {
        let request = RefreshRequest {
            refresh_token: Some(refresh_token),
        };
        self.send(Method::POST, "/api/auth/logout", None, Some(&request))
            .await
            .map(drop)
    }

    /// `GET /api/auth/me`
    ///
    /// # Errors
    /// The access token is refused, or the control plane was not reached.
    pub async fn me(&self, access_token: &str) -> Result<Me, ControlError> {
        self.call(Method::GET, "/api/auth/me", Some(access_token), None::<&()>)
            .await
    }

    /// `POST /api/orgs/{org}/acl-evaluate`
    ///
    /// # Errors
    /// Not allowed, no such machine, or the control plane was not reached.
    pub async fn evaluate(
        &self,
        access_token: &str,
        org: OrgId,
        request: &EvaluateRequest,
    ) -> Result<Evaluation, ControlError> {
        let path = format!("/api/orgs/{org}/acl-evaluate");
        self.call(Method::POST, &path, Some(access_token), Some(request))
            .await
    }

    /// `GET /api/orgs/{org}/gateways`
    ///
    /// # Errors
    /// Not allowed, or the control plane was not reached.
    pub async fn gateways(
        &self,
        access_token: &str,
        org: OrgId,
    ) -> Result<Vec<Gateway>, ControlError> {
        let path = format!("/api/orgs/{org}/gateways");
        self.call(Method::GET, &path, Some(access_token), None::<&()>)
            .await
    }

    /// `GET /api/orgs/{org}/static-peers`
    ///
    /// # Errors
    /// Not allowed, or the control plane was not reached.
    pub async fn static_peers(
        &self,
        access_token: &str,
        org: OrgId,
    ) -> Result<Vec<StaticPeer>, ControlError> {
        let path = format!("/api/orgs/{org}/static-peers");
        self.call(Method::GET, &path, Some(access_token), None::<&()>)
            .await
    }

    /// `POST /api/orgs/{org}/static-peers`
    ///
    /// # Errors
    /// Not allowed, a name or a key is taken, or the control plane was not reached.
    pub async fn create_static_peer(
        &self,
        access_token: &str,
        org: OrgId,
        request: &CreateStaticPeer,
    ) -> Result<StaticPeerConfig, ControlError> {
        let path = format!("/api/orgs/{org}/static-peers");
        self.call(Method::POST, &path, Some(access_token), Some(request))
            .await
    }

    /// `POST /api/orgs/{org}/static-peers/{machine}/keys`
    ///
    /// # Errors
    /// Not allowed, no such static peer, or the control plane was not reached.
    pub async fn rotate_static_peer(
        &self,
        access_token: &str,
        org: OrgId,
        peer: MachineId,
        request: &RotateStaticPeer,
    ) -> Result<StaticPeerConfig, ControlError> {
        let path = format!("/api/orgs/{org}/static-peers/{peer}/keys");
        self.call(Method::POST, &path, Some(access_token), Some(request))
            .await
    }

    /// `DELETE /api/orgs/{org}/machines/{machine}`
    ///
    /// # Errors
    /// Not allowed, no such machine, or the control plane was not reached.
    pub async fn delete_machine(
        &self,
        access_token: &str,
        org: OrgId,
        machine: MachineId,
    ) -> Result<(), ControlError> {
        let path = format!("/api/orgs/{org}/machines/{machine}");
        self.send(Method::DELETE, &path, Some(access_token), None::<&()>)
            .await
            .map(drop)
    }

    /// Why a call came to nothing on its way.
    pub(super) fn unreachable(&self, error: &reqwest::Error) -> ControlError {
        if error.is_timeout() {
            return ControlError::Unreachable {
                url: self.server.origin().to_owned(),
                why: "no answer in time".to_owned(),
            };
        }
        ControlError::transport(self.server.origin(), error)
    }

    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<T, ControlError> {
        let answer = self.send(method, path, bearer, body).await?;
        serde_json::from_value(answer).map_err(|error| self.not_ours(error))
    }

    /// The `data` of the answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<serde_json::Value, ControlError> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.server.origin()));
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.unreachable(&error))?
        {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(self.not_ours("its answer is too long"));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status == StatusCode::NO_CONTENT {
            return Ok(serde_json::Value::Null);
        }
        self.open(status, &bytes)
    }

    /// Takes an answer out of its envelope.
    pub(super) fn open(
        &self,
        status: StatusCode,
        bytes: &[u8],
    ) -> Result<serde_json::Value, ControlError> {
        let envelope: Envelope<serde_json::Value> =
            serde_json::from_slice(bytes).map_err(|_| self.not_ours(format!("HTTP {status}")))?;
        match envelope {
            Envelope {
                error: Some(error), ..
            } => Err(error.into()),
            Envelope {
                success: true,
                data,
                ..
            } if status.is_success() => Ok(data.unwrap_or_default()),
            _ => Err(self.not_ours(format!("HTTP {status}"))),
        }
    }

    pub(super) fn not_ours(&self, why: impl std::fmt::Display) -> ControlError {
        ControlError::NotOurs {
            url: self.server.origin().to_owned(),
            why: why.to_string(),
        }
    }
}
