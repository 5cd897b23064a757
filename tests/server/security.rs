//! SECURITY.md names a test for each threat. A name that nothing has any more would be a promise that nobody holds.

use std::{fs, path::Path};

/// The last cells of the table's rows: what shows that a threat is met.
fn shown(policy: &str) -> impl Iterator<Item = (&str, &str)> {
    let rows = policy.lines().filter(|line| line.starts_with("| "));
    rows.skip(1).map(|row| {
        let mut cells = row.trim_matches('|').split(" | ");
        let threat = cells.next().unwrap();
        (threat, cells.last().unwrap())
    })
}

/// Whether a file or folder of the tests, or a test `file::name` of theirs, is there.
fn is_there(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = root.join("tests/server");
    match name.split_once("::") {
        None => root.join(name).exists() || tests.join(name).exists(),
        Some((file, test)) => {
            let text = fs::read_to_string(tests.join(file).with_extension("rs"));
            text.is_ok_and(|text| text.contains(&format!("fn {test}(")))
        }
    }
}

#[test]
fn every_threat_names_tests_that_are_there() {
    let policy = include_str!("../../SECURITY.md");
    let mut threats = 0;
    for (threat, cell) in shown(policy) {
        // What is in backticks.
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{threat} names no test");
        for name in names {
            assert!(is_there(name), "{threat}: there is no {name}");
        }
        threats += 1;
    }
    assert!(threats >= 20, "{threats} threats");
    assert!(!is_there("doors::nobody") && !is_there("nowhere.rs"));
}
