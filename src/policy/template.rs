//! The text that a blocked answer gives: a template with places for what is on file about the entry.
//!
//! `{order_id}`, `{authority}`, `{legal_basis}`, `{category}`, `{jurisdiction}`,
//! `{reason}`, `{contact}`, `{lang}` and `{source_ref}` stand for the fields of
//! the [`Dossier`](crate::rule::Dossier) and are empty when it has none;
//! `{list}` is the list's name; `{{` and `}}` are braces.

use crate::snapshot::DossierText;

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A text of the dossier.
    Dossier(DossierText),
    /// The list's name.
    List,
}

/// Every placeholder.
const PLACES: [(&str, Place); 10] = [
    ("order_id", Place::Dossier(DossierText::OrderId)),
    ("authority", Place::Dossier(DossierText::Authority)),
    ("legal_basis", Place::Dossier(DossierText::LegalBasis)),
    ("category", Place::Dossier(DossierText::Category)),
    ("jurisdiction", Place::Dossier(DossierText::Jurisdiction)),
    ("reason", Place::Dossier(DossierText::Reason)),
    ("contact", Place::Dossier(DossierText::Contact)),
    ("lang", Place::Dossier(DossierText::Lang)),
    ("source_ref", Place::Dossier(DossierText::SourceRef)),
    ("list", Place::List),
];

/// A template that cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error("{{{0}}} is no placeholder; write one of {known}", known = known())]
    Unknown(String),
    /// A brace has no partner.
    #[error("a brace has no partner; write {{{{ or }}}} for a brace that is meant as text")]
    Unbalanced,
}

fn known() -> String {
    PLACES.map(|(name, _)| format!("{{{name}}}")).join(", ")
}

/// Checks that `template` can be filled.
///
/// # Errors
///
/// When it has an unknown placeholder or a lone brace.
pub fn check(template: &str) -> Result<(), TemplateError> {
    parts(template).try_for_each(|part| part.map(drop))
}

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'t> {
    Text(&'t str),
    Place(Place),
}

/// The pieces of a template from left to right.
fn parts(template: &str) -> impl Iterator<Item = Result<Part<'_>, TemplateError>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let brace = rest.find(['{', '}']).unwrap_or(rest.len());
        if brace > 0 {
            let (text, after) = rest.split_at(brace);
            rest = after;
            return Some(Ok(Part::Text(text)));
        }
        if rest.starts_with("{{") || rest.starts_with("}}") {
            let (brace, after) = (&rest[..1], &rest[2..]);
            rest = after;
            return Some(Ok(Part::Text(brace)));
        }
        let inside = std::mem::take(&mut rest).strip_prefix('{').map(|behind| behind.split_once('}'));
        match inside {
            None | Some(None) => Some(Err(TemplateError::Unbalanced)),
            Some(Some((name, after))) => {
                rest = after;
                let place = PLACES.iter().find(|(known, _)| *known == name);
                Some(place.map(|(_, place)| Part::Place(*place)).ok_or_else(|| TemplateError::Unknown(name.to_owned())))
            }
        }
    })
}

/// Fills `template` into `text`. What cannot be filled is left out; [`check`] has refused it before.
pub(super) fn fill<'p>(template: &str, text: &mut Text<'_>, field: impl Fn(Place) -> Option<&'p str>) {
    for part in parts(template) {
        match part {
            Ok(Part::Text(piece)) => text.push(piece),
            Ok(Part::Place(place)) => text.push(field(place).unwrap_or("")),
            Err(_) => {}
        }
    }
}

/// The longest EXTRA-TEXT that is given, in octets: it shares a datagram with the answer.
pub(crate) const MAX_TEXT: usize = 400;

/// A text that grows piece by piece behind what is there already, up to its limit.
#[derive(Debug)]
pub(super) struct Text<'b> {
    octets: &'b mut Vec<u8>,
    begin: usize,
    end: usize,
}

impl<'b> Text<'b> {
    /// An empty text behind `octets` that may take `room` more.
    pub(super) fn new(octets: &'b mut Vec<u8>, room: usize) -> Self {
        Self { begin: octets.len(), end: octets.len() + room, octets }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.octets.len() == self.begin
    }

    /// Appends `piece` up to the last whole character that fits; nothing follows what did not fit. Control characters
    /// become spaces: the text is shown on terminals and in browsers of people who did not write it.
    pub(super) fn push(&mut self, piece: &str) {
        let is_plain = piece.bytes().all(|octet| matches!(octet, b' '..=b'~'));
        if is_plain && self.octets.len() + piece.len() <= self.end {
            return self.octets.extend_from_slice(piece.as_bytes());
        }
        for character in piece.chars() {
            let character = if character.is_control() { ' ' } else { character };
            if self.octets.len() + character.len_utf8() > self.end {
                self.end = self.octets.len();
                return;
            }
            self.octets.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(template: &str, room: usize) -> String {
        let mut octets = b"in front: ".to_vec();
        let before = octets.len();
        let mut text = Text::new(&mut octets, room);
        fill(template, &mut text, |place| match place {
            Place::List => Some("kz"),
            Place::Dossier(DossierText::OrderId) => Some("№ 42"),
            Place::Dossier(DossierText::Reason) => Some("line\r\nbreak\u{1b}[31m"),
            Place::Dossier(_) => None,
        });
        String::from_utf8(octets.split_off(before)).unwrap()
    }

    #[test]
    fn placeholders_are_filled_and_braces_kept() {
        for (template, text) in [
            ("", ""),
            ("plain", "plain"),
            ("{list}: order {order_id}{authority}.", "kz: order № 42."),
            ("{{{list}}}", "{kz}"),
            ("{reason}", "line  break [31m"),
            ("{order_id}{order_id}", "№ 42№ 42"),
        ] {
            assert_eq!(check(template), Ok(()), "{template}");
            assert_eq!(filled(template, 100), text, "{template}");
        }
    }

    #[test]
    fn what_cannot_be_filled_is_an_error() {
        for (template, error) in [
            ("{nobody}", TemplateError::Unknown("nobody".into())),
            ("{}", TemplateError::Unknown(String::new())),
            ("{list", TemplateError::Unbalanced),
            ("list}", TemplateError::Unbalanced),
            ("a {list} {", TemplateError::Unbalanced),
            ("}", TemplateError::Unbalanced),
        ] {
            assert_eq!(check(template), Err(error), "{template}");
        }
        assert!(check("{nobody}").unwrap_err().to_string().contains("{order_id}"));
    }

    #[test]
    fn text_ends_with_the_last_whole_character_that_fits() {
        assert_eq!(filled("{order_id}", 2), "");
        assert_eq!(filled("{order_id}", 3), "№");
        assert_eq!(filled("abc№d", 5), "abc", "nothing follows what did not fit");
        assert_eq!(filled("abc", 0), "");
    }

    proptest! {
        #[test]
        fn any_text_is_checked_and_filled(template in "[{}a-z_№]{0,40}", room in 0usize..40) {
            let _ = check(&template);
            prop_assert!(filled(&template, room).len() <= room);
        }
    }
}
