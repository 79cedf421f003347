//! The way of a query, written out once: policy, cache, resolver, filter, answer.
//!
//! [`Pipeline::answer`] does all that needs no waiting, on the thread that has
//! received the query; who has received several takes its steps for all of them
//! together. [`Pipeline::ask`] does the rest. Neither counts or logs: an
//! [`Outcome`] says what happened, and the front hands it to a [`Recorder`].

mod outcome;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod world;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::answer::cookie::{Cookie, Jar};
use crate::answer::{self, Alias, Asked, Errors, Form, Subject, Writer, Written};
use crate::cache::{self, Answer, Cache, Found, Key, Spot};
use crate::clock::{Clock, Now};
use crate::filter::{self, Findings};
use crate::name::{DomainName, MAX_NAME_LEN, Name};
use crate::policy::{self, ActionRef, Hit, Policy, Trigger, Verdict};
use crate::query::{Class, Client, ExtendedError, Question, Rcode, RecordType};
use crate::recursor::Upstream;
use crate::wire::{Edns, Header, Request, RequestError};

pub use outcome::{DropReason, Lookup, Match, Outcome, Recorder, Source, Writers};
pub use settings::{AnyQueries, NonRecursive, Patience, Settings};

use world::World;

/// A message that has come, as far as it was read and what lists have about its name was looked up.
#[derive(Debug)]
pub struct Arrival<'a> {
    client: Client,
    request: Result<Request<'a>, RequestError>,
    /// The rules about the name.
    found: policy::Found<'a>,
    /// Where the cache has answers, if that is known.
    spot: Option<Spot<'a>>,
}

impl<'a> Arrival<'a> {
    /// Reads a message; `buffer` takes the name that it asks for.
    #[inline]
    pub fn read(message: &'a [u8], client: Client, buffer: &'a mut [u8; MAX_NAME_LEN]) -> Self {
        let request = Request::read(message, buffer);
        Self { client, request, found: policy::Found::default(), spot: None }
    }

    /// The name that it asks for, and the type; the root, if it is no query.
    fn asked(&self) -> (&'a Name, RecordType) {
        self.request.as_ref().map_or((Name::root(), RecordType(0)), |request| (request.name, request.qtype))
    }
}

/// What becomes of a query on the thread that received it.
#[derive(Debug)]
pub enum Step {
    /// It is done with. The reply is written; an empty one is not sent.
    Done(Outcome),
    /// It is no query that deserves an answer.
    Drop(DropReason),
    /// The world must be asked: [`Pipeline::ask`].
    Ask(Box<Pending>),
}

/// A query that waits for the world.
#[derive(Debug)]
pub struct Pending {
    client: Client,
    header: Header,
    /// As sent.
    question: SmallVec<[u8; 64]>,
    edns: Option<Edns>,
    cookie: Option<Cookie>,
    /// What the world is to be asked.
    subject: Question,
    ruling: Ruling,
    in_force: Arc<InForce>,
    now: Now,
    outcome: Outcome,
}

/// After how long without an answer rules about name servers are asked whether to wait for them at all.
const SILENCE: Duration = Duration::from_millis(500);

/// What the rules about the question have said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    /// Nothing.
    Open,
    /// It passes, and with it all of its answer.
    Allowed,
    /// It is redirected.
    Redirected,
    /// Something, unless a rule about the answer says otherwise.
    AwaitsAnswer,
}

/// The stages of an answer, in their order.
pub struct Pipeline {
    settings: Settings,
    jar: Jar,
    policy: ArcSwap<InForce>,
    world: Arc<World>,
}

/// A policy, and the how manieth it is.
#[derive(Debug)]
struct InForce {
    policy: Arc<Policy>,
    number: u32,
}

/// What queries that came together have in common: one policy, even if a reload lands in the midst of them, and the time.
///
/// To be let go when they are done with: it keeps the lists in memory.
#[derive(Debug)]
pub struct View {
    in_force: Guard<Arc<InForce>>,
    now: Now,
}

/// A query on its way: what its stages need to know.
#[derive(Clone, Copy)]
struct Query<'q> {
    asked: &'q Asked<'q>,
    name: &'q Name,
    qtype: RecordType,
    client: &'q Client,
    dnssec_ok: bool,
    checking_disabled: bool,
    ruling: Ruling,
    in_force: &'q Arc<InForce>,
    now: Now,
}

