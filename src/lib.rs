//! Qalqan: a DNS resolver that enforces block lists and can answer for them.
//!
//! This page is the map. Dependencies point down each group and from a later
//! group to an earlier one, never back; `tests/layers.rs` holds the code to it.
//!
//! ```text
//! source -> fetch -> syntax -> Rule -> merge -> guards -> writer -> publish -> [generation file]
//!                                                                                  | open, verify, swap
//! datagram -> wire -> admission -> policy(name) --block--> answer -----------------+--> datagram
//!                                    | pass
//!                                 cache --hit--> filter --> answer        all of this on the receiving thread
//!                                    | miss
//!                                 bounded queue -> tokio: coalesce -> recursor -> cache -> filter -> answer
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
