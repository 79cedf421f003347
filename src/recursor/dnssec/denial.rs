//! Proofs that something does not exist: NSEC (RFC 4035, section 5.4) and NSEC3 (RFC 5155, section 8).
//!
//! A [`Denial`] holds the denial records of one zone out of one message, their
//! signatures already checked, and answers what they prove. RFC 6840, section
//! 4, names the traps: a record from the parent's side of a zone cut, or at a
//! DNAME, says nothing about names below it.

use ring::digest;

use crate::name::{DomainName, Name};
use crate::query::RecordType;
use crate::recursor::message::RrSet;

use super::budget::Budget;
use super::rdata::{Nsec, Nsec3, TypeBitmap};

/// What the records at hand say to a claim that something does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It does not exist.
    Proven,
    /// It may exist without signatures: an unsigned delegation may have been left out (opt-out), or hashing would cost
    /// too much to look.
    Insecure,
    /// They do not say.
    Missing,
    /// Looking took more work than the question may cost.
    TooMuchWork,
}

/// What the records at hand say about a DS record that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delegation {
    /// A zone without DS begins at the name: it is insecure.
    Unsigned,
    /// A zone without DS may begin at or above the name: what is there is insecure.
    MaybeUnsigned,
    /// No zone begins at the name.
    None,
    /// They do not say.
    Unproven,
    /// Looking took more work than the question may cost.
    TooMuchWork,
}

/// Denial records of one zone, their signatures checked.
pub struct Denial<'a> {
    zone: &'a Name,
    nsec: Vec<(&'a Name, Nsec<'a>)>,
    nsec3: Vec<Hashed<'a>>,
    /// There are NSEC3 records that ask for more iterations than we compute.
    too_many_iterations: bool,
    /// Names hashed before.
    memo: Vec<(DomainName, Hash)>,
}

type Hash = [u8; 20];

struct Hashed<'a> {
    owner: Hash,
    next: Hash,
    record: Nsec3<'a>,
}

/// What NSEC3 says about how far down a name exists (RFC 5155, section 8.3).
enum Encloser<'n> {
    /// The name exists; the record at this place is its own.
    Exact(usize),
    /// The name does not exist, `encloser` is the closest of its ancestors that does, and the record at `at` matches
    /// it; `cover` covers the name one label longer, if any does.
    Enclosed { encloser: &'n Name, at: usize, cover: Option<usize> },
    /// No ancestor has a record.
    Unknown,
}

/// The budget ran out.
struct Spent;

impl<'a> Denial<'a> {
    /// Takes the records of `sets` that are NSEC or NSEC3 of `zone` and can be used.
    ///
    /// NSEC3 records with an unknown hash or flag, or with other parameters than the first, do not count (RFC 5155,
    /// sections 8.1 and 8.2).
    pub fn new(zone: &'a Name, sets: impl Iterator<Item = &'a RrSet>, iterations: u16) -> Self {
        let mut denial =
            Self { zone, nsec: Vec::new(), nsec3: Vec::new(), too_many_iterations: false, memo: Vec::new() };
        for set in sets.filter(|set| set.name.is_at_or_below(zone)) {
            match set.rtype {
                RecordType::NSEC => {
                    // One that leads out of its zone says nothing about names there, nor how far it reaches here.
                    let inside = |nsec: &Nsec<'_>| nsec.next.is_at_or_below(zone);
                    let records = set.rdata.iter().filter_map(|rdata| Nsec::parse(rdata)).filter(inside);
                    denial.nsec.extend(records.map(|nsec| (&*set.name, nsec)));
                }
                RecordType::NSEC3 => denial.nsec3.extend(set.rdata.iter().filter_map(|rdata| hashed(zone, set, rdata))),
                _ => {}
            }
        }
        if let Some(first) = denial.nsec3.first().map(|first| first.record) {
            denial
                .nsec3
                .retain(|hashed| (hashed.record.salt, hashed.record.iterations) == (first.salt, first.iterations));
            denial.too_many_iterations = first.iterations > iterations;
        }
        denial
    }

