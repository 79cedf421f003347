//! Scenario files: the conversation format of Unbound's testbound and of CZ.NIC's Deckard.
//!
//! A file is a header of configuration, then a scenario: ranges of canned
//! replies that name servers give while the story is between two steps, and
//! the steps themselves. The two dialects share the grammar of ranges, entries
//! and steps; they differ in the header (Unbound's configuration language, or
//! a flat list of keys) and in what their words compare. The whole grammar is
//! read; a word that nobody knows is an error with its place.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qalqan::query::RecordType;

use super::record::{self, Context, Record, WireName};

/// Whose words a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Unbound,
    Deckard,
}

/// A file, read.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) dialect: Dialect,
    pub(crate) title: String,
    pub(crate) config: Vec<Setting>,
    /// Files that the header carries inline, by name: zones for response policies.
    pub(crate) files: BTreeMap<String, Vec<String>>,
    /// Trust anchor state files that the header carries inline, by name.
    pub(crate) anchor_files: BTreeMap<String, Vec<String>>,
    /// In the order in which they are looked through.
    pub(crate) ranges: Vec<Range>,
    pub(crate) steps: Vec<Step>,
}

/// One option of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) line: usize,
    /// The section it stands in: `server`, `stub-zone`, ...; empty in Deckard's dialect.
    pub(crate) clause: String,
    /// Counts sections, so that two stub zones stay apart.
    pub(crate) clause_number: usize,
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

/// Replies that servers give between two steps.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// The servers; none means any.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) entries: Vec<Entry>,
}

impl Range {
    pub(crate) fn covers(&self, step: u32, server: IpAddr) -> bool {
        (self.from..=self.to).contains(&step) && (self.addresses.is_empty() || self.addresses.contains(&server))
    }
}

/// A message with what it is compared by and how it is changed before it is sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) line: usize,
    pub(crate) matches: Matches,
    pub(crate) adjust: Adjust,
    /// Must be used (`MANDATORY`).
    pub(crate) mandatory: bool,
    /// The message, then further ones of the same stream.
    pub(crate) message: Message,
    pub(crate) more: Vec<Message>,
}

/// A message in parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The second word of the header, with opcode and the lower bits of the rcode.
    pub(crate) flags: u16,
    /// The whole response code.
    pub(crate) rcode: u16,
    pub(crate) dnssec_ok: bool,
    pub(crate) question: Vec<(WireName, RecordType, u16)>,
    pub(crate) sections: [Vec<Record>; 3],
    /// The data of the OPT record.
    pub(crate) options: Option<Vec<u8>>,
    /// Octets that are sent as they are, in place of all the rest.
    pub(crate) raw: Option<Vec<u8>>,
}

/// An OPT record to be written: payload size, DO, options.
pub(crate) type Edns<'a> = Option<(u16, bool, &'a [u8])>;

