//! Messages from name servers, parsed into sets of records, and written again.
//!
//! [`parse`] takes what came off the network: names in data are expanded where
//! the type may hold compressed ones, a record that does not follow its type's
//! layout is left out, and everything is bounded by the message's own size.
//! [`write_answer`] is the way back; [`write_query`] makes what is sent.

use smallvec::SmallVec;

use crate::name::{DomainName, MAX_NAME_LEN, Name};
use crate::query::{Class, Rcode, RecordType};
use crate::wire::{self, HEADER_LEN, Header, Malformed, RecordView, Section, option};

/// The data of one record: uncompressed, letters in names as they came.
pub type Rdata = Box<[u8]>;

/// All records of one owner and type in one section, with the signatures over them. Class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RrSet {
    /// The owner.
    pub name: DomainName,
    /// The type.
    pub rtype: RecordType,
    /// The time to live in seconds: the least that any of the records has (RFC 2181, section 5.2).
    pub ttl: u32,
    /// The data of each record, without duplicates (RFC 2181, section 5).
    pub rdata: SmallVec<[Rdata; 2]>,
    /// The data of each RRSIG record that covers this type at this owner.
    pub signatures: SmallVec<[Rdata; 1]>,
}

impl RrSet {
    /// The names that the records point to: those of NS, CNAME, DNAME, PTR, MX, SRV and the like.
    pub fn targets(&self) -> impl Iterator<Item = DomainName> + '_ {
        let skip = match self.rtype {
            RecordType::MX | RecordType::KX | RecordType::AFSDB => Some(2),
            RecordType::SRV => Some(6),
            RecordType::NS | RecordType::CNAME | RecordType::DNAME | RecordType::PTR => Some(0),
            _ => None,
        };
        self.rdata.iter().filter_map(move |data| DomainName::from_wire(data.get(skip?..)?).ok())
    }

    /// Octets that the set takes, for caches that are bounded in bytes.
    pub fn weight(&self) -> usize {
        let data: usize = self.rdata.iter().chain(&self.signatures).map(|data| data.len() + 16).sum();
        size_of::<Self>() + self.name.as_wire().len().saturating_sub(40) + data
    }
}

/// A message from a name server, without its question and OPT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The response code, extended bits included.
    pub rcode: Rcode,
    /// The server says that it is an authority for the answer.
    pub authoritative: bool,
    /// The message did not fit and is cut off.
    pub truncated: bool,
    /// The server says that it resolves recursively.
    pub recursion_available: bool,
    /// The server says that the data is authentic.
    pub authentic_data: bool,
    /// The answer section, in the order of the message.
    pub answer: Vec<RrSet>,
    /// The authority section.
    pub authority: Vec<RrSet>,
    /// The additional section.
    pub additional: Vec<RrSet>,
    /// The server has sent an OPT record.
    pub edns: bool,
    /// The cookie in it (RFC 7873), of any length.
    pub cookie: Option<Box<[u8]>>,
    /// There were records whose data does not follow the layout of their type; they are left out.
    pub misshapen: bool,
}

/// More sets than this in a section are not a message that a name server means seriously.
const MAX_SETS: usize = 512;

