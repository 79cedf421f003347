//! One JSON object a line (I-JSON, RFC 7493: no key twice); [`Row`] says what the keys mean.
//!
//! The first line may describe the file instead: `{"$schema": …, "version": 1}`.
//! `op` makes the file a sequence of changes: `add` (as without it), `remove`,
//! `update`. They are brought together in [`compile`](crate::compile).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::dossier::Row;
use super::{Context, Parser};
use crate::list::Reason;

pub(super) struct Jsonl;

impl Parser for Jsonl {
    fn line(&mut self, line: &[u8], context: &mut Context<'_>) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"//") {
            return;
        }
        let object = match serde_json::from_slice(line) {
            Ok(Json::Object(object)) => object,
            Ok(_) => return context.refuse(line, Reason::Malformed, || "write one object a line".into()),
            // It counts lines too, and has seen but one.
            Err(error) => {
                return context
                    .refuse(line, Reason::Malformed, || error.to_string().replace(" at line 1 column", " at column"));
            }
        };
        let is_header = context.report.rules == 0 && !object.iter().any(|(key, _)| key == "domain");
        if is_header && object.iter().any(|(key, _)| key == "$schema" || key == "version") {
            context.unusable = check_header(&object);
            return;
        }
        let mut row = Row::default();
        for (key, value) in &object {
            let Some(text) = value.text(key) else {
                return context.refuse(line, Reason::BadValue, || format!("{key}: a text is expected"));
            };
            if let Err((reason, detail)) = row.set(key, &text, context) {
                return context.refuse(line, reason, || detail);
            }
        }
        if !row.has_domain() {
            return context.refuse(line, Reason::BadValue, || "domain: is missing".into());
        }
        row.finish(line, context);
    }
}

fn check_header(object: &[(String, Json)]) -> Option<String> {
    object.iter().find_map(|(key, value)| match (key.as_str(), value) {
        ("version", Json::Text(version)) if version == "1" => None,
        ("version", _) => Some("version: this build reads version \"1\"".into()),
        ("base_generation", _) => {
            Some("base_generation: changes to another file are not supported; give the whole list".into())
        }
        _ => None,
    })
}

/// A JSON value in which no object has a key twice; numbers and truth values as they are written.
#[derive(Debug)]
enum Json {
    Null,
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value as a column would have it.
    fn text(&self, key: &str) -> Option<String> {
        match self {
            Self::Null => Some(String::new()),
            Self::Text(text) => Some(text.clone()),
            Self::Array(values) if matches!(key, "qtypes" | "except" | "clients") => {
                let words: Option<Vec<String>> = values.iter().map(|value| value.text("")).collect();
                Some(words?.join("|"))
            }
            // Unknown keys may have any value; it is kept as JSON.
            value if !KNOWN.contains(&key) && !key.is_empty() => Some(value.to_json().to_string()),
            _ => None,
        }
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Text(text) => text.clone().into(),
            Self::Array(values) => values.iter().map(Self::to_json).collect(),
            Self::Object(members) => members.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }
}

/// The keys that have a meaning, and so a kind of value.
const KNOWN: [&str; 24] = [
    "domain",
    "op",
    "match",
    "action",
    "important",
    "redact",
    "qtypes",
    "except",
    "clients",
    "priority",
    "ede",
    "ede_text",
    "order_id",
    "authority",
    "legal_basis",
    "category",
    "jurisdiction",
    "reason",
    "contact",
    "lang",
    "source_ref",
    "issued_at",
    "effective_at",
    "expires_at",
];

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Text(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Text(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Text(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Text(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Json::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut keys = std::collections::HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                return Err(de::Error::custom(format_args!("the key {key:?} is there twice")));
            }
            members.push((key, map.next_value()?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{entries, fails, read, refused};
    use super::super::{Format, Op};
    use super::*;
    use crate::rule::BlockReason;

    #[test]
    fn an_object_is_a_rule_with_its_dossier() {
        let text = concat!(
            r#"{"$schema":"https://lists.example/schema","version":1}"#,
            "\n",
            r#"{"domain":"a.example","match":"subdomains","ede":"censored","order_id":"7","n":{"b":[1,true]},"reason":null}"#,
        );
        let rule = entries(Format::Jsonl, text).remove(0).rule;
        let dossier = rule.dossier.unwrap();
        assert_eq!((dossier.ede, dossier.order_id.as_deref()), (Some(BlockReason::Censored), Some("7")));
        assert_eq!(dossier.extra["n"], r#"{"b":["1","true"]}"#);
        assert_eq!(
            read(Format::Jsonl, r#"{"domain":"a.example","qtypes":["A","AAAA"],"important":true}"#, |_| ()),
            ["exact a.example important only [A, AAAA]"]
        );
    }

    #[test]
    fn operations_keep_their_order() {
        let text = "{\"domain\":\"a.example\"}\n{\"op\":\"remove\",\"domain\":\"a.example\"}\n{\"op\":\"update\",\"domain\":\"a.example\"}";
        let ops: Vec<Op> = entries(Format::Jsonl, text).iter().map(|entry| entry.op).collect();
        assert_eq!(ops, [Op::Add, Op::Remove, Op::Update]);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for (line, reason) in [
            (r#"{"domain":"a.example","domain":"b.example"}"#, Reason::Malformed),
            (r#"{"domain":"a.example","x":{"y":1,"y":2}}"#, Reason::Malformed),
            (r#"{"domain":"a.example""#, Reason::Malformed),
            (r#"["a.example"]"#, Reason::Malformed),
            (r#""a.example""#, Reason::Malformed),
            (r#"{"domain":["a.example"]}"#, Reason::BadValue),
            (r#"{"op":"rename","domain":"a.example"}"#, Reason::BadValue),
            (r#"{"match":"exact"}"#, Reason::BadValue),
            (r#"{"domain":"a.example","expires_at":"soon"}"#, Reason::BadValue),
            (r#"{"domain":"a.example","clients":["192.0.2.1"]}"#, Reason::Modifier),
            (r#"{"domain":"com"}"#, Reason::PublicSuffix),
        ] {
            assert_eq!(refused(Format::Jsonl, line), [reason], "{line}");
        }
        assert!(fails(Format::Jsonl, r#"{"version":2}"#).contains("version"));
        assert!(fails(Format::Jsonl, r#"{"version":1,"base_generation":"x"}"#).contains("base_generation"));
    }
}
