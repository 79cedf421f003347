//! A list in one syntax written in another, and an account of what that lost.
//!
//! A rule that the other syntax cannot say is left out and counted, never bent:
//! nobody should block more, or longer, than the list says. Only *how* a block
//! is answered may be lost, and what is on file about it; both are counted too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Read, Write};

use super::syntax::{Entry, ListError, Op, Reading, rdata_to_text};
use super::{Format, ListSettings, MatchScope, Report};
use crate::name::Name;
use crate::query::RecordType;
use crate::rule::{Action, LocalRecord, Owner, Rule, Scope, TypeFilter};

/// How a conversion went.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// How the reading went.
    pub reading: Report,
    /// Rules written.
    pub written: u64,
    /// What was lost.
    pub lost: BTreeMap<Loss, Lost>,
}

/// The rules that have met with the same loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub rules: u64,
    /// What the first of them is written for.
    pub first: Owner,
}

/// What another syntax cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Left out: which names the rule covers.
    Scope(Scope),
    /// Left out: an exception.
    Exception,
    /// Left out: records, an alias or another answer that is no plain block.
    Action,
    /// Left out: for some query types only.
    Types,
    /// Left out: names that the rule leaves alone.
    Except,
    /// Left out: that the rule wins over others.
    Important,
    /// Left out: that the rule only counts.
    Shadow,
    /// Left out: a change to what was said before.
    Operation,
    /// Left out: a rule about addresses or name servers.
    Trigger,
    /// Left out: the time at which the rule begins or ends.
    Times,
    /// Written all the same: how the block is answered.
    Answer,
    /// Written all the same: what is on file about the rule.
    Dossier,
}

impl Loss {
    /// Whether the rule is written all the same.
    pub fn is_partial(self) -> bool {
        matches!(self, Self::Answer | Self::Dossier)
    }
}

/// What cannot be said, to go on from "cannot say".
impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Scope(Scope::Exact) => "that a name alone is meant",
            Self::Scope(Scope::Below) => "that all below a name is meant and not the name itself",
            Self::Scope(Scope::Subdomains) => "that a name and all below it is meant",
            Self::Exception => "that something is not to be blocked",
            Self::Action => "to answer with records, an alias or TC",
            Self::Types => "that some query types are meant",
            Self::Except => "that some names below are left alone",
            Self::Important => "that a rule wins over others",
            Self::Shadow => "that a rule only counts",
            Self::Operation => "that an earlier rule changes",
            Self::Trigger => "that addresses, clients or name servers are meant",
            Self::Times => "when a rule begins or ends",
            Self::Answer => "how the block is answered",
            Self::Dossier => "what is on file",
        })
    }
}

/// Why nothing more was converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The list is refused as a whole.
    #[error(transparent)]
    List(#[from] ListError),
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// `auto` is no syntax to write.
    #[error("auto is no format to write; name one")]
    NoTarget,
}

/// Reads `input` as `settings` say and writes it in the syntax `to`.
///
/// What a bare name means in the output, where the syntax leaves that open, is
/// `settings.match_scope` as well.
///
/// # Errors
///
/// When the list is refused as a whole, or the output cannot be written. What
/// was written until then is of no use.
pub fn convert(
    settings: &ListSettings,
    name: &str,
    input: impl Read,
    to: Format,
    output: impl Write,
) -> Result<Conversion, ConvertError> {
    let mut output = BufWriter::new(output);
    output.write_all(head(to)?.as_bytes())?;
    let mut target = Target { to, bare: settings.match_scope, text: String::new(), losses: Vec::new() };
    let mut written = 0;
    let mut lost = BTreeMap::new();
    let mut failed = None;
    let mut reading = Reading::new(settings);
    let mut take = |entry: Entry| {
        target.text.clear();
        target.losses.clear();
        match target.write(&entry) {
            Ok(()) => {
                written += 1;
                if failed.is_none() {
                    failed = output.write_all(target.text.as_bytes()).err();
                }
            }
            Err(loss) => target.losses = vec![loss],
        }
        for loss in &target.losses {
            let lost = lost.entry(*loss).or_insert_with(|| Lost { rules: 0, first: entry.rule.owner.clone() });
            lost.rules += 1;
        }
    };
    reading.file(name, input, &mut take, &mut |_| ())?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    output.flush()?;
    Ok(Conversion { reading: reading.finish()?, written, lost })
}

