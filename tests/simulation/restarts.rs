//! The life of a node: started, stopped properly, killed; and the next one on the same database.

use std::{sync::Arc, time::Duration};

use rollcall::{node::Node, store::RoomKey};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    link::Flow,
    log::{Breach, breach},
    model::{Conn, HEARTBEAT_TIMEOUT, RESTART_GRACE, SLACK},
    peer::Phase,
    world::{Later, World},
};

/// Somebody who must be found again after a restart.
struct Kept {
    room: RoomKey,
    who: String,
    id: String,
    /// Where it must be known.
    state: Option<Value>,
}

/// Drain, last flush and stop, each with its limit.
const STOPS_WITHIN: Duration = Duration::from_secs(21);

impl World {
    pub async fn start_node(&mut self) -> Result<(), Breach> {
        self.faults.node_starts();
        self.store = self.database.handle(&self.faults).await;
        let started = Node::start(
            Arc::clone(&self.config),
            Arc::clone(&self.store),
            self.clock.clone(),
        );
        match timeout(Duration::from_secs(120), started).await {
            Ok(Ok(node)) => self.node = Some(Arc::new(node)),
            failed => breach!("the node does not start: {failed:?}"),
        }
        self.generation += 1;
        self.log
            .note(format_args!("node {} starts", self.generation));
        if self.node().readiness.get() != rollcall::node::State::Ready {
            breach!("R10: the previous node still has the database");
        }
        Ok(())
    }

    /// Stops or kills the node, and starts another.
    pub async fn restart(&mut self) -> Result<(), Breach> {
        if self.generation > 6 {
            return Ok(());
        }
        let kept = self.kept();
        let lost = self.which(Conn::is_healthy);
        let is_crash = self.chance(50);
        let kept = match is_crash {
            true => self.crash(kept).await?,
            false => self.shut_down(kept).await?,
        };
        self.faults.heal();
        self.later.clear();
        let down = match self.draw(3) {
            0 => self.millis(120_000),
            _ => self.millis(4_000),
        };
        tokio::time::sleep(down).await;
        self.start_node().await?;
        self.take_stock(kept).await?;
        for number in lost {
            if self.chance(70) {
                let wait = self.millis(25_000);
                self.at(wait, Later::Rejoin(number));
            }
        }
        Ok(())
    }

    /// Who must be found again, and in what state.
    fn kept(&self) -> Vec<Kept> {
        let now = Instant::now();
        // After a stall or a step everybody must have been heard again, for the next node judges by what is stored.
        let is_young = |at: Option<Instant>| at.is_some_and(|at| now - at < RESTART_GRACE);
        if is_young(self.stepped_at)
            || is_young(self.stalled_at)
            || self.faults.fine_for() < Duration::from_secs(50)
        {
            return Vec::new();
        }
        let healthy = self
            .conns
            .iter()
            .filter(|conn| conn.is_healthy() && conn.is_welcomed);
        healthy
            .filter_map(|conn| {
                let room = conn.room?;
                let view = conn.view.lock();
                // Not lately removed, nor in a room that is over.
                let removed = self.members[&(room, conn.who.clone())].removed_at;
                let is_over = self.rooms[&room].closed.is_some() || removed >= view.admitted_at;
                let same = |other: &&Conn| other.room == Some(room) && other.who == conn.who;
                let mut others = self.conns.iter().filter(same);
                let is_young = others.any(|conn| {
                    conn.said_state
                        .is_some_and(|at| now - at < Duration::from_secs(7))
                });
                let state = view.replay.as_ref()?.member(&view.id);
                let state = state
                    .filter(|_| !is_young)
                    .map(|member| member["state"].clone());
                // Who came a moment ago may not have been written since.
                let is_written = view
                    .seated_at
                    .is_some_and(|at| now - at > Duration::from_secs(7));
                (!is_over && is_written).then(|| Kept {
                    room,
                    who: conn.who.clone(),
                    id: view.id.clone(),
                    state,
                })
            })
            .collect()
    }

