//! Queries in datagrams: threads that receive, answer and send in batches.
//!
//! A worker sleeps in the kernel until a datagram comes, takes what else has
//! come, answers all that needs no waiting and sends the replies together.
//!
//! What must wait for the world waits on the same thread, as tasks of a runtime
//! that belongs to the worker alone: its questions, the sockets that they leave
//! from and their replies never cross to another thread, and replies that have
//! become ready together leave together. While there are such tasks the worker
//! sleeps where they sleep, in the runtime, and looks after its socket between
//! them. Then, and no longer, the runtime watches the socket: the system has work
//! with the watch at each datagram, in and out.
//!
//! Datagrams come before tasks, so that those who need not wait do not: a flood of
//! questions that must wait fills the places for them, and what exceeds those is
//! shed, rather than the socket's buffer, where it would delay everybody.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::runtime::{Builder, Runtime};
use tracing::{error, warn};

use crate::name::MAX_NAME_LEN;
use crate::pipeline::{Arrival, DropReason, Outcome, Pending, Recorder, Step};
use crate::policy::Room;
use crate::query::{Client, Transport};

use super::Service;
use super::admission::Ticket;
use super::batch::{self, BATCH, Batch, LateReply, ReturnPath, Wait};

/// Batches that a worker still serves after it was told to stop, when datagrams keep coming.
const LAST_BATCHES: usize = 64;
/// Batches that a worker receives without a task before the runtime watches its socket no more. To begin again costs as
/// much as the watch does in some ten small batches.
const CALM: u32 = 16;
/// Full batches that a worker serves before it is the tasks' turn.
const BATCHES_FIRST: usize = 8;
/// Tasks that run before a worker looks whether datagrams have come. With more of them, those who need not wait do wait
/// in a flood; with fewer, replies leave one by one, and each costs more.
const TASKS_FIRST: u32 = 16;
/// How long a worker waits when the system reports an error.
const PAUSE: Duration = Duration::from_millis(50);

/// One thread with a socket of its own.
pub(super) struct Worker {
    pub(super) service: Arc<Service>,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) recorder: Arc<dyn Recorder>,
    /// The socket is bound to a wildcard and tells our own address with each datagram.
    pub(super) is_wildcard: bool,
    pub(super) stop: Arc<AtomicBool>,
}

impl Worker {
    /// Serves until it is told to stop, nothing is left to receive, and what was received is answered.
    pub(super) fn run(self) {
        let runtime = match Builder::new_current_thread().enable_all().event_interval(TASKS_FIRST).build() {
            Ok(runtime) => runtime,
            Err(error) => return error!(%error, "a worker cannot start"),
        };
        let mut serving = Serving {
            worker: &self,
            runtime: &runtime,
            watch: Watch { socket: self.socket.clone(), readiness: None, calm: 0 },
            batch: Batch::new(self.is_wildcard),
            outbox: Arc::default(),
            names: vec![[0; MAX_NAME_LEN]; BATCH].into(),
            room: Room::default(),
            done: Vec::with_capacity(BATCH),
            last: LAST_BATCHES,
        };
        runtime.block_on(std::future::poll_fn(|context| serving.poll(context)));
    }
}

/// A worker at work.
struct Serving<'a> {
    worker: &'a Worker,
    runtime: &'a Runtime,
    watch: Watch,
    batch: Batch,
    outbox: Arc<Outbox>,
    /// The names that the queries of a batch ask for, and room to look them up.
    names: Box<[[u8; MAX_NAME_LEN]]>,
    room: Room,
    /// What became of the queries of a batch.
    done: Vec<Outcome>,
    /// How many more batches are served once the worker was told to stop.
    last: usize,
}

