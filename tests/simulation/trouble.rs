//! What goes wrong with the store, the clock and the machine.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};

use crate::{
    faults::Away,
    log::Breach,
    model::{Conn, GOODBYE, RECONNECT_GRACE, SLACK},
    news::STALL,
    peer::Phase,
    world::{Later, World},
};

/// A departure is in the store by then.
const FLUSHED_WITHIN: Duration = Duration::from_secs(12);

impl World {
    /// The store begins to misbehave.
    pub fn trouble(&mut self) {
        let what = self.draw(9);
        let longest = self
            .pick(&[2_000, 20_000, 60_000, 240_000])
            .unwrap_or(2_000);
        let lasts = self.millis(longest);
        let slow = self.millis(2_000);
        self.log
            .note(format_args!("trouble {what} for {lasts:?}, slow {slow:?}"));
        {
            let state = &mut *self.faults.state.lock();
            match what {
                0 | 1 => state.away = Some(Away::Refusing),
                2 => state.away = Some(Away::Hanging),
                3 => state.slow = Some(slow),
                4 => state.lost_commits = 2,
                5 => state.lost_flushes = 2,
                6 => state.contended = 3,
                7 => state.locked_joins = 2,
                _ => state.locked_rows = 2,
            }
        }
        self.at(lasts, Later::StoreBack);
    }

    pub fn step_clock(&mut self) {
        let forward = self.chance(50);
        self.log.steps();
        self.clock
            .step(if forward { 3_600_000 } else { -3_600_000 });
        let (now, flushed) = (self.log.newest(), self.faults.flushed());
        self.log
            .note(format_args!("the clock steps, forward {forward}"));
        for room in self.rooms.values_mut() {
            room.flushed(flushed);
            room.heard = None;
            if forward && Some(room.held_at + FLUSHED_WITHIN) >= flushed {
                room.latest = room.latest.max(now);
            }
        }
        (self.stepped_at, self.step_known_at) = (Some(Instant::now()), None);
    }

    /// The whole process stands still, and everybody with it.
    pub async fn stall(&mut self) {
        while self.faults.state.lock().in_flight > 0 {
            self.settle().await;
        }
        let longest = self.pick(&[4_900, 12_000, 130_000]).unwrap_or(4_900);
        let lasts = self.millis(longest);
        self.log.note(format_args!("stall of {lasts:?}"));
        let began = Instant::now();
        advance(lasts).await;
        let now = Instant::now();
        (self.stalled_at, self.stalled_for) = (Some(now), lasts);
        for conn in &mut self.conns {
            // Nobody is to blame for an ack that was on its way.
            for beat in &mut conn.view.lock().waiting {
                beat.at = now;
            }
            conn.note_grace();
            conn.is_unsure |= conn.fault.is_some();
            if let Some((surely, until)) = &mut conn.grace {
                // Found late, and granted again.
                if lasts >= STALL && *surely > began + SLACK && *until <= now {
                    *surely = now + RECONNECT_GRACE - GOODBYE;
                }
                if *until + SLACK >= began {
                    *until = (*until).max(now + RECONNECT_GRACE);
                }
            }
        }
        for (surely, until) in self
            .members
            .values_mut()
            .filter_map(|member| member.restored.as_mut())
        {
            if lasts >= STALL && *surely > began + SLACK && *until <= now {
                *surely = now + RECONNECT_GRACE - SLACK;
            }
            if *until + SLACK >= began {
                *until = (*until).max(now + RECONNECT_GRACE);
            }
        }
    }

    /// The store is away for longer than a room's patience; people stay, then leave, then it is back, and at that very
    /// moment somebody comes or a sweep begins.
    pub async fn outage(&mut self) -> Result<(), Breach> {
        self.log.note("a long outage");
        self.faults.state.lock().away = Some(Away::Refusing);
        let lasts = Duration::from_secs(60) + self.millis(150_000);
        self.wait(lasts).await?;
        for number in self.which(Conn::is_healthy) {
            if self.chance(80) {
                self.say(number, json!({"type": "leave"}));
                self.conns[number].leaving = Some((Instant::now(), true));
            }
        }
        let then = self.millis(5_000);
        self.wait(then).await?;
        self.faults.heal();
        self.rush().await
    }

    /// Everybody at once, when the store may just have come back.
    pub async fn rush(&mut self) -> Result<(), Breach> {
        let before = self.before_join().await;
        let first = self.conns.len();
        for _ in 0..self.draw(4) {
            self.join();
        }
        if self.chance(50) {
            self.sweep().await;
        }
        self.settle().await;
        for number in first..self.conns.len() {
            if let Phase::Refused(code @ ("room_expired" | "invite_expired")) =
                self.conns[number].phase()
            {
                self.judge_refusal(number, code, &before)?;
            }
        }
        Ok(())
    }
}
