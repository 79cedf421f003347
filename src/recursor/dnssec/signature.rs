//! One set of records against the keys of the zone that says it signed it (RFC 4035, section 5.3).

use crate::name::{DomainName, Name};
use crate::query::{ExtendedError, RecordType};
use crate::recursor::message::RrSet;

use super::algorithms::Algorithms;
use super::budget::Budget;
use super::canonical;
use super::rdata::{Dnskey, Rrsig};

/// How many failed checks one set may cost.
///
/// Key tags are ambiguous, so that every key of a tag must be tried with every signature; an attacker can make that a
/// great many ("KeyTrap", CVE-2023-50387). Honest zones hardly ever need a second try.
const FAILED_CHECKS_PER_SET: u32 = 8;

/// What a valid signature says about a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// For how many seconds the set may be kept (RFC 4035, section 5.3.3).
    pub ttl: u32,
    /// The wildcard that the set was expanded from, when it was (RFC 4035, section 5.3.4).
    pub wildcard: Option<DomainName>,
}

/// Why a set or its proof does not hold. Later variants are closer to being valid and say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// There is no signature.
    Unsigned,
    /// No signature is in a form, and by a signer, that can be valid for the set.
    Misfit,
    /// No signature is of an algorithm that can be checked.
    UnsupportedAlgorithm,
    /// The zone has no key that a signature names.
    NoKey,
    /// The key that a signature names is not for signing a zone's records, or revoked.
    NotZoneKey,
    /// A signature is not valid any more.
    Expired,
    /// A signature is not valid yet.
    NotYetValid,
    /// A signature is not right.
    Invalid,
    /// Checking was given up.
    TooMuchWork,
}

impl Flaw {
    /// The Extended DNS Error that says so (RFC 8914, section 4), about the set of `name` and `rtype`.
    pub fn explain(self, name: &Name, rtype: RecordType) -> ExtendedError {
        let (code, what) = match self {
            Self::Unsigned => (ExtendedError::RRSIGS_MISSING, "no signature over"),
            Self::Misfit => (ExtendedError::RRSIGS_MISSING, "no signature fits"),
            Self::UnsupportedAlgorithm => (ExtendedError::BOGUS, "no signature of a supported algorithm over"),
            Self::NoKey => (ExtendedError::DNSKEY_MISSING, "no key of the zone has signed"),
            Self::NotZoneKey => (ExtendedError::NO_ZONE_KEY_BIT, "no zone key has signed"),
            Self::Expired => (ExtendedError::SIGNATURE_EXPIRED, "signature expired over"),
            Self::NotYetValid => (ExtendedError::SIGNATURE_NOT_YET_VALID, "signature not yet valid over"),
            Self::Invalid => (ExtendedError::BOGUS, "signature does not verify over"),
            Self::TooMuchWork => (ExtendedError::BOGUS, "too many signatures to check over"),
        };
        ExtendedError::new(code, format!("{what} {name} {rtype}"))
    }
}

/// Checks that a key of `keys` (DNSKEY data) has signed `set` for `zone`, and when the signature ends.
///
/// # Errors
///
/// The flaw of the signature that comes closest to being valid.
pub fn verify<'k>(
    set: &RrSet,
    zone: &Name,
    keys: impl Iterator<Item = Dnskey<'k>> + Clone,
    algorithms: &dyn Algorithms,
    budget: &mut Budget,
    wall: u64,
) -> Result<Signed, Flaw> {
    let mut worst = Flaw::Unsigned;
    let mut failed = 0;
    for rdata in &set.signatures {
        let mut flaw = Flaw::Misfit;
        if let Some(rrsig) = Rrsig::parse(rdata)
            && rrsig.type_covered == set.rtype
            && *rrsig.signer == *zone
            && let Some(owner) = signed_owner(set, &rrsig)
        {
            match check(&rrsig, &owner, set, keys.clone(), algorithms, budget, &mut failed, wall) {
                Ok(()) => return Ok(signed(&rrsig, owner, set, wall)),
                Err(Flaw::TooMuchWork) => return Err(Flaw::TooMuchWork),
                Err(other) => flaw = other,
            }
        }
        worst = worst.max(flaw);
    }
    Err(worst)
}

