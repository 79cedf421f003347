//! The small internet of the comparison: zones on name servers, and resolvers that begin at its root.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use qalqan::name::{DomainName, Name};
use qalqan::query::RecordType;

use crate::ask::{Flags, exchange};
use crate::zone::Zone;
use crate::zones::{Plan, ZONES, zone};

const ROOT_SERVER: &str = "127.10.0.1";
const TLD_SERVER: &str = "127.10.0.2";
const LEAF_SERVER: &str = "127.10.0.3";
const DEEP_SERVER: &str = "127.10.0.4";

/// The resolvers, ours first.
pub(crate) const RESOLVERS: [(&str, &str); 5] = [
    ("qalqan", "127.20.0.1"),
    ("unbound", "127.20.0.2"),
    ("kresd", "127.20.0.3"),
    ("bind", "127.20.0.4"),
    ("forwarder", "127.20.0.5"),
];

pub(crate) const TOOLS: [&str; 6] = ["nsd", "unbound", "kresd", "named", "unshare", "ip"];

/// What stands in every zone.
const CONTENTS: &str = "
www A 192.0.2.1
mail MX 10 www
mail MX 20 mail.p256.kz.
mail TXT first
a.b.ent A 192.0.2.2
*.wild A 192.0.2.3
there.wild TXT there
*.deep.under.nothing TXT deep
alias CNAME www
chain1 CNAME chain2
chain2 CNAME alias
*.wildalias CNAME www
*.wildout CNAME www.unsigned.kz.
dangling CNAME missing
towild CNAME x.wild
out CNAME www.unsigned.kz.
tosecure CNAME www.nsec3.kz.
toexpired CNAME www.expired.kz.
tomissing3 CNAME missing.nsec3.kz.
tree DNAME nsec3.kz.
plaintree DNAME unsigned.kz.
brokentree DNAME expired.kz.
tosafe CNAME www.safe.p256.kz.
toplain CNAME www.plain.p256.kz.
toisland CNAME www.island.p256.kz.
odd TYPE65280 \\# 4 0a0b0c0d
big TYPE65281 \\# 3 aabbcc
";

/// Zone files and configurations in one folder.
pub(crate) struct Internet<'a> {
    folder: &'a Path,
    anchor: String,
    /// Zones by the server that has them.
    served: BTreeMap<&'static str, Vec<String>>,
}

impl<'a> Internet<'a> {
    pub(crate) fn build(folder: &'a Path) -> Self {
        let mut internet = Self { folder, anchor: String::new(), served: BTreeMap::new() };
        let mut tld = internet.zone(&zone("kz"), &name("kz"), &apex(&name("kz"), TLD_SERVER));
        for plan in ZONES {
            internet.leaf(plan, &mut tld);
        }
        let mut root = internet.zone(&zone(""), Name::root(), &apex(Name::root(), ROOT_SERVER));
        cut(&mut root, &tld.name, TLD_SERVER);
        root.add(&tld.name, RecordType::DS, tld.keys[0].ds(&tld.name, 2));
        internet.finish(&zone("kz"), tld, TLD_SERVER);
        let key = root.keys[0].ds(Name::root(), 2);
        internet.anchor = format!(
            ". IN DS {} {} {} {}\n",
            root.keys[0].tag(),
            key[2],
            key[3],
            key[4..].iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
        );
        internet.finish(&zone(""), root, ROOT_SERVER);
        internet
    }

    fn zone(&self, plan: &Plan, name: &Name, text: &str) -> Zone {
        Zone::new(name, text, plan.keys, plan.chain, plan.window)
    }

