//! Many lists become one snapshot file.
//!
//! ```text
//! gather   each list's files, or the last good copy of a list that has gone bad
//! intake   text -> rules -> sorted runs on disk, in bounded memory
//! merge    runs -> names in order, each with what all lists say of it
//! guards   is this still the list that we had, give or take?
//! store    publish, prune, roll back
//! ```
//!
//! Equal lists and settings give an equal file, octet for octet.

mod store;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock::Now;
use crate::list::{self, ListSettings};
use crate::name::DomainName;
use crate::snapshot::{Inventory, WriteError};

pub use store::{Generation, Store, StoreError};

/// What is compiled, and how far it may differ from what was.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The lists in the order of the configuration.
    pub lists: Vec<ListSettings>,
    /// Names that no list can block; rules about them are reported.
    pub protected: Vec<DomainName>,
    /// How far a list may differ from its last generation.
    pub guards: Guards,
    /// How many generations are kept to roll back to.
    pub keep: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lists: Vec::new(), protected: Vec::new(), guards: Guards::default(), keep: 5 }
    }
}

/// How far a list may differ from its last generation before somebody must look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Guards {
    /// A list with fewer entries than this may do as it likes.
    pub min_entries: u64,
    /// The most that a list may have of its last size, in percent; `None` for no limit.
    pub max_growth_percent: Option<u64>,
    /// The least that a list must have of its last size, in percent; `None` for no limit.
    pub min_size_percent: Option<u64>,
}

impl Default for Guards {
    fn default() -> Self {
        Self { min_entries: 10_000, max_growth_percent: Some(10_000), min_size_percent: Some(10) }
    }
}

/// Whether the guards hold a compilation up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardMode {
    /// They do.
    Enforce,
    /// Somebody has looked at it and wants it so.
    Waive,
}

/// Which sources are asked for news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Copies of URLs are used as they are; only what has no copy is downloaded. For a quick start.
    Cached,
    /// URLs are asked whether they have changed.
    Refresh,
}

/// How far a compilation is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'p> {
    /// A list is being read.
    Reading {
        /// Its name.
        list: &'p str,
        /// Octets read of all lists.
        done: u64,
        /// Octets to read of all lists, as far as known.
        total: u64,
    },
    /// Names are being written.
    Writing {
        /// Rules merged.
        done: u64,
        /// Rules to merge.
        total: u64,
    },
}

/// A compiled snapshot that nobody serves yet. Dropping it removes the file.
#[derive(Debug)]
pub struct Compiled {
    file: tempfile::TempPath,
    /// The hash of the content, in hexadecimal.
    pub generation: String,
    /// How it went.
    pub report: Report,
    pub(in crate::compile) fingerprint: Option<String>,
}

impl Compiled {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Keeps the file as `path`, in the folder it was made in or another of the same file system.
    ///
    /// # Errors
    ///
    /// When it cannot be renamed.
    pub fn keep_as(self, path: &Path) -> Result<(), CompileError> {
        let fault = |error: tempfile::PathPersistError| CompileError::Io { path: path.to_owned(), source: error.error };
        self.file.persist(path).map_err(fault)
    }
}

/// How a compilation went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The hash of the content, in hexadecimal.
    pub generation: String,
    /// How many names have rules.
    pub names: u64,
    /// How many octets the file has.
    pub bytes: u64,
    /// The lists in the order of the configuration.
    pub lists: Vec<ListReport>,
    /// Rules that would block a protected name, by list; the name stays open.
    pub protected_conflicts: u64,
    /// How long it took.
    pub seconds: f64,
}

/// How it went with one list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ListReport {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// Names in the snapshot that it has a rule for.
    pub entries: u64,
    /// Why its last good copy stands in for it, when it does.
    pub kept_because: Option<String>,
    /// When the text that was compiled was last found good, in seconds since 1970.
    pub last_success: u64,
    /// How the reading went.
    #[serde(flatten)]
    pub reading: list::Report,
}

/// Why there is no new snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A list is bad and has no last good copy.
    #[error("list {list}: {reason}; there is no earlier good copy of it")]
    List {
        /// Its name.
        list: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A guard refused; exit code 3.
    #[error("{}; look at the list, then compile again with the guards waived if it is right", .0.join("; "))]
    Guard(Vec<String>),
    /// The snapshot cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A working file cannot be written or read.
    #[error("{path}: {source}; look for space and permission", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Compiles the lists of `settings` into a snapshot file that is not published yet.
///
/// With a store, bad lists are stood in for by their last good copies, URLs are
/// kept on disk, and the guards compare with the current generation. `folder` is
/// where the file and its working files are made: the one it will be published in.
///
/// # Errors
///
/// When a list is bad and has no good copy, a guard refuses, or there is no
/// space. What is published stays as it is.
pub fn compile(
    settings: &Settings,
    store: Option<&Store>,
    folder: &Path,
    freshness: Freshness,
    guards: GuardMode,
    now: Now,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Compiled, CompileError> {
    let _ = (settings, store, folder, freshness, guards, now, progress, Inventory::default());
    unimplemented!("under way")
}
