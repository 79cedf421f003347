//! Which servers to ask about a zone.
//!
//! A [`Delegation`] is a zone cut as its parent describes it: the names of the
//! zone's servers and the addresses that came along (glue). Glue is used to
//! reach this zone and for nothing else. Addresses of other servers are looked
//! up when they are needed, and what the zone itself says about its servers is
//! added behind what the parent says, so that a zone that its parent has taken
//! away ends when the parent's TTL does (ghost domains).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use smallvec::SmallVec;

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::NameServers;

use super::network::Protocol;
use super::servers::{Server, Servers};
use super::settings::{Route, RouteKind};

/// How the servers of a delegation are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As authorities that were found by way of their parent.
    Iterate,
    /// As authorities that the operator has named.
    Stub,
    /// As resolvers, with RD.
    Forward,
}

/// Name servers of a zone. Learns while it is used.
#[derive(Debug)]
pub struct Delegation {
    /// The zone.
    pub zone: DomainName,
    /// How its servers are spoken to.
    pub manner: Manner,
    /// The second from which on the parent must be asked again.
    pub expires: u32,
    /// Whether the zone's own servers are asked when these fail.
    pub fall_back: bool,
    /// Whether the parent has DS records for the zone.
    pub signed: bool,
    /// Whether answers of its servers are kept.
    pub cache: bool,
    /// Whether its servers, being resolvers, are told not to withhold what they cannot validate (CD).
    pub checking_disabled: bool,
    /// The same servers for questions with CD, when it is they who validate and not we.
    pub unchecked: Option<Arc<Delegation>>,
    /// Until which second nothing is expected of it, since all servers failed.
    failed_until: AtomicU32,
    /// How often in a row all servers failed.
    failures: AtomicU32,
    servers: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    names: Vec<ServerName>,
    targets: Targets,
}

/// The name of a server, and what became of looking for its addresses.
#[derive(Debug, Clone)]
struct ServerName {
    name: DomainName,
    /// The address types that are known or were asked for: A and AAAA.
    tried: [bool; 2],
    /// Whether the zone itself named it, not its parent.
    from_child: bool,
    /// Addresses that came with its name; kept for when nothing else leads to the zone.
    glue: SmallVec<[IpAddr; 2]>,
}

/// The addresses of a delegation's servers, as they were when somebody looked.
pub type Targets = Arc<[Arc<Target>]>;

/// Addresses of a server that may be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The server's name.
    pub name: DomainName,
    /// Their family, as [`family`] counts.
    pub family: usize,
    /// Those of the other family have not been looked up either.
    pub is_first: bool,
}

/// An address to ask.
#[derive(Debug)]
pub struct Target {
    /// The server there.
    pub server: Arc<Server>,
    /// How it is asked first.
    pub protocol: Protocol,
    /// Whether the zone itself named it, not its parent.
    pub from_child: bool,
    /// Until which second it is known not to serve the zone.
    lame_until: AtomicU32,
}

/// For how many seconds a server that does not serve a zone is passed over.
const LAME_FOR: u32 = 300;
/// For how many seconds a server is passed over that failed where another did not.
const OUTDONE_FOR: u32 = 60;
/// For how many seconds a zone is left alone after all its servers failed, at first and at most (RFC 9520, section 3.2).
const FAILED_FOR: (u32, u32) = (2, 60);
/// No more servers than this are considered for a zone.
const MAX_NAMES: usize = 32;
const MAX_TARGETS: usize = 64;
const MAX_GLUE: usize = 8;

impl Target {
    /// Whether it is known not to serve the zone.
    pub fn is_lame(&self, now: Now) -> bool {
        self.lame_until.load(Relaxed) > now.seconds()
    }

    /// It does serve the zone.
    pub fn worked(&self) {
        if self.lame_until.load(Relaxed) != 0 {
            self.lame_until.store(0, Relaxed);
        }
    }

    /// It does not serve the zone.
    pub fn was_lame(&self, now: Now) {
        self.lame_until.store(now.seconds().saturating_add(LAME_FOR), Relaxed);
    }

    /// It had nothing to say where another server had the answer.
    pub fn was_outdone(&self, now: Now) {
        self.lame_until.fetch_max(now.seconds().saturating_add(OUTDONE_FOR), Relaxed);
    }
}

