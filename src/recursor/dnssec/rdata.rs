//! Typed views of the records that DNSSEC is made of (RFC 4034, RFC 5155).
//!
//! A view borrows the data of one record and has checked its form; fields that
//! DNSSEC leaves to be judged, such as a key's flags, are there as they came.

use crate::name::DomainName;
use crate::query::RecordType;
use crate::recursor::message::RrSet;
use crate::wire;

/// A public key of a zone (RFC 4034, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dnskey<'a> {
    /// Zone key, revoked, secure entry point.
    pub flags: u16,
    /// Always 3 in a key that counts.
    pub protocol: u8,
    /// What it signs with.
    pub algorithm: u8,
    /// The key, as its algorithm writes it.
    pub public_key: &'a [u8],
    /// The whole data.
    pub rdata: &'a [u8],
}

impl<'a> Dnskey<'a> {
    /// The key signs records of its zone (RFC 4034, section 2.1.1).
    pub const ZONE_KEY: u16 = 0x0100;
    /// The key's owner asks everyone to stop trusting it (RFC 5011, section 7).
    pub const REVOKED: u16 = 0x0080;
    /// The key is meant to be a trust anchor or the target of a DS record.
    pub const SECURE_ENTRY_POINT: u16 = 0x0001;

    /// Reads the data of one record.
    pub fn parse(rdata: &'a [u8]) -> Option<Self> {
        let ([f0, f1, protocol, algorithm], public_key) = rdata.split_first_chunk()?;
        let flags = u16::from_be_bytes([*f0, *f1]);
        (!public_key.is_empty()).then_some(Self {
            flags,
            protocol: *protocol,
            algorithm: *algorithm,
            public_key,
            rdata,
        })
    }

    /// The key's short and ambiguous name (RFC 4034, appendix B).
    pub fn key_tag(&self) -> u16 {
        let sum: u32 = self
            .rdata
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
            .sum();
        (sum + (sum >> 16)) as u16
    }

    /// Whether it may have signed something in its zone (RFC 4034, section 2.1; RFC 5011, section 2.1).
    pub fn may_sign(&self) -> bool {
        self.flags & Self::ZONE_KEY != 0 && self.protocol == 3 && self.flags & Self::REVOKED == 0
    }

    /// Whether its owner has revoked it.
    pub fn is_revoked(&self) -> bool {
        self.flags & Self::REVOKED != 0
    }
}

/// The fingerprint of a child zone's key, in the parent (RFC 4034, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ds<'a> {
    /// The tag of the key.
    pub key_tag: u16,
    /// The algorithm of the key.
    pub algorithm: u8,
    /// How the digest was made.
    pub digest_type: u8,
    /// The digest over the key's owner and data.
    pub digest: &'a [u8],
}

impl<'a> Ds<'a> {
    /// Reads the data of one record.
    pub fn parse(rdata: &'a [u8]) -> Option<Self> {
        let ([t0, t1, algorithm, digest_type], digest) = rdata.split_first_chunk()?;
        let key_tag = u16::from_be_bytes([*t0, *t1]);
        (!digest.is_empty()).then_some(Self { key_tag, algorithm: *algorithm, digest_type: *digest_type, digest })
    }
}

/// A signature over a set of records (RFC 4034, section 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rrsig<'a> {
    /// The type of the set.
    pub type_covered: RecordType,
    /// What it was made with.
    pub algorithm: u8,
    /// How many labels the owner had when it was signed, a leading `*` not counted.
    pub labels: u8,
    /// The time to live in the zone.
    pub original_ttl: u32,
    /// Seconds since 1970, by serial number arithmetic.
    pub expiration: u32,
    /// Seconds since 1970, by serial number arithmetic.
    pub inception: u32,
    /// The tag of the key.
    pub key_tag: u16,
    /// The zone whose key it is.
    pub signer: DomainName,
    /// The signature, as its algorithm writes it.
    pub signature: &'a [u8],
    /// The fields before the signer's name.
    pub fixed: &'a [u8; 18],
}

