//! How the reading of a list went.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::Format;

/// How many refused lines are kept with their text.
const KEPT_REFUSALS: usize = 10;
/// How much of a refused line is kept, in characters.
const KEPT_TEXT: usize = 120;

/// Why a line gave no rule.
///
/// An *error* is a line that its author would want to mend; the rest is well
/// formed and of no use here. Only errors count towards "mostly errors".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The line is not of the syntax.
    Malformed,
    /// What should be a name is none.
    InvalidName,
    /// The line is longer than 64 KiB.
    TooLong,
    /// The line is not UTF-8.
    NotUtf8,
    /// A value is not what its column, key or modifier takes.
    BadValue,
    /// An earlier entry of the same list says something else of the same name.
    Conflict,
    /// The name is a public suffix and the list has no `allow-suffix`.
    PublicSuffix,
    /// `localhost` and its family.
    LocalName,
    /// An address where a name would stand.
    Address,
    /// A hosts file maps the name to an address of its own.
    Redirect,
    /// A regular expression, a substring or a wildcard inside a name.
    Pattern,
    /// A modifier that changes what the rule means in a way that is not known here.
    Modifier,
    /// A modifier that only a browser can honour.
    BrowserOnly,
    /// A cosmetic rule.
    Cosmetic,
    /// An RPZ trigger of a kind that is not known.
    Trigger,
    /// A record, a class or an owner that says nothing about blocking.
    Record,
    /// An option of the program whose syntax it is, or a value of it that says nothing about blocking.
    Option,
    /// `$INCLUDE`, `include:` and `conf-file=`: other files are not read from a list.
    Include,
}

impl Reason {
    /// The closed set of labels that metrics and reports use.
    pub const LABELS: [&str; 18] = [
        "malformed",
        "invalid-name",
        "too-long",
        "not-utf8",
        "bad-value",
        "conflict",
        "public-suffix",
        "local-name",
        "address",
        "redirect",
        "pattern",
        "modifier",
        "browser-only",
        "cosmetic",
        "trigger",
        "record",
        "option",
        "include",
    ];

    /// The word for it in metrics and reports.
    pub fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }

    /// Those that are errors.
    const ERRORS: [Self; 5] = [Self::Malformed, Self::InvalidName, Self::TooLong, Self::NotUtf8, Self::BadValue];

    /// Whether the author of the list would want to mend the line.
    pub fn is_error(self) -> bool {
        Self::ERRORS.contains(&self)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

/// What was odd about a line that gave a rule all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Note {
    /// A label begins or ends with a hyphen.
    Hyphen,
    /// A name was not ASCII and became A-labels.
    Idn,
    /// An RPZ rule passes through by an alias to its own owner, as in the first format.
    OldPassthru,
    /// A pattern that ends in the middle of a label was taken for whole labels only.
    Narrowed,
    /// A delta removes or updates what is not there, or a `$badfilter` disables nothing.
    NoEffect,
    /// An entry says again what an earlier one of the list said.
    Duplicate,
    /// An entry of the same list already covers the name from above.
    Covered,
    /// A rule was taken out by `$badfilter` or by a later `op` of the list.
    Withdrawn,
}

impl Note {
    /// The closed set of labels that reports use.
    pub const LABELS: [&str; 8] =
        ["hyphen", "idn", "old-passthru", "narrowed", "no-effect", "duplicate", "covered", "withdrawn"];

    /// The word for it in reports.
    pub fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }
}

/// A line that gave no rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// Why.
    pub reason: Reason,
    /// What exactly is wrong and what to do.
    pub detail: String,
    /// The line itself, cut short.
    pub text: String,
}

/// What a list says of itself in its first comments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Header {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syntax: Option<String>,
}

/// How the reading of one list went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The syntax it was read as.
    pub format: Format,
    /// Octets read.
    pub bytes: u64,
    /// Lines read.
    pub lines: u64,
    /// Rules taken, before any were found to be duplicates.
    pub rules: u64,
    /// The first lines that gave no rule; errors push out the rest, for they are what a reader looks for.
    pub first: Vec<Refusal>,
    /// What the list says of itself.
    pub header: Header,
    refused: [u64; Reason::LABELS.len()],
    notes: [u64; Note::LABELS.len()],
}

