//! Entering: attempts, what the server says to each, and whether that is right.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::{Actor, Way};
use crate::{
    chance::{Backoff, Chance},
    engine::{
        books::Step,
        judge::{Expected, expect},
        member::Member,
        record::Standing,
    },
    fault::Fault,
    wire::{Entry, Refusal, Socket},
};

/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Whoever is not in after so many is lost.
const ATTEMPTS: usize = 100;

/// What came of an attempt.
enum Knock {
    In(Box<Member>),
    Refused(Refusal),
    Failed(String),
}

impl Actor {
    /// Tries until admitted, or refused for good; `None`: refused, as it should be or not.
    pub(super) async fn enter(&self, mut way: Way, chance: &mut Chance) -> Option<Box<Member>> {
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
}
