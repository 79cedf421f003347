//! Where chains of trust begin, and where they are cut.

use std::collections::HashMap;

use crate::name::{DomainName, Name};
use crate::query::RecordType;
use crate::recursor::message::Rdata;

use super::algorithms::Algorithms;
use super::rdata::{Dnskey, Ds};

/// The keys of the root zone of 2017 and of 2024, as IANA publishes them (<https://data.iana.org/root-anchors/>).
const ROOT: &str = "
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

/// What is trusted of one zone without further proof.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anchor {
    /// Fingerprints of keys: DS data.
    pub ds: Vec<Rdata>,
    /// Keys: DNSKEY data.
    pub keys: Vec<Rdata>,
}

impl Anchor {
    /// The tags of the keys that are trusted.
    pub fn key_tags(&self) -> impl Iterator<Item = u16> + '_ {
        let ds = self.ds.iter().filter_map(|rdata| Ds::parse(rdata)).map(|ds| ds.key_tag);
        ds.chain(self.keys.iter().filter_map(|rdata| Dnskey::parse(rdata)).map(|key| key.key_tag()))
    }
}

/// Trust anchors by zone, and negative ones (RFC 7646).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustAnchors(HashMap<DomainName, Point>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Point {
    Trusted(Anchor),
    Negative,
}

/// What decides about a name: the closest point at or above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Governor<'a> {
    /// Nothing: it cannot be validated.
    None,
    /// A negative anchor: it is not validated.
    Negative,
    /// The anchor of this zone.
    Anchor(&'a Name, &'a Anchor),
}

/// Text that holds no trust anchors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct AnchorError {
    /// Where, counted from one.
    pub line: usize,
    /// What, and what to write instead.
    pub problem: &'static str,
}

impl TrustAnchors {
    /// The keys of the root zone of 2017 and 2024.
    pub fn built_in() -> Self {
        Self::parse(ROOT).expect("the text above is in zone-file form; a test reads it")
    }

    /// Reads DS and DNSKEY records in zone-file form, or the statements `trust-anchors`, `managed-keys` and
    /// `trusted-keys` of `named.conf`.
    ///
    /// Owners are absolute. Records of other types and `$` directives are passed over, so that a whole `root.key` or
    /// the apex of a zone can be given.
    ///
    /// # Errors
    ///
    /// At the first record that cannot be read.
    pub fn parse(text: &str) -> Result<Self, AnchorError> {
        let statements = ["trust-anchors", "managed-keys", "trusted-keys"];
        let mut anchors = Self::default();
        if text.lines().any(|line| statements.iter().any(|word| line.trim_start().starts_with(word))) {
            anchors.read_statements(text)?;
        } else {
            anchors.read_zone_file(text)?;
        }
        Ok(anchors)
    }

    /// Whether there is nothing to validate with.
    pub fn is_empty(&self) -> bool {
        !self.0.values().any(|point| matches!(point, Point::Trusted(_)))
    }

    /// Adds all of `other`; where both have a zone, both count.
    pub fn extend(&mut self, other: Self) {
        for (zone, point) in other.0 {
            match point {
                Point::Negative => self.distrust(&zone),
                Point::Trusted(anchor) => {
                    anchor.ds.into_iter().for_each(|ds| self.insert(&zone, RecordType::DS, ds));
                    anchor.keys.into_iter().for_each(|key| self.insert(&zone, RecordType::DNSKEY, key));
                }
            }
        }
    }

    /// Sets what is trusted of `zone`; nothing, when the anchor is empty.
    pub fn set(&mut self, zone: &Name, anchor: Anchor) {
        if anchor == Anchor::default() {
            self.0.remove(zone);
        } else {
            self.0.insert(zone.to_owned(), Point::Trusted(anchor));
        }
    }

    /// Stops validation at and below `zone`, up to an anchor further down.
    pub fn distrust(&mut self, zone: &Name) {
        self.0.insert(zone.to_owned(), Point::Negative);
    }

    /// The zones that have an anchor.
    pub fn zones(&self) -> impl Iterator<Item = (&Name, &Anchor)> {
        self.0.iter().filter_map(|(zone, point)| match point {
            Point::Trusted(anchor) => Some((&**zone, anchor)),
            Point::Negative => None,
        })
    }

