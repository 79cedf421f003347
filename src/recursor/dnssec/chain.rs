//! From a trust anchor down to the keys of a zone (RFC 4035, section 5).
//!
//! Two ways lead down. For a set that names its signer, DS records are asked
//! for from the signer upwards, along the signers that they name themselves,
//! until a zone is known: one DS and one DNSKEY query for each zone on the way.
//! For a set without signatures the way goes down label by label, until a zone
//! without DS is found or every name has been looked at.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use smallvec::SmallVec;

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::{ExtendedError, RecordType};
use crate::recursor::message::{Message, Rdata, RrSet};

use super::algorithms::Algorithms;
use super::anchors::{Anchor, Governor, TrustAnchors};
use super::budget::Budget;
use super::denial::{Delegation, Denial, Proof};
use super::rdata::{self, Dnskey, Ds};
use super::signature::{self, Flaw, Moment, Signed};
use super::{Attempt, Fetch, Settings};

/// How often something is asked for again when it does not validate.
const RETRIES: usize = 3;
/// How long each of these may take.
const RETRY_PATIENCE: Duration = Duration::from_millis(1000);
/// For how many seconds it is remembered that a zone's keys are bogus.
const BOGUS_TTL: u32 = 60;
/// For how many seconds anything else is remembered at least, so that one question does not ask twice.
const LEAST_TTL: u32 = 5;
/// For how many seconds anything is remembered at most.
const MOST_TTL: u32 = 86_400;

/// The keys that may sign records of a zone.
#[derive(Debug, PartialEq, Eq)]
pub struct ZoneKeys {
    /// The zone.
    pub zone: DomainName,
    keys: Vec<Rdata>,
    /// The algorithms that its DS records or anchors name, as far as they can be checked.
    algorithms: Vec<u8>,
}

/// Whether and how a name can be trusted.
#[derive(Debug, Clone)]
pub enum Trust {
    /// By these keys.
    Secure(Arc<ZoneKeys>),
    /// No signatures are to be expected there.
    Insecure(Vec<ExtendedError>),
    /// The chain of trust is broken.
    Bogus(Vec<ExtendedError>),
    /// No anchor governs it.
    Indeterminate,
}

/// What is remembered about a name.
#[derive(Debug, Clone)]
enum Known {
    Zone(Trust),
    /// The name is in the zone above it.
    NoZone,
}

/// What is known about zones, for some time; shared by all questions.
pub struct KeyCache(Cache<DomainName, (Known, u32)>);

impl KeyCache {
    /// Room for so many names.
    pub fn new(entries: usize) -> Self {
        Self(Cache::new(entries))
    }

    /// Forgets `name`, and with `below` all names below it.
    pub fn forget(&self, name: &Name, below: bool) {
        self.0.retain(|known, _| if below { !known.is_at_or_below(name) } else { **known != *name });
    }

    fn find(&self, name: &Name, now: Now) -> Option<Known> {
        self.0.get(name).filter(|(_, until)| now.seconds() < *until).map(|(known, _)| known)
    }

    fn keep(&self, name: &Name, known: Known, ttl: u32, now: Now) {
        let ttl = match known {
            Known::Zone(Trust::Bogus(_)) => BOGUS_TTL,
            _ => ttl.clamp(LEAST_TTL, MOST_TTL),
        };
        self.0.insert(name.to_owned(), (known, now.seconds().saturating_add(ttl)));
    }
}

/// What a reply to a DS query says, checked with the keys of the zone above.
enum DsReply {
    /// The zone's keys have these fingerprints.
    Signed(Vec<Rdata>, u32),
    /// A zone begins, or may begin, there, without a DS record.
    Unsigned(u32),
    /// No zone begins there.
    NoZone(u32),
    /// Nothing that can be believed.
    Bogus(ExtendedError),
}

/// The walk for one question.
pub struct Chain<'a> {
    /// What the operator has decided.
    pub settings: &'a Settings,
    /// Where chains begin.
    pub anchors: &'a TrustAnchors,
    /// The cryptography.
    pub algorithms: &'a dyn Algorithms,
    /// What was found out before.
    pub cache: &'a KeyCache,
    /// Brings DS and DNSKEY records.
    pub fetch: &'a dyn Fetch,
    /// What time it is.
    pub now: Now,
    /// The authority section of the message under judgement; it may tell of zone cuts.
    pub hints: &'a [RrSet],
    /// The work that is left.
    pub budget: Budget,
}

