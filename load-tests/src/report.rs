//! What a run found: a table for people, a JSON file for programs.

use std::{fs, path::Path};

use anyhow::Context;
use serde::Serialize;

use crate::{
    fault::Faults,
    measure::{latency::Summary, sampler::Sample},
    tally::{Traffic, Traffics},
};

/// What a run found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    title: String,
    notes: Vec<String>,
    figures: Vec<Figure>,
    latencies: Vec<Named<Summary>>,
    traffic: Vec<Named<Traffic>>,
    tables: Vec<Table>,
    faults: Faults,
    samples: Vec<Sample>,
}

#[derive(Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// As TARGETS has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
}

/// The same figures at several times.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// What the columns are.
    pub head: Vec<&'static str>,
    /// A row a time.
    pub rows: Vec<Vec<f64>>,
}

/// A figure to reach, and one to be proud of.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Target {
    /// At most.
    pub reach: f64,
    /// At most, on a good day.
    pub stretch: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Named<T> {
    name: String,
    #[serde(flatten)]
    value: T,
}

impl Report {
    /// An empty one.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            ..Self::default()
        }
    }

    /// Says under which conditions it was measured.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure {
            name: name.into(),
            value,
            unit,
            target: None,
        });
    }

    /// Adds a figure that there is a target for.
    pub fn aimed(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        target: Target,
    ) {
        self.figures.push(Figure {
            name: name.into(),
            value,
            unit,
            target: Some(target),
        });
    }

    /// Adds latencies.
    pub fn latency(&mut self, name: impl Into<String>, value: Summary) {
        self.latencies.push(Named {
            name: name.into(),
            value,
        });
    }

    /// Adds traffic by kind; kinds that did not occur are left out.
    pub fn traffic(&mut self, when: &str, traffics: &Traffics) {
        for (kind, value) in traffics.0.iter().filter(|(_, traffic)| traffic.frames > 0) {
            self.traffic.push(Named {
                name: format!("{when}: {kind}"),
                value: *value,
            });
        }
    }

    /// Adds a table.
    pub fn table_of(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds faults.
    pub fn faults(&mut self, faults: Faults) {
        self.faults.merge(faults);
    }

    /// Adds the server's samples, which only the file has.
    pub fn samples(&mut self, samples: Vec<Sample>) {
        self.samples = samples;
    }

    /// Whether nothing was told wrong.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Prints the table, and writes the file if one is asked for.
    ///
    /// # Errors
    /// The file cannot be written.
    #[expect(clippy::print_stdout, reason = "the report is what the tool is for")]
    pub fn publish(&self, file: Option<&Path>) -> anyhow::Result<()> {
        print!("{}", self.table());
        let Some(file) = file else { return Ok(()) };
        let json = serde_json::to_vec_pretty(self)?;
        fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))
    }

    fn table(&self) -> String {
        let mut text = format!("# {}\n", self.title);
        let mut line = |row: String| {
            text.push_str(&row);
            text.push('\n');
        };
        self.notes.iter().for_each(|note| line(note.clone()));
        line(String::new());
        for Figure {
            name,
            value,
            unit,
            target,
        } in &self.figures
        {
            let target = target.map(Target::words).unwrap_or_default();
            line(format!("{name:<58}{:>14} {unit}{target}", number(*value)));
        }
        if !self.latencies.is_empty() {
            line(format!(
                "\n{:<46}{:>9}{:>11}{:>11}{:>11}",
                "latency, ms", "count", "p50", "p99", "max"
            ));
        }
        for Named { name, value } in &self.latencies {
            let Summary {
                count,
                p50_ms,
                p99_ms,
                max_ms,
            } = value;
            line(format!(
                "{name:<46}{count:>9}{p50_ms:>11.2}{p99_ms:>11.2}{max_ms:>11.2}"
            ));
        }
        if !self.traffic.is_empty() {
            line(format!(
                "\n{:<46}{:>14}{:>18}",
                "received by clients", "frames", "bytes"
            ));
        }
        for Named { name, value } in &self.traffic {
            line(format!("{name:<46}{:>14}{:>18}", value.frames, value.bytes));
        }
        for table in &self.tables {
            line(String::new());
            table.lines().for_each(&mut line);
        }
        line(String::new());
        for (fault, count, examples) in self.faults.iter() {
            line(format!("FAULT {fault:?}: {count}"));
            examples
                .iter()
                .for_each(|example| line(format!("  {example}")));
        }
        line(if self.is_clean() {
            "no faults".to_owned()
        } else {
            "FAILED".to_owned()
        });
        text
    }
}

impl Table {
    fn lines(&self) -> impl Iterator<Item = String> {
        let head = self.head.iter().map(|name| format!("{name:>14}"));
        let rows = self.rows.iter().map(|row| {
            let cells = row.iter().map(|value| format!("{:>14}", number(*value)));
            cells.collect::<String>()
        });
        std::iter::once(head.collect()).chain(rows)
    }
}

impl Target {
    fn words(self) -> String {
        match self.stretch {
            Some(stretch) => format!("   (reach {}, stretch {})", self.reach, stretch),
            None => format!("   (reach {})", self.reach),
        }
    }
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
