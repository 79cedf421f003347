//! Every rule that speaks about a name, which one decides, and why.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::precedence::{Filed, Strength};
use super::{Asked, Candidate, Hit, Override, OverrideKind, Policy, State, Trigger};
use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::RecordType;
use crate::rule::{Dossier, Scope};

/// What policy says about a name, in full.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The name asked about.
    pub name: DomainName,
    /// The query type asked about.
    pub qtype: RecordType,
    /// The generation that was looked into.
    pub generation: String,
    /// `pass`, `allow` or `block`.
    pub verdict: &'static str,
    /// Why, in a sentence.
    pub why: String,
    /// The protected name that this one is or lies below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<DomainName>,
    /// Everything that speaks about the name, the strongest first; what does not count now comes last.
    pub matches: Vec<Match>,
}

/// A rule or an override that speaks about a name.
#[derive(Debug, Clone, Serialize)]
pub struct Match {
    /// The list; none for an override.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The list's priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The name that the entry stands under; none for a client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<DomainName>,
    /// Which names it covers, seen from there.
    pub scope: Scope,
    /// What brought it up.
    pub trigger: Trigger,
    /// What it does.
    pub action: String,
    /// Whether it goes before rules that are not important.
    pub important: bool,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, in a few words.
    pub why: String,
    /// The TTL of its blocked answers.
    pub ttl: u32,
    /// The Extended DNS Error that its blocked answers carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ede: Option<u16>,
    /// And the text with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ede_text: String,
    /// What is on file about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dossier: Option<Dossier>,
}

/// What became of a [`Match`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It says what happens.
    Decides,
    /// Something stronger decides.
    Outranked,
    /// It would block, but the name is protected.
    Protected,
    /// Its list is a shadow: counted, never obeyed.
    Shadow,
    /// It is for other query types.
    OtherType,
    /// It leaves this name alone.
    Excepted,
    /// It is not in force yet.
    NotYet,
    /// It is in force no more.
    Expired,
}

impl Outcome {
    /// The word for it, as in JSON.
    pub fn label(self) -> &'static str {
        match self {
            Self::Decides => "decides",
            Self::Outranked => "outranked",
            Self::Protected => "protected",
            Self::Shadow => "shadow",
            Self::OtherType => "other-type",
            Self::Excepted => "excepted",
            Self::NotYet => "not-yet",
            Self::Expired => "expired",
        }
    }
}

/// For people: the verdict on the first line, then each match with what is on file about it.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, qtype, generation, verdict, why, .. } = self;
        writeln!(f, "{name} {qtype}: {verdict} ({why})")?;
        writeln!(f, "generation {generation}")?;
        self.matches.iter().try_for_each(|found| write!(f, "{found}"))
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "- {}: ", self.outcome.label())?;
        match (&self.list, self.priority) {
            (Some(list), Some(priority)) => write!(f, "list {list} (priority {priority}), ")?,
            _ => f.write_str("override, ")?,
        }
        match (&self.owner, self.scope) {
            (Some(owner), Scope::Exact) => write!(f, "{owner}")?,
            (Some(owner), Scope::Below) => write!(f, "all below {owner}")?,
            (Some(owner), Scope::Subdomains) => write!(f, "{owner} and all below it")?,
            (None, _) => f.write_str("the client's address")?,
        }
        writeln!(f, " -> {}{}", if self.important { "important " } else { "" }, self.action)?;
        writeln!(f, "    why: {}", self.why)?;
        if let Some(code) = self.ede {
            writeln!(f, "    answer: TTL {}, EDE {code} {:?}", self.ttl, self.ede_text)?;
        }
        // The fields of a dossier have names in JSON; they are not written out a second time here.
        if let Some(Ok(serde_json::Value::Object(fields))) = self.dossier.as_ref().map(serde_json::to_value) {
            for (field, value) in fields {
                match (value.as_str(), value.as_u64()) {
                    (Some(text), _) => {
                        // A list must not steer the terminal of whoever reads this.
                        let text = text.replace(char::is_control, " ");
                        writeln!(f, "    {field}: {text}")?;
                    }
                    (None, Some(time)) => writeln!(f, "    {field}: {}", date(time))?,
                    (None, None) => writeln!(f, "    {field}: {value}")?,
                }
            }
        }
        Ok(())
    }
}

