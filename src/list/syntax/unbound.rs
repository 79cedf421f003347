//! Unbound's configuration: `local-zone: "name" type` and `local-data: "name A 192.0.2.1"`.
//!
//! A zone covers its name and all below. Data stands at its own name only,
//! unless a `redirect` zone of the same name spreads it: that zone is given as
//! a rule without records here, and [`compile`](crate::compile) brings both
//! together, wherever in the file they stand.

use super::zone::Tokens;
use super::{Context, Parser, rdata};
use crate::list::Reason;
use crate::list::text::is_comment;
use crate::name::Name;
use crate::query::RecordType;
use crate::rule::{Action, LocalRecord, Rule, Scope, TypeFilter};

pub(super) struct Unbound;

impl Parser for Unbound {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        let line = line.trim_ascii();
        if line.is_empty() || is_comment(line) {
            return;
        }
        let Some(colon) = line.iter().position(|&octet| octet == b':') else {
            return context.refuse(line, Reason::Malformed, || "write local-zone: \"name\" type".into());
        };
        let rest = line[colon + 1..].trim_ascii();
        let read = match &line[..colon] {
            b"local-zone" => local_zone(rest, context),
            b"local-data" => local_data(rest, context),
            b"server" if rest.is_empty() || rest.starts_with(b"#") => Ok(()),
            b"include" | b"include-toplevel" => Err((Reason::Include, "other files are not read from a list")),
            option if option.iter().all(|octet| octet.is_ascii_lowercase() || b"-0123456789".contains(octet)) => {
                Err((Reason::Option, "no option about blocking"))
            }
            _ => Err((Reason::Malformed, "write local-zone: \"name\" type")),
        };
        if let Err((reason, detail)) = read {
            context.refuse(line, reason, || detail.to_owned());
        }
    }
}