impl<'a> Rrsig<'a> {
    /// Reads the data of one record.
    pub fn parse(rdata: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = rdata.split_first_chunk::<18>()?;
        let (signer, signature) = split_name(rest)?;
        let long = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        (!signature.is_empty()).then_some(Self {
            type_covered: RecordType(u16::from_be_bytes([fixed[0], fixed[1]])),
            algorithm: fixed[2],
            labels: fixed[3],
            original_ttl: long(4),
            expiration: long(8),
            inception: long(12),
            key_tag: u16::from_be_bytes([fixed[16], fixed[17]]),
            signer,
            signature,
            fixed,
        })
    }
}

/// The types at a name (RFC 4034, section 4.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeBitmap<'a>(&'a [u8]);

impl<'a> TypeBitmap<'a> {
    /// Checks that windows ascend and none is empty or too long.
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        let mut rest = octets;
        let mut least = 0;
        while let Some((&window, after)) = rest.split_first() {
            let (&len, after) = after.split_first()?;
            if u16::from(window) < least || !(1..=32).contains(&len) {
                return None;
            }
            least = u16::from(window) + 1;
            rest = after.get(usize::from(len)..)?;
        }
        Some(Self(octets))
    }

    /// Whether the name has records of this type.
    pub fn contains(&self, rtype: RecordType) -> bool {
        let [window, low] = rtype.0.to_be_bytes();
        let mut rest = self.0;
        while let [number, len, after @ ..] = rest {
            let (bits, after) = after.split_at(usize::from(*len).min(after.len()));
            if *number == window {
                return bits.get(usize::from(low / 8)).is_some_and(|octet| octet & (0x80 >> (low % 8)) != 0);
            }
            rest = after;
        }
        false
    }

    /// Whether the name is where a child zone begins, seen from the parent (RFC 4035, section 2.3).
    pub fn is_delegation(&self) -> bool {
        self.contains(RecordType::NS) && !self.contains(RecordType::SOA)
    }
}

/// What stands between two names of a zone: nothing (RFC 4034, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nsec<'a> {
    /// The next name, or the zone's own after the last.
    pub next: DomainName,
    /// The types at the owner.
    pub types: TypeBitmap<'a>,
}

impl<'a> Nsec<'a> {
    /// Reads the data of one record.
    pub fn parse(rdata: &'a [u8]) -> Option<Self> {
        let (next, types) = split_name(rdata)?;
        Some(Self { next, types: TypeBitmap::parse(types)? })
    }
}

/// What stands between two hashed names of a zone (RFC 5155, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nsec3<'a> {
    /// How names are hashed.
    pub hash_algorithm: u8,
    /// Whether delegations without DS may stand in between.
    pub flags: u8,
    /// How often a name is hashed again.
    pub iterations: u16,
    /// What is hashed along.
    pub salt: &'a [u8],
    /// The next hash.
    pub next: &'a [u8],
    /// The types at the name that the owner is the hash of.
    pub types: TypeBitmap<'a>,
}

impl<'a> Nsec3<'a> {
    /// SHA-1, the only hash there is (RFC 5155, section 11).
    pub const SHA1: u8 = 1;
    /// Unsigned delegations may have been left out (RFC 5155, section 3.1.2.1).
    pub const OPT_OUT: u8 = 1;

    /// Reads the data of one record.
    pub fn parse(rdata: &'a [u8]) -> Option<Self> {
        let ([hash_algorithm, flags, i0, i1, salt_len], rest) = rdata.split_first_chunk()?;
        let (salt, rest) = rest.split_at_checked(usize::from(*salt_len))?;
        let (&next_len, rest) = rest.split_first()?;
        let (next, types) = rest.split_at_checked(usize::from(next_len))?;
        (!next.is_empty()).then_some(())?;
        Some(Self {
            hash_algorithm: *hash_algorithm,
            flags: *flags,
            iterations: u16::from_be_bytes([*i0, *i1]),
            salt,
            next,
            types: TypeBitmap::parse(types)?,
        })
    }

