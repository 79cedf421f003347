//! What the pipeline must be told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{answer, cache};

/// What the pipeline must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How replies look.
    pub answer: answer::Settings,
    /// What is kept, and for how long.
    pub cache: cache::Settings,
    /// How long a client waits at most, and for what.
    pub patience: Patience,
    /// The resolver validates what the world says, or asks others who may; otherwise CD makes no difference.
    pub validating: bool,
    /// What a query without RD gets.
    pub non_recursive: NonRecursive,
    /// What a query for type ANY gets.
    pub any: AnyQueries,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            answer: answer::Settings::default(),
            cache: cache::Settings::default(),
            patience: Patience::default(),
            validating: true,
            non_recursive: NonRecursive::default(),
            any: AnyQueries::default(),
        }
    }
}

/// How long clients are kept waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// No client waits longer for any answer; what comes later is for the cache.
    pub client_timeout: Duration,
    /// Questions that may be asked of the world at once; a client with a further one is turned away (EDE 23).
    pub max_in_flight: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { client_timeout: Duration::from_secs(4), max_in_flight: 4096 }
    }
}

/// What a query without RD gets, when no rule speaks about its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NonRecursive {
    /// REFUSED: the cache is nobody's business.
    #[default]
    Refuse,
    /// What the cache has, or REFUSED.
    FromCache,
}

/// What a query for type ANY gets, when no rule speaks about its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnyQueries {
    /// What name servers say.
    #[default]
    Resolve,
    /// A HINFO record and nobody is asked (RFC 8482, section 4.2).
    Minimal,
}
