//! Many lists become one snapshot file.
//!
//! ```text
//! gather   each list's files, or the last good copy of a list that has gone bad
//! intake   text -> rules -> sorted runs on disk, in bounded memory
//! merge    all that lists say of one name -> its rules
//! output   runs -> names in order -> the writer
//! guards   is this still the list that we had, give or take?
//! store    publish, prune, roll back
//! ```
//!
//! Equal lists and settings give an equal file, octet for octet.
//!
//! # When one line has changed
//!
//! All lists are read, sorted and merged again, and what of the graph stays the same is taken over from the last
//! generation ([`Writer::take_over_from`]). With ten million names that takes less than half the processor time of the
//! first time, 5.2 s: two fifths of it for reading, a sixth each for sorting and for merging what was sorted, a quarter
//! for bringing rules together and writing, a thirtieth for the filter.
//!
//! A second, small snapshot with the differences, looked into before the large one, would save the last three at most,
//! less than half, for what has changed is known only when the text has been read and sorted. For that every query
//! would be asked of a second filter, which is what a name costs that no list has; a name that was taken out would need
//! a mark that stands against the rules of one list and not of others; and each generation would be two files to verify,
//! publish, compare and roll back. To keep what each stretch of a list's text gave would save the first two, for as much
//! disk as the text takes again, but only where lines do not depend on earlier ones and few of them change: lists from
//! the web change all over. A million names are in force within a second without either.

mod gather;
mod guards;
mod intake;
mod merge;
mod output;
mod runs;
mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::clock::Now;
use crate::list::{self, Format, ListSettings, Source};
use crate::name::DomainName;
use crate::rule::ListId;
use crate::snapshot::{Inventory, ListEntry, Snapshot, WriteError, Writer};

use gather::Gatherer;
use guards::Protected;
use intake::Intake;
use merge::{MergedList, Merger};
use output::{Output, OutputError};

pub use guards::Guards;
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
    fingerprint: String,
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
    /// Names whose rules would block a protected name, which stays open.
    pub protected_conflicts: u64,
    /// The first of them.
    pub first_protected: Vec<String>,
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
    let started = Instant::now();
    let fault = |source| CompileError::Io { path: folder.to_owned(), source };
    // Copies of lists are made, read and thrown away in one place.
    let copies = store.map(Store::lock_copies).transpose().map_err(fault)?;
    // Taken before anything is read: a file that changes meanwhile is a changed one.
    let mut stamps = stamps(settings, store);
    let mut intake = Intake::new(settings, folder, freshness, now, progress);
    for (index, list) in settings.lists.iter().enumerate() {
        intake.read(ListId(index as u16), list, store)?;
    }
    for (stamp, list) in stamps.iter_mut().zip(&settings.lists) {
        // A download has its stamp from now on.
        if matches!(list.source, Source::Url(_)) {
            *stamp = Gatherer::new(list, store).stamp();
        }
    }
    drop(copies);
    let Intake { mut bodies, sorter, mut reports, attempts, .. } = intake;
    bodies.seal();
    let total = sorter.total();
    let merge = sorter.finish().map_err(fault)?;
    let merged_lists: Vec<MergedList> = settings
        .lists
        .iter()
        .zip(&reports)
        .zip(attempts)
        .map(|((list, report), attempt)| MergedList::new(list, report.reading.format, attempt))
        .collect();
    let inventory = inventory_of(settings, &reports);

    // The writer wants a file that is not there yet; the name is ours alone.
    let file =
        tempfile::Builder::new().prefix(store::UNFINISHED).suffix(".snapshot").tempfile_in(folder).map_err(fault)?;
    let path = file.path().to_owned();
    let file = file.into_temp_path();
    fs::remove_file(&path).map_err(fault)?;
    let mut writer = Writer::create(&path, &inventory)?;
    // One that cannot be used has nothing to take over; that it cannot is said when it is to be served.
    if let Some(last) = store.and_then(Store::current).and_then(|path| Snapshot::open(&path).ok()) {
        writer = writer.take_over_from(Arc::new(last));
    }
    let mut output = Output {
        writer,
        merger: Merger::new(&bodies, &merged_lists),
        protected: Protected::new(&settings.protected),
        reports: &mut reports,
        before: Vec::new(),
        above: Vec::new(),
    };
    output.write_all(merge, total, progress).map_err(|error| match error {
        OutputError::Write(error) => CompileError::Write(error),
        OutputError::Io(error) => fault(error),
    })?;
    let Output { writer, protected, .. } = output;
    let written = writer.finish()?;

    for (report, entry) in reports.iter_mut().zip(&written.inventory.lists) {
        report.entries = entry.entries;
    }
    if guards == GuardMode::Enforce
        && let Some(last) = store.and_then(Store::last_report)
    {
        settings.guards.check(&last, &reports)?;
    }
    let report = Report {
        generation: written.generation.clone(),
        names: written.names,
        bytes: written.bytes,
        lists: reports,
        protected_conflicts: protected.conflicts,
        first_protected: protected.first,
        seconds: started.elapsed().as_secs_f64(),
    };
    Ok(Compiled { file, generation: written.generation, report, fingerprint: fingerprint(settings, &stamps) })
}

fn inventory_of(settings: &Settings, reports: &[ListReport]) -> Inventory {
    let entry = |(list, report): (&ListSettings, &ListReport)| ListEntry {
        source: list.source.to_string(),
        format: report.reading.format.to_string(),
        action: list.action.clone(),
        reason: list.reason,
        ede_text: list.ede_text.clone(),
        priority: list.priority,
        shadow: list.shadow,
        ttl: list.ttl,
        most_specific_wins: report.reading.format == Format::Rpz,
        lines: report.reading.lines,
        refused: report.reading.refused_by_reason(),
        ..ListEntry::new(list.name.clone())
    };
    Inventory { lists: settings.lists.iter().zip(reports).map(entry).collect() }
}

/// By list, what changes when its files do.
fn stamps(settings: &Settings, store: Option<&Store>) -> Vec<String> {
    settings.lists.iter().map(|list| Gatherer::new(list, store).stamp()).collect()
}

/// What tells without reading a list whether a compilation would give the same again.
fn fingerprint(settings: &Settings, stamps: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    let version = env!("CARGO_PKG_VERSION");
    hasher.update(format!("{version}\n{:?}\n{:?}\n{stamps:?}", settings.lists, settings.protected).as_bytes());
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests;