impl Report {
    /// Nothing read yet.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            bytes: 0,
            lines: 0,
            rules: 0,
            first: Vec::new(),
            header: Header::default(),
            refused: [0; Reason::LABELS.len()],
            notes: [0; Note::LABELS.len()],
        }
    }

    /// How many lines gave no rule for `reason`.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize]
    }

    /// The lines that gave no rule, by the label of the reason; reasons that did not occur are left out.
    pub fn refused_by_reason(&self) -> BTreeMap<String, u64> {
        by_label(&Reason::LABELS, &self.refused)
    }

    /// How often something was odd about a rule.
    pub fn noted(&self, note: Note) -> u64 {
        self.notes[note as usize]
    }

    /// Lines that their author would want to mend.
    pub fn errors(&self) -> u64 {
        Reason::ERRORS.into_iter().map(|reason| self.refused(reason)).sum()
    }

    /// Counts something odd.
    pub fn note(&mut self, note: Note) {
        self.add_notes(note, 1);
    }

    /// Counts something odd that happened `times`.
    pub fn add_notes(&mut self, note: Note, times: u64) {
        self.notes[note as usize] += times;
    }

    /// Counts `times` refusals that are known by their number only.
    pub fn add_refused(&mut self, reason: Reason, times: u64) {
        self.refused[reason as usize] += times;
    }

    /// Counts a refused line, and keeps it if it is among the first. `detail` is only called when it is.
    pub fn refuse(&mut self, file: &str, line: u64, text: &[u8], reason: Reason, detail: impl FnOnce() -> String) {
        self.refused[reason as usize] += 1;
        if self.has_room_for(reason) {
            let text = String::from_utf8_lossy(&text[..text.len().min(4 * KEPT_TEXT)]);
            let text = text.chars().take(KEPT_TEXT).collect();
            self.first.push(Refusal { file: file.to_owned(), line, reason, detail: detail(), text });
        }
    }

    /// Whether a line refused for `reason` is kept; makes room for it.
    fn has_room_for(&mut self, reason: Reason) -> bool {
        if self.first.len() < KEPT_REFUSALS {
            return true;
        }
        let last_harmless = self.first.iter().rposition(|refusal| !refusal.reason.is_error());
        let pushed_out = last_harmless.filter(|_| reason.is_error()).map(|at| self.first.remove(at));
        pushed_out.is_some()
    }

    /// Takes up how the reading of a further file of the same list went.
    pub fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.lines += other.lines;
        self.rules += other.rules;
        for (mine, theirs) in self.refused.iter_mut().zip(other.refused) {
            *mine += theirs;
        }
        for (mine, theirs) in self.notes.iter_mut().zip(other.notes) {
            *mine += theirs;
        }
        for refusal in other.first {
            if self.has_room_for(refusal.reason) {
                self.first.push(refusal);
            }
        }
        if self.header == Header::default() {
            self.header = other.header;
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'r> {
            format: Format,
            bytes: u64,
            lines: u64,
            rules: u64,
            errors: u64,
            refused: BTreeMap<String, u64>,
            notes: BTreeMap<String, u64>,
            first_refused: &'r [Refusal],
            header: &'r Header,
        }
        Written {
            format: self.format,
            bytes: self.bytes,
            lines: self.lines,
            rules: self.rules,
            errors: self.errors(),
            refused: self.refused_by_reason(),
            notes: by_label(&Note::LABELS, &self.notes),
            first_refused: &self.first,
            header: &self.header,
        }
        .serialize(serializer)
    }
}

fn by_label(labels: &[&str], counts: &[u64]) -> BTreeMap<String, u64> {
    labels
        .iter()
        .zip(counts)
        .filter(|(_, count)| **count > 0)
        .map(|(label, count)| ((*label).to_owned(), *count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusals_are_kept_and_errors_push_out_the_rest() {
        let mut report = Report::new(Format::Adblock);
        for line in 1..=20 {
            report.refuse("a.txt", line, b"##.ad", Reason::Cosmetic, || "cosmetic".into());
        }
        report.refuse("a.txt", 21, "ә".repeat(500).as_bytes(), Reason::Malformed, || "no".into());
        assert_eq!(report.first.len(), KEPT_REFUSALS);
        assert_eq!(report.first.last().map(|last| (last.line, last.text.chars().count())), Some((21, KEPT_TEXT)));
        assert_eq!((report.refused(Reason::Cosmetic), report.errors()), (20, 1));

        let mut more = Report::new(Format::Adblock);
        more.refuse("b.txt", 1, b"##.ad", Reason::Cosmetic, || "cosmetic".into());
        more.refuse("b.txt", 2, b"a..b", Reason::InvalidName, || "no".into());
        report.merge(more);
        let errors: Vec<_> =
            report.first.iter().filter(|first| first.reason.is_error()).map(|first| first.line).collect();
        assert_eq!((report.first.len(), errors), (KEPT_REFUSALS, vec![21, 2]), "those of a further file too");
    }

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: std::collections::HashSet<_> = Reason::LABELS.into_iter().collect();
        assert_eq!(labels.len(), Reason::Include as usize + 1);
        assert_eq!(Note::LABELS.len(), Note::Withdrawn as usize + 1);
    }
}
