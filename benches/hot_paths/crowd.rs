//! People in rooms, without connections.

use std::sync::{Arc, LazyLock};

use rollcall::{
    clock::Clock,
    config::Config,
    hub::{Hub, Place, Seating},
    metrics::Metrics,
    presence::{Look, Roster},
    store::{AccessMethod, Joined, ParticipantKey, ParticipantRow, RoomKey, RoomRow, StoreClock},
};
use rollcall_protocol::{ConnectionId, ParticipantId, StateText, Status, Timestamp};
use uuid::Uuid;

/// Seats of the town, or with `--quick` a tenth.
const SEATS: usize = 1_000_000;
const ROOM: usize = 8;

/// Everybody of a large node.
pub(crate) struct Town {
    pub(crate) hub: Hub,
    pub(crate) places: Vec<Place>,
}

/// Made by the first who needs it.
pub(crate) static TOWN: LazyLock<Town> = LazyLock::new(|| {
    let hub = hub();
    let room = |seat: usize| row((seat / ROOM) as i64 + 1);
    let places = (0..seats())
        .map(|seat| sit(&hub, &room(seat), seat))
        .collect();
    Town { hub, places }
});

/// How many seats the town has.
pub(crate) fn seats() -> usize {
    if std::env::args().any(|argument| argument == "--quick") {
        SEATS / 10
    } else {
        SEATS
    }
}

/// Options under which nothing is refused for being too much.
pub(crate) fn config() -> Config {
    let mut config = Config::default_dev();
    config.limits.messages_per_second = 1_000_000_000;
    config.limits.message_burst = u32::MAX;
    config.limits.fanout_frames_per_second = u32::MAX;
    config.limits.fanout_bytes_per_second = u64::MAX;
    config
}

pub(crate) fn hub() -> Hub {
    let clock = StoreClock::new(Clock::system().now());
    Hub::new(&config(), clock, Arc::new(Metrics::default()))
}

/// A room with so many people, who have heard everything so far.
pub(crate) fn room(hub: &Hub, people: usize) -> Vec<Place> {
    let row = row(1);
    let mut places: Vec<_> = (0..people).map(|seat| sit(hub, &row, seat)).collect();
    for place in &mut places {
        while place.next_now().is_some() {}
    }
    places
}

pub(crate) fn row(key: i64) -> RoomRow {
    let now = Clock::system().now();
    RoomRow {
        key: RoomKey(key),
        id: format!("room-{key}").parse().expect("an id"),
        created_at: now,
        last_active_at: now,
        settings: Config::default_dev().room_defaults(),
    }
}

fn sit(hub: &Hub, row: &RoomRow, seat: usize) -> Place {
    let participant = participant(row, seat);
    let mut reservation = hub.reserve(row, participant.id).expect("there is room");
    reservation.commit(Joined {
        room: row.clone(),
        participant,
    });
    let seating = Seating {
        connection: ConnectionId(seat as u64),
        resumes: None,
        token_ends: None,
    };
    reservation.sit(seating).expect("nobody was removed").0
}

fn participant(row: &RoomRow, seat: usize) -> ParticipantRow {
    ParticipantRow {
        key: ParticipantKey(seat as i64 + 1),
        room_key: row.key,
        id: ParticipantId(Uuid::now_v7()),
        user_id: None,
        name: "Somebody".parse().expect("a name"),
        access_method: AccessMethod::Token,
        invite_key: None,
        is_active: true,
        joined_at: row.created_at,
        last_seen_at: row.created_at,
        keeps_last_seen: true,
        left_at: None,
        generation: 1,
        removals: 0,
        is_barred: false,
    }
}

/// A roster that its clients know.
pub(crate) fn roster(members: usize) -> Roster {
    let mut roster = Roster::new(usize::MAX);
    for _ in 0..members {
        roster.restore(ParticipantId(Uuid::now_v7()), look());
    }
    roster
}

/// Somebody with a name and no state.
pub(crate) fn look() -> Arc<Look> {
    Arc::new(Look {
        user_id: Some("user-4711".parse().expect("an id")),
        name: "Somebody".parse().expect("a name"),
        status: Status::Active,
        state: StateText::empty(),
        joined_at: moment(),
    })
}

/// Some time.
pub(crate) fn moment() -> Timestamp {
    Timestamp::from_millis(1_795_514_400_000)
}
