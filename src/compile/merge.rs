//! What all lists say of one name becomes its rules.
//!
//! Entries come in the order of the configuration and of the lines. A list is
//! brought to agree with itself here (changes, duplicates, records that belong
//! together, contradictions); that lists disagree with each other is for
//! [`policy`](crate::policy) to decide.

use hashbrown::{HashMap, HashTable};
use smallvec::SmallVec;

use crate::list::syntax::{Entry, Op};
use crate::list::{Format, ListSettings, Note, Reason};
use crate::name::DomainName;
use crate::rule::{Action, Dossier, ListId, Owner, Rule, Scope, TypeFilter};
use crate::snapshot::{CompiledRule, RuleIndex, Writer};

/// An entry without its owner, kept once for all owners that share it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Body {
    list: ListId,
    attempt: u32,
    op: Op,
    form: u8,
    scope: Scope,
    action: Option<Action>,
    important: bool,
    shadow: bool,
    types: TypeFilter,
    except: Vec<DomainName>,
    dossier: Option<Box<Dossier>>,
}

/// Every distinct [`Body`], by number.
#[derive(Default)]
pub(super) struct Bodies {
    all: Vec<Body>,
    index: HashTable<u32>,
    hasher: ahash::RandomState,
    last: u32,
}

impl Bodies {
    /// Files an entry of `list`, read in `attempt`, and gives its number.
    pub(super) fn number(&mut self, list: ListId, attempt: u32, entry: Entry) -> (Owner, u32) {
        let Entry { rule, op, form } = entry;
        let Rule { owner, scope, action, important, shadow, types, except, dossier } = rule;
        let body = Body { list, attempt, op, form, scope, action, important, shadow, types, except, dossier };
        // Most entries are as the one before.
        if self.all.get(self.last as usize) == Some(&body) {
            return (owner, self.last);
        }
        let hash = self.hasher.hash_one(&body);
        let found = self.index.find(hash, |&number| self.all[number as usize] == body).copied();
        self.last = found.unwrap_or_else(|| {
            let number = self.all.len() as u32;
            self.all.push(body);
            self.index.insert_unique(hash, number, |&number| self.hasher.hash_one(&self.all[number as usize]));
            number
        });
        (owner, self.last)
    }

    /// Gives up the index, which only filing needs.
    pub(super) fn seal(&mut self) {
        self.index = HashTable::new();
    }
}

/// A list as [`Merger`] must know it.
pub(super) struct MergedList {
    pub(super) action: Action,
    pub(super) override_action: Option<Action>,
    pub(super) format: Format,
    pub(super) shadow: bool,
    /// Only entries of this attempt at reading it count.
    pub(super) attempt: u32,
}

impl MergedList {
    pub(super) fn new(settings: &ListSettings, format: Format, attempt: u32) -> Self {
        Self {
            action: settings.action.clone(),
            override_action: settings.override_action.clone(),
            format,
            shadow: settings.shadow,
            attempt,
        }
    }
}

/// What happened to entries of a list when they were brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Note(Note),
    Refused(Reason),
}

/// The rules of a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Merged {
    pub(super) rules: SmallVec<[RuleIndex; 2]>,
    /// The lists that cover names below this one.
    pub(super) covering: SmallVec<[ListId; 2]>,
    /// The lists that have a rule here.
    pub(super) lists: SmallVec<[ListId; 2]>,
    /// Whether a rule blocks this name, and whether one blocks names below it.
    pub(super) blocks_here: bool,
    pub(super) blocks_below: bool,
    pub(super) events: SmallVec<[(ListId, Event); 1]>,
}

/// Brings the entries of one name after the other together.
pub(super) struct Merger<'m> {
    bodies: &'m Bodies,
    lists: &'m [MergedList],
    /// Groups of entries recur: millions of names share a few.
    known: HashMap<SmallVec<[u32; 4]>, usize, ahash::RandomState>,
    /// What they make, by the place that `known` says.
    merged: Vec<Merged>,
}

/// How many groups are remembered.
const KNOWN_GROUPS: usize = 1 << 16;

impl<'m> Merger<'m> {
    pub(super) fn new(bodies: &'m Bodies, lists: &'m [MergedList]) -> Self {
        Self { bodies, lists, known: HashMap::default(), merged: Vec::new() }
    }

    /// The rules that the entries `numbers` make together.
    pub(super) fn merge(&mut self, numbers: &[u32], writer: &mut Writer) -> &Merged {
        let place = match self.known.get(numbers) {
            Some(&place) => place,
            None => {
                if self.merged.len() >= KNOWN_GROUPS {
                    self.known.clear();
                    self.merged.clear();
                }
                self.merged.push(self.compute(numbers, writer));
                self.known.insert(SmallVec::from_slice(numbers), self.merged.len() - 1);
                self.merged.len() - 1
            }
        };
        &self.merged[place]
    }

    fn compute(&self, numbers: &[u32], writer: &mut Writer) -> Merged {
        let mut merged = Merged::default();
        let mut entries: Vec<&Body> = numbers.iter().map(|&number| &self.bodies.all[number as usize]).collect();
        entries.retain(|body| body.attempt == self.lists[body.list.index()].attempt);
        disable(&mut entries, &mut merged.events);
        for of_list in entries.chunk_by(|a, b| a.list == b.list) {
            let list = of_list[0].list;
            let rules = self.agree(list, of_list, &mut merged.events);
            for rule in &rules {
                let blocks = rule.action != Action::Allow && !rule.shadow && !self.lists[list.index()].shadow;
                merged.blocks_here |= blocks && rule.scope != Scope::Below;
                merged.blocks_below |= blocks && rule.scope != Scope::Exact;
                merged.rules.push(writer.rule(rule));
            }
            if rules.iter().any(|rule| rule.scope != Scope::Exact) {
                merged.covering.push(list);
            }
            if !rules.is_empty() {
                merged.lists.push(list);
            }
        }
        merged
    }