/// Parses a message from a name server.
///
/// Records of another class than IN are left out, and so are records whose data does not follow the layout of their
/// type. A signature joins the set that it covers; one without a set becomes a set of type RRSIG.
///
/// # Errors
///
/// When the octets end early, a name is malformed, or a section has an absurd number of sets.
pub fn parse(octets: &[u8]) -> Result<Message, Malformed> {
    let header = Header::read(octets)?;
    let mut message = Message {
        rcode: header.rcode(),
        authoritative: header.has(Header::AA),
        truncated: header.has(Header::TC),
        recursion_available: header.has(Header::RA),
        authentic_data: header.has(Header::AD),
        ..Message::default()
    };
    let mut signatures: SmallVec<[RecordView; 8]> = SmallVec::new();
    for record in wire::records(octets, header) {
        let record = match record {
            Ok(record) => record,
            // What a truncated message holds so far is not used anyway.
            Err(Malformed) if message.truncated => break,
            Err(error) => return Err(error),
        };
        match record.rtype {
            RecordType::OPT if record.section == Section::Additional => {
                message.edns = true;
                message.rcode.0 |= ((record.ttl >> 24) as u16) << 4;
                message.cookie = cookie_of(record.data(octets)).map(Box::from);
            }
            RecordType::OPT | RecordType::TSIG => {}
            _ if record.class != Class::IN => {}
            RecordType::RRSIG => signatures.push(record),
            _ => message.file(octets, &record)?,
        }
    }
    for record in &signatures {
        message.file_signature(octets, record)?;
    }
    for set in message.answer.iter_mut().chain(&mut message.authority).chain(&mut message.additional) {
        drop_duplicates(&mut set.rdata);
        drop_duplicates(&mut set.signatures);
    }
    Ok(message)
}

impl Message {
    /// Puts a record into its set.
    fn file(&mut self, octets: &[u8], record: &RecordView) -> Result<(), Malformed> {
        let (name, _) = wire::read_name(octets, record.owner)?;
        let Some(data) = expand(octets, record) else {
            self.misshapen = true;
            return Ok(());
        };
        let sets = match record.section {
            Section::Answer => &mut self.answer,
            Section::Authority => &mut self.authority,
            Section::Additional => &mut self.additional,
        };
        // A TTL with the highest bit set counts as zero (RFC 2181, section 8).
        let ttl = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl };
        if let Some(set) = sets.iter_mut().rev().find(|set| set.rtype == record.rtype && set.name == name) {
            set.ttl = set.ttl.min(ttl);
            set.rdata.push(data);
            return Ok(());
        }
        if sets.len() >= MAX_SETS {
            return Err(Malformed);
        }
        let rdata = SmallVec::from_iter([data]);
        sets.push(RrSet { name, rtype: record.rtype, ttl, rdata, signatures: SmallVec::new() });
        Ok(())
    }

    /// Puts a signature with the set that it covers: in its own section, else in any; it proves itself.
    fn file_signature(&mut self, octets: &[u8], record: &RecordView) -> Result<(), Malformed> {
        let (name, _) = wire::read_name(octets, record.owner)?;
        let covered = record.data(octets).first_chunk().map(|octets| RecordType(u16::from_be_bytes(*octets)));
        let mut sections = [&mut self.answer, &mut self.authority, &mut self.additional];
        sections.rotate_left(record.section as usize);
        let set = sections.into_iter().flatten().find(|set| Some(set.rtype) == covered && set.name == name);
        if let Some(set) = set {
            set.signatures.extend(expand(octets, record));
            return Ok(());
        }
        self.file(octets, record)
    }

    /// All sets of all sections.
    pub fn sets(&self) -> impl Iterator<Item = &RrSet> {
        self.answer.iter().chain(&self.authority).chain(&self.additional)
    }
}

fn drop_duplicates<A: smallvec::Array<Item = Rdata>>(data: &mut SmallVec<A>) {
    if data.len() < 2 {
        return;
    }
    let mut order: SmallVec<[usize; 16]> = (0..data.len()).collect();
    order.sort_by(|&a, &b| data[a].cmp(&data[b]).then(a.cmp(&b)));
    let repeated: SmallVec<[usize; 4]> =
        order.windows(2).filter(|pair| data[pair[0]] == data[pair[1]]).map(|pair| pair[1]).collect();
    if !repeated.is_empty() {
        let mut index = 0;
        data.retain(|_| {
            index += 1;
            !repeated.contains(&(index - 1))
        });
    }
}

