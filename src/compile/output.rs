//! From merged names to the snapshot file.

use std::sync::mpsc::sync_channel;

use smallvec::SmallVec;

use super::guards::Protected;
use super::merge::{Event, Merger};
use super::runs::Merge;
use super::{ListReport, Progress};
use crate::list::Note;
use crate::rule::ListId;
use crate::rule::owner::shared_prefix;
use crate::snapshot::{WriteError, Writer};

/// Writes merged names, and counts what can only be seen when all lists are together.
pub(super) struct Output<'o> {
    pub(super) writer: Writer,
    pub(super) merger: Merger<'o>,
    pub(super) protected: Protected,
    pub(super) reports: &'o mut [ListReport],
    pub(super) before: Vec<u8>,
    /// The keys above the current one, by their length, and the lists that cover it from there.
    pub(super) above: Vec<(usize, SmallVec<[ListId; 2]>)>,
}

pub(super) enum OutputError {
    Write(WriteError),
    Io(std::io::Error),
}

/// Names on their way from the merging thread to the writing one.
#[derive(Default)]
struct Batch {
    keys: Vec<u8>,
    values: Vec<u32>,
    /// Where in `keys` and `values` each name ends.
    ends: Vec<(u32, u32)>,
}

const BATCH: usize = 8192;

impl Output<'_> {
    /// Reading and comparing runs takes one thread, building the snapshot another.
    pub(super) fn write_all(
        &mut self,
        mut merge: Merge,
        total: u64,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), OutputError> {
        std::thread::scope(|scope| {
            let (sender, batches) = sync_channel::<Batch>(4);
            let merging = scope.spawn(move || -> std::io::Result<()> {
                let mut batch = Batch::default();
                while merge.next(&mut batch.keys, &mut batch.values)? {
                    batch.ends.push((batch.keys.len() as u32, batch.values.len() as u32));
                    if batch.ends.len() == BATCH && sender.send(std::mem::take(&mut batch)).is_err() {
                        return Ok(());
                    }
                }
                // When nobody takes it, writing has failed and says so itself.
                let _ = sender.send(batch);
                Ok(())
            });
            let mut done = 0;
            for batch in batches {
                let (mut key, mut value) = (0, 0);
                for &(key_end, value_end) in &batch.ends {
                    let values = &batch.values[value..value_end as usize];
                    self.name(&batch.keys[key..key_end as usize], values).map_err(OutputError::Write)?;
                    (key, value) = (key_end as usize, value_end as usize);
                }
                done += batch.values.len() as u64;
                progress(Progress::Writing { done, total });
            }
            let merged = merging.join().unwrap_or_else(|_| Err(std::io::Error::other("the merging thread panicked")));
            merged.map_err(OutputError::Io)
        })
    }

    fn name(&mut self, key: &[u8], values: &[u32]) -> Result<(), WriteError> {
        let merged = self.merger.merge(values, &mut self.writer);
        for (list, event) in &merged.events {
            let reading = &mut self.reports[list.index()].reading;
            match event {
                Event::Note(note) => reading.note(*note),
                Event::Refused(reason) => reading.add_refused(*reason, 1),
            }
        }
        if merged.rules.is_empty() {
            return Ok(());
        }
        // A key's ancestors are its prefixes, and they all came before it.
        let shared = shared_prefix(&self.before, key);
        while self.above.last().is_some_and(|(length, _)| *length > shared) {
            self.above.pop();
        }
        for list in &merged.lists {
            if self.above.iter().any(|(_, covering)| covering.contains(list)) {
                self.reports[list.index()].reading.note(Note::Covered);
            }
        }
        if !merged.covering.is_empty() {
            self.above.push((key.len(), merged.covering.clone()));
        }
        self.before.clear();
        self.before.extend_from_slice(key);
        self.protected.look(key, merged);
        self.writer.insert(key, &merged.rules)
    }
}
