//! From a question to an answer, zone by zone.
//!
//! ```text
//! find       follows aliases: what the store has, else one hop after the other
//! hop        from the closest known delegation down to the zone that answers
//! minimise   how much of the name the next server is shown
//! keep       what a reply leaves in the store and among the delegations
//! ```
//!
//! Asking the servers of one zone is the work of [`ask`](super::ask),
//! understanding their replies that of [`scrub`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::{Rcode, RecordType};

use super::ask::{Answered, Effort};
use super::delegation::{self, Delegation, Manner, Missing};
use super::dnssec::rdata::is_expanded;
use super::message::{self, Message, RrSet};
use super::network::Protocol;
use super::scrub::{self, Outcome, Reply};
use super::settings::Minimisation;
use super::store::{Entry, Rank};
use super::work::{Failure, Limit, Path, Work};
use super::{Engine, Security};

/// A negative answer without an SOA record holds this many seconds.
const UNPROVEN_NEGATIVE_TTL: u32 = 5;
/// How long the look-up of one server's address may keep the others waiting.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(1_500);
/// Labels that are added one by one while minimising (RFC 9156, section 2.3: MINIMISE_ONE_LAB).
const ONE_BY_ONE: usize = 4;
/// Steps that minimising may take in all (MAX_MINIMISE_COUNT).
const MINIMISE_STEPS: usize = 10;

/// Where an answer may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The store will do.
    Any,
    /// The store is passed over for the question itself.
    World,
    /// As before, and other servers than the one that answered last come first.
    Other,
}

impl Engine {
    /// Finds the answer to a question, all aliases followed; not validated.
    ///
    /// The message has the whole chain in its answer section, and what its parts brought in its authority section.
    pub(super) async fn find(
        &self,
        work: &Work,
        path: &Path<'_>,
        name: &Name,
        qtype: RecordType,
        source: Source,
    ) -> Result<Message, Failure> {
        let mut found = Message::default();
        let mut at = name.to_owned();
        let mut told = false;
        if source == Source::Other {
            self.forget(work, name, qtype);
        }
        for followed in 0..=self.settings.limits.aliases {
            let mut known = None;
            if followed > 0 || source == Source::Any {
                known = self.recall(work, path, &at, qtype);
            }
            if known.is_none() && followed > 0 && source == Source::Any {
                known = self.conclude(&at, qtype);
            }
            let next = match known {
                Some(known) => known,
                None => self.hop(work, path, &at, qtype, told).await?,
            };
            let Known { answer, authority, rcode, alias } = next;
            for set in answer {
                if found.answer.iter().any(|old| old.name == set.name && old.rtype == set.rtype) {
                    // A DNAME may well serve twice on one way; an alias that does leads nowhere.
                    if set.rtype != RecordType::DNAME {
                        return Err(Failure::Cycle);
                    }
                    continue;
                }
                found.answer.push(set);
            }
            for set in authority {
                if !found.authority.contains(&set) {
                    found.authority.push(set);
                }
            }
            found.rcode = rcode;
            match alias {
                Some(target) => {
                    // There is no point in hiding a name from the servers who told it.
                    told = self.starting_point(&target, qtype).zone == self.starting_point(&at, qtype).zone;
                    at = target;
                }
                None => return Ok(found),
            }
        }
        Err(Failure::Excess(Limit::Aliases))
    }

    /// What the store has about a question.
    pub(super) fn recall(&self, work: &Work, path: &Path<'_>, name: &Name, qtype: RecordType) -> Option<Known> {
        let now = self.clock.now();
        let mut entry = self.store.get(name, qtype, now).filter(|entry| entry.rcode != Rcode::SERVFAIL);
        if qtype == RecordType::DS && path.depth() == 0 && entry.as_ref().is_some_and(|entry| entry.is_bare_referral())
        {
            // Good enough for a chain of trust, not for a client: it has no SOA.
            entry = None;
        }
        if entry.is_none() && !matches!(qtype, RecordType::CNAME | RecordType::ANY) {
            entry = self.store.get_exact(name, RecordType::CNAME, now).filter(|entry| entry.set.is_some());
        }
        if let Some(entry) = entry {
            work.note_misshapen(entry.misshapen);
            return Some(Known::from_entry(&entry, qtype, now));
        }
        // What follows draws conclusions, so it takes only what is proven.
        let secure = |entry: &Arc<Entry>| entry.security == Security::Secure;
        for above in name.ancestors().skip(1) {
            // Nothing exists below a name that does not exist (RFC 8020).
            let strict = self.settings.query_minimisation == Minimisation::Strict;
            if let Some(entry) = self.store.nonexistence(above, now).filter(|entry| strict || secure(entry)) {
                return Some(Known::from_entry(&entry, qtype, now));
            }
            if let Some(dname) = self.store.get_exact(above, RecordType::DNAME, now).filter(secure)
                && let Some(set) = dname.set_at(now)
            {
                return Some(Known::from_dname(set, name, qtype));
            }
        }
        None
    }

