//! What time it is: an argument everywhere, so that a test can choose it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment, as two clocks show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since the clock was made; never jumps. Cache ages and timers count in it.
    pub elapsed: Duration,
    /// Seconds since 1970, as the machine believes. Signatures and orders count in it.
    pub wall: u64,
}

impl Now {
    /// Whole seconds of [`Now::elapsed`]; what caches count in.
    pub fn seconds(self) -> u32 {
        self.elapsed.as_secs() as u32
    }
}

/// Where [`Now`] comes from. Cheap to clone; clones agree.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    /// The machine's own: `CLOCK_MONOTONIC`, and `CLOCK_REALTIME` through libc.
    pub fn system() -> Self {
        let start = Instant::now();
        Self::from_fn(move || Now {
            elapsed: start.elapsed(),
            wall: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        })
    }

    /// A clock of the caller's.
    pub fn from_fn(now: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What time it is.
    pub fn now(&self) -> Now {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
