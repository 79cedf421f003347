//! A DNS message as bytes.
//!
//! Reading never allocates for what it skips and never panics on any input;
//! names are followed through compression pointers that must point backwards,
//! so that every walk ends (RFC 1035, section 4.1.4).

use crate::name::{DomainName, MAX_NAME_LEN, Name};
use crate::query::{Class, Rcode, RecordType};

/// Octets in a header.
pub const HEADER_LEN: usize = 12;

/// The bytes are not a DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is malformed")]
pub struct Malformed;

/// A message's header, read in place (RFC 1035, section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The identifier that the reply repeats.
    pub id: u16,
    /// The second word: QR, OPCODE, AA, TC, RD, RA, Z, AD, CD, RCODE.
    pub flags: u16,
    /// QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT.
    pub counts: [u16; 4],
}

#[allow(missing_docs)]
impl Header {
    pub const QR: u16 = 0x8000;
    pub const AA: u16 = 0x0400;
    pub const TC: u16 = 0x0200;
    pub const RD: u16 = 0x0100;
    pub const RA: u16 = 0x0080;
    pub const AD: u16 = 0x0020;
    pub const CD: u16 = 0x0010;
    pub const OPCODE_MASK: u16 = 0x7800;

    /// Reads the first twelve octets.
    ///
    /// # Errors
    ///
    /// When there are fewer.
    pub fn read(message: &[u8]) -> Result<Self, Malformed> {
        let octets: &[u8; HEADER_LEN] = message.first_chunk().ok_or(Malformed)?;
        let word = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        Ok(Self { id: word(0), flags: word(2), counts: [word(4), word(6), word(8), word(10)] })
    }

    /// The twelve octets.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [qd, an, ns, ar] = self.counts;
        let mut octets = [0; HEADER_LEN];
        for (place, word) in octets.chunks_exact_mut(2).zip([self.id, self.flags, qd, an, ns, ar]) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        octets
    }

    /// Whether all bits of `flag` are set.
    pub fn has(self, flag: u16) -> bool {
        self.flags & flag == flag
    }

    pub fn opcode(self) -> u8 {
        ((self.flags & Self::OPCODE_MASK) >> 11) as u8
    }

    /// The lower four bits of the response code; EDNS may hold more.
    pub fn rcode(self) -> Rcode {
        Rcode(self.flags & 0x000f)
    }
}

/// Reads the name at `at`, follows pointers, lowers its case; also says where the next field begins.
///
/// # Errors
///
/// When the name runs over the end, is too long, or a pointer does not point backwards.
pub fn read_name(message: &[u8], at: usize) -> Result<(DomainName, usize), Malformed> {
    let mut buffer = [0; MAX_NAME_LEN];
    let (name, next) = read_name_into(message, at, &mut buffer)?;
    Ok((name.to_owned(), next))
}

/// As [`read_name`], without an allocation.
///
/// # Errors
///
/// As [`read_name`].
pub fn read_name_into<'b>(
    message: &[u8],
    at: usize,
    buffer: &'b mut [u8; MAX_NAME_LEN],
) -> Result<(&'b Name, usize), Malformed> {
    let mut at = at;
    let mut next = None;
    // Each pointer must go before the place where the labels it ends began.
    let mut limit = at;
    let mut len = 0;
    loop {
        let octet = *message.get(at).ok_or(Malformed)?;
        match octet {
            0 => {
                *buffer.get_mut(len).ok_or(Malformed)? = 0;
                return Ok((Name::from_checked(&buffer[..=len]), next.unwrap_or(at + 1)));
            }
            1..=63 => {
                let end = at + 1 + usize::from(octet);
                let label = message.get(at + 1..end).ok_or(Malformed)?;
                let place = buffer.get_mut(len..len + 1 + label.len()).ok_or(Malformed)?;
                place[0] = octet;
                for (to, from) in place[1..].iter_mut().zip(label) {
                    *to = from.to_ascii_lowercase();
                }
                len += place.len();
                at = end;
            }
            0xc0.. => {
                let low = *message.get(at + 1).ok_or(Malformed)?;
                let target = usize::from(octet & 0x3f) << 8 | usize::from(low);
                if target >= limit || target < HEADER_LEN {
                    return Err(Malformed);
                }
                next.get_or_insert(at + 2);
                limit = target;
                at = target;
            }
            _ => return Err(Malformed),
        }
    }
}