impl Message {
    /// The OPT record that the message itself asks for: it has one when it has DO or options.
    pub(crate) fn edns(&self, payload: u16) -> Edns<'_> {
        (self.dnssec_ok || self.options.is_some())
            .then(|| (payload, self.dnssec_ok, self.options.as_deref().unwrap_or_default()))
    }

    /// The message in wire form, without compression.
    pub(crate) fn to_wire(&self, id: u16, edns: Edns<'_>) -> Vec<u8> {
        let mut wire = Vec::with_capacity(512);
        let [answer, authority, additional] = self.sections.each_ref().map(Vec::len);
        let additional = additional + usize::from(edns.is_some());
        for word in [usize::from(id), usize::from(self.flags), self.question.len(), answer, authority, additional] {
            wire.extend((word as u16).to_be_bytes());
        }
        for (name, qtype, class) in &self.question {
            wire.extend(name);
            wire.extend(qtype.0.to_be_bytes());
            wire.extend(class.to_be_bytes());
        }
        for record in self.sections.iter().flatten() {
            wire.extend(&record.owner);
            wire.extend(record.rtype.0.to_be_bytes());
            wire.extend(record.class.to_be_bytes());
            wire.extend(record.ttl.to_be_bytes());
            wire.extend((record.data.len() as u16).to_be_bytes());
            wire.extend(&record.data);
        }
        if let Some((payload, dnssec_ok, options)) = edns {
            wire.extend([0, 0, 41]);
            wire.extend(payload.to_be_bytes());
            wire.extend([(self.rcode >> 4) as u8, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
            wire.extend((options.len() as u16).to_be_bytes());
            wire.extend(options);
        }
        wire
    }
}

/// What of a message must be as written (`MATCH`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Matches {
    pub(crate) opcode: bool,
    pub(crate) qtype: bool,
    pub(crate) qname: bool,
    pub(crate) qcase: bool,
    pub(crate) subdomain: bool,
    pub(crate) question: bool,
    pub(crate) flags: bool,
    pub(crate) rcode: bool,
    pub(crate) answer: bool,
    pub(crate) authority: bool,
    pub(crate) additional: bool,
    pub(crate) answer_types: bool,
    pub(crate) answer_signatures: bool,
    pub(crate) ttl: bool,
    pub(crate) all: bool,
    pub(crate) all_without_edns: bool,
    pub(crate) dnssec_ok: bool,
    pub(crate) compact_ok: bool,
    pub(crate) edns: bool,
    pub(crate) no_edns: bool,
    pub(crate) edns_data: bool,
    pub(crate) nsid: bool,
    pub(crate) client_cookie: bool,
    pub(crate) server_cookie: bool,
    pub(crate) transport: Option<Carrier>,
    pub(crate) serial: Option<u32>,
    pub(crate) ede: Option<EdeCode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdeCode {
    Any,
    Code(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Udp,
    Tcp,
}

/// What is changed in a canned reply before it is sent (`ADJUST`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Adjust {
    pub(crate) copy_id: bool,
    pub(crate) copy_query: bool,
    pub(crate) raw_id: bool,
    pub(crate) do_not_answer: bool,
    pub(crate) copy_client_subnet: bool,
    pub(crate) increment_ecs_scope: bool,
    pub(crate) sleep: Duration,
}

/// One moment of the story.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) number: u32,
    pub(crate) event: Event,
    /// Who asks, or which server is meant.
    pub(crate) address: Option<IpAddr>,
}

#[derive(Debug)]
pub(crate) enum Event {
    Nothing,
    Query(Entry),
    CheckAnswer(Entry),
    CheckOutQuery(Entry),
    Reply(Entry),
    Timeout,
    Error,
    Elapse(Duration),
    /// Time passes; how much is calculated when the moment comes.
    Evaluate(String),
    Traffic,
    Assign {
        variable: String,
        expression: String,
    },
    CheckAutotrust {
        id: String,
        lines: Vec<String>,
    },
    CheckTempfile,
    /// A hint about the speed of a server.
    InfraRtt,
    FlushMessage(String),
    ExpireMessage(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "NOTHING",
            Self::Query(_) => "QUERY",
            Self::CheckAnswer(_) => "CHECK_ANSWER",
            Self::CheckOutQuery(_) => "CHECK_OUT_QUERY",
            Self::Reply(_) => "REPLY",
            Self::Timeout => "TIMEOUT",
            Self::Error => "ERROR",
            Self::Elapse(_) | Self::Evaluate(_) => "TIME_PASSES",
            Self::Traffic => "TRAFFIC",
            Self::Assign { .. } => "ASSIGN",
            Self::CheckAutotrust { .. } => "CHECK_AUTOTRUST",
            Self::CheckTempfile => "CHECK_TEMPFILE",
            Self::InfraRtt => "INFRA_RTT",
            Self::FlushMessage(_) => "FLUSH_MESSAGE",
            Self::ExpireMessage(_) => "EXPIRE_MESSAGE",
        })
    }
}

/// A scenario could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptError {
    #[error("{path}: cannot be read: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}: {what}")]
    Line { path: PathBuf, line: usize, what: String },
}

