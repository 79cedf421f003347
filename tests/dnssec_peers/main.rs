//! Validation next to Unbound: the same questions about signed and broken zones, the same answers.
//!
//! A small internet of its own, in a network namespace: NSD serves a root, a
//! top-level domain and the zones below them, BIND's tools sign them, and then
//! something is done to each. Every question goes to the built binary and to
//! Unbound; response code, AD and answer must agree, and be what the zone's
//! kind asks for. Skipped where a tool is missing, unless
//! `QALQAN_REQUIRE_PEERS=1`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qalqan::name::DomainName;
use qalqan::query::{Rcode, RecordType};
use qalqan::recursor::message::{self, QueryOptions};
use qalqan::wire::Header;

const ROOT_SERVER: &str = "127.10.0.1";
const TLD_SERVER: &str = "127.10.0.2";
const LEAF_SERVER: &str = "127.10.0.3";
const DEEP_SERVER: &str = "127.10.0.4";
const UNBOUND: &str = "127.20.0.1";
const QALQAN: &str = "127.20.0.2";

const TOOLS: [&str; 7] = ["nsd", "unbound", "dnssec-keygen", "dnssec-signzone", "dnssec-dsfromkey", "unshare", "ip"];

/// What must come of a question for `www A` in a zone.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Secure,
    Insecure,
    Bogus,
}
use Expected::{Bogus, Insecure, Secure};

/// What is done to a zone when it is signed, and afterwards.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Unsigned,
    Good,
    Expired,
    Future,
    /// The parent has the fingerprint of another key.
    WrongDs,
    NoDs,
    /// Besides the right DS, one of an unknown algorithm and one of no key.
    MoreDs,
    UnknownAlgorithm,
    UnknownDigest,
    /// `www A` has lost its signature.
    Stripped,
    StrippedAll,
    /// `www A` has other data than was signed.
    Tampered,
    KeysUnsigned,
    NoDenials,
    /// NSEC or NSEC3 records tell of more types than were signed.
    DenialsTampered,
    SoaTampered,
    /// Records come with a longer TTL than was signed.
    LongTtl,
    /// One key signs itself and everything else.
    OneKey,
    /// The parent has the fingerprint of the key that signs the records.
    ZskDs,
    DigestSha1,
    DigestSha384,
}

struct Zone {
    label: &'static str,
    algorithm: &'static str,
    /// Iterations, and whether unsigned delegations are left out.
    nsec3: Option<(u16, bool)>,
    kind: Kind,
    expected: Expected,
}

const fn zone(label: &'static str, kind: Kind, expected: Expected) -> Zone {
    Zone { label, algorithm: "ECDSAP256SHA256", nsec3: None, kind, expected }
}

const fn nsec3(mut zone: Zone, iterations: u16, opt_out: bool) -> Zone {
    zone.nsec3 = Some((iterations, opt_out));
    zone
}

const fn algorithm(mut zone: Zone, algorithm: &'static str) -> Zone {
    zone.algorithm = algorithm;
    zone
}

const ZONES: [Zone; 35] = [
    zone("unsigned", Kind::Unsigned, Insecure),
    zone("nsec", Kind::Good, Secure),
    nsec3(zone("nsec3", Kind::Good, Secure), 0, false),
    nsec3(zone("iterated", Kind::Good, Secure), 10, false),
    nsec3(zone("optout", Kind::Good, Secure), 0, true),
    nsec3(zone("costly", Kind::Good, Secure), 150, false),
    algorithm(zone("rsa256", Kind::Good, Secure), "RSASHA256"),
    algorithm(zone("rsa512", Kind::Good, Secure), "RSASHA512"),
    algorithm(zone("p384", Kind::Good, Secure), "ECDSAP384SHA384"),
    algorithm(zone("ed25519", Kind::Good, Secure), "ED25519"),
    zone("expired", Kind::Expired, Bogus),
    nsec3(zone("expired3", Kind::Expired, Bogus), 0, false),
    zone("future", Kind::Future, Bogus),
    zone("wrongds", Kind::WrongDs, Bogus),
    zone("nods", Kind::NoDs, Insecure),
    nsec3(zone("nods3", Kind::NoDs, Insecure), 0, false),
    zone("moreds", Kind::MoreDs, Secure),
    zone("unknownalg", Kind::UnknownAlgorithm, Insecure),
    zone("unknowndigest", Kind::UnknownDigest, Insecure),
    zone("stripped", Kind::Stripped, Bogus),
    zone("strippedall", Kind::StrippedAll, Bogus),
    zone("tampered", Kind::Tampered, Bogus),
    nsec3(zone("tampered3", Kind::Tampered, Bogus), 0, false),
    zone("keysunsigned", Kind::KeysUnsigned, Bogus),
    zone("nodenials", Kind::NoDenials, Secure),
    nsec3(zone("nodenials3", Kind::NoDenials, Secure), 0, false),
    zone("badnsec", Kind::DenialsTampered, Secure),
    nsec3(zone("badnsec3", Kind::DenialsTampered, Secure), 0, false),
    zone("badsoa", Kind::SoaTampered, Secure),
    nsec3(zone("badsoa3", Kind::SoaTampered, Secure), 0, true),
    zone("longttl", Kind::LongTtl, Secure),
    zone("onekey", Kind::OneKey, Secure),
    zone("zskds", Kind::ZskDs, Secure),
    zone("sha1ds", Kind::DigestSha1, Secure),
    nsec3(zone("sha384ds", Kind::DigestSha384, Secure), 0, true),
];

