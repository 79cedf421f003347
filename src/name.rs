//! Domain names in one normal form: lower-case wire labels.
//!
//! [`DomainName`] owns its octets, [`Name`] borrows them, as `PathBuf` and
//! `Path` do. Whoever holds either knows that the labels are well formed, at
//! most 63 octets each and 255 together (RFC 1035, section 3.1), and that ASCII
//! letters are lower case, so that equality of octets is equality of names
//! (RFC 4343). Everything else an octet may be is kept as it is.
//!
//! What people write in their own script is none of these until [`to_ascii`] has
//! made A-labels of it, at the edges where people write.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use ref_cast::RefCast;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smallvec::SmallVec;

/// The longest name on the wire, the root's zero octet included (RFC 1035, section 2.3.4).
pub const MAX_NAME_LEN: usize = 255;
/// The longest label (RFC 1035, section 2.3.4).
pub const MAX_LABEL_LEN: usize = 63;
/// The longest [`Name::reversed_key`]: every octet of a name may need two.
pub const MAX_KEY_LEN: usize = 2 * MAX_NAME_LEN;

/// A domain name, borrowed: lower-case wire labels up to and with the root's.
#[derive(PartialEq, Eq, Hash, RefCast)]
#[repr(transparent)]
pub struct Name([u8]);

/// A domain name, owned. Short names need no allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DomainName(SmallVec<[u8; 40]>);

/// Why text or octets are not a domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing stands between two dots, or there is no text at all.
    #[error("a label is empty; write one dot between labels")]
    EmptyLabel,
    /// A label is longer than 63 octets.
    #[error("a label has more than {MAX_LABEL_LEN} octets")]
    LabelTooLong,
    /// The name is longer than 255 octets on the wire.
    #[error("the name has more than {MAX_NAME_LEN} octets")]
    NameTooLong,
    /// A backslash is not followed by a character or by a number up to 255.
    #[error("a backslash must be followed by one character or by three digits up to 255")]
    BadEscape,
    /// The text is not ASCII.
    #[error("a character is not ASCII; write the name in its A-label form (xn--…)")]
    NotAscii,
    /// The text is no internationalised name.
    #[error("a label is no internationalised name by UTS 46; write it in its A-label form (xn--…)")]
    NotIdn,
    /// The octets end inside a label, or go on behind the root's.
    #[error("the octets are not one whole name")]
    Malformed,
}

