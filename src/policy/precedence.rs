//! Which of several rules wins: the published order, as a number to compare.

use crate::name::MAX_NAME_LEN;
use crate::rule::{ListId, Scope, Trigger};
use crate::snapshot::{ListEntry, RuleRef};

/// How a list takes part in the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// The place of its tier; lower goes first.
    tier: u16,
    most_specific_wins: bool,
    shadow: bool,
}

/// The order of the lists of one generation.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking {
    lists: Vec<Standing>,
    /// The first tier in which a list has rules about answers; none when no list has any.
    first_about_answers: Option<u16>,
}

/// The kinds of rules about answers.
pub(super) const ABOUT_ANSWERS: [Trigger; 3] = [Trigger::Ip, Trigger::NsDname, Trigger::NsIp];

/// Whether `list` has rules that one of `triggers` brings up.
pub(super) fn has_any(list: &ListEntry, triggers: &[Trigger]) -> bool {
    triggers.iter().any(|trigger| list.triggers.contains_key(trigger))
}

impl Ranking {
    /// Lists of equal priority form a tier; one in which the most specific name wins is a tier of its own. Tiers of
    /// equal priority stand in the order of the configuration, by their first list.
    pub(super) fn new(lists: &[ListEntry]) -> Self {
        let tier_of = |index: usize| {
            let list = &lists[index];
            let shared = || lists.iter().position(|other| other.priority == list.priority && !other.most_specific_wins);
            let first = if list.most_specific_wins { None } else { shared() };
            (std::cmp::Reverse(list.priority), first.unwrap_or(index))
        };
        let mut tiers: Vec<_> = (0..lists.len()).map(tier_of).collect();
        tiers.sort_unstable();
        tiers.dedup();
        let standing = |index: usize| Standing {
            tier: tiers.binary_search(&tier_of(index)).unwrap_or_default() as u16,
            most_specific_wins: lists[index].most_specific_wins,
            shadow: lists[index].shadow,
        };
        let standings: Vec<Standing> = (0..lists.len()).map(standing).collect();
        let about_answers = lists.iter().zip(&standings).filter(|(list, _)| has_any(list, &ABOUT_ANSWERS));
        let deciding = about_answers.filter(|(_, standing)| !standing.shadow);
        Self { first_about_answers: deciding.map(|(_, standing)| standing.tier).min(), lists: standings }
    }

    /// Whether a rule about the answer may go before one of this `strength` about the question.
    pub(super) fn may_be_outranked(&self, strength: Strength) -> bool {
        self.first_about_answers.is_some_and(|first| first < strength.tier)
    }

    /// Whether matches of `rule` are counted and decide nothing.
    pub(super) fn is_shadow(&self, rule: &RuleRef<'_>) -> bool {
        rule.is_shadow() || self.lists[rule.list().index()].shadow
    }

    /// The strength of a rule that covers a query.
    pub(super) fn strength(&self, rule: &RuleRef<'_>, filed: Filed) -> Strength {
        let standing = self.lists[rule.list().index()];
        let class = match (rule.is_important(), rule.is_allow()) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        let distance = filed.distance(rule.scope());
        let [second, third] = if standing.most_specific_wins { [distance, class] } else { [class, distance] };
        Strength { tier: standing.tier, second, third, list: rule.list(), by_name: standing.most_specific_wins }
    }
}

/// What a rule was found under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filed {
    /// A name of so many labels.
    Name { labels: usize },
    /// A name of so many labels that a name server has, or lies below.
    NameServer { labels: usize },
    /// An address prefix that came up by this trigger, its length counted as in IPv6.
    Prefix { trigger: Trigger, length: u8 },
}

impl Filed {
    /// How many labels the name has that it is filed under.
    pub(super) fn labels(self) -> usize {
        match self {
            Self::Name { labels } | Self::NameServer { labels } => labels,
            Self::Prefix { .. } => 0,
        }
    }

    /// The length of the prefix that it is filed under.
    pub(super) fn prefix_len(self) -> u8 {
        match self {
            Self::Prefix { length, .. } => length,
            Self::Name { .. } | Self::NameServer { .. } => 0,
        }
    }

    /// How far the rule is from the query: 0 is as near as can be.
    ///
    /// An exact rule is nearer than one that covers more, and a longer prefix than a shorter one. A client's address is
    /// nearer than any name that is asked for, and that is nearer than an address in the answer, a name server's name
    /// and its address, as in response policy zones (draft-vixie-dnsop-dns-rpz-00, section 5).
    fn distance(self, scope: Scope) -> u16 {
        let within = match self {
            Self::Prefix { length, .. } => u16::from(128 - length.min(128)),
            Self::Name { labels } | Self::NameServer { labels } => {
                2 * (MAX_NAME_LEN - labels) as u16 + u16::from(scope != Scope::Exact)
            }
        };
        let kind = match self {
            Self::Prefix { trigger: Trigger::Client, .. } => 0,
            Self::Name { .. } => 1,
            Self::Prefix { trigger: Trigger::Ip, .. } => 2,
            Self::NameServer { .. } => 3,
            Self::Prefix { .. } => 4,
        };
        (kind << 10) + within
    }
}

/// How strong a rule is; the lesser one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Strength {
    tier: u16,
    /// The class; in a tier where the most specific name wins, the distance.
    second: u16,
    /// The other of the two.
    third: u16,
    list: ListId,
    by_name: bool,
}

impl Strength {
    /// In words, why a rule of `self` wins over one of `other`.
    pub(super) fn reason_over(self, other: Self) -> &'static str {
        let (by_class, by_distance) =
            ("an important rule goes before others, and an allow before a block", "the more specific rule goes first");
        let [second, third] = if self.by_name { [by_distance, by_class] } else { [by_class, by_distance] };
        if self.tier != other.tier {
            "a list of a higher tier decides"
        } else if self.second != other.second {
            second
        } else if self.third != other.third {
            third
        } else if self.list != other.list {
            "the list that stands first in the configuration decides"
        } else {
            "the entry that stands first in the list decides"
        }
    }
}