/// What is asked in every zone: what stands there, what does not, what wildcards, aliases and cuts make of it.
const QUESTIONS: [(&str, &str); 46] = [
    ("www", "A"),
    ("www", "TXT"),
    ("www", "DS"),
    ("WwW", "A"),
    ("", "SOA"),
    ("", "NS"),
    ("", "DNSKEY"),
    ("", "DS"),
    ("", "MX"),
    ("missing", "A"),
    ("missing", "DS"),
    ("a.b.missing", "A"),
    ("ent", "A"),
    ("b.ent", "A"),
    ("a.b.ent", "A"),
    ("c.b.ent", "A"),
    ("x.wild", "A"),
    ("x.wild", "TXT"),
    ("y.x.wild", "A"),
    ("*.wild", "A"),
    ("there.wild", "A"),
    ("below.there.wild", "A"),
    ("alias", "A"),
    ("alias", "CNAME"),
    ("alias", "TXT"),
    ("x.wildalias", "A"),
    ("dangling", "A"),
    ("out", "A"),
    ("toexpired", "A"),
    ("www.tree", "A"),
    ("missing.tree", "A"),
    ("tree", "DNAME"),
    ("www.plain", "A"),
    ("plain", "DS"),
    ("www.plain", "DS"),
    ("missing.plain", "A"),
    ("www.safe", "A"),
    ("www.safe", "TXT"),
    ("missing.safe", "A"),
    ("safe", "DS"),
    ("safe", "DNSKEY"),
    ("", "NSEC"),
    ("", "NSEC3PARAM"),
    ("www", "NSEC"),
    ("www", "HTTPS"),
    ("tosafe", "A"),
];

#[test]
fn validation_agrees_with_unbound() {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| find(tool).is_none()).collect();
    if !missing.is_empty() {
        return skip(&format!("{missing:?} not installed"));
    }
    if std::env::var_os("QALQAN_IN_NAMESPACE").is_none() {
        let test = std::env::current_exe().expect("a test knows its own path");
        if !Command::new("unshare").args(["-rn", "true"]).status().is_ok_and(|status| status.success()) {
            return skip("no network namespace may be made here");
        }
        let status = Command::new("unshare")
            .arg("-rn")
            .arg(test)
            .args(["--exact", "validation_agrees_with_unbound", "--nocapture"])
            .env("QALQAN_IN_NAMESPACE", "1")
            .status()
            .expect("unshare ran a moment ago");
        assert!(status.success(), "see the output of the namespace above");
        return;
    }
    run(
        find("ip").expect("looked for above").to_str().expect("a plain path"),
        &["link", "set", "lo", "up"],
        Path::new("."),
    );

    let folder = tempfile::tempdir().expect("a temporary folder");
    let internet = Internet::build(folder.path());
    let servers = internet.start();
    let mut differences = String::new();
    let (mut alike, mut apart) = (0, 0);
    for zone in &ZONES {
        for (label, qtype) in QUESTIONS {
            let name = match label {
                "" => format!("{}.test", zone.label),
                label => format!("{label}.{}.test", zone.label),
            };
            for flags in [Flags::Dnssec, Flags::AuthenticData, Flags::CheckingDisabled] {
                let [ours, theirs] = [QALQAN, UNBOUND].map(|server| ask(server, &name, qtype, flags));
                if ours == theirs {
                    alike += 1;
                    continue;
                }
                apart += 1;
                writeln!(differences, "{name} {qtype} {flags:?} ({:?})", zone.kind).expect("text grows");
                writeln!(differences, "  ours    {ours}\n  unbound {theirs}").expect("text grows");
            }
        }
        let expected = match zone.expected {
            Secure => (Rcode::NOERROR, true),
            Insecure => (Rcode::NOERROR, false),
            Bogus => (Rcode::SERVFAIL, false),
        };
        let www = ask(QALQAN, &format!("www.{}.test", zone.label), "A", Flags::Dnssec);
        assert_eq!((www.rcode, www.authentic), expected, "{:?}: {www}", zone.kind);
    }
    drop(servers);
    println!("{} questions, {alike} answered alike, {apart} not", alike + apart);
    assert!(differences.is_empty(), "\n{differences}");
}