    /// What proven denials of other names say about where an alias leads (RFC 8198).
    fn conclude(&self, name: &Name, qtype: RecordType) -> Option<Known> {
        if !self.settings.aggressive_denial || self.validator.is_none() {
            return None;
        }
        let Message { rcode, authority, .. } = self.denials.answer(name, qtype, self.clock.now())?;
        Some(Known { answer: Vec::new(), authority, rcode, alias: None })
    }

    /// Drops what the store has about a question, and puts the server that sent it last.
    pub(super) fn forget(&self, work: &Work, name: &Name, qtype: RecordType) {
        let entry = self.store.take(name, qtype, self.clock.now());
        if let Some((server, zone)) = entry.as_ref().and_then(|entry| entry.from.as_ref()) {
            work.avoid(zone, *server);
        }
    }

    /// Asks from the closest known zone downwards until a server answers; `told` when that zone has told the name.
    async fn hop(
        &self,
        work: &Work,
        path: &Path<'_>,
        name: &Name,
        qtype: RecordType,
        told: bool,
    ) -> Result<Known, Failure> {
        let mut delegation = self.starting_point(name, qtype);
        if let Some(unchecked) = delegation.unchecked.clone().filter(|_| work.checking_disabled) {
            delegation = unchecked;
        }
        let mut fresh = false;
        let mut failed: Option<(Arc<Delegation>, Failure)> = None;
        let mut steps = Steps::new(if told { Minimisation::Off } else { self.settings.query_minimisation });
        for _ in 0..self.settings.limits.steps {
            let shown = steps.shown(&delegation, name);
            let whole = *shown == *name;
            let asked = if whole { qtype } else { RecordType::A };
            if !whole && self.is_known_to_be_no_cut(&shown) {
                steps.no_cut(&delegation.zone);
                continue;
            }
            let relaxed = !whole && steps.mode == Minimisation::Relaxed;
            let effort = if relaxed { Effort::Little } else { Effort::Full };
            let answered = match self.ask(work, path, &delegation, &shown, asked, effort).await {
                Ok(answered) => answered,
                Err(failure @ (Failure::Excess(_) | Failure::Late)) => return Err(failure),
                Err(_) if relaxed => {
                    steps.give_up();
                    continue;
                }
                Err(failure) => {
                    if delegation.fall_back {
                        delegation = self.delegation_for(name);
                        continue;
                    }
                    // The zone may have moved since its parent was asked.
                    if !fresh && delegation.manner == Manner::Iterate && !delegation.zone.is_root() {
                        self.delegations.remove(&delegation.zone);
                        let parent = delegation.zone.parent().unwrap_or(Name::root());
                        let parent = self.starting_point(parent, RecordType::NS);
                        failed = Some((std::mem::replace(&mut delegation, parent), failure));
                        fresh = true;
                        continue;
                    }
                    return Err(failure);
                }
            };
            let reply = &answered.reply;
            if let Outcome::Referral(cut) = &reply.outcome {
                let child = answered.child.get_or_init(|| self.enter(&delegation, cut, reply)).clone();
                if let Some((old, failure)) = failed.take_if(|(old, _)| old.zone == child.zone && old.covers(&child)) {
                    // It has not: what failed would fail again.
                    self.delegations.put(old);
                    return Err(failure);
                }
                if qtype == RecordType::DS && *cut.name == *name {
                    // The parent knows no DS, or does not know what a DS is (RFC 4035, section 3.1.4.1).
                    return Ok(Known::from_referral(&answered.reply));
                }
                delegation = child;
                fresh = true;
                steps.cut();
                continue;
            }
            if whole {
                return Ok(self.keep(&delegation, &answered, qtype));
            }
            match &reply.outcome {
                Outcome::Alias(_) | Outcome::TooLong => steps.give_up(),
                Outcome::NxDomain(_) if steps.mode == Minimisation::Strict => {
                    // Nothing exists below a name that does not exist (RFC 8020).
                    self.keep(&delegation, &answered, asked);
                    let known = self.keep(&delegation, &answered, qtype);
                    return Ok(known);
                }
                Outcome::NxDomain(_) => steps.give_up(),
                _ => {
                    self.keep(&delegation, &answered, asked);
                    steps.no_cut(&delegation.zone);
                }
            }
        }
        Err(Failure::Excess(Limit::Steps))
    }

