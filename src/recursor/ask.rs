//! Asks the servers of one zone until one of them answers.
//!
//! The server that should answer first is asked first. When it is slow another
//! one is asked as well, and the first usable reply wins, whoever sends it: a
//! lost packet costs one time-out, a slow server is still heard. What a server
//! does not put up with (EDNS, letters' case, large replies over UDP) is tried
//! without at once, and remembered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::name::{DomainName, Name};
use crate::query::{Rcode, RecordType};
use crate::wire::{HEADER_LEN, Header};

use super::Engine;
use super::delegation::{Delegation, Manner, Target, family};
use super::dnssec::Validator;
use super::message::{self, Message, QueryOptions};
use super::network::{Exchange, ExchangeError, Protocol};
use super::scrub::{self, Fault, Outcome, Reply, Worth};
use super::work::{Failure, Path, Step, Work};

/// No more queries than this are sent to the servers of one zone for one thing.
const MAX_TRIES: u32 = 10;
/// The same for a query that may be left out.
const LITTLE_TRIES: u32 = 2;
/// A reply is waited for at least and at most so long, while others are asked.
const LATE_REPLY: (Duration, Duration) = (Duration::from_millis(1_500), Duration::from_millis(3_000));
/// How long a stream may take, with its handshake.
const STREAM_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long to wait for a stream before another server is asked as well.
const STREAM_PATIENCE: Duration = Duration::from_millis(900);
/// One query in so many goes to a server that was not the fastest so far.
const EXPLORE_EVERY: u32 = 20;

/// How much is done to get a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// What it takes.
    Full,
    /// A try or two; silence says nothing about the zone, as there are servers that drop what they do not expect.
    Little,
}

/// A reply, and who sent it.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) reply: Reply,
    pub(super) from: Arc<Target>,
}

/// One query in one form to one server.
#[derive(Debug, Clone)]
struct Attempt {
    target: Arc<Target>,
    protocol: Protocol,
    edns: bool,
    case: bool,
}

impl Attempt {
    /// Whether nothing in it may confuse an old server.
    fn is_plain(&self) -> bool {
        !self.edns && !self.case
    }
}