fn skip(why: &str) {
    assert!(std::env::var_os("QALQAN_REQUIRE_PEERS").is_none(), "peers are required, and {why}");
    println!("skipped: {why}");
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(tool)).find(|file| file.is_file())
}

fn run(tool: &str, arguments: &[&str], folder: &Path) -> String {
    let program = find(tool).unwrap_or_else(|| tool.into());
    let output = Command::new(program).args(arguments).current_dir(folder).output().expect("the tool was found");
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the tools print ASCII")
}

/// The zone files, keys and configurations in one folder.
struct Internet<'a> {
    folder: &'a Path,
    anchor: String,
    /// Zones by the server that has them.
    served: BTreeMap<&'static str, Vec<String>>,
}

impl<'a> Internet<'a> {
    fn build(folder: &'a Path) -> Self {
        let mut internet = Self { folder, anchor: String::new(), served: BTreeMap::new() };
        let mut tld = String::new();
        for zone in &ZONES {
            tld += &internet.leaf(zone);
        }
        let good = zone("test", Kind::Good, Secure);
        let tld_ds = internet.sign(&good, "test", &format!("{}{tld}", apex("test", TLD_SERVER)), TLD_SERVER);
        let root = format!("{}{}{tld_ds}", apex("", ROOT_SERVER), cut("test", TLD_SERVER));
        internet.anchor = internet.sign(&zone("root", Kind::Good, Secure), ".", &root, ROOT_SERVER);
        internet
    }

    /// Writes a zone below `test`, and an unsigned one below it; returns what the parent says about it.
    fn leaf(&mut self, zone: &Zone) -> String {
        let name = format!("{}.test", zone.label);
        let plain = format!("plain.{name}");
        let mut text = apex(&name, LEAF_SERVER);
        for line in [
            "www A 192.0.2.1",
            "a.b.ent A 192.0.2.2",
            "*.wild A 192.0.2.3",
            "there.wild TXT there",
            "alias CNAME www",
            "*.wildalias CNAME www",
            "dangling CNAME missing",
            "out CNAME www.unsigned.test.",
            "toexpired CNAME www.expired.test.",
            "tree DNAME nsec3.test.",
            "tosafe CNAME www.safe.nsec.test.",
        ] {
            writeln!(text, "{}", line.replacen(' ', &format!(".{name}. 300 IN "), 1)).unwrap();
        }
        text += &cut(&plain, DEEP_SERVER);
        let safe = format!("safe.{name}");
        let below = format!("{}www.{safe}. 300 IN A 192.0.2.8\n", apex(&safe, DEEP_SERVER));
        text += &cut(&safe, DEEP_SERVER);
        text += &self.sign(&Zone { kind: Kind::Good, ..*zone }, &safe, &below, DEEP_SERVER);
        let ds = self.sign(zone, &name, &text, LEAF_SERVER);

        let below = format!("{}www.{plain}. 300 IN A 192.0.2.9\n", apex(&plain, DEEP_SERVER));
        self.serve(DEEP_SERVER, &plain, &below);
        format!("{}{ds}", cut(&name, LEAF_SERVER))
    }

    fn serve(&mut self, server: &'static str, name: &str, text: &str) {
        fs::write(self.folder.join(file(name)), text).expect("the folder is ours");
        self.served.entry(server).or_default().push(name.to_owned());
    }

