//! What people believe, and what the store says, against what is so.

use std::collections::HashSet;

use super::Population;
use crate::{fault::Fault, roster::Id};

impl Population {
    /// Compares what the kept believe with what the server says.
    ///
    /// # Errors
    /// The API refuses.
    pub async fn check_rosters(&mut self) -> anyhow::Result<()> {
        for (at, _) in self
            .rooms
            .iter()
            .enumerate()
            .filter(|(_, room)| room.kept > 0)
        {
            let truth = self.api.present(&self.names.room(at)).await?;
            for seat in self.kept.seats().iter().filter(|seat| seat.room == at) {
                if seat.view.lock().roster() != Some(&truth) {
                    self.tally.fault(
                        Fault::Ghost,
                        format!(
                            "somebody in {} has another roster than the server",
                            self.names.room(at)
                        ),
                    );
                }
            }
        }
        Ok(())
    }

    /// Compares what the store says of everybody with who is gone.
    ///
    /// # Errors
    /// The API refuses.
    pub async fn check_store(&mut self, gone: &HashSet<Id>) -> anyhow::Result<()> {
        for (at, room) in self.rooms.iter().enumerate() {
            let name = self.names.room(at);
            let everybody = self.api.participants(&name).await?;
            if everybody.len() != room.kept + room.lost {
                self.tally.fault(
                    Fault::Ghost,
                    format!("{name}: {} in the store, not {room:?}", everybody.len()),
                );
            }
            for participant in everybody {
                let is_gone = Id::read(&participant.id).is_some_and(|id| gone.contains(&id));
                let is_right =
                    participant.online != is_gone && participant.left_at.is_some() == is_gone;
                if !is_right {
                    self.tally.fault(
                        Fault::Ghost,
                        format!("{name}: gone is {is_gone}, but {participant:?}"),
                    );
                }
            }
        }
        Ok(())
    }
}
