//! Judges answers: whether a chain of signatures leads to them from a trust anchor.
//!
//! A [`Validator`] takes a [`Message`] as the engine has put it together and
//! says of each set of records in it whether it is secure, insecure or bogus
//! (RFC 4035, section 5). What the message does not bring, keys and delegations
//! on the way from the anchor, it asks for through [`Fetch`].
//!
//! ```text
//! rdata       typed views of DNSKEY, DS, RRSIG, NSEC, NSEC3
//! canonical   the form and order of records that are signed
//! algorithms  which signatures and digests we can check, and checking them
//! signature   one set of records against the keys of its zone
//! budget      how much work one question may cost
//! denial      proofs that something does not exist
//! chain       from a trust anchor down to the keys of a zone
//! verdict     a whole message: aliases, answers, denials
//! anchors     where chains begin, and where they are cut
//! rollover    anchors that renew themselves (RFC 5011)
//! sentinel    telling the world which anchors we hold (RFC 8509, RFC 8145)
//! ```

pub mod algorithms;
pub mod anchors;
pub mod budget;
pub mod canonical;
pub mod chain;
pub mod denial;
pub mod rdata;
pub mod rollover;
pub mod sentinel;
pub mod signature;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::{ExtendedError, Question, Rcode, RecordType};

use super::message::{Message, RrSet};
use super::{BoxFuture, Security};

use budget::Budget;
use chain::{Chain, KeyCache};
use verdict::Judge;

pub use algorithms::{Algorithms, StandardAlgorithms};
pub use anchors::TrustAnchors;
pub use rollover::Rollover;

/// Brings what a chain of trust is made of.
///
/// One value serves one question, so that the work done for it can be bounded.
pub trait Fetch: Send + Sync {
    /// Asks for the DS or DNSKEY records of `name`.
    ///
    /// A DS record is asked for on the parent's side of a zone cut (RFC 4035, section 3.1.4.1). The reply comes as the
    /// zone's server sent it, authority section included, and is not validated; a referral that proves that there is
    /// no DS may stand for it. It may come from a cache unless `attempt` says otherwise.
    fn fetch<'a>(
        &'a self,
        name: &'a Name,
        rtype: RecordType,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Arc<Message>, FetchFailed>>;
}

/// How often the same thing has been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// What is cached will do.
    First,
    /// What came last did not validate: drop it, and ask another server than the one that sent it.
    Again,
    /// Not what is cached: keys are looked at anew (RFC 5011, section 2.3). Any server will do.
    Fresh,
}

/// Nothing usable came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no server gave an answer")]
pub struct FetchFailed {
    /// Why, as far as the engine knows.
    pub errors: Vec<ExtendedError>,
}

/// What the operator has decided about validation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Zones at and below which nothing is validated, whatever the anchors say (RFC 7646).
    pub negative_anchors: Vec<DomainName>,
    /// Whether RSA signatures over SHA-1 count (RFC 9905 asks operators to say no).
    pub accept_sha1: bool,
    /// Whether every algorithm that a zone's DS records announce must have signed everything in it. One is enough by
    /// RFC 6840, section 5.11; all of them withstand that the weakest is broken.
    pub require_all_algorithms: bool,
    /// NSEC3 with more iterations than this proves nothing and makes its answer insecure (RFC 9276, section 3.2).
    pub nsec3_iterations: u16,
    /// How far the machine's clock may be off when signatures are judged, up to a tenth of their lifetime.
    pub signature_skew: Duration,
    /// How many signatures may be checked for one question.
    pub signature_checks: u32,
    /// How many names may be hashed for NSEC3 for one question.
    pub nsec3_hashes: u32,
    /// How many zones' keys are remembered.
    pub key_cache_entries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            negative_anchors: Vec::new(),
            accept_sha1: false,
            require_all_algorithms: false,
            nsec3_iterations: 150,
            signature_skew: Duration::from_secs(60),
            signature_checks: 256,
            nsec3_hashes: 256,
            key_cache_entries: 16_384,
        }
    }
}