    /// Signs, spoils and serves a zone; returns its DS records.
    fn sign(&mut self, zone: &Zone, name: &str, text: &str, server: &'static str) -> String {
        if zone.kind == Kind::Unsigned {
            self.serve(server, name, text);
            return String::new();
        }
        let keygen = |flags: &[&str]| {
            let bits: &[&str] = if zone.algorithm.starts_with("RSA") { &["-b", "2048"] } else { &[] };
            let arguments = [&["-q", "-a", zone.algorithm][..], bits, flags, &[name]].concat();
            run("dnssec-keygen", &arguments, self.folder).trim().to_owned()
        };
        let (ksk, zsk) = (keygen(&["-f", "KSK"]), keygen(&[]));
        let published = if zone.kind == Kind::OneKey { &[&ksk][..] } else { &[&ksk, &zsk] };
        let read = |key: &&String| fs::read_to_string(self.folder.join(format!("{key}.key"))).expect("just made");
        let keys: String = published.iter().map(read).collect();
        let unsigned = self.folder.join(format!("{}.unsigned", file(name)));
        fs::write(&unsigned, format!("{text}{keys}")).expect("the folder is ours");

        let (from, to) = match zone.kind {
            Kind::Expired => ("-864000", "-432000"),
            Kind::Future => ("+432000", "+864000"),
            _ => ("-3600", "+864000"),
        };
        let (from, to) = (format!("now{from}"), format!("now{to}"));
        let signed = self.folder.join(format!("{}.signed", file(name)));
        let mut arguments =
            vec!["-P", "-O", "full", "-o", name, "-s", &from, "-e", &to, "-f", signed.to_str().unwrap()];
        let iterations = zone.nsec3.map(|(iterations, _)| iterations.to_string()).unwrap_or_default();
        if let Some((_, opt_out)) = zone.nsec3 {
            arguments.extend(["-3", "aabb", "-H", &iterations]);
            arguments.extend(opt_out.then_some("-A"));
        }
        let (ksk_file, zsk_file) = (format!("{ksk}.key"), format!("{zsk}.key"));
        match zone.kind {
            Kind::OneKey => arguments.extend(["-z", unsigned.to_str().unwrap(), &ksk_file]),
            _ => arguments.extend(["-k", &ksk_file, unsigned.to_str().unwrap(), &zsk_file]),
        }
        run("dnssec-signzone", &arguments, self.folder);

        let text = fs::read_to_string(&signed).expect("just signed");
        self.serve(server, name, &spoil(&text, zone.kind, name));
        let pointed_at = match zone.kind {
            Kind::WrongDs => keygen(&["-f", "KSK"]),
            Kind::ZskDs => zsk,
            _ => ksk,
        };
        let digest = match zone.kind {
            Kind::DigestSha1 => "SHA-1",
            Kind::DigestSha384 => "SHA-384",
            _ => "SHA-256",
        };
        let ds = run("dnssec-dsfromkey", &["-a", digest, &format!("{pointed_at}.key")], self.folder);
        let fields: Vec<&str> = ds.split_whitespace().collect();
        let [owner, _, _, tag, number, digest_type, digest @ ..] = &fields[..] else { panic!("no DS in {ds}") };
        let record = |tag: &str, number: &str, digest_type: &str| {
            format!("{owner} 300 IN DS {tag} {number} {digest_type} {}\n", digest.concat())
        };
        match zone.kind {
            Kind::NoDs => String::new(),
            Kind::UnknownAlgorithm => record(tag, "200", digest_type),
            Kind::UnknownDigest => record(tag, number, "200"),
            Kind::MoreDs => {
                [record(tag, number, digest_type), record(tag, "200", "2"), record("7", number, "2")].concat()
            }
            _ => record(tag, number, digest_type),
        }
    }

