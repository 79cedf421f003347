//! Unbound's `local-zone` and `local-data`, said in lists: a policy zone, and a list of names that are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use qalqan::list::{Format, ListSettings, MatchScope, Source};
use qalqan::rule::{Action, BlockReason};

/// What the options say, collected.
#[derive(Debug, Default)]
pub(crate) struct LocalData {
    /// Zones, without the dot at their end, and their types.
    zones: Vec<(String, String)>,
    /// Records by owner: the time to live, type and data of each.
    records: BTreeMap<String, Vec<String>>,
}

impl LocalData {
    pub(crate) fn zone(&mut self, zone: &str, kind: &str) {
        self.zones.push((plain(zone), kind.to_owned()));
    }

    /// Takes a record; `None` for what no list can say.
    pub(crate) fn record(&mut self, text: &str) -> Option<()> {
        let mut words = text.split_whitespace();
        let owner = plain(words.next()?);
        let mut words: Vec<&str> = words.filter(|word| !word.eq_ignore_ascii_case("IN")).collect();
        if words.first()?.parse::<u32>().is_err() {
            words.insert(0, "3600");
        }
        let rtype = words.get(1)?;
        if rtype.eq_ignore_ascii_case("CH") || rtype.eq_ignore_ascii_case("ANY") {
            return None;
        }
        self.records.entry(owner).or_default().push(words.join(" "));
        Some(())
    }

    /// Takes `ADDRESS [TTL] NAME`.
    pub(crate) fn pointer(&mut self, text: &str) -> Option<()> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (address, name) = (words.first()?.parse().ok()?, words.last()?);
        let ttl = words.get(1).filter(|_| words.len() > 2).unwrap_or(&"3600");
        self.record(&format!("{} {ttl} PTR {name}", reverse(address)))
    }

    /// The lists that say the same; they go before all others. `None` when they cannot.
    pub(crate) fn lists(&self) -> Option<Vec<ListSettings>> {
        let (mut policy, mut refused) = (BTreeMap::<String, Vec<String>>::new(), String::new());
        // What a zone without data says counts for all of it.
        let closed =
            |owner: &str| self.zones.iter().any(|(zone, kind)| kind.starts_with("always_") && is_within(owner, zone));
        let data: BTreeMap<_, _> = self.records.iter().filter(|(owner, _)| !closed(owner)).collect();
        let is_alias =
            |record: &String| record.split(' ').nth(1).is_some_and(|rtype| rtype.eq_ignore_ascii_case("CNAME"));
        if data.values().any(|records| records.len() > 1 && records.iter().any(is_alias)) {
            // An alias has no other data beside it.
            return None;
        }
        for (zone, kind) in &self.zones {
            let rules: &[&str] = match kind.as_str() {
                "transparent" | "always_transparent" | "inform" | "nodefault" => continue,
                "static" | "always_nxdomain" => &["CNAME ."],
                "always_nodata" => &["CNAME *."],
                "deny" | "inform_deny" | "always_deny" => &["CNAME rpz-drop."],
                "always_null" => &["A 0.0.0.0", "AAAA ::"],
                "redirect" | "inform_redirect" => match data.get(zone) {
                    Some(records) => {
                        policy.insert(format!("*.{zone}"), (*records).clone());
                        continue;
                    }
                    None => &["CNAME *."],
                },
                "refuse" | "always_refuse" => {
                    refused += &format!("{zone}\n");
                    continue;
                }
                _ => return None,
            };
            let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
            policy.insert(format!("*.{zone}"), rules.clone());
            policy.insert(zone.clone(), rules);
            if kind == "static" {
                // Names between the zone and its data exist.
                let between: BTreeSet<String> = data
                    .keys()
                    .filter(|owner| is_within(owner, zone))
                    .flat_map(|owner| ancestors(owner))
                    .filter(|name| is_within(name, zone))
                    .collect();
                policy.extend(between.into_iter().map(|name| (name, vec!["CNAME *.".to_owned()])));
            }
        }
        for (owner, records) in data {
            policy.insert(owner.clone(), records.clone());
        }
        let list = |name: &str, format, text: String, priority| ListSettings {
            format,
            priority,
            allow_suffix: true,
            reason: BlockReason::None,
            ..ListSettings::new(name, Source::Inline(text))
        };
        let mut lists = Vec::new();
        let lines = policy.iter().flat_map(|(owner, rules)| rules.iter().map(move |rule| format!("{owner} {rule}\n")));
        let text: String = lines.collect();
        if !text.is_empty() {
            lists.push(list("local-data", Format::Rpz, text, 2));
        }
        if !refused.is_empty() {
            let refused = list("local-zone-refuse", Format::Domains, refused, 1);
            lists.push(ListSettings { action: Action::Refused, match_scope: MatchScope::Subdomains, ..refused });
        }
        Some(lists)
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.') || zone.is_empty())
}

/// The names above `name`.
fn ancestors(name: &str) -> impl Iterator<Item = String> {
    name.match_indices('.').map(|(at, _)| name[at + 1..].to_owned())
}

fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = address.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            digits.map(|digit| format!("{digit:x}.")).chain(["ip6.arpa".to_owned()]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_and_their_data_become_a_policy_zone() {
        let mut local = LocalData::default();
        for (zone, kind) in
            [("stays.kz.", "static"), ("all.kz", "redirect"), ("no.kz", "refuse"), ("shut.kz", "always_nodata")]
        {
            local.zone(zone, kind);
        }
        for record in ["a.b.stays.kz. IN A 192.0.2.1", "all.kz 60 TXT hello", "x.shut.kz A 192.0.2.2"] {
            local.record(record).unwrap();
        }
        local.pointer("192.0.2.1 a.b.stays.kz").unwrap();
        assert!(local.record("x.kz CH A 192.0.2.1").is_none());
        let lists = local.lists().unwrap();
        let Source::Inline(text) = &lists[0].source else { panic!("it is inline") };
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "*.all.kz 60 TXT hello",
                "*.shut.kz CNAME *.",
                "*.stays.kz CNAME .",
                "1.2.0.192.in-addr.arpa 3600 PTR a.b.stays.kz",
                "a.b.stays.kz 3600 A 192.0.2.1",
                "all.kz 60 TXT hello",
                "b.stays.kz CNAME *.",
                "shut.kz CNAME *.",
                "stays.kz CNAME *.",
            ]
        );
        let Source::Inline(refused) = &lists[1].source else { panic!("it is inline") };
        assert_eq!(refused, "no.kz\n");
    }
}
