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

use super::dnssec::denial::{decode_hash, hash};
use super::dnssec::rdata::{Nsec, Nsec3, TypeBitmap};
use super::message::{Message, RrSet};

/// Zones whose proofs are kept, and proofs kept of one zone.
const MAX_ZONES: usize = 1024;
const MAX_PROOFS: usize = 1024;
/// Zones that hash names more often than this, or names with more labels below their zone, are not worth the work: a
/// question costs no more than one hash for each label and one for the wildcard. RFC 9276 asks zones for no iterations.
const MAX_ITERATIONS: u16 = 10;
const MAX_HASHED_LABELS: usize = 12;

/// NSEC and NSEC3 records that are secure, in canonical order, by zone.
#[derive(Debug)]
pub struct Denials {
    zones: Cache<DomainName, Arc<Mutex<Zone>>, quick_cache::UnitWeighter, ahash::RandomState>,
}

#[derive(Debug, Default)]
struct Zone {
    soa: Option<Proof>,
    /// By the owner's [`Name::reversed_key`].
    proofs: BTreeMap<Box<[u8]>, Proof>,
    /// NSEC3 records by the hash in their owner, all made in one way.
    hashed: BTreeMap<Hash, Proof>,
    hashing: Hashing,
}

/// The hash of a name.
type Hash = [u8; 20];

/// How a zone hashes its names (RFC 5155, section 5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Hashing {
    salt: Box<[u8]>,
    iterations: u16,
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
    /// Keeps a secure NSEC or NSEC3 set of `zone`, or its SOA, until its TTL ends.
    pub fn put(&self, zone: &Name, set: &RrSet, now: Now) {
        self.put_for(zone, set, set.ttl, now);
    }

    /// As [`put`](Self::put), but draws no conclusions after `seconds`.
    pub fn put_for(&self, zone: &Name, set: &RrSet, seconds: u32, now: Now) {
        let holds = set.ttl.min(seconds);
        if !matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3 | RecordType::SOA) || holds == 0 {
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
        match set.rtype {
            RecordType::SOA => known.soa = Some(proof),
            RecordType::NSEC3 => known.keep_hashed(zone, proof, now),
            _ => {
                let mut key = [0; MAX_KEY_LEN];
                keep(&mut known.proofs, set.name.reversed_key(&mut key).into(), proof, now);
            }
        }
    }

    /// What the proofs at hand say to a question, as the zone's server would say it.
    pub fn answer(&self, name: &Name, qtype: RecordType, now: Now) -> Option<Message> {
        // A DS record is the parent's to deny.
        let start = if qtype == RecordType::DS { name.parent()? } else { name };
        let (zone, known) = start.ancestors().find_map(|zone| Some((zone, self.zones.get(zone)?)))?;
        let known = known.lock();
        let soa = known.soa.as_ref().and_then(|soa| soa.at(now))?;
        let (rcode, proofs) =
            known.by_name(zone, name, qtype, now).or_else(|| known.by_hash(zone, name, qtype, now))?;
        let mut authority = vec![soa];
        for proof in proofs {
            if !authority.contains(&proof) {
                authority.push(proof);
            }
        }
        Some(Message { rcode, authoritative: true, authority, ..Message::default() })
    }

    /// Forgets what is known about the zones at and above `name`, and below it if `below`.
    pub fn flush(&self, name: &Name, below: bool) {
        self.zones.retain(|zone, _| !(name.is_at_or_below(zone) || below && zone.is_at_or_below(name)));
    }
}

/// What follows from proofs: a response code and the proofs.
type Conclusion = (Rcode, Vec<RrSet>);

impl Zone {
    /// By NSEC (RFC 8198, sections 5.1 and 5.3).
    fn by_name(&self, zone: &Name, name: &Name, qtype: RecordType, now: Now) -> Option<Conclusion> {
        let proof = self.at_or_before(name, now)?;
        let (next, types) = parts(&proof)?;
        if *proof.name == *name {
            return proves_no_data(types, qtype).then(|| (Rcode::NOERROR, vec![proof]));
        }
        covers(&proof, zone, name)?;
        if next.is_below(name) {
            // The name has no records of its own, but names below it do (RFC 4592, section 2.2.2).
            return Some((Rcode::NOERROR, vec![proof]));
        }
        // The closest name that exists is the longest that it shares with either side of the gap.
        let shared = name.common_labels(&proof.name).max(name.common_labels(&next));
        let wildcard = name.suffix(shared).child(b"*").ok()?;
        let denial = self.at_or_before(&wildcard, now)?;
        if denial.name == wildcard {
            let (_, types) = parts(&denial)?;
            return proves_no_data(types, qtype).then(|| (Rcode::NOERROR, vec![denial, proof]));
        }
        covers(&denial, zone, &wildcard)?;
        Some((Rcode::NXDOMAIN, vec![denial, proof]))
    }

