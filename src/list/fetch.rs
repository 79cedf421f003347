//! Lists from the web, kept on disk.
//!
//! A download is asked for with what the server said of the copy at hand (ETag
//! and Last-Modified, RFC 9110 section 13), is limited in size and time, and
//! replaces the copy only when it is whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The folder of downloaded lists.
#[derive(Debug, Clone)]
pub struct Downloads {
    folder: PathBuf,
}

/// On what terms a copy is taken.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'t> {
    /// The most octets that it may have.
    pub max_bytes: u64,
    /// How long it may take.
    pub timeout: Duration,
    /// Whose certificates prove who the server is; none: Mozilla's roots do.
    pub authorities: &'t [CertificateDer<'static>],
}

/// The copy of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The file.
    pub path: PathBuf,
    /// When the server was last heard to have exactly this, in seconds since 1970.
    pub confirmed: u64,
    /// Whether it differs from the copy before.
    pub changed: bool,
}

/// Why there is no new copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The server cannot be reached, or gives no list.
    #[error("{url}: {source}")]
    Transfer {
        /// The URL.
        url: String,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// The server's answer is no list: a redirect that is not followed, or nothing.
    #[error("{url}: the server answers with status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status code (RFC 9110, section 15).
        status: u16,
    },
    /// The answer broke off or went on for too long.
    #[error("{url}: {source}")]
    Body {
        /// The URL.
        url: String,
        /// What went wrong.
        source: io::Error,
    },
    /// The answer is larger than the list's limit.
    #[error("{url}: more than {limit} octets; raise max-bytes if that is right")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The copy cannot be kept.
    #[error("{path}: {source}", path = path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is known of a copy.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Facts {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    confirmed: u64,
}

impl Downloads {
    /// The folder of downloads at `folder`, which is made when something is kept.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The copy at hand.
    pub fn cached(&self, url: &str) -> Option<Download> {
        let path = self.body_of(url);
        let facts = self.facts_of(url)?;
        path.is_file().then_some(Download { path, confirmed: facts.confirmed, changed: false })
    }

    /// Asks the server, unless its copy is still the one at hand, for a new one. Blocks for as long as `terms` allow.
    ///
    /// # Errors
    ///
    /// When there is no whole new copy; the one at hand stays.
    pub fn refresh(&self, url: &str, terms: Terms<'_>, wall: u64) -> Result<Download, FetchError> {
        let Terms { max_bytes, timeout, authorities } = terms;
        let path = self.body_of(url);
        let facts = self.facts_of(url).filter(|_| path.is_file());
        let transfer = |source| FetchError::Transfer { url: url.to_owned(), source: Box::new(source) };
        let is_secure = url.starts_with("https:");
        let roots = match authorities {
            [] => RootCerts::WebPki,
            some => some.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).into(),
        };
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            // A redirect must not lead off the safe way, and loopback needs none.
            .https_only(is_secure)
            .max_redirects(if is_secure { 5 } else { 0 })
            .timeout_global(Some(timeout))
            .user_agent(concat!("qalqan/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut request = agent.get(url);
        if let Some(facts) = &facts {
            if let Some(etag) = &facts.etag {
                request = request.header("If-None-Match", etag);
            }
            if let Some(last_modified) = &facts.last_modified {
                request = request.header("If-Modified-Since", last_modified);
            }
        }
        let response = request.call().map_err(transfer)?;
        if let (304, Some(facts)) = (response.status().as_u16(), facts) {
            self.write_facts(&Facts { confirmed: wall, ..facts })?;
            return Ok(Download { path, confirmed: wall, changed: false });
        }
        if response.status() != 200 {
            return Err(FetchError::Status { url: url.to_owned(), status: response.status().as_u16() });
        }
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let fresh = Facts {
            url: url.to_owned(),
            etag: header("etag"),
            last_modified: header("last-modified"),
            confirmed: wall,
        };
        let (_, body) = response.into_parts();
        // One octet more than allowed tells a list of just that size from a larger one.
        let mut input = body.into_with_config().limit(u64::MAX).reader().take(max_bytes.saturating_add(1));
        let keep = |source| FetchError::Keep { path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(keep)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(keep)?;
        let mut buffer = vec![0; 128 * 1024];
        let mut total = 0;
        loop {
            let read = input.read(&mut buffer).map_err(|source| FetchError::Body { url: url.to_owned(), source })?;
            if read == 0 {
                break;
            }
            total += read as u64;
            if total > max_bytes {
                return Err(FetchError::TooLarge { url: url.to_owned(), limit: max_bytes });
            }
            file.write_all(&buffer[..read]).map_err(keep)?;
        }
        let changed = !same_content(file.path(), &path);
        if changed {
            file.as_file().sync_all().map_err(keep)?;
            file.persist(&path).map_err(|error| keep(error.error))?;
        }
        self.write_facts(&fresh)?;
        Ok(Download { path, confirmed: wall, changed })
    }

    fn write_facts(&self, facts: &Facts) -> Result<(), FetchError> {
        let path = self.facts_file(&facts.url);
        let keep = |source| FetchError::Keep { path: path.clone(), source };
        let mut file = tempfile::NamedTempFile::new_in(&self.folder).map_err(keep)?;
        serde_json::to_writer(&mut file, facts).map_err(|error| keep(error.into()))?;
        file.persist(&path).map_err(|error| keep(error.error))?;
        Ok(())
    }

    fn facts_of(&self, url: &str) -> Option<Facts> {
        let facts: Facts = serde_json::from_slice(&fs::read(self.facts_file(url)).ok()?).ok()?;
        (facts.url == url).then_some(facts)
    }

    fn body_of(&self, url: &str) -> PathBuf {
        self.folder.join(format!("{}.list", key_of(url)))
    }

    fn facts_file(&self, url: &str) -> PathBuf {
        self.folder.join(format!("{}.json", key_of(url)))
    }
}

fn key_of(url: &str) -> String {
    blake3::hash(url.as_bytes()).to_hex()[..32].to_owned()
}

/// Whether two files have the same octets; a file that cannot be read has not.
fn same_content(one: &Path, other: &Path) -> bool {
    let read = || -> io::Result<bool> {
        let (one, other) = (File::open(one)?, File::open(other)?);
        if one.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        let hash =
            |file: File| -> io::Result<blake3::Hash> { Ok(blake3::Hasher::new().update_reader(file)?.finalize()) };
        Ok(hash(one)? == hash(other)?)
    };
    read().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// A server that gives each answer in turn, and the requests that it has seen.
    fn server(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/list.txt", listener.local_addr().unwrap());
        let handle = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                for line in BufReader::new(&stream).lines() {
                    let line = line.unwrap();
                    if line.is_empty() {
                        break;
                    }
                    request += &format!("{}\n", line.to_ascii_lowercase());
                }
                requests.push(request);
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
            requests
        });
        (url, handle)
    }

