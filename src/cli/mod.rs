//! The commands: what the words on the command line do, and with which exit code.

mod lists;
mod progress;
mod remote;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compile::Freshness;
use crate::config::{Config, ConfigError};
use crate::control::client::CallError;
use crate::daemon::{self, Cause, ServeError};
use crate::list::{Format, MatchScope};
use crate::name::{self, DomainName, NameError};
use crate::policy::OverrideKind;
use crate::query::RecordType;

/// Writes a line to standard output. A reader that has gone away, as head(1) does, is no fault of ours.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($words)*);
    }};
}

/// Writes a line to standard error. Where nobody can take it down, the exit code still says how it ended.
macro_rules! tell {
    ($($words:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

use {say, tell};

/// It failed.
const FAILED: u8 = 1;
/// The usage or the configuration is wrong.
const WRONG: u8 = 2;
/// A guard has refused.
const REFUSED: u8 = 3;

/// A DNS resolver that enforces block lists and can answer for them.
///
/// Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 3 refused by a guard.
#[derive(Debug, Parser)]
#[command(name = "qalqan", version, max_term_width = 100)]
struct Cli {
    /// The configuration file; without one, the defaults and the lists in blocklists/
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer queries, until SIGTERM; SIGHUP reloads configuration and lists
    Serve {
        /// Start even if there are no lists to be had, and block nothing
        #[arg(long)]
        allow_unfiltered: bool,
    },
    /// Compile the lists into a generation and print the report; nothing that runs is touched
    Compile {
        /// Write the generation to FILE instead of the state folder
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Print the report in this form
        #[arg(long, value_name = "FORM")]
        stats: Option<StatsForm>,
        /// Compile although the lists have grown or shrunk beyond the guards: somebody has looked at them
        #[arg(long)]
        waive_guards: bool,
    },
    /// Compile and publish for the server that has started this process, and tell it the outcome
    #[command(hide = true)]
    Rebuild {
        /// Ask URLs whether they have changed
        #[arg(long)]
        refresh: bool,
        /// Keep to a rollback unless a list has changed
        #[arg(long)]
        noticed: bool,
    },
    /// Check the configuration and the lists; errors by key and by file:line
    Check {
        /// Fail when a single line of a list is wrong
        #[arg(long)]
        strict: bool,
    },
    /// Show all that is known about a name: every rule that matches, which one decides, and why
    Explain {
        /// The name
        #[arg(value_parser = read_name)]
        name: DomainName,
        /// The query type
        #[arg(short = 't', long = "type", default_value = "A", value_name = "TYPE")]
        qtype: RecordType,
        /// Also ask the world, with nothing in the cache, and show each query on the way
        #[arg(long)]
        resolve: bool,
        /// The client that asks
        #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
        client: IpAddr,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare two generations: the names that came, went, or changed
    Diff {
        /// A file, or the first digits of a generation in the state folder
        old: String,
        /// Another
        new: String,
        /// Print JSON, one change a line
        #[arg(long)]
        json: bool,
    },
    /// Show how the running server stands
    Status {
        #[command(flatten)]
        server: Server,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the running server read its configuration and lists again
    Reload {
        #[command(flatten)]
        server: Server,
    },
    /// Put an earlier generation in force
    Rollback {
        /// The first digits of the generation; the one before without it
        generation: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Make the running server forget what its cache has of a name
    Flush {
        /// The name
        #[arg(value_parser = read_name)]
        name: DomainName,
        /// Also everything below it
        #[arg(long)]
        below: bool,
        #[command(flatten)]
        server: Server,
    },
    /// Let a name and all below it pass for a while, whatever the lists say
    Allow(OverrideArgs),
    /// Block a name and all below it for a while
    Block(OverrideArgs),
    /// Write a list in another syntax, and say what that has lost
    Convert {
        /// The syntax to read: auto domains wildcard hosts adblock dnsmasq unbound rpz csv jsonl
        #[arg(long, value_name = "FORMAT")]
        from: Format,
        /// The syntax to write
        #[arg(long, value_name = "FORMAT")]
        to: Format,
        /// What a bare name means, here and there
        #[arg(long = "match", value_name = "SCOPE", default_value = "exact")]
        match_scope: Match,
        /// The list; standard input without it
        file: Option<PathBuf>,
    },
    /// List the run-time overrides, or remove one
    Overrides {
        /// Take out what was decided about this name
        #[arg(long, value_name = "NAME", value_parser = read_name)]
        remove: Option<DomainName>,
        #[command(flatten)]
        server: Server,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct OverrideArgs {
    /// The name; all below it is meant too
    #[arg(value_parser = read_name)]
    name: DomainName,
    /// For how long: 30m, 2h, 7d
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Why; those who come after will ask
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so; the account that calls without it
    #[arg(long, value_name = "WHO")]
    author: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Which server is called.
#[derive(Debug, Args)]
struct Server {
    /// The server's control address, when it is not the configuration's
    #[arg(long, value_name = "ADDRESS")]
    control: Option<SocketAddr>,
}

/// What a bare name in a list means.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Match {
    /// That name
    Exact,
    /// That name and every name below it
    Subdomains,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StatsForm {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Why a command did not do what it was told to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Serve(#[from] daemon::ServeError),
    #[error(transparent)]
    Lists(#[from] lists::CommandError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("control.listen: port 0 is another one at each start; name the server that is meant with --control")]
    NoPort,
    #[error("done, but not all is well: {0}")]
    Warnings(String),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::NoPort => WRONG,
            Self::Lists(error) if error.is_usage() => WRONG,
            Self::Lists(error) if error.is_refused() => REFUSED,
            Self::Call(error) if error.is_refused() => REFUSED,
            Self::Call(error) if error.is_usage() => WRONG,
            _ => FAILED,
        }
    }
}

/// A name as people write it, in their own script too.
fn read_name(text: &str) -> Result<DomainName, NameError> {
    name::to_ascii(text)?.parse()
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match cli.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell!("qalqan: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

impl Cli {
    fn execute(self) -> Result<(), Failure> {
        let config = || Config::load(self.config.as_deref());
        let client = |server: &Server| remote::client(server.control, self.config.as_deref());
        match self.command {
            Command::Serve { allow_unfiltered } => Ok(daemon::serve(config()?, daemon::Options { allow_unfiltered })?),
            Command::Compile { output, stats, waive_guards } => {
                Ok(lists::compile(&config()?, output.as_deref(), matches!(stats, Some(StatsForm::Json)), waive_guards)?)
            }
            Command::Rebuild { refresh, noticed } => {
                let freshness = if refresh { Freshness::Refresh } else { Freshness::Cached };
                let cause = if noticed { Cause::Noticed } else { Cause::Asked };
                let done = daemon::rebuild_for_server(&config()?, freshness, cause, &mut *progress::bar());
                say!("{}", done.map_err(ServeError::State)?);
                Ok(())
            }
            Command::Check { strict } => Ok(lists::check(&config()?, strict)?),
            Command::Explain { name, qtype, resolve, client, json } => {
                Ok(lists::explain(&config()?, &name, qtype, client, resolve, json)?)
            }
            Command::Diff { old, new, json } => Ok(lists::diff(config, &old, &new, json)?),
            Command::Convert { from, to, match_scope, file } => {
                let match_scope = match match_scope {
                    Match::Exact => MatchScope::Exact,
                    Match::Subdomains => MatchScope::Subdomains,
                };
                Ok(lists::convert(from, to, match_scope, file.as_deref())?)
            }
            Command::Status { server, json } => remote::status(&client(&server)?, json),
            Command::Reload { server } => remote::reload(&client(&server)?),
            Command::Rollback { generation, server } => remote::rollback(&client(&server)?, generation),
            Command::Flush { name, below, server } => remote::flush(&client(&server)?, name, below),
            Command::Allow(args) => remote::decide(&client(&args.server)?, OverrideKind::Allow, args),
            Command::Block(args) => remote::decide(&client(&args.server)?, OverrideKind::Block, args),
            Command::Overrides { remove, server, json } => remote::overrides(&client(&server)?, remove, json),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
