//! What takes more than one value to get wrong, and the way from tables to settings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::{Document, Fault};
use super::file::{self, File, ListTable, PlainName};
use super::{Config, Server, Transport};
use crate::compile::{self, Guards};
use crate::list::{Limits, ListSettings, Source};
use crate::name::DomainName;
use crate::policy::{self, template};
use crate::recursor::dnssec::TrustAnchors;
use crate::recursor::hints::RootHints;
use crate::recursor::settings::{Route, RouteKind, RouteServer, TtlBounds};
use crate::rule::Action;
use crate::{answer, cache, control, front, pipeline, recursor};

/// The largest payload size of which datagrams are never fragmented: that fits the paths there are (RFC 9715, section 3.1).
const MOST_UNFRAGMENTED: u16 = 1400;
/// The least that a payload size may be (RFC 6891, section 6.2.5).
const MIN_PAYLOAD: u16 = 512;
/// More than this is no inaccuracy of a clock.
const MAX_SIGNATURE_SKEW: Duration = Duration::from_secs(86_400);
/// Far more threads than there are cores would only wait for each other.
const MAX_WORKERS: usize = 1024;
/// More memory than any machine has, for the cache, in octets.
const MAX_CACHE: u64 = 1 << 40;
/// The longest name of a list.
const MAX_LIST_NAME: usize = 64;

/// Turns tables into settings, or says everything that is wrong with them.
pub(super) fn check(file: File, document: &Document<'_>, base: &Path, state_dir: &Path) -> Result<Config, Vec<Fault>> {
    let mut checker = Checker { document, base, faults: Vec::new() };
    let config = checker.config(file, state_dir);
    if checker.faults.is_empty() { Ok(config) } else { Err(checker.faults) }
}

