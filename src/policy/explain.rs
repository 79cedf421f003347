//! Every rule that speaks about a name, which one decides, and why.

use serde::Serialize;

use crate::name::DomainName;
use crate::query::RecordType;

/// What policy says about a name, in full.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The name asked about.
    pub name: DomainName,
    /// The query type asked about.
    pub qtype: RecordType,
    /// The generation that was looked into.
    pub generation: String,
    /// `pass`, `allow` or `block`.
    pub verdict: &'static str,
    /// Why, in a sentence.
    pub why: String,
}
