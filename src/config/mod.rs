//! The configuration file as written becomes a checked [`Config`].
//!
//! Every module owns its settings and their defaults; this one reads the file,
//! fills them, and says what is wrong by key and line. Nothing below knows it.

mod error;
mod file;
mod units;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use crate::name::DomainName;
use crate::policy;

use error::Document;
use file::File;

pub use error::{ConfigError, Fault};
pub use file::LogFormat;

/// Where lists are looked for when there is no configuration file.
pub const DEFAULT_LISTS: &str = "blocklists";

/// Everything that the program was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub path: Option<PathBuf>,
    /// `[server]`, without what the front takes.
    pub server: Server,
    /// `[protect]` and the TTL of `[sinkhole]`.
    pub policy: policy::Settings,
    /// `[control]`: where metrics, health and the API are served.
    pub control: SocketAddr,
}

/// How the program runs.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where everything is kept that must outlive the process.
    pub state_dir: PathBuf,
    /// Whose rights to take on once the sockets are open.
    pub user: Option<String>,
    /// How often the files of the lists are looked at for changes; zero: never.
    pub watch: Duration,
    /// How long queries under way may take after SIGTERM.
    pub drain: Duration,
    /// What is logged, in the directives of `tracing`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads the file at `path`, or takes the defaults and the lists in `blocklists/` of the current folder.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or something in it is wrong; says everything that is.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::check(File::default(), &Document::new(None, ""), Path::new(""));
        };
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let document = Document::new(Some(path), &text);
        let file = toml::from_str(&text).map_err(|error| ConfigError::Wrong(vec![document.fault_of(&error)]))?;
        Self::check(file, &document, path.parent().unwrap_or(Path::new("")))
    }

    fn check(file: File, document: &Document<'_>, base: &Path) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let state_dir = match (file.server.state_dir, env::var_os("STATE_DIRECTORY"), env::var_os("XDG_STATE_HOME")) {
            (Some(dir), ..) => base.join(dir),
            (None, Some(dir), _) => PathBuf::from(dir),
            (None, None, Some(dir)) => PathBuf::from(dir).join("qalqan"),
            (None, None, None) => PathBuf::from("target/qalqan"),
        };
        let mut protected: Vec<DomainName> = file.protect.names.into_iter().map(|name| name.0).collect();
        for (index, name) in file.protect.files.iter().enumerate() {
            match read_names(&base.join(name)) {
                Ok(names) => protected.extend(names),
                Err(message) => faults.push(document.fault(&format!("protect.files[{index}]"), message)),
            }
        }
        if !faults.is_empty() {
            return Err(ConfigError::Wrong(faults));
        }
        Ok(Self {
            path: document.file().map(Path::to_owned),
            server: Server {
                state_dir,
                user: file.server.user,
                watch: file.server.watch.0,
                drain: file.server.drain.0,
                log: file.server.log,
                log_format: file.server.log_format,
            },
            policy: policy::Settings { block_ttl: file.sinkhole.ttl.as_seconds(), protected },
            control: file.control.listen,
        })
    }
}

/// One name a line; `#` begins a comment.
fn read_names(path: &Path) -> Result<Vec<DomainName>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    let mut names = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let name: file::PlainName =
                line.parse().map_err(|error| format!("{}:{}: {error}", path.display(), index + 1))?;
            names.push(name.0);
        }
    }
    Ok(names)
}
