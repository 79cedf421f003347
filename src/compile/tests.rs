//! Whole compilations: text in, snapshot out.

use super::*;
use crate::list::{BareAddress, Reason};
use crate::list::{Note, Source};
use crate::query::RecordType;
use crate::rule::{Action, Owner, Scope};
use crate::snapshot::{RuleRef, Snapshot};

/// A state folder and lists to write into.
struct World {
    folder: tempfile::TempDir,
    store: Store,
    settings: Settings,
}

const NOW: Now = Now { elapsed: std::time::Duration::ZERO, wall: 1_800_000_000 };

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state")).unwrap();
        Self { folder, store, settings: Settings::default() }
    }

    /// Writes a list, and configures it if it is new.
    fn list(&mut self, name: &str, format: Format, text: impl AsRef<[u8]>) -> &mut ListSettings {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        let lists = &mut self.settings.lists;
        let at = lists.iter().position(|list| list.name == name).unwrap_or_else(|| {
            lists.push(ListSettings { format, ..ListSettings::new(name, Source::File(path)) });
            lists.len() - 1
        });
        &mut lists[at]
    }

    fn try_compile(&self, guards: GuardMode) -> Result<Compiled, CompileError> {
        compile(&self.settings, Some(&self.store), self.store.folder(), Freshness::Refresh, guards, NOW, &mut |_| ())
    }

    fn compile(&self) -> Compiled {
        self.try_compile(GuardMode::Enforce).unwrap()
    }

    fn publish(&self) -> PathBuf {
        self.store.publish(self.compile(), self.settings.keep, NOW).unwrap()
    }

    /// What the lists say, in words.
    fn rules(&self) -> Vec<String> {
        rules(self.compile().path())
    }
}

fn rules(path: &Path) -> Vec<String> {
    let snapshot = Snapshot::open(path).unwrap();
    let mut entries = snapshot.entries();
    let mut found = Vec::new();
    while let Some((key, rules)) = entries.next() {
        let owner = Owner::from_key(key).unwrap();
        let mut of_name: Vec<String> = rules.iter().map(|rule| in_words(&owner, rule)).collect();
        of_name.sort();
        found.extend(of_name);
    }
    found
}

fn in_words(owner: &Owner, rule: RuleRef<'_>) -> String {
    let scope = match rule.scope() {
        Scope::Exact => "exact",
        Scope::Below => "below",
        Scope::Subdomains => "subdomains",
    };
    let action = match rule.action().to_action() {
        Action::Records(records) => records.iter().map(|record| record.rtype.to_string()).collect::<Vec<_>>().join("+"),
        action => action.to_string(),
    };
    let types = if rule.covers_type(RecordType::HTTPS) { "" } else { " types" };
    let order = rule.dossier().and_then(|dossier| dossier.to_dossier().order_id);
    let order = order.map_or_else(String::new, |order| format!(" order {order}"));
    format!("{} {scope} {owner} {action}{types}{order}", rule.list().0)
}

#[test]
fn lists_of_all_kinds_become_one_snapshot() {
    let mut world = World::new();
    world.list("a", Format::Domains, "a.example\nb.example\n");
    world.list("b", Format::Adblock, "||a.example^\n@@||c.a.example^\n").action = Action::NxDomain;
    let inline = Source::Inline("kz.example\n".into());
    world.settings.lists.push(ListSettings::new("c", inline));
    assert_eq!(
        world.rules(),
        [
            "0 exact a.example sinkhole",
            "1 subdomains a.example nxdomain",
            "1 subdomains c.a.example allow",
            "0 exact b.example sinkhole",
            "2 exact kz.example sinkhole",
        ]
    );
}

#[test]
fn every_trigger_of_a_policy_zone_is_compiled() {
    let mut world = World::new();
    let zone = "24.0.2.0.192.rpz-ip CNAME .\n24.0.2.0.192.rpz-ip CNAME *.\n32.7.2.0.192.rpz-client-ip CNAME rpz-drop.\n\
                48.zz.db8.2001.rpz-nsip A 192.0.2.1\n48.zz.db8.2001.rpz-nsip AAAA ::1\n\
                *.ns.example.rpz-nsdname CNAME .\nns.example CNAME rpz-passthru.\n";
    world.list("z", Format::Rpz, zone);
    world.list("y", Format::Domains, "192.0.2.0/24\n").bare_address = BareAddress::Answers;
    let compiled = world.compile();
    assert_eq!(
        rules(compiled.path()),
        [
            "0 exact 24.0.2.0.192.rpz-ip nxdomain",
            "1 exact 24.0.2.0.192.rpz-ip sinkhole",
            "0 below ns.example.rpz-nsdname nxdomain",
            "0 exact 48.zz.db8.2001.rpz-nsip A+AAAA",
            "0 exact 32.7.2.0.192.rpz-client-ip drop",
            "0 exact ns.example allow",
        ]
    );
    let [z, y] = &compiled.report.lists[..] else { panic!() };
    assert_eq!((z.entries, y.entries), (5, 1));
    assert_eq!(z.reading.refused(Reason::Conflict), 1, "the first of two aliases counts");
}

