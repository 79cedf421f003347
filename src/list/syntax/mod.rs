//! The syntaxes of block lists, one file each.
//!
//! A parser is handed line after line and gives [`Entry`]s; what it cannot take
//! it refuses with a reason, and goes on. Refusing a list as a whole, for what
//! all its lines say together, is done here.

mod adblock;
mod csv;
mod detect;
mod dnsmasq;
mod domains;
mod dossier;
mod hosts;
mod jsonl;
mod names;
mod rdata;
mod rpz;
mod unbound;
mod wildcard;
mod zone;

use std::io::Read;

use super::text::{self, Line, Lines, TextError};
use super::{BareAddress, Format, Header, ListSettings, MatchScope, Note, Reason, Report};
use crate::name::DomainName;
use crate::query::RecordType;
use crate::rule::{Owner, Rule, Scope, TypeFilter};
use names::NameReader;

pub use detect::detect;
pub(crate) use rdata::to_text as rdata_to_text;

/// How much of a file [`detect()`] looks at.
const DETECT_AHEAD: usize = 128 * 1024;

/// What a line of a list does to the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// It adds a rule.
    Add,
    /// It takes out what the list has said of the name so far.
    Remove,
    /// It puts its rule in the place of what the list has said of the name so far.
    Update,
    /// It takes out equal rules of all lists (`$badfilter`).
    Disable,
}

/// One line of a list, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The rule, or the name it is about.
    pub rule: Rule,
    /// What it does to the list.
    pub op: Op,
    /// In which of several ways that mean the same an ad-block rule is written;
    /// `$badfilter` needs it, because it takes out what is *written* alike.
    /// 0 for everything else.
    pub form: u8,
}

/// Why a list is refused as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// It cannot be read, or is binary.
    #[error("{file}: {source}")]
    Text {
        /// The file.
        file: String,
        /// What is wrong.
        source: TextError,
    },
    /// It is a web page.
    #[error("{0}: this is a web page, perhaps an error message of its server, and no list")]
    Html(String),
    /// It is larger than its limits.
    #[error("{file}: more than {limit} {what}; raise {key} if that is right")]
    TooLarge {
        /// The file.
        file: String,
        /// The limit.
        limit: u64,
        /// Of what.
        what: &'static str,
        /// The key of the configuration.
        key: &'static str,
    },
    /// Most lines, or more than allowed, are errors.
    #[error("{errors} errors beside {rules} rules, first in {first}; is {format} the right format?")]
    Errors {
        /// Lines that are errors.
        errors: u64,
        /// Rules.
        rules: u64,
        /// The first error: file, line and what is wrong.
        first: String,
        /// The syntax it was read as.
        format: Format,
    },
    /// A syntax without which nothing can be understood.
    #[error("{file}:{line}: {detail}")]
    Unusable {
        /// The file.
        file: String,
        /// The line.
        line: u64,
        /// What is missing.
        detail: String,
    },
}

/// Reads all files of one list, one after the other.
pub struct Reading<'s> {
    settings: &'s ListSettings,
    report: Option<Report>,
}

impl<'s> Reading<'s> {
    /// Nothing read yet.
    pub fn new(settings: &'s ListSettings) -> Self {
        Self { settings, report: None }
    }