    /// By NSEC3 (RFC 8198, sections 5.2 and 5.3). A span that opts out says nothing about names in it.
    fn by_hash(&self, zone: &Name, name: &Name, qtype: RecordType, now: Now) -> Option<Conclusion> {
        if self.hashed.is_empty() || name.label_count() - zone.label_count() > MAX_HASHED_LABELS {
            return None;
        }
        let hash = |name: &Name| hash(name, &self.hashing.salt, self.hashing.iterations);
        let mut longer = None;
        for candidate in name.ancestors().take_while(|candidate| candidate.is_at_or_below(zone)) {
            let own = hash(candidate);
            let Some(matching) = self.hashed.get(&own).and_then(|proof| proof.at(now)) else {
                longer = Some(own);
                continue;
            };
            let types = parts_of_hashed(&matching)?.types;
            let Some(next_closer) = longer else {
                return proves_no_data(types, qtype).then(|| (Rcode::NOERROR, vec![matching]));
            };
            if hides_below(types) {
                return None;
            }
            let cover = self.covering(&next_closer, now)?;
            let wildcard = hash(&candidate.child(b"*").ok()?);
            if let Some(denial) = self.hashed.get(&wildcard).and_then(|proof| proof.at(now)) {
                let no_data = proves_no_data(parts_of_hashed(&denial)?.types, qtype);
                return no_data.then(|| (Rcode::NOERROR, vec![matching, cover, denial]));
            }
            let denial = self.covering(&wildcard, now)?;
            return Some((Rcode::NXDOMAIN, vec![matching, cover, denial]));
        }
        None
    }

    /// The record in whose span `hash` lies, unless unsigned delegations may be left out of it.
    fn covering(&self, hash: &Hash, now: Now) -> Option<RrSet> {
        let before = self.hashed.range(..*hash).next_back();
        // The last span of all reaches over the end to the first.
        let (owner, proof) = before.or_else(|| self.hashed.last_key_value())?;
        let proof = proof.at(now)?;
        let record = parts_of_hashed(&proof)?;
        let next: &Hash = record.next.try_into().ok()?;
        let within = if owner < next { owner < hash && hash < next } else { owner < hash || hash < next };
        (within && !record.is_opt_out()).then_some(proof)
    }

    fn keep_hashed(&mut self, zone: &Name, proof: Proof, now: Now) {
        let Some(record) = parts_of_hashed(&proof.set) else { return };
        let known = record.hash_algorithm == Nsec3::SHA1 && record.flags & !Nsec3::OPT_OUT == 0;
        let owner = proof.set.name.labels().next().and_then(decode_hash);
        let Some(owner) = owner.filter(|_| known && proof.set.name.parent() == Some(zone)) else { return };
        if record.iterations > MAX_ITERATIONS {
            return;
        }
        let hashing = Hashing { salt: record.salt.into(), iterations: record.iterations };
        if self.hashing != hashing {
            // The zone has got a new chain; what is left of the old one fits nothing any more.
            self.hashed.clear();
            self.hashing = hashing;
        }
        keep(&mut self.hashed, owner, proof, now);
    }

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

/// Keeps a proof while there is room; those whose time is over make some.
fn keep<K: Ord>(proofs: &mut BTreeMap<K, Proof>, key: K, proof: Proof, now: Now) {
    if proofs.len() >= MAX_PROOFS {
        proofs.retain(|_, proof| proof.holds_until > now.seconds());
    }
    if proofs.len() < MAX_PROOFS {
        proofs.insert(key, proof);
    }
}

/// The next name, when `name` lies in the gap that `proof` describes and not in a zone below it.
fn covers(proof: &RrSet, zone: &Name, name: &Name) -> Option<DomainName> {
    let (next, types) = parts(proof)?;
    let after = *name > *proof.name && (*name < *next || *next == *zone);
    (after && !(hides_below(types) && name.is_below(&proof.name))).then_some(next)
}

/// Whether what is below a name with these types is not the zone's to deny (RFC 6840, section 4.1).
fn hides_below(types: TypeBitmap<'_>) -> bool {
    types.is_delegation() || types.contains(RecordType::DNAME)
}

/// Whether a name with these types has no `qtype`, and the zone may say so.
fn proves_no_data(types: TypeBitmap<'_>, qtype: RecordType) -> bool {
    let wrong_side = if qtype == RecordType::DS { types.contains(RecordType::SOA) } else { types.is_delegation() };
    !wrong_side && !types.contains(qtype) && !types.contains(RecordType::CNAME) && qtype != RecordType::ANY
}

/// The next name and the types of an NSEC set (RFC 4034, section 4.1).
fn parts(set: &RrSet) -> Option<(DomainName, TypeBitmap<'_>)> {
    let Nsec { next, types } = Nsec::parse(set.rdata.first()?)?;
    Some((next, types))
}

/// The only record of an NSEC3 set.
fn parts_of_hashed(set: &RrSet) -> Option<Nsec3<'_>> {
    Nsec3::parse(set.rdata.first()?)
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