/// What a type's data consists of, as far as names are in it or its length is fixed.
#[derive(Debug, Clone, Copy)]
enum Field {
    /// A domain name.
    Name,
    /// This many octets.
    Octets(usize),
    /// A character string (RFC 1035, section 3.3).
    Text,
    /// One or more character strings up to the end.
    Texts,
    /// Anything up to the end, at least this much.
    Rest(usize),
}

/// The layout of each type that has names or a fixed length (RFC 1035; RFC 3597, section 4; RFC 4034).
fn layout(rtype: RecordType) -> &'static [Field] {
    use Field::{Name, Octets, Rest, Text, Texts};
    match rtype {
        RecordType::A => &[Octets(4)],
        RecordType::AAAA => &[Octets(16)],
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, DNAME
        RecordType(2..=5 | 7..=9 | 12 | 39) => &[Name],
        RecordType::SOA => &[Name, Name, Octets(20)],
        // MX, AFSDB, RT, KX
        RecordType(15 | 18 | 21 | 36) => &[Octets(2), Name],
        // MINFO, RP
        RecordType(14 | 17) => &[Name, Name],
        RecordType::HINFO => &[Text, Text],
        RecordType::TXT | RecordType::SPF => &[Texts],
        RecordType::SRV => &[Octets(6), Name],
        RecordType::NAPTR => &[Octets(4), Text, Text, Text, Name],
        // PX
        RecordType(26) => &[Octets(2), Name, Name],
        RecordType::SIG | RecordType::RRSIG => &[Octets(18), Name, Rest(1)],
        // NXT
        RecordType(30) | RecordType::NSEC => &[Name, Rest(0)],
        RecordType::DS | RecordType::DNSKEY => &[Octets(4), Rest(1)],
        RecordType::NSEC3 => &[Rest(6)],
        RecordType::SVCB | RecordType::HTTPS => &[Octets(2), Name, Rest(0)],
        _ => &[Rest(0)],
    }
}

/// The data of a record with its names expanded, or `None` when it does not follow its type's layout.
fn expand(octets: &[u8], record: &RecordView) -> Option<Rdata> {
    let (mut at, end) = (record.rdata, record.end());
    let fields = layout(record.rtype);
    if let [Field::Rest(least)] = fields {
        return (record.rdata_len >= *least).then(|| record.data(octets).into());
    }
    let mut data: SmallVec<[u8; 256]> = SmallVec::new();
    for field in fields {
        let stop = match *field {
            Field::Name => {
                let mut name = [0; MAX_NAME_LEN];
                let (len, next) = wire::expand_name(octets, at, &mut name).ok()?;
                data.extend_from_slice(&name[..len]);
                at = next;
                continue;
            }
            Field::Octets(len) => at + len,
            Field::Text => at + 1 + usize::from(*octets.get(at)?),
            Field::Texts => {
                let mut stop = at + 1 + usize::from(*octets.get(at)?);
                while stop < end {
                    stop += 1 + usize::from(octets[stop]);
                }
                stop
            }
            Field::Rest(least) => (end >= at + least).then_some(end)?,
        };
        if stop > end {
            return None;
        }
        data.extend_from_slice(&octets[at..stop]);
        at = stop;
    }
    (at == end).then(|| data[..].into())
}

/// The value of the COOKIE option among `options`; none when they are malformed.
fn cookie_of(mut options: &[u8]) -> Option<&[u8]> {
    loop {
        let (head, rest) = options.split_first_chunk::<4>()?;
        let [code, len] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_be_bytes);
        let (value, rest) = rest.split_at_checked(usize::from(len))?;
        if code == option::COOKIE {
            return Some(value);
        }
        options = rest;
    }
}

/// What a query carries beside its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryOptions<'a> {
    /// The identifier.
    pub id: u16,
    /// RD: the server is to resolve for us.
    pub recursion_desired: bool,
    /// CD: the server is not to withhold what it cannot validate (RFC 6840, section 5.9).
    pub checking_disabled: bool,
    /// Our payload size and DO, or no OPT record.
    pub edns: Option<(u16, bool)>,
    /// A cookie in the OPT record, or nothing (RFC 7873).
    pub cookie: &'a [u8],
    /// One bit for each letter of the name: whether it is sent in upper case.
    pub case: Option<u128>,
}