/// Where the field behind the name at `at` begins; looks at no pointer's target.
///
/// # Errors
///
/// When the name runs over the end.
pub fn skip_name(message: &[u8], mut at: usize) -> Result<usize, Malformed> {
    loop {
        match *message.get(at).ok_or(Malformed)? {
            0 => return Ok(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return if at + 2 <= message.len() { Ok(at + 2) } else { Err(Malformed) },
            _ => return Err(Malformed),
        }
    }
}

fn word(message: &[u8], at: usize) -> Result<u16, Malformed> {
    let octets = message.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Malformed)?;
    Ok(u16::from_be_bytes(*octets))
}

/// Which part of a message a record stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// A record, still in its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView {
    /// The part of the message it stands in.
    pub section: Section,
    /// Where its owner name begins; see [`read_name`].
    pub owner: usize,
    /// Its type.
    pub rtype: RecordType,
    /// Its class; for OPT the sender's payload size.
    pub class: Class,
    /// Where its TTL stands.
    pub ttl_at: usize,
    /// Its time to live as sent; for OPT extended RCODE, version and flags.
    pub ttl: u32,
    /// Where its data begins.
    pub rdata: usize,
    /// Octets of data.
    pub rdata_len: usize,
}

impl RecordView {
    /// The data as sent, names in it perhaps compressed.
    pub fn data<'m>(&self, message: &'m [u8]) -> &'m [u8] {
        &message[self.rdata..self.rdata + self.rdata_len]
    }

    /// Where the next record begins.
    pub fn end(&self) -> usize {
        self.rdata + self.rdata_len
    }
}

/// Walks the records of a message in order, all three sections, without looking into their data.
///
/// Starts behind `header.counts[0]` questions. Yields an error once, then ends.
pub fn records(message: &[u8], header: Header) -> impl Iterator<Item = Result<RecordView, Malformed>> + '_ {
    let mut left = [header.counts[1], header.counts[2], header.counts[3]];
    let mut section = 0;
    let mut at = (0..header.counts[0]).try_fold(HEADER_LEN, |at, _| {
        let at = skip_name(message, at)? + 4;
        if at <= message.len() { Ok(at) } else { Err(Malformed) }
    });
    std::iter::from_fn(move || {
        while section < 3 && left[section] == 0 {
            section += 1;
        }
        if section == 3 {
            return None;
        }
        let view = at.and_then(|start| {
            read_record(message, start, [Section::Answer, Section::Authority, Section::Additional][section])
        });
        match &view {
            Ok(record) => {
                left[section] -= 1;
                at = Ok(record.end());
            }
            Err(Malformed) => section = 3,
        }
        Some(view)
    })
}

fn read_record(message: &[u8], owner: usize, section: Section) -> Result<RecordView, Malformed> {
    let at = skip_name(message, owner)?;
    let rdata_len = usize::from(word(message, at + 8)?);
    let rdata = at + 10;
    if rdata + rdata_len > message.len() {
        return Err(Malformed);
    }
    let ttl = u32::from(word(message, at + 4)?) << 16 | u32::from(word(message, at + 6)?);
    Ok(RecordView {
        section,
        owner,
        rtype: RecordType(word(message, at)?),
        class: Class(word(message, at + 2)?),
        ttl_at: at + 4,
        ttl,
        rdata,
        rdata_len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pointers_must_point_backwards() {
        let mut message = vec![0; HEADER_LEN];
        message.extend(b"\x03www\x07example\x00\x01a\xc0\x10\xc0\x1d\xc0\xff");
        assert_eq!(read_name(&message, 12).unwrap(), ("www.example".parse().unwrap(), 25));
        assert_eq!(read_name(&message, 25).unwrap(), ("a.example".parse().unwrap(), 29));
        assert_eq!(read_name(&message, 29), Err(Malformed), "a pointer to itself");
        assert_eq!(read_name(&message, 31), Err(Malformed), "a pointer forward");
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(header) = Header::read(&octets) {
                let seen = records(&octets, header).count();
                prop_assert!(seen <= octets.len());
            }
            for at in 0..octets.len() {
                let _ = read_name(&octets, at);
                let _ = skip_name(&octets, at);
            }
        }
    }
}
