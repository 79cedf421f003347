//! Asks the world, each question once at a time, and keeps what it says.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
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
    /// What is being asked, and where the answer will be. Locked for a look-up or a change, no longer.
    under_way: Mutex<HashMap<Question, Landing, RandomState>>,
    max_in_flight: usize,
    runtime: Handle,
    tasks: TaskTracker,
}

/// Where the answer to a question that is being asked will be.
#[derive(Debug, Clone)]
pub(super) struct Landing(watch::Receiver<Option<Arc<Entry>>>);

impl Landing {
    /// Waits for the answer; `None` when asking has come to nothing at all.
    pub(super) async fn entry(mut self) -> Option<Arc<Entry>> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

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

    /// Asks, or joins those who ask already; `None` when too much is being asked. Does not wait.
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
        if let Some(landing) = under_way.get(question) {
            return Some(landing.clone());
        }
        if under_way.len() >= self.max_in_flight {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        let landing = Landing(receiver);
        under_way.insert(question.clone(), landing.clone());
        drop(under_way);
        let flight = Flight { world: self.clone(), question: question.clone(), purpose };
        self.tasks.spawn_on(flight.fly(sender), &self.runtime);
        Some(landing)
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

/// A question that is being asked; off the list when it is dropped, however that comes.
struct Flight {
    world: Arc<World>,
    question: Question,
    purpose: Purpose,
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
    async fn fly(self, landing: watch::Sender<Option<Arc<Entry>>>) {
        let World { cache, clock, upstream, .. } = &*self.world;
        let resolution = match self.purpose {
            Purpose::Answer => upstream.resolve(&self.question, clock.now()).await,
            Purpose::Renewal => upstream.refresh(&self.question, clock.now()).await,
        };
        // An answer that is none, or to another question, is a fault of the resolver. Who waits is told SERVFAIL.
        if let Ok(entry) = cache.keep(Key::from(&self.question), &resolution, clock.now()) {
            landing.send_replace(Some(entry));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.world.under_way.lock().remove(&self.question);
    }
}
