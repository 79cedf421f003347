//! Whether a message is what a scenario expects: the words of `MATCH`.
//!
//! Records of a section compare as a set, names whatever their case, since
//! DNS gives their order no meaning. Three things that a server may add or
//! leave out without changing what it says are not compared: the payload size
//! that it offers, extended errors that the scenario does not ask for (RFC
//! 8914, section 3), and the name servers and addresses that Unbound puts
//! beside what was asked for. Ours adds none; if it did, that would be found.

use std::fmt::{self, Write};

use qalqan::query::{ExtendedError, RecordType};
use qalqan::wire::Header;

use super::record::{self, Record, ShowName, WireName};
use super::script::{Carrier, Dialect, EdeCode, Matches, Message};

/// A message as received, its names uncompressed and in lower case, its OPT record set apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) rcode: u16,
    /// The name of the question keeps its case.
    pub(crate) question: Vec<(WireName, RecordType, u16)>,
    pub(crate) sections: [Vec<Record>; 3],
    pub(crate) opt: Option<Opt>,
}

/// An OPT record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Opt {
    pub(crate) payload: u16,
    pub(crate) version: u8,
    pub(crate) flags: u16,
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

/// The flag DO in an OPT record.
pub(crate) const DNSSEC_OK: u16 = 0x8000;
/// The flag CO in an OPT record.
const COMPACT_OK: u16 = 0x4000;
/// The flags of a header: QR, AA, TC, RD, RA, AD, CD.
const FLAGS: u16 = 0x8000 | 0x0400 | 0x0200 | 0x0100 | 0x0080 | 0x0020 | 0x0010;
const OPCODE: u16 = 0x7800;
const CLIENT_SUBNET_OPTION: u16 = 8;
const COOKIE_OPTION: u16 = 10;
const EDE_OPTION: u16 = 15;
const NSID_OPTION: u16 = 3;

impl Received {
    /// Reads a message; `None` when it is not one.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes(message.get(at..)?.first_chunk().copied()?));
        let mut received = Self { id: word(0)?, flags: word(2)?, ..Self::default() };
        received.rcode = received.flags & 0xf;
        let mut at = 12;
        for _ in 0..word(4)? {
            let (name, next) = record::read_name(message, at)?;
            received.question.push((name, RecordType(word(next)?), word(next + 2)?));
            at = next + 4;
        }
        for section in 0..3 {
            for _ in 0..word(6 + 2 * section)? {
                let (owner, next) = record::read_name(message, at)?;
                let (rtype, class, len) = (RecordType(word(next)?), word(next + 2)?, usize::from(word(next + 8)?));
                let ttl = u32::from(word(next + 4)?) << 16 | u32::from(word(next + 6)?);
                at = next + 10 + len;
                if rtype == RecordType::OPT {
                    let options = read_options(message.get(next + 10..at)?)?;
                    received.rcode |= (ttl >> 24 << 4) as u16;
                    received.opt = Some(Opt { payload: class, version: (ttl >> 16) as u8, flags: ttl as u16, options });
                } else {
                    let data = record::canonical_data(rtype, message, next + 10, len)?;
                    let owner = owner.to_ascii_lowercase();
                    received.sections[section].push(Record { owner, rtype, class, ttl, data });
                }
            }
        }
        Some(received)
    }

    fn option(&self, code: u16) -> Option<&[u8]> {
        let options = &self.opt.as_ref()?.options;
        options.iter().find(|(found, _)| *found == code).map(|(_, data)| data.as_slice())
    }

    /// The codes of its extended errors.
    fn extended_errors(&self) -> Vec<u16> {
        let options = self.opt.iter().flat_map(|opt| &opt.options);
        options
            .filter(|(code, _)| *code == EDE_OPTION)
            .filter_map(|(_, data)| data.first_chunk().map(|code| u16::from_be_bytes(*code)))
            .collect()
    }
}

pub(crate) fn read_options(data: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let mut options = Vec::new();
    let mut rest = data;
    while let [code_high, code_low, len_high, len_low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*len_high, *len_low]));
        let (value, next) = after.split_at_checked(len)?;
        options.push((u16::from_be_bytes([*code_high, *code_low]), value.to_vec()));
        rest = next;
    }
    rest.is_empty().then_some(options)
}

