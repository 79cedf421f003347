//! Compiled lists, opened from disk and read in place.
//!
//! A [`Snapshot`] has been checked from end to end before anyone holds it, so
//! a look-up cannot fail. A [`Writer`] makes the file; bringing many lists into
//! the order it needs is the work of [`compile`](crate::compile), deciding by
//! what a look-up finds that of [`policy`](crate::policy).

mod diff;
mod filter;
mod graph;
mod layout;
mod map;
mod part;
mod parts;
mod rules;
mod tails;
#[cfg(test)]
pub(crate) mod testing;
mod writer;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::name::{DomainName, MAX_KEY_LEN, Name};
use crate::rule::owner::{MAX_OWNER_KEY_LEN, NAME_SERVER_KEY, address_key, address_octets};
use crate::rule::{Action, BlockReason, Dossier, ListId, Scope, Trigger, TypeFilter};
use filter::{Filter, SuffixHash};
use layout::{Depths, HASH_LEN, HEADER_LEN, Header, HeaderFault, NO_BLOB, RuleRecord, Section};
use map::Mapping;
use part::{Sought, Walk, stem};
use parts::Parts;

pub use diff::Change;
pub use rules::{ActionRef, DossierRef, DossierText, RecordRef, RecordsRef, RuleRef};
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
    /// Those among them that are not for names which are asked for, by what brings them up.
    #[serde(default)]
    pub triggers: BTreeMap<Trigger, u64>,
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
            triggers: BTreeMap::new(),
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
    /// Its matches are counted and block nothing, whatever its list's do.
    pub shadow: bool,
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
    file: Mapping,
    generation: String,
    names: u64,
    inventory: Inventory,
    depths: Depths,
    /// Whether there are names of name servers.
    name_servers: bool,
    /// What brings addresses up, and how long their prefixes are.
    prefixes: Vec<(Trigger, u8)>,
    graph: Range<usize>,
    directory: Range<usize>,
    filter: Range<usize>,
    set_ends: Range<usize>,
    set_members: Range<usize>,
    rules: Range<usize>,
    blobs: Range<usize>,
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
    /// A folder, a device, or the like.
    #[error("{path}: is no regular file; name a file that `qalqan compile` has made", path = path.display())]
    NoFile {
        /// What was named.
        path: PathBuf,
    },
    /// Others could change the file while it is in use.
    #[error("{path}: group or others may write it (mode {mode:o}); compile it again, or look who changed it and \
             `chmod go-w` it", path = path.display())]
    OthersMayWrite {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody else could change the file while it is in use.
    #[error("{path}: belongs to user {owner}, but we are user {us}; it must belong to us or to root, so `chown` it",
            path = path.display())]
    OthersOwn {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Some other kind of file.
    #[error("{path}: is no snapshot; name a file that `qalqan compile` has made", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a format that this build does not read.
    #[error("{path}: format {found}, but this build reads {expected}; compile the lists again", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one that is read.
        expected: u32,
    },
    /// The file is shorter or longer than it says.
    #[error("{path}: has {found} octets where {expected} belong; it was not written or copied to its end, so compile \
             the lists again", path = path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// How long it is.
        found: u64,
        /// How long it should be.
        expected: u64,
    },
    /// The file is not what was written.
    #[error("{path}: is damaged (its checksum is wrong); compile the lists again and look after the disk",
            path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file is what was written, but that makes no sense.
    #[error("{path}: its {part} do not fit together, though the checksum is right; a faulty build made it, so compile \
             the lists again", path = path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        part: &'static str,
    },
}