fn head(to: Format) -> Result<&'static str, ConvertError> {
    Ok(match to {
        Format::Auto => return Err(ConvertError::NoTarget),
        Format::Adblock => "[Adblock Plus]\n",
        Format::Unbound => "server:\n",
        Format::Rpz => "$TTL 60\n@ SOA localhost. root.localhost. 1 3600 600 604800 60\n@ NS localhost.\n",
        Format::Csv => CSV_HEAD,
        Format::Domains | Format::Wildcard | Format::Hosts | Format::Dnsmasq | Format::Jsonl => "",
    })
}

const CSV_HEAD: &str = "domain,match,action,important,qtypes,except,ede,ede_text,order_id,authority,legal_basis,category,\
jurisdiction,issued_at,effective_at,expires_at,contact,lang,reason,source_ref\n";

struct Target {
    to: Format,
    bare: MatchScope,
    text: String,
    /// What is lost of a rule that is written.
    losses: Vec<Loss>,
}

/// What a rule does, as far as syntaxes tell it apart.
enum Effect<'r> {
    /// Blocks, in the way of its list.
    Block,
    /// Blocks in a way of its own.
    Answer(&'r Action),
    /// Gives records that are no null addresses, an alias, or TC.
    Other(&'r Action),
    Allow,
}

impl Effect<'_> {
    fn of(rule: &Rule) -> Effect<'_> {
        match &rule.action {
            None => Effect::Block,
            Some(Action::Allow) => Effect::Allow,
            Some(action @ (Action::Sinkhole | Action::NxDomain | Action::NoData | Action::Refused | Action::Drop)) => {
                Effect::Answer(action)
            }
            Some(Action::Records(records)) if records.iter().all(is_null) && records.len() != 1 => {
                Effect::Answer(if records.is_empty() { &Action::NoData } else { &Action::Sinkhole })
            }
            Some(action) => Effect::Other(action),
        }
    }
}

/// Whether a record is `0.0.0.0` or `::`.
fn is_null(record: &LocalRecord) -> bool {
    matches!(record.rtype, RecordType::A | RecordType::AAAA) && record.rdata.iter().all(|&octet| octet == 0)
}

impl Target {
    fn write(&mut self, entry: &Entry) -> Result<(), Loss> {
        let rule = &entry.rule;
        let is_ours = matches!(self.to, Format::Csv | Format::Jsonl);
        match entry.op {
            Op::Add => {}
            Op::Disable if self.to == Format::Adblock => {}
            Op::Remove | Op::Update if self.to == Format::Jsonl => {}
            _ => return Err(Loss::Operation),
        }
        if self.to != Format::Rpz && !matches!(rule.owner, Owner::Name(_)) {
            return Err(Loss::Trigger);
        }
        if rule.shadow && !(self.to == Format::Unbound && rule.scope == Scope::Subdomains) {
            return Err(Loss::Shadow);
        }
        if !is_ours {
            if self.to != Format::Adblock {
                let untyped = rule.types == TypeFilter::All || self.to == Format::Unbound;
                for (is_fine, loss) in
                    [(!rule.important, Loss::Important), (untyped, Loss::Types), (rule.except.is_empty(), Loss::Except)]
                {
                    if !is_fine {
                        return Err(loss);
                    }
                }
            }
            if let Some(dossier) = &rule.dossier {
                if dossier.effective_at.is_some() || dossier.expires_at.is_some() {
                    return Err(Loss::Times);
                }
                self.losses.push(Loss::Dossier);
            }
        }
        match self.to {
            Format::Domains | Format::Auto => self.domains(rule),
            Format::Wildcard => self.wildcard(rule),
            Format::Hosts => self.hosts(rule),
            Format::Adblock => self.adblock(rule, entry.op),
            Format::Dnsmasq => self.dnsmasq(rule),
            Format::Unbound => self.unbound(rule),
            Format::Rpz => self.rpz(rule),
            Format::Csv => self.csv(rule),
            Format::Jsonl => self.jsonl(rule, entry.op),
        }
    }

    fn line(&mut self, line: impl std::fmt::Display) {
        writeln!(self.text, "{line}").expect("a String takes all text");
    }

    /// Refuses what is no plain block, and notes an answer that gets lost.
    fn plain_block(&mut self, rule: &Rule) -> Result<(), Loss> {
        match Effect::of(rule) {
            Effect::Block | Effect::Answer(Action::Sinkhole) => Ok(()),
            Effect::Answer(_) => {
                self.losses.push(Loss::Answer);
                Ok(())
            }
            Effect::Other(_) => Err(Loss::Action),
            Effect::Allow => Err(Loss::Exception),
        }
    }