    /// The closest servers that are known for a question.
    fn starting_point(&self, name: &Name, qtype: RecordType) -> Arc<Delegation> {
        let now = self.clock.now();
        // DS records stand on the parent's side of a cut.
        let name = if qtype == RecordType::DS { name.parent().unwrap_or(name) } else { name };
        let Some(route) = self.routes.iter().find(|route| name.is_at_or_below(&route.zone)) else {
            return self.delegation_for(name);
        };
        // What a stub zone delegates is delegated.
        match self.delegations.closest(name, now) {
            Some(known) if route.manner == Manner::Stub && known.zone.is_below(&route.zone) => known,
            _ => route.clone(),
        }
    }

    /// The closest servers that are known by way of delegations alone.
    fn delegation_for(&self, name: &Name) -> Arc<Delegation> {
        self.delegations.closest(name, self.clock.now()).unwrap_or_else(|| self.root.load_full())
    }

    /// Whether it is known that no zone begins at `name`, so that nobody needs to be asked.
    fn is_known_to_be_no_cut(&self, name: &Name) -> bool {
        self.store
            .get_exact(name, RecordType::A, self.clock.now())
            .is_some_and(|entry| entry.rank == Rank::Authority && entry.rcode == Rcode::NOERROR)
    }

    /// Takes a referral: the delegation that it describes, and what it says about its DS records.
    fn enter(&self, parent: &Delegation, cut: &RrSet, reply: &Reply) -> Arc<Delegation> {
        let now = self.clock.now();
        let ttl = self.settings.ttl.clamp(cut.ttl).max(1);
        // A zone lasts no longer than the one it hangs from (ghost domains).
        let expires = now.seconds().saturating_add(ttl).min(parent.expires);
        let ds = reply.authority.iter().find(|set| set.rtype == RecordType::DS);
        let mut child = Delegation::new(&cut.name, Manner::Iterate, expires);
        child.signed = ds.is_some();
        for name in cut.targets() {
            child.add_name(name, false);
        }
        for (name, address) in &reply.glue {
            self.add_address(&child, Some(name), *address);
        }
        for (name, address) in reply.glue.iter().chain(&reply.hearsay) {
            child.add_glue(name, *address);
        }
        let proofs: Vec<RrSet> = reply.authority.iter().filter(|set| set.rtype != RecordType::DS).cloned().collect();
        let ttl = ds.or(proofs.first()).map_or(0, |set| self.settings.ttl.clamp(set.ttl));
        let entry = Entry {
            set: ds.cloned(),
            rcode: Rcode::NOERROR,
            authority: proofs.into(),
            rank: Rank::Referral,
            security: Security::Indeterminate,
            stored: now.seconds(),
            ttl,
            misshapen: reply.misshapen,
            from: None,
        };
        self.store.put(&cut.name, RecordType::DS, entry, now);
        let child = Arc::new(child);
        self.delegations.put(child.clone());
        child
    }

    /// Adds an address to a delegation, if it may be asked; whether it is new.
    pub(super) fn add_address(&self, delegation: &Delegation, name: Option<&Name>, address: IpAddr) -> bool {
        let server = || self.servers.at(self.settings.way_to(address));
        self.may_be_asked(address) && delegation.add_address(name, server(), Protocol::Udp)
    }

    /// Adds what nobody vouches for when all else has failed: addresses that came with a referral from a server that
    /// has no say about them, and glue that stands where the server's own name is delegated.
    ///
    /// The parent decides anyway who serves the zone, so this trusts it with nothing new; and it is used for no other
    /// zone. It saves zones whose servers' own addresses are wrong.
    pub(super) fn add_hearsay(&self, delegation: &Delegation) -> bool {
        let mut new = false;
        for (name, addresses) in delegation.glue() {
            new |= self.add_glue_from_above(delegation, &name, None);
            for address in addresses {
                new |= self.add_address(delegation, Some(&name), address);
            }
        }
        new
    }

