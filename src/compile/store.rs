//! The folder of published generations.
//!
//! ```text
//! generations/<id>.snapshot   never changed after publication
//! generations/current         a symbolic link to one of them
//! generations/history         a line for each publication, newest last
//! generations/inputs.json     what the current one was made from
//! generations/lock            held by the process that changes any of these
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Compiled, Settings};
use crate::clock::Now;
use crate::snapshot::{OpenError, Snapshot};

const ENDING: &str = "snapshot";

/// What the name of a snapshot begins with that is still being written.
pub(super) const UNFINISHED: &str = ".new-";

/// The folder in which generations, last good copies and downloads are kept.
#[derive(Debug, Clone)]
pub struct Store {
    state: PathBuf,
    generations: PathBuf,
}

/// One publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The hash of the content, in hexadecimal.
    pub id: String,
    /// When it was published last, in seconds since 1970.
    pub published: u64,
}

/// Why a generation was not published or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder of the store cannot be read or written.
    #[error("{path}: {source}; the state folder must belong to the account that serves", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such generation, or none before the current one.
    #[error("{0}; `qalqan status` lists the generations that are kept")]
    Unknown(String),
    /// The generation is there, but cannot be served.
    #[error(transparent)]
    Unusable(#[from] OpenError),
}

/// What the current generation was made from.
#[derive(Debug, Serialize, Deserialize)]
struct Inputs {
    generation: String,
    fingerprint: String,
    report: serde_json::Value,
}

