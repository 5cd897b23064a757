//! The server under test: a `rollcall serve` of our own, on a free port, ended with us.
//!
//! It may be stopped and started again: on the same database and port, as a process of its own with a log of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    process::Child,
    time::{Instant, sleep},
};

use crate::{
    child,
    fault::{Fault, Faults},
    measure::process::Process,
    options::Common,
};

/// A first start makes the schema; PostgreSQL may have to be waited for.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often the log is looked at until then.
const LOOK: Duration = Duration::from_millis(10);
/// Everybody comes from this machine, and all at once: limits on that are not what is measured.
const RAISED: [&str; 10] = [
    "--handshakes-per-second",
    "none",
    "--total-handshakes-per-second",
    "none",
    "--failed-credentials-per-minute",
    "none",
    "--connections-per-address",
    "none",
    "--join-queue",
    "100000",
];

/// A running server. Dropping kills it and removes its folder.
#[derive(Debug)]
pub struct Server {
    child: Child,
    addr: SocketAddr,
    process: Process,
    recipe: Recipe,
}

/// How it is started, again and again.
#[derive(Debug)]
struct Recipe {
    program: PathBuf,
    database_url: String,
    log: String,
    flags: Vec<String>,
    folder: TempDir,
    starts: usize,
}

/// A line of the log.
#[derive(Debug, Deserialize)]
struct Line {
    level: String,
    message: String,
    address: Option<SocketAddr>,
}

impl Server {
    /// Starts one with these flags besides those that every run needs, and waits until it listens. From the main thread
    /// only (see [`child`]).
    ///
    /// # Errors
    /// It cannot be run, or does not listen; the message ends with its log.
    pub async fn start(common: &Common, flags: &[String]) -> anyhow::Result<Self> {
        let mut all: Vec<String> = RAISED.iter().map(|word| (*word).to_owned()).collect();
        all.extend_from_slice(flags);
        Self::with_flags(common, all).await
    }

    /// The same with the limits that it has by itself, for whoever measures those.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_as_it_is(common: &Common) -> anyhow::Result<Self> {
        Self::with_flags(common, Vec::new()).await
    }

    async fn with_flags(common: &Common, flags: Vec<String>) -> anyhow::Result<Self> {
        let mut recipe = Recipe::new(common, flags)?;
        let (child, addr) = recipe.start(([127, 0, 0, 1], 0).into()).await?;
        Ok(Self {
            process: process(&child)?,
            child,
            addr,
            recipe,
        })
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    ///
    /// # Errors
    /// It had ended by itself.
    pub async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.ensure_running()?;
        let pid = i32::try_from(self.process.0).ok().and_then(Pid::from_raw);
        kill_process(pid.context("not a process id")?, Signal::TERM)?;
        Ok(self.child.wait().await?)
    }

    /// Ends it as a crash does (SIGKILL).
    ///
    /// # Errors
    /// It had ended by itself.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.ensure_running()?;
        Ok(self.child.kill().await?)
    }

    /// Starts it again after it has ended, where it was, and waits until it listens. From the main thread only.
    ///
    /// # Errors
    /// It does not listen; the message ends with its log.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        let (child, _) = self.recipe.start(self.addr).await?;
        self.process = process(&child)?;
        self.child = child;
        Ok(())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Its flags, for the report.
    pub fn flags(&self) -> String {
        self.recipe.flags.join(" ")
    }

    /// Ends it, and answers how many warnings it logged; errors are faults.
    ///
    /// # Errors
    /// It had ended by itself, or its log cannot be read.
    pub async fn end(mut self, faults: &mut Faults) -> anyhow::Result<usize> {
        self.kill().await?;
        let mut warnings = 0;
        for start in 1..=self.recipe.starts {
            let log = fs::read_to_string(self.recipe.log_file(start))?;
            let at = |level: &'static str| log.lines().filter(move |line| line.contains(level));
            at(r#""level":"ERROR""#).for_each(|line| faults.add(Fault::Logged, line));
            warnings += at(r#""level":"WARN""#).count();
        }
        Ok(warnings)
    }

    fn ensure_running(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        anyhow::ensure!(ended.is_none(), "the server ended by itself");
        Ok(())
    }
}

impl Recipe {
    fn new(common: &Common, flags: Vec<String>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("rollcall-load").tempdir()?;
        let url = common.database_url.clone();
        Ok(Self {
            program: program(common)?,
            database_url: url.unwrap_or_else(|| {
                format!("sqlite://{}", folder.path().join("rollcall.db").display())
            }),
            log: common.log.clone(),
            flags,
            folder,
            starts: 0,
        })
    }

    async fn start(&mut self, listen: SocketAddr) -> anyhow::Result<(Child, SocketAddr)> {
        self.starts += 1;
        let file = self.log_file(self.starts);
        let log = fs::File::create(&file)?;
        let mut command = child::command(&["become", "--"])?;
        command
            .arg(&self.program)
            .args(["serve", "--listen", &listen.to_string()])
            .args(["--log-format", "json"])
            .args(["--database-url", &self.database_url, "--log", &self.log])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = command.spawn().context("cannot start a process")?;
        let addr = listening(&mut child, &file).await;
        let addr = addr.with_context(|| format!("{} does not start", self.program.display()))?;
        Ok((child, addr))
    }

    fn log_file(&self, start: usize) -> PathBuf {
        self.folder.path().join(format!("log-{start}"))
    }
}

fn process(child: &Child) -> anyhow::Result<Process> {
    Ok(Process(child.id().context("the server has ended")?))
}

/// What was asked for, or what was built beside this program.
fn program(common: &Common) -> anyhow::Result<PathBuf> {
    let program = match &common.rollcall {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("rollcall"),
    };
    anyhow::ensure!(
        program.is_file(),
        "{} is not built: `cargo build --release --bin rollcall`, or say where it is with --rollcall",
        program.display()
    );
    Ok(program)
}

async fn listening(child: &mut Child, log: &Path) -> anyhow::Result<SocketAddr> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let text = fs::read_to_string(log)?;
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok());
        // Only at the level that says it; a filter that hides it would be waited for in vain.
        let line = lines.find(|line| line.level == "INFO" && line.message == "listening");
        if let Some(addr) = line.and_then(|line| line.address) {
            return Ok(addr);
        }
        let ended = child.try_wait()?;
        anyhow::ensure!(
            ended.is_none() && Instant::now() < deadline,
            "it says:\n{text}"
        );
        sleep(LOOK).await;
    }
}