    /// The anchor of exactly this zone.
    pub fn of(&self, zone: &Name) -> Option<&Anchor> {
        match self.0.get(zone) {
            Some(Point::Trusted(anchor)) => Some(anchor),
            _ => None,
        }
    }

    /// What decides about `name`.
    pub fn governing(&self, name: &Name) -> Governor<'_> {
        let closest = name.ancestors().find_map(|zone| self.0.get_key_value(zone));
        match closest {
            None => Governor::None,
            Some((_, Point::Negative)) => Governor::Negative,
            Some((zone, Point::Trusted(anchor))) => Governor::Anchor(zone, anchor),
        }
    }

    /// The zones whose anchors are all of algorithms or digests that cannot be checked, so that they are insecure.
    pub fn unsupported<'a>(&'a self, algorithms: &'a dyn Algorithms) -> impl Iterator<Item = &'a Name> {
        self.zones().filter(|(_, anchor)| !supported(anchor, algorithms)).map(|(zone, _)| zone)
    }

    fn insert(&mut self, zone: &Name, rtype: RecordType, rdata: Rdata) {
        let point = self.0.entry(zone.to_owned()).or_insert_with(|| Point::Trusted(Anchor::default()));
        let Point::Trusted(anchor) = point else { return };
        let list = if rtype == RecordType::DS { &mut anchor.ds } else { &mut anchor.keys };
        if !list.contains(&rdata) {
            list.push(rdata);
        }
    }

    fn read_zone_file(&mut self, text: &str) -> Result<(), AnchorError> {
        let mut words: Vec<&str> = Vec::new();
        let (mut depth, mut begin) = (0usize, 0);
        for (index, line) in text.lines().enumerate() {
            if depth == 0 {
                words.clear();
                begin = index + 1;
            }
            for word in line.split(';').next().unwrap_or("").split_whitespace() {
                depth = (depth + word.matches('(').count()).saturating_sub(word.matches(')').count());
                words.extend(word.split(['(', ')']).filter(|part| !part.is_empty()));
            }
            if depth == 0 && !words.is_empty() && !words[0].starts_with('$') {
                let record = read_record(&words).map_err(|problem| AnchorError { line: begin, problem })?;
                if let Some(Record { owner, rtype, rdata, .. }) = record {
                    self.insert(&owner, rtype, rdata);
                }
            }
        }
        if depth > 0 {
            return Err(AnchorError { line: begin, problem: "a parenthesis is not closed" });
        }
        Ok(())
    }

    /// Reads `name initial-key flags protocol algorithm "key";` and its like inside of statements.
    fn read_statements(&mut self, text: &str) -> Result<(), AnchorError> {
        let mut words: Vec<String> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split("//").next().filter(|_| !line.contains('"')).unwrap_or(line);
            let line = if line.trim_start().starts_with('#') { "" } else { line };
            for c in line.chars() {
                match c {
                    '{' => words.clear(),
                    '}' => {}
                    ';' => {
                        let entry: Vec<&str> = words.iter().map(|word| word.trim_matches('"')).collect();
                        if !entry.is_empty() {
                            self.read_entry(&entry).map_err(|problem| AnchorError { line: index + 1, problem })?;
                        }
                        words.clear();
                    }
                    c if c.is_whitespace() => words.push(String::new()),
                    c => match words.last_mut() {
                        Some(word) => word.push(c),
                        None => words.push(c.to_string()),
                    },
                }
            }
            words.push(String::new());
            words.retain(|word| !word.is_empty());
            words.push(String::new());
        }
        Ok(())
    }

    fn read_entry(&mut self, entry: &[&str]) -> Result<(), &'static str> {
        let entry: Vec<&str> = entry.iter().copied().filter(|word| !word.is_empty()).collect();
        let Some((owner, rest)) = entry.split_first() else { return Ok(()) };
        let owner: DomainName = owner.parse().map_err(|_| "the owner is not a domain name")?;
        match rest {
            ["static-ds" | "initial-ds", data @ ..] => {
                self.insert(&owner, RecordType::DS, read_ds(data).ok_or(BAD_DS)?)
            }
            ["static-key" | "initial-key", data @ ..] | data => {
                self.insert(&owner, RecordType::DNSKEY, read_dnskey(data).ok_or(BAD_DNSKEY)?);
            }
        }
        Ok(())
    }
}

const BAD_DS: &str = "the DS record cannot be read; write key tag, algorithm, digest type and digest in hex";
const BAD_DNSKEY: &str = "the DNSKEY record cannot be read; write flags, protocol, algorithm and key in base 64";

