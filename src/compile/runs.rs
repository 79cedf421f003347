//! Sorting more than fits into memory: sorted runs on disk, merged as they are read.
//!
//! One thread fills a buffer while another sorts the one before and writes it
//! out. Entries of equal keys keep the order they came in.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::rule::owner::{MAX_OWNER_KEY_LEN, shared_prefix};

/// How many entries are sorted at once; with their keys, some 12 MB, and as much again while the next are taken.
const RUN_ENTRIES: usize = 1 << 18;

/// How many octets of keys a buffer may have, whatever their number.
const RUN_OCTETS: usize = 16 << 20;

/// Takes entries in any order.
pub(super) struct Sorter {
    buffer: Buffer,
    run_entries: usize,
    total: u64,
    worker: Option<Worker>,
    folder: std::path::PathBuf,
}

/// Sorts and writes buffers, and hands them back empty.
struct Worker {
    full: SyncSender<Buffer>,
    empty: Receiver<Buffer>,
    handle: JoinHandle<io::Result<Vec<File>>>,
}

#[derive(Default)]
struct Buffer {
    keys: Vec<u8>,
    slots: Vec<Slot>,
}

/// The first octets of a key, filled up with zeros, in its order: most comparisons end with them.
fn prefix_of(key: &[u8]) -> u128 {
    if let Some(first) = key.first_chunk() {
        return u128::from_be_bytes(*first);
    }
    let mut first = [0; 16];
    first[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(first)
}

/// An entry in a [`Buffer`].
#[derive(Clone, Copy)]
struct Slot {
    prefix: u128,
    start: u32,
    length: u16,
    value: u32,
}

impl Sorter {
    /// A sorter whose runs are nameless files in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self { buffer: Buffer::default(), run_entries: RUN_ENTRIES, total: 0, worker: None, folder: folder.to_owned() }
    }

    /// How many entries have come.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Takes an entry.
    pub(super) fn push(&mut self, key: &[u8], value: u32) -> io::Result<()> {
        debug_assert!(key.len() <= MAX_OWNER_KEY_LEN);
        if self.buffer.slots.len() >= self.run_entries || self.buffer.keys.len() + key.len() > RUN_OCTETS {
            self.spill()?;
        }
        self.buffer.slots.push(Slot {
            prefix: prefix_of(key),
            start: self.buffer.keys.len() as u32,
            length: key.len() as u16,
            value,
        });
        self.buffer.keys.extend_from_slice(key);
        self.total += 1;
        Ok(())
    }

    /// Hands the buffer to the worker and goes on with an empty one.
    fn spill(&mut self) -> io::Result<()> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(self.folder.clone())?,
        };
        let full = std::mem::take(&mut self.buffer);
        if worker.full.send(full).is_err() {
            // It has stopped because it could not write; its result says why.
            return Err(worker.stop().err().unwrap_or_else(|| io::Error::other("the sorting thread stopped")));
        }
        self.buffer = worker.empty.try_recv().unwrap_or_default();
        self.worker = Some(worker);
        Ok(())
    }

    /// Ends the input.
    pub(super) fn finish(mut self) -> io::Result<Merge> {
        self.buffer.sort();
        let files = match self.worker.take() {
            Some(worker) => worker.stop()?,
            None => Vec::new(),
        };
        let mut runs = Vec::with_capacity(files.len() + 1);
        runs.extend(files.into_iter().map(Run::from_file));
        runs.push(Run::from_buffer(self.buffer));
        Merge::new(runs)
    }
}

impl Worker {
    fn start(folder: std::path::PathBuf) -> io::Result<Self> {
        let (full, input) = sync_channel::<Buffer>(0);
        let (output, empty) = sync_channel::<Buffer>(2);
        let handle = std::thread::Builder::new().name("sort".to_owned()).spawn(move || {
            let mut files = Vec::new();
            for mut buffer in input {
                buffer.sort();
                files.push(buffer.write(&folder)?);
                buffer.keys.clear();
                buffer.slots.clear();
                // Nobody waits for it once the input has ended.
                let _ = output.try_send(buffer);
            }
            Ok(files)
        })?;
        Ok(Self { full, empty, handle })
    }

    fn stop(self) -> io::Result<Vec<File>> {
        drop(self.full);
        self.handle.join().unwrap_or_else(|_| Err(io::Error::other("the sorting thread panicked")))
    }
}

