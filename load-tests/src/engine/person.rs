//! A person's lives: comes when due, stays, goes, is away, and comes back, until the run is over.
//!
//! The times follow from each other and from nothing that the server does: whoever is welcomed late has had less of the stay.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    books::Step,
    cast::Part,
    judge::{Expected, expect},
    member::{Member, Stay},
    record::{Record, Standing},
    room::Room,
    routine::Routine,
    stage::Stage,
};
use crate::{
    chance::{Backoff, Chance},
    fault::Fault,
    scenario::{Back, End, Population},
    wire::{Entry, Refusal, Socket},
};

/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Whoever is not in after so many is lost.
const ATTEMPTS: usize = 100;
/// Of a server that goes away.
const RESTARTING: u16 = 1012;
/// Of a server that has waited long enough for somebody to read.
const TOO_SLOW: u16 = 1013;

/// A person.
pub(super) struct Actor {
    pub part: Part,
    pub query: String,
    pub room: Arc<Room>,
    pub record: Arc<Record>,
    pub stage: Arc<Stage>,
}

/// How somebody comes.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub query: String,
    pub due: Instant,
    pub is_resume: bool,
    /// When the connection before was lost, if that was not meant.
    lost_at: Option<Instant>,
}

/// What came of an attempt.
enum Knock {
    In(Box<Member>),
    Refused(Refusal),
    Failed(String),
}

impl Actor {
    /// Lives until it is over; `began` is when the run did.
    pub(super) async fn live(self, began: Instant) {
        let mut chance = self.part.chance(2);
        let population = self.population();
        let mut way = self.first_way(began + self.arrival(&mut chance));
        for _ in 0..population.lives.unwrap_or(u32::MAX) {
            if !self.wait_for(way.due).await {
                return;
            }
            let stay = population.stay.map(|stay| stay.draw(&mut chance));
            way = match self.enter(way.clone(), &mut chance).await {
                Some(member) => self.visit(*member, way.due, stay, &mut chance).await,
                None => self.first_way(way.due + self.away(&mut chance)),
            };
        }
    }

    fn population(&self) -> &Population {
        &self.stage.scenario.populations[self.part.population]
    }

    /// When this one comes first, since the beginning.
    fn arrival(&self, chance: &mut Chance) -> Duration {
        let (population, scenario) = (self.population(), &self.stage.scenario);
        let named = population.arrive.phase.as_ref();
        let phase = named.and_then(|name| scenario.phase(name.get_ref()));
        let due = population
            .arrive
            .due(self.part.at, population.clients, chance);
        scenario.span(phase.unwrap_or(0)).start + due
    }

    fn away(&self, chance: &mut Chance) -> Duration {
        // Nobody who is refused at once asks again at once.
        let away = self.population().away.draw(chance);
        away.max(Duration::from_millis(1))
    }

    fn first_way(&self, due: Instant) -> Way {
        Way {
            query: self.query.clone(),
            due,
            is_resume: false,
            lost_at: None,
        }
    }

    /// Waits; false: the run is over.
    async fn wait_for(&self, due: Instant) -> bool {
        let mut cues = self.stage.cues.subscribe();
        tokio::select! {
            () = sleep_until(due) => !self.stage.cue().is_hushed,
            _ = cues.wait_for(|cue| cue.is_hushed) => false,
        }
    }

    /// Tries until admitted, or refused for good; `None`: refused, as it should be or not.
    async fn enter(&self, mut way: Way, chance: &mut Chance) -> Option<Box<Member>> {
        let _trying = self.stage.books.trying();
        let mut backoff = Backoff::default();
        for _ in 0..ATTEMPTS {
            sleep_until(way.due).await;
            let wait = match self.attempt(&way).await {
                Ok(member) => return member,
                Err(wait) => wait.unwrap_or_else(|| backoff.next(chance)),
            };
            way.due = Instant::now() + wait;
        }
        self.stage
            .fault(Fault::Lost, format!("not in after {ATTEMPTS} attempts"));
        None
    }

    /// One attempt. An error is how long to wait before the next, if the server said.
    async fn attempt(&self, way: &Way) -> Result<Option<Box<Member>>, Option<Duration>> {
        let before = expect(self, way);
        let knock = timeout(PATIENCE, self.knock(way)).await;
        let expected = expect(self, way).or_unsure(before);
        match knock {
            Ok(Knock::In(member)) => Ok(self.admitted(member, way, &expected)),
            Ok(Knock::Refused(refusal)) if matches!(refusal.status, 429 | 503) => {
                self.stage.books.entry(&refusal.code);
                Err(refusal.retry_after_ms.map(Duration::from_millis))
            }
            Ok(Knock::Refused(refusal)) => {
                self.refused(&refusal, way, &expected);
                Ok(None)
            }
            Ok(Knock::Failed(text)) => {
                self.failed(Fault::Lost, &text);
                Err(None)
            }
            Err(_) => {
                self.failed(Fault::Unanswered, &format!("no answer within {PATIENCE:?}"));
                Err(None)
            }
        }
    }

    async fn knock(&self, way: &Way) -> Knock {
        let route = self.stage.route(&self.part);
        let socket = match Socket::enter(&route, &way.query).await {
            Ok(Entry::Open(socket)) => socket,
            Ok(Entry::Refused(refusal)) => return Knock::Refused(refusal),
            Err(error) => return Knock::Failed(format!("on the way in: {error:#}")),
        };
        self.took(Step::Connect, way.due);
        let pause = self.population().read.map(|read| read.pause);
        match Member::greet(socket, &self.stage, &self.record, pause).await {
            Ok(member) => Knock::In(Box::new(member)),
            Err(error) => Knock::Failed(format!("on the way in: {error:#}")),
        }
    }

