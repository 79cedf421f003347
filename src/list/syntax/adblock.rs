//! Ad-block rules as DNS-level blockers read them.
//!
//! ```text
//! ||x^      x and all below it       |x^  |x|   x alone        x       x alone (a bare name)
//! ||*.x^    all below x              @@…        an exception   0.0.0.0 x   a hosts line
//! x^  x|    ends with x: narrowed to x and all below it
//! …$important,badfilter,denyallow=a|b,dnstype=A|~AAAA
//! ```
//!
//! Any other modifier makes the whole rule ignored, as AdGuard's own parser
//! does: half a rule would block what its author did not mean. Patterns that no
//! set of names can express are counted as such.

use super::names::{address, is_address};
use super::{Context, Entry, Op, Parser, hosts, read_types};
use crate::list::text::{is_comment, without_comment, words};
use crate::list::{BareAddress, Note, Reason};
use crate::name::DomainName;
use crate::rule::{Action, Rule, Scope, TypeFilter};

pub(super) struct Adblock;

impl Parser for Adblock {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        if is_cosmetic(line) {
            return context.refuse(line, Reason::Cosmetic, || "hides parts of pages; names are not its matter".into());
        }
        if is_comment(line) {
            return;
        }
        let line = without_comment(line);
        let mut parts = words(line);
        let first = parts.next().unwrap_or_default();
        if parts.next().is_some() {
            return match address(first) {
                Some(address) => hosts::mapping(line, address, context),
                None => context.refuse(line, Reason::Malformed, || "a rule has no white space".into()),
            };
        }
        if let Err((reason, detail)) = network_rule(line, context) {
            context.refuse(line, reason, || detail.to_owned());
        }
    }
}

type Refused = (Reason, &'static str);

fn network_rule(line: &[u8], context: &mut Context<'_>) -> Result<(), Refused> {
    let (allow, body) = match line.strip_prefix(b"@@") {
        Some(body) => (true, body),
        None => (false, line),
    };
    let (pattern, modifiers) = split_modifiers(body);
    if pattern.len() > 1 && pattern.starts_with(b"/") && pattern.ends_with(b"/") {
        return Err((Reason::Pattern, "regular expressions are not supported"));
    }
    let modifiers = Modifiers::read(modifiers, context)?;
    let Shape { name, scope, form, narrowed } = Shape::read(pattern, context)?;
    let Some(owner) = context.owner(name) else { return Ok(()) };
    if narrowed {
        context.report.note(Note::Narrowed);
    }
    let rule = Rule {
        action: allow.then_some(Action::Allow),
        important: modifiers.important,
        types: modifiers.types,
        except: modifiers.except,
        ..Rule::new(owner, scope)
    };
    let op = if modifiers.badfilter { Op::Disable } else { Op::Add };
    context.entry(Entry { rule, op, form });
    Ok(())
}

/// Which names a pattern covers.
struct Shape<'p> {
    name: &'p [u8],
    scope: Scope,
    /// Tells apart what is written differently and means the same.
    form: u8,
    /// Names that end inside a label are left out.
    narrowed: bool,
}

