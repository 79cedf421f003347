//! The form and order in which records are signed (RFC 4034, section 6).

use std::borrow::Cow;

use crate::name::Name;
use crate::query::{Class, RecordType};
use crate::recursor::message::Rdata;

use super::rdata::Rrsig;

/// A field of a record's data, as far as names must be found in it.
enum Field {
    /// So many octets.
    Octets(usize),
    /// A length octet and as many octets.
    Text,
    /// A domain name, whose letters are lowered.
    Name,
    /// A prefix length and the rest of an IPv6 address (RFC 2874, section 3.1).
    AddressSuffix,
}

/// Where names stand in the data of the types whose names are lowered (RFC 4034, section 6.2; RFC 6840, section 5.1).
///
/// No other type may be added: newer types are signed as they are (RFC 3597, section 7).
fn layout(rtype: RecordType) -> &'static [Field] {
    use Field::{AddressSuffix, Name, Octets, Text};
    match rtype.0 {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, NXT, DNAME
        2..=5 | 7..=9 | 12 | 30 | 39 => &[Name],
        // SOA, MINFO, RP
        6 | 14 | 17 => &[Name, Name],
        // MX, AFSDB, RT, KX
        15 | 18 | 21 | 36 => &[Octets(2), Name],
        // SIG, RRSIG
        24 | 46 => &[Octets(18), Name],
        // PX
        26 => &[Octets(2), Name, Name],
        // SRV
        33 => &[Octets(6), Name],
        // NAPTR
        35 => &[Octets(4), Text, Text, Text, Name],
        // A6
        38 => &[AddressSuffix, Name],
        _ => &[],
    }
}

/// The data in canonical form. Data that is not of its type's form stays as it is from where it is broken.
pub fn rdata(rtype: RecordType, data: &[u8]) -> Cow<'_, [u8]> {
    let mut data = Cow::Borrowed(data);
    let mut at = 0;
    for field in layout(rtype) {
        let len = match field {
            Field::Octets(len) => Some(*len),
            Field::Text => data.get(at).map(|&len| 1 + usize::from(len)),
            Field::Name => crate::wire::skip_name(&data, at).ok().map(|end| end - at),
            Field::AddressSuffix => data.get(at).map(|&prefix| 1 + (128 - usize::from(prefix.min(128))).div_ceil(8)),
        };
        let Some(end) = len.map(|len| at + len).filter(|&end| end <= data.len()) else { break };
        if matches!(field, Field::Name) && data[at..end].iter().any(u8::is_ascii_uppercase) {
            // Length octets are below every letter, so that all octets may be lowered.
            data.to_mut()[at..end].make_ascii_lowercase();
        }
        at = end;
    }
    data
}

/// What a signature over the set is made of (RFC 4034, section 3.1.8.1).
///
/// `owner` is the name that was signed: the wildcard, for a set that was expanded from one.
pub fn signed_data(rrsig: &Rrsig<'_>, owner: &Name, set: &[Rdata]) -> Vec<u8> {
    let mut records: Vec<Cow<'_, [u8]>> = set.iter().map(|data| rdata(rrsig.type_covered, data)).collect();
    records.sort_unstable();
    records.dedup();

    let each = owner.as_wire().len() + 10;
    let total: usize = records.iter().map(|data| each + data.len()).sum();
    let mut signed = Vec::with_capacity(18 + rrsig.signer.as_wire().len() + total);
    signed.extend_from_slice(rrsig.fixed);
    signed.extend_from_slice(rrsig.signer.as_wire());
    for data in records {
        signed.extend_from_slice(owner.as_wire());
        signed.extend_from_slice(&rrsig.type_covered.0.to_be_bytes());
        signed.extend_from_slice(&Class::IN.0.to_be_bytes());
        signed.extend_from_slice(&rrsig.original_ttl.to_be_bytes());
        signed.extend_from_slice(&(data.len() as u16).to_be_bytes());
        signed.extend_from_slice(&data);
    }
    signed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_lowered_in_the_listed_types_and_in_no_other() {
        let name = b"\x03WWW\x02KZ\x00";
        let lower = b"\x03www\x02kz\x00";
        for (rtype, before) in [(2, &b""[..]), (15, b"\x00A"), (33, b"ABCDEF"), (26, b"\x00A"), (46, &[65; 18])] {
            let data = [before, name].concat();
            assert_eq!(&*rdata(RecordType(rtype), &data), [before, lower].concat(), "TYPE{rtype}");
        }
        let naptr = [b"ABCD\x01A\x01B\x01C", &name[..]].concat();
        assert_eq!(&*rdata(RecordType::NAPTR, &naptr), [b"ABCD\x01A\x01B\x01C", &lower[..]].concat());
        for rtype in [RecordType::NSEC, RecordType::TXT, RecordType::SVCB, RecordType::HIP] {
            assert_eq!(&*rdata(rtype, name), name, "{rtype}");
        }
        assert_eq!(&*rdata(RecordType(26), b"\x00A\x01X"), b"\x00A\x01X", "a PX record that is too short");
    }

    proptest! {
        #[test]
        fn any_data_keeps_its_length(rtype in 0u16..70, data in proptest::collection::vec(any::<u8>(), 0..100)) {
            let canonical = rdata(RecordType(rtype), &data);
            prop_assert!(canonical.eq_ignore_ascii_case(&data));
        }
    }
}
