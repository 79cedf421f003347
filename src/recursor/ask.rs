//! Asks the servers of one zone until one of them answers.
//!
//! Who is asked next, and how:
//!
//! 1. A server that has just shown what it does not put up with (EDNS, cookies,
//!    letters' case, large replies over UDP) is asked again without, at once.
//! 2. Else it is the turn of the healthy servers, those first that were asked
//!    least, among them the one that should answer first. Dead and lame ones
//!    wait until there are no others, and are asked once.
//! 3. Before anybody is asked again, addresses of servers are looked up that
//!    have none; and of the others, before all is given up.
//! 4. The second query to a silent server that nobody has heard yet has no EDNS
//!    and no capitals, the third goes over TCP: somebody on the way may dislike
//!    the one or lose the other. How far it has come with such a server is kept
//!    from question to question.
//! 5. When all that is in vain, errors to full queries are put to the proof by a
//!    plain one, and addresses are taken that nobody vouches for.
//!
//! A slow server is not given up when the next one is asked: the first usable
//! reply wins, whoever sends it. A lost packet costs one time-out.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout_at};

use crate::clock::Now;
use crate::name::{DomainName, Name};
use crate::query::{Rcode, RecordType};
use crate::wire::{HEADER_LEN, Header};

use super::Engine;
use super::cookie::Cookie;
use super::delegation::{Delegation, Manner, Target, Targets, family};
use super::dnssec::Validator;
use super::message::{self, Message, QueryOptions};
use super::network::{Exchange, ExchangeError, Protocol};
use super::scrub::{self, Fault, Outcome, Reply, Worth};
use super::servers::Server;
use super::work::{Failure, Path, Step, Work};

/// No more queries than this are sent to the servers of one zone for one thing.
const MAX_TRIES: u32 = 10;
/// The same for a query that may be left out.
const LITTLE_TRIES: u32 = 3;
/// No more than this when all servers are known to be dead or lame.
const HOPELESS_TRIES: u32 = 4;
/// A reply is waited for at least and at most so long, while others are asked.
const LATE_REPLY: (Duration, Duration) = (Duration::from_millis(1_500), Duration::from_millis(3_000));
/// How long a stream may take, with its handshake.
const STREAM_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long to wait for a stream before another server is asked as well.
const STREAM_PATIENCE: Duration = Duration::from_millis(900);
/// How long to wait at least for a resolver, which may have to work for its answer.
const RESOLVER_PATIENCE: Duration = Duration::from_millis(800);
/// One query in so many goes to a server that was not the fastest so far.
const EXPLORE_EVERY: u32 = 20;
/// Slower than the fastest by more than this many microseconds, a server is left alone even then.
const TOO_SLOW: u32 = 400_000;

/// How much is done to get a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// What it takes.
    Full,
    /// A few tries; silence says nothing about the zone, as there are servers that drop what they do not expect.
    Little,
}

/// A reply, and who sent it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) reply: Reply,
    pub(super) from: Arc<Target>,
    /// The delegation that a referral has become, one for all who have asked.
    pub(super) child: OnceLock<Arc<Delegation>>,
}

/// How a query is put.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Form {
    protocol: Protocol,
    edns: bool,
    /// In random letters' case.
    case: bool,
}

impl Form {
    /// Whether nothing in it may confuse an old server.
    fn is_plain(&self) -> bool {
        !self.edns && !self.case
    }

    /// The same with nothing in it that may confuse an old server.
    fn plain(&self) -> Self {
        Self { edns: false, case: false, ..self.clone() }
    }

    /// The same over TCP, where nobody can guess and the letters' case is of no use.
    fn over_tcp(&self) -> Self {
        Self { protocol: Protocol::Tcp, case: false, ..self.clone() }
    }
}

/// One query to one server.
#[derive(Debug, Clone)]
struct Attempt {
    target: Arc<Target>,
    form: Form,
    /// It follows one that was refused for its cookie.
    renewed: bool,
}

impl Attempt {
    /// The same again, put otherwise.
    fn again(&self, form: Form) -> Self {
        Self { form, ..self.clone() }
    }
}

/// An attempt that has ended.
struct Ended {
    attempt: Attempt,
    query: SmallVec<[u8; 320]>,
    cookie: Option<Cookie>,
    reply: Result<Vec<u8>, ExchangeError>,
    asked: Now,
    took: Duration,
    number: u32,
}

/// What was tried at one address.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    sent: u32,
    /// It has answered, and uselessly.
    done: bool,
}

/// What somebody may be asking already: a zone's servers, by their delegation's place in memory, a name and a type.
pub(super) type Wanted = (usize, DomainName, RecordType);
/// What came of it, for all who wanted it.
pub(super) type Shared = Result<Arc<Answered>, Failure>;

/// How long a question that others wait for waits for others; two of them may wait for each other.
const NESTED_PATIENCE: Duration = Duration::from_millis(400);

