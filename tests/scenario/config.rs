//! What a scenario's header asks for, in the resolver's own settings.
//!
//! Every option falls into one of three kinds: it has a counterpart and sets
//! it; it cannot change what a client sees of this resolver ([`WITHOUT_EFFECT`]);
//! or it is a feature of the other product alone ([`FOREIGN`]), and a
//! scenario about it is skipped with that reason. An option that is in none
//! of the lists makes the scenario fail, so that nothing is passed over in
//! silence.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use qalqan::front::admission;
use qalqan::list::{Format, ListSettings, Source};
use qalqan::name::DomainName;
use qalqan::pipeline::{self, NonRecursive};
use qalqan::query::RecordType;
use qalqan::recursor::dns64;
use qalqan::recursor::dnssec::TrustAnchors;
use qalqan::recursor::hints::RootHints;
use qalqan::recursor::nat64::{Nat64Prefix, Nat64PrefixError};
use qalqan::recursor::network::Protocol;
use qalqan::recursor::settings::{self, Minimisation, Route, RouteKind, RouteServer};
use qalqan::rule::{Action, Owner};
use qalqan::wire::Header;

use super::local::LocalData;
use super::record::{self, Record};
use super::script::{self, Dialect, Event, Message, Scenario, Setting};

/// A resolver as the header describes it.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) recursor: settings::Settings,
    pub(crate) pipeline: pipeline::Settings,
    pub(crate) admission: admission::Settings,
    /// Response policy zones.
    pub(crate) lists: Vec<ListSettings>,
    /// Anchors that renew themselves, as the text of their state.
    pub(crate) managed_anchors: Vec<String>,
    /// The calendar when the story begins, in seconds since 1970.
    pub(crate) wall: u64,
    /// The calendar stays where it is while time passes (Unbound's `val-override-date`).
    pub(crate) wall_stands_still: bool,
}

/// Why a scenario is not played.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is about something that this resolver does not claim to do.
    Skip(String),
    /// Its header makes no sense to us.
    Broken(String),
}

/// Options that change nothing that a client of this resolver sees, and why.
const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    (
        "logging",
        &[
            "verbosity",
            "val-log-level",
            "log-servfail",
            "log-time-ascii",
            "log-queries",
            "log-replies",
            "log-tag-queryreply",
            "log-local-actions",
            "log-identity",
            "log-destaddr",
            "logfile",
            "use-syslog",
            "statistics-interval",
            "extended-statistics",
            "rpz-log",
            "rpz-log-name",
            "log-time-iso",
            "statistics-cumulative",
            "log-thread-id",
        ],
    ),
    (
        "the other product's process and memory",
        &[
            "num-threads",
            "directory",
            "chroot",
            "username",
            "pidfile",
            "interface",
            "port",
            "msg-cache-slabs",
            "rrset-cache-slabs",
            "key-cache-size",
            "key-cache-slabs",
            "neg-cache-size",
            "infra-cache-slabs",
            "infra-cache-numhosts",
            "infra-host-ttl",
            "infra-cache-min-rtt",
            "infra-cache-max-rtt",
            "infra-keep-probing",
            "msg-buffer-size",
            "outgoing-range",
            "outgoing-port-permit",
            "outgoing-port-avoid",
            "outgoing-interface",
            "so-rcvbuf",
            "so-sndbuf",
            "so-reuseport",
            "delay-close",
            "jostle-timeout",
            "unknown-server-time-limit",
            "discard-timeout",
            "control-enable",
            "incoming-num-tcp",
            "outgoing-num-tcp",
            "tcp-idle-timeout",
            "edns-tcp-keepalive-timeout",
            "fast-server-num",
            "fast-server-permil",
            "sock-queue-timeout",
            "tcp-auth-query-timeout",
            "tcp-reuse-timeout",
            "max-reuse-tcp-queries",
            "use-systemd",
            "do-daemonize",
            "stub-name",
        ],
    ),
    // Answers compare as sets.
    ("the order of records", &["rrset-roundrobin"]),
    // The comparison knows what the other product adds.
    ("what is added to answers", &["minimal-responses"]),
    // How many queries it takes to get an answer is each resolver's own affair, and so is what it asks beforehand.
    (
        "the search strategy",
        &[
            "target-fetch-policy",
            "outbound-msg-retry",
            "max-sent-count",
            "max-query-restarts",
            "val-max-restart",
            "prefer-ip4",
            "prefer-ip6",
            "harden-referral-path",
            "harden-large-queries",
            "harden-short-bufsize",
            "iter-scrub-ns",
            "iter-scrub-cname",
            "iter-max-cname",
            "iter-scrub-rrsig",
            "disable-dnssec-lame-check",
        ],
    ),
    // Ours always has these protections, and what scenarios expect is right with them.
    (
        "protections that are always on",
        &[
            "harden-glue",
            "harden-dnssec-stripped",
            "harden-below-nxdomain",
            "harden-unknown-additional",
            "harden-unverified-glue",
            "iter-scrub-promiscuous",
            "val-clean-additional",
            "qname-minimisation-strict",
            "root-key-sentinel",
            "trust-anchor-signaling",
        ],
    ),
    // Signatures of old are checked for real; see the module `legacy`.
    ("old cryptography", &["fake-sha1", "fake-dsa"]),
    ("extended errors, which are always sent", &["ede", "ede-serve-expired"]),
    // A resolver that validates fetches keys when it needs them.
    ("fetching keys early", &["prefetch-key"]),
    (
        "conveniences of a setup",
        &["unblock-lan-zones", "insecure-lan-zones", "do-udp", "do-tcp", "stub-prime", "tls-cert-bundle"],
    ),
];

