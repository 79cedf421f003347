//! Proofs of absence, put to use for other names than the one they came for (RFC 8198).
//!
//! What is put together here goes through the validator like any answer: it is
//! a guess at what the zone would have said, never a verdict.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::clock::Now;
use crate::name::{DomainName, MAX_KEY_LEN, Name};
use crate::query::{Rcode, RecordType};

use super::message::{Message, RrSet, leading_name};

/// Zones whose proofs are kept, and proofs kept of one zone.
const MAX_ZONES: usize = 1024;
const MAX_PROOFS: usize = 1024;

/// NSEC records that are secure, in canonical order, by zone.
#[derive(Debug)]
pub struct Denials {
    zones: Cache<DomainName, Arc<Mutex<Zone>>, quick_cache::UnitWeighter, ahash::RandomState>,
}

#[derive(Debug, Default)]
struct Zone {
    soa: Option<Proof>,
    /// By the owner's [`Name::reversed_key`].
    proofs: BTreeMap<Box<[u8]>, Proof>,
}

#[derive(Debug, Clone)]
struct Proof {
    set: RrSet,
    /// When its TTL ends.
    expires: u32,
    /// When it ends to be a proof, which may be before.
    holds_until: u32,
}

impl Default for Denials {
    fn default() -> Self {
        let (weighter, hasher) = (quick_cache::UnitWeighter, ahash::RandomState::new());
        Self { zones: Cache::with(MAX_ZONES, MAX_ZONES as u64, weighter, hasher, Default::default()) }
    }
}

impl Denials {
    /// Keeps a secure NSEC set of `zone`, or its SOA, until its TTL ends.
    pub fn put(&self, zone: &Name, set: &RrSet, now: Now) {
        self.put_for(zone, set, set.ttl, now);
    }

    /// As [`put`](Self::put), but draws no conclusions after `seconds`.
    pub fn put_for(&self, zone: &Name, set: &RrSet, seconds: u32, now: Now) {
        let holds = set.ttl.min(seconds);
        if !matches!(set.rtype, RecordType::NSEC | RecordType::SOA) || holds == 0 {
            return;
        }
        let known = match self.zones.get(zone) {
            Some(known) => known,
            None => {
                let known = Arc::new(Mutex::default());
                self.zones.insert(zone.to_owned(), known);
                let Some(known) = self.zones.get(zone) else { return };
                known
            }
        };
        let mut known = known.lock();
        let [expires, holds_until] = [set.ttl, holds].map(|seconds| now.seconds().saturating_add(seconds));
        let proof = Proof { set: set.clone(), expires, holds_until };
        if set.rtype == RecordType::SOA {
            known.soa = Some(proof);
            return;
        }
        if known.proofs.len() >= MAX_PROOFS {
            known.proofs.retain(|_, proof| proof.holds_until > now.seconds());
        }
        if known.proofs.len() < MAX_PROOFS {
            let mut key = [0; MAX_KEY_LEN];
            known.proofs.insert(set.name.reversed_key(&mut key).into(), proof);
        }
    }

    /// What the proofs at hand say to a question, as the zone's server would say it.
    pub fn answer(&self, name: &Name, qtype: RecordType, now: Now) -> Option<Message> {
        // A DS record is the parent's to deny.
        let start = if qtype == RecordType::DS { name.parent()? } else { name };
        let (zone, known) = start.ancestors().find_map(|zone| Some((zone, self.zones.get(zone)?)))?;
        let known = known.lock();
        let soa = known.soa.as_ref().and_then(|soa| soa.at(now))?;
        let proof = known.at_or_before(name, now)?;
        let mut message = Message { rcode: Rcode::NOERROR, authoritative: true, ..Message::default() };
        message.authority.push(soa);
        if *proof.name == *name {
            if !proves_no_data(&proof, qtype) {
                return None;
            }
            message.authority.push(proof);
            return Some(message);
        }
        let next = covers(&proof, zone, name)?;
        if next.is_below(name) {
            // The name has no records of its own, but names below it do (RFC 4592, section 2.2.2).
            message.authority.push(proof);
            return Some(message);
        }
        // The closest name that exists is the longest that it shares with either side of the gap.
        let shared = name.common_labels(&proof.name).max(name.common_labels(&next));
        let wildcard = name.suffix(shared).child(b"*").ok()?;
        let denial = known.at_or_before(&wildcard, now)?;
        if denial.name == wildcard {
            if !proves_no_data(&denial, qtype) {
                return None;
            }
        } else {
            covers(&denial, zone, &wildcard)?;
            message.rcode = Rcode::NXDOMAIN;
        }
        if denial.name != proof.name {
            message.authority.push(denial);
        }
        message.authority.push(proof);
        Some(message)
    }

    /// Forgets what is known about the zones at and above `name`, and below it if `below`.
    pub fn flush(&self, name: &Name, below: bool) {
        self.zones.retain(|zone, _| !(name.is_at_or_below(zone) || below && zone.is_at_or_below(name)));
    }
}

impl Zone {
    /// The proof at `name` or the last one before it.
    fn at_or_before(&self, name: &Name, now: Now) -> Option<RrSet> {
        let mut key = [0; MAX_KEY_LEN];
        let key = name.reversed_key(&mut key);
        let upto = (std::ops::Bound::Unbounded, std::ops::Bound::Included(key));
        let (_, proof) = self.proofs.range::<[u8], _>(upto).next_back()?;
        proof.at(now)
    }
}

