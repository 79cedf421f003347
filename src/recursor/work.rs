//! The work that one question causes, and its limits.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::name::{DomainName, Name};
use crate::query::{ExtendedError, Question, RecordType};

use super::settings::Limits;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No server of the zone answered.
    #[error("no server of {zone} could be reached")]
    Unreachable {
        /// The zone.
        zone: DomainName,
    },
    /// Servers of the zone answered, none of them usably.
    #[error("no server of {zone} gave a usable answer")]
    Lame {
        /// The zone.
        zone: DomainName,
    },
    /// The time is over.
    #[error("the question took too long")]
    Late,
    /// The question has caused too much work.
    #[error("the question needs more work than is allowed: too many {0}")]
    Excess(Limit),
    /// The answer depends on itself.
    #[error("the answer depends on itself")]
    Cycle,
    /// It failed a moment ago, and is not tried again yet.
    #[error("it failed a moment ago")]
    Recent,
}

/// What a question may not cause without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Queries to servers.
    Queries,
    /// Look-ups of name servers' addresses.
    Lookups,
    /// Aliases on one way.
    Aliases,
    /// Zone cuts and minimisation steps on one way down.
    Steps,
    /// Questions that arise within questions.
    Depth,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queries => "queries",
            Self::Lookups => "name servers without addresses",
            Self::Aliases => "aliases",
            Self::Steps => "zone cuts",
            Self::Depth => "questions within questions",
        })
    }
}

impl Failure {
    /// For how many seconds a failure is remembered (RFC 9520, section 3.2).
    pub const TTL: u32 = 5;

    /// What a client is told (RFC 8914).
    pub fn extended_error(&self) -> ExtendedError {
        let code = match self {
            Self::Unreachable { .. } | Self::Late => ExtendedError::NO_REACHABLE_AUTHORITY,
            Self::Lame { .. } => ExtendedError::NETWORK_ERROR,
            Self::Excess(_) | Self::Cycle => ExtendedError::OTHER,
            Self::Recent => ExtendedError::CACHED_ERROR,
        };
        ExtendedError::new(code, self.to_string())
    }
}

/// One query that was sent, as `explain` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The zone whose server was asked.
    pub zone: DomainName,
    /// The server.
    pub server: SocketAddr,
    /// The name it was asked for; shorter than the question's while names are minimised.
    pub name: DomainName,
    /// The type it was asked for.
    pub rtype: RecordType,
    /// What came of it.
    pub result: String,
    /// How long it took.
    pub took: Duration,
}

/// What one question may still cost, shared by all that it leads to.
#[derive(Debug)]
pub struct Work {
    deadline: Instant,
    queries: AtomicU32,
    lookups: AtomicU32,
    /// Servers that sent what did not validate, by zone; they are not asked for that zone again.
    avoid: Mutex<Vec<(DomainName, SocketAddr)>>,
    steps: Option<Mutex<Vec<Step>>>,
    /// The question came with CD: whoever validates for us is told so.
    pub checking_disabled: bool,
    /// A server has sent records that no one can read.
    misshapen: AtomicBool,
}

impl Work {
    /// The whole allowance.
    pub fn new(limits: &Limits, patience: Duration, traced: bool) -> Self {
        Self {
            deadline: Instant::now() + patience,
            queries: AtomicU32::new(limits.queries),
            lookups: AtomicU32::new(limits.total_server_lookups),
            avoid: Mutex::default(),
            steps: traced.then(Mutex::default),
            checking_disabled: false,
            misshapen: AtomicBool::new(false),
        }
    }

    /// The whole allowance, for this question of a client's.
    pub fn on(question: &Question, limits: &Limits, patience: Duration, traced: bool) -> Self {
        Self { checking_disabled: question.checking_disabled, ..Self::new(limits, patience, traced) }
    }

    /// How much time is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Takes one query off the allowance.
    pub fn take_query(&self) -> Result<(), Failure> {
        take(&self.queries).then_some(()).ok_or(Failure::Excess(Limit::Queries))
    }

    /// Takes the look-up of one server's address off the allowance.
    pub fn take_lookup(&self) -> Result<(), Failure> {
        take(&self.lookups).then_some(()).ok_or(Failure::Excess(Limit::Lookups))
    }

