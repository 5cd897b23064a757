//! What a member is told: replayed, timed, and held against what is so.

use std::time::Duration;

use serde::Deserialize;

use super::Member;
use crate::{
    clock,
    engine::books::Step,
    fault::Fault,
    message::{Message, Person},
    moment::Moment,
    roster::Id,
    wire::{Frame, Opcode},
};

/// What a broadcast's payload says.
#[derive(Deserialize)]
struct Spoken {
    at: u64,
}

impl Member {
    pub(super) async fn take(&mut self, frame: Frame) -> anyhow::Result<()> {
        match frame.opcode {
            Opcode::Text => self.hear(&frame),
            Opcode::Ping => {
                self.socket.pong(&frame.payload).await?;
                self.record.spoke();
            }
            Opcode::Close => anyhow::bail!("closed with {}", frame.close_code()),
            Opcode::Other(opcode) => {
                self.stage
                    .fault(Fault::Malformed, format!("opcode {opcode}"));
            }
        }
        Ok(())
    }

    fn hear(&mut self, frame: &Frame) {
        let message = match Message::read(&frame.payload) {
            Ok(message) => message,
            Err(error) => return self.stage.fault(Fault::Malformed, error.to_string()),
        };
        self.stage.books.tally.received(message.kind, frame);
        match message.kind {
            "presence" => {
                self.replay(&message);
                self.see_moves(&message);
            }
            "sync" => self.replay(&message),
            "heartbeat_ack" => self.hear_ack(&message),
            "reconnect" => self.hint = message.after_ms.map(Duration::from_millis),
            "broadcast" => self.time_broadcast(&message),
            "error" if message.code.as_deref() == Some("rate_limited") => {
                self.stage.books.count("rate_limited");
            }
            "error" => self
                .stage
                .fault(Fault::Refused, format!("{:?}", message.code)),
            _ => {}
        }
    }

    fn replay(&self, message: &Message<'_>) {
        let tally = &self.stage.books.tally;
        tally.with_faults(|faults| self.view.lock().apply(message, faults));
    }

    fn see_moves(&self, message: &Message<'_>) {
        let listed = |people: &Option<Vec<Person<'_>>>| people.as_ref().map_or(0, Vec::len);
        if listed(&message.left) > 0 {
            let left = message.left.as_deref().unwrap_or_default();
            for person in left {
                self.stage.saw_leave(person, self.pause.is_none());
            }
        }
        if listed(&message.joined) == 0 || self.pause.is_some() {
            return;
        }
        for person in message.joined.as_deref().unwrap_or_default() {
            if let Some(who) = Id::read(person.id).filter(|who| *who != self.own) {
                self.stage.sightings.saw_join(who, &self.stage.books);
            }
        }
    }

    fn hear_ack(&mut self, message: &Message<'_>) {
        let oldest = self.beats.pop_front();
        match message.server_time.and_then(Moment::read).zip(oldest) {
            Some((at, due)) => self.record.acked(at, due),
            None => self
                .stage
                .fault(Fault::Malformed, "an answer without its time"),
        }
        self.record.asks(self.beats.front().copied());
        match oldest {
            Some(due) if self.pause.is_none() => {
                self.stage.books.took(Step::Heartbeat, due.elapsed());
            }
            Some(_) => {}
            None => self
                .stage
                .fault(Fault::Malformed, "an answer to no heartbeat"),
        }
    }

    fn time_broadcast(&self, message: &Message<'_>) {
        let spoken = message
            .payload
            .and_then(|raw| serde_json::from_str::<Spoken>(raw.get()).ok());
        match spoken {
            Some(Spoken { at }) if self.pause.is_none() => {
                let took = Duration::from_micros(clock::micros().saturating_sub(at));
                self.stage.books.took(Step::Broadcast, took);
            }
            Some(_) => {}
            None => self
                .stage
                .fault(Fault::Malformed, format!("not ours: {message:?}")),
        }
    }
}