/// Reads the file at `path`.
pub(crate) fn load(path: &Path) -> Result<Scenario, ScriptError> {
    let octets = std::fs::read(path).map_err(|source| ScriptError::File { path: path.to_owned(), source })?;
    // Some authors' names in comments are in old encodings.
    parse(path, &String::from_utf8_lossy(&octets))
}

/// Reads a scenario from text; `path` is for messages.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Scenario, ScriptError> {
    let mut reader = Reader { lines: text.lines().collect(), next: 0, context: Context::default() };
    reader.scenario().map_err(|what| ScriptError::Line { path: path.to_owned(), line: reader.next, what })
}

struct Reader<'t> {
    lines: Vec<&'t str>,
    /// The next line, counted from zero: the number, counted from one, of the line read last.
    next: usize,
    context: Context,
}

impl<'t> Reader<'t> {
    /// The next line as written.
    fn raw_line(&mut self) -> Option<&'t str> {
        let line = self.lines.get(self.next)?;
        self.next += 1;
        Some(line)
    }

    /// The next line that is more than blanks and comment, without them; a comment may begin with `;` or `#`.
    fn line(&mut self) -> Option<&'t str> {
        loop {
            let line = self.raw_line()?.trim();
            if !line.is_empty() && !line.starts_with([';', '#']) {
                return Some(line);
            }
        }
    }

    /// All lines up to the one that begins with `end`.
    fn block(&mut self, end: &str) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        loop {
            let line = self.raw_line().ok_or_else(|| format!("{end} is missing"))?;
            if line.trim_start().starts_with(end) {
                return Ok(lines);
            }
            lines.push(line.trim_end().to_owned());
        }
    }

    fn scenario(&mut self) -> Result<Scenario, String> {
        let mut scenario = Scenario {
            dialect: Dialect::Deckard,
            title: String::new(),
            config: Vec::new(),
            files: BTreeMap::new(),
            anchor_files: BTreeMap::new(),
            ranges: Vec::new(),
            steps: Vec::new(),
        };
        self.header(&mut scenario)?;
        if scenario.config.is_empty() {
            scenario.dialect = Dialect::Unbound;
        }
        let begin = self.line().ok_or("SCENARIO_BEGIN is missing")?;
        let title =
            begin.strip_prefix("SCENARIO_BEGIN").ok_or_else(|| format!("{begin:?} where SCENARIO_BEGIN belongs"))?;
        scenario.title = title.trim().to_owned();
        loop {
            let line = self.line().ok_or("SCENARIO_END is missing")?;
            let (keyword, rest) = split_word(line);
            match keyword {
                "RANGE_BEGIN" => {
                    let range = self.range(rest)?;
                    scenario.ranges.push(range);
                }
                "STEP" => {
                    let step = self.step(rest)?;
                    if scenario.steps.last().is_some_and(|last| last.number >= step.number) {
                        return Err(format!("step {} does not come after the step before it", step.number));
                    }
                    scenario.steps.push(step);
                }
                "SCENARIO_END" => break,
                // Both originals pass over stray lines between ranges and steps, such as a doubled RANGE_END.
                _ => {}
            }
        }
        if scenario.dialect == Dialect::Unbound {
            // The original puts each new range before the others.
            scenario.ranges.reverse();
        }
        Ok(scenario)
    }

    fn header(&mut self, scenario: &mut Scenario) -> Result<(), String> {
        let (mut clause, mut clause_number) = (String::new(), 0);
        loop {
            let line = self.line().ok_or("CONFIG_END is missing")?;
            let (keyword, rest) = split_word(line);
            match keyword {
                "CONFIG_END" => return Ok(()),
                "AUTOTRUST_FILE" => {
                    let lines = self.block("AUTOTRUST_END")?;
                    scenario.anchor_files.insert(rest.to_owned(), lines);
                }
                "TEMPFILE_CONTENTS" => {
                    let lines = self.block("TEMPFILE_END")?;
                    scenario.files.insert(rest.to_owned(), lines);
                }
                "TEMPFILE_NAME" => match scenario.config.last_mut() {
                    Some(setting) => setting.values.push(rest.to_owned()),
                    None => return Err("TEMPFILE_NAME without an option before it".to_owned()),
                },
                "COMMANDLINE" => {}
                _ => {
                    for word in config_words(line) {
                        let key = word.strip_suffix(':').filter(|key| is_option(key));
                        match (key, scenario.config.last_mut()) {
                            (Some(key), _) if CLAUSES.contains(&key) => {
                                scenario.dialect = Dialect::Unbound;
                                clause = key.to_owned();
                                clause_number += 1;
                            }
                            (Some(key), _) => scenario.config.push(Setting {
                                line: self.next,
                                clause: clause.clone(),
                                clause_number,
                                key: key.to_owned(),
                                values: Vec::new(),
                            }),
                            (None, Some(setting)) => setting.values.push(unquote(word).to_owned()),
                            (None, None) => return Err(format!("{word:?} belongs to no option")),
                        }
                    }
                }
            }
        }
    }

    fn range(&mut self, rest: &str) -> Result<Range, String> {
        let mut bounds = plain_words(rest).map(str::parse::<u32>);
        let (Some(Ok(from)), Some(Ok(to))) = (bounds.next(), bounds.next()) else {
            return Err("RANGE_BEGIN needs the first and the last step".to_owned());
        };
        let mut range = Range { from, to, addresses: Vec::new(), entries: Vec::new() };
        for address in plain_words(rest).skip(2) {
            range.addresses.push(parse_address(address)?);
        }
        loop {
            let line = self.line().ok_or("RANGE_END is missing")?;
            let (keyword, rest) = split_word(line);
            match keyword {
                "RANGE_END" => return Ok(range),
                "ADDRESS" => range.addresses.push(parse_address(rest)?),
                _ => {
                    self.next -= 1;
                    range.entries.push(self.entry()?);
                }
            }
        }
    }

    fn step(&mut self, rest: &str) -> Result<Step, String> {
        let line = self.next;
        let (number, rest) = split_word(rest);
        let number = number.parse().map_err(|_| format!("{number:?} is no number of a step"))?;
        let (event, mut rest) = split_word(rest);
        let event = match event {
            "NOTHING" => Event::Nothing,
            "QUERY" => Event::Query(self.entry()?),
            "CHECK_ANSWER" | "ANSWER" => Event::CheckAnswer(self.entry()?),
            "CHECK_OUT_QUERY" => Event::CheckOutQuery(self.entry()?),
            "REPLY" | "MOCK" => Event::Reply(self.entry()?),
            "TIMEOUT" => Event::Timeout,
            "ERROR" => Event::Error,
            "TRAFFIC" => Event::Traffic,
            "TIME_PASSES" => {
                let (how, amount) = split_word(rest);
                rest = "";
                match how {
                    "ELAPSE" => {
                        let seconds = amount.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
                        let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                        Event::Elapse(duration.ok_or_else(|| format!("{amount:?} is no number of seconds"))?)
                    }
                    "EVAL" => Event::Evaluate(amount.trim().to_owned()),
                    _ => return Err(format!("TIME_PASSES {how:?}; known are ELAPSE and EVAL")),
                }
            }
            "ASSIGN" => {
                let (variable, expression) = rest.split_once('=').ok_or("ASSIGN needs variable = expression")?;
                let assign =
                    Event::Assign { variable: variable.trim().to_owned(), expression: expression.trim().to_owned() };
                rest = "";
                assign
            }
            "CHECK_AUTOTRUST" | "CHECK_TEMPFILE" => {
                let name = rest.trim().to_owned();
                rest = "";
                let begin = self.line().unwrap_or_default();
                if !begin.starts_with("FILE_BEGIN") {
                    return Err("FILE_BEGIN is missing".to_owned());
                }
                let lines = self.block("FILE_END")?;
                match event {
                    "CHECK_AUTOTRUST" => Event::CheckAutotrust { id: name, lines },
                    _ => Event::CheckTempfile,
                }
            }
            "INFRA_RTT" => {
                let words: Vec<&str> = std::mem::take(&mut rest).split_whitespace().collect();
                let [server, _zone, _time] = words[..] else {
                    return Err("INFRA_RTT needs a server, a zone and a time".to_owned());
                };
                parse_address(server)?;
                Event::InfraRtt
            }
            "FLUSH_MESSAGE" => Event::FlushMessage(std::mem::take(&mut rest).trim().to_owned()),
            "EXPIRE_MESSAGE" => Event::ExpireMessage(std::mem::take(&mut rest).trim().to_owned()),
            _ => return Err(format!("{event:?} is no event of a step")),
        };
        let address = match split_word(rest) {
            ("ADDRESS", address) => Some(parse_address(address)?),
            _ => None,
        };
        Ok(Step { line, number, event, address })
    }

    fn entry(&mut self) -> Result<Entry, String> {
        let mut begin = self.line().ok_or("ENTRY_BEGIN is missing")?;
        while self.directive(begin) {
            begin = self.line().ok_or("ENTRY_BEGIN is missing")?;
        }
        if !begin.starts_with("ENTRY_BEGIN") {
            return Err(format!("{begin:?} where ENTRY_BEGIN belongs"));
        }
        let mut entry = Entry { line: self.next, ..Entry::default() };
        let mut message = Message::default();
        let mut section = None;
        loop {
            let line = self.line().ok_or("ENTRY_END is missing")?;
            if self.directive(line) {
                continue;
            }
            let (keyword, rest) = split_word(line);
            match keyword {
                "ENTRY_END" => break,
                "MATCH" => parse_matches(rest, &mut entry.matches)?,
                "ADJUST" => parse_adjust(rest, &mut entry.adjust)?,
                "REPLY" | "FLAGS" => parse_reply(rest, &mut message)?,
                "MANDATORY" => entry.mandatory = true,
                "EXTRA_PACKET" => entry.more.push(std::mem::take(&mut message)),
                "SECTION" => {
                    section = Some(match rest.split_whitespace().next() {
                        Some("QUESTION") => 0,
                        Some("ANSWER") => 1,
                        Some("AUTHORITY") => 2,
                        Some("ADDITIONAL") => 3,
                        _ => return Err(format!("{rest:?} is no section")),
                    });
                }
                "HEX_ANSWER_BEGIN" => message.raw = Some(parse_hex_lines(&self.block("HEX_ANSWER_END")?)?),
                "HEX_EDNSDATA_BEGIN" => message.options = Some(parse_hex_lines(&self.block("HEX_EDNSDATA_END")?)?),
                "RAW" => {
                    let digits = self.line().ok_or("RAW needs a line of hexadecimal digits")?;
                    let digits = if digits == "NULL" { "" } else { digits };
                    message.raw = Some(record::parse_hex(digits)?);
                }
                _ => match section {
                    Some(0) => message.question.push(record::parse_question(line, &self.context)?),
                    Some(at) => message.sections[at - 1].push(record::parse_record(line, &mut self.context)?),
                    None => return Err(format!("{keyword:?} is no word of an entry")),
                },
            }
        }
        // The first message is the entry's; what EXTRA_PACKET set aside came before.
        entry.more.push(message);
        entry.message = entry.more.remove(0);
        Ok(entry)
    }

    /// Takes `$ORIGIN` and `$TTL`.
    fn directive(&mut self, line: &str) -> bool {
        match split_word(line) {
            ("$ORIGIN", rest) => {
                if let Ok(origin) = record::parse_name(split_word(rest).0, &[0]) {
                    self.context.origin = origin;
                }
                true
            }
            ("$TTL", rest) => {
                if let Ok(ttl) = record::parse_period(split_word(rest).0) {
                    self.context.ttl = ttl;
                }
                true
            }
            _ => false,
        }
    }
}