    /// Reads one file to its end and gives its entries to `take`, in order.
    ///
    /// # Errors
    ///
    /// When it is binary, a web page or too large. Entries that were given
    /// before are the caller's to throw away.
    pub fn file(
        &mut self,
        name: &str,
        input: impl Read,
        take: &mut dyn FnMut(Entry),
        tick: &mut dyn FnMut(u64),
    ) -> Result<(), ListError> {
        let text_error = |source| ListError::Text { file: name.to_owned(), source };
        let limits = &self.settings.limits;
        let mut lines = Lines::new(input);
        let head = lines.peek(DETECT_AHEAD).map_err(text_error)?;
        if is_html(head) {
            return Err(ListError::Html(name.to_owned()));
        }
        let format = match self.settings.format {
            Format::Auto => detect(head),
            format => format,
        };
        let (bytes_before, lines_before) = self.report.as_ref().map_or((0, 0), |report| (report.bytes, report.lines));
        let mut context = Context::new(self.settings, format, name, take);
        let mut parser = parser_of(format, self.settings);
        while let Some(Line { number, text, cut }) = lines.next().map_err(text_error)? {
            context.line = number;
            context.report.lines = number;
            if cut {
                context.refuse(text, Reason::TooLong, || "write it in lines of up to 64 KiB".to_owned());
            } else {
                if number <= HEADER_LINES {
                    read_header(text, &mut context.report.header);
                }
                parser.line(text, &mut context);
            }
            if let Some(detail) = context.unusable.take() {
                return Err(ListError::Unusable { file: name.to_owned(), line: number, detail });
            }
            if number & 0xfff == 0 {
                tick(lines.bytes());
            }
            let too_large = |limit, what, key| ListError::TooLarge { file: name.to_owned(), limit, what, key };
            if bytes_before + lines.bytes() > limits.max_bytes {
                return Err(too_large(limits.max_bytes, "octets", "max-bytes"));
            }
            if lines_before + number > limits.max_lines {
                return Err(too_large(limits.max_lines, "lines", "max-lines"));
            }
            if limits.max_errors.is_some_and(|max| context.report.errors() > max) {
                break;
            }
        }
        parser.end(&mut context);
        context.report.bytes = lines.bytes();
        tick(lines.bytes());
        let report = context.report;
        match &mut self.report {
            Some(whole) => whole.merge(report),
            None => self.report = Some(report),
        }
        Ok(())
    }

    /// How it went with all files together.
    ///
    /// # Errors
    ///
    /// When most lines, or more than allowed, are errors.
    pub fn finish(self) -> Result<Report, ListError> {
        let report = self.report.unwrap_or_else(|| Report::new(self.settings.format));
        let limits = &self.settings.limits;
        let errors = report.errors();
        let too_many = limits.max_errors.is_some_and(|max| errors > max)
            || errors * 100 > (errors + report.rules) * u64::from(limits.max_error_percent);
        if too_many {
            let first = report.first.iter().find(|refusal| refusal.reason.is_error());
            let first = first.map_or_else(String::new, |refusal| {
                format!("{}:{}: {}: {}", refusal.file, refusal.line, refusal.reason.label(), refusal.detail)
            });
            return Err(ListError::Errors { errors, rules: report.rules, first, format: report.format });
        }
        Ok(report)
    }
}

/// A syntax.
trait Parser {
    /// Reads one line.
    fn line(&mut self, line: &[u8], context: &mut Context<'_>);

    /// The file has ended.
    fn end(&mut self, _context: &mut Context<'_>) {}
}

fn parser_of(format: Format, settings: &ListSettings) -> Box<dyn Parser> {
    match format {
        Format::Auto | Format::Domains => Box::new(domains::Domains),
        Format::Wildcard => Box::new(wildcard::Wildcard),
        Format::Hosts => Box::new(hosts::Hosts),
        Format::Adblock => Box::new(adblock::Adblock),
        Format::Dnsmasq => Box::new(dnsmasq::Dnsmasq),
        Format::Unbound => Box::new(unbound::Unbound),
        Format::Rpz => Box::new(rpz::Rpz::default()),
        Format::Csv => Box::new(csv::Csv::new(settings.csv_delimiter)),
        Format::Jsonl => Box::new(jsonl::Jsonl),
    }
}

/// What a parser works with: the settings of its list, and where things go.
struct Context<'c> {
    settings: &'c ListSettings,
    file: &'c str,
    line: u64,
    report: Report,
    take: &'c mut dyn FnMut(Entry),
    names: NameReader,
    /// Set by a parser that cannot go on.
    unusable: Option<String>,
}

impl<'c> Context<'c> {
    fn new(settings: &'c ListSettings, format: Format, file: &'c str, take: &'c mut dyn FnMut(Entry)) -> Self {
        let names = NameReader::new(settings.allow_suffix);
        Self { settings, file, line: 0, report: Report::new(format), take, names, unusable: None }
    }

