//! The configuration file as written becomes a checked [`Config`].
//!
//! Every module owns its settings and their defaults; this one reads the file,
//! fills them, and says what is wrong by key and line. Nothing below knows it.

mod check;
mod error;
mod file;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use rustls::pki_types::CertificateDer;

use crate::{compile, control, front, pipeline, policy, recursor};

use error::Document;
use file::File;

pub use error::{ConfigError, Fault};
pub use file::LogFormat;

/// The folder whose files are the lists when there is no configuration.
pub const DEFAULT_LISTS: &str = "blocklists";

/// Everything that the program was told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub path: Option<PathBuf>,
    /// How the process runs.
    pub server: Server,
    /// Where queries come in, and whose.
    pub front: front::Settings,
    /// How they are answered.
    pub pipeline: pipeline::Settings,
    /// How the world is asked.
    pub resolver: recursor::Settings,
    /// How name servers are reached.
    pub transport: Transport,
    /// What policy knows beside the lists.
    pub policy: policy::Settings,
    /// The lists, and how they become a generation.
    pub compile: compile::Settings,
    /// Where metrics, health and the API are.
    pub control: control::Settings,
    /// `[resolver]`, to see whether it has changed.
    resolver_as_written: file::ResolverTable,
}

/// How name servers are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transport {
    /// Servers that are somewhere else than their address says.
    pub port_map: BTreeMap<SocketAddr, SocketAddr>,
    /// The port that stands for port 53 of every server.
    pub standard_port: Option<u16>,
    /// Whose certificates prove who a TLS server is; none: Mozilla's roots do.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// How the process runs.
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

impl Default for Server {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/qalqan"),
            user: None,
            watch: Duration::from_millis(250),
            drain: Duration::from_secs(5),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

impl Config {
    /// Reads the file at `path`; without one, takes the defaults and the lists in [`DEFAULT_LISTS`] of the current
    /// folder.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or something in it is wrong; says everything that is.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => {
                fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?
            }
            None => String::new(),
        };
        let document = Document::new(path, &text);
        let mut file: File =
            toml::from_str(&text).map_err(|error| ConfigError::Wrong(vec![document.fault_of(&error)]))?;
        let base = path.and_then(Path::parent).unwrap_or(Path::new(""));
        let state_dir = match file.server.state_dir.take() {
            Some(dir) => base.join(dir),
            None => default_state_dir(path.is_some()),
        };
        if path.is_none() {
            file.list = check::lists_in(Path::new(DEFAULT_LISTS));
        }
        check::check(file, &document, base, &state_dir).map_err(ConfigError::Wrong)
    }
}

impl Config {
    /// Whether something differs from `running` that a reload does not put in force.
    pub fn needs_restart(&self, running: &Self) -> bool {
        let front = front::Settings { admission: running.front.admission.clone(), ..self.front.clone() };
        front != running.front
            || self.pipeline != running.pipeline
            || self.control != running.control
            || self.resolver_as_written != running.resolver_as_written
            || self.transport != running.transport
            || self.server.state_dir != running.server.state_dir
    }
}

