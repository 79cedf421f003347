//! Notices that a list has changed on disk.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::list::{ListSettings, Source};

/// What the files of the lists looked like at one moment: where they are, how large, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight(Vec<(PathBuf, Option<Marks>)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Sight {
    /// Looks at every file of the lists; reads none.
    pub(super) fn take(lists: &[ListSettings]) -> Self {
        let local = lists.iter().filter(|list| matches!(list.source, Source::File(_) | Source::Glob(_)));
        let files = local.flat_map(|list| list.source.files().unwrap_or_default());
        let marked = files.map(|path| {
            let marks = path.metadata().ok().map(|metadata| Marks {
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            });
            (path, marks)
        });
        Self(marked.collect())
    }
}

/// Tells a change that has come to rest from one that is under way.
#[derive(Debug)]
pub(super) struct Watch {
    /// What the lists were last compiled from, or tried to.
    tried: Sight,
    /// What was seen last.
    seen: Sight,
}

impl Watch {
    pub(super) fn new(sight: Sight) -> Self {
        Self { tried: sight.clone(), seen: sight }
    }

    /// Whether it is time to compile: the files are others than at the last try, and the same as at the last look.
    pub(super) fn is_due(&mut self, sight: Sight) -> bool {
        let at_rest = sight == self.seen;
        let due = at_rest && sight != self.tried;
        if due {
            self.tried = sight.clone();
        }
        self.seen = sight;
        due
    }

    /// Whether something has changed that is not at rest yet.
    pub(super) fn is_stirred(&self) -> bool {
        self.seen != self.tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_is_due_once_and_only_at_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "a.example\n").unwrap();
        let pattern = format!("{}/*.txt", folder.path().display());
        let lists = [
            ListSettings::new("a", Source::File(path.clone())),
            ListSettings::new("all", Source::Glob(pattern)),
            ListSettings::new("far", Source::Url("https://lists.example/".to_owned())),
        ];
        let mut watch = Watch::new(Sight::take(&lists));
        assert!(!watch.is_due(Sight::take(&lists)));

        fs::write(&path, "a.example\nb.example\n").unwrap();
        assert!(!watch.is_due(Sight::take(&lists)), "it may still be written to");
        assert!(watch.is_stirred());
        assert!(watch.is_due(Sight::take(&lists)));
        assert!(!watch.is_due(Sight::take(&lists)), "it was tried");

        fs::write(folder.path().join("b.txt"), "c.example\n").unwrap();
        assert!(!watch.is_due(Sight::take(&lists)));
        assert!(watch.is_due(Sight::take(&lists)), "a new file of a pattern");

        fs::remove_file(&path).unwrap();
        assert!(!watch.is_due(Sight::take(&lists)));
        assert!(watch.is_due(Sight::take(&lists)), "a file that is gone");
    }
}
