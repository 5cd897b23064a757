//! Processes that end with this one, however it ends.
//!
//! A child asks the kernel for it before anything else (`PR_SET_PDEATHSIG`). The server, which does not know of us, is started
//! through `rollcall-load become`, which asks and then becomes the server under the same process id. The signal comes when
//! the *thread* that started the child ends: children are started from the main thread only.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use anyhow::Context;
use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};

/// The process id of who started us, so that a parent which is dead already is noticed.
const PARENT: &str = "LOAD_PARENT";

/// A command of this program, to be started from the main thread.
///
/// # Errors
/// The path of this program is not known.
pub fn command(words: &[&str]) -> anyhow::Result<tokio::process::Command> {
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = tokio::process::Command::new(program);
    // The server's options are ours to choose.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"ROLLCALL_") {
            command.env_remove(name);
        }
    }
    command
        .args(words)
        .env(PARENT, std::process::id().to_string())
        .kill_on_drop(true);
    Ok(command)
}

/// From here on this process is killed when its parent ends.
///
/// # Errors
/// The parent has ended, or the kernel does not offer it.
pub fn die_with_parent() -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    anyhow::ensure!(parent == std::env::var(PARENT).ok(), "the parent has ended");
    raise_descriptors()
}

/// Becomes another program, which keeps the promise of [`die_with_parent`].
///
/// # Errors
/// The program cannot be run; otherwise this does not return.
pub fn become_program(argv: &[OsString]) -> anyhow::Result<()> {
    die_with_parent()?;
    let (program, words) = argv.split_first().context("which program?")?;
    let error = Command::new(program).args(words).env_remove(PARENT).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// How many descriptors a process may have; `None`: as many as it likes.
pub fn descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// One descriptor a connection: as many as the hard limit allows.
///
/// # Errors
/// The kernel refuses.
pub fn raise_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}
