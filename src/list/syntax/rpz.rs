//! Response policy zones as master files (draft-vixie-dnsop-dns-rpz, RFC 1035 section 5).
//!
//! An owner below the zone's apex is a trigger, its records are the action.
//! Records of one owner come together in [`compile`](crate::compile).

use ipnet::IpNet;

use super::zone::{Token, Tokens};
use super::{Context, Parser, rdata};
use crate::list::{Note, Reason};
use crate::name::{DomainName, Name};
use crate::query::RecordType;
use crate::rule::owner::prefix_from_labels;
use crate::rule::{Action, LocalRecord, Owner, Rule, Scope};

/// How many records all `$GENERATE` lines of a file may make.
const MAX_GENERATED: u32 = 65_536;

pub(super) struct Rpz {
    entry: Tokens,
    origin: DomainName,
    /// The owner of the SOA record, or the origin of the first record when that is no SOA.
    apex: Option<DomainName>,
    owner: Option<DomainName>,
    ttl: Option<u32>,
    generated: u32,
}

impl Default for Rpz {
    fn default() -> Self {
        Self { entry: Tokens::default(), origin: DomainName::root(), apex: None, owner: None, ttl: None, generated: 0 }
    }
}

type Refused = (Reason, &'static str);

impl Parser for Rpz {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        // Master files have `;` only, but lists in this syntax come with other comments too.
        if !self.entry.is_open() && matches!(line, [b'#' | b'!', ..] | [b'/', b'/', ..]) {
            return;
        }
        let mut entry = std::mem::take(&mut self.entry);
        let read = match entry.push_line(line) {
            Ok(false) => Ok(()),
            Ok(true) => {
                let read = self.entry(&entry, context);
                entry.clear();
                read
            }
            Err(detail) => {
                entry.clear();
                Err((Reason::Malformed, detail))
            }
        };
        self.entry = entry;
        if let Err((reason, detail)) = read {
            context.refuse(line, reason, || detail.to_owned());
        }
    }

    fn end(&mut self, context: &mut Context<'_>) {
        if self.entry.is_open() {
            context.refuse(b"(", Reason::Malformed, || "a parenthesis is not closed before the file ends".into());
        }
    }
}