/// Beginnings of options about sockets, certificates, logs and the other product's modules, none of which play here.
const PREFIXES_WITHOUT_EFFECT: [&str; 27] = [
    "control-",
    "dnscrypt-",
    "dnstap-",
    "hide-http-",
    "http-",
    "https-",
    "interface-automatic",
    "ip-",
    "ipsecmod-",
    "low-rtt",
    "max-transfer-",
    "outgoing-tcp-",
    "pad-queries-",
    "proxy-protocol-",
    "quic-",
    "redis-",
    "secret-seed",
    "server-",
    "shm-",
    "ssl-",
    "statistics-",
    "stream-wait-",
    "tcp-",
    "tls-",
    "udp-connect",
    "unwanted-reply-",
    "val-sig-skew-min",
];

/// Options of the other product that ours has no counterpart for.
const FOREIGN: &[(&str, &[&str])] = &[
    ("Unbound's local zones by client", &["local-zone-override"]),
    (
        "Unbound's tags and views of clients",
        &[
            "define-tag",
            "access-control-tag",
            "access-control-tag-action",
            "access-control-tag-data",
            "access-control-view",
            "local-zone-tag",
            "response-ip-tag",
            "tags",
            "view-first",
            "interface-tag",
            "interface-view",
            "interface-action",
            "interface-tag-action",
            "interface-tag-data",
        ],
    ),
    ("Unbound's EDNS client strings", &["edns-client-string", "edns-client-string-opcode"]),
    (
        "EDNS client subnet, which would send clients' addresses upstream",
        &[
            "send-client-subnet",
            "client-subnet-zone",
            "client-subnet-always-forward",
            "max-client-subnet-ipv4",
            "max-client-subnet-ipv6",
            "min-client-subnet-ipv4",
            "min-client-subnet-ipv6",
            "max-ecs-tree-size-ipv4",
            "max-ecs-tree-size-ipv6",
            "client-subnet-opcode",
        ],
    ),
    ("DNS error reporting (RFC 9567), an option of Unbound", &["dns-error-reporting"]),
    ("Unbound's serve-original-ttl", &["serve-original-ttl"]),
    (
        "Unbound's rate limits by zone and client",
        &[
            "ratelimit",
            "ratelimit-size",
            "ratelimit-slabs",
            "ratelimit-factor",
            "ratelimit-for-domain",
            "ratelimit-below-domain",
            "ratelimit-backoff",
            "ip-ratelimit",
            "ip-ratelimit-factor",
            "ip-ratelimit-cookie",
            "ip-ratelimit-size",
            "ip-ratelimit-slabs",
            "ip-ratelimit-backoff",
            "wait-limit",
            "wait-limit-netblock",
            "wait-limit-cookie",
            "wait-limit-cookie-netblock",
            "ratelimit-cookie",
        ],
    ),
    ("Unbound's EDNS keepalive option", &["edns-tcp-keepalive"]),
    ("secrets of cookies in a file, an option of Unbound", &["cookie-secret-file"]),
    (
        "padding, which an in-process client has no TLS for",
        &["pad-responses", "pad-queries", "pad-responses-block-size"],
    ),
    (
        "Unbound's zones served as an authority",
        &[
            "zonemd-check",
            "zonemd-permissive-mode",
            "zonemd-reject-absence",
            "master",
            "primary",
            "url",
            "allow-notify",
            "for-downstream",
            "for-upstream",
            "fallback-enabled",
            "auth-zone",
        ],
    ),
    ("Unbound's permissive validation", &["val-permissive-mode", "ignore-cd-flag", "disable-edns-do"]),
    (
        "Unbound's modules",
        &[
            "python-script",
            "dynlib-file",
            "ipsecmod-enabled",
            "ipset",
            "cachedb-backend",
            "name-v4",
            "name-v6",
            "cachedb-no-store",
            "cachedb-check-when-serve-expired",
        ],
    ),
    ("response policy zones that are switched by signal or tag", &["rpz-signal-nxdomain-ra", "signal-nxdomain-ra"]),
    ("Unbound's refusal of queries for ANY", &["deny-any"]),
    (
        "timers of RFC 5011 and of validation that only Unbound can change",
        &["add-holddown", "del-holddown", "keep-missing", "permit-small-holddown", "val-bogus-ttl"],
    ),
    ("Unbound's cache in a database, DNSCrypt and IPsec", &["backend", "dnscrypt-enable", "ipsecmod-hook"]),
    ("a cache counted in octets of Unbound's memory", &["msg-cache-size", "rrset-cache-size"]),
    ("Unbound's queue of queries, which drops one when it is full", &["num-queries-per-thread"]),
    ("features of the scripted setup", &["features", "feature-list"]),
];

