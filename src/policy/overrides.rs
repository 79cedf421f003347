//! What the operator decides at run time: allow or block a name, with a reason and an end.

use serde::{Deserialize, Serialize};

use crate::name::{DomainName, Name};

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

/// The overrides in force; at most one of each kind for a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverrideSet {
    entries: Vec<Override>,
}

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
        let mut set = Self::default();
        for entry in serde_json::from_str::<Vec<Override>>(text)? {
            set.insert(entry);
        }
        Ok(set)
    }

    /// A JSON array, for the one who keeps the set across restarts.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.entries).expect("strings and numbers have a JSON form")
    }

    /// Adds `entry`; it replaces one of the same name and kind, which is returned.
    pub fn insert(&mut self, entry: Override) -> Option<Override> {
        let at = self.entries.iter().position(|old| old.name == entry.name && old.kind == entry.kind);
        match at {
            Some(at) => Some(std::mem::replace(&mut self.entries[at], entry)),
            None => {
                self.entries.push(entry);
                None
            }
        }
    }

    /// Takes out what stands for `name`, of both kinds, and says whether there was anything.
    pub fn remove(&mut self, name: &Name) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| *entry.name != *name);
        self.entries.len() < before
    }

    /// Takes out what has ended by `wall`, in seconds since 1970.
    pub fn remove_ended(&mut self, wall: u64) {
        self.entries.retain(|entry| wall < entry.ends_at);
    }

    /// The overrides in the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Override> {
        self.entries.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