/// Makes a query.
pub fn write_query(name: &Name, qtype: RecordType, options: QueryOptions<'_>) -> SmallVec<[u8; 320]> {
    let flags =
        if options.recursion_desired { Header::RD } else { 0 } | if options.checking_disabled { Header::CD } else { 0 };
    let header = Header { id: options.id, flags, counts: [1, 0, 0, u16::from(options.edns.is_some())] };
    let mut query: SmallVec<[u8; 320]> = SmallVec::new();
    query.extend_from_slice(&header.to_bytes());
    query.extend_from_slice(name.as_wire());
    if let Some(mut bits) = options.case {
        for octet in query[HEADER_LEN..].iter_mut().filter(|octet| octet.is_ascii_lowercase()) {
            // Length octets are at most 63 and no letters.
            *octet ^= ((bits & 1) as u8) << 5;
            bits = bits.rotate_right(1);
        }
        // All lower case is what somebody guesses who knows nothing.
        let name = &mut query[HEADER_LEN..];
        if !name.iter().any(u8::is_ascii_uppercase)
            && let Some(first) = name.iter_mut().find(|octet| octet.is_ascii_lowercase())
        {
            *first ^= 0x20;
        }
    }
    query.extend_from_slice(&qtype.0.to_be_bytes());
    query.extend_from_slice(&Class::IN.0.to_be_bytes());
    if let Some((payload, dnssec_ok)) = options.edns {
        query.extend_from_slice(&[0, 0, 41]);
        query.extend_from_slice(&payload.to_be_bytes());
        query.extend_from_slice(&[0, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
        write_options(&mut query, options.cookie);
    }
    query
}

/// Writes the data of an OPT record behind its length: a cookie, or no option at all.
fn write_options(octets: &mut impl Extend<u8>, cookie: &[u8]) {
    let len = cookie.len() as u16;
    if cookie.is_empty() {
        octets.extend([0, 0]);
    } else {
        octets.extend([len + 4, option::COOKIE, len].into_iter().flat_map(u16::to_be_bytes));
        octets.extend(cookie.iter().copied());
    }
}

/// Writes an answer as [`Resolution::message`](super::Resolution::message) wants it.
///
/// Without `dnssec`, signatures are left out, and so are sets of the authority section that only prove something.
pub fn write_answer<'a>(
    question: (&Name, RecordType),
    rcode: Rcode,
    answer: impl Iterator<Item = &'a RrSet>,
    authority: impl Iterator<Item = &'a RrSet>,
    dnssec: bool,
) -> Vec<u8> {
    let mut writer = Writer { octets: Vec::with_capacity(256), suffixes: SmallVec::new() };
    writer.octets.extend_from_slice(&[0; HEADER_LEN]);
    writer.name(question.0.as_wire());
    writer.octets.extend_from_slice(&question.1.0.to_be_bytes());
    writer.octets.extend_from_slice(&Class::IN.0.to_be_bytes());
    let mut counts = [1, 0, 0, 0];
    for set in answer {
        counts[1] += writer.set(set, dnssec);
    }
    for set in authority.filter(|set| dnssec || !is_proof(set.rtype)) {
        counts[2] += writer.set(set, dnssec);
    }
    let flags = Header::QR | Header::RA | (rcode.0 & 0x000f);
    writer.octets[..HEADER_LEN].copy_from_slice(&Header { id: 0, flags, counts }.to_bytes());
    writer.octets
}

/// Writes what a server says to `query`; for tests.
#[cfg(test)]
pub(super) fn write_reply(query: &[u8], message: &Message) -> Vec<u8> {
    let (_, end) = wire::read_name(query, HEADER_LEN).expect("our own queries have a question");
    let mut writer = Writer { octets: query[..end + 4].to_vec(), suffixes: SmallVec::new() };
    let mut counts = [1, 0, 0, 0];
    for (count, sets) in counts[1..].iter_mut().zip([&message.answer, &message.authority, &message.additional]) {
        *count = sets.iter().map(|set| writer.set(set, true)).sum();
    }
    if message.edns {
        counts[3] += 1;
        writer.octets.extend([0, 0, 41, 4, 0xd0, (message.rcode.0 >> 4) as u8, 0, 0, 0]);
        write_options(&mut writer.octets, message.cookie.as_deref().unwrap_or_default());
    }
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = Header::QR
        | flag(message.authoritative, Header::AA)
        | flag(message.truncated, Header::TC)
        | flag(message.recursion_available, Header::RA)
        | message.rcode.0 & 0x000f;
    let id = u16::from_be_bytes([query[0], query[1]]);
    writer.octets[..HEADER_LEN].copy_from_slice(&Header { id, flags, counts }.to_bytes());
    writer.octets
}

/// Whether records of this type stand in an authority section only to prove something.
pub fn is_proof(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::NSEC | RecordType::NSEC3 | RecordType::DS)
}

