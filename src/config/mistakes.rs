//! What is wrong with the options, all of it at once, in words that name the option and the remedy.

use std::fmt;

/// One thing wrong with the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The flag, such as `--listen`.
    pub option: &'static str,
    /// What it got, in the words of the operator; never a secret.
    pub got: String,
    /// What it needs; continues the sentence that begins with the option and what it got.
    pub needs: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) {}", self.option, self.got, self.needs)
    }
}

/// Everything wrong with the options; one line a mistake, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<Mistake>);

/// Collects mistakes, so that the first does not hide the others.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(
        &mut self,
        option: &'static str,
        got: impl fmt::Display,
        needs: impl Into<String>,
    ) {
        self.0.push(Mistake {
            option,
            got: got.to_string(),
            needs: needs.into(),
        });
    }

    /// Whether these options were read without a mistake, so that what they say together is worth checking.
    pub(super) fn spare(&self, options: &[&str]) -> bool {
        !self
            .0
            .iter()
            .any(|mistake| options.contains(&mistake.option))
    }

    pub(super) fn into_result(self) -> Result<(), ConfigErrors> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors(self.0))
        }
    }
}
