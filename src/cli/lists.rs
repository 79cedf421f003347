//! Commands that work on lists and generations without a running server.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{progress, say, tell};
use crate::clock::Clock;
use crate::compile::{self, CompileError, Freshness, GuardMode, Report, Store, StoreError};
use crate::config::{Config, ConfigError};
use crate::daemon;
use crate::filter;
use crate::list::convert::{self, ConvertError, Loss, Lost};
use crate::list::{Format, ListSettings, MatchScope, Source};
use crate::name::{DomainName, Name};
use crate::policy::{Finding, OverrideSet, Policy};
use crate::query::{NameServers, Question, RecordType};
use crate::recursor::work::Step;
use crate::recursor::{self, Recursor, Resolution, Security, Upstream};
use crate::rule::Scope;
use crate::snapshot::{OpenError, Snapshot};

/// Why a command on lists did not do what it was told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("server.state-dir: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Convert(#[from] ConvertError),
    #[error("{0:?} is no file, and no generation in the state folder begins with it; `qalqan status` lists them")]
    NoGeneration(String),
    #[error("{count} lines are wrong; mend them, or leave out --strict")]
    Strict { count: u64 },
}

impl CommandError {
    /// Whether the configuration is wrong.
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Convert(ConvertError::NoTarget))
    }

    /// Whether a guard has refused.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Compile(CompileError::Guard(_)))
    }
}

/// `qalqan compile`.
pub(super) fn compile(
    config: &Config,
    output: Option<&Path>,
    as_json: bool,
    waive_guards: bool,
) -> Result<(), CommandError> {
    let clock = Clock::system();
    let store = Store::open(&config.server.state_dir)?;
    let guards = if waive_guards { GuardMode::Waive } else { GuardMode::Enforce };
    // A file is made beside the place where it will stand, so that it can be renamed into it.
    let folder = match output {
        Some(path) => path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        None => store.folder(),
    };
    let compiled = compile::compile(
        &config.compile,
        Some(&store),
        folder,
        Freshness::Refresh,
        guards,
        clock.now(),
        &mut *progress::bar(),
    )?;
    let report = compiled.report.clone();
    let path = match output {
        Some(path) => {
            compiled.keep_as(path)?;
            path.to_owned()
        }
        None => store.publish(compiled, config.compile.keep, clock.now())?,
    };
    match as_json {
        true => say!("{}", serde_json::to_string_pretty(&report).expect("numbers and strings have a JSON form")),
        false => {
            print_report(&report);
            say!("{}", path.display());
        }
    }
    Ok(())
}

/// `qalqan check`: compiles into a folder that is thrown away.
pub(super) fn check(config: &Config, strict: bool) -> Result<(), CommandError> {
    let folder = scratch()?;
    let store = Store::open(folder.path())?;
    let compiled = compile::compile(
        &config.compile,
        Some(&store),
        store.folder(),
        Freshness::Refresh,
        GuardMode::Enforce,
        Clock::system().now(),
        &mut *progress::bar(),
    )?;
    print_report(&compiled.report);
    let count = compiled.report.lists.iter().map(|list| list.reading.errors()).sum();
    match strict && count > 0 {
        true => Err(CommandError::Strict { count }),
        false => Ok(()),
    }
}

fn print_report(report: &Report) {
    for list in &report.lists {
        let reading = &list.reading;
        say!(
            "list {}: {} lines of {}, {} rules, {} entries, {} lines are wrong",
            list.name,
            reading.lines,
            reading.format,
            reading.rules,
            list.entries,
            reading.errors()
        );
        if let Some(reason) = &list.kept_because {
            say!("  its last good copy stands in for it: {reason}");
        }
        for (reason, count) in reading.refused_by_reason() {
            say!("  {count} refused: {reason}");
        }
        for refusal in &reading.first {
            say!("  {}:{}: {}: {}", refusal.file, refusal.line, refusal.reason.label(), refusal.detail);
        }
    }
    if report.protected_conflicts > 0 {
        say!("{} rules are about protected names, which stay open", report.protected_conflicts);
    }
    say!("generation {}: {} names, {} bytes, {:.2} s", report.generation, report.names, report.bytes, report.seconds);
}

