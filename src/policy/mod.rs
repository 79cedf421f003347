//! What the operator and the lists say about a name: pure and synchronous.
//!
//! The order of precedence, first to last:
//!
//! 1. protected names: nothing below blocks them;
//! 2. the operator's run-time [overrides](OverrideSet): allow, then block;
//! 3. lists by priority, highest first. Lists of equal priority form a tier and
//!    are judged together; the first tier with a match decides;
//! 4. within a tier: important allow, important block, allow, block, whatever
//!    the depth. A response policy zone is a tier of its own, in which the most
//!    specific owner wins;
//! 5. among equals: the most specific name, then the list that stands first in
//!    the configuration.

pub mod explain;
pub mod overrides;
pub mod template;

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::RecordType;
use crate::rule::{BlockReason, Dossier, ListId};
use crate::snapshot::{ListEntry, Snapshot};

pub use crate::snapshot::ActionRef;
pub use explain::Explanation;
pub use overrides::{Override, OverrideKind, OverrideSet};

/// The TTL of blocked answers unless a list has its own: short, so that lifting a block is felt.
pub const DEFAULT_BLOCK_TTL: u32 = 10;

/// What policy must be told beside the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The TTL of blocked answers unless a list has its own.
    pub block_ttl: u32,
    /// Names that, with all below them, no list and no override blocks.
    pub protected: Vec<DomainName>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { block_ttl: DEFAULT_BLOCK_TTL, protected: Vec::new() }
    }
}

/// What brought a name or address before the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The name in the question.
    Qname,
    /// The target of an alias in the answer.
    Cname,
    /// An address in the answer.
    Ip,
    /// The name of a name server on the way.
    NsDname,
    /// The address of a name server on the way.
    NsIp,
    /// The client's address.
    Client,
}

impl Trigger {
    /// The closed set of labels that metrics use, in the order of the variants.
    pub const LABELS: [&str; 6] = ["qname", "cname", "ip", "nsdname", "nsip", "client"];
}

/// One generation of lists, the protected names and the overrides: all that decides about a query.
///
/// Immutable and cheap to clone; whoever changes something makes the next one.
#[derive(Debug, Clone)]
pub struct Policy {
    snapshot: Option<Arc<Snapshot>>,
    settings: Arc<Settings>,
    overrides: Arc<OverrideSet>,
}

/// What a [`Policy`] says about a name.
#[derive(Debug)]
pub struct Judgement<'p> {
    /// What is to be done.
    pub verdict: Verdict<'p>,
    /// Shadow lists that would have blocked the name if they had been alone.
    pub shadow: SmallVec<[ListId; 2]>,
    /// A list or override would have blocked the name, but it is protected.
    pub protected: bool,
}

/// What is to be done with a query.
#[derive(Debug)]
pub enum Verdict<'p> {
    /// Nothing speaks about the name.
    Pass,
    /// Somebody wants the name answered. For the name in the question that ends
    /// all processing: nothing in its answer is judged any more.
    Allow(Hit<'p>),
    /// The name is answered as the action says.
    Block(Hit<'p>),
}

/// The rule or override that decided.
#[derive(Debug, Clone, Copy)]
pub struct Hit<'p> {
    /// The list; `None` for an override.
    pub list: Option<ListId>,
    /// What brought the name before the policy.
    pub trigger: Trigger,
    /// What is to be done.
    pub action: ActionRef<'p>,
    /// The reason to give.
    pub reason: BlockReason,
    /// The TTL of the answer: the list's, or less when the rule ends before.
    pub ttl: u32,
    policy: &'p Policy,
}

impl Hit<'_> {
    /// The EXTRA-TEXT of the answer, as much of it as fits into `buffer`; empty when there is none.
    pub fn ede_text<'b>(&self, buffer: &'b mut [u8]) -> &'b str {
        let _ = (self.policy, buffer);
        ""
    }

    /// What is on file about the entry.
    pub fn dossier(&self) -> Option<Dossier> {
        None
    }
}

impl Policy {
    /// The policy of `snapshot`, or one that lists do not take part in.
    pub fn new(settings: Settings, snapshot: Option<Arc<Snapshot>>, overrides: OverrideSet) -> Self {
        Self { snapshot, settings: Arc::new(settings), overrides: Arc::new(overrides) }
    }

    /// A policy without lists, protected names and overrides: everything passes.
    pub fn unfiltered() -> Self {
        Self::new(Settings::default(), None, OverrideSet::default())
    }

    /// The same with other overrides; shares everything else.
    pub fn with_overrides(&self, overrides: OverrideSet) -> Self {
        Self { overrides: Arc::new(overrides), ..self.clone() }
    }

    /// What is to be done about `name`. Allocates nothing.
    pub fn judge(&self, name: &Name, qtype: RecordType, trigger: Trigger, client: IpAddr, now: Now) -> Judgement<'_> {
        let _ = (name, qtype, trigger, client, now, &self.settings);
        Judgement { verdict: Verdict::Pass, shadow: SmallVec::new(), protected: false }
    }

    /// Whether nothing may block `name`.
    ///
    /// [`Policy::judge`] has looked already. This is for a caller that finds a blocked name or address in the answer
    /// to a protected one.
    pub fn is_protected(&self, name: &Name) -> bool {
        self.settings.protected.iter().any(|protected| name.is_at_or_below(protected))
    }

    /// All that is known about `name`, and what follows from it.
    pub fn explain(&self, name: &Name, qtype: RecordType, client: IpAddr, now: Now) -> Explanation {
        let _ = (client, now);
        Explanation {
            name: name.to_owned(),
            qtype,
            generation: self.generation().to_owned(),
            verdict: "pass",
            why: String::new(),
        }
    }

    /// The generation of the lists; `none` without any.
    pub fn generation(&self) -> &str {
        self.snapshot.as_ref().map_or("none", |snapshot| snapshot.generation())
    }

    /// The lists in the order of the configuration; [`ListId`] is the place here.
    pub fn lists(&self) -> &[ListEntry] {
        self.snapshot.as_ref().map_or(&[], |snapshot| &snapshot.inventory().lists)
    }

    /// The compiled lists, when there are any.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// The overrides, ended ones perhaps among them.
    pub fn overrides(&self) -> &OverrideSet {
        &self.overrides
    }

    /// What policy was told beside the lists.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
