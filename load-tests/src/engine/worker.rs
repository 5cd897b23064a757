//! A process with people in it: told its plan and its cues a line at a time, it answers with every second.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Stdout},
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    books::Tick,
    cast::Part,
    check::{When, check_rosters, check_store},
    flood,
    person::Actor,
    record::Record,
    room::Room,
    stage::{Cue, Settings, Stage},
};
use crate::{
    clock,
    fault::{Fault, Faults},
    holder::{hear, say},
    measure::{lag::Lag, process::Process},
    scenario::Scenario,
    wire::Route,
};

/// How long those who were cut off may take to be back once it is quiet.
const BACK_WITHIN: Duration = Duration::from_secs(30);
/// How often it is asked whether they are.
const LOOK: Duration = Duration::from_millis(50);
/// A heartbeat that was due so long ago should have been answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// What a process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The file, and how many times as many people.
    pub scenario: String,
    pub scale: f64,
    pub to: SocketAddr,
    pub key: Option<String>,
    /// The last numbers of the clients' own addresses.
    pub hosts: Vec<u8>,
    pub settings: Settings,
    pub rooms: Vec<Hall>,
    /// With the room's place in this list, and the words of the query.
    pub people: Vec<(Part, String)>,
    /// Tickets for those who misbehave; none: that is another process's business.
    pub flood: Vec<String>,
}

/// A room.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hall {
    pub id: String,
    pub idle: Option<Duration>,
}

/// What a process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    Plan(Box<Plan>),
    /// Begin at this time of the machine's clock.
    Go {
        at: u64,
    },
    Cue(Cue),
    /// Compare some rosters, without an answer.
    Look,
    /// Wait until everybody is back and everything is read, compare everything, and answer.
    Finish,
}

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Has its plan.
    Ready,
    /// Everybody knows the cue.
    Heard,
    Tick(Box<Tick>),
    Done(Box<Done>),
}

/// What was found in the end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Done {
    pub faults: Faults,
    pub counts: std::collections::BTreeMap<String, u64>,
}

/// Is such a process, until its standard input ends.
///
/// # Errors
/// It was told what it does not understand.
pub fn run() -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work())?;
    Ok(true)
}

async fn work() -> anyhow::Result<()> {
    let mut words = BufReader::new(tokio::io::stdin()).lines();
    let Some(Word::Plan(plan)) = hear(&mut words).await? else {
        return Ok(());
    };
    let mut troupe = Troupe::gather(*plan)?;
    troupe.answer(&Answer::Ready).await?;
    while let Some(word) = hear(&mut words).await? {
        match word {
            Word::Plan(_) => anyhow::bail!("a second plan"),
            Word::Go { at } => troupe.begin(clock::instant(at)),
            Word::Cue(cue) => {
                troupe.stage.tell(cue);
                troupe.answer(&Answer::Heard).await?;
            }
            Word::Look => troupe.look(),
            Word::Finish => {
                let done = troupe.finish().await;
                troupe.answer(&Answer::Done(Box::new(done))).await?;
            }
        }
    }
    Ok(())
}

/// Everybody of this process.
struct Troupe {
    stage: Arc<Stage>,
    key: Option<String>,
    tickets: Arc<Vec<String>>,
    /// Those who wait for the word.
    actors: Vec<Actor>,
    tasks: JoinSet<()>,
    answers: Arc<Mutex<Stdout>>,
}

impl Troupe {
    fn gather(plan: Plan) -> anyhow::Result<Self> {
        let mut scenario = Scenario::read(&plan.scenario)?;
        scenario.scale(plan.scale);
        let record = |(part, _): &(Part, String)| {
            let is_slow = scenario.populations[part.population].read.is_some();
            Arc::new(Record::new(is_slow))
        };
        let records: Vec<_> = plan.people.iter().map(record).collect();
        let rooms = rooms(plan.rooms, &plan.people, &records);
        let hosts = plan.hosts.iter();
        let routes = hosts.map(|host| Route::toward(plan.to, *host)).collect();
        let stage = Arc::new(Stage::new(scenario, plan.settings, routes, rooms));
        let actors = plan.people.into_iter().zip(records);
        let actors = actors.map(|((part, query), record)| Actor {
            room: Arc::clone(&stage.rooms[part.room]),
            stage: Arc::clone(&stage),
            part,
            query,
            record,
        });
        Ok(Self {
            key: plan.key,
            tickets: Arc::new(plan.flood),
            actors: actors.collect(),
            tasks: JoinSet::new(),
            answers: Arc::new(Mutex::new(tokio::io::stdout())),
            stage,
        })
    }

