//! The commands that open the database themselves.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::Failure;
use crate::{
    config::DatabaseOptions,
    store::{self, verify::Check},
};

/// Which database.
#[derive(Debug, Args)]
pub struct Database {
    #[command(flatten)]
    options: DatabaseOptions,
}

impl Database {
    pub(super) async fn migrate(&self, out: &mut impl Write) -> Result<(), Failure> {
        store::migrate(&self.options.resolve()?).await?;
        writeln!(out, "the database is up to date")?;
        Ok(())
    }

    pub(super) async fn verify(&self, json: bool, out: &mut impl Write) -> Result<(), Failure> {
        let checks = store::verify(&self.options.resolve()?).await;
        if json {
            let checks: Vec<_> = checks.iter().map(as_json).collect();
            writeln!(out, "{}", json!({ "checks": checks }))?;
        } else {
            for check in &checks {
                let (word, said) = match &check.outcome {
                    Ok(found) => ("ok  ", found),
                    Err(wrong) => ("FAIL", wrong),
                };
                writeln!(out, "{word}  {}: {said}", check.name)?;
            }
        }
        if checks.iter().all(|check| check.outcome.is_ok()) {
            Ok(())
        } else {
            Err(Failure::Unfit)
        }
    }
}

fn as_json(check: &Check) -> serde_json::Value {
    let (ok, detail) = match &check.outcome {
        Ok(found) => (true, found),
        Err(wrong) => (false, wrong),
    };
    json!({ "name": check.name, "ok": ok, "detail": detail })
}
