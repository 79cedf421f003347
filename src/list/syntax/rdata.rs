//! Record data between its text (RFC 1035, section 5, and each type's own RFC) and its wire form.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::zone::Token;
use crate::name::{DomainName, Name};
use crate::query::RecordType;

type Fault = &'static str;

/// Reads a name; one without a dot at its end is relative to `origin`.
pub(super) fn name(text: &[u8], origin: &Name) -> Result<DomainName, Fault> {
    const NO_NAME: Fault = "what should be a name is none";
    if text == b"@" {
        return Ok(origin.to_owned());
    }
    let parsed: DomainName = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NO_NAME)?;
    let backslashes = text.iter().rev().skip(1).take_while(|&&octet| octet == b'\\').count();
    if text.ends_with(b".") && backslashes % 2 == 0 || origin.is_root() {
        return Ok(parsed);
    }
    let wire = parsed.as_wire();
    let whole = [&wire[..wire.len() - 1], origin.as_wire()].concat();
    DomainName::from_wire(&whole).map_err(|_| "with its origin, the name is too long")
}

/// A TTL in seconds, or with units as in `1h30m` (RFC 2308, section 4, as BIND writes them).
pub(super) fn ttl(text: &[u8]) -> Option<u32> {
    let (mut total, mut number, mut digits, mut units) = (0_u32, 0_u32, false, false);
    for &octet in text {
        let unit = match octet.to_ascii_lowercase() {
            b'0'..=b'9' => {
                number = number.checked_mul(10)?.checked_add(u32::from(octet - b'0'))?;
                digits = true;
                continue;
            }
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        if !digits {
            return None;
        }
        total = total.checked_add(number.checked_mul(unit)?)?;
        (number, digits, units) = (0, false, true);
    }
    if !digits && !units {
        return None;
    }
    // RFC 2181, section 8: 31 bits.
    total.checked_add(number).filter(|&ttl| ttl <= i32::MAX as u32)
}

/// Reads record data of `rtype` into uncompressed wire form.
pub(super) fn parse(rtype: RecordType, fields: &[Token<'_>], origin: &Name) -> Result<Box<[u8]>, Fault> {
    if let [mark, length, data @ ..] = fields
        && mark.text == b"\\#"
    {
        return generic(length.text, data).and_then(|data| plausible(rtype, data));
    }
    let mut fields = Fields { fields: fields.iter(), origin, wire: Vec::new() };
    match rtype {
        RecordType::A => fields.address::<Ipv4Addr>(|address| address.octets().to_vec())?,
        RecordType::AAAA => fields.address::<Ipv6Addr>(|address| address.octets().to_vec())?,
        RecordType::NS | RecordType::CNAME | RecordType::PTR => fields.name()?,
        RecordType::MX | RecordType::AFSDB | RecordType::KX => {
            fields.number::<u16>()?;
            fields.name()?;
        }
        RecordType::RP => {
            fields.name()?;
            fields.name()?;
        }
        RecordType::TXT | RecordType::SPF | RecordType::RESINFO => {
            fields.string()?;
            while !fields.fields.as_slice().is_empty() {
                fields.string()?;
            }
        }
        RecordType::HINFO => {
            fields.string()?;
            fields.string()?;
        }
        RecordType::SRV => {
            (0..3).try_for_each(|_| fields.number::<u16>())?;
            fields.name()?;
        }
        RecordType::NAPTR => {
            (0..2).try_for_each(|_| fields.number::<u16>())?;
            (0..3).try_for_each(|_| fields.string())?;
            fields.name()?;
        }
        RecordType::CAA => {
            fields.number::<u8>()?;
            fields.string()?;
            let value = fields.next()?;
            fields.wire.extend(unescape(value.text)?);
        }
        RecordType::URI => {
            (0..2).try_for_each(|_| fields.number::<u16>())?;
            let value = fields.next()?;
            fields.wire.extend(unescape(value.text)?);
        }
        RecordType::SSHFP => {
            (0..2).try_for_each(|_| fields.number::<u8>())?;
            fields.hexadecimal()?;
        }
        RecordType::TLSA | RecordType::SMIMEA => {
            (0..3).try_for_each(|_| fields.number::<u8>())?;
            fields.hexadecimal()?;
        }
        RecordType::SVCB | RecordType::HTTPS => {
            fields.number::<u16>()?;
            fields.name()?;
            fields.parameters()?;
        }
        _ => return Err("the type's data is read in its generic form only: \\# length hexadecimal"),
    }
    if !fields.fields.as_slice().is_empty() {
        return Err("there is more than the type has");
    }
    Ok(fields.wire.into_boxed_slice())
}

struct Fields<'f> {
    fields: std::slice::Iter<'f, Token<'f>>,
    origin: &'f Name,
    wire: Vec<u8>,
}

impl<'f> Fields<'f> {
    fn next(&mut self) -> Result<&'f Token<'f>, Fault> {
        self.fields.next().ok_or("a field is missing")
    }

    fn text(&mut self) -> Result<&'f str, Fault> {
        std::str::from_utf8(self.next()?.text).map_err(|_| "a field is not UTF-8")
    }

    fn address<T: std::str::FromStr>(&mut self, octets: impl Fn(T) -> Vec<u8>) -> Result<(), Fault> {
        let address = self.text()?.parse().map_err(|_| "no address of the type's family")?;
        self.wire.extend(octets(address));
        Ok(())
    }

    fn name(&mut self) -> Result<(), Fault> {
        let target = name(self.next()?.text, self.origin)?;
        self.wire.extend_from_slice(target.as_wire());
        Ok(())
    }

    fn number<T: std::str::FromStr + Into<u32>>(&mut self) -> Result<(), Fault> {
        let number: u32 = self.text()?.parse::<T>().map_err(|_| "a number is missing or too large")?.into();
        self.wire.extend_from_slice(&number.to_be_bytes()[4 - size_of::<T>()..]);
        Ok(())
    }

    /// A character-string (RFC 1035, section 3.3).
    fn string(&mut self) -> Result<(), Fault> {
        let text = unescape(self.next()?.text)?;
        self.wire.push(u8::try_from(text.len()).map_err(|_| "a string has more than 255 octets")?);
        self.wire.extend(text);
        Ok(())
    }

    fn hexadecimal(&mut self) -> Result<(), Fault> {
        let data = from_hexadecimal(self.fields.by_ref())?;
        if data.is_empty() {
            return Err("hexadecimal data is missing");
        }
        self.wire.extend(data);
        Ok(())
    }

    /// SvcParams (RFC 9460, section 2.1): each key once, ascending on the wire.
    fn parameters(&mut self) -> Result<(), Fault> {
        let mut parameters: Vec<(u16, Vec<u8>)> = Vec::new();
        while let Ok(token) = self.next() {
            // `key="value"` comes as two tokens with nothing between them.
            let (key, value) = match token.text.iter().position(|&octet| octet == b'=') {
                Some(at) if at + 1 == token.text.len() => (&token.text[..at], Some(self.next()?.text)),
                Some(at) => (&token.text[..at], Some(&token.text[at + 1..])),
                None => (token.text, None),
            };
            let value = value.map(unescape).transpose()?;
            parameters.push(parameter(key, value)?);
        }
        parameters.sort();
        if parameters.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err("a parameter is there twice");
        }
        for (key, value) in parameters {
            self.wire.extend_from_slice(&key.to_be_bytes());
            let length = u16::try_from(value.len()).map_err(|_| "a parameter is too long")?;
            self.wire.extend_from_slice(&length.to_be_bytes());
            self.wire.extend(value);
        }
        Ok(())
    }
}

