//! A person's lives: comes when due, stays, goes, is away, and comes back, until the run is over.
//!
//! The times follow from each other and from nothing that the server does: whoever is welcomed late has had less of the stay.

mod entering;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{
    cast::Part,
    member::{Member, Stay},
    record::Record,
    room::Room,
    routine::Routine,
    stage::Stage,
};
use crate::{
    chance::{Backoff, Chance},
    fault::Fault,
    scenario::{Back, End, Population},
};

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
                let mut way = self.cut(&member, stage.settings.grace, due, chance);
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
            End::Drop => self.cut(&member, self.stage.settings.grace, due, chance),
        }
    }

    /// Hangs up, once this is back and the member is dropped. The seat is held for as long as `grace` at least.
    fn cut(&self, member: &Member, grace: Duration, due: Instant, chance: &mut Chance) -> Way {
        self.record.cut(grace);
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
        let settings = &self.stage.settings;
        let grace = match self.stage.cue().is_outage {
            true => settings.restart_grace,
            false => settings.grace,
        };
        let mut way = self.cut(member, grace, Instant::now() + wait, chance);
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
