//! What the operator and the lists say about a name: pure and synchronous.
//!
//! The order of precedence, first to last:
//!
//! 1. protected names: nothing below blocks them;
//! 2. the operator's run-time [overrides](OverrideSet): allow, then block;
//! 3. lists by priority, highest first. Lists of equal priority form a tier and
//!    are judged together; the first tier with a match decides;
//! 4. within a tier: important allow, important block, allow, block, whatever
//!    the depth. A response policy zone is a tier of its own, in which the most
//!    specific owner wins;
//! 5. among equals: the most specific name, then the list that stands first in
//!    the configuration.
//!
//! Rules are about the question (its name, its client) or about the answer
//! (addresses in it, the name servers it is from). Those about the question go
//! first within a tier; one of a lower tier has to wait for the answer, and that
//! alone [makes a verdict provisional](Judgement::awaits_answer). An answer is
//! judged [name by name](Policy::judge_answer) along its aliases, and the first
//! name about which a rule speaks decides (draft-vixie-dnsop-dns-rpz-00, section 5.1).

pub mod explain;
mod names;
pub mod overrides;
mod precedence;
pub mod template;

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::{NameServers, RecordType};
use crate::rule::{BlockReason, Dossier, ListId, Scope};
use crate::snapshot::{DossierRef, DossierText, ListEntry, Piece, RuleRef, RuleSet, Snapshot};
use names::NameMap;
use precedence::{ABOUT_ANSWERS, Filed, Ranking, Strength, has_any};
use template::{MAX_TEXT, Place, Text};

pub use crate::rule::Trigger;
pub use crate::snapshot::{ActionRef, Found, Room};
pub use explain::Explanation;
pub use overrides::{Override, OverrideKind, OverrideSet};

/// The TTL of blocked answers unless a list has its own: short, so that lifting a block is felt.
pub const DEFAULT_BLOCK_TTL: u32 = 10;

/// What policy must be told beside the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The TTL of blocked answers unless a list has its own.
    pub block_ttl: u32,
    /// Names that, with all below them, no list and no override blocks.
    pub protected: Vec<DomainName>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { block_ttl: DEFAULT_BLOCK_TTL, protected: Vec::new() }
    }
}

/// One generation of lists, the protected names and the overrides: all that decides about a query.
///
/// Immutable and cheap to clone; whoever changes something makes the next one.
#[derive(Debug, Clone)]
pub struct Policy {
    snapshot: Option<Arc<Snapshot>>,
    ranking: Arc<Ranking>,
    judges_clients: bool,
    judges_answers: bool,
    judges_name_servers: bool,
    /// What each list says about entries without a dossier: written once, since most have none.
    texts: Arc<[Vec<u8>]>,
    settings: Arc<Settings>,
    protected: Arc<NameMap<()>>,
    overrides: Arc<OverrideSet>,
}

/// What a [`Policy`] says about a name or an answer.
#[derive(Debug, Default)]
pub struct Judgement<'p> {
    /// What is to be done.
    pub verdict: Verdict<'p>,
    /// Lists whose shadow rules, had they been alone, would have blocked it: shadow lists, and those with single
    /// entries that are only counted.
    pub shadow: SmallVec<[ListId; 2]>,
    /// A list or an override would have blocked the name, but it is protected.
    pub protected: bool,
    /// The verdict is about the question, and a list that goes before the one it is from has rules about answers: it
    /// holds only if those have nothing to say.
    pub awaits_answer: bool,
}

/// What an answer says about one of the names that its aliases lead through, and where that is from.
#[derive(Debug, Clone, Copy)]
pub struct Finding<'f> {
    /// The name.
    pub name: &'f Name,
    /// The addresses that the answer gives for it.
    pub addresses: &'f [IpAddr],
    /// The name servers that are responsible for it, when they are known.
    pub name_servers: Option<&'f NameServers>,
}

/// What is to be done with a query.
#[derive(Debug, Default)]
pub enum Verdict<'p> {
    /// Nothing speaks about the name.
    #[default]
    Pass,
    /// Somebody wants the name answered, and that ends all processing: nothing
    /// more of its answer is judged, as a passthru of a response policy zone
    /// asks for, and an exception in ad-block syntax.
    Allow(Hit<'p>),
    /// The name is answered as the action says.
    Block(Hit<'p>),
}

/// The rule or override that decided.
#[derive(Debug, Clone, Copy)]
pub struct Hit<'p> {
    /// The list; `None` for an override.
    pub list: Option<ListId>,
    /// What brought the name before the policy.
    pub trigger: Trigger,
    /// What is to be done.
    pub action: ActionRef<'p>,
    /// The reason to give.
    pub reason: BlockReason,
    /// The TTL of the answer: the list's, or less when the rule ends before.
    pub ttl: u32,
    origin: Origin<'p>,
}

