//! Names that speak for all below them.

use std::collections::HashMap;

use crate::name::{DomainName, Name};

/// A value for a name and all below it; the nearest ancestor's counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NameMap<V>(HashMap<DomainName, V, ahash::RandomState>);

impl<V> Default for NameMap<V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<V> NameMap<V> {
    /// The value of `name` or of its nearest ancestor that has one `wanted`, and the name that it is filed under.
    pub(super) fn nearest(&self, name: &Name, wanted: impl Fn(&V) -> bool) -> Option<(&DomainName, &V)> {
        if self.0.is_empty() {
            return None;
        }
        let mut entries = name.ancestors().filter_map(|name| self.0.get_key_value(name));
        entries.find(|(_, value)| wanted(value))
    }

    /// Gives `name` a value, and returns the one it had.
    pub(super) fn insert(&mut self, name: DomainName, value: V) -> Option<V> {
        self.0.insert(name, value)
    }

    /// Takes the value of `name` itself.
    pub(super) fn remove(&mut self, name: &Name) -> Option<V> {
        self.0.remove(name)
    }

    /// Keeps what is `wanted`.
    pub(super) fn retain(&mut self, wanted: impl Fn(&V) -> bool) {
        self.0.retain(|_, value| wanted(value));
    }

    /// The values, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values()
    }

    /// How many names have a value.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<V> FromIterator<(DomainName, V)> for NameMap<V> {
    fn from_iter<I: IntoIterator<Item = (DomainName, V)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}
