//! Where the text of a list comes from.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where the text of a list comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// One file.
    File(PathBuf),
    /// Every file whose path matches, in the order of their names.
    Glob(String),
    /// A URL, kept on disk between downloads.
    Url(String),
    /// The text itself, from the configuration.
    Inline(String),
}

/// Why a source is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing is written.
    #[error("the source is empty; write a path, a glob or an https:// URL")]
    Empty,
    /// A URL that anyone on the way could change.
    #[error("{0}: only https:// is read (http:// for loopback addresses); on the way, anyone could change the list")]
    Insecure(String),
    /// A pattern that cannot be read.
    #[error("{pattern}: {source}")]
    BadPattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// A folder or a file of a pattern that cannot be listed.
    #[error("{pattern}: {source}")]
    Unlisted {
        /// As written.
        pattern: String,
        /// What the system said.
        source: glob::GlobError,
    },
    /// No file matches.
    #[error("{0}: no file matches; a list without files is refused, so that a wrong path is not an empty list")]
    NoMatch(String),
}

impl Source {
    /// Reads a source as the configuration writes it; relative paths start at `base`.
    ///
    /// # Errors
    ///
    /// When it is empty, a pattern that cannot be read, or a URL without TLS.
    pub fn parse(text: &str, base: &Path) -> Result<Self, SourceError> {
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "https" => Ok(Self::Url(text.to_owned())),
                "http" if is_loopback(rest) => Ok(Self::Url(text.to_owned())),
                _ => Err(SourceError::Insecure(text.to_owned())),
            };
        }
        let path = base.join(text);
        // A file whose name has a bracket in it is a file all the same.
        if text.contains(['*', '?', '[']) && !path.exists() {
            let pattern =
                Path::new(&glob::Pattern::escape(&base.to_string_lossy())).join(text).to_string_lossy().into_owned();
            return match glob::Pattern::new(&pattern) {
                Ok(_) => Ok(Self::Glob(pattern)),
                Err(source) => Err(SourceError::BadPattern { pattern, source }),
            };
        }
        Ok(Self::File(path))
    }

    /// The files of a source that has some, in a fixed order.
    ///
    /// # Errors
    ///
    /// When a pattern matches no file or a folder cannot be listed.
    pub fn files(&self) -> Result<Vec<PathBuf>, SourceError> {
        match self {
            Self::File(path) => Ok(vec![path.clone()]),
            Self::Url(_) | Self::Inline(_) => Ok(Vec::new()),
            Self::Glob(pattern) => {
                let paths = glob::glob(pattern)
                    .map_err(|source| SourceError::BadPattern { pattern: pattern.clone(), source })?;
                let mut files = Vec::new();
                for path in paths {
                    let path = path.map_err(|source| SourceError::Unlisted { pattern: pattern.clone(), source })?;
                    if path.is_file() {
                        files.push(path);
                    }
                }
                files.sort();
                if files.is_empty() {
                    return Err(SourceError::NoMatch(pattern.clone()));
                }
                Ok(files)
            }
        }
    }
}

/// Whether the authority at the head of `rest` is this machine: nobody is on the way then.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    !authority.contains('@')
        && (host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Glob(pattern) => f.write_str(pattern),
            Self::Url(url) => f.write_str(url),
            Self::Inline(_) => f.write_str("inline"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_a_glob_or_a_safe_url() {
        let base = Path::new("/etc/qalqan");
        for (text, source) in [
            ("kz.jsonl", Some(Source::File("/etc/qalqan/kz.jsonl".into()))),
            ("/srv/x", Some(Source::File("/srv/x".into()))),
            ("*.txt", Some(Source::Glob("/etc/qalqan/*.txt".into()))),
            ("https://lists.example/a", Some(Source::Url("https://lists.example/a".into()))),
            ("http://127.0.0.1:80/a", Some(Source::Url("http://127.0.0.1:80/a".into()))),
            ("http://[::1]/a", Some(Source::Url("http://[::1]/a".into()))),
            ("http://lists.example/a", None),
            ("http://127.0.0.1.evil.example/a", None),
            ("http://127.0.0.1:80@evil.example/a", None),
            ("ftp://lists.example/a", None),
            ("[", None),
            ("", None),
        ] {
            assert_eq!(Source::parse(text, base).ok(), source, "{text}");
        }
    }

    #[test]
    fn a_glob_gives_its_files_in_order_and_never_none() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a.txt", "c.md"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.txt")).unwrap();
        let files = Source::parse("*.txt", folder.path()).unwrap().files().unwrap();
        assert_eq!(files, [folder.path().join("a.txt"), folder.path().join("b.txt")]);
        assert!(matches!(Source::parse("*.nix", folder.path()).unwrap().files(), Err(SourceError::NoMatch(_))));
    }
}
