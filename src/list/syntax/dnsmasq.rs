//! dnsmasq's configuration: `address=/a.example/b.example/…`, `server=/…/`, `local=/…/`.
//!
//! A name covers itself and all below it. Behind the last slash stands nothing
//! (the name does not exist), an address (and no data for the other family),
//! `#` (for `address`: both null addresses; for `server`: an exception), or for
//! `server` and `local` a name server, which is no matter of blocking.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Context, Parser};
use crate::list::Reason;
use crate::list::text::{is_comment, without_comment};
use crate::rule::{Action, LocalRecord, Rule, Scope};

pub(super) struct Dnsmasq;

impl Parser for Dnsmasq {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        let line = line.trim_ascii();
        if line.is_empty() || is_comment(line) {
            return;
        }
        let line = without_comment(line);
        let Some(equals) = line.iter().position(|&octet| octet == b'=') else {
            return other_option(line, line, context);
        };
        let option = line[..equals].trim_ascii();
        let option = option.strip_prefix(b"--").unwrap_or(option);
        let value = line[equals + 1..].trim_ascii();
        let is_server = match option {
            b"address" => false,
            b"server" | b"local" => true,
            option => return other_option(option, line, context),
        };
        let Some((names, target)) = split(value) else {
            let detail = || format!("write {}=/name/", String::from_utf8_lossy(option));
            // `server=192.0.2.1` is a name server for everything: well formed, and no rule.
            let reason = if is_server { Reason::Option } else { Reason::Malformed };
            return context.refuse(line, reason, detail);
        };
        let action = match (is_server, target) {
            (_, b"") => Action::NxDomain,
            (true, b"#") => Action::Allow,
            (false, b"#") => {
                Action::Records(vec![LocalRecord::a(Ipv4Addr::UNSPECIFIED), LocalRecord::aaaa(Ipv6Addr::UNSPECIFIED)])
            }
            (true, _) => {
                return context.refuse(line, Reason::Option, || {
                    "a name server of its own is no rule; see [[resolver.forward]]".into()
                });
            }
            (false, target) => match std::str::from_utf8(target).ok().and_then(|target| target.parse().ok()) {
                Some(IpAddr::V4(address)) => Action::Records(vec![LocalRecord::a(address)]),
                Some(IpAddr::V6(address)) => Action::Records(vec![LocalRecord::aaaa(address)]),
                None => {
                    return context.refuse(line, Reason::BadValue, || {
                        "behind the last slash stands an address, # or nothing".into()
                    });
                }
            },
        };
        for name in names.split(|&octet| octet == b'/') {
            rule(name, action.clone(), line, context);
        }
    }
}

fn rule(name: &[u8], action: Action, line: &[u8], context: &mut Context<'_>) {
    let (scope, name) = match name {
        b"" => return context.refuse(line, Reason::Pattern, || "names without dots (//) are not supported".into()),
        b"#" => {
            return context.refuse(line, Reason::PublicSuffix, || "everything; a list never blocks the root".into());
        }
        [b'*', b'.', name @ ..] => (context.starred(false), name),
        [b'*', ..] => {
            return context
                .refuse(line, Reason::Pattern, || "the end of a label is not supported; write *.name".into());
        }
        // dnsmasq itself drops a leading dot.
        [b'.', name @ ..] => (Scope::Subdomains, name),
        name => (Scope::Subdomains, name),
    };
    if let Some(name) = context.name(name) {
        context.rule(Rule { action: Some(action), ..Rule::new(name, scope) });
    }
}

/// `/a/b/target` as `a/b` and `target`.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = value.strip_prefix(b"/")?;
    let last = inner.iter().rposition(|&octet| octet == b'/')?;
    Some((&inner[..last], &inner[last + 1..]))
}

fn other_option(option: &[u8], line: &[u8], context: &mut Context<'_>) {
    let is_word = !option.is_empty()
        && option.iter().all(|octet| octet.is_ascii_lowercase() || *octet == b'-' || octet.is_ascii_digit());
    match option {
        b"conf-file" | b"conf-dir" | b"addn-hosts" | b"servers-file" | b"hostsdir" => {
            context.refuse(line, Reason::Include, || "other files are not read from a list".into());
        }
        _ if is_word => context.refuse(line, Reason::Option, || "no option about blocking".into()),
        _ => context.refuse(line, Reason::Malformed, || "write address=/name/ or server=/name/".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, refused};
    use crate::list::{Format, Reason};

    #[test]
    fn the_target_says_what_is_answered() {
        for (line, rules) in [
            ("address=/a.example/", &["subdomains a.example nxdomain"][..]),
            ("--address=/a.example/", &["subdomains a.example nxdomain"]),
            ("local=/a.example/", &["subdomains a.example nxdomain"]),
            ("server=/a.example/", &["subdomains a.example nxdomain"]),
            ("server=/a.example/#", &["subdomains a.example allow"]),
            ("address=/a.example/#", &["subdomains a.example A 0.0.0.0 AAAA ::"]),
            ("address = /a.example/192.0.2.1 # c", &["subdomains a.example A 192.0.2.1"]),
            ("address=/a.example/::", &["subdomains a.example AAAA ::"]),
            (
                "address=/a.example/b.example/#",
                &["subdomains a.example A 0.0.0.0 AAAA ::", "subdomains b.example A 0.0.0.0 AAAA ::"],
            ),
            ("address=/*.a.example/", &["below a.example nxdomain"]),
        ] {
            assert_eq!(read(Format::Dnsmasq, line, |_| ()), rules, "{line}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for (line, reason) in [
            ("server=/a.example/192.0.2.1", Reason::Option),
            ("server=192.0.2.1", Reason::Option),
            ("port=53", Reason::Option),
            ("bogus-priv", Reason::Option),
            ("conf-file=/etc/x", Reason::Include),
            ("address=/#/0.0.0.0", Reason::PublicSuffix),
            ("address=/com/", Reason::PublicSuffix),
            ("address=//192.0.2.1", Reason::Pattern),
            ("address=/*a.example/", Reason::Pattern),
            ("address=/a.example", Reason::Malformed),
            ("address=/a.example/b.c.d", Reason::BadValue),
            ("||a.example^", Reason::Malformed),
        ] {
            assert_eq!(refused(Format::Dnsmasq, line), [reason], "{line}");
        }
    }
}