impl Engine {
    /// Asks the servers of `delegation` for `name` and `qtype`, or waits for somebody who is asking them already.
    pub(super) async fn ask(
        &self,
        work: &Work,
        path: &Path<'_>,
        delegation: &Arc<Delegation>,
        name: &Name,
        qtype: RecordType,
        effort: Effort,
    ) -> Shared {
        let ask = || self.ask_servers(work, path, delegation, name, qtype, effort);
        let answered = if work.is_choosy(&delegation.zone) {
            // Nobody else should go without an answer because this question leaves servers out.
            ask().await?
        } else {
            let wanted = (Arc::as_ptr(delegation) as usize, name.to_owned(), qtype);
            let patience = if path.is_nested() { NESTED_PATIENCE } else { work.left() };
            self.flights.share(&wanted, patience, ask).await?
        };
        work.note_misshapen(answered.reply.misshapen);
        Ok(answered)
    }

    /// Asks the servers of `delegation` for `name` and `qtype`.
    async fn ask_servers(
        &self,
        work: &Work,
        path: &Path<'_>,
        delegation: &Arc<Delegation>,
        name: &Name,
        qtype: RecordType,
        effort: Effort,
    ) -> Shared {
        if delegation.has_failed(self.clock.now()) {
            return Err(Failure::Recent);
        }
        let mut asking = Asking::new(self, work, delegation, (name, qtype), effort);
        let mut pending = FuturesUnordered::new();
        loop {
            let mut patience = work.left();
            match asking.choose() {
                Choice::Try(attempt) => {
                    work.take_query()?;
                    patience = patience.min(asking.patience(&attempt));
                    pending.push(asking.send(attempt));
                }
                Choice::LookUp => {
                    if !self.find_server(work, path, delegation).await? {
                        asking.lookups = 0;
                    }
                    continue;
                }
                Choice::Nothing if pending.is_empty() && asking.has_last_resort() => continue,
                Choice::Nothing if pending.is_empty() => break,
                // Who is late with what may be left out is not waited for.
                Choice::Nothing if effort == Effort::Little && !asking.overdue.is_empty() => break,
                Choice::Nothing => {}
            }
            if patience.is_zero() {
                return Err(Failure::Late);
            }
            if let Some(answered) = asking.listen(&mut pending, Instant::now() + patience).await {
                delegation.worked();
                return Ok(Arc::new(answered));
            }
        }
        asking.finish()
    }
}

/// What to do next.
enum Choice {
    Try(Attempt),
    /// Find the address of another server.
    LookUp,
    /// Wait for what is under way, or give up.
    Nothing,
}

/// The state of asking the servers of one zone for one thing.
struct Asking<'a> {
    engine: &'a Engine,
    work: &'a Work,
    delegation: &'a Delegation,
    name: &'a Name,
    qtype: RecordType,
    effort: Effort,
    /// Beside the delegation's targets.
    tries: SmallVec<[Tries; 16]>,
    /// The same again in another form.
    next: VecDeque<Attempt>,
    /// What will do when nothing better comes.
    poor: Option<Answered>,
    /// That is missing nothing but its signatures: no server is left out to find one that has them.
    unsigned: bool,
    /// Queries so far; the number of the last one.
    sent: u32,
    /// Whom the last one went to, while its time is not over.
    last_asked: Option<(Arc<Server>, Now)>,
    /// Queries whose time is over, by number; a reply may still come.
    overdue: SmallVec<[u32; 8]>,
    /// Addresses that may still be looked up.
    lookups: u32,
    /// Somebody has answered something.
    heard: bool,
    /// Servers that had nothing to say.
    useless: SmallVec<[Arc<Target>; 4]>,
    /// A plainer query to a server that answered a full one with an error.
    plainer: Option<Attempt>,
    /// Addresses that nobody vouches for have been taken.
    desperate: bool,
}

/// Those whose turn it may be.
struct Field {
    targets: Targets,
    /// Places in `targets`.
    open: SmallVec<[usize; 16]>,
    /// How often each of them may be asked.
    most: u32,
    /// How often those have been asked that were asked least; `None` when there is nobody.
    asked: Option<u32>,
    /// Nobody has ever heard any of them.
    mute: bool,
}

impl Field {
    /// Whether somebody healthy is left who has not been asked.
    fn has_untried(&self) -> bool {
        self.asked == Some(0) && self.most > 1
    }

    /// Whether asking any of them again is as good as in vain.
    fn is_exhausted(&self) -> bool {
        self.mute || self.most == 1 || self.asked.is_none_or(|asked| asked >= self.most)
    }
}

