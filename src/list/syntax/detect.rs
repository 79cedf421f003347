//! Finds out in which syntax a list is written.

use super::names::is_address;
use crate::list::Format;
use crate::list::text::{is_comment, without_comment, words};

/// The syntax that the first lines are written in.
///
/// A structured file shows itself in its first line or in most of them. Among
/// the plain ones, a richer syntax reads what a poorer one has: one rule of an
/// ad blocker makes a list of names an ad-block list, one `*.` a wildcard list.
pub fn detect(head: &[u8]) -> Format {
    let lines = || head.split(|&octet| octet == b'\n' || octet == b'\r').map(<[u8]>::trim_ascii);
    let adblock_header = |line: &[u8]| line.starts_with(b"[Adblock") || line.starts_with(b"[uBlock");
    if lines().find(|line| !line.is_empty()).is_some_and(adblock_header) {
        return Format::Adblock;
    }
    let mut counts = [0_usize; Format::ALL.len()];
    let mut first = true;
    for line in lines().filter(|line| !line.is_empty() && (!is_comment(line) || line.starts_with(b"##"))) {
        if first && is_csv_header(line) {
            return Format::Csv;
        }
        first = false;
        if let Some(format) = of_line(line) {
            counts[format as usize] += 1;
        }
    }
    let count = |format: Format| counts[format as usize];
    let structured = [Format::Jsonl, Format::Unbound, Format::Dnsmasq, Format::Rpz];
    let plain = [Format::Adblock, Format::Hosts, Format::Wildcard, Format::Domains];
    let plain_lines: usize = plain.map(count).into_iter().sum();
    if let Some(format) = structured.into_iter().rev().max_by_key(|&format| count(format))
        && count(format) > 0
        && count(format) >= plain_lines
    {
        return format;
    }
    match () {
        () if count(Format::Adblock) > 0 => Format::Adblock,
        () if count(Format::Hosts) > 0 && count(Format::Hosts) >= count(Format::Wildcard) + count(Format::Domains) => {
            Format::Hosts
        }
        () if count(Format::Wildcard) > 0 => Format::Wildcard,
        () if count(Format::Hosts) > count(Format::Domains) => Format::Hosts,
        () => Format::Domains,
    }
}

fn of_line(line: &[u8]) -> Option<Format> {
    let line = without_comment(line);
    let first = words(line).next()?;
    let second = words(line).nth(1);
    let starts = |starts: &[&[u8]]| starts.iter().any(|start| line.starts_with(start));
    Some(match () {
        () if starts(&[b"{"]) => Format::Jsonl,
        () if starts(&[b"local-zone:", b"local-data:", b"server:"]) => Format::Unbound,
        () if starts(&[b"address=", b"server=", b"local=", b"--address=", b"--server=", b"--local="]) => {
            Format::Dnsmasq
        }
        () if starts(&[b"$TTL", b"$ORIGIN", b"$GENERATE", b"$INCLUDE", b"@ ", b"@\t"]) || has_record(line) => {
            Format::Rpz
        }
        () if starts(&[b"||", b"@@", b"|", b"##"]) || line.contains(&b'^') => Format::Adblock,
        () if is_cosmetic(line) => Format::Adblock,
        () if is_address(first) && second.is_some_and(|second| !second.starts_with(b"#")) => Format::Hosts,
        () if starts(&[b"*.", b".", b"="]) => Format::Wildcard,
        () if first.contains(&b'.') => Format::Domains,
        () => return None,
    })
}

fn is_cosmetic(line: &[u8]) -> bool {
    let marked = [&b"##"[..], b"#@#", b"#?#", b"#%#", b"#$#"];
    marked.iter().any(|marker| line.windows(marker.len()).any(|window| window == *marker)) && !line.contains(&b' ')
}

/// Whether the second to fourth word is a record type that policy zones are made of.
fn has_record(line: &[u8]) -> bool {
    words(line)
        .skip(1)
        .take(3)
        .any(|word| [&b"CNAME"[..], b"SOA", b"TXT", b"A", b"AAAA"].iter().any(|rtype| word.eq_ignore_ascii_case(rtype)))
        && !words(line).next().is_some_and(|word| is_address(word) || word.ends_with(b":"))
}

fn is_csv_header(line: &[u8]) -> bool {
    let mut columns = line.split(|octet| b",;\t".contains(octet)).map(|column| column.trim_ascii());
    columns.any(|column| column.eq_ignore_ascii_case(b"domain") || column.eq_ignore_ascii_case(b"\"domain\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_syntax_is_known_by_its_lines() {
        for (text, format) in [
            ("", Format::Domains),
            ("# only a comment\n", Format::Domains),
            ("a.example\nb.example\n", Format::Domains),
            ("# Syntax: Domains Wildcard\n*.a.example\n", Format::Wildcard),
            ("a.example # a comment\n", Format::Domains),
            ("a.example\n*.b.example\n", Format::Wildcard),
            ("# c\n127.0.0.1 localhost\n0.0.0.0 a.example\n", Format::Hosts),
            ("[Adblock Plus 2.0]\na.example\n", Format::Adblock),
            ("! c\n||a.example^\n", Format::Adblock),
            ("a.example\n@@||b.example^\n", Format::Adblock),
            ("0.0.0.0 a.example\n||b.example^$important\n", Format::Adblock),
            ("example.org##.ad\n", Format::Adblock),
            ("address=/a.example/#\n", Format::Dnsmasq),
            ("local=/a.example/\n", Format::Dnsmasq),
            ("# c\nserver:\nlocal-zone: \"a.example\" static\n", Format::Unbound),
            ("local-data: \"a.example A 0.0.0.0\"\n", Format::Unbound),
            ("$TTL 60\n@ SOA a. b. 1 2 3 4 5\na.example CNAME .\n", Format::Rpz),
            ("; c\na.example 60 IN CNAME .\n", Format::Rpz),
            ("domain,reason\na.example,x\n", Format::Csv),
            ("reason;domain\nx;a.example\n", Format::Csv),
            ("domain\na.example\n", Format::Csv),
            ("{\"domain\":\"a.example\"}\n", Format::Jsonl),
        ] {
            assert_eq!(detect(text.as_bytes()), format, "{text}");
        }
    }
}
