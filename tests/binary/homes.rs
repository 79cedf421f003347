//! A server with many addresses, asked over a cable: each answer comes from the address that was asked.
//!
//! Needs network namespaces: [`everywhere`] runs once more in one that it has to
//! itself, with a second one at the other end of a pair of interfaces.

use std::process::{Child, Command, Stdio};

use crate::peers::{installed, text};
use crate::server::{Home, eventually};

const LISTS: &str = "[[list]]\nname = \"ads\"\ninline = \"ads.example\"\nformat = \"domains\"\n\
                     [[list]]\nname = \"long\"\nsource = \"long.rpz\"\nformat = \"rpz\"\n";
/// Set for the run that has a namespace to itself.
const INSIDE: &str = "QALQAN_TEST_INSIDE_NAMESPACE";

/// The other end of the cable: a process in a namespace of its own, and what runs beside it.
struct Client(Child);

impl Client {
    fn start() -> Self {
        // The pipe keeps it until we are gone, however that comes.
        let client = Command::new("unshare").args(["-n", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let client = Self(client.unwrap());
        let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        eventually("the client has its namespace", || namespace(client.0.id()) != namespace(std::process::id()));
        client
    }

    fn run(&self, words: &str) -> String {
        run(&mut self.command(words))
    }

    /// What a command says that may fail.
    fn tries(&self, words: &str) -> String {
        text(&self.command(words).output().unwrap())
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n"]).args(words.split(' '));
        command
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    text(&output)
}

fn ip(words: &str) {
    run(Command::new("ip").args(words.split(' ')));
}

#[test]
fn everywhere() {
    if std::env::var_os(INSIDE).is_some() {
        return over_a_cable();
    }
    if !["unshare", "nsenter", "ip", "dig"].into_iter().all(installed) {
        return;
    }
    let unshare = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", program]);
        command
    };
    if !unshare("true").output().is_ok_and(|output| output.status.success()) {
        // Programs can be installed where they are required; rights cannot.
        return eprintln!("skipped: no rights to make a network namespace");
    }
    let program = std::env::current_exe().unwrap();
    run(unshare(program.to_str().unwrap()).args(["--exact", "homes::everywhere"]).env(INSIDE, "1"));
}

fn over_a_cable() {
    let client = Client::start();
    ip("link set lo up");
    ip(&format!("link add home type veth peer name away netns {}", client.0.id()));
    for address in ["10.9.0.1/24", "10.9.0.2/24", "10.9.1.1/24", "fd00:9::1/64", "fd00:9::2/64", "fe80::1/64"] {
        ip(&format!("address add {address} dev home{}", if address.contains(':') { " nodad" } else { "" }));
    }
    ip("link set home up");
    for address in ["10.9.0.9/24", "10.9.1.9/24", "fd00:9::9/64", "fe80::9/64"] {
        let flag = if address.contains(':') { " nodad" } else { "" };
        client.run(&format!("ip address add {address} dev away{flag}"));
    }
    client.run("ip link set away up");

    let home = Home::new(LISTS);
    let texts: String =
        ('a'..='d').map(|letter| format!("long.example TXT \"{}\"\n", letter.to_string().repeat(250))).collect();
    home.write("long.rpz", &format!("$TTL 60\n@ SOA ns. nobody. 1 3600 1200 604800 60\n@ NS ns.\n{texts}"));
    let written = std::fs::read_to_string(home.path("qalqan.toml")).unwrap();
    let listen = |addresses: &str| {
        let lines = format!(
            "listen = [{addresses}]\nallow-clients = [\"127.0.0.0/8\", \"10.9.0.0/16\", \"fd00::/8\", \"fe80::/10\"]"
        );
        home.write("qalqan.toml", &written.replace("listen = [\"127.0.0.1:0\"]\nstate", &format!("{lines}\nstate")));
    };
    let interfaces = run(Command::new("ip").args(["-o", "link", "show", "dev", "home"]));
    let index = interfaces.split(':').next().unwrap();
    for (addresses, asked) in [
        (
            "\"0.0.0.0:53\", \"[::]:53\"".to_owned(),
            &["10.9.0.1", "10.9.0.2", "10.9.1.1", "fd00:9::1", "fd00:9::2", "fe80::1%away"][..],
        ),
        (
            format!("\"10.9.0.2:53\", \"10.9.1.1:53\", \"[fd00:9::2]:53\", \"[fe80::1%{index}]:53\""),
            &["10.9.0.2", "10.9.1.1", "fd00:9::2", "fe80::1%away"],
        ),
    ] {
        listen(&addresses);
        let _server = home.serve();
        for address in asked {
            for transport in ["+notcp", "+tcp"] {
                // dig takes no answer from another address than it asked.
                let told = client.run(&format!("dig +time=5 +tries=2 +short {transport} ads.example A @{address}"));
                assert_eq!(told, "0.0.0.0\n", "{address} {transport}, listening at {addresses}");
            }
        }
    }

    // A reply that is too long for the cable does not come in pieces, which could be forged.
    listen("\"10.9.0.2:53\"");
    let server = home.serve();
    let long = "dig +time=2 +tries=1 +short +notcp long.example TXT @10.9.0.2";
    assert_eq!(client.run(long).lines().count(), 4);
    ip("link set home mtu 800");
    let lost = client.tries(long);
    assert!(lost.contains("timed out"), "{lost}");
    assert_eq!(server.metric("qalqan_dropped_total{reason=\"send\"}"), 1.0);
}
