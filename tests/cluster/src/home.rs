//! The private folder of a server: what it writes, who it runs as, and what ends it.

use std::{
    fs::{self, File},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, geteuid};

use crate::{poll::poll, process::Process};

/// A folder whose end is the end of every process that works in it. A guard process sees to that, see `guard.sh`.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    account: Option<Account>,
    guard: Child,
}

impl Home {
    pub(crate) fn new() -> Self {
        let account = geteuid().is_root().then(Account::postgres);
        let path = create_folder(account);
        let guard = start_guard(&path, account);
        Self {
            path,
            account,
            guard,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A command that works in this folder, and begins a new log there. In a process group of its own: an interrupt
    /// from the terminal, and what nextest sends to the group of a test, is for the owner.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let log = File::create(self.file(LOG)).expect("the folder is ours");
        let mut command = Command::new(program);
        command
            .current_dir(&self.path)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is left"))
            .stderr(log)
            .process_group(0);
        become_account(&mut command, self.account);
        command
    }

    /// Runs a command of [`Self::command`] to its end.
    pub(crate) fn run(&self, mut command: Command) {
        let status = command.status();
        assert!(
            status.as_ref().is_ok_and(ExitStatus::success),
            "{command:?}: {status:?}\n{}",
            self.log()
        );
    }

    /// Starts a server and waits until it is ready; `None` where its port is taken.
    pub(crate) fn launch(
        &self,
        command: Command,
        is_ready: impl Fn(Pid) -> bool,
    ) -> Option<Process> {
        let mut server = Process::spawn(command);
        let is_up = poll(|| {
            if server.has_ended() {
                return Some(false);
            }
            is_ready(server.pid()).then_some(true)
        });
        match is_up {
            Some(true) => Some(server),
            Some(false) if self.log().contains("Address already in use") => None,
            _ => panic!("the server does not start\n{}", self.log()),
        }
    }

    /// The end of what the last command wrote.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.file(LOG)).unwrap_or_default();
        let start = log.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&log[start..]).into_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Waiting closes the guard's standard input first, which is its cue.
        let _ = self.guard.wait();
    }
}

/// Who a server runs as where we are root, which both servers refuse to be.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account that Debian's package makes.
    fn postgres() -> Self {
        Self {
            uid: ask_id("-u"),
            gid: ask_id("-g"),
        }
    }
}

fn ask_id(which: &str) -> u32 {
    let output = Command::new("id").args([which, "postgres"]).output();
    output
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok())
        .expect("root needs the account `postgres`, which `make test` or Debian's postgresql package makes")
}

fn become_account(command: &mut Command, account: Option<Account>) {
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
}

fn create_folder(account: Option<Account>) -> PathBuf {
    let folder = tempfile::Builder::new()
        .prefix("rollcall-")
        .tempdir()
        .expect("the folder for temporary files is writable");
    if let Some(Account { uid, gid }) = account {
        chown(folder.path(), Some(uid), Some(gid)).expect("root may give a folder away");
    }
    // Without links, as the kernel will name it to the guard.
    fs::canonicalize(folder.keep()).expect("the folder is there")
}

/// As the server's user, because in a container root may not see where others work.
fn start_guard(folder: &Path, account: Option<Account>) -> Child {
    let mut command = Command::new("sh");
    command
        .args(["-c", include_str!("guard.sh"), "guard"])
        .arg(folder)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    become_account(&mut command, account);
    command.spawn().expect("there is a shell")
}

const LOG: &str = "log";

/// Enough for the reason; the start of a long recovery is cut off.
const LOG_TAIL_BYTES: usize = 4096;
