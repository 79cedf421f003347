//! Many scenarios at once, and a table of how they went.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::player::{self, Verdict};
use super::script;

/// All scenarios of one folder, played.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) folder: PathBuf,
    /// By name of the file.
    pub(crate) verdicts: BTreeMap<String, Verdict>,
}

/// Plays every scenario in `folder` whose name contains `filter`, on all cores.
///
/// With `trace`, prints all that was said.
pub(crate) fn play_folder(folder: &Path, filter: &str, trace: bool) -> std::io::Result<Played> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".rpl") && name.contains(filter) {
            files.push((name, path));
        }
    }
    files.sort();
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(BTreeMap::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((name, path)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let (verdict, said) = play_file(path);
                    let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
                    if trace {
                        say(&format!("---- {name}: {verdict:?} in {:?}\n{said}", start.elapsed()));
                    }
                    verdicts.insert(name.clone(), verdict);
                }
            });
        }
    });
    let verdicts = verdicts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Played { folder: folder.to_owned(), verdicts })
}

fn play_file(path: &Path) -> (Verdict, String) {
    let scenario = match script::load(path) {
        Ok(scenario) => scenario,
        Err(error) => return (Verdict::Fail(error.to_string()), String::new()),
    };
    // A panic in the resolver is the worst failure of one scenario, not the end of all.
    catch_unwind(AssertUnwindSafe(|| player::play(&scenario))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        (Verdict::Fail(format!("panic: {}", text.unwrap_or("without a text"))), String::new())
    })
}

/// The scenarios that are known to fail: one a line, `folder/file`, `#` begins a comment.
pub(crate) fn known_failures(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// A line for each scenario that did not pass, and the totals.
pub(crate) fn table(played: &[Played]) -> String {
    let mut text = String::new();
    let mut totals = [0; 3];
    for Played { folder, verdicts } in played {
        let mut counts = [0; 3];
        for (name, verdict) in verdicts {
            let (index, word, reason) = match verdict {
                Verdict::Pass => (0, "pass", ""),
                Verdict::Fail(reason) => (1, "FAIL", reason.as_str()),
                Verdict::Skip(reason) => (2, "skip", reason.as_str()),
            };
            counts[index] += 1;
            if index > 0 {
                let _ = writeln!(text, "{word}  {name:<52} {reason}");
            }
        }
        let _ = writeln!(text, "{}: {}", folder.display(), line_of(counts));
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }
    let _ = writeln!(text, "scenarios: {}", line_of(totals));
    text
}

fn line_of([passed, failed, skipped]: [usize; 3]) -> String {
    format!("{passed} passed, {failed} failed, {skipped} skipped of {}", passed + failed + skipped)
}

/// What is wrong: failures that are not on the list, and lines of the list that are out of date.
pub(crate) fn complaints(played: &[Played], known: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for Played { folder, verdicts } in played {
        let folder = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for (name, verdict) in verdicts {
            let key = format!("{folder}/{name}");
            match (verdict, known.contains(&key)) {
                (Verdict::Fail(reason), false) => complaints.push(format!("{key} fails: {reason}")),
                (Verdict::Pass | Verdict::Skip(_), true) => {
                    complaints.push(format!("{key} does not fail any more: remove its line from known-failures.txt"));
                }
                _ => {}
            }
        }
    }
    complaints
}

/// Prints past the test harness, which would keep the output of a test that passes.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played() -> Vec<Played> {
        let verdicts = [
            ("a.rpl", Verdict::Pass),
            ("b.rpl", Verdict::Fail("why".to_owned())),
            ("c.rpl", Verdict::Skip("not ours".to_owned())),
        ];
        let verdicts = verdicts.into_iter().map(|(name, verdict)| (name.to_owned(), verdict)).collect();
        vec![Played { folder: "x/y".into(), verdicts }]
    }

    #[test]
    fn the_list_of_known_failures_must_be_true() {
        for (list, expected) in [
            ("", vec!["y/b.rpl fails: why"]),
            ("y/b.rpl # a reason", vec![]),
            ("y/a.rpl\ny/b.rpl\n", vec!["y/a.rpl does not fail any more: remove its line from known-failures.txt"]),
        ] {
            assert_eq!(complaints(&played(), &known_failures(list)), expected, "{list:?}");
        }
    }

    #[test]
    fn the_table_shows_what_did_not_pass_and_counts() {
        let table = table(&played());
        assert!(!table.contains("a.rpl"));
        assert!(table.contains("FAIL  b.rpl") && table.contains("not ours"));
        assert!(table.ends_with("scenarios: 1 passed, 1 failed, 1 skipped of 3\n"), "{table}");
    }
}
