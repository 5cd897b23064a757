//! Whether a run passed. A figure that nobody measured fails, and so does any fault: a check that cannot fail checks nothing.

use std::{fs, path::Path};

use anyhow::Context;
use serde::Serialize;

use super::{Outcome, page, table, threshold::Threshold, words};

/// A threshold and whether it was kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What was asked.
    #[serde(flatten)]
    pub threshold: Threshold,
    /// What was measured; `None`, and `null` in JSON: nothing was, or nothing that is a number.
    pub measured: Option<f64>,
    /// Whether it was kept.
    pub passed: bool,
    /// What a reader should know besides.
    pub note: Option<String>,
}

/// An outcome with its verdicts: what is printed, written and drawn.
#[derive(Debug, Clone, Serialize)]
pub struct Judged {
    /// Whether every threshold was kept and nothing was told wrong.
    pub passed: bool,
    /// That in words.
    pub summary: String,
    /// Threshold by threshold.
    pub verdicts: Vec<Verdict>,
    /// What was judged.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Judges each threshold. Faults are not among the verdicts: [`Judged::passed`] has both.
pub fn judge(outcome: &Outcome, thresholds: &[Threshold]) -> Vec<Verdict> {
    let verdict = |threshold: &Threshold| {
        let found = outcome.figures.get(&threshold.figure).copied();
        let measured = found.filter(|value| !value.is_nan());
        let note = match (found, measured) {
            (_, Some(_)) => None,
            (Some(_), None) => Some("not a number".to_owned()),
            (None, None) => Some(not_measured(outcome, &threshold.figure)),
        };
        Verdict {
            measured,
            passed: measured.is_some_and(|value| threshold.holds(value)),
            note,
            threshold: threshold.clone(),
        }
    };
    thresholds.iter().map(verdict).collect()
}

impl Judged {
    /// Judges an outcome.
    pub fn new(outcome: Outcome, thresholds: &[Threshold]) -> Self {
        let verdicts = judge(&outcome, thresholds);
        let broken = verdicts.iter().filter(|verdict| !verdict.passed).count();
        let faults = outcome.faults.iter().map(|(_, count, _)| count).sum();
        let passed = broken == 0 && outcome.faults.is_empty();
        Self {
            passed,
            summary: if passed {
                "passed".to_owned()
            } else {
                summary(broken, verdicts.len(), faults)
            },
            verdicts,
            outcome,
        }
    }

    /// The table for people, which ends with whether the run passed; no line is longer than 100 columns.
    pub fn table(&self) -> String {
        table::of(self)
    }

    /// The page with charts: one file that needs no other.
    ///
    /// # Errors
    /// A chart cannot be drawn.
    pub fn html(&self) -> anyhow::Result<String> {
        page::of(self)
    }