/// Where a [`Hit`] comes from.
#[derive(Debug, Clone, Copy)]
enum Origin<'p> {
    /// With what the list says about entries without a dossier.
    Rule {
        rule: RuleRef<'p>,
        list: &'p ListEntry,
        text: &'p [u8],
    },
    Override(&'p Override),
}

impl Hit<'_> {
    /// Appends the EXTRA-TEXT of the answer to `octets`, or nothing when there is none.
    ///
    /// The entry's own text goes before the list's template. Without either it is what the dossier says about reason,
    /// authority and order, or else the list's name. An override gives its reason.
    pub fn write_text(&self, octets: &mut Vec<u8>) {
        match self.origin {
            Origin::Override(entry) => Text::new(octets, MAX_TEXT).push(&entry.reason),
            Origin::Rule { rule, list, text } => match rule.dossier() {
                Some(dossier) => write_list_text(list, Some(dossier), octets),
                None => octets.extend_from_slice(text),
            },
        }
    }

    /// Whether the answer shows the aliases that have led to the name that the rule is about.
    ///
    /// So it is for rules of policy zones, as BIND and Unbound do it; but an answer is denied for an address in it as a
    /// whole. Other lists block the name that was asked for, as ad blockers do.
    pub fn shows_aliases(&self) -> bool {
        let denies = matches!(self.action, ActionRef::NxDomain | ActionRef::NoData);
        matches!(self.origin, Origin::Rule { list, .. } if list.most_specific_wins)
            && !(self.trigger == Trigger::Ip && denies)
    }

    /// What is on file about the entry.
    pub fn dossier(&self) -> Option<Dossier> {
        match self.origin {
            Origin::Rule { rule, .. } => rule.dossier().map(|dossier| dossier.to_dossier()),
            Origin::Override(_) => None,
        }
    }
}

/// Appends the text that `list` gives for an entry with this dossier.
fn write_list_text(list: &ListEntry, dossier: Option<DossierRef<'_>>, octets: &mut Vec<u8>) {
    let mut text = Text::new(octets, MAX_TEXT);
    let on_file = |field| dossier.and_then(|dossier| dossier.text(field));
    if let Some(template) = on_file(DossierText::EdeText).or(list.ede_text.as_deref()) {
        return template::fill(template, &mut text, |place| match place {
            Place::Dossier(field) => on_file(field),
            Place::List => Some(&list.name),
        });
    }
    for piece in [DossierText::Reason, DossierText::Authority, DossierText::OrderId].into_iter().filter_map(on_file) {
        if !text.is_empty() {
            text.push("; ");
        }
        text.push(piece);
    }
    if text.is_empty() {
        text.push(&list.name);
    }
}

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
struct Asked<'q> {
    /// The name that is asked for, or led to.
    name: &'q Name,
    qtype: RecordType,
    trigger: Trigger,
    now: Now,
}

/// A rule that covers a name, or would but for something that [`State`] says.
struct Candidate<'p> {
    rule: RuleRef<'p>,
    filed: Filed,
    trigger: Trigger,
    strength: Strength,
    state: State,
}

/// Whether a rule counts for a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Covers,
    OtherType,
    Excepted,
    NotYet,
    Expired,
}

