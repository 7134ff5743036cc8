//! Calls as a client makes them.

use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ztna_proto::api::{
    AcceptInvitationRequest, CreateAuthKeyRequest, CreateOrgRequest, CreatedAuthKey, InviteRequest,
    Invited, LoginRequest, OrgMembership, RegisterRequest, Registered, Role, Session,
    SignupRequest,
};
use ztna_proto::error::{Envelope, ErrorBody, ErrorCode};
use ztna_proto::ids::OrgId;
use ztna_proto::keys::{KEM_PUBLIC_KEY_LEN, KemPublicKey, WgPrivateKey};
use ztna_proto::policy::{PolicyDocument, PutPolicyRequest};
use ztna_proto::relay::CertificatePin;
use ztna_proto::tokens::{InvitationToken, MachineToken};

use super::Server;

pub const PASSWORD: &str = "correct horse battery";

/// An HTTP client with a bearer.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    bearer: Option<String>,
}

impl Client {
    /// Nobody.
    pub fn anonymous(server: &Server) -> Self {
        let tls = ztna_tls::client_config(
            &CertificatePin::WebPki,
            ztna_tls::KeyExchange::PreferPostQuantum,
        );
        Self {
            http: reqwest::Client::builder()
                .tls_backend_preconfigured(tls.unwrap().as_ref().clone())
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            base: format!("http://{}", server.address),
            bearer: None,
        }
    }

    pub fn bearer(&self, bearer: &str) -> Self {
        Self {
            bearer: Some(bearer.to_owned()),
            ..self.clone()
        }
    }

    /// The bearer that it calls with.
    pub fn token(&self) -> &str {
        self.bearer.as_deref().unwrap()
    }

    /// The same caller, at another server.
    pub fn at(&self, server: &Server) -> Self {
        Self {
            base: format!("http://{}", server.address),
            ..self.clone()
        }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        }
    }

    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: impl Serialize,
    ) -> Result<T, ErrorBody> {
        let response = self.request(method, path).json(&body).send().await.unwrap();
        read(response).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: impl Serialize,
    ) -> Result<T, ErrorBody> {
        self.call(Method::POST, path, body).await
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ErrorBody> {
        let response = self.request(Method::GET, path).send().await.unwrap();
        read(response).await
    }

    pub async fn delete(&self, path: &str) -> Result<serde_json::Value, ErrorBody> {
        let response = self.request(Method::DELETE, path).send().await.unwrap();
        read(response).await
    }

    /// A new account, signed in.
    pub async fn new_user(server: &Server, email: &str) -> Self {
        let client = Self::anonymous(server);
        let _: serde_json::Value = client
            .post(
                "/api/auth/signup",
                SignupRequest {
                    email: email.to_owned(),
                    password: PASSWORD.to_owned(),
                    invitation: None,
                },
            )
            .await
            .unwrap();
        let session = client.login(email, PASSWORD).await.unwrap();
        client.bearer(&session.access_token)
    }

    pub async fn login(&self, email: &str, password: &str) -> Result<Session, ErrorBody> {
        self.post(
            "/api/auth/login",
            LoginRequest {
                email: email.to_owned(),
                password: password.to_owned(),
                totp_code: None,
            },
        )
        .await
    }

    pub async fn new_org(&self, name: &str) -> OrgMembership {
        self.post(
            "/api/orgs",
            CreateOrgRequest {
                name: name.to_owned(),
            },
        )
        .await
        .unwrap()
    }

    pub async fn new_auth_key(&self, org: OrgId, reusable: bool) -> CreatedAuthKey {
        self.post(
            &format!("/api/orgs/{org}/auth-keys"),
            CreateAuthKeyRequest {
                reusable,
                ..CreateAuthKeyRequest::default()
            },
        )
        .await
        .unwrap()
    }

    pub async fn register(&self, request: &RegisterRequest) -> Result<Registered, ErrorBody> {
        self.post("/api/register-machine", request).await
    }
}

async fn read<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, ErrorBody> {
    let status = response.status();
    let text = response.text().await.unwrap();
    let envelope: Envelope<T> =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status} {error}: {text}"));
    assert_eq!(envelope.success, status.is_success(), "{text}");
    let result = envelope.into_result();
    if let Err(error) = &result {
        assert_eq!(
            StatusCode::from_u16(error.code.status()).unwrap(),
            status,
            "{text}"
        );
        assert!(!error.message.is_empty());
    }
    result
}

/// The code of an error.
pub fn code<T>(result: Result<T, ErrorBody>) -> ErrorCode {
    match result {
        Ok(_) => panic!("no error"),
        Err(error) => error.code,
    }
}

/// A machine that wants to join: new keys.
pub fn machine(name: &str) -> RegisterRequest {
    let mut rng = rand::rng();
    let kem: [u8; KEM_PUBLIC_KEY_LEN] = std::array::from_fn(|_| rand::random());
    RegisterRequest {
        name: name.to_owned(),
        os: "linux-x86_64".to_owned(),
        agent_version: "0.1.0".to_owned(),
        wg_key: WgPrivateKey::generate(&mut rng).public(),
        kem_key: KemPublicKey::try_from(kem.as_slice()).unwrap(),
        node_key: None,
        org: None,
    }
}

/// A person with an org, and everything to enrol machines.
pub struct Owner {
    pub client: Client,
    pub org: OrgMembership,
    pub key: CreatedAuthKey,
}

impl Owner {
    pub async fn new(server: &Server, name: &str) -> Self {
        let client = Client::new_user(server, &format!("{name}@example.com")).await;
        let org = client.new_org(name).await;
        let key = client.new_auth_key(org.id, true).await;
        Self { client, org, key }
    }

    /// Invites an address; the token, as there is no mail.
    pub async fn invite(
        &self,
        who: &Client,
        email: &str,
        role: Role,
    ) -> Result<InvitationToken, ErrorBody> {
        let email = email.to_owned();
        let body = InviteRequest { email, role };
        let invited: Invited = who.post(&self.path("/invitations"), body).await?;
        Ok(invited.token.unwrap())
    }

    /// A new person, `name@example.com`, with a role in the org.
    pub async fn add(&self, server: &Server, name: &str, role: Role) -> Client {
        let email = format!("{name}@example.com");
        let client = Client::new_user(server, &email).await;
        let token = self.invite(&self.client, &email, role).await.unwrap();
        let body = AcceptInvitationRequest { token };
        let joined: OrgMembership = client.post("/api/accept-invitation", body).await.unwrap();
        assert_eq!((joined.id, joined.role), (self.org.id, role));
        client
    }

    /// Enrols a machine with the reusable key.
    pub async fn enrol(&self, name: &str) -> (RegisterRequest, Registered) {
        let request = machine(name);
        let registered = self
            .client
            .bearer(self.key.key.expose())
            .register(&request)
            .await
            .unwrap();
        (request, registered)
    }

    /// The org's policy.
    pub async fn policy(&self) -> PolicyDocument {
        self.client.get(&self.path("/policy")).await.unwrap()
    }

    /// Puts another policy in force, whatever there was before.
    pub async fn put_policy(&self, text: &str) -> Result<PolicyDocument, ErrorBody> {
        let request = PutPolicyRequest {
            version: self.policy().await.info.version,
            text: text.to_owned(),
        };
        self.client
            .call(Method::PUT, &self.path("/policy"), request)
            .await
    }

    pub fn as_machine(&self, token: &MachineToken) -> Client {
        self.client.bearer(token.expose())
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/api/orgs/{}{rest}", self.org.id)
    }
}
