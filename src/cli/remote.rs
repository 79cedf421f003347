//! Commands that a running server carries out.

use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Failure, OverrideArgs, say};
use crate::config::Config;
use crate::control::client::Client;
use crate::control::{Flush, Flushed, NewOverride, Reloaded, RemoveOverride, Rollback, Status};
use crate::name::DomainName;
use crate::policy::{Override, OverrideKind};

/// A client of the server at `control`, or of the one that the configuration describes.
pub(super) fn client(control: Option<SocketAddr>, config: Option<&Path>) -> Result<Client, Failure> {
    let address = match control {
        Some(address) => address,
        None => Config::load(config)?.control.listen,
    };
    match address.port() {
        0 => Err(Failure::NoPort),
        _ => Ok(Client::new(address)),
    }
}

pub(super) fn status(client: &Client, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let status: Value = client.get("/api/v1/status")?;
        say!("{status:#}");
        return Ok(());
    }
    let status: Status = client.get("/api/v1/status")?;
    let now = now();
    let addresses: Vec<String> = status.listen.iter().map(ToString::to_string).collect();
    say!("qalqan {}, process {}, up {}", status.version, status.pid, age(now, status.started_at));
    say!("listening on {}", addresses.join(" "));
    match status.unfiltered {
        true => say!("generation none: NOTHING IS BLOCKED"),
        false => say!("generation {}", status.generation),
    }
    let totals = status.totals;
    say!("{} queries, {} blocked, {} from the cache", totals.queries, totals.blocked, totals.cached);
    say!("cache: {} answers, {} KiB", status.cache.entries, status.cache.bytes / 1024);
    say!("{} run-time overrides", status.overrides);
    for list in &status.lists {
        let good = match list.last_success {
            0 => "never".to_owned(),
            time => format!("{} ago", age(now, time)),
        };
        say!("list {}: {} entries, {} lines refused, last good {good}", list.name, list.entries, list.refused);
    }
    if let Some(error) = &status.last_error {
        say!("last fault: {error}");
    }
    Ok(())
}

pub(super) fn reload(client: &Client) -> Result<(), Failure> {
    tell(&client.post("/api/v1/reload", &json!({}))?)
}

pub(super) fn rollback(client: &Client, generation: Option<String>) -> Result<(), Failure> {
    tell(&client.post("/api/v1/rollback", &Rollback { generation })?)
}

fn tell(reloaded: &Reloaded) -> Result<(), Failure> {
    match reloaded.changed {
        true => say!("generation {} is in force", reloaded.generation),
        false => say!("generation {} stays in force; the lists say the same", reloaded.generation),
    }
    match &reloaded.warnings[..] {
        [] => Ok(()),
        warnings => Err(Failure::Warnings(warnings.join("; "))),
    }
}

pub(super) fn flush(client: &Client, name: DomainName, below: bool) -> Result<(), Failure> {
    let done: Flushed = client.post("/api/v1/flush", &Flush { name, below })?;
    say!("{} answers forgotten", done.forgotten);
    Ok(())
}

pub(super) fn decide(client: &Client, kind: OverrideKind, args: OverrideArgs) -> Result<(), Failure> {
    let author = args.author.or_else(|| env::var("SUDO_USER").or_else(|_| env::var("USER")).ok());
    // A part of a second is a second: no override ends before its time.
    let seconds = args.duration.as_secs() + u64::from(args.duration.subsec_nanos() > 0);
    let new = NewOverride { name: args.name, kind, reason: args.reason, author, seconds };
    let made: Override = client.post("/api/v1/overrides", &new)?;
    print_override(&made, now());
    Ok(())
}

pub(super) fn overrides(client: &Client, remove: Option<DomainName>, as_json: bool) -> Result<(), Failure> {
    if let Some(name) = remove {
        let _: Value = client.delete("/api/v1/overrides", &RemoveOverride { name })?;
        say!("removed");
        return Ok(());
    }
    if as_json {
        let overrides: Value = client.get("/api/v1/overrides")?;
        say!("{overrides:#}");
        return Ok(());
    }
    let overrides: Vec<Override> = client.get("/api/v1/overrides")?;
    let now = now();
    overrides.iter().for_each(|entry| print_override(entry, now));
    Ok(())
}

fn print_override(entry: &Override, now: u64) {
    let kind = match entry.kind {
        OverrideKind::Allow => "allow",
        OverrideKind::Block => "block",
    };
    let by = entry.author.as_ref().map(|author| format!(" by {author}")).unwrap_or_default();
    say!("{kind} {} for {}{by}: {}", entry.name, age(entry.ends_at, now), entry.reason);
}

/// The time from `then` to `later`, for people.
fn age(later: u64, then: u64) -> String {
    humantime::format_duration(Duration::from_secs(later.saturating_sub(then))).to_string()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
