//! Run-time overrides, kept in a file so that they outlive the process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::policy::OverrideSet;
use crate::policy::overrides::OverridesError;

/// The overrides in force, and the file that holds them.
pub(super) struct OverridesFile {
    path: PathBuf,
    set: OverrideSet,
}

/// Why overrides cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverridesFileError {
    /// The file cannot be read or written.
    #[error("{path}: {source}; the state folder must belong to the account that serves", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path}: {source}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: OverridesError,
    },
}

/// The file in the state folder.
const FILE_NAME: &str = "overrides.json";

/// The overrides that a server with this state folder has kept.
///
/// # Errors
///
/// When there is a file and it cannot be read.
pub fn overrides_in(state_dir: &Path) -> Result<OverrideSet, OverridesFileError> {
    read(&state_dir.join(FILE_NAME))
}

fn read(path: &Path) -> Result<OverrideSet, OverridesFileError> {
    let path = || path.to_owned();
    match fs::read_to_string(path()) {
        Ok(text) => {
            OverrideSet::from_json(&text).map_err(|source| OverridesFileError::Content { path: path(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(OverrideSet::default()),
        Err(source) => Err(OverridesFileError::Io { path: path(), source }),
    }
}

impl OverridesFile {
    /// Reads the file in the state folder; without one there are no overrides.
    pub(super) fn open(state_dir: &Path) -> Result<Self, OverridesFileError> {
        let path = state_dir.join(FILE_NAME);
        let set = read(&path)?;
        Ok(Self { path, set })
    }

    /// The overrides.
    pub(super) fn set(&self) -> &OverrideSet {
        &self.set
    }

    /// Whether the file says the same.
    pub(super) fn is_current(&self) -> bool {
        read(&self.path).is_ok_and(|kept| kept == self.set)
    }

    /// Changes the overrides and keeps them. On an error the file is as it was.
    ///
    /// Another server with this state folder may have changed the file meanwhile: it is read again first, and nobody
    /// else writes it until this is done.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut OverrideSet) -> T) -> Result<T, OverridesFileError> {
        let fault = |source| OverridesFileError::Io { path: self.path.clone(), source };
        let lock = File::create(self.path.with_extension("lock")).map_err(fault)?;
        lock.lock().map_err(fault)?;
        let kept = read(&self.path)?;
        let mut set = kept.clone();
        let done = change(&mut set);
        if set != kept {
            self.write(&set.to_json()).map_err(fault)?;
        }
        self.set = set;
        Ok(done)
    }

    /// A new file that is renamed into place: a crash leaves the old one or the new one.
    fn write(&self, text: &str) -> io::Result<()> {
        let fresh = self.path.with_extension("json.new");
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Override, OverrideKind};

    #[test]
    fn overrides_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = OverridesFile::open(folder.path()).unwrap();
        assert!(file.set().is_empty());
        let mut other = OverridesFile::open(folder.path()).unwrap();
        let entry = |name: &str| Override {
            name: name.parse().unwrap(),
            kind: OverrideKind::Allow,
            reason: "a test".to_owned(),
            author: None,
            created_at: 1,
            ends_at: 2,
        };
        file.change(|set| set.insert(entry("ads.example"))).unwrap();
        assert_eq!(OverridesFile::open(folder.path()).unwrap().set(), file.set());
        other.change(|set| set.insert(entry("b.example"))).unwrap();
        assert_eq!(other.set().len(), 2, "nothing of the other server's is lost");
    }

    #[test]
    fn a_file_of_something_else_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("overrides.json"), "{").unwrap();
        let error = OverridesFile::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("overrides.json"), "{error}");
    }
}
