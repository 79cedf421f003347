//! The `qalqan` command; see [`qalqan::cli`].

fn main() {}
