//! Replies: blocked forms, errors, Extended DNS Errors, EDNS, truncation.
//!
//! Every reply is written once, straight into the buffer it is sent from, by a
//! [`Writer`]; the answers of the cache are copied there whole.

mod blocked;
pub mod cookie;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::cache::Answer;
use crate::policy::Hit;
use crate::query::{Class, Rcode, RecordType, Transport};
use crate::recursor::Security;
use crate::recursor::nat64::Nat64Prefix;
use crate::wire::{Edns, HEADER_LEN, Header, Request, Section, option};

pub use blocked::{Alias, Form, Subject, blocked, redirected};

use cookie::Cookie;

/// How replies look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address that a blocked name has for the sinkhole's action.
    pub sinkhole_ipv4: Ipv4Addr,
    /// The same for IPv6.
    pub sinkhole_ipv6: Ipv6Addr,
    /// The longest datagram that we send, and say that we take: 1232 fits every path (DNS flag day 2020).
    pub payload: u16,
    /// What `version.bind` and `version.server` in class CH answer; `None` refuses.
    pub version: Option<String>,
    /// What `hostname.bind` and `id.server` in class CH and NSID (RFC 5001) answer; `None` refuses.
    pub identity: Option<String>,
    /// Extended DNS Errors are sent to those who speak EDNS (RFC 8914).
    pub extended_errors: bool,
    /// How long a stream may say nothing, for those who ask (RFC 7828).
    pub keepalive: Duration,
    /// How clients show that their address is theirs.
    pub cookies: cookie::Settings,
    /// Whose IPv6 addresses the resolver makes for clients without IPv4 (RFC 6147): what a rule says about IPv4
    /// addresses holds for these as well.
    pub translator: Option<Nat64Prefix>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sinkhole_ipv4: Ipv4Addr::UNSPECIFIED,
            sinkhole_ipv6: Ipv6Addr::UNSPECIFIED,
            payload: 1232,
            version: Some(concat!("qalqan ", env!("CARGO_PKG_VERSION")).to_owned()),
            identity: None,
            extended_errors: true,
            keepalive: Duration::from_secs(30),
            cookies: cookie::Settings::default(),
            translator: None,
        }
    }
}

/// What a reply repeats of its query, or depends on.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'q> {
    /// The query's header.
    pub header: Header,
    /// The question as sent; empty when it could not be read.
    pub question: &'q [u8],
    /// What the client says by EDNS.
    pub edns: Option<Edns>,
    /// What the reply gives for the client's cookie.
    pub cookie: Option<&'q Cookie>,
    /// How the query came.
    pub transport: Transport,
}

impl<'q> Asked<'q> {
    /// A query that was understood.
    pub fn new(request: &Request<'q>, cookie: Option<&'q Cookie>, transport: Transport) -> Self {
        Self { header: request.header, question: request.question, edns: request.edns, cookie, transport }
    }

    /// A query of which only the header is of use.
    pub fn unread(header: Header, transport: Transport) -> Self {
        Self { header, question: &[], edns: None, cookie: None, transport }
    }

    /// The longest reply that may be sent (RFC 6891, section 6.2.5).
    fn limit(&self, settings: &Settings) -> usize {
        match self.edns {
            _ if !self.transport.is_datagram() => usize::from(u16::MAX),
            Some(edns) => usize::from(edns.payload.min(settings.payload).max(512)),
            None => 512,
        }
    }
}

/// Extended DNS Errors on their way into a reply.
#[derive(Debug, Clone, Copy, Default)]
pub struct Errors<'e> {
    /// Those of an answer, written as EDNS options.
    kept: &'e [u8],
    /// One more.
    one: Option<(u16, Text<'e>)>,
}

/// The EXTRA-TEXT of an Extended DNS Error.
#[derive(Debug, Clone, Copy)]
enum Text<'e> {
    Plain(&'static str),
    /// What a rule says.
    OfHit(&'e Hit<'e>),
}

