//! The contract, driven through the built binary against a test internet.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use rustix::process::Signal;

use crate::internet::WORLD;
use crate::server::{Home, PATIENCE, ask, data, ede, eventually, exchange, query, rcode, read_framed, send_framed};

/// A list with one entry for each action, and what belongs to it.
const LISTS: &str = r#"
[sinkhole]
ipv4 = "192.0.2.80"
ipv6 = "2001:db8::80"
[protect]
names = ["gov.kz"]
[[list]]
name = "kz"
source = "kz.jsonl"
match = "subdomains"
allow-suffix = true
ede = "censored"
ede-text = "order {order_id} of {authority}"
[[list]]
name = "nx"
inline = "nx.example.com"
format = "domains"
action = "nxdomain"
[[list]]
name = "nodata"
inline = "nodata.example.com"
format = "domains"
action = "nodata"
ede = "filtered"
[[list]]
name = "refused"
inline = "refused.example.com"
format = "domains"
action = "refused"
[[list]]
name = "drop"
inline = "drop.example.com"
format = "domains"
action = "drop"
[[list]]
name = "truncate"
inline = "truncate.example.com"
format = "domains"
action = "truncate"
[[list]]
name = "cname"
inline = "cname.example.com"
format = "domains"
action = { cname = "www.plain.kz" }
[[list]]
name = "shadow"
inline = "www.plain.kz"
format = "domains"
shadow = true
[[list]]
name = "trackers"
source = "trackers.txt"
format = "domains"
match = "subdomains"
ede-text = "tracking"
"#;

const KZ: &str = r#"{"domain":"blocked.kz","order_id":"7-12","authority":"Test Court"}
{"domain":"gov.kz","order_id":"7-13"}
{"domain":"quiet.kz","ede":"none"}
"#;

fn home() -> Home {
    let home = Home::new("");
    home.write("kz.jsonl", KZ);
    home.write("trackers.txt", "tracker.example.com\n");
    let resolver = WORLD.resolver_table(home.folder());
    home.configure(&format!("{LISTS}{resolver}"));
    home
}

#[test]
fn names_of_the_world_are_resolved_and_validated() {
    let home = home();
    let server = home.serve();
    for (name, rtype, expected) in [
        ("www.example.kz", RecordType::A, "192.0.2.10"),
        ("www.example.kz", RecordType::AAAA, "2001:db8::10"),
        ("www.plain.kz", RecordType::A, "192.0.2.20"),
        ("www.example.com", RecordType::A, "192.0.2.30"),
        ("anything.example.com", RecordType::A, "192.0.2.32"),
    ] {
        let answer = server.ask(name, rtype);
        assert_eq!(data(&answer, rtype), [expected], "{name}\n{answer}");
        assert!(answer.metadata.recursion_available);
    }

    let mut with_do = query("www.example.kz", RecordType::A);
    with_do.edns.as_mut().unwrap().set_dnssec_ok(true);
    let answer = ask(server.dns, &with_do).unwrap();
    assert!(answer.metadata.authentic_data, "{answer}");
    assert!(answer.answers.iter().any(|record| record.record_type() == RecordType::RRSIG), "{answer}");

    let bogus = server.ask("www.betrayed.kz", RecordType::A);
    assert_eq!(rcode(&bogus), ResponseCode::ServFail, "{bogus}");
    let (code, _) = ede(&bogus).expect("a reason");
    assert!((5..=12).contains(&code), "EDE {code}");
    let mut unchecked = query("www.betrayed.kz", RecordType::A);
    unchecked.metadata.checking_disabled = true;
    let answer = ask(server.dns, &unchecked).unwrap();
    assert_eq!(data(&answer, RecordType::A), ["192.0.2.66"], "{answer}");

    let missing = server.ask("nobody.example.kz", RecordType::A);
    assert_eq!(rcode(&missing), ResponseCode::NXDomain, "{missing}");
    assert!(missing.authorities.iter().any(|record| record.record_type() == RecordType::SOA), "{missing}");
}