    /// Adds the glue that leads to the zone of `name`, a server's; whether there is any that is new.
    ///
    /// A question for the address would have to go there itself. That is left for when the glue is of no use.
    fn add_glue_from_above(&self, delegation: &Delegation, name: &Name, wanted: Option<usize>) -> bool {
        let Some(above) = self.delegations.closest(name, self.clock.now()) else { return false };
        let glue =
            above.glue().into_iter().filter(|(server, _)| **server == *name).flat_map(|(_, addresses)| addresses);
        let mut new = false;
        for address in glue.filter(|address| wanted.is_none_or(|wanted| delegation::family(*address) == wanted)) {
            new |= self.add_address(delegation, None, address);
        }
        new
    }

    /// The DS records of `name` as its parent tells them when it refers to it.
    ///
    /// For parents that answer a question for the records themselves with something else, such as a wildcard's alias.
    pub(super) async fn refer(&self, work: &Work, path: &Path<'_>, name: &Name) -> Option<Message> {
        let parent = self.starting_point(name, RecordType::DS);
        let answered = self.ask(work, path, &parent, name, RecordType::A, Effort::Little).await.ok()?;
        let Outcome::Referral(cut) = &answered.reply.outcome else { return None };
        self.enter(&parent, cut, &answered.reply);
        let Known { answer, authority, rcode, .. } = Known::from_referral(&answered.reply);
        if *cut.name == *name {
            // The alias is not that of the name, at which a zone begins.
            self.store.take(name, RecordType::CNAME, self.clock.now());
        }
        (*cut.name == *name).then(|| Message { rcode, answer, authority, ..Message::default() })
    }

    /// Keeps what a reply says, and says it.
    fn keep(&self, delegation: &Arc<Delegation>, answered: &Answered, qtype: RecordType) -> Known {
        let now = self.clock.now();
        let reply = &answered.reply;
        let put = |name: &Name, rtype, entry| {
            if delegation.cache {
                self.store.put(name, rtype, entry, now);
            }
        };
        let rank =
            if reply.authoritative || delegation.manner == Manner::Forward { Rank::Authority } else { Rank::Answer };
        let entry = |set: Option<RrSet>, rcode, authority: Arc<[RrSet]>, ttl| Entry {
            set,
            rcode,
            authority,
            rank,
            security: Security::Indeterminate,
            stored: now.seconds(),
            ttl,
            misshapen: reply.misshapen,
            from: Some((answered.from.server.address, delegation.zone.clone())),
        };
        let negative = match &reply.outcome {
            Outcome::NoData(last) => Some((last, Rcode::NOERROR)),
            Outcome::NxDomain(last) => Some((last, Rcode::NXDOMAIN)),
            _ => None,
        };
        let mut answer = reply.answer.clone();
        for set in &mut answer {
            set.ttl = self.settings.ttl.clamp(set.ttl);
        }
        let mut authority = reply.authority.clone();
        if let Some((last, rcode)) = negative {
            let ttl = scrub::negative_ttl(&authority).unwrap_or(UNPROVEN_NEGATIVE_TTL);
            let ttl = self.settings.ttl.clamp_negative(ttl);
            for set in authority.iter_mut().filter(|set| set.rtype == RecordType::SOA) {
                set.ttl = ttl;
            }
            put(last, qtype, entry(None, rcode, authority.clone().into(), ttl));
        }
        // A wildcard's expansion needs the proof that nothing closer exists (RFC 4035, section 3.1.3.3), also when it is
        // an alias that leads to nothing.
        let proofs: Arc<[RrSet]> = authority.iter().filter(|set| message::is_proof(set.rtype)).cloned().collect();
        let none: Arc<[RrSet]> = Arc::new([]);
        let renamed = answer.iter().any(|set| set.rtype == RecordType::DNAME);
        if qtype != RecordType::ANY && qtype != RecordType::RRSIG {
            for set in answer.iter().filter(|set| set.rtype != RecordType::CNAME || !renamed) {
                // A DNAME stands for many names: until the next second ends it serves again though its TTL is 0.
                let ttl = if set.rtype == RecordType::DNAME { set.ttl.max(2) } else { set.ttl };
                let proofs = if negative.is_none() || is_expanded(set) { &proofs } else { &none };
                let entry = entry(Some(set.clone()), Rcode::NOERROR, proofs.clone(), ttl);
                put(&set.name, set.rtype, entry);
            }
        }
        if let Some(own) = &reply.own_servers
            && delegation.manner == Manner::Iterate
        {
            for name in own.targets() {
                delegation.add_name(name, true);
            }
            for (name, address) in reply.glue.iter().filter(|(name, _)| name.is_at_or_below(&delegation.zone)) {
                self.add_address(delegation, Some(name), *address);
            }
        }
        let alias = match &reply.outcome {
            Outcome::Alias(target) => Some(target.clone()),
            _ => None,
        };
        let rcode = match &reply.outcome {
            Outcome::NxDomain(_) => Rcode::NXDOMAIN,
            Outcome::TooLong => Rcode::YXDOMAIN,
            _ => Rcode::NOERROR,
        };
        Known { answer, authority, rcode, alias }
    }