/// Writes names with compression (RFC 1035, section 4.1.4).
struct Writer {
    octets: Vec<u8>,
    /// Where names begin that a pointer may lead to; a bounded number.
    suffixes: SmallVec<[u16; 32]>,
}

/// No more suffixes than this are remembered, so that writing stays linear.
const MAX_SUFFIXES: usize = 64;
/// Pointers reach this far.
const MAX_POINTER: usize = 0x3fff;

impl Writer {
    fn set(&mut self, set: &RrSet, dnssec: bool) -> u16 {
        let mut written = 0;
        for data in &set.rdata {
            written += u16::from(self.record(set, set.rtype, data));
        }
        if dnssec {
            for data in &set.signatures {
                written += u16::from(self.record(set, RecordType::RRSIG, data));
            }
        }
        written
    }

    /// Writes one record; `false` when the message is full.
    fn record(&mut self, set: &RrSet, rtype: RecordType, data: &[u8]) -> bool {
        if self.octets.len() + set.name.as_wire().len() + 10 + data.len() > usize::from(u16::MAX) {
            return false;
        }
        self.name(set.name.as_wire());
        self.octets.extend_from_slice(&rtype.0.to_be_bytes());
        self.octets.extend_from_slice(&Class::IN.0.to_be_bytes());
        self.octets.extend_from_slice(&set.ttl.to_be_bytes());
        let length_at = self.octets.len();
        self.octets.extend_from_slice(&[0, 0]);
        // Only types of RFC 1035 may be compressed (RFC 3597, section 4).
        let names_at = match rtype {
            RecordType::NS | RecordType::CNAME | RecordType::PTR => Some((0, 1)),
            RecordType::SOA => Some((0, 2)),
            RecordType::MX => Some((2, 1)),
            _ => None,
        };
        match names_at.and_then(|(skip, names)| Some((data.get(..skip)?, data.get(skip..)?, names))) {
            Some((head, mut rest, names)) => {
                self.octets.extend_from_slice(head);
                for _ in 0..names {
                    let len = uncompressed_len(rest);
                    self.name(&rest[..len]);
                    rest = &rest[len..];
                }
                self.octets.extend_from_slice(rest);
            }
            None => self.octets.extend_from_slice(data),
        }
        let len = (self.octets.len() - length_at - 2) as u16;
        self.octets[length_at..length_at + 2].copy_from_slice(&len.to_be_bytes());
        true
    }

