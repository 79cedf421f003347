//! Sorting more than fits into memory: sorted runs on disk, merged as they are read.
//!
//! One thread fills a buffer while another sorts the one before and writes it
//! out. Entries of equal keys keep the order they came in.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::rule::owner::MAX_OWNER_KEY_LEN;

/// How many entries are sorted at once; with their keys, some 25 MB.
const RUN_ENTRIES: usize = 1 << 19;

/// How many octets of keys a buffer may have, whatever their number.
const RUN_OCTETS: usize = 32 << 20;

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

/// An entry in a [`Buffer`]. The first octets of the key stand here: most comparisons end with them.
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
        let mut prefix = [0; 16];
        let shared = key.len().min(prefix.len());
        prefix[..shared].copy_from_slice(&key[..shared]);
        self.buffer.slots.push(Slot {
            prefix: u128::from_be_bytes(prefix),
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
        for file in files {
            runs.push(Run::from_file(file)?);
        }
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
        let mut output = BufWriter::with_capacity(256 * 1024, tempfile::tempfile_in(folder)?);
        let mut before: &[u8] = &[];
        for slot in &self.slots {
            let key = self.key(slot);
            let shared = shared_prefix(before, key);
            output.write_all(&(shared as u16).to_ne_bytes())?;
            output.write_all(&((key.len() - shared) as u16).to_ne_bytes())?;
            output.write_all(&slot.value.to_ne_bytes())?;
            output.write_all(&key[shared..])?;
            before = key;
        }
        let mut file = output.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }
}

/// How many octets two keys begin with alike.
pub(super) fn shared_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// One sorted run, standing at an entry.
struct Run {
    source: RunSource,
    key: Vec<u8>,
    value: u32,
    ended: bool,
}

enum RunSource {
    File(BufReader<File>),
    Buffer { buffer: Buffer, next: usize },
}

impl Run {
    fn from_file(file: File) -> io::Result<Self> {
        let source = RunSource::File(BufReader::with_capacity(256 * 1024, file));
        Ok(Self { source, key: Vec::with_capacity(MAX_OWNER_KEY_LEN), value: 0, ended: false })
    }

    fn from_buffer(buffer: Buffer) -> Self {
        let source = RunSource::Buffer { buffer, next: 0 };
        Self { source, key: Vec::with_capacity(MAX_OWNER_KEY_LEN), value: 0, ended: false }
    }

    fn advance(&mut self) -> io::Result<()> {
        match &mut self.source {
            RunSource::Buffer { buffer, next } => match buffer.slots.get(*next) {
                None => self.ended = true,
                Some(slot) => {
                    self.key.clear();
                    self.key.extend_from_slice(buffer.key(slot));
                    self.value = slot.value;
                    *next += 1;
                }
            },
            RunSource::File(input) => {
                let mut head = [0; 8];
                match input.read_exact(&mut head) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        self.ended = true;
                        return Ok(());
                    }
                    read => read?,
                }
                let [a, b, c, d, value @ ..] = head;
                let (shared, fresh) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
                self.value = u32::from_ne_bytes(value);
                self.key.truncate(usize::from(shared));
                let start = self.key.len();
                self.key.resize(start + usize::from(fresh), 0);
                input.read_exact(&mut self.key[start..])?;
            }
        }
        Ok(())
    }
}

/// All entries in the order of their keys; equal keys in the order they came in.
pub(super) struct Merge {
    runs: Vec<Run>,
    /// A heap of places in `runs`, the least on top; runs that have ended are gone.
    heap: Vec<usize>,
}

impl Merge {
    fn new(mut runs: Vec<Run>) -> io::Result<Self> {
        for run in &mut runs {
            run.advance()?;
        }
        let mut heap: Vec<usize> = (0..runs.len()).filter(|&run| !runs[run].ended).collect();
        heap.sort_by(|&a, &b| runs[a].key.cmp(&runs[b].key).then(a.cmp(&b)));
        Ok(Self { runs, heap })
    }

    /// Collects the values of the next key into `values`, and gives the key in `key`; `false` at the end.
    pub(super) fn next(&mut self, key: &mut Vec<u8>, values: &mut Vec<u32>) -> io::Result<bool> {
        let Some(&first) = self.heap.first() else { return Ok(false) };
        key.clear();
        key.extend_from_slice(&self.runs[first].key);
        while let Some(&top) = self.heap.first()
            && self.runs[top].key == *key
        {
            values.push(self.runs[top].value);
            self.runs[top].advance()?;
            if self.runs[top].ended {
                self.heap.swap_remove(0);
            }
            self.sift_down();
        }
        Ok(true)
    }

    fn sift_down(&mut self) {
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            let Some(least) = (left..self.heap.len().min(left + 2)).min_by(|&a, &b| self.order(a, b)) else { return };
            if self.order(at, least).is_le() {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    fn order(&self, a: usize, b: usize) -> std::cmp::Ordering {
        let (a, b) = (self.heap[a], self.heap[b]);
        self.runs[a].key.cmp(&self.runs[b].key).then(a.cmp(&b))
    }
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
            found.push((key.clone(), std::mem::take(&mut values)));
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