/// A DS or DNSKEY record as written in a zone file.
pub(super) struct Record {
    pub(super) owner: DomainName,
    pub(super) ttl: Option<u32>,
    pub(super) rtype: RecordType,
    pub(super) rdata: Rdata,
}

/// Reads owner, TTL and class if they are there, type, and data. A record of another type is `None`.
pub(super) fn read_record(words: &[&str]) -> Result<Option<Record>, &'static str> {
    let (owner, rest) = words.split_first().ok_or("there is no owner")?;
    let owner: DomainName = owner.parse().map_err(|_| "the owner is not a domain name")?;
    let is_ttl = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let prefix = rest.iter().take(2).take_while(|word| word.eq_ignore_ascii_case("IN") || is_ttl(word)).count();
    let ttl = rest[..prefix].iter().find(|word| is_ttl(word)).and_then(|word| word.parse().ok());
    let (rtype, data) = rest[prefix..].split_first().ok_or("there is no record type; write DS or DNSKEY")?;
    let rtype: RecordType = rtype.parse().map_err(|_| "the record type is unknown; write DS or DNSKEY")?;
    let rdata = match rtype {
        RecordType::DS => read_ds(data).ok_or(BAD_DS)?,
        RecordType::DNSKEY => read_dnskey(data).ok_or(BAD_DNSKEY)?,
        _ => return Ok(None),
    };
    Ok(Some(Record { owner, ttl, rtype, rdata }))
}

fn supported(anchor: &Anchor, algorithms: &dyn Algorithms) -> bool {
    let mut ds = anchor.ds.iter().filter_map(|rdata| Ds::parse(rdata));
    let mut keys = anchor.keys.iter().filter_map(|rdata| Dnskey::parse(rdata));
    ds.any(|ds| algorithms.supports(ds.algorithm) && algorithms.supports_digest(ds.digest_type))
        || keys.any(|key| algorithms.supports(key.algorithm))
}

fn read_ds(words: &[&str]) -> Option<Rdata> {
    let [tag, algorithm, digest_type, digest @ ..] = words else { return None };
    let mut rdata = tag.parse::<u16>().ok()?.to_be_bytes().to_vec();
    rdata.push(algorithm_number(algorithm)?);
    rdata.push(digest_type.parse().ok()?);
    let hex = digest.concat();
    if hex.is_empty() || hex.len() % 2 == 1 || !hex.is_ascii() {
        return None;
    }
    for pair in (0..hex.len()).step_by(2) {
        rdata.push(u8::from_str_radix(&hex[pair..pair + 2], 16).ok()?);
    }
    Some(rdata.into())
}

fn read_dnskey(words: &[&str]) -> Option<Rdata> {
    let [flags, protocol, algorithm, key @ ..] = words else { return None };
    let mut rdata = flags.parse::<u16>().ok()?.to_be_bytes().to_vec();
    rdata.push(protocol.parse().ok()?);
    rdata.push(algorithm_number(algorithm)?);
    rdata.extend(decode_base64(&key.concat())?);
    Dnskey::parse(&rdata)?;
    Some(rdata.into())
}

/// An algorithm by number or mnemonic (RFC 4034, appendix A.1).
fn algorithm_number(word: &str) -> Option<u8> {
    const MNEMONICS: [(&str, u8); 10] = [
        ("RSAMD5", 1),
        ("DSA", 3),
        ("RSASHA1", 5),
        ("RSASHA1-NSEC3-SHA1", 7),
        ("RSASHA256", 8),
        ("RSASHA512", 10),
        ("ECDSAP256SHA256", 13),
        ("ECDSAP384SHA384", 14),
        ("ED25519", 15),
        ("ED448", 16),
    ];
    let named = MNEMONICS.iter().find(|(mnemonic, _)| mnemonic.eq_ignore_ascii_case(word));
    named.map(|(_, number)| *number).or_else(|| word.parse().ok())
}

/// Base 64 with padding or without (RFC 4648, section 4).
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut octets = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in four {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - four.len());
        match four.len() {
            1 => return None,
            len => octets.extend(&bits.to_be_bytes()[1..len]),
        }
    }
    Some(octets)
}