/// An answer that has been put into the reply, and how it was come by.
struct Served {
    answer: Answer,
    source: Source,
    /// The Extended DNS Error that says so, behind those of the answer.
    error: Option<u16>,
}

/// What has become of a query that a rule may speak about.
enum Course<'q> {
    /// It goes on: none does, or it lets the query pass.
    Open,
    /// It is done with.
    Done,
    /// The rule sends the client elsewhere, and the world must be asked about that.
    Redirected(Redirect<'q>),
}

/// Where a rule sends a client.
struct Redirect<'q> {
    hit: Hit<'q>,
    target: DomainName,
    /// What leads to the name that the rule is about.
    aliases: Vec<Alias>,
}

/// Why there is nothing to send.
enum Unserved {
    /// Too much is being asked already.
    Overload,
    /// The client would not wait any longer, or the resolver has failed.
    NoAnswer,
}

impl Pipeline {
    /// Puts the stages together. Must be called within a tokio runtime, on which it asks the world.
    pub fn new(settings: Settings, upstream: Arc<dyn Upstream>, policy: Policy, clock: Clock) -> Arc<Self> {
        let cache = Cache::new(settings.cache.clone());
        let world = World::new(cache, clock, upstream, settings.patience.max_in_flight);
        let policy = ArcSwap::from_pointee(InForce { policy: Arc::new(policy), number: 1 });
        let jar = Jar::new(settings.answer.cookies.clone());
        Arc::new(Self { settings, jar, policy, world })
    }

    /// The policy of the moment, for queries that came together.
    pub fn view(&self, now: Now) -> View {
        View { in_force: self.policy.load(), now }
    }

    /// Answers one query without waiting, or says that the world must be asked.
    ///
    /// Who receives many at once takes the steps for all of them together: [`Arrival::read`],
    /// [`look_up_all`](Self::look_up_all), [`respond`](Self::respond).
    pub fn answer(&self, message: &[u8], client: Client, view: &View, reply: &mut Vec<u8>) -> Step {
        let mut name = [0; MAX_NAME_LEN];
        let mut arrival = Arrival::read(message, client, &mut name);
        arrival.found = view.in_force.policy.find(arrival.asked().0);
        self.respond(&arrival, view, reply)
    }

