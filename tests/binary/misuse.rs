//! What people do by mistake or on purpose: wrong words, wrong files, broken requests, two servers in one place.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use rustix::process::Signal;
use serde_json::Value;

use crate::server::{Home, PATIENCE, Server, data, ede, eventually, exchange, query};

const LIST: &str = "[[list]]\nname = \"ads\"\nsource = \"ads.txt\"\nformat = \"domains\"\n";

/// A home with a list in which `ads.example` stands.
pub(crate) fn home() -> Home {
    let home = Home::new(LIST);
    home.write("ads.txt", "ads.example\n");
    home
}

pub(crate) fn is_blocked(server: &Server, name: &str) -> bool {
    ede(&server.ask(name, RecordType::A)).is_some_and(|(code, _)| code == 15)
}

#[test]
fn wrong_words_are_met_with_a_code_and_a_hint() {
    let home = home();
    home.write("junk.toml", "\u{0}\u{1}");
    for (words, code, hint) in [
        (&["serv"][..], 2, "serve"),
        (&["serve", "--nothing"], 2, "--nothing"),
        (&["explain"], 2, "<NAME>"),
        (&["explain", "a..b"], 2, "a label is empty"),
        (&["explain", "a.example", "-t", "NONE"], 2, "no record type"),
        (&["explain", "a.example", "--client", "me"], 2, "--client"),
        (&["compile", "--stats", "xml"], 2, "json"),
        (&["compile", "-o", "/nowhere/x"], 1, "/nowhere"),
        (&["diff", "one"], 2, "<NEW>"),
        (&["diff", "one", "two"], 1, "\"one\" is no file"),
        (&["convert", "--from", "prose", "--to", "csv"], 2, "no format"),
        (&["convert", "--from", "csv", "--to", "auto"], 2, "name one"),
        (&["convert", "--from", "csv", "--to", "rpz", "/nowhere"], 1, "/nowhere"),
        (&["allow", "a.example", "--reason", "x"], 2, "--for"),
        (&["allow", "a.example", "--for", "2h"], 2, "--reason"),
        (&["allow", "a.example", "--for", "a while", "--reason", "x"], 2, "--for"),
        (&["status"], 2, "--control"),
        (&["status", "--control", "127.0.0.1:1"], 1, "is the server running"),
        (&["reload", "--control", "nowhere"], 2, "--control"),
    ] {
        let run = home.run(words);
        let errors = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{words:?} {run:?}");
        assert!(errors.contains(hint), "{words:?} {errors}");
    }
    for config in ["nowhere.toml", "junk.toml", "."] {
        let run = home.command(&["check"]).arg("-c").arg(home.path(config)).output().unwrap();
        assert_eq!(run.status.code(), Some(2), "{config} {run:?}");
    }
    let nobody_listens = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = home.command(&["check", "-c", "nowhere.toml"]).stderr(nobody_listens).output().unwrap();
    assert_eq!(run.status.code(), Some(2), "{run:?}");
}

#[test]
fn wrong_overrides_and_generations_are_refused_and_change_nothing() {
    let home = home();
    let server = home.serve();
    let control = server.control.to_string();
    for (words, code, hint) in [
        (&["allow", "ads.example", "--for", "0s", "--reason", "x"][..], 2, "a second at least"),
        (&["allow", "ads.example", "--for", "3years", "--reason", "x"], 2, "a year at most"),
        (&["allow", "ads.example", "--for", "1h", "--reason", " "], 2, "needs a reason"),
        (&["overrides", "--remove", "ads.example"], 1, "no override"),
        (&["rollback"], 1, "no generation before"),
        (&["rollback", "ffff"], 1, "no generation begins with"),
        (&["rollback", ""], 1, "no generation begins with"),
    ] {
        let run = home.command(words).arg("--control").arg(&control).output().unwrap();
        assert_eq!(run.status.code(), Some(code), "{words:?} {run:?}");
        assert!(String::from_utf8_lossy(&run.stderr).contains(hint), "{words:?} {run:?}");
    }
    assert!(is_blocked(&server, "ads.example"));
    let pause = home.run(&["allow", ".", "--for", "1m", "--reason", "looking for a fault", "--control", &control]);
    assert!(pause.status.success(), "{pause:?}");
    assert!(!is_blocked(&server, "ads.example"), "an exception for the root is a pause");
}