#[test]
fn every_action_answers_as_published() {
    let home = home();
    let server = home.serve();

    let answer = server.ask("www.blocked.kz", RecordType::A);
    assert_eq!(data(&answer, RecordType::A), ["192.0.2.80"], "{answer}");
    assert_eq!(ede(&answer), Some((16, "order 7-12 of Test Court".to_owned())));
    assert!(answer.answers[0].ttl <= 10);
    assert_eq!(data(&server.ask("blocked.kz", RecordType::AAAA), RecordType::AAAA), ["2001:db8::80"]);
    for rtype in [RecordType::HTTPS, RecordType::MX, RecordType::TXT] {
        let answer = server.ask("blocked.kz", rtype);
        assert_eq!((rcode(&answer), answer.answers.len()), (ResponseCode::NoError, 0), "{answer}");
        assert!(answer.authorities.iter().any(|record| record.record_type() == RecordType::SOA), "{answer}");
    }
    assert_eq!(ede(&server.ask("quiet.kz", RecordType::A)), None);

    let answer = server.ask("nx.example.com", RecordType::A);
    assert_eq!((rcode(&answer), ede(&answer).map(|(code, _)| code)), (ResponseCode::NXDomain, Some(15)), "{answer}");
    assert!(answer.authorities.iter().any(|record| record.record_type() == RecordType::SOA), "{answer}");
    let answer = server.ask("nodata.example.com", RecordType::A);
    assert_eq!((rcode(&answer), answer.answers.len()), (ResponseCode::NoError, 0), "{answer}");
    assert_eq!(ede(&answer).map(|(code, _)| code), Some(17));
    assert_eq!(rcode(&server.ask("refused.example.com", RecordType::A)), ResponseCode::Refused);

    let dropped = query("drop.example.com", RecordType::A).to_vec().unwrap();
    assert_eq!(exchange(server.dns, &dropped, Duration::from_millis(300)), None);

    let answer = server.ask("truncate.example.com", RecordType::A);
    assert!(answer.metadata.truncation && answer.answers.is_empty(), "{answer}");
    assert_eq!(data(&server.ask_tcp("truncate.example.com", RecordType::A), RecordType::A), ["192.0.2.32"]);

    let answer = server.ask("cname.example.com", RecordType::A);
    assert_eq!(data(&answer, RecordType::CNAME), ["www.plain.kz."], "{answer}");
    assert_eq!(data(&answer, RecordType::A), ["192.0.2.20"], "{answer}");

    let answer = server.ask("shop.example.com", RecordType::A);
    assert_eq!(ede(&answer), Some((15, "tracking".to_owned())), "an alias to a blocked name is blocked\n{answer}");
    assert!(!data(&answer, RecordType::A).contains(&"192.0.2.31".to_owned()), "{answer}");

    assert_eq!(data(&server.ask("www.gov.kz", RecordType::A), RecordType::A), ["192.0.2.40"], "a protected name");

    let plain = {
        let mut plain = query("blocked.kz", RecordType::A);
        plain.edns = None;
        ask(server.dns, &plain).unwrap()
    };
    assert!(plain.edns.is_none(), "{plain}");
}

