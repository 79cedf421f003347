//! What the API can ask of a running server.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::apart::Share;
use super::lists::{self, Cause, ListsError, Loaded};
use super::overrides::OverridesFile;
use crate::clock::Clock;
use crate::compile::{self, Freshness, Store, StoreError};
use crate::config::Config;
use crate::control::{
    Backend, CacheStatus, Explain, Flush, Flushed, ListStatus, NewOverride, Problem, ProblemKind, Reloaded, Status,
};
use crate::front::admission;
use crate::list::Source;
use crate::metrics::{ListReading, Metrics, Readings, ReloadResult};
use crate::name::DomainName;
use crate::pipeline::Pipeline;
use crate::policy::{Explanation, Override, OverrideSet, Policy};
use crate::recursor::Recursor;
use crate::recursor::transport::Sockets;

/// The longest that an override may last: what is to stay belongs into a list.
const MAX_OVERRIDE_SECONDS: u64 = 366 * 86_400;

/// How far making a generation stands back behind answering: when both want all of a processor, it gets a quarter.
const NICENESS: i32 = 5;

/// More than a query takes on the thread that has received it.
const ONE_QUERY: Duration = Duration::from_millis(50);

/// A running server, as the API and the signals see it.
pub(super) struct Daemon {
    config: Mutex<Config>,
    store: Store,
    clock: Clock,
    pipeline: Arc<Pipeline>,
    resolver: Recursor,
    network: Arc<Sockets>,
    metrics: Arc<Metrics>,
    listen: Vec<SocketAddr>,
    started_at: u64,
    draining: AtomicBool,
    /// Held while a policy is made from the one in force and put in its place, so that no change is lost.
    overrides: Mutex<OverridesFile>,
    /// Held while a generation is being made: one at a time.
    reloading: tokio::sync::Mutex<()>,
    lists: Mutex<ListNews>,
    /// Tells the front whom to serve from now on.
    admission: watch::Sender<admission::Settings>,
}

/// What a [`Daemon`] is made of.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) resolver: Recursor,
    pub(super) network: Arc<Sockets>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) overrides: OverridesFile,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) loaded: Option<Loaded>,
    pub(super) admission: watch::Sender<admission::Settings>,
}

/// What is known about the lists beyond the generation in force.
#[derive(Default)]
struct ListNews {
    last_success: BTreeMap<String, u64>,
    last_error: Option<String>,
}