impl Snapshot {
    /// Opens the snapshot at `path` and checks all of it.
    ///
    /// Reads every octet once. Look-ups afterwards touch only the pages they need.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, may be written by others, is of another
    /// format version, or is damaged. A caller that already serves a snapshot
    /// keeps serving it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file = Mapping::open(path)?;
        let length = |expected: u64| OpenError::Length { path: path.to_owned(), found: file.len() as u64, expected };
        let header = Header::read(&file).map_err(|fault| match fault {
            HeaderFault::Truncated => length(HEADER_LEN as u64),
            HeaderFault::Foreign => OpenError::Foreign { path: path.to_owned() },
            HeaderFault::Version(found) => {
                OpenError::Version { path: path.to_owned(), found, expected: layout::VERSION }
            }
            HeaderFault::Damaged => OpenError::Damaged { path: path.to_owned() },
        })?;
        let expected = header.sections.iter().map(|(start, len)| start.saturating_add(*len)).max().unwrap_or(0);
        if expected != file.len() as u64 {
            return Err(length(expected));
        }
        if hash(&file[HEADER_LEN..]) != header.body_hash {
            return Err(OpenError::Damaged { path: path.to_owned() });
        }
        Self::read(path, file, &header).map_err(|part| OpenError::Unsound { path: path.to_owned(), part })
    }

    /// Takes the file apart; fails with the part that makes no sense.
    ///
    /// The checksum was right, so this is about files that a faulty writer made. The graph is not walked through: a
    /// walk is total whatever it meets.
    fn read(path: &Path, file: Mapping, header: &Header) -> Result<Self, &'static str> {
        let range = |section| header.range(section, file.len()).ok_or("sections");
        let (graph, directory) = (range(Section::Graph)?, range(Section::Directory)?);
        let filter = range(Section::Filter)?;
        // Whole blocks, and some if there are names: without any, all names would be denied.
        if !filter.len().is_multiple_of(filter::BLOCK_LEN) || filter.is_empty() != header.depths.is_empty() {
            return Err("filter");
        }
        let (set_ends, set_members) = (range(Section::SetEnds)?, range(Section::SetMembers)?);
        let (rules, blobs) = (range(Section::Rules)?, range(Section::Blobs)?);
        let inventory = range(Section::Inventory)?;

        let inventory = serde_json::from_slice(&file[inventory]).map_err(|_| "inventory")?;
        let parts = Parts::new(&file[directory.clone()], &file[graph.clone()]);
        if !parts.are_sound() {
            return Err("names");
        }
        let name_servers = parts.have(&NAME_SERVER_KEY);
        let triggers = [Trigger::Ip, Trigger::NsIp, Trigger::Client].into_iter();
        let triggers = triggers.filter(|trigger| parts.have(&address_key(*trigger)));
        let lengths = |trigger| (0..=128).map(move |length| (trigger, length));
        let prefixes = triggers.flat_map(lengths).filter(|(trigger, length)| {
            let [zero, kind] = address_key(*trigger);
            parts.have(&[zero, kind, *length])
        });
        let prefixes = prefixes.collect();
        let snapshot = Self {
            path: path.to_owned(),
            generation: header.generation(),
            names: header.names,
            inventory,
            depths: header.depths,
            name_servers,
            prefixes,
            graph,
            directory,
            filter,
            set_ends,
            set_members,
            rules,
            blobs,
            file,
        };
        snapshot.check_sets()?;
        snapshot.check_rules()?;
        Ok(snapshot)
    }

    fn check_sets(&self) -> Result<(), &'static str> {
        let (ends, members) = (&self.file[self.set_ends.clone()], &self.file[self.set_members.clone()]);
        let rules = self.rules.len() / RuleRecord::LEN;

        let whole = [(ends.len(), 4), (members.len(), 4), (self.rules.len(), RuleRecord::LEN)];
        let whole = whole.iter().all(|(len, unit)| len.is_multiple_of(*unit));
        let in_order = numbers(ends).is_sorted() && numbers(ends).next_back().unwrap_or(0) == members.len() / 4;
        let in_bounds = numbers(members).all(|rule| rule < rules);
        (whole && in_order && in_bounds).then_some(()).ok_or("rule sets")
    }

    fn check_rules(&self) -> Result<(), &'static str> {
        let count = self.rules.len() / RuleRecord::LEN;
        let sound = (0..count).all(|index| self.rule(index).is_some_and(RuleRef::is_sound));
        sound.then_some(()).ok_or("rules")
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

    /// How many names and prefixes have rules.
    pub fn names(&self) -> u64 {
        self.names
    }

    /// How many octets the file has.
    pub fn bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Finds the rules that are filed under `name` and each of its ancestors. Allocates nothing, unless there are many.
    ///
    /// What each rule covers is for the caller to see: an exact rule of an ancestor is found too.
    #[inline]
    pub fn find(&self, name: &Name) -> Found<'_> {
        let mut found = Found::new(self);
        let mut places = [0; 128];
        let starts = label_starts(name, &mut places);
        let depths = self.filter().narrow(self.depths, name, starts);
        if !depths.is_empty() {
            let mut key = [0; MAX_KEY_LEN];
            let sought = sought(name, starts, depths, &mut key);
            self.find_sought(sought, &mut |labels, set| found.push(labels as u8, set));
        }
        found
    }

    /// As [`find`](Self::find) for all of `names`; [`found_all`](Self::found_all) tells what was found.
    ///
    /// What look-ups wait for is memory, most of all. Here they wait together: each stage asks for what all names need
    /// before the next one uses it.
    pub fn find_all<'n>(&self, names: impl Iterator<Item = &'n Name> + Clone, room: &mut Room) {
        let filter = self.filter();
        let Room { probes, depths, keys, under_way, found } = room;
        probes.clear();
        depths.clear();
        for (at, name) in names.clone().enumerate() {
            let mut places = [0; 128];
            for (labels, hash) in SuffixHash::of_suffixes(name, label_starts(name, &mut places)) {
                if self.depths.may_contain(labels) {
                    filter.fetch_ahead(hash);
                    probes.push((at, labels, hash));
                }
            }
            depths.push(self.depths.root());
        }
        for (at, labels, hash) in probes {
            if filter.may_contain(*hash) {
                depths[*at].insert(*labels);
            }
        }

        keys.resize(depths.len().max(keys.len()), [0; MAX_KEY_LEN]);
        let mut walks: SmallVec<[(usize, Walk<'_, '_>); 64]> = SmallVec::new();
        for (at, ((name, depths), key)) in names.zip(depths).zip(keys).enumerate() {
            if !depths.is_empty() {
                let mut places = [0; 128];
                let sought = sought(name, label_starts(name, &mut places), *depths, key);
                if let Some(section) = self.parts().section_for(sought.key()) {
                    walks.push((at, Walk::new(section, sought)));
                }
            }
        }
        found.clear();
        under_way.clear();
        under_way.extend(0..walks.len());
        while !under_way.is_empty() {
            under_way.retain(|walk| {
                let (at, walk) = &mut walks[*walk];
                walk.go_on(&mut |labels, set| found.push((*at, labels as u8, set)))
            });
        }
    }

    /// What [`find_all`](Self::find_all) has found in this snapshot: the place of a name among those that were asked
    /// for, and what to [add](Found::add) to what was found for it.
    pub fn found_all<'s>(&'s self, room: &Room) -> impl Iterator<Item = (usize, Piece<'s>)> {
        room.found.iter().map(|&(at, labels, set)| (at, Piece { snapshot: self, labels, set }))
    }

    #[inline]
    fn filter(&self) -> Filter<'_> {
        Filter::new(&self.file[self.filter.clone()])
    }

    /// As [`find`](Self::find), for rules about the name of a name server.
    #[inline]
    pub fn find_name_server(&self, name: &Name) -> Found<'_> {
        let mut found = Found::new(self);
        if self.name_servers {
            let mut places = [0; 128];
            let starts = label_starts(name, &mut places);
            let mut key = [0; MAX_OWNER_KEY_LEN];
            let (before, room) = key.split_first_chunk_mut().expect("a key of an owner has more room than this");
            *before = NAME_SERVER_KEY;
            let behind = name.reversed_suffix_key(starts, room.first_chunk_mut().expect("and than a name's")).len();
            let key = stem(&key[..NAME_SERVER_KEY.len() + behind]);
            let sought = Sought::names(key, NAME_SERVER_KEY.len(), Depths::ALL);
            self.find_sought(sought, &mut |labels, set| found.push(labels as u8, set));
        }
        found
    }

    /// Calls `found` with the rules of each address prefix that `address` lies in, and with the prefix's length, that
    /// of an IPv4 prefix counted as in `::ffff:0:0/96`; the shortest first. Allocates nothing.
    #[inline]
    pub fn find_address<'s>(&'s self, trigger: Trigger, address: IpAddr, mut found: impl FnMut(u8, RuleSet<'s>)) {
        let [zero, kind] = address_key(trigger);
        for &(_, length) in self.prefixes.iter().filter(|(kind, _)| *kind == trigger) {
            let mut key = [zero, kind, length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            key[3..].copy_from_slice(&address_octets(address, length));
            self.find_sought(Sought::exact(&key), &mut |_, set| {
                if let Some(rules) = self.set(set) {
                    found(length, rules);
                }
            });
        }
    }

    /// Calls `found` for each key that is `sought`, with how many labels it has and with its rule set. A function apart,
    /// since most names that are asked do not come so far.
    #[inline(never)]
    fn find_sought(&self, sought: Sought<'_>, found: &mut impl FnMut(usize, u32)) {
        if let Some(section) = self.parts().section_for(sought.key()) {
            let mut walk = Walk::new(section, sought);
            while walk.go_on(found) {}
        }
    }

    /// Everything that has rules, in the order of the keys.
    pub fn entries(&self) -> Entries<'_> {
        Entries { snapshot: self, keys: self.keys() }
    }

    #[inline]
    fn parts(&self) -> Parts<'_> {
        Parts::new(&self.file[self.directory.clone()], &self.file[self.graph.clone()])
    }

    fn keys(&self) -> parts::Keys<'_> {
        self.parts().keys()
    }

    #[inline]
    fn set(&self, number: u32) -> Option<RuleSet<'_>> {
        let ends = &self.file[self.set_ends.clone()];
        let number = number as usize;
        let end = layout::u32_at(ends, number.checked_mul(4)?)? as usize;
        let start = match number {
            0 => 0,
            _ => layout::u32_at(ends, 4 * (number - 1))? as usize,
        };
        let members = self.file[self.set_members.clone()].get(4 * start..4 * end)?;
        Some(RuleSet { snapshot: self, members })
    }

    #[inline]
    fn rule(&self, index: usize) -> Option<RuleRef<'_>> {
        let records = self.file[self.rules.clone()].as_chunks().0;
        Some(RuleRef::new(self, records.get(index)?))
    }

    #[inline]
    fn blob(&self, at: u32) -> Option<&[u8]> {
        // Of most rules: they have nothing there.
        if at == NO_BLOB {
            return None;
        }
        layout::blob_at(&self.file[self.blobs.clone()], at)
    }
}