impl Chain<'_> {
    /// The keys of `signer`, which says that it signed something at `home`.
    ///
    /// A signer above the anchor that governs `home` has no say; its signatures are as none.
    pub async fn keys_of(&mut self, signer: &Name, home: &Name) -> Trust {
        let (top, anchor) = match self.anchors.governing(home) {
            Governor::None => return Trust::Indeterminate,
            Governor::Negative => return Trust::Insecure(Vec::new()),
            Governor::Anchor(top, anchor) if signer.is_at_or_below(top) => (top, anchor),
            Governor::Anchor(..) => return self.zone_of(home).await,
        };

        // Upwards, to a zone that is known.
        let mut steps: Vec<(DomainName, Arc<Message>)> = Vec::new();
        let mut at = signer.to_owned();
        let mut trust = loop {
            if let Some(Known::Zone(trust)) = self.cache.find(&at, self.now) {
                break trust;
            }
            if *at == *top {
                break self.prime(top, anchor).await;
            }
            let reply = self.fetch.fetch(&at, RecordType::DS, Attempt::First).await;
            let next =
                reply.as_ref().ok().and_then(|reply| ds_signer(reply, &at)).filter(|next| next.is_at_or_below(top));
            match (reply, next) {
                (Ok(reply), Some(next)) => {
                    steps.push((at, reply));
                    at = next;
                }
                // Nobody vouches for the reply: perhaps nobody can, because a zone above is insecure.
                _ => break self.zone_of(&at).await,
            }
        };

        // And down again.
        while let Some((zone, reply)) = steps.pop() {
            let Trust::Secure(keys) = &trust else { return trust };
            let keys = Arc::clone(keys);
            match self.child(&zone, Some(reply), &keys).await {
                Known::Zone(below) => trust = below,
                Known::NoZone => break,
            }
        }
        match trust {
            Trust::Secure(keys) if *keys.zone != *signer => Trust::Bogus(vec![ExtendedError::new(
                ExtendedError::BOGUS,
                format!("{signer} has signed and is no zone"),
            )]),
            trust => trust,
        }
    }

    /// The zone that `name` is in, found from above.
    pub async fn zone_of(&mut self, name: &Name) -> Trust {
        let (top, anchor) = match self.anchors.governing(name) {
            Governor::None => return Trust::Indeterminate,
            Governor::Negative => return Trust::Insecure(Vec::new()),
            Governor::Anchor(top, anchor) => (top, anchor),
        };
        let mut labels = top.label_count();
        let mut keys = match self.prime(top, anchor).await {
            Trust::Secure(keys) => keys,
            other => return other,
        };
        while labels < name.label_count() {
            labels += 1;
            match self.child(name.suffix(labels), None, &keys).await {
                Known::Zone(Trust::Secure(below)) => keys = below,
                Known::Zone(other) => return other,
                Known::NoZone => {}
            }
        }
        Trust::Secure(keys)
    }

    /// Checks `set` with the keys of its zone.
    pub fn verify(&mut self, set: &RrSet, keys: &ZoneKeys) -> Result<Signed, Flaw> {
        let dnskeys: SmallVec<[Dnskey<'_>; 8]> = keys.keys.iter().filter_map(|rdata| Dnskey::parse(rdata)).collect();
        self.verify_by(set, &keys.zone, &dnskeys, &keys.algorithms)
    }

    /// Checks `set` with some keys of `zone`: one of them must have signed it, or one of each algorithm that the zone
    /// has announced, when the operator wants it so.
    fn verify_by(&mut self, set: &RrSet, zone: &Name, keys: &[Dnskey<'_>], announced: &[u8]) -> Result<Signed, Flaw> {
        let keys = keys.iter().copied();
        let skew = self.settings.signature_skew.as_secs() as u32;
        let (algorithms, at) = (self.algorithms, Moment { wall: self.now.wall, skew });
        if !self.settings.require_all_algorithms {
            return signature::verify(set, zone, keys, algorithms, &mut self.budget, at);
        }
        let mut signed = Err(Flaw::NoKey);
        for algorithm in announced {
            let keys = keys.clone().filter(|key| key.algorithm == *algorithm);
            let one = signature::verify(set, zone, keys, algorithms, &mut self.budget, at)?;
            signed = Ok(one);
        }
        signed
    }

    /// The keys of a zone that has an anchor.
    async fn prime(&mut self, zone: &Name, anchor: &Anchor) -> Trust {
        if let Some(Known::Zone(trust)) = self.cache.find(zone, self.now) {
            return trust;
        }
        match self.usable(&anchor.ds, &anchor.keys) {
            Ok(()) => self.dnskeys(zone, &anchor.ds, &anchor.keys, MOST_TTL).await,
            Err(error) => self.learn(zone, Trust::Insecure(vec![error]), MOST_TTL),
        }
    }

    /// What `name`, below the zone of `keys`, is: a zone of its own or not. `reply` is one to its DS query.
    async fn child(&mut self, name: &Name, reply: Option<Arc<Message>>, keys: &ZoneKeys) -> Known {
        if let Some(known) = self.cache.find(name, self.now) {
            return known;
        }
        if let Some(known) = self.child_by_hints(name, keys).await {
            return known;
        }
        let mut reply = match reply {
            Some(reply) => reply,
            None => match self.fetch.fetch(name, RecordType::DS, Attempt::First).await {
                Ok(reply) => reply,
                // Not remembered: the engine remembers for how long a server is not asked again.
                Err(failed) => {
                    let error = ExtendedError::new(ExtendedError::BOGUS, format!("no reply to {name} DS"));
                    let errors = if failed.errors.is_empty() { vec![error] } else { failed.errors };
                    return Known::Zone(Trust::Bogus(errors));
                }
            },
        };
        let mut retries = 0;
        let error = loop {
            let judged = self.ds_reply(name, &reply, keys);
            let error = match self.settle(name, judged).await {
                Ok(known) => return known,
                Err(error) => error,
            };
            if retries == RETRIES || self.budget.is_spent() {
                break error;
            }
            retries += 1;
            match self.fetch_again(name, RecordType::DS).await {
                Some(other) => reply = other,
                None => break error,
            }
        };
        Known::Zone(self.learn(name, Trust::Bogus(vec![error]), BOGUS_TTL))
    }

    /// What the message under judgement itself says about a zone at `name`, so that nobody need be asked.
    async fn child_by_hints(&mut self, name: &Name, keys: &ZoneKeys) -> Option<Known> {
        let speaks = |set: &&RrSet| matches!(set.rtype, RecordType::DS | RecordType::NSEC) && *set.name == *name;
        let hint = Message { authority: vec![self.hints.iter().find(speaks)?.clone()], ..Message::default() };
        let judged = self.ds_reply(name, &hint, keys);
        self.settle(name, judged).await.ok()
    }

    /// Follows up what a reply to the DS query for `name` says, and remembers it.
    async fn settle(&mut self, name: &Name, judged: DsReply) -> Result<Known, ExtendedError> {
        match judged {
            DsReply::Signed(ds, ttl) => Ok(Known::Zone(match self.usable(&ds, &[]) {
                Ok(()) => self.dnskeys(name, &ds, &[], ttl).await,
                Err(error) => self.learn(name, Trust::Insecure(vec![error]), ttl),
            })),
            DsReply::Unsigned(ttl) => Ok(Known::Zone(self.learn(name, Trust::Insecure(Vec::new()), ttl))),
            DsReply::NoZone(ttl) => {
                self.cache.keep(name, Known::NoZone, ttl, self.now);
                Ok(Known::NoZone)
            }
            DsReply::Bogus(error) => Err(error),
        }
    }

    /// Asks another server for what has not validated. Whoever waits has an answer by now, if a sad one: it is worth
    /// a moment, not the rest of their patience.
    async fn fetch_again(&self, name: &Name, rtype: RecordType) -> Option<Arc<Message>> {
        let again = self.fetch.fetch(name, rtype, Attempt::Again);
        tokio::time::timeout(RETRY_PATIENCE, again).await.ok()?.ok()
    }

    /// Judges a reply to the DS query for `name` with the keys of a zone above it.
    fn ds_reply(&mut self, name: &Name, reply: &Message, keys: &ZoneKeys) -> DsReply {
        // A referral carries the DS set in its authority section (RFC 4035, section 3.1.4).
        let mut sets = reply.answer.iter().chain(&reply.authority);
        if let Some(set) = sets.find(|set| set.rtype == RecordType::DS && *set.name == *name) {
            return match self.verify(set, keys) {
                Ok(signed) => DsReply::Signed(set.rdata.to_vec(), signed.ttl),
                Err(flaw) => DsReply::Bogus(flaw.explain(name, RecordType::DS)),
            };
        }
        // An alias at or above the name: no zone begins here (RFC 2181, section 10.1; RFC 6672, section 2.3).
        let alias = |set: &&RrSet| match set.rtype {
            RecordType::CNAME => *set.name == *name,
            RecordType::DNAME => name.is_below(&set.name),
            _ => false,
        };
        let alias = reply.answer.iter().find(alias).map(|set| self.verify(set, keys));
        if let Some(Ok(Signed { ttl, wildcard: None })) = alias {
            return DsReply::NoZone(ttl);
        }

        let (denials, flaw) = self.denials(&reply.authority, keys);
        let ttl = denials.iter().map(|set| set.ttl).min().unwrap_or(0);
        let mut denial = Denial::new(&keys.zone, denials.iter(), self.settings.nsec3_iterations);
        if let Some(Ok(Signed { ttl, wildcard: Some(wildcard) })) = alias
            && denial.no_closer(name, &wildcard, &mut self.budget) != Proof::Missing
        {
            return DsReply::NoZone(ttl);
        }
        match denial.no_ds(name, &mut self.budget) {
            Delegation::Unsigned | Delegation::MaybeUnsigned => DsReply::Unsigned(ttl),
            Delegation::None => DsReply::NoZone(ttl),
            Delegation::TooMuchWork => DsReply::Bogus(Flaw::TooMuchWork.explain(name, RecordType::DS)),
            Delegation::Unproven => DsReply::Bogus(match flaw {
                Some(error) => error,
                None => ExtendedError::new(ExtendedError::NSEC_MISSING, format!("no proof that {name} has no DS")),
            }),
        }
    }

    /// The NSEC and NSEC3 sets that the zone of `keys` has signed, their TTLs capped; and what is wrong with another.
    pub fn denials(&mut self, authority: &[RrSet], keys: &ZoneKeys) -> (Vec<RrSet>, Option<ExtendedError>) {
        let mut flaw = None;
        let mut good = Vec::new();
        for set in authority {
            if !matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3) || !set.name.is_at_or_below(&keys.zone) {
                continue;
            }
            match self.verify(set, keys) {
                Ok(signed) => good.push(RrSet { ttl: signed.ttl, ..set.clone() }),
                // Another zone's; it is looked at when that zone's turn comes.
                Err(Flaw::Misfit) if rdata::signer(set).is_none_or(|signer| signer != keys.zone) => {}
                Err(Flaw::Misfit) => {
                    let text = format!("the signature does not fit {} {}", set.name, set.rtype);
                    flaw = Some(ExtendedError::new(ExtendedError::BOGUS, text));
                }
                Err(other) => flaw = Some(other.explain(&set.name, set.rtype)),
            }
        }
        (good, flaw)
    }

    /// Whether any of the fingerprints and keys can be checked; else what is not supported.
    fn usable(&self, ds: &[Rdata], keys: &[Rdata]) -> Result<(), ExtendedError> {
        let ds = || ds.iter().filter_map(|rdata| Ds::parse(rdata));
        let mut keys = keys.iter().filter_map(|rdata| Dnskey::parse(rdata));
        if keys.any(|key| self.algorithms.supports(key.algorithm)) || ds().any(|ds| self.supports(&ds)) {
            Ok(())
        } else if let Some(ds) = ds().find(|ds| self.algorithms.supports(ds.algorithm)) {
            let text = format!("DS digest type {} is not supported", ds.digest_type);
            Err(ExtendedError::new(ExtendedError::UNSUPPORTED_DS_DIGEST, text))
        } else {
            let text = match ds().next() {
                Some(ds) => format!("algorithm {} is not supported", ds.algorithm),
                None => "the algorithm is not supported".to_owned(),
            };
            Err(ExtendedError::new(ExtendedError::UNSUPPORTED_DNSKEY_ALGORITHM, text))
        }
    }

    fn supports(&self, ds: &Ds<'_>) -> bool {
        self.algorithms.supports(ds.algorithm) && self.algorithms.supports_digest(ds.digest_type)
    }

    /// Asks for the keys of `zone` and checks that one that has a fingerprint, or is an anchor, has signed them all.
    async fn dnskeys(&mut self, zone: &Name, ds: &[Rdata], anchors: &[Rdata], ttl: u32) -> Trust {
        let mut error = None;
        for _ in 0..=RETRIES {
            let reply = match error {
                None => self.fetch.fetch(zone, RecordType::DNSKEY, Attempt::First).await.ok(),
                Some(_) => self.fetch_again(zone, RecordType::DNSKEY).await,
            };
            let Some(reply) = reply else { break };
            let set = reply.answer.iter().find(|set| set.rtype == RecordType::DNSKEY && *set.name == *zone);
            let checked = match set {
                Some(set) => self.check_dnskeys(zone, set, ds, anchors),
                None => Err(ExtendedError::new(ExtendedError::DNSKEY_MISSING, format!("{zone} has no DNSKEY"))),
            };
            match checked {
                Ok((keys, signed)) => {
                    return self.learn(zone, Trust::Secure(Arc::new(keys)), ttl.min(signed.ttl));
                }
                Err(flaw) => error = Some(flaw),
            }
            if self.budget.is_spent() {
                break;
            }
        }
        match error {
            Some(error) => self.learn(zone, Trust::Bogus(vec![error]), BOGUS_TTL),
            // Not remembered: the engine remembers for how long a server is not asked again.
            None => {
                let text = format!("no reply to {zone} DNSKEY");
                Trust::Bogus(vec![ExtendedError::new(ExtendedError::DNSKEY_MISSING, text)])
            }
        }
    }

    fn check_dnskeys(
        &mut self,
        zone: &Name,
        set: &RrSet,
        ds: &[Rdata],
        anchors: &[Rdata],
    ) -> Result<(ZoneKeys, Signed), ExtendedError> {
        let ds: Vec<Ds<'_>> = ds.iter().filter_map(|rdata| Ds::parse(rdata)).filter(|ds| self.supports(ds)).collect();
        // Where a better digest is there, SHA-1 does not count (RFC 4509, section 3).
        let sha1_counts = ds.iter().all(|ds| ds.digest_type == 1);
        let keys: Vec<Dnskey<'_>> = set.rdata.iter().filter_map(|rdata| Dnskey::parse(rdata)).collect();

        let mut not_for_zones = false;
        // A key that is an anchor may have signed the set and not be in it any more.
        let mut entry_points: Vec<Dnskey<'_>> =
            anchors.iter().filter_map(|rdata| Dnskey::parse(rdata)).filter(Dnskey::may_sign).collect();
        for key in &keys {
            let tag = key.key_tag();
            let candidates = ds.iter().filter(|ds| {
                (sha1_counts || ds.digest_type != 1) && ds.key_tag == tag && ds.algorithm == key.algorithm
            });
            let entry = candidates.take(FINGERPRINTS_PER_KEY).any(|ds| self.is_fingerprint(ds, zone, key));
            if entry && key.may_sign() {
                entry_points.push(*key);
            }
            not_for_zones |= entry && !key.may_sign();
        }
        if entry_points.is_empty() {
            return Err(if not_for_zones {
                Flaw::NotZoneKey.explain(zone, RecordType::DNSKEY)
            } else {
                ExtendedError::new(
                    ExtendedError::DNSKEY_MISSING,
                    format!("no DNSKEY of {zone} matches its DS or anchor"),
                )
            });
        }
        let trusted = anchors.iter().filter_map(|rdata| Dnskey::parse(rdata)).map(|key| key.algorithm);
        let mut announced: Vec<u8> = ds.iter().map(|ds| ds.algorithm).chain(trusted).collect();
        announced.retain(|algorithm| self.algorithms.supports(*algorithm));
        announced.sort_unstable();
        announced.dedup();
        let signed = self
            .verify_by(set, zone, &entry_points, &announced)
            .map_err(|flaw| flaw.explain(zone, RecordType::DNSKEY))?;
        let keys = keys.iter().map(|key| Rdata::from(key.rdata)).collect();
        Ok((ZoneKeys { zone: zone.to_owned(), keys, algorithms: announced }, signed))
    }

    /// Whether `ds` is the fingerprint of `key` (RFC 4034, section 5.1.4).
    fn is_fingerprint(&self, ds: &Ds<'_>, zone: &Name, key: &Dnskey<'_>) -> bool {
        let signed = [zone.as_wire(), key.rdata].concat();
        self.algorithms.digest(ds.digest_type, &signed).is_some_and(|digest| digest == ds.digest)
    }

    fn learn(&self, zone: &Name, trust: Trust, ttl: u32) -> Trust {
        // What failed for lack of work left may succeed for the next question.
        if !self.budget.is_spent() {
            self.cache.keep(zone, Known::Zone(trust.clone()), ttl, self.now);
        }
        trust
    }
}

/// How many fingerprints are compared with one key.
const FINGERPRINTS_PER_KEY: usize = 4;

/// The zone that vouches for a reply to the DS query for `name`, whether the reply is positive or negative.
fn ds_signer(reply: &Message, name: &Name) -> Option<DomainName> {
    let speaks = |set: &&RrSet| match set.rtype {
        RecordType::DS | RecordType::CNAME => *set.name == *name,
        RecordType::DNAME => name.is_below(&set.name),
        RecordType::NSEC | RecordType::NSEC3 => true,
        _ => false,
    };
    reply
        .answer
        .iter()
        .chain(&reply.authority)
        .filter(speaks)
        .filter_map(rdata::signer)
        .find(|zone| name.is_below(zone))
}
