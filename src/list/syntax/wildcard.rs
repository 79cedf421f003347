//! Wildcards: `*.name`, `.name` (the name and all below), `=name` (the name alone), or a bare name.

use super::{Context, Parser};
use crate::list::Reason;
use crate::rule::{Rule, Scope};

pub(super) struct Wildcard;

impl Parser for Wildcard {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        let Some(word) = context.only_word(line, "one name a line") else { return };
        let (scope, name) = match word {
            [b'*', b'.', name @ ..] => (context.starred(true), name),
            [b'.', name @ ..] => (Scope::Subdomains, name),
            [b'=', name @ ..] => (Scope::Exact, name),
            name => (context.bare(), name),
        };
        if name.iter().any(|octet| b"*?[]".contains(octet)) {
            context.refuse(line, Reason::Pattern, || "only `*.` at the beginning is a wildcard here".into());
        } else if name.contains(&b'@') {
            context.refuse(line, Reason::Pattern, || "times of day behind @ are not supported".into());
        } else if let Some(owner) = context.owner(name) {
            context.rule(Rule::new(owner, scope));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, refused};
    use crate::list::{Format, Reason};

    #[test]
    fn the_first_characters_say_what_is_covered() {
        let text = "*.a.example\n.b.example # c\n=c.example\nd.example\n";
        assert_eq!(
            read(Format::Wildcard, text, |_| ()),
            ["subdomains a.example", "subdomains b.example", "exact c.example", "exact d.example"]
        );
        let without_apex = read(Format::Wildcard, text, |list| list.wildcard_apex = Some(false));
        assert_eq!(without_apex[0], "below a.example");
        assert_eq!(without_apex[1], "subdomains b.example");
    }

    #[test]
    fn other_patterns_are_refused() {
        for (line, reason) in [
            ("*a.example", Reason::Pattern),
            ("a.*.example", Reason::Pattern),
            ("*.*.example", Reason::Pattern),
            ("ad[0-9].example", Reason::Pattern),
            ("*.a.example @work", Reason::Malformed),
            ("*", Reason::Pattern),
            ("*.", Reason::InvalidName),
            ("*.com", Reason::PublicSuffix),
        ] {
            assert_eq!(refused(Format::Wildcard, line), [reason], "{line}");
        }
    }
}
