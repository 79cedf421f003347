//! DNS messages as the servers of the test internet read and write them.
//!
//! Nothing here is shared with the resolver except names and the walk over
//! records, so that a mistake in its encoder cannot hide itself.

use std::net::IpAddr;

use qalqan::name::{DomainName, Name};
use qalqan::query::{ExtendedError, RecordType};
use qalqan::wire::{self, HEADER_LEN, Header, Section};

/// A query as a server sees it.
#[derive(Debug, Clone)]
pub struct Query {
    pub header: Header,
    /// The question as sent: letters' case, type and class included.
    pub question: Vec<u8>,
    pub name: DomainName,
    pub qtype: RecordType,
    /// The OPT record's class, TTL field and data, when there is one.
    pub edns: Option<Edns>,
}

/// What a query's OPT record says (RFC 6891, section 6.1.2).
#[derive(Debug, Clone, Copy)]
pub struct Edns {
    pub payload: u16,
    pub dnssec_ok: bool,
}

impl Query {
    /// Reads a query; `None` for anything else.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = Header::read(bytes).ok()?;
        if header.has(Header::QR) || header.counts[0] != 1 {
            return None;
        }
        let (name, end) = wire::read_name(bytes, HEADER_LEN).ok()?;
        let question = bytes.get(HEADER_LEN..end + 4)?.to_vec();
        let qtype = RecordType(u16::from_be_bytes([bytes[end], bytes[end + 1]]));
        let edns = wire::records(bytes, header)
            .filter_map(Result::ok)
            .find(|record| record.section == Section::Additional && record.rtype == RecordType::OPT)
            .map(|opt| Edns { payload: opt.class.0, dnssec_ok: opt.ttl & 0x8000 != 0 });
        Some(Self { header, question, name, qtype, edns })
    }

    /// Whether the name has a capital letter (0x20).
    pub fn has_capitals(&self) -> bool {
        self.question.iter().any(u8::is_ascii_uppercase)
    }

    /// How large a datagram may be that answers this query.
    pub fn payload(&self) -> usize {
        usize::from(self.edns.map_or(512, |edns| edns.payload.max(512)))
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: DomainName,
    pub rtype: RecordType,
    pub class: u16,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

impl Record {
    pub fn new(name: &Name, rtype: RecordType, ttl: u32, rdata: Vec<u8>) -> Self {
        Self { name: name.to_owned(), rtype, class: 1, ttl, rdata }
    }

    /// An A or AAAA record.
    pub fn address(name: &Name, ttl: u32, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::new(name, RecordType::A, ttl, address.octets().to_vec()),
            IpAddr::V6(address) => Self::new(name, RecordType::AAAA, ttl, address.octets().to_vec()),
        }
    }

    /// The name in the data of an NS, CNAME, DNAME or PTR record.
    pub fn target(&self) -> Option<DomainName> {
        DomainName::from_wire(&self.rdata).ok()
    }
}

/// A reply before it becomes bytes; the faults bend its parts.
#[derive(Debug, Clone)]
pub struct Reply {
    pub id: u16,
    pub flags: u16,
    pub rcode: u16,
    pub question: Option<Vec<u8>>,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    /// OPT records, whole.
    pub opts: Vec<Vec<u8>>,
}

impl Reply {
    /// A reply to nobody.
    pub fn empty() -> Self {
        Self {
            id: 0,
            flags: Header::QR,
            rcode: 0,
            question: None,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            opts: Vec::new(),
        }
    }

    /// An empty NOERROR reply.
    pub fn to(query: &Query) -> Self {
        Self {
            id: query.header.id,
            flags: Header::QR | query.header.flags & (Header::RD | Header::OPCODE_MASK),
            question: Some(query.question.clone()),
            opts: query.edns.map(|edns| opt(1232, 0, edns.dnssec_ok, &[])).into_iter().collect(),
            ..Self::empty()
        }
    }

    /// An empty reply with this response code.
    pub fn failure(query: &Query, rcode: u16) -> Self {
        Self { rcode, ..Self::to(query) }
    }

