//! The text of each list, as it is now or as it last was good.
//!
//! With a store, what is read is a copy, so that a file cannot change under the
//! reader, and the copy of a list that was found good is kept:
//!
//! ```text
//! lists/<name>/good.json   which copies, what they were copied from, and when they were good
//! lists/<name>/<hash>      a copy
//! downloads/               what URLs gave
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::store::replace_file;
use super::{Freshness, Store};
use crate::list::fetch::{Downloads, Terms};
use crate::list::{ListSettings, Source};

/// The text of one list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) files: Vec<TextFile>,
    /// Why this is not what the source has now.
    pub(super) stale_because: Option<String>,
    /// When the source was last known to have exactly this, in seconds since 1970.
    pub(super) confirmed: u64,
}

/// One file of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TextFile {
    /// What reports call it.
    pub(super) name: String,
    stamp: Stamp,
    /// Where it is read: the copy's name in the list's folder, or a path.
    copy: PathBuf,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: i64,
    modified_nanoseconds: i64,
    changed: i64,
    changed_nanoseconds: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Good {
    files: Vec<TextFile>,
    confirmed: u64,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: metadata.mtime(),
            modified_nanoseconds: metadata.mtime_nsec(),
            changed: metadata.ctime(),
            changed_nanoseconds: metadata.ctime_nsec(),
        })
    }
}

/// The folder that a list's copies are in.
pub(super) struct Gatherer<'s> {
    settings: &'s ListSettings,
    folder: Option<PathBuf>,
    downloads: Option<Downloads>,
}

impl<'s> Gatherer<'s> {
    pub(super) fn new(settings: &'s ListSettings, store: Option<&Store>) -> Self {
        Self {
            settings,
            folder: store.map(|store| store.state().join("lists").join(folder_name(&settings.name))),
            downloads: store.map(|store| Downloads::new(&store.state().join("downloads"))),
        }
    }

    /// The text as it is now.
    ///
    /// # Errors
    ///
    /// In words, when it cannot be had.
    pub(super) fn current(&self, freshness: Freshness, wall: u64) -> Result<Text, String> {
        let (paths, stale_because, confirmed) = match &self.settings.source {
            Source::Inline(_) => return Ok(Text { confirmed: wall, ..Text::default() }),
            Source::Url(url) => {
                let (path, stale, confirmed) = self.download(url, freshness, wall)?;
                (vec![(url.clone(), path)], stale, confirmed)
            }
            source => {
                let paths = source.files().map_err(|error| error.to_string())?;
                (paths.into_iter().map(|path| (path.display().to_string(), path)).collect(), None, wall)
            }
        };
        let good = self.read_good();
        let mut files = Vec::with_capacity(paths.len());
        let mut left = self.settings.limits.max_bytes;
        for (name, path) in paths {
            let failed = |source: io::Error| format!("{name}: {source}");
            let stamp = Stamp::of(&path).map_err(failed)?;
            if stamp.length > left {
                let limit = self.settings.limits.max_bytes;
                return Err(format!("{name}: more than {limit} octets; raise max-bytes if that is right"));
            }
            left -= stamp.length;
            let known = good.files.iter().find(|file| file.name == name && file.stamp == stamp);
            let copy = match (&self.folder, known) {
                (None, _) => path,
                (Some(folder), Some(file)) if folder.join(&file.copy).is_file() => file.copy.clone(),
                (Some(folder), _) => take_copy(&path, folder).map_err(failed)?,
            };
            files.push(TextFile { name, stamp, copy });
        }
        Ok(Text { files, stale_because, confirmed })
    }

    /// The text as it last was good, when it is another than `current`.
    pub(super) fn last_good(&self, current: Option<&Text>) -> Option<Text> {
        let folder = self.folder.as_ref()?;
        let good = self.read_good();
        let is_there = !good.files.is_empty() && good.files.iter().all(|file| folder.join(&file.copy).is_file());
        let differs = current.is_none_or(|current| {
            let copies = |files: &[TextFile]| files.iter().map(|file| file.copy.clone()).collect::<Vec<_>>();
            copies(&current.files) != copies(&good.files)
        });
        (is_there && differs).then_some(Text { files: good.files, stale_because: None, confirmed: good.confirmed })
    }

    /// Opens a file of a text.
    pub(super) fn open(&self, file: &TextFile) -> io::Result<File> {
        match &self.folder {
            Some(folder) => File::open(folder.join(&file.copy)),
            None => File::open(&file.copy),
        }
    }

    /// Remembers that `text` was good, and forgets the copies that it does not need.
    pub(super) fn keep(&self, text: &Text) -> io::Result<()> {
        let Some(folder) = self.folder.as_ref().filter(|_| !text.files.is_empty()) else { return Ok(()) };
        let good = Good { files: text.files.clone(), confirmed: text.confirmed };
        replace_file(&folder.join("good.json"), &serde_json::to_vec(&good)?)?;
        for entry in fs::read_dir(folder)?.flatten() {
            let is_kept = good.files.iter().any(|file| file.copy.as_os_str() == entry.file_name());
            if !is_kept && entry.file_name() != "good.json" {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// What changes when the source does, as far as can be told without reading it.
    pub(super) fn stamp(&self) -> String {
        let paths = match &self.settings.source {
            Source::Url(url) => {
                let copy = self.downloads.as_ref().and_then(|downloads| downloads.cached(url));
                copy.map(|copy| copy.path).into_iter().collect()
            }
            source => source.files().unwrap_or_default(),
        };
        paths.iter().map(|path| format!("{path:?} {:?}\n", Stamp::of(path).ok())).collect()
    }

    /// The copy of a URL, why it is an old one if it is, and when it was new.
    fn download(&self, url: &str, freshness: Freshness, wall: u64) -> Result<(PathBuf, Option<String>, u64), String> {
        let Some(downloads) = &self.downloads else {
            return Err(format!("{url}: a list from the web needs a state folder to be kept in"));
        };
        let cached = downloads.cached(url);
        if let (Freshness::Cached, Some(copy)) = (freshness, &cached) {
            return Ok((copy.path.clone(), None, copy.confirmed));
        }
        let ListSettings { limits, timeout, authorities, .. } = self.settings;
        let terms = Terms { max_bytes: limits.max_bytes, timeout: *timeout, authorities };
        match (downloads.refresh(url, terms, wall), cached) {
            (Ok(copy), _) => Ok((copy.path, None, copy.confirmed)),
            (Err(error), Some(copy)) => Ok((copy.path, Some(error.to_string()), copy.confirmed)),
            (Err(error), None) => Err(error.to_string()),
        }
    }

    fn read_good(&self) -> Good {
        let read = || serde_json::from_slice(&fs::read(self.folder.as_ref()?.join("good.json")).ok()?).ok();
        read().unwrap_or_default()
    }
}

/// Copies `path` into `folder` under the hash of its content.
fn take_copy(path: &Path, folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let mut input = File::open(path)?;
    let mut output = tempfile::NamedTempFile::new_in(folder)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                output.write_all(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let name = PathBuf::from(&hasher.finalize().to_hex()[..32]);
    output.persist(folder.join(&name)).map_err(|error| error.error)?;
    Ok(name)
}

/// A list's name as that of a folder: what could lead elsewhere is written in hexadecimal.
fn folder_name(name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet));
    if plain { name.to_owned() } else { format!("~{}", &blake3::hash(name.as_bytes()).to_hex()[..32]) }
}
