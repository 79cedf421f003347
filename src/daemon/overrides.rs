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

impl OverridesFile {
    /// Reads the file in the state folder; without one there are no overrides.
    pub(super) fn open(state_dir: &Path) -> Result<Self, OverridesFileError> {
        let path = state_dir.join("overrides.json");
        let set = match fs::read_to_string(&path) {
            Ok(text) => OverrideSet::from_json(&text)
                .map_err(|source| OverridesFileError::Content { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => OverrideSet::default(),
            Err(source) => return Err(OverridesFileError::Io { path, source }),
        };
        Ok(Self { path, set })
    }

    /// The overrides.
    pub(super) fn set(&self) -> &OverrideSet {
        &self.set
    }

    /// Keeps `set` in place of what there is. On an error nothing has changed.
    pub(super) fn replace(&mut self, set: OverrideSet) -> Result<(), OverridesFileError> {
        self.write(&set.to_json()).map_err(|source| OverridesFileError::Io { path: self.path.clone(), source })?;
        self.set = set;
        Ok(())
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
        let mut set = file.set().clone();
        set.insert(Override {
            name: "ads.example".parse().unwrap(),
            kind: OverrideKind::Allow,
            reason: "a test".to_owned(),
            author: None,
            created_at: 1,
            ends_at: 2,
        });
        file.replace(set.clone()).unwrap();
        assert_eq!(OverridesFile::open(folder.path()).unwrap().set(), &set);
    }

    #[test]
    fn a_file_of_something_else_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("overrides.json"), "{").unwrap();
        let error = OverridesFile::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains("overrides.json"), "{error}");
    }
}
