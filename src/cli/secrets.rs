//! Secrets: making one, and noticing those that a command line gives away.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use super::Failure;
use crate::admission::MIN_SECRET_BYTES;

/// Prints as many random bits as a secret for access tokens must have, which is more than an API key needs.
pub(super) fn print(out: &mut impl Write) -> Result<(), Failure> {
    let mut bits = [0; MIN_SECRET_BYTES];
    let filled = aws_lc_rs::rand::fill(&mut bits);
    filled.map_err(|_| io::Error::other("the operating system has no randomness"))?;
    let hex: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(out, "{hex}")?;
    Ok(())
}

/// Options whose value everybody on the machine can read while the process runs, by what its command line says.
pub fn exposed(words: impl IntoIterator<Item = OsString>) -> Vec<&'static str> {
    const SECRETS: [&str; 3] = ["--api-key", "--jwt-secret", "--database-password"];
    let mut exposed: Vec<&'static str> = Vec::new();
    for word in words {
        let word = word.to_string_lossy();
        let option = word.split('=').next().unwrap_or_default();
        exposed.extend(SECRETS.iter().filter(|secret| **secret == option));
        // postgres://user:password@host
        let user = word
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('@'));
        if word.contains("postgres") && user.is_some_and(|(user, _)| user.contains(':')) {
            exposed.push("--database-url");
        }
    }
    exposed.dedup();
    exposed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_line_gives_away_is_named() {
        let rows: [(&str, &[&str]); 7] = [
            ("serve --listen 127.0.0.1:0", &[]),
            ("serve --api-key-file keys --jwt-secret-file secret", &[]),
            ("serve --api-key one --api-key two", &["--api-key"]),
            ("--jwt-secret=abc", &["--jwt-secret"]),
            ("--database-url postgres://me@host/db", &[]),
            (
                "--database-url postgres://me:pass@host/db",
                &["--database-url"],
            ),
            (
                "--database-password x --api-key y",
                &["--database-password", "--api-key"],
            ),
        ];
        for (words, expected) in rows {
            assert_eq!(
                exposed(words.split(' ').map(OsString::from)),
                expected,
                "{words}"
            );
        }
    }

    #[test]
    fn two_keys_are_not_the_same() {
        let key = || {
            let mut out = Vec::new();
            print(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let (first, second) = (key(), key());
        assert_ne!(first, second);
        assert_eq!(first.trim_end().len(), 64);
    }
}