    /// The NSEC3 record of `own`, which leads to that of `next`.
    fn nsec3(own: &str, next: &str, flags: u8, types: &[RecordType]) -> RrSet {
        let mut bits = [0u8; 8];
        for rtype in types {
            bits[usize::from(rtype.0 / 8)] |= 0x80 >> (rtype.0 % 8);
        }
        let [own, next] = [own, next].map(|text| hash(&name(text), b"", 0));
        let data = [&[1, flags, 0, 0, 0, 20][..], &next, &[0, 8], &bits].concat();
        let digits = b"0123456789abcdefghijklmnopqrstuv";
        let label: Vec<u8> = own
            .chunks(5)
            .flat_map(|five| {
                let bits = five.iter().fold(0u64, |bits, octet| bits << 8 | u64::from(*octet));
                (0..8).rev().map(move |place| digits[(bits >> (5 * place) & 31) as usize])
            })
            .collect();
        RrSet { name: name("kz").child(&label).unwrap(), ..set("kz", RecordType::NSEC3, data) }
    }

    /// Names of a zone in the order of their hashes, with their types.
    fn hashed_zone(flags: u8) -> Denials {
        let denials = Denials::default();
        let zone = name("kz");
        denials.put(&zone, &set("kz", RecordType::SOA, vec![0; 22]), at(0));
        let mut names = [
            ("kz", vec![RecordType::NS, RecordType::SOA]),
            ("www.kz", vec![RecordType::A]),
            ("m.kz", vec![]),
            ("x.m.kz", vec![RecordType::A]),
            ("sub.kz", vec![RecordType::NS]),
            ("wild.kz", vec![]),
            ("*.wild.kz", vec![RecordType::TXT]),
        ];
        names.sort_by_key(|(text, _)| hash(&name(text), b"", 0));
        for (place, (own, types)) in names.iter().enumerate() {
            denials.put(&zone, &nsec3(own, names[(place + 1) % names.len()].0, flags, types), at(0));
        }
        denials
    }

    #[test]
    fn hashed_proofs_answer_for_names_in_their_span_unless_it_opts_out() {
        let (whole, opt_out) = (hashed_zone(0), hashed_zone(1));
        let deep = format!("{}a.kz", "a.".repeat(MAX_HASHED_LABELS));
        for (question, qtype, expected, with_opt_out) in [
            ("a.kz", RecordType::A, Some(Rcode::NXDOMAIN), None),
            ("b.a.kz", RecordType::A, Some(Rcode::NXDOMAIN), None),
            ("www.kz", RecordType::A, None, None),
            ("www.kz", RecordType::AAAA, Some(Rcode::NOERROR), Some(Rcode::NOERROR)),
            ("m.kz", RecordType::A, Some(Rcode::NOERROR), Some(Rcode::NOERROR)),
            ("y.wild.kz", RecordType::A, Some(Rcode::NOERROR), None),
            ("y.wild.kz", RecordType::TXT, None, None),
            ("www.sub.kz", RecordType::A, None, None),
            ("sub.kz", RecordType::DS, Some(Rcode::NOERROR), Some(Rcode::NOERROR)),
            ("sub.kz", RecordType::A, None, None),
            ("kz", RecordType::DS, None, None),
            (&deep, RecordType::A, None, None),
        ] {
            let rcode = |denials: &Denials| denials.answer(&name(question), qtype, at(30)).map(|found| found.rcode);
            assert_eq!((rcode(&whole), rcode(&opt_out)), (expected, with_opt_out), "{question} {qtype}");
        }
        assert!(whole.answer(&name("a.kz"), RecordType::A, at(60)).is_none());
    }

    #[test]
    fn proofs_of_a_chain_that_was_replaced_are_dropped() {
        let denials = hashed_zone(0);
        let mut other = nsec3("new.kz", "newer.kz", 0, &[]);
        other.rdata[0][3] = 1;
        denials.put(&name("kz"), &other, at(1));
        assert!(denials.answer(&name("a.kz"), RecordType::A, at(2)).is_none());
        let mut costly = nsec3("new.kz", "newer.kz", 0, &[]);
        costly.rdata[0][3] = MAX_ITERATIONS as u8 + 1;
        let denials = hashed_zone(0);
        denials.put(&name("kz"), &costly, at(1));
        assert!(denials.answer(&name("a.kz"), RecordType::A, at(2)).is_some(), "it was not kept");
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
            denials.put(&zone, &set("b.kz", RecordType::NSEC, data.clone()), at(0));
            let hashed = RrSet { rdata: SmallVec::from_iter([data.into_boxed_slice()]), ..nsec3("b.kz", "a.kz", 0, &[]) };
            denials.put(&zone, &hashed, at(0));
            for question in ["a.kz", "b.kz", "c.kz"] {
                let _ = denials.answer(&name(question), RecordType(qtype), at(1));
            }
        }
    }
}