/// What the options are read into, in their order.
struct Reader<'s> {
    scenario: &'s Scenario,
    setup: Setup,
    anchors: String,
    modules: String,
    serve_expired: bool,
    stale_timer: Duration,
    stale_ttl: u32,
    stale_window: Option<Duration>,
    /// The policy zone that says the same as `response-ip` and `response-ip-data`.
    response_ip: String,
    local: LocalData,
    translator: Nat64Prefix,
    made_addresses: dns64::Settings,
}

/// Maps the header, or says why the scenario is none for this resolver.
pub(crate) fn setup(scenario: &Scenario) -> Result<Setup, Refusal> {
    let unbound = scenario.dialect == Dialect::Unbound;
    let mut recursor = settings::Settings {
        signal_anchors: false,
        root_hints: RootHints::from_addresses(&[]),
        trust_anchors: TrustAnchors::default(),
        allow_upstream: anything_but_loopback(),
        // Canned replies of Unbound's do not echo the letters' case.
        case_randomisation: !unbound,
        // Deckard's own set-ups let names below `test.` through, which its scenarios use.
        special_names: unbound,
        ..settings::Settings::default()
    };
    recursor.dnssec.accept_sha1 = true;
    let mut pipeline = pipeline::Settings::default();
    pipeline.cache.prefetch = !unbound;
    pipeline.cache.stale.window = Duration::ZERO;
    if unbound {
        // So long it leaves a question alone that has failed.
        pipeline.cache.stale.recheck = Duration::from_secs(5);
    }
    let mut admission = admission::Settings::default();
    if !unbound {
        admission.allow = vec![prefix("0.0.0.0/0"), prefix("::/0")];
    }
    let mut reader = Reader {
        scenario,
        setup: Setup {
            recursor,
            pipeline,
            admission,
            lists: Vec::new(),
            managed_anchors: Vec::new(),
            wall: if unbound { 0 } else { 1_500_000_000 },
            wall_stands_still: false,
        },
        anchors: String::new(),
        modules: "validator iterator".to_owned(),
        serve_expired: false,
        stale_timer: Duration::from_millis(1800),
        stale_ttl: 30,
        stale_window: Some(Duration::from_secs(86_400)),
        response_ip: String::new(),
        local: LocalData::default(),
        translator: Nat64Prefix::WELL_KNOWN,
        made_addresses: dns64::Settings { prefix: Nat64Prefix::WELL_KNOWN, ignore_aaaa: Vec::new() },
    };
    for step in &scenario.steps {
        match &step.event {
            Event::CheckTempfile => return skip("Unbound's zone files, written back to disk"),
            Event::Reply(entry) if unbound && entry.adjust.copy_query => {
                return skip("replies to whatever is asked next, in the order of Unbound's own queries");
            }
            Event::CheckAnswer(entry) if unbound && is_referral(&entry.message) => {
                return skip("referrals from the cache for queries without RD, which Unbound gives");
            }
            _ => {}
        }
    }
    for setting in scenario.config.iter().filter(|setting| !is_of_a_zone(setting)) {
        reader.option(setting)?;
    }
    for zone in scenario.config.chunk_by(|a, b| a.clause_number == b.clause_number) {
        if is_of_a_zone(&zone[0]) {
            reader.zone(zone)?;
        }
    }
    reader.finish()
}