impl Delegation {
    /// A delegation without servers.
    pub fn new(zone: &Name, manner: Manner, expires: u32) -> Self {
        Self {
            zone: zone.to_owned(),
            manner,
            expires,
            fall_back: false,
            signed: false,
            cache: true,
            checking_disabled: false,
            unchecked: None,
            failed_until: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            servers: Mutex::default(),
        }
    }

    /// The servers of a route; `validate` says whether we judge for ourselves what they say.
    pub fn of_route(route: &Route, servers: &Servers, validate: bool) -> Self {
        let manner = match route.kind {
            RouteKind::Forward => Manner::Forward,
            RouteKind::Stub => Manner::Stub,
        };
        let asked = |checking_disabled, cache| {
            let mut delegation = Self::new(&route.zone, manner, u32::MAX);
            delegation.fall_back = route.fall_back;
            delegation.cache = cache;
            delegation.checking_disabled = checking_disabled;
            for name in &route.names {
                delegation.add_name(name.clone(), false);
            }
            for server in &route.to {
                delegation.add_address(None, servers.at(server.address), server.protocol.clone());
            }
            delegation
        };
        let forward = manner == Manner::Forward;
        // What nobody has validated is not for those who want it validated.
        let unchecked = (forward && !validate).then(|| Arc::new(asked(true, false)));
        Self { unchecked, ..asked(forward && validate, route.cache) }
    }

    /// Adds the name of a server.
    pub fn add_name(&self, name: DomainName, from_child: bool) {
        let mut known = self.servers.lock();
        if known.names.len() < MAX_NAMES && !known.names.iter().any(|server| server.name == name) {
            known.names.push(ServerName { name, tried: [false; 2], from_child, glue: SmallVec::new() });
        }
    }

    /// Adds an address of the server called `name`, or of a server without a name; whether it is new.
    pub fn add_address(&self, name: Option<&Name>, server: Arc<Server>, protocol: Protocol) -> bool {
        let mut known = self.servers.lock();
        let mut from_child = false;
        if let Some(entry) = known.names.iter_mut().find(|entry| Some(&*entry.name) == name) {
            entry.tried[family(server.address.ip())] = true;
            from_child = entry.from_child;
        }
        let new = known.targets.len() < MAX_TARGETS
            && !known.targets.iter().any(|target| target.server.address == server.address);
        if new {
            let target = Arc::new(Target { server, protocol, from_child, lame_until: AtomicU32::new(0) });
            known.targets = known.targets.iter().cloned().chain([target]).collect();
        }
        new
    }

    /// Remembers an address that came with the name of a server.
    pub fn add_glue(&self, name: &Name, address: IpAddr) {
        let mut known = self.servers.lock();
        if let Some(server) = known.names.iter_mut().find(|server| *server.name == *name)
            && server.glue.len() < MAX_GLUE
        {
            server.glue.push(address);
        }
    }

    /// The names of its servers, with the addresses that came with them.
    pub fn glue(&self) -> Vec<(DomainName, SmallVec<[IpAddr; 2]>)> {
        self.servers.lock().names.iter().map(|server| (server.name.clone(), server.glue.clone())).collect()
    }

    /// Adds its servers to `found`, as far as they are known.
    pub fn tell(&self, found: &mut NameServers) {
        let known = self.servers.lock();
        found.names.extend(known.names.iter().map(|server| server.name.clone()));
        found.addresses.extend(known.targets.iter().map(|target| target.server.address.ip()));
        found.addresses.extend(known.names.iter().flat_map(|server| server.glue.iter().copied()));
    }

    /// The addresses that are known.
    pub fn targets(&self) -> Targets {
        self.servers.lock().targets.clone()
    }