    /// Looks up what lists have about the names of all `arrivals`. They wait for memory together, for what the cache has
    /// too.
    pub fn look_up_all<'a>(&'a self, view: &'a View, arrivals: &mut [Arrival<'a>], room: &mut policy::Room) {
        let (cache, policy) = (&self.world.cache, &view.in_force.policy);
        policy.find_all(arrivals.iter().map(|arrival| arrival.asked().0), room);
        for (at, piece) in policy.found_all(room) {
            arrivals[at].found.add(piece);
        }
        for arrival in arrivals.iter_mut().filter(|arrival| arrival.found.is_empty()) {
            let (name, qtype) = arrival.asked();
            let spot = cache.spot(name, qtype);
            spot.fetch_ahead();
            arrival.spot = Some(spot);
        }
        arrivals.iter().filter_map(|arrival| arrival.spot).for_each(Spot::fetch_answer_ahead);
    }

    /// Answers a query that has been read and looked up, or says that the world must be asked.
    ///
    /// The order of the stages is what the product does, so it is written out here and nowhere else. Runs on the
    /// receiving thread: no await, no lock that is held for long, and no allocation but for a query that must wait, or the
    /// errors that come with a cached failure. `reply` is cleared, then holds the reply; it stays empty when there is none
    /// yet.
    pub fn respond(&self, arrival: &Arrival<'_>, view: &View, reply: &mut Vec<u8>) -> Step {
        let View { in_force, now } = view;
        let Arrival { client, request, found, spot } = arrival;
        let (now, client) = (*now, *client);
        reply.clear();
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.reject(*error, client, reply),
        };
        let mut outcome = Outcome::new(client, request.qtype);
        let cookie = match request.cookie {
            [] => None,
            sent => self.jar.cookie(sent, client.ip(), now.wall),
        };
        outcome.cookie = cookie.as_ref().map(|cookie| cookie.standing);
        let asked = &Asked::new(request, cookie.as_ref(), client.transport);
        if let Some(written) = self.answer_in_person(asked, request, reply) {
            return Step::Done(outcome.end(Source::Local, written));
        }

        let (name, qtype) = (request.name, request.qtype);
        let mut query = Query {
            asked,
            name,
            qtype,
            client: &client,
            dnssec_ok: asked.edns.is_some_and(|edns| edns.dnssec_ok),
            checking_disabled: self.settings.validating && asked.header.has(Header::CD),
            ruling: Ruling::Open,
            in_force,
            now,
        };
        let judgement = in_force.policy.judge_by((name, found), qtype, Trigger::Qname, client.ip(), now);
        outcome.note(judgement.protected, &judgement.shadow);
        match judgement.verdict {
            Verdict::Pass => {}
            _ if judgement.awaits_answer => query.ruling = Ruling::AwaitsAnswer,
            Verdict::Allow(hit) => {
                outcome.hit = Some(Match::of(&hit));
                query.ruling = Ruling::Allowed;
            }
            Verdict::Block(hit) => match self.rule(&query, hit, Vec::new(), &mut outcome, reply) {
                Course::Done => return Step::Done(outcome),
                Course::Redirected(_) => {
                    query.ruling = Ruling::Redirected;
                    return Step::Ask(Box::new(Pending::new(&query, outcome)));
                }
                Course::Open => query.ruling = Ruling::Allowed,
            },
        }

        let settings = &self.settings;
        if qtype == RecordType::ANY && settings.any == AnyQueries::Minimal && query.ruling != Ruling::AwaitsAnswer {
            return Step::Done(outcome.end(Source::Local, answer::minimal_any(&settings.answer, asked, reply)));
        }
        let recursive = asked.header.has(Header::RD);
        if !recursive && settings.non_recursive == NonRecursive::Refuse {
            return self.without_recursion(&query, outcome, reply);
        }

        // The cache lies below the filter: it keeps what the world said, and each hit is judged by the lists of today.
        answer::begin(asked, reply);
        let spot = spot.unwrap_or_else(|| self.world.cache.spot(name, qtype));
        let served = match self.world.cache.find_at(spot, query.key(), now, reply) {
            Some(Found::Fresh { answer, wants_refresh }) => {
                outcome.lookup = Lookup::Hit;
                Some(self.in_time(answer, wants_refresh, || query.subject()))
            }
            Some(Found::Stale(answer)) => {
                outcome.lookup = Lookup::Stale;
                self.without_waiting(&query, answer, recursive)
            }
            None => {
                outcome.lookup = Lookup::Miss;
                None
            }
        };
        match served {
            Some(served) => match self.deliver(&query, &served, &mut outcome, reply) {
                Course::Redirected(_) => Step::Ask(Box::new(Pending::new(&query, outcome))),
                Course::Done | Course::Open => Step::Done(outcome),
            },
            None if !recursive => self.without_recursion(&query, outcome, reply),
            None => {
                reply.clear();
                Step::Ask(Box::new(Pending::new(&query, outcome)))
            }
        }
    }

    /// Asks the world what [`answer`](Self::answer) could not find, keeps it, and judges it the same way.
    ///
    /// Ends within [`Patience::client_timeout`]. Writes the reply; an empty one is not sent.
    pub async fn ask(&self, pending: Box<Pending>, reply: &mut Vec<u8>) -> Outcome {
        let deadline = Instant::now() + self.settings.patience.client_timeout;
        let asked = pending.asked();
        let query = pending.query(&asked);
        let mut outcome = pending.outcome.clone();

        let mut course = Course::Open;
        let mut unserved = Unserved::NoAnswer;
        // Name servers that rules are about may well be known before they have answered, if they ever do.
        let early = Instant::now() + SILENCE;
        let early = Some(early).filter(|early| query.in_force.policy.judges_name_servers() && *early < deadline);
        for until in early.into_iter().chain([deadline]) {
            if query.ruling != Ruling::Redirected {
                answer::begin(&asked, reply);
                match self.obtain(&pending.subject, until, reply).await {
                    Ok(served) => course = self.deliver(&query, &served, &mut outcome, reply),
                    Err(reason) => unserved = reason,
                }
            }
            if matches!(course, Course::Open) {
                course = self.settle(&query, &mut outcome, reply);
            }
            if !matches!((&course, &unserved), (Course::Open, Unserved::NoAnswer)) {
                break;
            }
        }
        match course {
            Course::Open => self.give_up(query.asked, unserved, outcome, reply),
            Course::Done => outcome,
            Course::Redirected(redirect) => {
                self.redirect(&query, redirect, deadline, &mut outcome, reply).await;
                outcome
            }
        }
    }

    /// Both in one, for whoever has no thread to spare: `None` when there is nothing to send.
    pub async fn handle(&self, request: &[u8], client: Client) -> Option<Vec<u8>> {
        let mut reply = Vec::new();
        let step = self.answer(request, client, &self.view(self.now()), &mut reply);
        if let Step::Ask(pending) = step {
            self.ask(pending, &mut reply).await;
        }
        (!reply.is_empty()).then_some(reply)
    }

    /// Tells a client that is not served so: REFUSED, with the reason (RFC 8914, section 4.19).
    pub fn prohibit(&self, request: &[u8], client: Client, reply: &mut Vec<u8>) -> Step {
        match Request::read(request, &mut [0; MAX_NAME_LEN]) {
            Ok(request) => {
                let cookie = self.jar.cookie(request.cookie, client.ip(), self.now().wall);
                let asked = &Asked::new(&request, cookie.as_ref(), client.transport);
                let errors = Errors::one(ExtendedError::PROHIBITED, "");
                let written = answer::error(&self.settings.answer, asked, Rcode::REFUSED, errors, reply);
                Step::Done(Outcome::new(client, request.qtype).end(Source::Error, written))
            }
            Err(error) => self.reject(error, client, reply),
        }
    }

    /// Serves a client whose question cannot be asked now, because too much is waiting: with an answer that has come
    /// meanwhile, one past its time (RFC 8767, section 5), or else the reason why there is none.
    pub fn shed(&self, pending: Box<Pending>, reply: &mut Vec<u8>) -> Outcome {
        let asked = pending.asked();
        let query = pending.query(&asked);
        let mut outcome = pending.outcome.clone();
        answer::begin(&asked, reply);
        let found = || self.world.cache.find(query.key(), query.now, reply);
        let served = match (query.ruling != Ruling::Redirected).then(found).flatten() {
            Some(Found::Fresh { answer, wants_refresh }) => {
                Some(self.in_time(answer, wants_refresh, || query.subject()))
            }
            Some(Found::Stale(answer)) => Some(Served::stale(answer)),
            None => None,
        };
        if let Some(served) = served
            && let Course::Done = self.deliver(&query, &served, &mut outcome, reply)
        {
            return outcome;
        }
        self.give_up(&asked, Unserved::Overload, outcome, reply)
    }

    /// Puts another policy in force; queries under way end with the one that they began with.
    pub fn replace_policy(&self, policy: Policy) {
        let policy = Arc::new(policy);
        self.policy.rcu(|old| InForce { policy: policy.clone(), number: old.number.wrapping_add(1) });
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load().policy.clone()
    }

    /// Forgets what the cache has of `name`, with `below` also of all names below it, and says how many answers.
    pub fn flush(&self, name: &Name, below: bool) -> usize {
        self.world.cache.flush(name, below)
    }

    /// How full the cache is.
    pub fn cache_statistics(&self) -> cache::Statistics {
        self.world.cache.statistics()
    }

    /// What time the pipeline believes it is.
    pub fn now(&self) -> Now {
        self.world.clock.now()
    }

    /// Waits until nothing is being asked of the world any more.
    pub async fn drain(&self) {
        self.world.drain().await;
    }

    /// Meets what is no query with an error code or with silence.
    fn reject(&self, error: RequestError, client: Client, reply: &mut Vec<u8>) -> Step {
        reply.clear();
        match error {
            RequestError::Short => Step::Drop(DropReason::Malformed),
            RequestError::Response => Step::Drop(DropReason::Response),
            RequestError::Faulty { header, rcode } => {
                let asked = &Asked::unread(header, client.transport);
                let written = answer::error(&self.settings.answer, asked, rcode, Errors::NONE, reply);
                Step::Done(Outcome::new(client, RecordType(0)).end(Source::Error, written))
            }
        }
    }

    /// Answers what is not a question about the names of the Internet.
    fn answer_in_person(&self, asked: &Asked<'_>, request: &Request<'_>, reply: &mut Vec<u8>) -> Option<Written> {
        let settings = &self.settings.answer;
        if asked.edns.is_some_and(|edns| edns.version > 0) {
            return Some(answer::error(settings, asked, Rcode::BADVERS, Errors::NONE, reply));
        }
        // RFC 7873, section 5.2.3. Who comes by a stream has shown its address already.
        if asked.transport.is_datagram() && asked.cookie.is_some_and(|cookie| self.jar.is_wanting(cookie)) {
            return Some(answer::error(settings, asked, Rcode::BADCOOKIE, Errors::NONE, reply));
        }
        let rcode = match (request.class, request.qtype) {
            (Class::CH, _) => return Some(answer::chaos(settings, asked, request, reply)),
            (Class::IN, RecordType::AXFR | RecordType::IXFR) => Rcode::REFUSED,
            // What is no type of data cannot be asked for (RFC 6895, section 3.1).
            (Class::IN, RecordType::OPT | RecordType::MAILA | RecordType::MAILB) => Rcode::FORMERR,
            (Class::IN, RecordType(128..=250)) => Rcode::FORMERR,
            (Class::IN, _) => return None,
            _ => Rcode::REFUSED,
        };
        let errors = Errors::one(ExtendedError::NOT_SUPPORTED, "");
        Some(answer::error(settings, asked, rcode, errors, reply))
    }

    /// Tells a client that it must set RD (RFC 8914, section 4.21).
    fn refuse_recursion(&self, asked: &Asked<'_>, reply: &mut Vec<u8>) -> Written {
        let errors = Errors::one(ExtendedError::NOT_AUTHORITATIVE, "");
        answer::error(&self.settings.answer, asked, Rcode::REFUSED, errors, reply)
    }

    /// Does what a blocking rule says about the name in the question, or one that `aliases` lead to from there.
    fn rule<'q>(
        &self,
        query: &Query<'q>,
        hit: Hit<'q>,
        aliases: Vec<Alias>,
        outcome: &mut Outcome,
        reply: &mut Vec<u8>,
    ) -> Course<'q> {
        outcome.hit = Some(Match::of(&hit));
        let subject = Subject::new(query.name, query.qtype, &aliases);
        match answer::blocked(&self.settings.answer, query.asked, subject, &hit, reply) {
            Form::Written(written) => {
                outcome.set(Source::Policy, written);
                Course::Done
            }
            Form::Silence => {
                reply.clear();
                outcome.source = Source::Policy;
                outcome.dropped = Some(DropReason::Policy);
                Course::Done
            }
            // What has been begun is not for sending.
            Form::Alias(target) => {
                reply.clear();
                Course::Redirected(Redirect { hit, target, aliases })
            }
            Form::Pass => Course::Open,
        }
    }

    /// Does what rules say when there is no answer: those about the question that have waited for one, and those about
    /// its name servers.
    fn settle<'q>(&self, query: &Query<'q>, outcome: &mut Outcome, reply: &mut Vec<u8>) -> Course<'q> {
        let Query { name, qtype, client, now, in_force, .. } = *query;
        let judgement = match query.ruling {
            Ruling::Allowed => return Course::Open,
            Ruling::Open if !in_force.policy.judges_answers() => return Course::Open,
            Ruling::Redirected => in_force.policy.judge(name, qtype, Trigger::Qname, client.ip(), now),
            Ruling::Open | Ruling::AwaitsAnswer => self.judge(query, &[]).judgement,
        };
        outcome.note(judgement.protected, &judgement.shadow);
        match judgement.verdict {
            Verdict::Block(hit) => self.rule(query, hit, Vec::new(), outcome, reply),
            Verdict::Allow(hit) => {
                outcome.hit = Some(Match::of(&hit));
                Course::Open
            }
            Verdict::Pass => Course::Open,
        }
    }

    /// Ends a query without RD that the cache has no answer for.
    fn without_recursion(&self, query: &Query<'_>, mut outcome: Outcome, reply: &mut Vec<u8>) -> Step {
        match self.settle(query, &mut outcome, reply) {
            Course::Open => Step::Done(outcome.end(Source::Error, self.refuse_recursion(query.asked, reply))),
            Course::Done => Step::Done(outcome),
            Course::Redirected(_) => {
                let redirected = Query { ruling: Ruling::Redirected, ..*query };
                Step::Ask(Box::new(Pending::new(&redirected, outcome)))
            }
        }
    }

    /// Whether policy has to look at an answer.
    fn is_to_be_judged(&self, query: &Query<'_>, answer: &Answer) -> bool {
        let InForce { policy, number } = &**query.in_force;
        match query.ruling {
            Ruling::Allowed => false,
            Ruling::AwaitsAnswer => true,
            _ => (answer.leads_on() || policy.judges_answers()) && !answer.has_passed(*number, query.now),
        }
    }

    /// Judges what the world has said to a query.
    fn judge<'q>(&self, query: &Query<'q>, message: &[u8]) -> Findings<'q> {
        let Query { name, qtype, client, in_force, now, .. } = *query;
        let mut name_servers = Vec::new();
        if in_force.policy.judges_name_servers() {
            name_servers.push(self.world.name_servers(name));
            name_servers.extend(filter::aliases(message).map(|alias| self.world.name_servers(&alias.target)));
        }
        let translator = self.settings.answer.translator;
        filter::judge(&in_force.policy, (message, &name_servers), translator, (name, qtype), client.ip(), now)
    }

    /// Judges the answer that has been put into the reply and ends the reply, or says where a rule redirects the client
    /// because of the answer.
    fn deliver<'q>(
        &self,
        query: &Query<'q>,
        served: &Served,
        outcome: &mut Outcome,
        reply: &mut Vec<u8>,
    ) -> Course<'q> {
        let Query { in_force, now, .. } = *query;
        let answer = &served.answer;
        if self.is_to_be_judged(query, answer) {
            let Findings { judgement, behind, translated } = self.judge(query, reply);
            outcome.note(judgement.protected, &judgement.shadow);
            match judgement.verdict {
                Verdict::Block(mut hit) => {
                    if translated && hit.action == ActionRef::NxDomain {
                        // That there is no IPv4 address says that none can be made of it, and no more.
                        hit.action = ActionRef::NoData;
                    }
                    let shown = if hit.shows_aliases() { behind } else { 0 };
                    let aliases: Vec<Alias> = filter::aliases(reply).take(shown).collect();
                    match self.rule(query, hit, aliases, outcome, reply) {
                        Course::Open => {}
                        course => return course,
                    }
                }
                Verdict::Allow(hit) => outcome.hit = Some(Match::of(&hit)),
                Verdict::Pass if judgement.shadow.is_empty() && !judgement.protected => {
                    self.world.cache.pass(answer, in_force.number, now);
                }
                Verdict::Pass => {}
            }
        }
        let writer = Writer::with_answer(&self.settings.answer, query.asked, answer, reply);
        outcome.security = Some(answer.security());
        outcome.set(served.source, writer.finish(Errors::kept(answer, served.error)));
        Course::Done
    }

    /// Answers with an alias of a rule's, and with what the world says about its target, which is not judged.
    async fn redirect(
        &self,
        query: &Query<'_>,
        redirect: Redirect<'_>,
        deadline: Instant,
        outcome: &mut Outcome,
        reply: &mut Vec<u8>,
    ) {
        let Redirect { hit, target, aliases } = redirect;
        let settings = &self.settings.answer;
        let subject = Subject::new(query.name, query.qtype, &aliases);
        let question = Question { name: target.clone(), dnssec_ok: false, ..query.subject() };
        let mut found = Vec::new();
        answer::begin(&Asked { question: &question.to_wire(), ..*query.asked }, &mut found);
        let written = match self.obtain(&question, deadline, &mut found).await {
            Ok(Served { answer, .. }) => {
                let found = (answer.rcode(), &found[..]);
                answer::redirected(settings, query.asked, subject, (&hit, &target), found, reply).ok()
            }
            Err(_) => None,
        };
        let failed = || answer::error(settings, query.asked, Rcode::SERVFAIL, Errors::NONE, reply);
        outcome.set(Source::Policy, written.unwrap_or_else(failed));
    }

    /// Puts the answer to `subject` into `reply`, which has been begun: from the cache, from the world, or from the cache
    /// past its time.
    async fn obtain(&self, subject: &Question, deadline: Instant, reply: &mut Vec<u8>) -> Result<Served, Unserved> {
        let stale = match self.world.cache.find(Key::from(subject), self.now(), reply) {
            // It has come meanwhile.
            Some(Found::Fresh { answer, wants_refresh }) => {
                return Ok(self.in_time(answer, wants_refresh, || subject.clone()));
            }
            Some(Found::Stale(answer)) => Some(answer),
            None => None,
        };
        let Some(landing) = self.world.ask(subject) else {
            return stale.map(Served::stale).ok_or(Unserved::Overload);
        };
        // Who can be helped otherwise need not wait to the end (RFC 8767, section 5).
        let patience = stale.as_ref().map(|_| Instant::now() + self.settings.cache.stale.client_timer);
        let until = patience.map_or(deadline, |patience| patience.min(deadline));
        match (landing.entry(until).await, stale) {
            (Some(entry), Some(stale)) if !entry.is_answer() => Ok(Served::stale(stale)),
            (Some(entry), _) => Ok(Served { answer: entry.put(reply), source: Source::Upstream, error: None }),
            (None, Some(stale)) => Ok(Served::stale(stale)),
            (None, None) => Err(Unserved::NoAnswer),
        }
    }

    /// An answer whose time is not over; asks for the next one if that is wanted.
    fn in_time(&self, answer: Answer, wants_refresh: bool, subject: impl FnOnce() -> Question) -> Served {
        if wants_refresh {
            self.world.renew(&subject());
        }
        Served::cached(answer)
    }

    /// An answer past its time that is sent at once: to those who cannot wait, and when waiting has been in vain.
    fn without_waiting(&self, query: &Query<'_>, answer: Answer, recursive: bool) -> Option<Served> {
        let in_vain = answer.has_failed_lately(query.now);
        if recursive && !in_vain && !self.settings.cache.stale.client_timer.is_zero() {
            return None;
        }
        if !in_vain {
            self.world.ask(&query.subject());
        }
        Some(Served::stale(answer))
    }

    /// SERVFAIL, and why.
    fn give_up(&self, asked: &Asked<'_>, reason: Unserved, mut outcome: Outcome, reply: &mut Vec<u8>) -> Outcome {
        let errors = match reason {
            Unserved::Overload => {
                outcome.dropped = Some(DropReason::Overload);
                Errors::one(ExtendedError::NETWORK_ERROR, "too many queries are waiting")
            }
            Unserved::NoAnswer => Errors::one(ExtendedError::NO_REACHABLE_AUTHORITY, "no answer in time"),
        };
        let written = answer::error(&self.settings.answer, asked, Rcode::SERVFAIL, errors, reply);
        outcome.end(Source::Error, written)
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("settings", &self.settings).field("cache", &self.world.cache).finish()
    }
}