impl Buffer {
    fn sort(&mut self) {
        let keys = &self.keys;
        let rest = |slot: &Slot| {
            let start = slot.start as usize;
            let length = usize::from(slot.length);
            &keys[start + length.min(16)..start + length]
        };
        // `start` grows with each entry, so equal keys keep their order. A key that ends
        // inside the prefix is padded with zeros, and a longer one may go on with them:
        // `rest` is then empty for the first, and it stands first.
        self.slots.sort_unstable_by(|a, b| {
            a.prefix
                .cmp(&b.prefix)
                .then_with(|| rest(a).cmp(rest(b)).then(a.length.cmp(&b.length)).then(a.start.cmp(&b.start)))
        });
    }

    fn key(&self, slot: &Slot) -> &[u8] {
        &self.keys[slot.start as usize..][..usize::from(slot.length)]
    }

    /// Writes each entry as what its key does not share with the one before.
    fn write(&self, folder: &Path) -> io::Result<File> {
        let mut file = tempfile::tempfile_in(folder)?;
        let mut output = Vec::with_capacity(IO_OCTETS + ENTRY_OCTETS);
        let mut before: &[u8] = &[];
        for slot in &self.slots {
            let key = self.key(slot);
            let shared = shared_prefix(before, key);
            output.extend_from_slice(&(shared as u16).to_ne_bytes());
            output.extend_from_slice(&((key.len() - shared) as u16).to_ne_bytes());
            output.extend_from_slice(&slot.value.to_ne_bytes());
            output.extend_from_slice(&key[shared..]);
            if output.len() >= IO_OCTETS {
                file.write_all(&output)?;
                output.clear();
            }
            before = key;
        }
        file.write_all(&output)?;
        file.rewind()?;
        Ok(file)
    }
}

/// How much of a run is written or read at once.
const IO_OCTETS: usize = 256 * 1024;

/// Octets of an entry in a file, its key aside: how many the key shares with the one before, how many are its own, and
/// the value.
const HEAD_OCTETS: usize = 8;

/// The most octets that an entry has in a file.
const ENTRY_OCTETS: usize = HEAD_OCTETS + MAX_OWNER_KEY_LEN;

/// One sorted run, standing at an entry.
struct Run {
    source: RunSource,
    key: Vec<u8>,
    value: u32,
}

enum RunSource {
    File(RunFile),
    Buffer { buffer: Buffer, next: usize },
}

/// A run on disk, as [`Buffer::write`] has made it.
struct RunFile {
    file: File,
    buffer: Box<[u8]>,
    /// What of the buffer is still to be taken.
    rest: Range<usize>,
}

impl RunFile {
    /// What is still to be taken, at least a whole entry unless the run is at its end.
    fn fill(&mut self) -> io::Result<&[u8]> {
        while self.rest.len() < ENTRY_OCTETS {
            self.buffer.copy_within(self.rest.clone(), 0);
            self.rest = 0..self.rest.len();
            match self.file.read(&mut self.buffer[self.rest.end..]) {
                Ok(0) => break,
                Ok(read) => self.rest.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.rest.clone()])
    }

    /// Makes the key of the entry before that of the next one, and returns its value.
    fn next(&mut self, key: &mut Vec<u8>) -> io::Result<Option<u32>> {
        let rest = match self.rest.len() {
            0..ENTRY_OCTETS => self.fill()?,
            _ => &self.buffer[self.rest.clone()],
        };
        let Some((&[a, b, c, d, ref value @ ..], rest)) = rest.split_first_chunk::<HEAD_OCTETS>() else {
            return Ok(None);
        };
        let (shared, own) = (u16::from_ne_bytes([a, b]), usize::from(u16::from_ne_bytes([c, d])));
        let value = u32::from_ne_bytes(*value);
        key.truncate(usize::from(shared));
        key.extend_from_slice(rest.get(..own).ok_or(io::ErrorKind::UnexpectedEof)?);
        self.rest.start += HEAD_OCTETS + own;
        Ok(Some(value))
    }
}

impl Run {
    fn from_file(file: File) -> Self {
        Self::new(RunSource::File(RunFile { file, buffer: vec![0; IO_OCTETS].into_boxed_slice(), rest: 0..0 }))
    }