/// What is known about a message after its validation.
#[derive(Debug, Clone)]
pub struct Validation {
    /// The status of the answer as a whole: the worst of its parts (RFC 4035, section 3.2.3).
    pub security: Security,
    /// The response code that is proven: NOERROR also where the server said NXDOMAIN and proved only NODATA, or sent
    /// what was asked for.
    pub rcode: Rcode,
    /// Why it is not secure; empty when it is.
    pub errors: Vec<ExtendedError>,
    /// The status of each set of `message.answer`, in the same order.
    pub answer: Vec<SetStatus>,
    /// The status of each set of `message.authority`, in the same order.
    pub authority: Vec<SetStatus>,
    /// Secure NSEC and NSEC3 sets that may deny other names too (RFC 8198).
    pub denials: Vec<ProvenDenial>,
}

/// What is known about one set of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatus {
    /// Whether it is proven.
    pub security: Security,
    /// For how many seconds it may be kept: the least of its TTL, its original TTL, and what is left of its signature
    /// (RFC 4035, section 5.3.3).
    pub ttl: u32,
    /// The wildcard that it was expanded from, when it was.
    pub wildcard: Option<DomainName>,
}

/// A set of NSEC or NSEC3 records that is secure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenDenial {
    /// The zone that it denies names in.
    pub zone: DomainName,
    /// The set, with its signatures and its TTL capped as in [`SetStatus`].
    pub set: RrSet,
}

/// Validates messages; shared by all questions.
pub struct Validator {
    settings: Settings,
    anchors: ArcSwap<TrustAnchors>,
    algorithms: Arc<dyn Algorithms>,
    keys: KeyCache,
}

impl Validator {
    /// A validator that starts its chains at `anchors`.
    pub fn new(settings: Settings, anchors: TrustAnchors) -> Self {
        let algorithms = Arc::new(StandardAlgorithms { accept_sha1: settings.accept_sha1 });
        Self::with_algorithms(settings, anchors, algorithms)
    }

    /// A validator with a cryptography of the caller's.
    pub fn with_algorithms(settings: Settings, anchors: TrustAnchors, algorithms: Arc<dyn Algorithms>) -> Self {
        let keys = KeyCache::new(settings.key_cache_entries);
        let validator = Self { settings, anchors: ArcSwap::default(), algorithms, keys };
        validator.replace_anchors(anchors);
        validator
    }

    /// The cryptography.
    pub fn algorithms(&self) -> &dyn Algorithms {
        &*self.algorithms
    }

    /// The anchors of now.
    pub fn anchors(&self) -> Arc<TrustAnchors> {
        self.anchors.load_full()
    }

    /// Takes other anchors, and forgets what was derived from those before. The negative ones of the settings stay.
    pub fn replace_anchors(&self, mut anchors: TrustAnchors) {
        for zone in &self.settings.negative_anchors {
            anchors.distrust(zone);
        }
        self.anchors.store(Arc::new(anchors));
        self.forget(Name::root(), true);
    }

    /// Forgets what is known about the keys and delegation of `name`, and with `below` of all names below it.
    pub fn forget(&self, name: &Name, below: bool) {
        self.keys.forget(name, below);
    }

    /// Judges `message` as the answer to `question`.
    ///
    /// The message holds the whole chain of aliases from the question's name on, in order, and in its authority
    /// section all denials that its parts brought. Asks `fetch` for what is missing, some of it again when it does not
    /// validate. The work is bounded by [`Settings`]; beyond that the answer is bogus.
    pub async fn validate(&self, question: &Question, message: &Message, fetch: &dyn Fetch, now: Now) -> Validation {
        let anchors = self.anchors();
        let chain = Chain {
            settings: &self.settings,
            anchors: &anchors,
            algorithms: &*self.algorithms,
            cache: &self.keys,
            fetch,
            now,
            hints: &message.authority,
            budget: Budget::new(self.settings.signature_checks, self.settings.nsec3_hashes),
        };
        Judge::new(chain, message).judge(question).await
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