    /// Looks up the address of one more server; `false` when there is none left to look for.
    pub(super) async fn find_server(
        &self,
        work: &Work,
        path: &Path<'_>,
        delegation: &Arc<Delegation>,
    ) -> Result<bool, Failure> {
        let limits = &self.settings.limits;
        let missing = delegation.missing(self.families());
        let wanted = missing.iter().find_map(|Missing { name, family, .. }| {
            let rtype = [RecordType::A, RecordType::AAAA][*family];
            Some((name, *family, path.descend(name, rtype, limits).ok()?, rtype))
        });
        let Some((name, family, below, rtype)) = wanted else { return Ok(false) };
        let known = self.store.get_exact(name, rtype, self.clock.now());
        if known.is_none() && self.add_glue_from_above(delegation, name, Some(family)) {
            return Ok(true);
        }
        work.take_lookup()?;
        delegation.looked_up(name, family);
        if delegation.manner == Manner::Iterate && name.is_at_or_below(&delegation.zone) {
            self.find_glue(work, &below, delegation, name, rtype).await;
            return Ok(true);
        }
        let found = match known {
            Some(entry) if entry.rcode == Rcode::SERVFAIL => Err(Failure::Recent),
            _ => {
                let others = !delegation.targets().is_empty();
                let patience = if others { LOOKUP_PATIENCE.min(work.left() / 2) } else { work.left() / 2 };
                let found = timeout(patience, Box::pin(self.find(work, &below, name, rtype, Source::Any))).await;
                found.unwrap_or(Err(Failure::Recent))
            }
        };
        match found {
            Ok(message) => {
                for address in message.answer.iter().filter(|set| set.rtype == rtype).flat_map(scrub::addresses) {
                    self.add_address(delegation, Some(name), address);
                }
                Ok(true)
            }
            Err(failure @ Failure::Excess(Limit::Queries)) => Err(failure),
            Err(_) => {
                let now = self.clock.now();
                let failed = Entry {
                    set: None,
                    rcode: Rcode::SERVFAIL,
                    authority: Arc::new([]),
                    rank: Rank::Answer,
                    security: Security::Indeterminate,
                    stored: now.seconds(),
                    ttl: Failure::TTL,
                    misshapen: false,
                    from: None,
                };
                self.store.put(name, rtype, failed, now);
                Ok(true)
            }
        }
    }

    /// Asks the parent for the address of a server whose name lies in its own zone, when a referral came without it.
    async fn find_glue(&self, work: &Work, path: &Path<'_>, delegation: &Delegation, name: &Name, rtype: RecordType) {
        let parent = self.starting_point(&delegation.zone, RecordType::DS);
        // Nested in the question for the zone, as every look-up of a server is; hence the box.
        let asked = Box::pin(self.ask(work, path, &parent, name, rtype, Effort::Little)).await;
        let Ok(answered) = asked else { return };
        let reply = &answered.reply;
        for (name, address) in &reply.glue {
            self.add_address(delegation, Some(name), *address);
        }
        for address in reply.answer.iter().filter(|set| *set.name == *name).flat_map(scrub::addresses) {
            self.add_address(delegation, Some(name), address);
        }
    }
}

/// An answer to a question, or a part of it that ends in an alias.
pub(super) struct Known {
    answer: Vec<RrSet>,
    authority: Vec<RrSet>,
    rcode: Rcode,
    alias: Option<DomainName>,
}

