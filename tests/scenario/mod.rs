//! Plays conversations written for other resolvers against ours, in process.
//!
//! ```text
//! script      a .rpl file, read to the last word     macros   its little language for times
//! record      records between text and wire form     compare  whether a message is as expected
//! config      the file's header in our settings      legacy   signatures of old, still checked
//! local       local-zone and local-data, as lists
//! subject     the resolver that is tested            stage    the scripted network around it
//! player      a scenario from its first step to its last
//! report      folders of scenarios, and a table
//! ```

pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod legacy;
pub(crate) mod local;
pub(crate) mod macros;
pub(crate) mod player;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod script;
pub(crate) mod stage;
pub(crate) mod subject;