impl Policy {
    /// All that is known about `name`, and what follows from it.
    pub fn explain(&self, name: &Name, qtype: RecordType, client: IpAddr, now: Now) -> Explanation {
        let mut matches = self.matched_overrides(name, now);
        let mut rules = self.matched_rules(name, qtype, client, now);
        rules.sort_by_key(|(strength, found)| (found.outcome != Outcome::Outranked, *strength));
        let mut winner = None;
        for (strength, found) in &mut rules {
            if found.outcome != Outcome::Outranked {
                continue;
            }
            let above = winner.get_or_insert(*strength);
            found.why = above.reason_over(*strength).to_owned();
        }
        matches.extend(rules.into_iter().map(|(_, found)| found));

        let protected = self.protected.nearest(name, |()| true).map(|(name, ())| name.clone());
        let overridden = matches.first().is_some_and(|first| first.list.is_none());
        let (verdict, why) = match matches.first_mut().filter(|first| first.outcome == Outcome::Outranked) {
            None => ("pass", "nothing in force speaks about the name".to_owned()),
            Some(first) => {
                let who = match &first.list {
                    Some(list) => format!("list {list}"),
                    None => "an override".to_owned(),
                };
                if first.action == "allow" {
                    first.outcome = Outcome::Decides;
                    ("allow", format!("{who} allows it"))
                } else if let Some(protected) = &protected {
                    first.outcome = Outcome::Protected;
                    first.why = format!("{protected} is protected");
                    ("pass", format!("{who} would block it, but {protected} is protected"))
                } else {
                    first.outcome = Outcome::Decides;
                    ("block", format!("{who} blocks it"))
                }
            }
        };
        if let Some(first) = matches.first_mut().filter(|first| first.outcome == Outcome::Decides) {
            first.why = "nothing stronger speaks about the name".to_owned();
        }
        if overridden {
            for below in &mut matches[1..] {
                if below.outcome == Outcome::Outranked && below.list.is_some() {
                    below.why = "an override goes before all lists".to_owned();
                }
            }
        }
        Explanation {
            name: name.to_owned(),
            qtype,
            generation: self.generation().to_owned(),
            verdict,
            why,
            protected,
            matches,
        }
    }

    fn matched_overrides(&self, name: &Name, now: Now) -> Vec<Match> {
        let kinds = [OverrideKind::Allow, OverrideKind::Block];
        let found = kinds.into_iter().filter_map(|kind| self.overrides.find(kind, name, now.wall));
        found.map(|entry| self.describe_override(entry, now)).collect()
    }

    fn describe_override(&self, entry: &Override, now: Now) -> Match {
        let hit = self.override_hit(entry, Trigger::Qname, now);
        let why = "an allow goes before a block".to_owned();
        self.describe(&hit, Some(entry.name.clone()), Scope::Subdomains, false, Outcome::Outranked, why)
    }

    fn matched_rules(&self, name: &Name, qtype: RecordType, client: IpAddr, now: Now) -> Vec<(Strength, Match)> {
        let mut found = Vec::new();
        let asked = Asked { name, qtype, trigger: Trigger::Qname, now };
        self.candidates(&asked, client, |candidate| {
            let Candidate { rule, filed, strength, state, .. } = candidate;
            let (outcome, why) = match state {
                State::Covers if self.ranking.is_shadow(&rule) => {
                    (Outcome::Shadow, "it is a shadow, counted and never obeyed".to_owned())
                }
                State::Covers => (Outcome::Outranked, String::new()),
                State::OtherType => (Outcome::OtherType, format!("it is not for {qtype}")),
                State::Excepted => (Outcome::Excepted, "it leaves this name alone".to_owned()),
                State::NotYet => (Outcome::NotYet, format!("it is in force from {}", date(rule.effective_at()))),
                State::Expired => (Outcome::Expired, format!("it was in force until {}", date(rule.expires_at()))),
            };
            let owner = match filed {
                Filed::Name { labels } => Some(name.suffix(labels).to_owned()),
                Filed::NameServer { .. } | Filed::Prefix { .. } => None,
            };
            let hit = self.rule_hit(&candidate, now);
            found.push((strength, self.describe(&hit, owner, rule.scope(), rule.is_important(), outcome, why)));
        });
        found
    }

    fn describe(
        &self,
        hit: &Hit<'_>,
        owner: Option<DomainName>,
        scope: Scope,
        important: bool,
        outcome: Outcome,
        why: String,
    ) -> Match {
        let list = hit.list.map(|list| &self.lists()[list.index()]);
        let mut text = Vec::new();
        let blocks = hit.action.to_action() != crate::rule::Action::Allow;
        if blocks {
            hit.write_text(&mut text);
        }
        Match {
            list: list.map(|list| list.name.clone()),
            priority: list.map(|list| list.priority),
            owner,
            scope,
            trigger: hit.trigger,
            action: hit.action.to_action().to_string(),
            important,
            outcome,
            why,
            ttl: hit.ttl,
            ede: hit.reason.code().filter(|_| blocks),
            ede_text: String::from_utf8(text).expect("only whole characters are written"),
            dossier: hit.dossier(),
        }
    }
}

fn date(wall: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(wall));
    // Text for years beyond four digits does not exist.
    match time.filter(|_| wall < 253_402_300_800) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("second {wall}"),
    }
}