impl<'a> Asking<'a> {
    fn new(
        engine: &'a Engine,
        work: &'a Work,
        delegation: &'a Delegation,
        (name, qtype): (&'a Name, RecordType),
        effort: Effort,
    ) -> Self {
        Self {
            engine,
            work,
            delegation,
            name,
            qtype,
            effort,
            tries: SmallVec::new(),
            next: VecDeque::new(),
            poor: None,
            unsigned: false,
            sent: 0,
            last_asked: None,
            overdue: SmallVec::new(),
            lookups: engine.settings.limits.server_lookups,
            heard: false,
            useless: SmallVec::new(),
            plainer: None,
            desperate: false,
        }
    }

    fn choose(&mut self) -> Choice {
        let most = if self.effort == Effort::Full { MAX_TRIES } else { LITTLE_TRIES };
        if self.sent >= most {
            return Choice::Nothing;
        }
        if let Some(attempt) = self.next.pop_front() {
            return Choice::Try(attempt);
        }
        let field = self.field();
        if self.wants_more_servers(&field) {
            self.lookups -= 1;
            return Choice::LookUp;
        }
        // What will do is bettered only by those who have not been asked.
        let enough = self.poor.is_some() && !self.unsigned && field.asked != Some(0);
        let hopeless = field.most == 1 && self.sent >= HOPELESS_TRIES;
        match field.asked.filter(|asked| *asked < field.most && !enough && !hopeless) {
            Some(asked) => Choice::Try(self.next_of(field, asked)),
            None => Choice::Nothing,
        }
    }

    /// Those whose turn it may be: the healthy, or when there are none the dead and the lame.
    fn field(&mut self) -> Field {
        let now = self.engine.clock.now();
        let targets = self.delegation.targets();
        self.tries.resize(targets.len(), Tries::default());
        let families = self.engine.families();
        let usable = |place: &usize| {
            let address = targets[*place].server.address;
            families[family(address.ip())]
                && !self.tries[*place].done
                && !self.work.avoids(&self.delegation.zone, address)
        };
        let mut open: SmallVec<[usize; 16]> = (0..targets.len()).filter(usable).collect();
        let healthy = |place: &usize| !targets[*place].is_lame(now) && !targets[*place].server.is_dead(now);
        let most = match open.iter().any(healthy) {
            true => {
                open.retain(|place| healthy(place));
                // A server that stands alone has to make up for all that gets lost.
                if open.len() == 1 { 4 } else { 3 }
            }
            false => 1,
        };
        let asked = open.iter().map(|place| self.tries[*place].sent).min();
        let mute = open.iter().all(|place| targets[*place].server.is_mute());
        Field { targets, open, most, asked, mute }
    }

    /// Whether it is time to look up the address of another server.
    fn wants_more_servers(&self, field: &Field) -> bool {
        if self.lookups == 0 || field.has_untried() && !field.mute {
            return false;
        }
        let missing = self.delegation.missing(self.engine.families());
        let satisfied = self.poor.is_some() && !self.unsigned;
        missing.first().is_some_and(|missing| missing.is_first || field.is_exhausted() && !satisfied)
    }

    /// A query to the best of those who were asked only so often.
    fn next_of(&mut self, mut field: Field, asked: u32) -> Attempt {
        field.open.retain(|place| self.tries[*place].sent == asked);
        let place = pick(&field.targets, &field.open);
        self.tries[place].sent += 1;
        let target = field.targets[place].clone();
        let form = self.form(&target, asked);
        Attempt { target, form, renewed: false }
    }

    /// How the next query is put to a server that was asked so many times.
    fn form(&self, target: &Target, asked: u32) -> Form {
        let now = self.engine.clock.now();
        let server = &target.server;
        let silent = asked.max(server.silences_of_the_unheard());
        let full = Form {
            protocol: target.protocol.clone(),
            edns: server.takes_edns(now),
            case: target.protocol == Protocol::Udp && self.randomises_case() && server.keeps_case(now),
        };
        match silent % 3 {
            _ if target.protocol != Protocol::Udp => full,
            0 if server.wants_stream(now) => full.over_tcp(),
            1 if !server.is_proven() && server.may_want_it_plain() => full.plain(),
            2 => full.over_tcp(),
            _ => full,
        }
    }

    fn randomises_case(&self) -> bool {
        self.engine.settings.case_randomisation && self.delegation.manner != Manner::Forward
    }

    /// How long to wait before another server is asked as well.
    fn patience(&self, attempt: &Attempt) -> Duration {
        let forward = self.delegation.manner == Manner::Forward;
        match attempt.form.protocol {
            Protocol::Udp if forward => attempt.target.server.patience().max(RESOLVER_PATIENCE),
            Protocol::Udp => attempt.target.server.patience(),
            Protocol::Tcp | Protocol::Tls { .. } if forward => STREAM_TIMEOUT,
            Protocol::Tcp | Protocol::Tls { .. } => STREAM_PATIENCE,
        }
    }

    /// Sends one query; the future ends with its reply.
    fn send(&mut self, attempt: Attempt) -> impl Future<Output = Ended> + Send + use<'a> {
        self.sent += 1;
        let asked = self.engine.clock.now();
        self.last_asked = Some((attempt.target.server.clone(), asked));
        let number = self.sent;
        let carries_cookie = self.engine.settings.cookies
            && attempt.form.edns
            && matches!(attempt.form.protocol, Protocol::Udp | Protocol::Tcp);
        let cookie = carries_cookie.then(|| attempt.target.server.cookie.cookie(asked)).flatten();
        let query = message::write_query(
            self.name,
            self.qtype,
            QueryOptions {
                id: rand::random(),
                recursion_desired: self.delegation.manner == Manner::Forward,
                checking_disabled: self.delegation.checking_disabled,
                // Clients may want to validate what we do not.
                edns: attempt.form.edns.then_some((self.engine.settings.edns_payload, true)),
                cookie: cookie.as_ref().map_or(&[], Cookie::octets),
                case: attempt.form.case.then(rand::random::<u128>),
            },
        );
        let timeout = match attempt.form.protocol {
            Protocol::Udp => (self.patience(&attempt) * 4).clamp(LATE_REPLY.0, LATE_REPLY.1),
            Protocol::Tcp | Protocol::Tls { .. } => STREAM_TIMEOUT,
        };
        let timeout = timeout.min(self.work.left());
        let network = &self.engine.network;
        async move {
            let started = Instant::now();
            let server = attempt.target.server.address;
            let protocol = attempt.form.protocol.clone();
            let reply = network.exchange(Exchange { server, protocol, query: &query, timeout }).await;
            Ended { attempt, query, cookie, reply, asked, took: started.elapsed(), number }
        }
    }