impl<'p> Shape<'p> {
    fn read(pattern: &'p [u8], context: &Context<'_>) -> Result<Self, Refused> {
        let (head, body) = match pattern {
            [b'|', b'|', body @ ..] => (2, body),
            [b'|', body @ ..] => (1, body),
            body => (0, body),
        };
        let (tail, body) = match body {
            [body @ .., b'^', b'|'] => (4, body),
            [body @ .., b'^', b'*'] => (3, body),
            [body @ .., b'^'] => (2, body),
            [body @ .., b'|'] => (1, body),
            body => (0, body),
        };
        let (star, name) = match body {
            [b'*', b'.', name @ ..] => (2, name),
            [b'.', name @ ..] => (1, name),
            name => (0, name),
        };
        if is_address(name) || name.starts_with(b"[") {
            return match context.settings.bare_address {
                BareAddress::Ignore => Err((Reason::Address, "rules about addresses are off; see bare-ip")),
                BareAddress::Answers => Ok(Self { name, scope: Scope::Exact, form: head * 15 + tail, narrowed: false }),
            };
        }
        if name.is_empty() || name == b"*" {
            return Err((Reason::PublicSuffix, "everything; a list never blocks the root"));
        }
        if name.iter().any(|octet| b"/:?=&".contains(octet)) {
            return Err((Reason::Pattern, "parts of URLs are not seen in names"));
        }
        if name.iter().any(|octet| b"*^|".contains(octet)) {
            return Err((Reason::Pattern, "wildcards inside a name are not supported"));
        }
        if name.ends_with(b".") {
            return Err((Reason::Pattern, "the beginning of a name is not supported; end it with ^"));
        }
        let scope = match (head, star, tail) {
            (0 | 2, 1 | 2, _) if !(head == 2 && star == 1) => context.starred(false),
            (2, 0, _) => Scope::Subdomains,
            (1, 0, 1..) => Scope::Exact,
            (0, 0, 0) if name.contains(&b'.') => context.bare(),
            // `x^` also ends `badx`; that half has no label boundary and is left out.
            (0, 0, 1..) if name.contains(&b'.') && !name.starts_with(b"-") && !name.starts_with(b"_") => {
                Scope::Subdomains
            }
            (1, _, _) => return Err((Reason::Pattern, "the beginning of a name is not supported; end it with ^")),
            _ => return Err((Reason::Pattern, "a part of a name is not supported; write ||name^")),
        };
        // 0 is a bare name: that is a hosts rule, which `$badfilter` leaves alone.
        let narrowed = (head, star, scope) == (0, 0, Scope::Subdomains) && tail > 0;
        Ok(Self { name, scope, form: head * 15 + star * 5 + tail, narrowed })
    }
}

/// The modifiers that names can have.
#[derive(Default)]
struct Modifiers {
    important: bool,
    badfilter: bool,
    types: TypeFilter,
    except: Vec<DomainName>,
}

impl Modifiers {
    fn read(text: Option<&[u8]>, context: &mut Context<'_>) -> Result<Self, Refused> {
        let mut modifiers = Self::default();
        let Some(text) = text else { return Ok(modifiers) };
        let mut unknown = None;
        for modifier in split_unescaped(text, b',') {
            let (name, value) = match modifier.iter().position(|&octet| octet == b'=') {
                Some(at) => (&modifier[..at], Some(&modifier[at + 1..])),
                None => (modifier, None),
            };
            match (name, value) {
                (b"important", None) => modifiers.important = true,
                (b"badfilter", None) => modifiers.badfilter = true,
                (b"dnstype", Some(value)) => {
                    let types = std::str::from_utf8(value).ok().and_then(|value| read_types(value.split('|')));
                    let wrong = (Reason::BadValue, "dnstype: no record type; write a mnemonic such as AAAA");
                    modifiers.types = types.ok_or(wrong)?;
                }
                (b"denyallow", Some(value)) => modifiers.except = read_names(value, context)?,
                (name, _) if is_browser_only(name) => {
                    unknown = Some((Reason::BrowserOnly, "depends on what only a browser knows"));
                }
                _ => return Err((Reason::Modifier, "a modifier is not supported, so the whole rule is ignored")),
            }
        }
        unknown.map_or(Ok(modifiers), Err)
    }
}

