//! Places in a scenario's text: the line that a mistake is in, and the value that a name leads to.

use std::ops::Range;

use anyhow::Context;
use toml::{Table, Value};

/// A mistake with the line it is in, as the TOML parser shows its own.
pub(super) fn point(text: &str, span: &Range<usize>, mistake: &str) -> String {
    let before = &text[..span.start.min(text.len())];
    let (line, column) = (
        before.matches('\n').count() + 1,
        before.rsplit('\n').next().map_or(0, str::len),
    );
    let shown = text.lines().nth(line - 1).unwrap_or_default();
    let bar = " ".repeat(line.to_string().len());
    let marks = "^".repeat(
        span.len()
            .clamp(1, shown.len().saturating_sub(column).max(1)),
    );
    format!(
        "line {line}, column {}\n{bar} |\n{line} | {shown}\n{bar} | {}{marks}\n{mistake}",
        column + 1,
        " ".repeat(column)
    )
}

/// The text with one value replaced: `population.guests.clients=100`, `phase.steady.duration=5s`. In a list of tables the
/// second word is a `name`, or a number from 0. What is not TOML is taken as a string.
///
/// # Errors
/// The text is not TOML, or the name leads nowhere.
pub fn set(text: &str, assignment: &str) -> anyhow::Result<String> {
    let (path, value) = assignment
        .split_once('=')
        .with_context(|| format!("`{assignment}` is not NAME=VALUE"))?;
    let mut root: Table = toml::from_str(text)?;
    let words: Vec<&str> = path.trim().split('.').collect();
    let (last, way) = words.split_last().context("no name")?;
    let mut table = &mut root;
    let mut way = way.iter();
    while let Some(word) = way.next() {
        // A table that is not there yet; if it may not be there, the parser will say so.
        let next = table
            .entry(*word)
            .or_insert_with(|| Value::Table(Table::new()));
        let next = match next {
            Value::Array(items) => {
                let name = way
                    .next()
                    .with_context(|| format!("{path}: which {word}?"))?;
                item(items, name).with_context(|| format!("{path}: no {word} `{name}`"))?
            }
            other => other,
        };
        table = next
            .as_table_mut()
            .with_context(|| format!("{path}: nothing is inside"))?;
    }
    table.insert((*last).to_owned(), read_value(value.trim()));
    Ok(toml::to_string(&root)?)
}

fn item<'a>(items: &'a mut [Value], name: &str) -> Option<&'a mut Value> {
    let by_name = |item: &Value| item.get("name").and_then(Value::as_str) == Some(name);
    let at = items.iter().position(by_name);
    let at = at.or_else(|| name.parse().ok())?;
    items.get_mut(at)
}

fn read_value(text: &str) -> Value {
    let line = format!("value = {text}");
    let read: Result<Table, _> = toml::from_str(&line);
    let value = read.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name = \"x\"\n[[phase]]\nname = \"fill\"\nduration = \"5s\"\n";

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        let at = TEXT.find("\"fill\"").unwrap();
        let shown = point(TEXT, &(at..at + 6), "no");
        assert_eq!(
            shown,
            "line 3, column 8\n  |\n3 | name = \"fill\"\n  |        ^^^^^^\nno"
        );
    }

    #[test]
    fn a_value_is_replaced_by_its_name() {
        for (assignment, expected) in [
            ("name=y", "name = \"y\""),
            ("phase.fill.duration=9s", "duration = \"9s\""),
            ("phase.0.steady = true", "steady = true"),
            ("server.flags=[\"--x\"]", "[server]"),
        ] {
            let set = set(TEXT, assignment).unwrap();
            assert!(set.contains(expected), "{set}");
        }
        for wrong in ["name", "phase.nope.x=1", "name.x=1"] {
            assert!(set(TEXT, wrong).is_err(), "{wrong}");
        }
    }
}