impl Store {
    /// Opens the store below the folder `state` and makes its folders.
    ///
    /// # Errors
    ///
    /// When they cannot be made.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let generations = state.join("generations");
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&generations).map_err(at(&generations))?;
        Ok(Self { state: state.to_owned(), generations })
    }

    /// The folder that generations are made and published in.
    pub fn folder(&self) -> &Path {
        &self.generations
    }

    /// The state folder that the store was opened in.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The file of the current generation.
    pub fn current(&self) -> Option<PathBuf> {
        let target = fs::read_link(self.current_link()).ok()?;
        let path = self.generations.join(target.file_name()?);
        path.is_file().then_some(path)
    }

    /// The current generation, if nothing that it was made from has changed since.
    ///
    /// Looks at the settings and at the size, times and place of each file and
    /// reads none, so that a start takes milliseconds.
    pub fn unchanged(&self, settings: &Settings) -> Option<PathBuf> {
        let current = self.current()?;
        let inputs: Inputs = serde_json::from_slice(&fs::read(self.inputs_file()).ok()?).ok()?;
        (inputs.fingerprint == super::fingerprint(settings, &super::stamps(settings, Some(self)))).then_some(current)
    }

    /// The report of the compilation that the current generation comes from.
    pub fn last_report(&self) -> Option<serde_json::Value> {
        let inputs: Inputs = serde_json::from_slice(&fs::read(self.inputs_file()).ok()?).ok()?;
        Some(inputs.report)
    }

    /// Makes `compiled` the current generation, and forgets all but the last `keep`.
    ///
    /// # Errors
    ///
    /// When the store cannot be written; the current generation stays.
    pub fn publish(&self, compiled: Compiled, keep: usize, now: Now) -> Result<PathBuf, StoreError> {
        let _one_at_a_time = self.lock()?;
        let path = self.file_of(&compiled.generation);
        let Compiled { file, generation, report, fingerprint } = compiled;
        file.persist(&path).map_err(|error| StoreError::Io { path: path.clone(), source: error.error })?;
        sync_folder(&self.generations)?;
        self.point_to(&generation, now)?;
        let inputs = Inputs { generation, fingerprint, report: serde_json::to_value(&report).unwrap_or_default() };
        self.replace(&self.inputs_file(), &serde_json::to_vec(&inputs).unwrap_or_default())?;
        self.prune(keep.max(1))?;
        Ok(path)
    }

    /// The publications that can be rolled back to, oldest first; the last is the current one.
    pub fn generations(&self) -> Vec<Generation> {
        let text = fs::read_to_string(self.history_file()).unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let (published, id) = line.split_once(' ')?;
            Some(Generation { id: id.to_owned(), published: published.parse().ok()? })
        });
        lines.filter(|generation| is_id(&generation.id) && self.file_of(&generation.id).is_file()).collect()
    }

    /// The file of the generation whose id begins with `start`.
    pub fn find(&self, start: &str) -> Option<PathBuf> {
        let found = self.generations().into_iter().rev().find(|generation| generation.id.starts_with(start));
        found.filter(|_| !start.is_empty()).map(|generation| self.file_of(&generation.id))
    }

    /// Makes an earlier generation current again: `id`, or the one before the current one.
    ///
    /// It stays until a list changes or somebody reloads.
    ///
    /// # Errors
    ///
    /// When there is no such generation, it cannot be opened, or the store cannot be written; the current generation
    /// stays.
    pub fn rollback(&self, id: Option<&str>, now: Now) -> Result<Snapshot, StoreError> {
        let _one_at_a_time = self.lock()?;
        let generations = self.generations();
        let found = match id {
            Some(id) => generations.iter().rev().find(|generation| generation.id.starts_with(id) && !id.is_empty()),
            None => {
                let current = generations.last().map(|generation| &generation.id);
                generations.iter().rev().find(|generation| Some(&generation.id) != current)
            }
        };
        let Some(found) = found else {
            return Err(StoreError::Unknown(match id {
                Some(id) => format!("no generation begins with {id:?}"),
                None => "there is no generation before the current one".to_owned(),
            }));
        };
        let snapshot = Snapshot::open(&self.file_of(&found.id))?;
        self.point_to(&found.id, now)?;
        Ok(snapshot)
    }

    /// Waits until no other process reads lists into copies here; it is free again when this is dropped, or the process
    /// ends.
    pub(super) fn lock_copies(&self) -> io::Result<File> {
        lock(&self.state.join("lists.lock"))
    }

    /// Waits until no other process changes the store.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.generations.join("lock");
        lock(&path).map_err(at(&path))
    }

    fn point_to(&self, id: &str, now: Now) -> Result<(), StoreError> {
        let link = self.current_link();
        let fresh = self.generations.join("current.new");
        let _ = fs::remove_file(&fresh);
        std::os::unix::fs::symlink(format!("{id}.{ENDING}"), &fresh).map_err(at(&fresh))?;
        fs::rename(&fresh, &link).map_err(at(&link))?;
        let mut history = self.generations();
        history.retain(|generation| generation.id != id);
        history.push(Generation { id: id.to_owned(), published: now.wall });
        self.write_history(&history)?;
        sync_folder(&self.generations)
    }

    fn prune(&self, keep: usize) -> Result<(), StoreError> {
        let mut history = self.generations();
        let kept = history.split_off(history.len().saturating_sub(keep));
        self.write_history(&kept)?;
        for entry in fs::read_dir(&self.generations).map_err(at(&self.generations))?.flatten() {
            let path = entry.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_old = path.extension().is_some_and(|ending| ending == ENDING)
                && is_id(id)
                && !kept.iter().any(|generation| generation.id == id);
            // A process that still maps a generation keeps it until it lets go.
            if is_old || is_left_over(&entry) {
                fs::remove_file(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    fn write_history(&self, history: &[Generation]) -> Result<(), StoreError> {
        let text: String =
            history.iter().map(|generation| format!("{} {}\n", generation.published, generation.id)).collect();
        self.replace(&self.history_file(), text.as_bytes())
    }

    /// Replaces a small file whole.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        replace_file(path, content).map_err(at(path))
    }

    fn file_of(&self, id: &str) -> PathBuf {
        self.generations.join(format!("{id}.{ENDING}"))
    }

    fn current_link(&self) -> PathBuf {
        self.generations.join("current")
    }

    fn history_file(&self) -> PathBuf {
        self.generations.join("history")
    }

    fn inputs_file(&self) -> PathBuf {
        self.generations.join("inputs.json")
    }
}

/// Waits until this process alone has the lock of `path`, until the file is closed.
fn lock(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    file.lock()?;
    Ok(file)
}

/// Whether a file is one that a compilation made which was killed, a day ago or longer.
fn is_left_over(entry: &fs::DirEntry) -> bool {
    let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
    entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
        && age().is_some_and(|age| age > Duration::from_secs(86_400))
}

/// Writes `content` to a new file beside `path`, and renames it into place.
pub(super) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_added_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|octet| octet.is_ascii_hexdigit())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}