#[test]
fn what_happens_is_counted() {
    let home = home();
    let server = home.serve();
    let lines = [
        "qalqan_dns_requests_total{proto=\"udp\",qtype=\"A\"}",
        "qalqan_dns_responses_total{proto=\"udp\",rcode=\"NOERROR\",source=\"policy\"}",
        "qalqan_policy_hits_total{list=\"kz\",action=\"sinkhole\",trigger=\"qname\"}",
        "qalqan_policy_hits_total{list=\"trackers\",action=\"sinkhole\",trigger=\"cname\"}",
        "qalqan_policy_shadow_hits_total{list=\"shadow\"}",
        "qalqan_policy_protected_hits_total",
        "qalqan_cache_requests_total{result=\"hit\"}",
        "qalqan_cache_requests_total{result=\"miss\"}",
        "qalqan_upstream_queries_total{proto=\"udp\",result=\"reply\"}",
        "qalqan_dnssec_validation_total{result=\"secure\"}",
        "qalqan_dns_request_duration_seconds_count{source=\"policy\"}",
    ];
    // The resolver looks after its trust anchors from the start, so that two of them may have begun to count.
    let before = lines.map(|line| server.metric(line));
    assert_eq!(before[..8], [0.0; 8]);
    for name in ["blocked.kz", "shop.example.com", "www.plain.kz", "www.gov.kz", "www.example.kz", "www.example.kz"] {
        server.ask(name, RecordType::A);
    }
    for (line, before) in lines.iter().zip(before) {
        assert!(server.metric(line) > before, "{line}");
    }
    assert_eq!(server.metric("qalqan_list_entries{list=\"kz\"}"), 3.0);
    assert!(server.metric("qalqan_list_last_success_timestamp_seconds{list=\"kz\"}") > 1.7e9);
    assert!(server.metric("process_resident_memory_bytes") > 1e6);
    assert_eq!(server.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(server.get("/readyz").0, 200);
    assert_eq!(server.get("/nothing").0, 404);
}

#[test]
fn a_changed_list_is_in_force_after_sighup() {
    let home = home();
    let server = home.serve();
    assert_eq!(ede(&server.ask("new.example.com", RecordType::A)), None);
    home.write("trackers.txt", "tracker.example.com\nnew.example.com\n");
    server.signal(Signal::HUP);
    eventually("the new entry blocks", || ede(&server.ask("new.example.com", RecordType::A)).is_some());
    assert_eq!(server.metric("qalqan_reloads_total{result=\"changed\"}"), 1.0);
}

#[test]
fn a_changed_list_is_noticed_on_disk() {
    let home = home();
    let resolver = WORLD.resolver_table(home.folder());
    let text = std::fs::read_to_string(home.path("qalqan.toml")).unwrap();
    assert!(text.contains(&resolver));
    home.write("qalqan.toml", &text.replace("watch = 0\n", "watch = \"100ms\"\n"));
    let server = home.serve();
    home.write("trackers.txt", "tracker.example.com\nnew.example.com\n");
    eventually("the new entry blocks", || ede(&server.ask("new.example.com", RecordType::A)).is_some());
}

#[test]
fn a_broken_list_leaves_the_last_good_one_in_force() {
    let home = home();
    let server = home.serve();
    let (_, before) = server.get("/api/v1/status");
    home.write("trackers.txt", "<!DOCTYPE html><html><body>Not found</body></html>\n");
    let reload = home.run(&["reload", "--control", &server.control.to_string()]);
    assert_eq!(reload.status.code(), Some(1), "{reload:?}");
    assert!(String::from_utf8_lossy(&reload.stderr).contains("trackers"), "{reload:?}");
    assert_eq!(ede(&server.ask("tracker.example.com", RecordType::A)).map(|(code, _)| code), Some(15));
    assert_eq!(ede(&server.ask("blocked.kz", RecordType::A)).map(|(code, _)| code), Some(16));
    assert_eq!(server.metric("qalqan_reloads_total{result=\"failed\"}"), 1.0);
    let (_, after) = server.get("/api/v1/status");
    let generation = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["generation"].clone();
    assert_eq!(generation(&before), generation(&after));
}

#[test]
fn a_list_that_shrinks_is_refused_with_3_on_reload() {
    let home = Home::new(
        "[guard]\nmin-entries = 2\n[[list]]\nname = \"orders\"\nsource = \"orders.txt\"\nformat = \"domains\"\n",
    );
    let orders: String = (0..50).map(|number| format!("order{number}.example\n")).collect();
    home.write("orders.txt", &orders);
    let server = home.serve();
    home.write("orders.txt", "order0.example\n");
    let reload = home.run(&["reload", "--control", &server.control.to_string()]);
    assert_eq!(reload.status.code(), Some(3), "{reload:?}");
    assert!(String::from_utf8_lossy(&reload.stderr).contains("only 1 entries after 50"), "{reload:?}");
    assert_eq!(server.metric("qalqan_reloads_total{result=\"refused\"}"), 1.0);
    assert!(ede(&server.ask("order49.example", RecordType::A)).is_some());
}

#[test]
fn a_reload_leaves_no_memory_behind() {
    let home =
        Home::new("[[list]]\nname = \"big\"\nsource = \"big.txt\"\nformat = \"domains\"\nmatch = \"subdomains\"\n");
    let text: String = (0..100_000).map(|number| format!("host{number}.shop{}.example\n", number % 997)).collect();
    home.write("big.txt", &text);
    assert!(home.run(&["compile"]).status.success());
    let server = home.serve();
    let before = server.anonymous_kilobytes();
    for number in 0..2 {
        home.write("big.txt", &format!("{text}more{number}.example\n"));
        assert!(home.run(&["reload", "--control", &server.control.to_string()]).status.success());
    }
    let after = server.anonymous_kilobytes();
    assert!(after < before + 4096, "{before} kB before, {after} kB after");
}

#[test]
fn a_reload_loses_no_query_and_lets_none_through() {
    let home =
        Home::new("[[list]]\nname = \"big\"\nsource = \"big.txt\"\nformat = \"domains\"\nmatch = \"subdomains\"\n");
    let text: String = (0..50_000).map(|number| format!("host{number}.example\n")).collect();
    home.write("big.txt", &text);
    let server = home.serve();
    let blocked = |name: &str| data(&server.ask(name, RecordType::A), RecordType::A) == ["0.0.0.0"];

    let reloaded = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !reloaded.load(Relaxed) {
                let name = format!("www.host{}.example", asked * 7919 % 50_000);
                assert!(blocked(&name), "{name} after {asked} others");
                asked += 1;
            }
            asked
        });
        for number in 0..3 {
            home.write("big.txt", &format!("{text}more{number}.example\n"));
            assert!(home.run(&["reload", "--control", &server.control.to_string()]).status.success());
            assert!(blocked(&format!("more{number}.example")));
        }
        reloaded.store(true, Relaxed);
        assert!(asking.join().unwrap() > 0);
    });
}

