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
        let places = octets.as_chunks_mut::<2>().0;
        for (place, word) in places.iter_mut().zip([self.id, self.flags, qd, an, ns, ar]) {
            *place = word.to_be_bytes();
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
    let (len, next) = expand_name(message, at, buffer)?;
    to_lower_case(buffer, len);
    Ok((Name::from_checked(&buffer[..len]), next))
}

/// Copies the name at `at` without pointers, letters as they came; says how long it is and where the next field begins.
///
/// # Errors
///
/// As [`read_name`].
#[inline]
pub fn expand_name(message: &[u8], at: usize, buffer: &mut [u8; MAX_NAME_LEN]) -> Result<(usize, usize), Malformed> {
    // The labels from `begun` to `at` have been seen and not copied: those that stand together are copied together.
    let (mut begun, mut at) = (at, at);
    let mut next = None;
    let mut len = 0;
    loop {
        let octet = *message.get(at).ok_or(Malformed)?;
        match octet {
            1..=63 if at - begun < MAX_NAME_LEN => at += 1 + usize::from(octet),
            0 => {
                copy_labels(&message[begun..=at], buffer, &mut len)?;
                return Ok((len, next.unwrap_or(at + 1)));
            }
            0xc0.. => {
                let low = *message.get(at + 1).ok_or(Malformed)?;
                let target = usize::from(octet & 0x3f) << 8 | usize::from(low);
                // Each pointer must go before the place where the labels it ends began (RFC 1035, section 4.1.4).
                if target >= begun || target < HEADER_LEN {
                    return Err(Malformed);
                }
                copy_labels(&message[begun..at], buffer, &mut len)?;
                next.get_or_insert(at + 2);
                (begun, at) = (target, target);
            }
            _ => return Err(Malformed),
        }
    }
}

#[inline]
fn copy_labels(labels: &[u8], buffer: &mut [u8; MAX_NAME_LEN], len: &mut usize) -> Result<(), Malformed> {
    let end = *len + labels.len();
    buffer.get_mut(*len..end).ok_or(Malformed)?.copy_from_slice(labels);
    *len = end;
    Ok(())
}

/// Lowers the case of a name of `len` octets. Length octets are at most 63, below every letter, so they stay.
///
/// Works on whole sixteens, also behind the end of the name: those the compiler takes at a time.
#[inline]
fn to_lower_case(buffer: &mut [u8; MAX_NAME_LEN], len: usize) {
    let (sixteens, rest) = buffer.as_chunks_mut::<16>();
    let wanted = len.div_ceil(16);
    if wanted > sixteens.len() {
        rest.make_ascii_lowercase();
    }
    sixteens.iter_mut().take(wanted).for_each(|sixteen| sixteen.make_ascii_lowercase());
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

/// A query, understood and still in its message. Class and names are the caller's to judge.
#[derive(Debug, Clone, Copy)]
pub struct Request<'m> {
    /// The header as sent.
    pub header: Header,
    /// The question as sent, letters' case included: name, type, class. A reply repeats it.
    pub question: &'m [u8],
    /// The name asked for.
    pub name: &'m Name,
    /// The type asked for.
    pub qtype: RecordType,
    /// The class asked for.
    pub class: Class,
    /// What the client says by EDNS; `None` when it speaks none.
    pub edns: Option<Edns>,
    /// The cookie that the client sends (RFC 7873), 8 or 16 to 40 octets; empty when it sends none.
    pub cookie: &'m [u8],
}

/// What a client says in its OPT record (RFC 6891, section 6.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The longest datagram that it takes, as written.
    pub payload: u16,
    /// The version it speaks; only 0 exists.
    pub version: u8,
    /// It wants DNSSEC records (DO, RFC 3225).
    pub dnssec_ok: bool,
    /// It asks for the server's identity (RFC 5001).
    pub nsid: bool,
    /// It asks how long it may keep the connection (RFC 7828).
    pub keepalive: bool,
    /// It pads its queries and wants padded replies (RFC 7830).
    pub padding: bool,
}

/// The option codes of EDNS that are known here.
#[allow(missing_docs)]
pub mod option {
    pub const NSID: u16 = 3;
    pub const COOKIE: u16 = 10;
    pub const KEEPALIVE: u16 = 11;
    pub const PADDING: u16 = 12;
    pub const EXTENDED_ERROR: u16 = 15;
}

