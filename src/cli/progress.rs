//! A bar for people who wait for a compilation.

use std::io::{self, IsTerminal};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::compile::Progress;

/// What is done sooner than this needs no bar.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);

/// Shows progress on standard error when that is a terminal.
pub(super) fn bar() -> Box<dyn FnMut(Progress<'_>)> {
    if !io::stderr().is_terminal() {
        return Box::new(|_| {});
    }
    let start = Instant::now();
    let mut shown: Option<ProgressBar> = None;
    Box::new(move |progress| {
        if start.elapsed() < PATIENCE {
            return;
        }
        let bar = shown.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg:24} {wide_bar} {percent:>3}% {eta:>4}");
            ProgressBar::new(0).with_style(style.expect("a constant template")).with_message("lists")
        });
        let (message, done, total) = match progress {
            Progress::Reading { list, done, total } => (format!("reading {list}"), done, total),
            Progress::Writing { done, total } => ("writing".to_owned(), done, total),
        };
        bar.set_message(message);
        bar.set_length(total.max(done));
        bar.set_position(done);
    })
}