    /// Whether delegations without DS may have been left out of the span.
    pub fn is_opt_out(&self) -> bool {
        self.flags & Self::OPT_OUT != 0
    }
}

/// The zone that says that it signed `set`: the deepest signer named that can be, since a zone above has no say.
///
/// Nothing is checked but that the signer is at or above the owner; above it for DS, which a parent signs (RFC 4035,
/// section 2.4).
pub fn signer(set: &RrSet) -> Option<DomainName> {
    let signers = set.signatures.iter().filter_map(|rdata| Rrsig::parse(rdata)).map(|rrsig| rrsig.signer);
    let able = signers.filter(|signer| match set.rtype {
        RecordType::DS => set.name.is_below(signer),
        _ => set.name.is_at_or_below(signer),
    });
    able.max_by_key(|signer| signer.label_count())
}

/// Whether a signature says that the set was made from a wildcard (RFC 4035, section 5.3.4).
pub fn is_expanded(set: &RrSet) -> bool {
    let labels = set.name.label_count() - usize::from(set.name.labels().next() == Some(b"*"));
    set.signatures.iter().filter_map(|rdata| Rrsig::parse(rdata)).any(|rrsig| usize::from(rrsig.labels) < labels)
}

/// Takes one uncompressed name off the front.
pub fn split_name(octets: &[u8]) -> Option<(DomainName, &[u8])> {
    let end = wire::skip_name(octets, 0).ok()?;
    let (name, rest) = octets.split_at_checked(end)?;
    Some((DomainName::from_wire(name).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn key_tags_are_as_the_registry_says() {
        // The root's key of 2017.
        let rdata = root_ksk_2017();
        let key = Dnskey::parse(&rdata).unwrap();
        assert_eq!((key.key_tag(), key.may_sign(), key.is_revoked()), (20326, true, false));
    }

    fn root_ksk_2017() -> Vec<u8> {
        let mut rdata = vec![1, 1, 3, 8];
        rdata.extend(
            crate::recursor::dnssec::anchors::decode_base64(
                "AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=",
            )
            .unwrap(),
        );
        rdata
    }

    #[test]
    fn bitmaps_say_which_types_are_there() {
        // RFC 4034, section 4.3: A, MX, RRSIG, NSEC and TYPE1234.
        let mut octets = vec![0, 6, 0x40, 0x01, 0, 0, 0, 0x03, 4, 0x1b];
        octets.extend([0; 26]);
        octets.push(0x20);
        let types = TypeBitmap::parse(&octets).unwrap();
        for (rtype, there) in [(1, true), (15, true), (46, true), (47, true), (1234, true), (2, false), (1233, false)] {
            assert_eq!(types.contains(RecordType(rtype)), there, "{rtype}");
        }
        for broken in [&[0][..], &[0, 0], &[0, 33], &[0, 2, 1], &[1, 1, 1, 0, 1, 1], &[0, 1, 1, 0, 1, 1]] {
            assert_eq!(TypeBitmap::parse(broken), None, "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn any_data_is_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..300), rtype in any::<u16>()) {
            if let Some(key) = Dnskey::parse(&octets) {
                let _ = (key.key_tag(), key.may_sign());
            }
            let _ = (Ds::parse(&octets), Rrsig::parse(&octets));
            if let Some(nsec) = Nsec::parse(&octets) {
                let _ = nsec.types.contains(RecordType(rtype));
            }
            if let Some(nsec3) = Nsec3::parse(&octets) {
                let _ = nsec3.types.contains(RecordType(rtype));
            }
            if let Some(types) = TypeBitmap::parse(&octets) {
                let _ = types.contains(RecordType(rtype));
            }
        }
    }
}
