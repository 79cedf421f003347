//! Makes a snapshot file from rules that come in the order of their names.

use std::path::Path;

use super::{CompiledRule, Inventory};

/// A rule that a [`Writer`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleIndex(pub u32);

/// Writes one generation.
#[derive(Debug)]
pub struct Writer {}

/// What a [`Writer`] has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The hash of the content, in hexadecimal.
    pub generation: String,
    /// How many octets the file has.
    pub bytes: u64,
    /// How many names have rules.
    pub names: u64,
    /// What it was made of, with the entries of each list counted.
    pub inventory: Inventory,
}

/// Why a snapshot could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file cannot be written.
    #[error("{path}: cannot be written: {source}; look for space and permission", path = path.display())]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Writer {
    /// Begins a snapshot in the new file `path`, readable and writable by its owner only.
    ///
    /// # Errors
    ///
    /// When the file exists already or cannot be made.
    pub fn create(path: &Path, inventory: &Inventory) -> Result<Self, WriteError> {
        let _ = (path, inventory);
        Ok(Self {})
    }

    /// Files `rule`; equal rules have equal indexes.
    pub fn rule(&mut self, rule: &CompiledRule) -> RuleIndex {
        let _ = rule;
        RuleIndex(0)
    }

    /// Files `rules` under `key`, a [`reversed_key`](crate::name::Name::reversed_key).
    ///
    /// Keys come in strictly ascending order. The order of `rules` does not matter, nor do repetitions.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the key is not above the last one.
    pub fn insert(&mut self, key: &[u8], rules: &[RuleIndex]) -> Result<(), WriteError> {
        let _ = (key, rules);
        Ok(())
    }

    /// Writes what is left, and waits until the disk has it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn finish(self) -> Result<Written, WriteError> {
        unimplemented!("under way")
    }
}
