//! What the operator decides at run time: allow or block a name, with a reason and an end.

use serde::{Deserialize, Serialize};

use super::names::NameMap;
use crate::name::{DomainName, Name};
use crate::rule::BlockReason;

/// What an [`Override`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverrideKind {
    /// No list blocks the name.
    Allow,
    /// The name is blocked, with the sinkhole's addresses.
    Block,
}

/// One decision of the operator about a name and all below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The name.
    pub name: DomainName,
    /// Allow or block.
    pub kind: OverrideKind,
    /// Why; a blocked answer says it.
    pub reason: String,
    /// Who decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// When it ends, in seconds since 1970.
    pub ends_at: u64,
}

impl Override {
    /// The reason that blocked answers give: the operator's own decision.
    pub const BLOCK_REASON: BlockReason = BlockReason::Blocked;

    /// Whether it counts at `wall`, in seconds since 1970.
    pub fn in_force(&self, wall: u64) -> bool {
        wall < self.ends_at
    }
}

/// The overrides that were made; at most one of each kind for a name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OverrideSet {
    allow: Entries,
    block: Entries,
}

type Entries = NameMap<Override>;

/// A text is no set of overrides.
#[derive(Debug, thiserror::Error)]
#[error("the overrides cannot be read: {0}; mend the file or remove it")]
pub struct OverridesError(#[from] serde_json::Error);

impl OverrideSet {
    /// Reads what [`OverrideSet::to_json`] wrote.
    ///
    /// # Errors
    ///
    /// When `text` is something else.
    pub fn from_json(text: &str) -> Result<Self, OverridesError> {
        Ok(serde_json::from_str::<Vec<Override>>(text)?.into_iter().collect())
    }

    /// A JSON array, for the one who keeps the set across restarts.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.iter().collect::<Vec<_>>()).expect("strings and numbers have a JSON form")
    }

    /// Adds `entry`; it replaces one of the same name and kind, which is returned.
    pub fn insert(&mut self, entry: Override) -> Option<Override> {
        self.of_kind(entry.kind).insert(entry.name.clone(), entry)
    }

    /// Takes out what stands for `name` itself, of both kinds, and says whether there was anything.
    pub fn remove(&mut self, name: &Name) -> bool {
        let (allow, block) = (self.allow.remove(name), self.block.remove(name));
        allow.is_some() || block.is_some()
    }

    /// Takes out what has ended by `wall`, in seconds since 1970.
    pub fn remove_ended(&mut self, wall: u64) {
        for entries in [&mut self.allow, &mut self.block] {
            entries.retain(|entry| entry.in_force(wall));
        }
    }

    /// The overrides, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Override> {
        let mut entries: Vec<_> = self.allow.values().chain(self.block.values()).collect();
        entries.sort_by(|a, b| (a.created_at, &a.name, a.kind).cmp(&(b.created_at, &b.name, b.kind)));
        entries.into_iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.allow.len() + self.block.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The override of `kind` for `name` that counts at `wall`: its own, or its nearest ancestor's.
    pub(super) fn find(&self, kind: OverrideKind, name: &Name, wall: u64) -> Option<&Override> {
        let entries = match kind {
            OverrideKind::Allow => &self.allow,
            OverrideKind::Block => &self.block,
        };
        entries.nearest(name, |entry| entry.in_force(wall)).map(|(_, entry)| entry)
    }

    fn of_kind(&mut self, kind: OverrideKind) -> &mut Entries {
        match kind {
            OverrideKind::Allow => &mut self.allow,
            OverrideKind::Block => &mut self.block,
        }
    }
}

impl FromIterator<Override> for OverrideSet {
    fn from_iter<I: IntoIterator<Item = Override>>(entries: I) -> Self {
        let mut set = Self::default();
        for entry in entries {
            set.insert(entry);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: OverrideKind, created_at: u64, ends_at: u64) -> Override {
        Override { name: name.parse().unwrap(), kind, reason: "test".into(), author: None, created_at, ends_at }
    }

    #[test]
    fn a_set_is_read_as_it_was_written() {
        let set: OverrideSet = [
            entry("b.example", OverrideKind::Block, 20, 90),
            entry("a.example", OverrideKind::Allow, 10, 80),
            Override { author: Some("ops".into()), ..entry("a.example", OverrideKind::Block, 30, 70) },
        ]
        .into_iter()
        .collect();
        let again = OverrideSet::from_json(&set.to_json()).unwrap();
        assert_eq!(again, set);
        let ages: Vec<_> = again.iter().map(|entry| entry.created_at).collect();
        assert_eq!(ages, [10, 20, 30]);
        assert!(OverrideSet::from_json("{}").is_err());
        assert!(
            OverrideSet::from_json(r#"[{"name":"a","kind":"allow"}]"#).is_err(),
            "a reason and an end must be there"
        );
    }

    #[test]
    fn the_nearest_override_in_force_is_found() {
        let mut set: OverrideSet = [
            entry("example", OverrideKind::Allow, 0, 100),
            entry("a.example", OverrideKind::Allow, 0, 50),
            entry("b.example", OverrideKind::Block, 0, 100),
        ]
        .into_iter()
        .collect();
        let find = |set: &OverrideSet, kind, name: &str, wall| {
            set.find(kind, &name.parse::<DomainName>().unwrap(), wall).map(|entry| entry.name.to_string())
        };
        for (kind, name, wall, found) in [
            (OverrideKind::Allow, "x.a.example", 49, Some("a.example")),
            (OverrideKind::Allow, "x.a.example", 50, Some("example")),
            (OverrideKind::Allow, "x.a.example", 100, None),
            (OverrideKind::Block, "x.a.example", 0, None),
            (OverrideKind::Block, "b.example", 0, Some("b.example")),
            (OverrideKind::Block, "bb.example", 0, None),
        ] {
            assert_eq!(find(&set, kind, name, wall).as_deref(), found, "{kind:?} {name} at {wall}");
        }

        set.remove_ended(50);
        assert_eq!(set.len(), 2);
        assert!(set.remove(&"example".parse::<DomainName>().unwrap()));
        assert!(!set.remove(&"x.b.example".parse::<DomainName>().unwrap()));
        assert_eq!(set.iter().count(), 1);
    }
}
