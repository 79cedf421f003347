//! Runs what README.md shows, so that it stays true.

use std::process::Command;

use crate::server::{PATIENCE, Server, data, ede, exchange, query};

/// The blocks of README.md that are fenced as `kind`.
fn blocks(kind: &str) -> Vec<String> {
    let text = std::fs::read_to_string("README.md").unwrap();
    let fence = format!("```{kind}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// What follows `$ cargo run --release -- ` and its output, for each such command.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for block in blocks("console") {
        let mut lines = block.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(command) = line.strip_prefix("$ cargo run --release -- ") {
                let mut output = Vec::new();
                while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                    output.push(line.to_owned());
                }
                found.push((command.to_owned(), output));
            }
        }
    }
    found
}

/// The words of a shell command, quotes taken off.
fn words(command: &str) -> Vec<String> {
    command
        .split('"')
        .enumerate()
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_qalqan"))
}

/// A configuration with the lists that a start without one takes, on free ports.
fn configuration(folder: &std::path::Path) -> std::path::PathBuf {
    let lists = std::fs::canonicalize("blocklists").unwrap();
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nstate-dir = \"state\"\nlog = \"warn\"\n[control]\nlisten = \"127.0.0.1:0\"\n\
         [[list]]\nname = \"foreign\"\nsource = \"{lists}/foreign.txt\"\nmatch = \"subdomains\"\n\
         [[list]]\nname = \"kz\"\nsource = \"{lists}/kz.jsonl\"\nmatch = \"subdomains\"\n",
        lists = lists.display()
    );
    let path = folder.join("qalqan.toml");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_examples_of_the_readme_are_true() {
    let folder = tempfile::tempdir().unwrap();
    let config = configuration(folder.path());
    let mut serve = binary();
    serve.arg("serve").arg("-c").arg(&config);
    let server = Server::start(serve);

    // The answer that dig shows.
    let shown = blocks("text").concat();
    let query = query("www.kazino-mysal.kz", hickory_proto::rr::RecordType::A);
    let reply = exchange(server.dns, &query.to_vec().unwrap(), PATIENCE).unwrap();
    let answer = hickory_proto::op::Message::from_vec(&reply).unwrap();
    let (code, text) = ede(&answer).unwrap();
    assert!(shown.contains(&format!("EDE: {code} (Censored): ({text})")), "{code} {text}\n{shown}");
    let address = &data(&answer, hickory_proto::rr::RecordType::A)[0];
    assert!(shown.contains(&format!("www.kazino-mysal.kz.\t{}\tIN\tA\t{address}", answer.answers[0].ttl)), "{answer}");

    // The metric.
    let (_, page) = server.get("/metrics");
    let line = blocks("console")
        .concat()
        .lines()
        .find(|line| line.starts_with("qalqan_policy_hits_total"))
        .expect("a metric in the README")
        .to_owned();
    assert!(page.lines().any(|found| found == line), "{line}\n{page}");

    // The commands that are shown with their output.
    let mut ran = 0;
    for (command, shown) in commands().into_iter().filter(|(command, _)| command != "serve") {
        let mut run = binary();
        run.args(words(&command)).arg("-c").arg(&config);
        if command.starts_with("allow") {
            run.arg("--control").arg(server.control.to_string());
        }
        let output = run.output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in shown.iter().filter(|line| !line.is_empty()) {
            if line.starts_with("generation ") && text.contains("\ngeneration ") {
                // Its name tells where the lists stand, too.
                continue;
            }
            assert!(
                text.lines().any(|found| found.trim_end() == line || found.starts_with(&format!("{line} by "))),
                "{command} does not print {line:?} but\n{text}"
            );
        }
        ran += 1;
    }
    assert!(ran >= 2, "commands of the README were run");
}

#[test]
fn a_start_without_configuration_takes_the_lists_of_the_folder() {
    // In a folder of its own with a link to the lists: the ports are the contract's, and may be taken by another
    // server on this machine, which a test must bear.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(std::fs::canonicalize("blocklists").unwrap(), folder.path().join("blocklists")).unwrap();
    let run = binary()
        .args(["explain", "www.kazino-mysal.kz", "--json"])
        .current_dir(folder.path())
        .env("XDG_STATE_HOME", folder.path())
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    let found: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(found["verdict"], "block", "{found:#}");

    let empty = tempfile::tempdir().unwrap();
    let run = binary().arg("serve").current_dir(empty.path()).env("XDG_STATE_HOME", empty.path()).output().unwrap();
    assert_eq!(run.status.code(), Some(1), "{run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("--allow-unfiltered"), "{run:?}");
}

#[test]
fn the_table_of_the_readme_names_commands_that_there_are() {
    let text = std::fs::read_to_string("README.md").unwrap();
    let mut seen = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("| `qalqan ")) {
        let command = line.split([' ', '`']).next().unwrap();
        let help = binary().args([command, "--help"]).output().unwrap();
        assert!(help.status.success(), "{command}: {help:?}");
        seen += 1;
    }
    assert!(seen >= 8, "the table has been read");
}