impl<'e> Errors<'e> {
    /// None.
    pub const NONE: Self = Self { kept: &[], one: None };

    /// One, with a text or an empty one.
    pub fn one(code: u16, text: &'static str) -> Self {
        Self { kept: &[], one: Some((code, Text::Plain(text))) }
    }

    /// Those that an answer was kept with, and one that says how it was come by.
    pub fn kept(answer: &'e Answer, and: Option<u16>) -> Self {
        Self { kept: answer.errors(), one: and.map(|code| (code, Text::Plain(""))) }
    }

    /// The reason that a rule gives, with its text.
    fn of_hit(hit: &'e Hit<'e>) -> Self {
        Self { kept: &[], one: hit.reason.code().map(|code| (code, Text::OfHit(hit))) }
    }

    /// The code of the first.
    fn code(self) -> Option<u16> {
        // Behind the option's code and length.
        let kept = self.kept.get(4..).and_then(|rest| rest.first_chunk());
        kept.map(|code| u16::from_be_bytes(*code)).or(self.one.map(|(code, _)| code))
    }

    fn write(self, reply: &mut Vec<u8>) {
        reply.extend_from_slice(self.kept);
        if let Some((code, text)) = self.one {
            reply.extend_from_slice(words([option::EXTENDED_ERROR, 0, code]).as_flattened());
            let begin = reply.len();
            match text {
                Text::Plain(text) => reply.extend_from_slice(text.as_bytes()),
                Text::OfHit(hit) => hit.write_text(reply),
            }
            let len = (2 + reply.len() - begin) as u16;
            reply[begin - 4..begin - 2].copy_from_slice(&len.to_be_bytes());
        }
    }

    /// The first without its text: what is left when room is short.
    fn brief(self) -> Self {
        Self { kept: &[], one: self.code().map(|code| (code, Text::Plain(""))) }
    }
}

/// A reply in the making: header, question, records, then OPT.
pub struct Writer<'a> {
    settings: &'a Settings,
    asked: &'a Asked<'a>,
    header: Header,
    /// The bits of the response code that only EDNS has room for.
    upper_rcode: u16,
    /// Where the name stands that records are for.
    owner: u16,
    reply: &'a mut Vec<u8>,
}

/// What became of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The response code.
    pub rcode: Rcode,
    /// The first Extended DNS Error that it carries.
    pub ede: Option<u16>,
}

/// The owner name of most records: a pointer to the name in the question.
const QUESTION_NAME: u16 = 0xc000 | HEADER_LEN as u16;

impl<'a> Writer<'a> {
    /// Begins with the question. What `reply` holds is thrown away.
    pub fn new(settings: &'a Settings, asked: &'a Asked<'a>, rcode: Rcode, reply: &'a mut Vec<u8>) -> Self {
        begin(asked, reply);
        Self::resume(settings, asked, rcode, reply)
    }

    /// Goes on with a reply that has been [begun](begin), and into which `answer` has been put.
    pub fn with_answer(settings: &'a Settings, asked: &'a Asked<'a>, answer: &Answer, reply: &'a mut Vec<u8>) -> Self {
        let mut writer = Self::resume(settings, asked, answer.rcode(), reply);
        // RFC 6840, section 5.7: AD is for those who would understand.
        let understood = asked.header.has(Header::AD) || asked.edns.is_some_and(|edns| edns.dnssec_ok);
        if understood && answer.security() == Security::Secure {
            writer.header.flags |= Header::AD;
        }
        writer
    }

    /// Goes on with a reply that has been begun.
    fn resume(settings: &'a Settings, asked: &'a Asked<'a>, rcode: Rcode, reply: &'a mut Vec<u8>) -> Self {
        let repeated = asked.header.flags & (Header::OPCODE_MASK | Header::RD | Header::CD);
        let header = Header {
            id: asked.header.id,
            flags: Header::QR | Header::RA | repeated | rcode.0 & 0x000f,
            counts: Header::read(reply).map_or([0; 4], |header| header.counts),
        };
        Self { settings, asked, header, upper_rcode: rcode.0 >> 4, owner: QUESTION_NAME, reply }
    }