/// Compares a message with the one that an entry describes.
///
/// # Errors
///
/// The first thing that differs, in words.
pub(crate) fn compare(
    expected: &Message,
    matches: &Matches,
    received: &Received,
    carrier: Carrier,
    dialect: Dialect,
) -> Result<(), String> {
    let unbound = dialect == Dialect::Unbound;
    // Unbound refuses with a bare header, ours with the question too.
    let bare = unbound && expected.question.is_empty() && expected.rcode != 0;
    let all = matches.all || matches.all_without_edns;

    if let Some(transport) = matches.transport.filter(|transport| *transport != carrier) {
        return Err(format!("came over {carrier:?}, not {transport:?}"));
    }
    if matches.opcode || all {
        same("opcode", expected.flags & OPCODE, received.flags & OPCODE)?;
    }
    if matches.rcode || all {
        same("rcode", ShowRcode(expected.rcode), ShowRcode(received.rcode))?;
    }
    if matches.flags || all {
        // Ours never claims to be an authority, has recursion available even while it refuses, and sends no TC with
        // what fits; Unbound's answers are larger by the name servers beside them.
        let passed_over =
            if unbound { (Header::AA | Header::TC) & expected.flags | Header::RA & !expected.flags } else { 0 };
        let compared = FLAGS & !passed_over;
        same("flags", ShowFlags(expected.flags & compared), ShowFlags(received.flags & compared))?;
    }
    if (matches.qtype || matches.question || all) && !bare {
        let qtype = |question: &[(WireName, RecordType, u16)]| question.first().map(|(_, qtype, _)| *qtype);
        same("qtype", Shown(qtype(&expected.question)), Shown(qtype(&received.question)))?;
    }
    if (matches.qname || matches.question || all) && !bare {
        let qname = |question: &[(WireName, RecordType, u16)]| {
            question.first().map(|(name, ..)| ShowName(&name.to_ascii_lowercase()).to_string())
        };
        same("qname", Shown(qname(&expected.question)), Shown(qname(&received.question)))?;
    }
    if matches.qcase {
        let qname =
            |question: &[(WireName, RecordType, u16)]| question.first().map(|(name, ..)| ShowName(name).to_string());
        same("qname with case", Shown(qname(&expected.question)), Shown(qname(&received.question)))?;
    }
    if (matches.question || all) && unbound && !bare {
        same("number of questions", expected.question.len(), received.question.len())?;
    }
    if matches.subdomain {
        let name = received.question.first().map_or(&[0][..], |(name, ..)| name).to_ascii_lowercase();
        if let Some((above, ..)) = expected.question.first() {
            let above = above.to_ascii_lowercase();
            if !is_at_or_below(&name, &above) {
                return Err(format!("{} is not below {}", ShowName(&name), ShowName(&above)));
            }
        }
    }

    let canonical =
        |records: &[Record]| -> Vec<Record> { records.iter().map(|record| canonical(record, matches.ttl)).collect() };
    for (section, wanted) in [matches.answer, matches.authority, matches.additional].into_iter().enumerate() {
        if wanted || all {
            let mut records = canonical(&expected.sections[section]);
            if unbound {
                let beside = [&[][..], &[RecordType::NS], &[RecordType::A, RecordType::AAAA]][section];
                records.retain(|record| !covers(record, beside));
            }
            let mut found = canonical(&received.sections[section]);
            if unbound && section == 1 && !records.iter().any(|record| record.rtype == RecordType::SOA) {
                found.retain(|record| !is_our_soa(record));
            }
            same_records(["answer", "authority", "additional"][section], records, found)?;
        }
    }
    if matches.answer_types || matches.answer_signatures {
        let types = |records: &[Record]| {
            let mut types: Vec<_> = records
                .iter()
                .map(|record| (signed_type(record).unwrap_or(record.rtype), signed_type(record).is_some()))
                .filter(|(_, signature)| matches.answer_signatures || !signature)
                .collect();
            types.sort();
            types.dedup();
            types
        };
        same("types in the answer", Debugged(types(&expected.sections[0])), Debugged(types(&received.sections[0])))?;
    }

    let opt = received.opt.as_ref();
    if matches.dnssec_ok && opt.is_none_or(|opt| opt.flags & DNSSEC_OK == 0) {
        return Err("DO is not set".to_owned());
    }
    if matches.compact_ok && opt.is_none_or(|opt| opt.flags & COMPACT_OK == 0) {
        return Err("CO is not set".to_owned());
    }
    if matches.no_edns && opt.is_some() {
        return Err("there is an OPT record".to_owned());
    }
    if matches.edns && opt.is_none_or(|opt| opt.version != 0) {
        return Err("there is no OPT record of version 0".to_owned());
    }
    if matches.nsid {
        let wanted = expected.options.as_deref().and_then(read_options).unwrap_or_default();
        let wanted = wanted.iter().find(|(code, _)| *code == NSID_OPTION).map(|(_, data)| data.as_slice());
        same("NSID", Debugged(wanted), Debugged(received.option(NSID_OPTION)))?;
    }
    match matches.ede {
        Some(EdeCode::Any) if received.extended_errors().is_empty() => return Err("there is no EDE".to_owned()),
        Some(EdeCode::Code(code)) if !received.extended_errors().iter().any(|found| says(*found, code)) => {
            return Err(format!("EDE is {:?}, not {code}", received.extended_errors()));
        }
        _ => {}
    }
    if matches.client_cookie && received.option(COOKIE_OPTION).is_none_or(|cookie| cookie.len() != 8) {
        return Err("there is no cookie of 8 octets".to_owned());
    }
    if matches.server_cookie && received.option(COOKIE_OPTION).is_none_or(|cookie| cookie.len() != 24) {
        return Err("there is no cookie of 24 octets".to_owned());
    }
    if matches.serial.is_some_and(|serial| soa_serial(&received.sections[1]) != Some(serial)) {
        return Err("the serial differs".to_owned());
    }
    if matches.all && unbound || matches.edns_data {
        if matches.all {
            same("presence of OPT", expected.dnssec_ok || expected.options.is_some(), opt.is_some())?;
        }
        let wanted = expected.options.as_deref().and_then(read_options).unwrap_or_default();
        let passed_over = |code: u16| {
            code == EDE_OPTION && !wanted.iter().any(|(wanted, _)| *wanted == code)
                || code == COOKIE_OPTION && (matches.client_cookie || matches.server_cookie)
        };
        let found: Vec<_> =
            opt.map_or(&[][..], |opt| &opt.options).iter().filter(|(code, _)| !passed_over(*code)).cloned().collect();
        same("EDNS options", Debugged(wanted), Debugged(found))?;
    }
    Ok(())
}