/// The sections of Unbound's configuration language.
const CLAUSES: [&str; 12] = [
    "server",
    "stub-zone",
    "forward-zone",
    "auth-zone",
    "rpz",
    "view",
    "remote-control",
    "python",
    "dynlib",
    "dnscrypt",
    "cachedb",
    "ipset",
];

fn is_option(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-')
}

/// The words of a line of configuration: quotes of either kind hold a word together, `#` and `;` begin a comment.
fn config_words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut quote) = (None, None);
    for (at, character) in line.char_indices() {
        match quote {
            Some(open) if open == character => quote = None,
            Some(_) => {}
            None if character.is_whitespace() => words.extend(start.take().map(|start: usize| &line[start..at])),
            None if matches!(character, '#' | ';') && start.is_none() => return words,
            None => {
                start.get_or_insert(at);
                if matches!(character, '"' | '\'') {
                    quote = Some(character);
                }
            }
        }
    }
    words.extend(start.map(|start| &line[start..]));
    words
}

fn unquote(word: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| word.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(word)
}

fn split_word(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim_start()))
}

/// An address, perhaps with a port behind `@` and a comment behind it.
pub(crate) fn parse_address(text: &str) -> Result<IpAddr, String> {
    let word = text.split([';', '#']).next().and_then(|text| text.split_whitespace().next()).unwrap_or_default();
    let address = word.split('@').next().unwrap_or_default();
    address.parse().map_err(|_| format!("{word:?} is no address"))
}