/// The bytes are not a query that could be answered in substance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is not even a header: nobody to answer.
    #[error("the message is shorter than a header")]
    Short,
    /// It is a response: answering it could begin a loop.
    #[error("the message is a response")]
    Response,
    /// Its sender is to be told this code.
    #[error("the query deserves response code {}", .rcode.0)]
    Faulty {
        /// The header as sent.
        header: Header,
        /// FORMERR, or NOTIMP for another opcode than QUERY.
        rcode: Rcode,
    },
}

impl<'m> Request<'m> {
    /// Reads a query; `buffer` takes its name in lower case. Allocates nothing.
    ///
    /// As strict as other resolvers are: exactly one question, nothing in the answer and authority sections, at most
    /// one OPT record, which must be well formed to its last option. Other additional records (TSIG) and octets behind
    /// the message are passed over.
    ///
    /// # Errors
    ///
    /// When there is nothing to answer, or only with an error code.
    pub fn read(message: &'m [u8], buffer: &'m mut [u8; MAX_NAME_LEN]) -> Result<Self, RequestError> {
        let header = Header::read(message).map_err(|Malformed| RequestError::Short)?;
        if header.has(Header::QR) {
            return Err(RequestError::Response);
        }
        let faulty = |rcode| RequestError::Faulty { header, rcode };
        if header.opcode() != 0 {
            return Err(faulty(Rcode::NOTIMP));
        }
        let [questions, answers, authorities, additionals] = header.counts;
        if (questions, answers, authorities) != (1, 0, 0) {
            return Err(faulty(Rcode::FORMERR));
        }
        Self::read_sections(message, header, additionals, buffer).map_err(|Malformed| faulty(Rcode::FORMERR))
    }

    fn read_sections(
        message: &'m [u8],
        header: Header,
        additionals: u16,
        buffer: &'m mut [u8; MAX_NAME_LEN],
    ) -> Result<Self, Malformed> {
        // A pointer in the first name could only point into the header.
        let (name, at) = read_name_into(message, HEADER_LEN, buffer)?;
        let (qtype, class) = (RecordType(word(message, at)?), Class(word(message, at + 2)?));
        let question = &message[HEADER_LEN..at + 4];
        let mut at = at + 4;
        let mut edns = None;
        let mut cookie = &[][..];
        for _ in 0..additionals {
            let record = read_record(message, at, Section::Additional)?;
            if record.rtype == RecordType::OPT {
                let has_root_owner = message[at] == 0;
                if edns.is_some() || !has_root_owner {
                    return Err(Malformed);
                }
                edns = Some(Edns::read(&record, record.data(message), &mut cookie)?);
            }
            at = record.end();
        }
        Ok(Self { header, question, name, qtype, class, edns, cookie })
    }
}

impl Edns {
    /// The DO bit in the TTL field of an OPT record.
    pub const DO: u32 = 0x8000;