impl Name {
    /// The root.
    pub fn root() -> &'static Self {
        Self::ref_cast(&[0])
    }

    /// Checks that `wire` is one whole uncompressed name in lower case.
    ///
    /// # Errors
    ///
    /// When it is not; upper case counts as [`NameError::Malformed`].
    pub fn from_wire(wire: &[u8]) -> Result<&Self, NameError> {
        if wire.len() > MAX_NAME_LEN {
            return Err(NameError::NameTooLong);
        }
        let mut at = 0;
        loop {
            let len = usize::from(*wire.get(at).ok_or(NameError::Malformed)?);
            if len > MAX_LABEL_LEN {
                return Err(NameError::LabelTooLong);
            }
            at += 1 + len;
            if len == 0 {
                break;
            }
        }
        if at != wire.len() || wire.iter().any(u8::is_ascii_uppercase) {
            return Err(NameError::Malformed);
        }
        Ok(Self::ref_cast(wire))
    }

    /// Takes octets that the caller has just written label by label in lower case.
    ///
    /// Nothing unsafe hangs on it: a wrong name gives wrong answers, not bad memory.
    pub(crate) fn from_checked(wire: &[u8]) -> &Self {
        debug_assert!(Self::from_wire(wire).is_ok(), "{wire:?}");
        Self::ref_cast(wire)
    }

    /// The octets as they stand on the wire, in lower case.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The labels from left to right, without the root's.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = &self.0;
        std::iter::from_fn(move || {
            let (&len, tail) = rest.split_first()?;
            if len == 0 {
                return None;
            }
            let (label, after) = tail.split_at(usize::from(len));
            rest = after;
            Some(label)
        })
    }

    /// How many labels the name has, the root's not counted.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The name without its leftmost label; `None` for the root.
    pub fn parent(&self) -> Option<&Self> {
        let len = usize::from(self.0[0]);
        (len > 0).then(|| Self::ref_cast(&self.0[1 + len..]))
    }

    /// This name, its parent, and so on up to the root.
    pub fn ancestors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |name| name.parent())
    }

    /// The last `count` labels of this name, or all of it when it has fewer.
    pub fn suffix(&self, count: usize) -> &Self {
        let extra = self.label_count().saturating_sub(count);
        self.ancestors().nth(extra).unwrap_or(Self::root())
    }

    /// Whether this name is `other` or lies below it.
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        let Some(start) = self.0.len().checked_sub(other.0.len()) else {
            return false;
        };
        if self.0[start..] != other.0 {
            return false;
        }
        // The octets match; a label must also begin there, or `bads.example`
        // could pass for a child of `ads.example` when a length octet looks
        // like a letter.
        let mut at = 0;
        while at < start {
            at += 1 + usize::from(self.0[at]);
        }
        at == start
    }

    /// Whether this name lies below `other` and is not `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.is_at_or_below(other)
    }

    /// How many labels, counted from the root, this name shares with `other`.
    pub fn common_labels(&self, other: &Self) -> usize {
        let mine: SmallVec<[&[u8]; 16]> = self.labels().collect();
        let theirs: SmallVec<[&[u8]; 16]> = other.labels().collect();
        mine.iter().rev().zip(theirs.iter().rev()).take_while(|(a, b)| a == b).count()
    }

    /// The name one `label` below this one.
    ///
    /// # Errors
    ///
    /// When the label or the whole would be too long.
    pub fn child(&self, label: &[u8]) -> Result<DomainName, NameError> {
        let mut builder = Builder::default();
        builder.push(label)?;
        builder.finish_with(self)
    }

    /// This name with its ending `from` replaced by `to` (DNAME substitution, RFC 6672, section 2.2).
    ///
    /// # Errors
    ///
    /// When the name is not below `from`, or the result would be too long.
    pub fn with_suffix_replaced(&self, from: &Self, to: &Self) -> Result<DomainName, NameError> {
        if !self.is_at_or_below(from) {
            return Err(NameError::Malformed);
        }
        let kept = &self.0[..self.0.len() - from.0.len()];
        if kept.len() + to.0.len() > MAX_NAME_LEN {
            return Err(NameError::NameTooLong);
        }
        Ok(DomainName(kept.iter().chain(&to.0).copied().collect()))
    }

    /// The order of RFC 4034, section 6.1: by labels from the right, each as octets.
    pub fn canonical_cmp(&self, other: &Self) -> Ordering {
        let mine: SmallVec<[&[u8]; 16]> = self.labels().collect();
        let theirs: SmallVec<[&[u8]; 16]> = other.labels().collect();
        mine.iter().rev().cmp(theirs.iter().rev())
    }

    /// Writes the key under which a snapshot files this name, and returns it.
    ///
    /// Labels stand from the right to the left, each closed by a zero octet, so
    /// that a name's ancestors are its key's prefixes and keys sort in canonical
    /// order. Octets 0 and 1 inside a label are written as 1 followed by 1 or 2.
    /// `www.example.kz` is `kz\0example\0www\0`; the root's key is empty.
    pub fn reversed_key<'b>(&self, buffer: &'b mut [u8; MAX_KEY_LEN]) -> &'b [u8] {
        let mut starts = [0u8; 128];
        let (mut labels, mut at) = (0, 0);
        while self.0[at] != 0 {
            starts[labels] = at as u8;
            labels += 1;
            at += 1 + usize::from(self.0[at]);
        }
        self.reversed_suffix_key(&starts[..labels], buffer)
    }

    /// Writes the [`reversed_key`](Self::reversed_key) of an ancestor: that of the labels that begin at `starts`, from
    /// left to right, the last of them at the right end of this name.
    #[inline]
    pub(crate) fn reversed_suffix_key<'b>(&self, starts: &[u8], buffer: &'b mut [u8; MAX_KEY_LEN]) -> &'b [u8] {
        let mut end = 0;
        // Length octets count as well: of one-letter labels this knows too little, and goes the long way.
        let is_plain = self.0[..self.0.len() - 1].iter().fold(u8::MAX, |least, &octet| least.min(octet)) > 1;
        for &start in starts.iter().rev() {
            let label = &self.0[usize::from(start) + 1..][..usize::from(self.0[usize::from(start)])];
            if is_plain {
                buffer[end..end + label.len()].copy_from_slice(label);
                end += label.len();
            } else {
                for &octet in label {
                    if octet <= 1 {
                        buffer[end] = 1;
                        end += 1;
                    }
                    buffer[end] = if octet <= 1 { octet + 1 } else { octet };
                    end += 1;
                }
            }
            buffer[end] = 0;
            end += 1;
        }
        &buffer[..end]
    }
}