impl Pending {
    fn new(query: &Query<'_>, outcome: Outcome) -> Self {
        Self {
            client: *query.client,
            header: query.asked.header,
            question: SmallVec::from_slice(query.asked.question),
            edns: query.asked.edns,
            cookie: query.asked.cookie.copied(),
            subject: query.subject(),
            ruling: query.ruling,
            in_force: query.in_force.clone(),
            now: query.now,
            outcome,
        }
    }

    /// Who asks.
    pub fn client(&self) -> Client {
        self.client
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            header: self.header,
            question: &self.question,
            edns: self.edns,
            cookie: self.cookie.as_ref(),
            transport: self.client.transport,
        }
    }

    fn query<'q>(&'q self, asked: &'q Asked<'q>) -> Query<'q> {
        let Self { client, subject, ruling, in_force, now, .. } = self;
        Query {
            asked,
            name: &subject.name,
            qtype: subject.qtype,
            client,
            dnssec_ok: subject.dnssec_ok,
            checking_disabled: subject.checking_disabled,
            ruling: *ruling,
            in_force,
            now: *now,
        }
    }
}

impl<'q> Query<'q> {
    fn key(&self) -> Key<'q> {
        let Self { name, qtype, dnssec_ok, checking_disabled, .. } = *self;
        Key { name, qtype, dnssec_ok, checking_disabled }
    }

    fn subject(&self) -> Question {
        let Key { name, qtype, dnssec_ok, checking_disabled } = self.key();
        Question { name: name.to_owned(), qtype, dnssec_ok, checking_disabled }
    }
}

impl Served {
    fn cached(answer: Answer) -> Self {
        let error = (!answer.is_answer()).then_some(ExtendedError::CACHED_ERROR);
        Self { answer, source: Source::Cache, error }
    }

    fn stale(answer: Answer) -> Self {
        let error = match answer.rcode() {
            Rcode::NXDOMAIN => ExtendedError::STALE_NXDOMAIN,
            _ => ExtendedError::STALE_ANSWER,
        };
        Self { answer, source: Source::Stale, error: Some(error) }
    }
}
