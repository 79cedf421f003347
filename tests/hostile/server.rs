//! Name servers with faults: what one of them does with one query.
//!
//! A [`Server`] answers honestly from its zones, then its faults bend the
//! reply. What comes out says which messages leave when and from where; how
//! they travel is the work of [`network`](crate::network) and
//! [`live`](crate::live).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qalqan::name::{DomainName, Name};
use qalqan::query::RecordType;
use qalqan::wire::Header;

use crate::message::{Query, Record, Reply, opt};
use crate::zone::Zone;

pub const FORMERR: u16 = 1;
pub const SERVFAIL: u16 = 2;
pub const NXDOMAIN: u16 = 3;
pub const NOTIMP: u16 = 4;
pub const REFUSED: u16 = 5;
pub const NOTAUTH: u16 = 9;
const BADVERS: u16 = 16;

/// How a query reached a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Udp,
    Tcp,
}

/// Where a message claims to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The server that was asked.
    Server,
    /// The server's address, another port.
    OtherPort,
    /// Another address.
    OtherAddress,
}

/// One message on its way to the resolver.
#[derive(Debug, Clone)]
pub struct Sent {
    pub after: Duration,
    pub source: Source,
    pub bytes: Vec<u8>,
    /// Over a stream, how long each octet takes.
    pub pace: Duration,
}

/// What comes of a query.
#[derive(Debug)]
pub enum Reaction {
    /// These messages; perhaps none.
    Messages(Vec<Sent>),
    /// ICMP unreachable, or a TCP reset.
    Unreachable,
    /// The TCP connection is accepted and closed.
    Closed,
    /// The TCP connection is closed within this reply.
    BrokenOff(Vec<u8>),
}

/// When a fault shows.
#[derive(Debug, Clone)]
pub enum When {
    Udp,
    Tcp,
    /// The query has an OPT record.
    Edns,
    /// The query has DO set.
    DnssecOk,
    /// The query's name has capitals.
    Capitals,
    Type(RecordType),
    /// Types other than this.
    NotType(RecordType),
    /// The name has no records of its own but has names below it.
    EmptyNonTerminal,
    /// The name lies at or below this one.
    Below(DomainName),
    /// The name is this one.
    Name(DomainName),
    /// So many seconds from the first query that any server sees.
    Before(u64),
    /// The first so many queries that the server sees.
    First(u32),
    /// Each so-many-th query, beginning with the first.
    Every(u32),
    /// So many of a hundred queries, by chance.
    Percent(u32),
    /// So many queries for which the conditions before this one hold have come already.
    After(u32),
}

/// A lie about records.
#[derive(Debug, Clone)]
pub enum Part {
    Answer,
    Authority,
    Additional,
}

/// A message that an attacker sends ahead of the true reply, by what is wrong with it.
#[derive(Debug, Clone, Copy)]
pub enum Spoof {
    Id,
    Port,
    Address,
    Question,
    /// All right but the letters' case, which the attacker cannot see.
    Case,
}

