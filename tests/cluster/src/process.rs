//! One server process with its children, as the kernel lists them.

use std::{
    fs,
    process::{Child, Command},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::poll::poll;

/// A server's first process. Dropping kills it and waits for it.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(mut command: Command) -> Self {
        Self(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")),
        )
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Asks PostgreSQL for what it calls a fast shutdown, and waits for its end.
    pub(crate) fn stop(mut self) {
        signal(self.pid(), Signal::INT);
        poll(|| self.has_ended().then_some(())).expect("the server does not stop; is it frozen?");
    }

    /// Ends it and its children where they stand. Frozen first: none sees another's end and cleans up after it.
    pub(crate) fn kill(self) {
        self.freeze();
        let children = self.children();
        for &child in &children {
            signal(child, Signal::KILL);
        }
        drop(self);
        for child in children {
            await_state(child, |state| state.is_none());
        }
    }

    /// Parent first: once it is stopped there are no new children.
    pub(crate) fn freeze(&self) {
        freeze(self.pid());
        for child in self.children() {
            freeze(child);
        }
    }

    /// Parent last: while it sleeps nobody connects, so that nobody meets a half-frozen server.
    pub(crate) fn thaw(&self) {
        for child in self.children() {
            signal(child, Signal::CONT);
        }
        signal(self.pid(), Signal::CONT);
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.pid();
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .expect("Linux lists the children of a process that has not been waited for")
            .split_whitespace()
            .filter_map(|child| Pid::from_raw(child.parse().ok()?))
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn freeze(pid: Pid) {
    signal(pid, Signal::STOP);
    await_state(pid, |state| matches!(state, None | Some('T')));
}

/// A process that has just ended by itself needs no signal, so that failing is fine.
fn signal(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

fn await_state(pid: Pid, is_expected: impl Fn(Option<char>) -> bool) {
    poll(|| is_expected(state(pid)).then_some(()))
        .unwrap_or_else(|| panic!("process {pid} does not heed its signal"));
}

/// The state letter of proc_pid_stat(5), after the parenthesised name; `None` for what has ended, waited for or not.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.chars().next().filter(|state| !"ZX".contains(*state))
}
