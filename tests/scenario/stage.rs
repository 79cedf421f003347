//! The scripted world: what stands where the network is in production.
//!
//! Each query that the resolver sends becomes a [`Pending`] exchange. The
//! player looks at them, answers from the ranges or the steps of the
//! scenario, or leaves them alone until the resolver's own timer gives up.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use qalqan::recursor::BoxFuture;
use qalqan::recursor::network::{Exchange, ExchangeError, Network, Protocol};
use qalqan::recursor::transport::answers;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::compare::Received;
use super::script::Carrier;

/// Everything that is under way between the resolver and the scripted servers.
pub(crate) struct Stage {
    state: Mutex<State>,
    stirred: Notify,
    start: Instant,
}

#[derive(Default)]
struct State {
    pending: Vec<Pending>,
    /// Those that will never be answered.
    silent: Vec<Pending>,
    /// Counts whatever happens, so that the player can see that nothing does.
    activity: u64,
    next_number: u64,
    trace: String,
}

/// A query that a scripted server has received and not answered.
pub(crate) struct Pending {
    pub(crate) number: u64,
    pub(crate) server: SocketAddr,
    pub(crate) carrier: Carrier,
    query: Vec<u8>,
    /// The query, read.
    pub(crate) received: Received,
    reply: oneshot::Sender<Result<Vec<u8>, ExchangeError>>,
}

impl Stage {
    /// An empty stage. Must be called on the runtime whose clock counts.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), stirred: Notify::new(), start: Instant::now() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the stage")
    }

    /// Notes that something has happened.
    pub(crate) fn stir(&self) {
        self.state().activity += 1;
        self.stirred.notify_one();
    }

    /// How often something has happened.
    pub(crate) fn activity(&self) -> u64 {
        self.state().activity
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        let elapsed = self.start.elapsed();
        let trace = &mut self.state().trace;
        let _ = writeln!(trace, "{:>9.3} {}", elapsed.as_secs_f64(), line.as_ref());
    }

    /// All that was noted.
    pub(crate) fn trace(&self) -> String {
        self.state().trace.clone()
    }

    /// Takes the first exchange that `choose` wants, the newest first; those that nobody waits for any more are gone.
    pub(crate) fn take(&self, mut choose: impl FnMut(&Pending) -> bool) -> Option<Pending> {
        let pending = &mut self.state().pending;
        pending.retain(|pending| !pending.reply.is_closed());
        let at = pending.iter().rposition(&mut choose)?;
        Some(pending.remove(at))
    }

    /// Returns an exchange that was only looked at.
    pub(crate) fn put_back(&self, pending: Pending) {
        self.state().pending.push(pending);
    }

    /// Lets an exchange run into its time-out.
    pub(crate) fn silence(&self, pending: Pending) {
        self.state().silent.push(pending);
    }

    /// Waits until something happens, or for `limit`; says which.
    pub(crate) async fn wait(&self, limit: Duration) -> bool {
        let before = self.activity();
        let deadline = Instant::now() + limit;
        while self.activity() == before {
            if tokio::time::timeout_at(deadline, self.stirred.notified()).await.is_err() {
                return self.activity() != before;
            }
        }
        true
    }
}

impl Pending {
    /// Ends the exchange, after `delay`; a reply that does not belong to the query is passed over, and waiting goes on.
    pub(crate) fn finish(self, stage: &Arc<Stage>, result: Result<Vec<u8>, ExchangeError>, delay: Duration) {
        let stage = stage.clone();
        let deliver = move || {
            match &result {
                Ok(reply) => match Received::read(reply) {
                    Some(reply) => stage.note(format!("  <- #{} {reply}", self.number)),
                    None => stage.note(format!("  <- #{} {} octets that are no message", self.number, reply.len())),
                },
                Err(error) => stage.note(format!("  <- #{} {error}", self.number)),
            }
            if result.as_ref().is_ok_and(|reply| !answers(&self.query, reply)) {
                stage.silence(self);
            } else {
                let _ = self.reply.send(result);
            }
            stage.stir();
        };
        if delay.is_zero() {
            deliver();
        } else {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                deliver();
            });
        }
    }
}

/// The stage as the resolver sees it.
pub(crate) struct ScriptedNetwork(pub(crate) Arc<Stage>);

impl Network for ScriptedNetwork {
    fn exchange<'a>(&'a self, exchange: Exchange<'a>) -> BoxFuture<'a, Result<Vec<u8>, ExchangeError>> {
        Box::pin(async move {
            let carrier = match exchange.protocol {
                Protocol::Udp => Carrier::Udp,
                Protocol::Tcp | Protocol::Tls { .. } => Carrier::Tcp,
            };
            let received = Received::read(exchange.query).expect("the resolver sends messages");
            let (reply, waiting) = oneshot::channel();
            let number = {
                let mut state = self.0.state();
                state.next_number += 1;
                let number = state.next_number;
                let (server, query) = (exchange.server, exchange.query.to_vec());
                state.pending.push(Pending { number, server, carrier, query, received, reply });
                number
            };
            let shown = Received::read(exchange.query).expect("read before");
            self.0.note(format!("  -> #{number} {} {carrier:?} {shown}", exchange.server));
            self.0.stir();
            match tokio::time::timeout(exchange.timeout, waiting).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(ExchangeError::Closed),
                Err(_) => {
                    self.0.note(format!("  -- #{number} nothing came in {:?}", exchange.timeout));
                    self.0.stir();
                    Err(ExchangeError::Timeout)
                }
            }
        })
    }
}
