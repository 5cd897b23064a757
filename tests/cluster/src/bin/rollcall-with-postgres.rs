//! Runs a command beside a PostgreSQL server of its own, which `ROLLCALL_TEST_POSTGRES` names to it:
//! `rollcall-with-postgres COMMAND [ARGUMENT…]`. The exit code is the command's.
//!
//! No signal is handled: one that ends this process ends the server too.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
};

use rollcall_test_cluster::{Cluster, SHARED_URL_VARIABLE};

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let Some(program) = words.next() else {
        panic!("usage: rollcall-with-postgres COMMAND [ARGUMENT…]")
    };
    let cluster = Cluster::start();
    let status = Command::new(&program)
        .args(words)
        .env(SHARED_URL_VARIABLE, cluster.url())
        .status()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
    exit_code(status)
}

/// As a shell says it: 128 and the signal for a command that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
