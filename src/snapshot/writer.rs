//! Makes a snapshot file from rules that come in the order of their keys.
//!
//! A rule set that is frequent among the first keys gets a low number: a part
//! spends nothing on 0 and little on small ones.
//!
//! The graph goes to the disk part by part while it grows. Kept in memory until
//! the end are eight octets for each name (its hash, for the filter) and what
//! rules, rule sets and dossiers are told apart by. Nothing in the file depends on time,
//! on addresses or on the order of a hash table: same input, same octets.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::filter::{self, SuffixHash};
use super::layout::{Depths, HEADER_LEN, Header, NO_BLOB, RuleRecord, SECTIONS, Section, blob_at};
use super::part::stem;
use super::parts::PartsWriter;
use super::{CompiledRule, Inventory, Snapshot, rules};
use crate::rule::Trigger;
use crate::rule::owner::{is_name_key, trigger_of_key};
use ahash::RandomState;
use hashbrown::HashTable;

/// A rule that a [`Writer`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleIndex(pub u32);

/// Writes one generation.
pub struct Writer {
    path: PathBuf,
    spool: Spool,
    parts: PartsWriter,
    inventory: Inventory,
    rules: Vec<RuleRecord>,
    rule_table: HashTable<u32>,
    sets: Sets,
    blobs: Blobs,
    hashes: Vec<SuffixHash>,
    last_key: Option<Vec<u8>>,
    names: u64,
    depths: Depths,
    /// The first keys with their rule sets; none any more once the sets have got their final numbers.
    early: Option<Vec<(Box<[u8]>, u32)>>,
    sorted: Vec<u32>,
    hasher: RandomState,
    too_large: bool,
}

/// What a [`Writer`] has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The hash of the content, in hexadecimal.
    pub generation: String,
    /// How many octets the file has.
    pub bytes: u64,
    /// How many names and prefixes have rules.
    pub names: u64,
    /// What it was made of, with the entries of each list counted.
    pub inventory: Inventory,
}

/// Why a snapshot could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file cannot be written.
    #[error("{path}: cannot be written: {source}; look for space and permission", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key is not above the one before it.
    #[error("{path}: names come out of order: {key:?} is not above {last:?}", path = path.display())]
    OutOfOrder {
        /// The file.
        path: PathBuf,
        /// The key that came too late.
        key: Vec<u8>,
        /// The key before it.
        last: Vec<u8>,
    },
    /// A number in the file does not reach.
    #[error("{path}: there are more rules or longer texts than one snapshot can hold; leave out a list or its dossiers",
            path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

impl Writer {
    /// Begins a snapshot in the new file `path`, which only its owner may write.
    ///
    /// # Errors
    ///
    /// When the file exists already or cannot be made.
    pub fn create(path: &Path, inventory: &Inventory) -> Result<Self, WriteError> {
        let io = |source| WriteError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map_err(io)?;
        let mut spool = Spool { file, buffer: Vec::with_capacity(SPOOL_LEN), hasher: blake3::Hasher::new(), len: 0 };
        // The header is known last; its place is left free.
        spool.file.write_all(&[0; HEADER_LEN]).map_err(io)?;
        let mut inventory = inventory.clone();
        for list in &mut inventory.lists {
            list.entries = 0;
            list.triggers.clear();
        }
        Ok(Self {
            path: path.to_owned(),
            spool,
            parts: PartsWriter::new(None),
            inventory,
            rules: Vec::new(),
            rule_table: HashTable::new(),
            sets: Sets::default(),
            blobs: Blobs::default(),
            hashes: Vec::new(),
            last_key: None,
            names: 0,
            depths: Depths::default(),
            early: Some(Vec::new()),
            sorted: Vec::new(),
            hasher: RandomState::new(),
            too_large: false,
        })
    }

    /// Takes over from `last_generation` what stays the same, rather than making it again. The file is the same either
    /// way.
    pub fn take_over_from(mut self, last_generation: Arc<Snapshot>) -> Self {
        self.parts = PartsWriter::new(Some(last_generation));
        self
    }

    /// Files `rule`; equal rules have equal indexes.
    pub fn rule(&mut self, rule: &CompiledRule) -> RuleIndex {
        let record = self.encode(rule);
        let bytes = record.to_bytes();
        let hash = self.hasher.hash_one(bytes);
        let known = self.rule_table.find(hash, |&index| self.rules[index as usize] == record);
        if let Some(&index) = known {
            return RuleIndex(index);
        }
        let Ok(index) = u32::try_from(self.rules.len()) else {
            self.too_large = true;
            return RuleIndex(0);
        };
        self.rules.push(record);
        let (rules, hasher) = (&self.rules, &self.hasher);
        self.rule_table.insert_unique(hash, index, |&index| hasher.hash_one(rules[index as usize].to_bytes()));
        RuleIndex(index)
    }