    /// Whether `name` and every wildcard that could stand for it are missing (NXDOMAIN).
    pub fn name_error(&mut self, name: &Name, budget: &mut Budget) -> Proof {
        if self.nsec_name_error(name) {
            return Proof::Proven;
        }
        self.by_hash(|denial, budget| denial.nsec3_name_error(name, budget), budget)
    }

    /// Whether `name`, or the wildcard that stands for it, has no records of `rtype` (NODATA).
    pub fn no_data(&mut self, name: &Name, rtype: RecordType, budget: &mut Budget) -> Proof {
        if self.nsec_no_data(name, rtype) {
            return Proof::Proven;
        }
        self.by_hash(|denial, budget| denial.nsec3_no_data(name, rtype, budget), budget)
    }

    /// Whether nothing stands closer to `name` than `wildcard`, so that its expansion is right (RFC 4035, section
    /// 5.3.4; RFC 5155, section 8.8).
    pub fn no_closer(&mut self, name: &Name, wildcard: &Name, budget: &mut Budget) -> Proof {
        let Some(encloser) = wildcard.parent() else { return Proof::Missing };
        if let Some((cover, nsec)) = self.nsec_covering(name)
            && !nsec.next.is_below(name)
            && closest_encloser(cover, nsec, name) == encloser
        {
            return Proof::Proven;
        }
        let next_closer = name.suffix(encloser.label_count() + 1);
        self.by_hash(
            |denial, budget| {
                Ok(match denial.covering(next_closer, budget)? {
                    Some(at) => denial.unless_opt_out(at),
                    None => Proof::Missing,
                })
            },
            budget,
        )
    }

    /// What is known about a zone cut at `name`, of which there is no DS record (RFC 4035, section 5.2; RFC 5155,
    /// section 8.9).
    pub fn no_ds(&mut self, name: &Name, budget: &mut Budget) -> Delegation {
        if let Some(types) = self.nsec_at(name).filter(|_| name != self.zone) {
            return delegation(types);
        }
        if self.nsec_no_data(name, RecordType::DS) || self.nsec_name_error(name) {
            return Delegation::None;
        }
        if self.nsec3.is_empty() {
            return Delegation::Unproven;
        }
        if self.too_many_iterations {
            return Delegation::MaybeUnsigned;
        }
        match self.closest_encloser(name, budget) {
            Err(Spent) => Delegation::TooMuchWork,
            Ok(Encloser::Exact(_)) if name == self.zone => Delegation::Unproven,
            Ok(Encloser::Exact(at)) => delegation(self.nsec3[at].record.types),
            Ok(_) => match self.nsec3_absent(name, RecordType::DS, budget) {
                Err(Spent) | Ok(Proof::TooMuchWork) => Delegation::TooMuchWork,
                Ok(Proof::Proven) => Delegation::None,
                Ok(Proof::Insecure) => Delegation::MaybeUnsigned,
                Ok(Proof::Missing) => Delegation::Unproven,
            },
        }
    }

    // NSEC.

