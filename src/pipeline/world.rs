//! Asks the world, each question once at a time, and keeps what it says.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use ahash::RandomState;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::cache::{Cache, Entry, Key};
use crate::clock::Clock;
use crate::name::Name;
use crate::query::{NameServers, Question};
use crate::recursor::Upstream;

/// The resolver, with the cache in front of it.
pub(super) struct World {
    pub(super) cache: Cache,
    pub(super) clock: Clock,
    upstream: Arc<dyn Upstream>,
    /// What is being asked, and who else waits for it. Locked for a look-up or a change, no longer.
    under_way: Mutex<HashMap<Question, Followers, RandomState>>,
    max_in_flight: usize,
    runtime: Handle,
    tasks: TaskTracker,
}

/// Those who wait for what somebody else asks: nobody, most of the time.
type Followers = Option<watch::Sender<Landed>>;
/// The answer, once it is there.
type Landed = Option<Entry>;

impl World {
    pub(super) fn new(cache: Cache, clock: Clock, upstream: Arc<dyn Upstream>, max_in_flight: usize) -> Arc<Self> {
        Arc::new(Self {
            cache,
            clock,
            upstream,
            under_way: Mutex::default(),
            max_in_flight,
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
        })
    }

    /// Asks, or joins those who ask already; `None` when too much is being asked.
    ///
    /// The question is asked to its end, also when nobody waits for it any more: the answer is for the cache.
    pub(super) fn ask(self: &Arc<Self>, question: &Question) -> Option<Landing> {
        self.start(question, Purpose::Answer)
    }

    /// As [`ask`](Self::ask), for an answer that is in the cache and about to end.
    pub(super) fn renew(self: &Arc<Self>, question: &Question) -> Option<Landing> {
        self.start(question, Purpose::Renewal)
    }

    fn start(self: &Arc<Self>, question: &Question, purpose: Purpose) -> Option<Landing> {
        let mut under_way = self.under_way.lock();
        if let Some(followers) = under_way.get_mut(question) {
            let landed = followers.get_or_insert_with(|| watch::Sender::new(None)).subscribe();
            return Some(Landing::Follow(landed));
        }
        if under_way.len() >= self.max_in_flight {
            return None;
        }
        under_way.insert(question.clone(), None);
        drop(under_way);
        let flight = Flight { world: self.clone(), question: question.clone(), purpose, is_listed: true };
        // A fault of the resolver costs this one answer, not whoever asks.
        let flight = AssertUnwindSafe(flight.fly()).catch_unwind().map(|landed| landed.ok().flatten());
        let runtime = self.runtime.clone();
        Some(Landing::Lead(Aloft { world: self.clone(), flight: Some(Box::pin(flight)), runtime }))
    }

    /// The name servers on the way to `name`, as far as the resolver knows them.
    pub(super) fn name_servers(&self, name: &Name) -> NameServers {
        self.upstream.name_servers(name)
    }

    /// Waits until nothing is being asked any more.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Where the answer to a question that is being asked will be.
pub(super) enum Landing {
    /// Whoever holds this is the one who asks.
    Lead(Aloft),
    /// Somebody else does.
    Follow(watch::Receiver<Landed>),
}

impl Landing {
    /// Waits for the answer until `deadline`; `None` when it has not come by then, or asking has come to nothing.
    pub(super) async fn entry(self, deadline: Instant) -> Landed {
        match self {
            Self::Lead(mut aloft) => {
                aloft.runtime = Handle::current();
                let flight = aloft.flight.as_mut()?;
                let landed = timeout_at(deadline, flight).await.ok()?;
                aloft.flight = None;
                landed
            }
            Self::Follow(mut landed) => {
                timeout_at(deadline, landed.wait_for(Option::is_some)).await.ok()?.ok()?.clone()
            }
        }
    }
}

/// A flight in the hands of the one who waits for it. When it is let go of before its end it goes on by itself.
pub(super) struct Aloft {
    world: Arc<World>,
    flight: Option<Pin<Box<dyn Future<Output = Landed> + Send>>>,
    /// Where it goes on: where it began, since its sockets and timers are watched there.
    runtime: Handle,
}

impl Drop for Aloft {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            self.world.tasks.spawn_on(flight, &self.runtime);
        }
    }
}

/// A question that is being asked; off the list when it is dropped, however that comes.
struct Flight {
    world: Arc<World>,
    question: Question,
    purpose: Purpose,
    is_listed: bool,
}

/// What a question is asked for.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// Somebody waits.
    Answer,
    /// What is cached shall last: the world has to be asked, not what is cached further down.
    Renewal,
}

impl Flight {
    async fn fly(mut self) -> Landed {
        let World { cache, clock, upstream, .. } = &*self.world;
        let resolution = match self.purpose {
            Purpose::Answer => upstream.resolve(&self.question, clock.now()).await,
            Purpose::Renewal => upstream.refresh(&self.question, clock.now()).await,
        };
        // An answer that is none, or to another question, is a fault of the resolver. Who waits is told SERVFAIL.
        let entry = cache.keep(Key::from(&self.question), &resolution, clock.now()).ok()?;
        if let Some(followers) = self.leave_list() {
            followers.send_replace(Some(entry.clone()));
        }
        Some(entry)
    }

    /// Takes it off the list, once: who comes next may already ask again.
    fn leave_list(&mut self) -> Followers {
        let is_listed = std::mem::take(&mut self.is_listed);
        is_listed.then(|| self.world.under_way.lock().remove(&self.question))?.flatten()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Followers whose sender goes learn that there will be no answer.
        self.leave_list();
    }
}