    fn terms(max_bytes: u64) -> Terms<'static> {
        Terms { max_bytes, timeout: Duration::from_secs(5), authorities: &[] }
    }

    fn ok(body: &str, headers: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
    }

    #[test]
    fn a_copy_is_kept_and_asked_after_by_what_the_server_said_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = Downloads::new(&folder.path().join("downloads"));
        let not_modified = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_owned();
        let gone = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned();
        let etag = "ETag: \"v1\"\r\nLast-Modified: Sun, 22 Nov 2026 10:00:00 GMT\r\n";
        let (url, handle) = server(vec![ok("a.example\n", etag), not_modified, ok("b.example\n", ""), gone]);
        let refresh = |wall| downloads.refresh(&url, terms(1000), wall);

        assert_eq!(downloads.cached(&url), None);
        let first = refresh(1).unwrap();
        assert!(first.changed);
        assert_eq!(fs::read_to_string(&first.path).unwrap(), "a.example\n");
        let second = refresh(2).unwrap();
        assert_eq!((second.changed, second.confirmed), (false, 2));
        assert!(refresh(3).unwrap().changed);
        assert!(refresh(4).is_err());
        let kept = downloads.cached(&url).unwrap();
        assert_eq!((fs::read_to_string(&kept.path).unwrap(), kept.confirmed), ("b.example\n".into(), 3));

        let requests = handle.join().unwrap();
        assert!(requests[1].contains("if-none-match: \"v1\""), "{}", requests[1]);
        assert!(requests[1].contains("if-modified-since: sun, 22 nov"), "{}", requests[1]);
        assert!(!requests[3].contains("if-none-match"));
    }

    #[test]
    fn a_redirect_off_the_safe_way_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let away =
            "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://lists.example/\r\nContent-Length: 0\r\n\r\n";
        let (url, handle) = server(vec![away.to_owned()]);
        let error = Downloads::new(folder.path()).refresh(&url, terms(10), 1).unwrap_err();
        assert!(matches!(error, FetchError::Status { status: 302, .. }), "{error}");
        handle.join().unwrap();
    }

    #[test]
    fn what_is_too_large_or_breaks_off_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let downloads = Downloads::new(folder.path());
        let broken = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\na.example\n".to_owned();
        let (url, handle) = server(vec![ok("a.example\n", ""), ok("a.example\n", ""), broken]);
        assert!(downloads.refresh(&url, terms(10), 1).is_ok());
        assert!(matches!(downloads.refresh(&url, terms(9), 2), Err(FetchError::TooLarge { .. })));
        assert!(downloads.refresh(&url, terms(1000), 3).is_err());
        assert_eq!(downloads.cached(&url).unwrap().confirmed, 1);
        handle.join().unwrap();
    }
}