    async fn shut_down(&mut self, kept: Vec<Kept>) -> Result<Vec<Kept>, Breach> {
        self.log.note("shut down");
        let node = self.node.take().and_then(Arc::into_inner);
        let Some(node) = node else {
            breach!("the simulation holds on to a node")
        };
        let (connections, services) = (node.connections.clone(), node.services.clone());
        let is_slow = self.faults.state.lock().slow.is_some();
        let told = self.which(|conn| {
            conn.is_healthy() && conn.late.is_zero() && conn.view.lock().welcomed_at.is_some()
        });
        let began = Instant::now();
        let stopped = timeout(STOPS_WITHIN, node.shut_down(&CancellationToken::new())).await;
        let Ok(stopped) = stopped else {
            breach!("R10: shutting down takes longer than {STOPS_WITHIN:?}")
        };
        for number in told {
            let phase = self.conns[number].phase();
            if !matches!(phase, Phase::Ended(Some(1012 | 4403 | 4404 | 4410 | 4401))) {
                breach!("R10: #{number} was not told to come back: {phase:?}");
            }
        }
        let is_flushed = self.faults.flushed().is_some_and(|at| at >= began);
        let is_fine = stopped.is_ok();
        self.log.note(format_args!(
            "stopped, well {is_fine}, after {:?}",
            began.elapsed()
        ));
        if is_fine != is_flushed && !is_slow {
            breach!("R10: stopped well is {is_fine}, the last flush was written is {is_flushed}");
        }
        let left = (connections.len(), services.len());
        if is_fine && left != (0, 0) {
            breach!("R10: connections and services left: {left:?}");
        }
        self.end_links(Flow::Cut);
        self.settle().await;
        if is_flushed {
            return Ok(kept);
        }
        self.forget_unflushed();
        Ok(Vec::new())
    }

    /// What was not written is lost.
    fn forget_unflushed(&mut self) {
        let flushed = self.faults.flushed();
        for room in self.rooms.values_mut() {
            room.flushed(flushed);
            room.heard = None;
        }
        for member in self.members.values_mut() {
            member.owed = None;
        }
    }

    /// Kills the node: nothing is flushed, every link breaks.
    async fn crash(&mut self, kept: Vec<Kept>) -> Result<Vec<Kept>, Breach> {
        self.log.note("crash");
        self.forget_unflushed();
        self.crashed.push(self.generation);
        let Some(node) = self.node.take() else {
            return Ok(kept);
        };
        node.stop.cancel();
        self.end_links(Flow::Cut);
        let (connections, services) = (node.connections.clone(), node.services.clone());
        drop(node);
        self.store = self.database.handle(&self.faults).await;
        connections.close();
        services.close();
        let ended = async {
            connections.wait().await;
            services.wait().await;
        };
        if timeout(STOPS_WITHIN, ended).await.is_err() {
            breach!(
                "tasks of a killed node are left: {}",
                connections.len() + services.len()
            );
        }
        self.settle().await;
        Ok(kept)
    }

    fn end_links(&mut self, flow: Flow) {
        for conn in &self.conns {
            conn.link.set(flow);
        }
    }

    /// What the new node says is there, against what must be, and may be.
    async fn take_stock(&mut self, kept: Vec<Kept>) -> Result<(), Breach> {
        let now = Instant::now();
        self.rows = self.database.rows().await;
        for member in self.members.values_mut() {
            member.restored = None;
        }
        let cutoff = self.faults.flushed_store() - HEARTBEAT_TIMEOUT.as_millis() as i64;
        for row in self.rows.participants.iter().filter(|row| row.is_active) {
            if row.last_seen_at.as_millis() + 3 < cutoff && self.stepped_at.is_none() {
                breach!(
                    "R5: {} was restored, and had long been silent: {row:?}",
                    row.name
                );
            }
            let member = self
                .members
                .entry((row.room_key, row.name.to_string()))
                .or_default();
            if member.id.is_empty() {
                member.id = row.id.to_string();
            }
            member.restored = Some((now, now + RESTART_GRACE));
        }
        for kept in kept {
            let has_ended = self.rooms[&kept.room].may_have_ended(self.log.newest());
            if has_ended || self.rows.participant(kept.room, &kept.id).is_none() {
                continue;
            }
            let (_, _, here) = self.node().hub.present(kept.room, None, 1_000);
            let found = here
                .iter()
                .find(|here| here.member.id.to_string() == kept.id);
            let Some(found) = found else {
                breach!(
                    "R5: {} of room {} is gone after a restart",
                    kept.who,
                    kept.room
                )
            };
            let state = serde_json::to_value(&found.member.state).unwrap_or_default();
            if kept.state.as_ref().is_some_and(|kept| *kept != state) {
                breach!(
                    "R6: the state of {} was {:?}, is {state}",
                    kept.who,
                    kept.state
                );
            }
            let member = self.members.entry((kept.room, kept.who)).or_default();
            member.restored = Some((now + RESTART_GRACE - SLACK, now + RESTART_GRACE));
        }
        Ok(())
    }
}

impl World {
    /// The end: the last node stops well.
    pub async fn stop(&mut self) -> Result<(), Breach> {
        self.shut_down(Vec::new()).await?;
        self.tasks.shutdown().await;
        self.database.close().await;
        self.log.check()
    }
}
