//! Asks the world: a question in, an answer and its security out.
//!
//! [`Upstream`] is the seam that the pipeline sees. Behind it, the engine
//! iterates from the root or forwards, [`dnssec`] judges what it brings, and
//! everything leaves and arrives through a [`Network`], which
//! a test can script.

//!
//! ```text
//! iterate      from a question to an answer, zone by zone
//! ask          the servers of one zone, until one of them answers
//! scrub        what a reply says, and what of it may be believed
//! delegation   which servers to ask about a zone
//! servers      what is known about each server
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
pub mod scrub;
pub mod servers;
pub mod settings;
mod special;
pub mod store;
pub mod transport;
pub mod work;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::time::timeout;

use crate::clock::{Clock, Now};
use crate::name::Name;
use crate::query::{ExtendedError, NameServers, Question, Rcode, RecordType};

use self::ask::Effort;
use self::delegation::{Delegation, Delegations, Manner};
use self::denial::Denials;
use self::dnssec::sentinel::{Sentinel, key_tag_query};
use self::dnssec::{Algorithms, Attempt, Fetch, FetchFailed, Rollover, StandardAlgorithms, Validation, Validator};
use self::flights::Flights;
use self::iterate::Source;
use self::message::{Message, RrSet};
use self::network::{Network, Protocol};
use self::servers::Servers;
use self::store::Store;
use self::work::{Failure, Path, Step, Work};

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

/// For how many seconds a failure is remembered (RFC 9520, section 3.2).
const FAILURE_TTL: u32 = 5;
/// For how many seconds it is remembered that an answer does not validate; the same bound limits floods.
const BOGUS_TTL: u32 = 30;
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
    priming: AtomicBool,
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
                let server = servers.at(delegation::standard(settings.way_to(*address)));
                hints.add_address(Some(name), server, Protocol::Udp);
            }
        }
        let hints = Arc::new(hints);
        let mut routes: Vec<_> =
            settings.routes.iter().map(|route| Arc::new(route.delegation(&servers, validate))).collect();
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
            priming: AtomicBool::new(false),
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
            self.prime_if_needed();
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

impl Recursor {
    /// Asks the root who serves it, in the background, when nobody has lately.
    ///
    /// Nothing waits for the reply, and an odd one changes nothing (RFC 8109, section 3).
    fn prime_if_needed(&self) {
        let engine = &self.0;
        if !engine.routes_named.load(Relaxed) && !engine.routes_named.swap(true, Relaxed) {
            for route in engine.routes.iter().filter(|route| !route.missing(engine.families()).is_empty()) {
                let (engine, route) = (engine.clone(), route.clone());
                tokio::spawn(async move { engine.find_route_servers(&route).await });
            }
        }
        let covered = engine.routes.iter().any(|route| route.zone.is_root());
        if covered || engine.root.load().expires > engine.clock.now().seconds() && engine.priming.load(Relaxed) {
            return;
        }
        if engine.root.load().expires <= engine.clock.now().seconds() {
            engine.root.store(engine.hints.clone());
            engine.priming.store(false, Relaxed);
        }
        if !engine.priming.swap(true, Relaxed) {
            let engine = engine.clone();
            tokio::spawn(async move { engine.prime().await });
        }
    }
}

