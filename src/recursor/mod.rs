//! Asks the world: a question in, an answer and its security out.
//!
//! [`Upstream`] is the seam that the pipeline sees. Behind it, the engine
//! iterates from the root or forwards, [`dnssec`] judges what it brings, and
//! everything leaves and arrives through a [`Network`], which a test can script.
//!
//! ```text
//! respond      a client's question: found, proven, written
//! iterate      from a question to an answer, zone by zone
//! ask          the servers of one zone, until one of them answers
//! scrub        what a reply says, and what of it may be believed
//! prime        who serves the root
//! delegation   which servers to ask about a zone
//! servers      what is known about each server; cookie, what shows that a reply is its own
//! store        records until their TTL ends
//! denial       proofs of absence for other names
//! flights      the same thing asked once at a time
//! work         what one question may cost
//! special      names that have no business in the DNS
//! dns64        IPv6 addresses for names that have none; nat64, how they are made
//! dnssec       whether an answer is proven
//! message      octets to sets of records and back
//! network      the seam below; transport, sockets behind it
//! ```

mod ask;
pub mod cookie;
pub mod delegation;
pub mod denial;
pub mod dns64;
pub mod dnssec;
pub mod flights;
pub mod hints;
mod iterate;
pub mod message;
pub mod nat64;
pub mod network;
mod prime;
mod respond;
pub mod scrub;
pub mod servers;
pub mod settings;
mod special;
pub mod store;
#[cfg(test)]
mod testing;
pub mod transport;
pub mod work;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::clock::{Clock, Now};
use crate::name::Name;
use crate::query::{ExtendedError, NameServers, Question, Rcode};

use self::delegation::{Delegation, Delegations, Manner};
use self::denial::Denials;
use self::dnssec::{Algorithms, Rollover, StandardAlgorithms, Validator};
use self::flights::Flights;
use self::iterate::Source;
use self::network::{Network, Protocol};
use self::respond::ChainFetch;
use self::servers::Servers;
use self::store::Store;
use self::work::{Step, Work};

pub use self::settings::Settings;

/// A future that a trait object hands out.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers questions about the world.
pub trait Upstream: Send + Sync + 'static {
    /// Finds the answer, or says in it why there is none.
    ///
    /// Ends within the resolver's own time limit, which is above the client's:
    /// the work goes on for the cache when nobody waits any more.
    fn resolve<'a>(&'a self, question: &'a Question, now: Now) -> BoxFuture<'a, Resolution>;

    /// As [`resolve`](Self::resolve), but asks the world also when the answer is cached behind this seam: for an
    /// answer that is popular and about to end.
    fn refresh<'a>(&'a self, question: &'a Question, now: Now) -> BoxFuture<'a, Resolution> {
        self.resolve(question, now)
    }

    /// The name servers on the way to `name`, as far as they are known from looking for it: those of its zone and of
    /// the zones above, down from the second label. In order, each once. Does not wait.
    ///
    /// The servers of top-level domains are everybody's: what is said about them is not meant for every name below.
    fn name_servers(&self, _name: &Name) -> NameServers {
        NameServers::default()
    }
}

/// Whether an answer is proven (RFC 4035, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// A chain of signatures leads to it from a trust anchor.
    Secure,
    /// It is proven that no signature is to be expected.
    Insecure,
    /// A signature or proof that must be there is missing or wrong.
    Bogus,
    /// No trust anchor covers it, or nobody validated (CD, `dnssec = "off"`).
    Indeterminate,
}

/// What the world said to a question.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The response code; SERVFAIL also when the answer is bogus and the question had no CD.
    pub rcode: Rcode,
    /// The answer in wire form: a header (identifier 0, QR, RA and RCODE set), the question, the answer section, and
    /// an authority section with what a negative answer needs. DNSSEC records only when the question had DO. No OPT.
    pub message: Vec<u8>,
    /// Whether it is proven.
    pub security: Security,
    /// For how many seconds it may be reused: the least TTL of a positive answer, RFC 2308's for a negative one,
    /// RFC 9520's for a failure.
    pub ttl: u32,
    /// Why it is as it is.
    pub errors: Vec<ExtendedError>,
    /// Whether it holds for the DO and CD bits of its question alone (RFC 6147, section 3).
    pub particular: bool,
    /// Whether records of DNSSEC were left out of the message, for want of DO in the question.
    pub stripped: bool,
}