#[test]
fn names_may_be_written_in_their_own_script() {
    let home = home();
    home.write("ads.txt", "xn--80aswg.xn--p1ai\n");
    let explain = home.run(&["explain", "сайт.рф"]);
    assert!(String::from_utf8_lossy(&explain.stdout).contains("block (list ads blocks it)"), "{explain:?}");
    home.configure(&format!("[protect]\nnames = [\"Сайт.РФ\"]\n{LIST}"));
    let explain = home.run(&["explain", "www.xn--80aswg.xn--p1ai"]);
    assert!(String::from_utf8_lossy(&explain.stdout).contains("pass"), "{explain:?}");
    assert_eq!(home.run(&["explain", "\u{202e}.example"]).status.code(), Some(2));
}

#[test]
fn every_kind_of_bad_line_is_told_by_its_place() {
    let home = home();
    for (format, text, bad) in [
        ("domains", "good.example\nbad..name\n\ntwo words\n", &[2, 4][..]),
        ("wildcard", "*.good.example\n*.*.bad.example\n=\n", &[2, 3]),
        ("hosts", "0.0.0.0 good.example\n0.0.0.0\nnowhere bad.example\n", &[2, 3]),
        ("adblock", "||good.example^\n||bad..example^\n/regular.*/\n", &[2, 3]),
        ("dnsmasq", "address=/good.example/\naddress=/bad..example/\naddress=bad\n", &[2, 3]),
        ("unbound", "local-zone: \"good.example\" static\nlocal-zone: \"bad.example\" odd\n", &[2]),
        ("rpz", "$TTL 60\n@ SOA a. b. 1 2 3 4 5\ngood.example CNAME .\nbad..example CNAME .\nbad\n", &[4, 5]),
        ("csv", "domain,order_id\ngood.example,1\nbad..example,2\n\"bad,3\n", &[3, 4]),
        ("jsonl", "{\"domain\":\"good.example\"}\n{\"domain\":1}\n{\n{}\n", &[2, 3, 4]),
    ] {
        home.write("ads.txt", text);
        home.configure(&format!(
            "{}format = \"{format}\"\nmax-error-percent = 100\n",
            LIST.replace("format = \"domains\"\n", "")
        ));
        let check = home.run(&["check"]);
        let told = String::from_utf8_lossy(&check.stdout);
        assert!(check.status.success(), "{format} {check:?}");
        assert!(told.contains("1 rules, 1 entries"), "{format}\n{told}");
        for line in bad {
            assert!(told.contains(&format!("ads.txt:{line}: ")), "{format}: line {line}\n{told}");
        }
    }
}

