//! Block lists as text: where they come from and what their lines mean.
//!
//! A [`Source`] is where text comes from, [`syntax`] turns it into
//! [`Rule`](crate::rule::Rule)s, a [`Report`] says how that went. Bringing the
//! rules of many lists into one file is the work of [`compile`](crate::compile).

pub mod convert;
pub mod fetch;
mod report;
mod source;
pub mod syntax;
mod text;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::rule::{Action, BlockReason};

pub use report::{Header, Note, Reason, Refusal, Report};
pub use source::{Source, SourceError};
pub use text::MAX_LINE_LEN;

/// The checked settings of one list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListSettings {
    /// Its name: a label of metrics, and the name of its folder in the state.
    pub name: String,
    /// Where its text comes from.
    pub source: Source,
    /// How its lines are written.
    pub format: Format,
    /// What a bare name means.
    pub match_scope: MatchScope,
    /// Whether `*.x` covers x too; `None` leaves it to the syntax: yes for [`Format::Wildcard`], no for the others.
    pub wildcard_apex: Option<bool>,
    /// What entries do that do not say it themselves.
    pub action: Action,
    /// What entries do whatever they say, exceptions outside response policy zones aside; `None` leaves it to them.
    pub override_action: Option<Action>,
    /// The reason that blocked answers give.
    pub reason: BlockReason,
    /// The template of the EXTRA-TEXT.
    pub ede_text: Option<String>,
    /// Higher goes first; lists of equal priority are judged together.
    pub priority: i32,
    /// Matches are counted and block nothing.
    pub shadow: bool,
    /// The TTL of blocked answers in seconds, when it is not the general one.
    pub ttl: Option<u32>,
    /// Whether entries may name a top-level domain or another public suffix.
    pub allow_suffix: bool,
    /// What an address in a hosts file means that is no sinkhole's.
    pub hosts_address: HostsAddress,
    /// What an address or prefix means that stands where a name would.
    pub bare_address: BareAddress,
    /// What stands between the columns of a CSV file.
    pub csv_delimiter: u8,
    /// The offset from UTC in which a date without a time is read.
    pub utc_offset: UtcOffset,
    /// How much of it is read.
    pub limits: Limits,
    /// How often a URL is asked for news.
    pub refresh: Duration,
    /// How long a download may take.
    pub timeout: Duration,
    /// Whose certificates prove who the server of a URL is; none: Mozilla's roots do.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl ListSettings {
    /// A list with the defaults of the configuration.
    pub fn new(name: impl Into<String>, source: Source) -> Self {
        Self {
            name: name.into(),
            source,
            format: Format::Auto,
            match_scope: MatchScope::Exact,
            wildcard_apex: None,
            action: Action::Sinkhole,
            override_action: None,
            reason: BlockReason::Blocked,
            ede_text: None,
            priority: 0,
            shadow: false,
            ttl: None,
            allow_suffix: false,
            hosts_address: HostsAddress::Ignore,
            bare_address: BareAddress::Ignore,
            csv_delimiter: b',',
            utc_offset: UtcOffset::default(),
            limits: Limits::default(),
            refresh: Duration::from_secs(6 * 3600),
            timeout: Duration::from_secs(120),
            authorities: Vec::new(),
        }
    }
}

/// How the lines of a list are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Found out from the first lines; see [`syntax::detect`].
    Auto,
    /// One name a line.
    Domains,
    /// `*.name`, `.name`, `=name` or a bare name a line.
    Wildcard,
    /// hosts(5): an address and names.
    Hosts,
    /// `||name^` and its kin, as DNS-level ad blockers read them.
    Adblock,
    /// `address=/name/` and its kin, from dnsmasq's configuration.
    Dnsmasq,
    /// `local-zone:` and `local-data:`, from Unbound's configuration.
    Unbound,
    /// A response policy zone as a master file.
    Rpz,
    /// RFC 4180 with a header row.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

impl Format {
    /// Every format, as the configuration writes it.
    pub const ALL: [(&str, Self); 10] = [
        ("auto", Self::Auto),
        ("domains", Self::Domains),
        ("wildcard", Self::Wildcard),
        ("hosts", Self::Hosts),
        ("adblock", Self::Adblock),
        ("dnsmasq", Self::Dnsmasq),
        ("unbound", Self::Unbound),
        ("rpz", Self::Rpz),
        ("csv", Self::Csv),
        ("jsonl", Self::Jsonl),
    ];

    /// The word for it in the configuration.
    pub fn label(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The text names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no format; write auto, domains, wildcard, hosts, adblock, dnsmasq, unbound, rpz, csv or jsonl")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.iter().find(|(label, _)| *label == text);
        found.map(|(_, format)| *format).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// What a bare name in a list means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchScope {
    /// That name.
    #[default]
    Exact,
    /// That name and every name below it.
    Subdomains,
}

/// What an address in a hosts file means that is no sinkhole's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostsAddress {
    /// The line is left out and counted.
    #[default]
    Ignore,
    /// The names get this address.
    Rewrite,
    /// The line is an error.
    Error,
}

/// What an address or prefix means that stands where a name would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareAddress {
    /// The line is left out and counted: in a list of names it is a slip, and many names may share an address.
    #[default]
    Ignore,
    /// Answers with such an address are meant.
    Answers,
}

/// An offset from UTC in seconds, east positive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub struct UtcOffset(pub i32);

/// The text is no offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no offset from UTC; write Z, +05:00 or -03:30")]
pub struct BadUtcOffset(pub String);

impl FromStr for UtcOffset {
    type Err = BadUtcOffset;

    /// `Z`, `+05:00` or `-03:30` (RFC 3339, section 5.6: time-offset).
    fn from_str(text: &str) -> Result<Self, BadUtcOffset> {
        let parse = || {
            if text.eq_ignore_ascii_case("z") {
                return Some(Self(0));
            }
            let sign = match text.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = text.get(1..)?.split_once(':')?;
            let number = |digits: &str, below: i32| {
                let plain = digits.len() == 2 && digits.bytes().all(|octet| octet.is_ascii_digit());
                plain.then(|| digits.parse::<i32>().ok()).flatten().filter(|&number| number < below)
            };
            Some(Self(sign * (number(hours, 24)? * 3600 + number(minutes, 60)? * 60)))
        };
        parse().ok_or_else(|| BadUtcOffset(text.to_owned()))
    }
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", self.0.abs() / 3600, self.0.abs() / 60 % 60)
    }
}

/// How much of a list is read before it is refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Limits {
    /// Octets of all its files together.
    pub max_bytes: u64,
    /// Lines of all its files together.
    pub max_lines: u64,
    /// Lines that are errors.
    pub max_errors: Option<u64>,
    /// Errors for every hundred lines that are rules or errors.
    pub max_error_percent: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 2 << 30, max_lines: 50_000_000, max_errors: None, max_error_percent: 50 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_written_as_they_are_read() {
        for (label, format) in Format::ALL {
            assert_eq!(label.parse(), Ok(format));
            assert_eq!(format.to_string(), label);
        }
        assert!("Domains".parse::<Format>().is_err());
    }

    #[test]
    fn offsets_from_utc_are_those_of_rfc_3339() {
        for (text, seconds) in [("Z", 0), ("+05:00", 18_000), ("-03:30", -12_600)] {
            assert_eq!(text.parse(), Ok(UtcOffset(seconds)));
        }
        for text in ["", "5", "+5:00", "+24:00", "+05:60", "+05-00", "+०५:००"] {
            assert!(text.parse::<UtcOffset>().is_err(), "{text}");
        }
        assert_eq!(UtcOffset(-12_600).to_string(), "-03:30");
    }
}