impl Resolution {
    /// An answer without records, made here.
    fn empty(question: &Question, rcode: Rcode, ttl: u32, errors: Vec<ExtendedError>) -> Self {
        let none = || [].into_iter();
        let message =
            message::write_answer((&question.name, question.qtype), rcode, none(), none(), question.dnssec_ok);
        Self { rcode, message, security: Security::Indeterminate, ttl, errors, particular: false, stripped: false }
    }
}

/// The longest that trust anchors are left alone, in seconds.
const ANCHOR_NAP: u64 = 3_600;
/// Servers and zones that are remembered.
const KNOWN_SERVERS: usize = 1 << 17;
const KNOWN_ZONES: usize = 1 << 17;

/// Resolves by itself, from the root down, or by way of forwarders.
#[derive(Clone)]
pub struct Recursor(Arc<Engine>);

/// All that questions share.
struct Engine {
    settings: Settings,
    network: Arc<dyn Network>,
    clock: Clock,
    validator: Option<Validator>,
    rollover: Rollover,
    servers: Servers,
    delegations: Delegations,
    /// The root's servers: hints at first, then what the root itself says (RFC 8109).
    root: ArcSwap<Delegation>,
    hints: Arc<Delegation>,
    /// The second from which on the root is asked who serves it.
    prime_at: AtomicU32,
    /// Whether somebody looks up the servers of routes that are known by name.
    routes_named: AtomicBool,
    /// Zones that are asked elsewhere, the most specific first.
    routes: Vec<Arc<Delegation>>,
    store: Store,
    denials: Denials,
    flights: Flights<ask::Wanted, ask::Shared>,
    counters: Counters,
}

/// What the engine counts beside what the network does.
#[derive(Debug, Default)]
struct Counters {
    validations: [AtomicU64; 4],
}

impl Security {
    /// The closed set of labels that metrics use, in the order of the variants.
    pub const LABELS: [&str; 4] = ["secure", "insecure", "bogus", "indeterminate"];

    /// The place in [`Security::LABELS`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What a [`Recursor`] holds and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Sets of records in the store.
    pub records: u64,
    /// Octets that they take.
    pub record_bytes: u64,
    /// Zones whose servers are known.
    pub zones: u64,
    /// Servers that were asked lately.
    pub servers: u64,
    /// Validated answers, in the order of [`Security::LABELS`].
    pub validations: [u64; 4],
}

impl Recursor {
    /// A resolver that reaches the world through `network`.
    pub fn new(settings: Settings, network: Arc<dyn Network>, clock: Clock) -> Self {
        let algorithms = Arc::new(StandardAlgorithms { accept_sha1: settings.dnssec.accept_sha1 });
        Self::with_algorithms(settings, network, clock, algorithms)
    }

    /// A resolver with a cryptography of the caller's.
    pub fn with_algorithms(
        settings: Settings,
        network: Arc<dyn Network>,
        clock: Clock,
        algorithms: Arc<dyn Algorithms>,
    ) -> Self {
        let rollover = Rollover::open(settings.state_dir.as_deref(), &settings.trust_anchors);
        Self::with_rollover(settings, network, clock, algorithms, rollover)
    }

