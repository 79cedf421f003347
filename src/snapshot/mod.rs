//! Compiled lists, opened from disk and read in place.
//!
//! A [`Snapshot`] has been checked from end to end before anyone holds it, so
//! a look-up cannot fail. A [`Writer`] makes the file; bringing many lists into
//! the order it needs is the work of [`compile`](crate::compile), deciding by
//! what a look-up finds that of [`policy`](crate::policy).

mod rules;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::name::DomainName;
use crate::rule::{Action, BlockReason, Dossier, ListId, Scope, TypeFilter};

pub use rules::{ActionRef, RecordRef, RecordsRef};
pub use writer::{RuleIndex, WriteError, Writer, Written};

/// What a snapshot was made of: a file says by itself which lists it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The lists in the order of the configuration; [`ListId`] is the place here.
    pub lists: Vec<ListEntry>,
}

/// One list of an [`Inventory`]: what policy must know of it, and how its reading went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// The name in the configuration; a label of metrics.
    pub name: String,
    /// Where its text came from: a path, a glob or a URL.
    pub source: String,
    /// The syntax that it was read as.
    pub format: String,
    /// What its plain entries do.
    pub action: Action,
    /// The reason its blocked answers give, unless an entry has one of its own.
    pub reason: BlockReason,
    /// The template of its EXTRA-TEXT; see [`policy::template`](crate::policy::template).
    pub ede_text: Option<String>,
    /// Higher goes first.
    pub priority: i32,
    /// Its matches are counted and block nothing.
    pub shadow: bool,
    /// The TTL of its blocked answers, when it is not the general one.
    pub ttl: Option<u32>,
    /// The most specific owner wins, and the list is a tier of its own, as in a response policy zone.
    pub most_specific_wins: bool,
    /// Lines read.
    pub lines: u64,
    /// Lines refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Names and prefixes in the snapshot that this list has a rule for; the [`Writer`] counts them.
    #[serde(default)]
    pub entries: u64,
}

impl ListEntry {
    /// A list with the defaults of the configuration and nothing in it.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: String::new(),
            format: String::new(),
            action: Action::Sinkhole,
            reason: BlockReason::Blocked,
            ede_text: None,
            priority: 0,
            shadow: false,
            ttl: None,
            most_specific_wins: false,
            lines: 0,
            refused: BTreeMap::new(),
            entries: 0,
        }
    }
}

/// A [`Rule`](crate::rule::Rule) without its name, with its list's settings merged in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CompiledRule {
    /// The list it is from.
    pub list: ListId,
    /// Which names it covers, seen from the name it is filed under.
    pub scope: Scope,
    /// What to do.
    pub action: Action,
    /// Wins over every rule of its tier that is not important.
    pub important: bool,
    /// The query types it is for.
    pub types: TypeFilter,
    /// Names, with all below them, that it leaves alone.
    pub except: Vec<DomainName>,
    /// What is on file about it.
    pub dossier: Option<Box<Dossier>>,
}

/// One generation of lists, mapped into memory and verified.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    generation: String,
    inventory: Inventory,
}

/// Why a snapshot was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be opened or mapped.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Snapshot {
    /// Opens the snapshot at `path` and checks all of it.
    ///
    /// Reads every byte once. Look-ups afterwards touch only the pages they need.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, may be written by others, is of another
    /// format version, or is damaged. A caller that already serves a snapshot
    /// keeps serving it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let _ = std::fs::metadata(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        unimplemented!("under way")
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hash of the content, in hexadecimal; equal files have equal ones.
    pub fn generation(&self) -> &str {
        &self.generation
    }

    /// What it was made of.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// How many names have rules.
    pub fn names(&self) -> u64 {
        0
    }

    /// How many octets the file has.
    pub fn bytes(&self) -> u64 {
        0
    }
}
