//! Tells the world which keys of the root are trusted: sentinel (RFC 8509) and key tag queries (RFC 8145).

use crate::name::{DomainName, Name};
use crate::query::RecordType;

use super::anchors::{Anchor, TrustAnchors};

/// What a name asks about a key of the root (RFC 8509, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentinel {
    /// `root-key-sentinel-is-ta-…`: answer, if the key is trusted.
    IsTrusted(u16),
    /// `root-key-sentinel-not-ta-…`: answer, if it is not.
    IsNotTrusted(u16),
}

impl Sentinel {
    /// Reads the first label of a question's name. Only A and AAAA questions ask (RFC 8509, section 3.1).
    pub fn of(name: &Name, qtype: RecordType) -> Option<Self> {
        let label = std::str::from_utf8(name.labels().next()?).ok()?;
        if !matches!(qtype, RecordType::A | RecordType::AAAA) {
            return None;
        }
        let rest = label.strip_prefix("root-key-sentinel-")?;
        let (make, tag): (fn(u16) -> Self, _) = match rest.strip_prefix("is-ta-") {
            Some(tag) => (Self::IsTrusted, tag),
            None => (Self::IsNotTrusted, rest.strip_prefix("not-ta-")?),
        };
        // Exactly five digits, zeros in front.
        let tag = Some(tag).filter(|tag| tag.len() == 5 && tag.bytes().all(|digit| digit.is_ascii_digit()))?;
        tag.parse().ok().map(make)
    }

    /// Whether an answer that is secure must be replaced by SERVFAIL (RFC 8509, section 3.2).
    pub fn fails(self, anchors: &TrustAnchors) -> bool {
        let trusted = |tag| anchors.of(Name::root()).is_some_and(|anchor| anchor.key_tags().any(|known| known == tag));
        match self {
            Self::IsTrusted(tag) => !trusted(tag),
            Self::IsNotTrusted(tag) => trusted(tag),
        }
    }
}

/// The name whose NULL record is asked for to tell a zone which of its keys are trusted (RFC 8145, section 5.1):
/// `_ta-4f66-9728.` and the zone.
pub fn key_tag_query(zone: &Name, anchor: &Anchor) -> Option<DomainName> {
    let mut tags: Vec<u16> = anchor.key_tags().collect();
    tags.sort_unstable();
    tags.dedup();
    let label = tags.iter().fold("_ta".to_owned(), |label, tag| format!("{label}-{tag:04x}"));
    (!tags.is_empty()).then(|| zone.child(label.as_bytes()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_exact_form_asks() {
        let a = RecordType::A;
        for (text, qtype, asked) in [
            ("root-key-sentinel-is-ta-20326.example", a, Some(Sentinel::IsTrusted(20326))),
            ("ROOT-key-sentinel-not-ta-00019.example", RecordType::AAAA, Some(Sentinel::IsNotTrusted(19))),
            ("root-key-sentinel-is-ta-20326.example", RecordType::TXT, None),
            ("root-key-sentinel-is-ta-2032.example", a, None),
            ("root-key-sentinel-is-ta-99999.example", a, None),
            ("root-key-sentinel-is-ta-+2032.example", a, None),
            ("www.root-key-sentinel-is-ta-20326.example", a, None),
            ("root-key-sentinel-ta-20326", a, None),
            (".", a, None),
        ] {
            assert_eq!(Sentinel::of(&name(text), qtype), asked, "{text} {qtype}");
        }
    }

    #[test]
    fn a_sentinel_fails_when_it_is_untrue() {
        let anchors = TrustAnchors::built_in();
        assert!(!Sentinel::IsTrusted(20326).fails(&anchors));
        assert!(Sentinel::IsNotTrusted(20326).fails(&anchors));
        assert!(Sentinel::IsTrusted(19036).fails(&anchors));
        assert!(!Sentinel::IsNotTrusted(19036).fails(&anchors));
    }

    #[test]
    fn the_key_tags_stand_in_order_in_the_signal() {
        let anchors = TrustAnchors::built_in();
        let anchor = anchors.of(Name::root()).unwrap();
        assert_eq!(key_tag_query(Name::root(), anchor), Some(name("_ta-4f66-9728")));
        assert_eq!(key_tag_query(Name::root(), &Anchor::default()), None);
    }
}
