//! CSV (RFC 4180) with a header row; [`Row`] says what the columns mean.

use super::dossier::Row;
use super::{Context, Parser};
use crate::list::text::is_comment;
use crate::list::{MAX_LINE_LEN, Reason};

pub(super) struct Csv {
    delimiter: u8,
    columns: Option<Vec<String>>,
    /// A record whose quotation mark is still open.
    open: Vec<u8>,
}

impl Csv {
    pub(super) fn new(delimiter: u8) -> Self {
        Self { delimiter, columns: None, open: Vec::new() }
    }

    fn record(&mut self, record: &[u8], context: &mut Context<'_>) {
        let fields = match split_record(record, self.delimiter) {
            Ok(fields) => fields,
            Err(detail) => return context.refuse(record, Reason::Malformed, || detail.to_owned()),
        };
        let Ok(fields) = fields.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>() else {
            return context.refuse(record, Reason::NotUtf8, || "write the file in UTF-8".into());
        };
        let Some(columns) = &self.columns else {
            let columns: Vec<String> = fields.iter().map(|field| field.trim().to_ascii_lowercase()).collect();
            let twice = columns.iter().enumerate().find(|(at, column)| columns[..*at].contains(column));
            context.unusable = match twice {
                Some((_, column)) => Some(format!("the column {column:?} is there twice")),
                None if !columns.iter().any(|column| column == "domain") => {
                    Some("the header row has no column \"domain\"; is csv-delimiter right?".into())
                }
                None => None,
            };
            self.columns = Some(columns);
            return;
        };
        if fields.len() != columns.len() {
            let (found, expected) = (fields.len(), columns.len());
            return context.refuse(record, Reason::Malformed, || format!("{found} fields, but {expected} columns"));
        }
        let mut row = Row::default();
        for (column, field) in columns.iter().zip(&fields) {
            if let Err((reason, detail)) = row.set(column, field, context) {
                return context.refuse(record, reason, || detail);
            }
        }
        row.finish(record, context);
    }
}

impl Parser for Csv {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        if self.open.is_empty() {
            if line.trim_ascii().is_empty() || is_comment(line) {
                return;
            }
            if is_whole(line) {
                return self.record(line, context);
            }
        } else {
            self.open.push(b'\n');
        }
        self.open.extend_from_slice(line);
        if is_whole(&self.open) {
            let record = std::mem::take(&mut self.open);
            self.record(&record, context);
        } else if self.open.len() > MAX_LINE_LEN {
            context.refuse(&self.open, Reason::TooLong, || "a quotation mark is not closed within 64 KiB".into());
            self.open.clear();
        }
    }

    fn end(&mut self, context: &mut Context<'_>) {
        if !self.open.is_empty() {
            context.refuse(&self.open, Reason::Malformed, || "a quotation mark is not closed".into());
        }
    }
}

/// Whether every quotation mark is closed: doubled ones count twice and change nothing.
fn is_whole(record: &[u8]) -> bool {
    record.iter().filter(|&&octet| octet == b'"').count() % 2 == 0
}

pub(super) fn split_record(record: &[u8], delimiter: u8) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let mut field = Vec::new();
        if let Some(mut quoted) = rest.strip_prefix(b"\"") {
            loop {
                let end = quoted.iter().position(|&octet| octet == b'"').ok_or("a quotation mark is not closed")?;
                field.extend_from_slice(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix(b"\"") {
                    Some(more) => {
                        field.push(b'"');
                        quoted = more;
                    }
                    None => break,
                }
            }
            if !quoted.is_empty() && quoted[0] != delimiter {
                return Err("something stands behind a closed quotation mark");
            }
            rest = quoted;
        } else {
            let end = rest.iter().position(|&octet| octet == delimiter).unwrap_or(rest.len());
            field.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        fields.push(field);
        match rest.split_first() {
            Some((_, more)) => rest = more,
            None => return Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entries, fails, read, refused};
    use super::*;
    use crate::list::Format;

    #[test]
    fn the_header_row_names_the_columns() {
        let text = "domain,match,action,qtypes\na.example,,,\n*.b.example,exact,nxdomain,A|AAAA\nc.example,subdomains,cname garden.example,\n";
        assert_eq!(
            read(Format::Csv, text, |_| ()),
            ["exact a.example", "exact b.example nxdomain only [A, AAAA]", "subdomains c.example cname garden.example"]
        );
        assert_eq!(
            read(Format::Csv, "domain;match\na.example;below", |list| list.csv_delimiter = b';'),
            ["below a.example"]
        );
    }

    #[test]
    fn a_row_carries_a_dossier() {
        let text = "domain,order_id,reason,expires_at,register\na.example,7/2026,\"on \"\"two\"\"\nlines, quoted\",2026-12-31,x9\n";
        let dossier = entries(Format::Csv, text).remove(0).rule.dossier.unwrap();
        assert_eq!(dossier.order_id.as_deref(), Some("7/2026"));
        assert_eq!(dossier.reason.as_deref(), Some("on \"two\"\nlines, quoted"));
        assert_eq!(dossier.expires_at, Some(1_798_761_600));
        assert_eq!(dossier.extra["register"], "x9");
    }

    #[test]
    fn what_a_row_says_on_is_never_more_than_it_means() {
        let text = |row: &str| format!("domain,clients,priority,redact,order_id\n{row}\n");
        assert_eq!(refused(Format::Csv, &text("a.example,192.0.2.0/24,,,")), [Reason::Modifier]);
        assert_eq!(refused(Format::Csv, &text("a.example,,9,,")), [Reason::Modifier]);
        assert_eq!(refused(Format::Csv, &text("a.example,,0,maybe,")), [Reason::BadValue]);
        assert!(entries(Format::Csv, &text("a.example,,0,true,secret"))[0].rule.dossier.is_none());
    }

    #[test]
    fn broken_rows_are_refused_and_a_broken_header_is_the_end() {
        for (row, reason) in [
            ("a.example", Reason::Malformed),
            ("a.example,\"x", Reason::Malformed),
            ("\"a.example\"x,", Reason::Malformed),
            (",exact", Reason::BadValue),
            ("a.example,sometimes", Reason::BadValue),
            ("com,exact", Reason::PublicSuffix),
        ] {
            assert_eq!(refused(Format::Csv, &format!("domain,match\n{row}")), [reason], "{row}");
        }
        assert!(fails(Format::Csv, "name,match\na.example,exact\n").contains("\"domain\""));
        assert!(fails(Format::Csv, "domain,domain\n").contains("twice"));
    }
}