    /// Makes a zone below the top-level domain with the zones below it, and tells the parent.
    fn leaf(&mut self, plan: &Plan, parent: &mut Zone) {
        let own = parent.at(plan.label);
        let mut leaf = self.zone(plan, &own, &format!("{}{CONTENTS}", apex(&own, LEAF_SERVER)));
        leaf.add_text(&(0..40).fold(String::new(), |text, line| text + &format!("big TXT \"line {line:060}\"\n")));
        let deep_server = if plan.shared_server { LEAF_SERVER } else { DEEP_SERVER };
        // What the zone delegates: without DS, with one, with a wrong one, with one that nobody can check; and a zone
        // that is signed and has no DS.
        for label in ["plain", "safe", "broken", "strange", "island"] {
            let child = leaf.at(label);
            cut(&mut leaf, &child, deep_server);
            let text = format!("{}www A 192.0.2.9\n", apex(&child, deep_server));
            let signed = Plan { keys: zone("").keys, ..zone("") };
            let unsigned = Plan { keys: &[], chain: crate::zone::Chain::None, ..zone("") };
            let below = if label == "plain" { unsigned } else { Plan { chain: plan.chain, ..signed } };
            let made = self.zone(&below, &child, &text);
            let mut fingerprint = made.keys.first().map(|key| key.ds(&child, 2));
            match (label, &mut fingerprint) {
                ("broken", Some(ds)) => ds[10] ^= 1,
                ("strange", Some(ds)) => ds[2] = 200,
                ("safe", _) => {}
                _ => fingerprint = None,
            }
            fingerprint.into_iter().for_each(|ds| leaf.add(&child, RecordType::DS, ds));
            self.finish(&below, made, deep_server);
        }
        cut(parent, &own, LEAF_SERVER);
        for ds in plan.ds {
            parent.add(&own, RecordType::DS, ds.record(&leaf));
        }
        self.finish(plan, leaf, LEAF_SERVER);
    }

    /// Signs, spoils and serves a zone.
    fn finish(&mut self, plan: &Plan, mut zone: Zone, server: &'static str) {
        (plan.edit)(&mut zone);
        if !zone.keys.is_empty() {
            zone.sign();
        }
        (plan.spoil)(&mut zone);
        let name = if zone.name.is_root() { ".".to_owned() } else { zone.name.to_string() };
        fs::write(self.folder.join(file(&name)), zone.text()).expect("the folder is ours");
        self.served.entry(server).or_default().push(name);
    }

    /// Starts all servers and waits until they answer.
    pub(crate) fn start(&self) -> Vec<Running> {
        let folder = self.folder.display();
        let mut servers = Vec::new();
        for (&server, zones) in &self.served {
            let mut text = format!(
                "server:\n ip-address: {server}\n port: 53\n username: \"\"\n chroot: \"\"\n zonesdir: \"{folder}\"\n \
                 database: \"\"\n pidfile: \"\"\n xfrdfile: \"\"\n zonelistfile: \"{folder}/{server}.list\"\n \
                 server-count: 1\n rrl-ratelimit: 0\n minimal-responses: no\nremote-control:\n control-enable: no\n",
            );
            for zone in zones {
                writeln!(text, "zone:\n name: \"{zone}\"\n zonefile: \"{}\"", file(zone)).expect("text grows");
            }
            self.write(&format!("{server}.conf"), &text);
            servers.push(self.spawn("nsd", &["-d", "-c", &format!("{server}.conf")]));
        }
        self.write("root.hints", &format!(". 3600000 IN NS ns.root.\nns.root. 3600000 IN A {ROOT_SERVER}\n"));
        self.write("root.key", &self.anchor);
        for (resolver, address) in RESOLVERS {
            servers.push(self.resolver(resolver, address));
        }
        for server in self.served.keys().copied().chain(RESOLVERS.map(|(_, address)| address)) {
            wait_for(server, self.folder);
        }
        servers
    }

