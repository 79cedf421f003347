//! Where log lines go: to standard error, as the configuration has them.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Server};

/// Starts logging. A second call in the same process changes nothing.
pub(super) fn start(server: &Server) {
    // The configuration has been checked; a filter that it accepted is one.
    let filter = EnvFilter::try_new(&server.log).unwrap_or_default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        // It would be said on standard error too, and whoever had something to log would panic.
        .log_internal_errors(false);
    let _ = match server.log_format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a fault in the program: {}", panic.payload_as_str().unwrap_or("no message"));
        default(panic);
    }));
}