impl Engine {
    /// Looks up the servers of a route that are known by name, while those with addresses work already.
    async fn find_route_servers(&self, route: &Arc<Delegation>) {
        let work = Work::new(&self.settings.limits, self.settings.patience, false);
        let path = Path::start(&route.zone, RecordType::NS);
        while let Ok(true) = self.find_server(&work, &path, route).await {}
    }

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
                    let server = self.servers.at(delegation::standard(self.settings.way_to(*address)));
                    root.add_address(Some(name), server, Protocol::Udp);
                }
            }
        }
        if !root.targets().is_empty() {
            self.root.store(Arc::new(root));
        }
        // Tells the root which of its keys are trusted; the answer does not matter (RFC 8145, section 5.1).
        if self.settings.signal_anchors
            && let Some(validator) = &self.validator
            && let Some(signal) = validator.anchors().of(Name::root()).and_then(|key| key_tag_query(Name::root(), key))
        {
            let null = RecordType::NULL;
            let _ = self.find(&work, &Path::inner(&signal, null), &signal, null, Source::World).await;
        }
    }

    /// Finds, validates and writes the answer.
    async fn answer(&self, question: &Question, work: &Work, source: Source) -> Resolution {
        let dns64 = self.settings.dns64.as_ref().filter(|dns64| dns64.concerns(question));
        // A translator's prefix may lie among the addresses whose reverse names lead nowhere.
        let is_ours = self.settings.special_names && !self.is_routed(&question.name);
        if is_ours
            && (dns64.is_none() || question.qtype != RecordType::PTR)
            && let Some(local) = special::answer(question)
        {
            return local;
        }
        // What is seldom needed is boxed, and what is large is pinned where it stands: every question would carry it.
        let found = std::pin::pin!(async {
            match dns64 {
                Some(dns64) => Box::pin(self.translated(dns64, question, work, source)).await,
                None => self.proven(question, work, source).await,
            }
        });
        let found = timeout(self.settings.patience, found).await.unwrap_or(Err(Failure::Late));
        let mut resolution = match found {
            Ok((message, validation)) => self.write(question, message, validation),
            Err(failure) => Resolution::empty(question, Rcode::SERVFAIL, FAILURE_TTL, vec![failure.extended_error()]),
        };
        resolution.errors.extend(work.remarks());
        Resolution { particular: dns64.is_some(), ..resolution }
    }

    /// The answer and what is proven of it; asks once more when it does not validate.
    pub(super) async fn proven(
        &self,
        question: &Question,
        work: &Work,
        source: Source,
    ) -> Result<(Message, Option<Validation>), Failure> {
        let path = Path::start(&question.name, question.qtype);
        let fetch = ChainFetch { engine: self, work };
        let validator = self.validator.as_ref().filter(|_| !question.checking_disabled);
        if let Some(validator) = validator.filter(|_| self.settings.aggressive_denial && source == Source::Any)
            && self.recall(work, &path, &question.name, question.qtype).is_none()
            && let Some(message) = self.denials.answer(&question.name, question.qtype, self.clock.now())
        {
            let validation = validator.validate(question, &message, &fetch, self.clock.now()).await;
            if validation.security == Security::Secure && validation.rcode == message.rcode {
                self.counters.validations[validation.security.index()].fetch_add(1, Relaxed);
                return Ok((message, Some(validation)));
            }
        }
        let mut message = self.find(work, &path, &question.name, question.qtype, source).await?;
        let Some(validator) = validator else { return Ok((message, None)) };
        let mut validation = validator.validate(question, &message, &fetch, self.clock.now()).await;
        if validation.security == Security::Bogus {
            // One server may be broken or behind; the next may not.
            if let Ok(again) = Box::pin(self.find_again(work, &path, question, &message)).await {
                let judged = validator.validate(question, &again, &fetch, self.clock.now()).await;
                if judged.security != Security::Bogus {
                    (message, validation) = (again, judged);
                }
            }
        }
        self.counters.validations[validation.security.index()].fetch_add(1, Relaxed);
        self.remember(question, &message, &validation);
        Ok((message, Some(validation)))
    }

    /// Asks anew for every part of a chain that did not validate.
    async fn find_again(
        &self,
        work: &Work,
        path: &Path<'_>,
        question: &Question,
        bogus: &Message,
    ) -> Result<Message, Failure> {
        for set in &bogus.answer {
            self.forget(work, &set.name, set.rtype);
        }
        if let Some(last) = bogus.answer.iter().rev().find(|set| set.rtype == RecordType::CNAME) {
            for target in last.targets() {
                self.forget(work, &target, question.qtype);
            }
        }
        self.find(work, path, &question.name, question.qtype, Source::Other).await
    }

    /// Notes in the store what validation has found out.
    fn remember(&self, question: &Question, message: &Message, validation: &Validation) {
        let now = self.clock.now();
        for proven in &validation.denials {
            // A proof holds for no longer than the denial that it came with (RFC 9077, section 3).
            let holds = scrub::negative_ttl(&message.authority).unwrap_or(proven.set.ttl);
            self.denials.put_for(&proven.zone, &proven.set, holds, now);
            let soa = |set: &&RrSet| set.rtype == RecordType::SOA && set.name == proven.zone;
            if let Some(soa) = message.authority.iter().find(soa).filter(|_| validation.security == Security::Secure) {
                self.denials.put(&proven.zone, soa, now);
            }
        }
        for (set, status) in message.answer.iter().zip(&validation.answer) {
            self.store.judge(&set.name, set.rtype, status.security, status.ttl, now);
        }
        let last = message.answer.iter().rev().find_map(|set| match set.rtype {
            RecordType::CNAME => set.targets().next(),
            _ => None,
        });
        let last = last.as_ref().map_or(&*question.name, |last| last);
        if !message.answer.iter().any(|set| set.rtype == question.qtype) {
            let ttl = validation.authority.iter().map(|status| status.ttl).min().unwrap_or_default();
            self.store.judge(last, question.qtype, validation.security, ttl, now);
            if validation.rcode != message.rcode {
                self.store.remove(last, question.qtype);
            }
        }
    }

    /// Writes a found answer out.
    fn write(&self, question: &Question, mut message: Message, validation: Option<Validation>) -> Resolution {
        let mut security = Security::Indeterminate;
        let mut errors = Vec::new();
        if let Some(validation) = validation {
            security = validation.security;
            errors = validation.errors;
            if security == Security::Bogus {
                let mut bogus = Resolution::empty(question, Rcode::SERVFAIL, BOGUS_TTL, errors);
                bogus.security = security;
                return bogus;
            }
            let sentinel = Sentinel::of(&question.name, question.qtype).filter(|_| security == Security::Secure);
            if let (Some(sentinel), Some(validator)) = (sentinel, &self.validator)
                && sentinel.fails(&validator.anchors())
            {
                let text = "what the name claims of a key of the root is not so here (RFC 8509)";
                let untrue = ExtendedError::new(ExtendedError::BOGUS, text);
                return Resolution::empty(question, Rcode::SERVFAIL, FAILURE_TTL, vec![untrue]);
            }
            message.rcode = validation.rcode;
            for (set, status) in message.answer.iter_mut().zip(&validation.answer) {
                set.ttl = set.ttl.min(status.ttl);
            }
            for (set, status) in message.authority.iter_mut().zip(&validation.authority) {
                set.ttl = set.ttl.min(status.ttl);
            }
        }
        if self.settings.rebinding_protection && !self.is_private(&question.name) {
            message.answer.iter_mut().for_each(special::drop_private_addresses);
            message.answer.retain(|set| !set.rdata.is_empty());
        }
        let least = message.answer.iter().chain(&message.authority).map(|set| set.ttl).min();
        let ttl = if self.is_kept(&question.name) { least.unwrap_or(FAILURE_TTL) } else { 0 };
        let (answer, authority) = (message.answer.iter(), message.authority.iter());
        let octets = message::write_answer(
            (&question.name, question.qtype),
            message.rcode,
            answer,
            authority,
            question.dnssec_ok,
        );
        let is_proof = |set: &RrSet| message::is_proof(set.rtype) || !set.signatures.is_empty();
        let stripped = !question.dnssec_ok && message.sets().any(is_proof);
        Resolution { rcode: message.rcode, message: octets, security, ttl, errors, particular: false, stripped }
    }

    /// Whether the operator has said where questions for `name` go; then no special name is ours to answer.
    fn is_routed(&self, name: &Name) -> bool {
        self.routes.iter().any(|route| !route.zone.is_root() && name.is_at_or_below(&route.zone))
    }

    /// Whether answers about `name` may be kept.
    fn is_kept(&self, name: &Name) -> bool {
        self.routes.iter().find(|route| name.is_at_or_below(&route.zone)).is_none_or(|route| route.cache)
    }

    /// Whether `name` may have private addresses.
    fn is_private(&self, name: &Name) -> bool {
        self.settings.private_domains.iter().any(|domain| name.is_at_or_below(domain))
    }

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

