//! The binary as other people's programs see it: dig, kdig, drill, dnsperf, Unbound, promtool.
//!
//! A program that is not installed is passed over with a word about it, unless
//! `QALQAN_REQUIRE_PEERS=1` says that all must be there.

use std::process::{Command, Output, Stdio};

use crate::internet::WORLD;
use crate::server::{Home, Server, data, eventually, exchange, free_port, query};

const LIST: &str = r#"
[[list]]
name = "ads"
inline = "ads.example.com"
format = "domains"
match = "subdomains"
ede = "filtered"
ede-text = "an advertisement"
"#;

fn home() -> Home {
    let home = Home::new("");
    let resolver = WORLD.resolver_table(home.folder());
    home.configure(&format!("{LIST}{resolver}"));
    home
}

/// Whether `program` is installed; says so when it is not, or fails when it must be.
pub(crate) fn installed(program: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(program).is_file())
    });
    let required = std::env::var_os("QALQAN_REQUIRE_PEERS").is_some_and(|value| value == "1");
    assert!(found || !required, "{program} is not installed, and QALQAN_REQUIRE_PEERS=1");
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run(server: &Server, program: &str, args: &[&str]) -> String {
    let port = server.dns.port().to_string();
    let at = format!("@{}", server.dns.ip());
    let output = Command::new(program).arg("-p").arg(port).arg(at).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output));
    text(&output)
}

#[test]
fn dig_shows_why_a_name_is_blocked_and_what_is_proven() {
    if !installed("dig") {
        return;
    }
    let home = home();
    let server = home.serve();
    let blocked = run(&server, "dig", &["www.ads.example.com"]);
    for part in ["status: NOERROR", "EDE: 17 (Filtered): (an advertisement)", "0.0.0.0"] {
        assert!(blocked.contains(part), "{part}\n{blocked}");
    }
    let secure = run(&server, "dig", &["+dnssec", "www.example.kz"]);
    for part in ["flags: qr rd ra ad;", "192.0.2.10", "RRSIG"] {
        assert!(secure.contains(part), "{part}\n{secure}");
    }
    assert!(run(&server, "dig", &["www.betrayed.kz"]).contains("status: SERVFAIL"));
    assert!(run(&server, "dig", &["+cd", "www.betrayed.kz"]).contains("192.0.2.66"));
    assert!(run(&server, "dig", &["+edns=1", "+noednsnegotiation", "www.example.kz"]).contains("status: BADVERS"));
    assert!(run(&server, "dig", &["+tcp", "+keepopen", "www.example.kz", "www.plain.kz"]).contains("192.0.2.20"));
    assert!(run(&server, "dig", &["+short", "ch", "txt", "version.bind"]).contains("qalqan"));
}

#[test]
fn dig_and_kdig_find_our_cookies_good() {
    let home = home();
    let text = std::fs::read_to_string(home.path("qalqan.toml")).unwrap();
    home.write("qalqan.toml", &text.replace("[server]\n", "[server]\nrequire-cookies = true\n"));
    let server = home.serve();
    if installed("dig") {
        let answer = run(&server, "dig", &["+cookie", "www.ads.example.com"]);
        for part in ["BADCOOKIE, retrying", "status: NOERROR", "(good)", "0.0.0.0"] {
            assert!(answer.contains(part), "{part}\n{answer}");
        }
        let refused = run(&server, "dig", &["+cookie", "+nobadcookie", "www.ads.example.com"]);
        assert!(refused.contains("status: BADCOOKIE"), "{refused}");
        assert!(run(&server, "dig", &["+nocookie", "www.ads.example.com"]).contains("status: NOERROR"));
    }
    if installed("kdig") {
        let answer = run(&server, "kdig", &["+cookie", "www.ads.example.com"]);
        assert!(answer.contains("status: NOERROR") && answer.contains("COOKIE: "), "{answer}");
    }
    assert!(server.metric("qalqan_dns_cookies_total{standing=\"new\"}") >= 1.0);
    assert!(server.metric("qalqan_dns_cookies_total{standing=\"valid\"}") >= 1.0);
}

#[test]
fn kdig_and_drill_agree() {
    let home = home();
    let server = home.serve();
    if installed("kdig") {
        let blocked = run(&server, "kdig", &["www.ads.example.com", "+edns"]);
        assert!(blocked.contains("0.0.0.0") && blocked.contains("EDE: 17"), "{blocked}");
        let secure = run(&server, "kdig", &["+tcp", "+dnssec", "www.example.kz"]);
        assert!(secure.contains("192.0.2.10") && secure.contains("RRSIG"), "{secure}");
    }
    if installed("drill") {
        let secure = run(&server, "drill", &["-D", "www.example.kz"]);
        assert!(secure.contains("192.0.2.10") && secure.contains("RRSIG"), "{secure}");
    }
}

#[test]
fn dnsperf_loses_nothing() {
    if !installed("dnsperf") {
        return;
    }
    let home = home();
    let server = home.serve();
    home.write("queries", "www.ads.example.com A\nwww.example.kz A\nwww.plain.kz AAAA\nhost.example.com A\n");
    for mode in ["udp", "tcp"] {
        let output = Command::new("dnsperf")
            .args(["-s", "127.0.0.1", "-p", &server.dns.port().to_string(), "-m", mode, "-n", "500", "-q", "20", "-d"])
            .arg(home.path("queries"))
            .output()
            .unwrap();
        let text = text(&output);
        assert!(text.contains("Queries lost:         0 (0.00%)"), "{mode}\n{text}");
        assert!(text.contains("NOERROR 2000 (100.00%)"), "{mode}\n{text}");
    }
}

#[test]
fn unbound_can_forward_to_it_and_validates_what_it_says() {
    if !installed("unbound") {
        return;
    }
    let home = home();
    let server = home.serve();
    let port = free_port();
    let config = format!(
        "server:\n directory: \"{dir}\"\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n interface: 127.0.0.1@{port}\n \
         do-daemonize: no\n use-syslog: no\n do-not-query-localhost: no\n trust-anchor-file: \"{dir}/root.key\"\n \
         module-config: \"validator iterator\"\nforward-zone:\n name: \".\"\n forward-addr: 127.0.0.1@{}\nremote-control:\n control-enable: no\n",
        server.dns.port(),
        dir = home.folder().display(),
    );
    home.write("unbound.conf", &config);
    let mut unbound = Command::new("unbound")
        .arg("-d")
        .arg("-c")
        .arg(home.path("unbound.conf"))
        .env("PATH", "/usr/sbin:/usr/bin")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let downstream = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut query = query("www.example.kz", hickory_proto::rr::RecordType::A);
    query.edns.as_mut().unwrap().set_dnssec_ok(true);
    let bytes = query.to_vec().unwrap();
    let mut answer = None;
    eventually("Unbound answers", || {
        answer = exchange(downstream, &bytes, std::time::Duration::from_millis(500));
        answer.is_some()
    });
    let _ = unbound.kill();
    let _ = unbound.wait();
    let answer = hickory_proto::op::Message::from_vec(&answer.unwrap()).unwrap();
    assert!(answer.metadata.authentic_data, "Unbound could validate it\n{answer}");
    assert_eq!(data(&answer, hickory_proto::rr::RecordType::A), ["192.0.2.10"]);
}

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    if !installed("promtool") {
        return;
    }
    let home = home();
    let server = home.serve();
    server.ask("www.ads.example.com", hickory_proto::rr::RecordType::A);
    let (_, page) = server.get("/metrics");
    let mut lint = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut lint.stdin.take().unwrap(), page.as_bytes()).unwrap();
    let output = lint.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{page}", text(&output));
}
