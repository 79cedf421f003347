//! Starts everything in order, reloads, drains and stops.
//!
//! The order of a start: log, state, lists, sockets, rights, resolver, fronts,
//! and only then the line that says so. Lists come before sockets, so that a
//! server that cannot filter yet refuses clients, who turn to the next one,
//! rather than let them wait or pass.

mod apart;
mod backend;
mod lists;
mod log;
mod overrides;
mod privileges;
mod watch;

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::compile::{Freshness, Store, StoreError};
use crate::config::{Config, DEFAULT_LISTS, Transport};
use crate::control::{Control, ControlError};
use crate::front::{BindError, Front, Sockets};
use crate::list::Source;
use crate::metrics::Metrics;
use crate::pipeline::{Pipeline, Recorder};
use crate::policy::Policy;
use crate::recursor::dnssec::StandardAlgorithms;
use crate::recursor::{self, Recursor, transport};

use backend::{Daemon, Parts};
use lists::Loaded;
use overrides::OverridesFile;
use privileges::Account;
use watch::{Sight, Watch};

pub use lists::{Cause, Complaint, ListsError, rebuild_for_server};
pub use overrides::{OverridesFileError, overrides_in};
pub use privileges::PrivilegeError;

/// How soon a file that has just changed is looked at again.
const AT_REST: Duration = Duration::from_millis(100);
/// How often a list is asked for within the time that it may be old, while its server does not answer.
const RETRIES: u32 = 10;
/// How often overrides that have ended are taken out of the file. They end by themselves.
const TIDY: Duration = Duration::from_secs(60);

/// Why the server did not start, or ended otherwise than it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The state cannot be kept.
    #[error("server.state-dir: {0}")]
    State(#[from] StoreError),
    /// There is nothing to filter by.
    #[error(
        "{0}\nthere is no earlier generation either; mend the lists, or start with --allow-unfiltered to block nothing"
    )]
    Unfiltered(ListsError),
    /// There are no lists, and nobody has said that there should be none.
    #[error(
        "no configuration and no list in {DEFAULT_LISTS}/; start in the folder that has them, write a configuration, or start with --allow-unfiltered to block nothing"
    )]
    NoLists,
    /// The run-time overrides cannot be read.
    #[error(transparent)]
    Overrides(#[from] OverridesFileError),
    /// An address cannot be listened on.
    #[error("server.listen: {0}")]
    Listen(#[from] BindError),
    /// The address of the API cannot be listened on.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The rights of another account cannot be taken on.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The system has no threads or signals to give.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A worker has ended by itself.
    #[error("a worker has ended by itself; this is a fault in the program, and the log says where")]
    Worker,
}

/// How to serve, beside the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Start without filtering when there are no lists to be had.
    pub allow_unfiltered: bool,
}

