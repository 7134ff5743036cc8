//! Releases of the agent, which `ztna update` takes.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use ztna_proto::MachineId;
use ztna_proto::releases::ClientVersion;

use super::{Api, ControlError};

/// Time for a download: the control plane gives none longer.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Where releases are.
const RELEASES: &str = "/api/releases/";

/// A file on its way.
pub struct Download<'a> {
    api: &'a Api,
    response: reqwest::Response,
}

impl Download<'_> {
    /// What comes next of it. `None`: that was all.
    ///
    /// # Errors
    /// The control plane went away.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ControlError> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|error| self.api.unreachable(&error))
    }
}

impl Api {
    /// `GET /api/client-version`: the release that this machine is to have.
    ///
    /// # Errors
    /// There is none for the target, or the control plane was not reached.
    pub async fn client_version(
        &self,
        target: &str,
        machine: Option<MachineId>,
    ) -> Result<ClientVersion, ControlError> {
        let machine = machine.map(|id| format!("&machine={id}"));
        let path = format!(
            "/api/client-version?target={target}{}",
            machine.unwrap_or_default()
        );
        self.call(Method::GET, &path, None, None::<&()>).await
    }

    /// A file of a release, as [`Api::client_version`] names its path.
    ///
    /// # Errors
    /// There is no such file, or the control plane was not reached.
    pub async fn release(&self, path: &str) -> Result<Download<'_>, ControlError> {
        if !path.starts_with(RELEASES) {
            return Err(self.not_ours(format!("a release at {path:?}")));
        }
        let request = self.http.get(format!("{}{path}", self.server.origin()));
        let sent = request.timeout(DOWNLOAD_TIMEOUT).send().await;
        let response = sent.map_err(|error| self.unreachable(&error))?;
        if response.status() != StatusCode::OK {
            let why = format!("HTTP {} for {path}", response.status());
            return Err(self.not_ours(why));
        }
        Ok(Download {
            api: self,
            response,
        })
    }
}
