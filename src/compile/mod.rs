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

mod gather;
mod merge;
mod runs;
mod store;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use serde::Serialize;
use smallvec::SmallVec;

use crate::clock::Now;
use crate::list::syntax::Reading;
use crate::list::{self, Format, ListSettings, Note, Source};
use crate::name::{DomainName, MAX_KEY_LEN};
use crate::rule::ListId;
use crate::snapshot::{Inventory, ListEntry, WriteError, Writer};

use gather::{Gatherer, Text};
use merge::{Bodies, Event, Merged, MergedList, Merger};
use runs::{Merge, Sorter, shared_prefix};

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
    let fingerprint = store.map(|store| fingerprint(settings, store));
    let mut intake = Intake::new(settings, folder, freshness, now, progress);
    for (index, list) in settings.lists.iter().enumerate() {
        intake.read(ListId(index as u16), list, store)?;
    }
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
    let mut output = Output {
        writer: Writer::create(&path, &inventory)?,
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
    Ok(Compiled { file, generation: written.generation, report, fingerprint })
}

/// Reads lists into a sorter.
struct Intake<'i> {
    freshness: Freshness,
    now: Now,
    progress: &'i mut dyn FnMut(Progress<'_>),
    bodies: Bodies,
    sorter: Sorter,
    folder: &'i Path,
    reports: Vec<ListReport>,
    /// By list, the attempt at reading it that counts.
    attempts: Vec<u32>,
    tried: u32,
    done: u64,
    total: u64,
}

impl<'i> Intake<'i> {
    fn new(
        settings: &Settings,
        folder: &'i Path,
        freshness: Freshness,
        now: Now,
        progress: &'i mut dyn FnMut(Progress<'_>),
    ) -> Self {
        let files = settings.lists.iter().flat_map(|list| list.source.files().unwrap_or_default());
        let total = files.filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
        Self {
            freshness,
            now,
            progress,
            bodies: Bodies::default(),
            sorter: Sorter::new(folder),
            folder,
            reports: Vec::with_capacity(settings.lists.len()),
            attempts: Vec::with_capacity(settings.lists.len()),
            tried: 0,
            done: 0,
            total,
        }
    }

    /// Reads a list as it is now, or as it last was good.
    fn read(&mut self, id: ListId, list: &ListSettings, store: Option<&Store>) -> Result<(), CompileError> {
        let gatherer = Gatherer::new(list, store);
        let (text, reason) = match gatherer.current(self.freshness, self.now.wall) {
            Err(reason) => (None, reason),
            Ok(text) => match self.attempt(id, list, &gatherer, &text)? {
                Ok(reading) => {
                    gatherer.keep(&text).map_err(|source| self.fault(source))?;
                    self.take(list, reading, text.stale_because, text.confirmed);
                    return Ok(());
                }
                Err(reason) => (Some(text), reason),
            },
        };
        let refused = |reason| CompileError::List { list: list.name.clone(), reason };
        let Some(good) = gatherer.last_good(text.as_ref()) else { return Err(refused(reason)) };
        match self.attempt(id, list, &gatherer, &good)? {
            Ok(reading) => {
                self.take(list, reading, Some(reason), good.confirmed);
                Ok(())
            }
            Err(again) => Err(refused(format!("{reason}; and the copy that was good before: {again}"))),
        }
    }

    /// Reads one text; the inner error says why the list is refused.
    fn attempt(
        &mut self,
        id: ListId,
        list: &ListSettings,
        gatherer: &Gatherer<'_>,
        text: &Text,
    ) -> Result<Result<list::Report, String>, CompileError> {
        let attempt = self.tried;
        self.tried += 1;
        let mut reading = Reading::new(list);
        let mut failed = None;
        let mut key = [0; MAX_KEY_LEN];
        let (bodies, sorter) = (&mut self.bodies, &mut self.sorter);
        let mut take = |entry| {
            let (name, body) = bodies.number(id, attempt, entry);
            if failed.is_none() {
                failed = sorter.push(name.reversed_key(&mut key), body).err();
            }
        };
        let (progress, total) = (&mut *self.progress, self.total);
        let mut done = self.done;
        let mut refused = None;
        if let Source::Inline(text) = &list.source {
            refused =
                reading.file("inline", text.as_bytes(), &mut take, &mut |_| ()).err().map(|error| error.to_string());
        }
        for file in &text.files {
            let mut file_done = 0;
            let mut tick = |bytes| {
                file_done = bytes;
                progress(Progress::Reading { list: &list.name, done: done + bytes, total: total.max(done + bytes) });
            };
            let read = match gatherer.open(file) {
                Ok(input) => reading.file(&file.name, input, &mut take, &mut tick).map_err(|error| error.to_string()),
                Err(error) => Err(format!("{}: {error}", file.name)),
            };
            done += file_done;
            if let Err(reason) = read {
                refused = Some(reason);
                break;
            }
        }
        self.done = done;
        if let Some(source) = failed {
            return Err(self.fault(source));
        }
        let read = match refused {
            Some(reason) => Err(reason),
            None => reading.finish().map_err(|error| error.to_string()),
        };
        if read.is_ok() {
            self.attempts.push(attempt);
        }
        Ok(read)
    }

    fn take(&mut self, list: &ListSettings, reading: list::Report, kept_because: Option<String>, confirmed: u64) {
        self.reports.push(ListReport {
            name: list.name.clone(),
            source: list.source.to_string(),
            entries: 0,
            kept_because,
            last_success: confirmed,
            reading,
        });
    }

    fn fault(&self, source: std::io::Error) -> CompileError {
        CompileError::Io { path: self.folder.to_owned(), source }
    }
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