    /// Appends a record of class IN; records must come section by section.
    fn record(&mut self, section: Section, rtype: RecordType, ttl: u32, data: &[u8]) {
        let [high, low] = [(ttl >> 16) as u16, ttl as u16];
        let head = words([self.owner, rtype.0, Class::IN.0, high, low, data.len() as u16]);
        self.reply.extend_from_slice(head.as_flattened());
        self.reply.extend_from_slice(data);
        self.header.counts[1 + section as usize] += 1;
    }

    /// Appends an alias: the records that follow are for its target.
    fn alias(&mut self, alias: &Alias) {
        let target = alias.target.as_wire();
        self.answer(RecordType::CNAME, alias.ttl, target);
        // A pointer reaches that far; no chain of aliases that a resolver follows is so long.
        if let Some(at @ ..0x4000) = self.reply.len().checked_sub(target.len()) {
            self.owner = 0xc000 | at as u16;
        }
    }

    /// Appends a record to the answer section.
    fn answer(&mut self, rtype: RecordType, ttl: u32, data: &[u8]) {
        self.record(Section::Answer, rtype, ttl, data);
    }

    /// Says that the name or the type does not exist, for how long (RFC 2308, section 3). The name itself plays the
    /// zone, since which zone it is in is not known.
    fn denial(&mut self, ttl: u32) {
        const NAMES: [u8; 18] = *b"\xc0\x0c\x06nobody\x07invalid\0";
        let mut data = [0; NAMES.len() + 20];
        data[..NAMES.len()].copy_from_slice(&NAMES);
        let numbers = [1, 3600, 1200, 604_800, ttl].map(u32::to_be_bytes);
        data[NAMES.len()..].copy_from_slice(numbers.as_flattened());
        self.record(Section::Authority, RecordType::SOA, ttl, &data);
    }

    /// Ends the reply: OPT for those who speak EDNS, and TC in place of what does not fit.
    ///
    /// When room is short, the texts of `errors` go first. Then all records go: a part of a set of records would be
    /// taken for the whole by some, and who asked comes again by TCP (RFC 2181, section 9).
    pub fn finish(mut self, errors: Errors<'_>) -> Written {
        let limit = self.asked.limit(self.settings);
        let end = self.reply.len();
        self.write_opt(errors);
        if self.reply.len() > limit {
            self.reply.truncate(end);
            self.write_opt(errors.brief());
        }
        if self.reply.len() > limit {
            self.reply.truncate(HEADER_LEN + self.asked.question.len());
            self.header.flags |= Header::TC;
            self.header.counts = [self.header.counts[0], 0, 0, 0];
            self.write_opt(errors.brief());
        }
        self.header.counts[3] += u16::from(self.asked.edns.is_some());
        self.reply[..HEADER_LEN].copy_from_slice(&self.header.to_bytes());
        let ede = errors.code().filter(|_| self.asked.edns.is_some() && self.settings.extended_errors);
        Written { rcode: Rcode(self.upper_rcode << 4 | self.header.rcode().0), ede }
    }