    fn took(&self, step: Step, since: Instant) {
        if self.population().read.is_none() {
            self.stage.books.took(step, since.elapsed());
        }
    }

    fn failed(&self, fault: Fault, text: &str) {
        self.stage.books.entry("failed");
        if !self.stage.cue().is_outage {
            self.stage.fault(fault, text);
        }
    }

    fn admitted(&self, member: Box<Member>, way: &Way, expected: &Expected) -> Option<Box<Member>> {
        if let Expected::Refusal(codes) = expected {
            let text = format!("admitted to {} with what must get {codes:?}", self.room.id);
            self.stage.fault(Fault::Admitted, text);
            self.stage.books.entry("admitted");
            return None;
        }
        self.check_way(&member, way);
        let books = &self.stage.books;
        books.entry(if member.resumed {
            "resumed"
        } else {
            "admitted"
        });
        self.took(
            if member.resumed {
                Step::Resume
            } else {
                Step::Welcome
            },
            way.due,
        );
        if let Some(lost_at) = way.lost_at {
            self.took(Step::Back, lost_at);
        }
        self.record
            .welcomed(member.own(), member.view(), member.resumed);
        self.stage.know(member.own(), &self.record);
        if !member.resumed {
            self.stage.sightings.came(member.own(), way.due, books);
        }
        Some(member)
    }

    /// Who is back before the seat was free has it still; and is who they were.
    fn check_way(&self, member: &Member, way: &Way) {
        let (own, standing) = self.record.look(|state| (state.own, state.standing));
        if own.is_some_and(|own| own != member.own()) {
            let text = format!("{own:?} came back as {:?}", member.own());
            self.stage.fault(Fault::Ghost, text);
        }
        if let Standing::Cut { until, .. } = standing
            && way.is_resume
            && !member.resumed
            && Instant::now() < until
        {
            self.stage
                .fault(Fault::NotResumed, "back within the grace, but as new");
        }
    }

    fn refused(&self, refusal: &Refusal, way: &Way, expected: &Expected) {
        self.stage.books.entry(&refusal.code);
        if self.stage.cue().is_outage && matches!(refusal.status, 500..) {
            return;
        }
        let told = (refusal.status, refusal.code.as_str());
        match expected {
            Expected::Admission => {
                self.stage
                    .fault(Fault::Refused, format!("{}: {refusal:?}", self.room.id));
            }
            Expected::Refusal(codes) if !codes.contains(&told) => {
                self.stage
                    .fault(Fault::Misjudged, format!("{told:?} instead of {codes:?}"));
            }
            Expected::Refusal(_) | Expected::Either => self.took(Step::Refusal, way.due),
        }
    }

    /// Stays, and goes; how they come back.
    async fn visit(
        &self,
        mut member: Member,
        due: Instant,
        stay: Option<Duration>,
        chance: &mut Chance,
    ) -> Way {
        let stage = &self.stage;
        stage.books.opened();
        let routine = Routine::begin(
            self.population(),
            member.interval,
            Instant::now(),
            self.part.chance(3 + chance.below(1000) as u64),
        );
        let until = stay.map(|stay| due + stay);
        let mut cues = stage.cues.subscribe();
        let stay = member.stay(routine, until, &mut cues).await;
        stage.books.closed();
        let now = Instant::now();
        match stay {
            Stay::Over => self.go(member, until.unwrap_or(now), chance).await,
            Stay::Dropped => {
                let due = now + self.away(chance);
                let mut way = self.cut(&member, due, chance);
                way.lost_at = Some(now);
                way
            }
            stay => self.lost(&member, &stay, chance),
        }
    }

    /// Goes by itself. When it comes back follows from when it was to go.
    async fn go(&self, member: Member, until: Instant, chance: &mut Chance) -> Way {
        let due = until + self.away(chance);
        match self.population().ends.draw(chance) {
            End::Leave => {
                member.leave().await;
                self.first_way(due)
            }
            End::Drop => self.cut(&member, due, chance),
        }
    }

    /// Hangs up, once this is back and the member is dropped.
    fn cut(&self, member: &Member, due: Instant, chance: &mut Chance) -> Way {
        self.record.cut(self.stage.grace());
        self.stage.sightings.forget(member.own());
        let mut way = self.first_way(due);
        if self.population().back_by.draw(chance) == Back::Resume {
            way.query = format!("resume={}", member.resume_token);
            way.is_resume = true;
        }
        way
    }

    /// The connection ended by itself; comes back as browsers do.
    fn lost(&self, member: &Member, stay: &Stay, chance: &mut Chance) -> Way {
        let is_slow = self.population().read.is_some() && *stay == Stay::Closed(TOO_SLOW);
        if is_slow {
            self.stage.books.count("too_slow");
        } else {
            self.check_end(member, stay);
        }
        let wait = member
            .hint
            .unwrap_or_else(|| Backoff::default().next(chance));
        let mut way = self.cut(member, Instant::now() + wait, chance);
        way.query = format!("resume={}", member.resume_token);
        way.is_resume = true;
        way.lost_at = Some(Instant::now());
        way
    }

    fn check_end(&self, member: &Member, stay: &Stay) {
        let is_expected = self.stage.cue().is_outage
            && match stay {
                Stay::Closed(code) => *code == RESTARTING && member.hint.is_some(),
                _ => true,
            };
        if !is_expected {
            let text = format!(
                "{}: {stay:?}, to come back after {:?}",
                self.room.id, member.hint
            );
            self.stage.fault(Fault::Lost, text);
        }
    }
}
