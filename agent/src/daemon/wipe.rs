//! An admin of the org has this machine's keys and state erased.
//!
//! Erased first, confirmed then: the registration's token stays until the control plane has heard that it
//! is done. A daemon that ends in between finds the token at its next start, is told once more, and does
//! it again.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep;
use ztna_local::DaemonState;
use ztna_proto::{ErrorBody, ErrorCode};

use super::backoff::Backoff;
use super::state::{Keys, Machine, State};
use super::supervisor::Supervisor;
use crate::control::{Api, ControlError, Server};

/// Whether the control plane does not wait for the machine's word.
fn is_over(error: &ErrorBody) -> bool {
    matches!(
        error.code,
        ErrorCode::Unauthorized
            | ErrorCode::MachineDeleted
            | ErrorCode::MachineDisabled
            | ErrorCode::KeyExpired
            | ErrorCode::Conflict
    )
}

impl Supervisor {
    /// Erases keys, map, ticket and registration, and says so to the control plane. The tunnel is down.
    pub(super) async fn wipe(self: &Arc<Self>, why: String) {
        tracing::warn!(why, "this machine is wiped");
        let (server, machine) = {
            let mut core = self.core.lock().await;
            core.state.keys = Keys::generate();
            core.state.hostname = None;
            core.problem = Some((
                DaemonState::NeedsLogin,
                format!("{why}; it belongs to no org any more"),
            ));
            if let Err(error) = core.state.save(&self.dir) {
                tracing::error!(%error, "cannot erase the keys");
            }
            if let Err(error) = self.remove_saved() {
                tracing::error!(%error, "cannot remove what the org told");
            }
            self.publish(&core);
            (core.state.server.clone(), core.state.machine.clone())
        };
        let (Some(server), Some(machine)) = (server, machine) else {
            return;
        };
        if !self.confirm(server, &machine).await {
            return;
        }
        let mut core = self.core.lock().await;
        let same = core.state.machine.as_ref();
        if same.is_none_or(|same| same.id != machine.id) {
            // Registered anew meanwhile, as another machine.
            return;
        }
        core.state = State::fresh();
        if let Err(error) = core.state.save(&self.dir) {
            tracing::error!(%error, "cannot erase the registration");
        }
        self.publish(&core);
    }

    /// Says that it is done until the control plane has heard it. Whether it has.
    async fn confirm(&self, server: Server, machine: &Machine) -> bool {
        let api = match Api::new(server) {
            Ok(api) => api,
            Err(error) => {
                tracing::error!(%error, "cannot tell that this machine is wiped");
                return false;
            }
        };
        let mut backoff = Backoff::default();
        loop {
            match api.wiped(machine.token.expose()).await {
                Ok(()) => return true,
                // It has heard it before, or knows of no wipe any more.
                Err(ControlError::Refused(error)) if is_over(&error) => return true,
                Err(error) => tracing::info!(%error, "cannot tell yet that this machine is wiped"),
            }
            let pause = backoff.after_failure(Instant::now(), &mut rand::rng());
            tokio::select! {
                () = self.end.cancelled() => return false,
                () = sleep(pause) => {}
            }
        }
    }
}
