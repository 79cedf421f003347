//! Snapshots for the tests of this and other modules, without files that stay.

use std::collections::BTreeMap;

use super::{CompiledRule, Inventory, ListEntry, Snapshot, Writer};
use crate::name::DomainName;
use crate::rule::owner::MAX_OWNER_KEY_LEN;
use crate::rule::{ListId, Rule, Scope};

/// A plain rule.
pub(crate) fn rule(owner: &str, scope: Scope) -> Rule {
    Rule::new(owner.parse::<DomainName>().unwrap(), scope)
}

/// What `rule` becomes when its list sinkholes.
pub(crate) fn compiled(list: ListId, rule: Rule) -> CompiledRule {
    CompiledRule {
        list,
        scope: rule.scope,
        action: rule.action.unwrap_or(crate::rule::Action::Sinkhole),
        important: rule.important,
        shadow: rule.shadow,
        types: rule.types,
        except: rule.except,
        dossier: rule.dossier,
    }
}

/// The snapshot of `rules`, each with the place of its list.
pub(crate) fn snapshot(lists: &[ListEntry], rules: &[(u16, Rule)]) -> Snapshot {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let mut writer = Writer::create(&path, &Inventory { lists: lists.to_vec() }).unwrap();
    let mut by_key: BTreeMap<Vec<u8>, Vec<_>> = BTreeMap::new();
    for (list, rule) in rules {
        let key = rule.owner.key(&mut [0; MAX_OWNER_KEY_LEN]).to_vec();
        let mut compiled = compiled(ListId(*list), rule.clone());
        compiled.action = rule.action.clone().unwrap_or(lists[usize::from(*list)].action.clone());
        by_key.entry(key).or_default().push(writer.rule(&compiled));
    }
    for (key, rules) in by_key {
        writer.insert(&key, &rules).unwrap();
    }
    writer.finish().unwrap();
    // The mapping outlives the file's name.
    Snapshot::open(&path).unwrap()
}