#[test]
fn a_list_that_is_none_is_refused_with_the_reason() {
    let home = home();
    home.write("long.txt", &format!("good.example\n{}\nother.example\n", "x".repeat(100_000)));
    home.write("binary.txt", "good.example\n\u{0}\u{1}\n");
    home.write("empty.txt", "# nothing yet\n");
    home.write("marked.txt", "\u{feff}good.example\r\nother.example");
    std::fs::create_dir(home.path("folder.txt")).unwrap();
    for (source, code, told) in [
        ("long.txt", 0, "long.txt:2: too-long"),
        ("empty.txt", 0, "0 rules, 0 entries"),
        ("marked.txt", 0, "2 rules, 2 entries, 0 lines are wrong"),
        ("binary.txt", 1, "binary file"),
        ("folder.txt", 1, "folder.txt"),
        ("gone.txt", 1, "gone.txt"),
        ("*.nothing", 1, "no file matches"),
        ("[.txt", 2, "list[0].source"),
        ("ftp://lists.example/", 2, "only https://"),
    ] {
        home.configure(&LIST.replace("ads.txt", source));
        let check = home.run(&["check"]);
        let text = format!("{}{}", String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
        assert_eq!(check.status.code(), Some(code), "{source} {text}");
        assert!(text.contains(told), "{source} {text}");
    }
}

#[test]
fn two_servers_in_one_state_folder_lose_nothing_of_each_other() {
    let home = home();
    let (one, two) = (home.serve(), home.serve());
    for (server, name) in [(&one, "first.example"), (&two, "second.example")] {
        let control = server.control.to_string();
        let block = home.run(&["block", name, "--for", "1h", "--reason", "a test", "--control", &control]);
        assert!(block.status.success(), "{block:?}");
    }
    assert!(is_blocked(&two, "first.example") && is_blocked(&two, "second.example"));
    home.write("ads.txt", "ads.example\nmore.example\n");
    std::thread::scope(|scope| {
        for server in [&one, &two] {
            let reload = || home.run(&["reload", "--control", &server.control.to_string()]);
            scope.spawn(move || assert!(reload().status.success()));
        }
    });
    assert!(is_blocked(&one, "more.example") && is_blocked(&two, "more.example"));
    drop((one, two));
    let server = home.serve();
    assert!(
        ["ads.example", "more.example", "first.example", "second.example"].iter().all(|name| is_blocked(&server, name))
    );
}

#[test]
fn what_a_crash_or_another_version_leaves_in_the_state_is_made_anew() {
    let home = home();
    drop(home.serve());
    let current = std::fs::canonicalize(home.path("state/generations/current")).unwrap();
    let overwrite = |at: u64, octets: &[u8]| {
        std::fs::OpenOptions::new().write(true).open(&current).unwrap().write_all_at(octets, at).unwrap();
    };
    type Damage<'d> = (&'d str, Box<dyn Fn() + 'd>);
    let damages: [Damage<'_>; 7] = [
        ("another version", Box::new(|| overwrite(8, &[0xff]))),
        ("a flipped octet", Box::new(|| overwrite(100, &[0xff]))),
        ("a file cut short", Box::new(|| std::fs::write(&current, "").unwrap())),
        ("no file", Box::new(|| std::fs::remove_file(&current).unwrap())),
        (
            "a link to nowhere",
            Box::new(|| {
                std::fs::remove_file(home.path("state/generations/current")).unwrap();
                std::os::unix::fs::symlink("gone.snapshot", home.path("state/generations/current")).unwrap();
            }),
        ),
        ("half a note of what it was made from", Box::new(|| home.write("state/generations/inputs.json", "{"))),
        ("a lock of a process that is gone", Box::new(|| home.write("state/generations/lock", "1"))),
    ];
    for (what, damage) in damages {
        damage();
        let server = home.serve();
        assert!(is_blocked(&server, "ads.example"), "{what}");
    }
    home.write("state/overrides.json", "{");
    let run = home.run(&["serve"]);
    assert_eq!(run.status.code(), Some(1), "exceptions of the operator's are not forgotten in silence: {run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("overrides.json"), "{run:?}");
}

#[test]
fn a_state_that_cannot_be_kept_is_an_error_that_names_it() {
    let home = home();
    home.write("state", "a file where the folder should be");
    let run = home.run(&["serve"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("server.state-dir: "), "{run:?}");
}

#[test]
fn a_storm_of_signals_is_one_reload_at_a_time_and_the_last_word_counts() {
    let home = home();
    let server = home.serve();
    for number in 0..50 {
        home.write("ads.txt", &format!("ads.example\nstorm{number}.example\n"));
        server.signal(Signal::HUP);
    }
    eventually("what was written last is in force", || is_blocked(&server, "storm49.example"));
    assert!(!is_blocked(&server, "storm48.example") && is_blocked(&server, "ads.example"));
    let reloads: f64 = ["changed", "unchanged"]
        .iter()
        .map(|result| server.metric(&format!("qalqan_reloads_total{{result=\"{result}\"}}")))
        .sum();
    assert!((1.0..=50.0).contains(&reloads), "{reloads}");
    assert_eq!(server.metric("qalqan_reloads_total{result=\"failed\"}"), 0.0);
}

#[test]
fn listeners_of_every_kind_answer_from_the_address_that_was_asked() {
    let home = home();
    let text = std::fs::read_to_string(home.path("qalqan.toml")).unwrap();
    let listen = |addresses: &str| {
        home.write("qalqan.toml", &text.replace("[\"127.0.0.1:0\"]\nstate", &format!("{addresses}\nstate")))
    };
    listen("[\"127.0.0.1:0\", \"127.0.0.1:0\", \"[::1]:0\", \"0.0.0.0:0\", \"[::]:0\"]");
    let server = home.serve();
    let listening: Value = serde_json::from_str(&server.get("/api/v1/status").1).unwrap();
    let listening: Vec<std::net::SocketAddr> = listening["listen"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address.as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(listening.len(), 5);
    assert_eq!(listening.iter().map(|address| address.port()).collect::<BTreeSet<_>>().len(), 5);
    let request = query("ads.example", RecordType::A).to_vec().unwrap();
    for address in listening {
        let asked: std::net::SocketAddr = match address.ip() {
            ip if !ip.is_unspecified() => address,
            std::net::IpAddr::V4(_) => (std::net::Ipv4Addr::new(127, 8, 9, 10), address.port()).into(),
            std::net::IpAddr::V6(_) => (std::net::Ipv6Addr::LOCALHOST, address.port()).into(),
        };
        let socket = std::net::UdpSocket::bind((if asked.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&request, asked).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 1500]).unwrap();
        assert_eq!(from, asked);
    }
    for (addresses, code, told) in [
        ("[\"127.0.0.1:5399\", \"127.0.0.1:5399\"]", 2, "server.listen[1]: 127.0.0.1:5399 stands there twice"),
        (&*format!("[\"{}\"]", server.dns), 1, "already in use"),
        ("[\"192.0.2.1:0\"]", 1, "192.0.2.1:0: cannot listen"),
    ] {
        listen(addresses);
        let run = home.run(&["serve"]);
        assert_eq!(run.status.code(), Some(code), "{addresses} {run:?}");
        let errors = String::from_utf8_lossy(&run.stderr).to_lowercase();
        assert!(errors.contains(&told.to_lowercase()), "{addresses} {errors}");
    }
}

#[test]
fn the_control_listener_bears_bad_requests() {
    let home = home();
    let server = home.serve();
    let json = "Content-Type: application/json\r\n";
    let send = |method: &str, path: &str, headers: &str, body: &str| {
        server.http(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            server.control,
            body.len()
        ))
    };
    for (method, path, headers, body, status) in [
        ("GET", "/", "", "", 404),
        ("GET", "/api/v1/nothing", "", "", 404),
        ("POST", "/api/v1/nothing", "", "", 404),
        ("POST", "/metrics", "", "", 405),
        ("GET", "/api/v1/reload", "", "", 405),
        ("PUT", "/api/v1/overrides", json, "{}", 405),
        ("HEAD", "/metrics", "", "", 200),
        ("HEAD", "/api/v1/status", "", "", 200),
        ("POST", "/api/v1/flush", "", "{\"name\":\"a.example\"}", 400),
        ("POST", "/api/v1/flush", json, "{", 400),
        ("POST", "/api/v1/flush", json, "{}", 400),
        ("POST", "/api/v1/flush", json, "{\"name\":\"a..b\"}", 400),
        ("POST", "/api/v1/flush", json, "{\"name\":\"a.example\",\"more\":1}", 400),
        ("POST", "/api/v1/flush", json, "{\"name\":\"a.example\",\"below\":true}", 200),
        ("POST", "/api/v1/explain", json, "{\"name\":\"a.example\",\"type\":\"NONE\"}", 400),
        ("POST", "/api/v1/explain", json, "{\"name\":\"a.example\",\"client\":\"me\"}", 400),
        (
            "POST",
            "/api/v1/overrides",
            json,
            "{\"name\":\"a.example\",\"kind\":\"allow\",\"reason\":\"x\",\"seconds\":-1}",
            400,
        ),
        ("POST", "/api/v1/rollback", json, "{\"generation\":\"../../etc/passwd\"}", 500),
        ("DELETE", "/api/v1/overrides", json, "{\"name\":\"a.example\"}", 404),
        ("POST", "/api/v1/reload", json, "", 200),
    ] {
        assert_eq!(send(method, path, headers, body).0, status, "{method} {path} {body}");
    }
    assert!(send("PUT", "/api/v1/overrides", json, "{}").1.contains("GET, POST, DELETE"));
    // Connections that say little, or nothing to the point, keep nobody else out.
    let idle: Vec<TcpStream> = (0..50)
        .map(|number| {
            let mut stream = TcpStream::connect(server.control).unwrap();
            let begun = ["", "GET /met", "POST /api/v1/flush HTTP/1.1\r\nContent-Length: 100\r\n", "\0\0\0\0\r\n\r\n"];
            stream.write_all(begun[number % begun.len()].as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(server.get("/healthz").0, 200);
    drop(idle);
    // One connection, many requests.
    let mut stream = TcpStream::connect(server.control).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\nok\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).unwrap();
            reply.push(octet[0]);
        }
    }
}

#[test]
fn what_is_printed_for_programs_keeps_its_shape() {
    let home = home();
    let server = home.serve();
    let control = server.control.to_string();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let json = |words: &[&str]| -> Value {
        let run = home.run(words);
        assert!(run.status.success(), "{words:?} {run:?}");
        serde_json::from_slice(&run.stdout).unwrap()
    };
    let status = json(&["status", "--json", "--control", &control]);
    assert_eq!(
        keys(&status),
        "cache generation generations last_error listen lists overrides pid started_at totals unfiltered version"
    );
    assert_eq!(keys(&status["lists"][0]), "entries last_success name refused");
    for (name, verdict) in [("ads.example", "block"), ("other.example", "pass")] {
        let explained = json(&["explain", name, "--json"]);
        assert_eq!(keys(&explained), "generation matches name qtype verdict why");
        assert_eq!(explained["verdict"], verdict);
    }
    home.run(&["block", "b.example", "--for", "1h", "--reason", "x", "--author", "me", "--control", &control]);
    let overrides = json(&["overrides", "--json", "--control", &control]);
    assert_eq!(keys(&overrides[0]), "author created_at ends_at kind name reason");
    let report = json(&["compile", "--stats", "json"]);
    for key in ["generation", "lists", "names", "bytes", "seconds", "protected_conflicts"] {
        assert!(report.get(key).is_some(), "{key} {report:#}");
    }
    let generation = report["generation"].as_str().unwrap();
    let diff = home.run(&["diff", generation, generation]);
    assert_eq!(String::from_utf8_lossy(&diff.stdout), "0 added, 0 removed, 0 changed\n");
}

#[test]
fn every_family_of_the_contract_is_there_from_the_start() {
    let home = home();
    let server = home.serve();
    let (_, page) = server.get("/metrics");
    for line in [
        "qalqan_dns_requests_total{proto=\"udp\",qtype=\"A\"} 0",
        "qalqan_dns_responses_total{proto=\"tcp\",rcode=\"NXDOMAIN\",source=\"upstream\"} 0",
        "qalqan_dns_request_duration_seconds_bucket{source=\"policy\",le=\"+Inf\"} 0",
        "qalqan_policy_hits_total{list=\"ads\",action=\"nxdomain\",trigger=\"cname\"} 0",
        "qalqan_policy_shadow_hits_total{list=\"ads\"} 0",
        "qalqan_policy_protected_hits_total 0",
        "qalqan_list_entries{list=\"ads\"} 1",
        "qalqan_list_rejected_lines{list=\"ads\",reason=\"invalid-name\"} 0",
        "qalqan_cache_entries 0",
        "qalqan_cache_bytes 0",
        "qalqan_cache_requests_total{result=\"hit\"} 0",
        "qalqan_upstream_queries_total{proto=\"tls\",result=\"reply\"} 0",
        "qalqan_dnssec_validation_total{result=\"bogus\"} 0",
        "qalqan_dropped_total{reason=\"overload\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
    for family in
        ["qalqan_list_last_success_timestamp_seconds{list=\"ads\"} ", "qalqan_generation_info{", "qalqan_build_info{"]
    {
        assert!(page.contains(&format!("\n{family}")), "{family}\n{page}");
    }
}

#[test]
fn a_server_that_must_stop_does_not_wait_for_who_says_nothing() {
    let home = home();
    let mut server = home.serve();
    let _silent: Vec<TcpStream> =
        [server.dns, server.control].iter().map(|address| TcpStream::connect(address).unwrap()).collect();
    assert!(exchange(server.dns, &query("ads.example", RecordType::A).to_vec().unwrap(), PATIENCE).is_some());
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert_eq!(data(&home.serve().ask("ads.example", RecordType::A), RecordType::A), ["0.0.0.0"], "and starts again");
}
