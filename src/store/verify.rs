//! What `rollcall verify` says about a database.

use super::{StoreError, columns::broken};
use crate::telemetry::chain;

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

/// What a look found wrong is said by the source alone.
fn sentence(error: &StoreError) -> String {
    match error {
        StoreError::Broken(source) => chain(&**source).to_string(),
        _ => chain(error).to_string(),
    }
}