type Refused = (Reason, &'static str);

fn local_zone(rest: &[u8], context: &mut Context<'_>) -> Result<(), Refused> {
    const WRITE: Refused = (Reason::Malformed, "write local-zone: \"name\" type");
    let (name, rest) = argument(rest).ok_or(WRITE)?;
    let (kind, rest) = argument(rest).ok_or(WRITE)?;
    if !(rest.is_empty() || rest.starts_with(b"#")) {
        return Err(WRITE);
    }
    let only = |rtype| TypeFilter::Only(vec![rtype]);
    let (action, types, shadow) = match kind {
        b"static" | b"always_nxdomain" => (Action::NxDomain, TypeFilter::All, false),
        b"always_nodata" => (Action::NoData, TypeFilter::All, false),
        b"always_null" => (null_addresses(), TypeFilter::All, false),
        b"refuse" | b"always_refuse" => (Action::Refused, TypeFilter::All, false),
        b"deny" | b"always_deny" | b"inform_deny" => (Action::Drop, TypeFilter::All, false),
        b"redirect" | b"inform_redirect" => (Action::Records(Vec::new()), TypeFilter::All, false),
        b"transparent" | b"always_transparent" | b"typetransparent" => (Action::Allow, TypeFilter::All, false),
        b"inform" => (Action::NoData, TypeFilter::All, true),
        b"block_a" | b"block_a_wdata" => (Action::NoData, only(RecordType::A), false),
        b"block_aaaa" | b"block_aaaa_wdata" => (Action::NoData, only(RecordType::AAAA), false),
        b"noview" | b"nodefault" => return Err((Reason::Option, "no zone type about blocking")),
        b"ipset" | b"always_ipset" => return Err((Reason::Option, "sets of addresses are not supported")),
        _ => return Err((Reason::BadValue, "no type of local zone")),
    };
    if name == b"." {
        return Err((Reason::PublicSuffix, "everything; a list never blocks the root"));
    }
    if let Some(name) = context.name(name) {
        context.rule(Rule { action: Some(action), types, shadow, ..Rule::new(name, Scope::Subdomains) });
    }
    Ok(())
}

fn local_data(rest: &[u8], context: &mut Context<'_>) -> Result<(), Refused> {
    const WRITE: Refused = (Reason::Malformed, "write local-data: \"name A 192.0.2.1\"");
    let (data, rest) = argument(rest).ok_or(WRITE)?;
    if !(rest.is_empty() || rest.starts_with(b"#")) {
        return Err(WRITE);
    }
    let mut tokens = Tokens::default();
    if !tokens.push_line(data).map_err(|detail| (Reason::Malformed, detail))? {
        return Err(WRITE);
    }
    let mut fields = tokens.iter().peekable();
    let owner = fields.next().ok_or(WRITE)?;
    let ttl = fields.peek().and_then(|field| rdata::ttl(field.text));
    if ttl.is_some() {
        fields.next();
    }
    if fields.peek().is_some_and(|field| field.text.eq_ignore_ascii_case(b"IN")) {
        fields.next();
    }
    let rtype = fields.next().and_then(|field| std::str::from_utf8(field.text).ok()?.parse::<RecordType>().ok());
    let rtype = rtype.ok_or((Reason::BadValue, "no record type"))?;
    let fields: Vec<_> = fields.collect();
    let action = match (rtype, &fields[..]) {
        (RecordType::CNAME, [target]) => {
            Action::Cname(rdata::name(target.text, Name::root()).map_err(|detail| (Reason::BadValue, detail))?)
        }
        _ => {
            let rdata = rdata::parse(rtype, &fields, Name::root()).map_err(|detail| (Reason::BadValue, detail))?;
            Action::Records(vec![LocalRecord { rtype, ttl, rdata }])
        }
    };
    if let Some(name) = context.name(owner.text) {
        context.rule(Rule { action: Some(action), ..Rule::new(name, Scope::Exact) });
    }
    Ok(())
}

/// `0.0.0.0` and `::`.
fn null_addresses() -> Action {
    Action::Records(vec![
        LocalRecord::a(std::net::Ipv4Addr::UNSPECIFIED),
        LocalRecord::aaaa(std::net::Ipv6Addr::UNSPECIFIED),
    ])
}

/// The first argument, without its quotes, and what follows.
fn argument(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (argument, rest) = match text {
        [quote @ (b'"' | b'\''), quoted @ ..] => {
            let end = quoted.iter().position(|octet| octet == quote)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        text => text.split_at(text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len())),
    };
    (!argument.is_empty()).then(|| (argument, rest.trim_ascii_start()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, refused};
    use crate::list::{Format, Reason};

    #[test]
    fn every_zone_type_has_its_meaning() {
        let rule = |kind: &str| read(Format::Unbound, &format!("local-zone: \"a.example.\" {kind} # c"), |_| ());
        for (kinds, meaning) in [
            (&["static", "always_nxdomain"][..], "nxdomain"),
            (&["always_nodata"], "nodata"),
            (&["always_null"], "A 0.0.0.0 AAAA ::"),
            (&["refuse", "always_refuse"], "refused"),
            (&["deny", "always_deny", "inform_deny"], "drop"),
            (&["redirect", "inform_redirect"], "records"),
            (&["transparent", "always_transparent", "typetransparent"], "allow"),
            (&["inform"], "nodata shadow"),
            (&["block_a", "block_a_wdata"], "nodata only [A]"),
            (&["block_aaaa", "block_aaaa_wdata"], "nodata only [AAAA]"),
        ] {
            for kind in kinds {
                assert_eq!(rule(kind), [format!("subdomains a.example {meaning}")], "{kind}");
            }
        }
    }

    #[test]
    fn data_stands_at_its_name() {
        for (line, rules) in [
            (r#"local-data: "a.example. 300 IN A 192.0.2.1""#, "exact a.example A 192.0.2.1 300"),
            (r#"local-data: "a.example AAAA 2001:db8::1""#, "exact a.example AAAA 2001:db8::1"),
            (r#"local-data: 'a.example TXT "why not"'"#, "exact a.example TXT \"why not\""),
            (r#"local-data: "a.example CNAME *.garden.example.""#, "exact a.example cname *.garden.example"),
            (r#"    local-zone: 'a.example' "refuse""#, "subdomains a.example refused"),
            ("local-zone: a.example refuse", "subdomains a.example refused"),
        ] {
            assert_eq!(read(Format::Unbound, line, |_| ()), [rules], "{line}");
        }
        assert_eq!(read(Format::Unbound, "server:\n# c\n", |_| ()), [""; 0]);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for (line, reason) in [
            (r#"local-zone: "a.example" nodefault"#, Reason::Option),
            (r#"local-zone: "a.example" bananas"#, Reason::BadValue),
            (r#"local-zone: "a.example""#, Reason::Malformed),
            (r#"local-zone: "a.example static"#, Reason::Malformed),
            (r#"local-zone: "." static"#, Reason::PublicSuffix),
            (r#"local-zone: "com." static"#, Reason::PublicSuffix),
            (r#"local-data: "a.example A 192.0.2""#, Reason::BadValue),
            (r#"local-data: "a.example""#, Reason::BadValue),
            (r#"local-data-ptr: "192.0.2.1 a.example""#, Reason::Option),
            ("include: /etc/x", Reason::Include),
            ("verbosity: 1", Reason::Option),
            ("a.example", Reason::Malformed),
        ] {
            assert_eq!(refused(Format::Unbound, line), [reason], "{line}");
        }
    }
}