fn parameter(key: &[u8], value: Option<Vec<u8>>) -> Result<(u16, Vec<u8>), Fault> {
    const BAD: Fault = "a parameter's value is not of its key (RFC 9460)";
    let list = |value: Option<Vec<u8>>| -> Result<Vec<String>, Fault> {
        let text = String::from_utf8(value.ok_or(BAD)?).map_err(|_| BAD)?;
        Ok(text.split(',').map(str::to_owned).collect())
    };
    Ok(match key {
        b"alpn" => {
            let mut wire = Vec::new();
            for id in list(value)? {
                wire.push(u8::try_from(id.len()).ok().filter(|&length| length > 0).ok_or(BAD)?);
                wire.extend(id.bytes());
            }
            (1, wire)
        }
        b"no-default-alpn" => (2, if value.is_none() { Vec::new() } else { return Err(BAD) }),
        b"port" => {
            let [port] = &list(value)?[..] else { return Err(BAD) };
            (3, port.parse::<u16>().map_err(|_| BAD)?.to_be_bytes().to_vec())
        }
        b"ipv4hint" => {
            let mut wire = Vec::new();
            for hint in list(value)? {
                wire.extend(hint.parse::<Ipv4Addr>().map_err(|_| BAD)?.octets());
            }
            (4, wire)
        }
        b"ipv6hint" => {
            let mut wire = Vec::new();
            for hint in list(value)? {
                wire.extend(hint.parse::<Ipv6Addr>().map_err(|_| BAD)?.octets());
            }
            (6, wire)
        }
        key => {
            let number = key.strip_prefix(b"key").and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            (number.ok_or("no parameter; write its number as in key7=…")?, value.unwrap_or_default())
        }
    })
}