/// The hash of `octets`. Made in steps of well under a millisecond: who waits for the processor has it in between.
fn hash(octets: &[u8]) -> [u8; HASH_LEN] {
    let mut hasher = blake3::Hasher::new();
    for step in octets.chunks(256 * 1024) {
        hasher.update(step);
        std::thread::yield_now();
    }
    *hasher.finalize().as_bytes()
}

/// The `u32`s of a section.
#[inline]
fn numbers(octets: &[u8]) -> impl ExactSizeIterator<Item = usize> + DoubleEndedIterator {
    octets.as_chunks().0.iter().map(|octets| u32::from_le_bytes(*octets) as usize)
}

/// The places where the labels of `name` begin in its wire form, left to right, without the root's.
#[inline]
fn label_starts<'p>(name: &Name, places: &'p mut [u8; 128]) -> &'p [u8] {
    let wire = name.as_wire();
    let (mut count, mut at) = (0, 0);
    while wire[at] != 0 {
        places[count] = at as u8;
        count += 1;
        at += 1 + usize::from(wire[at]);
    }
    &places[..count]
}

/// What is looked for in the graph: `name` and its ancestors, as far as they have as many labels as `depths` says.
#[inline]
fn sought<'k>(name: &Name, starts: &[u8], depths: Depths, key: &'k mut [u8; MAX_KEY_LEN]) -> Sought<'k> {
    let labels = depths.deepest(starts.len());
    let key = name.reversed_suffix_key(&starts[starts.len() - labels..], key);
    Sought::names(stem(key), 0, depths)
}

