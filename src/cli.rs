//! The command line: what can be asked, and what the exit code says.
//!
//! `serve`, `migrate` and `verify` work here; every other command asks the running server over its management API,
//! because only it knows who is live. Exit codes: 0, 1 (failed, refused, or something is wrong with the database),
//! 64 (the words make no sense).

mod client;
mod database;
mod remote;
mod secrets;
mod table;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

pub use self::{
    client::Connection, database::Database, remote::Remote, secrets::exposed as exposed_secrets,
};
use crate::{
    config::{ConfigErrors, Options},
    telemetry::chain,
};

/// The exit code of usage and configuration mistakes: `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

/// A self-hosted real-time presence server: who is here, and when was each last seen
///
/// Without a command, `serve` and its options are meant.
#[derive(Debug, Parser)]
#[command(name = "rollcall", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(Box<Options>),
    /// Bring the database to this version's schema
    Migrate(Database),
    /// Check that the database and its directory are fit for use; exit code 1 if not
    Verify(Verification),
    /// Print a fresh random secret, good as an API key and as a secret for access tokens
    Key,
    /// What the running server is asked.
    #[command(flatten)]
    Remote(Remote),
}

/// What `verify` is told.
#[derive(Debug, Args)]
pub struct Verification {
    #[command(flatten)]
    database: Database,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads the command line.
///
/// # Errors
///
/// The exit code, after the help, version or mistake has been printed.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    match Cli::try_parse_from(words) {
        Ok(cli) => Ok(cli
            .command
            .unwrap_or_else(|| Command::Serve(Box::new(cli.options)))),
        Err(answer) => {
            // Nothing can be told to whoever closed the output.
            let _ = answer.print();
            Err(if answer.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            })
        }
    }
}

/// Prints a fresh secret.
pub fn key() -> ExitCode {
    finish(secrets::print(&mut io::stdout().lock()))
}

/// Asks the running server.
pub fn ask(remote: &Remote) -> ExitCode {
    finish(remote.run(&mut io::stdout().lock()))
}

/// Brings the database up to date.
pub async fn migrate(database: &Database) -> ExitCode {
    finish(database.migrate(&mut io::stdout()).await)
}

/// Checks the database.
pub async fn verify(verification: &Verification) -> ExitCode {
    finish(
        verification
            .database
            .verify(verification.json, &mut io::stdout())
            .await,
    )
}

/// Reports the mistakes in the configuration.
pub fn misconfigured(mistakes: &ConfigErrors) -> ExitCode {
    let mut stderr = io::stderr().lock();
    for mistake in &mistakes.0 {
        let _ = writeln!(stderr, "error: {mistake}");
    }
    let hint = "every option is also an environment variable: --listen is ROLLCALL_LISTEN; see `rollcall --help`";
    let _ = writeln!(stderr, "\n{hint}");
    USAGE.into()
}

/// Reports an error with its causes, one line.
pub fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "error: {}", chain(error));
    ExitCode::FAILURE
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The words make no sense together.
    #[error("{0}")]
    Usage(String),
    /// An option has a wrong value.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The server said no.
    #[error("{detail} ({code})")]
    Refused { detail: String, code: String },
    /// The server was not there.
    #[error(
        "cannot reach the server at {server}: {cause}; is it running? Set --server or ROLLCALL_SERVER if it is elsewhere"
    )]
    Unreachable { server: String, cause: String },
    /// Something answered that is not Rollcall.
    #[error("{server} answered {status} without JSON; is it a Rollcall server?")]
    NotRollcall { server: String, status: u16 },
    /// The database said no.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A check failed; which one is on the output.
    #[error("the database is not fit for use")]
    Unfit,
    /// The output was closed or is full.
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

fn finish(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // `rollcall room list | head` has what it wanted.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::Config(mistakes)) => misconfigured(&mistakes),
        Err(failure @ Failure::Usage(_)) => {
            failed(&failure);
            USAGE.into()
        }
        Err(failure) => failed(&failure),
    }
}

#[cfg(test)]
mod tests;
