//! What everybody believes against what the server says, and both against what is so.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    record::{Record, Standing, State},
    room::{Room, Verdict},
    stage::Stage,
};
use crate::{
    api::{Api, Present},
    client::View,
    fault::Fault,
    roster::Id,
};

/// A difference is a fault once the server has had nothing new to say for so long: what it gathers is sent within
/// milliseconds, and a frame is read within seconds.
const STILL: Duration = Duration::from_secs(3);
/// How long to look for a moment in which a room is still.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
const BUSY_WITHIN: Duration = Duration::from_secs(6);
/// How long a leave may take to be heard.
const LEFT_LATE: Duration = Duration::from_secs(8);
/// How soon to look again, and how late at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// Rooms looked at while everything goes on.
const SAMPLE: usize = 40;
/// Rooms at a time.
const LANES: usize = 8;

/// What a comparison found.
#[derive(Debug)]
enum Found {
    Same,
    /// What, and as of which frame the server had it.
    Different(String, u64),
}

/// When a room is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// While everything goes on: some rooms, and nothing is wrong with one that is never still.
    Busy,
    /// Nobody comes or goes any more: all rooms.
    Quiet,
}

impl When {
    fn limit(self) -> Duration {
        match self {
            Self::Busy => BUSY_WITHIN,
            Self::Quiet => QUIET_WITHIN,
        }
    }
}

/// Looks at rooms over a few connections to the API; those that could not be compared are counted.
pub(super) async fn check_rosters(stage: &Arc<Stage>, key: Option<&str>, when: When) {
    let rooms = &stage.rooms;
    let step = match when {
        When::Busy => rooms.len().div_ceil(SAMPLE).max(1),
        When::Quiet => 1,
    };
    // Who reads slowly is behind for as long as there is anything to read.
    let is_slow = |room: &Room| room.people.iter().any(|person| person.is_slow);
    let chosen = rooms.iter().step_by(step);
    let chosen: Vec<_> = chosen
        .filter(|room| when == When::Quiet || !is_slow(room))
        .collect();
    let lane = |first: usize| {
        let rooms = chosen.iter().skip(first).step_by(LANES);
        async move {
            let mut api = Api::with_key(stage.to, key.map(str::to_owned)).await?;
            for room in rooms {
                check_roster(stage, &mut api, room, when).await?;
            }
            anyhow::Ok(())
        }
    };
    for done in futures::future::join_all((0..LANES).map(lane)).await {
        if let Err(error) = done {
            unasked(stage, &error);
        }
    }
}

/// A server that is being replaced need not answer.
fn unasked(stage: &Stage, error: &anyhow::Error) {
    stage.books.count("rooms_unchecked");
    if !stage.cue().is_outage {
        stage.fault(Fault::Unanswered, format!("while checking: {error:#}"));
    }
}

async fn check_roster(stage: &Stage, api: &mut Api, room: &Room, when: When) -> anyhow::Result<()> {
    let began = Instant::now();
    // Who reads slowly may be behind for longer than a room is still.
    let is_slow = room.people.iter().any(|person| person.is_slow);
    let (mut wait, mut still) = (LOOK.0, (None, began));
    loop {
        let truth = api.present_now(&room.id).await?;
        let Found::Different(what, seq) = compare(stage, room, truth.as_ref(), when) else {
            stage.books.count("rosters_compared");
            return Ok(());
        };
        if still.0 != Some(seq) {
            still = (Some(seq), Instant::now());
        }
        let is_still = still.1.elapsed() >= STILL && !is_slow;
        let is_over = began.elapsed() > when.limit();
        if is_still || is_over && when == When::Quiet {
            stage.fault(Fault::Ghost, format!("{}: {what}", room.id));
            return Ok(());
        }
        if is_over {
            stage.books.count("rosters_never_still");
            return Ok(());
        }
        sleep(wait).await;
        wait = (wait * 2).min(LOOK.1);
    }
}

