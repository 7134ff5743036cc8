//! The account that PostgreSQL runs as: ours, or an unprivileged one when we are root.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User, chown, geteuid};

use crate::PgError;
use crate::error::Context;

/// Accounts that root tries, in this order.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// Who runs the server, and who may connect to it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Set if the server must change to another account.
    switch: Option<(Uid, Gid, String)>,
    /// Name of the account that this process runs as: the one that peer authentication admits.
    pub(crate) own_name: String,
}

impl Account {
    pub(crate) fn choose() -> Result<Self, PgError> {
        let own_name = match User::from_uid(geteuid()) {
            Ok(Some(user)) => user.name,
            _ => return Err(PgError::NoAccount),
        };
        if !geteuid().is_root() {
            return Ok(Self {
                switch: None,
                own_name,
            });
        }
        let user = UNPRIVILEGED
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .ok_or(PgError::NoAccount)?;
        Ok(Self {
            switch: Some((user.uid, user.gid, user.name)),
            own_name,
        })
    }

    /// Has the command run as the server's account.
    pub(crate) fn apply(&self, command: &mut Command) {
        if let Some((uid, gid, _)) = &self.switch {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Makes a folder that belongs to the server's account.
    pub(crate) fn make_folder(&self, path: &Path, mode: u32) -> Result<(), PgError> {
        std::fs::create_dir_all(path).context("cannot create", path)?;
        if let Some((uid, gid, _)) = &self.switch {
            chown(path, Some(*uid), Some(*gid))
                .map_err(std::io::Error::from)
                .context("cannot give away", path)?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .context("cannot set the mode of", path)
    }

    /// Gives a file to the server's account.
    pub(crate) fn own_file(&self, path: &Path) -> Result<(), PgError> {
        let Some((uid, gid, _)) = &self.switch else {
            return Ok(());
        };
        chown(path, Some(*uid), Some(*gid))
            .map_err(std::io::Error::from)
            .context("cannot give away", path)
    }
}
