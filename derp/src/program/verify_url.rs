//! Admission by asking a server for each client, in derper's form (`-verify-client-url`), but fail
//! closed: no answer is a no.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use ztna_derp::server::{Admission, Admitted, Applicant, Refusal};
use ztna_proto::WgPublicKey;
use ztna_proto::keys::hex;
use ztna_proto::relay::CertificatePin;

use super::http;

/// An answer takes this long at most …
const TIMEOUT: Duration = Duration::from_secs(5);
/// … and has so many bytes.
const MAX_ANSWER: usize = 4096;
/// Questions at a time; more clients wait.
const MAX_QUESTIONS: usize = 256;

/// What is asked. Members are cased as derper cases them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question {
    node_public: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    allow: bool,
}

/// Asks `url`.
pub struct VerifyUrl {
    url: Url,
    http: reqwest::Client,
    questions: Semaphore,
}

impl VerifyUrl {
    pub fn new(url: Url) -> Result<Self> {
        Ok(Self {
            http: http::client(&CertificatePin::WebPki, TIMEOUT)?,
            url,
            questions: Semaphore::new(MAX_QUESTIONS),
        })
    }

    async fn ask(&self, applicant: &Applicant) -> Result<bool> {
        let question = Question {
            node_public: format!("nodekey:{}", hex(applicant.key.as_bytes())),
            source: applicant.address.ip().to_canonical().to_string(),
        };
        let _turn = self.questions.acquire().await?;
        let request = self.http.post(self.url.clone()).json(&question);
        let body = http::body(request.send().await?, MAX_ANSWER).await?;
        let answer: Answer = serde_json::from_slice(&body).context("not the JSON it should be")?;
        Ok(answer.allow)
    }
}

impl Admission for VerifyUrl {
    fn admit<'a>(&'a self, applicant: &'a Applicant) -> BoxFuture<'a, Result<Admitted, Refusal>> {
        Box::pin(async move {
            match self.ask(applicant).await {
                Ok(true) => Ok(Admitted::default()),
                Ok(false) => Err(Refusal("this machine may not use this relay".into())),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "--verify-url does not answer; refusing the client");
                    Err(Refusal(
                        "this relay cannot check at present who may use it; try later".into(),
                    ))
                }
            }
        })
    }

    /// Whoever answers the questions takes back what it allowed.
    fn revoke(&self, _: &WgPublicKey, _: Timestamp) {}
}