    /// Brings the entries of one list to agree.
    fn agree(&self, list: ListId, entries: &[&Body], events: &mut SmallVec<[(ListId, Event); 1]>) -> Vec<CompiledRule> {
        let MergedList { action: default, override_action, format, .. } = &self.lists[list.index()];
        let mut rules: Vec<CompiledRule> = Vec::with_capacity(entries.len());
        let mut tell = |event| events.push((list, event));
        for body in entries {
            if matches!(body.op, Op::Remove | Op::Update) {
                if rules.is_empty() {
                    tell(Event::Note(Note::NoEffect));
                }
                for _ in rules.drain(..) {
                    tell(Event::Note(Note::Withdrawn));
                }
                if body.op == Op::Remove {
                    continue;
                }
            }
            let rule = CompiledRule {
                list,
                scope: body.scope,
                action: body.action.clone().unwrap_or_else(|| default.clone()),
                important: body.important,
                shadow: body.shadow,
                types: body.types.clone(),
                except: body.except.clone(),
                dossier: body.dossier.clone(),
            };
            if rules.contains(&rule) {
                tell(Event::Note(Note::Duplicate));
                continue;
            }
            let same_place = rules.iter_mut().find(|other| {
                // An exception beside a block is no contradiction, except where the first record wins.
                let comparable =
                    *format == Format::Rpz || (other.action == Action::Allow) == (rule.action == Action::Allow);
                comparable && CompiledRule { action: rule.action.clone(), ..(*other).clone() } == rule
            });
            let Some(other) = same_place else {
                rules.push(rule);
                continue;
            };
            match (&mut other.action, rule.action) {
                (Action::Records(records), Action::Records(more)) => {
                    let before = records.len();
                    for record in more {
                        if !records.contains(&record) {
                            records.push(record);
                        }
                    }
                    if records.len() == before {
                        tell(Event::Note(Note::Duplicate));
                    }
                }
                // dnsmasq: with an address of one family, the other has no data instead of no name.
                (known @ Action::NxDomain, records @ Action::Records(_)) if *format == Format::Dnsmasq => {
                    *known = records;
                }
                (Action::Records(_), Action::NxDomain) if *format == Format::Dnsmasq => {}
                _ => tell(Event::Refused(Reason::Conflict)),
            }
        }
        if *format == Format::Unbound {
            spread_data(&mut rules);
        }
        for rule in &mut rules {
            if matches!(&rule.action, Action::Records(records) if records.is_empty()) {
                rule.action = Action::NoData;
            }
            // Policy zones' own exceptions go too, as BIND's `policy` and Unbound's `rpz-action-override` have it.
            if let Some(action) = override_action
                && (*format == Format::Rpz || rule.action != Action::Allow)
            {
                rule.action = action.clone();
            }
        }
        rules
    }
}

/// Takes out what a `$badfilter` of any list is written like.
fn disable(entries: &mut Vec<&Body>, events: &mut SmallVec<[(ListId, Event); 1]>) {
    if entries.iter().all(|body| body.op != Op::Disable) {
        return;
    }
    let disabling: Vec<&Body> = entries.extract_if(.., |body| body.op == Op::Disable).collect();
    for filter in disabling {
        let before = entries.len();
        entries.retain(|body| {
            let alike = body.form > 0
                && body.form == filter.form
                && (body.scope, &body.action, body.important, &body.types, &body.except)
                    == (filter.scope, &filter.action, filter.important, &filter.types, &filter.except);
            if alike {
                events.push((body.list, Event::Note(Note::Withdrawn)));
            }
            !alike
        });
        if entries.len() == before {
            events.push((filter.list, Event::Note(Note::NoEffect)));
        }
    }
}

/// Unbound: a `redirect` zone answers with the data of its apex for every name in it,
/// and data at the apex of a transparent zone is answered all the same.
fn spread_data(rules: &mut Vec<CompiledRule>) {
    let is_zone =
        |rule: &CompiledRule| rule.scope == Scope::Subdomains && rule.types == TypeFilter::All && !rule.shadow;
    let is_data = |rule: &CompiledRule| {
        rule.scope == Scope::Exact && matches!(rule.action, Action::Records(_) | Action::Cname(_))
    };
    let redirect = rules.iter().position(|rule| is_zone(rule) && matches!(rule.action, Action::Records(_)));
    if let Some(zone) = redirect
        && let Some(data) = rules.iter().position(is_data)
    {
        let data = rules[data].action.clone();
        match (&mut rules[zone].action, data) {
            (Action::Records(records), Action::Records(more)) => {
                for record in more {
                    if !records.contains(&record) {
                        records.push(record);
                    }
                }
            }
            (action @ Action::Records(_), alias) if *action == Action::Records(Vec::new()) => *action = alias,
            _ => {}
        }
        rules.retain(|rule| !is_data(rule));
    }
    if rules.iter().any(is_data) {
        for zone in rules.iter_mut().filter(|rule| is_zone(rule) && rule.action == Action::Allow) {
            zone.scope = Scope::Below;
        }
    }
}
