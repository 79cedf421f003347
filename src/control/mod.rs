//! The HTTP API, its client, metrics and health.
//!
//! One plain HTTP/1.1 listener carries `/metrics`, `/healthz` and `/readyz` for
//! machines that watch, and `/api/v1/` for the operator. The API trusts the
//! machine's own users and nobody else: it answers clients of
//! [`Settings::allow_clients`] only, and nothing that a web page could make a
//! browser send. What it does is done by a [`Backend`], the daemon.

pub mod client;
mod server;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use futures_util::future::BoxFuture;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::metrics::Totals;
use crate::name::DomainName;
use crate::policy::{Explanation, Override, OverrideKind};
use crate::query::RecordType;

pub use server::{Control, ControlError};

/// Where the API is, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address of metrics, health and API.
    pub listen: SocketAddr,
    /// Who may use the API. Metrics and health are for everybody who can reach the address.
    pub allow_clients: Vec<IpNet>,
    /// Names beside `localhost` under which browsers and clients may call the API; addresses always may.
    pub hosts: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9153)),
            allow_clients: ["127.0.0.0/8", "::1/128"].map(|prefix| prefix.parse().expect("a prefix")).to_vec(),
            hosts: Vec::new(),
        }
    }
}

/// Does what the API asks for. None of it takes long, but for what returns a future.
pub trait Backend: Send + Sync + 'static {
    /// How things stand.
    fn status(&self) -> Status;

    /// The page that Prometheus reads.
    fn metrics(&self) -> String;

    /// Whether queries are answered and filtered; otherwise why not.
    ///
    /// # Errors
    ///
    /// The reason, in a sentence.
    fn ready(&self) -> Result<(), String>;

    /// Reads configuration and lists again and puts them in force.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Problem>>;

    /// Puts an earlier generation in force, the one before unless it is named.
    fn rollback(&self, generation: Option<String>) -> BoxFuture<'_, Result<Reloaded, Problem>>;

    /// Forgets what the cache has of a name, and says how many answers that were.
    fn flush(&self, flush: Flush) -> BoxFuture<'_, Result<Flushed, Problem>>;

    /// The run-time overrides in force.
    fn overrides(&self) -> Vec<Override>;

    /// Adds an override, which is in force when this returns.
    ///
    /// # Errors
    ///
    /// When it cannot be kept; it is not in force then.
    fn add_override(&self, new: NewOverride) -> Result<Override, Problem>;

    /// Takes out what was decided about a name.
    ///
    /// # Errors
    ///
    /// When there is nothing of the kind, or the change cannot be kept.
    fn remove_override(&self, name: &DomainName) -> Result<(), Problem>;

    /// All that policy knows about a name.
    fn explain(&self, what: &Explain) -> Explanation;
}

/// `GET /api/v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The version that runs.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started_at: u64,
    /// Where queries are answered, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The generation in force.
    pub generation: String,
    /// Earlier generations that a rollback can reach, newest first.
    pub generations: Vec<String>,
    /// Whether it serves without lists, because of `--allow-unfiltered`.
    pub unfiltered: bool,
    /// The lists in force, in the order of the configuration.
    pub lists: Vec<ListStatus>,
    /// Why the last reload did not succeed, when it did not.
    pub last_error: Option<String>,
    /// Run-time overrides in force.
    pub overrides: usize,
    /// Counts since the start.
    pub totals: Totals,
    /// How full the cache is.
    pub cache: CacheStatus,
}

/// How full the cache is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheStatus {
    /// Answers that it holds.
    pub entries: u64,
    /// The memory that they take, in bytes.
    pub bytes: u64,
}

/// One list in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Names that it has in force.
    pub entries: u64,
    /// Lines refused in it.
    pub refused: u64,
    /// When it was read without fault for the last time, in seconds since 1970; 0: never.
    pub last_success: u64,
}

/// What a reload or rollback did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation in force now.
    pub generation: String,
    /// Whether it is another one than before.
    pub changed: bool,
    /// What went wrong all the same: a bad list that its last good copy stands in for.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `POST /api/v1/rollback`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// The generation, or the first digits of its hash; the one before without it.
    pub generation: Option<String>,
}

/// `POST /api/v1/flush`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flush {
    /// The name.
    pub name: DomainName,
    /// Also all names below it.
    #[serde(default)]
    pub below: bool,
}

/// What a flush did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flushed {
    /// Answers that the cache has forgotten.
    pub forgotten: usize,
}

/// `POST /api/v1/overrides`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOverride {
    /// The name; all below it is meant too.
    pub name: DomainName,
    /// Allow or block.
    pub kind: OverrideKind,
    /// Why.
    pub reason: String,
    /// Who says so.
    #[serde(default)]
    pub author: Option<String>,
    /// For how many seconds.
    pub seconds: u64,
}

/// `DELETE /api/v1/overrides`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveOverride {
    /// The name.
    pub name: DomainName,
}

/// `POST /api/v1/explain`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// The name.
    pub name: DomainName,
    /// The query type; A without it.
    #[serde(default, rename = "type")]
    pub qtype: Option<String>,
    /// Who asks; the machine itself without it.
    #[serde(default)]
    pub client: Option<IpAddr>,
}

impl Explain {
    /// The query type.
    ///
    /// # Errors
    ///
    /// When the text names none.
    pub fn record_type(&self) -> Result<RecordType, crate::query::UnknownType> {
        self.qtype.as_deref().map_or(Ok(RecordType::A), str::parse)
    }
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Of what kind it is.
    pub kind: ProblemKind,
    /// What went wrong and what to do, in a sentence.
    #[serde(rename = "error")]
    pub message: String,
}

/// The kinds of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The request does not make sense.
    Usage,
    /// The caller may not.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// A guard has refused it.
    Refused,
    /// It was tried and failed.
    Failed,
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