    fn from_buffer(buffer: Buffer) -> Self {
        Self::new(RunSource::Buffer { buffer, next: 0 })
    }

    fn new(source: RunSource) -> Self {
        Self { source, key: Vec::with_capacity(MAX_OWNER_KEY_LEN), value: 0 }
    }

    /// Goes on to the next entry; `false` at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let value = match &mut self.source {
            RunSource::File(file) => file.next(&mut self.key)?,
            RunSource::Buffer { buffer, next } => buffer.slots.get(*next).map(|slot| {
                self.key.clear();
                self.key.extend_from_slice(buffer.key(slot));
                *next += 1;
                slot.value
            }),
        };
        self.value = value.unwrap_or_default();
        Ok(value.is_some())
    }
}

/// All entries in the order of their keys; equal keys in the order they came in.
pub(super) struct Merge {
    runs: Vec<Run>,
    /// A heap, the least on top; runs that have ended are gone.
    heap: Vec<Head>,
}

/// Where a run stands.
#[derive(Clone, Copy)]
struct Head {
    prefix: u128,
    /// The place in the runs.
    run: usize,
}

impl Merge {
    fn new(mut runs: Vec<Run>) -> io::Result<Self> {
        let mut heap = Vec::with_capacity(runs.len());
        for (at, run) in runs.iter_mut().enumerate() {
            if run.advance()? {
                heap.push(Head { prefix: prefix_of(&run.key), run: at });
            }
        }
        heap.sort_by(|a, b| order(&runs, a, b));
        Ok(Self { runs, heap })
    }

    /// Appends the next key to `keys`, and its values to `values`; `false` at the end.
    pub(super) fn next(&mut self, keys: &mut Vec<u8>, values: &mut Vec<u32>) -> io::Result<bool> {
        let Some(&Head { prefix, run }) = self.heap.first() else { return Ok(false) };
        let start = keys.len();
        keys.extend_from_slice(&self.runs[run].key);
        while let Some(top) = self.heap.first_mut()
            && top.prefix == prefix
            && self.runs[top.run].key == keys[start..]
        {
            let run = &mut self.runs[top.run];
            values.push(run.value);
            if run.advance()? {
                top.prefix = prefix_of(&run.key);
            } else {
                self.heap.swap_remove(0);
            }
            self.sift_down();
        }
        Ok(true)
    }

    fn sift_down(&mut self) {
        let Self { runs, heap } = self;
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            let children = left..heap.len().min(left + 2);
            let Some(least) = children.min_by(|&a, &b| order(runs, &heap[a], &heap[b])) else { return };
            if order(runs, &heap[at], &heap[least]).is_le() {
                return;
            }
            heap.swap(at, least);
            at = least;
        }
    }
}

/// The order of what two runs stand at.
fn order(runs: &[Run], a: &Head, b: &Head) -> Ordering {
    let rest = || runs[a.run].key.cmp(&runs[b.run].key).then(a.run.cmp(&b.run));
    a.prefix.cmp(&b.prefix).then_with(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(entries: &[Vec<u8>], run_entries: usize) -> Vec<(Vec<u8>, Vec<u32>)> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path());
        sorter.run_entries = run_entries;
        for (value, key) in entries.iter().enumerate() {
            sorter.push(key, value as u32).unwrap();
        }
        let mut merge = sorter.finish().unwrap();
        let mut found = Vec::new();
        let (mut key, mut values) = (Vec::new(), Vec::new());
        while merge.next(&mut key, &mut values).unwrap() {
            found.push((std::mem::take(&mut key), std::mem::take(&mut values)));
        }
        found
    }

    proptest! {
        #[test]
        fn runs_come_back_as_one_sorted_whole(
            entries in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![Just(0_u8), Just(b'a'), any::<u8>()], 0..30), 0..80),
            run_entries in 1_usize..20,
        ) {
            let mut expected: std::collections::BTreeMap<Vec<u8>, Vec<u32>> = Default::default();
            for (value, key) in entries.iter().enumerate() {
                expected.entry(key.clone()).or_default().push(value as u32);
            }
            prop_assert_eq!(sorted(&entries, run_entries), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let mut sorter = Sorter::new(Path::new("/nonexistent"));
        sorter.run_entries = 1;
        let failed = (0..10).any(|value| sorter.push(b"a\0", value).is_err()) || sorter.finish().is_err();
        assert!(failed);
    }
}