    fn start(&self) -> Vec<Running> {
        let mut servers = Vec::new();
        for (&server, zones) in &self.served {
            let mut text = format!(
                "server:\n ip-address: {server}\n port: 53\n username: \"\"\n chroot: \"\"\n zonesdir: \"{folder}\"\n \
                 database: \"\"\n pidfile: \"\"\n xfrdfile: \"\"\n zonelistfile: \"{folder}/{server}.list\"\n \
                 server-count: 1\n rrl-ratelimit: 0\nremote-control:\n control-enable: no\n",
                folder = self.folder.display(),
            );
            for zone in zones {
                writeln!(text, "zone:\n name: \"{zone}\"\n zonefile: \"{}\"", file(zone)).unwrap();
            }
            servers.push(self.server("nsd", &format!("{server}.conf"), &text, &["-d", "-c"]));
        }
        let hints = format!(". 3600000 IN NS ns.root.\nns.root. 3600000 IN A {ROOT_SERVER}\n");
        fs::write(self.folder.join("root.hints"), hints).expect("the folder is ours");
        fs::write(self.folder.join("root.key"), &self.anchor).expect("the folder is ours");
        let unbound = format!(
            "server:\n interface: {UNBOUND}\n username: \"\"\n chroot: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n \
             use-syslog: no\n root-hints: root.hints\n trust-anchor-file: root.key\n do-not-query-localhost: no\n \
             local-zone: \"test.\" nodefault\n trust-anchor-signaling: no\n aggressive-nsec: no\n do-ip6: no\n \
             val-sig-skew-min: 0\n val-sig-skew-max: 0\n module-config: \"validator iterator\"\n\
             remote-control:\n control-enable: no\n",
            folder = self.folder.display(),
        );
        servers.push(self.server("unbound", "unbound.conf", &unbound, &["-d", "-c"]));
        let qalqan = format!(
            "[server]\nlisten = [\"{QALQAN}:53\"]\nstate-dir = \"state\"\nworkers = 1\n\
             [resolver]\nroot-hints = \"root.hints\"\ntrust-anchors = [\"root.key\"]\nallow-upstream = [\"127.0.0.0/8\"]\n\
             special-names = false\nupstream-ipv6 = false\n[control]\nlisten = \"{QALQAN}:9153\"\n"
        );
        fs::write(self.folder.join("qalqan.toml"), qalqan).expect("the folder is ours");
        let ours = Command::new(env!("CARGO_BIN_EXE_qalqan"))
            .args(["serve", "--allow-unfiltered", "-c"])
            .arg(self.folder.join("qalqan.toml"))
            .current_dir(self.folder)
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.folder.join("qalqan.log")).expect("the folder is ours"))
            .spawn()
            .expect("the binary is built before its tests");
        servers.push(Running(ours));
        for server in self.served.keys().copied().chain([UNBOUND, QALQAN]) {
            wait_for(server, self.folder);
        }
        servers
    }

    fn server(&self, tool: &str, config: &str, text: &str, arguments: &[&str]) -> Running {
        let path = self.folder.join(config);
        fs::write(&path, text).expect("the folder is ours");
        let log = fs::File::create(self.folder.join(format!("{config}.log"))).expect("the folder is ours");
        let child = Command::new(find(tool).expect("looked for above"))
            .args(arguments)
            .arg(path)
            .current_dir(self.folder)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the tool was found");
        Running(child)
    }
}

/// A server that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn file(name: &str) -> String {
    format!("{}.zone", if name == "." { "root" } else { name })
}

fn apex(name: &str, server: &str) -> String {
    let owner = if name.is_empty() { ".".to_owned() } else { format!("{name}.") };
    let ns = if name.is_empty() { "ns.root.".to_owned() } else { format!("ns.{name}.") };
    format!(
        "{owner} 300 IN SOA {ns} hostmaster.test. 1 3600 600 86400 300\n{owner} 300 IN NS {ns}\n{ns} 300 IN A {server}\n"
    )
}

fn cut(name: &str, server: &str) -> String {
    format!("{name}. 300 IN NS ns.{name}.\nns.{name}. 300 IN A {server}\n")
}