    fn resolver(&self, resolver: &str, address: &str) -> Running {
        let folder = self.folder.display();
        let unbound = |more: &str, end: &str| {
            format!(
                "server:\n interface: {address}\n username: \"\"\n chroot: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n \
                 use-syslog: no\n root-hints: root.hints\n trust-anchor-file: root.key\n do-not-query-localhost: no\n \
                 trust-anchor-signaling: no\n aggressive-nsec: no\n do-ip6: no\n module-config: \"validator iterator\"\n\
                 {more}remote-control:\n control-enable: no\n{end}",
            )
        };
        match resolver {
            "unbound" => {
                self.write("unbound.conf", &unbound("", ""));
                self.spawn("unbound", &["-d", "-c", "unbound.conf"])
            }
            "forwarder" => {
                let ours = RESOLVERS[0].1;
                let forward = format!("forward-zone:\n name: .\n forward-addr: {ours}\n");
                self.write("forwarder.conf", &unbound("", &forward));
                self.spawn("unbound", &["-d", "-c", "forwarder.conf"])
            }
            "kresd" => {
                let text = format!(
                    "net.listen('{address}', 53, {{ kind = 'dns' }})\nnet.ipv6 = false\ncache.size = 50 * MB\n\
                     modules.unload('ta_signal_query')\nmodules.unload('priming')\nmodules.unload('ta_update')\n\
                     modules.load('hints > iterate')\nhints.root_file('{folder}/root.hints')\ntrust_anchors.remove('.')\n\
                     trust_anchors.add_file('{folder}/root.key', true)\nlog_level('err')\n",
                );
                self.write("kresd.conf", &text);
                fs::create_dir_all(self.folder.join("kresd")).expect("the folder is ours");
                self.spawn("kresd", &["-n", "-q", "-c", &format!("{folder}/kresd.conf"), &format!("{folder}/kresd")])
            }
            "bind" => {
                let key = self.anchor.replacen(". IN DS", ". static-ds", 1);
                let (key, digest) = key.trim().rsplit_once(' ').expect("a DS record has five fields");
                let text = format!(
                    "options {{\n directory \"{folder}\";\n listen-on {{ {address}; }};\n listen-on-v6 {{ none; }};\n \
                     pid-file none;\n session-keyfile \"{folder}/bind.session\";\n recursion yes;\n \
                     allow-query {{ any; }};\n dnssec-validation yes;\n empty-zones-enable no;\n minimal-responses yes;\n \
                     synth-from-dnssec no;\n max-stale-ttl 1;\n qname-minimization off;\n}};\n\
                     zone \".\" {{ type hint; file \"{folder}/root.hints\"; }};\n\
                     trust-anchors {{ {key} \"{digest}\"; }};\n\
                     controls {{ }};\n",
                );
                self.write("named.conf", &text);
                self.spawn("named", &["-g", "-4", "-n", "1", "-c", &format!("{folder}/named.conf")])
            }
            _ => {
                let text = format!(
                    "[server]\nlisten = [\"{address}:53\"]\nstate-dir = \"state\"\nworkers = 1\n\
                     [resolver]\nroot-hints = \"root.hints\"\ntrust-anchors = [\"root.key\"]\n\
                     allow-upstream = [\"127.0.0.0/8\"]\nspecial-names = false\nupstream-ipv6 = false\n\
                     accept-sha1 = true\n[control]\nlisten = \"{address}:9153\"\n"
                );
                self.write("qalqan.toml", &text);
                self.spawn(env!("CARGO_BIN_EXE_qalqan"), &["serve", "--allow-unfiltered", "-c", "qalqan.toml"])
            }
        }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).expect("the folder is ours");
    }

    fn spawn(&self, tool: &str, arguments: &[&str]) -> Running {
        let log = arguments.last().expect("a configuration").replace('/', "_");
        let log = fs::File::create(self.folder.join(format!("{log}.log"))).expect("the folder is ours");
        let child = Command::new(find(tool).unwrap_or_else(|| tool.into()))
            .args(arguments)
            .current_dir(self.folder)
            .stdout(log.try_clone().expect("a file may be opened twice"))
            .stderr(log)
            .spawn()
            .expect("the tool was found");
        Running(child)
    }
}

/// A server that ends with the test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a tool is.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(tool)).find(|file| file.is_file())
}

fn name(text: &str) -> DomainName {
    text.parse().expect("the names here are names")
}

fn file(zone: &str) -> String {
    format!("{}.zone", if zone == "." { "root" } else { zone })
}

/// The name of the server of a zone, which is in the zone itself.
fn server_of(zone: &Name) -> DomainName {
    if zone.is_root() { name("ns.root") } else { zone.child(b"ns").expect("names here are short") }
}

fn apex(zone: &Name, server: &str) -> String {
    let ns = server_of(zone);
    format!("@ SOA {ns}. hostmaster.kz. 1 3600 600 86400 {TTL}\n@ NS {ns}.\n{ns}. A {server}\n", TTL = crate::zone::TTL)
}

fn cut(parent: &mut Zone, child: &Name, server: &str) {
    let ns = server_of(child);
    let own = DomainName::from_wire(child.as_wire()).expect("it is a name");
    parent.add_text(&format!("{own}. NS {ns}.\n{ns}. A {server}\n"));
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
