//! Rules, actions and dossiers as they stand in a snapshot.
//!
//! A rule is a record of fixed length; what varies in length stands in the
//! blobs: here is how each kind of blob is written and read.
//!
//! | blob | octets |
//! |---|---|
//! | name | wire form |
//! | records | for each: type, time to live (all ones: none), length, data |
//! | types | 1 for "only", 2 for "all but"; the types, two octets each |
//! | names | wire forms, one behind the other |
//! | dossier | the fields there are, as bits; for each text the place of its blob, for each time a `u64`, the place of the rest as JSON, the reason |

use std::collections::BTreeMap;

use super::Snapshot;
use super::layout::{NO_BLOB, RuleRecord, u16_at, u32_at, u64_at};
use crate::name::Name;
use crate::query::RecordType;
use crate::rule::{Action, BlockReason, Dossier, ListId, LocalRecord, Scope, TypeFilter};

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

/// What stands for a record without a time to live of its own.
const NO_TTL: u32 = u32::MAX;

impl<'s> RecordsRef<'s> {
    /// The records in the order of the list.
    pub fn iter(self) -> impl Iterator<Item = RecordRef<'s>> {
        let mut rest = self.encoded;
        std::iter::from_fn(move || {
            let (rtype, ttl) = (RecordType(u16_at(rest, 0)?), u32_at(rest, 2)?);
            let (rdata, after) = rest.get(8..)?.split_at_checked(usize::from(u16_at(rest, 6)?))?;
            rest = after;
            Some(RecordRef { rtype, ttl: (ttl != NO_TTL).then_some(ttl), rdata })
        })
    }

    fn encode(records: &[LocalRecord]) -> Vec<u8> {
        let mut blob = Vec::new();
        for record in records {
            // Data longer than a record can be has no place in a message: cut here, refused by whoever reads a list.
            let rdata = &record.rdata[..record.rdata.len().min(usize::from(u16::MAX))];
            blob.extend(record.rtype.0.to_le_bytes());
            blob.extend(record.ttl.map_or(NO_TTL, |ttl| ttl.min(NO_TTL - 1)).to_le_bytes());
            blob.extend((rdata.len() as u16).to_le_bytes());
            blob.extend(rdata);
        }
        blob
    }

    /// Whether `encoded` is records and nothing else.
    fn is_sound(encoded: &'s [u8]) -> bool {
        let read: usize = Self { encoded }.iter().map(|record| 8 + record.rdata.len()).sum();
        read == encoded.len()
    }
}

/// The variable part of an action, when it has one.
pub(super) fn encode_payload(action: &Action) -> Option<Vec<u8>> {
    match action {
        Action::Cname(target) => Some(target.as_wire().to_vec()),
        Action::Records(records) => Some(RecordsRef::encode(records)),
        _ => None,
    }
}

fn decode_action(index: u8, payload: Option<&[u8]>) -> Option<ActionRef<'_>> {
    Some(match index {
        0 => ActionRef::Sinkhole,
        1 => ActionRef::NxDomain,
        2 => ActionRef::NoData,
        3 => ActionRef::Refused,
        4 => ActionRef::Drop,
        5 => ActionRef::Truncate,
        6 => ActionRef::Cname(Name::from_wire(payload?).ok()?),
        7 => ActionRef::Records(RecordsRef { encoded: payload? }),
        8 => ActionRef::Allow,
        _ => return None,
    })
}

/// A filter of types; `None` when it lets all pass.
pub(super) fn encode_types(types: &TypeFilter) -> Option<Vec<u8>> {
    let (kind, types) = match types {
        TypeFilter::All => return None,
        TypeFilter::Only(types) => (1, types),
        TypeFilter::Except(types) => (2, types),
    };
    let mut blob = vec![kind];
    blob.extend(types.iter().flat_map(|rtype| rtype.0.to_le_bytes()));
    Some(blob)
}

fn types_cover(blob: &[u8], qtype: RecordType) -> bool {
    let Some((kind, types)) = blob.split_first() else {
        return true;
    };
    types.chunks_exact(2).any(|octets| octets == qtype.0.to_le_bytes()) == (*kind == 1)
}

/// Names one behind the other; `None` when there are none.
pub(super) fn encode_names(names: &[impl AsRef<Name>]) -> Option<Vec<u8>> {
    (!names.is_empty()).then(|| names.iter().flat_map(|name| name.as_ref().as_wire()).copied().collect())
}

fn decode_names(mut blob: &[u8]) -> impl Iterator<Item = &Name> {
    std::iter::from_fn(move || {
        let mut end = 0;
        while *blob.get(end)? != 0 {
            end += 1 + usize::from(blob[end]);
        }
        let (name, after) = blob.split_at(end + 1);
        blob = after;
        Name::from_wire(name).ok()
    })
}

/// The reasons by their number in the file.
const REASONS: [BlockReason; 4] =
    [BlockReason::Blocked, BlockReason::Censored, BlockReason::Filtered, BlockReason::None];

