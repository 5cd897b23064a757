//! What `rollcall verify` says about a database.

use std::error::Error;

use super::{StoreError, columns::broken};

/// One thing looked at, and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found, or what is wrong and what to do.
    pub outcome: Result<String, String>,
}

impl Check {
    /// What a look came to; an error is told with its causes.
    pub(super) fn new(name: &'static str, outcome: Result<String, StoreError>) -> Self {
        Self {
            name,
            outcome: outcome.map_err(|error| sentence(&error)),
        }
    }
}

/// Fails a look with what is wrong.
pub(super) fn demand(holds: bool, otherwise: &'static str) -> Result<(), StoreError> {
    if holds {
        Ok(())
    } else {
        Err(broken(otherwise))
    }
}

fn sentence(error: &StoreError) -> String {
    // What a look found wrong is said by the source alone.
    let mut cause: Option<&dyn Error> = match error {
        StoreError::Broken(source) => Some(&**source),
        _ => Some(error),
    };
    let mut text = String::new();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