/// The words of a line up to a comment.
fn plain_words(line: &str) -> impl Iterator<Item = &str> {
    line.split([';', '#']).next().unwrap_or_default().split_whitespace()
}

fn parse_matches(line: &str, matches: &mut Matches) -> Result<(), String> {
    for word in plain_words(line) {
        let (key, value) = word.split_once(['=', ':']).unwrap_or((word, ""));
        match key {
            "opcode" => matches.opcode = true,
            "qtype" => matches.qtype = true,
            "qname" => matches.qname = true,
            "qcase" => matches.qcase = true,
            "subdomain" => matches.subdomain = true,
            "question" => matches.question = true,
            "flags" => matches.flags = true,
            "rcode" => matches.rcode = true,
            "answer" => matches.answer = true,
            "authority" => matches.authority = true,
            "additional" => matches.additional = true,
            "answertypes" => matches.answer_types = true,
            "answerrrsigs" => matches.answer_signatures = true,
            "ttl" => matches.ttl = true,
            "all" => matches.all = true,
            "all_noedns" => matches.all_without_edns = true,
            "DO" => matches.dnssec_ok = true,
            "CO" => matches.compact_ok = true,
            "edns" => matches.edns = true,
            "noedns" => matches.no_edns = true,
            "ednsdata" => matches.edns_data = true,
            "nsid" => matches.nsid = true,
            "client_cookie" => matches.client_cookie = true,
            "server_cookie" => matches.server_cookie = true,
            "UDP" => matches.transport = Some(Carrier::Udp),
            "TCP" => matches.transport = Some(Carrier::Tcp),
            "serial" => matches.serial = Some(value.parse().map_err(|_| format!("{value:?} is no serial"))?),
            "ede" if value == "any" => matches.ede = Some(EdeCode::Any),
            "ede" => matches.ede = Some(EdeCode::Code(value.parse().map_err(|_| format!("{value:?} is no EDE code"))?)),
            _ => return Err(format!("{word:?} is no word of MATCH")),
        }
    }
    Ok(())
}