    /// Prints the table to standard output, and writes the files that are asked for.
    ///
    /// # Errors
    /// A file cannot be written.
    #[expect(clippy::print_stdout, reason = "the report is what the tool is for")]
    pub fn publish(&self, json: Option<&Path>, html: Option<&Path>) -> anyhow::Result<()> {
        print!("{}", self.table());
        if let Some(file) = json {
            write(file, &serde_json::to_string_pretty(self)?)?;
        }
        html.map_or(Ok(()), |file| write(file, &self.html()?))
    }
}

impl Verdict {
    /// The measured value in words; where rounding would hide why it failed, to the last digit.
    pub(super) fn value(&self) -> String {
        let Some(value) = self.measured else {
            return "–".to_owned();
        };
        let words = words::number(value);
        match !self.passed && words == words::number(self.threshold.bound) {
            true => value.to_string(),
            false => words,
        }
    }
}

fn summary(broken: usize, thresholds: usize, faults: u64) -> String {
    let faults = words::plural(faults, "fault");
    format!("FAILED: {broken} of {thresholds} thresholds, {faults}")
}

/// How alike a name must be to be guessed; 1 is the same, and below this a guess is more often wrong than right.
const ALIKE: f64 = 0.8;

fn not_measured(outcome: &Outcome, figure: &str) -> String {
    let alike = |name: &'_ String| (strsim::jaro_winkler(name, figure), name.clone());
    let nearest = outcome.figures.keys().map(alike);
    let nearest = nearest.max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest {
        Some((likeness, name)) if likeness >= ALIKE => {
            format!("not measured; did you mean {name}?")
        }
        _ => "not measured".to_owned(),
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fault::Fault;

    fn outcome() -> Outcome {
        let figures = [
            ("ghosts", 0.0),
            ("heartbeat_p99_ms", 61.3),
            ("odd", f64::NAN),
        ];
        Outcome {
            scenario: "test".to_owned(),
            figures: figures.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Outcome::default()
        }
    }

    fn judged(thresholds: &[&str], outcome: Outcome) -> Judged {
        let parse = |text: &&str| Threshold::parse(text).unwrap();
        Judged::new(outcome, &thresholds.iter().map(parse).collect::<Vec<_>>())
    }

    #[test]
    fn a_run_passes_when_every_threshold_is_kept() {
        let judged = judged(&["ghosts = 0", "heartbeat_p99_ms < 61.4"], outcome());
        assert!(judged.passed);
        assert_eq!(judged.summary, "passed");
    }

    #[test]
    fn what_nobody_measured_fails_whatever_the_bound() {
        for operator in ["<", "<=", "=", ">=", ">"] {
            for figure in ["rooms", "odd"] {
                let judged = judged(&[&format!("{figure} {operator} 0")], outcome());
                assert!(!judged.passed, "{figure} {operator} 0");
            }
        }
        let nothing = judged(&["ghosts = 0"], Outcome::default());
        assert_eq!(nothing.verdicts[0].note.as_deref(), Some("not measured"));
        assert_eq!(nothing.summary, "FAILED: 1 of 1 thresholds, 0 faults");
    }

    #[test]
    fn a_misspelt_figure_is_guessed() {
        let judged = judged(&["hartbeat_p99_ms < 50", "rooms = 1"], outcome());
        let notes = judged
            .verdicts
            .iter()
            .map(|verdict| verdict.note.as_deref());
        let guess = "not measured; did you mean heartbeat_p99_ms?";
        assert_eq!(
            notes.collect::<Vec<_>>(),
            [Some(guess), Some("not measured")]
        );
    }

    #[test]
    fn a_fault_fails_a_run_whose_thresholds_are_kept() {
        let mut outcome = outcome();
        outcome.faults.add(Fault::Ghost, "nobody");
        outcome.faults.add(Fault::Ghost, "nobody else");
        let judged = judged(&["ghosts = 0"], outcome);
        assert!(!judged.passed);
        assert_eq!(judged.summary, "FAILED: 0 of 1 thresholds, 2 faults");
    }

    #[test]
    fn rounding_does_not_hide_why_it_failed() {
        let mut outcome = outcome();
        outcome.figures.insert("cores".to_owned(), 1.000_01);
        let judged = judged(&["cores <= 1"], outcome);
        assert_eq!(judged.verdicts[0].value(), "1.00001");
    }

    #[test]
    fn the_files_names_are_stable() {
        let judged = judged(&["hosts > 1_000"], outcome());
        let value = serde_json::to_value(&judged).unwrap();
        let verdict = json!({
            "figure": "hosts", "operator": ">", "bound": 1000.0, "measured": null, "passed": false,
            "note": "not measured; did you mean ghosts?",
        });
        assert_eq!(value["verdicts"], json!([verdict]));
        let Value::Object(fields) = value else {
            panic!("{value}")
        };
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "about",
                "conditions",
                "faults",
                "figures",
                "passed",
                "phases",
                "scenario",
                "steps",
                "summary",
                "timeline",
                "traffic",
                "verdicts"
            ]
        );
    }
}