#[test]
fn a_list_may_override_what_its_entries_do() {
    let mut world = World::new();
    let zone = "a.example CNAME .\nb.example A 192.0.2.1\nb.example A 192.0.2.2\nc.example CNAME rpz-passthru.\n";
    world.list("z", Format::Rpz, zone).override_action = Some(Action::NoData);
    world.list("a", Format::Adblock, "||d.example^\n@@||e.example^\n").override_action = Some(Action::Drop);
    assert_eq!(
        world.rules(),
        [
            "0 exact a.example nodata",
            "0 exact b.example nodata",
            "0 exact c.example nodata",
            "1 subdomains d.example drop",
            "1 subdomains e.example allow",
        ]
    );
}

#[test]
fn equal_input_gives_equal_octets() {
    let mut world = World::new();
    let text: String = (0..2000).map(|number| format!("||h{}.example^\n", number * 7919 % 2000)).collect();
    world.list("a", Format::Adblock, text);
    world.list("b", Format::Domains, "h5.example\nh6.example\n");
    let (one, two) = (world.compile(), world.compile());
    assert_eq!(one.generation, two.generation);
    assert_eq!(fs::read(one.path()).unwrap(), fs::read(two.path()).unwrap());
    assert_eq!(one.report.names, 2000);
}

#[test]
fn what_is_taken_over_from_the_last_generation_makes_the_same_octets() {
    let text = |changed: &str| -> String {
        (0..40_000).map(|number| format!("name-{number}.example\n")).chain([changed.to_owned()]).collect()
    };
    let mut world = World::new();
    world.list("a", Format::Domains, text("before.example\n"));
    world.publish();
    world.list("a", Format::Domains, text("name-7000.example\nafter.example\n"));
    let taken_over = world.compile();

    let mut afresh = World::new();
    afresh.list("a", Format::Domains, text("name-7000.example\nafter.example\n"));
    // The inventory says where a list has come from.
    afresh.settings.lists[0].source = world.settings.lists[0].source.clone();
    assert_eq!(fs::read(taken_over.path()).unwrap(), fs::read(afresh.compile().path()).unwrap());
}

#[test]
fn what_a_list_says_twice_or_of_a_parent_is_counted() {
    let mut world = World::new();
    world.list("a", Format::Adblock, "||a.example^\n||a.example^\n||x.a.example^\n||b.example^\n");
    world.list("b", Format::Domains, "x.a.example\n");
    let lists = world.compile().report.lists;
    assert_eq!(lists[0].reading.noted(Note::Duplicate), 1);
    assert_eq!(lists[0].reading.noted(Note::Covered), 1);
    assert_eq!(lists[1].reading.noted(Note::Covered), 0, "another list's parent is no cover");
    assert_eq!((lists[0].entries, lists[1].entries), (3, 1));
}

#[test]
fn records_that_belong_together_come_together() {
    for (format, text, expected) in [
        (Format::Dnsmasq, "address=/a.example/192.0.2.1\naddress=/a.example/::1\n", "0 subdomains a.example A+AAAA"),
        (Format::Dnsmasq, "address=/a.example/\naddress=/a.example/192.0.2.1\n", "0 subdomains a.example A"),
        (Format::Dnsmasq, "address=/a.example/192.0.2.1\naddress=/a.example/\n", "0 subdomains a.example A"),
        (Format::Rpz, "a.example A 192.0.2.1\nb.example CNAME .\na.example TXT x\n", "0 exact a.example A+TXT"),
        (
            Format::Unbound,
            "local-zone: \"a.example\" redirect\nlocal-data: \"a.example A 192.0.2.1\"\n",
            "0 subdomains a.example A",
        ),
        (
            Format::Unbound,
            "local-data: \"a.example CNAME b.example.\"\nlocal-zone: \"a.example\" redirect\n",
            "0 subdomains a.example cname b.example",
        ),
        (Format::Unbound, "local-zone: \"a.example\" redirect\n", "0 subdomains a.example nodata"),
    ] {
        let mut world = World::new();
        world.list("a", format, text);
        assert_eq!(world.rules()[0], expected, "{text}");
    }
}