pub(super) fn encode_reason(reason: BlockReason) -> u8 {
    match reason {
        BlockReason::Blocked => 0,
        BlockReason::Censored => 1,
        BlockReason::Filtered => 2,
        BlockReason::None => 3,
    }
}

pub(super) fn encode_scope(scope: Scope) -> u8 {
    match scope {
        Scope::Exact => 0,
        Scope::Below => 1,
        Scope::Subdomains => 2,
    }
}

fn decode_scope(scope: u8) -> Option<Scope> {
    [Scope::Exact, Scope::Below, Scope::Subdomains].get(usize::from(scope)).copied()
}

/// Bits of a dossier's first two octets; those of the texts are numbered as [`DossierText`], in the order of
/// [`Dossier::texts`].
const FIRST_TIME_BIT: usize = 10;
const EXTRA_BIT: usize = 13;
const EDE_BIT: usize = 14;

/// A dossier; `text` files a text and says where.
pub(super) fn encode_dossier(dossier: &Dossier, mut text: impl FnMut(&str) -> u32) -> Vec<u8> {
    let mut there = 0u16;
    let mut fields = Vec::new();
    for (bit, (_, field)) in dossier.texts().into_iter().enumerate() {
        if let Some(field) = field {
            there |= 1 << bit;
            fields.extend(text(field).to_le_bytes());
        }
    }
    for (bit, (_, field)) in dossier.times().into_iter().enumerate() {
        if let Some(time) = field {
            there |= 1 << (FIRST_TIME_BIT + bit);
            fields.extend(time.to_le_bytes());
        }
    }
    if !dossier.extra.is_empty() {
        there |= 1 << EXTRA_BIT;
        fields.extend(
            text(&serde_json::to_string(&dossier.extra).expect("a map of texts has a JSON form")).to_le_bytes(),
        );
    }
    if let Some(reason) = dossier.ede {
        there |= 1 << EDE_BIT;
        fields.push(encode_reason(reason));
    }
    [&there.to_le_bytes()[..], &fields].concat()
}

/// A dossier, read in place.
#[derive(Debug, Clone, Copy)]
pub struct DossierRef<'s> {
    snapshot: &'s Snapshot,
    encoded: &'s [u8],
}

/// A text of a [`DossierRef`], in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DossierText {
    OrderId,
    Authority,
    LegalBasis,
    Category,
    Jurisdiction,
    Reason,
    Contact,
    Lang,
    SourceRef,
    EdeText,
}

impl<'s> DossierRef<'s> {
    /// One of the texts.
    pub fn text(self, field: DossierText) -> Option<&'s str> {
        let there = u16_at(self.encoded, 0)?;
        let bit = field as u32;
        if there & 1 << bit == 0 {
            return None;
        }
        let before = (there & ((1 << bit) - 1)).count_ones() as usize;
        let blob = self.snapshot.blob(u32_at(self.encoded, 2 + 4 * before)?)?;
        std::str::from_utf8(blob).ok()
    }

    /// All of it.
    pub fn to_dossier(self) -> Dossier {
        let there = u16_at(self.encoded, 0).unwrap_or(0);
        let has = |bit: usize| there & 1 << bit != 0;
        let before = |bit: usize| (there & ((1 << bit) - 1)).count_ones() as usize;
        let times_at = 2 + 4 * before(FIRST_TIME_BIT);
        let time_at = |bit| times_at + 8 * (before(bit) - before(FIRST_TIME_BIT));

        let text = |field| self.text(field).map(str::to_owned);
        let time = |bit| if has(bit) { u64_at(self.encoded, time_at(bit)) } else { None };
        let extra = || serde_json::from_slice(self.snapshot.blob(u32_at(self.encoded, time_at(EXTRA_BIT))?)?).ok();
        let ede = || REASONS.get(usize::from(*self.encoded.last()?)).copied();
        Dossier {
            order_id: text(DossierText::OrderId),
            authority: text(DossierText::Authority),
            legal_basis: text(DossierText::LegalBasis),
            category: text(DossierText::Category),
            jurisdiction: text(DossierText::Jurisdiction),
            reason: text(DossierText::Reason),
            contact: text(DossierText::Contact),
            lang: text(DossierText::Lang),
            source_ref: text(DossierText::SourceRef),
            ede: if has(EDE_BIT) { ede() } else { None },
            ede_text: text(DossierText::EdeText),
            issued_at: time(FIRST_TIME_BIT),
            effective_at: time(FIRST_TIME_BIT + 1),
            expires_at: time(FIRST_TIME_BIT + 2),
            extra: if has(EXTRA_BIT) { extra().unwrap_or_default() } else { BTreeMap::new() },
        }
    }
}

/// A rule of a snapshot, read in place.
#[derive(Debug, Clone, Copy)]
pub struct RuleRef<'s> {
    snapshot: &'s Snapshot,
    octets: &'s [u8; RuleRecord::LEN],
}

