//! The way of a query, written out once: policy, cache, resolver, filter, answer.
//!
//! [`Pipeline::answer`] does all that needs no waiting, on the thread that has
//! received the query; [`Pipeline::ask`] does the rest. Neither counts or logs:
//! an [`Outcome`] says what happened, and the front hands it to a [`Recorder`].

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::answer;
use crate::cache;
use crate::clock::{Clock, Now};
use crate::name::Name;
use crate::policy::{Policy, Trigger};
use crate::query::{Client, Rcode, RecordType, Transport};
use crate::recursor::{Security, Upstream};
use crate::rule::ListId;

/// What the pipeline must be told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// How replies look.
    pub answer: answer::Settings,
    /// What is kept, and for how long.
    pub cache: cache::Settings,
    /// How long a client waits at most, and for what.
    pub patience: Patience,
    /// What a query without RD gets.
    pub non_recursive: NonRecursive,
    /// What a query for type ANY gets.
    pub any: AnyQueries,
}

/// How long clients are kept waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// No client waits longer for any answer; what comes later is for the cache.
    pub client_timeout: Duration,
    /// Questions that may be asked of the world at once; a client with a further one is turned away (EDE 23).
    pub max_in_flight: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { client_timeout: Duration::from_secs(4), max_in_flight: 4096 }
    }
}

/// What a query without RD gets, when no rule speaks about its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NonRecursive {
    /// REFUSED: the cache is nobody's business.
    #[default]
    Refuse,
    /// What the cache has, or REFUSED.
    FromCache,
}

/// What a query for type ANY gets, when no rule speaks about its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnyQueries {
    /// What name servers say.
    #[default]
    Resolve,
    /// A HINFO record and nobody is asked (RFC 8482, section 4.2).
    Minimal,
}

/// What becomes of a query on the thread that received it.
#[derive(Debug)]
pub enum Step {
    /// It is done with. The reply is written; an empty one is not sent.
    Done(Outcome),
    /// It is no query that deserves an answer.
    Drop(DropReason),
    /// The world must be asked: [`Pipeline::ask`].
    Ask(Box<Pending>),
}

/// A query that waits for the world.
#[derive(Debug)]
pub struct Pending {
    /// Who asks.
    pub client: Client,
}

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
    /// Why nothing was sent, when nothing was.
    pub dropped: Option<DropReason>,
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

/// Takes down what happened. The front has one for each worker.
pub trait Recorder: Send + Sync + 'static {
    /// A query was done with, `took` after it came.
    fn record(&self, outcome: &Outcome, took: Duration);

    /// Something came that was no query, or could not be served.
    fn dropped(&self, reason: DropReason);
}

/// The stages of an answer, in their order.
pub struct Pipeline {
    settings: Settings,
    upstream: Arc<dyn Upstream>,
    clock: Clock,
}

impl Pipeline {
    /// Puts the stages together. Must be called within a tokio runtime, on which it asks the world.
    pub fn new(settings: Settings, upstream: Arc<dyn Upstream>, policy: Policy, clock: Clock) -> Arc<Self> {
        let _ = policy;
        Arc::new(Self { settings, upstream, clock })
    }

    /// Answers one query without waiting, or says that the world must be asked.
    ///
    /// `reply` is cleared, then holds the reply.
    pub fn answer(&self, request: &[u8], client: Client, now: Now, reply: &mut Vec<u8>) -> Step {
        let _ = (request, client, now, &self.settings);
        reply.clear();
        Step::Drop(DropReason::Malformed)
    }

    /// Asks the world what [`answer`](Self::answer) could not find, and writes the reply.
    pub async fn ask(&self, pending: Box<Pending>, reply: &mut Vec<u8>) -> Outcome {
        let _ = (pending, reply, &self.upstream, &self.clock);
        unimplemented!()
    }

    /// Both in one, for whoever has no thread to spare: `None` when there is nothing to send.
    pub async fn handle(&self, request: &[u8], client: Client) -> Option<Vec<u8>> {
        let mut reply = Vec::new();
        if let Step::Ask(pending) = self.answer(request, client, self.clock.now(), &mut reply) {
            self.ask(pending, &mut reply).await;
        }
        (!reply.is_empty()).then_some(reply)
    }

    /// Puts another policy in force; queries under way end with the one that they began with.
    pub fn replace_policy(&self, policy: Policy) {
        let _ = policy;
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::new(Policy::unfiltered())
    }

    /// Forgets what the cache has of `name`, with `below` also of all names below it, and says how many answers.
    pub fn flush(&self, name: &Name, below: bool) -> usize {
        let _ = (name, below);
        0
    }

    /// How full the cache is.
    pub fn cache_statistics(&self) -> cache::Statistics {
        cache::Statistics::default()
    }

    /// Waits until nothing is being asked of the world any more.
    pub async fn drain(&self) {}
}
