//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot read the configuration: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no TOML, or says something that does not make sense; all that was found.
    #[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Fault>),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file; none for the built-in configuration.
    pub file: Option<PathBuf>,
    /// The line, from 1, where it could be found.
    pub line: Option<usize>,
    /// The key as one would write it, such as `list[2].format`; empty for what has no key.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// `qalqan.toml:7: list[2].format: …`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration as text, to say where in it something stands.
pub(super) struct Document<'t> {
    file: Option<&'t Path>,
    text: &'t str,
}

impl<'t> Document<'t> {
    pub(super) fn new(file: Option<&'t Path>, text: &'t str) -> Self {
        Self { file, text }
    }

    /// The file; none for the built-in configuration.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file
    }

    /// A fault of the value under `key`.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        let line = DeTable::parse(self.text).ok().and_then(|table| {
            let mut found = None;
            walk(table.get_ref(), "", &mut |path, span| {
                // The key itself, or the table that ought to have it.
                if path == key || found.is_none() && key.starts_with(path) && key[path.len()..].starts_with(['.', '['])
                {
                    found = Some(self.line(span.start));
                }
            });
            found
        });
        Fault { file: self.file.map(Path::to_owned), line, key: key.to_owned(), message: message.into() }
    }

    /// A fault that the TOML reader has found.
    pub(super) fn fault_of(&self, error: &toml::de::Error) -> Fault {
        let mut key = String::new();
        if let (Some(at), Ok(table)) = (error.span(), DeTable::parse(self.text)) {
            // The deepest that holds the place; children come after their parents.
            walk(table.get_ref(), "", &mut |path, span| {
                if span.start <= at.start && at.end <= span.end {
                    path.clone_into(&mut key);
                }
            });
        }
        let mut message = error.message().replace('\n', ", ");
        if let Some((_, known)) =
            message.split_once(", expected one of ").filter(|_| message.starts_with("unknown field"))
        {
            message = format!("there is no such key; the keys here are {known}");
        }
        if let Some((wrong, expected)) = message.rsplit_once(", expected ") {
            message = format!("{wrong}, expected {}", for_people(expected));
        } else if message == "invalid socket address syntax" {
            message += "; write an address and a port, such as \"127.0.0.1:5300\" or \"[::1]:5300\"";
        }
        let line = error.span().map(|span| self.line(span.start));
        Fault { file: self.file.map(Path::to_owned), line, key, message }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|&&octet| octet == b'\n').count()
    }
}

/// What a value should be, when the reader calls it by a type of the programming language.
fn for_people(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "usize" | "u32" | "u64" => "a whole number that is not negative",
        "i32" => "a whole number",
        "a sequence" => "a list in brackets, such as [\"...\"]",
        table if table.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Tells `visit` the path and place of each key and each value, parents first.
fn walk(table: &DeTable<'_>, above: &str, visit: &mut impl FnMut(&str, Range<usize>)) {
    for (key, value) in table {
        let path = match above {
            "" => key.get_ref().to_string(),
            above => format!("{above}.{}", key.get_ref()),
        };
        visit(&path, key.span());
        walk_value(value, &path, visit);
    }
}

fn walk_value(value: &toml::Spanned<DeValue<'_>>, path: &str, visit: &mut impl FnMut(&str, Range<usize>)) {
    visit(path, value.span());
    match value.get_ref() {
        DeValue::Table(table) => walk(table, path, visit),
        DeValue::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                walk_value(value, &format!("{path}[{index}]"), visit);
            }
        }
        _ => {}
    }
}