/// Base 64 with padding (RFC 4648, section 4).
pub(super) fn encode_base64(octets: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for three in octets.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, place| bits << 8 | u32::from(three.get(place).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = digits[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recursor::dnssec::StandardAlgorithms;
    use proptest::prelude::*;

    #[test]
    fn the_roots_keys_are_built_in() {
        let anchors = TrustAnchors::built_in();
        let mut tags: Vec<u16> = anchors.of(Name::root()).unwrap().key_tags().collect();
        tags.sort_unstable();
        assert_eq!(tags, [20326, 38696]);
        assert_eq!(anchors.unsupported(&StandardAlgorithms::default()).count(), 0);
    }

    #[test]
    fn anchors_are_read_in_every_form_they_are_handed_round_in() {
        let key = "AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvk";
        for text in [
            format!("kz. 3600 IN DNSKEY 257 3 8 {key} ; id = 1"),
            format!("kz IN 3600 DNSKEY 257 3 RSASHA256 ( {}\n  {} )\n", &key[..10], &key[10..]),
            format!("; comment\n$TTL 5\n kz.\tdnskey 257 3 8 {key}\nkz. IN NS ns.kz."),
            format!("trust-anchors {{\n  kz initial-key 257 3 8 \"{key}\";\n}};\n"),
            format!("managed-keys {{ \"kz.\" initial-key 257 3 8\n\"{}\n {}\"; }};", &key[..10], &key[10..]),
            format!("trusted-keys {{ // old\n# older\n kz. 257 3 8 \"{key}\"; }};"),
        ] {
            let anchors = TrustAnchors::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let anchor = anchors.of(&"kz".parse::<DomainName>().unwrap()).unwrap_or_else(|| panic!("{text}"));
            let expected = [&[1, 1, 3, 8], &decode_base64(key).unwrap()[..]].concat();
            assert_eq!((anchor.keys.len(), &*anchor.keys[0]), (1, &expected[..]), "{text}");
        }
        let ds = "trust-anchors { . static-ds 20326 8 2 \"E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\"; };";
        assert_eq!(TrustAnchors::parse(ds).unwrap().of(Name::root()).unwrap().ds.len(), 1);
    }

    #[test]
    fn an_anchor_that_cannot_be_read_is_named_by_its_line() {
        for (text, line) in [
            ("\nkz. IN DS 1 8 2 zz", 2),
            ("kz. IN DS 1 8 2 abc", 1),
            ("kz. IN DNSKEY 257 3 8 !", 1),
            ("kz. IN DNSKEY 257 3", 1),
            ("kz. IN", 1),
            ("; x\n\nkz. IN BOGUS 1", 3),
            ("kz. IN DNSKEY 257 3 8 (\nAwEAAaz/", 1),
            ("trust-anchors {\n kz initial-key 257 3 8 \"?\";\n};", 2),
        ] {
            assert_eq!(TrustAnchors::parse(text).map_err(|error| error.line), Err(line), "{text}");
        }
    }

    #[test]
    fn the_closest_anchor_decides() {
        let mut anchors = TrustAnchors::built_in();
        let name = |text: &str| text.parse::<DomainName>().unwrap();
        anchors.distrust(&name("kz"));
        anchors.set(&name("gov.kz"), Anchor { ds: vec![Box::from([0, 1, 8, 2, 9])], keys: vec![] });
        assert!(matches!(anchors.governing(&name("com")), Governor::Anchor(zone, _) if zone.is_root()));
        assert_eq!(anchors.governing(&name("www.kz")), Governor::Negative);
        assert!(
            matches!(anchors.governing(&name("www.gov.kz")), Governor::Anchor(zone, _) if *zone == *name("gov.kz"))
        );
    }

    #[test]
    fn anchors_of_unknown_algorithms_are_found() {
        let anchors = TrustAnchors::parse("kz. IN DS 1 200 2 aa\ncom. IN DS 1 8 200 aa\norg. IN DS 1 8 2 aa").unwrap();
        assert_eq!(anchors.unsupported(&StandardAlgorithms::default()).count(), 2);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-zA-Z0-9 .;(){}\"/+=\n\t-]{0,200}", word in 0..4usize) {
            let head = ["", ". IN DNSKEY 257 3 8 ", "trust-anchors {", ". DS 1 8 2 "][word];
            let _ = TrustAnchors::parse(&format!("{head}{text}"));
        }

        #[test]
        fn base_64_is_undone(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decode_base64(&encode_base64(&octets)), Some(octets));
        }
    }
}
