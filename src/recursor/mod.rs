//! Asks the world: a question in, an answer and its security out.
//!
//! [`Upstream`] is the seam that the pipeline sees. Behind it, the engine
//! iterates from the root or forwards, [`dnssec`] judges what it brings, and
//! everything leaves and arrives through a [`Network`](network::Network), which
//! a test can script.

pub mod dnssec;
pub mod message;
pub mod network;

use std::future::Future;
use std::pin::Pin;

use crate::clock::Now;
use crate::query::{ExtendedError, Question, Rcode};

/// A future that a trait object hands out.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers questions about the world.
pub trait Upstream: Send + Sync + 'static {
    /// Finds the answer, or says in it why there is none.
    ///
    /// Ends within the resolver's own time limit, which is above the client's:
    /// the work goes on for the cache when nobody waits any more.
    fn resolve<'a>(&'a self, question: &'a Question, now: Now) -> BoxFuture<'a, Resolution>;
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
}