impl Rpz {
    fn entry(&mut self, entry: &Tokens, context: &mut Context<'_>) -> Result<(), Refused> {
        let fields: smallvec::SmallVec<[Token<'_>; 8]> = entry.iter().collect();
        let Some(first) = fields.first() else { return Ok(()) };
        if !entry.owner_omitted && first.text.starts_with(b"$") && !first.quoted {
            return self.directive(&fields, context);
        }
        if entry.owner_omitted {
            return self.record(&fields, context);
        }
        self.owner = None;
        self.owner = Some(self.read_owner(first.text, context)?);
        self.record(&fields[1..], context)
    }

    fn read_owner(&self, text: &[u8], context: &mut Context<'_>) -> Result<DomainName, Refused> {
        let invalid = |detail| (Reason::InvalidName, detail);
        if text.is_ascii() {
            return rdata::name(text, &self.origin).map_err(invalid);
        }
        // Written in Unicode, with or without `*.` before it.
        let (star, rest) = text.strip_prefix(b"*.").map_or((false, text), |rest| (true, rest));
        let name = context.names.read_any(rest, &mut context.report)?;
        let name = if star { name.child(b"*").map_err(|_| invalid("the name is too long"))? } else { name };
        let dot = if text.ends_with(b".") { "." } else { "" };
        rdata::name(format!("{name}{dot}").as_bytes(), &self.origin).map_err(invalid)
    }

    fn directive(&mut self, fields: &[Token<'_>], context: &mut Context<'_>) -> Result<(), Refused> {
        let bad = |detail| (Reason::BadValue, detail);
        match (fields[0].text.to_ascii_uppercase().as_slice(), &fields[1..]) {
            (b"$ORIGIN", [origin]) => {
                self.origin = rdata::name(origin.text, &self.origin).map_err(bad)?;
                Ok(())
            }
            (b"$TTL", [ttl]) => {
                self.ttl = Some(rdata::ttl(ttl.text).ok_or(bad("no time to live"))?);
                Ok(())
            }
            (b"$INCLUDE", _) => Err((Reason::Include, "other files are not read from a list")),
            (b"$GENERATE", [range, owner, rest @ ..]) if !rest.is_empty() => {
                self.generate(range.text, owner.text, rest, context)
            }
            _ => Err((Reason::Malformed, "write $ORIGIN name, $TTL seconds or $GENERATE start-stop owner type data")),
        }
    }

    /// `$GENERATE 1-100 host-$ CNAME .`, as BIND has it.
    fn generate(
        &mut self,
        range: &[u8],
        owner: &[u8],
        rest: &[Token<'_>],
        context: &mut Context<'_>,
    ) -> Result<(), Refused> {
        const RANGE: Refused = (Reason::BadValue, "$GENERATE: write its range as start-stop or start-stop/step");
        let text = std::str::from_utf8(range).map_err(|_| RANGE)?;
        let (text, step) = text.split_once('/').unwrap_or((text, "1"));
        let (start, stop) = text.split_once('-').ok_or(RANGE)?;
        let number = |text: &str| text.parse::<u32>().ok().filter(|&number| number <= i32::MAX as u32).ok_or(RANGE);
        let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
        if step == 0 || stop < start {
            return Err(RANGE);
        }
        let count = (stop - start) / step + 1;
        if count > MAX_GENERATED - self.generated {
            return Err((Reason::BadValue, "$GENERATE: all of a file together make 65536 records at the most"));
        }
        self.generated += count;
        for value in (start..=stop).step_by(step as usize) {
            let owner = substitute(owner, value)?;
            let texts: Vec<Vec<u8>> =
                rest.iter().map(|token| substitute(token.text, value)).collect::<Result<_, _>>()?;
            let fields: Vec<Token<'_>> =
                texts.iter().zip(rest).map(|(text, token)| Token { text, quoted: token.quoted }).collect();
            self.owner = Some(self.read_owner(&owner, context)?);
            self.record(&fields, context)?;
        }
        Ok(())
    }

    /// Takes a record of the current owner.
    fn record(&mut self, fields: &[Token<'_>], context: &mut Context<'_>) -> Result<(), Refused> {
        let owner = self.owner.as_ref().ok_or((Reason::Malformed, "no owner stands before"))?;
        let Record { ttl, class, rtype, data } = Record::read(fields)?;
        let apex = self.apex.get_or_insert_with(|| match rtype {
            RecordType::SOA => owner.clone(),
            _ => self.origin.clone(),
        });
        if !class.is_none_or(|class| class.eq_ignore_ascii_case(b"IN")) {
            return Err((Reason::Record, "only class IN is of use"));
        }
        if owner == apex && matches!(rtype, RecordType::SOA | RecordType::NS) {
            return Ok(());
        }
        if WITHOUT_MEANING.contains(&rtype) {
            return Err((Reason::Record, "the type has no meaning in a policy zone"));
        }
        if !owner.is_below(apex) {
            return Err((Reason::Record, "the owner is not below the zone's apex"));
        }
        let labels: smallvec::SmallVec<[&[u8]; 16]> =
            owner.labels().take(owner.label_count() - apex.label_count()).collect();
        let (rule_owner, scope) = read_trigger(&labels, context)?;
        let bad = |detail| (Reason::BadValue, detail);
        let action = if rtype == RecordType::CNAME {
            let [target] = data else { return Err((Reason::Malformed, "CNAME has one target")) };
            let target = rdata::name(target.text, &self.origin).map_err(bad)?;
            if target == from_labels(&labels) {
                context.report.note(Note::OldPassthru);
                Action::Allow
            } else {
                meaning_of_target(&target)?
            }
        } else {
            let rdata = rdata::parse(rtype, data, &self.origin).map_err(bad)?;
            Action::Records(vec![LocalRecord { rtype, ttl: ttl.or(self.ttl), rdata }])
        };
        context.rule(Rule { action: Some(action), ..Rule::new(rule_owner, scope) });
        Ok(())
    }
}

/// A record without its owner.
struct Record<'f> {
    ttl: Option<u32>,
    class: Option<&'f [u8]>,
    rtype: RecordType,
    data: &'f [Token<'f>],
}

impl<'f> Record<'f> {
    /// `[ttl] [class] type data`, the first two in either order.
    fn read(fields: &'f [Token<'f>]) -> Result<Self, Refused> {
        let (mut ttl, mut class) = (None, None);
        let mut rest = fields;
        while let Some((first, more)) = rest.split_first() {
            if ttl.is_none() && first.text.first().is_some_and(u8::is_ascii_digit) {
                ttl = Some(rdata::ttl(first.text).ok_or((Reason::BadValue, "no time to live"))?);
            } else if class.is_none() && is_class(first.text) {
                class = Some(first.text);
            } else {
                let rtype = std::str::from_utf8(first.text).ok().and_then(|text| text.parse().ok());
                let rtype =
                    rtype.ok_or((Reason::BadValue, "no record type; write others as TYPE with their number"))?;
                return Ok(Self { ttl, class, rtype, data: more });
            }
            rest = more;
        }
        Err((Reason::Malformed, "a type is missing"))
    }
}

/// Types that a policy zone has for being a zone, or that cannot be local data.
const WITHOUT_MEANING: [RecordType; 13] = [
    RecordType::SOA,
    RecordType::DNAME,
    RecordType::NSEC,
    RecordType::NSEC3,
    RecordType::NSEC3PARAM,
    RecordType::RRSIG,
    RecordType::SIG,
    RecordType::KEY,
    RecordType::DNSKEY,
    RecordType::CDNSKEY,
    RecordType::DS,
    RecordType::CDS,
    RecordType::ZONEMD,
];

fn meaning_of_target(target: &Name) -> Result<Action, Refused> {
    let mut labels = target.labels();
    let action = match (labels.next(), labels.next()) {
        (None, _) => Action::NxDomain,
        (Some(b"*"), None) => Action::NoData,
        (Some(b"rpz-passthru"), None) => Action::Allow,
        (Some(b"rpz-drop"), None) => Action::Drop,
        (Some(b"rpz-tcp-only"), None) => Action::Truncate,
        _ if target.labels().last().is_some_and(|last| last.starts_with(b"rpz-")) => {
            return Err((Reason::Record, "a target below rpz-… that has no meaning here"));
        }
        _ => Action::Cname(target.to_owned()),
    };
    Ok(action)
}

/// What the owner below the apex stands for, and which names it covers.
fn read_trigger(labels: &[&[u8]], context: &mut Context<'_>) -> Result<(Owner, Scope), Refused> {
    let (kind, rest) = match labels.split_last() {
        Some((last, rest)) if last.starts_with(b"rpz-") => (*last, rest),
        _ => return read_name(labels, context).map(|(name, scope)| (Owner::Name(name), scope)),
    };
    let address: fn(IpNet) -> Owner = match kind {
        b"rpz-ip" => Owner::Answer,
        b"rpz-nsip" => Owner::NameServerAddress,
        b"rpz-client-ip" => Owner::Client,
        b"rpz-nsdname" if rest.is_empty() => return Err((Reason::BadValue, "rpz-nsdname: the name is missing")),
        b"rpz-nsdname" => {
            return read_name(rest, context).map(|(name, scope)| (Owner::NameServer(name), scope));
        }
        _ => return Err((Reason::Trigger, "an unknown kind of trigger")),
    };
    let prefix = prefix_from_labels(rest).map_err(|detail| (Reason::BadValue, detail))?;
    Ok((address(prefix), Scope::Exact))
}

/// A name, or a star and all that is below a name.
fn read_name(labels: &[&[u8]], context: &mut Context<'_>) -> Result<(DomainName, Scope), Refused> {
    let (scope, covered) = match labels[0] {
        b"*" => (context.starred(false), &labels[1..]),
        // Whatever `match` says: an owner without a star is that name, and its other half is written out.
        _ => (Scope::Exact, labels),
    };
    if covered.contains(&&b"*"[..]) {
        return Err((Reason::Pattern, "wildcards inside a name are not supported"));
    }
    let name = from_labels(covered);
    // `*` right below the apex is everything: a walled garden, which somebody must ask for.
    let is_garden = name.is_root() && scope == Scope::Below && context.settings.allow_suffix;
    if !is_garden {
        context.names.guard(&name)?;
    }
    Ok((name, scope))
}

fn from_labels(labels: &[&[u8]]) -> DomainName {
    let mut wire = Vec::with_capacity(64);
    for label in labels {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    Name::from_checked(&wire).to_owned()
}

fn is_class(text: &[u8]) -> bool {
    const CLASSES: [&[u8]; 6] = [b"IN", b"CH", b"HS", b"CS", b"ANY", b"NONE"];
    let numbered =
        text.len() > 5 && text[..5].eq_ignore_ascii_case(b"CLASS") && text[5..].iter().all(u8::is_ascii_digit);
    numbered || CLASSES.iter().any(|class| text.eq_ignore_ascii_case(class))
}

/// Puts `value` for `$`, and for `${offset,width,base}`; `\$` and `$$` stay a dollar.
fn substitute(template: &[u8], value: u32) -> Result<Vec<u8>, Refused> {
    const BAD: Refused = (Reason::BadValue, "$GENERATE: write ${offset,width,base} with base d, o, x or X");
    let mut text = Vec::with_capacity(template.len() + 8);
    let mut at = 0;
    while let Some(&octet) = template.get(at) {
        match (octet, template.get(at + 1)) {
            (b'\\', Some(b'$')) | (b'$', Some(b'$')) => {
                text.push(b'$');
                at += 2;
            }
            (b'$', Some(b'{')) => {
                let end = template[at..].iter().position(|&octet| octet == b'}').ok_or(BAD)? + at;
                let inner = std::str::from_utf8(&template[at + 2..end]).map_err(|_| BAD)?;
                let mut parts = inner.split(',');
                let offset: i64 = parts.next().unwrap_or("0").parse().map_err(|_| BAD)?;
                let width: usize = parts.next().unwrap_or("0").parse().ok().filter(|&width| width <= 63).ok_or(BAD)?;
                let shifted = i64::from(value).checked_add(offset).filter(|&shifted| shifted >= 0).ok_or(BAD)?;
                let number = match (parts.next().unwrap_or("d"), parts.next()) {
                    ("d", None) => format!("{shifted:0width$}"),
                    ("o", None) => format!("{shifted:0width$o}"),
                    ("x", None) => format!("{shifted:0width$x}"),
                    ("X", None) => format!("{shifted:0width$X}"),
                    _ => return Err(BAD),
                };
                text.extend(number.bytes());
                at = end + 1;
            }
            (b'$', _) => {
                text.extend(value.to_string().bytes());
                at += 1;
            }
            _ => {
                text.push(octet);
                at += 1;
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, refused, report};
    use super::*;
    use crate::list::{Format, MatchScope};

    const HEAD: &str = "$TTL 60\n@ SOA localhost. root.localhost. 1 2 3 4 5\n  NS localhost.\n";

    #[test]
    fn every_action_of_a_qname_trigger_is_read() {
        for (record, rule) in [
            ("a.example CNAME .", "exact a.example nxdomain"),
            ("A.example 300 IN CNAME *.", "exact a.example nodata"),
            ("a.example IN 5m CNAME rpz-passthru.", "exact a.example allow"),
            ("a.example CNAME rpz-drop.", "exact a.example drop"),
            ("a.example CNAME rpz-tcp-only.", "exact a.example truncate"),
            ("*.a.example CNAME .", "below a.example nxdomain"),
            ("a.example CNAME garden.example.", "exact a.example cname garden.example"),
            ("*.a.example CNAME *.garden.example.", "below a.example cname *.garden.example"),
            ("a.example CNAME a.example.", "exact a.example allow"),
            ("a.example A 192.0.2.1", "exact a.example A 192.0.2.1 60"),
            ("a.example 7 AAAA ::1", "exact a.example AAAA ::1 7"),
            ("a.example TXT ( \"see\" ; why\n \"law\" )", "exact a.example TXT \"see\" \"law\" 60"),
            (r"a.example TYPE999 \# 2 0a0b", "exact a.example TYPE999 \\# 2 0a0b 60"),
            (r"a\.b.example CNAME .", r"exact a\.b.example nxdomain"),
        ] {
            assert_eq!(read(Format::Rpz, &format!("{HEAD}{record}\n"), |_| ()), [rule], "{record}");
        }
        let bare = read(Format::Rpz, "a.example CNAME .", |list| list.match_scope = MatchScope::Subdomains);
        assert_eq!(bare, ["exact a.example nxdomain"]);
        let apex = read(Format::Rpz, "*.a.example CNAME .", |list| list.wildcard_apex = Some(true));
        assert_eq!(apex, ["subdomains a.example nxdomain"]);
    }

    #[test]
    fn every_kind_of_trigger_is_read() {
        for (record, rule) in [
            ("24.0.2.0.192.rpz-ip CNAME .", "exact 24.0.2.0.192.rpz-ip nxdomain"),
            ("128.1.zz.rpz-ip CNAME *.", "exact 128.1.zz.rpz-ip nodata"),
            ("32.1.2.0.192.rpz-client-ip CNAME rpz-drop.", "exact 32.1.2.0.192.rpz-client-ip drop"),
            ("48.zz.db8.2001.rpz-nsip A 192.0.2.1", "exact 48.zz.db8.2001.rpz-nsip A 192.0.2.1 60"),
            ("ns.example.rpz-nsdname CNAME rpz-passthru.", "exact ns.example.rpz-nsdname allow"),
            ("*.bad.example.rpz-nsdname CNAME .", "below bad.example.rpz-nsdname nxdomain"),
        ] {
            assert_eq!(read(Format::Rpz, &format!("{HEAD}{record}\n"), |_| ()), [rule], "{record}");
        }
    }

    #[test]
    fn owners_are_relative_to_the_apex() {
        let zone = "rpz.local. 60 IN SOA a. b. 1 2 3 4 5\nads.example.rpz.local. 60 IN CNAME .\nout.example. 60 IN CNAME .\nrpz.local. 60 IN SOA a. b. 1 2 3 4 5\n";
        assert_eq!(read(Format::Rpz, zone, |_| ()), ["exact ads.example nxdomain"]);
        assert_eq!(refused(Format::Rpz, zone), [Reason::Record]);
        let zone = "$ORIGIN rpz.local.\n@ SOA a. b. 1 2 3 4 5\nads.example CNAME .\n$ORIGIN example.rpz.local.\nmore CNAME .\n CNAME .\n";
        let rules = read(Format::Rpz, zone, |_| ());
        assert_eq!(rules, ["exact ads.example nxdomain", "exact more.example nxdomain", "exact more.example nxdomain"]);
    }

    #[test]
    fn what_gives_no_rule_is_counted_under_its_reason() {
        for (record, reason) in [
            ("ns.example.rpz-unheard CNAME .", Reason::Trigger),
            ("0.0.2.0.192.rpz-ip CNAME .", Reason::BadValue),
            ("33.1.2.0.192.rpz-ip CNAME .", Reason::BadValue),
            ("24.1.2.0.192.rpz-ip CNAME .", Reason::BadValue),
            ("1.2.0.192.rpz-ip CNAME .", Reason::BadValue),
            ("rpz-nsdname CNAME .", Reason::BadValue),
            ("com.rpz-nsdname CNAME .", Reason::PublicSuffix),
            ("a.example CNAME rpz-unheard.", Reason::Record),
            ("a.example CNAME x.rpz-passthru.", Reason::Record),
            ("a.example DNAME b.example.", Reason::Record),
            ("a.example CH TXT x", Reason::Record),
            ("a.example A 192.0.2", Reason::BadValue),
            ("a.example BANANA x", Reason::BadValue),
            ("a.example", Reason::Malformed),
            ("a.example CNAME", Reason::Malformed),
            ("a.example TXT \"x", Reason::Malformed),
            ("a..example CNAME .", Reason::InvalidName),
            ("a.*.example CNAME .", Reason::Pattern),
            ("* CNAME .", Reason::PublicSuffix),
            ("com CNAME .", Reason::PublicSuffix),
            ("$INCLUDE x", Reason::Include),
            ("$GENERATE 1-99999999 a$.example CNAME .", Reason::BadValue),
            ("$GENERATE 2-1 a$.example CNAME .", Reason::BadValue),
        ] {
            assert_eq!(refused(Format::Rpz, &format!("{HEAD}{record}\n")), [reason], "{record}");
        }
    }

    #[test]
    fn generate_makes_its_records() {
        let rules = read(Format::Rpz, "$GENERATE 8-10/2 h${1,3,x}-$.example CNAME .\n", |_| ());
        assert_eq!(rules, ["exact h009-8.example nxdomain", "exact h00b-10.example nxdomain"]);
    }

    #[test]
    fn everything_is_covered_only_when_asked_for() {
        let zone = format!("{HEAD}* CNAME garden.example.\nok.example CNAME rpz-passthru.\n");
        let rules = read(Format::Rpz, &zone, |list| list.allow_suffix = true);
        assert_eq!(rules, ["below . cname garden.example", "exact ok.example allow"]);
        assert_eq!(refused(Format::Rpz, &zone), [Reason::PublicSuffix]);
    }

    #[test]
    fn a_refused_owner_does_not_lend_its_records_to_another() {
        let zone = "a.example CNAME .\nb..example A 192.0.2.1\n A 192.0.2.2\n";
        assert_eq!(read(Format::Rpz, zone, |_| ()), ["exact a.example nxdomain"]);
    }

    #[test]
    fn the_old_passthru_is_noted() {
        assert_eq!(report(Format::Rpz, "a.example CNAME a.example.").noted(Note::OldPassthru), 1);
    }
}