/// Whether a reply sends the client elsewhere: name servers in place of what was asked for, and no recursion desired.
fn is_referral(reply: &Message) -> bool {
    let [answer, authority, _] = &reply.sections;
    let asked =
        |record: &Record| reply.question.first().is_some_and(|(name, ..)| name.eq_ignore_ascii_case(&record.owner));
    let mut both = answer.iter().chain(authority);
    reply.flags & Header::RD == 0
        && reply.rcode == 0
        && !answer.iter().any(asked)
        && both.clone().any(|record| record.rtype == RecordType::NS)
        && !both.any(|record| record.rtype == RecordType::SOA)
}

fn is_of_a_zone(setting: &Setting) -> bool {
    matches!(setting.clause.as_str(), "stub-zone" | "forward-zone" | "rpz" | "auth-zone" | "view")
}

impl Reader<'_> {
    fn option(&mut self, setting: &Setting) -> Result<(), Refusal> {
        let Setup { recursor, pipeline, admission, .. } = &mut self.setup;
        let value = setting.values.first().map_or("", String::as_str);
        let yes = is_yes(&setting.values);
        let seconds = || number(setting).map(Duration::from_secs);
        match setting.key.as_str() {
            "trust-anchor" => {
                self.anchors.push_str(&setting.values.join(" "));
                self.anchors.push('\n');
            }
            "trust-anchor-file" | "trusted-keys-file" | "auto-trust-anchor-file" => {
                let lines = self.scenario.files.get(value).ok_or_else(|| broken(setting, "no such file"))?;
                self.anchors.push_str(&lines.join("\n"));
                self.anchors.push('\n');
            }
            "domain-insecure" => recursor.dnssec.negative_anchors.push(name(setting, value)?),
            // Signatures are to be valid whenever: the calendar shows a day on which they were.
            "val-override-date" if value == "-1" => {
                self.setup.wall = latest_inception(self.scenario);
                self.setup.wall_stands_still = true;
            }
            "val-override-date" | "val-override-timestamp" => {
                self.setup.wall = record::parse_time(value).map_err(|what| broken(setting, &what))?;
                self.setup.wall_stands_still = self.scenario.dialect == Dialect::Unbound;
            }
            "qname-minimisation" | "query-minimization" => {
                recursor.query_minimisation = if yes { Minimisation::Relaxed } else { Minimisation::Off };
            }
            "qname-minimisation-strict" if yes => recursor.query_minimisation = Minimisation::Strict,
            "do-ip4" => recursor.ipv4 = yes,
            "do-ip6" => recursor.ipv6 = yes,
            "caps-exempt" | "caps-whitelist" => recursor.case_randomisation = false,
            "use-caps-for-id" => recursor.case_randomisation = yes,
            "do-not-query-localhost" if !yes => {
                recursor.allow_upstream.extend([prefix("127.0.0.0/8"), prefix("::1/128")])
            }
            "do-not-query-localhost" => {}
            "do-not-query-address" => {
                recursor.deny_upstream.push(parse_prefix(value).ok_or_else(|| broken(setting, "no prefix"))?);
            }
            "dns64-prefix" => self.made_addresses.prefix = translator(setting, value)?,
            "dns64-synthall" if yes => self.made_addresses.ignore_aaaa.push(DomainName::root()),
            "dns64-synthall" => {}
            "dns64-ignore-aaaa" => self.made_addresses.ignore_aaaa.push(name(setting, value)?),
            "do-nat64" => recursor.nat64 = yes.then_some(self.translator),
            "nat64-prefix" => {
                self.translator = translator(setting, value)?;
                recursor.nat64 = recursor.nat64.map(|_| self.translator);
            }
            "harden-algo-downgrade" => recursor.dnssec.require_all_algorithms = yes,
            "aggressive-nsec" => recursor.aggressive_denial = yes,
            "val-nsec3-keysize-iterations" => {
                // One limit for all sizes of keys (RFC 9276): the most that any size may have.
                let numbers: Vec<u16> = value.split_whitespace().filter_map(|word| word.parse().ok()).collect();
                let limits = numbers.iter().skip(1).step_by(2).copied();
                recursor.dnssec.nsec3_iterations = limits.max().ok_or_else(|| broken(setting, "no limits"))?;
            }
            "val-sig-skew-max" => recursor.dnssec.signature_skew = Duration::from_secs(number(setting)?),
            "edns-buffer-size" => recursor.edns_payload = number(setting)? as u16,
            "max-udp-size" => pipeline.answer.payload = number(setting)? as u16,
            "answer-cookie" => pipeline.answer.cookies.enabled = yes,
            "cookie-secret" => {
                pipeline.answer.cookies.secrets = vec![value.parse().map_err(|_| broken(setting, "no secret"))?];
            }
            "max-global-quota" => recursor.limits.queries = number(setting)? as u32,
            "private-address" => recursor.rebinding_protection = true,
            "private-domain" => recursor.private_domains.push(name(setting, value)?),
            "cache-min-ttl" => {
                recursor.ttl.min = number(setting)? as u32;
                pipeline.cache.min_ttl = recursor.ttl.min;
            }
            "cache-max-ttl" => {
                recursor.ttl.max = number(setting)? as u32;
                pipeline.cache.max_ttl = recursor.ttl.max;
            }
            "cache-min-negative-ttl" => recursor.ttl.min_negative = number(setting)? as u32,
            "cache-max-negative-ttl" => recursor.ttl.max_negative = number(setting)? as u32,
            "prefetch" => pipeline.cache.prefetch = yes,
            "serve-expired" => self.serve_expired = yes,
            "serve-expired-ttl" => self.stale_window = Some(seconds()?).filter(|window| !window.is_zero()),
            "serve-expired-ttl-reset" if !yes => {}
            "serve-expired-reply-ttl" => self.stale_ttl = number(setting)? as u32,
            "serve-expired-client-timeout" => self.stale_timer = Duration::from_millis(number(setting)?),
            "access-control" => {
                let net = parse_prefix(value).ok_or_else(|| broken(setting, "no prefix"))?;
                match setting.values.get(1).map(String::as_str) {
                    Some("allow" | "allow_setrd") => admission.allow.push(net),
                    Some("allow_snoop") => {
                        admission.allow.push(net);
                        pipeline.non_recursive = NonRecursive::FromCache;
                    }
                    Some("refuse" | "refuse_non_local") => admission.refuse.push(net),
                    Some("deny" | "deny_non_local") => admission.ignore.push(net),
                    _ => return Err(broken(setting, "no action")),
                }
            }
            "local-zone" => match setting.values.get(1).map(String::as_str) {
                // Scenarios live in names that ought to lead nowhere, and say so.
                Some("nodefault") => recursor.special_names = false,
                Some(kind) => self.local.zone(value, kind),
                None => return Err(broken(setting, "no type")),
            },
            "local-data" => {
                if self.local.record(value).is_none() {
                    return skip("data of Unbound's own in class CH or ANY");
                }
            }
            "local-data-ptr" => {
                self.local.pointer(value).ok_or_else(|| broken(setting, "no address and name"))?;
            }
            "root-hints" => {
                let lines = self.scenario.files.get(value).ok_or_else(|| broken(setting, "no such file"))?;
                if lines.iter().any(|line| line.split_whitespace().any(|word| word == "CH")) {
                    return skip("resolution in class CH, which Unbound can be taught");
                }
                recursor.root_hints =
                    RootHints::parse(&lines.join("\n")).map_err(|error| broken(setting, &error.to_string()))?;
            }
            "response-ip" | "response-ip-data" => {
                let net = parse_prefix(value).ok_or_else(|| broken(setting, "no prefix"))?;
                let record = match (setting.key.as_str(), setting.values.get(1).map_or("", String::as_str)) {
                    ("response-ip-data", data) => data,
                    (_, "deny" | "always_deny" | "inform_deny") => "CNAME rpz-drop.",
                    (_, "always_nxdomain") => "CNAME .",
                    (_, "always_nodata") => "CNAME *.",
                    (_, "always_transparent") => "CNAME rpz-passthru.",
                    // The first two have data in an option of its own; the last only logs.
                    (_, "redirect" | "inform_redirect" | "inform") => return Ok(()),
                    _ => return skip("an action of Unbound's response-ip that policy zones have no word for"),
                };
                self.response_ip += &format!("{} {record}\n", Owner::Answer(net));
            }
            "identity" => pipeline.answer.identity = Some(value.to_owned()),
            "version" => pipeline.answer.version = Some(value.to_owned()),
            "hide-trustanchor" if !yes => return skip("trustanchor.unbound, a name of Unbound's own"),
            "hide-trustanchor" => {}
            "harden-glue" | "harden-dnssec-stripped" if !yes => {
                return Err(Refusal::Skip(format!("{}, a protection that only Unbound can switch off", setting.key)));
            }
            "hide-identity" if yes => pipeline.answer.identity = None,
            "hide-version" if yes => pipeline.answer.version = None,
            "hide-identity" | "hide-version" => {}
            "nsid" => {
                let text = value.strip_prefix("ascii_").map(str::to_owned);
                let hex = || record::parse_hex(value).ok().and_then(|octets| String::from_utf8(octets).ok());
                pipeline.answer.identity = Some(text.or_else(hex).ok_or_else(|| broken(setting, "no text"))?);
            }
            "tcp-upstream" if yes => return skip("Unbound's tcp-upstream, which asks name servers over TCP alone"),
            "tcp-upstream" | "udp-upstream-without-downstream" => {}
            "module-config" => self.modules = value.to_owned(),
            // Deckard's.
            "stub-addr" if self.scenario.dialect == Dialect::Deckard => {
                recursor.root_hints = RootHints::from_addresses(&[address(setting, value)?]);
            }
            "forward-addr" if self.scenario.dialect == Dialect::Deckard => {
                let to = vec![RouteServer { address: (address(setting, value)?, 53).into(), protocol: Protocol::Udp }];
                let zone = DomainName::root();
                recursor.routes.push(Route {
                    zone,
                    to,
                    kind: RouteKind::Forward,
                    fall_back: false,
                    names: Vec::new(),
                    cache: true,
                });
            }
            "force-ipv6" => {}
            _ => foreign_or_without_effect(setting)?,
        }
        Ok(())
    }

    fn zone(&mut self, settings: &[Setting]) -> Result<(), Refusal> {
        let clause = settings[0].clause.as_str();
        match clause {
            "auth-zone" => return skip("Unbound's zones served as an authority"),
            "view" => return skip("Unbound's tags and views of clients"),
            "rpz" => return self.policy_zone(settings),
            _ => {}
        }
        let kind = if clause == "stub-zone" { RouteKind::Stub } else { RouteKind::Forward };
        let mut route =
            Route { zone: DomainName::root(), to: Vec::new(), kind, fall_back: false, names: Vec::new(), cache: true };
        let mut addresses = Vec::new();
        let mut protocol = Protocol::Udp;
        for setting in settings {
            let value = setting.values.first().map_or("", String::as_str);
            match setting.key.as_str() {
                "name" => route.zone = name(setting, value)?,
                "stub-addr" | "forward-addr" => addresses.push(address(setting, value)?),
                "stub-host" | "forward-host" => route.names.push(name(setting, value)?),
                "stub-first" | "forward-first" => route.fall_back = is_yes(&setting.values),
                "stub-tcp-upstream" | "forward-tcp-upstream" if is_yes(&setting.values) => protocol = Protocol::Tcp,
                "stub-tls-upstream" | "forward-tls-upstream" | "stub-ssl-upstream" | "forward-ssl-upstream"
                    if is_yes(&setting.values) =>
                {
                    // The scripted network has no certificates to show.
                    protocol = Protocol::Tls { server_name: String::new() };
                }
                "stub-tcp-upstream"
                | "forward-tcp-upstream"
                | "stub-tls-upstream"
                | "forward-tls-upstream"
                | "stub-ssl-upstream"
                | "forward-ssl-upstream" => {}
                "stub-no-cache" | "forward-no-cache" => route.cache = !is_yes(&setting.values),
                _ => foreign_or_without_effect(setting)?,
            }
        }
        if kind == RouteKind::Stub && route.zone.is_root() && protocol == Protocol::Udp && !addresses.is_empty() {
            // Where everything begins.
            self.setup.recursor.root_hints = RootHints::from_addresses(&addresses);
            return Ok(());
        }
        let server = |address: &IpAddr| RouteServer { address: (*address, 53).into(), protocol: protocol.clone() };
        route.to = addresses.iter().map(server).collect();
        self.setup.recursor.routes.push(route);
        Ok(())
    }

    fn policy_zone(&mut self, settings: &[Setting]) -> Result<(), Refusal> {
        let find = |key: &str| settings.iter().find(|setting| setting.key == key);
        let zone = find("name").and_then(|setting| setting.values.first());
        let zone = zone.ok_or_else(|| broken(&settings[0], "a policy zone without a name"))?.trim_end_matches('.');
        let mut list = None;
        let (mut action, mut alias) = (None, None);
        for setting in settings {
            let value = setting.values.first().map_or("", String::as_str);
            match setting.key.as_str() {
                "name" => {}
                "zonefile" => {
                    let lines = self.scenario.files.get(value).ok_or_else(|| broken(setting, "no such file"))?;
                    list = Some(ListSettings {
                        format: Format::Rpz,
                        // An earlier zone goes before a later one.
                        priority: -(self.setup.lists.len() as i32),
                        ..ListSettings::new(zone, Source::Inline(lines.join("\n") + "\n"))
                    });
                }
                "rpz-action-override" => action = Some((setting, value.to_owned())),
                "rpz-cname-override" => alias = Some(name(setting, value)?),
                _ => foreign_or_without_effect(setting)?,
            }
        }
        let mut list = list.ok_or_else(|| Refusal::Skip("a policy zone that comes by transfer".to_owned()))?;
        list.allow_suffix = true;
        match action.as_ref().map(|(setting, action)| (setting, action.as_str())) {
            None => {}
            Some((_, "disabled")) => list.shadow = true,
            Some((setting, word)) => {
                list.override_action = Some(match word {
                    "passthru" => Action::Allow,
                    "nxdomain" => Action::NxDomain,
                    "nodata" => Action::NoData,
                    "drop" => Action::Drop,
                    "tcp-only" => Action::Truncate,
                    "cname" => Action::Cname(alias.ok_or_else(|| broken(setting, "no rpz-cname-override"))?),
                    _ => return Err(broken(setting, "no action")),
                });
            }
        }
        self.setup.lists.push(list);
        Ok(())
    }

    fn finish(mut self) -> Result<Setup, Refusal> {
        for module in self.modules.split_whitespace() {
            match module {
                "validator" | "iterator" | "respip" => {}
                "dns64" => {
                    self.setup.recursor.dns64 = Some(self.made_addresses.clone());
                    self.setup.pipeline.answer.translator = Some(self.made_addresses.prefix);
                }
                _ => return Err(Refusal::Skip(format!("Unbound's module {module}"))),
            }
        }
        let Setup { recursor, pipeline, lists, .. } = &mut self.setup;
        let Some(local) = self.local.lists() else {
            return skip("a local-zone or local-data of Unbound's that policy zones have no word for");
        };
        lists.extend(local);
        if !self.response_ip.is_empty() {
            lists.push(ListSettings {
                format: Format::Rpz,
                priority: -(lists.len() as i32),
                ..ListSettings::new("response-ip", Source::Inline(self.response_ip))
            });
        }
        recursor.trust_anchors =
            TrustAnchors::parse(&self.anchors).map_err(|error| Refusal::Broken(format!("trust-anchor: {error}")))?;
        if !self.modules.split_whitespace().any(|module| module == "validator") {
            recursor.validate = false;
        }
        if self.serve_expired {
            let stale = &mut pipeline.cache.stale;
            stale.window = self.stale_window.unwrap_or(Duration::from_secs(365 * 86_400));
            stale.client_timer = self.stale_timer;
            stale.ttl = self.stale_ttl;
        }
        let files = &self.scenario.anchor_files;
        self.setup.managed_anchors = files.values().map(|lines| lines.join("\n")).collect();
        let managed = !self.setup.managed_anchors.is_empty();
        self.setup.pipeline.validating = managed || self.setup.recursor.heeds_checking_disabled();
        if self.setup.recursor.root_hints.servers.is_empty() && self.setup.recursor.routes.is_empty() {
            // Nothing is to be asked; the hints are never used.
            self.setup.recursor.root_hints = RootHints::built_in();
        }
        Ok(self.setup)
    }
}

