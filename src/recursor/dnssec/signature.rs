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

/// The time by which signatures are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970, as the machine believes.
    pub wall: u64,
    /// How many seconds that may be off, in both directions.
    pub skew: u32,
}

impl Moment {
    /// The machine's clock is right.
    pub fn exact(wall: u64) -> Self {
        Self { wall, skew: 0 }
    }

    /// Whether a signature is in force, by serial number arithmetic (RFC 4034, section 3.1.5).
    ///
    /// The clock is not taken to be off by more than a tenth of the time that the signature was made for: who signs
    /// for an hour does not want it to count for another one.
    fn lies_within(self, rrsig: &Rrsig<'_>) -> Result<(), Flaw> {
        let wall = self.wall as u32;
        let lifetime = rrsig.expiration.wrapping_sub(rrsig.inception);
        let skew = self.skew.min(lifetime / 10).cast_signed();
        if lifetime.cast_signed() < 0 {
            Err(Flaw::Misfit)
        } else if wall.wrapping_sub(rrsig.expiration).cast_signed() > skew {
            Err(Flaw::Expired)
        } else if rrsig.inception.wrapping_sub(wall).cast_signed() > skew {
            Err(Flaw::NotYetValid)
        } else {
            Ok(())
        }
    }

    /// For how many seconds a signature that is in force still counts; a moment when it does so by the skew alone.
    fn left_of(self, rrsig: &Rrsig<'_>) -> u32 {
        rrsig.expiration.wrapping_sub(self.wall as u32).cast_signed().max(1).cast_unsigned()
    }
}

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
    at: Moment,
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
            match check(&rrsig, &owner, set, keys.clone(), algorithms, budget, &mut failed, at) {
                Ok(()) => return Ok(signed(&rrsig, owner, set, at)),
                Err(Flaw::TooMuchWork) => return Err(Flaw::TooMuchWork),
                Err(other) => flaw = other,
            }
        }
        worst = worst.max(flaw);
    }
    Err(worst)
}

/// Whether `key`, which has its revoked bit set, has signed the DNSKEY set that it is in (RFC 5011, section 2.1).
pub fn verify_revoked(set: &RrSet, key: &Dnskey<'_>, algorithms: &dyn Algorithms, at: Moment) -> bool {
    set.signatures.iter().filter_map(|rdata| Rrsig::parse(rdata)).take(FAILED_CHECKS_PER_SET as usize * 4).any(
        |rrsig| {
            rrsig.type_covered == set.rtype
                && rrsig.signer == set.name
                && (rrsig.algorithm, rrsig.key_tag) == (key.algorithm, key.key_tag())
                && at.lies_within(&rrsig).is_ok()
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
    at: Moment,
) -> Result<(), Flaw> {
    if !algorithms.supports(rrsig.algorithm) {
        return Err(Flaw::UnsupportedAlgorithm);
    }
    at.lies_within(rrsig)?;
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

fn signed(rrsig: &Rrsig<'_>, owner: DomainName, set: &RrSet, at: Moment) -> Signed {
    let ttl = set.ttl.min(rrsig.original_ttl).min(at.left_of(rrsig));
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
        let at = Moment::exact(wall);
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
        let checked = verify(&set, zone, [key].into_iter(), &standard, &mut Budget::new(9, 9), at);
        assert_eq!(checked, Ok(Signed { ttl: 3600, wildcard: None }));
        set.rdata[0] = Box::from([1]);
        let forged = verify(&set, zone, [key].into_iter(), &standard, &mut Budget::new(9, 9), at);
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

    #[test]
    fn a_clock_may_be_off_by_the_skew_and_a_tenth_of_the_lifetime() {
        let (signer, start, end) = (Signer::new("kz"), 1_800_000_000, 1_800_010_000);
        let set = signer.sign_between(a("www.kz"), start, end);
        let key = Dnskey::parse(&signer.dnskey).unwrap();
        let standard = StandardAlgorithms::default();
        let judged = |wall, skew| {
            let at = Moment { wall, skew };
            verify(&set, &name("kz"), [key].into_iter(), &standard, &mut Budget::new(9, 9), at).map(|signed| signed.ttl)
        };
        for (wall, skew, expected) in [
            (start, 0, Ok(3600)),
            (start - 1, 0, Err(Flaw::NotYetValid)),
            (start - 60, 60, Ok(3600)),
            (start - 61, 60, Err(Flaw::NotYetValid)),
            (end - 10, 60, Ok(10)),
            (end, 0, Ok(1)),
            (end + 1, 0, Err(Flaw::Expired)),
            (end + 60, 60, Ok(1)),
            (end + 61, 60, Err(Flaw::Expired)),
            (end + 1000, 86_400, Ok(1)),
            (end + 1001, 86_400, Err(Flaw::Expired)),
            (start - 1001, 86_400, Err(Flaw::NotYetValid)),
        ] {
            assert_eq!(judged(wall, skew), expected, "{wall} {skew}");
        }
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
            let at = Moment::exact(crate::recursor::dnssec::fixture::WALL);
            let checked = verify(&signed, &name("kz"), [key].into_iter(), &StandardAlgorithms::default(), &mut Budget::new(9, 9), at);
            prop_assert_eq!(checked.is_ok(), labels == 2);
        }
    }
}