    fn begin(&mut self, began: Instant) {
        for actor in self.actors.drain(..) {
            self.tasks.spawn(actor.live(began));
        }
        if !self.tickets.is_empty() {
            for at in 0..self.stage.scenario.floods.len() {
                let (stage, tickets) = (Arc::clone(&self.stage), Arc::clone(&self.tickets));
                self.tasks.spawn(flood::pour(stage, at, tickets, began));
            }
        }
        let (stage, answers) = (Arc::clone(&self.stage), Arc::clone(&self.answers));
        self.tasks.spawn(async move {
            // Whoever listened is gone, and with them this process soon.
            let _ = keep_ticking(&stage, &answers, began).await;
        });
    }

    fn look(&mut self) {
        let (stage, key) = (Arc::clone(&self.stage), self.key.clone());
        self.tasks
            .spawn(async move { check_rosters(&stage, key.as_deref(), When::Busy).await });
    }

    async fn finish(&self) -> Done {
        let (stage, key) = (&self.stage, self.key.as_deref());
        let deadline = Instant::now() + BACK_WITHIN;
        while stage.books.on_their_way() > 0 && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        let missing = stage.books.on_their_way();
        if missing > 0 {
            stage.fault(Fault::Lost, format!("{missing} are not back"));
        }
        check_rosters(stage, key, When::Quiet).await;
        check_store(stage, key).await;
        check_answers(stage);
        Done {
            faults: stage.books.tally.faults(),
            counts: stage.books.counts(),
        }
    }

    async fn answer(&self, answer: &Answer) -> anyhow::Result<()> {
        say(&mut *self.answers.lock().await, answer).await
    }
}

fn rooms(halls: Vec<Hall>, people: &[(Part, String)], records: &[Arc<Record>]) -> Vec<Arc<Room>> {
    let mut members = vec![Vec::new(); halls.len()];
    for ((part, _), record) in people.iter().zip(records) {
        members[part.room].push(Arc::clone(record));
    }
    let rooms = halls.into_iter().zip(members).map(|(hall, people)| Room {
        id: hall.id,
        idle: hall.idle,
        people,
    });
    rooms.map(Arc::new).collect()
}

/// Says what each second brought, as soon as it is over.
async fn keep_ticking(
    stage: &Stage,
    answers: &Mutex<Stdout>,
    began: Instant,
) -> anyhow::Result<()> {
    sleep_until(began).await;
    let (lag, process) = (Lag::watch(), Process(std::process::id()));
    let before = process.cpu_seconds()?;
    for second in 0.. {
        sleep_until(began + Duration::from_secs(second + 1)).await;
        let mut tick = stage.books.tick(second);
        tick.lag = lag.late().drain();
        tick.cpu_seconds = process.cpu_seconds()? - before;
        say(&mut *answers.lock().await, &Answer::Tick(Box::new(tick))).await?;
    }
    Ok(())
}

/// Heartbeats of those who are still in that should have been answered long ago.
fn check_answers(stage: &Stage) {
    let people = stage.rooms.iter().flat_map(|room| &room.people);
    for person in people.filter(|person| person.is_in() && !person.is_slow) {
        let asked_at = person.look(|state| state.asked_at);
        if let Some(waits) = asked_at
            .map(|at| at.elapsed())
            .filter(|waits| *waits > ANSWERED_WITHIN)
        {
            stage.fault(Fault::Unanswered, format!("a heartbeat for {waits:?}"));
        }
    }
}