/// The rules that were found for a name, by [`Snapshot::find`].
#[derive(Debug, Clone, Default)]
pub struct Found<'s> {
    snapshot: Option<&'s Snapshot>,
    /// How many labels the names have that rule sets are filed under, and the numbers of these.
    sets: SmallVec<[(u8, u32); 3]>,
}

impl<'s> Found<'s> {
    fn new(snapshot: &'s Snapshot) -> Self {
        Self { snapshot: Some(snapshot), sets: SmallVec::new() }
    }

    fn push(&mut self, labels: u8, set: u32) {
        self.sets.push((labels, set));
    }

    /// Takes in what [`Snapshot::find_all`] has found.
    #[inline]
    pub fn add(&mut self, piece: Piece<'s>) {
        self.snapshot = Some(piece.snapshot);
        self.push(piece.labels, piece.set);
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The rules, and how many labels the name has that they are filed under; from the root down.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (usize, RuleSet<'s>)> + '_ {
        self.sets.iter().filter_map(|&(labels, set)| Some((usize::from(labels), self.snapshot?.set(set)?)))
    }
}

/// A rule set that was found for one of several names.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'s> {
    snapshot: &'s Snapshot,
    labels: u8,
    set: u32,
}

/// Room for [`Snapshot::find_all`] to work in, to be used again.
#[derive(Debug, Default)]
pub struct Room {
    /// Which of the names, how many labels, and the hash of so many of them.
    probes: Vec<(usize, usize, SuffixHash)>,
    /// For each name how many labels what has rules may have.
    depths: Vec<Depths>,
    keys: Vec<[u8; MAX_KEY_LEN]>,
    /// Walks that have not come to their end.
    under_way: Vec<usize>,
    /// What was found: the place of the name, and what makes a [`Piece`].
    found: Vec<(usize, u8, u32)>,
}

/// The rules that are filed under one name or prefix.
#[derive(Debug, Clone, Copy)]
pub struct RuleSet<'s> {
    snapshot: &'s Snapshot,
    members: &'s [u8],
}

impl<'s> RuleSet<'s> {
    /// The rules, in the order in which the writer first saw them.
    #[inline]
    pub fn iter(self) -> impl ExactSizeIterator<Item = RuleRef<'s>> {
        numbers(self.members)
            .map(move |index| self.snapshot.rule(index).expect("`check_sets` has seen that every member is a rule"))
    }
}

/// What a snapshot has rules for; see [`Snapshot::entries`].
#[derive(Debug)]
pub struct Entries<'s> {
    snapshot: &'s Snapshot,
    keys: parts::Keys<'s>,
}

