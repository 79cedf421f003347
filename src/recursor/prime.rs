//! Learns who serves the root, from those of its servers that are known from the start (RFC 8109).
//!
//! Nothing waits for it, and an odd reply changes nothing: the hints serve as well.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::name::Name;
use crate::query::RecordType;

use super::Engine;
use super::ask::Effort;
use super::delegation::{Delegation, Manner};
use super::dnssec::sentinel::key_tag_query;
use super::iterate::Source;
use super::network::Protocol;
use super::work::{Path, Work};

/// How many seconds after an attempt in vain the root is asked again.
const PRIME_AGAIN: u32 = 60;

impl Engine {
    /// Asks the root who serves it, in the background, when nobody has lately; at first, also where the servers of
    /// routes are that are known by name.
    pub(super) fn prime_if_due(self: &Arc<Self>) {
        if !self.routes_named.load(Relaxed) && !self.routes_named.swap(true, Relaxed) {
            for route in self.routes.iter().filter(|route| !route.missing(self.families()).is_empty()) {
                let (engine, route) = (self.clone(), route.clone());
                tokio::spawn(async move { engine.find_route_servers(&route).await });
            }
        }
        let now = self.clock.now().seconds();
        let due = self.prime_at.load(Relaxed);
        let is_routed = || self.routes.iter().any(|route| route.zone.is_root());
        if now < due || is_routed() {
            return;
        }
        // One of all those who see that it is due.
        if self.prime_at.compare_exchange(due, now.saturating_add(PRIME_AGAIN), Relaxed, Relaxed).is_err() {
            return;
        }
        if self.root.load().expires <= now {
            self.root.store(self.hints.clone());
        }
        let engine = self.clone();
        tokio::spawn(async move { engine.prime().await });
    }

    /// Looks up the servers of a route that are known by name, while those with addresses work already.
    async fn find_route_servers(&self, route: &Arc<Delegation>) {
        let work = Work::new(&self.settings.limits, self.settings.patience, false);
        let path = Path::start(&route.zone, RecordType::NS);
        while let Ok(true) = self.find_server(&work, &path, route).await {}
    }

    /// Asks the root's servers, and takes what they say if it is a list of servers with authority (RFC 8109, section 3.3).
    async fn prime(&self) {
        let work = Work::new(&self.settings.limits, self.settings.patience, false);
        let path = Path::start(Name::root(), RecordType::NS);
        let Ok(answered) = self.ask(&work, &path, &self.hints, Name::root(), RecordType::NS, Effort::Full).await else {
            return;
        };
        let reply = &answered.reply;
        let Some(servers) = reply.answer.iter().find(|set| set.rtype == RecordType::NS && set.name.is_root()) else {
            return;
        };
        if !reply.authoritative {
            return;
        }
        let expires = self.clock.now().seconds().saturating_add(self.settings.ttl.clamp(servers.ttl).max(60));
        let root = Delegation::new(Name::root(), Manner::Iterate, expires);
        for name in servers.targets() {
            root.add_name(name, false);
        }
        for (name, address) in &reply.glue {
            self.add_address(&root, Some(name), *address);
        }
        // Addresses that the reply left out are known from the hints.
        for (name, addresses) in &self.settings.root_hints.servers {
            if servers.targets().any(|server| server == *name) {
                for address in addresses {
                    root.add_address(Some(name), self.servers.at(self.settings.way_to(*address)), Protocol::Udp);
                }
            }
        }
        if !root.targets().is_empty() {
            self.root.store(Arc::new(root));
            self.prime_at.store(expires, Relaxed);
        }
        self.signal_anchors(&work).await;
    }

    /// Tells the root which of its keys are trusted; the answer does not matter (RFC 8145, section 5.1).
    async fn signal_anchors(&self, work: &Work) {
        if self.settings.signal_anchors
            && let Some(validator) = &self.validator
            && let Some(signal) = validator.anchors().of(Name::root()).and_then(|key| key_tag_query(Name::root(), key))
        {
            let null = RecordType::NULL;
            let _ = self.find(work, &Path::inner(&signal, null), &signal, null, Source::World).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;
    use crate::recursor::testing::{Internet, answer, nxdomain, set, to};

    /// Asks something after `seconds`, and says how often the root was primed for it.
    async fn primed_after(internet: &Internet, seconds: u64) -> usize {
        internet.wait(seconds);
        internet.ask("www.kz", RecordType::A).await;
        // The rest goes on in the background.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        internet.primed()
    }

    #[tokio::test]
    async fn priming_in_vain_is_repeated_and_lasts_for_the_ttl_when_it_is_not() {
        static UP: AtomicBool = AtomicBool::new(false);
        let internet = Internet::new(|_, question| match question {
            ". NS" if UP.load(Relaxed) => {
                let mut message = answer([to(".", RecordType::NS, "ns.root")]);
                message.additional.push(set("ns.root", RecordType::A, [193, 0, 0, 9]));
                Some(message)
            }
            ". NS" => None,
            _ => Some(nxdomain(".")),
        });
        assert!(primed_after(&internet, 1).await > 0);
        assert_eq!(primed_after(&internet, 59).await, 0, "not for every question");
        UP.store(true, Relaxed);
        assert_eq!(primed_after(&internet, 30).await, 1);
        internet.asked();
        internet.ask("other.kz", RecordType::A).await;
        assert_eq!(internet.asked(), ["9 other.kz A"], "the root is where it says, not where the hint says");
        assert_eq!(primed_after(&internet, 299).await, 0);
        assert_eq!(primed_after(&internet, 2).await, 1, "its TTL is over, and the hint serves again");
    }
}