    /// Takes a rule.
    fn rule(&mut self, rule: Rule) {
        self.entry(Entry { rule, op: Op::Add, form: 0 });
    }

    fn entry(&mut self, entry: Entry) {
        self.report.rules += 1;
        (self.take)(entry);
    }

    /// Counts a line, or a part of it, that gives no rule.
    fn refuse(&mut self, text: &[u8], reason: Reason, detail: impl FnOnce() -> String) {
        self.report.refuse(self.file, self.line, text, reason, detail);
    }

    /// Reads a name that a rule is for, by the rules that all syntaxes share; refuses what is none.
    fn name(&mut self, text: &[u8]) -> Option<DomainName> {
        match self.names.read(text, &mut self.report) {
            Ok(name) => Some(name),
            Err((reason, detail)) => {
                self.refuse(text, reason, || detail.to_owned());
                None
            }
        }
    }

    /// As [`name`](Self::name), or a prefix of addresses in a list that has them.
    fn owner(&mut self, text: &[u8]) -> Option<Owner> {
        let prefix = match self.settings.bare_address {
            BareAddress::Answers => names::prefix(text),
            BareAddress::Ignore => None,
        };
        prefix.map(Owner::Answer).or_else(|| self.name(text).map(Owner::Name))
    }

    /// What a bare name covers in this list.
    fn bare(&self) -> Scope {
        match self.settings.match_scope {
            MatchScope::Exact => Scope::Exact,
            MatchScope::Subdomains => Scope::Subdomains,
        }
    }

    /// The word of a line that has one, a comment aside; refuses a line that has more.
    fn only_word<'l>(&mut self, line: &'l [u8], hint: &str) -> Option<&'l [u8]> {
        let line = line.trim_ascii();
        if line.is_empty() || text::is_comment(line) {
            return None;
        }
        let line = text::without_comment(line);
        let mut words = text::words(line);
        let word = words.next()?;
        if words.next().is_some() {
            self.refuse(line, Reason::Malformed, || hint.into());
            return None;
        }
        Some(word)
    }

    /// What `*.name` covers in this list.
    fn starred(&self, apex_by_default: bool) -> Scope {
        if self.settings.wildcard_apex.unwrap_or(apex_by_default) { Scope::Subdomains } else { Scope::Below }
    }
}

/// Query types that are wanted, and `~` before those that are not; beside the first, the second say nothing.
///
/// `None` when a word is no type.
fn read_types<'w>(words: impl Iterator<Item = &'w str>) -> Option<TypeFilter> {
    let (mut only, mut except) = (Vec::new(), Vec::new());
    for word in words {
        let (types, word) = word.strip_prefix('~').map_or((&mut only, word), |word| (&mut except, word));
        types.push(word.parse::<RecordType>().ok()?);
    }
    for types in [&mut only, &mut except] {
        types.sort_unstable();
        types.dedup();
    }
    Some(if only.is_empty() { TypeFilter::Except(except) } else { TypeFilter::Only(only) })
}

/// Whether the text begins as a web page does.
fn is_html(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    [&b"<html"[..], b"<!doctype"]
        .iter()
        .any(|start| head.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start)))
}

/// How far into a file its header goes.
const HEADER_LINES: u64 = 64;

/// Takes `! Title: …` and its kin, which many lists begin with.
fn read_header(line: &[u8], header: &mut Header) {
    let Some((b'!' | b'#' | b';', rest)) = line.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let Some((key, value)) = text.split_once(':') else { return };
    let field = match key.trim().to_ascii_lowercase().as_str() {
        "title" => &mut header.title,
        "homepage" => &mut header.homepage,
        "license" | "licence" => &mut header.licence,
        "version" => &mut header.version,
        "last modified" => &mut header.last_modified,
        "expires" => &mut header.expires,
        "syntax" => &mut header.syntax,
        _ => return,
    };
    let value = value.trim();
    if field.is_none() && !value.is_empty() {
        *field = Some(value.chars().take(200).collect());
    }
}

