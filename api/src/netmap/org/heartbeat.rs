//! What a heartbeat asks, answered from memory.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ztna_proto::ids::MachineId;
use ztna_proto::tokens::TokenHash;

use super::OrgState;

/// How long heartbeats are answered with one ticket. A ticket that is revoked meanwhile is worth nothing
/// at any relay, whoever shows it.
const TICKET_AGE: Duration = Duration::from_secs(10 * 60);

/// A ticket, and when it was signed.
pub(in crate::netmap) struct Issued {
    ticket: String,
    at: Instant,
}

impl OrgState {
    /// Whether the machine may call with the token of this hash, as far as is known here.
    pub(in crate::netmap) fn admits(&self, id: MachineId, hash: &TokenHash) -> bool {
        self.machines.get(&id).is_some_and(|entry| {
            let over = entry.row.key_expires_at;
            entry.row.token_hash == *hash && over.is_none_or(|over| over > Timestamp::now())
        })
    }

    /// The tokens of all machines.
    pub(in crate::netmap) fn tokens(&self) -> impl Iterator<Item = (MachineId, TokenHash)> {
        let machines = self.machines.iter();
        machines.map(|(id, entry)| (*id, entry.row.token_hash))
    }

    /// Whether the database holds that the machine runs this version of the agent.
    pub(in crate::netmap) fn runs(&self, id: MachineId, version: &str) -> bool {
        let entry = self.machines.get(&id);
        entry.is_some_and(|entry| entry.row.agent_version.as_deref() == Some(version))
    }

    /// The database holds now that the machine runs this version of the agent.
    pub(in crate::netmap) fn has_run(&mut self, id: MachineId, version: &str) {
        if let Some(entry) = self.machines.get_mut(&id) {
            entry.row.agent_version = Some(version.to_owned());
        }
    }

    /// The machine calls at another node, which may write another version.
    pub(super) fn runs_elsewhere(&mut self, id: MachineId) {
        if let Some(entry) = self.machines.get_mut(&id) {
            entry.row.agent_version = None;
        }
    }

    /// The ticket that the machine was answered with lately.
    pub(in crate::netmap) fn held_ticket(&self, id: MachineId, now: Instant) -> Option<String> {
        let issued = self.machines.get(&id)?.ticket.as_ref()?;
        let age = now.saturating_duration_since(issued.at);
        (age < TICKET_AGE).then(|| issued.ticket.clone())
    }

    /// A new ticket, which is good for the next heartbeats too. `None`: as for [`OrgState::ticket_of`].
    pub(in crate::netmap) fn issue_ticket(
        &mut self,
        id: MachineId,
        now: Instant,
    ) -> Option<String> {
        let ticket = self.ticket_of(id)?;
        if let Some(entry) = self.machines.get_mut(&id) {
            entry.ticket = Some(Issued {
                ticket: ticket.clone(),
                at: now,
            });
        }
        Some(ticket)
    }

    /// The regions are others: tickets for those before are not handed out any more.
    pub(super) fn forget_tickets(&mut self) {
        for entry in self.machines.values_mut() {
            entry.ticket = None;
        }
    }
}