    fn read<'m>(record: &RecordView, mut options: &'m [u8], cookie: &mut &'m [u8]) -> Result<Self, Malformed> {
        let mut edns = Self {
            payload: record.class.0,
            version: (record.ttl >> 16) as u8,
            dnssec_ok: record.ttl & Self::DO != 0,
            nsid: false,
            keepalive: false,
            padding: false,
        };
        while let Some((head, rest)) = options.split_first_chunk::<4>() {
            let [code, len] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
            let (value, rest) = rest.split_at_checked(usize::from(len)).ok_or(Malformed)?;
            match code {
                option::NSID => edns.nsid = true,
                option::KEEPALIVE => edns.keepalive = true,
                option::PADDING => edns.padding = true,
                // RFC 7873, section 5.2.2.
                option::COOKIE if !matches!(value.len(), 8 | 16..=40) => return Err(Malformed),
                option::COOKIE => *cookie = value,
                _ => {}
            }
            options = rest;
        }
        if options.is_empty() { Ok(edns) } else { Err(Malformed) }
    }
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

    fn query(name: &str, additionals: &[&[u8]]) -> Vec<u8> {
        let mut message =
            Header { id: 7, flags: Header::RD, counts: [1, 0, 0, additionals.len() as u16] }.to_bytes().to_vec();
        message.extend(name.parse::<DomainName>().unwrap().as_wire());
        message.extend([0, 1, 0, 1]);
        additionals.iter().for_each(|record| message.extend(*record));
        message
    }

    const OPT: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\0";

    #[test]
    fn a_query_is_read_to_its_last_option() {
        let mut message =
            query("www.example.kz", &[b"\0\0\x29\x04\xd0\0\0\x80\0\0\x14\0\x03\0\0\0\x0a\0\x08abcdefgh\0\x0b\0\0"]);
        message[13] = b'W';
        let mut buffer = [0; MAX_NAME_LEN];
        let request = Request::read(&message, &mut buffer).unwrap();
        assert_eq!(request.name.to_string(), "www.example.kz");
        assert_eq!(request.question, b"\x03Www\x07example\x02kz\0\0\x01\0\x01");
        assert_eq!((request.qtype, request.class), (RecordType::A, Class::IN));
        let edns = request.edns.unwrap();
        assert_eq!((edns.payload, edns.version, edns.dnssec_ok), (1232, 0, true));
        assert!(edns.nsid && edns.keepalive && !edns.padding);
        assert_eq!(request.cookie, b"abcdefgh");
    }

    #[test]
    fn what_is_no_good_query_is_told_so_or_met_with_silence() {
        let plain = query("a.kz", &[]);
        let with = |at: usize, octet: u8| {
            let mut message = plain.clone();
            message[at] = octet;
            message
        };
        let faulty = |message: &[u8]| match Request::read(message, &mut [0; MAX_NAME_LEN]) {
            Err(RequestError::Faulty { rcode, .. }) => Ok(Some(rcode)),
            Err(other) => Err(other),
            Ok(_) => Ok(None),
        };
        let long_name = format!("{}.kz", ["a"; 126].join("."));
        for (what, message, expected) in [
            ("a plain query", plain.clone(), Ok(None)),
            ("octets behind it", [plain.clone(), vec![1, 2, 3]].concat(), Ok(None)),
            ("TC set", with(2, 0x03), Ok(None)),
            ("nothing", vec![], Err(RequestError::Short)),
            ("eleven octets", plain[..11].to_vec(), Err(RequestError::Short)),
            ("a response", with(2, 0x81), Err(RequestError::Response)),
            ("opcode NOTIFY", with(2, 0x20), Ok(Some(Rcode::NOTIMP))),
            ("opcode UPDATE", with(2, 0x28), Ok(Some(Rcode::NOTIMP))),
            ("no question", with(5, 0), Ok(Some(Rcode::FORMERR))),
            ("two questions", with(5, 2), Ok(Some(Rcode::FORMERR))),
            ("an answer", with(7, 1), Ok(Some(Rcode::FORMERR))),
            ("an authority", with(9, 1), Ok(Some(Rcode::FORMERR))),
            ("an additional record that is not there", with(11, 1), Ok(Some(Rcode::FORMERR))),
            ("65,535 additional records", [&with(11, 0xff)[..], &OPT[..3]].concat(), Ok(Some(Rcode::FORMERR))),
            ("a header alone", plain[..12].to_vec(), Ok(Some(Rcode::FORMERR))),
            ("a cut question", plain[..plain.len() - 1].to_vec(), Ok(Some(Rcode::FORMERR))),
            ("a pointer as name", [&plain[..12], b"\xc0\x0c\0\x01\0\x01"].concat(), Ok(Some(Rcode::FORMERR))),
            ("a name of 255 octets", query(&long_name[..251], &[]), Ok(None)),
            ("an OPT", query("a.kz", &[OPT]), Ok(None)),
            ("two OPTs", query("a.kz", &[OPT, OPT]), Ok(Some(Rcode::FORMERR))),
            ("an OPT below a name", query("a.kz", &[&[&b"\x01a"[..], OPT].concat()]), Ok(Some(Rcode::FORMERR))),
            ("a cut option", query("a.kz", &[b"\0\0\x29\x10\0\0\0\0\0\0\x03\0\x03\0"]), Ok(Some(Rcode::FORMERR))),
            (
                "a cookie of nine octets",
                query("a.kz", &[b"\0\0\x29\x10\0\0\0\0\0\0\x0d\0\x0a\0\x09123456789"]),
                Ok(Some(Rcode::FORMERR)),
            ),
            ("a TSIG, which is not looked at", query("a.kz", &[b"\0\0\xfa\0\xff\0\0\0\0\0\x01x"]), Ok(None)),
        ] {
            assert_eq!(faulty(&message), expected, "{what}");
        }
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

        #[test]
        fn any_bytes_are_a_request_or_an_error(
            octets in proptest::collection::vec(any::<u8>(), 0..200),
            tail in proptest::collection::vec(any::<u8>(), 0..100),
            additionals in 0..4u8,
        ) {
            let _ = Request::read(&octets, &mut [0; MAX_NAME_LEN]);
            let mut message = query("a.kz", &[]);
            message[11] = additionals;
            message.extend(tail);
            let _ = Request::read(&message, &mut [0; MAX_NAME_LEN]);
        }
    }
}