/// `\# length data` (RFC 3597, section 5).
fn generic(length: &[u8], data: &[Token<'_>]) -> Result<Vec<u8>, Fault> {
    let length: u16 =
        std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()).ok_or("\\# needs a length")?;
    let data = from_hexadecimal(data.iter())?;
    if data.len() != usize::from(length) {
        return Err("the length behind \\# is not that of the data");
    }
    Ok(data)
}

/// Refuses generic data that the type cannot have: it would go out on the wire as it is.
fn plausible(rtype: RecordType, data: Vec<u8>) -> Result<Box<[u8]>, Fault> {
    let fits = match rtype {
        RecordType::A => data.len() == 4,
        RecordType::AAAA => data.len() == 16,
        RecordType::NS | RecordType::CNAME | RecordType::PTR => DomainName::from_wire(&data).is_ok(),
        RecordType::MX => data.len() > 2 && DomainName::from_wire(&data[2..]).is_ok(),
        _ => true,
    };
    if fits { Ok(data.into_boxed_slice()) } else { Err("the data is not of the type") }
}

fn from_hexadecimal<'t>(tokens: impl Iterator<Item = &'t Token<'t>>) -> Result<Vec<u8>, Fault> {
    let mut digits = Vec::new();
    for token in tokens {
        for &octet in token.text {
            digits.push(char::from(octet).to_digit(16).ok_or("what should be hexadecimal is not")? as u8);
        }
    }
    if digits.len() % 2 != 0 {
        return Err("hexadecimal data ends in half an octet");
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Undoes `\X` and `\DDD`.
fn unescape(text: &[u8]) -> Result<Vec<u8>, Fault> {
    const BAD: Fault = "a backslash is not followed by a character or by three digits up to 255";
    let mut plain = Vec::with_capacity(text.len());
    let mut octets = text.iter();
    while let Some(&octet) = octets.next() {
        if octet != b'\\' {
            plain.push(octet);
            continue;
        }
        match octets.as_slice() {
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
                let value = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
                plain.push(u8::try_from(value).map_err(|_| BAD)?);
                octets.nth(2);
            }
            [b'0'..=b'9', ..] | [] => return Err(BAD),
            [other, ..] => {
                plain.push(*other);
                octets.next();
            }
        }
    }
    Ok(plain)
}

/// Writes record data as text that [`parse`] reads: plainly for the common types, else in the generic form.
pub(crate) fn to_text(rtype: RecordType, rdata: &[u8]) -> String {
    plain_text(rtype, rdata).unwrap_or_else(|| {
        let mut text = format!("\\# {}", rdata.len());
        if !rdata.is_empty() {
            text.push(' ');
        }
        for octet in rdata {
            let _ = write!(text, "{octet:02x}");
        }
        text
    })
}

