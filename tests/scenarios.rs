//! Conversations between clients, the resolver and name servers, from the
//! first byte of a query to the last of its reply.
//!
//! Plays the project's own scenarios in `tests/scenarios/`, and those in the
//! folders that `QALQAN_SCENARIOS` names, separated by colons. The format is
//! that of Unbound's testbound and of CZ.NIC's Deckard; see
//! [`scenario::script`].
//!
//! ```text
//! QALQAN_SCENARIOS=../conformance/deckard cargo test --test scenarios
//! QALQAN_SCENARIO=iter_lame QALQAN_TRACE=1 cargo test --test scenarios    one of them, with all that is said
//! ```
//!
//! A scenario that fails and is not listed in `tests/scenarios/known-failures.txt`
//! fails the test; so does one that is listed and does not fail.

mod scenario;

use std::env;
use std::path::PathBuf;

use scenario::report;

#[test]
fn scenarios_go_as_written() {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let known = std::fs::read_to_string(own.join("known-failures.txt")).unwrap_or_default();
    let others = env::var("QALQAN_SCENARIOS").unwrap_or_default();
    let filter = env::var("QALQAN_SCENARIO").unwrap_or_default();
    let trace = env::var_os("QALQAN_TRACE").is_some();

    let folders = std::iter::once(own).chain(others.split(':').filter(|path| !path.is_empty()).map(PathBuf::from));
    let played: Vec<_> = folders
        .map(|folder| {
            report::play_folder(&folder, &filter, trace).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        })
        .collect();
    report::say(&report::table(&played));

    let complaints = report::complaints(&played, &report::known_failures(&known));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