    /// Waits until there is something new, or `deadline`; gives the answer when it is one.
    async fn listen<F>(&mut self, pending: &mut FuturesUnordered<F>, deadline: Instant) -> Option<Answered>
    where
        F: Future<Output = Ended>,
    {
        loop {
            match timeout_at(deadline, pending.next()).await {
                Ok(Some(ended)) => {
                    let late = self.overdue.contains(&ended.number);
                    if late && ended.reply.is_err() {
                        // That was known; whoever was asked last still has time.
                        self.judge(ended, late);
                        continue;
                    }
                    if ended.number == self.sent {
                        self.last_asked = None;
                    }
                    return self.judge(ended, late);
                }
                Ok(None) => return None,
                Err(_) => {
                    let (server, asked) = self.last_asked.take()?;
                    server.was_silent(asked, self.engine.clock.now());
                    self.overdue.push(self.sent);
                    return None;
                }
            }
        }
    }

    /// Whether there is something left to be tried when all servers have been asked in vain.
    fn has_last_resort(&mut self) -> bool {
        if self.poor.is_some() {
            return false;
        }
        if let Some(attempt) = self.plainer.take() {
            self.next.push_back(attempt);
            return true;
        }
        let first = !std::mem::replace(&mut self.desperate, true);
        first && self.effort == Effort::Full && self.engine.add_hearsay(self.delegation)
    }

    /// What it comes to when nobody has given a good answer.
    fn finish(self) -> Shared {
        if let Some(poor) = self.poor {
            return Ok(Arc::new(poor));
        }
        let zone = self.delegation.zone.clone();
        if self.heard {
            return Err(Failure::Lame { zone });
        }
        // Servers that were heard a moment ago are silent about this question, not about the zone.
        let now = self.engine.clock.now();
        let alive = || self.delegation.targets().iter().any(|target| target.server.was_heard_lately(now));
        if self.sent > 0 && self.effort == Effort::Full && !alive() {
            self.delegation.failed(now);
        }
        Err(Failure::Unreachable { zone })
    }

    /// Takes what came of an attempt; `late` when its server counts as silent already.
    fn judge(&mut self, ended: Ended, late: bool) -> Option<Answered> {
        let now = self.engine.clock.now();
        let Ended { attempt, query, cookie, reply, asked, took, .. } = ended;
        let server = &attempt.target.server;
        match reply {
            Ok(octets) => {
                match attempt.form.protocol {
                    Protocol::Udp => server.replied(took, now),
                    Protocol::Tcp | Protocol::Tls { .. } => server.replied_by_stream(now),
                }
                let message = self.understand(&attempt, (&query, cookie), octets, took)?;
                self.weigh(attempt, message, took)
            }
            Err(error) => {
                self.note(&attempt, took, &error);
                if !late {
                    server.was_silent(asked, now);
                }
                // That a server does not take streams says nothing about datagrams.
                if error == ExchangeError::Unreachable && attempt.form.protocol == attempt.target.protocol {
                    self.done(&attempt.target);
                }
                None
            }
        }
    }

