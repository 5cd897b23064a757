//! One word of the operator to one value. Each reader notes a mistake and answers a placeholder, which no `Config` ever
//! holds, so that reading goes on.

use std::{fmt, fs, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{Secret, mistakes::Mistakes};
use crate::admission::MIN_SECRET_BYTES;

/// The word that switches an optional option off.
const NONE: &str = "none";

/// Long enough that a key cannot be guessed over the network.
const MIN_API_KEY_CHARS: usize = 16;

impl Mistakes {
    pub(super) fn duration(
        &mut self,
        option: &'static str,
        got: &str,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let needs = match humantime::parse_duration(got) {
            Err(_) => "must be a duration such as 500ms, 30s, 5m or 1h30m".to_owned(),
            Ok(duration) if duration.subsec_nanos() % 1_000_000 != 0 => {
                "must be whole milliseconds".to_owned()
            }
            Ok(duration) if range.contains(&duration) => return duration,
            Ok(_) => format!(
                "must be from {} to {}",
                human(*range.start()),
                human(*range.end())
            ),
        };
        self.add(option, shown(got), needs);
        Duration::ZERO
    }

    pub(super) fn number<N>(
        &mut self,
        option: &'static str,
        got: &str,
        range: RangeInclusive<N>,
    ) -> N
    where
        N: FromStr + PartialOrd + fmt::Display + Copy,
    {
        if let Ok(number) = got.replace('_', "").parse::<N>()
            && range.contains(&number)
        {
            return number;
        }
        self.add(
            option,
            shown(got),
            format!("must be a number from {} to {}", range.start(), range.end()),
        );
        *range.start()
    }

    pub(super) fn bytes(
        &mut self,
        option: &'static str,
        got: &str,
        range: RangeInclusive<u64>,
    ) -> u64 {
        match bytes(got) {
            Some(size) if range.contains(&size) => size,
            _ => {
                let (least, most) = (range.start(), range.end());
                self.add(
                    option,
                    shown(got),
                    format!(
                        "must be a size such as 4096, 16KiB or 1MiB, from {least} to {most} bytes"
                    ),
                );
                *least
            }
        }
    }

    /// The same as bytes, for what is held in memory.
    pub(super) fn size(
        &mut self,
        option: &'static str,
        got: &str,
        range: RangeInclusive<u64>,
    ) -> usize {
        usize::try_from(self.bytes(option, got, range)).unwrap_or(usize::MAX)
    }

    /// Reads an option that may be absent, or `none`.
    pub(super) fn unless_none<T>(
        &mut self,
        got: Option<&str>,
        read: impl FnOnce(&mut Self, &str) -> T,
    ) -> Option<T> {
        got.filter(|got| *got != NONE).map(|got| read(self, got))
    }

    /// A word that only must not be empty.
    pub(super) fn text(&mut self, option: &'static str, got: &str) -> String {
        if got.trim().is_empty() {
            self.add(
                option,
                "empty",
                "must not be empty; leave the option and its variable out for the default",
            );
        }
        got.trim().to_owned()
    }

    /// Takes a repeatable option apart at its commas.
    pub(super) fn list(&mut self, option: &'static str, got: &[String]) -> Vec<String> {
        let items = got.iter().flat_map(|got| got.split(','));
        let items = items.map(|item| self.text(option, item));
        items.filter(|item| !item.is_empty()).collect()
    }

    pub(super) fn file(&mut self, option: &'static str, path: &str) -> Option<String> {
        fs::read_to_string(path)
            .map_err(|error| self.add(option, shown(path), format!("cannot be read: {error}")))
            .ok()
    }

    pub(super) fn api_key(&mut self, option: &'static str, key: &str) -> Secret {
        let length = key.chars().count();
        if length < MIN_API_KEY_CHARS {
            let needs = format!(
                "must be at least {MIN_API_KEY_CHARS} characters; `rollcall key` makes a good one"
            );
            self.add(option, format!("{length} characters"), needs);
        } else if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            let needs =
                "must be ASCII letters, digits and signs, because it travels in an HTTP header";
            self.add(option, "characters outside ASCII, or blanks", needs);
        }
        Secret::new(key)
    }

    pub(super) fn jwt_secret(&mut self, option: &'static str, secret: &str) -> Secret {
        if secret.contains("-----BEGIN") {
            // Everybody knows a public key; as a secret it would let in everybody.
            let needs = "must be a secret; give a public key with --jwt-public-key";
            self.add(option, "a key in PEM", needs);
        } else if secret.len() < MIN_SECRET_BYTES {
            let needs = format!(
                "must be at least {MIN_SECRET_BYTES} bytes; `rollcall key` makes a good one"
            );
            self.add(option, format!("{} bytes", secret.len()), needs);
        }
        Secret::new(secret)
    }
}

/// The keys in an API key file: one a line, blank lines left out.
pub(crate) fn api_keys_in(file: &str) -> impl Iterator<Item = &str> {
    file.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// A duration as the operator would write it.
pub(super) fn human(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// What an option got, for a message.
pub(super) fn shown(got: &str) -> &str {
    if got.is_empty() { "empty" } else { got }
}

fn bytes(got: &str) -> Option<u64> {
    let got = got.replace('_', "");
    let digits = got.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit: u64 = match got[digits.len()..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}