impl Policy {
    /// The policy of `snapshot`, or one that lists do not take part in.
    pub fn new(settings: Settings, snapshot: Option<Arc<Snapshot>>, overrides: OverrideSet) -> Self {
        let lists = snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.inventory().lists);
        let text = |list| {
            let mut text = Vec::new();
            write_list_text(list, None, &mut text);
            text
        };
        Self {
            texts: lists.iter().map(text).collect(),
            ranking: Arc::new(Ranking::new(lists)),
            judges_clients: lists.iter().any(|list| has_any(list, &[Trigger::Client])),
            judges_answers: lists.iter().any(|list| has_any(list, &ABOUT_ANSWERS)),
            judges_name_servers: lists.iter().any(|list| has_any(list, &[Trigger::NsDname, Trigger::NsIp])),
            protected: Arc::new(settings.protected.iter().map(|name| (name.clone(), ())).collect()),
            settings: Arc::new(settings),
            overrides: Arc::new(overrides),
            snapshot,
        }
    }

    /// A policy without lists, protected names and overrides: everything passes.
    pub fn unfiltered() -> Self {
        Self::new(Settings::default(), None, OverrideSet::default())
    }

    /// The same with other overrides; shares everything else.
    pub fn with_overrides(&self, overrides: OverrideSet) -> Self {
        Self { overrides: Arc::new(overrides), ..self.clone() }
    }

    /// The rules that may be about `name`.
    #[inline]
    pub fn find(&self, name: &Name) -> Found<'_> {
        self.snapshot.as_ref().map_or_else(Found::default, |snapshot| snapshot.find(name))
    }

    /// As [`find`](Self::find) for all of `names`, in less time than one by one; see [`Snapshot::find_all`].
    #[inline]
    pub fn find_all<'n>(&self, names: impl Iterator<Item = &'n Name> + Clone, room: &mut Room) {
        if let Some(snapshot) = &self.snapshot {
            snapshot.find_all(names, room);
        }
    }

    /// What [`find_all`](Self::find_all) has found; see [`Snapshot::found_all`].
    #[inline]
    pub fn found_all<'p>(&'p self, room: &Room) -> impl Iterator<Item = (usize, Piece<'p>)> {
        self.snapshot.iter().flat_map(|snapshot| snapshot.found_all(room))
    }

    /// What is to be done about `name`. Allocates nothing, unless lists have more than three of the name and its
    /// ancestors, or more than two shadow lists have it.
    #[inline]
    pub fn judge(&self, name: &Name, qtype: RecordType, trigger: Trigger, client: IpAddr, now: Now) -> Judgement<'_> {
        self.judge_by((name, &self.find(name)), qtype, trigger, client, now)
    }

    /// The same by the rules that were `found` for `name` before.
    #[inline]
    pub fn judge_by<'p>(
        &'p self,
        (name, found): (&Name, &Found<'p>),
        qtype: RecordType,
        trigger: Trigger,
        client: IpAddr,
        now: Now,
    ) -> Judgement<'p> {
        self.weigh_all(&Asked { name, qtype, trigger, now }, found, client, None)
    }

    /// What is to be done about an answer to a question for `name`, by one of the names that it leads through.
    ///
    /// `trigger` says whether that is the name in the question or the target of an alias. Allocates no more than
    /// [`Policy::judge`].
    pub fn judge_answer(
        &self,
        finding: Finding<'_>,
        qtype: RecordType,
        trigger: Trigger,
        client: IpAddr,
        now: Now,
    ) -> Judgement<'_> {
        let asked = Asked { name: finding.name, qtype, trigger, now };
        Judgement { awaits_answer: false, ..self.weigh_all(&asked, &self.find(asked.name), client, Some(finding)) }
    }

    #[inline]
    fn weigh_all<'p>(
        &'p self,
        asked: &Asked<'_>,
        found: &Found<'p>,
        client: IpAddr,
        finding: Option<Finding<'_>>,
    ) -> Judgement<'p> {
        let mut court = Court::default();
        self.candidates(asked, found, client, |candidate| court.hear(candidate, &self.ranking));
        if let Some(finding) = finding {
            self.candidates_about_answer(asked, finding, |candidate| court.hear(candidate, &self.ranking));
        }
        // Most names are nobody's business.
        if court.has_heard_nobody() && self.overrides.is_empty() {
            return Judgement::default();
        }
        self.decide(asked, &court)
    }

    /// What follows from the rules that were heard, from overrides and from protected names.
    ///
    /// A function apart, as [`weigh`](Self::weigh).
    #[inline(never)]
    fn decide<'p>(&'p self, asked: &Asked<'_>, court: &Court<'p>) -> Judgement<'p> {
        let &Asked { name, trigger, now, .. } = asked;
        let listed = court.winner.as_ref().map(|candidate| self.rule_hit(candidate, now));
        let overridden = self.overridden(name, trigger, now);
        let winner = court.winner.as_ref().filter(|_| overridden.is_none());
        let awaits_answer = winner.is_some_and(|winner| self.ranking.may_be_outranked(winner.strength));
        let hit = overridden.or(listed);
        let protected = hit.is_some_and(|hit| hit.blocks()) && self.is_protected(name);
        let verdict = match hit {
            Some(hit) if !hit.blocks() => Verdict::Allow(hit),
            Some(hit) if !protected => Verdict::Block(hit),
            _ => Verdict::Pass,
        };
        Judgement { verdict, shadow: court.shadow(), protected, awaits_answer }
    }

    /// Whether a list, a shadow list too, has rules about addresses in answers, or about name servers.
    #[inline]
    pub fn judges_answers(&self) -> bool {
        self.judges_answers
    }

    /// Whether a list has rules about the names or addresses of name servers.
    #[inline]
    pub fn judges_name_servers(&self) -> bool {
        self.judges_name_servers
    }

    /// Whether nothing may block `name`.
    ///
    /// [`Policy::judge`] has looked already. This is for a caller that finds a blocked name or address in the answer
    /// to a protected one.
    pub fn is_protected(&self, name: &Name) -> bool {
        self.protected.nearest(name, |()| true).is_some()
    }

    /// The generation of the lists; `none` without any.
    pub fn generation(&self) -> &str {
        self.snapshot.as_ref().map_or("none", |snapshot| snapshot.generation())
    }

    /// The lists in the order of the configuration; [`ListId`] is the place here.
    pub fn lists(&self) -> &[ListEntry] {
        self.snapshot.as_ref().map_or(&[], |snapshot| &snapshot.inventory().lists)
    }

    /// The compiled lists, when there are any.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// The overrides, ended ones perhaps among them.
    pub fn overrides(&self) -> &OverrideSet {
        &self.overrides
    }

    /// What policy was told beside the lists.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Shows `see` every rule that covers what is asked or would but for its type, its exceptions or its time; for the
    /// name in a question also the rules for the client's address.
    #[inline]
    fn candidates<'p>(
        &'p self,
        asked: &Asked<'_>,
        found: &Found<'p>,
        client: IpAddr,
        mut see: impl FnMut(Candidate<'p>),
    ) {
        if asked.trigger == Trigger::Qname && self.judges_clients {
            self.find_address(asked, Trigger::Client, client, &mut see);
        }
        self.about_name(asked, found, &mut see);
    }

    /// As [`candidates`](Self::candidates), for what the answer about the name has brought. Of rules that are equally
    /// strong, that for the least address or name comes first when `finding` is sorted.
    #[inline(never)]
    fn candidates_about_answer<'p>(
        &'p self,
        asked: &Asked<'_>,
        finding: Finding<'_>,
        mut see: impl FnMut(Candidate<'p>),
    ) {
        for address in finding.addresses {
            self.find_address(asked, Trigger::Ip, *address, &mut see);
        }
        let Some(name_servers) = finding.name_servers else { return };
        for server in &name_servers.names {
            self.find_name_server(asked, server, &mut see);
        }
        for address in &name_servers.addresses {
            self.find_address(asked, Trigger::NsIp, *address, &mut see);
        }
    }

    /// Shows `see` the rules that were found for the name.
    #[inline]
    fn about_name<'p>(&'p self, asked: &Asked<'_>, found: &Found<'p>, see: &mut impl FnMut(Candidate<'p>)) {
        for (labels, rules) in found.iter() {
            let filed = (Filed::Name { labels }, asked.trigger);
            self.weigh(asked, filed, || labels == asked.name.label_count(), rules, see);
        }
    }

    fn find_name_server<'p>(&'p self, asked: &Asked<'_>, server: &Name, see: &mut impl FnMut(Candidate<'p>)) {
        if let Some(snapshot) = &self.snapshot {
            for (labels, rules) in snapshot.find_name_server(server).iter() {
                let filed = (Filed::NameServer { labels }, Trigger::NsDname);
                self.weigh(asked, filed, || labels == server.label_count(), rules, see);
            }
        }
    }

    fn find_address<'p>(
        &'p self,
        asked: &Asked<'_>,
        trigger: Trigger,
        address: IpAddr,
        see: &mut impl FnMut(Candidate<'p>),
    ) {
        if let Some(snapshot) = &self.snapshot {
            snapshot.find_address(trigger, address, |length, rules| {
                self.weigh(asked, (Filed::Prefix { trigger, length }, trigger), || true, rules, see);
            });
        }
    }

    /// Shows `see` those of `rules` that cover what is asked; `whole` says whether they are filed under the very name or
    /// a prefix, and not under an ancestor.
    ///
    /// A function apart, or names that no list has would pay for what it needs.
    #[inline(never)]
    fn weigh<'p>(
        &self,
        asked: &Asked<'_>,
        (filed, trigger): (Filed, Trigger),
        whole: impl Fn() -> bool,
        rules: RuleSet<'p>,
        see: &mut impl FnMut(Candidate<'p>),
    ) {
        let &Asked { name, qtype, now, .. } = asked;
        for rule in rules.iter() {
            let covers = match rule.scope() {
                Scope::Exact => whole(),
                Scope::Below => !whole(),
                Scope::Subdomains => true,
            };
            if !covers {
                continue;
            }
            let state = if !rule.covers_type(qtype) {
                State::OtherType
            } else if rule.excepts(name) {
                State::Excepted
            } else if now.wall < rule.effective_at() {
                State::NotYet
            } else if rule.expires_at() <= now.wall {
                State::Expired
            } else {
                State::Covers
            };
            let strength = self.ranking.strength(&rule, filed);
            see(Candidate { rule, filed, trigger, strength, state });
        }
    }

    /// The override that decides about `name`.
    #[inline]
    fn overridden(&self, name: &Name, trigger: Trigger, now: Now) -> Option<Hit<'_>> {
        if self.overrides.is_empty() {
            return None;
        }
        let find = |kind| self.overrides.find(kind, name, now.wall);
        find(OverrideKind::Allow)
            .or_else(|| find(OverrideKind::Block))
            .map(|entry| self.override_hit(entry, trigger, now))
    }

    fn override_hit<'p>(&self, entry: &'p Override, trigger: Trigger, now: Now) -> Hit<'p> {
        let action = match entry.kind {
            OverrideKind::Allow => ActionRef::Allow,
            OverrideKind::Block => ActionRef::Sinkhole,
        };
        Hit {
            list: None,
            trigger,
            action,
            reason: Override::BLOCK_REASON,
            ttl: clipped(self.settings.block_ttl, entry.ends_at, now),
            origin: Origin::Override(entry),
        }
    }

    fn rule_hit<'p>(&'p self, candidate: &Candidate<'p>, now: Now) -> Hit<'p> {
        let rule = candidate.rule;
        let list = &self.lists()[rule.list().index()];
        Hit {
            list: Some(rule.list()),
            trigger: candidate.trigger,
            action: rule.action(),
            reason: rule.reason(),
            ttl: clipped(list.ttl.unwrap_or(self.settings.block_ttl), rule.expires_at(), now),
            origin: Origin::Rule { rule, list, text: &self.texts[rule.list().index()] },
        }
    }
}