/// Serves until SIGTERM or SIGINT, and then answers what it has taken.
///
/// # Errors
///
/// When it cannot start, or a worker ends by itself.
pub fn serve(config: Config, options: Options) -> Result<(), ServeError> {
    log::start(&config.server);
    if config.compile.lists.is_empty() {
        if config.path.is_none() && !options.allow_unfiltered {
            return Err(ServeError::NoLists);
        }
        warn!("there is no [[list]] in the configuration; nothing is blocked");
    }
    let clock = Clock::system();
    let store = Store::open(&config.server.state_dir)?;
    let account = config.server.user.as_deref().map(Account::find).transpose()?;
    // Looked at before the lists are read: what changes meanwhile is noticed.
    let sight = Sight::take(&config.compile.lists);
    let start = || lists::start(&store, &config, &clock);
    // What the account itself could not read or write at the next reload shall not be there at the start.
    let started = match &account {
        Some(account) => account.act(&config.server.state_dir, start)?,
        None => start(),
    };
    let loaded = match started {
        Ok(loaded) => Some(loaded),
        Err(failure) if options.allow_unfiltered => {
            error!(error = %failure, "there are no lists; nothing is blocked");
            None
        }
        Err(failure) => return Err(ServeError::Unfiltered(failure)),
    };
    let overrides = OverridesFile::open(&config.server.state_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("qalqan-async").build()?;
    let outcome = runtime.block_on(run(config, account, store, sight, loaded, overrides, clock));
    // A download or a compilation that nobody waits for any more does not keep the process.
    runtime.shutdown_background();
    outcome
}

async fn run(
    config: Config,
    account: Option<Account>,
    store: Store,
    sight: Sight,
    loaded: Option<Loaded>,
    overrides: OverridesFile,
    clock: Clock,
) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;

    let sockets = Sockets::bind(&config.front)?;
    let listen = sockets.addresses().to_vec();
    let control = Control::bind(&config.control).await?;
    let control_address = control.address();
    if let Some(account) = account {
        account.become_it()?;
    }

    let metrics = Arc::new(Metrics::new(clock.now().wall));
    let snapshot = loaded.as_ref().map(|loaded| Arc::clone(&loaded.snapshot));
    let policy = Policy::new(config.policy.clone(), snapshot, overrides.set().clone());
    match policy.snapshot() {
        Some(_) => metrics.set_lists(policy.lists().iter().map(|list| list.name.as_str())),
        None => metrics.set_lists(config.compile.lists.iter().map(|list| list.name.as_str())),
    }
    warn_of_unsupported_anchors(&config.resolver);
    let network = Arc::new(network(&config.transport));
    let resolver = Recursor::new(config.resolver.clone(), Arc::clone(&network) as _, clock.clone());
    let upstream = Arc::new(resolver.clone());
    let pipeline = Pipeline::new(config.pipeline.clone(), upstream, policy, clock.clone());
    let recorder = |writers| metrics.shard(writers) as Arc<dyn Recorder>;
    let front = Front::start(sockets, &config.front, Arc::clone(&pipeline), recorder)?;

    let grace = config.server.drain;
    let watch_every = config.server.watch;
    let control_settings = config.control.clone();
    let (admission, mut new_admission) = tokio::sync::watch::channel(config.front.admission.clone());
    let anchors = resolver.clone();
    let daemon = Arc::new(Daemon::new(Parts {
        config,
        store,
        clock,
        pipeline,
        resolver,
        network,
        metrics,
        overrides,
        listen: listen.clone(),
        loaded,
        admission,
    }));

    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(control.serve(control_settings, Arc::clone(&daemon) as _, stop.clone()));
    if !watch_every.is_zero() {
        watch_files(Arc::clone(&daemon), sight, watch_every, stop.clone())?;
    }
    let reload = Arc::new(Notify::new());
    tasks.spawn(stop.clone().run_until_cancelled_owned(reload_when_told(Arc::clone(&daemon), Arc::clone(&reload))));
    tasks.spawn(stop.clone().run_until_cancelled_owned(refresh_urls(Arc::clone(&daemon))));
    tasks.spawn(stop.clone().run_until_cancelled_owned(async move { anchors.keep_anchors().await }));
    tasks.spawn(stop.clone().run_until_cancelled_owned(tidy_overrides(Arc::clone(&daemon))));

    let addresses: Vec<String> = listen.iter().map(ToString::to_string).collect();
    info!(listen = addresses.join(" "), control = %control_address, generation = daemon.generation(), "ready");
    // Whoever started us may have closed standard output; that is no reason to end.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "ready {} control {control_address}", addresses.join(" ")).and_then(|()| out.flush());
    drop(out);
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("generation {} is in force", daemon.generation()))]);

    let outcome = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            () = front.failed() => break Err(ServeError::Worker),
            Ok(()) = new_admission.changed() => front.replace_admission(&new_admission.borrow_and_update()),
            _ = hangup.recv() => reload.notify_one(),
        }
    };

    info!("stopping; queries under way are answered");
    notify(&[NotifyState::Stopping]);
    daemon.start_draining();
    tokio::select! {
        () = front.drain(grace) => {}
        _ = terminate.recv() => warn!("told to stop again; stopping at once"),
        _ = interrupt.recv() => warn!("told to stop again; stopping at once"),
    }
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await.is_err() {
        warn!(left = tasks.len(), "stopping with work under way");
    }
    info!("stopped");
    outcome
}