/// `qalqan explain`: by the compiled generation when it is up to date, else by one that is made for it.
pub(super) fn explain(
    config: &Config,
    name: &Name,
    qtype: RecordType,
    client: IpAddr,
    resolve: bool,
    as_json: bool,
) -> Result<(), CommandError> {
    let clock = Clock::system();
    let state = &config.server.state_dir;
    // A store that is not there yet is not made for a look.
    let folder = scratch()?;
    let store = Store::open(if state.is_dir() { state } else { folder.path() })?;
    let snapshot = match store.unchanged(&config.compile).map(|path| Snapshot::open(&path)) {
        Some(Ok(snapshot)) => snapshot,
        _ => {
            let compiled = compile::compile(
                &config.compile,
                Some(&store),
                folder.path(),
                Freshness::Cached,
                GuardMode::Waive,
                clock.now(),
                &mut *progress::bar(),
            )?;
            Snapshot::open(compiled.path())?
        }
    };
    let overrides = daemon::overrides_in(state).unwrap_or_else(|error| {
        tell!("qalqan: run-time overrides are left out: {error}");
        OverrideSet::default()
    });
    let policy = Policy::new(config.policy.clone(), Some(Arc::new(snapshot)), overrides);
    let traced = if resolve { Some(trace(config, name, qtype)?) } else { None };
    let explanation = match &traced {
        None => policy.explain(name, qtype, client, clock.now()),
        Some(Traced { chain, .. }) => {
            let aliases: Vec<_> = chain[1..].iter().map(Found::finding).collect();
            policy.explain_chain(chain[0].finding(), &aliases, qtype, client, clock.now())
        }
    };
    let mut explained = serde_json::to_value(&explanation).expect("strings have a JSON form");
    if !as_json {
        say!("{}", explanation.to_string().trim_end());
    }
    if let Some(Traced { resolution, steps, .. }) = traced {
        let errors: Vec<String> =
            resolution.errors.iter().map(|error| format!("EDE {}: {}", error.code, error.text)).collect();
        if as_json {
            explained["resolution"] = serde_json::json!({
                "rcode": resolution.rcode.0,
                "security": Security::LABELS[resolution.security.index()],
                "errors": errors,
                "steps": steps,
            });
        } else {
            for step in &steps {
                let millis = step.took.as_millis();
                say!(
                    "{} asked for {} {}: {} ({millis} ms, zone {})",
                    step.server,
                    step.name,
                    step.rtype,
                    step.result,
                    step.zone
                );
            }
            say!("the world says RCODE {}, {}", resolution.rcode.0, Security::LABELS[resolution.security.index()]);
            errors.iter().for_each(|error| say!("  {error}"));
        }
    }
    if as_json {
        say!("{explained:#}");
    }
    Ok(())
}

/// What the world has said, and how it was come by.
struct Traced {
    resolution: Resolution,
    steps: Vec<Step>,
    /// The name asked for and those that aliases lead to.
    chain: Vec<Found>,
}

/// What is known about a name.
struct Found {
    name: DomainName,
    addresses: Vec<IpAddr>,
    name_servers: NameServers,
}

impl Found {
    fn finding(&self) -> Finding<'_> {
        Finding { name: &self.name, addresses: &self.addresses, name_servers: Some(&self.name_servers) }
    }
}