    fn write_opt(&mut self, errors: Errors<'_>) {
        let Some(edns) = self.asked.edns else { return };
        let reply = &mut *self.reply;
        let flags = if edns.dnssec_ok { Edns::DO as u16 } else { 0 };
        let mut head = [0; 11];
        let fields = words([RecordType::OPT.0, self.settings.payload, self.upper_rcode << 8, flags, 0]);
        head[1..].copy_from_slice(fields.as_flattened());
        reply.extend_from_slice(&head);
        let options = reply.len();
        if self.settings.extended_errors {
            errors.write(reply);
        }
        if let Some(identity) = self.settings.identity.as_deref().filter(|_| edns.nsid) {
            reply.extend_from_slice(words([option::NSID, identity.len() as u16]).as_flattened());
            reply.extend_from_slice(identity.as_bytes());
        }
        if let Some(cookie) = self.asked.cookie {
            reply.extend_from_slice(words([option::COOKIE, cookie.octets.len() as u16]).as_flattened());
            reply.extend_from_slice(&cookie.octets);
        }
        if edns.keepalive && matches!(self.asked.transport, Transport::Tcp | Transport::Tls) {
            let tenths = self.settings.keepalive.as_millis() / 100;
            let tenths = tenths.try_into().unwrap_or(u16::MAX);
            reply.extend_from_slice(words([option::KEEPALIVE, 2, tenths]).as_flattened());
        }
        if edns.padding && self.asked.transport.is_encrypted() {
            let len = (reply.len() + 4).next_multiple_of(PADDED_BLOCK) - reply.len() - 4;
            reply.extend_from_slice(words([option::PADDING, len as u16]).as_flattened());
            reply.resize(reply.len() + len, 0);
        }
        let len = (reply.len() - options) as u16;
        reply[options - 2..options].copy_from_slice(&len.to_be_bytes());
    }
}

/// Begins a reply: a header, and the question as it was sent, in the client's own letters' case; that may be its
/// protection against forgery (0x20). What `reply` holds is thrown away.
pub fn begin(asked: &Asked<'_>, reply: &mut Vec<u8>) {
    let questions = u8::from(!asked.question.is_empty());
    reply.clear();
    reply.extend_from_slice(&[0, 0, 0, 0, 0, questions, 0, 0, 0, 0, 0, 0]);
    reply.extend_from_slice(asked.question);
}

/// The block that encrypted replies are padded to (RFC 8467, section 4.1).
const PADDED_BLOCK: usize = 468;

/// The octets of `words` as they stand in a message.
fn words<const N: usize>(words: [u16; N]) -> [[u8; 2]; N] {
    std::array::from_fn(|at| words[at].to_be_bytes())
}

/// A reply without records.
pub fn error(settings: &Settings, asked: &Asked<'_>, rcode: Rcode, errors: Errors<'_>, reply: &mut Vec<u8>) -> Written {
    Writer::new(settings, asked, rcode, reply).finish(errors)
}

/// The reply in class CH, in which servers speak of themselves (RFC 4892).
pub fn chaos(settings: &Settings, asked: &Asked<'_>, request: &Request<'_>, reply: &mut Vec<u8>) -> Written {
    let text = match request.name.as_wire() {
        b"\x07version\x04bind\0" | b"\x07version\x06server\0" => settings.version.as_deref(),
        b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => settings.identity.as_deref(),
        _ => None,
    };
    let Some(text) = text.filter(|_| matches!(request.qtype, RecordType::TXT | RecordType::ANY)) else {
        return error(settings, asked, Rcode::REFUSED, Errors::NONE, reply);
    };
    let text = &text.as_bytes()[..text.floor_char_boundary(255)];
    let mut writer = Writer::new(settings, asked, Rcode::NOERROR, reply);
    let data = [&[text.len() as u8], text].concat();
    writer.answer(RecordType::TXT, 0, &data);
    // Behind the record's name and type.
    let class = HEADER_LEN + asked.question.len() + 4;
    writer.reply[class..class + 2].copy_from_slice(&Class::CH.0.to_be_bytes());
    writer.finish(Errors::NONE)
}

/// The reply to a question for every type, when nobody shall be asked (RFC 8482, section 4.2).
pub fn minimal_any(settings: &Settings, asked: &Asked<'_>, reply: &mut Vec<u8>) -> Written {
    let mut writer = Writer::new(settings, asked, Rcode::NOERROR, reply);
    writer.answer(RecordType::HINFO, 3789, b"\x07RFC8482\0");
    writer.finish(Errors::NONE)
}