#[test]
fn data_in_an_unbound_zone_stands_beside_the_zone() {
    let mut world = World::new();
    let text = "local-zone: \"a.example\" static\nlocal-data: \"a.example A 192.0.2.1\"\nlocal-zone: \"b.example\" transparent\nlocal-data: \"b.example A 192.0.2.1\"\n";
    world.list("a", Format::Unbound, text);
    assert_eq!(
        world.rules(),
        ["0 exact a.example A", "0 subdomains a.example nxdomain", "0 below b.example allow", "0 exact b.example A"]
    );
}

#[test]
fn of_contradictions_the_first_stands_and_exceptions_are_none() {
    let mut world = World::new();
    world.list("rpz", Format::Rpz, "a.example CNAME .\na.example CNAME rpz-passthru.\na.example A 192.0.2.1\n");
    world.list("ads", Format::Adblock, "||b.example^\n@@||b.example^\n||b.example^$dnstype=A\n");
    let lists = world.compile().report.lists;
    assert_eq!(lists[0].reading.refused(Reason::Conflict), 2);
    assert_eq!(lists[1].reading.refused(Reason::Conflict), 0);
    assert_eq!(
        world.rules(),
        [
            "0 exact a.example nxdomain",
            "1 subdomains b.example allow",
            "1 subdomains b.example sinkhole",
            "1 subdomains b.example sinkhole types",
        ]
    );
}

#[test]
fn two_orders_about_one_name_both_stand() {
    let mut world = World::new();
    let text = "{\"domain\":\"a.example\",\"order_id\":\"1\",\"expires_at\":\"2026-12-31\"}\n{\"domain\":\"a.example\",\"order_id\":\"2\"}\n";
    world.list("a", Format::Jsonl, text);
    assert_eq!(world.rules(), ["0 exact a.example sinkhole order 1", "0 exact a.example sinkhole order 2"]);
}

#[test]
fn operations_of_a_list_are_carried_out_in_order() {
    let mut world = World::new();
    let text = concat!(
        "{\"domain\":\"a.example\",\"order_id\":\"1\"}\n",
        "{\"domain\":\"b.example\"}\n",
        "{\"op\":\"update\",\"domain\":\"a.example\",\"order_id\":\"2\"}\n",
        "{\"op\":\"remove\",\"domain\":\"b.example\"}\n",
        "{\"op\":\"remove\",\"domain\":\"c.example\"}\n",
        "{\"op\":\"add\",\"domain\":\"c.example\"}\n",
    );
    world.list("a", Format::Jsonl, text);
    world.list("b", Format::Domains, "b.example\n");
    let reading = world.compile().report.lists.remove(0).reading;
    assert_eq!((reading.noted(Note::Withdrawn), reading.noted(Note::NoEffect)), (2, 1));
    assert_eq!(
        world.rules(),
        ["0 exact a.example sinkhole order 2", "1 exact b.example sinkhole", "0 exact c.example sinkhole"]
    );
}

#[test]
fn a_badfilter_takes_out_equal_rules_of_every_list() {
    let mut world = World::new();
    world.list("a", Format::Adblock, "||a.example^\n||b.example^$important\n||c.example^\n");
    world.list("b", Format::Adblock, "||a.example^$badfilter\n||b.example^$badfilter\n||c.example$badfilter\n");
    world.list("c", Format::Hosts, "0.0.0.0 a.example\n");
    world.list("d", Format::Adblock, "||b.example^$badfilter,important\n");
    let lists = world.compile().report.lists;
    assert_eq!(lists[0].reading.noted(Note::Withdrawn), 2);
    assert_eq!(lists[1].reading.noted(Note::NoEffect), 2);
    assert_eq!(world.rules(), ["2 exact a.example sinkhole", "0 subdomains c.example sinkhole"]);
}