#[test]
fn a_broken_configuration_leaves_the_server_as_it_is() {
    let home = home();
    let server = home.serve();
    home.write("qalqan.toml", "[server]\nlissten = 1\n");
    let (status, body) = server.http(&format!(
        "POST /api/v1/reload HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        server.control
    ));
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("server.lissten"), "{body}");
    assert_eq!(ede(&server.ask("blocked.kz", RecordType::A)).map(|(code, _)| code), Some(16));
}

#[test]
fn a_wrong_configuration_exits_2_and_names_the_key() {
    let home = home();
    home.write("qalqan.toml", "[server]\nlissten = [\"127.0.0.1:0\"]\n");
    for command in [&["serve"][..], &["check"], &["compile"], &["explain", "a.kz"]] {
        let run = home.run(command);
        assert_eq!(run.status.code(), Some(2), "{command:?} {run:?}");
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(errors.contains("qalqan.toml:2: server.lissten: "), "{errors}");
    }
    assert_eq!(home.run(&["serv"]).status.code(), Some(2), "a wrong word");
}

#[test]
fn without_lists_it_refuses_to_start_unless_told() {
    let home = Home::new("");
    let resolver = WORLD.resolver_table(home.folder());
    home.configure(&format!("{resolver}[[list]]\nname = \"gone\"\nsource = \"gone.txt\"\n"));
    let run = home.run(&["serve"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(errors.contains("gone.txt") && errors.contains("--allow-unfiltered"), "{errors}");

    let server = home.serve_with(&["--allow-unfiltered"]);
    assert_eq!(data(&server.ask("www.plain.kz", RecordType::A), RecordType::A), ["192.0.2.20"]);
    assert!(server.get("/api/v1/status").1.contains("\"unfiltered\":true"));
}

#[test]
fn a_second_start_uses_what_is_compiled_even_if_the_lists_are_gone() {
    let home = home();
    drop(home.serve());
    std::fs::remove_file(home.path("kz.jsonl")).unwrap();
    let server = home.serve();
    assert_eq!(ede(&server.ask("blocked.kz", RecordType::A)).map(|(code, _)| code), Some(16));
}

#[test]
fn a_compiled_file_that_others_may_write_is_not_trusted() {
    let home = home();
    drop(home.serve());
    let link = home.path("state/generations/current");
    let file = std::fs::canonicalize(&link).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let diff = home.run(&["diff", file.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    let errors = String::from_utf8_lossy(&diff.stderr);
    assert!(errors.contains("chmod") || errors.contains("write"), "it says what to do: {errors}");
    let server = home.serve();
    assert!(ede(&server.ask("blocked.kz", RecordType::A)).is_some(), "compiled again");
}

#[test]
fn sigterm_answers_what_is_under_way_and_ends_with_0() {
    let home = home();
    let mut server = home.serve();
    let mut stream = TcpStream::connect(server.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    send_framed(&mut stream, &query("www.example.kz", RecordType::A).to_vec().unwrap());
    std::thread::sleep(Duration::from_millis(5));
    server.signal(Signal::TERM);
    let answer = read_framed(&mut stream).expect("the answer");
    assert_eq!(data(&answer, RecordType::A), ["192.0.2.10"]);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_tcp_connection_carries_many_queries_at_once() {
    let home = home();
    let server = home.serve();
    let mut stream = TcpStream::connect(server.dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut waiting = std::collections::BTreeSet::new();
    for index in 0..100_u16 {
        let name = if index.is_multiple_of(2) { "blocked.kz".to_owned() } else { format!("host{index}.example.com") };
        let mut query = query(&name, RecordType::A);
        query.metadata.id = index;
        waiting.insert(index);
        send_framed(&mut stream, &query.to_vec().unwrap());
    }
    while !waiting.is_empty() {
        let answer = read_framed(&mut stream).expect("an answer");
        assert!(waiting.remove(&answer.metadata.id), "{answer}");
        let expected = if answer.metadata.id.is_multiple_of(2) { "192.0.2.80" } else { "192.0.2.32" };
        assert_eq!(data(&answer, RecordType::A), [expected], "{answer}");
    }
}

#[test]
fn strangers_are_refused_and_told_why() {
    let home = home();
    let text = std::fs::read_to_string(home.path("qalqan.toml")).unwrap();
    home.write("qalqan.toml", &text.replace("[server]\n", "[server]\nallow-clients = [\"192.0.2.0/24\"]\n"));
    let server = home.serve();
    let answer = server.ask("www.plain.kz", RecordType::A);
    assert_eq!(rcode(&answer), ResponseCode::Refused, "{answer}");
    assert_eq!(ede(&answer).map(|(code, _)| code), Some(18));
}

#[test]
fn queries_can_be_forwarded() {
    // The one resolver of the other: a recursive one that the forwarder asks.
    let far = home();
    let upstream = far.serve();
    let home = Home::new(&format!(
        "[resolver]\nmode = \"forward\"\ndnssec = \"off\"\nallow-upstream = [\"127.0.0.0/8\"]\n[[resolver.forward]]\nzone = \".\"\nto = [\"{}\"]\n",
        upstream.dns
    ));
    let server = home.serve();
    assert_eq!(data(&server.ask("www.plain.kz", RecordType::A), RecordType::A), ["192.0.2.20"]);
    assert_eq!(rcode(&server.ask("nobody.example.kz", RecordType::A)), ResponseCode::NXDomain);
}

#[test]
fn overrides_work_at_once_and_outlive_the_process() {
    let home = home();
    let server = home.serve();
    let control = server.control.to_string();
    let allow = home.run(&["allow", "blocked.kz", "--for", "1h", "--reason", "appeal", "--control", &control]);
    assert!(allow.status.success(), "{allow:?}");
    assert_eq!(ede(&server.ask("blocked.kz", RecordType::A)), None);
    let block = home.run(&["block", "www.example.kz", "--for", "1h", "--reason", "abuse", "--control", &control]);
    assert!(block.status.success(), "{block:?}");
    assert_eq!(data(&server.ask("www.example.kz", RecordType::A), RecordType::A), ["192.0.2.80"]);
    assert!(server.metric("qalqan_policy_override_hits_total{action=\"sinkhole\"}") >= 1.0);

    drop(server);
    let server = home.serve();
    let control = server.control.to_string();
    assert_eq!(data(&server.ask("www.example.kz", RecordType::A), RecordType::A), ["192.0.2.80"]);
    let list = home.run(&["overrides", "--json", "--control", &control]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert!(home.run(&["overrides", "--remove", "www.example.kz", "--control", &control]).status.success());
    assert_eq!(data(&server.ask("www.example.kz", RecordType::A), RecordType::A), ["192.0.2.10"]);
    let again = home.run(&["overrides", "--remove", "www.example.kz", "--control", &control]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");

    let short = home.run(&["block", "www.plain.kz", "--for", "1s", "--reason", "test", "--control", &control]);
    assert!(short.status.success());
    assert!(ede(&server.ask("www.plain.kz", RecordType::A)).is_some());
    eventually("the override ends", || ede(&server.ask("www.plain.kz", RecordType::A)).is_none());
}

#[test]
fn generations_can_be_compared_and_rolled_back() {
    let home = home();
    let server = home.serve();
    let control = server.control.to_string();
    let generation = || {
        let status = home.run(&["status", "--json", "--control", &control]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status["generation"].as_str().unwrap().to_owned()
    };
    let old = generation();
    home.write("trackers.txt", "other.example.com\n");
    assert!(home.run(&["reload", "--control", &control]).status.success());
    let new = generation();
    assert_ne!(old, new);

    let diff = home.run(&["diff", &old, &new]);
    let text = String::from_utf8_lossy(&diff.stdout);
    assert!(text.contains("- tracker.example.com\n") && text.contains("+ other.example.com\n"), "{diff:?}");
    assert!(text.contains("1 added, 1 removed, 0 changed"), "{text}");

    assert!(home.run(&["rollback", "--control", &control]).status.success());
    assert_eq!(generation(), old);
    assert!(ede(&server.ask("tracker.example.com", RecordType::A)).is_some());
    assert!(ede(&server.ask("other.example.com", RecordType::A)).is_none());
    assert_eq!(home.run(&["rollback", "ffff", "--control", &control]).status.code(), Some(1));

    drop(server);
    let server = home.serve();
    assert!(ede(&server.ask("tracker.example.com", RecordType::A)).is_some(), "a rollback outlives the process");
}

#[test]
fn explain_and_compile_work_without_a_server() {
    let home = home();
    let explain = home.run(&["explain", "www.blocked.kz", "--json"]);
    assert!(explain.status.success(), "{explain:?}");
    let found: serde_json::Value = serde_json::from_slice(&explain.stdout).unwrap();
    assert_eq!(found["verdict"], "block", "{found:#}");
    assert!(found.to_string().contains("Test Court"), "{found:#}");

    let traced = home.run(&["explain", "www.example.kz", "--resolve"]);
    let text = String::from_utf8_lossy(&traced.stdout).into_owned();
    for part in ["127.1.0.1:53 asked for", "127.1.0.4:53 asked for www.example.kz A", "RCODE 0, secure"] {
        assert!(text.contains(part), "{part}\n{text}");
    }

    let compile = home.run(&["compile", "--stats", "json"]);
    assert!(compile.status.success(), "{compile:?}");
    let report: serde_json::Value = serde_json::from_slice(&compile.stdout).unwrap();
    assert_eq!(report["lists"][0]["name"], "kz", "{report:#}");
    assert_eq!(report["lists"][0]["entries"], 3, "{report:#}");

    let file = home.path("out.snapshot");
    assert!(home.run(&["compile", "-o", file.to_str().unwrap()]).status.success());
    let same = home.run(&["diff", file.to_str().unwrap(), report["generation"].as_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&same.stdout), "0 added, 0 removed, 0 changed\n", "{same:?}");

    home.write("trackers.txt", "tracker.example.com\nbad..name\n");
    let check = home.run(&["check"]);
    assert!(check.status.success(), "{check:?}");
    assert!(String::from_utf8_lossy(&check.stdout).contains("trackers.txt:2: "), "{check:?}");
    assert_eq!(home.run(&["check", "--strict"]).status.code(), Some(1));
}

#[test]
fn the_api_is_deaf_to_web_pages() {
    let home = home();
    let server = home.serve();
    let body = r#"{"name":"example.kz"}"#;
    let request = |headers: &str| {
        server.http(&format!(
            "POST /api/v1/flush HTTP/1.1\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    };
    let host = format!("Host: {}\r\n", server.control);
    let json = "Content-Type: application/json\r\n";
    assert_eq!(request(&format!("{host}{json}")).0, 200);
    assert_eq!(request(&format!("{host}{json}Origin: http://{}\r\n", server.control)).0, 200);
    assert_eq!(request(&format!("{host}{json}Origin: https://evil.example\r\n")).0, 403, "another site");
    assert_eq!(request(&format!("{host}{json}Origin: null\r\n")).0, 403, "a page from nowhere");
    assert_eq!(request(&format!("Host: evil.example:9153\r\n{json}")).0, 403, "a name pointed at us");
    assert_eq!(request(&format!("{host}Content-Type: text/plain\r\n")).0, 400, "a form");
    assert_eq!(server.get("/api/v1/status").0, 200);
    let large = "x".repeat(100_000);
    let (status, _) = server.http(&format!(
        "POST /api/v1/flush HTTP/1.1\r\n{host}{json}Content-Length: {}\r\nConnection: close\r\n\r\n{large}",
        large.len()
    ));
    assert_eq!(status, 400);
}

#[test]
fn random_bytes_harm_nothing() {
    let home = home();
    let mut server = home.serve();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let template = query("blocked.kz", RecordType::A).to_vec().unwrap();
    for round in 0..2000 {
        let mut bytes: Vec<u8> = match round % 2 {
            0 => (0..random() % 64).map(|_| random() as u8).collect(),
            _ => template.clone(),
        };
        for _ in 0..random() % 4 {
            if !bytes.is_empty() {
                let at = random() as usize % bytes.len();
                bytes[at] = random() as u8;
            }
        }
        let _ = socket.send_to(&bytes, server.dns);
        if round % 100 == 0 {
            let mut stream = TcpStream::connect(server.dns).unwrap();
            let _ = stream.write_all(&bytes);
        }
    }
    assert!(ede(&server.ask("blocked.kz", RecordType::A)).is_some());
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn it_says_what_it_is() {
    let home = home();
    let server = home.serve();
    let mut chaos = query("version.bind", RecordType::TXT);
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    let answer = ask(server.dns, &chaos).unwrap();
    assert!(data(&answer, RecordType::TXT)[0].contains("qalqan"), "{answer}");
    let help = home.run(&["--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in [
        "serve",
        "compile",
        "check",
        "explain",
        "diff",
        "status",
        "reload",
        "rollback",
        "flush",
        "allow",
        "block",
        "overrides",
        "convert",
    ] {
        assert!(help.contains(word), "{word}\n{help}");
    }
}
