//! From the account that opened the sockets to the one that serves.

use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

/// Why the rights of another account could not be taken on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// There is no such account.
    #[error("server.user: there is no account {0:?}; make one, or leave the key out")]
    Unknown(String),
    /// The account database or the system says no.
    #[error("server.user: cannot become {user:?}: {source}; start as root, or leave the key out")]
    Refused {
        /// The account.
        user: String,
        /// What the system said.
        source: nix::Error,
    },
    /// The state cannot be handed over.
    #[error("{path}: cannot be given to {user:?}: {source}")]
    State {
        /// The file or folder.
        path: PathBuf,
        /// The account.
        user: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The account whose rights the server takes on.
#[derive(Debug)]
pub(super) struct Account(User);

impl Account {
    /// The account of this name.
    pub(super) fn find(name: &str) -> Result<Self, PrivilegeError> {
        let refused = |source| PrivilegeError::Refused { user: name.to_owned(), source };
        let found = User::from_name(name).map_err(refused)?;
        found.map(Self).ok_or_else(|| PrivilegeError::Unknown(name.to_owned()))
    }

    fn is_ours(&self) -> bool {
        Uid::effective() == self.0.uid && Gid::effective() == self.0.gid
    }

    fn refused(&self) -> impl Fn(nix::Error) -> PrivilegeError {
        |source| PrivilegeError::Refused { user: self.0.name.clone(), source }
    }

    /// Hands the state folder to the account, and does `work` as it, so that what that makes is the account's own.
    pub(super) fn act<T>(&self, state_dir: &Path, work: impl FnOnce() -> T) -> Result<T, PrivilegeError> {
        if self.is_ours() {
            return Ok(work());
        }
        let before = (Uid::effective(), Gid::effective());
        hand_over(state_dir, &self.0)?;
        // The order matters: without root's rights neither groups nor group could be changed.
        nix::unistd::setgroups(&[self.0.gid]).map_err(self.refused())?;
        nix::unistd::setegid(self.0.gid).map_err(self.refused())?;
        nix::unistd::seteuid(self.0.uid).map_err(self.refused())?;
        let done = work();
        nix::unistd::seteuid(before.0).map_err(self.refused())?;
        nix::unistd::setegid(before.1).map_err(self.refused())?;
        Ok(done)
    }

    /// Becomes the account, for good. Nothing to do when we are it already.
    pub(super) fn become_it(&self) -> Result<(), PrivilegeError> {
        if self.is_ours() {
            return Ok(());
        }
        nix::unistd::setgroups(&[self.0.gid]).map_err(self.refused())?;
        nix::unistd::setgid(self.0.gid).map_err(self.refused())?;
        nix::unistd::setuid(self.0.uid).map_err(self.refused())
    }
}

fn hand_over(path: &Path, account: &User) -> Result<(), PrivilegeError> {
    let fault = |source| PrivilegeError::State { path: path.to_owned(), user: account.name.clone(), source };
    let metadata = path.symlink_metadata().map_err(fault)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())).map_err(fault)?;
    if metadata.is_dir() {
        for entry in path.read_dir().map_err(fault)? {
            hand_over(&entry.map_err(fault)?.path(), account)?;
        }
    }
    Ok(())
}
