//! Records between text and wire form, for every type that scenarios use.
//!
//! One table, [`layout`], says what the data of a type consists of. Reading
//! text, printing, and bringing received data into one comparable form all
//! follow it. Unlike the resolver's own words, names here keep their case: a
//! scripted server must be able to answer `eXaMple` to `eXaMple`.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use qalqan::query::RecordType;

/// A name in wire form, letters as written.
pub(crate) type WireName = Vec<u8>;

/// One record, names uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) owner: WireName,
    pub(crate) rtype: RecordType,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) data: Vec<u8>,
}

/// What a line of text leaves open: the surroundings that fill it in.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// What names without a final dot are relative to (`$ORIGIN`).
    pub(crate) origin: WireName,
    /// The TTL of records that have none (`$TTL`).
    pub(crate) ttl: u32,
    /// The owner of the record before, for lines that begin with a blank.
    pub(crate) owner: WireName,
}

impl Default for Context {
    fn default() -> Self {
        Self { origin: vec![0], ttl: 3600, owner: vec![0] }
    }
}

/// A part of a record's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    U8,
    U16,
    U32,
    /// Seconds, or a number with units.
    Period,
    /// A point in time: `YYYYMMDDHHMMSS` or seconds since 1970.
    Time,
    Algorithm,
    Type,
    Ipv4,
    Ipv6,
    /// A character-string.
    Text,
    /// Character-strings to the end.
    Texts,
    /// Hexadecimal to the end.
    Hex,
    /// Base64 to the end.
    Base64,
    /// An octet of length and that many octets in hexadecimal; `-` for none.
    Salt,
    /// An octet of length and that many octets in base32hex.
    Hash,
    /// A bitmap of types to the end.
    Types,
    /// Service parameters to the end (RFC 9460).
    Parameters,
}

fn layout(rtype: RecordType) -> Option<&'static [Field]> {
    use Field::*;
    const DLV: RecordType = RecordType(32769);
    Some(match rtype {
        RecordType::A => &[Ipv4],
        RecordType::AAAA => &[Ipv6],
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => &[Name],
        RecordType(3 | 4 | 7 | 8 | 9) => &[Name],
        RecordType::SOA => &[Name, Name, U32, Period, Period, Period, Period],
        RecordType::MX | RecordType::AFSDB | RecordType::KX | RecordType(21) => &[U16, Name],
        RecordType::RP | RecordType(14) => &[Name, Name],
        PX => &[U16, Name, Name],
        RecordType::HINFO => &[Text, Text],
        RecordType::TXT | RecordType::SPF => &[Texts],
        RecordType::SRV => &[U16, U16, U16, Name],
        RecordType::NAPTR => &[U16, U16, Text, Text, Text, Name],
        RecordType::DS | RecordType::CDS | DLV => &[U16, Algorithm, U8, Hex],
        RecordType::DNSKEY | RecordType::CDNSKEY | RecordType::KEY => &[U16, U8, Algorithm, Base64],
        RecordType::RRSIG | RecordType::SIG => &[Type, Algorithm, U8, Period, Time, Time, U16, Name, Base64],
        RecordType::NSEC => &[Name, Types],
        RecordType::NSEC3 => &[U8, U8, U16, Salt, Hash, Types],
        RecordType::NSEC3PARAM => &[U8, U8, U16, Salt],
        RecordType::SSHFP => &[U8, U8, Hex],
        RecordType::TLSA | RecordType::SMIMEA => &[U8, U8, U8, Hex],
        RecordType::SVCB | RecordType::HTTPS => &[U16, Name, Parameters],
        RecordType::CAA => &[U8, Text, Hex],
        _ => return None,
    })
}

/// Splits a line at blanks; quotes hold a word together, `;` begins a comment, parentheses are dropped.
pub(crate) fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quoted, mut escaped) = (None, false, false);
    for (at, character) in line.char_indices() {
        let blank = !quoted && !escaped && (character.is_ascii_whitespace() || "();".contains(character));
        if blank {
            words.extend(start.take().map(|start: usize| &line[start..at]));
            if character == ';' {
                return words;
            }
        } else {
            start.get_or_insert(at);
            quoted ^= character == '"' && !escaped;
        }
        escaped = character == '\\' && !escaped;
    }
    words.extend(start.map(|start| &line[start..]));
    words
}

