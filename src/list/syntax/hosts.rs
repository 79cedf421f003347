//! hosts(5): an address, a name, and further names.
//!
//! The address of a sinkhole (`0.0.0.0`, `::`, `127.0.0.0/8`, `::1`) means that
//! the list's action is taken; what another one means is `hosts-ip`.

use std::net::IpAddr;

use super::names::address;
use super::{Context, Parser};
use crate::list::text::{is_comment, without_comment, words};
use crate::list::{HostsAddress, Reason};
use crate::rule::{Action, LocalRecord, Rule};

pub(super) struct Hosts;

impl Parser for Hosts {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        let line = line.trim_ascii();
        if line.is_empty() || is_comment(line) {
            return;
        }
        let line = without_comment(line);
        let Some(first) = words(line).next() else { return };
        match address(first) {
            Some(address) => mapping(line, address, context),
            None => context.refuse(line, Reason::Malformed, || "an address comes first".into()),
        }
    }
}

/// Takes the names of a line that begins with `address`.
pub(super) fn mapping(line: &[u8], first: IpAddr, context: &mut Context<'_>) {
    let mut names = words(line).skip(1).peekable();
    match names.peek() {
        None => return context.refuse(line, Reason::Malformed, || "no name behind the address".into()),
        Some(second) if address(second).is_some() && words(line).nth(2).is_some() => {
            return context.refuse(line, Reason::Malformed, || "two addresses; write a line for each".into());
        }
        Some(_) => {}
    }
    let first = first.to_canonical();
    for name in names {
        // First the name: `fe80::1%lo0 localhost` is in every such file and no mapping.
        let Some(name) = context.name(name) else { continue };
        let rule = Rule::new(name, context.bare());
        match context.settings.hosts_address {
            _ if is_sinkhole(first) => context.rule(rule),
            HostsAddress::Rewrite => {
                let record = match first {
                    IpAddr::V4(address) => LocalRecord::a(address),
                    IpAddr::V6(address) => LocalRecord::aaaa(address),
                };
                context.rule(Rule { action: Some(Action::Records(vec![record])), ..rule });
            }
            HostsAddress::Ignore => {
                context.refuse(line, Reason::Redirect, || "an address of its own, and hosts-ip is \"ignore\"".into());
            }
            HostsAddress::Error => {
                context.refuse(line, Reason::BadValue, || "an address of its own, and hosts-ip is \"error\"".into());
            }
        }
    }
}

fn is_sinkhole(address: IpAddr) -> bool {
    address.is_unspecified() || address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, refused};
    use crate::list::{Format, HostsAddress, Reason};

    #[test]
    fn each_name_behind_a_sinkhole_address_is_a_rule() {
        let text = "127.0.0.1 localhost\n0.0.0.0 a.example B.example\t# c\n::\tc.example\n::1 d.example\n127.9.9.9 e.example\n";
        assert_eq!(
            read(Format::Hosts, text, |_| ()),
            ["exact a.example", "exact b.example", "exact c.example", "exact d.example", "exact e.example"]
        );
    }

    #[test]
    fn another_address_means_what_the_settings_say() {
        let text = "192.0.2.1 a.example\n2001:db8::1%eth0 a.example";
        assert_eq!(read(Format::Hosts, text, |_| ()), [""; 0]);
        assert_eq!(
            read(Format::Hosts, text, |list| list.hosts_address = HostsAddress::Rewrite),
            ["exact a.example A 192.0.2.1", "exact a.example AAAA 2001:db8::1"]
        );
        assert_eq!(refused(Format::Hosts, text), [Reason::Redirect, Reason::Redirect]);
    }

    #[test]
    fn lines_without_an_address_or_with_two_are_errors() {
        for (line, reasons) in [
            ("a.example", &[Reason::Malformed][..]),
            ("0.0.0.0", &[Reason::Malformed]),
            ("0.0.0.0 192.0.2.1 a.example", &[Reason::Malformed]),
            ("0.0.0.0 0.0.0.0", &[Reason::Address]),
            ("0.0.0.0 div>Hosted On GitHub", &[Reason::InvalidName, Reason::PublicSuffix, Reason::PublicSuffix]),
            ("fe80::1%lo0 localhost", &[Reason::LocalName]),
            ("255.255.255.255 broadcasthost", &[Reason::LocalName]),
            ("192.0.2.1 a.example b.example", &[Reason::Redirect, Reason::Redirect]),
        ] {
            assert_eq!(refused(Format::Hosts, line), reasons, "{line}");
        }
    }
}