    /// A resolver with trust anchors in a state of the caller's; those of the settings stay for other zones.
    pub fn with_rollover(
        settings: Settings,
        network: Arc<dyn Network>,
        clock: Clock,
        algorithms: Arc<dyn Algorithms>,
        rollover: Rollover,
    ) -> Self {
        let mut settings = settings;
        for point in rollover.points() {
            settings.trust_anchors.set(&point.zone, point.anchor());
        }
        let validator = Validator::with_algorithms(settings.dnssec.clone(), settings.trust_anchors.clone(), algorithms);
        let validate = settings.validate && !settings.trust_anchors.is_empty();
        let servers = Servers::new(KNOWN_SERVERS);
        let hints = Delegation::new(Name::root(), Manner::Iterate, u32::MAX);
        for (name, addresses) in &settings.root_hints.servers {
            hints.add_name(name.clone(), false);
            for address in addresses {
                hints.add_address(Some(name), servers.at(settings.way_to(*address)), Protocol::Udp);
            }
        }
        let hints = Arc::new(hints);
        let mut routes: Vec<_> =
            settings.routes.iter().map(|route| Arc::new(Delegation::of_route(route, &servers, validate))).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.zone.label_count()));
        Self(Arc::new(Engine {
            network,
            clock,
            validator: validate.then_some(validator),
            rollover,
            servers,
            delegations: Delegations::new(KNOWN_ZONES),
            root: ArcSwap::new(hints.clone()),
            hints,
            prime_at: AtomicU32::new(0),
            routes_named: AtomicBool::new(false),
            routes,
            store: Store::new(settings.cache_bytes),
            denials: Denials::default(),
            flights: Flights::default(),
            counters: Counters::default(),
            settings,
        }))
    }

    /// As [`Upstream::resolve`], and tells each step on the way.
    ///
    /// What is in the caches takes no steps; flush first to see the whole way.
    pub async fn resolve_traced(&self, question: &Question) -> (Resolution, Vec<Step>) {
        let work = Work::on(question, &self.0.settings.limits, self.0.settings.patience, true);
        let resolution = self.0.answer(question, &work, Source::Any).await;
        (resolution, work.into_steps())
    }

    /// Forgets what is known about `name`, and about the names below it if `below`. Takes time in proportion to the
    /// size of the caches.
    pub fn flush(&self, name: &Name, below: bool) {
        self.0.store.flush(name, below);
        self.0.delegations.flush(name, below);
        self.0.denials.flush(name, below);
        if let Some(validator) = &self.0.validator {
            validator.forget(name, below);
        }
    }

    /// The validator, when there is one: its anchors can be replaced while it works.
    pub fn validator(&self) -> Option<&Validator> {
        self.0.validator.as_ref()
    }

    /// The state of the trust anchors (RFC 5011).
    pub fn rollover(&self) -> &Rollover {
        &self.0.rollover
    }

    /// Looks at the keys of the trust anchors that are due (RFC 5011, section 2.3). Whether it succeeds matters to no
    /// question.
    pub async fn probe_anchors(&self) {
        let engine = &self.0;
        if let Some(validator) = &engine.validator {
            let work = Work::new(&engine.settings.limits, engine.settings.patience, false);
            let fetch = ChainFetch { engine, work: &work };
            engine.rollover.probe(&engine.settings.trust_anchors, validator, &fetch, engine.clock.now()).await;
        }
    }

    /// Looks after the trust anchors for as long as it is polled; ends when nothing is validated by them.
    pub async fn keep_anchors(&self) {
        if self.0.validator.is_none() {
            return;
        }
        while let Some(due) = self.0.rollover.next_probe() {
            // The wall clock may be set; look at it now and then.
            let left = due.saturating_sub(self.0.clock.now().wall).min(ANCHOR_NAP);
            tokio::time::sleep(Duration::from_secs(left)).await;
            self.probe_anchors().await;
        }
    }

    /// What is held and was done so far.
    pub fn statistics(&self) -> Statistics {
        let (records, record_bytes) = self.0.store.size();
        let mut validations = [0; 4];
        for (to, from) in validations.iter_mut().zip(&self.0.counters.validations) {
            *to = from.load(Relaxed);
        }
        Statistics {
            records,
            record_bytes,
            zones: self.0.delegations.len() as u64,
            servers: self.0.servers.len() as u64,
            validations,
        }
    }
}

impl Upstream for Recursor {
    fn resolve<'a>(&'a self, question: &'a Question, _now: Now) -> BoxFuture<'a, Resolution> {
        Box::pin(async move {
            self.0.prime_if_due();
            let work = Work::on(question, &self.0.settings.limits, self.0.settings.patience, false);
            self.0.answer(question, &work, Source::Any).await
        })
    }

    fn refresh<'a>(&'a self, question: &'a Question, _now: Now) -> BoxFuture<'a, Resolution> {
        Box::pin(async move {
            let work = Work::on(question, &self.0.settings.limits, self.0.settings.patience, false);
            self.0.answer(question, &work, Source::World).await
        })
    }

    fn name_servers(&self, name: &Name) -> NameServers {
        let Engine { delegations, routes, .. } = &*self.0;
        let mut found = NameServers::default();
        for zone in name.ancestors().take_while(|zone| zone.label_count() > 1) {
            let stub = routes.iter().find(|route| route.manner == Manner::Stub && *route.zone == *zone);
            for delegation in stub.cloned().into_iter().chain(delegations.get_expired(zone)) {
                delegation.tell(&mut found);
            }
        }
        found.names.sort_unstable();
        found.names.dedup();
        found.addresses.sort_unstable();
        found.addresses.dedup();
        found
    }
}

impl Engine {
    /// The families of addresses by which servers can be reached: IPv4, IPv6.
    fn families(&self) -> [bool; 2] {
        [self.settings.ipv4 || self.settings.nat64.is_some(), self.settings.ipv6]
    }

    /// Whether a server that somebody else has named may be asked (RFC 6890, RFC 5735).
    fn may_be_asked(&self, address: IpAddr) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        !within(&self.settings.deny_upstream)
            && (!special::is_special_purpose(address) || within(&self.settings.allow_upstream))
    }
}