/// When the youngest of the scenario's signatures was made.
fn latest_inception(scenario: &Scenario) -> u64 {
    let entries = scenario.ranges.iter().flat_map(|range| &range.entries);
    let records = entries.flat_map(|entry| entry.message.sections.iter().flatten());
    let signatures = records.filter(|record| record.rtype == RecordType::RRSIG);
    let inception = |record: &Record| record.data.get(12..16).and_then(|octets| octets.first_chunk().copied());
    signatures.filter_map(inception).map(|octets| u64::from(u32::from_be_bytes(octets))).max().unwrap_or_default()
}

fn foreign_or_without_effect(setting: &Setting) -> Result<(), Refusal> {
    let key = setting.key.as_str();
    let holds = |table: &[(&'static str, &[&str])]| {
        table.iter().find(|(_, keys)| keys.contains(&key)).map(|(reason, _)| *reason)
    };
    // An option that is switched off is not used.
    let off = matches!(setting.values.first().map(String::as_str), Some("no" | "off" | "0"));
    match holds(FOREIGN) {
        Some(reason) if !off => skip(reason),
        Some(_) => Ok(()),
        None if holds(WITHOUT_EFFECT).is_some() => Ok(()),
        None if PREFIXES_WITHOUT_EFFECT.iter().any(|prefix| key.starts_with(prefix)) => Ok(()),
        None => Err(broken(setting, "unknown option")),
    }
}

fn skip<T>(reason: &str) -> Result<T, Refusal> {
    Err(Refusal::Skip(reason.to_owned()))
}

fn broken(setting: &Setting, what: &str) -> Refusal {
    Refusal::Broken(format!("line {}, {}: {what}", setting.line, setting.key))
}

fn is_yes(values: &[String]) -> bool {
    values.first().is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "yes" | "on" | "true" | "1"))
}