    /// The types at `name`, when an NSEC record says.
    fn nsec_at(&self, name: &Name) -> Option<TypeBitmap<'a>> {
        self.nsec.iter().find(|(owner, _)| *owner == name).map(|(_, nsec)| nsec.types)
    }

    /// The record that shows that nothing stands at `name` in the zone, except perhaps names below it.
    fn nsec_covering(&self, name: &Name) -> Option<(&'a Name, &Nsec<'a>)> {
        if !name.is_at_or_below(self.zone) {
            return None;
        }
        self.nsec
            .iter()
            .find(|(owner, nsec)| {
                let after = owner.canonical_cmp(name).is_lt();
                let before = name.canonical_cmp(&nsec.next).is_lt() || *nsec.next == *self.zone;
                after && before && !(name.is_below(owner) && hides_below(nsec.types))
            })
            .map(|(owner, nsec)| (*owner, nsec))
    }

    fn nsec_name_error(&self, name: &Name) -> bool {
        let Some((owner, nsec)) = self.nsec_covering(name) else { return false };
        let Ok(wildcard) = closest_encloser(owner, nsec, name).child(b"*") else { return false };
        !nsec.next.is_below(name)
            && self.nsec_covering(&wildcard).is_some_and(|(_, covering)| !covering.next.is_below(&wildcard))
    }

    fn nsec_no_data(&self, name: &Name, rtype: RecordType) -> bool {
        // An empty name between others has no record of its own, but the one before it leads to a name below.
        let lacks_itself = |name: &Name| match self.nsec_at(name) {
            Some(types) => lacks(types, name, rtype),
            None => self.nsec_covering(name).is_some_and(|(_, nsec)| nsec.next.is_below(name)),
        };
        if lacks_itself(name) {
            return true;
        }
        let Some((owner, nsec)) = self.nsec_covering(name) else { return false };
        closest_encloser(owner, nsec, name).child(b"*").is_ok_and(|wildcard| lacks_itself(&wildcard))
    }

    // NSEC3.

    /// Runs a proof that hashes names, when there is something to compare the hashes with.
    fn by_hash(
        &mut self,
        prove: impl FnOnce(&mut Self, &mut Budget) -> Result<Proof, Spent>,
        budget: &mut Budget,
    ) -> Proof {
        if self.nsec3.is_empty() {
            Proof::Missing
        } else if self.too_many_iterations {
            Proof::Insecure
        } else {
            prove(self, budget).unwrap_or(Proof::TooMuchWork)
        }
    }

    fn nsec3_name_error(&mut self, name: &Name, budget: &mut Budget) -> Result<Proof, Spent> {
        let Encloser::Enclosed { encloser, at, cover } = self.closest_encloser(name, budget)? else {
            return Ok(Proof::Missing);
        };
        if let Some(verdict) = self.below_hidden(at) {
            return Ok(verdict);
        }
        let (Some(cover), Ok(wildcard)) = (cover, encloser.child(b"*")) else { return Ok(Proof::Missing) };
        Ok(match self.covering(&wildcard, budget)? {
            Some(_) => self.unless_opt_out(cover),
            None => Proof::Missing,
        })
    }

    fn nsec3_no_data(&mut self, name: &Name, rtype: RecordType, budget: &mut Budget) -> Result<Proof, Spent> {
        let Encloser::Exact(at) = self.closest_encloser(name, budget)? else {
            return self.nsec3_absent(name, rtype, budget);
        };
        let types = self.nsec3[at].record.types;
        Ok(if lacks(types, name, rtype) {
            Proof::Proven
        } else if rtype != RecordType::DS && types.is_delegation() && !types.contains(RecordType::DS) {
            // The name is an unsigned zone's, and so would be its answer.
            Proof::Insecure
        } else {
            Proof::Missing
        })
    }

    /// NODATA for a name without a record of its own: by a wildcard, or by opt-out (RFC 5155, sections 8.6 and 8.7).
    /// For DS, where only the absence of a delegation matters, a name error will do as well.
    fn nsec3_absent(&mut self, name: &Name, rtype: RecordType, budget: &mut Budget) -> Result<Proof, Spent> {
        let Encloser::Enclosed { encloser, at, cover: Some(cover) } = self.closest_encloser(name, budget)? else {
            return Ok(Proof::Missing);
        };
        if let Some(verdict) = self.below_hidden(at) {
            return Ok(verdict);
        }
        let Ok(wildcard) = encloser.child(b"*") else { return Ok(Proof::Missing) };
        if let Some(at) = self.matching(&wildcard, budget)? {
            let lacks = lacks(self.nsec3[at].record.types, &wildcard, rtype);
            return Ok(if lacks { self.unless_opt_out(cover) } else { Proof::Missing });
        }
        Ok(match self.unless_opt_out(cover) {
            Proof::Insecure => Proof::Insecure,
            _ if rtype == RecordType::DS => self.nsec3_name_error(name, budget)?,
            _ => Proof::Missing,
        })
    }

    /// What it means that the closest encloser is a delegation or a DNAME, from which the answer should have come
    /// (RFC 5155, section 8.3): below an unsigned delegation nothing is signed.
    fn below_hidden(&self, at: usize) -> Option<Proof> {
        let types = self.nsec3[at].record.types;
        hides_below(types).then(|| {
            let unsigned = types.is_delegation() && !types.contains(RecordType::DS);
            if unsigned { Proof::Insecure } else { Proof::Missing }
        })
    }

    /// A span that may leave out unsigned delegations proves nothing for certain (RFC 5155, section 9.2).
    fn unless_opt_out(&self, cover: usize) -> Proof {
        if self.nsec3[cover].record.is_opt_out() { Proof::Insecure } else { Proof::Proven }
    }

    fn closest_encloser<'n>(&mut self, name: &'n Name, budget: &mut Budget) -> Result<Encloser<'n>, Spent> {
        let mut longer: Option<&Name> = None;
        for candidate in name.ancestors().take_while(|candidate| candidate.is_at_or_below(self.zone)) {
            if let Some(at) = self.matching(candidate, budget)? {
                return Ok(match longer {
                    None => Encloser::Exact(at),
                    Some(next_closer) => {
                        Encloser::Enclosed { encloser: candidate, at, cover: self.covering(next_closer, budget)? }
                    }
                });
            }
            longer = Some(candidate);
        }
        Ok(Encloser::Unknown)
    }

    /// The record whose owner is the hash of `name`.
    fn matching(&mut self, name: &Name, budget: &mut Budget) -> Result<Option<usize>, Spent> {
        let hash = self.hash(name, budget)?;
        Ok(self.nsec3.iter().position(|hashed| hashed.owner == hash))
    }

    /// The record between whose hashes the hash of `name` lies.
    fn covering(&mut self, name: &Name, budget: &mut Budget) -> Result<Option<usize>, Spent> {
        let hash = self.hash(name, budget)?;
        Ok(self.nsec3.iter().position(|Hashed { owner, next, .. }| {
            if owner < next { *owner < hash && hash < *next } else { *owner < hash || hash < *next }
        }))
    }

    fn hash(&mut self, name: &Name, budget: &mut Budget) -> Result<Hash, Spent> {
        if let Some((_, hash)) = self.memo.iter().find(|(hashed, _)| **hashed == *name) {
            return Ok(*hash);
        }
        let Some(Hashed { record, .. }) = self.nsec3.first() else { return Err(Spent) };
        if !budget.take_hash() {
            return Err(Spent);
        }
        let hash = hash(name, record.salt, record.iterations);
        self.memo.push((name.to_owned(), hash));
        Ok(hash)
    }
}

