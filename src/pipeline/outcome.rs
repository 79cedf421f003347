//! What happened to a query, and who takes that down.

use std::time::Duration;

use smallvec::SmallVec;

use crate::answer::Written;
use crate::answer::cookie::Standing;
use crate::policy::{Hit, Trigger};
use crate::query::{Client, Rcode, RecordType, Transport};
use crate::recursor::Security;
use crate::rule::ListId;

/// What happened to a query. Nothing in it names the client or what was asked.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How the query came.
    pub transport: Transport,
    /// The type it asked for.
    pub qtype: RecordType,
    /// Where the answer is from.
    pub source: Source,
    /// The response code; of no meaning when the query was dropped.
    pub rcode: Rcode,
    /// The rule that decided, an allowing one too.
    pub hit: Option<Match>,
    /// The shadow lists that would have blocked.
    pub shadow: SmallVec<[ListId; 2]>,
    /// A list would have blocked a protected name.
    pub protected: bool,
    /// What the cache had.
    pub lookup: Lookup,
    /// Whether the answer is proven; `None` when it is not from the world.
    pub security: Option<Security>,
    /// The first Extended DNS Error of the reply.
    pub ede: Option<u16>,
    /// What the client's cookie was worth, when it sent one.
    pub cookie: Option<Standing>,
    /// Why the query was not served, when it was not.
    pub dropped: Option<DropReason>,
}

impl Outcome {
    pub(super) fn new(client: Client, qtype: RecordType) -> Self {
        Self {
            transport: client.transport,
            qtype,
            source: Source::Error,
            rcode: Rcode::NOERROR,
            hit: None,
            shadow: SmallVec::new(),
            protected: false,
            lookup: Lookup::None,
            security: None,
            ede: None,
            cookie: None,
            dropped: None,
        }
    }

    pub(super) fn note(&mut self, protected: bool, shadow: &[ListId]) {
        self.protected |= protected;
        for list in shadow {
            if !self.shadow.contains(list) {
                self.shadow.push(*list);
            }
        }
    }

    pub(super) fn set(&mut self, source: Source, Written { rcode, ede }: Written) {
        (self.source, self.rcode, self.ede) = (source, rcode, ede);
    }

    pub(super) fn end(mut self, source: Source, written: Written) -> Self {
        self.set(source, written);
        self
    }
}

/// A rule that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Its list; `None` for a run-time override.
    pub list: Option<ListId>,
    /// The place of its action in [`Action::LABELS`](crate::rule::Action::LABELS).
    pub action: usize,
    /// What brought the name before the policy.
    pub trigger: Trigger,
}

impl Match {
    pub(super) fn of(hit: &Hit<'_>) -> Self {
        Self { list: hit.list, action: hit.action.index(), trigger: hit.trigger }
    }
}

/// Where an answer is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A rule.
    Policy,
    /// The cache, in time.
    Cache,
    /// The cache, past its time (RFC 8767).
    Stale,
    /// The world.
    Upstream,
    /// Ourselves: class CH, RFC 8482.
    Local,
    /// Nowhere: the query was refused or faulty, or the world did not answer.
    Error,
}

impl Source {
    /// The closed set of labels that metrics use, in the order of the variants.
    pub const LABELS: [&str; 6] = ["policy", "cache", "stale", "upstream", "local", "error"];
}

/// What the cache had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// It was not asked.
    None,
    /// An answer in its time.
    Hit,
    /// An answer past its time.
    Stale,
    /// Nothing.
    Miss,
}

impl Lookup {
    /// The closed set of labels that metrics use, in the order of the variants.
    pub const LABELS: [&str; 4] = ["none", "hit", "stale", "miss"];
}

/// Why a query got no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Too short for a header, or longer than a query can be.
    Malformed,
    /// QR was set: it was a response.
    Response,
    /// A rule says so.
    Policy,
    /// The client is one to be ignored.
    Denied,
    /// Too much was waiting already.
    Overload,
    /// The system did not take the reply.
    Send,
}

impl DropReason {
    /// The closed set of labels that metrics use, in the order of the variants.
    pub const LABELS: [&str; 6] = ["malformed", "response", "policy", "denied", "overload", "send"];
}

/// How many threads use a [`Recorder`] at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// A worker, and what runs on its thread.
    One,
    /// The tasks of a runtime.
    Many,
}

/// Takes down what happened. The front has one for each worker.
pub trait Recorder: Send + Sync + 'static {
    /// A query was done with, `took` after it came.
    fn record(&self, outcome: &Outcome, took: Duration);

    /// Something came that was no query, or could not be served.
    fn dropped(&self, reason: DropReason);
}
