//! Clients in a process of their own, which can be ended as a machine is: all its sockets in one instant.
//!
//! A line of JSON each way. The holder is told its plan, begins at the word, says when everybody is in, and reports when asked.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{
    child,
    crowd::{Crowd, Pace, Settled, Ticket},
    fault::Faults,
    measure::{lag::Lag, latency::Recorded},
    script::Script,
    tally::Tally,
    wire::Route,
};

/// What a holder is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The server.
    pub to: SocketAddr,
    /// The last numbers of the clients' own addresses.
    pub hosts: Vec<u8>,
    /// Who enters.
    pub tickets: Vec<Ticket>,
    /// How fast.
    pub pace: Pace,
    /// What they do then.
    pub script: Script,
    /// How long all of them may take to enter.
    pub within: Duration,
}

/// What a holder is told.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Plan(Plan),
    Go,
    Hush,
    Report,
}

/// Everybody is in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Joined {
    /// Who, in no order.
    pub held: Vec<Held>,
    /// How that went.
    pub settled: Settled,
    /// From wanting to enter to the welcome.
    pub welcomes: Recorded,
}

/// A client held elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Held {
    /// The position of its ticket in the plan.
    pub ticket: usize,
    /// The participant.
    pub participant: String,
    /// What brings it back.
    pub resume_token: String,
    /// Whether its seat was held.
    pub resumed: bool,
}

/// What its clients have seen.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sight {
    /// What they were told wrong.
    pub faults: Faults,
    /// Joins and leaves they saw after their welcomes.
    pub moves: u64,
    /// Heartbeats to their answers, since the last report.
    pub acks: Recorded,
    /// How late their process was itself, since the last report.
    pub late: Recorded,
}

/// A holder, from the outside. Dropping kills it.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    words: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    /// Starts one, which waits for the word. From the main thread only (see [`child`]).
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let mut command = child::command(&["hold"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a holder")?;
        let words = child.stdin.take().context("no standard input")?;
        let answers = child.stdout.take().context("no standard output")?;
        let mut holder = Self {
            child,
            words,
            answers: BufReader::new(answers).lines(),
        };
        say(&mut holder.words, &Word::Plan(plan)).await?;
        Ok(holder)
    }

    /// Lets its clients enter.
    ///
    /// # Errors
    /// It has ended.
    pub async fn go(&mut self) -> anyhow::Result<()> {
        say(&mut self.words, &Word::Go).await
    }

    /// Waits until everybody is in.
    ///
    /// # Errors
    /// It has ended.
    pub async fn joined(&mut self) -> anyhow::Result<Joined> {
        hear(&mut self.answers).await?.context("a holder has ended")
    }

    /// What its clients have seen.
    ///
    /// # Errors
    /// It has ended.
    pub async fn report(&mut self) -> anyhow::Result<Sight> {
        say(&mut self.words, &Word::Report).await?;
        hear(&mut self.answers).await?.context("a holder has ended")
    }

    /// Has its clients listen only.
    ///
    /// # Errors
    /// It has ended.
    pub async fn hush(&mut self) -> anyhow::Result<()> {
        say(&mut self.words, &Word::Hush).await
    }

    /// Ends it without a word to anybody.
    ///
    /// # Errors
    /// It has ended already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.start_kill().context("a holder has ended")
    }

    /// Waits until it is gone, and its sockets with it.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn gone(mut self) -> anyhow::Result<()> {
        self.child.wait().await?;
        Ok(())
    }
}

/// Is a holder, until its standard input ends.
///
/// # Errors
/// It was told what it does not understand.
pub fn run() -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(hold())?;
    Ok(true)
}

async fn hold() -> anyhow::Result<()> {
    let mut words = BufReader::new(tokio::io::stdin()).lines();
    let mut answers = tokio::io::stdout();
    let Some(Word::Plan(plan)) = hear(&mut words).await? else {
        return Ok(());
    };
    let Some(Word::Go) = hear(&mut words).await? else {
        return Ok(());
    };
    let tally = Arc::new(Tally::default());
    let routes = plan
        .hosts
        .iter()
        .map(|host| Route::local(plan.to, *host))
        .collect();
    let crowd = Crowd::gather(routes, plan.tickets, plan.pace, plan.script, &tally);
    let (settled, lag) = (crowd.settled(plan.within).await, Lag::watch());
    say(&mut answers, &joined(&crowd, settled, &tally)).await?;
    loop {
        match hear(&mut words).await? {
            Some(Word::Report) => say(&mut answers, &sight(&crowd, &tally, &lag)).await?,
            Some(Word::Hush) => crowd.hush(),
            _ => return Ok(()),
        }
    }
}

fn joined(crowd: &Crowd, settled: Settled, tally: &Tally) -> Joined {
    let held = crowd.seats().into_iter().map(|seat| Held {
        ticket: seat.ticket,
        participant: seat.greeting.participant,
        resume_token: seat.greeting.resume_token,
        resumed: seat.greeting.resumed,
    });
    Joined {
        held: held.collect(),
        settled,
        welcomes: tally.welcomes.recorded(),
    }
}

fn sight(crowd: &Crowd, tally: &Tally, lag: &Lag) -> Sight {
    Sight {
        faults: tally.faults(),
        moves: crowd
            .seats()
            .iter()
            .map(|seat| seat.view.lock().moves().0)
            .sum(),
        acks: tally.acks.drain(),
        late: lag.late().drain(),
    }
}

/// Writes a line.
pub(crate) async fn say(
    to: &mut (impl AsyncWrite + Unpin),
    word: &impl Serialize,
) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    Ok(to.flush().await?)
}

/// Reads a line; `None` at the end.
pub(crate) async fn hear<T: DeserializeOwned>(
    lines: &mut Lines<impl AsyncBufRead + Unpin>,
) -> anyhow::Result<Option<T>> {
    let line = lines.next_line().await?;
    Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
}