#[test]
fn a_list_that_goes_bad_keeps_its_last_good_content() {
    let mut world = World::new();
    world.list("a", Format::Auto, "a.example\n");
    world.list("b", Format::Domains, "b.example\n");
    world.compile();
    for bad in [&b"<html>502"[..], b"a.example\n\0", b"!!! !!!\n??? x\n", b"a b c\nd e f\n"] {
        world.list("b", Format::Domains, bad);
        world.list("a", Format::Auto, "new.example\n");
        if !bad.starts_with(b"!!!") {
            assert_eq!(world.rules(), ["1 exact b.example sinkhole", "0 exact new.example sinkhole"]);
            assert!(world.compile().report.lists[1].kept_because.is_some());
        }
    }
    fs::remove_file(world.folder.path().join("b")).unwrap();
    assert!(world.rules().contains(&"1 exact b.example sinkhole".to_owned()));
    world.list("b", Format::Domains, "c.example\n");
    let compiled = world.compile();
    assert_eq!(compiled.report.lists[1].kept_because, None);
    assert_eq!(rules(compiled.path()), ["1 exact c.example sinkhole", "0 exact new.example sinkhole"]);
}

#[test]
fn a_bad_list_without_a_good_copy_stops_the_compilation() {
    let mut world = World::new();
    world.list("a", Format::Auto, "<!doctype html>");
    let error = world.try_compile(GuardMode::Enforce).unwrap_err().to_string();
    assert!(error.starts_with("list a: ") && error.contains("web page"), "{error}");
    world.settings.lists[0].source = Source::File("/nonexistent".into());
    assert!(matches!(world.try_compile(GuardMode::Enforce), Err(CompileError::List { .. })));
}

#[test]
fn a_list_that_shrinks_or_grows_beyond_measure_is_held_up() {
    let mut world = World::new();
    world.settings.guards = Guards { min_entries: 10, max_growth_percent: Some(200), min_size_percent: Some(50) };
    let names = |count: usize| (0..count).map(|number| format!("h{number}.example\n")).collect::<String>();
    world.list("a", Format::Domains, names(100));
    world.publish();
    for (count, passes) in [(50, true), (49, false), (200, true), (201, false)] {
        world.list("a", Format::Domains, names(count));
        let held_up = matches!(world.try_compile(GuardMode::Enforce), Err(CompileError::Guard(_)));
        assert_eq!(held_up, !passes, "{count}");
        assert!(world.try_compile(GuardMode::Waive).is_ok());
    }
}

#[test]
fn rules_about_protected_names_are_reported() {
    let mut world = World::new();
    world.settings.protected = vec!["gov.example".parse().unwrap()];
    let text = "||example.example^\n||www.gov.example^\n|gov.example^\n@@||a.gov.example^\n||bgov.example^\n";
    world.list("a", Format::Adblock, text);
    let report = world.compile().report;
    assert_eq!(
        (report.protected_conflicts, &report.first_protected[..]),
        (2, &["gov.example".into(), "www.gov.example".into()][..])
    );
    world.list("a", Format::Adblock, "||example^\n").allow_suffix = true;
    assert_eq!(world.compile().report.first_protected, ["example"]);
    world.settings.lists[0].shadow = true;
    assert_eq!(world.compile().report.protected_conflicts, 0);
}

#[test]
fn an_unchanged_list_is_known_without_reading_it() {
    let mut world = World::new();
    world.list("a", Format::Domains, "a.example\n");
    assert_eq!(world.store.unchanged(&world.settings), None);
    let path = world.publish();
    assert_eq!(world.store.unchanged(&world.settings), Some(path));
    world.settings.lists[0].priority = 1;
    assert_eq!(world.store.unchanged(&world.settings), None, "other settings");
    world.settings.lists[0].priority = 0;
    world.list("a", Format::Domains, "b.example\n");
    assert_eq!(world.store.unchanged(&world.settings), None, "another file of the same length");
}

#[test]
fn generations_are_published_rolled_back_and_forgotten() {
    let mut world = World::new();
    world.settings.keep = 2;
    let mut published = Vec::new();
    for name in ["a", "b", "c"] {
        world.list("a", Format::Domains, format!("{name}.example\n"));
        published.push(world.publish());
    }
    assert_eq!(world.store.current().as_ref(), Some(&published[2]));
    assert_eq!(world.store.generations().len(), 2);
    assert!(!published[0].exists());
    assert_eq!(world.store.rollback(None, NOW).unwrap().path(), published[1]);
    assert_eq!(rules(&world.store.current().unwrap()), ["0 exact b.example sinkhole"]);
    // It stays through a restart, until a list changes.
    assert_eq!(world.store.unchanged(&world.settings).as_ref(), Some(&published[1]));
    let id = published[2].file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(world.store.rollback(Some(&id[..8]), NOW).unwrap().path(), published[2]);
    assert!(world.store.rollback(Some("zz"), NOW).is_err());
}

