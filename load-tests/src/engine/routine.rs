//! What a member does by itself, and when: planned ahead, each act with the time at which it was due.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    chance::Chance,
    scenario::{Heartbeat, Population, Span},
};

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Heartbeat,
    /// With a state of about so many bytes.
    Update(usize),
    /// With a payload of about so many bytes.
    Broadcast(usize),
}

/// What a member does.
#[derive(Debug)]
pub(super) struct Routine {
    acts: Vec<Recurring>,
    chance: Chance,
}

#[derive(Debug)]
struct Recurring {
    act: Act,
    every: Span,
    at: Instant,
}

impl Routine {
    /// Begins. Everything has its first time within its first interval, so that people do not all speak at once.
    pub(super) fn begin(
        population: &Population,
        interval: Duration,
        now: Instant,
        mut chance: Chance,
    ) -> Self {
        let beat = population.heartbeat.unwrap_or(Heartbeat {
            every: interval,
            jitter: 0.0,
        });
        let update = population
            .update
            .map(|update| (Act::Update(update.bytes), update.every));
        let broadcast = population.broadcast.map(|broadcast| {
            let every = Duration::from_secs_f64(1.0 / broadcast.per_second);
            (Act::Broadcast(broadcast.bytes), Span::Fixed(every))
        });
        let acts = [Some((Act::Heartbeat, jittered(beat))), update, broadcast];
        let begin = |(act, every): (Act, Span)| Recurring {
            act,
            every,
            at: now + every.mean().mul_f64(chance.share()),
        };
        Self {
            acts: acts.into_iter().flatten().map(begin).collect(),
            chance,
        }
    }

    /// From here on nothing but heartbeats.
    pub(super) fn hush(&mut self) {
        self.acts
            .retain(|recurring| recurring.act == Act::Heartbeat);
    }

    /// When there is something to do next; `None`: never.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.acts.iter().map(|recurring| recurring.at).min()
    }

    /// What is to be done by now, and when it was due. The next time follows from that, however late this is: a slow server
    /// is not spared, and a slow client hides nothing.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Act, Instant)> {
        let due = self.acts.iter_mut().filter(|recurring| recurring.at <= now);
        let first = due.min_by_key(|recurring| recurring.at)?;
        let at = first.at;
        // An exponential interval may be nothing at all.
        let every = first.every.draw(&mut self.chance);
        first.at += every.max(Duration::from_millis(1));
        Some((first.act, at))
    }
}

fn jittered(beat: Heartbeat) -> Span {
    let off = beat.every.mul_f64(beat.jitter.clamp(0.0, 1.0));
    Span::Between(beat.every - off, beat.every + off)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn acts_come_in_order_with_the_time_they_were_due() {
        let text = r#"
            name = "x"
            about = "y"
            [[phase]]
            name = "all"
            duration = "1s"
            [[population]]
            name = "p"
            clients = 1
            rooms = { count = 1 }
            arrive = {}
            heartbeat = { every = "1s", jitter = 0.5 }
            broadcast = { per_second = 10 }
        "#;
        let scenario = Scenario::read(text).unwrap();
        let now = Instant::now();
        let begin = || {
            let chance = Chance::of(3);
            Routine::begin(
                &scenario.populations[0],
                Duration::from_secs(30),
                now,
                chance,
            )
        };
        let acts = |mut routine: Routine| -> Vec<_> {
            let later = now + Duration::from_secs(10);
            std::iter::from_fn(|| routine.take(later)).collect()
        };
        let all = acts(begin());
        assert!(all.is_sorted_by_key(|(_, due)| *due));
        let beats = all.iter().filter(|(act, _)| *act == Act::Heartbeat).count();
        assert!((7..=15).contains(&beats), "{beats}");
        assert_eq!(all.len() - beats, 100);
        assert_eq!(all, acts(begin()), "a seed repeats");
        let mut hushed = begin();
        hushed.hush();
        assert_eq!(acts(hushed).len(), beats);
    }
}