    fn encode(&mut self, rule: &CompiledRule) -> RuleRecord {
        let list_reason = self.inventory.lists.get(rule.list.index()).map(|list| list.reason);
        let dossier = rule.dossier.as_deref();
        let reason = dossier.and_then(|dossier| dossier.ede).or(list_reason);
        let payload = rules::encode_payload(&rule.action);
        let types = rules::encode_types(&rule.types);
        let except = rules::encode_names(&rule.except);
        let dossier_blob = dossier.map(|dossier| rules::encode_dossier(dossier, |text| self.blob(text.as_bytes())));
        let mut file = |blob: Option<Vec<u8>>| blob.map_or(NO_BLOB, |blob| self.blob(&blob));
        RuleRecord {
            list: rule.list.0,
            scope: rules::encode_scope(rule.scope),
            flags: if rule.important { RuleRecord::IMPORTANT } else { 0 }
                | if rule.shadow { RuleRecord::SHADOW } else { 0 },
            action: rule.action.index() as u8,
            reason: reason.map_or(0, rules::encode_reason),
            payload: file(payload),
            types: file(types),
            except: file(except),
            dossier: file(dossier_blob),
            effective_at: dossier.and_then(|dossier| dossier.effective_at).unwrap_or(0),
            expires_at: dossier.and_then(|dossier| dossier.expires_at).unwrap_or(u64::MAX),
        }
    }

    fn blob(&mut self, octets: &[u8]) -> u32 {
        let place = self.blobs.file(octets, &self.hasher);
        self.too_large |= place.is_none();
        place.unwrap_or(NO_BLOB)
    }

    /// Files `rules` under the `key` of an [`Owner`](crate::rule::Owner).
    ///
    /// Keys come in strictly ascending order. The order of `rules` does not matter, nor do repetitions; without any,
    /// nothing is filed.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or the key is not above the last one.
    pub fn insert(&mut self, key: &[u8], rules: &[RuleIndex]) -> Result<(), WriteError> {
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            let last = self.last_key.clone().unwrap_or_default();
            return Err(WriteError::OutOfOrder { path: self.path.clone(), key: key.to_vec(), last });
        }
        if rules.is_empty() {
            return Ok(());
        }
        let set = self.set(key, rules)?;
        match &mut self.early {
            None => self.insert_into_graph(key, set)?,
            Some(early) => {
                early.push((key.into(), set));
                if early.len() == EARLY {
                    self.number_sets()?;
                }
            }
        }
        if is_name_key(key) {
            self.depths.insert(key.iter().filter(|&&octet| octet == 0).count());
        }
        self.names += 1;
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    fn insert_into_graph(&mut self, key: &[u8], set: u32) -> Result<(), WriteError> {
        let hash = SuffixHash::of_key(key);
        if is_name_key(key) {
            self.hashes.push(hash);
        }
        let inserted = self.parts.insert(stem(key), hash, set, &mut self.spool);
        inserted.map_err(|source| WriteError::Io { path: self.path.clone(), source })
    }

    /// Numbers the rule sets by how many of the first keys have them, and lets these keys into the graph.
    fn number_sets(&mut self) -> Result<(), WriteError> {
        let Some(early) = self.early.take() else {
            return Ok(());
        };
        let mut uses = vec![0u32; self.sets.ends.len()];
        for (_, set) in &early {
            uses[*set as usize] += 1;
        }
        let numbers = self.sets.renumber(|set| std::cmp::Reverse(uses[set as usize]), &self.hasher);
        early.into_iter().try_for_each(|(key, set)| self.insert_into_graph(&key, numbers[set as usize]))
    }

    /// The number of the rule set of `rules`, which are filed under `key`; counts an entry for each of their lists.
    fn set(&mut self, key: &[u8], rules: &[RuleIndex]) -> Result<u32, WriteError> {
        let trigger = trigger_of_key(key);
        self.sorted.clear();
        self.sorted.extend(rules.iter().map(|rule| rule.0));
        self.sorted.sort_unstable();
        self.sorted.dedup();
        for (at, &rule) in self.sorted.iter().enumerate() {
            let list = self.rules[rule as usize].list;
            let first = !self.sorted[..at].iter().any(|&other| self.rules[other as usize].list == list);
            if let Some(entry) = self.inventory.lists.get_mut(usize::from(list)).filter(|_| first) {
                entry.entries += 1;
                if trigger != Trigger::Qname {
                    *entry.triggers.entry(trigger).or_default() += 1;
                }
            }
        }
        let too_large = || WriteError::TooLarge { path: self.path.clone() };
        if self.too_large {
            return Err(too_large());
        }
        self.sets.file(&self.sorted, &self.hasher).ok_or_else(too_large)
    }

