//! One name a line: `ads.example  # comment`.

use super::{Context, Parser};
use crate::list::Reason;
use crate::rule::Rule;

pub(super) struct Domains;

impl Parser for Domains {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        let hint = "one name a line; a line with an address first is format hosts";
        let Some(word) = context.only_word(line, hint) else { return };
        if word.contains(&b'*') {
            context
                .refuse(line, Reason::Pattern, || "a wildcard in a list of names; read it as format wildcard".into());
        } else if let Some(owner) = context.owner(word) {
            context.rule(Rule::new(owner, context.bare()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, refused};
    use crate::list::{BareAddress, Format, MatchScope, Reason};

    #[test]
    fn a_line_is_a_name() {
        let text = "# c\n! c\n; c\n// c\n\n  a.example \t# c\nB.Example.\n";
        assert_eq!(read(Format::Domains, text, |_| ()), ["exact a.example", "exact b.example"]);
        let subdomains = read(Format::Domains, text, |list| list.match_scope = MatchScope::Subdomains);
        assert_eq!(subdomains, ["subdomains a.example", "subdomains b.example"]);
    }

    #[test]
    fn addresses_are_meant_only_where_the_list_says_so() {
        let text = "192.0.2.1\n192.0.2.200/25\n2001:db8::/48\na.example\n0.0.0.0/0\n";
        let rules = read(Format::Domains, text, |list| list.bare_address = BareAddress::Answers);
        let prefixes = ["32.1.2.0.192.rpz-ip", "25.128.2.0.192.rpz-ip", "48.zz.db8.2001.rpz-ip", "a.example"];
        assert_eq!(rules, prefixes.map(|owner| format!("exact {owner}")));
        assert_eq!(read(Format::Domains, text, |_| ()), ["exact a.example"]);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for (line, reason) in [
            ("a.example b.example", Reason::Malformed),
            ("0.0.0.0 a.example", Reason::Malformed),
            ("http://a.example/x", Reason::InvalidName),
            ("a.example#c", Reason::InvalidName),
            ("*.a.example", Reason::Pattern),
            ("192.0.2.1", Reason::Address),
            ("cdn.", Reason::PublicSuffix),
        ] {
            assert_eq!(refused(Format::Domains, line), [reason], "{line}");
        }
    }
}