impl<'s> Entries<'s> {
    /// The next key of an [`Owner`](crate::rule::Owner) and its rules. The key is lent until the next call.
    #[allow(clippy::should_implement_trait, reason = "the key is lent, which an iterator cannot do")]
    pub fn next(&mut self) -> Option<(&[u8], RuleSet<'s>)> {
        let (key, value) = self.keys.next()?;
        Some((key, self.snapshot.set(value)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::testing::{rule, snapshot};
    use super::*;
    use crate::query::RecordType;
    use crate::rule::owner::MAX_OWNER_KEY_LEN;
    use crate::rule::{LocalRecord, Owner, Rule};

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    /// How many labels the names have that something was found for.
    fn labels(found: &Found<'_>) -> Vec<usize> {
        found.iter().map(|(labels, _)| labels).collect()
    }

    /// That looking up `asked` together finds what each look-up alone does.
    fn assert_alike_together(snapshot: &Snapshot, asked: &[DomainName], room: &mut Room) {
        let mut together = vec![Found::default(); asked.len()];
        snapshot.find_all(asked.iter().map(|name| &**name), room);
        snapshot.found_all(room).for_each(|(at, piece)| together[at].add(piece));
        for (asked, together) in asked.iter().zip(&together) {
            assert_eq!(labels(together), labels(&snapshot.find(asked)), "{asked}");
        }
    }

    /// A file with something in every section.
    fn full_file(folder: &Path) -> PathBuf {
        let path = folder.join("full");
        let mut inventory = Inventory { lists: vec![ListEntry::new("one"), ListEntry::new("two")] };
        inventory.lists[1].reason = BlockReason::Filtered;
        let mut writer = Writer::create(&path, &inventory).unwrap();
        let plain = writer.rule(&testing::compiled(ListId(0), Rule::new(name("ads.example"), Scope::Subdomains)));
        let full = writer.rule(&CompiledRule {
            list: ListId(1),
            scope: Scope::Below,
            action: Action::Records(vec![LocalRecord::a([192, 0, 2, 1].into())]),
            important: true,
            shadow: true,
            types: TypeFilter::Except(vec![RecordType::AAAA, RecordType::TXT]),
            except: vec![name("a.b.example"), name("c.example")],
            dossier: Some(Box::new(dossier())),
        });
        let mut insert = |owner: Owner, rules: &[RuleIndex]| {
            writer.insert(owner.key(&mut [0; MAX_OWNER_KEY_LEN]), rules).unwrap();
        };
        insert(Owner::Answer("2001:db8::/32".parse().unwrap()), &[plain]);
        insert(Owner::NameServer(name("ns.example")), &[plain]);
        insert(Owner::Client("192.0.2.0/24".parse().unwrap()), &[full]);
        insert(Owner::Name(name("ads.example")), &[plain]);
        insert(Owner::Name(name("b.example")), &[full, plain, full]);
        writer.finish().unwrap();
        path
    }

    fn dossier() -> Dossier {
        Dossier {
            order_id: Some("42".into()),
            authority: Some("Court № 1".into()),
            contact: Some("https://example.kz/".into()),
            ede: Some(BlockReason::Censored),
            issued_at: Some(1),
            expires_at: Some(u64::from(u32::MAX) + 5),
            extra: [("number".to_owned(), "7".to_owned())].into(),
            ..Dossier::default()
        }
    }

    /// Everything that can be asked of a snapshot; must not panic, whatever the file.
    fn ask_everything(snapshot: &Snapshot) -> String {
        let mut seen = format!("{:?} {} {}", snapshot.inventory(), snapshot.names(), snapshot.generation());
        let mut see = |rules: RuleSet<'_>| {
            for rule in rules.iter() {
                let facts = (rule.list(), rule.scope(), rule.is_important(), rule.action().to_action(), rule.reason());
                let except: Vec<_> = rule.except().map(Name::to_owned).collect();
                let types = [RecordType::A, RecordType::TXT].map(|qtype| rule.covers_type(qtype));
                let times = (rule.effective_at(), rule.expires_at());
                let dossier = rule.dossier().map(DossierRef::to_dossier);
                seen += &format!("{facts:?} {except:?} {types:?} {times:?} {dossier:?}\n");
            }
        };
        let asked = ["x.ads.example", "a.b.example", "example", ".", r"\000\001.example"].map(name);
        for asked in &asked {
            snapshot.find(asked).iter().for_each(|(_, rules)| see(rules));
        }
        assert_alike_together(snapshot, &asked, &mut Room::default());
        snapshot.find_name_server(&name("a.ns.example")).iter().for_each(|(_, rules)| see(rules));
        for (trigger, address) in [(Trigger::Client, "192.0.2.1"), (Trigger::Ip, "2001:db8::1"), (Trigger::NsIp, "::")]
        {
            snapshot.find_address(trigger, address.parse().unwrap(), |_, rules| see(rules));
        }
        let mut entries = snapshot.entries();
        for _ in 0..1000 {
            let Some((_, rules)) = entries.next() else { break };
            see(rules);
        }
        seen
    }

    #[test]
    fn a_rule_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::open(&full_file(folder.path())).unwrap();
        let found = snapshot.find(&name("x.b.example"));
        let [(2, rules)] = found.iter().collect::<Vec<_>>()[..] else { panic!("{found:?}") };
        let [plain, full] = rules.iter().collect::<Vec<_>>()[..] else { panic!() };

        assert_eq!(plain.list(), ListId(0));
        assert_eq!(plain.scope(), Scope::Subdomains);
        assert_eq!(plain.action(), ActionRef::Sinkhole);
        assert_eq!(plain.reason(), BlockReason::Blocked);
        assert!(
            !plain.is_important()
                && !plain.is_shadow()
                && plain.covers_type(RecordType::AAAA)
                && plain.dossier().is_none()
        );

        assert_eq!(full.list(), ListId(1));
        assert_eq!(full.scope(), Scope::Below);
        assert_eq!(full.action().to_action(), Action::Records(vec![LocalRecord::a([192, 0, 2, 1].into())]));
        assert_eq!(full.reason(), BlockReason::Censored, "the entry's goes before the list's");
        assert!(full.is_important() && full.is_shadow());
        assert!(full.covers_type(RecordType::A) && !full.covers_type(RecordType::TXT));
        assert!(full.excepts(&name("x.c.example")) && !full.excepts(&name("b.example")));
        assert_eq!(full.expires_at(), u64::from(u32::MAX) + 5);
        assert_eq!(full.dossier().unwrap().to_dossier(), dossier());

        let entries: Vec<_> = snapshot.inventory().lists.iter().map(|list| list.entries).collect();
        assert_eq!((snapshot.names(), entries), (5, vec![4, 2]), "names and prefixes count as entries");
        let triggers = &snapshot.inventory().lists[0].triggers;
        assert_eq!(*triggers, BTreeMap::from([(Trigger::Ip, 1), (Trigger::NsDname, 1)]));
    }

    #[test]
    fn a_walk_collects_what_stands_at_every_label() {
        let snapshot = snapshot(
            &[ListEntry::new("list")],
            &["example", "c.example", "b.c.example", "a.b.c.example", "bc.example"]
                .map(|owner| (0, rule(owner, Scope::Subdomains))),
        );
        for (asked, expected) in [
            ("a.b.c.example", &[1, 2, 3, 4][..]),
            ("z.y.a.b.c.example", &[1, 2, 3, 4]),
            ("zz.b.c.example", &[1, 2, 3]),
            ("xc.example", &[1]),
            ("example", &[1]),
            ("anexample", &[]),
            (".", &[]),
        ] {
            assert_eq!(labels(&snapshot.find(&name(asked))), expected, "{asked}");
        }
    }

    #[test]
    fn the_root_can_have_rules() {
        let root = (0, rule(".", Scope::Subdomains));
        let snapshot = snapshot(&[ListEntry::new("list")], &[root]);
        for asked in [".", "example", "a.b.example"] {
            assert_eq!(labels(&snapshot.find(&name(asked))), [0], "{asked}");
        }
    }

    #[test]
    fn an_address_lies_in_every_prefix_that_begins_like_it() {
        let owners = [
            Owner::Answer("192.0.2.0/24".parse().unwrap()),
            Owner::Answer("192.0.2.7/32".parse().unwrap()),
            Owner::Answer("0.0.0.0/0".parse().unwrap()),
            Owner::Answer("2001:db8::/32".parse().unwrap()),
            Owner::Client("192.0.2.0/24".parse().unwrap()),
            Owner::NameServerAddress("::/0".parse().unwrap()),
        ];
        let rules = owners.map(|owner| (0, Rule::new(owner, Scope::Exact)));
        let snapshot = snapshot(&[ListEntry::new("list")], &rules);
        for (trigger, address, lengths) in [
            (Trigger::Ip, "192.0.2.7", &[96, 120, 128][..]),
            (Trigger::Ip, "192.0.2.8", &[96, 120]),
            (Trigger::Ip, "198.51.100.1", &[96]),
            (Trigger::Ip, "2001:db8::1", &[32]),
            (Trigger::Ip, "2001:db9::1", &[]),
            (Trigger::Client, "192.0.2.8", &[120]),
            (Trigger::Client, "192.0.3.8", &[]),
            (Trigger::NsIp, "192.0.3.8", &[0]),
            (Trigger::NsDname, "192.0.3.8", &[]),
        ] {
            let mut found = Vec::new();
            snapshot.find_address(trigger, address.parse().unwrap(), |length, _| found.push(length));
            assert_eq!(found, lengths, "{trigger:?} {address}");
        }
    }

    #[test]
    fn the_names_of_name_servers_stand_apart_from_other_names() {
        let server = |text: &str, scope| (0, Rule::new(Owner::NameServer(name(text)), scope));
        let snapshot = snapshot(
            &[ListEntry::new("list")],
            &[
                server(".", Scope::Below),
                server("example", Scope::Below),
                server("ns.example", Scope::Exact),
                (0, rule("b.example", Scope::Exact)),
            ],
        );
        for (asked, servers, names) in
            [("ns.example", &[0, 1, 2][..], &[][..]), ("b.example", &[0, 1], &[2]), (".", &[0], &[])]
        {
            let (found, plain) = (snapshot.find_name_server(&name(asked)), snapshot.find(&name(asked)));
            assert_eq!((&labels(&found)[..], &labels(&plain)[..]), (servers, names), "{asked}");
        }
    }

    #[test]
    fn names_of_any_depth_are_found() {
        for depth in 0..127 {
            let owner = vec!["a"; depth].join(".");
            let owner = if depth == 0 { "." } else { &owner };
            let snapshot = snapshot(&[ListEntry::new("list")], &[(0, rule(owner, Scope::Exact))]);
            assert_eq!(labels(&snapshot.find(&name(&vec!["a"; 126].join(".")))), [depth]);
        }
    }

    #[test]
    fn a_snapshot_of_nothing_is_a_snapshot() {
        let snapshot = snapshot(&[], &[]);
        assert!(snapshot.find(&name("a.example")).is_empty());
        assert!(snapshot.entries().next().is_none());
    }

    #[test]
    fn equal_input_makes_equal_files() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = folders.each_ref().map(|folder| std::fs::read(full_file(folder.path())).unwrap());
        assert_eq!(one, two);
    }