    /// Writes what is left, and waits until the disk has it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<Written, WriteError> {
        if self.too_large {
            return Err(WriteError::TooLarge { path: self.path });
        }
        self.number_sets()?;
        let (path, names, inventory) = (self.path.clone(), self.names, self.inventory.clone());
        let (header, bytes) = self.write_sections().map_err(|source| WriteError::Io { path, source })?;
        Ok(Written { generation: header.generation(), bytes, names, inventory })
    }

    fn write_sections(self) -> io::Result<(Header, u64)> {
        let Self { mut spool, parts, .. } = self;
        let directory = parts.finish(&mut spool)?;
        let mut sections = [(0, 0); SECTIONS];
        let mut start = HEADER_LEN as u64;
        let mut close = |section: Section, spool: &Spool| {
            let end = HEADER_LEN as u64 + spool.len;
            sections[section as usize] = (start, end - start);
            start = end;
        };
        close(Section::Graph, &spool);
        spool.write_all(&directory)?;
        spool.fill_up(filter::BLOCK_LEN)?;
        close(Section::Directory, &spool);
        spool.write_all(&filter::build(&self.hashes))?;
        drop(self.hashes);
        close(Section::Filter, &spool);
        spool.write_numbers(&self.sets.ends)?;
        close(Section::SetEnds, &spool);
        spool.write_numbers(&self.sets.members)?;
        close(Section::SetMembers, &spool);
        for rule in self.rules {
            spool.write_all(&rule.to_bytes())?;
        }
        close(Section::Rules, &spool);
        spool.write_all(&self.blobs.octets)?;
        close(Section::Blobs, &spool);
        serde_json::to_writer(&mut spool, &self.inventory)?;
        close(Section::Inventory, &spool);

        let (mut file, body_hash, len) = spool.finish()?;
        let header = Header { names: self.names, depths: self.depths, sections, body_hash };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.to_bytes())?;
        file.sync_all()?;
        Ok((header, HEADER_LEN as u64 + len))
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).field("names", &self.names).finish_non_exhaustive()
    }
}

/// The rule sets, each known by its sorted rules.
#[derive(Default)]
struct Sets {
    ends: Vec<u32>,
    members: Vec<u32>,
    table: HashTable<u32>,
}

impl Sets {
    fn rules<'m>(ends: &[u32], members: &'m [u32], set: u32) -> &'m [u32] {
        let set = set as usize;
        let start = if set == 0 { 0 } else { ends[set - 1] as usize };
        &members[start..ends[set] as usize]
    }

    /// Gives every set a new number, in the order of `rank`, and returns the new ones by the old.
    fn renumber<R: Ord>(&mut self, rank: impl Fn(u32) -> R, hasher: &RandomState) -> Vec<u32> {
        let old = std::mem::take(self);
        let mut order: Vec<u32> = (0..old.ends.len() as u32).collect();
        order.sort_by_key(|&set| rank(set));
        let mut numbers = vec![0; order.len()];
        for set in order {
            let number = self.file(Self::rules(&old.ends, &old.members, set), hasher);
            numbers[set as usize] = number.expect("there are no more sets than before");
        }
        numbers
    }

    fn file(&mut self, rules: &[u32], hasher: &RandomState) -> Option<u32> {
        let Self { ends, members, table } = self;
        let hash = hasher.hash_one(rules);
        if let Some(&set) = table.find(hash, |&set| Self::rules(ends, members, set) == rules) {
            return Some(set);
        }
        let set = u32::try_from(ends.len()).ok()?;
        let end = u32::try_from(members.len() + rules.len()).ok()?;
        ends.push(end);
        members.extend_from_slice(rules);
        table.insert_unique(hash, set, |&set| hasher.hash_one(Self::rules(ends, members, set)));
        Some(set)
    }
}

/// Strings of octets, each filed once, each with its length in front.
#[derive(Default)]
struct Blobs {
    octets: Vec<u8>,
    table: HashTable<u32>,
}

impl Blobs {
    fn file(&mut self, blob: &[u8], hasher: &RandomState) -> Option<u32> {
        let Self { octets, table } = self;
        let hash = hasher.hash_one(blob);
        if let Some(&at) = table.find(hash, |&at| blob_at(octets, at) == Some(blob)) {
            return Some(at);
        }
        let at = u32::try_from(octets.len()).ok().filter(|&at| at != NO_BLOB)?;
        octets.extend(u32::try_from(blob.len()).ok()?.to_le_bytes());
        octets.extend_from_slice(blob);
        table.insert_unique(hash, at, |&at| hasher.hash_one(blob_at(octets, at).unwrap_or_default()));
        Some(at)
    }
}

/// How many keys the numbers of rule sets are drawn from.
const EARLY: usize = 1 << 16;

const SPOOL_LEN: usize = 1 << 20;

/// Gathers small writes, and hashes what goes to the file.
struct Spool {
    file: File,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    /// Octets taken so far.
    len: u64,
}

impl Spool {
    fn write_numbers(&mut self, numbers: &[u32]) -> io::Result<()> {
        numbers.iter().try_for_each(|number| self.write_all(&number.to_le_bytes()))
    }

    /// Writes zeros until the next octet of the file is at a multiple of `block`.
    fn fill_up(&mut self, block: usize) -> io::Result<()> {
        let end = HEADER_LEN + self.len as usize;
        self.write_all(&vec![0; end.next_multiple_of(block) - end])
    }

    fn finish(mut self) -> io::Result<(File, [u8; 32], u64)> {
        self.flush()?;
        Ok((self.file, *self.hasher.finalize().as_bytes(), self.len))
    }
}

impl Write for Spool {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + octets.len() > SPOOL_LEN {
            self.flush()?;
        }
        self.buffer.extend_from_slice(octets);
        self.len += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
