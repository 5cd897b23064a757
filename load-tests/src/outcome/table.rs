//! The table at the end of a run, for people at a terminal: 100 columns, no colours, and its last line says whether it passed.

use super::{Judged, Outcome, words};

/// Columns of the widest line.
const WIDTH: usize = 100;

/// What is printed.
pub(super) fn of(judged: &Judged) -> String {
    let outcome = &judged.outcome;
    let sections = [
        conditions(outcome),
        thresholds(judged),
        latencies(outcome),
        traffic(outcome),
        faults(outcome),
        vec![judged.summary.clone()],
    ];
    let sections = sections.into_iter().filter(|lines| !lines.is_empty());
    let sections = sections.map(|lines| lines.join("\n") + "\n");
    sections.collect::<Vec<_>>().join("\n")
}

fn conditions(outcome: &Outcome) -> Vec<String> {
    let title = [&outcome.scenario, &outcome.about].map(String::as_str);
    let title = title.into_iter().filter(|words| !words.is_empty());
    let mut lines = wrapped("", &title.collect::<Vec<_>>().join(": "));
    for condition in &outcome.conditions {
        lines.extend(wrapped("  ", condition));
    }
    let phases = outcome.phases.iter().map(|phase| {
        let (from, to) = (words::time(phase.from_s), words::time(phase.to_s));
        format!("{} {from} – {to}", phase.name)
    });
    let phases = phases.collect::<Vec<_>>().join(", ");
    if !phases.is_empty() {
        lines.extend(wrapped("  ", &format!("phases: {phases}")));
    }
    lines
}

fn thresholds(judged: &Judged) -> Vec<String> {
    let rows = judged.verdicts.iter().map(|verdict| {
        let threshold = &verdict.threshold;
        let bound = words::number(threshold.bound);
        [
            threshold.figure.clone(),
            verdict.value(),
            format!("{} {bound}", threshold.operator),
            if verdict.passed { "ok" } else { "FAILED" }.to_owned(),
        ]
    });
    let mut lines = aligned("<>><", ["threshold", "measured", "bound", ""], rows);
    for verdict in &judged.verdicts {
        let note = verdict.note.iter();
        let note = note.map(|note| format!("{}: {note}", verdict.threshold.figure));
        lines.extend(note.flat_map(|note| wrapped("  ", &note)));
    }
    lines
}

fn latencies(outcome: &Outcome) -> Vec<String> {
    let rows = outcome.steps.iter().map(|(step, summary)| {
        [
            step.clone(),
            words::count(summary.count),
            words::millis(summary.p50_ms),
            words::millis(summary.p99_ms),
            words::millis(summary.max_ms),
        ]
    });
    aligned("<>>>>", ["latency, ms", "count", "p50", "p99", "max"], rows)
}

fn traffic(outcome: &Outcome) -> Vec<String> {
    let seen = outcome.traffic.0.iter().filter(|(_, seen)| seen.frames > 0);
    let rows = seen.map(|(kind, seen)| {
        [
            kind.clone(),
            words::count(seen.frames),
            words::bytes(seen.bytes),
            words::bytes(seen.bytes / seen.frames),
        ]
    });
    aligned("<>>>", ["received", "frames", "size", "a frame"], rows)
}

fn faults(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    for (fault, count, examples) in outcome.faults.iter() {
        lines.push(format!(
            "FAULT {}: {}",
            words::fault(fault),
            words::count(count)
        ));
        for example in examples {
            lines.extend(wrapped("  ", example));
        }
    }
    lines
}

/// Columns as wide as their widest cell, two spaces apart; `<` in `sides` begins a cell at the left, `>` ends it at the right.
fn aligned<const N: usize>(
    sides: &str,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Vec<String> {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let rows: Vec<_> = [head.map(str::to_owned)].into_iter().chain(rows).collect();
    let widest = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|at| widest(at).unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).zip(sides.chars());
        let cells = cells.map(|((cell, width), side)| match side {
            '>' => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A text cut into lines, each with this before it.
fn wrapped(before: &str, text: &str) -> Vec<String> {
    let room = WIDTH - before.len();
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace().flat_map(|word| pieces(word, room)) {
        let fits = |line: &&mut String| line.chars().count() + 1 + word.chars().count() <= room;
        match lines.last_mut().filter(fits) {
            Some(line) => {
                line.push(' ');
                line.push_str(&word);
            }
            None => lines.push(word),
        }
    }
    lines.iter().map(|line| format!("{before}{line}")).collect()
}

/// A word, cut where it would not fit into a line: an example of JSON may have no space at all.
fn pieces(word: &str, room: usize) -> Vec<String> {
    let letters: Vec<_> = word.chars().collect();
    letters
        .chunks(room)
        .map(|piece| piece.iter().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fault::Fault, measure::latency::Summary, outcome::Threshold, tally::Traffic};

    fn judged() -> Judged {
        let mut outcome = Outcome {
            scenario: "lecture".to_owned(),
            about: "everybody at nine ".repeat(8),
            conditions: vec!["two cores".to_owned()],
            ..Outcome::default()
        };
        let figure = "seconds_from_the_first_knock_to_the_last_welcome";
        outcome.figures.insert(figure.to_owned(), 1_234_567.5);
        for (step, p50_ms) in [("heartbeat", 0.61), ("welcome", 12_345.0)] {
            let summary = Summary {
                count: 1_350_000,
                p50_ms,
                p99_ms: 2.0 * p50_ms,
                max_ms: 3.0 * p50_ms,
            };
            outcome.steps.insert(step.to_owned(), summary);
        }
        let frames = [("sync", 0), ("welcome", 15_000)];
        let traffic = frames.map(|(kind, frames)| {
            let bytes = frames * 500;
            (kind.to_owned(), Traffic { frames, bytes })
        });
        outcome.traffic.0 = traffic.into();
        outcome.faults.add(Fault::Ghost, "x".repeat(300));
        let thresholds = [figure, "seconds_from_the_first_knock_to_the_last_welcom"];
        let parse = |figure| Threshold::parse(&format!("{figure} < 50")).unwrap();
        Judged::new(outcome, &thresholds.map(parse))
    }

    #[test]
    fn the_table_is_aligned_and_says_everything() {
        let text = of(&judged());
        let expected = [
            "latency, ms      count        p50        p99        max",
            "heartbeat    1,350,000       0.61       1.22       1.83",
            "welcome      1,350,000  12,345.00  24,690.00  37,035.00",
            "",
            "received  frames     size  a frame",
            "welcome   15,000  7.2 MiB    500 B",
            "",
            "FAULT ghost: 1",
        ];
        assert!(text.contains(&expected.join("\n")), "{text}");
        assert!(text.ends_with("\n\nFAILED: 2 of 2 thresholds, 1 fault\n"));
        assert!(!text.contains("sync"), "{text}");
    }

    #[test]
    fn what_is_long_is_cut_into_lines() {
        let text = of(&judged());
        let longest = text.lines().map(|line| line.chars().count());
        assert_eq!(longest.max(), Some(WIDTH), "{text}");
        assert_eq!(text.matches('x').count(), 300 + 1, "{text}");
    }
}
