//! Runs a scenario: people in processes of their own, a server, and one who looks at both.
//!
//! ```text
//! scenario ──▶ cast (who, where) ──▶ doors (rooms, links) ──▶ crew ═══▶ worker ─▶ person ─▶ member
//!                                                  a line of JSON each way     └▶ flood    └▶ check
//! ```
//!
//! Everything that people do is planned ahead and timed from when it was due (open loop): a server that is slow, or a client
//! that is late, hides nothing. How late the clients were is a figure of its own.

mod books;
mod cast;
mod check;
mod crew;
mod doors;
mod figures;
mod flood;
mod judge;
mod member;
mod options;
mod person;
mod record;
mod room;
mod routine;
mod sightings;
mod stage;
mod target;
mod timeline;
mod watch;
pub mod worker;

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use self::{
    books::Step,
    options::RunOptions,
    timeline::{Listener, News},
};
use self::{
    cast::Cast,
    crew::Crew,
    doors::Doors,
    figures::Findings,
    stage::Settings,
    target::Target,
    timeline::Timeline,
    watch::Watch,
    worker::{Hall, Plan},
};
use crate::{
    child, clock,
    fault::{Fault, Faults},
    outcome::Outcome,
    scenario::{self, Action, Phase, Scenario},
};

/// People of a process; it may have 20,000 descriptors, and one core has enough to do with fewer.
const PER_PROCESS: usize = 8000;
/// Addresses of a process, each of which has 28,000 ports, that rest for a minute after use.
const HOSTS: usize = 6;
/// What a process opens besides connections; of the server, files of its database among it.
const SPARE_DESCRIPTORS: usize = 200;
/// Everybody has heard the word by then.
const LEAD: Duration = Duration::from_millis(300);
/// Connections to a server that has been replaced are found to be broken by then.
const OUTAGE_KNOWN: Duration = Duration::from_secs(2);

/// The text of a scenario by its name or path, with the values that are to be others.
///
/// # Errors
/// There is no such scenario or value.
pub fn text(options: &RunOptions) -> anyhow::Result<String> {
    let mut text = match scenario::find(&options.scenario) {
        Some(text) => text.to_owned(),
        None => read(Path::new(&options.scenario))?,
    };
    for assignment in &options.set {
        text = scenario::set(&text, assignment).context("--set")?;
    }
    Ok(text)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| {
        let shipped: Vec<&str> = scenario::SHIPPED.iter().map(|(name, _)| *name).collect();
        format!(
            "{} is neither a file nor a scenario that comes with this program ({})",
            path.display(),
            shipped.join(", ")
        )
    })
}

/// The scenario that is to be run, at its size.
///
/// # Errors
/// There is none, or it makes no sense.
pub fn scenario(options: &RunOptions) -> anyhow::Result<Scenario> {
    let mut scenario = Scenario::read(&text(options)?).with_context(|| options.scenario.clone())?;
    anyhow::ensure!(options.scale > 0.0, "--scale must be more than 0");
    scenario.scale(options.scale);
    Ok(scenario)
}

/// Runs a scenario from the main thread; the listener is told of every second.
///
/// # Errors
/// It makes no sense, or could not be run to its end.
pub fn run(options: &RunOptions, listener: Listener<'_>) -> anyhow::Result<Outcome> {
    child::raise_descriptors()?;
    let scenario = scenario(options)?;
    let limit = options.limit + scenario.duration();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    // On this very thread, which children hang on to.
    let run = async { timeout(limit, Run::perform(options, &scenario, listener)).await };
    let outcome = runtime.block_on(run);
    outcome.with_context(|| format!("not done within {limit:?}"))?
}

/// A run under way.
struct Run<'a> {
    scenario: &'a Scenario,
    target: Target,
    crew: Crew,
    watch: Watch,
    timeline: Timeline<'a>,
    began: Instant,
    faults: Faults,
    /// All rooms that were made.
    rooms: Vec<String>,
    /// Rooms that the reaper deleted when it was asked to.
    reaped: Option<usize>,
}

impl<'a> Run<'a> {
    async fn perform(
        options: &RunOptions,
        scenario: &'a Scenario,
        listener: Listener<'a>,
    ) -> anyhow::Result<Outcome> {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let target = Target::find(options, scenario).await?;
        let cast = Cast::of(scenario);
        let doors = Doors::open(&target, &cast, !scenario.floods.is_empty()).await?;
        let rooms = doors.all.clone();
        let plans = plans(options, &text(options)?, scenario, &target, (&cast, doors));
        ensure_descriptors(&plans, &target)?;
        let mut crew = Crew::start(plans).await?;
        let began = Instant::now() + LEAD;
        crew.go(clock::micros() + LEAD.as_micros() as u64).await?;
        let mut run = Run {
            scenario,
            watch: Watch::begin(&target, began),
            timeline: Timeline::new(scenario, crew.size(), listener),
            target,
            crew,
            began,
            faults: Faults::default(),
            rooms,
            reaped: None,
        };
        for (at, phase) in scenario.phases.iter().enumerate() {
            run.live_through(at, phase).await?;
        }
        run.conclude(load).await
    }