impl Proof {
    fn at(&self, now: Now) -> Option<RrSet> {
        let ttl = self.expires.checked_sub(now.seconds()).filter(|_| self.holds_until > now.seconds())?;
        Some(RrSet { ttl, ..self.set.clone() })
    }
}

/// The next name, when `name` lies in the gap that `proof` describes and not in a zone below it.
fn covers(proof: &RrSet, zone: &Name, name: &Name) -> Option<DomainName> {
    let (next, types) = parts(proof)?;
    let after = *name > *proof.name && (*name < *next || *next == *zone);
    // The parent's NSEC at a cut or DNAME says nothing about what is below it (RFC 6840, section 4.1).
    let cut =
        has_type(types, RecordType::NS) && !has_type(types, RecordType::SOA) || has_type(types, RecordType::DNAME);
    (after && !(cut && name.is_below(&proof.name))).then_some(next)
}

/// Whether `proof`, at the name itself, says that there is no `qtype`.
fn proves_no_data(proof: &RrSet, qtype: RecordType) -> bool {
    let Some((_, types)) = parts(proof) else { return false };
    let cut = has_type(types, RecordType::NS) && !has_type(types, RecordType::SOA);
    let wrong_side = if qtype == RecordType::DS { has_type(types, RecordType::SOA) } else { cut };
    !wrong_side && !has_type(types, qtype) && !has_type(types, RecordType::CNAME) && qtype != RecordType::ANY
}

/// The next name and the type bitmap of an NSEC set (RFC 4034, section 4.1).
fn parts(set: &RrSet) -> Option<(DomainName, &[u8])> {
    let data = set.rdata.first()?;
    let next = leading_name(data)?;
    let types = &data[next.as_wire().len()..];
    Some((next, types))
}

/// Whether a type bitmap holds `rtype` (RFC 4034, section 4.1.2).
fn has_type(mut bitmap: &[u8], rtype: RecordType) -> bool {
    let [window, bit] = rtype.0.to_be_bytes();
    while let [number, len, rest @ ..] = bitmap {
        let Some((bits, after)) = rest.split_at_checked(usize::from(*len)) else { return false };
        if *number == window {
            return bits.get(usize::from(bit / 8)).is_some_and(|octet| octet & (0x80 >> (bit % 8)) != 0);
        }
        bitmap = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smallvec::SmallVec;
    use std::time::Duration;

    fn at(seconds: u64) -> Now {
        Now { elapsed: Duration::from_secs(seconds), wall: 0 }
    }

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    fn set(owner: &str, rtype: RecordType, data: Vec<u8>) -> RrSet {
        let rdata = SmallVec::from_iter([data.into_boxed_slice()]);
        RrSet { name: name(owner), rtype, ttl: 60, rdata, signatures: SmallVec::new() }
    }

    fn nsec(owner: &str, next: &str, types: &[RecordType]) -> RrSet {
        let mut bits = [0u8; 8];
        for rtype in types {
            bits[usize::from(rtype.0 / 8)] |= 0x80 >> (rtype.0 % 8);
        }
        set(owner, RecordType::NSEC, [name(next).as_wire(), &[0, 8], &bits].concat())
    }

    #[test]
    fn proofs_answer_for_names_in_their_gap_until_they_expire() {
        let denials = Denials::default();
        let zone = name("kz");
        denials.put(&zone, &set("kz", RecordType::SOA, vec![0; 22]), at(0));
        denials.put(&zone, &nsec("kz", "b.kz", &[RecordType::NS, RecordType::SOA]), at(0));
        denials.put(&zone, &nsec("b.kz", "x.m.kz", &[RecordType::A]), at(0));
        denials.put(&zone, &nsec("x.m.kz", "sub.kz", &[RecordType::A]), at(0));
        denials.put(&zone, &nsec("sub.kz", "kz", &[RecordType::NS]), at(0));
        for (question, qtype, expected) in [
            ("a.kz", RecordType::A, Some(Rcode::NXDOMAIN)),
            ("b.kz", RecordType::AAAA, Some(Rcode::NOERROR)),
            ("b.kz", RecordType::A, None),
            ("m.kz", RecordType::A, Some(Rcode::NOERROR)),
            ("z.kz", RecordType::A, Some(Rcode::NXDOMAIN)),
            ("www.sub.kz", RecordType::A, None),
            ("sub.kz", RecordType::DS, Some(Rcode::NOERROR)),
            ("sub.kz", RecordType::A, None),
            ("kz", RecordType::DS, None),
            ("com", RecordType::A, None),
        ] {
            let answer = denials.answer(&name(question), qtype, at(30));
            assert_eq!(answer.map(|message| message.rcode), expected, "{question} {qtype}");
        }
        assert!(denials.answer(&name("a.kz"), RecordType::A, at(60)).is_none());
    }

    proptest! {
        #[test]
        fn any_data_is_a_proof_or_none(data in proptest::collection::vec(any::<u8>(), 0..40), qtype in any::<u16>()) {
            let denials = Denials::default();
            let zone = name("kz");
            denials.put(&zone, &set("kz", RecordType::SOA, vec![0; 22]), at(0));
            denials.put(&zone, &set("b.kz", RecordType::NSEC, data), at(0));
            for question in ["a.kz", "b.kz", "c.kz"] {
                let _ = denials.answer(&name(question), RecordType(qtype), at(1));
            }
        }
    }
}