    /// Whether a bare name says what the rule covers.
    fn is_bare(&self, rule: &Rule) -> bool {
        match self.bare {
            MatchScope::Exact => rule.scope == Scope::Exact,
            MatchScope::Subdomains => rule.scope == Scope::Subdomains,
        }
    }

    fn domains(&mut self, rule: &Rule) -> Result<(), Loss> {
        if !self.is_bare(rule) {
            return Err(Loss::Scope(rule.scope));
        }
        self.plain_block(rule)?;
        self.line(&rule.owner);
        Ok(())
    }

    fn wildcard(&mut self, rule: &Rule) -> Result<(), Loss> {
        self.plain_block(rule)?;
        match rule.scope {
            _ if self.is_bare(rule) => self.line(&rule.owner),
            Scope::Exact => self.line(format_args!("={}", rule.owner)),
            Scope::Subdomains => self.line(format_args!("*.{}", rule.owner)),
            Scope::Below => return Err(Loss::Scope(rule.scope)),
        }
        Ok(())
    }

    fn hosts(&mut self, rule: &Rule) -> Result<(), Loss> {
        if !self.is_bare(rule) {
            return Err(Loss::Scope(rule.scope));
        }
        if let Effect::Other(Action::Records(records)) = Effect::of(rule)
            && records.iter().all(|record| matches!(record.rtype, RecordType::A | RecordType::AAAA))
        {
            for record in records {
                self.line(format_args!("{} {}", rdata_to_text(record.rtype, &record.rdata), rule.owner));
            }
            return Ok(());
        }
        self.plain_block(rule)?;
        self.line(format_args!("0.0.0.0 {}", rule.owner));
        Ok(())
    }

    fn adblock(&mut self, rule: &Rule, op: Op) -> Result<(), Loss> {
        let exception = matches!(Effect::of(rule), Effect::Allow);
        if !exception {
            self.plain_block(rule)?;
        }
        let mut modifiers = Vec::new();
        if rule.important {
            modifiers.push("important".to_owned());
        }
        match &rule.types {
            TypeFilter::All => {}
            TypeFilter::Only(types) => modifiers.push(format!("dnstype={}", joined(types, "", "|"))),
            TypeFilter::Except(types) => modifiers.push(format!("dnstype={}", joined(types, "~", "|"))),
        }
        if !rule.except.is_empty() {
            modifiers.push(format!("denyallow={}", joined(&rule.except, "", "|")));
        }
        if op == Op::Disable {
            modifiers.push("badfilter".to_owned());
        }
        let start = match rule.scope {
            Scope::Exact => "|",
            Scope::Below => "||*.",
            Scope::Subdomains => "||",
        };
        let exception = if exception { "@@" } else { "" };
        let dollar = if modifiers.is_empty() { "" } else { "$" };
        self.line(format_args!("{exception}{start}{}^{dollar}{}", rule.owner, modifiers.join(",")));
        Ok(())
    }

    fn dnsmasq(&mut self, rule: &Rule) -> Result<(), Loss> {
        let star = match rule.scope {
            Scope::Exact => return Err(Loss::Scope(rule.scope)),
            Scope::Below => "*.",
            Scope::Subdomains => "",
        };
        let name = &rule.owner;
        match Effect::of(rule) {
            Effect::Allow => self.line(format_args!("server=/{star}{name}/#")),
            Effect::Block | Effect::Answer(Action::Sinkhole) => self.line(format_args!("address=/{star}{name}/#")),
            Effect::Answer(answer) => {
                if *answer != Action::NxDomain {
                    self.losses.push(Loss::Answer);
                }
                self.line(format_args!("address=/{star}{name}/"));
            }
            Effect::Other(Action::Records(records))
                if records.iter().all(|record| matches!(record.rtype, RecordType::A | RecordType::AAAA)) =>
            {
                for record in records {
                    self.line(format_args!("address=/{star}{name}/{}", rdata_to_text(record.rtype, &record.rdata)));
                }
            }
            Effect::Other(_) => return Err(Loss::Action),
        }
        Ok(())
    }