/// Writes merged names, and counts what can only be seen when all lists are together.
struct Output<'o> {
    writer: Writer,
    merger: Merger<'o>,
    protected: Protected,
    reports: &'o mut [ListReport],
    before: Vec<u8>,
    /// The keys above the current one, by their length, and the lists that cover it from there.
    above: Vec<(usize, SmallVec<[ListId; 2]>)>,
}

enum OutputError {
    Write(WriteError),
    Io(std::io::Error),
}

/// Names on their way from the merging thread to the writing one.
#[derive(Default)]
struct Batch {
    keys: Vec<u8>,
    values: Vec<u32>,
    /// Where in `keys` and `values` each name ends.
    ends: Vec<(u32, u32)>,
}

const BATCH: usize = 8192;

impl Output<'_> {
    /// Reading and comparing runs takes one thread, building the snapshot another.
    fn write_all(
        &mut self,
        mut merge: Merge,
        total: u64,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), OutputError> {
        std::thread::scope(|scope| {
            let (sender, batches) = sync_channel::<Batch>(4);
            let merging = scope.spawn(move || -> std::io::Result<()> {
                let (mut key, mut batch) = (Vec::new(), Batch::default());
                while merge.next(&mut key, &mut batch.values)? {
                    batch.keys.extend_from_slice(&key);
                    batch.ends.push((batch.keys.len() as u32, batch.values.len() as u32));
                    if batch.ends.len() == BATCH && sender.send(std::mem::take(&mut batch)).is_err() {
                        return Ok(());
                    }
                }
                // When nobody takes it, writing has failed and says so itself.
                let _ = sender.send(batch);
                Ok(())
            });
            let mut done = 0;
            for batch in batches {
                let (mut key, mut value) = (0, 0);
                for &(key_end, value_end) in &batch.ends {
                    let values = &batch.values[value..value_end as usize];
                    self.name(&batch.keys[key..key_end as usize], values).map_err(OutputError::Write)?;
                    (key, value) = (key_end as usize, value_end as usize);
                }
                done += batch.values.len() as u64;
                progress(Progress::Writing { done, total });
            }
            let merged = merging.join().unwrap_or_else(|_| Err(std::io::Error::other("the merging thread panicked")));
            merged.map_err(OutputError::Io)
        })
    }

    fn name(&mut self, key: &[u8], values: &[u32]) -> Result<(), WriteError> {
        let merged = self.merger.merge(values, &mut self.writer);
        for (list, event) in &merged.events {
            let reading = &mut self.reports[list.index()].reading;
            match event {
                Event::Note(note) => reading.note(*note),
                Event::Refused(reason) => reading.add_refused(*reason, 1),
            }
        }
        if merged.rules.is_empty() {
            return Ok(());
        }
        // A key's ancestors are its prefixes, and they all came before it.
        let shared = shared_prefix(&self.before, key);
        while self.above.last().is_some_and(|(length, _)| *length > shared) {
            self.above.pop();
        }
        for list in &merged.lists {
            if self.above.iter().any(|(_, covering)| covering.contains(list)) {
                self.reports[list.index()].reading.note(Note::Covered);
            }
        }
        if !merged.covering.is_empty() {
            self.above.push((key.len(), merged.covering.clone()));
        }
        self.before.clear();
        self.before.extend_from_slice(key);
        self.protected.look(key, merged);
        self.writer.insert(key, &merged.rules)
    }
}