fn read_names(value: &[u8], context: &mut Context<'_>) -> Result<Vec<DomainName>, Refused> {
    let mut names = Vec::new();
    for word in value.split(|&octet| octet == b'|') {
        let name = context.names.read_any(word, &mut context.report);
        names.push(name.map_err(|_| (Reason::BadValue, "denyallow: write names with | between them"))?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Splits at the last `$` that no backslash precedes.
fn split_modifiers(body: &[u8]) -> (&[u8], Option<&[u8]>) {
    // A regular expression may end with `$/`; without modifiers it is whole.
    if body.len() > 1 && body.starts_with(b"/") && body.ends_with(b"/") {
        return (body, None);
    }
    let dollar =
        (0..body.len().saturating_sub(1)).rev().find(|&at| body[at] == b'$' && (at == 0 || body[at - 1] != b'\\'));
    match dollar {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    }
}

fn split_unescaped(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut before = 0;
    text.split(move |&octet| {
        let is_separator = octet == separator && before != b'\\';
        before = octet;
        is_separator
    })
}

/// Whether a `#…#` or `$$` marker of a cosmetic, scriptlet or HTML rule is in the line.
///
/// Before a marker stand only names: behind `!`, another `#` or white space it is part of a comment.
fn is_cosmetic(line: &[u8]) -> bool {
    const MARKERS: [&[u8]; 11] =
        [b"##", b"#@#", b"#?#", b"#@?#", b"#$#", b"#@$#", b"#$?#", b"#%#", b"#@%#", b"$$", b"$@$"];
    let before = line.iter().position(|octet| b"#$!".contains(octet) || octet.is_ascii_whitespace());
    before.is_some_and(|at| MARKERS.iter().any(|marker| line[at..].starts_with(marker)))
}

fn is_browser_only(name: &[u8]) -> bool {
    const KNOWN: &[&str] = &[
        "1p",
        "3p",
        "all",
        "app",
        "beacon",
        "background",
        "cname",
        "content",
        "cookie",
        "csp",
        "css",
        "doc",
        "document",
        "domain",
        "donottrack",
        "ehide",
        "elemhide",
        "empty",
        "extension",
        "first-party",
        "font",
        "frame",
        "from",
        "genericblock",
        "generichide",
        "ghide",
        "header",
        "hls",
        "image",
        "inline-font",
        "inline-script",
        "ipaddress",
        "jsinject",
        "jsonprune",
        "match-case",
        "media",
        "method",
        "mp4",
        "network",
        "object",
        "object-subrequest",
        "other",
        "permissions",
        "ping",
        "popunder",
        "popup",
        "redirect",
        "redirect-rule",
        "referrerpolicy",
        "removeheader",
        "removeparam",
        "replace",
        "rewrite",
        "script",
        "shide",
        "sitekey",
        "specifichide",
        "stealth",
        "strict1p",
        "strict3p",
        "strict-first-party",
        "strict-third-party",
        "stylesheet",
        "subdocument",
        "third-party",
        "to",
        "uritransform",
        "urlblock",
        "urltransform",
        "webrtc",
        "websocket",
        "xhr",
        "xmlhttprequest",
        "xmlprune",
    ];
    let name = name.strip_prefix(b"~").unwrap_or(name);
    std::str::from_utf8(name).is_ok_and(|name| KNOWN.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entries, read, refused, report};
    use super::*;
    use crate::list::Format;

    #[test]
    fn a_pattern_covers_what_the_table_says() {
        for (line, rule) in [
            ("||a.example^", "subdomains a.example"),
            ("||a.example", "subdomains a.example"),
            ("||a.example|", "subdomains a.example"),
            ("||A.Example^|", "subdomains a.example"),
            ("||*.a.example^", "below a.example"),
            ("*.a.example", "below a.example"),
            ("*.a.example^", "below a.example"),
            (".a.example^", "below a.example"),
            ("|a.example^", "exact a.example"),
            ("|a.example|", "exact a.example"),
            ("a.example", "exact a.example"),
            ("a.example # c", "exact a.example"),
            ("0.0.0.0 a.example", "exact a.example"),
            ("a.example|", "subdomains a.example"),
            ("a.example^", "subdomains a.example"),
            ("@@||a.example^", "subdomains a.example allow"),
            ("@@|a.example^", "exact a.example allow"),
            ("@@a.example", "exact a.example allow"),
            ("||a.example^$important", "subdomains a.example important"),
            ("@@||a.example^$important", "subdomains a.example allow important"),
            ("||a.example^$dnstype=A|aaaa", "subdomains a.example only [A, AAAA]"),
            ("||a.example^$dnstype=~A|~HTTPS", "subdomains a.example except [A, HTTPS]"),
            ("||a.example^$dnstype=A|~AAAA", "subdomains a.example only [A]"),
            ("||a.example^$denyallow=x.a.example|com", "subdomains a.example but [com, x.a.example]"),
            ("||a.example^$dnstype=A,important", "subdomains a.example important only [A]"),
            ("||жарнама.қаз^", "subdomains xn--80aaav6aeu.xn--80ao21a"),
        ] {
            assert_eq!(read(Format::Adblock, line, |_| ()), [rule], "{line}");
        }
    }

    #[test]
    fn what_names_cannot_express_is_ignored_and_counted() {
        for (line, reason) in [
            ("example.org##.ad", Reason::Cosmetic),
            ("##.ad", Reason::Cosmetic),
            ("example.org#@#.ad", Reason::Cosmetic),
            ("example.org#$#x", Reason::Cosmetic),
            ("example.org#%#//scriptlet", Reason::Cosmetic),
            ("example.org$$script", Reason::Cosmetic),
            ("||a.example^$third-party", Reason::BrowserOnly),
            ("||a.example^$script,domain=b.example", Reason::BrowserOnly),
            ("||a.example^$~third-party", Reason::BrowserOnly),
            ("||a.example^$dnsrewrite=192.0.2.1", Reason::Modifier),
            ("||a.example^$client=192.0.2.1", Reason::Modifier),
            ("||a.example^$script,unheard-of", Reason::Modifier),
            ("||a.example^$important=1", Reason::Modifier),
            ("||a.example^$dnstype=BANANA", Reason::BadValue),
            ("||a.example^$dnstype=", Reason::BadValue),
            ("||a.example^$denyallow=", Reason::BadValue),
            ("/ads[0-9]/", Reason::Pattern),
            ("/ads$/", Reason::Pattern),
            ("/ads/$important", Reason::Pattern),
            ("adserver", Reason::Pattern),
            ("||ads.", Reason::Pattern),
            ("||ads.*.example^", Reason::Pattern),
            ("||a*.example^", Reason::Pattern),
            ("|a.example", Reason::Pattern),
            ("-ads.example^", Reason::Pattern),
            ("||a.example/path", Reason::Pattern),
            ("|https://a.example/", Reason::Pattern),
            ("||192.0.2.1^", Reason::Address),
            ("192.0.2.1", Reason::Address),
            ("||[2001:db8::1]^", Reason::Address),
            ("||com^", Reason::PublicSuffix),
            ("||*^", Reason::PublicSuffix),
            ("*", Reason::PublicSuffix),
            ("||^", Reason::PublicSuffix),
            ("||a b^", Reason::Malformed),
            ("||a>b.example^", Reason::InvalidName),
        ] {
            assert_eq!(refused(Format::Adblock, line), [reason], "{line}");
        }
        for comment in ["! Title: a ## b", "# c", "[Adblock Plus 2.0]", "// c", "#"] {
            assert_eq!(refused(Format::Adblock, comment), [], "{comment}");
        }
    }

    #[test]
    fn what_ends_inside_a_label_is_narrowed_and_noted() {
        let noted = |line| report(Format::Adblock, line).noted(Note::Narrowed);
        assert_eq!((noted("a.example^"), noted("a.example|")), (1, 1));
        assert_eq!((noted("a.example"), noted("||a.example^"), noted(".a.example^")), (0, 0, 0));
    }

    #[test]
    fn a_badfilter_is_for_what_is_written_alike() {
        let entries = entries(Format::Adblock, "||a.example^\n||a.example^$badfilter\n||a.example\na.example\n");
        assert_eq!(entries.iter().map(|entry| entry.op).collect::<Vec<_>>(), [Op::Add, Op::Disable, Op::Add, Op::Add]);
        assert_eq!(entries[0].rule, entries[1].rule);
        assert_eq!(entries[0].form, entries[1].form);
        assert_ne!(entries[0].form, entries[2].form);
        assert_eq!(entries[3].form, 0);
    }
}
