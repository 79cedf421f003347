//! Qalqan: a DNS resolver that enforces block lists and can answer for them.
//!
//! This page is the map. Dependencies point from a later line to an earlier
//! one, never back; a test holds the code to it.
//!
//! ```text
//! words      clock      what time it is, as an argument
//!            name       DomainName, and the key that a snapshot files it under
//!            query      what was asked, by whom, and the codes of answers
//!            rule       what an entry in a list can say
//!            wire       a message as bytes: header, question, OPT, a walk over records
//! lists      list       sources, one parser per syntax, reports, conversion
//!            snapshot   one verified file, mapped and searched in place
//!            compile    many lists become one snapshot: merge, guards, publish, roll back
//! decisions  policy     a name, address or client -> Judgement; pure and synchronous
//! answers    recursor   Upstream: iterate or forward, validate; sockets to name servers
//!            cache      what the world said, in wire form, bounded in bytes
//!            answer     replies: blocked forms, errors, EDNS, truncation
//!            filter     judges an answer by the same policy as a question
//!            pipeline   policy -> cache -> recursor -> filter -> answer, written out once
//! edges      metrics    counts outcomes, reads the rest when it is scraped
//!            front      UDP and TCP, who may ask, how much at once
//!            control    HTTP: API, its client, metrics, health
//!            config     the file as written -> checked settings, errors by key
//!            daemon     start in order, reload, drain
//!            cli        the commands
//! ```
//!
//! Two flows run through it:
//!
//! ```text
//! source -> fetch -> syntax -> Rule -> merge -> guards -> writer -> publish -> [generation file]
//!                                                                                  | open, verify, swap
//! datagram -> wire -> admission -> policy(name) --block--> answer -----------------+--> datagram
//!                                    | pass
//!                                 cache --hit--> filter --> answer        all of this on the receiving thread
//!                                    | miss
//!                                 bounded place -> tokio: coalesce -> recursor -> cache -> filter -> answer
//! ```

// Words: no input or output, no async.
pub mod clock;
pub mod name;
pub mod query;
pub mod rule;
pub mod wire;

// Lists become a snapshot.
pub mod list;
pub mod snapshot;

pub mod compile;

// Decisions.
pub mod policy;

// Answers.
pub mod answer;
pub mod cache;
pub mod filter;
pub mod recursor;

pub mod pipeline;

// Edges.
pub mod front;
pub mod metrics;

pub mod config;
pub mod control;

pub mod daemon;

pub mod cli;