/// What a server does wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The rest only when all conditions hold.
    If(Vec<When>, Box<Fault>),
    Silent,
    /// Answers after so many milliseconds.
    Slow(u64),
    /// ICMP unreachable; over TCP a reset.
    Unreachable,
    TcpClosed,
    /// Over TCP, closes the connection in the middle of its reply.
    BreaksOff,
    /// Over TCP, sends octet by octet, so many microseconds each.
    Trickles(u64),
    /// Answers from another address than was asked.
    FromElsewhere,
    /// An empty reply with this code, as if the zone were not there.
    Rcode(u16),
    /// A header with this code and nothing else.
    HeaderOnly(u16),
    /// BADVERS, for whatever EDNS version.
    BadVersion,
    /// The true reply with another identifier.
    WrongId,
    /// The true reply to another question.
    WrongQuestion,
    /// The true reply with the question left out.
    NoQuestion,
    /// The true reply with the question's letters all lower case.
    LowerCase,
    /// QR is not set.
    NotReply,
    /// A forged reply with the poison, then the true one.
    Spoofed(Spoof),
    /// No OPT although the query has one.
    NoOpt,
    /// An OPT with options that nobody knows, of odd sizes, and an echo of version 1.
    JunkOpt,
    TwoOpts,
    /// An OPT whose data is broken.
    BrokenOpt,
    /// TC set, sections empty.
    Truncates,
    /// TC set, all records there.
    TruncatesNothing,
    /// Ignores the resolver's payload size: 3000 octets of padding records behind the reply.
    Oversized,
    /// Datagrams with more octets than this get lost on the way, as fragments do.
    LosesLarge(usize),
    /// Refers to the root servers.
    RefersUpward,
    /// Refers to the zone it should answer for.
    RefersToItself,
    /// Refers to this name with this server (name and address).
    RefersTo(DomainName, DomainName, IpAddr),
    /// AA is not set.
    NotAuthoritative,
    /// RA is set and AA is not, as a forwarder replies.
    Forwarder,
    /// This code in place of the true one, sections as they are.
    Code(u16),
    /// NXDOMAIN with an SOA record.
    DeniesName,
    /// NOERROR, no answer, an SOA record.
    DeniesType,
    /// No SOA record in negative answers.
    NoSoa,
    /// The SOA record of this zone in negative answers.
    ForeignSoa(DomainName),
    /// No authority, no additional section.
    Bare,
    /// NOERROR with nothing at all.
    Empty,
    /// Records of the answer get this type.
    WrongType(RecordType),
    /// Records of the answer get this class.
    WrongClass(u16),
    /// Records of the answer get this owner.
    WrongOwner(DomainName),
    /// Drops the CNAME records that a DNAME makes.
    NoSynthesis,
    /// Answers end at the first CNAME, sections after it are empty.
    StopsAtCname,
    /// All TTLs become this.
    Ttl(u32),
    /// Adds a record.
    Adds(Part, Record),
    /// Everything under the sun is this address; NS is what it pleases.
    Evil(IpAddr),
    /// Random octets in place of the reply.
    Garbage,
    /// The header's identifier and random octets.
    GarbageBody,
    /// The first half of the reply.
    Half,
    /// Five octets.
    Stub,
    /// The first owner is a pointer to itself.
    CompressionLoop,
    /// ANCOUNT says more than there is.
    CountsTooMany,
    /// Octets behind the last record.
    TrailingJunk,
    /// The reply three times.
    Thrice,
    /// The records in the order in which the answer comes last first.
    Reversed,
    /// The Z bit, AD and CD set.
    OddFlags,
    /// OPCODE 2.
    WrongOpcode,
}

impl Fault {
    pub fn when(self, conditions: impl IntoIterator<Item = When>) -> Self {
        Self::If(conditions.into_iter().collect(), Box::new(self))
    }
}

/// A name server at one address.
#[derive(Debug, Default)]
pub struct Server {
    /// Places in the world's list of zones.
    pub zones: Vec<usize>,
    /// Each with the number of queries that [`When::After`] has counted.
    pub faults: Vec<(Fault, AtomicU32)>,
    /// Queries that reached it.
    pub seen: AtomicU32,
}

/// A reply that faults are still at work on.
struct Draft {
    reply: Reply,
    delay: Duration,
    before: Vec<Sent>,
    /// What is done to the octets, in order.
    octets: Vec<Fault>,
    copies: usize,
    oversized: bool,
    largest: usize,
    source: Source,
    pace: Duration,
    breaks_off: bool,
}

