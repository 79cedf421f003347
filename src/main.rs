//! The `qalqan` command; see [`qalqan::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    qalqan::cli::run()
}
