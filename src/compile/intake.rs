//! From the text of lists to entries in a sorter.
//!
//! A list is read as it is now; when it is bad, what it has given already is
//! disowned, and it is read as it last was good.

use std::fs;
use std::path::Path;

use super::gather::{Gatherer, Text};
use super::merge::Bodies;
use super::runs::Sorter;
use super::{CompileError, Freshness, ListReport, Progress, Settings, Store};
use crate::clock::Now;
use crate::list::syntax::Reading;
use crate::list::{self, ListSettings, Source};
use crate::rule::ListId;
use crate::rule::owner::MAX_OWNER_KEY_LEN;

/// Reads lists into a sorter.
pub(super) struct Intake<'i> {
    freshness: Freshness,
    now: Now,
    progress: &'i mut dyn FnMut(Progress<'_>),
    pub(super) bodies: Bodies,
    pub(super) sorter: Sorter,
    folder: &'i Path,
    pub(super) reports: Vec<ListReport>,
    /// By list, the attempt at reading it that counts.
    pub(super) attempts: Vec<u32>,
    tried: u32,
    done: u64,
    total: u64,
}

impl<'i> Intake<'i> {
    pub(super) fn new(
        settings: &Settings,
        folder: &'i Path,
        freshness: Freshness,
        now: Now,
        progress: &'i mut dyn FnMut(Progress<'_>),
    ) -> Self {
        let files = settings.lists.iter().flat_map(|list| list.source.files().unwrap_or_default());
        let total = files.filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum();
        Self {
            freshness,
            now,
            progress,
            bodies: Bodies::default(),
            sorter: Sorter::new(folder),
            folder,
            reports: Vec::with_capacity(settings.lists.len()),
            attempts: Vec::with_capacity(settings.lists.len()),
            tried: 0,
            done: 0,
            total,
        }
    }

    /// Reads a list as it is now, or as it last was good.
    pub(super) fn read(&mut self, id: ListId, list: &ListSettings, store: Option<&Store>) -> Result<(), CompileError> {
        let gatherer = Gatherer::new(list, store);
        let (text, reason) = match gatherer.current(self.freshness, self.now.wall) {
            Err(reason) => (None, reason),
            Ok(text) => match self.attempt(id, list, &gatherer, &text)? {
                Ok(reading) => {
                    gatherer.keep(&text).map_err(|source| self.fault(source))?;
                    self.take(list, reading, text.stale_because, text.confirmed);
                    return Ok(());
                }
                Err(reason) => {
                    let reason = match &text.stale_because {
                        Some(stale) => format!("{stale}; and the copy at hand: {reason}"),
                        None => reason,
                    };
                    (Some(text), reason)
                }
            },
        };
        let refused = |reason| CompileError::List { list: list.name.clone(), reason };
        let Some(good) = gatherer.last_good(text.as_ref()) else { return Err(refused(reason)) };
        match self.attempt(id, list, &gatherer, &good)? {
            Ok(reading) => {
                self.take(list, reading, Some(reason), good.confirmed);
                Ok(())
            }
            Err(again) => Err(refused(format!("{reason}; and the copy that was good before: {again}"))),
        }
    }

    /// Reads one text; the inner error says why the list is refused.
    fn attempt(
        &mut self,
        id: ListId,
        list: &ListSettings,
        gatherer: &Gatherer<'_>,
        text: &Text,
    ) -> Result<Result<list::Report, String>, CompileError> {
        let attempt = self.tried;
        self.tried += 1;
        let mut reading = Reading::new(list);
        let mut failed = None;
        let mut key = [0; MAX_OWNER_KEY_LEN];
        let (bodies, sorter) = (&mut self.bodies, &mut self.sorter);
        let mut take = |entry| {
            let (owner, body) = bodies.number(id, attempt, entry);
            if failed.is_none() {
                failed = sorter.push(owner.key(&mut key), body).err();
            }
        };
        let (progress, total) = (&mut *self.progress, self.total);
        let mut done = self.done;
        let mut refused = None;
        if let Source::Inline(text) = &list.source {
            refused =
                reading.file("inline", text.as_bytes(), &mut take, &mut |_| ()).err().map(|error| error.to_string());
        }
        for file in &text.files {
            let mut file_done = 0;
            let mut tick = |bytes| {
                file_done = bytes;
                progress(Progress::Reading { list: &list.name, done: done + bytes, total: total.max(done + bytes) });
            };
            let read = match gatherer.open(file) {
                Ok(input) => reading.file(&file.name, input, &mut take, &mut tick).map_err(|error| error.to_string()),
                Err(error) => Err(format!("{}: {error}", file.name)),
            };
            done += file_done;
            if let Err(reason) = read {
                refused = Some(reason);
                break;
            }
        }
        self.done = done;
        if let Some(source) = failed {
            return Err(self.fault(source));
        }
        let read = match refused {
            Some(reason) => Err(reason),
            None => reading.finish().map_err(|error| error.to_string()),
        };
        if read.is_ok() {
            self.attempts.push(attempt);
        }
        Ok(read)
    }

    fn take(&mut self, list: &ListSettings, reading: list::Report, kept_because: Option<String>, confirmed: u64) {
        self.reports.push(ListReport {
            name: list.name.clone(),
            source: list.source.to_string(),
            entries: 0,
            kept_because,
            last_success: confirmed,
            reading,
        });
    }

    fn fault(&self, source: std::io::Error) -> CompileError {
        CompileError::Io { path: self.folder.to_owned(), source }
    }
}
