//! What people were told, and what the store says, against who came back.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{FLUSH_INTERVAL, Party, Person};
use crate::{
    api::{Api, Participant},
    departure::Departure,
    fault::Fault,
    moment::Moment,
    report::Report,
    roster::Id,
    server::Server,
};

/// The server's clock is sampled, and shown in milliseconds.
const CLOCK_MS: i64 = 1;
/// A flush takes its time, and begins a little late.
const FLUSH_MS: i64 = FLUSH_INTERVAL.as_millis() as i64 + 2000;

/// How the absent were seen to leave.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// When a mate was told.
    told: Vec<Instant>,
    /// How much of what the server had answered the crash lost, ms.
    lost_ms: Vec<i64>,
}

impl Spans {
    pub(super) fn report(&self, report: &mut Report, grace_over: Instant) {
        report.figure(
            "kill -9: leave frames of who did not",
            self.told.len() as f64,
            "",
        );
        let last = self.told.iter().max();
        let late = last.map_or(0.0, |at| {
            at.saturating_duration_since(grace_over).as_secs_f64()
        });
        report.figure("… the last, after the restart grace", late * 1000.0, "ms");
        let most = self.lost_ms.iter().max().copied().unwrap_or_default();
        let least = self.lost_ms.iter().min().copied().unwrap_or_default();
        report.figure(
            "… last_seen_at before the last answered heartbeat, least",
            least as f64,
            "ms",
        );
        report.figure("… most", most as f64, "ms");
    }
}

impl Party {
    /// Every welcome after the restart showed everybody of the room, and from then on nobody came or went but the absent.
    pub(super) fn check_members(&self, absent: &[Arc<Person>]) {
        for room in 0..self.rooms() {
            let mut everybody: Vec<Id> = self.members(room).iter().filter_map(|p| own(p)).collect();
            everybody.sort_unstable();
            let gone = absent.iter().filter(|person| person.room == room).count() as u64;
            for person in self.members(room).iter().filter(|p| !is_of(absent, p)) {
                let record = person.record.lock().clone();
                if record.shown != everybody {
                    let text = format!(
                        "{}: the welcome showed {} of {} members",
                        self.names.room(room),
                        record.shown.len(),
                        everybody.len()
                    );
                    self.tally().fault(Fault::Ghost, text);
                }
                let moves = record.view.map_or(0, |view| view.lock().moves().0);
                if moves != gone {
                    let text = format!(
                        "{}: {moves} joins and leaves were seen, not {gone}",
                        self.names.room(room)
                    );
                    self.tally().fault(Fault::Disturbed, text);
                }
            }
        }
    }

    /// Nobody but the absent was ever seen to leave.
    pub(super) fn check_departures(&self, absent: &[Arc<Person>]) {
        for (_, departure) in self.departures_but(absent) {
            let text = format!("seen to leave: {departure:?}");
            self.tally().fault(Fault::Disturbed, text);
        }
    }

    /// How many frames said that somebody left who did not.
    pub(super) fn seen_leaving(&self, absent: &[Arc<Person>]) -> usize {
        self.departures_but(absent).len()
    }

    fn departures_but(&self, absent: &[Arc<Person>]) -> Vec<(usize, Departure)> {
        let gone: Vec<Id> = absent.iter().filter_map(|person| own(person)).collect();
        let seen = self.people.iter().flat_map(|person| {
            let all = person.departures.all();
            all.into_iter().map(|departure| (person.number, departure))
        });
        seen.filter(|(_, departure)| !gone.contains(&departure.who))
            .collect()
    }

    /// Each mate saw each of the absent leave once, not before, for silence, and with a time that may be.
    pub(super) fn check_absent(&self, absent: &[Arc<Person>], not_before: Instant) -> Spans {
        let mut spans = Spans::default();
        for person in absent {
            let (who, acked_at) = (own(person), person.record.lock().acked_at);
            for mate in self
                .members(person.room)
                .iter()
                .filter(|p| !is_of(absent, p))
            {
                let seen = mate.departures.all();
                let seen: Vec<&Departure> =
                    seen.iter().filter(|seen| Some(seen.who) == who).collect();
                let [once] = seen[..] else {
                    let text = format!("seen to leave {} times by a mate: {seen:?}", seen.len());
                    self.tally().fault(Fault::Ghost, text);
                    continue;
                };
                if once.reason != "timeout" || once.told_at < not_before {
                    let text = format!("too early, or for the wrong reason: {once:?}");
                    self.tally().fault(Fault::Disturbed, text);
                }
                spans.told.push(once.told_at);
                self.check_last_seen(once.last_seen_at, acked_at, &mut spans);
            }
        }
        spans
    }

    fn check_last_seen(&self, seen: Option<Moment>, acked: Option<Moment>, spans: &mut Spans) {
        let lost = seen
            .zip(acked)
            .map(|(seen, acked)| acked.millis_after(seen));
        match lost {
            Some(lost) if (-CLOCK_MS..=FLUSH_MS).contains(&lost) => spans.lost_ms.push(lost),
            _ => {
                let text =
                    format!("last seen at {seen:?}, last answered at {acked:?}: {lost:?} ms");
                self.tally().fault(Fault::Misdated, text);
            }
        }
    }

    /// The store has everybody, with a leave exactly for the absent, dated as the others were told; and everybody believes
    /// what the server does.
    ///
    /// # Errors
    /// The API refuses.
    pub(super) async fn check_store(
        &self,
        server: &Server,
        absent: &[Arc<Person>],
    ) -> anyhow::Result<()> {
        let mut api = Api::connect(server.addr()).await?;
        for room in 0..self.rooms() {
            let name = self.names.room(room);
            let rows = api.participants(&name).await?;
            let rows: HashMap<_, _> = rows
                .iter()
                .filter_map(|row| Some((Id::read(&row.id)?, row)))
                .collect();
            if rows.len() != self.members(room).len() {
                let text = format!("{name}: {} in the store", rows.len());
                self.tally().fault(Fault::Ghost, text);
            }
            let truth = api.present(&name).await?;
            for person in self.members(room) {
                let row = own(person).and_then(|own| rows.get(&own).copied());
                self.check_row(person, row, is_of(absent, person));
                let view = person.record.lock().view.clone();
                let view = view.filter(|_| !is_of(absent, person));
                if view.is_some_and(|view| view.lock().roster() != Some(&truth)) {
                    let text = format!("somebody in {name} has another roster than the server");
                    self.tally().fault(Fault::Ghost, text);
                }
            }
        }
        Ok(())
    }

    fn check_row(&self, person: &Person, row: Option<&Participant>, is_gone: bool) {
        let is_right =
            row.is_some_and(|row| row.online != is_gone && row.left_at.is_some() == is_gone);
        if !is_right {
            let text = format!("gone is {is_gone}, but {row:?}");
            self.tally().fault(Fault::Ghost, text);
        }
        if !is_gone {
            return;
        }
        let stored = row.and_then(|row| Moment::read(&row.last_seen_at));
        let mates = self.members(person.room).iter();
        let told = mates.flat_map(|mate| mate.departures.all());
        for told in told.filter(|told| Some(told.who) == own(person)) {
            if told.last_seen_at != stored {
                let text = format!("told {:?}, stored {stored:?}", told.last_seen_at);
                self.tally().fault(Fault::Misdated, text);
            }
        }
    }
}

fn own(person: &Person) -> Option<Id> {
    person.record.lock().own
}

fn is_of(absent: &[Arc<Person>], person: &Person) -> bool {
    absent.iter().any(|one| one.number == person.number)
}