    async fn live_through(&mut self, at: usize, phase: &Phase) -> anyhow::Result<()> {
        let span = self.scenario.span(at);
        self.listen_until(self.began + span.start).await?;
        for action in &phase.begin {
            self.carry_out(*action).await?;
        }
        self.listen_until(self.began + span.end).await?;
        if at + 1 < self.scenario.phases.len() {
            self.crew.look().await?;
        }
        Ok(())
    }

    async fn listen_until(&mut self, until: Instant) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                tick = self.crew.ticks.recv() => {
                    let tick = tick.context("all processes with people have ended")?;
                    self.timeline.take(tick, &self.watch);
                }
                () = sleep_until(until) => return Ok(()),
            }
        }
    }

    async fn carry_out(&mut self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Drop => self.crew.cue(|cue| cue.drops += 1).await,
            Action::Terminate => self.replace(true).await,
            Action::Kill => self.replace(false).await,
            Action::Reap => {
                let mut api = self.target.api().await?;
                let swept = api.reap().await?;
                self.reaped = Some(self.reaped.unwrap_or(0) + swept);
                Ok(())
            }
        }
    }

    async fn replace(&mut self, politely: bool) -> anyhow::Result<()> {
        self.crew.cue(|cue| cue.is_outage = true).await?;
        if let Err(text) = self.target.replace(politely).await? {
            self.faults.add(Fault::Unclean, text);
        }
        self.watch.replaced(&self.target);
        sleep(OUTAGE_KNOWN).await;
        self.crew.cue(|cue| cue.is_outage = false).await
    }

    /// Everybody stops where they are, and everything is compared.
    async fn conclude(mut self, load: String) -> anyhow::Result<Outcome> {
        // The last second is said a moment after it is over.
        self.listen_until(self.began + self.scenario.duration() + LEAD)
            .await?;
        let looks = self.watch.looks();
        self.crew.cue(|cue| cue.is_hushed = true).await?;
        let dones = self.crew.finish().await?;
        drop(self.crew);
        if self.target.is_elsewhere() {
            doors::close(&self.target, &self.rooms).await?;
        }
        let words = self.target.words.clone();
        let mut faults = self.faults;
        let warnings = match self.target.end(&mut faults).await {
            Ok(warnings) => warnings,
            Err(error) => {
                faults.add(Fault::Unclean, format!("{error:#}"));
                None
            }
        };
        let findings = Findings {
            scenario: self.scenario,
            looks,
            dones,
            faults,
            warnings,
            reaped: self.reaped,
            server: words,
            load,
        };
        Ok(findings.outcome(&self.timeline))
    }
}

/// What each process is to do.
fn plans(
    options: &RunOptions,
    text: &str,
    scenario: &Scenario,
    target: &Target,
    (cast, doors): (&Cast, Doors),
) -> Vec<Plan> {
    let processes = cast.people.len().div_ceil(PER_PROCESS).max(1);
    let shares = cast.shares(processes);
    let mut plans: Vec<Plan> = (0..processes)
        .map(|at| Plan {
            scenario: text.to_owned(),
            scale: options.scale,
            to: target.addr,
            key: target.key.clone(),
            hosts: hosts(at),
            settings: Settings::of(scenario),
            rooms: Vec::new(),
            people: Vec::new(),
            flood: if at == 0 {
                doors.flood.clone()
            } else {
                Vec::new()
            },
        })
        .collect();
    // A room's place in the process that it is in.
    let mut places = Vec::new();
    for ((room, share), id) in cast.rooms.iter().zip(&shares).zip(doors.rooms) {
        let halls = &mut plans[*share].rooms;
        places.push(halls.len());
        halls.push(Hall {
            id,
            idle: room.idle,
        });
    }
    for (part, query) in cast.people.iter().zip(doors.queries) {
        let mut part = part.clone();
        let share = shares[part.room];
        part.room = places[part.room];
        plans[share].people.push((part, query));
    }
    plans
}

/// Refuses what would only fail for want of descriptors.
fn ensure_descriptors(plans: &[Plan], target: &Target) -> anyhow::Result<()> {
    let Some(limit) = child::descriptors() else {
        return Ok(());
    };
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let most = most.saturating_sub(SPARE_DESCRIPTORS);
    let people = || plans.iter().map(|plan| plan.people.len());
    let server = if target.is_elsewhere() {
        0
    } else {
        people().sum()
    };
    let needed = people().max().unwrap_or(0).max(server);
    anyhow::ensure!(
        needed <= most,
        "{needed} people in one process, or at one server, and a process may have {limit} descriptors here: \
         raise `ulimit -Hn`, or take fewer with --scale"
    );
    Ok(())
}

fn hosts(process: usize) -> Vec<u8> {
    let first = 2 + HOSTS * (process % 40);
    (first..first + HOSTS)
        .filter_map(|host| u8::try_from(host).ok())
        .collect()
}
