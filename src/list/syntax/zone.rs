//! Entries of a master file (RFC 1035, section 5.1), brought together from lines.

use crate::list::MAX_LINE_LEN;

/// One entry as it grows line by line: its words, without comments and parentheses.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    text: Vec<u8>,
    spans: Vec<Span>,
    depth: u32,
    /// The entry began with white space: its owner is the one before.
    pub(super) owner_omitted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    quoted: bool,
}

/// A word or a quoted string, with its escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) text: &'t [u8],
    pub(super) quoted: bool,
}

impl Tokens {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
        self.depth = 0;
        self.owner_omitted = false;
    }

    /// Whether a further line belongs to the entry.
    pub(super) fn is_open(&self) -> bool {
        self.depth > 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Token<'_>> {
        self.spans.iter().map(|span| Token { text: &self.text[span.start..span.end], quoted: span.quoted })
    }

    /// Takes a line; `Ok(true)` when the entry is whole with it.
    pub(super) fn push_line(&mut self, line: &[u8]) -> Result<bool, &'static str> {
        if self.text.len() + line.len() > MAX_LINE_LEN {
            return Err("the entry is longer than 64 KiB");
        }
        if self.spans.is_empty() && self.depth == 0 {
            self.owner_omitted = line.first().is_some_and(u8::is_ascii_whitespace);
        }
        let mut at = 0;
        while let Some(&octet) = line.get(at) {
            match octet {
                b' ' | b'\t' => at += 1,
                b';' => break,
                b'(' => {
                    self.depth += 1;
                    at += 1;
                }
                b')' => {
                    self.depth = self.depth.checked_sub(1).ok_or("a parenthesis is closed that was not opened")?;
                    at += 1;
                }
                b'"' => {
                    let end = end_of(line, at + 1, |octet| octet == b'"');
                    if end >= line.len() {
                        return Err("a quotation mark is not closed");
                    }
                    self.push(&line[at + 1..end], true);
                    at = end + 1;
                }
                _ => {
                    let end = end_of(line, at, |octet| b" \t;()\"".contains(&octet));
                    self.push(&line[at..end], false);
                    at = end;
                }
            }
        }
        Ok(self.depth == 0)
    }

    fn push(&mut self, text: &[u8], quoted: bool) {
        let start = self.text.len();
        self.text.extend_from_slice(text);
        self.spans.push(Span { start, end: self.text.len(), quoted });
    }
}

/// Where the first octet stands, from `start`, that is an end and that no backslash precedes.
fn end_of(line: &[u8], start: usize, is_end: impl Fn(u8) -> bool) -> usize {
    let mut at = start;
    while at < line.len() && !is_end(line[at]) {
        at += if line[at] == b'\\' { 2 } else { 1 };
    }
    at.min(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_strings_comments_and_parentheses_are_told_apart() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.push_line(br#"a\ b ( SOA "x; y" ; comment"#), Ok(false));
        assert_eq!(tokens.push_line(b" 1(2) ) end"), Ok(true));
        let words: Vec<_> = tokens.iter().map(|token| (token.text, token.quoted)).collect();
        let expected: [(&[u8], bool); 6] =
            [(br"a\ b", false), (b"SOA", false), (b"x; y", true), (b"1", false), (b"2", false), (b"end", false)];
        assert_eq!(words, expected);
        assert!(!tokens.owner_omitted);
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        assert!(Tokens::default().push_line(b"a )").is_err());
        assert!(Tokens::default().push_line(br#"a "b\""#).is_err());
        let mut endless = Tokens::default();
        assert_eq!(endless.push_line(b"("), Ok(false));
        assert!((0..1000).any(|_| endless.push_line(&[b'a'; 1000]).is_err()));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_an_error(line in any::<Vec<u8>>()) {
            let _ = Tokens::default().push_line(&line);
        }
    }
}
