//! Machines' tokens that the database has been asked about.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use ztna_proto::ids::OrgId;
use ztna_proto::tokens::TokenHash;

use super::Hub;
use crate::http::Machine;
use crate::netmap::org::OrgState;

/// Tokens that are remembered. Beyond that the database is asked about all of them anew.
const MAX_TOKENS: usize = 1 << 20;

/// Whose a token is, which never changes. Whether it is still good is the org's to say.
#[derive(Default)]
pub(super) struct Tokens(RwLock<HashMap<TokenHash, Machine>>);

impl Tokens {
    fn find(&self, hash: &TokenHash) -> Option<Machine> {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tokens.get(hash).copied()
    }

    fn put(&self, new: impl IntoIterator<Item = (TokenHash, Machine)>) {
        let mut tokens = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (hash, machine) in new {
            if tokens.len() >= MAX_TOKENS {
                tokens.clear();
            }
            tokens.insert(hash, machine);
        }
    }
}

impl Hub {
    /// The machine that a token belongs to, from memory. `None`: the database has to be asked, which
    /// also knows why a token is not good.
    ///
    /// What another node has ended is known here as soon as that node has said so, or has been looked
    /// for: what follows from a call must not rest on this alone, or end by itself.
    pub(crate) fn recognise(&self, hash: &TokenHash) -> Option<Machine> {
        let machine = self.0.tokens.find(hash)?;
        let org = self.find(machine.org)?;
        if org.is_stale() {
            return None;
        }
        let state = org.state();
        let admitted = |state: &OrgState| state.admits(machine.id, hash);
        state.as_ref().is_some_and(admitted).then_some(machine)
    }

    /// The database has said whose a token is.
    pub(crate) fn remember(&self, hash: TokenHash, machine: Machine) {
        self.0.tokens.put([(hash, machine)]);
    }

    /// An org was read: its machines may come, all at once if the node ended that they were connected to.
    pub(super) fn remember_all(&self, org: OrgId, state: &OrgState) {
        let tokens = state.tokens();
        self.0
            .tokens
            .put(tokens.map(|(id, hash)| (hash, Machine { org, id })));
    }
}
