//! The columns and keys that CSV and JSONL share.

use super::{Context, Entry, Op, read_types};
use crate::list::{Reason, UtcOffset};
use crate::rule::{Action, BlockReason, Dossier, Rule, Scope, TypeFilter};

/// One row or object as it is read, key by key.
#[derive(Default)]
pub(super) struct Row {
    domain: Option<String>,
    op: Option<Op>,
    scope: Option<Scope>,
    action: Option<Action>,
    important: bool,
    types: TypeFilter,
    except: Vec<String>,
    redact: bool,
    dossier: Dossier,
}

type Refused = (Reason, String);

/// Which edge of a day a date without a time means.
#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

impl Row {
    pub(super) fn has_domain(&self) -> bool {
        self.domain.is_some()
    }

    /// Takes one value; an empty one says nothing.
    pub(super) fn set(&mut self, key: &str, value: &str, context: &Context<'_>) -> Result<(), Refused> {
        let value = value.trim();
        if value.is_empty() {
            return Ok(());
        }
        let bad = |what: &str| (Reason::BadValue, format!("{key}: {value:?} is no {what}"));
        let unsupported = |why: &str| (Reason::Modifier, format!("{key}: {why}"));
        let text = || Some(value.to_owned());
        let time = |edge| time(value, edge, context.settings.utc_offset).ok_or_else(|| bad("RFC 3339 date or time"));
        match key {
            "domain" => self.domain = text(),
            "op" => {
                self.op = Some(match value {
                    "add" => Op::Add,
                    "remove" => Op::Remove,
                    "update" => Op::Update,
                    _ => return Err(bad("operation; write add, remove or update")),
                });
            }
            "match" => {
                self.scope = Some(match value {
                    "exact" => Scope::Exact,
                    "subdomains" => Scope::Subdomains,
                    "below" => Scope::Below,
                    _ => return Err(bad("match; write exact, subdomains or below")),
                });
            }
            "action" => self.action = Some(action(value).ok_or_else(|| bad("action"))?),
            "important" => self.important = truth(value).ok_or_else(|| bad("truth value"))?,
            "redact" => self.redact = truth(value).ok_or_else(|| bad("truth value"))?,
            "qtypes" => self.types = read_types(split(value)).ok_or_else(|| bad("list of record types"))?,
            "except" => self.except = split(value).map(str::to_owned).collect(),
            "clients" => {
                return Err(unsupported("an entry for some clients only would block the others too; it is left out"));
            }
            "priority" => match value.parse::<i32>() {
                Ok(priority) if priority == context.settings.priority => {}
                Ok(_) => {
                    return Err(unsupported("an entry has the priority of its list; put it into a list of its own"));
                }
                Err(_) => return Err(bad("number")),
            },
            "ede" => {
                self.dossier.ede = Some(match value {
                    "blocked" => BlockReason::Blocked,
                    "censored" => BlockReason::Censored,
                    "filtered" => BlockReason::Filtered,
                    "none" => BlockReason::None,
                    _ => return Err(bad("reason; write blocked, censored, filtered or none")),
                });
            }
            "ede_text" => self.dossier.ede_text = text(),
            "order_id" => self.dossier.order_id = text(),
            "authority" => self.dossier.authority = text(),
            "legal_basis" => self.dossier.legal_basis = text(),
            "category" => self.dossier.category = text(),
            "jurisdiction" => self.dossier.jurisdiction = text(),
            "reason" => self.dossier.reason = text(),
            "contact" => self.dossier.contact = text(),
            "lang" => self.dossier.lang = text(),
            "source_ref" => self.dossier.source_ref = text(),
            "issued_at" => self.dossier.issued_at = Some(time(Edge::Start)?),
            "effective_at" => self.dossier.effective_at = Some(time(Edge::Start)?),
            "expires_at" => self.dossier.expires_at = Some(time(Edge::End)?),
            other => {
                self.dossier.extra.insert(other.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }

    /// Gives the entry to the context, or refuses the line.
    pub(super) fn finish(mut self, line: &[u8], context: &mut Context<'_>) {
        let Some(domain) = self.domain.take() else {
            return context.refuse(line, Reason::BadValue, || "domain: is missing".into());
        };
        let (written, domain) = match domain.as_bytes() {
            [b'*', b'.', rest @ ..] => (context.starred(false), rest),
            rest => (context.bare(), rest),
        };
        let Some(owner) = context.owner(domain) else { return };
        let mut except = Vec::with_capacity(self.except.len());
        for name in &self.except {
            match context.names.read_any(name.as_bytes(), &mut context.report) {
                Ok(name) => except.push(name),
                Err((_, detail)) => {
                    return context.refuse(line, Reason::BadValue, || format!("except: {name:?}: {detail}"));
                }
            }
        }
        except.sort_unstable();
        except.dedup();
        if self.redact {
            // What is secret about an order never reaches a file that answers are made from.
            let Dossier { category, ede, issued_at, effective_at, expires_at, .. } = self.dossier;
            self.dossier = Dossier { category, ede, issued_at, effective_at, expires_at, ..Dossier::default() };
        }
        let rule = Rule {
            action: self.action,
            important: self.important,
            types: self.types,
            except,
            dossier: (self.dossier != Dossier::default()).then(|| Box::new(self.dossier)),
            ..Rule::new(owner, self.scope.unwrap_or(written))
        };
        context.entry(Entry { rule, op: self.op.unwrap_or(Op::Add), form: 0 });
    }
}

fn split(value: &str) -> impl Iterator<Item = &str> {
    value.split(['|', ',', ' ']).filter(|word| !word.is_empty())
}

fn truth(value: &str) -> Option<bool> {
    match value {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

fn action(value: &str) -> Option<Action> {
    if let Some(target) = value.strip_prefix("cname") {
        let target = target.strip_prefix([' ', ':', '='])?.trim();
        return Some(Action::Cname(target.parse().ok()?));
    }
    Action::from_label(value)
}

/// `2026-12-31` or `2026-12-31T10:00:00+05:00` (RFC 3339) in seconds since 1970.
///
/// A date alone is the edge of that day where `offset` is: an entry that
/// expires on a day is in force to the end of it.
fn time(text: &str, edge: Edge, offset: UtcOffset) -> Option<u64> {
    let digits = |text: Option<&str>, width: usize, range: std::ops::RangeInclusive<i64>| {
        let text = text.filter(|text| text.len() == width && text.bytes().all(|octet| octet.is_ascii_digit()))?;
        text.parse().ok().filter(|number| range.contains(number))
    };
    let year: i64 = digits(text.get(..4), 4, 1970..=9999)?;
    let month = digits(text.get(5..7), 2, 1..=12)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let day = digits(text.get(8..10), 2, 1..=last)?;
    if text.get(4..5) != Some("-") || text.get(7..8) != Some("-") {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let rest = text.get(10..)?;
    let seconds = if rest.is_empty() {
        let whole_day = match edge {
            Edge::Start => 0,
            Edge::End => 86_400,
        };
        days * 86_400 + whole_day - i64::from(offset.0)
    } else {
        if !(rest.starts_with(['T', 't', ' ']) && rest.get(3..4) == Some(":") && rest.get(6..7) == Some(":")) {
            return None;
        }
        let hour = digits(rest.get(1..3), 2, 0..=23)?;
        let minute = digits(rest.get(4..6), 2, 0..=59)?;
        let second = digits(rest.get(7..9), 2, 0..=60)?;
        let mut zone = rest.get(9..)?;
        if let Some(fraction) = zone.strip_prefix('.') {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            zone = fraction.get(length..).filter(|_| length > 0)?;
        }
        let zone: UtcOffset = zone.parse().ok()?;
        days * 86_400 + hour * 3600 + minute * 60 + second - i64::from(zone.0)
    };
    u64::try_from(seconds).ok()
}

/// Days from 1970-01-01 in the Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_those_of_rfc_3339() {
        let east = UtcOffset(5 * 3600);
        for (text, edge, seconds) in [
            ("1970-01-01T00:00:00Z", Edge::Start, Some(0)),
            ("2000-02-29T12:00:00.5+05:00", Edge::Start, Some(951_807_600)),
            ("2026-11-23t20:04:00z", Edge::Start, Some(1_795_464_240)),
            ("2026-12-31", Edge::End, Some(1_798_761_600 - 18_000)),
            ("2026-12-31", Edge::Start, Some(1_798_675_200 - 18_000)),
            ("2026-02-29", Edge::End, None),
            ("2026-13-01", Edge::End, None),
            ("2026-12-31T10:00:00", Edge::End, None),
            ("31.12.2026", Edge::End, None),
            ("tomorrow", Edge::End, None),
        ] {
            assert_eq!(time(text, edge, east), seconds, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in any::<String>()) {
            let _ = time(&text, Edge::End, UtcOffset(0));
            let _ = (read_types(split(&text)), action(&text));
        }
    }
}
