//! Plays a scenario against the resolver, from the query's bytes to the reply's.
//!
//! Everything runs on one thread with a clock that stands still. It moves
//! only where the scenario says so, or where nothing is left to happen but a
//! timer: then it jumps to that timer, so that a time-out takes no time. A
//! moment of the story begins when all that the moment before has caused is
//! over.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qalqan::clock::{Clock, Now};
use qalqan::query::{Client, Transport};
use qalqan::recursor::network::ExchangeError;
use tokio::time::Instant;

use super::compare::{self, DNSSEC_OK, Received};
use super::config::{self, Setup};
use super::macros::Variables;
use super::script::{Adjust, Carrier, Dialect, Entry, Event, Matches, Scenario, Step};
use super::stage::{Pending, ScriptedNetwork, Stage};
use super::subject::Subject;

/// How a scenario went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// What went otherwise than the scenario says.
    Fail(String),
    /// Why it says nothing about this resolver.
    Skip(String),
}

/// How long the player waits for something that must happen: longer than any client would.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often other tasks get their turn, nothing happening, before all is taken to be quiet.
const QUIET_TURNS: u32 = 64;

/// Plays `scenario`; also returns the trace of all that was said.
pub(crate) fn play(scenario: &Scenario) -> (Verdict, String) {
    let setup = match config::setup(scenario) {
        Ok(setup) => setup,
        Err(config::Refusal::Skip(reason)) => return (Verdict::Skip(reason), String::new()),
        Err(config::Refusal::Broken(what)) => return (Verdict::Fail(what), String::new()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without input and output needs nothing from the system");
    runtime.block_on(async {
        let player = match Player::new(scenario, setup) {
            Ok(player) => player,
            Err(what) => return (Verdict::Fail(what), String::new()),
        };
        let stage = player.stage.clone();
        let verdict = match player.play().await {
            Ok(()) => Verdict::Pass,
            Err(what) => Verdict::Fail(what),
        };
        (verdict, stage.trace())
    })
}

struct Player<'s> {
    scenario: &'s Scenario,
    steps: &'s [Step],
    stage: Arc<Stage>,
    subject: Arc<Subject>,
    clock: Clock,
    answers: Arc<Mutex<Vec<Answer>>>,
    variables: Variables,
    /// One-shot replies of steps that are used up.
    spent: Vec<u32>,
    /// Where the entries stand that were sent.
    sent: Mutex<BTreeSet<usize>>,
}

/// What a client got.
struct Answer {
    client: IpAddr,
    carrier: Carrier,
    /// `None`: nothing, the query was dropped.
    reply: Option<Vec<u8>>,
}

impl<'s> Player<'s> {
    fn new(scenario: &'s Scenario, mut setup: Setup) -> Result<Self, String> {
        // Time that passes before anything else has happened is how a scenario sets the calendar.
        let mut steps = scenario.steps.as_slice();
        if scenario.dialect == Dialect::Unbound {
            while let [first, rest @ ..] = steps {
                let duration = match &first.event {
                    Event::Elapse(duration) => *duration,
                    Event::Evaluate(expression) => seconds(
                        &Variables::default().expand(expression, setup.wall, None).map_err(|what| at(first, what))?,
                    )
                    .map_err(|what| at(first, what))?,
                    _ => break,
                };
                setup.wall += duration.as_secs();
                steps = rest;
            }
        }
        let (start, wall, frozen) = (Instant::now(), setup.wall, setup.wall_stands_still);
        let clock = Clock::from_fn(move || {
            let elapsed = Instant::now() - start;
            Now { elapsed, wall: if frozen { wall } else { wall + elapsed.as_secs() } }
        });
        let stage = Stage::new();
        let subject = Subject::new(&setup, Arc::new(ScriptedNetwork(stage.clone())), clock.clone())?;
        Ok(Self {
            scenario,
            steps,
            stage,
            subject: Arc::new(subject),
            clock,
            answers: Arc::default(),
            variables: Variables::default(),
            spent: Vec::new(),
            sent: Mutex::default(),
        })
    }

    async fn play(mut self) -> Result<(), String> {
        match self.scenario.dialect {
            Dialect::Unbound => self.play_unbound().await?,
            Dialect::Deckard => self.play_deckard().await?,
        }
        let sent = self.sent.lock().expect("nobody panics while holding it");
        let mut entries = self.scenario.ranges.iter().flat_map(|range| &range.entries);
        match entries.find(|entry| entry.mandatory && !sent.contains(&entry.line)) {
            Some(entry) => Err(format!("line {}: nobody asked for this, but it is mandatory", entry.line)),
            None => Ok(()),
        }
    }

    /// Lets everything happen that needs no time.
    async fn settle(&self) {
        let (mut quiet, mut seen) = (0, self.stage.activity());
        while quiet < QUIET_TURNS {
            tokio::task::yield_now().await;
            let activity = self.stage.activity();
            quiet = if activity == seen { quiet + 1 } else { 0 };
            seen = activity;
        }
    }

    /// A client sends a query; the reply will be among the answers.
    fn ask(&self, entry: &Entry, address: Option<IpAddr>) {
        let message = &entry.message;
        let query = match (&message.raw, self.scenario.dialect) {
            (Some(raw), _) => raw.clone(),
            (None, Dialect::Unbound) => message.to_wire(0, message.edns(1232)),
            (None, Dialect::Deckard) => {
                message.to_wire(0x1234, Some((4096, message.dnssec_ok, message.options.as_deref().unwrap_or_default())))
            }
        };
        let ip = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let carrier = entry.matches.transport.unwrap_or(Carrier::Udp);
        let transport = if carrier == Carrier::Tcp { Transport::Tcp } else { Transport::Udp };
        let client = Client { address: SocketAddr::new(ip, 40_000), transport };
        match Received::read(&query) {
            Some(query) => self.stage.note(format!("{ip} asks {query}")),
            None => self.stage.note(format!("{ip} sends {} octets that are no message", query.len())),
        }
        let (subject, stage, answers) = (self.subject.clone(), self.stage.clone(), self.answers.clone());
        tokio::spawn(async move {
            let reply = subject.ask(&query, client).await;
            match reply.as_deref().map(Received::read) {
                Some(Some(reply)) => stage.note(format!("{ip} gets {reply}")),
                Some(None) => stage.note(format!("{ip} gets what is no message")),
                None => stage.note(format!("{ip} gets no reply")),
            }
            answers.lock().expect("nobody panics while holding it").push(Answer { client: ip, carrier, reply });
            stage.stir();
        });
    }

    fn has_answers(&self) -> bool {
        self.answers.lock().expect("nobody panics while holding it").iter().any(|answer| answer.reply.is_some())
    }

    /// Looks for an answer as the entry describes it, and takes it.
    fn check_answer(&self, step: &Step, entry: &Entry) -> Result<(), String> {
        let mut answers = self.answers.lock().expect("nobody panics while holding it");
        let mut first_difference = None;
        for (at, answer) in answers.iter().enumerate() {
            let Some(reply) = &answer.reply else { continue };
            if step.address.is_some_and(|address| address != answer.client) {
                continue;
            }
            match self.compare(entry, reply, answer.carrier) {
                Ok(()) => {
                    answers.remove(at);
                    return Ok(());
                }
                Err(difference) => {
                    first_difference.get_or_insert(difference);
                }
            }
        }
        Err(at(step, first_difference.unwrap_or_else(|| "no answer".to_owned())))
    }

    fn compare(&self, entry: &Entry, reply: &[u8], carrier: Carrier) -> Result<(), String> {
        if let (Some(raw), Dialect::Deckard) = (&entry.message.raw, self.scenario.dialect) {
            return if raw == reply { Ok(()) } else { Err("the octets differ".to_owned()) };
        }
        let received = Received::read(reply).ok_or("the reply is no message")?;
        compare::compare(&entry.message, &entry.matches, &received, carrier, self.scenario.dialect)
    }

    /// Whether a query that a server got is the one that the entry describes.
    fn matches_query(&self, message: &Entry, pending: &Pending) -> bool {
        let matches: &Matches = &message.matches;
        compare::compare(&message.message, matches, &pending.received, pending.carrier, self.scenario.dialect).is_ok()
    }

    fn answer(&self, pending: Pending, entry: &Entry) {
        let reply = reply_to(&pending, entry, self.scenario.dialect);
        self.stage.note(format!("  == #{} has the reply at line {}", pending.number, entry.line));
        self.sent.lock().expect("nobody panics while holding it").insert(entry.line);
        let delay = entry.adjust.sleep;
        pending.finish(&self.stage, Ok(reply), delay);
    }

    /// One exchange that a range has a reply for is answered.
    fn answer_from_ranges(&self, step: u32) -> bool {
        let mut found = None;
        let pending = self.stage.take(|pending| {
            let ranges = self.scenario.ranges.iter().filter(|range| range.covers(step, pending.server.ip()));
            found = ranges.flat_map(|range| &range.entries).find(|entry| self.matches_query(entry, pending));
            found.is_some()
        });
        match (pending, found) {
            (Some(pending), Some(entry)) => {
                self.answer(pending, entry);
                true
            }
            _ => false,
        }
    }

    /// The manner of testbound: what is under way is matched with the moment that comes next.
    async fn play_unbound(&mut self) -> Result<(), String> {
        let mut next = 0;
        while let Some(step) = self.steps.get(next) {
            self.settle().await;
            if let Event::CheckOutQuery(entry) = &step.event {
                let wanted = |pending: &Pending| {
                    step.address.is_none_or(|address| address == pending.server.ip())
                        && self.matches_query(entry, pending)
                };
                if let Some(pending) = self.stage.take(wanted) {
                    self.stage.note(format!("step {} sees #{}", step.number, pending.number));
                    if entry.adjust.copy_id {
                        self.answer(pending, entry);
                    } else {
                        self.stage.put_back(pending);
                    }
                    next += 1;
                    continue;
                }
            }
            if let (Event::CheckAnswer(entry), true) = (&step.event, self.has_answers()) {
                self.stage.note(format!("step {} {}", step.number, step.event));
                self.check_answer(step, entry)?;
                next += 1;
                continue;
            }
            if self.answer_from_ranges(step.number) {
                continue;
            }
            let needless = self.has_answers();
            if let Event::CheckAnswer(_) | Event::CheckOutQuery(_) = step.event
                && !needless
            {
                // What must come may be behind a timer.
                if self.stage.wait(PATIENCE).await {
                    continue;
                }
                return Err(at(step, "it does not come".to_owned()));
            }
            if let Event::CheckOutQuery(entry) = &step.event {
                // The answer is there without this query, and will be checked: a resolver may know a shorter way.
                self.stage.note(format!("step {} is not needed", step.number));
                if entry.mandatory {
                    return Err(at(step, "it does not come".to_owned()));
                }
                next += 1;
                continue;
            }
            self.stage.note(format!("step {} {}", step.number, step.event));
            self.act(step).await?;
            next += 1;
        }
        if self.has_answers() {
            return Err("an answer is left that no step has checked".to_owned());
        }
        Ok(())
    }

    /// A moment that does something.
    async fn act(&mut self, step: &Step) -> Result<(), String> {
        match &step.event {
            Event::Query(entry) => self.ask(entry, step.address),
            Event::Reply(entry) => {
                let about = entry.message.question.first();
                let asked = |pending: &Pending| {
                    let question = pending.received.question.first();
                    about.zip(question).is_some_and(|(about, question)| {
                        about.0.eq_ignore_ascii_case(&question.0) && about.1 == question.1
                    })
                };
                let pending = self.stage.take(asked).or_else(|| self.stage.take(|_| true));
                match pending {
                    Some(pending) => self.answer(pending, entry),
                    None if self.has_answers() => {}
                    None => return Err(at(step, "no query is waiting for a reply".to_owned())),
                }
            }
            Event::Timeout | Event::Error => {
                // How often a server is tried is a resolver's own affair: one that has given up needs no more of this.
                let error =
                    if matches!(step.event, Event::Timeout) { ExchangeError::Timeout } else { ExchangeError::Closed };
                if let Some(pending) = self.stage.take(|_| true) {
                    pending.finish(&self.stage, Err(error), Duration::ZERO);
                }
            }
            Event::Elapse(duration) => tokio::time::advance(*duration).await,
            Event::Evaluate(expression) => {
                let duration = seconds(&self.evaluate(step, expression)?).map_err(|what| at(step, what))?;
                tokio::time::advance(duration).await;
            }
            Event::Assign { variable, expression } => {
                let value = self.evaluate(step, expression)?;
                self.variables.assign(variable, value);
            }
            Event::CheckAutotrust { id, lines } => {
                let lines: Vec<String> =
                    lines.iter().map(|line| self.evaluate(step, line)).collect::<Result<_, String>>()?;
                self.subject.check_anchors(id, &lines).map_err(|what| at(step, what))?;
            }
            Event::FlushMessage(question) | Event::ExpireMessage(question) => {
                self.subject.flush(question).map_err(|what| at(step, what))?;
            }
            // A resolver that has its own idea of a server's speed loses nothing without this hint.
            Event::InfraRtt | Event::Nothing | Event::Traffic => {}
            Event::CheckTempfile | Event::CheckAnswer(_) | Event::CheckOutQuery(_) => {}
        }
        Ok(())
    }

    fn evaluate(&self, step: &Step, text: &str) -> Result<String, String> {
        let (now, next_probe) = (self.clock.now().wall, self.subject.next_probe(self.clock.now()));
        self.variables.expand(text, now, next_probe).map_err(|what| at(step, what))
    }

    /// The manner of Deckard: a query, its answer, then the next step.
    async fn play_deckard(&mut self) -> Result<(), String> {
        let mut last: Option<Option<Vec<u8>>> = None;
        for step in self.steps {
            self.stage.note(format!("step {} {}", step.number, step.event));
            match &step.event {
                Event::Query(entry) => {
                    self.ask(entry, step.address);
                    // Nobody waits for what becomes of octets that are no message.
                    let patience = if entry.message.raw.is_some() { Duration::ZERO } else { PATIENCE };
                    last = self.converse(step.number, patience).await;
                }
                Event::CheckAnswer(entry) => match &last {
                    Some(Some(reply)) => self.compare(entry, reply, Carrier::Udp).map_err(|what| at(step, what))?,
                    _ => return Err(at(step, "no answer".to_owned())),
                },
                Event::Elapse(duration) => {
                    tokio::time::advance(*duration).await;
                    self.converse(step.number, Duration::ZERO).await;
                }
                // Replies of steps are looked up when a query comes; queries that go out are not checked.
                Event::Reply(_) | Event::CheckOutQuery(_) | Event::Nothing => {}
                other => return Err(at(step, format!("{other} is not a word of Deckard's"))),
            }
        }
        Ok(())
    }

    /// Servers answer until the client has its answer, or for as long as it waits.
    async fn converse(&mut self, step: u32, patience: Duration) -> Option<Option<Vec<u8>>> {
        let deadline = Instant::now() + patience;
        loop {
            self.settle().await;
            if let Some(answer) = self.answers.lock().expect("nobody panics while holding it").pop() {
                return Some(answer.reply);
            }
            if self.answer_as_deckard(step) {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.stage.wait(left).await {
                return None;
            }
        }
    }

    /// Answers one exchange with a scripted server; a server without a fitting reply says SERVFAIL.
    fn answer_as_deckard(&mut self, step: u32) -> bool {
        let listed = |address: IpAddr| self.scenario.ranges.iter().any(|range| range.addresses.contains(&address));
        let from_replies = |address: IpAddr| {
            self.steps.iter().any(|step| matches!(&step.event, Event::Reply(entry) if mentions(entry, address)))
        };
        let Some(pending) = self.stage.take(|pending| listed(pending.server.ip()) || from_replies(pending.server.ip()))
        else {
            return false;
        };
        let address = pending.server.ip();
        // An address that no range lists is answered by whichever range there is.
        let range = self.scenario.ranges.iter().find(|range| {
            if listed(address) { range.covers(step, address) } else { (range.from..=range.to).contains(&step) }
        });
        let entry = match range {
            Some(range) => range.entries.iter().find(|entry| self.matches_query(entry, &pending)),
            None => {
                let reply = self.steps.iter().find_map(|candidate| match &candidate.event {
                    Event::Reply(entry)
                        if candidate.number >= step
                            && !self.spent.contains(&candidate.number)
                            && self.matches_query(entry, &pending) =>
                    {
                        Some((candidate.number, entry))
                    }
                    _ => None,
                });
                self.spent.extend(reply.map(|(number, _)| number));
                reply.map(|(_, entry)| entry)
            }
        };
        match entry {
            // Left alone until the resolver gives up.
            Some(entry) if entry.adjust.do_not_answer => self.stage.silence(pending),
            Some(entry) => self.answer(pending, entry),
            None => {
                let refusal = Entry {
                    adjust: Adjust { copy_id: true, copy_query: true, ..Adjust::default() },
                    ..Entry::default()
                };
                let mut message = refusal.clone();
                message.message.flags = 0x8002;
                message.message.rcode = 2;
                self.answer(pending, &message);
            }
        }
        true
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("{text:?} is no number of seconds"))
}

fn at(step: &Step, what: String) -> String {
    format!("line {}, step {} {}: {what}", step.line, step.number, step.event)
}

/// Whether the reply has the address in its data.
fn mentions(entry: &Entry, address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    entry.message.sections.iter().flatten().any(|record| record.data == octets)
}

/// The canned reply, changed as the entry says.
fn reply_to(pending: &Pending, entry: &Entry, dialect: Dialect) -> Vec<u8> {
    let Adjust { copy_id, copy_query, raw_id, .. } = entry.adjust;
    if let Some(raw) = &entry.message.raw {
        let mut reply = raw.clone();
        let copy = raw_id || dialect == Dialect::Unbound;
        if let (true, Some(id)) = (copy, reply.first_chunk_mut::<2>()) {
            *id = pending.received.id.to_be_bytes();
        }
        return reply;
    }
    let mut message = entry.message.clone();
    if copy_query {
        message.question = pending.received.question.clone();
    } else if let (Dialect::Deckard, true, Some(question), Some(asked)) =
        (dialect, copy_id, message.question.first_mut(), pending.received.question.first())
    {
        question.0.clone_from(&asked.0);
    }
    // Testbound hands replies over without a look at their identifiers.
    let id = if copy_id || dialect == Dialect::Unbound { pending.received.id } else { 0 };
    let mut options = message.options.clone();
    if entry.adjust.copy_client_subnet
        && let Some(options) = &mut options
        && options.len() > 7
    {
        // The scope of a client subnet option that stands alone.
        options[7] = options[6] + u8::from(entry.adjust.increment_ecs_scope);
    }
    let edns = match (dialect, &pending.received.opt) {
        (Dialect::Unbound, _) => message.edns(1232).map(|(payload, dnssec_ok, _)| (payload, dnssec_ok)),
        (Dialect::Deckard, opt) => opt.as_ref().map(|opt| (opt.payload.max(1232), opt.flags & DNSSEC_OK != 0)),
    };
    message.to_wire(id, edns.map(|(payload, dnssec_ok)| (payload, dnssec_ok, options.as_deref().unwrap_or_default())))
}