fn number(setting: &Setting) -> Result<u64, Refusal> {
    let value = setting.values.first().map_or("", String::as_str);
    value.parse().map_err(|_| broken(setting, "no number"))
}

fn name(setting: &Setting, text: &str) -> Result<DomainName, Refusal> {
    text.parse().map_err(|error: qalqan::name::NameError| broken(setting, &error.to_string()))
}

fn address(setting: &Setting, text: &str) -> Result<IpAddr, Refusal> {
    script::parse_address(text).map_err(|what| broken(setting, &what))
}

fn translator(setting: &Setting, text: &str) -> Result<Nat64Prefix, Refusal> {
    text.parse().map_err(|error: Nat64PrefixError| broken(setting, &error.to_string()))
}

fn prefix(text: &str) -> IpNet {
    text.parse().expect("a constant prefix")
}

/// A prefix, or an address alone.
fn parse_prefix(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Scenarios use addresses for documentation and private networks as if they were anybody's.
fn anything_but_loopback() -> Vec<IpNet> {
    let v4 = [
        "0.0.0.0/2",
        "64.0.0.0/3",
        "96.0.0.0/4",
        "112.0.0.0/5",
        "120.0.0.0/6",
        "124.0.0.0/7",
        "126.0.0.0/8",
        "128.0.0.0/1",
    ];
    let v6 = ["64:ff9b::/96", "100::/64", "2000::/3", "fc00::/7", "fe80::/10"];
    v4.into_iter().chain(v6).map(prefix).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(header: &str) -> Result<Setup, Refusal> {
        let text = format!("{header}\nCONFIG_END\nSCENARIO_BEGIN x\nSCENARIO_END\n");
        setup(&script::parse(Path::new("x"), &text).unwrap())
    }

    #[test]
    fn options_set_their_counterparts() {
        let setup = read(
            "server:\n\tqname-minimisation: no\n\tval-override-date: \"20070916134226\"\n\tdo-ip6: no\n\
             \tserve-expired: yes\n\tserve-expired-reply-ttl: 123\n\taccess-control: 10.0.0.0/8 allow_snoop\n\
             \tdomain-insecure: \"sub.example\"\n\tcache-max-ttl: 10\n\
             stub-zone:\n\tname: \".\"\n\tstub-addr: 193.0.14.129\n\
             stub-zone:\n\tname: \"example.\"\n\tstub-addr: 1.2.3.4\n\tstub-first: yes\n\
             forward-zone: name: \"com\" forward-addr: 1.2.3.5@53\n",
        );
        let Setup { recursor, pipeline, admission, wall, wall_stands_still, .. } = setup.expect("it is for us");
        assert_eq!(recursor.query_minimisation, Minimisation::Off);
        assert_eq!((wall, wall_stands_still), (1_189_950_146, true));
        assert!(recursor.ipv4 && !recursor.ipv6);
        assert_eq!((pipeline.cache.stale.ttl, pipeline.cache.stale.window), (123, Duration::from_secs(86_400)));
        assert_eq!(pipeline.non_recursive, NonRecursive::FromCache);
        assert!(admission.allow.contains(&prefix("10.0.0.0/8")));
        assert_eq!(recursor.dnssec.negative_anchors, ["sub.example".parse().unwrap()]);
        assert_eq!(recursor.ttl.max, 10);
        assert_eq!(recursor.root_hints, RootHints::from_addresses(&["193.0.14.129".parse().unwrap()]));
        let routes: Vec<_> =
            recursor.routes.iter().map(|route| (route.kind, route.fall_back, route.to[0].address)).collect();
        assert_eq!(
            routes,
            [
                (RouteKind::Stub, true, "1.2.3.4:53".parse().unwrap()),
                (RouteKind::Forward, false, "1.2.3.5:53".parse().unwrap())
            ]
        );
    }

    #[test]
    fn what_is_not_ours_is_skipped_with_its_reason_and_what_nobody_knows_is_an_error() {
        for (header, reason) in [
            ("server:\n serve-original-ttl: yes", Some("Unbound's serve-original-ttl")),
            ("server:\n answer-cookie: yes\n cookie-secret: 000102030405060708090a0b0c0d0e0f", None),
            ("auth-zone:\n name: \"example.\"", Some("Unbound's zones served as an authority")),
        ] {
            match (read(header), reason) {
                (Err(Refusal::Skip(found)), Some(reason)) => assert_eq!(found, reason),
                (Ok(_), None) => {}
                _ => panic!("{header}"),
            }
        }
        let unknown = read("server:\n make-coffee: yes").expect_err("nobody knows it");
        assert!(matches!(unknown, Refusal::Broken(what) if what == "line 2, make-coffee: unknown option"));
    }
}
