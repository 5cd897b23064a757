//! The processes that people are in, from the outside.

use std::process::Stdio;

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    books::Tick,
    stage::Cue,
    worker::{Answer, Done, Plan, Word},
};
use crate::{
    child,
    holder::{hear, say},
};

/// What all processes said in a few seconds; whoever does not listen for longer stops them from saying more, not from working.
const HEARD: usize = 1024;

/// All processes. Dropping kills them.
#[derive(Debug)]
pub(super) struct Crew {
    workers: Vec<Worker>,
    pub ticks: mpsc::Receiver<Tick>,
    dones: mpsc::Receiver<Done>,
    heard: mpsc::Receiver<()>,
    cue: Cue,
    _readers: JoinSet<()>,
}

#[derive(Debug)]
struct Worker {
    _child: Child,
    words: ChildStdin,
}

type Answers = Lines<BufReader<ChildStdout>>;

impl Worker {
    /// Starts one, and tells it its plan.
    async fn start(plan: Plan) -> anyhow::Result<(Self, Answers)> {
        let mut command = child::command(&["work"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a process")?;
        let mut words = child.stdin.take().context("no standard input")?;
        let answers = child.stdout.take().context("no standard output")?;
        say(&mut words, &Word::Plan(Box::new(plan))).await?;
        let worker = Self {
            _child: child,
            words,
        };
        Ok((worker, BufReader::new(answers).lines()))
    }
}

impl Crew {
    /// Starts them, and waits until each has its plan. From the main thread only (see [`child`]).
    pub(super) async fn start(plans: Vec<Plan>) -> anyhow::Result<Self> {
        let (tick, ticks) = mpsc::channel(HEARD);
        let (done, dones) = mpsc::channel(plans.len().max(1));
        let (hears, heard) = mpsc::channel(plans.len().max(1));
        let (mut workers, mut all_answers) = (Vec::new(), Vec::new());
        for plan in plans {
            let (worker, answers) = Worker::start(plan).await?;
            workers.push(worker);
            all_answers.push(answers);
        }
        let mut readers = JoinSet::new();
        for mut answers in all_answers {
            let Some(Answer::Ready) = hear(&mut answers).await? else {
                anyhow::bail!("a process with people does not start");
            };
            readers.spawn(listen(answers, tick.clone(), done.clone(), hears.clone()));
        }
        Ok(Self {
            workers,
            ticks,
            dones,
            heard,
            cue: Cue::default(),
            _readers: readers,
        })
    }

    /// How many there are.
    pub(super) fn size(&self) -> usize {
        self.workers.len()
    }

    async fn tell(&mut self, word: &Word) -> anyhow::Result<()> {
        for worker in &mut self.workers {
            let said = say(&mut worker.words, word).await;
            said.context("a process with people has ended")?;
        }
        Ok(())
    }

    /// Lets everything begin at this time of the machine's clock.
    pub(super) async fn go(&mut self, at: u64) -> anyhow::Result<()> {
        self.tell(&Word::Go { at }).await
    }

    /// Tells everybody something new, and waits until all know: what is done to the server next is no surprise to anybody.
    pub(super) async fn cue(&mut self, change: impl FnOnce(&mut Cue)) -> anyhow::Result<()> {
        change(&mut self.cue);
        self.tell(&Word::Cue(self.cue)).await?;
        for _ in 0..self.workers.len() {
            let heard = self.heard.recv().await;
            heard.context("a process with people has ended")?;
        }
        Ok(())
    }

    /// Has some rosters compared.
    pub(super) async fn look(&mut self) -> anyhow::Result<()> {
        self.tell(&Word::Look).await
    }

    /// Has everything compared; what each found. Ticks go on meanwhile, and nobody reads them.
    pub(super) async fn finish(&mut self) -> anyhow::Result<Vec<Done>> {
        self.tell(&Word::Finish).await?;
        let mut all = Vec::new();
        while all.len() < self.workers.len() {
            tokio::select! {
                done = self.dones.recv() => all.push(done.context("a process with people has ended")?),
                tick = self.ticks.recv() => drop(tick.context("a process with people has ended")?),
            }
        }
        Ok(all)
    }
}

/// Sorts what a process says, until it ends.
async fn listen(
    mut answers: Answers,
    ticks: mpsc::Sender<Tick>,
    dones: mpsc::Sender<Done>,
    hears: mpsc::Sender<()>,
) {
    while let Ok(Some(answer)) = hear(&mut answers).await {
        let heard = match answer {
            Answer::Ready => true,
            Answer::Heard => hears.send(()).await.is_ok(),
            Answer::Tick(tick) => ticks.send(*tick).await.is_ok(),
            Answer::Done(done) => dones.send(*done).await.is_ok(),
        };
        if !heard {
            return;
        }
    }
}