struct Checker<'c> {
    document: &'c Document<'c>,
    /// Where relative paths start.
    base: &'c Path,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.push(self.document.fault(key, message));
    }

    fn config(&mut self, file: File, state_dir: &Path) -> Config {
        let File { server, limits, resolver, cache, sinkhole, protect, guard, list, control } = file;
        if server.listen.is_empty() {
            self.fault(
                "server.listen",
                "there is no address to listen on; write at least one, such as \"127.0.0.1:5300\"",
            );
        }
        if server.log.parse::<tracing_subscriber::EnvFilter>().is_err() {
            self.fault("server.log", format!("{:?} is no filter; write a level such as \"info\"", server.log));
        }
        if let Some(again) = (1..server.listen.len()).find(|&index| {
            let address = server.listen[index];
            address.port() != 0 && server.listen[..index].contains(&address)
        }) {
            let key = format!("server.listen[{again}]");
            self.fault(&key, format!("{} stands there twice; leave one of them out", server.listen[again]));
        }
        if server.workers > MAX_WORKERS {
            self.fault("server.workers", format!("write a number up to {MAX_WORKERS}, or 0 for one per core"));
        }
        for (key, is_zero) in [
            ("limits.waiting", limits.waiting == 0),
            ("limits.waiting-per-client", limits.waiting_per_client == 0),
            ("limits.connections", limits.connections == 0),
            ("limits.connections-per-client", limits.connections_per_client == 0),
            ("limits.queries-per-connection", limits.queries_per_connection == 0),
            ("limits.idle-timeout", limits.idle_timeout.0.is_zero()),
            ("resolver.client-timeout", resolver.client_timeout.0.is_zero()),
        ] {
            if is_zero {
                self.fault(key, "with 0 nobody is answered; write more");
            }
        }
        if cache.max_bytes.0 > MAX_CACHE {
            self.fault("cache.max-bytes", "no machine has that much memory; write up to \"1TiB\"");
        }
        if cache.min_ttl.0 > cache.max_ttl.0 {
            self.fault("cache.min-ttl", "it is above cache.max-ttl; lower it");
        }
        if guard.generations == 0 {
            self.fault("guard.generations", "the generation in force must be kept; write 1 or more");
        }
        let transport = self.transport(&resolver);
        let resolver_settings =
            recursor::Settings { state_dir: Some(state_dir.to_owned()), ..self.resolver(&resolver, &cache) };
        let protected = self.protected(protect);
        let lists = self.lists(list);
        Config {
            path: self.document.file().map(Path::to_owned),
            server: Server {
                state_dir: state_dir.to_owned(),
                user: server.user,
                watch: server.watch.0,
                drain: server.drain.0,
                log: server.log,
                log_format: server.log_format,
            },
            front: front::Settings {
                listen: server.listen,
                workers: server.workers,
                never_fragment: resolver.edns_payload <= MOST_UNFRAGMENTED,
                admission: front::admission::Settings {
                    allow: server.allow_clients.into_iter().map(|prefix| prefix.0).collect(),
                    refuse: server.refuse_clients.into_iter().map(|prefix| prefix.0).collect(),
                    ignore: server.ignore_clients.into_iter().map(|prefix| prefix.0).collect(),
                    max_waiting: limits.waiting,
                    max_waiting_per_client: limits.waiting_per_client,
                },
                stream: front::StreamSettings {
                    max_connections: limits.connections,
                    max_connections_per_client: limits.connections_per_client,
                    max_in_flight: limits.queries_per_connection,
                    idle_timeout: limits.idle_timeout.0,
                },
            },
            pipeline: pipeline::Settings {
                answer: answer::Settings {
                    sinkhole_ipv4: sinkhole.ipv4,
                    sinkhole_ipv6: sinkhole.ipv6,
                    payload: resolver.edns_payload,
                    version: Some(server.version).filter(|text| !text.is_empty()),
                    identity: Some(server.identity).filter(|text| !text.is_empty()),
                    extended_errors: server.extended_errors,
                    keepalive: limits.idle_timeout.0,
                    cookies: answer::cookie::Settings {
                        enabled: server.cookies,
                        required: server.require_cookies,
                        secrets: server.cookie_secrets.into_iter().map(|secret| secret.0).collect(),
                    },
                    translator: resolver.dns64.as_ref().map(|table| table.prefix.0),
                },
                cache: cache::Settings {
                    max_bytes: cache.max_bytes.0,
                    prefetch: cache.prefetch,
                    min_ttl: cache.min_ttl.as_seconds(),
                    max_ttl: cache.max_ttl.as_seconds(),
                    stale: cache::Stale {
                        window: cache.serve_stale.0,
                        client_timer: cache.stale_client_timeout.0,
                        ttl: cache.stale_ttl.as_seconds(),
                        recheck: cache.stale_recheck.0,
                    },
                },
                patience: pipeline::Patience {
                    client_timeout: resolver.client_timeout.0,
                    ..pipeline::Patience::default()
                },
                validating: resolver_settings.heeds_checking_disabled(),
                non_recursive: resolver.non_recursive,
                any: resolver.any,
            },
            resolver: resolver_settings,
            transport,
            policy: policy::Settings { block_ttl: sinkhole.ttl.as_seconds(), protected: protected.clone() },
            compile: compile::Settings {
                lists,
                protected,
                guards: Guards {
                    min_entries: guard.min_entries,
                    max_growth_percent: Some(guard.max_growth_percent).filter(|&percent| percent > 0),
                    min_size_percent: Some(guard.min_size_percent).filter(|&percent| percent > 0),
                },
                keep: guard.generations,
            },
            control: control::Settings {
                listen: control.listen,
                allow_clients: control.allow_clients.into_iter().map(|prefix| prefix.0).collect(),
                hosts: control.hosts,
            },
            resolver_as_written: resolver,
        }
    }

    fn resolver(&mut self, table: &file::ResolverTable, cache: &file::CacheTable) -> recursor::Settings {
        let default = recursor::Settings::default();
        if table.mode == file::Mode::Forward && !table.forward.iter().any(|route| route.zone.0.is_root()) {
            self.fault("resolver.mode", "\"forward\" needs a [[resolver.forward]] with zone = \".\"; add one");
        }
        if !table.upstream_ipv4 && !table.upstream_ipv6 {
            self.fault("resolver.upstream-ipv6", "without IPv4 and IPv6 there is nobody to ask; switch one on");
        }
        if table.signature_skew.0 > MAX_SIGNATURE_SKEW {
            self.fault(
                "resolver.signature-skew",
                "a clock that is off by more than a day is to be set right; write up to \"1d\"",
            );
        }
        if table.edns_payload < MIN_PAYLOAD {
            self.fault("resolver.edns-payload", format!("RFC 6891 wants at least {MIN_PAYLOAD}"));
        }
        let mut root_hints = default.root_hints;
        if let Some(path) = &table.root_hints
            && let Some(text) = self.read("resolver.root-hints", path)
        {
            match RootHints::parse(&text) {
                Ok(hints) => root_hints = hints,
                Err(error) => self.fault("resolver.root-hints", format!("{path}: {error}")),
            }
        }
        let mut trust_anchors = default.trust_anchors;
        if let Some(paths) = &table.trust_anchors {
            trust_anchors = TrustAnchors::default();
            for (index, path) in paths.iter().enumerate() {
                let key = format!("resolver.trust-anchors[{index}]");
                let Some(text) = self.read(&key, path) else { continue };
                match TrustAnchors::parse(&text) {
                    Ok(more) => trust_anchors.extend(more),
                    Err(error) => self.fault(&key, format!("{path}: {error}")),
                }
            }
        }
        let mut routes = Vec::new();
        for (index, route) in table.forward.iter().enumerate() {
            if route.to.is_empty() {
                self.fault(&format!("resolver.forward[{index}].to"), "there is no server to ask; write at least one");
            }
            let to = route.to.iter().map(|to| RouteServer { address: to.server, protocol: to.protocol.clone() });
            routes.push(Route {
                zone: route.zone.0.clone(),
                to: to.collect(),
                kind: if route.stub { RouteKind::Stub } else { RouteKind::Forward },
                fall_back: route.fall_back,
                names: Vec::new(),
                cache: route.cache,
            });
        }
        recursor::Settings {
            routes,
            validate: table.dnssec == file::Dnssec::Validate,
            dnssec: recursor::dnssec::Settings {
                negative_anchors: table.negative_trust_anchors.iter().map(|name| name.0.clone()).collect(),
                accept_sha1: table.accept_sha1,
                nsec3_iterations: table.nsec3_iterations,
                signature_skew: table.signature_skew.0,
                ..default.dnssec
            },
            trust_anchors,
            state_dir: default.state_dir,
            signal_anchors: table.signal_anchors,
            root_hints,
            allow_upstream: table.allow_upstream.iter().map(|prefix| prefix.0).collect(),
            deny_upstream: table.deny_upstream.iter().map(|prefix| prefix.0).collect(),
            case_randomisation: table.case_randomisation,
            cookies: table.cookies,
            query_minimisation: table.query_minimisation,
            ipv4: table.upstream_ipv4,
            ipv6: table.upstream_ipv6,
            nat64: table.nat64.map(|translator| translator.0),
            dns64: table.dns64.as_ref().map(|table| recursor::dns64::Settings {
                prefix: table.prefix.0,
                ignore_aaaa: table.ignore_aaaa.iter().map(|name| name.0.clone()).collect(),
            }),
            special_names: table.special_names,
            rebinding_protection: table.rebinding_protection,
            private_domains: table.private_domains.iter().map(|name| name.0.clone()).collect(),
            edns_payload: table.edns_payload,
            patience: default.patience.max(table.client_timeout.0),
            ttl: TtlBounds { min: cache.min_ttl.as_seconds(), max: cache.max_ttl.as_seconds(), ..default.ttl },
            aggressive_denial: table.aggressive_denial,
            cache_bytes: cache.record_bytes.0,
            limits: default.limits,
        }
    }

    fn transport(&mut self, table: &file::ResolverTable) -> Transport {
        Transport {
            port_map: table.port_map.iter().map(|(from, to)| (from.0, *to)).collect(),
            standard_port: (table.standard_port != 53).then_some(table.standard_port),
            authorities: self.certificates("resolver.tls-ca-files", &table.tls_ca_files),
        }
    }

    /// The certificates in PEM files.
    fn certificates(&mut self, key: &str, paths: &[String]) -> Vec<CertificateDer<'static>> {
        let mut certificates = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            let found =
                CertificateDer::pem_file_iter(self.base.join(path)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            match found {
                Ok(more) if !more.is_empty() => certificates.extend(more),
                Ok(_) => self.fault(&format!("{key}[{index}]"), format!("{path}: there is no certificate in it")),
                Err(error) => self.fault(&format!("{key}[{index}]"), format!("{path}: {error}")),
            }
        }
        certificates
    }

    /// The text of a file that the configuration names.
    fn read(&mut self, key: &str, path: &str) -> Option<String> {
        match fs::read_to_string(self.base.join(path)) {
            Ok(text) => Some(text),
            Err(error) => {
                self.fault(key, format!("{path}: cannot be read: {error}"));
                None
            }
        }
    }

    fn protected(&mut self, table: file::ProtectTable) -> Vec<DomainName> {
        let mut names: Vec<DomainName> = table.names.into_iter().map(|name| name.0).collect();
        for (index, file) in table.files.iter().enumerate() {
            match read_names(&self.base.join(file)) {
                Ok(more) => names.extend(more),
                Err(message) => self.fault(&format!("protect.files[{index}]"), message),
            }
        }
        names
    }

    fn lists(&mut self, tables: Vec<ListTable>) -> Vec<ListSettings> {
        let mut seen = BTreeMap::new();
        let mut lists = Vec::new();
        for (index, table) in tables.into_iter().enumerate() {
            let key = |field: &str| format!("list[{index}].{field}");
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if table.name.is_empty() {
                self.fault(&key("name"), "the list has no name; metrics and reports need one");
            } else if table.name.len() > MAX_LIST_NAME || table.name.starts_with('.') || !table.name.chars().all(plain)
            {
                let message = format!(
                    "{:?} is no name for a list; write up to {MAX_LIST_NAME} letters, digits, '-', '_' and '.'",
                    table.name
                );
                self.fault(&key("name"), message);
            } else if let Some(first) = seen.insert(table.name.clone(), index) {
                self.fault(
                    &key("name"),
                    format!("list[{first}] has the name {:?} already; choose another", table.name),
                );
            }
            if let Some(Err(error)) = table.ede_text.as_deref().map(template::check) {
                self.fault(&key("ede-text"), error.to_string());
            }
            if !table.csv_delimiter.is_ascii() || table.csv_delimiter.is_ascii_alphanumeric() {
                self.fault(&key("csv-delimiter"), "it must be one ASCII character such as \",\" or \";\"");
            }
            if table.max_error_percent > 100 {
                self.fault(&key("max-error-percent"), "it is a share of 100; write a number up to 100");
            }
            let source = match (&table.source, &table.inline) {
                (Some(source), None) => match Source::parse(source, self.base) {
                    Ok(source) => Some(source),
                    Err(error) => {
                        self.fault(&key("source"), error.to_string());
                        None
                    }
                },
                (None, Some(text)) => Some(Source::Inline(text.clone())),
                (None, None) => {
                    self.fault(&key("source"), "the list has no source; write a path, a glob or an https:// URL");
                    None
                }
                (Some(_), Some(_)) => {
                    self.fault(&key("inline"), "the list has a source already; make another list of it");
                    None
                }
            };
            let authorities = self.certificates(&key("tls-ca-files"), &table.tls_ca_files);
            lists.extend(source.map(|source| settings(table, source, authorities)));
        }
        lists
    }
}