/// Spoils a signed zone, one record to a line.
fn spoil(text: &str, kind: Kind, name: &str) -> String {
    let www = format!("www.{name}.");
    let lines = text.lines().filter(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [owner, _, _, rtype, rest @ ..] = &words[..] else { return true };
        let signature_of = |covered: &str| *rtype == "RRSIG" && rest.first() == Some(&covered);
        match kind {
            Kind::Stripped => !(*owner == www && signature_of("A")),
            Kind::StrippedAll => *rtype != "RRSIG",
            Kind::KeysUnsigned => !signature_of("DNSKEY"),
            Kind::NoDenials => {
                !["NSEC", "NSEC3", "NSEC3PARAM"].iter().any(|denial| rtype == denial || signature_of(denial))
            }
            _ => true,
        }
    });
    let is = |line: &str, rtype: &str| line.split_whitespace().nth(3) == Some(rtype);
    let tampered = |line: &str| match kind {
        Kind::Tampered if line.starts_with(&www) => line.replace("192.0.2.1", "192.0.2.66"),
        Kind::DenialsTampered if is(line, "NSEC") || is(line, "NSEC3") => format!("{line} TYPE999"),
        Kind::SoaTampered if is(line, "SOA") => line.replacen(" 3600 600 ", " 3601 600 ", 1),
        Kind::LongTtl => {
            let words: Vec<&str> = line.split_whitespace().collect();
            match &words[..] {
                [owner, _, "IN", rest @ ..] => format!("{owner} 3000 IN {}", rest.join(" ")),
                _ => line.to_owned(),
            }
        }
        _ => line.to_owned(),
    };
    lines.map(|line| tampered(line) + "\n").collect()
}

/// What an answer comes to, as far as resolvers must agree.
#[derive(Debug, PartialEq)]
struct Answer {
    rcode: Rcode,
    authentic: bool,
    records: Vec<String>,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {} {:?}", self.rcode, if self.authentic { "AD" } else { "--" }, self.records)
    }
}

/// What a client says that it understands and wants.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flags {
    /// DO.
    Dnssec,
    /// AD, and no DO (RFC 6840, section 5.7).
    AuthenticData,
    /// DO and CD.
    CheckingDisabled,
}

fn ask(server: &str, name: &str, qtype: &str, flags: Flags) -> Answer {
    let qtype: RecordType = qtype.parse().expect("the types above are known");
    exchange(server, name, qtype, flags, Duration::from_secs(10)).unwrap_or(Answer {
        rcode: Rcode(u16::MAX),
        authentic: false,
        records: Vec::new(),
    })
}

fn exchange(server: &str, name: &str, qtype: RecordType, flags: Flags, patience: Duration) -> Option<Answer> {
    let name: DomainName = name.parse().expect("the names above are names");
    let options = QueryOptions {
        id: 7,
        recursion_desired: true,
        checking_disabled: flags == Flags::CheckingDisabled,
        edns: Some((1232, flags != Flags::AuthenticData)),
        case: None,
    };
    let mut query = message::write_query(&name, qtype, options);
    if flags == Flags::AuthenticData {
        query[3] |= Header::AD as u8;
    }
    let to: SocketAddr = format!("{server}:53").parse().ok()?;
    let mut octets = by_datagram(&query, to, patience)?;
    if Header::read(&octets).ok()?.has(Header::TC) {
        octets = by_stream(&query, to, patience).ok()?;
    }
    let header = Header::read(&octets).ok()?;
    let reply = message::parse(&octets).ok()?;
    let sets = reply.answer.iter().filter(|set| set.rtype != RecordType::RRSIG);
    let mut records: Vec<String> = sets
        .flat_map(|set| {
            set.rdata
                .iter()
                .map(move |rdata| format!("{} {} {:02x?}", set.name, set.rtype, &rdata[..rdata.len().min(24)]))
        })
        .collect();
    records.sort_unstable();
    // With CD nobody need validate; AD then tells only whether somebody had asked before (RFC 6840, section 5.9).
    let authentic = header.has(Header::AD) && flags != Flags::CheckingDisabled;
    Some(Answer { rcode: reply.rcode, authentic, records })
}

fn by_datagram(query: &[u8], to: SocketAddr, patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    socket.send_to(query, to).ok()?;
    let mut buffer = [0; 4096];
    let (len, _) = socket.recv_from(&mut buffer).ok()?;
    Some(buffer[..len].to_vec())
}

fn by_stream(query: &[u8], to: SocketAddr, patience: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut octets = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut octets)?;
    Ok(octets)
}

fn wait_for(server: &str, folder: &Path) {
    let start = Instant::now();
    while exchange(server, "version.server", RecordType::A, Flags::Dnssec, Duration::from_millis(200)).is_none() {
        if start.elapsed() > Duration::from_secs(20) {
            for entry in fs::read_dir(folder).expect("the folder is ours").flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    eprintln!("{}:\n{}", entry.path().display(), fs::read_to_string(entry.path()).unwrap_or_default());
                }
            }
            panic!("{server} does not answer");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