/// Whether a name with these types can have no records of `rtype` (RFC 6840, sections 4.3 and 4.4).
///
/// At a zone cut the child's record speaks for all types but DS, and the parent's for DS alone.
fn lacks(types: TypeBitmap<'_>, name: &Name, rtype: RecordType) -> bool {
    let right_side = match rtype {
        RecordType::DS => !types.contains(RecordType::SOA) || name.is_root(),
        _ => !types.is_delegation(),
    };
    right_side && rtype != RecordType::ANY && !types.contains(rtype) && !types.contains(RecordType::CNAME)
}

/// Whether what stands below a name with these types is not the zone's to deny (RFC 6840, section 4.1).
fn hides_below(types: TypeBitmap<'_>) -> bool {
    types.is_delegation() || types.contains(RecordType::DNAME)
}

/// What the types at a name say about a zone cut there without DS. The child's side says nothing.
fn delegation(types: TypeBitmap<'_>) -> Delegation {
    if types.contains(RecordType::SOA) || types.contains(RecordType::DS) {
        Delegation::Unproven
    } else if types.contains(RecordType::NS) {
        Delegation::Unsigned
    } else {
        Delegation::None
    }
}

/// The longest ancestor of `name` that the record shows to exist: it encloses one of the names at the record's ends.
fn closest_encloser<'n>(owner: &Name, nsec: &Nsec<'_>, name: &'n Name) -> &'n Name {
    name.suffix(name.common_labels(owner).max(name.common_labels(&nsec.next)))
}

fn hashed<'a>(zone: &Name, set: &'a RrSet, rdata: &'a [u8]) -> Option<Hashed<'a>> {
    let record = Nsec3::parse(rdata)?;
    let known = record.hash_algorithm == Nsec3::SHA1 && record.flags & !Nsec3::OPT_OUT == 0;
    if !known || set.name.parent()? != zone {
        return None;
    }
    Some(Hashed { owner: decode_hash(set.name.labels().next()?)?, next: record.next.try_into().ok()?, record })
}