impl Serving<'_> {
    /// Receives a batch and answers what needs no waiting.
    fn turn(&mut self, wait: Wait) {
        let received = self.batch.receive(&self.worker.socket, wait);
        if self.worker.stop.load(Ordering::Relaxed) {
            self.last = if self.batch.is_empty() { 0 } else { self.last.saturating_sub(1) };
        }
        match received {
            Ok(()) => self.serve(),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => pause(&error, "receiving datagrams failed"),
        }
    }

    /// Serves until it was told to stop. Blocks while there are no tasks.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.outbox.stirred.register(context.waker());
        loop {
            let mut late = std::mem::take(&mut *self.outbox.replies.lock());
            let lost = self.batch.send_late(&self.worker.socket, &mut late);
            self.count_lost(lost);
            if self.last == 0 {
                // Whoever owes a reply holds the outbox; other tasks need not end.
                return if Arc::strong_count(&self.outbox) == 1 { Poll::Ready(()) } else { Poll::Pending };
            }
            if self.runtime.metrics().num_alive_tasks() == 0 {
                self.watch.rest();
                self.turn(Wait::ForOne);
                continue;
            }
            let is_watched = match self.watch.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => true,
                Poll::Ready(Err(error)) => {
                    pause(&error, "watching for datagrams failed");
                    false
                }
            };
            let has_more = (0..BATCHES_FIRST).all(|_| {
                self.turn(Wait::Not);
                self.batch.is_full()
            });
            if has_more || !is_watched {
                // It is the tasks' turn.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Nothing is left, and what comes from now on will be told.
            if let Poll::Ready(Ok(mut readable)) = self.watch.poll(context) {
                readable.clear_ready();
            }
        }
    }

    /// Answers a batch and sends the replies.
    fn serve(&mut self) {
        let began = self.answer();
        // They leave together, so they took as long as each other.
        let took = began.elapsed();
        self.done.drain(..).for_each(|outcome| self.worker.recorder.record(&outcome, took));
        let lost = self.batch.send(&self.worker.socket);
        self.count_lost(lost);
    }

    /// Writes the replies that need no waiting, and says when it began.
    fn answer(&mut self) -> Instant {
        let Self { worker, batch, outbox, runtime, done, names, room, .. } = self;
        let Worker { service, recorder, .. } = worker;
        let round = service.round();
        let began = round.began;
        let mut conclude = |step: Step, path: &ReturnPath, reply: &mut Vec<u8>| match step {
            Step::Done(outcome) => done.push(outcome),
            Step::Drop(reason) => recorder.dropped(reason),
            Step::Ask(pending) => match service.admission.wait(pending.client().ip()) {
                Some(ticket) => {
                    let late = Late {
                        service: service.clone(),
                        recorder: recorder.clone(),
                        outbox: outbox.clone(),
                        began,
                        path: *path,
                    };
                    service.tasks.spawn_on(late.answer(pending, ticket), runtime.handle());
                }
                None => done.push(service.pipeline.shed(pending, reply)),
            },
        };
        // First all are read, then looked up together, then answered: memory is slow, and fetches for many at once.
        let mut arrivals: SmallVec<[Arrival<'_>; BATCH]> = SmallVec::new();
        let mut ways: SmallVec<[(&ReturnPath, &mut Vec<u8>); BATCH]> = SmallVec::new();
        for ((message, path, reply), name) in batch.exchanges().zip(names.iter_mut()) {
            let Some(address) = path.client() else { continue };
            let client = Client { address, transport: Transport::Udp };
            match service.turn_away(&round, message, client, reply) {
                Some(step) => conclude(step, path, reply),
                None => {
                    arrivals.push(Arrival::read(message, client, name));
                    ways.push((path, reply));
                }
            }
        }
        service.pipeline.look_up_all(&round.view, &mut arrivals, room);
        for (arrival, (path, reply)) in arrivals.iter().zip(&mut ways) {
            conclude(service.pipeline.respond(arrival, &round.view, reply), path, reply);
        }
        began
    }

    fn count_lost(&self, replies: usize) {
        for _ in 0..replies {
            self.worker.recorder.dropped(DropReason::Send);
        }
    }
}

/// Tells of datagrams while the worker sleeps in its runtime.
struct Watch {
    socket: Arc<UdpSocket>,
    readiness: Option<AsyncFd<Arc<UdpSocket>>>,
    /// Batches received since there was a task.
    calm: u32,
}

impl Watch {
    /// Whether a datagram may be there; if not, who polls is woken by the next. To be called within the runtime.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<AsyncFdReadyGuard<'_, Arc<UdpSocket>>>> {
        self.calm = 0;
        let readiness = match self.readiness.take() {
            Some(readiness) => readiness,
            None => batch::watch(self.socket.clone())?,
        };
        self.readiness.insert(readiness).poll_read_ready(context)
    }

    /// Takes note that there is no task. In a short lull the watch goes on, for the next task is near.
    fn rest(&mut self) {
        self.calm = self.calm.saturating_add(1);
        if self.calm >= CALM {
            self.readiness = None;
        }
    }
}

fn pause(error: &io::Error, what: &str) {
    warn!(%error, "{what}");
    thread::sleep(PAUSE);
}

/// Replies that have become ready since the worker last looked.
#[derive(Default)]
struct Outbox {
    replies: Mutex<Vec<LateReply>>,
    stirred: AtomicWaker,
}

/// A query that waits for the world.
struct Late {
    service: Arc<Service>,
    recorder: Arc<dyn Recorder>,
    outbox: Arc<Outbox>,
    began: Instant,
    path: ReturnPath,
}

impl Late {
    async fn answer(self, pending: Box<Pending>, ticket: Ticket) {
        let mut reply = Vec::with_capacity(256);
        let outcome = self.service.pipeline.ask(pending, &mut reply).await;
        // The place is free before the client can know: its next query finds it so.
        drop(ticket);
        self.recorder.record(&outcome, self.began.elapsed());
        if !reply.is_empty() {
            self.outbox.replies.lock().push(LateReply { reply, path: self.path });
        }
        self.outbox.stirred.wake();
    }
}
