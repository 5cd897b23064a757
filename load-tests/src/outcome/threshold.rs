//! What a figure must be, as a scenario file says it: `heartbeat_p99_ms < 50`.

use std::fmt;

use anyhow::{Context, bail, ensure};
use serde::Serialize;

/// A bound for a figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Threshold {
    /// The figure's name, as [`Outcome::figures`](super::Outcome::figures) has it.
    pub figure: String,
    /// How it is compared.
    pub operator: Operator,
    /// What with.
    pub bound: f64,
}

/// How a figure is compared with its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Operator {
    /// `<`
    #[serde(rename = "<")]
    Less,
    /// `<=`
    #[serde(rename = "<=")]
    AtMost,
    /// `=`
    #[serde(rename = "=")]
    Equal,
    /// `>=`
    #[serde(rename = ">=")]
    AtLeast,
    /// `>`
    #[serde(rename = ">")]
    More,
}

impl Threshold {
    /// Reads one.
    ///
    /// # Errors
    /// It is not a name, an operator and a number.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        Self::read(text)
            .with_context(|| format!("`{text}` is not a threshold like `heartbeat_p99_ms < 50`"))
    }

    fn read(text: &str) -> anyhow::Result<Self> {
        let is_operator = |c: char| matches!(c, '<' | '>' | '=' | '!' | '≤' | '≥');
        let start = text.find(is_operator).context("there is no operator")?;
        let (figure, rest) = text.split_at(start);
        let end = rest.find(|c| !is_operator(c)).unwrap_or(rest.len());
        let (operator, bound) = rest.split_at(end);
        Ok(Self {
            figure: name(figure.trim())?,
            operator: Operator::parse(operator)?,
            bound: number(bound.trim())?,
        })
    }

    /// Whether a value is as it must be; what is not a number never is.
    pub fn holds(&self, value: f64) -> bool {
        match self.operator {
            Operator::Less => value < self.bound,
            Operator::AtMost => value <= self.bound,
            Operator::Equal => value == self.bound,
            Operator::AtLeast => value >= self.bound,
            Operator::More => value > self.bound,
        }
    }
}

impl Operator {
    fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "<" => Self::Less,
            "<=" => Self::AtMost,
            "=" => Self::Equal,
            ">=" => Self::AtLeast,
            ">" => Self::More,
            _ => bail!("`{text}` is none of <, <=, =, >= and >"),
        })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::More => ">",
        })
    }
}

fn name(text: &str) -> anyhow::Result<String> {
    ensure!(!text.is_empty(), "there is no figure before the operator");
    let odd = text.chars().find(|c| !c.is_alphanumeric() && *c != '_');
    match odd {
        Some(odd) => bail!("a figure's name has letters, digits and `_`, but `{text}` has `{odd}`"),
        None => Ok(text.to_owned()),
    }
}

/// Reads a number; `_` may stand between two digits.
fn number(text: &str) -> anyhow::Result<f64> {
    ensure!(!text.is_empty(), "there is no number after the operator");
    let apart = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    let plain = text.replace('_', "");
    let value = plain.parse::<f64>().ok();
    value
        .filter(|value| value.is_finite() && !apart)
        .with_context(|| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_name_an_operator_and_a_number() {
        let rows = [
            ("heartbeat_p99_ms < 50", Operator::Less, 50.0),
            ("heartbeat_p99_ms<=0.5", Operator::AtMost, 0.5),
            (" heartbeat_p99_ms = -1 ", Operator::Equal, -1.0),
            ("heartbeat_p99_ms >=15_000", Operator::AtLeast, 15_000.0),
            ("heartbeat_p99_ms> 1e3", Operator::More, 1000.0),
        ];
        for (text, operator, bound) in rows {
            let read = Threshold::parse(text).unwrap();
            assert_eq!(read.figure, "heartbeat_p99_ms");
            assert_eq!((read.operator, read.bound), (operator, bound), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        let rows = [
            ("ghosts", "there is no operator"),
            ("< 5", "there is no figure"),
            ("ghosts =", "there is no number"),
            ("ghosts == 0", "`==` is none of"),
            ("ghosts != 0", "`!=` is none of"),
            ("ghosts ≤ 0", "`≤` is none of"),
            ("ghosts < 5 ms", "`5 ms` is not a number"),
            ("ghosts < nan", "`nan` is not a number"),
            ("ghosts < inf", "`inf` is not a number"),
            ("ghosts < _5", "`_5` is not a number"),
            ("ghosts < 1__0", "`1__0` is not a number"),
            ("my ghosts < 5", "has ` `"),
            ("ghosts < 5 < 6", "`5 < 6` is not a number"),
        ];
        for (text, mistake) in rows {
            let error = format!("{:#}", Threshold::parse(text).unwrap_err());
            assert!(error.contains(mistake), "{text}: {error}");
            assert!(error.contains(&format!("`{text}`")), "{text}: {error}");
        }
    }

    #[test]
    fn each_operator_at_its_bound() {
        let rows = [
            ("f < 5", [true, false, false]),
            ("f <= 5", [true, true, false]),
            ("f = 5", [false, true, false]),
            ("f >= 5", [false, true, true]),
            ("f > 5", [false, false, true]),
        ];
        for (text, expected) in rows {
            let threshold = Threshold::parse(text).unwrap();
            let held = [4.999, 5.0, 5.001].map(|value| threshold.holds(value));
            assert_eq!(held, expected, "{text}");
            assert!(!threshold.holds(f64::NAN), "{text}");
        }
    }
}