/// An attempt that has ended.
struct Ended {
    attempt: Attempt,
    query: SmallVec<[u8; 320]>,
    reply: Result<Vec<u8>, ExchangeError>,
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
    ) -> Result<Answered, Failure> {
        let wanted = (Arc::as_ptr(delegation) as usize, name.to_owned(), qtype);
        let patience = if path.is_nested() { NESTED_PATIENCE } else { work.left() };
        self.flights.share(&wanted, patience, self.ask_servers(work, path, delegation, name, qtype, effort)).await
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
    ) -> Result<Answered, Failure> {
        let zone = || delegation.zone.clone();
        if delegation.has_failed(self.clock.now()) {
            return Err(Failure::Recent);
        }
        let mut asking = Asking {
            engine: self,
            work,
            delegation,
            name,
            qtype,
            tries: Vec::new(),
            next: VecDeque::new(),
            poor: None,
            unsigned: false,
            most: if effort == Effort::Full { MAX_TRIES } else { LITTLE_TRIES },
            sent: 0,
            heard: false,
            last_resort: None,
        };
        let mut desperate = false;
        let mut lookups = 0;
        let mut overdue: SmallVec<[u32; 8]> = SmallVec::new();
        let mut pending = FuturesUnordered::new();
        loop {
            let mut patience = None;
            match asking.choose(lookups < self.settings.limits.server_lookups) {
                Choice::Try(attempt) => {
                    work.take_query()?;
                    asking.sent += 1;
                    patience = Some((asking.sent, attempt.target.clone(), asking.patience(&attempt)));
                    pending.push(asking.send(attempt, asking.sent));
                }
                Choice::LookUp => {
                    lookups += 1;
                    if !self.find_server(work, path, delegation).await? {
                        lookups = u32::MAX;
                    }
                    continue;
                }
                Choice::Nothing if pending.is_empty() => {
                    if asking.poor.is_some() {
                        break;
                    }
                    if let Some(attempt) = asking.last_resort.take() {
                        asking.next.push_back(attempt);
                        continue;
                    }
                    if desperate || effort == Effort::Little || !self.add_hearsay(delegation) {
                        break;
                    }
                    desperate = true;
                    continue;
                }
                Choice::Nothing if effort == Effort::Little && !overdue.is_empty() => break,
                Choice::Nothing => {}
            }
            let left = work.left();
            if left.is_zero() {
                return Err(Failure::Late);
            }
            let wait = patience.as_ref().map_or(left, |(_, _, patience)| (*patience).min(left));
            match tokio::time::timeout(wait, pending.next()).await {
                Ok(Some(ended)) => {
                    let silent = overdue.contains(&ended.number);
                    if let Some(reply) = asking.judge(ended, silent) {
                        delegation.worked();
                        return Ok(reply);
                    }
                }
                Ok(None) => {}
                Err(_) => {
                    if let Some((number, target, _)) = patience {
                        target.server.was_silent(self.clock.now());
                        overdue.push(number);
                        if effort == Effort::Little && asking.sent >= asking.most {
                            break;
                        }
                    }
                }
            }
        }
        if let Some(poor) = asking.poor {
            return Ok(poor);
        }
        if asking.heard {
            return Err(Failure::Lame { zone: zone() });
        }
        // Servers that were heard a moment ago are silent about this question, not about the zone.
        let now = self.clock.now();
        let alive = || delegation.targets().iter().any(|target| target.server.was_heard_lately(now));
        if asking.sent > 0 && effort == Effort::Full && !alive() {
            delegation.failed(now);
        }
        Err(Failure::Unreachable { zone: zone() })
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
    /// Beside the delegation's targets.
    tries: Vec<Tries>,
    /// The same again in another form.
    next: VecDeque<Attempt>,
    /// What will do when nothing better comes.
    poor: Option<Answered>,
    /// That is missing nothing but its signatures: no server is left out to find one that has them.
    unsigned: bool,
    /// No more queries than this.
    most: u32,
    sent: u32,
    /// Somebody has answered something.
    heard: bool,
    /// A plainer query to a server that answered a full one with an error.
    last_resort: Option<Attempt>,
}

impl<'a> Asking<'a> {
    fn choose(&mut self, may_look_up: bool) -> Choice {
        if self.sent >= self.most {
            return Choice::Nothing;
        }
        if let Some(attempt) = self.next.pop_front() {
            return Choice::Try(attempt);
        }
        let now = self.engine.clock.now();
        let targets = self.delegation.targets();
        self.tries.resize(targets.len(), Tries::default());
        let families = self.engine.families();
        let usable = |index: &usize| {
            let address = targets[*index].server.address;
            families[family(address.ip())]
                && !self.tries[*index].done
                && !self.work.avoids(&self.delegation.zone, address)
        };
        let mut open: SmallVec<[usize; 16]> = (0..targets.len()).filter(usable).collect();
        // Lame and dead servers are asked only when there are no others, and then only once.
        let healthy = |index: &usize| !targets[*index].is_lame(now) && !targets[*index].server.is_dead(now);
        let most = if open.iter().any(healthy) {
            open.retain(|index| healthy(index));
            self.tries_each(open.len())
        } else {
            1
        };
        let fewest = open.iter().map(|index| self.tries[*index].sent).min();
        let mute = open.iter().all(|index| targets[*index].server.is_mute());
        let exhausted = mute || most == 1 || fewest.is_none_or(|fewest| fewest >= most);
        // Servers without any address come before second tries, other addresses of servers after them, unless the
        // known ones say nothing ever.
        if may_look_up
            && (fewest != Some(0) || most == 1 || mute)
            && let Some(missing) = self.delegation.missing(families).first()
            && (missing.is_first || (self.poor.is_none() || self.unsigned) && exhausted)
        {
            return Choice::LookUp;
        }
        if self.poor.is_some() && fewest != Some(0) && !self.unsigned {
            return Choice::Nothing;
        }
        let Some(fewest) = fewest.filter(|fewest| *fewest < most) else { return Choice::Nothing };
        if most == 1 && self.sent >= 4 {
            return Choice::Nothing;
        }
        open.retain(|index| self.tries[*index].sent == fewest);
        let index = pick(&targets, &open);
        self.tries[index].sent += 1;
        let target = targets[index].clone();
        let server = &target.server;
        // A server that is silent and has never answered such a query may drop what has EDNS, or capitals.
        let suspicious = fewest > 0 && !server.is_proven() && server.may_want_it_plain() && most != 1;
        let edns = server.takes_edns(now) && !suspicious;
        let case = self.randomises_case() && server.keeps_case(now) && !suspicious;
        Choice::Try(Attempt { protocol: target.protocol.clone(), target, edns, case })
    }

