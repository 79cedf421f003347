//! Every rule that speaks about a name, which one decides, and why.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::precedence::Strength;
use super::{Asked, Candidate, Finding, Hit, Override, OverrideKind, Policy, State, Trigger};
use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::RecordType;
use crate::rule::{Dossier, Owner, Scope};

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
    /// What the entry stands under, as a policy zone has it.
    pub owner: String,
    /// What that covers, in words.
    #[serde(skip)]
    covers: String,
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
        f.write_str(&self.covers)?;
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
    /// All that is known about a question for `name`, and what follows from it as long as its answer is not known.
    pub fn explain(&self, name: &Name, qtype: RecordType, client: IpAddr, now: Now) -> Explanation {
        let question = Finding { name, addresses: &[], name_servers: None };
        let mut explanation = self.explain_chain(question, &[], qtype, client, now);
        if self.judge(name, qtype, Trigger::Qname, client, now).awaits_answer {
            explanation.why += ", unless a list that goes before has a rule about the answer";
        }
        explanation
    }

    /// As [`explain`](Self::explain), with what is known of the answer: about the name in the `question`, and about the
    /// targets that its `aliases` lead to, in order.
    pub fn explain_chain(
        &self,
        question: Finding<'_>,
        aliases: &[Finding<'_>],
        qtype: RecordType,
        client: IpAddr,
        now: Now,
    ) -> Explanation {
        let name = question.name;
        let mut matches = self.explain_name(question, qtype, Trigger::Qname, client, now);
        for alias in aliases {
            let decided = matches.iter().any(|found| found.outcome == Outcome::Outranked);
            let mut behind = self.explain_name(*alias, qtype, Trigger::Cname, client, now);
            for found in behind.iter_mut().filter(|found| decided && found.outcome == Outcome::Outranked) {
                found.why = "a name before it in the chain of aliases decides".to_owned();
            }
            matches.append(&mut behind);
        }
        // What does not count now comes last.
        matches.sort_by_key(|found| found.outcome != Outcome::Outranked);

        let protected = self.protected.nearest(name, |()| true).map(|(name, ())| name.clone());
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

    /// What speaks about one name of a chain, the strongest first.
    fn explain_name(
        &self,
        finding: Finding<'_>,
        qtype: RecordType,
        trigger: Trigger,
        client: IpAddr,
        now: Now,
    ) -> Vec<Match> {
        let kinds = [OverrideKind::Allow, OverrideKind::Block];
        let overrides = kinds.into_iter().filter_map(|kind| self.overrides.find(kind, finding.name, now.wall));
        let mut matches: Vec<Match> = overrides.map(|entry| self.describe_override(entry, trigger, now)).collect();
        let mut rules = self.matched_rules(finding, qtype, trigger, client, now);
        rules.sort_by_key(|(strength, found)| (found.outcome != Outcome::Outranked, *strength));
        let mut winner = None;
        for (strength, found) in rules.iter_mut().filter(|(_, found)| found.outcome == Outcome::Outranked) {
            let above = winner.get_or_insert(*strength);
            found.why = match matches.is_empty() {
                true => above.reason_over(*strength).to_owned(),
                false => "an override goes before all lists".to_owned(),
            };
        }
        matches.extend(rules.into_iter().map(|(_, found)| found));
        matches
    }

    fn describe_override(&self, entry: &Override, trigger: Trigger, now: Now) -> Match {
        let hit = self.override_hit(entry, trigger, now);
        let why = "an allow goes before a block".to_owned();
        self.describe(&hit, entry.name.clone().into(), Scope::Subdomains, false, Outcome::Outranked, why)
    }

    fn matched_rules(
        &self,
        finding: Finding<'_>,
        qtype: RecordType,
        trigger: Trigger,
        client: IpAddr,
        now: Now,
    ) -> Vec<(Strength, Match)> {
        let mut found = Vec::new();
        let asked = Asked { name: finding.name, qtype, trigger, now };
        let mut take = |candidate: Candidate<'_>, owner: Owner| {
            let Candidate { rule, strength, state, .. } = candidate;
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
            let hit = self.rule_hit(&candidate, now);
            found.push((strength, self.describe(&hit, owner, rule.scope(), rule.is_important(), outcome, why)));
        };
        let mut addresses: Vec<(Trigger, IpAddr)> = Vec::new();
        if trigger == Trigger::Qname {
            addresses.push((Trigger::Client, client));
        }
        addresses.extend(finding.addresses.iter().map(|address| (Trigger::Ip, *address)));
        if let Some(servers) = finding.name_servers {
            addresses.extend(servers.addresses.iter().map(|address| (Trigger::NsIp, *address)));
            for server in &servers.names {
                self.find_name_server(&asked, server, &mut |candidate| {
                    let owner = Owner::NameServer(server.suffix(candidate.filed.labels()).to_owned());
                    take(candidate, owner);
                });
            }
        }
        for (trigger, address) in addresses {
            self.find_address(&asked, trigger, address, &mut |candidate| {
                let prefix = widened(address, candidate.filed.prefix_len());
                if let Some(owner) = Owner::address(trigger, prefix) {
                    take(candidate, owner);
                }
            });
        }
        self.about_name(&asked, &self.find(asked.name), &mut |candidate| {
            let owner = Owner::Name(finding.name.suffix(candidate.filed.labels()).to_owned());
            take(candidate, owner);
        });
        found
    }

    fn describe(
        &self,
        hit: &Hit<'_>,
        owner: Owner,
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
            owner: owner.to_string(),
            covers: covers(&owner, scope),
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

fn covers(owner: &Owner, scope: Scope) -> String {
    let names = |name: &Name| match scope {
        Scope::Exact => name.to_string(),
        Scope::Below => format!("all below {name}"),
        Scope::Subdomains => format!("{name} and all below it"),
    };
    match owner {
        Owner::Name(name) => names(name),
        Owner::NameServer(name) => format!("name server {}", names(name)),
        Owner::Answer(prefix) => format!("answers with {prefix}"),
        Owner::NameServerAddress(prefix) => format!("name servers at {prefix}"),
        Owner::Client(prefix) => format!("clients in {prefix}"),
    }
}

/// The prefix of `address` that is `length` bits long, counted as in IPv6.
fn widened(address: IpAddr, length: u8) -> IpNet {
    let own = if address.is_ipv4() { length.saturating_sub(96) } else { length };
    IpNet::new(address, own).unwrap_or(IpNet::from(address)).trunc()
}

fn date(wall: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(wall));
    // Text for years beyond four digits does not exist.
    match time.filter(|_| wall < 253_402_300_800) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("second {wall}"),
    }
}