/// Reads a name; one without a final dot is completed by `origin`.
pub(crate) fn parse_name(text: &str, origin: &[u8]) -> Result<WireName, String> {
    if text == "@" {
        return Ok(origin.to_vec());
    }
    if text == "." {
        return Ok(vec![0]);
    }
    let refuse = |what: &str| Err(format!("{text:?} is no name: {what}"));
    let mut wire = Vec::new();
    let mut label: Vec<u8> = Vec::new();
    let mut octets = text.bytes();
    let mut absolute = false;
    while let Some(octet) = octets.next() {
        absolute = octet == b'.';
        match octet {
            b'.' => {
                if label.is_empty() || label.len() > 63 {
                    return refuse("a label of no or too many octets");
                }
                wire.push(label.len() as u8);
                wire.append(&mut label);
            }
            b'\\' => label.push(unescape(&mut octets).ok_or_else(|| format!("{text:?}: a broken escape"))?),
            _ => label.push(octet),
        }
    }
    if absolute {
        wire.push(0);
    } else {
        if label.is_empty() || label.len() > 63 {
            return refuse("a label of no or too many octets");
        }
        wire.push(label.len() as u8);
        wire.append(&mut label);
        wire.extend_from_slice(origin);
    }
    if wire.len() > 255 { refuse("more than 255 octets") } else { Ok(wire) }
}

fn unescape(octets: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = octets.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut number = u32::from(first - b'0');
    for _ in 0..2 {
        number = number * 10 + u32::from(octets.next().filter(u8::is_ascii_digit)? - b'0');
    }
    u8::try_from(number).ok()
}

/// Reads the name, class and type of a question.
pub(crate) fn parse_question(line: &str, context: &Context) -> Result<(WireName, RecordType, u16), String> {
    let words = words(line);
    let (name, rest) = words.split_first().ok_or("an empty question")?;
    let mut class = 1;
    for word in rest {
        if let Some(found) = parse_class(word) {
            class = found;
        } else if parse_period(word).is_err() {
            let rtype = parse_type(word)?;
            // `x. ANY TXT` is of any class, `x. IN ANY` of any type.
            if rtype == RecordType::ANY && Some(word) != words.last() {
                class = 255;
                continue;
            }
            return Ok((parse_name(name, &context.origin)?, rtype, class));
        }
    }
    Err(format!("{line:?}: a question needs a name and a type"))
}

/// Reads a record in zone-file form: owner, then TTL and class in any order or not at all, type and data.
pub(crate) fn parse_record(line: &str, context: &mut Context) -> Result<Record, String> {
    let all = words(line);
    let mut rest = all.as_slice();
    if !line.starts_with([' ', '\t']) {
        let (owner, after) = rest.split_first().ok_or("an empty record")?;
        context.owner = parse_name(owner, &context.origin)?;
        rest = after;
    }
    let (mut ttl, mut class) = (context.ttl, 1);
    loop {
        let (word, after) = rest.split_first().ok_or_else(|| format!("{line:?}: a record needs a type"))?;
        rest = after;
        if let Some(found) = parse_class(word) {
            class = found;
        } else if let Ok(seconds) = parse_period(word) {
            ttl = seconds;
        } else {
            let rtype = parse_type(word)?;
            if rtype == RecordType::ANY {
                class = 255;
                continue;
            }
            let data = parse_data(rtype, rest, &context.origin).map_err(|error| format!("{line:?}: {error}"))?;
            return Ok(Record { owner: context.owner.clone(), rtype, class, ttl, data });
        }
    }
}

/// The number of PX (RFC 2163), which nobody but a scenario about canonical forms uses.
const PX: RecordType = RecordType(26);

fn parse_type(word: &str) -> Result<RecordType, String> {
    if word == "PX" {
        return Ok(PX);
    }
    word.parse().map_err(|error: qalqan::query::UnknownType| error.to_string())
}

fn parse_class(word: &str) -> Option<u16> {
    match word.to_ascii_uppercase().as_str() {
        "IN" => Some(1),
        "CH" => Some(3),
        "HS" => Some(4),
        other => other.strip_prefix("CLASS")?.parse().ok(),
    }
}