/// Finds rules that would block a protected name.
struct Protected {
    /// Their keys, in order.
    keys: Vec<Vec<u8>>,
    conflicts: u64,
    first: Vec<String>,
}

/// How many conflicts a report names.
const KEPT_CONFLICTS: usize = 10;

impl Protected {
    fn new(names: &[DomainName]) -> Self {
        let mut buffer = [0; MAX_KEY_LEN];
        let mut keys: Vec<Vec<u8>> = names.iter().map(|name| name.reversed_key(&mut buffer).to_vec()).collect();
        keys.sort_unstable();
        Self { keys, conflicts: 0, first: Vec::new() }
    }

    fn look(&mut self, key: &[u8], merged: &Merged) {
        if self.keys.is_empty() {
            return;
        }
        // The rule's name is protected or lies below a protected one ...
        let inside = (merged.blocks_here || merged.blocks_below) && self.keys.iter().any(|name| key.starts_with(name));
        // ... or it covers a protected one from above.
        let first = self.keys.partition_point(|name| name.as_slice() < key);
        let around = merged.blocks_below && self.keys.get(first).is_some_and(|name| name.starts_with(key));
        if inside || around {
            self.conflicts += 1;
            if self.first.len() < KEPT_CONFLICTS
                && let Ok(name) = DomainName::from_reversed_key(key)
            {
                self.first.push(name.to_string());
            }
        }
    }
}

impl Guards {
    /// Compares the lists with what they were.
    fn check(&self, last: &serde_json::Value, now: &[ListReport]) -> Result<(), CompileError> {
        let mut refused = Vec::new();
        let last = last["lists"].as_array().map_or(&[][..], Vec::as_slice);
        for list in now {
            let before = last.iter().find(|before| before["name"] == list.name.as_str());
            let Some(old) = before.and_then(|before| before["entries"].as_u64()) else { continue };
            let new = list.entries;
            if old.max(new) < self.min_entries {
                continue;
            }
            if self.min_size_percent.is_some_and(|percent| new * 100 < old * percent) {
                refused.push(format!("list {}: only {new} entries after {old}", list.name));
            }
            if self.max_growth_percent.is_some_and(|percent| old > 0 && new * 100 > old * percent) {
                refused.push(format!("list {}: {new} entries after {old}", list.name));
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(CompileError::Guard(refused)) }
    }
}

/// What tells without reading a list whether a compilation would give the same again.
fn fingerprint(settings: &Settings, store: &Store) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(concat!(env!("CARGO_PKG_VERSION"), "\n").as_bytes());
    hasher.update(format!("{:?}\n{:?}\n", settings.lists, settings.protected).as_bytes());
    for list in &settings.lists {
        Gatherer::new(list, Some(store)).fingerprint(&mut hasher);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests;