/// Whether `key`, which has its revoked bit set, has signed the DNSKEY set that it is in (RFC 5011, section 2.1).
pub fn verify_revoked(set: &RrSet, key: &Dnskey<'_>, algorithms: &dyn Algorithms, wall: u64) -> bool {
    set.signatures.iter().filter_map(|rdata| Rrsig::parse(rdata)).take(FAILED_CHECKS_PER_SET as usize * 4).any(
        |rrsig| {
            rrsig.type_covered == set.rtype
                && rrsig.signer == set.name
                && (rrsig.algorithm, rrsig.key_tag) == (key.algorithm, key.key_tag())
                && in_time(&rrsig, wall).is_ok()
                && signed_owner(set, &rrsig).is_some_and(|owner| {
                    let data = canonical::signed_data(&rrsig, &owner, &set.rdata);
                    algorithms.verify(rrsig.algorithm, key.public_key, &data, rrsig.signature)
                })
        },
    )
}

#[allow(clippy::too_many_arguments)]
fn check<'k>(
    rrsig: &Rrsig<'_>,
    owner: &Name,
    set: &RrSet,
    keys: impl Iterator<Item = Dnskey<'k>>,
    algorithms: &dyn Algorithms,
    budget: &mut Budget,
    failed: &mut u32,
    wall: u64,
) -> Result<(), Flaw> {
    if !algorithms.supports(rrsig.algorithm) {
        return Err(Flaw::UnsupportedAlgorithm);
    }
    in_time(rrsig, wall)?;
    let mut flaw = Flaw::NoKey;
    let mut data = None;
    for key in keys.filter(|key| key.algorithm == rrsig.algorithm && key.key_tag() == rrsig.key_tag) {
        if !key.may_sign() {
            flaw = flaw.max(Flaw::NotZoneKey);
            continue;
        }
        if *failed >= FAILED_CHECKS_PER_SET || !budget.take_signature() {
            return Err(Flaw::TooMuchWork);
        }
        let data: &Vec<u8> = data.get_or_insert_with(|| canonical::signed_data(rrsig, owner, &set.rdata));
        if algorithms.verify(rrsig.algorithm, key.public_key, data, rrsig.signature) {
            return Ok(());
        }
        *failed += 1;
        flaw = Flaw::Invalid;
    }
    Err(flaw)
}

/// The name that was signed; `None` when the signature cannot be for the set (RFC 4035, section 5.3.1).
fn signed_owner(set: &RrSet, rrsig: &Rrsig<'_>) -> Option<DomainName> {
    let labels = usize::from(rrsig.labels);
    let own = signed_labels(&set.name);
    if labels == own {
        return Some(set.name.clone());
    }
    // Records that speak for one name alone are never expanded (RFC 4592, section 4; RFC 4035, section 2.3).
    let expandable = !matches!(
        set.rtype,
        RecordType::NSEC | RecordType::NSEC3 | RecordType::SOA | RecordType::DNSKEY | RecordType::DS
    );
    (labels < own && expandable).then(|| set.name.suffix(labels).child(b"*").ok())?
}

/// How many labels a signature over `name` counts: a leading `*` is left out (RFC 4034, section 3.1.3).
fn signed_labels(name: &Name) -> usize {
    name.label_count() - usize::from(is_wildcard(name))
}

/// Whether the first label is `*`.
pub fn is_wildcard(name: &Name) -> bool {
    name.labels().next() == Some(b"*")
}

/// Whether `wall` lies between inception and expiration, both by serial number arithmetic (RFC 4034, section 3.1.5).
fn in_time(rrsig: &Rrsig<'_>, wall: u64) -> Result<(), Flaw> {
    let wall = wall as u32;
    let before = |a: u32, b: u32| (a.wrapping_sub(b) as i32) < 0;
    if before(rrsig.expiration, rrsig.inception) {
        Err(Flaw::Misfit)
    } else if before(rrsig.expiration, wall) {
        Err(Flaw::Expired)
    } else if before(wall, rrsig.inception) {
        Err(Flaw::NotYetValid)
    } else {
        Ok(())
    }
}

