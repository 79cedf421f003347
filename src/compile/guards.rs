//! What keeps a wrong list from doing harm: comparison with what it was, and protected names.

use serde::Serialize;

use super::merge::Merged;
use super::{CompileError, ListReport};
use crate::name::{DomainName, MAX_KEY_LEN};

/// How far a list may differ from its last generation before somebody must look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Guards {
    /// A list with fewer entries than this may do as it likes.
    pub min_entries: u64,
    /// The most that a list may have of its last size, in percent; `None` for no limit.
    pub max_growth_percent: Option<u64>,
    /// The least that a list must have of its last size, in percent; `None` for no limit.
    pub min_size_percent: Option<u64>,
}

impl Default for Guards {
    fn default() -> Self {
        Self { min_entries: 10_000, max_growth_percent: Some(10_000), min_size_percent: Some(10) }
    }
}

impl Guards {
    /// Compares the lists with what they were.
    pub(super) fn check(&self, last: &serde_json::Value, now: &[ListReport]) -> Result<(), CompileError> {
        let mut refused = Vec::new();
        let last = last["lists"].as_array().map_or(&[][..], Vec::as_slice);
        for list in now {
            let before = last.iter().find(|before| before["name"] == list.name.as_str());
            let Some(old) = before.and_then(|before| before["entries"].as_u64()) else { continue };
            let new = list.entries;
            if old.max(new) < self.min_entries {
                continue;
            }
            if self.min_size_percent.is_some_and(|percent| new * 100 < old * percent) {
                refused.push(format!("list {}: only {new} entries after {old}", list.name));
            }
            if self.max_growth_percent.is_some_and(|percent| old > 0 && new * 100 > old * percent) {
                refused.push(format!("list {}: {new} entries after {old}", list.name));
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(CompileError::Guard(refused)) }
    }
}

/// Finds rules that would block a protected name.
pub(super) struct Protected {
    /// Their keys, in order.
    keys: Vec<Vec<u8>>,
    pub(super) conflicts: u64,
    pub(super) first: Vec<String>,
}

/// How many conflicts a report names.
const KEPT_CONFLICTS: usize = 10;

impl Protected {
    pub(super) fn new(names: &[DomainName]) -> Self {
        let mut buffer = [0; MAX_KEY_LEN];
        let mut keys: Vec<Vec<u8>> = names.iter().map(|name| name.reversed_key(&mut buffer).to_vec()).collect();
        keys.sort_unstable();
        Self { keys, conflicts: 0, first: Vec::new() }
    }

    pub(super) fn look(&mut self, key: &[u8], merged: &Merged) {
        if self.keys.is_empty() {
            return;
        }
        // The rule's name is protected or lies below a protected one ...
        let inside = (merged.blocks_here || merged.blocks_below) && self.keys.iter().any(|name| key.starts_with(name));
        // ... or it covers a protected one from above.
        let first = self.keys.partition_point(|name| name.as_slice() < key);
        let around = merged.blocks_below && self.keys.get(first).is_some_and(|name| name.starts_with(key));
        if inside || around {
            self.conflicts += 1;
            if self.first.len() < KEPT_CONFLICTS
                && let Ok(name) = DomainName::from_reversed_key(key)
            {
                self.first.push(name.to_string());
            }
        }
    }
}
