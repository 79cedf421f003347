//! What is shipped beside the binary: the systemd unit, an account without rights, rules, dashboard, examples.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use hickory_proto::rr::RecordType;
use rustix::process::Signal;

use crate::peers::{installed, text};
use crate::server::{Home, PATIENCE, Server, ede};

const LIST: &str = "[[list]]\nname = \"ads\"\nsource = \"ads.txt\"\nformat = \"domains\"\n";

fn home() -> Home {
    let home = Home::new(LIST);
    home.write("ads.txt", "ads.example\n");
    home
}

#[test]
fn the_unit_is_sound_and_gives_few_rights() {
    if !installed("systemd-analyze") {
        return;
    }
    // The unit with the program where it has been built.
    let home = home();
    let unit = std::fs::read_to_string("deploy/systemd/qalqan.service").unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/qalqan "), "{unit}");
    home.write("qalqan.service", &unit.replace("/usr/local/bin/qalqan", env!("CARGO_BIN_EXE_qalqan")));
    let unit = home.path("qalqan.service");
    let verify = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    let complaints = text(&verify);
    assert!(verify.status.success() && !complaints.contains("qalqan.service:"), "{complaints}");
    let security =
        Command::new("systemd-analyze").args(["security", "--offline=true", "--threshold=20"]).arg(&unit).output();
    let security = security.unwrap();
    assert!(security.status.success(), "more exposed than 2.0 of 10\n{}", text(&security));
    // A later line gives back what an earlier one takes away; without these calls a reload would end the server.
    let unit = std::fs::read_to_string(&unit).unwrap();
    let given_back = unit.split_once("SystemCallFilter=~").unwrap().1;
    for call in ["sched_setscheduler", "setpriority"] {
        assert!(given_back.contains(call), "a reload takes the processor from the answers without {call}");
    }
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let home = home();
    let socket = UnixDatagram::bind(home.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut serve = home.command(&["serve"]);
    serve.env("NOTIFY_SOCKET", home.path("notify"));
    let mut server = Server::start(serve);
    let told = || {
        let mut buffer = [0; 512];
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    };
    let ready = told();
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    assert!(ready.lines().any(|line| line.starts_with("STATUS=generation ")), "{ready}");
    server.signal(Signal::TERM);
    assert!(told().lines().any(|line| line == "STOPPING=1"));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn rights_are_given_away_for_good_and_everything_works_without_them() {
    let home = home();
    let metadata = std::fs::metadata(home.folder()).unwrap();
    if metadata.uid() != 0 {
        eprintln!("skipped: only root has rights to give away");
        return;
    }
    std::fs::set_permissions(home.folder(), PermissionsExt::from_mode(0o755)).unwrap();
    let text = std::fs::read_to_string(home.path("qalqan.toml")).unwrap();
    home.write("qalqan.toml", &text.replace("[server]\n", "[server]\nuser = \"nobody\"\n"));
    let server = home.serve();
    let status = server.process_status();
    let ids = |key: &str| -> BTreeSet<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let nobody = std::fs::metadata(home.path("state")).unwrap();
    assert_ne!(nobody.uid(), 0, "the state belongs to the account");
    assert_eq!(ids("Uid:"), BTreeSet::from([nobody.uid().to_string()]));
    assert_eq!(ids("Gid:"), BTreeSet::from([nobody.gid().to_string()]));
    assert_eq!(ids("Groups:"), BTreeSet::from([nobody.gid().to_string()]));
    assert_eq!(ids("CapEff:"), BTreeSet::from(["0000000000000000".to_owned()]));

    let control = server.control.to_string();
    home.write("ads.txt", "ads.example\nmore.example\n");
    let reload = home.run(&["reload", "--control", &control]);
    assert!(reload.status.success(), "{reload:?}");
    assert!(ede(&server.ask("more.example", RecordType::A)).is_some());
    let allow = home.run(&["allow", "more.example", "--for", "1h", "--reason", "a test", "--control", &control]);
    assert!(allow.status.success(), "{allow:?}");
    drop(server);
    std::fs::remove_file(home.path("ads.txt")).unwrap();
    let server = home.serve();
    assert!(ede(&server.ask("more.example", RecordType::A)).is_some(), "what it has compiled itself is good enough");
    drop(server);

    home.write("qalqan.toml", &text.replace("[server]\n", "[server]\nuser = \"nobody-of-this-name\"\n"));
    let run = home.run(&["serve"]);
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("server.user: there is no account"), "{run:?}");
}

/// The words in `text` that are names of metrics, with the plain label matchers behind each.
fn metrics_in(text: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut found = Vec::new();
    for start in text.match_indices(['q', 'p']).map(|(at, _)| at) {
        let is_inside = start > 0 && text[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || "_:".contains(c));
        let rest = &text[start..];
        if is_inside || !(rest.starts_with("qalqan_") || rest.starts_with("process_")) {
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let matchers = rest[end..].strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let matchers = matchers.split(',').filter_map(|matcher| matcher.split_once("=\""));
        let matchers = matchers.map(|(label, value)| (label.trim().to_owned(), value.trim_matches('"').to_owned()));
        found.push((rest[..end].to_owned(), matchers.collect()));
    }
    found
}

#[test]
fn the_dashboard_and_the_rules_ask_for_metrics_that_there_are() {
    let home = home();
    let server = home.serve();
    let (_, page) = server.get("/metrics");
    let dashboard = std::fs::read_to_string("deploy/grafana/qalqan.json").unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().expect("every target has an expression").to_owned());
        }
    }
    assert!(expressions.len() > 20, "the dashboard has been read");
    // What is annotated and recorded has names of its own, with a colon.
    expressions.push(std::fs::read_to_string("deploy/prometheus/rules.yml").unwrap());
    let mut seen = 0;
    for (metric, matchers) in expressions.iter().flat_map(|expression| metrics_in(expression)) {
        let lines = || {
            page.lines()
                .filter(|line| line.starts_with(&format!("{metric}{{")) || line.starts_with(&format!("{metric} ")))
        };
        assert!(lines().next().is_some(), "there is no {metric}");
        for (label, value) in matchers {
            let is_ours = !["instance", "job", "generation"].contains(&label.as_str());
            let matcher = format!("{label}=\"{value}\"");
            assert!(!is_ours || lines().any(|line| line.contains(&matcher)), "there is no {metric}{{{matcher}}}");
        }
        seen += 1;
    }
    assert!(seen > 40, "{seen} metrics");
}

