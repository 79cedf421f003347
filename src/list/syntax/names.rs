//! Names as people write them in lists.

use ipnet::IpNet;

use super::note_hyphens;
use crate::list::{Note, Reason, Report};
use crate::name::{self, DomainName, MAX_LABEL_LEN, MAX_NAME_LEN, Name};

/// Reads names by the rules that all syntaxes share.
///
/// One dot at the end goes; ASCII becomes lower case and everything else
/// A-labels (UTS 46); letters, digits, hyphen and underscore make a label;
/// `localhost` and its family, addresses, and public suffixes are no names to
/// block. Text of one syntax and one list comes here, so buffers are kept.
pub(super) struct NameReader {
    allow_suffix: bool,
    wire: Vec<u8>,
    text: Vec<u8>,
}

type Refused = (Reason, &'static str);

impl NameReader {
    pub(super) fn new(allow_suffix: bool) -> Self {
        Self { allow_suffix, wire: Vec::with_capacity(MAX_NAME_LEN), text: Vec::with_capacity(MAX_NAME_LEN) }
    }

    /// Reads a name that a rule can be for.
    pub(super) fn read(&mut self, text: &[u8], report: &mut Report) -> Result<DomainName, Refused> {
        let name = self.read_any(text, report)?;
        self.guard(&name)?;
        Ok(name)
    }

    /// Reads a name that stands beside a rule: an exception, a target. Suffixes are fine there.
    pub(super) fn read_any(&mut self, text: &[u8], report: &mut Report) -> Result<DomainName, Refused> {
        if text.is_ascii() {
            self.read_ascii(text)?;
        } else {
            let Ok(unicode) = std::str::from_utf8(text) else {
                return Err((Reason::NotUtf8, "write the file in UTF-8"));
            };
            let ascii = name::to_ascii(unicode)
                .map_err(|_| (Reason::InvalidName, "a label is no internationalised name by UTS 46"))?;
            self.read_ascii(ascii.as_bytes())?;
            report.note(Note::Idn);
        }
        note_hyphens(&self.wire, report);
        Ok(Name::from_checked(&self.wire).to_owned())
    }

    /// Refuses names that must not come from a list.
    pub(super) fn guard(&mut self, name: &Name) -> Result<(), Refused> {
        const SUFFIX: Refused = (Reason::PublicSuffix, "everything below a public suffix; set allow-suffix if meant");
        if name.is_root() {
            return Err((Reason::PublicSuffix, "the root is never taken from a list"));
        }
        self.text.clear();
        for label in name.labels() {
            if !self.text.is_empty() {
                self.text.push(b'.');
            }
            self.text.extend_from_slice(label);
        }
        let single = !self.text.contains(&b'.');
        let local = match &self.text[..] {
            b"localhost" | b"localhost.localdomain" | b"local" | b"broadcasthost" => true,
            text => single && text.starts_with(b"ip6-"),
        };
        if local {
            return Err((Reason::LocalName, "the machine's own name"));
        }
        if self.allow_suffix {
            return Ok(());
        }
        if single {
            return Err(SUFFIX);
        }
        match psl::suffix(&self.text) {
            Some(suffix) if suffix.as_bytes().len() == self.text.len() => Err(SUFFIX),
            _ => Ok(()),
        }
    }

    fn read_ascii(&mut self, text: &[u8]) -> Result<(), Refused> {
        const NOT_A_NAME: &str = "a name has letters, digits, hyphens and underscores between dots";
        let text = text.strip_suffix(b".").unwrap_or(text);
        self.wire.clear();
        self.wire.push(0);
        let mut label = 0;
        let mut all_numeric = true;
        for &octet in text {
            match octet {
                b'a'..=b'z' | b'-' | b'_' => {
                    all_numeric = false;
                    self.wire.push(octet);
                }
                b'0'..=b'9' => self.wire.push(octet),
                b'A'..=b'Z' => {
                    all_numeric = false;
                    self.wire.push(octet | 0x20);
                }
                b'.' => {
                    self.close(label)?;
                    label = self.wire.len();
                    self.wire.push(0);
                }
                b':' if is_address(text) => return Err((Reason::Address, "an address is no name")),
                _ => return Err((Reason::InvalidName, NOT_A_NAME)),
            }
        }
        self.close(label)?;
        self.wire.push(0);
        if self.wire.len() > MAX_NAME_LEN {
            return Err((Reason::InvalidName, "the name has more than 253 characters"));
        }
        if all_numeric && is_address(text) {
            return Err((Reason::Address, "an address is no name"));
        }
        Ok(())
    }

    fn close(&mut self, label: usize) -> Result<(), Refused> {
        match self.wire.len() - label - 1 {
            0 => Err((Reason::InvalidName, "a label is empty")),
            length if length > MAX_LABEL_LEN => Err((Reason::InvalidName, "a label has more than 63 characters")),
            length => {
                self.wire[label] = length as u8;
                Ok(())
            }
        }
    }
}

/// Whether `text` is an IP address, with or without a zone (`fe80::1%eth0`).
pub(super) fn is_address(text: &[u8]) -> bool {
    address(text).is_some()
}

/// The prefix of addresses that `text` is: an address, or one with a length, or either in the brackets of a URL.
pub(super) fn prefix(text: &[u8]) -> Option<IpNet> {
    let inner = text.strip_prefix(b"[").and_then(|text| text.strip_suffix(b"]")).unwrap_or(text);
    if let Some(address) = address(inner) {
        return Some(address.into());
    }
    let prefix: IpNet = std::str::from_utf8(inner).ok()?.parse().ok()?;
    // All addresses of a family are never meant.
    (prefix.prefix_len() > 0).then(|| prefix.trunc())
}

/// The IP address that `text` is; a zone behind it goes.
pub(super) fn address(text: &[u8]) -> Option<std::net::IpAddr> {
    // No address is longer than this, and a name seldom begins with a digit and ends with one.
    if text.len() > 64 || !text.first().is_some_and(|octet| octet.is_ascii_hexdigit() || *octet == b':') {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    text.split_once('%').map_or(text, |(address, _)| address).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::Format;
    use proptest::prelude::*;

    fn read(text: &str, allow_suffix: bool) -> Result<String, Reason> {
        let mut report = Report::new(Format::Domains);
        let read = NameReader::new(allow_suffix).read(text.as_bytes(), &mut report);
        read.map(|name| name.to_string()).map_err(|(reason, _)| reason)
    }

    #[test]
    fn names_are_read_by_the_shared_rules() {
        let long_label = format!("{}.example", "a".repeat(64));
        let longest = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        let too_long = format!("{longest}e");
        for (text, expected) in [
            ("Ads.Example.", Ok("ads.example")),
            ("_dmarc.9.example", Ok("_dmarc.9.example")),
            ("-lead.example-.org", Ok("-lead.example-.org")),
            ("0.0.0.0.beegl.example", Ok("0.0.0.0.beegl.example")),
            ("xn--80aesfpebagmfblc0a.xn--p1ai", Ok("xn--80aesfpebagmfblc0a.xn--p1ai")),
            ("Жарнама.қаз", Ok("xn--80aaav6aeu.xn--80ao21a")),
            ("faß.example", Ok("xn--fa-hia.example")),
            ("ads。example", Ok("ads.example")),
            (&longest, Ok(&longest)),
            (&too_long, Err(Reason::InvalidName)),
            (&long_label, Err(Reason::InvalidName)),
            ("a..example", Err(Reason::InvalidName)),
            (".example.org", Err(Reason::InvalidName)),
            ("a.example..", Err(Reason::InvalidName)),
            ("", Err(Reason::InvalidName)),
            (".", Err(Reason::InvalidName)),
            ("a b.example", Err(Reason::InvalidName)),
            ("a/b.example", Err(Reason::InvalidName)),
            ("http://a.example", Err(Reason::InvalidName)),
            ("a.example:80", Err(Reason::InvalidName)),
            ("a@b.example", Err(Reason::InvalidName)),
            (r"a\.b.example", Err(Reason::InvalidName)),
            ("div>x.example", Err(Reason::InvalidName)),
            ("192.0.2.1", Err(Reason::Address)),
            ("2001:db8::1", Err(Reason::Address)),
            ("localhost", Err(Reason::LocalName)),
            ("Localhost.Localdomain", Err(Reason::LocalName)),
            ("ip6-allnodes", Err(Reason::LocalName)),
            ("cdn.", Err(Reason::PublicSuffix)),
            ("com", Err(Reason::PublicSuffix)),
            ("co.uk", Err(Reason::PublicSuffix)),
            ("қаз", Err(Reason::PublicSuffix)),
            ("xn--80ao21a", Err(Reason::PublicSuffix)),
        ] {
            assert_eq!(read(text, false).as_deref(), expected.as_ref().copied(), "{text}");
        }
        assert_eq!(read("co.uk", true).as_deref(), Ok("co.uk"));
        assert_eq!(read("localhost", true), Err(Reason::LocalName));
    }

    #[test]
    fn an_address_may_have_a_zone() {
        assert!(is_address(b"fe80::1%lo0"));
        assert!(is_address(b"::"));
        assert!(!is_address(b"a.example"));
        assert!(!is_address(b"1.2.3"));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_a_name(text in any::<Vec<u8>>()) {
            let mut report = Report::new(Format::Domains);
            if let Ok(name) = NameReader::new(true).read(&text, &mut report) {
                prop_assert!(Name::from_wire(name.as_wire()).is_ok());
            }
        }
    }
}