fn parse_adjust(line: &str, adjust: &mut Adjust) -> Result<(), String> {
    for word in plain_words(line) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "copy_id" => adjust.copy_id = true,
            "copy_query" => adjust.copy_query = true,
            "raw_id" => adjust.raw_id = true,
            "do_not_answer" => adjust.do_not_answer = true,
            "copy_ednsdata_assume_clientsubnet" => adjust.copy_client_subnet = true,
            "increment_ecs_scope" => adjust.increment_ecs_scope = true,
            "sleep" | "packet_sleep" => {
                let seconds = value.parse().map_err(|_| format!("{value:?} is no number of seconds"))?;
                adjust.sleep += Duration::from_secs(seconds);
            }
            _ => return Err(format!("{word:?} is no word of ADJUST")),
        }
    }
    Ok(())
}

fn parse_reply(line: &str, message: &mut Message) -> Result<(), String> {
    const OPCODES: [(&str, u16); 6] =
        [("QUERY", 0), ("IQUERY", 1), ("STATUS", 2), ("NOTIFY", 4), ("UPDATE", 5), ("DSO", 6)];
    const RCODES: [(&str, u16); 16] = [
        ("NOERROR", 0),
        ("FORMERR", 1),
        ("SERVFAIL", 2),
        ("NXDOMAIN", 3),
        ("NOTIMPL", 4),
        ("NOTIMP", 4),
        ("REFUSED", 5),
        ("YXDOMAIN", 6),
        ("YXRRSET", 7),
        ("NXRRSET", 8),
        ("NOTAUTH", 9),
        ("NOTZONE", 10),
        ("BADVERS", 16),
        ("BADSIG", 16),
        ("BADTRUNC", 22),
        ("BADCOOKIE", 23),
    ];
    const FLAGS: [(&str, u16); 7] = [
        ("QR", 0x8000),
        ("AA", 0x0400),
        ("TC", 0x0200),
        ("RD", 0x0100),
        ("RA", 0x0080),
        ("AD", 0x0020),
        ("CD", 0x0010),
    ];
    for word in plain_words(line) {
        let find = |table: &[(&str, u16)]| table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if let Some(flag) = find(&FLAGS) {
            message.flags |= flag;
        } else if let Some(rcode) = find(&RCODES) {
            message.rcode = rcode;
        } else if let Some(opcode) = find(&OPCODES) {
            message.flags = message.flags & !0x7800 | opcode << 11;
        } else if word == "DO" {
            message.dnssec_ok = true;
        } else if word == "CO" {
            // Compact answers (RFC 9824) are as good as others to this resolver, which does not ask for them.
        } else {
            return Err(format!("{word:?} is no word of REPLY"));
        }
    }
    message.flags = message.flags & !0xf | message.rcode & 0xf;
    Ok(())
}