    /// `server` sent something about `zone` that did not validate.
    pub fn avoid(&self, zone: &Name, server: SocketAddr) {
        self.avoid.lock().push((zone.to_owned(), server));
    }

    /// Whether `server` is not to be asked about `zone`.
    pub fn avoids(&self, zone: &Name, server: SocketAddr) -> bool {
        self.avoid.lock().iter().any(|(avoided, address)| **avoided == *zone && *address == server)
    }

    /// Whether some servers of `zone` are not to be asked.
    pub fn is_choosy(&self, zone: &Name) -> bool {
        self.avoid.lock().iter().any(|(avoided, _)| **avoided == *zone)
    }

    /// What led to the answer came with records that no one can read and that were left out, if `misshapen`.
    pub fn note_misshapen(&self, misshapen: bool) {
        if misshapen {
            self.misshapen.store(true, Relaxed);
        }
    }

    /// What was noted about the way of the answer, beside its steps.
    pub fn remarks(&self) -> Option<ExtendedError> {
        let text = "a server has sent records whose length does not fit their type";
        self.misshapen.load(Relaxed).then(|| ExtendedError::new(ExtendedError::OTHER, text))
    }

    /// Notes a step, when somebody wants to know.
    pub fn note(&self, step: impl FnOnce() -> Step) {
        if let Some(steps) = &self.steps {
            steps.lock().push(step());
        }
    }

    /// The steps that were noted.
    pub fn into_steps(self) -> Vec<Step> {
        self.steps.map(Mutex::into_inner).unwrap_or_default()
    }
}

fn take(counter: &AtomicU32) -> bool {
    counter.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// The questions that led to this one, so that none waits for itself.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    name: &'a Name,
    rtype: RecordType,
    depth: u32,
    /// Somebody waits for it who is asking the servers of a zone.
    nested: bool,
    above: Option<&'a Path<'a>>,
}

impl<'a> Path<'a> {
    /// A question of its own.
    pub fn start(name: &'a Name, rtype: RecordType) -> Self {
        Self { name, rtype, depth: 0, nested: false, above: None }
    }

    /// A question that a chain of trust needs.
    pub fn inner(name: &'a Name, rtype: RecordType) -> Self {
        Self { depth: 1, ..Self::start(name, rtype) }
    }

    /// A question that arises within this one.
    ///
    /// # Errors
    ///
    /// When it is one of those that led here, or there are too many.
    pub fn descend(&'a self, name: &'a Name, rtype: RecordType, limits: &Limits) -> Result<Self, Failure> {
        if self.holds(name, rtype) {
            return Err(Failure::Cycle);
        }
        if self.depth >= limits.depth {
            return Err(Failure::Excess(Limit::Depth));
        }
        Ok(Self { name, rtype, depth: self.depth + 1, nested: true, above: Some(self) })
    }

    /// Whether the question is one of those that led here.
    pub fn holds(&self, name: &Name, rtype: RecordType) -> bool {
        std::iter::successors(Some(self), |path| path.above).any(|path| path.rtype == rtype && *path.name == *name)
    }

    /// Whether somebody who is asking the servers of a zone waits for it.
    pub fn is_nested(&self) -> bool {
        self.nested
    }

    /// How many questions lie above.
    pub fn depth(&self) -> u32 {
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_leads_to_itself_is_a_cycle() {
        let (a, b): (DomainName, DomainName) = ("a.kz".parse().unwrap(), "b.kz".parse().unwrap());
        let limits = Limits { depth: 2, ..Limits::default() };
        let top = Path::start(&a, RecordType::A);
        let next = top.descend(&b, RecordType::A, &limits).unwrap();
        assert_eq!(next.descend(&a, RecordType::A, &limits).unwrap_err(), Failure::Cycle);
        let last = next.descend(&a, RecordType::AAAA, &limits).unwrap();
        let error = last.descend(&b, RecordType::MX, &limits).unwrap_err();
        assert_eq!(error, Failure::Excess(Limit::Depth));
    }

    #[tokio::test]
    async fn the_allowance_is_shared_and_ends() {
        let limits = Limits { queries: 2, ..Limits::default() };
        let work = Work::new(&limits, Duration::from_secs(1), false);
        assert!(work.take_query().is_ok() && work.take_query().is_ok());
        assert_eq!(work.take_query(), Err(Failure::Excess(Limit::Queries)));
    }
}