/// How name servers are reached.
pub(crate) fn network(transport: &Transport) -> transport::Sockets {
    let tls = (!transport.authorities.is_empty()).then(|| {
        let mut roots = rustls::RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(transport.authorities.iter().cloned());
        if unusable > 0 {
            warn!(unusable, "certificates of resolver.tls-ca-files are left out");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider knows the versions of TLS that it is built for");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    transport::Sockets::new(transport::Settings {
        port_map: transport.port_map.clone(),
        standard_port: transport.standard_port,
        tls,
    })
}

/// Says which zones will not be validated although they have an anchor.
fn warn_of_unsupported_anchors(resolver: &recursor::Settings) {
    let algorithms = StandardAlgorithms { accept_sha1: resolver.dnssec.accept_sha1 };
    for zone in resolver.trust_anchors.unsupported(&algorithms) {
        warn!(%zone, "the trust anchor is of an unknown algorithm or digest; the zone is not validated");
    }
}

/// Tells the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager could not be told");
    }
}

/// Reloads for each signal, and once for all that come in the meantime.
async fn reload_when_told(daemon: Arc<Daemon>, told: Arc<Notify>) {
    loop {
        told.notified().await;
        // What came of it is in the log and in the metrics.
        let _ = daemon.reload(Freshness::Refresh, Cause::Asked).await;
    }
}

/// Brings in lists whose files have changed, from a thread of its own: a look may wait for a disk, and one thread that
/// sleeps costs less than a task that hands each look to another.
fn watch_files(daemon: Arc<Daemon>, sight: Sight, every: Duration, stop: CancellationToken) -> io::Result<()> {
    let runtime = tokio::runtime::Handle::current();
    let mut watch = Watch::new(sight);
    let work = move || {
        while !stop.is_cancelled() {
            thread::sleep(if watch.is_stirred() { AT_REST.min(every) } else { every });
            if watch.is_due(Sight::take(&daemon.list_settings().lists)) && !daemon.is_current() {
                info!("a list has changed on disk");
                let reload = daemon.reload(Freshness::Cached, Cause::Noticed);
                let _ = runtime.block_on(stop.run_until_cancelled(reload));
            }
        }
    };
    // It sleeps when the server stops, and ends with the process.
    thread::Builder::new().name("qalqan-watch".to_owned()).spawn(work).map(drop)
}

/// Asks for news of lists that come from URLs, as often as the most eager of them wants. A server that does not answer
/// is asked again sooner.
async fn refresh_urls(daemon: Arc<Daemon>) {
    let mut failed = false;
    // What was downloaded before the start may be due already.
    let mut waited = daemon.age_of_downloads();
    loop {
        let settings = daemon.list_settings();
        let urls = settings.lists.iter().filter(|list| matches!(list.source, Source::Url(_)));
        let every = urls.map(|list| list.refresh).filter(|refresh| !refresh.is_zero()).min();
        // Without one, a reload may bring one.
        let wait = every.map_or(TIDY, |every| if failed { every / RETRIES } else { every });
        tokio::time::sleep(wait.saturating_sub(mem::take(&mut waited)).max(Duration::from_secs(1))).await;
        if every.is_some() {
            let reloaded = daemon.reload(Freshness::Refresh, Cause::Noticed).await;
            failed = reloaded.is_err() || reloaded.is_ok_and(|reloaded| !reloaded.warnings.is_empty());
        }
    }
}

async fn tidy_overrides(daemon: Arc<Daemon>) {
    loop {
        tokio::time::sleep(TIDY).await;
        daemon.tidy_overrides();
    }
}