/// Where the state is kept when the configuration does not say so: where the service manager or the desktop wants it,
/// else in the system's place for a server that is configured, and in the build folder for one that is tried out.
fn default_state_dir(configured: bool) -> PathBuf {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(dir) = variable("STATE_DIRECTORY") {
        return dir;
    }
    match variable("XDG_STATE_HOME") {
        Some(dir) => dir.join("qalqan"),
        None if configured => Server::default().state_dir,
        None => PathBuf::from("target/qalqan"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::{Format, MatchScope, Source};
    use crate::rule::{Action, BlockReason};
    use serde::Deserialize;
    use std::collections::BTreeSet;

    fn load(text: &str) -> Result<Config, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.toml");
        fs::write(&path, text).unwrap();
        fs::write(folder.path().join("names.txt"), "one.kz # first\n\n*.two.kz\n").unwrap();
        fs::write(folder.path().join("bad.txt"), "one.kz\na..b\n").unwrap();
        match Config::load(Some(&path)) {
            Ok(config) => Ok(config),
            Err(ConfigError::Wrong(faults)) => Err(faults
                .iter()
                .map(|fault| fault.to_string().replace(&format!("{}/", folder.path().display()), ""))
                .collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let config = load("").unwrap();
        assert_eq!(config.front, front::Settings::default());
        assert_eq!(config.pipeline, pipeline::Settings::default());
        assert_eq!(config.policy, policy::Settings::default());
        assert_eq!(config.compile, compile::Settings::default());
        assert_eq!(config.control, control::Settings::default());
    }

    #[test]
    fn the_contract_is_read() {
        let config = load(
            r#"
            [server]
            listen = ["127.0.0.1:5300", "[::1]:5300"]
            allow-clients = ["127.0.0.0/8", "::1"]
            state-dir = "state"
            [cache]
            max-bytes = "64MiB"
            serve-stale = 0
            [sinkhole]
            ipv4 = "192.0.2.80"
            ttl = "1m"
            [protect]
            names = ["gov.kz."]
            files = ["names.txt"]
            [[list]]
            name = "kz"
            source = "kz.jsonl"
            match = "subdomains"
            wildcard-apex = true
            action = "nxdomain"
            ede = "censored"
            priority = 10
            [[list]]
            name = "alias"
            inline = "ads.example"
            format = "domains"
            action = { cname = "block.example" }
            [[list]]
            name = "other"
            inline = "ads.example"
            cname = "block.example"
            [control]
            listen = "127.0.0.1:0"
            "#,
        )
        .unwrap_or_else(|faults| panic!("{faults:#?}"));
        assert_eq!(config.front.listen.len(), 2);
        assert!(config.server.state_dir.is_absolute() && config.server.state_dir.ends_with("state"));
        assert_eq!(config.pipeline.cache.max_bytes, 64 << 20);
        assert!(config.pipeline.cache.stale.window.is_zero());
        assert_eq!(config.policy.block_ttl, 60);
        let names = ["gov.kz", "one.kz", "two.kz"].map(|name| name.parse().unwrap());
        assert_eq!(config.policy.protected, names);
        let [kz, alias, other] = &config.compile.lists[..] else { panic!("three lists") };
        assert!(matches!(&kz.source, Source::File(path) if path.is_absolute()));
        assert_eq!((kz.match_scope, kz.wildcard_apex, kz.priority), (MatchScope::Subdomains, Some(true), 10));
        assert_eq!((&kz.action, kz.reason), (&Action::NxDomain, BlockReason::Censored));
        assert_eq!((alias.format, &alias.action), (Format::Domains, &Action::Cname("block.example".parse().unwrap())));
        assert_eq!(alias.action, other.action);
    }

    #[test]
    fn what_is_wrong_is_named_by_key_and_line() {
        for (text, expected) in [
            ("[server]\nlissten = 1", "q.toml:2: server.lissten: there is no such key; the keys here are `listen`,"),
            (
                "[server]\nlisten = [\"127.0.0.1:53\", \"[::1]:53\", \"127.0.0.1:53\"]",
                "q.toml:2: server.listen[2]: 127.0.0.1:53 stands there twice",
            ),
            (
                "[server]\nworkers = -1",
                "q.toml:2: server.workers: invalid value: integer `-1`, expected a whole number",
            ),
            ("[server]\nworkers = 5000", "q.toml:2: server.workers: write a number up to 1024"),
            ("server = 1", "q.toml:1: server: invalid type: integer `1`, expected a table"),
            ("[resolver]\nsignature-skew = \"2d\"", "q.toml:2: resolver.signature-skew: a clock that is off by more"),
            ("[limits]\nwaiting = 0", "q.toml:2: limits.waiting: with 0 nobody is answered"),
            ("[resolver]\nclient-timeout = \"0s\"", "q.toml:2: resolver.client-timeout: with 0 nobody is answered"),
            ("[cache]\nmax-bytes = \"2TiB\"", "q.toml:2: cache.max-bytes: no machine has that much memory"),
            ("[servers]", "q.toml:1: servers: there is no such key; the keys here are `server`, "),
            (
                "[server]\n\nlisten = \"127.0.0.1:53\"",
                "q.toml:3: server.listen: invalid type: string \"127.0.0.1:53\", expected a list in brackets",
            ),
            ("[server]\nlisten = [\"127.0.0.1:53\", \"53\"]", "q.toml:2: server.listen[1]: invalid socket address"),
            ("[server]\nlisten = []", "q.toml:2: server.listen: there is no address to listen on"),
            (
                "[server]\nallow-clients = [\"10.0.0.1/8\"]",
                "q.toml:2: server.allow-clients[0]: 10.0.0.1/8 has bits set",
            ),
            ("[resolver]\nclient-timeout = \"4 parsecs\"", "q.toml:2: resolver.client-timeout: invalid value: string"),
            ("[resolver]\nmode = \"both\"", "q.toml:2: resolver.mode: unknown variant `both`"),
            ("[[resolver.forward]]\nzone = \".\"\nto = [\"tls://192.0.2.1\"]", "q.toml:3: resolver.forward[0].to[0]: "),
            ("[[resolver.forward]]\nzone = \".\"", "q.toml:1: resolver.forward[0]: missing field `to`"),
            ("[cache]\nmin-ttl = 10\nmax-ttl = 5", "q.toml:2: cache.min-ttl: it is above cache.max-ttl"),
            ("[protect]\nfiles = [\"bad.txt\"]", "q.toml:2: protect.files[0]: bad.txt:2: \"a..b\" is no name: "),
            ("[[list]]\nname = \"a\"", "q.toml:1: list[0].source: the list has no source"),
            ("[[list]]\nsource = \"a\"", "q.toml:1: list[0].name: the list has no name"),
            (
                "[[list]]\nname = \"a\"\nsource = \"a\"\n[[list]]\nname=\"a\"\nsource=\"b\"",
                "q.toml:5: list[1].name: list[0] has",
            ),
            (
                "[[list]]\nname = \"a\"\nsource = \"a\"\nformat = \"zone\"",
                "q.toml:4: list[0].format: unknown variant `zone`",
            ),
            (
                "[[list]]\nname = \"a\"\nsource = \"a\"\naction = \"kill\"",
                "q.toml:4: list[0].action: invalid value: string \"kill\"",
            ),
            ("[[list]]\nname = \"../a\"\nsource = \"a\"", "q.toml:2: list[0].name: \"../a\" is no name for a list"),
            ("[[list]]\nname = \"a\"\nsource = \"http://x.example/\"", "q.toml:3: list[0].source: http://x.example/"),
            ("[server", "q.toml:1: "),
        ] {
            let faults = load(text).map(|_| ()).expect_err(text);
            assert!(faults[0].starts_with(expected), "{text}\n{faults:#?}\nexpected {expected}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let faults =
            load("[server]\nlisten = []\n[cache]\nmin-ttl = 2\nmax-ttl = 1\n[[list]]\nname = \"x\"").unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:#?}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::load(Some(Path::new("/nowhere/q.toml"))).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/q.toml: cannot read the configuration: "), "{error}");
    }

    /// Every key of the table `T`, as serde tells it.
    fn keys<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
        use serde::de::{Deserializer, Error, Visitor};

        struct Fields;

        impl<'de> Deserializer<'de> for Fields {
            type Error = FieldsOf;

            fn deserialize_struct<V: Visitor<'de>>(
                self,
                _: &'static str,
                fields: &'static [&'static str],
                _: V,
            ) -> Result<V::Value, FieldsOf> {
                Err(FieldsOf(fields))
            }

            fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, FieldsOf> {
                Err(FieldsOf::custom("not a table"))
            }

            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
                newtype_struct seq tuple tuple_struct map enum identifier ignored_any
            }
        }

        #[derive(Debug)]
        struct FieldsOf(&'static [&'static str]);

        impl std::fmt::Display for FieldsOf {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                Ok(())
            }
        }

        impl std::error::Error for FieldsOf {}

        impl Error for FieldsOf {
            fn custom<M: std::fmt::Display>(_: M) -> Self {
                Self(&[])
            }
        }

        T::deserialize(Fields).err().map_or(&[], |FieldsOf(fields)| fields)
    }

    #[test]
    fn the_full_example_has_every_key_with_its_default() {
        let text = include_str!("../../deploy/config/full.toml");
        let written: File = toml::from_str(text).unwrap();
        let mut expected = File::default();
        expected.list.push(file::ListTable {
            name: "example".to_owned(),
            source: Some("lists/example.txt".to_owned()),
            ..file::ListTable::default()
        });
        assert_eq!(toml::to_string(&written).unwrap(), toml::to_string(&expected).unwrap());

        // The text as it is after somebody has taken away the marks before keys that have no default.
        let uncommented: String = text
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line)))
            .collect();
        // Two ways to say one thing each: both are keys.
        let tables: toml::Table = toml::from_str(&uncommented).unwrap();
        toml::from_str::<File>(&uncommented).unwrap();
        let table = |value: &toml::Value| value.as_table().unwrap().keys().cloned().collect::<Vec<_>>();
        for (name, expected) in [
            ("server", keys::<file::ServerTable>()),
            ("limits", keys::<file::LimitsTable>()),
            ("resolver", keys::<file::ResolverTable>()),
            ("cache", keys::<file::CacheTable>()),
            ("sinkhole", keys::<file::SinkholeTable>()),
            ("protect", keys::<file::ProtectTable>()),
            ("guard", keys::<file::GuardTable>()),
            ("control", keys::<file::ControlTable>()),
        ] {
            assert_same(name, &table(&tables[name]), expected);
        }
        assert_same("list", &table(&tables["list"][0]), keys::<file::ListTable>());
        assert_same("resolver.forward", &table(&tables["resolver"]["forward"][0]), keys::<file::ForwardTable>());
        assert_same("file", &tables.keys().cloned().collect::<Vec<_>>(), keys::<File>());
    }

    fn assert_same(table: &str, written: &[String], known: &[&str]) {
        let written: BTreeSet<&str> = written.iter().map(String::as_str).collect();
        assert_eq!(written, known.iter().copied().collect(), "the keys of [{table}]");
    }

    #[test]
    fn the_minimal_example_is_a_configuration() {
        let text = include_str!("../../deploy/config/minimal.toml");
        assert!(load(text).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_configuration_or_an_error(text in "\\PC*|(\\[\\[?[a-z.]+\\]\\]?\n([a-z-]+ = [\"\\[0-9a-z]+\n)*)*") {
            let document = Document::new(None, &text);
            if let Err(error) = toml::from_str::<File>(&text) {
                let _ = document.fault_of(&error).to_string();
            }
        }
    }
}