/// Seconds, as a number or as `1h30m`.
pub(crate) fn parse_period(word: &str) -> Result<u32, String> {
    let refuse = || format!("{word:?} is no length of time");
    let (mut total, mut number, mut digits) = (0u64, 0u64, 0);
    for character in word.chars() {
        if let Some(digit) = character.to_digit(10) {
            number = number.saturating_mul(10).saturating_add(digit.into());
            digits += 1;
            continue;
        }
        let unit = match character.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(refuse()),
        };
        if digits == 0 {
            return Err(refuse());
        }
        total = total.saturating_add(number.saturating_mul(unit));
        (number, digits) = (0, 0);
    }
    let total = if digits == 0 && total == 0 && !word.ends_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(refuse());
    } else {
        total.saturating_add(number)
    };
    u32::try_from(total).map_err(|_| refuse())
}

/// Seconds since 1970, from a number or `YYYYMMDDHHMMSS`.
pub(crate) fn parse_time(word: &str) -> Result<u64, String> {
    if word.len() != 14 {
        return word.parse().map_err(|_| format!("{word:?} is no point in time"));
    }
    let part = |from: usize, to: usize| {
        word.get(from..to).and_then(|digits| digits.parse::<u64>().ok()).ok_or_else(|| format!("{word:?} is no date"))
    };
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    // Days from a civil date: years begin in March, so that the leap day is the last.
    let (shifted, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * from_march + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468).ok_or_else(|| format!("{word:?} is before 1970"))?;
    Ok(days * 86_400 + part(8, 10)? * 3600 + part(10, 12)? * 60 + part(12, 14)?)
}

fn parse_algorithm(word: &str) -> Result<u8, String> {
    Ok(match word.to_ascii_uppercase().as_str() {
        "RSAMD5" => 1,
        "DSA" => 3,
        "RSASHA1" => 5,
        "DSA-NSEC3-SHA1" => 6,
        "RSASHA1-NSEC3-SHA1" => 7,
        "RSASHA256" => 8,
        "RSASHA512" => 10,
        "ECDSAP256SHA256" => 13,
        "ECDSAP384SHA384" => 14,
        "ED25519" => 15,
        "ED448" => 16,
        other => other.parse().map_err(|_| format!("{word:?} is no algorithm"))?,
    })
}

/// Reads the data of a record from its words.
pub(crate) fn parse_data(rtype: RecordType, words: &[&str], origin: &[u8]) -> Result<Vec<u8>, String> {
    if let [r"\#", len, hex @ ..] = words {
        let data = parse_hex(&hex.concat())?;
        return if len.parse() == Ok(data.len()) { Ok(data) } else { Err(format!("{len} octets are announced")) };
    }
    let fields = layout(rtype).ok_or_else(|| format!("no text form is known for {rtype}"))?;
    let mut words = words.iter().copied();
    let mut data = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let mut next = || words.next().ok_or_else(|| format!("field {} of {rtype} is missing", index + 1));
        let number = |word: &str| word.parse::<u32>().map_err(|_| format!("{word:?} is no number"));
        match field {
            Field::Name => data.extend(parse_name(next()?, origin)?),
            Field::U8 => data.push(u8::try_from(number(next()?)?).map_err(|_| "above 255")?),
            Field::U16 => data.extend(u16::try_from(number(next()?)?).map_err(|_| "above 65535")?.to_be_bytes()),
            Field::U32 => data.extend(number(next()?)?.to_be_bytes()),
            Field::Period => data.extend(parse_period(next()?)?.to_be_bytes()),
            Field::Time => data.extend((parse_time(next()?)? as u32).to_be_bytes()),
            Field::Algorithm => data.push(parse_algorithm(next()?)?),
            Field::Type => data.extend(parse_type(next()?)?.0.to_be_bytes()),
            Field::Ipv4 => data.extend(next()?.parse::<Ipv4Addr>().map_err(|error| error.to_string())?.octets()),
            Field::Ipv6 => data.extend(next()?.parse::<Ipv6Addr>().map_err(|error| error.to_string())?.octets()),
            Field::Text => push_text(&mut data, next()?)?,
            Field::Texts => {
                push_text(&mut data, next()?)?;
                for word in words.by_ref() {
                    push_text(&mut data, word)?;
                }
            }
            Field::Hex => data.extend(parse_hex(&words.by_ref().collect::<String>())?),
            Field::Base64 => data.extend(parse_digits(&words.by_ref().collect::<String>(), 6, base64_digit)?),
            Field::Salt => {
                let word = next()?;
                let salt = if word == "-" { Vec::new() } else { parse_hex(word)? };
                data.push(u8::try_from(salt.len()).map_err(|_| "a salt above 255 octets")?);
                data.extend(salt);
            }
            Field::Hash => {
                let hash = parse_digits(next()?, 5, base32_digit)?;
                data.push(u8::try_from(hash.len()).map_err(|_| "a hash above 255 octets")?);
                data.extend(hash);
            }
            Field::Types => data.extend(parse_types(words.by_ref())?),
            Field::Parameters => data.extend(parse_parameters(words.by_ref())?),
        }
    }
    match words.next() {
        None => Ok(data),
        Some(word) => Err(format!("{word:?} follows the data of {rtype}")),
    }
}

