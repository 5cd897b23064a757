//! JSON as aligned text for people.

use std::io::{self, Write};

use serde_json::Value;

/// Prints the named fields of each item, a column each. Columns that no item has are left out.
pub(super) fn rows(out: &mut impl Write, items: &[Value], columns: &[&str]) -> io::Result<()> {
    let has = |column: &&&str| items.iter().any(|item| item.get(**column).is_some());
    let columns: Vec<_> = columns.iter().filter(has).copied().collect();
    let mut lines = vec![
        columns
            .iter()
            .map(|column| column.to_uppercase().replace('_', " "))
            .collect::<Vec<_>>(),
    ];
    lines.extend(
        items
            .iter()
            .map(|item| columns.iter().map(|column| word(&item[*column])).collect()),
    );
    let width = |at: usize| {
        lines
            .iter()
            .map(|line| line[at].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    for line in &lines {
        let padded = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints one object, a field a line; inner objects' fields are named `outer.inner`.
pub(super) fn fields(out: &mut impl Write, value: &Value) -> io::Result<()> {
    let mut lines = Vec::new();
    flatten("", value, &mut lines);
    let width = lines
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default();
    lines
        .iter()
        .try_for_each(|(name, word)| writeln!(out, "{name:width$}  {word}"))
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        // The application's own data stays in one piece.
        Value::Object(inner) if name.rsplit('.').next() != Some("metadata") => {
            for (key, value) in inner {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}.{key}")
                };
                flatten(&name, value, lines);
            }
        }
        _ => lines.push((name.replace('_', " "), word(value))),
    }
}

/// One value as a word. Control characters are somebody else's and could rewrite the terminal.
fn word(value: &Value) -> String {
    let text = match value {
        Value::Null => return "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => return "-".to_owned(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    text.chars()
        .map(|sign| if sign.is_control() { '\u{fffd}' } else { sign })
        .collect()
}