    /// Writes an uncompressed `name`, its ending as a pointer when it stands in the message already.
    fn name(&mut self, name: &[u8]) {
        let mut rest = name;
        while let Some(&len) = rest.first().filter(|len| **len > 0) {
            let known = self.suffixes.iter().find(|at| self.stands_at(usize::from(**at), rest));
            if let Some(&at) = known {
                self.octets.extend_from_slice(&(0xc000 | at).to_be_bytes());
                return;
            }
            let at = self.octets.len();
            if at <= MAX_POINTER && self.suffixes.len() < MAX_SUFFIXES {
                self.suffixes.push(at as u16);
            }
            let (label, after) = rest.split_at(1 + usize::from(len));
            self.octets.extend_from_slice(label);
            rest = after;
        }
        self.octets.push(0);
    }

    /// Whether the name at `at` is `name`, letter for letter.
    fn stands_at(&self, mut at: usize, mut name: &[u8]) -> bool {
        loop {
            // What we wrote ourselves is well formed, but the name in work may not be finished.
            let Some(&len) = self.octets.get(at) else { return false };
            if len >= 0xc0 {
                let Some(&low) = self.octets.get(at + 1) else { return false };
                at = usize::from(len & 0x3f) << 8 | usize::from(low);
                continue;
            }
            let end = 1 + usize::from(len);
            match (self.octets.get(at..at + end), name.get(..end)) {
                (Some(here), Some(label)) if here == label => {}
                _ => return false,
            }
            if len == 0 {
                return true;
            }
            at += end;
            name = &name[end..];
        }
    }
}

/// The name that uncompressed `data` begins with.
pub fn leading_name(data: &[u8]) -> Option<DomainName> {
    DomainName::from_wire(&data[..uncompressed_len(data)]).ok()
}

