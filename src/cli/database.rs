//! The commands that open the database themselves.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::Failure;
use crate::{
    config::check_database_url,
    store::{StoreError, sqlite::SqliteStore, verify::Check},
};

/// Which database.
#[derive(Debug, Args)]
pub struct Database {
    /// Where the database is
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite://rollcall.db",
        hide_env_values = true
    )]
    database_url: String,
}

impl Database {
    pub(super) async fn migrate(&self, out: &mut impl Write) -> Result<(), Failure> {
        check_database_url(&self.database_url)?;
        migrate(&self.database_url).await?;
        writeln!(out, "the database is up to date")?;
        Ok(())
    }

    pub(super) async fn verify(&self, json: bool, out: &mut impl Write) -> Result<(), Failure> {
        check_database_url(&self.database_url)?;
        let checks = verify(&self.database_url).await;
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

async fn migrate(url: &str) -> Result<(), StoreError> {
    SqliteStore::migrate(url).await
}

async fn verify(url: &str) -> Vec<Check> {
    SqliteStore::verify(url).await
}

fn as_json(check: &Check) -> serde_json::Value {
    let (ok, detail) = match &check.outcome {
        Ok(found) => (true, found),
        Err(wrong) => (false, wrong),
    };
    json!({ "name": check.name, "ok": ok, "detail": detail })
}