/// The hash of `name` (RFC 5155, section 5).
pub fn hash(name: &Name, salt: &[u8], iterations: u16) -> Hash {
    let once = |octets: &[u8]| {
        let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(octets);
        context.update(salt);
        let mut hash = [0; 20];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    };
    (0..iterations).fold(once(name.as_wire()), |hash, _| once(&hash))
}

/// Base 32 with extended hex alphabet and no padding (RFC 4648, section 7), of exactly one hash, in lower case.
pub fn decode_hash(label: &[u8]) -> Option<Hash> {
    let octets: &[u8; 32] = label.try_into().ok()?;
    let mut hash = [0; 20];
    for (five, eight) in hash.chunks_exact_mut(5).zip(octets.chunks_exact(8)) {
        let bits = eight.iter().try_fold(0u64, |bits, octet| {
            let digit = match octet {
                b'0'..=b'9' => octet - b'0',
                b'a'..=b'v' => octet - b'a' + 10,
                _ => return None,
            };
            Some(bits << 5 | u64::from(digit))
        })?;
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::name::DomainName;
    use crate::recursor::dnssec::fixture::{self, name, set};
    use proptest::prelude::*;

    const A: RecordType = RecordType::A;
    const TXT: RecordType = RecordType::TXT;

    fn budget() -> Budget {
        Budget::new(0, 100_000)
    }

    #[test]
    fn names_hash_as_in_the_standard() {
        // RFC 5155, appendix A.
        for (text, expected) in [
            ("example", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("a.example", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
            ("*.w.example", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
            ("2t7b4g4vsa5smi47k61mv5bv1a22bojr.example", "kohar7mbb8dc2ce8a9qvl8hon4k53uhi"),
        ] {
            let salt = [0xaa, 0xbb, 0xcc, 0xdd];
            assert_eq!(Some(hash(&name(text), &salt, 12)), decode_hash(expected.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_record_that_leads_out_of_its_zone_denies_nothing() {
        let out = [fixture::nsec("a.kz", "com", &[A]), fixture::nsec("kz", "a.kz", &[A])];
        let mut denial = Denial::new(&out[1].name, out.iter(), 150);
        assert_eq!(denial.name_error(&name("b.kz"), &mut budget()), Proof::Missing);
    }

    /// Whole zones below `z`: which names have an A record; the others of the map have a TXT record.
    fn any_zone() -> impl Strategy<Value = BTreeMap<Vec<&'static str>, bool>> {
        let label = prop_oneof![Just("a"), Just("b"), Just("c"), Just("*")];
        proptest::collection::btree_map(proptest::collection::vec(label, 1..4), any::<bool>(), 0..8)
    }

    fn any_question() -> impl Strategy<Value = Vec<&'static str>> {
        proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c"), Just("d"), Just("*")], 1..5)
    }

    fn below_z(labels: &[&str]) -> DomainName {
        labels.iter().rev().fold(name("z"), |name, label| name.child(label.as_bytes()).unwrap())
    }

    /// What the zone says to a question for A, looked up in the zone itself (RFC 4592, section 3.3).
    #[derive(Debug, PartialEq)]
    enum Truth {
        Data,
        NoData,
        NameError,
    }

    fn truth(zone: &BTreeMap<DomainName, bool>, question: &Name) -> Truth {
        let exists = |name: &Name| zone.keys().any(|known| known.is_at_or_below(name));
        let at = |name: &Name| if zone.get(name) == Some(&true) { Truth::Data } else { Truth::NoData };
        if exists(question) {
            return at(question);
        }
        let encloser = question.ancestors().find(|name| exists(name)).unwrap();
        match encloser.child(b"*").unwrap() {
            wildcard if exists(&wildcard) => at(&wildcard),
            _ => Truth::NameError,
        }
    }

    fn types(has_a: bool) -> &'static [RecordType] {
        if has_a { &[A] } else { &[TXT] }
    }

    proptest! {
        #[test]
        fn a_whole_nsec_chain_proves_what_is_true_and_nothing_else(zone in any_zone(), question in any_question()) {
            let mut zone: BTreeMap<_, _> = zone.iter().map(|(labels, has_a)| (below_z(labels), *has_a)).collect();
            zone.insert(name("z"), false);
            let mut order: Vec<&DomainName> = zone.keys().collect();
            order.sort_by(|a, b| a.canonical_cmp(b));
            let chain: Vec<RrSet> = (0..order.len())
                .map(|at| {
                    let next = order[(at + 1) % order.len()];
                    fixture::nsec(&order[at].to_string(), &next.to_string(), types(zone[order[at]]))
                })
                .collect();
            check(&zone, &chain, &below_z(&question))?;
        }

        #[test]
        fn a_whole_nsec3_chain_proves_what_is_true_and_nothing_else(zone in any_zone(), question in any_question()) {
            let mut zone: BTreeMap<_, _> = zone.iter().map(|(labels, has_a)| (below_z(labels), *has_a)).collect();
            zone.insert(name("z"), false);
            // Empty names have a record of their own (RFC 5155, section 7.1).
            let mut all: BTreeMap<DomainName, &[RecordType]> = BTreeMap::new();
            for (owner, has_a) in &zone {
                for ancestor in owner.ancestors().take_while(|name| name.label_count() > 0) {
                    all.entry(ancestor.to_owned()).or_insert(&[]);
                }
                all.insert(owner.clone(), types(*has_a));
            }
            let mut hashes: Vec<(Hash, &[RecordType])> =
                all.iter().map(|(owner, types)| (hash(owner, &[1], 1), *types)).collect();
            hashes.sort_unstable_by_key(|(hash, _)| *hash);
            let chain: Vec<RrSet> = (0..hashes.len())
                .map(|at| {
                    let (next, _) = hashes[(at + 1) % hashes.len()];
                    let rdata = [&[1, 0, 0, 1, 1, 1, 20], &next[..], &fixture::bitmap(hashes[at].1)].concat();
                    let mut record = set("z", RecordType::NSEC3, [rdata]);
                    record.name = name("z").child(fixture::base32(&hashes[at].0).as_bytes()).unwrap();
                    record
                })
                .collect();
            check(&zone, &chain, &below_z(&question))?;
        }

        #[test]
        fn any_records_are_looked_at_without_panic(
            records in proptest::collection::vec((any::<bool>(), any_question(), proptest::collection::vec(any::<u8>(), 0..60)), 0..5),
            question in any_question(),
            rtype in any::<u16>(),
        ) {
            let sets: Vec<RrSet> = records
                .into_iter()
                .map(|(hashed, owner, rdata)| {
                    let rtype = if hashed { RecordType::NSEC3 } else { RecordType::NSEC };
                    set(&below_z(&owner).to_string(), rtype, [rdata])
                })
                .collect();
            let (zone, question) = (name("z"), below_z(&question));
            let mut denial = Denial::new(&zone, sets.iter(), 150);
            let _ = denial.name_error(&question, &mut budget());
            let _ = denial.no_data(&question, RecordType(rtype), &mut budget());
            let _ = denial.no_ds(&question, &mut budget());
            let _ = denial.no_closer(&question, &name("*.z"), &mut budget());
        }
    }

    fn check(
        zone: &BTreeMap<DomainName, bool>,
        chain: &[RrSet],
        question: &Name,
    ) -> Result<(), proptest::test_runner::TestCaseError> {
        let apex = name("z");
        let mut denial = Denial::new(&apex, chain.iter(), 150);
        let truth = truth(zone, question);
        prop_assert_eq!(
            denial.name_error(question, &mut budget()) == Proof::Proven,
            truth == Truth::NameError,
            "{:?}",
            truth
        );
        prop_assert_eq!(
            denial.no_data(question, A, &mut budget()) == Proof::Proven,
            truth == Truth::NoData,
            "{:?}",
            truth
        );
        prop_assert_eq!(denial.no_ds(question, &mut budget()), Delegation::None);
        Ok(())
    }
}