    /// The reply as bytes. Owners that equal the question become pointers, as most servers write them.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Header {
            id: self.id,
            flags: self.flags | self.rcode & 0xf,
            counts: [
                u16::from(self.question.is_some()),
                self.answer.len() as u16,
                self.authority.len() as u16,
                (self.additional.len() + self.opts.len()) as u16,
            ],
        }
        .to_bytes()
        .to_vec();
        let question = self.question.as_deref().unwrap_or_default();
        bytes.extend(question);
        let asked = question.len().checked_sub(4).and_then(|end| DomainName::from_wire(&question[..end]).ok());
        for record in self.answer.iter().chain(&self.authority).chain(&self.additional) {
            if Some(&record.name) == asked.as_ref() && !record.name.is_root() {
                bytes.extend([0xc0, HEADER_LEN as u8]);
            } else {
                bytes.extend(record.name.as_wire());
            }
            bytes.extend(record.rtype.0.to_be_bytes());
            bytes.extend(record.class.to_be_bytes());
            bytes.extend(record.ttl.to_be_bytes());
            bytes.extend((record.rdata.len() as u16).to_be_bytes());
            bytes.extend(&record.rdata);
        }
        for opt in &self.opts {
            bytes.extend(opt);
        }
        bytes
    }
}

/// An OPT record, whole (RFC 6891, section 6.1.2). `upper` is the upper part of an extended response code.
pub fn opt(payload: u16, upper: u8, dnssec_ok: bool, options: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, RecordType::OPT.0 as u8];
    record.extend(payload.to_be_bytes());
    record.extend([upper, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
    record.extend((options.len() as u16).to_be_bytes());
    record.extend(options);
    record
}

/// A client's query: RD set, an OPT record so that errors come explained.
pub fn ask(id: u16, name: &Name, qtype: RecordType) -> Vec<u8> {
    let mut bytes = Header { id, flags: Header::RD, counts: [1, 0, 0, 1] }.to_bytes().to_vec();
    bytes.extend(name.as_wire());
    bytes.extend(qtype.0.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(opt(1232, 0, false, &[]));
    bytes
}

/// What a resolver told its client.
#[derive(Debug, Clone)]
pub struct Answer {
    pub rcode: u16,
    pub truncated: bool,
    pub answer: Vec<Record>,
    /// The INFO-CODEs of its Extended DNS Errors.
    pub errors: Vec<u16>,
}

impl Answer {
    /// Reads a reply; `None` when it is malformed.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = Header::read(bytes).ok()?;
        let mut answer =
            Self { rcode: header.rcode().0, truncated: header.has(Header::TC), answer: Vec::new(), errors: Vec::new() };
        for record in wire::records(bytes, header) {
            let record = record.ok()?;
            if record.section == Section::Answer {
                let rdata = match record.rtype {
                    RecordType::NS | RecordType::CNAME | RecordType::DNAME | RecordType::PTR => {
                        wire::read_name(bytes, record.rdata).ok()?.0.as_wire().to_vec()
                    }
                    _ => record.data(bytes).to_vec(),
                };
                let (name, _) = wire::read_name(bytes, record.owner).ok()?;
                answer.answer.push(Record { name, rtype: record.rtype, class: record.class.0, ttl: record.ttl, rdata });
            } else if record.rtype == RecordType::OPT {
                answer.rcode |= ((record.ttl >> 24) as u16) << 4;
                let mut options = record.data(bytes);
                while let [a, b, c, d, rest @ ..] = options {
                    let len = usize::from(u16::from_be_bytes([*c, *d]));
                    let data = rest.get(..len)?;
                    if u16::from_be_bytes([*a, *b]) == 15 {
                        answer.errors.push(u16::from_be_bytes([*data.first()?, *data.get(1)?]));
                    }
                    options = &rest[len..];
                }
            }
        }
        Some(answer)
    }

    /// Whether it says that no authority can be reached, or could a moment ago (RFC 8914, sections 4.23 and 4.14).
    pub fn explains_unreachable(&self) -> bool {
        let codes = [ExtendedError::NO_REACHABLE_AUTHORITY, ExtendedError::CACHED_ERROR];
        codes.iter().any(|code| self.errors.contains(code))
    }
}