impl Server {
    /// What this server does with a message. `zones` are the world's, and so is its `age`; `chance` is a number that
    /// the world draws.
    pub fn react(
        &self,
        zones: &[(Zone, bool)],
        bytes: &[u8],
        carrier: Carrier,
        age: Duration,
        chance: u32,
    ) -> Reaction {
        let count = self.seen.fetch_add(1, Ordering::Relaxed);
        let Some(query) = Query::read(bytes) else {
            return Reaction::Messages(Vec::new());
        };
        let enclosing =
            self.zones.iter().map(|at| &zones[*at].0).filter(|zone| query.name.is_at_or_below(&zone.origin));
        let zone = enclosing.max_by_key(|zone| zone.origin.label_count());
        let mut draft = Draft {
            reply: Reply::to(&query),
            delay: Duration::ZERO,
            before: Vec::new(),
            octets: Vec::new(),
            copies: 1,
            oversized: false,
            largest: usize::MAX,
            source: Source::Server,
            pace: Duration::ZERO,
            breaks_off: false,
        };
        match zone {
            Some(zone) => zone.answer(&query.name, query.qtype, &mut draft.reply),
            None => draft.reply.rcode = REFUSED,
        }
        for (fault, hits) in &self.faults {
            let mut fault = fault;
            while let Fault::If(conditions, inner) = fault {
                let holds = |when| holds(when, &query, zone, carrier, age, [count, chance], hits);
                if !conditions.iter().all(holds) {
                    break;
                }
                fault = inner;
            }
            match fault {
                Fault::If(..) => {}
                Fault::Silent => return Reaction::Messages(Vec::new()),
                Fault::Unreachable => return Reaction::Unreachable,
                Fault::TcpClosed if carrier == Carrier::Tcp => return Reaction::Closed,
                fault => draft.bend(fault, &query, zone),
            }
        }
        let breaks_off = draft.breaks_off && carrier == Carrier::Tcp;
        let mut sent = draft.finish(&query, carrier, chance);
        match sent.pop() {
            Some(last) if breaks_off => Reaction::BrokenOff(last.bytes),
            last => {
                sent.extend(last);
                Reaction::Messages(sent)
            }
        }
    }
}

fn holds(
    when: &When,
    query: &Query,
    zone: Option<&Zone>,
    carrier: Carrier,
    age: Duration,
    [count, chance]: [u32; 2],
    hits: &AtomicU32,
) -> bool {
    match when {
        When::Udp => carrier == Carrier::Udp,
        When::Tcp => carrier == Carrier::Tcp,
        When::Edns => query.edns.is_some(),
        When::DnssecOk => query.edns.is_some_and(|edns| edns.dnssec_ok),
        When::Capitals => query.has_capitals(),
        When::Type(rtype) => query.qtype == *rtype,
        When::NotType(rtype) => query.qtype != *rtype,
        When::EmptyNonTerminal => zone.is_some_and(|zone| zone.is_empty_non_terminal(&query.name)),
        When::Below(name) => query.name.is_at_or_below(name),
        When::Name(name) => query.name == *name,
        When::Before(seconds) => age < Duration::from_secs(*seconds),
        When::First(first) => count < *first,
        When::Every(every) => count % every == 0,
        When::Percent(percent) => chance % 100 < *percent,
        When::After(before) => hits.fetch_add(1, Ordering::Relaxed) >= *before,
    }
}