impl Daemon {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { config, store, clock, pipeline, resolver, network, metrics, overrides, listen, loaded, admission } =
            parts;
        let lists = loaded.map(|loaded| ListNews {
            last_success: loaded.last_success,
            last_error: (!loaded.faults.is_empty()).then(|| loaded.faults.join("; ")),
        });
        Self {
            started_at: clock.now().wall,
            config: Mutex::new(config),
            store,
            clock,
            pipeline,
            resolver,
            network,
            metrics,
            listen,
            draining: AtomicBool::new(false),
            overrides: Mutex::new(overrides),
            reloading: tokio::sync::Mutex::new(()),
            lists: Mutex::new(lists.unwrap_or_default()),
            admission,
        }
    }

    /// The generation in force.
    pub(super) fn generation(&self) -> String {
        self.pipeline.policy().generation().to_owned()
    }

    /// The lists as configured now.
    pub(super) fn list_settings(&self) -> compile::Settings {
        self.config.lock().compile.clone()
    }

    /// How long ago the oldest of the lists that come from URLs was last known to be new.
    pub(super) fn age_of_downloads(&self) -> Duration {
        let settings = self.list_settings();
        let urls = settings.lists.iter().filter(|list| matches!(list.source, Source::Url(_)));
        let news = self.lists.lock();
        let oldest = urls.filter_map(|list| news.last_success.get(&list.name)).min();
        oldest.map_or(Duration::ZERO, |&oldest| Duration::from_secs(self.clock.now().wall.saturating_sub(oldest)))
    }

    /// Says to whoever asks that no new queries are wanted.
    pub(super) fn start_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the compiled generation is what the lists say. Looks at files.
    pub(super) fn is_current(&self) -> bool {
        self.store.unchanged(&self.list_settings()).is_some()
    }

    /// Reads the configuration again, compiles the lists beside the ones in force, and puts them in force.
    ///
    /// Queries are answered by the old generation until the new one is open and verified. Whatever goes wrong, the
    /// old one stays, and the log, the metrics and the caller are told why.
    pub(super) async fn reload(&self, freshness: Freshness, cause: Cause) -> Result<Reloaded, Problem> {
        let _one_at_a_time = self.reloading.lock().await;
        let path = self.config.lock().path.clone();
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let work = stand_back(move || {
            let config = Config::load(path.as_deref()).map_err(|error| Failure::Config(error.to_string()))?;
            let loaded = lists::rebuild_apart(&store, &config, freshness, cause, Share::WhatIsLeft, &clock)?;
            Ok::<_, Failure>((config, loaded))
        });
        let outcome = work.await.unwrap_or_else(|error| Err(Failure::Thread(error)));
        let wall = self.clock.now().wall;
        match outcome {
            Ok((config, loaded)) => {
                let reloaded = self.put_in_force(Some(config), loaded);
                let result = match (&reloaded.warnings[..], reloaded.changed) {
                    ([], true) => ReloadResult::Changed,
                    ([], false) => ReloadResult::Unchanged,
                    _ => ReloadResult::Failed,
                };
                self.metrics.reloaded(result, wall);
                info!(generation = reloaded.generation, changed = reloaded.changed, "reloaded");
                Ok(reloaded)
            }
            Err(failure) => {
                let (kind, result) = match &failure {
                    Failure::Lists(error) if error.is_refused() => (ProblemKind::Refused, ReloadResult::Refused),
                    Failure::Config(_) => (ProblemKind::Usage, ReloadResult::Failed),
                    _ => (ProblemKind::Failed, ReloadResult::Failed),
                };
                self.metrics.reloaded(result, wall);
                let message = failure.to_string();
                error!(error = message, generation = self.generation(), "reload failed; what was in force stays");
                self.lists.lock().last_error = Some(message.clone());
                Err(Problem::new(kind, message))
            }
        }
    }

    /// Makes a policy of the generation and replaces the one in force.
    fn put_in_force(&self, config: Option<Config>, loaded: Loaded) -> Reloaded {
        let overrides = self.overrides.lock();
        let old = self.pipeline.policy();
        let settings = config.as_ref().map_or_else(|| old.settings().clone(), |config| config.policy.clone());
        let policy = Policy::new(settings, Some(loaded.snapshot), overrides.set().clone());
        let reloaded = Reloaded {
            generation: policy.generation().to_owned(),
            changed: policy.generation() != old.generation(),
            warnings: loaded.faults,
        };
        self.metrics.set_lists(policy.lists().iter().map(|list| list.name.as_str()));
        self.pipeline.replace_policy(policy);
        drop(overrides);
        super::notify(&[NotifyState::Status(&format!("generation {} is in force", reloaded.generation))]);
        *self.lists.lock() = ListNews {
            last_success: loaded.last_success,
            last_error: (!reloaded.warnings.is_empty()).then(|| reloaded.warnings.join("; ")),
        };
        if let Some(config) = config {
            let mut current = self.config.lock();
            if config.needs_restart(&current) {
                warn!(
                    "addresses, resolver, cache or answers are configured otherwise now; restart to put that in force"
                );
            }
            self.admission.send_if_modified(|admission| {
                let changed = *admission != config.front.admission;
                admission.clone_from(&config.front.admission);
                changed
            });
            *current = config;
        }
        // Who lets go of the old policy last unmaps its lists, and that shall be none of the threads that answer. They
        // keep it for one query at most.
        tokio::task::spawn_blocking(move || {
            std::thread::sleep(ONE_QUERY);
            drop(old);
        });
        reloaded
    }

    /// Makes the overrides `change` asks for, in the file and then in the policy in force.
    fn change_overrides<T>(&self, change: impl FnOnce(&mut OverrideSet) -> T) -> Result<T, Problem> {
        let mut file = self.overrides.lock();
        let before = file.set().clone();
        let wall = self.clock.now().wall;
        let done = file.change(|set| {
            set.remove_ended(wall);
            change(set)
        });
        let done = done.map_err(|error| Problem::new(ProblemKind::Failed, error.to_string()))?;
        if *file.set() != before {
            self.pipeline.replace_policy(self.pipeline.policy().with_overrides(file.set().clone()));
        }
        Ok(done)
    }

    /// Takes overrides that have ended out of the file, and brings in what another server has changed there.
    pub(super) fn tidy_overrides(&self) {
        let wall = self.clock.now().wall;
        let file = self.overrides.lock();
        if file.is_current() && file.set().iter().all(|entry| wall < entry.ends_at) {
            return;
        }
        drop(file);
        if let Err(problem) = self.change_overrides(|_| ()) {
            warn!(error = %problem, "overrides that have ended stay in their file");
        }
    }
}

/// Why a reload brought nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Lists(#[from] ListsError),
    #[error("the thread for it: {0}")]
    Thread(io::Error),
}

/// Runs `work` on a thread of its own that leaves the processor to those that answer queries.
///
/// So do the processes that it starts: on Linux niceness is a thread's own, and its children inherit it (nice(2)).
async fn stand_back<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("qalqan-lists".to_owned()).spawn(move || {
        if let Err(error) = rustix::process::nice(NICENESS) {
            warn!(%error, "compiling the lists takes its share of the processor from the answers");
        }
        // Whoever has asked may be gone.
        let _ = done.send(work());
    })?;
    outcome.await.map_err(|_| io::Error::other("it has ended before its time; this is a fault in the program"))
}