impl DomainName {
    /// The root.
    pub fn root() -> Self {
        Name::root().to_owned()
    }

    /// Takes one whole uncompressed name off the wire, whatever its case.
    ///
    /// # Errors
    ///
    /// When `wire` is not exactly one name.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        if wire.len() > MAX_NAME_LEN {
            return Err(NameError::NameTooLong);
        }
        let lower: SmallVec<[u8; 40]> = wire.iter().map(u8::to_ascii_lowercase).collect();
        // Length octets are at most 63, below every letter: lowering the case
        // of the whole has touched labels only.
        Name::from_wire(&lower)?;
        Ok(Self(lower))
    }

    /// Undoes [`Name::reversed_key`].
    ///
    /// # Errors
    ///
    /// When `key` is not what `reversed_key` writes.
    pub fn from_reversed_key(key: &[u8]) -> Result<Self, NameError> {
        let mut labels: SmallVec<[SmallVec<[u8; 64]>; 8]> = SmallVec::new();
        let mut label = SmallVec::new();
        let mut octets = key.iter();
        while let Some(&octet) = octets.next() {
            match octet {
                0 => labels.push(std::mem::take(&mut label)),
                1 => match octets.next() {
                    Some(&escaped @ 1..=2) => label.push(escaped - 1),
                    _ => return Err(NameError::Malformed),
                },
                octet => label.push(octet),
            }
        }
        if !label.is_empty() {
            return Err(NameError::Malformed);
        }
        let mut builder = Builder::default();
        for label in labels.iter().rev() {
            builder.push(label)?;
        }
        builder.finish_with(Name::root())
    }
}

/// Puts a name together label by label, left to right.
#[derive(Default)]
struct Builder(SmallVec<[u8; 40]>);

impl Builder {
    fn push(&mut self, label: &[u8]) -> Result<(), NameError> {
        match label.len() {
            0 => return Err(NameError::EmptyLabel),
            len if len > MAX_LABEL_LEN => return Err(NameError::LabelTooLong),
            len => self.0.push(len as u8),
        }
        self.0.extend(label.iter().map(u8::to_ascii_lowercase));
        if self.0.len() >= MAX_NAME_LEN {
            return Err(NameError::NameTooLong);
        }
        Ok(())
    }

    fn finish_with(mut self, ending: &Name) -> Result<DomainName, NameError> {
        if self.0.len() + ending.0.len() > MAX_NAME_LEN {
            return Err(NameError::NameTooLong);
        }
        self.0.extend_from_slice(&ending.0);
        Ok(DomainName(self.0))
    }
}

/// A name as people write it in their own script, with A-labels in place of what is not ASCII (UTS 46).
///
/// # Errors
///
/// When it is no internationalised name.
pub fn to_ascii(text: &str) -> Result<Cow<'_, str>, NameError> {
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text));
    }
    Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| NameError::NotIdn)
}

/// Master-file text (RFC 1035, section 5.1): dots between labels, `\.` and
/// `\DDD` for octets that are not plain, a dot at the end or not.
impl FromStr for DomainName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "." {
            return Ok(Self::root());
        }
        let mut builder = Builder::default();
        let mut label: SmallVec<[u8; 64]> = SmallVec::new();
        let mut octets = text.bytes();
        let mut ended = false;
        while let Some(octet) = octets.next() {
            ended = octet == b'.';
            match octet {
                b'.' => {
                    builder.push(&label)?;
                    label.clear();
                }
                b'\\' => label.push(unescape(&mut octets)?),
                octet if octet.is_ascii() => label.push(octet),
                _ => return Err(NameError::NotAscii),
            }
        }
        if !ended {
            builder.push(&label)?;
        }
        builder.finish_with(Name::root())
    }
}

fn unescape(octets: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    let first = octets.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return if first.is_ascii() { Ok(first) } else { Err(NameError::NotAscii) };
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = octets.next().filter(u8::is_ascii_digit).ok_or(NameError::BadEscape)?;
        value = value * 10 + u32::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

/// Master-file text without the final dot; the root is `.`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for (index, label) in self.labels().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => write!(f, "\\{}", char::from(octet))?,
                    0x21..=0x7e => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

/// Canonical order (RFC 4034, section 6.1).
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.canonical_cmp(other)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DomainName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.canonical_cmp(other)
    }
}

impl PartialOrd for DomainName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for DomainName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DomainName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl ToOwned for Name {
    type Owned = DomainName;

