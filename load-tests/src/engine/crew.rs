//! The processes that people are in, from the outside.

use std::process::Stdio;

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin},
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
    cue: Cue,
    _readers: JoinSet<()>,
}

#[derive(Debug)]
struct Worker {
    _child: Child,
    words: ChildStdin,
}

impl Crew {
    /// Starts them, and waits until each has its plan. From the main thread only (see [`child`]).
    pub(super) async fn start(plans: Vec<Plan>) -> anyhow::Result<Self> {
        let (tick, ticks) = mpsc::channel(HEARD);
        let (done, dones) = mpsc::channel(plans.len().max(1));
        let (mut workers, mut readers) = (Vec::new(), JoinSet::new());
        let mut all_answers = Vec::new();
        for plan in plans {
            let mut command = child::command(&["work"])?;
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().context("cannot start a process")?;
            let mut words = child.stdin.take().context("no standard input")?;
            let answers = child.stdout.take().context("no standard output")?;
            say(&mut words, &Word::Plan(Box::new(plan))).await?;
            all_answers.push(BufReader::new(answers).lines());
            workers.push(Worker {
                _child: child,
                words,
            });
        }
        for mut answers in all_answers {
            let Some(Answer::Ready) = hear(&mut answers).await? else {
                anyhow::bail!("a process with people does not start");
            };
            let (tick, done) = (tick.clone(), done.clone());
            readers.spawn(async move {
                while let Ok(Some(answer)) = hear(&mut answers).await {
                    let heard = match answer {
                        Answer::Ready => true,
                        Answer::Tick(said) => tick.send(*said).await.is_ok(),
                        Answer::Done(said) => done.send(*said).await.is_ok(),
                    };
                    if !heard {
                        return;
                    }
                }
            });
        }
        Ok(Self {
            workers,
            ticks,
            dones,
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

    /// Tells everybody something new.
    pub(super) async fn cue(&mut self, change: impl FnOnce(&mut Cue)) -> anyhow::Result<()> {
        change(&mut self.cue);
        self.tell(&Word::Cue(self.cue)).await
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