/// Whether an extended error says what another says, or the same and why: codes 7 to 12 are causes of 6, bogus.
fn says(found: u16, expected: u16) -> bool {
    found == expected
        || expected == ExtendedError::BOGUS
            && (ExtendedError::SIGNATURE_EXPIRED..=ExtendedError::NSEC_MISSING).contains(&found)
}

/// Whether it is the SOA of a negative answer that a rule has made, by which clients can cache it (RFC 2308).
fn is_our_soa(record: &Record) -> bool {
    let mailbox = b"\x06nobody\x07invalid\x00";
    record.rtype == RecordType::SOA && record.data.windows(mailbox.len()).any(|window| window == mailbox)
}

/// Whether a record is of one of the types, or signs one of them.
fn covers(record: &Record, types: &[RecordType]) -> bool {
    types.contains(&signed_type(record).unwrap_or(record.rtype))
}

fn signed_type(record: &Record) -> Option<RecordType> {
    (record.rtype == RecordType::RRSIG)
        .then(|| record.data.first_chunk().map(|covered| RecordType(u16::from_be_bytes(*covered))))
        .flatten()
}

fn canonical(record: &Record, with_ttl: bool) -> Record {
    let data = record::canonical_data(record.rtype, &record.data, 0, record.data.len());
    Record {
        owner: record.owner.to_ascii_lowercase(),
        ttl: if with_ttl { record.ttl } else { 0 },
        data: data.unwrap_or_else(|| record.data.clone()),
        ..record.clone()
    }
}