    fn to_owned(&self) -> DomainName {
        DomainName(SmallVec::from_slice(&self.0))
    }
}

impl Deref for DomainName {
    type Target = Name;

    fn deref(&self) -> &Name {
        Name::ref_cast(&self.0)
    }
}

impl Borrow<Name> for DomainName {
    fn borrow(&self) -> &Name {
        self
    }
}

impl AsRef<Name> for DomainName {
    fn as_ref(&self) -> &Name {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn text_is_read_and_written_in_one_normal_form() {
        for (text, written) in [
            ("WWW.Example.KZ.", "www.example.kz"),
            (".", "."),
            (r"a\.b.c", r"a\.b.c"),
            (r"\000\255.x", r"\000\255.x"),
            (r"a\ b.x", r"a\032b.x"),
            ("_dmarc.-x.1", "_dmarc.-x.1"),
        ] {
            assert_eq!(name(text).to_string(), written);
        }
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        let long = "a".repeat(64);
        let many = "abcdefg.".repeat(32);
        for (text, error) in [
            ("", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            (&*long, NameError::LabelTooLong),
            (&*many, NameError::NameTooLong),
            (r"a\", NameError::BadEscape),
            (r"a\25", NameError::BadEscape),
            (r"a\256", NameError::BadEscape),
            ("ә.kz", NameError::NotAscii),
        ] {
            assert_eq!(text.parse::<DomainName>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_name_lies_below_its_ancestors_and_beside_the_rest() {
        for (below, above, expected) in [
            ("a.b.ads.example", "ads.example", true),
            ("ads.example", "ads.example", true),
            ("bads.example", "ads.example", false),
            ("example", "ads.example", false),
            ("anything", ".", true),
            (r"x\003ads.example", "ads.example", false),
        ] {
            assert_eq!(name(below).is_at_or_below(&name(above)), expected, "{below} {above}");
        }
    }

    #[test]
    fn keys_put_a_name_behind_its_ancestors() {
        let mut buffer = [0; MAX_KEY_LEN];
        assert_eq!(name("www.example.kz").reversed_key(&mut buffer), b"kz\0example\0www\0");
        assert_eq!(name(".").reversed_key(&mut buffer), b"");
        assert_eq!(name(r"\000\001.a").reversed_key(&mut buffer), b"a\0\x01\x01\x01\x02\0");
    }

    #[test]
    fn canonical_order_is_that_of_rfc_4034() {
        let ordered = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "z.a.example",
            "zabc.a.example",
            "z.example",
            r"\001.z.example",
            "*.z.example",
            r"\200.z.example",
        ];
        for pair in ordered.windows(2) {
            assert!(name(pair[0]) < name(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn a_dname_moves_what_is_below_it() {
        let moved = name("a.b.old.kz").with_suffix_replaced(&name("old.kz"), &name("new.com"));
        assert_eq!(moved, Ok(name("a.b.new.com")));
        assert!(name("old.com").with_suffix_replaced(&name("old.kz"), &name("new.com")).is_err());
    }

    fn any_name() -> impl Strategy<Value = DomainName> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..=12), 0..8).prop_filter_map(
            "too long",
            |labels| {
                let mut builder = Builder::default();
                labels.iter().try_for_each(|label| builder.push(label)).ok()?;
                builder.finish_with(Name::root()).ok()
            },
        )
    }

    proptest! {
        #[test]
        fn every_name_survives_text_wire_and_key(name in any_name()) {
            prop_assert_eq!(&name.to_string().parse::<DomainName>().unwrap(), &name);
            prop_assert_eq!(&DomainName::from_wire(name.as_wire()).unwrap(), &name);
            let mut buffer = [0; MAX_KEY_LEN];
            prop_assert_eq!(&DomainName::from_reversed_key(name.reversed_key(&mut buffer)).unwrap(), &name);
        }

        #[test]
        fn keys_sort_as_names_do(a in any_name(), b in any_name()) {
            let (mut x, mut y) = ([0; MAX_KEY_LEN], [0; MAX_KEY_LEN]);
            prop_assert_eq!(a.reversed_key(&mut x).cmp(b.reversed_key(&mut y)), a.cmp(&b));
        }

        #[test]
        fn any_octets_are_a_name_or_an_error(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = DomainName::from_wire(&octets);
            let _ = DomainName::from_reversed_key(&octets);
            let _ = String::from_utf8_lossy(&octets).parse::<DomainName>();
        }
    }
}
