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

/// Hands the state folder to `user` and becomes it, for good. Nothing to do when we are it already.
pub(super) fn become_user(user: &str, state_dir: &Path) -> Result<(), PrivilegeError> {
    let refused = |source| PrivilegeError::Refused { user: user.to_owned(), source };
    let account = User::from_name(user).map_err(refused)?.ok_or_else(|| PrivilegeError::Unknown(user.to_owned()))?;
    if Uid::effective() == account.uid && Gid::effective() == account.gid {
        return Ok(());
    }
    hand_over(state_dir, user, account.uid, account.gid)?;
    // The order matters: without root's rights neither groups nor group could be changed.
    nix::unistd::setgroups(&[account.gid]).map_err(refused)?;
    nix::unistd::setgid(account.gid).map_err(refused)?;
    nix::unistd::setuid(account.uid).map_err(refused)
}

fn hand_over(path: &Path, user: &str, uid: Uid, gid: Gid) -> Result<(), PrivilegeError> {
    let fault = |source| PrivilegeError::State { path: path.to_owned(), user: user.to_owned(), source };
    let metadata = path.symlink_metadata().map_err(fault)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    chown(path, Some(uid.as_raw()), Some(gid.as_raw())).map_err(fault)?;
    if metadata.is_dir() {
        for entry in path.read_dir().map_err(fault)? {
            hand_over(&entry.map_err(fault)?.path(), user, uid, gid)?;
        }
    }
    Ok(())
}
