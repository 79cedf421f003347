//! Which of several rules wins: the published order, as a number to compare.

use crate::name::MAX_NAME_LEN;
use crate::rule::{ListId, Scope};
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
pub(super) struct Ranking(Vec<Standing>);

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
        Self((0..lists.len()).map(standing).collect())
    }

    /// Whether matches of `rule` are counted and decide nothing.
    pub(super) fn is_shadow(&self, rule: &RuleRef<'_>) -> bool {
        rule.is_shadow() || self.0[rule.list().index()].shadow
    }

    /// The strength of a rule that covers a query.
    pub(super) fn strength(&self, rule: &RuleRef<'_>, filed: Filed) -> Strength {
        let standing = self.0[rule.list().index()];
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
    /// An address prefix, its length counted as in IPv6.
    Prefix { length: u8 },
}

impl Filed {
    /// How far the rule is from the query: 0 is as near as can be.
    ///
    /// An exact rule is nearer than one that covers more. A client's address is nearer than any name, as in response
    /// policy zones (draft-vixie-dnsop-dns-rpz-00, section 5.1).
    fn distance(self, scope: Scope) -> u16 {
        match self {
            Self::Prefix { length } => u16::from(128 - length.min(128)),
            Self::Name { labels } => 256 + 2 * (MAX_NAME_LEN - labels) as u16 + u16::from(scope != Scope::Exact),
        }
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
            ("an important rule goes before others, and an allow before a block", "the more specific name goes first");
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