fn parse_hex_lines(lines: &[String]) -> Result<Vec<u8>, String> {
    let mut digits: String =
        lines.iter().flat_map(|line| line.split(';').next()).flat_map(str::split_whitespace).collect();
    if digits.len() % 2 == 1 {
        // As the original does it.
        digits.push('0');
    }
    record::parse_hex(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, String> {
        parse(Path::new("a.rpl"), text).map_err(|error| error.to_string())
    }

    const UNBOUND: &str = "\
; a comment
server:
	trust-anchor: \"example. DS 1 8 2 abcd\" # why
	access-control: 10.0.0.0/8 allow
rpz:
	name: \"rpz.example.\"
	zonefile:
TEMPFILE_NAME rpz.example
TEMPFILE_CONTENTS rpz.example
a CNAME .
TEMPFILE_END
stub-zone: name: \".\" stub-addr: 193.0.14.129
CONFIG_END
SCENARIO_BEGIN Title of it
RANGE_BEGIN 0 100
	ADDRESS 193.0.14.129
ENTRY_BEGIN
MATCH opcode qtype ede=any TCP
ADJUST copy_id sleep=2
REPLY QR AA NXDOMAIN DO
SECTION QUESTION
www.example. IN A
SECTION AUTHORITY
example. 60 IN SOA a. b. 1 2 3 4 5
ENTRY_END
RANGE_END
RANGE_END
STEP 1 QUERY ADDRESS 10.1.1.1
ENTRY_BEGIN
REPLY RD CD
SECTION QUESTION
www.example. IN A
ENTRY_END
STEP 2 TIME_PASSES ELAPSE 1.5
STEP 3 ASSIGN t = ${time}
STEP 4 CHECK_AUTOTRUST example.
FILE_BEGIN
; a line
FILE_END
STEP 5 TIME_PASSES EVAL ${$t + 1}
SCENARIO_END
";

    #[test]
    fn a_file_is_read_to_its_last_word() {
        let scenario = read(UNBOUND).unwrap();
        assert_eq!((scenario.dialect, scenario.title.as_str()), (Dialect::Unbound, "Title of it"));
        let header: Vec<_> = scenario
            .config
            .iter()
            .map(|setting| {
                (setting.clause.as_str(), setting.clause_number, setting.key.as_str(), setting.values.join("|"))
            })
            .collect();
        assert_eq!(
            header,
            [
                ("server", 1, "trust-anchor", "example. DS 1 8 2 abcd".to_owned()),
                ("server", 1, "access-control", "10.0.0.0/8|allow".to_owned()),
                ("rpz", 2, "name", "rpz.example.".to_owned()),
                ("rpz", 2, "zonefile", "rpz.example".to_owned()),
                ("stub-zone", 3, "name", ".".to_owned()),
                ("stub-zone", 3, "stub-addr", "193.0.14.129".to_owned()),
            ]
        );
        assert_eq!(scenario.files["rpz.example"], ["a CNAME ."]);

        let entry = &scenario.ranges[0].entries[0];
        assert!(entry.matches.opcode && entry.matches.qtype && !entry.matches.qname && entry.adjust.copy_id);
        assert_eq!((entry.matches.ede, entry.matches.transport), (Some(EdeCode::Any), Some(Carrier::Tcp)));
        assert_eq!((entry.message.flags, entry.message.dnssec_ok), (0x8403, true));
        assert_eq!(entry.message.sections.each_ref().map(Vec::len), [0, 1, 0]);
        assert_eq!(entry.adjust.sleep, Duration::from_secs(2));

        let events: Vec<_> = scenario.steps.iter().map(|step| step.event.to_string()).collect();
        assert_eq!(events, ["QUERY", "TIME_PASSES", "ASSIGN", "CHECK_AUTOTRUST", "TIME_PASSES"]);
        assert_eq!(scenario.steps[0].address, Some("10.1.1.1".parse().unwrap()));
    }

    #[test]
    fn a_header_without_sections_is_deckards() {
        let text = "stub-addr: 1.2.3.4 ; root\nCONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 QUERY\nENTRY_BEGIN\nRAW\n0102\nENTRY_END\nSCENARIO_END";
        let scenario = read(text).unwrap();
        assert_eq!(scenario.dialect, Dialect::Deckard);
        let Event::Query(entry) = &scenario.steps[0].event else { panic!("a query") };
        assert_eq!(entry.message.raw.as_deref(), Some(&[1, 2][..]));
    }

    #[test]
    fn an_error_names_the_file_and_the_line() {
        for (text, error) in [
            ("server:\n", "a.rpl:1: CONFIG_END is missing"),
            ("CONFIG_END\nRANGE_BEGIN 0 1", "a.rpl:2: \"RANGE_BEGIN 0 1\" where SCENARIO_BEGIN belongs"),
            ("CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 JUMP\n", "a.rpl:3: \"JUMP\" is no event of a step"),
            (
                "CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 QUERY\nENTRY_BEGIN\nMATCH foo\n",
                "a.rpl:5: \"foo\" is no word of MATCH",
            ),
            (
                "CONFIG_END\nSCENARIO_BEGIN x\nSTEP 2 NOTHING\nSTEP 1 NOTHING\n",
                "a.rpl:4: step 1 does not come after the step before it",
            ),
            (
                "CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 QUERY\nENTRY_BEGIN\nSECTION ANSWER\nx. A 1.2.3\nENTRY_END\n",
                "a.rpl:6: \"x. A 1.2.3\": invalid IPv4 address syntax",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), error);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_scenario_or_an_error(text in "(?s).{0,200}", cut in 0..UNBOUND.len()) {
            let _ = read(&text);
            let _ = read(&format!("{}{text}{}", &UNBOUND[..cut], &UNBOUND[cut..]));
        }
    }
}