fn push_text(data: &mut Vec<u8>, word: &str) -> Result<(), String> {
    let inner = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
    let mut octets = inner.bytes();
    let mut text = Vec::new();
    while let Some(octet) = octets.next() {
        text.push(if octet == b'\\' { unescape(&mut octets).ok_or("a broken escape")? } else { octet });
    }
    data.push(u8::try_from(text.len()).map_err(|_| "a character-string above 255 octets")?);
    data.extend(text);
    Ok(())
}

/// Reads pairs of hexadecimal digits; blanks between them are passed over.
pub(crate) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{text:?} is not hexadecimal"))?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
    } else {
        Err(format!("{text:?} has an odd number of digits"))
    }
}

fn base64_digit(octet: u8) -> Option<u8> {
    Some(match octet {
        b'A'..=b'Z' => octet - b'A',
        b'a'..=b'z' => octet - b'a' + 26,
        b'0'..=b'9' => octet - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

fn base32_digit(octet: u8) -> Option<u8> {
    Some(match octet {
        b'0'..=b'9' => octet - b'0',
        b'A'..=b'V' => octet - b'A' + 10,
        b'a'..=b'v' => octet - b'a' + 10,
        _ => return None,
    })
}

fn parse_digits(text: &str, bits: u32, digit: fn(u8) -> Option<u8>) -> Result<Vec<u8>, String> {
    let (mut octets, mut held, mut free) = (Vec::new(), 0u32, 0);
    for octet in text.trim_end_matches('=').bytes() {
        let value = digit(octet).ok_or_else(|| format!("{:?} does not belong in {text:?}", octet as char))?;
        held = held << bits | u32::from(value);
        free += bits;
        if free >= 8 {
            free -= 8;
            octets.push((held >> free) as u8);
        }
    }
    Ok(octets)
}

fn parse_types<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<u8>, String> {
    let mut types = words.map(|word| Ok(parse_type(word)?.0)).collect::<Result<Vec<_>, String>>()?;
    types.sort_unstable();
    types.dedup();
    let mut data = Vec::new();
    for window in types.chunk_by(|a, b| a >> 8 == b >> 8) {
        let mut bits = [0u8; 32];
        for rtype in window {
            bits[usize::from(rtype & 0xff) / 8] |= 0x80 >> (rtype & 7);
        }
        let len = usize::from(window[window.len() - 1] & 0xff) / 8 + 1;
        data.extend([(window[0] >> 8) as u8, len as u8]);
        data.extend(&bits[..len]);
    }
    Ok(data)
}

const PARAMETERS: [&str; 7] = ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"];

fn parse_parameters<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<u8>, String> {
    let number = |key: &str| -> Result<u16, String> {
        match PARAMETERS.iter().position(|known| *known == key) {
            Some(number) => Ok(number as u16),
            None => key
                .strip_prefix("key")
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| format!("{key:?} is no service parameter")),
        }
    };
    let mut parameters = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let value = value.trim_matches('"');
        let mut data = Vec::new();
        match key {
            "mandatory" => {
                for key in value.split(',') {
                    data.extend(number(key)?.to_be_bytes());
                }
            }
            "alpn" => value.split(',').try_for_each(|id| push_text(&mut data, id))?,
            "port" => data.extend(value.parse::<u16>().map_err(|_| format!("{value:?} is no port"))?.to_be_bytes()),
            "ipv4hint" => {
                for address in value.split(',') {
                    data.extend(address.parse::<Ipv4Addr>().map_err(|error| error.to_string())?.octets());
                }
            }
            "ipv6hint" => {
                for address in value.split(',') {
                    data.extend(address.parse::<Ipv6Addr>().map_err(|error| error.to_string())?.octets());
                }
            }
            "ech" => data.extend(parse_digits(value, 6, base64_digit)?),
            _ => {
                let mut text = Vec::new();
                push_text(&mut text, value)?;
                data.extend(&text[1..]);
            }
        }
        parameters.push((number(key)?, data));
    }
    parameters.sort();
    let mut wire = Vec::new();
    for (key, data) in parameters {
        wire.extend(key.to_be_bytes());
        wire.extend((data.len() as u16).to_be_bytes());
        wire.extend(data);
    }
    Ok(wire)
}

/// Reads the name at `at`, following pointers; also says where the next field begins.
pub(crate) fn read_name(message: &[u8], at: usize) -> Option<(WireName, usize)> {
    let mut wire = Vec::new();
    let (mut at, mut next) = (at, None);
    for _ in 0..256 {
        match *message.get(at)? {
            0 => {
                wire.push(0);
                return Some((wire, next.unwrap_or(at + 1)));
            }
            len @ 1..=63 => {
                let end = at + 1 + usize::from(len);
                wire.extend(message.get(at..end)?);
                at = end;
            }
            high @ 0xc0.. => {
                next.get_or_insert(at + 2);
                at = usize::from(high & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
            }
            _ => return None,
        }
    }
    None
}

/// The data of a received record with names uncompressed and in lower case, so that equal data compares equal.
pub(crate) fn canonical_data(rtype: RecordType, message: &[u8], at: usize, len: usize) -> Option<Vec<u8>> {
    let end = at.checked_add(len)?;
    let raw = message.get(at..end)?;
    let Some(fields) = layout(rtype) else { return Some(raw.to_vec()) };
    let mut data = Vec::new();
    let mut at = at;
    for field in fields {
        let len = match field {
            Field::Name => {
                let (name, next) = read_name(message, at)?;
                data.extend(name.to_ascii_lowercase());
                at = next;
                continue;
            }
            Field::U8 | Field::Algorithm => 1,
            Field::U16 | Field::Type => 2,
            Field::U32 | Field::Period | Field::Time | Field::Ipv4 => 4,
            Field::Ipv6 => 16,
            Field::Text | Field::Salt | Field::Hash => 1 + usize::from(*message.get(at)?),
            Field::Texts | Field::Hex | Field::Base64 | Field::Types | Field::Parameters => end.checked_sub(at)?,
        };
        data.extend(message.get(at..at + len)?);
        at += len;
    }
    Some(data)
}

/// Prints names as zone files do.
pub(crate) struct ShowName<'a>(pub(crate) &'a [u8]);

impl fmt::Display for ShowName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == [0] {
            return f.write_char('.');
        }
        while let [len @ 1..=63, after @ ..] = rest {
            let (label, next) = after.split_at_checked(usize::from(*len)).ok_or(fmt::Error)?;
            for octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b';' => write!(f, "\\{}", *octet as char)?,
                    0x21..=0x7e => f.write_char(*octet as char)?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_char('.')?;
            rest = next;
        }
        Ok(())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", ShowName(&self.owner), self.ttl)?;
        match self.class {
            1 => write!(f, "IN {}", self.rtype)?,
            3 => write!(f, "CH {}", self.rtype)?,
            class => write!(f, "CLASS{class} {}", self.rtype)?,
        }
        let shown = layout(self.rtype).and_then(|fields| show_data(fields, &self.data));
        match shown {
            Some(shown) => f.write_str(&shown),
            None => {
                write!(f, " \\# {} ", self.data.len())?;
                self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

/// Data in words, each with a blank before it; long keys and signatures are cut, they say nothing to a reader.
fn show_data(fields: &[Field], data: &[u8]) -> Option<String> {
    let mut out = String::new();
    let mut rest = data;
    for field in fields {
        match field {
            Field::Name => {
                let (name, next) = read_name(rest, 0)?;
                rest = rest.get(next..)?;
                write!(out, " {}", ShowName(&name))
            }
            Field::U8 | Field::Algorithm => write!(out, " {}", take(&mut rest, 1)?[0]),
            Field::U16 => write!(out, " {}", u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?)),
            Field::Type => write!(out, " {}", RecordType(u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?))),
            Field::U32 | Field::Period | Field::Time => {
                write!(out, " {}", u32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?))
            }
            Field::Ipv4 => write!(out, " {}", Ipv4Addr::from(<[u8; 4]>::try_from(take(&mut rest, 4)?).ok()?)),
            Field::Ipv6 => write!(out, " {}", Ipv6Addr::from(<[u8; 16]>::try_from(take(&mut rest, 16)?).ok()?)),
            Field::Text => write!(out, " \"{}\"", take_text(&mut rest)?.escape_ascii()),
            Field::Texts => {
                while !rest.is_empty() {
                    write!(out, " \"{}\"", take_text(&mut rest)?.escape_ascii()).ok()?;
                }
                Ok(())
            }
            Field::Hex | Field::Base64 | Field::Parameters => write!(out, " {}", ShowHex(std::mem::take(&mut rest))),
            Field::Salt | Field::Hash => write!(out, " {}", ShowHex(take_text(&mut rest)?)),
            Field::Types => types(std::mem::take(&mut rest)).iter().try_for_each(|rtype| write!(out, " {rtype}")),
        }
        .ok()?;
    }
    Some(out)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take(rest, 1)?[0];
    take(rest, usize::from(len))
}