    #[test]
    fn every_damaged_octet_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = full_file(folder.path());
        let sound = std::fs::read(&path).unwrap();
        for at in 0..sound.len() {
            for damage in [0x01, 0x80, 0xff] {
                let mut damaged = sound.clone();
                damaged[at] ^= damage;
                std::fs::write(&path, &damaged).unwrap();
                let error = Snapshot::open(&path).map(drop).expect_err("a damage");
                assert!(!matches!(error, OpenError::Io { .. } | OpenError::Unsound { .. }), "octet {at}: {error}");
            }
        }
        std::fs::write(&path, &sound).unwrap();
        Snapshot::open(&path).unwrap();
    }

    #[test]
    fn a_file_of_the_wrong_length_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = full_file(folder.path());
        let sound = std::fs::read(&path).unwrap();
        for len in 0..sound.len() {
            std::fs::write(&path, &sound[..len]).unwrap();
            assert!(matches!(Snapshot::open(&path), Err(OpenError::Length { .. })), "{len} octets");
        }
        std::fs::write(&path, [&sound[..], b"\n"].concat()).unwrap();
        assert!(matches!(Snapshot::open(&path), Err(OpenError::Length { .. })));
        std::fs::write(&path, "ads.example\n").unwrap();
        assert!(matches!(Snapshot::open(&path), Err(OpenError::Foreign { .. })));
    }

    #[test]
    fn another_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = full_file(folder.path());
        let mut file = std::fs::read(&path).unwrap();
        file[8] += 1;
        std::fs::write(&path, &file).unwrap();
        let message = Snapshot::open(&path).unwrap_err().to_string();
        let found = format!("format {}", layout::VERSION + 1);
        assert!(message.contains(&found) && message.contains("compile the lists again"), "{message}");
    }

    /// Puts `octets` at a place in the body and makes all hashes right again.
    fn forge(file: &mut [u8], at: usize, octet: u8) {
        file[HEADER_LEN + at] = octet;
        let mut header = Header::read(file).unwrap();
        header.body_hash = *blake3::hash(&file[HEADER_LEN..]).as_bytes();
        file[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    }

    #[test]
    fn a_forged_file_is_refused_or_answers_something() {
        let folder = tempfile::tempdir().unwrap();
        let path = full_file(folder.path());
        let sound = std::fs::read(&path).unwrap();
        let (mut refused, mut opened) = (0, 0);
        for at in 0..sound.len() - HEADER_LEN {
            for octet in [0x00, 0x01, 0x3f, 0x7f, 0x80, 0xc0, 0xff] {
                let mut forged = sound.clone();
                forge(&mut forged, at, octet);
                std::fs::write(&path, &forged).unwrap();
                match Snapshot::open(&path) {
                    Ok(snapshot) => {
                        ask_everything(&snapshot);
                        opened += 1;
                    }
                    Err(error) => {
                        assert!(matches!(error, OpenError::Unsound { .. }), "{error}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > 1000 && opened > 100, "{refused} refused, {opened} opened");
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = full_file(folder.path());
        let sound = std::fs::read(&path).unwrap();
        for short in [1, filter::BLOCK_LEN as u64] {
            let mut header = Header::read(&sound).unwrap();
            header.sections[Section::Filter as usize].1 -= short;
            let mut forged = sound.clone();
            forged[..HEADER_LEN].copy_from_slice(&header.to_bytes());
            std::fs::write(&path, &forged).unwrap();
            let error = Snapshot::open(&path).unwrap_err();
            assert!(matches!(error, OpenError::Unsound { part: "filter", .. }), "{error}");
        }
    }

    #[test]
    fn names_of_several_parts_are_found_alone_and_together() {
        let deep = ["a"; 40].join(".");
        let odd = ["", "x.", r"\000.", r"a\001\000b.", r"\.\\.", "ABC.", &format!("{deep}.")];
        let owners: Vec<DomainName> =
            (0..3000).map(|index| name(&format!("{}n{index}.{}", odd[index % odd.len()], index % 37))).collect();
        let listed: BTreeSet<String> = owners.iter().map(DomainName::to_string).chain([".".to_owned()]).collect();
        let rules: Vec<_> = listed.iter().map(|owner| (0, rule(owner, Scope::Exact))).collect();
        let snapshot = snapshot(&[ListEntry::new("list")], &rules);

        let below = owners.iter().map(|owner| name(&format!(r"\000.{owner}")));
        let asked: Vec<DomainName> = owners.iter().cloned().chain(below).chain([name("."), name("none")]).collect();
        for asked in &asked {
            let expected = asked.ancestors().filter(|name| listed.contains(&name.to_string())).count();
            assert_eq!(snapshot.find(asked).iter().count(), expected, "{asked}");
        }
        let mut room = Room::default();
        asked.chunks(64).for_each(|asked| assert_alike_together(&snapshot, asked, &mut room));
    }

    #[test]
    fn rule_sets_are_the_same_before_and_behind_the_first_keys() {
        // More names than the writer numbers the rule sets by; the last rule
        // set comes only behind them, and the first name has the rarest.
        let lists = ["rare", "frequent", "late"].map(ListEntry::new);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut writer = Writer::create(&path, &Inventory { lists: lists.to_vec() }).unwrap();
        let rules =
            [0, 1, 2].map(|list| writer.rule(&testing::compiled(ListId(list), Rule::new(name("a"), Scope::Exact))));
        let expected = |index: usize| match index {
            0 => 0,
            1..70_000 => 1,
            _ => 2,
        };
        let prefix = Owner::Answer("192.0.2.0/24".parse().unwrap());
        writer.insert(prefix.key(&mut [0; MAX_OWNER_KEY_LEN]), &rules[..1]).unwrap();
        for index in 0..70_010 {
            writer.insert(format!("{index:05}\0").as_bytes(), &[rules[expected(index)]]).unwrap();
        }
        writer.finish().unwrap();

        let snapshot = Snapshot::open(&path).unwrap();
        let mut entries = snapshot.entries();
        entries.next();
        for index in 0..70_010 {
            let (_, rules) = entries.next().unwrap();
            assert_eq!(rules.iter().next().unwrap().list().index(), expected(index), "{index}");
        }
        let mut found = Vec::new();
        snapshot.find_address(Trigger::Ip, "192.0.2.1".parse().unwrap(), |_, rules| found.extend(rules.iter()));
        assert_eq!(found[0].list(), ListId(0));
    }

    #[test]
    fn keys_must_ascend() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("file"), &Inventory::default()).unwrap();
        let rule = writer.rule(&testing::compiled(ListId(0), Rule::new(name("b"), Scope::Exact)));
        writer.insert(b"b\0", &[rule]).unwrap();
        for key in [&b"b\0"[..], b"a\0", b""] {
            assert!(matches!(writer.insert(key, &[rule]), Err(WriteError::OutOfOrder { .. })), "{key:?}");
        }
        writer.insert(b"c\0", &[]).unwrap();
        assert_eq!(writer.finish().unwrap().names, 1, "a name without rules is no entry");
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Writer::create(file.path(), &Inventory::default()), Err(WriteError::Io { .. })));
    }

    proptest! {
        #[test]
        fn every_entry_is_found_and_streamed(owners in proptest::collection::btree_set("[ab]{1,2}(\\.[ab]{1,2}){0,3}", 0..60),
                                             asked in proptest::collection::vec("[ab]{1,2}(\\.[ab]{1,2}){0,4}", 1..40)) {
            let rules: Vec<_> = owners.iter().map(|owner| (0, rule(owner, Scope::Exact))).collect();
            let snapshot = snapshot(&[ListEntry::new("list")], &rules);

            let mut entries = snapshot.entries();
            let mut streamed = Vec::new();
            while let Some((key, _)) = entries.next() {
                streamed.push(DomainName::from_reversed_key(key).unwrap());
            }
            let mut expected: Vec<DomainName> = owners.iter().map(|owner| name(owner)).collect();
            expected.sort();
            prop_assert_eq!(streamed, expected);

            for asked in &asked {
                let asked = name(asked);
                let found: Vec<_> = labels(&snapshot.find(&asked)).iter().map(|labels| asked.suffix(*labels)).collect();
                let mut expected: Vec<_> = asked.ancestors().filter(|name| owners.contains(&name.to_string())).collect();
                expected.reverse();
                prop_assert_eq!(found, expected);
            }

            let asked: Vec<DomainName> = asked.iter().map(|asked| name(asked)).collect();
            let mut room = Room::default();
            for asked in [&asked[..], &asked[asked.len() / 2..]] {
                assert_alike_together(&snapshot, asked, &mut room);
            }
        }
    }
}