fn soa_serial(records: &[Record]) -> Option<u32> {
    let soa = records.iter().find(|record| record.rtype == RecordType::SOA)?;
    let at = soa.data.len().checked_sub(20)?;
    soa.data[at..].first_chunk().map(|serial| u32::from_be_bytes(*serial))
}

fn is_at_or_below(name: &[u8], above: &[u8]) -> bool {
    let mut rest = name;
    loop {
        if rest == above {
            return true;
        }
        match rest {
            [len @ 1..=63, after @ ..] => rest = after.get(usize::from(*len)..).unwrap_or_default(),
            _ => return false,
        }
    }
}

fn same<T: PartialEq + fmt::Display>(what: &str, expected: T, found: T) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected}, found {found}")) }
}

fn same_records(section: &str, mut expected: Vec<Record>, mut found: Vec<Record>) -> Result<(), String> {
    expected.retain(|record| match found.iter().position(|other| other == record) {
        Some(at) => {
            found.swap_remove(at);
            false
        }
        None => true,
    });
    if expected.is_empty() && found.is_empty() {
        return Ok(());
    }
    let mut text = section.to_owned();
    for (word, records) in [("missing", expected), ("unexpected", found)] {
        for record in records {
            let _ = write!(text, "; {word} {record}");
        }
    }
    Err(text)
}

struct ShowRcode(u16);

impl PartialEq for ShowRcode {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Display for ShowRcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 11] = [
            "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
            "NOTAUTH", "NOTZONE",
        ];
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}

struct ShowFlags(u16);

impl PartialEq for ShowFlags {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Display for ShowFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["QR", "AA", "TC", "RD", "RA", "AD", "CD"];
        let flags = [0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010];
        let set: Vec<_> =
            names.iter().zip(flags).filter(|(_, flag)| self.0 & flag != 0).map(|(name, _)| *name).collect();
        write!(f, "[{}]", set.join(" "))
    }
}

#[derive(PartialEq)]
struct Debugged<T>(T);