fn plain_text(rtype: RecordType, rdata: &[u8]) -> Option<String> {
    let name = |wire: &[u8]| {
        let name = Name::from_wire(wire).ok()?;
        Some(if name.is_root() { ".".to_owned() } else { format!("{name}.") })
    };
    match rtype {
        RecordType::A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(rdata).ok()?).to_string()),
        RecordType::AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rdata).ok()?).to_string()),
        RecordType::NS | RecordType::CNAME | RecordType::PTR => name(rdata),
        RecordType::MX => {
            Some(format!("{} {}", u16::from_be_bytes([*rdata.first()?, *rdata.get(1)?]), name(&rdata[2..])?))
        }
        RecordType::TXT | RecordType::SPF => {
            let mut strings = Vec::new();
            let mut rest = rdata;
            while let Some((&length, tail)) = rest.split_first() {
                let (string, after) = tail.split_at_checked(usize::from(length))?;
                strings.push(quote(string));
                rest = after;
            }
            (!strings.is_empty()).then(|| strings.join(" "))
        }
        _ => None,
    }
}

fn quote(string: &[u8]) -> String {
    let mut text = String::from("\"");
    for &octet in string {
        match octet {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(octet));
            }
            b' '..=b'~' => text.push(char::from(octet)),
            _ => {
                let _ = write!(text, "\\{octet:03}");
            }
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::super::zone::Tokens;
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<(RecordType, Box<[u8]>), Fault> {
        let mut tokens = Tokens::default();
        tokens.push_line(text.as_bytes())?;
        let tokens: Vec<_> = tokens.iter().collect();
        let rtype: RecordType = std::str::from_utf8(tokens[0].text).unwrap().parse().unwrap();
        Ok((rtype, parse(rtype, &tokens[1..], &"o.example".parse::<DomainName>().unwrap())?))
    }

    #[test]
    fn record_data_becomes_wire() {
        for (text, wire) in [
            ("A 192.0.2.1", &[192, 0, 2, 1][..]),
            ("AAAA ::1", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            ("PTR A", b"\x01a\x01o\x07example\0"),
            ("PTR a.", b"\x01a\0"),
            ("MX 10 a.", b"\x00\x0a\x01a\0"),
            (r#"TXT "a b" c\100"#, b"\x03a b\x02cd"),
            ("SRV 1 2 3 a.", b"\0\x01\0\x02\0\x03\x01a\0"),
            (r#"CAA 0 issue "ca.example""#, b"\0\x05issueca.example"),
            ("TLSA 3 1 1 0a 0B", &[3, 1, 1, 10, 11]),
            ("HTTPS 1 . ipv4hint=192.0.2.1 alpn=h2,h3", b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x04\0\x04\xc0\0\x02\x01"),
            (r"TYPE999 \# 3 0a0b 0c", &[10, 11, 12]),
            (r"A \# 4 c0000201", &[192, 0, 2, 1]),
        ] {
            assert_eq!(read(text).map(|(_, wire)| wire), Ok(wire.into()), "{text}");
        }
        for text in [
            "A ::1",
            "A 192.0.2.1 x",
            "A",
            "MX a.",
            "MX 65536 a.",
            "TXT",
            "TLSA 3 1 1 0",
            "TYPE999 x",
            r"A \# 3 010203",
            r"TYPE9 \# 2 01",
            "HTTPS 1 . port=a",
            "HTTPS 1 . port=1 port=2",
            "PTR a..b",
            r"TXT \999",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_to_live_may_have_units() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("300", Some(300)),
            ("1h30m", Some(5400)),
            ("1W", Some(604_800)),
            ("2147483647", Some(i32::MAX as u32)),
            ("2147483648", None),
            ("h", None),
            ("", None),
            ("A", None),
            ("1x", None),
        ] {
            assert_eq!(ttl(text.as_bytes()), seconds, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            rtype in prop_oneof![Just(RecordType::A), Just(RecordType::TXT), Just(RecordType::MX), Just(RecordType(999))],
            rdata in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            // Data that is not of its type is written generically, and refused for the common types.
            let text = format!("{rtype} {}", to_text(rtype, &rdata));
            if let Ok((_, again)) = read(&text) {
                prop_assert_eq!(&again[..], &rdata[..]);
            } else {
                prop_assert!(rtype != RecordType(999) && rtype != RecordType::TXT);
            }
        }
    }
}