/// Asks the world as the server would, with empty caches, and tells each query.
fn trace(config: &Config, name: &Name, qtype: RecordType) -> Result<Traced, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CommandError::Runtime)?;
    // The state of trust anchors is the server's to keep.
    let settings = recursor::Settings { state_dir: None, ..config.resolver.clone() };
    let traced = runtime.block_on(async {
        let network = Arc::new(daemon::network(&config.transport));
        let resolver = Recursor::new(settings, network, Clock::system());
        let (resolution, steps) = resolver.resolve_traced(&Question::new(name, qtype)).await;
        let found = |(name, addresses): (DomainName, Vec<IpAddr>)| {
            let name_servers = resolver.name_servers(&name);
            Found { name, addresses, name_servers }
        };
        let chain = filter::chain(name, &resolution.message).into_iter().map(found).collect();
        Traced { resolution, steps, chain }
    });
    runtime.shutdown_background();
    Ok(traced)
}

/// `qalqan diff`: the names that came, went or changed from one generation to another.
pub(super) fn diff(
    config: impl FnOnce() -> Result<Config, ConfigError>,
    old: &str,
    new: &str,
    as_json: bool,
) -> Result<(), CommandError> {
    let mut config = Some(config);
    let mut store = None;
    let mut generation = |text: &str| -> Result<Snapshot, CommandError> {
        if Path::new(text).exists() {
            return Ok(Snapshot::open(Path::new(text))?);
        }
        // The configuration is needed only for what is not a file.
        if let Some(config) = config.take() {
            store = Some(Store::open(&config()?.server.state_dir)?);
        }
        match store.as_ref().and_then(|store| store.find(text)) {
            Some(path) => Ok(Snapshot::open(&path)?),
            None => Err(CommandError::NoGeneration(text.to_owned())),
        }
    };
    let (old, new) = (generation(old)?, generation(new)?);
    let (mut added, mut removed, mut changed) = (0_u64, 0_u64, 0_u64);
    old.diff(&new, |change| {
        let (sign, word) = match (&change.old, &change.new) {
            (None, _) => ('+', "added"),
            (_, None) => ('-', "removed"),
            _ => ('~', "changed"),
        };
        match sign {
            '+' => added += 1,
            '-' => removed += 1,
            _ => changed += 1,
        }
        match as_json {
            true => say!("{}", serde_json::json!({ "name": change.owner.to_string(), "change": word })),
            false => say!("{sign} {}", change.owner),
        }
    });
    if !as_json {
        say!("{added} added, {removed} removed, {changed} changed");
    }
    Ok(())
}

/// `qalqan convert`: the list to standard output, the account of what was lost to standard error.
pub(super) fn convert(
    from: Format,
    to: Format,
    match_scope: MatchScope,
    file: Option<&Path>,
) -> Result<(), CommandError> {
    let settings =
        ListSettings { format: from, match_scope, ..ListSettings::new("convert", Source::Inline(String::new())) };
    let output = io::stdout().lock();
    let done = match file {
        Some(path) => {
            let input = File::open(path).map_err(|source| CommandError::Io { path: path.to_owned(), source })?;
            convert::convert(&settings, &path.to_string_lossy(), input, to, output)?
        }
        None => convert::convert(&settings, "standard input", io::stdin().lock(), to, output)?,
    };
    let reading = &done.reading;
    tell!("{} lines of {}, {} rules written as {to}", reading.lines, reading.format, done.written);
    for refusal in &reading.first {
        tell!("{}:{}: {}: {}", refusal.file, refusal.line, refusal.reason.label(), refusal.detail);
    }
    for (loss, Lost { rules, first }) in &done.lost {
        let what = if loss.is_partial() { "written without it" } else { "left out" };
        tell!("{to} cannot say {loss}: {rules} {what}, first {first}");
    }
    let has_bare_names_only = matches!(to, Format::Domains | Format::Hosts);
    if has_bare_names_only
        && match_scope == MatchScope::Exact
        && done.lost.contains_key(&Loss::Scope(Scope::Subdomains))
    {
        tell!("with --match subdomains a name stands for all below it too, here and there");
    }
    Ok(())
}

/// A folder that goes when it is dropped.
fn scratch() -> Result<tempfile::TempDir, CommandError> {
    tempfile::tempdir().map_err(|source| CommandError::Io { path: std::env::temp_dir(), source })
}