/// Counts what is odd about a name that is taken all the same.
fn note_hyphens(wire: &[u8], report: &mut Report) {
    let mut at = 0;
    while wire[at] != 0 {
        let label = &wire[at + 1..=at + usize::from(wire[at])];
        if label.first() == Some(&b'-') || label.last() == Some(&b'-') {
            report.note(Note::Hyphen);
            return;
        }
        at += 1 + label.len();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::list::Source;
    use crate::rule::Action;

    fn settings(format: Format) -> ListSettings {
        let mut settings = ListSettings::new("test", Source::Inline(String::new()));
        settings.format = format;
        settings
    }

    /// Reads `text` and gives its entries and what it said of them.
    fn read_all(settings: &ListSettings, text: &[u8]) -> Result<(Vec<Entry>, Report), ListError> {
        let mut entries = Vec::new();
        let mut reading = Reading::new(settings);
        reading.file("test.txt", text, &mut |entry| entries.push(entry), &mut |_| ())?;
        let report = reading.report.take().unwrap();
        Ok((entries, report))
    }

    pub(super) fn entries(format: Format, text: &str) -> Vec<Entry> {
        read_all(&settings(format), text.as_bytes()).unwrap().0
    }

    pub(super) fn report(format: Format, text: &str) -> Report {
        read_all(&settings(format), text.as_bytes()).unwrap().1
    }

    /// The rules of `text` in words.
    pub(super) fn read(format: Format, text: &str, change: impl Fn(&mut ListSettings)) -> Vec<String> {
        let mut settings = settings(format);
        change(&mut settings);
        let entries = read_all(&settings, text.as_bytes()).unwrap().0;
        entries.into_iter().map(|entry| in_words(&entry.rule)).collect()
    }

    /// The reasons for which lines of `text` are refused, in order.
    pub(super) fn refused(format: Format, text: &str) -> Vec<Reason> {
        report(format, text).first.iter().map(|refusal| refusal.reason).collect()
    }

    /// Why `text` is refused as a whole.
    pub(super) fn fails(format: Format, text: &str) -> String {
        read_all(&settings(format), text.as_bytes()).unwrap_err().to_string()
    }

    fn in_words(rule: &Rule) -> String {
        let scope = match rule.scope {
            Scope::Exact => "exact",
            Scope::Below => "below",
            Scope::Subdomains => "subdomains",
        };
        let mut text = format!("{scope} {}", rule.owner);
        match &rule.action {
            None => {}
            Some(Action::Records(records)) if !records.is_empty() => {
                for record in records {
                    text += &format!(" {} {}", record.rtype, rdata::to_text(record.rtype, &record.rdata));
                    text += &record.ttl.map_or_else(String::new, |ttl| format!(" {ttl}"));
                }
            }
            Some(action) => text += &format!(" {action}"),
        }
        for (word, is_so) in [("important", rule.important), ("shadow", rule.shadow)] {
            if is_so {
                text += &format!(" {word}");
            }
        }
        match &rule.types {
            TypeFilter::All => {}
            TypeFilter::Only(types) => text += &format!(" only {types:?}"),
            TypeFilter::Except(types) => text += &format!(" except {types:?}"),
        }
        if !rule.except.is_empty() {
            text += &format!(" but {:?}", rule.except);
        }
        text
    }

    #[test]
    fn web_pages_binaries_and_oversized_files_are_refused_as_a_whole() {
        assert!(fails(Format::Auto, "\n <!DOCTYPE html><html>").contains("web page"));
        assert!(fails(Format::Auto, "\u{feff}<HTML>").contains("web page"));
        assert!(fails(Format::Domains, "a.example\nb\u{0}").contains("line 2, column 2"));
        let mut small = settings(Format::Domains);
        small.limits.max_lines = 1;
        assert!(read_all(&small, b"a.example\nb.example").unwrap_err().to_string().contains("max-lines"));
        small.limits.max_bytes = 5;
        assert!(read_all(&small, b"a.example").unwrap_err().to_string().contains("max-bytes"));
    }

    #[test]
    fn a_list_of_mostly_errors_is_refused_with_the_first_of_them() {
        let finish = |text: &str, change: &dyn Fn(&mut ListSettings)| {
            let mut settings = settings(Format::Hosts);
            change(&mut settings);
            let mut reading = Reading::new(&settings);
            reading.file("test.txt", text.as_bytes(), &mut |_| (), &mut |_| ()).unwrap();
            reading.finish()
        };
        let error = finish("0.0.0.0 a.example\na.example\nb.example\n", &|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("2 errors beside 1 rules, first in test.txt:2: malformed"), "{error}");
        assert!(finish("0.0.0.0 a.example\nb.example\n", &|_| ()).is_ok());
        assert!(finish("", &|_| ()).is_ok());
        let none = |list: &mut ListSettings| list.limits.max_errors = Some(0);
        assert!(finish("0.0.0.0 a.example\nb.example\n", &none).is_err());
    }

    #[test]
    fn lines_of_a_browser_list_are_no_errors() {
        let text = "||a.example^\n##.ad\n##.banner\n||b.example^$script\n/re/\n";
        let report = report(Format::Adblock, text);
        assert_eq!((report.rules, report.errors(), report.lines), (1, 0, 5));
    }

    #[test]
    fn a_header_and_several_files_make_one_report() {
        let settings = settings(Format::Auto);
        let mut reading = Reading::new(&settings);
        for text in ["! Title: Ads\n! Expires: 1 day\n||a.example^\n", "b.example\nc d\n"] {
            reading.file("x", text.as_bytes(), &mut |_| (), &mut |_| ()).unwrap();
        }
        let report = reading.finish().unwrap();
        assert_eq!((report.rules, report.lines, report.errors()), (2, 5, 1));
        assert_eq!(report.header.title.as_deref(), Some("Ads"));
        assert_eq!(report.header.expires.as_deref(), Some("1 day"));
    }

    #[test]
    fn a_line_that_is_too_long_is_one_error() {
        let text = format!("a.example\n{}\nb.example\n", "x".repeat(100_000));
        let (entries, report) = read_all(&settings(Format::Domains), text.as_bytes()).unwrap();
        assert_eq!((entries.len(), report.refused(Reason::TooLong)), (2, 1));
    }

    fn any_format() -> impl Strategy<Value = Format> {
        proptest::sample::select(Format::ALL.map(|(_, format)| format).to_vec())
    }

    /// Fragments of all syntaxes, so that random text gets past the first check.
    fn fragment() -> impl Strategy<Value = String> {
        let fragments = [
            "||",
            "@@",
            "^",
            "$",
            "important",
            "dnstype=",
            "~A",
            "|",
            "*.",
            "a.example",
            "kz",
            " ",
            "\t",
            "\n",
            "#",
            "##",
            "address=/",
            "/",
            "local-zone:",
            "\"",
            "static",
            "local-data:",
            "CNAME",
            ".",
            "TXT",
            "(",
            ")",
            ";",
            "$GENERATE",
            "1-3",
            "${0,3,x}",
            "\\",
            "\\#",
            "24.0.2.0.192.rpz-ip",
            "zz",
            "domain",
            ",",
            "{",
            "}",
            ":",
            "op",
            "0.0.0.0",
            "::",
            "қаз",
            "\u{feff}",
            "HTTPS 1 . alpn=",
            "'",
            "2026-01-01",
        ];
        prop_oneof![8 => proptest::sample::select(fragments.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
    }

    proptest! {
        #[test]
        fn any_octets_are_rules_refusals_or_an_error(
            format in any_format(),
            text in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let _ = read_all(&settings(format), &text);
        }

        #[test]
        fn any_text_is_rules_refusals_or_an_error(
            format in any_format(),
            parts in proptest::collection::vec(fragment(), 0..40),
        ) {
            if let Ok((entries, report)) = read_all(&settings(format), parts.concat().as_bytes()) {
                prop_assert_eq!(entries.len() as u64, report.rules);
                for entry in entries {
                    let name = entry.rule.owner.name().map(crate::name::Name::as_wire);
                    prop_assert!(name.is_none_or(|wire| wire.len() > 1 && crate::name::Name::from_wire(wire).is_ok()));
                }
            }
        }
    }
}
