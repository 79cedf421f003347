//! Lengths of time and sizes as people write them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time: `"4s"`, `"500ms"`, `"1h 30m"`, or a plain number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl Span {
    /// A whole number of seconds.
    pub(super) fn seconds(seconds: u32) -> Self {
        Self(Duration::from_secs(seconds.into()))
    }

    /// In whole seconds, rounded down; what does not fit is cut to the greatest that does.
    pub(super) fn as_seconds(self) -> u32 {
        u32::try_from(self.0.as_secs()).unwrap_or(u32::MAX)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a length of time: a number of seconds, or text such as "500ms", "4s", "2h", "1d""#)
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Span, E> {
                match u64::try_from(seconds) {
                    Ok(seconds) => Ok(Span(Duration::from_secs(seconds))),
                    Err(_) => Err(E::custom("a length of time is not negative")),
                }
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Span, E> {
                Duration::try_from_secs_f64(seconds).map(Span).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                let unknown = || E::invalid_value(de::Unexpected::Str(text), &self);
                match text.trim().parse() {
                    Ok(seconds) => Ok(Span(Duration::from_secs(seconds))),
                    Err(_) => humantime::parse_duration(text.trim()).map(Span).map_err(|_| unknown()),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Whole seconds as a number, anything finer as text.
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.subsec_nanos() {
            0 => serializer.serialize_u64(self.0.as_secs()),
            _ => serializer.collect_str(&humantime::format_duration(self.0)),
        }
    }
}

/// A number of octets: `"256MiB"`, `"10 GB"`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// The units, with how many octets each has. `K` alone is 1024, as in most resolvers' files.
const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1000),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.replace('_', "").parse().ok()?;
        let (_, factor) = UNITS.iter().find(|(name, _)| unit.trim().eq_ignore_ascii_case(name))?;
        number.checked_mul(*factor).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a size: a number of octets, or text such as "64KiB", "256MiB", "1GiB""#)
            }

            fn visit_i64<E: de::Error>(self, octets: i64) -> Result<Size, E> {
                u64::try_from(octets).map(Size).map_err(|_| E::custom("a size is not negative"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Times {
        time: Span,
    }

    #[derive(Deserialize)]
    struct Sizes {
        size: Size,
    }

    #[test]
    fn times_take_units_or_are_seconds() {
        for (text, millis) in [
            ("4", 4000),
            ("0.25", 250),
            ("\"4s\"", 4000),
            ("\"500ms\"", 500),
            ("\"1h 30m\"", 5_400_000),
            ("\"1d\"", 86_400_000),
            ("\"86400\"", 86_400_000),
        ] {
            let times: Times = toml::from_str(&format!("time = {text}")).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(times.time.0.as_millis(), millis, "{text}");
        }
        for text in ["-1", "\"4 parsecs\"", "true", "\"\"", "nan", "1e300"] {
            assert!(toml::from_str::<Times>(&format!("time = {text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_take_units_or_are_octets() {
        for (text, octets) in [
            ("1024", 1024),
            ("\"256MiB\"", 256 << 20),
            ("\"256 mib\"", 256 << 20),
            ("\"1GB\"", 1_000_000_000),
            ("\"64k\"", 65536),
            ("\"10_000\"", 10_000),
        ] {
            let sizes: Sizes = toml::from_str(&format!("size = {text}")).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(sizes.size.0, octets, "{text}");
        }
        for text in ["-1", "\"MiB\"", "\"1.5GiB\"", "\"99999999999999TiB\"", "\"3 apples\""] {
            assert!(toml::from_str::<Sizes>(&format!("size = {text}")).is_err(), "{text}");
        }
    }
}