    /// Reads a reply as far as it says how its server is to be spoken to; the same is asked in another form when that
    /// is what it says.
    fn understand(
        &mut self,
        attempt: &Attempt,
        (query, cookie): (&[u8], Option<Cookie>),
        mut octets: Vec<u8>,
        took: Duration,
    ) -> Option<Message> {
        let now = self.engine.clock.now();
        let Attempt { target, form, .. } = attempt;
        let server = &target.server;
        let has_question = Header::read(&octets).is_ok_and(|header| header.counts[0] > 0);
        // Only an error may come without the question.
        let usable = |message: &Message| has_question || !matches!(message.rcode, Rcode::NOERROR | Rcode::NXDOMAIN);
        let question = HEADER_LEN..HEADER_LEN + self.name.as_wire().len() + 4;
        let case_kept = octets.get(question.clone()) == query.get(question.clone());
        if let Some(question) = octets.get_mut(question).filter(|_| has_question) {
            // Names in the reply may point here, and nobody else should see the case that we chose. The type and class
            // that stand behind the name are not looked at any more.
            question.make_ascii_lowercase();
        }
        let Some(message) = message::parse(&octets).ok().filter(usable) else {
            self.heard = true;
            self.note(attempt, took, &"malformed");
            self.done(target);
            return None;
        };
        if form.case && has_question && !case_kept {
            // Somebody guesses, or the server does not keep the case. A stream is safe without it.
            self.note(attempt, took, &"other letters' case");
            server.changes_case(now);
            self.next.push_back(attempt.again(form.over_tcp()));
            self.next.push_back(attempt.again(Form { case: false, ..form.clone() }));
            return None;
        }
        self.heard = true;
        if let Some(cookie) = cookie {
            self.check_cookie(attempt, &cookie, &message, took)?;
        }
        let rcode = message.rcode;
        // Who does not understand a query may send it back as it is.
        let echoed = matches!(rcode, Rcode::FORMERR | Rcode::NOTIMP | Rcode::BADVERS);
        if message.edns && !echoed {
            server.sent_edns();
        }
        if message.truncated && form.protocol == Protocol::Udp {
            self.note(attempt, took, &"truncated");
            // Another datagram would bring no more.
            self.done(target);
            self.next.push_front(attempt.again(form.over_tcp()));
            return None;
        }
        if form.edns && echoed && (!message.edns || rcode == Rcode::BADVERS || !server.understands_edns()) {
            self.note(attempt, took, &"no EDNS");
            server.rejects_edns(now);
            self.next.push_front(attempt.again(Form { edns: false, ..form.clone() }));
            return None;
        }
        Some(message)
    }

    /// Looks whether a message brings back the cookie that was sent (RFC 7873, section 5.3); `None` when the same is
    /// asked again for it.
    fn check_cookie(&mut self, attempt: &Attempt, sent: &Cookie, message: &Message, took: Duration) -> Option<()> {
        let now = self.engine.clock.now();
        let Attempt { target, form, renewed } = attempt;
        let server = &target.server;
        let is_datagram = form.protocol == Protocol::Udp;
        let brought = message.cookie.as_deref().filter(|reply| sent.is_in(reply));
        match brought {
            Some(reply) => server.cookie.was_given(sent, reply),
            None if is_datagram && (message.cookie.is_some() || server.cookie.is_expected()) => {
                // Somebody guesses, or the server has changed its mind. A stream tells.
                self.note(attempt, took, &"without our cookie");
                self.next.push_back(attempt.again(form.over_tcp()));
                return None;
            }
            // A server that does not know the option may say so by this.
            None if message.rcode == Rcode::FORMERR => {
                self.note(attempt, took, &"no cookies");
                server.rejects_cookies(now);
                self.next.push_front(attempt.again(form.clone()));
                return None;
            }
            None if !is_datagram => server.cookie.forget(),
            None => {}
        }
        if message.rcode == Rcode::BADCOOKIE && is_datagram {
            self.note(attempt, took, &"wants another cookie");
            let form = if *renewed || brought.is_none() { form.over_tcp() } else { form.clone() };
            self.next.push_front(Attempt { renewed: true, ..attempt.again(form) });
            return None;
        }
        Some(())
    }

    /// Takes a message for what it is worth: an answer, something for want of a better one, or nothing.
    fn weigh(&mut self, attempt: Attempt, message: Message, took: Duration) -> Option<Answered> {
        let now = self.engine.clock.now();
        let zone = &self.delegation.zone;
        let worth = scrub::read(message, zone, self.delegation.manner, self.name, self.qtype);
        let (form, server) = (&attempt.form, &attempt.target.server);
        match worth {
            Worth::Good(reply) if self.must_be_signed() && reply.lacks_signatures(zone) => {
                self.note(&attempt, took, &format_args!("{} (unsigned)", reply.outcome));
                self.unsigned = true;
                self.done(&attempt.target);
                self.poor.get_or_insert(Answered::new(reply, attempt.target));
                None
            }
            Worth::Good(reply) => {
                self.note(&attempt, took, &reply.outcome);
                self.next.clear();
                attempt.target.worked();
                self.useless.iter().for_each(|target| target.was_outdone(now));
                if form.edns && (form.case || !self.randomises_case()) {
                    server.does_not_want_it_plain();
                } else if form.is_plain() && server.takes_edns(now) && server.keeps_case(now) {
                    server.was_helped_by_plain(now);
                }
                Some(Answered::new(reply, attempt.target))
            }
            Worth::Poor(reply) => {
                self.note(&attempt, took, &format_args!("{} (not authoritative)", reply.outcome));
                self.done(&attempt.target);
                self.poor.get_or_insert(Answered::new(reply, attempt.target));
                None
            }
            Worth::Lame(fault) => {
                self.note(&attempt, took, &fault);
                self.done(&attempt.target);
                if form.is_plain() {
                    server.does_not_want_it_plain();
                } else if matches!(fault, Fault::Rcode(_)) && server.may_want_it_plain() {
                    self.plainer.get_or_insert(attempt.again(form.plain()));
                }
                if matches!(fault, Fault::UpwardReferral | Fault::Rcode(Rcode::REFUSED | Rcode::NOTAUTH)) {
                    attempt.target.was_lame(now);
                }
                self.useless.push(attempt.target);
                None
            }
        }
    }

