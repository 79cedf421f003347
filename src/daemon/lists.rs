//! From the lists in the configuration to the generation in force, at the start and at each reload.
//!
//! A server compiles in a process of its own: compiling takes memory by the size of the lists, of which an allocator
//! gives back what it likes, and a process that ends all.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::apart::{self, Share};
use super::log;
use crate::clock::Clock;
use crate::compile::{self, CompileError, Freshness, GuardMode, Progress, Report, Store, StoreError};
use crate::config::Config;
use crate::snapshot::{OpenError, Snapshot};

/// Why there is no new generation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListsError {
    /// The lists could not be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The store of generations cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A compiled generation could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The process that compiles says why it has not.
    #[error("{}", .0.message)]
    Apart(Complaint),
    /// The process that compiles has not said what it did.
    #[error("the process that compiles the lists has ended with {0}; the log says more, unless it was killed")]
    Ended(ExitStatus),
}

/// What a process of its own says of a compilation that failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Complaint {
    message: String,
    refused: bool,
}

impl ListsError {
    /// Whether a guard has refused the lists.
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Compile(error) => matches!(error, CompileError::Guard(_)),
            Self::Apart(complaint) => complaint.refused,
            _ => false,
        }
    }
}

/// A generation, and what is to be told about its lists.
pub(super) struct Loaded {
    pub(super) snapshot: Arc<Snapshot>,
    /// When each list was last found good, in seconds since 1970.
    pub(super) last_success: BTreeMap<String, u64>,
    /// What went wrong, though there is a generation: a list that an earlier copy stands in for.
    pub(super) faults: Vec<String>,
}

/// The part of a compilation's report that outlives the process.
#[derive(Deserialize, Default)]
struct KeptReport {
    #[serde(default)]
    lists: Vec<KeptList>,
}

#[derive(Deserialize)]
struct KeptList {
    name: String,
    #[serde(default)]
    last_success: u64,
    #[serde(default)]
    kept_because: Option<String>,
}

/// What a compilation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody wants what the lists say, or nothing is in force yet.
    Asked,
    /// A list may have changed. A rollback stays unless one has.
    Noticed,
}

/// The generation to start with: the compiled one if nothing has changed, a new one if something has, the last good
/// one if that fails.
pub(super) fn start(store: &Store, config: &Config, clock: &Clock) -> Result<Loaded, ListsError> {
    if let Some(path) = store.unchanged(&config.compile) {
        match open(store, &path) {
            Ok(loaded) => return Ok(loaded),
            Err(error) => warn!(%error, "the compiled lists cannot be used; compiling them again"),
        }
    }
    let failure = match rebuild_apart(store, config, Freshness::Cached, Cause::Asked, Share::Own, clock) {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    match store.current().map(|path| open(store, &path)) {
        Some(Ok(mut loaded)) => {
            error!(error = %failure, "the lists cannot be compiled; the last good generation is in force");
            loaded.faults.push(failure.to_string());
            Ok(loaded)
        }
        _ => Err(failure),
    }
}

/// Compiles the lists and publishes the result; says where the generation is that is current now.
fn rebuild(
    store: &Store,
    settings: &compile::Settings,
    freshness: Freshness,
    cause: Cause,
    clock: &Clock,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, ListsError> {
    let newest = store.last_report().and_then(|report| Some(report.get("generation")?.as_str()?.to_owned()));
    let compiled =
        compile::compile(settings, Some(store), store.folder(), freshness, GuardMode::Enforce, clock.now(), progress)?;
    tell(&compiled.report);
    if let (Cause::Noticed, Some(current)) = (cause, store.current())
        && newest.as_ref() == Some(&compiled.generation)
    {
        return Ok(current);
    }
    Ok(store.publish(compiled, settings.keep, clock.now())?)
}

/// Compiles the lists, publishes the result and opens it.
///
/// The first two happen in a process of its own if there is one to be had; that reads `config` from its file again.
pub(super) fn rebuild_apart(
    store: &Store,
    config: &Config,
    freshness: Freshness,
    cause: Cause,
    share: Share,
    clock: &Clock,
) -> Result<Loaded, ListsError> {
    // The program that runs, also when an upgrade has put another in its place (proc_pid_exe(5)).
    let mut command = Command::new("/proc/self/exe");
    command.arg0("qalqan").arg("rebuild");
    if let Some(path) = &config.path {
        command.arg("--config").arg(path);
    }
    if freshness == Freshness::Refresh {
        command.arg("--refresh");
    }
    if cause == Cause::Noticed {
        command.arg("--noticed");
    }
    let (status, said) = match apart::run(&mut command, share) {
        Ok(done) => done,
        Err(error) => {
            warn!(%error, "there is no process to compile the lists in; the server does it and keeps the memory");
            let path = rebuild(store, &config.compile, freshness, cause, clock, &mut |_| {})?;
            return open(store, &path);
        }
    };
    let done: Result<(), Complaint> = serde_json::from_slice(&said).map_err(|_| ListsError::Ended(status))?;
    done.map_err(ListsError::Apart)?;
    open(store, &store.current().ok_or(ListsError::Ended(status))?)
}

/// What the process does that a server starts to compile. It writes to the server's log, and returns what it has to
/// say.
///
/// # Errors
///
/// When it cannot write to the store.
pub fn rebuild_for_server(
    config: &Config,
    freshness: Freshness,
    cause: Cause,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<String, StoreError> {
    log::start(&config.server);
    let store = Store::open(&config.server.state_dir)?;
    let rebuilt = rebuild(&store, &config.compile, freshness, cause, &Clock::system(), progress);
    let done = rebuilt.map(drop).map_err(|error| Complaint { refused: error.is_refused(), message: error.to_string() });
    Ok(serde_json::to_string(&done).expect("strings have a JSON form"))
}

/// Opens a published generation.
pub(super) fn open(store: &Store, path: &Path) -> Result<Loaded, ListsError> {
    Ok(loaded(store, Snapshot::open(path)?))
}

/// `snapshot` with what the store tells of its lists.
pub(super) fn loaded(store: &Store, snapshot: Snapshot) -> Loaded {
    let report = store.last_report().and_then(|report| serde_json::from_value::<KeptReport>(report).ok());
    let lists = report.unwrap_or_default().lists;
    let faults = lists.iter().filter_map(|list| Some(format!("list {}: {}", list.name, list.kept_because.as_ref()?)));
    Loaded {
        snapshot: Arc::new(snapshot),
        faults: faults.collect(),
        last_success: lists.into_iter().map(|list| (list.name, list.last_success)).collect(),
    }
}

fn tell(report: &Report) {
    for list in &report.lists {
        if let Some(reason) = &list.kept_because {
            warn!(list = list.name, reason, "the list is bad; its last good copy stays");
        }
        if list.reading.errors() > 0 {
            let first = list.reading.first.iter().find(|refusal| refusal.reason.is_error());
            let example = first.map(|refusal| format!("{}:{}: {}", refusal.file, refusal.line, refusal.detail));
            warn!(list = list.name, lines = list.reading.errors(), example, "lines of the list were refused");
        }
    }
    info!(
        generation = report.generation,
        names = report.names,
        bytes = report.bytes,
        seconds = report.seconds,
        "lists compiled"
    );
}