impl<T: fmt::Debug> fmt::Display for Debugged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[derive(PartialEq)]
struct Shown<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// Prints a message in the manner of dig, for traces.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", ShowRcode(self.rcode), ShowFlags(self.flags & FLAGS))?;
        if let Some(opt) = &self.opt {
            write!(f, " OPT({}{})", opt.payload, if opt.flags & DNSSEC_OK != 0 { " DO" } else { "" })?;
            for (code, data) in &opt.options {
                match (*code, data.as_slice()) {
                    (EDE_OPTION, [high, low, text @ ..]) => {
                        let code = u16::from_be_bytes([*high, *low]);
                        write!(f, " EDE({code} {:?})", String::from_utf8_lossy(text))?;
                    }
                    (CLIENT_SUBNET_OPTION, _) => f.write_str(" ECS")?,
                    (code, data) => write!(f, " option{code}({} octets)", data.len())?,
                }
            }
        }
        for (name, qtype, _) in &self.question {
            write!(f, " {} {qtype}", ShowName(name))?;
        }
        for (name, records) in ["an", "ns", "ar"].iter().zip(&self.sections) {
            for record in records {
                write!(f, "\n          {name} {record}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::script::{self, Event};
    use super::*;

    /// Compares the entry's message with itself on the wire, without the name servers and after `change`.
    fn verdict(matches: &str, reply: &str, change: impl FnOnce(&mut Message)) -> Result<(), String> {
        let text = format!(
            "server:\nCONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 CHECK_ANSWER\nENTRY_BEGIN\nMATCH {matches}\nREPLY {reply}\n\
             SECTION QUESTION\nwww.Example. IN A\nSECTION ANSWER\nwww.example. 60 IN A 192.0.2.1\nwww.example. 60 IN A 192.0.2.2\n\
             SECTION AUTHORITY\nexample. 60 IN NS ns.example.\nexample. 60 IN SOA a. b. 1 2 3 4 5\nENTRY_END\nSCENARIO_END\n"
        );
        let scenario = script::parse(Path::new("x"), &text).unwrap();
        let Event::CheckAnswer(entry) = &scenario.steps[0].event else { panic!("a check") };
        let mut message = entry.message.clone();
        message.sections[1].retain(|record| record.rtype != RecordType::NS);
        change(&mut message);
        let received = Received::read(&message.to_wire(0, message.edns(1232))).unwrap();
        compare(&entry.message, &entry.matches, &received, Carrier::Udp, Dialect::Unbound)
    }

    #[test]
    fn order_and_case_mean_nothing_and_ttls_only_where_asked() {
        let change = |message: &mut Message| {
            message.sections[0].reverse();
            message.sections[0][0].owner = message.sections[0][0].owner.to_ascii_uppercase();
            message.sections[0][1].ttl = 59;
        };
        assert_eq!(verdict("all", "QR RD RA NOERROR", change), Ok(()));
        assert_eq!(
            verdict("all ttl", "QR RD RA NOERROR", change),
            Err("answer; missing www.example. 60 IN A 192.0.2.1; unexpected www.example. 59 IN A 192.0.2.1".to_owned())
        );
    }

    #[test]
    fn every_difference_that_is_asked_for_is_found() {
        for (matches, reply, change, verdict_text) in [
            ("all", "QR AD", (|m| m.flags &= !0x20) as fn(&mut Message), "flags: expected [QR AD], found [QR]"),
            ("all", "QR", |m| (m.rcode, m.flags) = (3, m.flags | 3), "rcode: expected NOERROR, found NXDOMAIN"),
            ("qtype", "QR", |m| m.question[0].1 = RecordType::MX, "qtype: expected A, found MX"),
            ("qname", "QR", |m| m.question.clear(), "qname: expected www.example., found none"),
            (
                "qcase",
                "QR",
                |m| m.question[0].0.make_ascii_lowercase(),
                "qname with case: expected www.Example., found www.example.",
            ),
            ("all", "QR", |m| m.sections[1].clear(), "authority; missing example. 0 IN SOA a. b. 1 2 3 4 5"),
            (
                "all",
                "QR",
                |m| m.sections[1].push(Record { rtype: RecordType::NS, data: vec![0], ..m.sections[0][0].clone() }),
                "authority; unexpected www.example. 0 IN NS .",
            ),
            ("all", "QR", |m| m.sections[0].truncate(1), "answer; missing www.example. 0 IN A 192.0.2.2"),
            ("all", "QR DO", |m| m.dnssec_ok = false, "presence of OPT: expected true, found false"),
            ("DO", "QR DO", |m| m.dnssec_ok = false, "DO is not set"),
            ("all", "QR DO", |m| m.options = Some(vec![0, 15, 0, 2, 0, 6]), ""),
            ("all ede=6", "QR DO", |m| m.options = Some(vec![0, 15, 0, 2, 0, 6]), ""),
            ("all ede=6", "QR DO", |m| m.options = Some(vec![0, 15, 0, 2, 0, 7]), ""),
            ("all ede=7", "QR DO", |m| m.options = Some(vec![0, 15, 0, 2, 0, 6]), "EDE is [6], not 7"),
            ("all", "QR DO", |m| m.options = Some(vec![0, 3, 0, 0]), "EDNS options: expected [], found [(3, [])]"),
            ("answer TCP", "QR", |_| (), "came over Udp, not Tcp"),
        ] {
            let expected = if verdict_text.is_empty() { Ok(()) } else { Err(verdict_text.to_owned()) };
            assert_eq!(verdict(matches, reply, change), expected, "MATCH {matches}");
        }
    }

    #[test]
    fn a_name_lies_below_another_at_a_label() {
        let name = |text| record::parse_name(text, &[0]).unwrap();
        for (below, above, covered) in
            [("a.b.", "b.", true), ("b.", "b.", true), ("ab.", "b.", false), ("b.", ".", true), (".", "b.", false)]
        {
            assert_eq!(is_at_or_below(&name(below), &name(above)), covered, "{below} {above}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_message_or_nothing(octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            if let Some(received) = Received::read(&octets) {
                let _ = received.to_string();
            }
        }
    }
}
