//! Holds `use crate::` to the map in `src/lib.rs`.
//!
//! A blank line in the map divides it into groups. A module may use what stands
//! in a group above its own, and its neighbours in its group as long as they do
//! not use it back. What knows the configuration stands below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every module of the map with the number of its group.
fn map() -> BTreeMap<String, usize> {
    let text = fs::read_to_string("src/lib.rs").unwrap();
    let mut group = 0;
    let mut modules = BTreeMap::new();
    for line in text.lines() {
        if line.is_empty() {
            group += 1;
        }
        if let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            modules.insert(name.to_owned(), group);
        }
    }
    assert!(modules.len() > 15, "the map has not been read: {modules:?}");
    modules
}

/// The source files of a module.
fn files(module: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let file = PathBuf::from(format!("src/{module}.rs"));
    let folder = PathBuf::from(format!("src/{module}"));
    let mut found = Vec::new();
    if file.exists() {
        found.push(file);
    }
    if folder.exists() {
        walk(&folder, &mut found);
    }
    assert!(!found.is_empty(), "{module} has no files");
    found
}

/// Code without comments and without what stands in test modules at the foot of files.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules that the code names behind `crate::`, also in `use crate::{a, b::c}`.
fn uses(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            found.insert(word(after));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    found.insert(word(&list[start..at]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.insert(word(&list[start..at]));
                    start = at + 1;
                }
                _ => {}
            }
        }
    }
    found.remove("");
    found
}

#[test]
fn dependencies_point_down_the_map() {
    let map = map();
    let mut graph: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for module in map.keys() {
        let used = files(module).into_iter().flat_map(|file| uses(&code(&file))).filter(|used| map.contains_key(used));
        graph.insert(module, used.filter(|used| used != module).collect());
    }

    let mut faults = Vec::new();
    for (module, used) in &graph {
        for other in used {
            let (mine, theirs) = (map[*module], map[other]);
            if theirs > mine {
                faults.push(format!("{module} uses {other}, which stands below it in src/lib.rs"));
            }
            if theirs == mine && graph[other.as_str()].contains(*module) {
                faults.push(format!("{module} and {other} use each other"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_of_the_library_is_on_the_map() {
    let map = map();
    for entry in fs::read_dir("src").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            ["lib", "main"].contains(&&*name) || map.contains_key(&name),
            "{} is not in src/lib.rs",
            path.display()
        );
    }
}

#[test]
fn hickory_is_named_in_the_resolver_only() {
    for module in map().keys().filter(|module| *module != "recursor") {
        for file in files(module) {
            assert!(!code(&file).contains("hickory_"), "{} names hickory's types", file.display());
        }
    }
}

#[test]
fn unsafe_code_stands_in_two_files() {
    let mut found = BTreeSet::new();
    for module in map().keys() {
        for file in files(module) {
            if code(&file).contains("allow(unsafe_code") {
                found.insert(file.to_string_lossy().into_owned());
            }
        }
    }
    assert_eq!(found, BTreeSet::from(["src/front/batch.rs".to_owned(), "src/snapshot/map.rs".to_owned()]));
}

#[test]
fn the_top_level_is_as_agreed() {
    let known = ["Cargo.toml", "Cargo.lock", "CHANGELOG.md", "LICENSE", "README.md"];
    let folders = ["benches", "blocklists", "deploy", "src", "target", "tests"];
    for entry in fs::read_dir(".").unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            name.starts_with('.') || known.contains(&&*name) || folders.contains(&&*name),
            "{name} has no place at the top level"
        );
    }
}

#[test]
fn uses_are_found_however_they_are_written() {
    let code = "use crate::a::B;\nuse crate::{c, d::{self, E}, f::G};\nfn h(x: crate::i::J) {}";
    assert_eq!(uses(code), ["a", "c", "d", "f", "i"].map(str::to_owned).into());
}