impl Known {
    fn from_entry(entry: &Entry, qtype: RecordType, now: Now) -> Self {
        let set = entry.set_at(now);
        let alias = set
            .as_ref()
            .filter(|set| set.rtype == RecordType::CNAME && qtype != RecordType::CNAME)
            .and_then(|set| set.targets().next());
        Self {
            answer: set.into_iter().collect(),
            authority: entry.authority_at(now).collect(),
            rcode: entry.rcode,
            alias,
        }
    }

    /// What a referral says about the DS records of the zone that it leads to.
    fn from_referral(reply: &Reply) -> Self {
        let (answer, authority) = reply.authority.iter().cloned().partition(|set| set.rtype == RecordType::DS);
        Self { answer, authority, rcode: Rcode::NOERROR, alias: None }
    }

    /// What `dname` makes of `name` (RFC 6672, section 3.1).
    fn from_dname(dname: RrSet, name: &Name, qtype: RecordType) -> Self {
        let alias = scrub::synthesise(&dname, name);
        let target = alias.as_ref().filter(|_| qtype != RecordType::CNAME).and_then(|alias| alias.targets().next());
        Self {
            rcode: if alias.is_some() { Rcode::NOERROR } else { Rcode::YXDOMAIN },
            answer: std::iter::once(dname).chain(alias).collect(),
            authority: Vec::new(),
            alias: target,
        }
    }
}

/// How much of the name the next server is shown (RFC 9156, section 2.3).
struct Steps {
    mode: Minimisation,
    /// Labels that have been shown, or are passed over, below the cut of now without finding another.
    below: usize,
    /// Steps taken on the whole way.
    taken: usize,
}

impl Steps {
    fn new(mode: Minimisation) -> Self {
        Self { mode, below: 0, taken: 0 }
    }

    fn shown(&self, delegation: &Delegation, name: &Name) -> DomainName {
        if self.mode == Minimisation::Off || delegation.manner == Manner::Forward {
            return name.to_owned();
        }
        name.suffix(delegation.zone.label_count() + self.below + 1).to_owned()
    }

    /// The servers of `zone` were shown a name at which no zone begins.
    ///
    /// Below the public part of the tree the next cut is far and the servers mostly belong to whom the name belongs to:
    /// they are shown the whole of it at once, unless the operator wants it strict.
    fn no_cut(&mut self, zone: &Name) {
        self.taken += 1;
        if self.mode == Minimisation::Relaxed && zone.label_count() >= 2 {
            self.below = 128;
            return;
        }
        // The first labels one by one, then the rest in as many steps as are left.
        self.below += if self.taken < ONE_BY_ONE { 1 } else { 128usize.div_ceil(MINIMISE_STEPS) };
        if self.taken >= MINIMISE_STEPS {
            self.mode = Minimisation::Off;
        }
    }

    /// A zone begins there.
    fn cut(&mut self) {
        self.below = 0;
    }

