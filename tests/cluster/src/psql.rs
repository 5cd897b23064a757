//! psql, as a person would use it.

use std::{ffi::OsStr, path::Path, process::Command};

use crate::programs;

/// Runs one command string, in one transaction where it holds several statements.
#[track_caller]
pub(crate) fn command(url: &str, sql: &str) -> String {
    run(url, ["-c", sql])
}

/// Runs a script with psql variables.
#[track_caller]
pub(crate) fn file(url: &str, path: &Path, variables: &[(&str, &str)]) -> String {
    let mut arguments = Vec::new();
    for (name, value) in variables {
        arguments.extend(["-v".into(), format!("{name}={value}").into()]);
    }
    arguments.extend(["-f".into(), path.as_os_str().to_owned()]);
    run(url, arguments)
}

#[track_caller]
fn run(url: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = Command::new(programs::postgresql("psql"))
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url])
        .args(arguments)
        .output()
        .expect("psql comes with the server");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