#[test]
fn the_rules_ring_when_they_should() {
    if !installed("promtool") {
        return;
    }
    let test = Command::new("promtool").args(["test", "rules", "tests/binary/rules.yml"]).output().unwrap();
    assert!(test.status.success(), "{}", text(&test));
    let check =
        Command::new("promtool").args(["check", "config", "deploy/prometheus/prometheus.yml"]).output().unwrap();
    assert!(check.status.success(), "{}", text(&check));
}

#[test]
fn every_configuration_that_is_shown_can_be_used() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let shown = readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let minimal = std::fs::read_to_string("deploy/config/minimal.toml").unwrap();
    let mut seen = 0;
    for example in shown.chain([minimal]) {
        let home = Home::new("");
        home.write("orders.jsonl", "{\"domain\":\"a.example\",\"order_id\":\"1\",\"authority\":\"court\"}\n");
        assert!(example.contains("/etc/qalqan/lists/orders.jsonl"), "{example}");
        home.write("qalqan.toml", &example.replace("/etc/qalqan/lists/", ""));
        let check = home.run(&["check", "--strict"]);
        assert!(check.status.success(), "{example}\n{check:?}");
        seen += 1;
    }
    assert!(seen >= 2, "examples have been found");
}

#[test]
fn the_catalogue_names_lists_as_the_configuration_would() {
    let catalogue: toml::Table = std::fs::read_to_string("blocklists/catalog.toml").unwrap().parse().unwrap();
    let mut config = String::new();
    for entry in catalogue["catalog"].as_array().unwrap() {
        let value = |key: &str| entry[key].as_str().unwrap();
        config += &format!(
            "[[list]]\nname = {:?}\nsource = {:?}\nformat = {:?}\n",
            value("name"),
            value("url"),
            value("format")
        );
        if value("match") != "-" {
            config += &format!("match = {:?}\n", value("match"));
        }
    }
    // A command that reads the configuration, and no list.
    let diff = Home::new(&config).run(&["diff", "0", "1"]);
    assert_eq!(diff.status.code(), Some(1), "2 for a wrong configuration: {diff:?}");
    assert!(String::from_utf8_lossy(&diff.stderr).contains("no generation"), "{diff:?}");
}