/// Brings the validator its keys and delegations, within the allowance of the question.
struct ChainFetch<'a> {
    engine: &'a Engine,
    work: &'a Work,
}

impl Fetch for ChainFetch<'_> {
    fn fetch<'a>(
        &'a self,
        name: &'a Name,
        rtype: RecordType,
        attempt: Attempt,
    ) -> BoxFuture<'a, Result<Arc<Message>, FetchFailed>> {
        Box::pin(async move {
            let source = match attempt {
                Attempt::First => Source::Any,
                Attempt::Again => Source::Other,
                Attempt::Fresh => Source::World,
            };
            let path = Path::inner(name, rtype);
            match self.engine.find(self.work, &path, name, rtype, source).await {
                Ok(message) if rtype == RecordType::DS && message.answer.iter().any(|set| set.rtype != rtype) => {
                    let referral = self.engine.refer(self.work, &path, name).await;
                    Ok(Arc::new(referral.unwrap_or(message)))
                }
                Ok(message) => Ok(Arc::new(message)),
                Err(failure) => Err(FetchFailed { errors: vec![failure.extended_error()] }),
            }
        })
    }
}

impl settings::Route {
    /// The route as servers to ask; `validate` says whether we judge for ourselves what they say.
    fn delegation(&self, servers: &Servers, validate: bool) -> Delegation {
        let manner = match self.kind {
            settings::RouteKind::Forward => Manner::Forward,
            settings::RouteKind::Stub => Manner::Stub,
        };
        let servers = |checking_disabled, cache| {
            let mut delegation = Delegation::new(&self.zone, manner, u32::MAX);
            delegation.fall_back = self.fall_back;
            delegation.cache = cache;
            delegation.checking_disabled = checking_disabled;
            for name in &self.names {
                delegation.add_name(name.clone(), false);
            }
            for server in &self.to {
                delegation.add_address(None, servers.at(server.address), server.protocol.clone());
            }
            delegation
        };
        let forward = manner == Manner::Forward;
        // What nobody has validated is not for those who want it validated.
        let unchecked = (forward && !validate).then(|| Arc::new(servers(true, false)));
        let mut delegation = servers(forward && validate, self.cache);
        delegation.unchecked = unchecked;
        delegation
    }
}
