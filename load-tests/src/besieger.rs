//! Attackers in a process of their own, so that they take no thread's turn from those who are measured.
//!
//! They come at a fixed rate, however the server does. A line of JSON each way: the process is told its assault, begins at the
//! word, and says what came of it when the last attempt is over.

mod attempt;
mod toll;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    task::{JoinSet, LocalSet},
    time::{Instant, sleep_until},
};

pub use self::toll::{Second, Toll};
use self::{attempt::Attempt, toll::Record};
use crate::{
    chance::Chance,
    child,
    holder::{hear, say},
    measure::process::Process,
};

/// Attempts under way at a time; a process may have 20,000 descriptors here.
const ABREAST: usize = 15_000;

/// What a process of attackers is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assault {
    /// The server.
    pub to: SocketAddr,
    /// Where they come from.
    pub sources: Sources,
    /// Attempts of all processes a second.
    pub per_second: u32,
    /// For how long.
    pub lasts: Duration,
    /// Which process this is.
    pub process: u32,
    /// Of how many.
    pub processes: u32,
}

/// Where attackers come from; never 127.0.0.0/16.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Sources {
    /// So many addresses, in turn.
    InTurn(u32),
    /// Each attempt from another, up to fifteen million.
    Everywhere,
}

#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Assault(Assault),
    Go,
}

/// A process of attackers, from the outside. Dropping kills it.
#[derive(Debug)]
pub struct Besieger {
    _child: Child,
    words: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Besieger {
    /// Starts one, which waits for the word. From the main thread only (see [`child`]).
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(assault: Assault) -> anyhow::Result<Self> {
        let mut command = child::command(&["besiege"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start attackers")?;
        let words = child.stdin.take().context("no standard input")?;
        let answers = child.stdout.take().context("no standard output")?;
        let mut besieger = Self {
            _child: child,
            words,
            answers: BufReader::new(answers).lines(),
        };
        say(&mut besieger.words, &Word::Assault(assault)).await?;
        Ok(besieger)
    }

    /// Lets them begin.
    ///
    /// # Errors
    /// They have ended.
    pub async fn go(&mut self) -> anyhow::Result<()> {
        say(&mut self.words, &Word::Go).await
    }

    /// Waits until the last attempt is over.
    ///
    /// # Errors
    /// They have ended.
    pub async fn toll(&mut self) -> anyhow::Result<Toll> {
        hear(&mut self.answers)
            .await?
            .context("attackers have ended")
    }
}

/// Attacks, until its standard input ends.
///
/// # Errors
/// It was told what it does not understand.
pub fn run() -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(besiege()))?;
    Ok(true)
}

async fn besiege() -> anyhow::Result<()> {
    let mut words = BufReader::new(tokio::io::stdin()).lines();
    let Some(Word::Assault(assault)) = hear(&mut words).await? else {
        return Ok(());
    };
    let Some(Word::Go) = hear(&mut words).await? else {
        return Ok(());
    };
    let process = Process(std::process::id());
    let before = process.cpu_seconds()?;
    let mut toll = assault.carry_out().await;
    toll.cpu_seconds = process.cpu_seconds()? - before;
    say(&mut tokio::io::stdout(), &toll).await?;
    // Who asked may still read.
    while words.next_line().await?.is_some() {}
    Ok(())
}

impl Assault {
    /// Each attempt is due at a fixed time. What this machine does not get to in time is not made up for.
    async fn carry_out(self) -> Toll {
        let (began, lasts) = (Instant::now(), self.lasts);
        let record = Rc::new(Record::begin(began));
        let mut under_way = JoinSet::new();
        let count = (lasts.as_secs_f64() * f64::from(self.per_second)) as u64;
        for at in (u64::from(self.process)..count).step_by(self.processes as usize) {
            let due = began + Duration::from_secs_f64(at as f64 / f64::from(self.per_second));
            sleep_until(due).await;
            while under_way.try_join_next().is_some() {}
            record.due();
            if began.elapsed() > lasts || under_way.len() >= ABREAST {
                continue;
            }
            let attempt = Attempt {
                to: self.to,
                from: self.sources.address(at),
                chance: Chance::of(at),
            };
            let record = Rc::clone(&record);
            under_way.spawn_local(async move {
                let second = record.begins(due);
                record.ends(second, attempt.make().await);
            });
        }
        while under_way.join_next().await.is_some() {}
        record.take()
    }
}

impl Sources {
    fn address(self, at: u64) -> IpAddr {
        // 1 to 250 in each place, from the last on: no network's own address, and no broadcast's.
        let place = |at: u64, by: u64| u8::try_from(at / by % 250).unwrap_or_default();
        let (second, at) = match self {
            Self::InTurn(count) => (1, at % u64::from(count)),
            Self::Everywhere => (2 + place(at, 62_500), at),
        };
        Ipv4Addr::new(127, second, place(at, 250), 1 + place(at, 1)).into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn attackers_come_from_where_they_are_told_to() {
        let few: HashSet<IpAddr> = (0..10_000)
            .map(|at| Sources::InTurn(250).address(at))
            .collect();
        assert_eq!(few.len(), 250);
        let many: HashSet<IpAddr> = (0..200_000)
            .map(|at| Sources::Everywhere.address(at))
            .collect();
        assert_eq!(many.len(), 200_000);
        let home = |address: &IpAddr| matches!(address, IpAddr::V4(v4) if v4.octets()[1] == 0);
        assert!(!few.iter().chain(&many).any(home));
    }
}