/// The first few octets.
struct ShowHex<'a>(&'a [u8]);

impl fmt::Display for ShowHex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_char('-');
        }
        self.0.iter().take(12).try_for_each(|octet| write!(f, "{octet:02x}"))?;
        if self.0.len() > 12 { f.write_char('…') } else { Ok(()) }
    }
}

fn types(mut bitmap: &[u8]) -> Vec<RecordType> {
    let mut types = Vec::new();
    while let [window, len, after @ ..] = bitmap {
        let Some((bits, next)) = after.split_at_checked(usize::from(*len)) else { break };
        for (octet, bits) in bits.iter().enumerate() {
            let set = (0..8).filter(|bit| bits & (0x80 >> bit) != 0);
            types.extend(set.map(|bit| RecordType(u16::from(*window) << 8 | (octet * 8 + bit) as u16)));
        }
        bitmap = next;
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_with_ttl_and_class_in_any_order_and_from_their_surroundings() {
        let mut context = Context { origin: parse_name("example.", &[0]).unwrap(), ..Context::default() };
        for (line, shown) in [
            ("www 60 IN A 192.0.2.1", "www.example. 60 IN A 192.0.2.1"),
            ("www.kz. IN 1h30m A 192.0.2.1 ; a comment", "www.kz. 5400 IN A 192.0.2.1"),
            ("\tTXT \"a ; b\" c", "www.kz. 3600 IN TXT \"a ; b\" \"c\""),
            ("@ MX 10 mail", "example. 3600 IN MX 10 mail.example."),
            ("a\\.b NSEC a A TYPE4000", "a\\.b.example. 3600 IN NSEC a.example. A TYPE4000"),
            ("x. CH TXT y", "x. 3600 CH TXT \"y\""),
            ("x. TYPE4000 \\# 2 ab cd", "x. 3600 IN TYPE4000 \\# 2 abcd"),
        ] {
            assert_eq!(parse_record(line, &mut context).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn broken_records_are_errors() {
        for line in [
            "",
            "www",
            "www A",
            "www A 1.2.3",
            "www A 1.2.3.4 5",
            "a..b A 1.2.3.4",
            "www DS 1 8 2 abc",
            "www NSEC x. FOO",
        ] {
            assert!(parse_record(line, &mut Context::default()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn points_in_time_are_dates_or_seconds() {
        for (text, seconds) in
            [("19700101000000", 0), ("20070916134226", 1_189_950_146), ("20240229235959", 1_709_251_199), ("42", 42)]
        {
            assert_eq!(parse_time(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn data_compares_equal_whatever_the_case_and_compression_of_its_names() {
        let mut message = vec![0; 12];
        message.extend(b"\x07eXample\x00");
        let at = message.len();
        message.extend(b"\x00\x0a\x04Mail\xc0\x0c");
        let expected = parse_data(RecordType::MX, &["10", "mail.EXAMPLE."], &[0]).unwrap();
        assert_eq!(
            canonical_data(RecordType::MX, &message, at, 9),
            canonical_data(RecordType::MX, &expected, 0, expected.len()),
        );
    }
}