fn compare(stage: &Stage, room: &Room, truth: Option<&Present>, when: When) -> Found {
    let now = Instant::now();
    let people: Vec<State> = room
        .people
        .iter()
        .map(|one| one.look(Clone::clone))
        .collect();
    let Some(truth) = truth else {
        let is_wrong = people.iter().any(|one| one.standing == Standing::In);
        return match is_wrong || room.verdict() == Verdict::Alive {
            true => Found::Different("the server has no such room".to_owned(), 0),
            false => Found::Same,
        };
    };
    let differ = |what: String| Found::Different(what, truth.seq);
    for person in people.iter().filter(|one| one.standing == Standing::In) {
        let Some(own) = person.own else { continue };
        if !truth.roster.contains(own) {
            return differ(format!("{own:?} is in, and not on the server's roster"));
        }
        if let Some(what) = person.view.as_ref().and_then(|view| disagree(view, truth)) {
            return differ(format!("{own:?} {what}"));
        }
    }
    // A leave may be on its way; once it is quiet, one looks again.
    let leaves = |one: &State| matches!(one.standing, Standing::Left(at) if now < at + LEFT_LATE);
    let shown = |id: Id| {
        let known = people.iter().find(|one| one.own == Some(id));
        match (known, when) {
            (Some(one), When::Busy) if leaves(one) => true,
            (Some(one), _) => one.may_be_shown(now, stage.restart()),
            // Welcomed by the server, on the way to us.
            (None, When::Busy) => people.iter().any(|one| one.own.is_none()),
            (None, When::Quiet) => false,
        }
    };
    match truth.roster.ids().find(|id| !shown(*id)) {
        Some(ghost) => differ(format!(
            "the server's roster has {ghost:?}, who is not there"
        )),
        None => Found::Same,
    }
}

/// How a view is not what the server has.
fn disagree(view: &View, truth: &Present) -> Option<String> {
    let view = view.lock();
    if view.seq() != truth.seq {
        return Some(format!(
            "is at frame {}, the server at {}",
            view.seq(),
            truth.seq
        ));
    }
    match view.roster() {
        Some(roster) if *roster != truth.roster => Some(format!(
            "has another roster than the server at frame {}: {} members, not {}",
            truth.seq,
            roster.len(),
            truth.roster.len()
        )),
        None if view.occupancy() != truth.occupancy => Some(format!(
            "counts {} at frame {}, the server {}",
            view.occupancy(),
            truth.seq,
            truth.occupancy
        )),
        _ => None,
    }
}

/// How much later than its last sign of life a participant may be dated: frames wait while the server is busy.
const READ_LATE_MS: i64 = 2000;
/// How much later than it should a flush may be done.
const FLUSH_LATE: Duration = Duration::from_secs(2);

/// Holds what the store says of everybody against when they last sent something.
pub(super) async fn check_store(stage: &Arc<Stage>, key: Option<&str>) {
    let lane = |first: usize| async move {
        let mut api = Api::with_key(stage.to, key.map(str::to_owned)).await?;
        for room in stage.rooms.iter().skip(first).step_by(LANES) {
            let Some(rows) = api.participants_ever(&room.id).await? else {
                continue;
            };
            for person in &room.people {
                let own = person.look(|state| state.own);
                let row = rows.iter().find(|row| Id::read(&row.id) == own);
                check_row(stage, room, person, row);
            }
        }
        anyhow::Ok(())
    };
    for done in futures::future::join_all((0..LANES).map(lane)).await {
        if let Err(error) = done {
            unasked(stage, &error);
        }
    }
}

fn check_row(stage: &Stage, room: &Room, person: &Record, row: Option<&crate::api::Participant>) {
    let state = person.look(Clone::clone);
    if state.own.is_none() {
        return;
    }
    let Some(row) = row else {
        let text = format!("{}: {:?} is not in the store", room.id, state.own);
        return stage.fault(Fault::Ghost, text);
    };
    let is_right = match state.standing {
        Standing::In => row.online && row.left_at.is_none(),
        Standing::Left(_) => !row.online && row.left_at.is_some(),
        Standing::Cut { .. } => !row.online || state.may_be_shown(Instant::now(), stage.restart()),
        Standing::Out => true,
    };
    if !is_right {
        let text = format!("{}: {:?}, but {row:?}", room.id, state.standing);
        stage.fault(Fault::Ghost, text);
    }
    check_date(stage, &state, row);
}

/// A `last_seen_at` that is not between the last answered heartbeat, less what a flush may lose, and the last frame sent.
fn check_date(stage: &Stage, state: &State, row: &crate::api::Participant) {
    let (Some((acked, due)), Some(spoke_at)) = (state.acked, state.spoke_at) else {
        return;
    };
    let Some(stored) = crate::moment::Moment::read(&row.last_seen_at) else {
        return stage.fault(Fault::Malformed, format!("{row:?}"));
    };
    stage.books.count("dates_compared");
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let behind = millis(stage.settings.flush + FLUSH_LATE);
    let ahead = millis(spoke_at.saturating_duration_since(due)) + READ_LATE_MS;
    let off = stored.millis_after(acked);
    if !(-behind..=ahead).contains(&off) {
        let text = format!(
            "stored {off} ms after the last answered heartbeat, may be {} to {ahead}: {row:?}",
            -behind
        );
        stage.fault(Fault::Misdated, text);
    }
}