fn signed(rrsig: &Rrsig<'_>, owner: DomainName, set: &RrSet, wall: u64) -> Signed {
    let left = rrsig.expiration.wrapping_sub(wall as u32);
    let ttl = set.ttl.min(rrsig.original_ttl).min(left);
    Signed { ttl, wildcard: (owner != set.name).then_some(owner) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recursor::dnssec::StandardAlgorithms;
    use crate::recursor::dnssec::anchors::{TrustAnchors, decode_base64};
    use crate::recursor::dnssec::fixture::{Signer, a, name, set};
    use crate::recursor::message::Rdata;
    use proptest::prelude::*;

    /// An RRSIG without its signature, and the signature in base 64.
    fn rrsig(fixed: (RecordType, u8, u8, u32, u32, u16), signer: &str, signature: &str) -> Rdata {
        let (covered, algorithm, labels, expiration, inception, key_tag) = fixed;
        let mut rdata = covered.0.to_be_bytes().to_vec();
        rdata.extend([algorithm, labels]);
        for long in [3600, expiration, inception] {
            rdata.extend(u32::to_be_bytes(long));
        }
        rdata.extend(key_tag.to_be_bytes());
        rdata.extend(name(signer).as_wire());
        rdata.extend(decode_base64(signature).unwrap());
        rdata.into()
    }

    fn check_example(mut set: RrSet, signature: Rdata, dnskey: &str, ds: &str, wall: u64) {
        let anchors = TrustAnchors::parse(&format!("{dnskey}\n{ds}")).unwrap();
        let (zone, anchor) = anchors.zones().next().unwrap();
        let (key, ds) = (
            Dnskey::parse(&anchor.keys[0]).unwrap(),
            crate::recursor::dnssec::rdata::Ds::parse(&anchor.ds[0]).unwrap(),
        );
        let standard = StandardAlgorithms::default();
        assert_eq!(key.key_tag(), ds.key_tag);
        assert_eq!(standard.digest(ds.digest_type, &[zone.as_wire(), key.rdata].concat()).as_deref(), Some(ds.digest));
        set.signatures.push(signature);
        let checked = verify(&set, zone, [key].into_iter(), &standard, &mut Budget::new(9, 9), wall);
        assert_eq!(checked, Ok(Signed { ttl: 3600, wildcard: None }));
        set.rdata[0] = Box::from([1]);
        let forged = verify(&set, zone, [key].into_iter(), &standard, &mut Budget::new(9, 9), wall);
        assert_eq!(forged, Err(Flaw::Invalid));
    }

    #[test]
    fn the_example_of_rfc_6605_verifies() {
        let signature = "qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==";
        check_example(
            a("www.example.net"),
            rrsig((RecordType::A, 13, 3, 1_284_026_679, 1_281_607_479, 55648), "example.net", signature),
            "example.net. IN DNSKEY 257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
            "example.net. IN DS 55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17",
            1_282_000_000,
        );
    }

    #[test]
    fn the_example_of_rfc_8080_verifies() {
        let signature = "oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==";
        let mx = [&[0, 10], name("mail.example.com").as_wire()].concat();
        check_example(
            set("example.com", RecordType::MX, [mx]),
            rrsig((RecordType::MX, 15, 2, 1_440_021_600, 1_438_207_200, 3613), "example.com", signature),
            "example.com. IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
            "example.com. IN DS 3613 15 2 3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b",
            1_439_000_000,
        );
    }

    proptest! {
        #[test]
        fn any_signature_is_refused_without_panic(
            rdata in proptest::collection::vec(any::<u8>(), 0..120),
            labels in any::<u8>(),
        ) {
            let signer = Signer::new("kz");
            let key = Dnskey::parse(&signer.dnskey).unwrap();
            let mut signed = signer.sign(a("www.kz"));
            // One of nothing but noise, and one that only pretends to another number of labels.
            signed.signatures[0][3] = labels;
            signed.signatures.insert(0, rdata.into());
            let wall = crate::recursor::dnssec::fixture::WALL;
            let checked = verify(&signed, &name("kz"), [key].into_iter(), &StandardAlgorithms::default(), &mut Budget::new(9, 9), wall);
            prop_assert_eq!(checked.is_ok(), labels == 2);
        }
    }
}