impl Backend for Daemon {
    fn status(&self) -> Status {
        let policy = self.pipeline.policy();
        let cache = self.pipeline.cache_statistics();
        let news = self.lists.lock();
        let mut generations: Vec<String> =
            self.store.generations().into_iter().map(|generation| generation.id).collect();
        generations.reverse();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            listen: self.listen.clone(),
            generation: policy.generation().to_owned(),
            generations,
            unfiltered: policy.snapshot().is_none(),
            lists: policy
                .lists()
                .iter()
                .map(|list| ListStatus {
                    name: list.name.clone(),
                    entries: list.entries,
                    refused: list.refused.values().sum(),
                    last_success: news.last_success.get(&list.name).copied().unwrap_or(0),
                })
                .collect(),
            last_error: news.last_error.clone(),
            overrides: self.overrides.lock().set().len(),
            totals: self.metrics.totals(),
            cache: CacheStatus { entries: cache.entries, bytes: cache.bytes },
        }
    }

    fn metrics(&self) -> String {
        let policy = self.pipeline.policy();
        let news = self.lists.lock();
        let success = |name: &str| news.last_success.get(name).copied().unwrap_or(0);
        let lists = match policy.snapshot() {
            Some(_) => policy
                .lists()
                .iter()
                .map(|list| ListReading {
                    name: list.name.clone(),
                    entries: list.entries,
                    last_success: success(&list.name),
                    refused: list.refused.clone(),
                })
                .collect(),
            None => {
                let configured = self.list_settings().lists;
                configured.into_iter().map(|list| ListReading { name: list.name, ..ListReading::default() }).collect()
            }
        };
        self.metrics.text(&Readings {
            generation: policy.generation().to_owned(),
            lists,
            overrides: self.overrides.lock().set().len() as u64,
            cache: self.pipeline.cache_statistics(),
            upstream: self.network.counters().snapshot(),
            resolver: self.resolver.statistics(),
        })
    }

    fn ready(&self) -> Result<(), String> {
        if self.draining.load(Relaxed) {
            return Err("stopping".to_owned());
        }
        Ok(())
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Problem>> {
        self.reload(Freshness::Refresh, Cause::Asked).boxed()
    }

    fn rollback(&self, generation: Option<String>) -> BoxFuture<'_, Result<Reloaded, Problem>> {
        async move {
            let _one_at_a_time = self.reloading.lock().await;
            let (store, now) = (self.store.clone(), self.clock.now());
            let work = stand_back(move || {
                let snapshot = store.rollback(generation.as_deref(), now)?;
                Ok::<_, StoreError>(lists::loaded(&store, snapshot))
            });
            let failed = |message: String| Problem::new(ProblemKind::Failed, message);
            let loaded =
                work.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
            let reloaded = self.put_in_force(None, Loaded { faults: Vec::new(), ..loaded });
            info!(generation = reloaded.generation, "rolled back");
            Ok(reloaded)
        }
        .boxed()
    }

    fn flush(&self, Flush { name, below }: Flush) -> BoxFuture<'_, Result<Flushed, Problem>> {
        let (resolver, pipeline) = (self.resolver.clone(), self.pipeline.clone());
        // It looks at all that is kept, which takes longer than the threads that answer have time.
        let work = tokio::task::spawn_blocking(move || {
            resolver.flush(&name, below);
            Flushed { forgotten: pipeline.flush(&name, below) }
        });
        work.map(|done| done.map_err(|error| Problem::new(ProblemKind::Failed, error.to_string()))).boxed()
    }

    fn overrides(&self) -> Vec<Override> {
        let wall = self.clock.now().wall;
        self.overrides.lock().set().iter().filter(|entry| wall < entry.ends_at).cloned().collect()
    }

    fn add_override(&self, new: NewOverride) -> Result<Override, Problem> {
        let usage = |message: &str| Err(Problem::new(ProblemKind::Usage, message));
        if new.reason.trim().is_empty() {
            return usage("an override needs a reason: those who come after will ask");
        }
        if new.seconds == 0 || new.seconds > MAX_OVERRIDE_SECONDS {
            return usage(
                "an override lasts a second at least and a year at most; what is to stay belongs into a list",
            );
        }
        let now = self.clock.now().wall;
        let entry = Override {
            name: new.name,
            kind: new.kind,
            reason: new.reason,
            author: new.author,
            created_at: now,
            ends_at: now + new.seconds,
        };
        self.change_overrides(|set| set.insert(entry.clone()))?;
        info!(name = %entry.name, kind = ?entry.kind, reason = entry.reason, ends_at = entry.ends_at, "override added");
        Ok(entry)
    }

    fn remove_override(&self, name: &DomainName) -> Result<(), Problem> {
        if !self.change_overrides(|set| set.remove(name))? {
            return Err(Problem::new(ProblemKind::NotFound, format!("there is no override for {name}")));
        }
        info!(%name, "override removed");
        Ok(())
    }

    fn explain(&self, what: &Explain) -> Explanation {
        let qtype = what.record_type().unwrap_or(crate::query::RecordType::A);
        let client = what.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.pipeline.policy().explain(&what.name, qtype, client, self.clock.now())
    }
}