impl<'s> RuleRef<'s> {
    pub(super) fn new(snapshot: &'s Snapshot, octets: &'s [u8; RuleRecord::LEN]) -> Self {
        Self { snapshot, octets }
    }

    /// All of its record; whoever needs one field pays for no other.
    #[inline]
    fn record(self) -> RuleRecord {
        RuleRecord::read(self.octets)
    }

    /// Whether every number in the record means something.
    pub(super) fn is_sound(self) -> bool {
        let record = self.record();
        let there = |blob| blob == NO_BLOB || self.snapshot.blob(blob).is_some();
        let payload = self.snapshot.blob(record.payload);
        let names: usize = self.except().map(|name| name.as_wire().len()).sum();
        usize::from(record.list) < self.snapshot.inventory().lists.len()
            && decode_scope(record.scope).is_some()
            && usize::from(record.reason) < REASONS.len()
            && match decode_action(record.action, payload) {
                Some(ActionRef::Records(records)) => RecordsRef::is_sound(records.encoded),
                action => action.is_some(),
            }
            && [record.types, record.except, record.dossier].into_iter().all(there)
            && names == self.snapshot.blob(record.except).map_or(0, <[u8]>::len)
    }

    /// The list it is from.
    #[inline]
    pub fn list(self) -> ListId {
        ListId(self.record().list)
    }

    /// Which names it covers, seen from the name it is filed under.
    #[inline]
    pub fn scope(self) -> Scope {
        // `open` has refused every other number.
        decode_scope(self.record().scope).unwrap_or(Scope::Exact)
    }

    /// Whether it wins over rules that are not important.
    #[inline]
    pub fn is_important(self) -> bool {
        self.record().flags & RuleRecord::IMPORTANT != 0
    }

    /// Whether its matches are counted and block nothing.
    #[inline]
    pub fn is_shadow(self) -> bool {
        self.record().flags & RuleRecord::SHADOW != 0
    }

    /// Whether its action is [`Action::Allow`].
    #[inline]
    pub fn is_allow(self) -> bool {
        usize::from(self.record().action) == Action::Allow.index()
    }

    /// What it does.
    #[inline]
    pub fn action(self) -> ActionRef<'s> {
        // `open` has refused what cannot be decoded.
        decode_action(self.record().action, self.snapshot.blob(self.record().payload)).unwrap_or(ActionRef::Sinkhole)
    }

    /// The reason its blocked answers give.
    #[inline]
    pub fn reason(self) -> BlockReason {
        REASONS.get(usize::from(self.record().reason)).copied().unwrap_or(BlockReason::None)
    }

    /// Whether it is for queries of `qtype`.
    #[inline]
    pub fn covers_type(self, qtype: RecordType) -> bool {
        self.record().types == NO_BLOB
            || self.snapshot.blob(self.record().types).is_none_or(|blob| types_cover(blob, qtype))
    }

    /// The names that, with all below them, it leaves alone.
    #[inline]
    pub fn except(self) -> impl Iterator<Item = &'s Name> {
        decode_names(self.snapshot.blob(self.record().except).unwrap_or(&[]))
    }

    /// Whether it leaves `name` alone.
    #[inline]
    pub fn excepts(self, name: &Name) -> bool {
        self.record().except != NO_BLOB && self.except().any(|except| name.is_at_or_below(except))
    }

    /// The second from which on it is in force.
    #[inline]
    pub fn effective_at(self) -> u64 {
        self.record().effective_at
    }

    /// The second from which on it is no longer in force; `u64::MAX` without an end.
    #[inline]
    pub fn expires_at(self) -> u64 {
        self.record().expires_at
    }

    /// What is on file about it.
    #[inline]
    pub fn dossier(self) -> Option<DossierRef<'s>> {
        self.snapshot.blob(self.record().dossier).map(|encoded| DossierRef { snapshot: self.snapshot, encoded })
    }

    /// Whether it says the same as `other`, which may be of another snapshot.
    pub(super) fn is_same_as(self, other: RuleRef<'_>) -> bool {
        let plain = |rule: RuleRef<'_>| RuleRecord {
            list: 0,
            payload: NO_BLOB,
            types: NO_BLOB,
            except: NO_BLOB,
            dossier: NO_BLOB,
            ..rule.record()
        };
        let same_blob = |blob: fn(&RuleRecord) -> u32| {
            self.snapshot.blob(blob(&self.record())) == other.snapshot.blob(blob(&other.record()))
        };
        let list = |rule: RuleRef<'_>| rule.snapshot.inventory().lists[rule.list().index()].name.clone();
        plain(self) == plain(other)
            && list(self) == list(other)
            && same_blob(|record| record.payload)
            && same_blob(|record| record.types)
            && same_blob(|record| record.except)
            && self.dossier().map(DossierRef::to_dossier) == other.dossier().map(DossierRef::to_dossier)
    }
}