    /// Addresses that nobody has looked up yet: those of names without any address first, the parent's names before
    /// the child's, IPv4 before IPv6.
    ///
    /// A name below the zone is left out while any server has an address: only the zone's servers know more of it, and
    /// it is they who cannot be reached.
    pub fn missing(&self, families: [bool; 2]) -> Vec<Missing> {
        let known = self.servers.lock();
        let is_reachable = self.manner == Manner::Iterate && !known.targets.is_empty();
        let own = |name: &Name| is_reachable && name.is_at_or_below(&self.zone);
        let mut missing: Vec<_> = (0..2)
            .filter(|family| families[*family])
            .flat_map(|family| known.names.iter().map(move |server| (server, family)))
            .filter(|(server, family)| !server.tried[*family] && !own(&server.name))
            .map(|(server, family)| {
                let missing = Missing { name: server.name.clone(), family, is_first: !server.tried[1 - family] };
                (server.from_child, missing)
            })
            .collect();
        missing.sort_by_key(|(from_child, missing)| (*from_child, !missing.is_first, missing.family));
        missing.into_iter().map(|(_, missing)| missing).collect()
    }

    /// Whether it has every server, by name and by address, that `other` has.
    pub fn covers(&self, other: &Self) -> bool {
        let (names, targets): (Vec<DomainName>, Vec<SocketAddr>) = {
            let other = other.servers.lock();
            let names = other.names.iter().map(|server| server.name.clone()).collect();
            (names, other.targets.iter().map(|target| target.server.address).collect())
        };
        let known = self.servers.lock();
        names.iter().all(|name| known.names.iter().any(|server| server.name == *name))
            && targets.iter().all(|address| known.targets.iter().any(|target| target.server.address == *address))
    }

    /// Notes that addresses of `name` were looked for.
    pub fn looked_up(&self, name: &Name, family: usize) {
        let mut known = self.servers.lock();
        if let Some(server) = known.names.iter_mut().find(|server| *server.name == *name) {
            server.tried[family] = true;
        }
    }

    /// Whether all servers failed a moment ago.
    pub fn has_failed(&self, now: Now) -> bool {
        self.failed_until.load(Relaxed) > now.seconds()
    }

    /// All servers failed. Addresses are looked up anew next time: they may have changed.
    pub fn failed(&self, now: Now) {
        let failures = self.failures.fetch_add(1, Relaxed);
        let pause = FAILED_FOR.0.saturating_mul(1 << failures.min(5)).min(FAILED_FOR.1);
        self.failed_until.store(now.seconds().saturating_add(pause), Relaxed);
        let mut known = self.servers.lock();
        known.names.iter_mut().for_each(|server| server.tried = [false; 2]);
    }

    /// A server gave a usable answer.
    pub fn worked(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.failed_until.store(0, Relaxed);
        }
    }
}

/// The place of an address's family in arrays: 0 for IPv4, 1 for IPv6.
pub fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

/// Delegations by zone, bounded in number.
#[derive(Debug)]
pub struct Delegations {
    zones: Cache<DomainName, Arc<Delegation>, quick_cache::UnitWeighter, ahash::RandomState>,
}

impl Delegations {
    /// Remembers up to `capacity` zones.
    pub fn new(capacity: usize) -> Self {
        let (weighter, hasher) = (quick_cache::UnitWeighter, ahash::RandomState::new());
        Self { zones: Cache::with(capacity, capacity as u64, weighter, hasher, Default::default()) }
    }

    /// The delegation of `zone` itself.
    pub fn get(&self, zone: &Name, now: Now) -> Option<Arc<Delegation>> {
        self.zones.get(zone).filter(|delegation| delegation.expires > now.seconds())
    }

    /// The delegation of `zone` itself, also when the parent must be asked again.
    pub fn get_expired(&self, zone: &Name) -> Option<Arc<Delegation>> {
        self.zones.peek(zone)
    }

    /// The deepest delegation that covers `name`.
    pub fn closest(&self, name: &Name, now: Now) -> Option<Arc<Delegation>> {
        name.ancestors().find_map(|zone| self.get(zone, now))
    }

    /// Keeps a delegation; one that is there is replaced.
    pub fn put(&self, delegation: Arc<Delegation>) {
        self.zones.insert(delegation.zone.clone(), delegation);
    }

    /// Forgets one zone.
    pub fn remove(&self, zone: &Name) {
        self.zones.remove(zone);
    }

    /// Forgets zones at `name`, and below it if `below`.
    pub fn flush(&self, name: &Name, below: bool) {
        self.zones.retain(|zone, _| if below { !zone.is_at_or_below(name) } else { **zone != *name });
    }

    /// How many zones are remembered.
    pub fn len(&self) -> usize {
        self.zones.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }
}
