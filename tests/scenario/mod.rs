//! Plays conversations written for other resolvers against ours, in process.

pub(crate) mod compare;
pub(crate) mod record;
pub(crate) mod script;