#[test]
fn nobody_is_rolled_back_to_a_generation_that_cannot_be_served() {
    let mut world = World::new();
    let mut publish = |name: &str| {
        world.list("a", Format::Domains, format!("{name}.example\n"));
        world.publish()
    };
    let (old, new) = (publish("a"), publish("b"));
    // As one that an earlier release made, of another format.
    let mut octets = fs::read(&old).unwrap();
    octets[8] ^= 1;
    fs::remove_file(&old).unwrap();
    fs::write(&old, octets).unwrap();

    let before = world.store.generations();
    let refusal = world.store.rollback(None, NOW).unwrap_err().to_string();
    assert!(refusal.contains("compile the lists again"), "{refusal}");
    assert_eq!(world.store.current(), Some(new));
    assert_eq!(world.store.generations(), before);
}

#[test]
fn nothing_is_left_behind_by_a_compilation_that_nobody_publishes() {
    let mut world = World::new();
    world.list("a", Format::Domains, "a.example\n");
    drop(world.compile());
    assert_eq!(fs::read_dir(world.store.folder()).unwrap().count(), 0);
}

#[test]
fn without_a_store_files_are_read_in_place() {
    let mut world = World::new();
    world.list("a", Format::Domains, "a.example\n");
    let folder = tempfile::tempdir().unwrap();
    let compiled =
        compile(&world.settings, None, folder.path(), Freshness::Refresh, GuardMode::Enforce, NOW, &mut |_| ())
            .unwrap();
    assert_eq!(rules(compiled.path()), ["0 exact a.example sinkhole"]);
    assert!(!world.store.state().join("lists").exists());
}

#[test]
fn the_lists_that_are_shipped_are_without_an_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("blocklists");
    let mut world = World::new();
    for name in ["kz.jsonl", "foreign.txt"] {
        let source = Source::parse(name, &folder).unwrap();
        world
            .settings
            .lists
            .push(ListSettings { match_scope: list::MatchScope::Subdomains, ..ListSettings::new(name, source) });
    }
    let compiled = world.compile();
    let [kz, foreign] = &compiled.report.lists[..] else { panic!() };
    assert_eq!((kz.reading.format, foreign.reading.format), (Format::Jsonl, Format::Adblock));
    assert_eq!((kz.reading.errors(), kz.reading.rules), (0, 30), "{:?}", kz.reading.first);
    assert_eq!(foreign.reading.errors(), 0, "{:?}", foreign.reading.first);
    assert_eq!((foreign.reading.refused(Reason::Cosmetic), foreign.reading.refused(Reason::BrowserOnly)), (1, 1));
    assert!(rules(compiled.path()).iter().all(|rule| !rule.contains("mistake")));
}

#[test]
fn the_catalogue_names_lists_that_can_be_configured() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("blocklists/catalog.toml");
    let catalogue: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let lists = catalogue["catalog"].as_array().unwrap();
    assert!(lists.len() >= 10);
    for list in lists {
        let text = |key: &str| list[key].as_str().unwrap_or_else(|| panic!("{list}: {key}"));
        assert!(matches!(Source::parse(text("url"), Path::new("/")), Ok(Source::Url(_))), "{list}");
        assert!(text("format").parse::<Format>().is_ok(), "{list}");
        assert!(["exact", "subdomains", "-"].contains(&text("match")), "{list}");
        assert!(!text("licence").is_empty() && text("homepage").starts_with("https://"), "{list}");
    }
}

#[test]
fn a_list_from_the_web_is_served_from_its_copy_when_the_server_is_away() {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/list", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for body in ["a.example\n", "b.example\n"] {
            let (stream, _) = listener.accept().unwrap();
            let _ = BufReader::new(&stream)
                .lines()
                .take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
                .count();
            let length = body.len();
            write!(&stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    let mut world = World::new();
    world.settings.lists.push(ListSettings::new("web", Source::Url(url)));
    assert_eq!(world.rules(), ["0 exact a.example sinkhole"]);
    let cached = compile(
        &world.settings,
        Some(&world.store),
        world.store.folder(),
        Freshness::Cached,
        GuardMode::Enforce,
        NOW,
        &mut |_| (),
    );
    assert_eq!(rules(cached.unwrap().path()), ["0 exact a.example sinkhole"], "no request");
    world.publish();
    assert!(world.store.unchanged(&world.settings).is_some(), "the download is the one that was compiled");
    server.join().unwrap();
    let compiled = world.compile();
    assert_eq!(rules(compiled.path()), ["0 exact b.example sinkhole"]);
    assert!(compiled.report.lists[0].kept_because.is_some());
}