fn settings(table: ListTable, source: Source, authorities: Vec<CertificateDer<'static>>) -> ListSettings {
    ListSettings {
        name: table.name,
        source,
        format: table.format,
        match_scope: table.match_scope,
        wildcard_apex: table.wildcard_apex,
        action: table.cname.map_or(table.action.0, Action::Cname),
        override_action: table.override_action.map(|action| action.0),
        reason: table.ede,
        ede_text: table.ede_text,
        priority: table.priority,
        shadow: table.shadow,
        ttl: table.ttl.map(|ttl| ttl.as_seconds()),
        allow_suffix: table.allow_suffix,
        hosts_address: table.hosts_ip,
        bare_address: table.bare_ip,
        csv_delimiter: u8::try_from(table.csv_delimiter).unwrap_or(b','),
        utc_offset: table.utc_offset.0,
        limits: Limits {
            max_bytes: table.max_bytes.0,
            max_lines: table.max_lines,
            max_errors: table.max_errors,
            max_error_percent: table.max_error_percent,
        },
        refresh: table.refresh.0,
        timeout: table.timeout.0,
        authorities,
    }
}

/// The lists of a folder, for a start without a configuration: every file but texts about them.
///
/// A name there stands for itself and all below it.
pub(super) fn lists_in(folder: &Path) -> Vec<ListTable> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| {
        let about = path.extension().is_some_and(|ending| ending == "md" || ending == "toml");
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        path.is_file() && !about && !hidden
    });
    files.sort();
    let table = |path: PathBuf| ListTable {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        source: Some(path.to_string_lossy().into_owned()),
        match_scope: crate::list::MatchScope::Subdomains,
        ..ListTable::default()
    };
    files.into_iter().map(table).collect()
}

/// One name a line; `#` begins a comment.
fn read_names(path: &Path) -> Result<Vec<DomainName>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    let mut names = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let name: PlainName = line.parse().map_err(|error| format!("{}:{}: {error}", path.display(), index + 1))?;
            names.push(name.0);
        }
    }
    Ok(names)
}