    /// Show the whole name from now on.
    fn give_up(&mut self) {
        self.mode = Minimisation::Off;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::ExtendedError;
    use crate::recursor::Settings;
    use crate::recursor::message::Rdata;
    use crate::recursor::testing::{self, Internet, a, answer, no_data, nxdomain, referral, set, to};

    fn zone(text: &str) -> Delegation {
        Delegation::new(&text.parse::<DomainName>().unwrap(), Manner::Iterate, 0)
    }

    /// What is shown to the servers of each zone, down to the whole name, when no zone begins below the last.
    fn shown(mode: Minimisation, name: &str, cuts: &[&str]) -> Vec<String> {
        let name: DomainName = name.parse().unwrap();
        let (mut steps, mut all) = (Steps::new(mode), Vec::new());
        for cut in cuts {
            all.push(steps.shown(&zone(cut), &name).to_string());
            steps.cut();
        }
        let last = zone(cuts.last().unwrap());
        all.pop();
        loop {
            let shown = steps.shown(&last, &name);
            all.push(shown.to_string());
            if shown == name {
                return all;
            }
            steps.no_cut(&last.zone);
        }
    }

    #[test]
    fn each_server_is_shown_one_label_more() {
        let ways = [".", "kz", "gov.kz"];
        assert_eq!(
            shown(Minimisation::Strict, "a.b.gov.kz", &ways),
            ["kz", "gov.kz", "b.gov.kz", "a.b.gov.kz"].map(with_dot)
        );
        assert_eq!(
            shown(Minimisation::Relaxed, "a.b.c.gov.kz", &ways),
            ["kz", "gov.kz", "c.gov.kz", "a.b.c.gov.kz"].map(with_dot),
            "below the public part of the tree the whole name follows at once"
        );
        assert_eq!(shown(Minimisation::Off, "a.kz", &["."]), ["a.kz"].map(with_dot));
    }

    /// As names are shown.
    fn with_dot(name: &str) -> String {
        name.parse::<DomainName>().unwrap().to_string()
    }

    #[test]
    fn deep_names_take_a_bounded_number_of_steps() {
        let deep = format!("{}kz", "x.".repeat(120));
        assert!(shown(Minimisation::Strict, &deep, &["kz"]).len() <= MINIMISE_STEPS + 1);
    }

    #[tokio::test]
    async fn what_is_known_is_not_asked_again() {
        let internet = Internet::new(|host, question| match (host, question) {
            (1, _) => Some(referral("kz", 2)),
            (2, "www.kz A") => Some(answer([a("www.kz")])),
            (2, "none.kz A") => Some(nxdomain("kz")),
            _ => Some(no_data("kz")),
        });
        assert_eq!(internet.told("www.kz", RecordType::A).await, (Rcode::NOERROR, vec!["www.kz A".to_owned()]));
        assert_eq!(internet.asked(), ["1 www.kz A", "2 www.kz A"]);
        internet.ask("www.kz", RecordType::A).await;
        assert!(internet.asked().is_empty());
        internet.ask("www.kz", RecordType::MX).await;
        assert_eq!(internet.asked(), ["2 www.kz MX"], "the delegation is known");
        for qtype in [RecordType::A, RecordType::MX] {
            assert_eq!(internet.told("none.kz", qtype).await.0, Rcode::NXDOMAIN);
        }
        assert_eq!(internet.asked(), ["2 none.kz A"], "what does not exist has no records of any type");
        internet.wait(61);
        internet.ask("none.kz", RecordType::A).await;
        internet.ask("www.kz", RecordType::A).await;
        assert_eq!(internet.asked(), ["2 none.kz A"], "the SOA's MINIMUM is over, the records' TTL is not");
    }

    #[tokio::test]
    async fn aliases_are_followed_until_they_turn_back_or_do_not_end() {
        let internet = Internet::new(|host, question| {
            let (owner, _) = question.split_once(' ').unwrap();
            let number = |prefix| owner.strip_prefix(prefix)?.strip_suffix(".kz")?.parse::<u32>().ok();
            match (host, owner) {
                (1, _) => Some(referral("kz", 2)),
                (_, "www.kz") => Some(answer([to("www.kz", RecordType::CNAME, "one.kz")])),
                (_, "one.kz") => Some(answer([a("one.kz")])),
                (_, "here.kz") => Some(answer([to("here.kz", RecordType::CNAME, "there.kz")])),
                (_, "there.kz") => Some(answer([to("there.kz", RecordType::CNAME, "here.kz")])),
                _ => number("n").map(|number| answer([to(owner, RecordType::CNAME, &format!("n{}.kz", number + 1))])),
            }
        });
        let (rcode, sets) = internet.told("www.kz", RecordType::A).await;
        assert_eq!((rcode, sets), (Rcode::NOERROR, vec!["www.kz CNAME".to_owned(), "one.kz A".to_owned()]));
        let cycle = internet.ask("here.kz", RecordType::A).await;
        assert_eq!((cycle.rcode, &*cycle.errors[0].text), (Rcode::SERVFAIL, "the answer depends on itself"));
        let endless = internet.ask("n0.kz", RecordType::A).await;
        assert!(endless.errors[0].text.ends_with("too many aliases"), "{:?}", endless.errors);
    }

    #[tokio::test]
    async fn a_zone_that_has_moved_is_found_by_its_parent() {
        let internet = Internet::new(|host, question| match (host, question) {
            (1, "www.kz A") => Some(referral("kz", 2)),
            (1, _) => Some(referral("kz", 3)),
            (2, "www.kz A") | (3, _) => Some(answer([a(question.split_once(' ').unwrap().0)])),
            _ => None,
        });
        internet.ask("www.kz", RecordType::A).await;
        assert_eq!(internet.told("new.kz", RecordType::A).await.1, ["new.kz A"]);
        assert!(internet.asked().ends_with(&["1 new.kz A".to_owned(), "3 new.kz A".to_owned()]));
    }

    #[tokio::test]
    async fn a_zone_does_not_outlive_the_one_above() {
        let internet = Internet::new(|host, question| match (host, question) {
            (1, "late.ghost.kz A") => Some(nxdomain(".")),
            (1, _) => Some(referral("kz", 2)),
            (2, _) => {
                let mut message = referral("ghost.kz", 3);
                message.authority[0].ttl = 86_400;
                Some(message)
            }
            _ => Some(answer([a(question.split_once(' ').unwrap().0)])),
        });
        assert_eq!(internet.told("www.ghost.kz", RecordType::A).await.1, ["www.ghost.kz A"]);
        internet.wait(301);
        let late = internet.told("late.ghost.kz", RecordType::A).await;
        assert_eq!(late.0, Rcode::NXDOMAIN, "the referral to kz has ended, and with it what hung from it");
    }

    #[tokio::test]
    async fn the_ds_records_of_a_zone_are_its_parents_to_tell() {
        let internet = Internet::new(|host, question| match (host, question) {
            (1, _) => Some(referral("kz", 2)),
            (2, "gov.kz DS") => Some(answer([set("gov.kz", RecordType::DS, [0; 36])])),
            (2, _) => Some(referral("gov.kz", 3)),
            (3, "www.gov.kz A") => Some(answer([a("www.gov.kz")])),
            _ => panic!("{host} is asked for {question}"),
        });
        internet.ask("www.gov.kz", RecordType::A).await;
        assert_eq!(internet.told("gov.kz", RecordType::DS).await.1, ["gov.kz DS"]);
        assert!(internet.asked().ends_with(&["2 gov.kz DS".to_owned()]), "though its servers are known");
    }

    #[tokio::test]
    async fn a_server_that_nobody_finds_is_not_looked_for_by_everybody() {
        let internet = Internet::new(|host, question| match (host, question.split_once(' ').unwrap().0) {
            (1, "ns.lost.net") => None,
            (1, _) => Some(referral("kz", 2)),
            _ => Some(Message { authority: vec![to("a.kz", RecordType::NS, "ns.lost.net")], ..Message::default() }),
        });
        assert_eq!(internet.told("www.a.kz", RecordType::A).await.0, Rcode::SERVFAIL);
        let looked = |asked: Vec<String>| asked.iter().filter(|question| question.contains("ns.lost.net")).count();
        assert!(looked(internet.asked()) > 0);
        assert_eq!(internet.told("ftp.a.kz", RecordType::A).await.0, Rcode::SERVFAIL);
        assert_eq!(looked(internet.asked()), 0, "it failed a moment ago");
    }

    #[tokio::test]
    async fn an_answer_says_whether_unreadable_records_came_with_it() {
        let internet = Internet::new(|host, question| match (host, question) {
            (1, _) => Some(referral("kz", 2)),
            (_, "odd.kz A") => {
                let mut odd = a("odd.kz");
                odd.rdata.push(Rdata::from([1, 2, 3]));
                Some(answer([odd]))
            }
            (_, "alias.kz A") => Some(answer([to("alias.kz", RecordType::CNAME, "odd.kz")])),
            _ => Some(answer([a("even.kz")])),
        });
        for (name, is_told) in [("odd.kz", true), ("odd.kz", true), ("alias.kz", true), ("even.kz", false)] {
            let errors = internet.ask(name, RecordType::A).await.errors;
            assert_eq!(errors.iter().any(|error| error.code == ExtendedError::OTHER), is_told, "{name}: {errors:?}");
        }
    }

    #[tokio::test]
    async fn servers_are_shown_no_more_of_a_name_than_they_need() {
        let settings = |query_minimisation| Settings { query_minimisation, ..testing::settings() };
        let say = |host: u8, question: &str| match (host, question.split_once(' ').unwrap().0) {
            (1, _) => Some(referral("kz", 2)),
            (2, "gov.kz" | "www.gov.kz") => Some(referral("gov.kz", 3)),
            (3, "www.gov.kz") => Some(answer([a("www.gov.kz")])),
            _ => Some(nxdomain("kz")),
        };
        for (mode, expected) in [
            (Minimisation::Strict, ["1 kz A", "2 gov.kz A", "3 www.gov.kz A"]),
            (Minimisation::Off, ["1 www.gov.kz A", "2 www.gov.kz A", "3 www.gov.kz A"]),
        ] {
            let internet = Internet::with(settings(mode), say);
            assert_eq!(internet.told("www.gov.kz", RecordType::A).await.0, Rcode::NOERROR);
            assert_eq!(internet.asked(), expected);
        }
    }
}
