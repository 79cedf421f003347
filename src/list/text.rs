//! Lines of a list: bounded, counted, and known not to be binary.

use std::io::{self, Read};

/// The longest line that is read; what is longer is refused and skipped.
pub const MAX_LINE_LEN: usize = 64 * 1024;

const BUFFER: usize = 4 * MAX_LINE_LEN;

/// Why lines cannot be had from a text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// Reading failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A control octet that no text has.
    #[error("line {line}, column {column}: octet 0x{octet:02x} is of no text; this is a binary file")]
    Binary {
        /// The line, from 1.
        line: u64,
        /// The octet in the line, from 1.
        column: usize,
        /// The octet.
        octet: u8,
    },
}

/// One line without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'b> {
    pub(super) number: u64,
    pub(super) text: &'b [u8],
    /// It was longer than [`MAX_LINE_LEN`]; `text` is its beginning.
    pub(super) cut: bool,
}

/// Reads lines that end in LF, CR LF or CR; a byte-order mark at the start is skipped.
pub(super) struct Lines<R> {
    input: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    ended: bool,
    number: u64,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { input, buffer, start: 0, end: 0, ended: false, number: 0, bytes: 0 }
    }

    /// Octets read from the input so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads until `ahead` octets are there or the input ends, and shows them.
    pub(super) fn peek(&mut self, ahead: usize) -> Result<&[u8], TextError> {
        while self.end - self.start < ahead.min(BUFFER) && !self.ended {
            self.fill()?;
        }
        if self.number == 0 && self.buffer[self.start..self.end].starts_with(b"\xEF\xBB\xBF") {
            self.start += 3;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, TextError> {
        if self.number == 0 {
            self.peek(3)?;
        }
        self.number += 1;
        let mut seen = 0;
        let mut cut = false;
        loop {
            let waiting = &self.buffer[self.start..self.end];
            match waiting[seen..].iter().position(|&octet| octet < b' ' && octet != b'\t' || octet == 0x7f) {
                Some(at) => {
                    let length = seen + at;
                    let ending = match (waiting[length], waiting.get(length + 1)) {
                        (b'\n', _) => 1,
                        (b'\r', Some(b'\n')) => 2,
                        // Whether LF follows is only known with the next octet.
                        (b'\r', None) if !self.ended => {
                            seen = length;
                            self.fill()?;
                            continue;
                        }
                        (b'\r', _) => 1,
                        (octet, _) => {
                            return Err(TextError::Binary { line: self.number, column: length + 1, octet });
                        }
                    };
                    let start = self.start;
                    self.start += length + ending;
                    let cut = cut || length > MAX_LINE_LEN;
                    let text = &self.buffer[start..start + length.min(MAX_LINE_LEN)];
                    return Ok(Some(Line { number: self.number, text, cut }));
                }
                None if self.ended => {
                    if waiting.is_empty() && !cut {
                        return Ok(None);
                    }
                    let start = self.start;
                    self.start = self.end;
                    let cut = cut || self.end - start > MAX_LINE_LEN;
                    let text = &self.buffer[start..self.end.min(start + MAX_LINE_LEN)];
                    return Ok(Some(Line { number: self.number, text, cut }));
                }
                None => {
                    seen = waiting.len();
                    if seen > MAX_LINE_LEN {
                        // The head stays for the report; the rest goes by.
                        cut = true;
                        self.end = self.start + MAX_LINE_LEN;
                        seen = MAX_LINE_LEN;
                    }
                    self.fill()?;
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.end == self.buffer.len() || self.start > BUFFER / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => {
                    self.end += read;
                    self.bytes += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

/// Whether a whole line is a comment, in any of the syntaxes.
pub(super) fn is_comment(line: &[u8]) -> bool {
    matches!(line, [b'#' | b'!' | b';', ..] | [b'/', b'/', ..] | [b'[', .., b']'])
}

/// The line without a comment behind it: a `#` that white space precedes.
pub(super) fn without_comment(line: &[u8]) -> &[u8] {
    let comment = line.windows(2).position(|pair| pair[0].is_ascii_whitespace() && pair[1] == b'#');
    line[..comment.unwrap_or(line.len())].trim_ascii_end()
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hands out a few octets at a time, so that every boundary is met.
    struct Trickle<'t>(&'t [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn all(text: &[u8], step: usize) -> Result<Vec<(u64, Vec<u8>, bool)>, String> {
        let mut lines = Lines::new(Trickle(text, step));
        let mut found = Vec::new();
        while let Some(line) = lines.next().map_err(|error| error.to_string())? {
            found.push((line.number, line.text.to_vec(), line.cut));
        }
        Ok(found)
    }

    #[test]
    fn lines_end_in_lf_cr_lf_or_cr_or_with_the_file() {
        for step in [1, 2, 3, 1000] {
            let lines = all(b"\xEF\xBB\xBFone\ntwo\r\nthree\rfour\n\r\nsix", step).unwrap();
            let texts: Vec<&[u8]> = lines.iter().map(|(_, text, _)| &text[..]).collect();
            assert_eq!(texts, [&b"one"[..], b"two", b"three", b"four", b"", b"six"]);
            assert_eq!(lines.last().unwrap().0, 6);
        }
        assert_eq!(all(b"a\n", 9).unwrap().len(), 1);
        assert_eq!(all(b"", 9).unwrap().len(), 0);
        assert_eq!(all(b"a\r", 1).unwrap().len(), 1);
    }

    #[test]
    fn a_control_octet_makes_the_file_binary_and_is_located() {
        assert_eq!(
            all(b"a.example\nb\x00", 4).unwrap_err(),
            "line 2, column 2: octet 0x00 is of no text; this is a binary file"
        );
        assert!(all(b"\x7fELF", 4).is_err());
        assert!(all(b"a\tb", 4).is_ok());
    }

    #[test]
    fn lines_of_64_kib_are_read_and_longer_ones_are_cut() {
        let fits = vec![b'a'; MAX_LINE_LEN];
        for (length, cut) in [(MAX_LINE_LEN, false), (MAX_LINE_LEN + 1, true), (10 * MAX_LINE_LEN, true)] {
            for ending in [&b"\nnext"[..], b"\r\nnext"] {
                let text = [&vec![b'a'; length][..], ending].concat();
                let lines = all(&text, 5000).unwrap();
                assert_eq!(lines, [(1, fits.clone(), cut), (2, b"next".to_vec(), false)], "{length}");
            }
        }
    }

    #[test]
    fn comments_behind_a_line_need_white_space_before_them() {
        for (line, rest) in [("a.b # c", "a.b"), ("a.b\t#c", "a.b"), ("a.b#c", "a.b#c"), ("a.b", "a.b")] {
            assert_eq!(without_comment(line.as_bytes()), rest.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_text_comes_in(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..200),
            step in 1_usize..20,
        ) {
            prop_assert_eq!(all(&text, step), all(&text, 10_000));
        }
    }
}
