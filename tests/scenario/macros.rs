//! The small language that scenarios calculate times with: `${$start + 30*24*3600}`.
//!
//! Strictly from left to right, without precedence, as the original has it.

use std::collections::BTreeMap;

/// What `ASSIGN` has stored.
#[derive(Debug, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(crate) fn assign(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    /// Replaces each `${…}` in `text` by its value.
    ///
    /// `${time}` is `now`, and `${timeout}` the seconds until trust anchors are next looked after.
    ///
    /// # Errors
    ///
    /// When an expression is broken, or a value is not within the `${range …}` that it must be in.
    pub(crate) fn expand(&self, text: &str, now: u64, timeout: Option<u64>) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            out.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let end = closing(inner).ok_or_else(|| format!("{text:?}: a brace is not closed"))?;
            let expression = self.expand(&inner[..end], now, timeout)?;
            out.push_str(&self.evaluate(&expression, now, timeout)?);
            rest = &inner[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn evaluate(&self, expression: &str, now: u64, timeout: Option<u64>) -> Result<String, String> {
        let (word, arguments) = expression.trim().split_once(' ').unwrap_or((expression.trim(), ""));
        match word {
            "time" => Ok(now.to_string()),
            "timeout" => timeout.map(|timeout| timeout.to_string()).ok_or_else(|| "no timer is set".to_owned()),
            // The date beside a number of seconds is for people; nothing compares it.
            "ctime" => self.calculate(arguments),
            "range" => {
                let words: Vec<&str> = arguments.split_whitespace().collect();
                let [low, value, high] = words[..] else { return Err(format!("{arguments:?} is no range")) };
                let [low, number, high] = [low, value, high].map(|word| self.operand(word));
                if (low?..=high?).contains(&number?) {
                    Ok(value.to_owned())
                } else {
                    Err(format!("{value} is outside {arguments:?}"))
                }
            }
            _ => self.calculate(expression),
        }
    }

    fn calculate(&self, expression: &str) -> Result<String, String> {
        let mut total = 0.0;
        let mut operator = '+';
        let mut rest = expression.trim();
        while !rest.is_empty() {
            let end = rest.find(['+', '-', '*', '/']).unwrap_or(rest.len());
            let operand = self.operand(rest[..end].trim())?;
            match operator {
                '+' => total += operand,
                '-' => total -= operand,
                '*' => total *= operand,
                _ => total /= operand,
            }
            operator = rest[end..].chars().next().unwrap_or('+');
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        Ok(total.to_string())
    }

    fn operand(&self, word: &str) -> Result<f64, String> {
        let value = match word.strip_prefix('$') {
            Some(name) => self.0.get(name).ok_or_else(|| format!("{name:?} was never assigned"))?.as_str(),
            None => word,
        };
        value.parse().map_err(|_| format!("{value:?} is no number"))
    }
}

/// Where the brace is that closes the one before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, character) in text.char_indices() {
        match character {
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            '{' => depth += 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated_from_left_to_right() {
        let mut variables = Variables::default();
        variables.assign("t0", "100".to_owned());
        for (text, value) in [
            ("plain", "plain"),
            ("${time}", "1000"),
            ("a ${$t0 + 3600} b", "a 3700 b"),
            ("${2+3*4}", "20"),
            ("${2+${3*4}}", "14"),
            ("${30*24*3600}", "2592000"),
            ("${range 4800 ${timeout} 5400}", "5000"),
            ("${ctime $t0 + 1}", "101"),
            ("${0.5 + 1}", "1.5"),
        ] {
            assert_eq!(variables.expand(text, 1000, Some(5000)).as_deref(), Ok(value), "{text}");
        }
        for text in ["${", "${$t9}", "${range 1 2}", "${range 1 9 8}", "${timeout}"] {
            assert!(variables.expand(text, 1000, None).is_err(), "{text}");
        }
    }
}