impl Draft {
    fn bend(&mut self, fault: &Fault, query: &Query, zone: Option<&Zone>) {
        let reply = &mut self.reply;
        match fault {
            Fault::Slow(milliseconds) => self.delay += Duration::from_millis(*milliseconds),
            Fault::Rcode(rcode) => *reply = Reply::failure(query, *rcode),
            Fault::HeaderOnly(rcode) => {
                *reply = Reply { question: None, opts: Vec::new(), ..Reply::failure(query, *rcode) };
            }
            Fault::BadVersion => {
                *reply = Reply::failure(query, BADVERS & 0xf);
                reply.opts = vec![opt(1232, (BADVERS >> 4) as u8, false, &[])];
            }
            Fault::WrongId => reply.id ^= 0x5aa5,
            Fault::WrongQuestion => reply.question = Some(another_question(query)),
            Fault::NoQuestion => reply.question = None,
            Fault::LowerCase => reply.question = Some(lower_case(query)),
            Fault::NotReply => reply.flags &= !Header::QR,
            Fault::Spoofed(spoof) => self.before.push(forge(*spoof, query)),
            Fault::NoOpt => reply.opts.clear(),
            Fault::JunkOpt if query.edns.is_some() => {
                let options =
                    [&[0xfd, 0xe9, 0, 3, 1, 2, 3, 0, 10, 0, 0, 0, 3, 0, 0][..], &[0xff; 4][..2], &[0, 0]].concat();
                let mut record = opt(4096, 0, false, &options);
                record[6] = 1;
                reply.opts = vec![record];
            }
            Fault::TwoOpts => reply.opts.extend(reply.opts.clone()),
            Fault::BrokenOpt if query.edns.is_some() => reply.opts = vec![opt(1232, 0, false, &[0, 3, 0, 200, 1])],
            Fault::Truncates => {
                *reply = Reply::to(query);
                reply.flags |= Header::TC;
            }
            Fault::TruncatesNothing => reply.flags |= Header::TC,
            Fault::LosesLarge(largest) => self.largest = *largest,
            Fault::Oversized => {
                self.oversized = true;
                let filler = Record::new(&query.name, RecordType::TXT, 3600, [&[249][..], &[b'x'; 249]].concat());
                reply.additional.extend(std::iter::repeat_n(filler, 12));
            }
            Fault::RefersUpward => {
                *reply = Reply::to(query);
                for server in ["a.root-servers.net", "b.root-servers.net"] {
                    let server: DomainName = server.parse().expect("a name");
                    reply.authority.push(Record::new(Name::root(), RecordType::NS, 518_400, server.as_wire().to_vec()));
                }
            }
            Fault::RefersToItself => {
                *reply = Reply::to(query);
                if let Some(zone) = zone {
                    zone.refer(&zone.origin.clone(), reply);
                }
            }
            Fault::RefersTo(cut, server, address) => {
                *reply = Reply::to(query);
                reply.authority.push(Record::new(cut, RecordType::NS, 3600, server.as_wire().to_vec()));
                reply.additional.push(Record::address(server, 3600, *address));
            }
            Fault::NotAuthoritative => reply.flags &= !Header::AA,
            Fault::Forwarder => reply.flags = reply.flags & !Header::AA | Header::RA,
            Fault::Code(rcode) => reply.rcode = *rcode,
            Fault::DeniesName | Fault::DeniesType => {
                let rcode = if matches!(fault, Fault::DeniesName) { NXDOMAIN } else { 0 };
                *reply = Reply::failure(query, rcode);
                reply.flags |= Header::AA;
                reply.authority.extend(zone.map(Zone::soa));
            }
            Fault::NoSoa => reply.authority.retain(|record| record.rtype != RecordType::SOA),
            Fault::ForeignSoa(origin) => {
                for record in reply.authority.iter_mut().filter(|record| record.rtype == RecordType::SOA) {
                    record.name = origin.clone();
                }
            }
            Fault::Bare => {
                reply.authority.clear();
                reply.additional.clear();
            }
            Fault::Empty => {
                reply.answer.clear();
                reply.authority.clear();
                reply.additional.clear();
            }
            Fault::WrongType(rtype) => reply.answer.iter_mut().for_each(|record| record.rtype = *rtype),
            Fault::WrongClass(class) => reply.answer.iter_mut().for_each(|record| record.class = *class),
            Fault::WrongOwner(owner) => reply.answer.iter_mut().for_each(|record| record.name = owner.clone()),
            Fault::NoSynthesis => {
                let dnames: Vec<DomainName> = owners(&reply.answer, RecordType::DNAME);
                reply.answer.retain(|record| {
                    record.rtype != RecordType::CNAME || !dnames.iter().any(|owner| record.name.is_below(owner))
                });
            }
            Fault::StopsAtCname => {
                if let Some(at) = reply.answer.iter().position(|record| record.rtype == RecordType::CNAME) {
                    reply.answer.truncate(at + 1);
                    reply.authority.clear();
                    reply.additional.clear();
                    reply.rcode = 0;
                }
            }
            Fault::Ttl(ttl) => {
                let Reply { answer, authority, additional, .. } = reply;
                answer.iter_mut().chain(authority).chain(additional).for_each(|record| record.ttl = *ttl);
            }
            Fault::Adds(part, record) => {
                let section = match part {
                    Part::Answer => &mut reply.answer,
                    Part::Authority => &mut reply.authority,
                    Part::Additional => &mut reply.additional,
                };
                section.push(record.clone());
            }
            Fault::Evil(address) => {
                *reply = Reply::to(query);
                reply.flags |= Header::AA;
                if query.qtype == RecordType::A {
                    reply.answer.push(Record::address(&query.name, 86400, *address));
                }
            }
            Fault::BreaksOff => self.breaks_off = true,
            Fault::Trickles(microseconds) => self.pace = Duration::from_micros(*microseconds),
            Fault::Thrice => self.copies = 3,
            Fault::FromElsewhere => self.source = Source::OtherAddress,
            Fault::Reversed => reply.answer.reverse(),
            Fault::OddFlags => reply.flags |= 0x0070,
            Fault::WrongOpcode => reply.flags |= 2 << 11,
            Fault::Garbage
            | Fault::GarbageBody
            | Fault::Half
            | Fault::Stub
            | Fault::CompressionLoop
            | Fault::CountsTooMany
            | Fault::TrailingJunk => self.octets.push(fault.clone()),
            // Only seen through what the caller matches, or without effect on this query.
            Fault::If(..)
            | Fault::Silent
            | Fault::Unreachable
            | Fault::TcpClosed
            | Fault::JunkOpt
            | Fault::BrokenOpt => {}
        }
    }