    fn unbound(&mut self, rule: &Rule) -> Result<(), Loss> {
        let name = format!("{}.", rule.owner);
        let data = |record: &LocalRecord| {
            let ttl = record.ttl.map_or_else(String::new, |ttl| format!("{ttl} "));
            format!("local-data: '{name} {ttl}{} {}'", record.rtype, rdata_to_text(record.rtype, &record.rdata))
        };
        match (rule.scope, Effect::of(rule)) {
            (Scope::Exact, Effect::Other(Action::Records(records))) => {
                records.iter().for_each(|record| self.line(data(record)))
            }
            (Scope::Exact | Scope::Below, _) => return Err(Loss::Scope(rule.scope)),
            (Scope::Subdomains, effect) => {
                let kind = match (&rule.types, &effect) {
                    _ if rule.shadow => "inform",
                    (TypeFilter::Only(types), Effect::Answer(Action::NoData)) => match types[..] {
                        [RecordType::A] => "block_a",
                        [RecordType::AAAA] => "block_aaaa",
                        _ => return Err(Loss::Types),
                    },
                    (TypeFilter::Only(_) | TypeFilter::Except(_), _) => return Err(Loss::Types),
                    (_, Effect::Allow) => "always_transparent",
                    (_, Effect::Block | Effect::Answer(Action::Sinkhole)) => "always_null",
                    (_, Effect::Answer(Action::NxDomain)) => "always_nxdomain",
                    (_, Effect::Answer(Action::NoData)) => "always_nodata",
                    (_, Effect::Answer(Action::Refused)) => "always_refuse",
                    (_, Effect::Answer(_)) => "always_deny",
                    (_, Effect::Other(Action::Records(_) | Action::Cname(_))) => "redirect",
                    (_, Effect::Other(_)) => return Err(Loss::Action),
                };
                self.line(format_args!("local-zone: \"{name}\" {kind}"));
                match effect {
                    Effect::Other(Action::Records(records)) => {
                        records.iter().for_each(|record| self.line(data(record)))
                    }
                    Effect::Other(Action::Cname(target)) => {
                        self.line(format_args!("local-data: '{name} CNAME {}'", absolute(target)));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn rpz(&mut self, rule: &Rule) -> Result<(), Loss> {
        let mut records = Vec::new();
        let mut alias = |target: &str| records.push(format!("CNAME {target}"));
        match Effect::of(rule) {
            Effect::Block | Effect::Answer(Action::NxDomain) => alias("."),
            Effect::Answer(Action::NoData) => alias("*."),
            Effect::Answer(Action::Drop) => alias("rpz-drop."),
            Effect::Answer(Action::Sinkhole) => records.extend(["A 0.0.0.0".to_owned(), "AAAA ::".to_owned()]),
            Effect::Answer(_) => {
                alias(".");
                self.losses.push(Loss::Answer);
            }
            Effect::Allow => alias("rpz-passthru."),
            Effect::Other(Action::Truncate) => alias("rpz-tcp-only."),
            Effect::Other(Action::Cname(target)) => alias(&absolute(target)),
            Effect::Other(Action::Records(known)) => records.extend(known.iter().map(|record| {
                let ttl = record.ttl.map_or_else(String::new, |ttl| format!("{ttl} "));
                format!("{ttl}{} {}", record.rtype, rdata_to_text(record.rtype, &record.rdata))
            })),
            Effect::Other(_) => return Err(Loss::Action),
        }
        for record in &records {
            if rule.scope != Scope::Below {
                self.line(format_args!("{} {record}", rule.owner));
            }
            if rule.scope != Scope::Exact {
                self.line(format_args!("*.{} {record}", rule.owner));
            }
        }
        Ok(())
    }

    fn csv(&mut self, rule: &Rule) -> Result<(), Loss> {
        let mut fields = BTreeMap::new();
        self.fields(rule, |key, value| drop(fields.insert(key, value)))?;
        if rule.dossier.as_ref().is_some_and(|dossier| !dossier.extra.is_empty()) {
            self.losses.push(Loss::Dossier);
        }
        let row: Vec<String> = CSV_HEAD
            .trim_end()
            .split(',')
            .map(|column| quote_field(fields.get(column).map_or("", String::as_str)))
            .collect();
        self.line(row.join(","));
        Ok(())
    }

    fn jsonl(&mut self, rule: &Rule, op: Op) -> Result<(), Loss> {
        let mut object = serde_json::Map::new();
        match op {
            Op::Remove => drop(object.insert("op".to_owned(), "remove".into())),
            Op::Update => drop(object.insert("op".to_owned(), "update".into())),
            Op::Add | Op::Disable => {}
        }
        self.fields(rule, |key, value| drop(object.insert(key.to_owned(), value.into())))?;
        for (key, value) in rule.dossier.iter().flat_map(|dossier| &dossier.extra) {
            object.insert(key.clone(), value.as_str().into());
        }
        self.line(serde_json::Value::Object(object));
        Ok(())
    }

    /// The columns and keys of our own two syntaxes.
    fn fields(&mut self, rule: &Rule, mut put: impl FnMut(&'static str, String)) -> Result<(), Loss> {
        put("domain", rule.owner.to_string());
        let scope = match rule.scope {
            Scope::Exact => "exact",
            Scope::Below => "below",
            Scope::Subdomains => "subdomains",
        };
        put("match", scope.to_owned());
        match Effect::of(rule) {
            Effect::Block => {}
            Effect::Answer(action) => put("action", action.to_string()),
            Effect::Allow => put("action", "allow".to_owned()),
            Effect::Other(Action::Records(_)) => return Err(Loss::Action),
            Effect::Other(action) => put("action", action.to_string()),
        }
        if rule.important {
            put("important", "true".to_owned());
        }
        match &rule.types {
            TypeFilter::All => {}
            TypeFilter::Only(types) => put("qtypes", joined(types, "", "|")),
            TypeFilter::Except(types) => put("qtypes", joined(types, "~", "|")),
        }
        if !rule.except.is_empty() {
            put("except", joined(&rule.except, "", "|"));
        }
        let Some(dossier) = &rule.dossier else { return Ok(()) };
        for (key, value) in dossier.texts() {
            if let Some(value) = value {
                put(key, value.clone());
            }
        }
        if let Some(ede) = dossier.ede {
            put("ede", format!("{ede:?}").to_ascii_lowercase());
        }
        for (key, seconds) in dossier.times() {
            if let Some(seconds) = seconds {
                let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
                put(key, humantime::format_rfc3339_seconds(moment).to_string());
            }
        }
        Ok(())
    }
}

fn absolute(name: &Name) -> String {
    if name.is_root() { ".".to_owned() } else { format!("{name}.") }
}

fn joined<T: std::fmt::Display>(values: &[T], before: &str, between: &str) -> String {
    values.iter().map(|value| format!("{before}{value}")).collect::<Vec<_>>().join(between)
}

/// A CSV field. One that a spreadsheet would take for a formula gets a quote before it.
fn quote_field(field: &str) -> String {
    let guard = if field.starts_with(['=', '+', '-', '@', '\t']) { "'" } else { "" };
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{guard}{}\"", field.replace('"', "\"\""))
    } else {
        format!("{guard}{field}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    fn settings(format: Format) -> ListSettings {
        ListSettings { format, ..ListSettings::new("test", Source::Inline(String::new())) }
    }

    fn converted(from: Format, text: &str, to: Format) -> (String, Conversion) {
        let mut output = Vec::new();
        let conversion = convert(&settings(from), "test", text.as_bytes(), to, &mut output).unwrap();
        (String::from_utf8(output).unwrap(), conversion)
    }

    const RULES: &str = "||a.example^\n|b.example^\n||*.c.example^\n@@||d.example^\n||e.example^$important,dnstype=~A|~AAAA,denyallow=x.e.example\n";

    #[test]
    fn each_syntax_gets_what_it_can_say() {
        use Loss::{Exception, Important};
        let (exact, below, subdomains) =
            (Loss::Scope(Scope::Exact), Loss::Scope(Scope::Below), Loss::Scope(Scope::Subdomains));
        let important = (Important, 1, "e.example");
        for (to, text, lost) in [
            (Format::Domains, "b.example\n", &[(below, 1, "c.example"), (subdomains, 2, "a.example"), important][..]),
            (
                Format::Wildcard,
                "*.a.example\nb.example\n",
                &[(below, 1, "c.example"), (Exception, 1, "d.example"), important],
            ),
            (Format::Hosts, "0.0.0.0 b.example\n", &[(below, 1, "c.example"), (subdomains, 2, "a.example"), important]),
            (
                Format::Dnsmasq,
                "address=/a.example/#\naddress=/*.c.example/#\nserver=/d.example/#\n",
                &[(exact, 1, "b.example"), important],
            ),
            (
                Format::Unbound,
                "server:\nlocal-zone: \"a.example.\" always_null\nlocal-zone: \"d.example.\" always_transparent\n",
                &[(exact, 1, "b.example"), (below, 1, "c.example"), important],
            ),
        ] {
            let (output, conversion) = converted(Format::Adblock, RULES, to);
            assert_eq!(output, text, "{to}");
            let account: Vec<_> =
                conversion.lost.iter().map(|(loss, lost)| (*loss, lost.rules, lost.first.to_string())).collect();
            assert_eq!(
                account,
                lost.iter().map(|(loss, rules, first)| (*loss, *rules, (*first).to_owned())).collect::<Vec<_>>(),
                "{to}"
            );
        }
    }

    #[test]
    fn rich_syntaxes_lose_nothing_there_and_back() {
        let read = |format: Format, text: &str| {
            let settings = settings(format);
            let mut rules = Vec::new();
            Reading::new(&settings)
                .file("test", text.as_bytes(), &mut |entry| rules.push(entry.rule), &mut |_| ())
                .unwrap();
            rules
        };
        for to in [Format::Adblock, Format::Csv, Format::Jsonl] {
            let (output, conversion) = converted(Format::Adblock, RULES, to);
            assert_eq!(conversion.lost, BTreeMap::new());
            assert_eq!(read(to, &output), read(Format::Adblock, RULES), "{to}\n{output}");
        }
        let orders = "{\"domain\":\"a.example\",\"match\":\"exact\",\"order_id\":\"=7, \\\"x\\\"\",\"ede\":\"censored\",\"expires_at\":\"2026-12-31\",\"action\":\"cname b.example\"}\n";
        let (output, _) = converted(Format::Jsonl, orders, Format::Jsonl);
        assert_eq!(read(Format::Jsonl, &output), read(Format::Jsonl, orders));
        let (output, _) = converted(Format::Jsonl, orders, Format::Csv);
        assert!(output.contains("\"'=7, \"\"x\"\"\""), "{output}");
    }

    #[test]
    fn policy_zones_keep_every_answer() {
        let zone = "a.example CNAME rpz-drop.\n*.a.example CNAME rpz-tcp-only.\nb.example 60 A 192.0.2.1\nc.example CNAME *.garden.example.\n24.0.2.0.192.rpz-client-ip CNAME .\n*.ns.example.rpz-nsdname CNAME .\n";
        let (output, conversion) = converted(Format::Rpz, zone, Format::Rpz);
        assert!(output.ends_with(zone), "{output}");
        assert_eq!(conversion.lost, BTreeMap::new());
        let (output, _) = converted(Format::Hosts, "0.0.0.0 a.example\n", Format::Rpz);
        assert!(output.ends_with("\na.example CNAME .\n"), "{output}");
        let (output, conversion) = converted(Format::Rpz, zone, Format::Hosts);
        assert_eq!(output, "0.0.0.0 a.example\n192.0.2.1 b.example\n");
        let lost: Vec<(Loss, u64)> = conversion.lost.into_iter().map(|(loss, lost)| (loss, lost.rules)).collect();
        assert_eq!(lost, [(Loss::Scope(Scope::Below), 1), (Loss::Action, 1), (Loss::Trigger, 2), (Loss::Answer, 1)]);
    }

    #[test]
    fn nothing_is_made_to_outlast_its_order() {
        let order = "{\"domain\":\"a.example\",\"expires_at\":\"2026-12-31\"}\n{\"domain\":\"b.example\",\"order_id\":\"1\"}\n{\"op\":\"remove\",\"domain\":\"b.example\"}\n";
        let (output, conversion) = converted(Format::Jsonl, order, Format::Domains);
        assert_eq!(output, "b.example\n");
        let lost: Vec<(Loss, u64)> = conversion.lost.into_iter().map(|(loss, lost)| (loss, lost.rules)).collect();
        assert_eq!(lost, [(Loss::Operation, 1), (Loss::Times, 1), (Loss::Dossier, 1)]);
    }

    #[test]
    fn a_web_page_is_not_converted() {
        let error = convert(&settings(Format::Auto), "x", &b"<html>"[..], Format::Hosts, Vec::new()).unwrap_err();
        assert!(matches!(error, ConvertError::List(ListError::Html(_))));
        assert!(matches!(
            convert(&settings(Format::Auto), "x", &b""[..], Format::Auto, Vec::new()),
            Err(ConvertError::NoTarget)
        ));
    }
}