    /// How often each of `open` servers is asked: a small set has to make up for what gets lost.
    fn tries_each(&self, open: usize) -> u32 {
        match open {
            1 => 4,
            2 => 3,
            _ => 2,
        }
    }

    fn randomises_case(&self) -> bool {
        self.engine.settings.case_randomisation && self.delegation.manner != Manner::Forward
    }

    fn patience(&self, attempt: &Attempt) -> Duration {
        match attempt.protocol {
            Protocol::Udp => {
                let patience = attempt.target.server.patience();
                // A resolver may have to work for its answer.
                if self.delegation.manner == Manner::Forward {
                    patience.max(Duration::from_millis(800))
                } else {
                    patience
                }
            }
            Protocol::Tcp | Protocol::Tls { .. } if self.delegation.manner == Manner::Forward => STREAM_TIMEOUT,
            Protocol::Tcp | Protocol::Tls { .. } => STREAM_PATIENCE,
        }
    }

    /// Sends one query; the future ends with its reply.
    fn send(&self, attempt: Attempt, number: u32) -> impl Future<Output = Ended> + Send + use<'a> {
        let forward = self.delegation.manner == Manner::Forward;
        let validate = self.engine.validator.is_some();
        let case = attempt.case.then(rand::random::<u128>);
        let query = message::write_query(
            self.name,
            self.qtype,
            QueryOptions {
                id: rand::random(),
                recursion_desired: forward,
                checking_disabled: forward && validate,
                edns: attempt.edns.then_some((self.engine.settings.edns_payload, validate)),
                case,
            },
        );
        let timeout = match attempt.protocol {
            Protocol::Udp => (self.patience(&attempt) * 4).clamp(LATE_REPLY.0, LATE_REPLY.1),
            Protocol::Tcp | Protocol::Tls { .. } => STREAM_TIMEOUT,
        };
        let timeout = timeout.min(self.work.left());
        let network = &self.engine.network;
        async move {
            let started = Instant::now();
            let server = attempt.target.server.address;
            let protocol = attempt.protocol.clone();
            let reply = network.exchange(Exchange { server, protocol, query: &query, timeout }).await;
            Ended { attempt, query, reply, took: started.elapsed(), number }
        }
    }

    /// Takes what came of an attempt; `silent` when its time was over already.
    fn judge(&mut self, ended: Ended, silent: bool) -> Option<Answered> {
        let now = self.engine.clock.now();
        let Ended { attempt, query, reply, took, .. } = ended;
        let note = |result: String| {
            self.work.note(|| Step {
                zone: self.delegation.zone.clone(),
                server: attempt.target.server.address,
                name: self.name.to_owned(),
                rtype: self.qtype,
                result,
                took,
            });
        };
        let mut octets = match reply {
            Ok(octets) => octets,
            Err(error) => {
                note(error.to_string());
                if !silent {
                    attempt.target.server.was_silent(now);
                }
                if error == ExchangeError::Unreachable || attempt.protocol != Protocol::Udp {
                    self.done(&attempt.target);
                }
                return None;
            }
        };
        let server = &attempt.target.server;
        if attempt.protocol == Protocol::Udp {
            server.replied(took, now);
        }
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
            note("malformed".to_owned());
            self.done(&attempt.target);
            return None;
        };
        if attempt.case && has_question && !case_kept {
            // Somebody guesses, or the server does not keep the case. A stream is safe without it.
            note("other letters' case".to_owned());
            server.changes_case(now);
            self.next.push_back(Attempt { protocol: Protocol::Tcp, case: false, ..attempt.clone() });
            self.next.push_back(Attempt { case: false, ..attempt });
            return None;
        }
        self.heard = true;
        let rcode = message.rcode;
        // Who does not understand a query may send it back as it is.
        let echoed = matches!(rcode, Rcode::FORMERR | Rcode::NOTIMP | Rcode::BADVERS);
        if message.edns && !echoed {
            server.sent_edns();
        }
        if message.truncated && attempt.protocol == Protocol::Udp {
            note("truncated".to_owned());
            // Another datagram would bring no more.
            self.done(&attempt.target);
            self.next.push_front(Attempt { protocol: Protocol::Tcp, case: false, ..attempt });
            return None;
        }
        if attempt.edns && echoed && (!message.edns || rcode == Rcode::BADVERS || !server.understands_edns()) {
            note("no EDNS".to_owned());
            server.rejects_edns(now);
            self.next.push_front(Attempt { edns: false, ..attempt });
            return None;
        }
        match scrub::read(message, &self.delegation.zone, self.delegation.manner, self.name, self.qtype) {
            Worth::Good(reply) if self.must_be_signed() && reply.lacks_signatures(&self.delegation.zone) => {
                note(format!("{} (unsigned)", reply.outcome));
                self.unsigned = true;
                self.done(&attempt.target);
                self.poor.get_or_insert(Answered { reply, from: attempt.target });
                None
            }
            Worth::Good(reply) => {
                note(reply.outcome.to_string());
                self.next.clear();
                attempt.target.worked();
                if attempt.edns && (attempt.case || !self.randomises_case()) {
                    server.does_not_want_it_plain();
                } else if attempt.is_plain() && server.takes_edns(now) && server.keeps_case(now) {
                    server.was_helped_by_plain(now);
                }
                Some(Answered { reply, from: attempt.target })
            }
            Worth::Poor(reply) => {
                note(format!("{} (not authoritative)", reply.outcome));
                self.done(&attempt.target);
                self.poor.get_or_insert(Answered { reply, from: attempt.target });
                None
            }
            Worth::Lame(fault) => {
                note(fault.to_string());
                self.done(&attempt.target);
                if attempt.is_plain() {
                    server.does_not_want_it_plain();
                } else if matches!(fault, Fault::Rcode(_)) && server.may_want_it_plain() {
                    self.last_resort.get_or_insert(Attempt { edns: false, case: false, ..attempt.clone() });
                }
                if matches!(fault, Fault::UpwardReferral | Fault::Rcode(Rcode::REFUSED | Rcode::NOTAUTH)) {
                    attempt.target.was_lame(now);
                }
                None
            }
        }
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
        if let Some(index) = targets.iter().position(|other| Arc::ptr_eq(other, target)) {
            self.tries[index].done = true;
        }
    }
}

/// The server that should answer first; now and then another one, so that all are known.
///
/// Among servers about as fast as the fastest, chance decides: it spreads the load, and nobody can tell whom we ask.
fn pick(targets: &[Arc<Target>], open: &[usize]) -> usize {
    let expected = |index: &usize| {
        let target = &targets[*index];
        target.server.expected().saturating_add(if target.from_child { 50_000 } else { 0 })
    };
    let best = open.iter().map(expected).min().unwrap_or_default();
    let explore = rand::random::<u32>().is_multiple_of(EXPLORE_EVERY);
    let limit = if explore { best.saturating_add(400_000) } else { best.saturating_add((best / 2).max(20_000)) };
    let near: SmallVec<[usize; 16]> = open.iter().copied().filter(|index| expected(index) <= limit).collect();
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