    fn finish(self, query: &Query, carrier: Carrier, chance: u32) -> Vec<Sent> {
        let mut bytes = self.reply.encode();
        if carrier == Carrier::Udp && bytes.len() > query.payload() && !self.oversized {
            let cut = Reply {
                flags: self.reply.flags | Header::TC,
                answer: Vec::new(),
                authority: Vec::new(),
                additional: Vec::new(),
                ..self.reply
            };
            bytes = cut.encode();
        }
        for fault in &self.octets {
            mangle(fault, query, &mut bytes, chance);
        }
        if carrier == Carrier::Udp && bytes.len() > self.largest {
            return self.before;
        }
        let mut sent = self.before;
        let reply = Sent { after: self.delay, source: self.source, bytes, pace: self.pace };
        sent.extend(std::iter::repeat_n(reply, self.copies));
        sent
    }
}

fn mangle(fault: &Fault, query: &Query, bytes: &mut Vec<u8>, chance: u32) {
    let mut state = chance | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    match fault {
        Fault::Garbage => *bytes = (0..60).map(|_| random()).collect(),
        Fault::GarbageBody => {
            bytes.truncate(12 + query.question.len());
            bytes[6..12].copy_from_slice(&[0, 3, 0, 2, 0, 1]);
            bytes.extend((0..80).map(|_| random()));
        }
        Fault::Half => bytes.truncate(bytes.len() / 2),
        Fault::Stub => bytes.truncate(5),
        Fault::CompressionLoop => {
            bytes.truncate(12 + query.question.len());
            bytes[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            let here = bytes.len() as u8;
            bytes.extend([0xc0, here, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
        }
        Fault::CountsTooMany => bytes[6..8].copy_from_slice(&[0xff, 0xff]),
        Fault::TrailingJunk => bytes.extend((0..9).map(|_| random())),
        _ => {}
    }
}

fn owners(records: &[Record], rtype: RecordType) -> Vec<DomainName> {
    records.iter().filter(|record| record.rtype == rtype).map(|record| record.name.clone()).collect()
}

fn lower_case(query: &Query) -> Vec<u8> {
    let (name, rest) = query.question.split_at(query.question.len() - 4);
    [&name.to_ascii_lowercase(), rest].concat()
}

fn another_question(query: &Query) -> Vec<u8> {
    let other: DomainName = "another.question.kz".parse().expect("a name");
    [other.as_wire(), &query.question[query.question.len() - 4..]].concat()
}

/// The reply that an attacker wishes to be believed.
fn forge(spoof: Spoof, query: &Query) -> Sent {
    let mut reply = Reply::to(query);
    reply.flags |= Header::AA;
    reply.answer.push(Record::address(&query.name, 86400, crate::world::POISON));
    let mut source = Source::Server;
    match spoof {
        Spoof::Id => reply.id = reply.id.wrapping_add(1),
        Spoof::Port => source = Source::OtherPort,
        Spoof::Address => source = Source::OtherAddress,
        Spoof::Question => reply.question = Some(another_question(query)),
        Spoof::Case => reply.question = Some(lower_case(query)),
    }
    Sent { after: Duration::ZERO, source, bytes: reply.encode(), pace: Duration::ZERO }
}
