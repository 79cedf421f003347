//! The one place where a file is mapped into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use memmap2::Mmap;

use super::OpenError;

/// A file's octets, as long as this lives.
#[derive(Debug)]
pub(super) struct Mapping(Mmap);

impl Mapping {
    /// Maps the file at `path`, unless somebody else could change it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |source: io::Error| OpenError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        refuse_if_others_may_write(&file, path)?;

        // SAFETY: a mapped file must not change while the map lives.
        // - We never write to a published file: `Writer` fills a new file, and
        //   publishing renames it into place.
        // - Other users cannot: the check above has looked at the very file that
        //   is mapped, and refused it if group or others may write it, or if it
        //   belongs to a user who is neither root nor us.
        // A process of our own user, or root, still could; they are the daemon's
        // operator.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self(map))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

fn refuse_if_others_may_write(file: &File, path: &Path) -> Result<(), OpenError> {
    let metadata = file.metadata().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    if !metadata.is_file() {
        return Err(OpenError::NoFile { path: path.to_owned() });
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(OpenError::OthersMayWrite { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
    }
    // SAFETY: `geteuid` takes nothing, touches no memory of ours and cannot fail (POSIX).
    let us = unsafe { libc::geteuid() };
    if metadata.uid() != us && metadata.uid() != 0 {
        return Err(OpenError::OthersOwn { path: path.to_owned(), owner: metadata.uid(), us });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_may_write_is_not_mapped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "some octets").unwrap();
        for (mode, mapped) in [
            (0o600, true),
            (0o400, true),
            (0o644, true),
            (0o620, false),
            (0o602, false),
            (0o666, false),
            (0o664, false),
        ] {
            file.as_file().set_permissions(PermissionsExt::from_mode(mode)).unwrap();
            let opened = Mapping::open(file.path());
            assert_eq!(opened.is_ok(), mapped, "{mode:o}");
            if let Err(error) = opened {
                assert!(error.to_string().contains("chmod go-w"), "{error}");
            }
        }
    }

    #[test]
    fn a_map_outlives_its_name_and_its_successor() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("now"), folder.path().join("next"));
        std::fs::write(&path, "first").unwrap();
        std::fs::write(&next, "second generation").unwrap();
        let map = Mapping::open(&path).unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(&*map, b"first", "renaming over the name leaves the mapped file alone");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*map, b"first");
    }

    #[test]
    fn what_is_no_file_or_has_nothing_in_it_is_no_accident() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Mapping::open(folder.path()), Err(OpenError::NoFile { .. })));
        assert!(matches!(Mapping::open(&folder.path().join("none")), Err(OpenError::Io { .. })));
        assert!(matches!(Mapping::open(Path::new("/dev/null")), Err(OpenError::NoFile { .. })));
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(Mapping::open(&empty).unwrap().len(), 0);
    }

    #[test]
    fn a_map_may_be_read_from_many_threads() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 100_000]).unwrap();
        let map = Mapping::open(file.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(map.iter().all(|&octet| octet == 7)));
            }
        });
    }
}