/// Octets of the name that `data` begins with; all of it when there is none.
fn uncompressed_len(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&len) = data.get(at).filter(|len| **len > 0 && **len <= 63) {
        at += 1 + usize::from(len);
    }
    (at + 1).min(data.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    fn set(owner: &str, rtype: RecordType, rdata: &[&[u8]]) -> RrSet {
        let rdata = rdata.iter().map(|data| Rdata::from(*data)).collect();
        RrSet { name: name(owner), rtype, ttl: 300, rdata, signatures: SmallVec::new() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut address = set("www.example.kz", RecordType::A, &[&[192, 0, 2, 1], &[192, 0, 2, 2]]);
        let mut signature = RecordType::A.0.to_be_bytes().to_vec();
        signature.extend([13, 3, 0, 0, 1, 44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        signature.extend(name("example.kz").as_wire());
        signature.extend([1, 2, 3]);
        address.signatures.push(signature.into());
        let alias = set("a.example.kz", RecordType::CNAME, &[name("www.example.kz").as_wire()]);
        let mail = set("example.kz", RecordType::MX, &[&[&[0, 10], name("mx.example.kz").as_wire()].concat()]);

        let answer = [alias, address];
        let octets = write_answer(
            (&name("a.example.kz"), RecordType::A),
            Rcode::NXDOMAIN,
            answer.iter(),
            [&mail].into_iter(),
            true,
        );
        let message = parse(&octets).unwrap();
        assert_eq!(message.rcode, Rcode::NXDOMAIN);
        assert_eq!(message.answer, answer);
        assert_eq!(message.authority, [mail]);
        assert!(octets.len() < 170, "names are compressed: {}", octets.len());
    }

    #[test]
    fn signatures_and_proofs_go_only_to_those_who_asked() {
        let mut address = set("x.kz", RecordType::A, &[&[192, 0, 2, 1]]);
        address.signatures.push([&[0; 18][..], &[0], &[9]].concat().into());
        let proof = set("y.kz", RecordType::NSEC, &[&[0]]);
        let question = (&*name("x.kz"), RecordType::A);
        let octets = write_answer(question, Rcode::NOERROR, [&address].into_iter(), [&proof].into_iter(), false);
        assert_eq!(Header::read(&octets).unwrap().counts, [1, 1, 0, 0]);
    }

    #[test]
    fn data_that_breaks_its_layout_is_left_out() {
        let sets = [
            set("a.kz", RecordType::A, &[&[1, 2, 3]]),
            set("b.kz", RecordType::AAAA, &[&[0; 17]]),
            set("c.kz", RecordType::TXT, &[&[4, b'a']]),
            set("d.kz", RecordType::SRV, &[&[0, 0, 0, 0, 0]]),
            set("e.kz", RecordType::A, &[&[1, 2, 3, 4]]),
        ];
        let question = (&*name("a.kz"), RecordType::ANY);
        let octets = write_answer(question, Rcode::NOERROR, sets.iter(), [].into_iter(), false);
        let read = parse(&octets).unwrap().answer;
        assert_eq!(read, sets[4..]);
    }

    #[test]
    fn a_query_carries_its_options_and_its_letters_case() {
        let options = QueryOptions {
            id: 7,
            recursion_desired: false,
            checking_disabled: true,
            edns: Some((1232, true)),
            cookie: &[],
            case: Some(0b101),
        };
        let query = write_query(&name("a1b.kz"), RecordType::A, options);
        assert_eq!(&query[..HEADER_LEN], b"\0\x07\0\x10\0\x01\0\0\0\0\0\x01");
        assert_eq!(&query[12..], b"\x03A1b\x02Kz\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\0");
        let query = write_query(&name("kz"), RecordType::A, QueryOptions { cookie: b"12345678", ..options });
        assert!(query.ends_with(b"\0\0\x29\x04\xd0\0\0\x80\0\0\x0c\0\x0a\0\x0812345678"));
    }

    #[test]
    fn a_record_that_comes_twice_counts_once() {
        let twice = set("a.kz", RecordType::A, &[&[1, 2, 3, 4], &[4, 3, 2, 1], &[1, 2, 3, 4]]);
        let question = (&*name("a.kz"), RecordType::A);
        let octets = write_answer(question, Rcode::NOERROR, [&twice].into_iter(), [].into_iter(), false);
        let read = parse(&octets).unwrap().answer;
        assert_eq!(read, [set("a.kz", RecordType::A, &[&[1, 2, 3, 4], &[4, 3, 2, 1]])]);
    }

    proptest! {
        #[test]
        fn any_octets_are_a_message_or_an_error(
            counts in any::<[u8; 3]>(),
            body in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let [an, ns, ar] = counts.map(|count| u16::from(count % 8));
            let header = Header { id: 1, flags: Header::QR, counts: [0, an, ns, ar] };
            let octets = [&header.to_bytes()[..], &body].concat();
            if let Ok(message) = parse(&octets) {
                // What was understood can be written, and is understood again.
                let question = (Name::root(), RecordType::ANY);
                let (answer, authority) = (message.answer.iter(), message.authority.iter());
                let again = write_answer(question, message.rcode, answer, authority, true);
                prop_assert!(parse(&again).is_ok());
            }
        }

        #[test]
        fn names_are_written_so_that_they_can_be_read(labels in proptest::collection::vec("[a-c]{1,3}", 1..30)) {
            let names: Vec<DomainName> = labels.windows(3).map(|window| name(&window.join("."))).collect();
            let sets: Vec<RrSet> = names.iter().map(|owner| RrSet {
                name: owner.clone(),
                rtype: RecordType::NS,
                ttl: 1,
                rdata: SmallVec::from_iter([Rdata::from(owner.as_wire())]),
                signatures: SmallVec::new(),
            }).collect();
            let question = (Name::root(), RecordType::NS);
            let octets = write_answer(question, Rcode::NOERROR, sets.iter(), [].into_iter(), false);
            let read = parse(&octets).unwrap().answer;
            for set in &sets {
                prop_assert!(read.iter().any(|found| found == set), "{:?}", set.name);
            }
        }
    }
}