impl Hit<'_> {
    fn blocks(&self) -> bool {
        self.action != ActionRef::Allow
    }
}

/// `ttl`, or less when what it is for ends before: nobody keeps a blocked answer longer than the block.
fn clipped(ttl: u32, ends_at: u64, now: Now) -> u32 {
    u32::try_from(ends_at.saturating_sub(now.wall)).map_or(ttl, |left| ttl.min(left))
}

/// Hears the rules that cover a name, and keeps the strongest.
#[derive(Default)]
struct Court<'p> {
    winner: Option<Candidate<'p>>,
    /// The strongest rule of each shadow list.
    shadow: SmallVec<[(ListId, Strength, bool); 2]>,
}

impl<'p> Court<'p> {
    #[inline]
    fn hear(&mut self, candidate: Candidate<'p>, ranking: &Ranking) {
        let Candidate { rule, strength, state, .. } = candidate;
        if state != State::Covers {
            return;
        }
        if !ranking.is_shadow(&rule) {
            // Rules come in a fixed order; the first of equals stays.
            if self.winner.as_ref().is_none_or(|winner| strength < winner.strength) {
                self.winner = Some(candidate);
            }
            return;
        }
        let entry = (rule.list(), strength, rule.is_allow());
        match self.shadow.iter_mut().find(|(list, ..)| *list == rule.list()) {
            Some(known) if strength < known.1 => *known = entry,
            Some(_) => {}
            None => self.shadow.push(entry),
        }
    }

    /// Whether no rule covers the name.
    #[inline]
    fn has_heard_nobody(&self) -> bool {
        self.winner.is_none() && self.shadow.is_empty()
    }

    /// The shadow lists that would have blocked, in the order of the configuration.
    fn shadow(&self) -> SmallVec<[ListId; 2]> {
        if self.shadow.is_empty() {
            return SmallVec::new();
        }
        let mut lists: SmallVec<[ListId; 2]> =
            self.shadow.iter().filter(|(_, _, is_allow)| !is_allow).map(|(list, ..)| *list).collect();
        lists.sort_unstable();
        lists
    }
}

#[cfg(test)]
mod tests;