    /// Notes what came of an attempt, when somebody wants to know.
    fn note(&self, attempt: &Attempt, took: Duration, result: &dyn std::fmt::Display) {
        self.work.note(|| Step {
            zone: self.delegation.zone.clone(),
            server: attempt.target.server.address,
            name: self.name.to_owned(),
            rtype: self.qtype,
            result: result.to_string(),
            took,
        });
    }

    /// Whether the zone is signed, so that a server that sends no signatures is behind or broken.
    fn must_be_signed(&self) -> bool {
        let zone = &self.delegation.zone;
        let anchored = |validator: &Validator| validator.anchors().of(zone).is_some();
        self.engine.validator.as_ref().is_some_and(|validator| self.delegation.signed || anchored(validator))
    }

    fn done(&mut self, target: &Arc<Target>) {
        let targets = self.delegation.targets();
        self.tries.resize(targets.len(), Tries::default());
        if let Some(place) = targets.iter().position(|other| Arc::ptr_eq(other, target)) {
            self.tries[place].done = true;
        }
    }
}

impl Answered {
    fn new(reply: Reply, from: Arc<Target>) -> Self {
        Self { reply, from, child: OnceLock::new() }
    }
}

/// The server that should answer first; now and then another one, so that all are known and those are noticed that
/// come back.
///
/// Among servers about as fast as the fastest, chance decides: it spreads the load, and nobody can tell whom we ask.
fn pick(targets: &[Arc<Target>], open: &[usize]) -> usize {
    let expected = |place: &usize| {
        let target = &targets[*place];
        target.server.expected().saturating_add(if target.from_child { 50_000 } else { 0 })
    };
    let best = open.iter().map(expected).min().unwrap_or_default();
    let near: SmallVec<[usize; 16]> = if rand::random::<u32>().is_multiple_of(EXPLORE_EVERY) {
        let limit = best.saturating_add(TOO_SLOW);
        open.iter().copied().filter(|place| targets[*place].server.usual() <= limit).collect()
    } else {
        let limit = best.saturating_add((best / 2).max(20_000));
        open.iter().copied().filter(|place| expected(place) <= limit).collect()
    };
    near[rand::random_range(0..near.len())]
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rcode(rcode) => write!(f, "response code {}", rcode.0),
            Self::UpwardReferral => f.write_str("referral upwards"),
            Self::Empty => f.write_str("says nothing"),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered => f.write_str("answer"),
            Self::Alias(target) => write!(f, "alias for {target}"),
            Self::NoData(_) => f.write_str("no such records"),
            Self::NxDomain(name) => write!(f, "{name} does not exist"),
            Self::TooLong => f.write_str("the alias is too long"),
            Self::Referral(cut) => write!(f, "referral to {}", cut.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::query::Question;
    use crate::recursor::network::Network;
    use crate::recursor::settings::{Route, RouteKind, RouteServer};
    use crate::recursor::{BoxFuture, Recursor, Settings, Upstream, testing};
    use crate::wire::Request;
    use parking_lot::Mutex;

    /// Nobody there.
    struct Void;

    impl Network for Void {
        fn exchange<'a>(&'a self, _: Exchange<'a>) -> BoxFuture<'a, Result<Vec<u8>, ExchangeError>> {
            Box::pin(std::future::ready(Err(ExchangeError::Unreachable)))
        }
    }

    struct World {
        recursor: Recursor,
        zone: Arc<Delegation>,
        work: Work,
        name: DomainName,
    }

    const NOW: Now = Now { elapsed: Duration::from_secs(100), wall: 0 };

    /// `kz` with servers at 198.51.7.1 and on.
    fn world(servers: u8) -> World {
        let recursor = Recursor::new(Settings::default(), Arc::new(Void), Clock::from_fn(|| NOW));
        let zone = Arc::new(Delegation::new(&"kz".parse::<DomainName>().unwrap(), Manner::Iterate, u32::MAX));
        for host in 1..=servers {
            let address = std::net::SocketAddr::from(([198, 51, 7, host], 53));
            zone.add_address(None, recursor.0.servers.at(address), Protocol::Udp);
        }
        let work = Work::new(&recursor.0.settings.limits, Duration::from_secs(8), false);
        World { recursor, zone, work, name: "www.kz".parse().unwrap() }
    }

    impl World {
        fn asking(&self, effort: Effort) -> Asking<'_> {
            Asking::new(&self.recursor.0, &self.work, &self.zone, (&self.name, RecordType::A), effort)
        }

        fn server(&self, host: usize) -> Arc<Server> {
            self.zone.targets()[host - 1].server.clone()
        }
    }

    /// The queries that are made when nobody ever answers: to whom, and `full`, `plain` or `tcp`.
    fn tries(mut asking: Asking<'_>) -> Vec<(u8, &'static str)> {
        let mut all = Vec::new();
        while let Choice::Try(attempt) = asking.choose() {
            asking.sent += 1;
            let std::net::SocketAddr::V4(address) = attempt.target.server.address else { panic!("no IPv6 here") };
            let form = match &attempt.form {
                Form { protocol: Protocol::Tcp, .. } => "tcp",
                form if form.is_plain() => "plain",
                _ => "full",
            };
            all.push((address.ip().octets()[3], form));
            attempt.target.server.was_silent(NOW, NOW);
        }
        all
    }

    #[test]
    fn a_server_alone_is_asked_in_every_way() {
        let world = world(1);
        let forms: Vec<&str> = tries(world.asking(Effort::Full)).into_iter().map(|(_, form)| form).collect();
        // After the third it counts as dead, and is not asked again.
        assert_eq!(forms, ["full", "plain", "tcp"]);
    }

    #[test]
    fn all_servers_are_asked_before_any_is_asked_again() {
        let world = world(3);
        let tries = tries(world.asking(Effort::Full));
        for (round, form) in tries.chunks(3).zip(["full", "plain", "tcp"]) {
            let mut hosts: Vec<u8> = round.iter().map(|(host, _)| *host).collect();
            hosts.sort_unstable();
            assert_eq!(hosts, [1, 2, 3], "{tries:?}");
            assert!(round.iter().all(|(_, other)| *other == form), "{tries:?}");
        }
    }

    #[test]
    fn little_effort_is_three_tries_and_no_zone_takes_more_than_ten() {
        assert_eq!(tries(world(5).asking(Effort::Little)).len(), LITTLE_TRIES as usize);
        assert_eq!(tries(world(20).asking(Effort::Full)).len(), MAX_TRIES as usize);
    }

    #[test]
    fn dead_and_lame_servers_wait_until_there_are_no_others() {
        let world = world(3);
        (0..3).for_each(|_| world.server(1).was_silent(NOW, NOW));
        world.zone.targets()[1].was_lame(NOW);
        world.server(3).replied(Duration::from_millis(5), NOW);
        let tries = tries(world.asking(Effort::Full));
        let healthy = tries.iter().take_while(|(host, _)| *host == 3).count();
        assert_eq!(healthy, 3, "{tries:?}");
    }

    #[test]
    fn a_server_that_answers_only_by_streams_is_asked_so_at_once() {
        let world = world(1);
        world.server(1).was_silent(NOW, NOW);
        world.server(1).replied_by_stream(NOW);
        let Choice::Try(attempt) = world.asking(Effort::Full).choose() else { panic!("there is a server") };
        assert_eq!(attempt.form.protocol, Protocol::Tcp);
    }

    #[test]
    fn a_server_that_was_slow_or_silent_is_seldom_picked_and_not_never() {
        let world = world(3);
        world.server(1).replied(Duration::from_millis(5), NOW);
        world.server(2).replied(Duration::from_millis(200), NOW);
        world.server(3).replied(Duration::from_millis(5), NOW);
        world.server(3).was_silent(NOW, NOW);
        let mut picked = [0; 3];
        for _ in 0..2_000 {
            picked[pick(&world.zone.targets(), &[0, 1, 2])] += 1;
        }
        assert!(picked[0] > 1_800 && picked[1] > 0 && picked[2] > 0, "{picked:?}");
    }

    #[test]
    fn who_has_no_address_is_looked_up_before_anybody_is_asked_twice() {
        let world = world(1);
        world.zone.add_name("ns.elsewhere.net".parse().unwrap(), false);
        let mut asking = world.asking(Effort::Full);
        let Choice::Try(attempt) = asking.choose() else { panic!("the known server comes first") };
        attempt.target.server.was_silent(NOW, NOW);
        assert!(matches!(asking.choose(), Choice::LookUp));
        asking.lookups = 0;
        assert!(matches!(asking.choose(), Choice::Try(_)), "nothing more may be looked up");
    }

    /// A server of the root with a mind about cookies: what it says to the query of this number.
    struct Guarded<F> {
        says: F,
        /// How each query came: by what, and how long its cookie was.
        asked: Mutex<Vec<(Protocol, usize)>>,
    }

    impl<F> Network for Guarded<F>
    where
        F: Fn(usize, &Exchange<'_>, &[u8]) -> Message + Send + Sync + 'static,
    {
        fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<Vec<u8>, ExchangeError>> {
            let mut buffer = [0; crate::name::MAX_NAME_LEN];
            let request = Request::read(exchange.query, &mut buffer).unwrap();
            let number = self.asked.lock().len();
            self.asked.lock().push((exchange.protocol.clone(), request.cookie.len()));
            let reply = message::write_reply(exchange.query, &(self.says)(number, &exchange, request.cookie));
            Box::pin(std::future::ready(Ok(reply)))
        }
    }

    /// What such a server is asked for two names, one after the other; both must be answered with 192.0.2.1.
    async fn asked_with_cookies(
        says: impl Fn(usize, &Exchange<'_>, &[u8]) -> Message + Send + Sync + 'static,
    ) -> Vec<(Protocol, usize)> {
        let settings = Settings { cookies: true, routes: vec![root_stub()], ..testing::settings() };
        let network = Arc::new(Guarded { says, asked: Mutex::default() });
        let recursor = Recursor::new(settings, network.clone(), Clock::from_fn(|| NOW));
        for name in ["a.kz", "b.kz"] {
            let question = Question::new(&testing::name(name), RecordType::A);
            let resolution = recursor.resolve(&question, NOW).await;
            assert!(resolution.message.ends_with(&[192, 0, 2, 1]), "{:?}", resolution.errors);
        }
        network.asked.lock().clone()
    }

    /// All questions go to 193.0.0.1, as to an authority.
    fn root_stub() -> Route {
        let server = RouteServer { address: ([193, 0, 0, 1], 53).into(), protocol: Protocol::Udp };
        Route {
            zone: DomainName::root(),
            to: vec![server],
            kind: RouteKind::Stub,
            fall_back: false,
            names: Vec::new(),
            cache: true,
        }
    }

    fn address_of(exchange: &Exchange<'_>) -> Message {
        let (name, _) = crate::wire::read_name(exchange.query, HEADER_LEN).unwrap();
        Message { edns: true, ..testing::answer([testing::a(&name.to_string())]) }
    }

    /// The cookie that a server gives back for `sent`.
    fn with_cookie(message: Message, sent: &[u8], part: &[u8]) -> Message {
        Message { edns: true, cookie: Some([&sent[..8], part].concat().into()), ..message }
    }

    #[tokio::test]
    async fn a_servers_cookie_is_sent_back_to_it() {
        let asked = asked_with_cookies(|number, exchange, sent| {
            assert!(number == 0 || sent[8..] == *b"theirs..");
            with_cookie(address_of(exchange), sent, b"theirs..")
        });
        assert_eq!(asked.await, [(Protocol::Udp, 8), (Protocol::Udp, 16)]);
    }

    #[tokio::test]
    async fn servers_that_know_no_cookies_are_asked_as_ever() {
        let asked = asked_with_cookies(|_, exchange, _| address_of(exchange)).await;
        assert_eq!(asked, [(Protocol::Udp, 8), (Protocol::Udp, 8)], "those that pass the option over");
        let asked = asked_with_cookies(|_, exchange, sent| match sent {
            [] => address_of(exchange),
            _ => Message { rcode: Rcode::FORMERR, edns: true, ..Message::default() },
        });
        let expected = [(Protocol::Udp, 8), (Protocol::Udp, 0), (Protocol::Udp, 0)];
        assert_eq!(asked.await, expected, "those that do not put up with it lose no EDNS for it");
    }

    #[tokio::test]
    async fn who_wants_another_cookie_gets_it_and_who_is_never_content_a_stream() {
        let refusal = |sent: &[u8], part: &[u8]| {
            with_cookie(Message { rcode: Rcode::BADCOOKIE, ..Message::default() }, sent, part)
        };
        let asked = asked_with_cookies(move |number, exchange, sent| match number {
            0 => refusal(sent, b"theirs.."),
            _ => with_cookie(address_of(exchange), sent, b"theirs.."),
        });
        assert_eq!(asked.await, [(Protocol::Udp, 8), (Protocol::Udp, 16), (Protocol::Udp, 16)]);
        let asked = asked_with_cookies(move |number, exchange, sent| match exchange.protocol {
            Protocol::Udp => refusal(sent, &(number as u64).to_be_bytes()),
            _ => with_cookie(address_of(exchange), sent, b"content."),
        });
        let (udp, tcp) = (|len| (Protocol::Udp, len), |len| (Protocol::Tcp, len));
        assert_eq!(asked.await, [udp(8), udp(16), tcp(16), udp(16), udp(16), tcp(16)]);
    }

    #[tokio::test]
    async fn a_reply_without_the_cookie_that_is_due_is_not_believed() {
        let forged = |exchange: &Exchange<'_>| {
            let mut message = address_of(exchange);
            message.answer[0].rdata[0] = Box::from([6, 6, 6, 6]);
            message
        };
        // Nobody else sees our part: who guesses has another one, or one that is no cookie.
        for wrong in [&[0; 16][..], &[0; 8], &[0; 41], &[]] {
            let asked = asked_with_cookies(move |number, exchange, sent| match (number, &exchange.protocol) {
                (1, Protocol::Udp) => Message { cookie: Some(wrong.into()), ..forged(exchange) },
                _ => with_cookie(address_of(exchange), sent, b"theirs.."),
            });
            let expected = [(Protocol::Udp, 8), (Protocol::Udp, 16), (Protocol::Tcp, 16)];
            assert_eq!(asked.await, expected, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_gives_cookies_no_more_says_so_by_a_stream() {
        let asked = asked_with_cookies(|number, exchange, sent| match number {
            0 => with_cookie(address_of(exchange), sent, b"theirs.."),
            _ => address_of(exchange),
        });
        assert_eq!(asked.await, [(Protocol::Udp, 8), (Protocol::Udp, 16), (Protocol::Tcp, 16)]);
    }
}
