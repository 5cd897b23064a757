//! What is encoded for others, and decoded from them.

use divan::{Bencher, black_box};
use rollcall::{
    hub::Encoded,
    presence::{Change, Leave, Roster, Shown},
};
use rollcall_protocol::{
    ClientMessage, ConnectionId, LeaveReason, MessageLimits, ParticipantId, RoomView, SelfView,
    ServerMessage, Timestamp,
};
use uuid::Uuid;

use crate::crowd;

/// Two diffs: what the room's size costs them.
#[divan::bench(args = [8, 100, 1_000])]
fn diffs_of_a_join_and_a_leave(bencher: Bencher<'_, '_>, members: usize) {
    let (mut roster, look) = (crowd::roster(members), crowd::look());
    let id = ParticipantId(Uuid::now_v7());
    let leave = Leave {
        reason: LeaveReason::Left,
        last_seen_at: crowd::moment(),
    };
    bencher.bench_local(|| {
        roster.set(id, look.clone());
        let joined = publish(&mut roster);
        roster.remove(id, leave);
        (joined, publish(&mut roster))
    });
}

fn publish(roster: &mut Roster) -> Option<Encoded> {
    let change = roster.publish(seen)?;
    let Change::Diff {
        joined,
        updated,
        left,
    } = change
    else {
        return None;
    };
    Some(Encoded::new(&ServerMessage::Presence {
        seq: roster.seq(),
        occupancy: roster.occupancy() as u64,
        joined,
        updated,
        left,
    }))
}

/// The roster taken, and encoded for one.
#[divan::bench(args = [8, 100, 1_000])]
fn welcome(bencher: Bencher<'_, '_>, members: usize) {
    let (roster, room) = (crowd::roster(members), crowd::row(1).view());
    bencher.bench_local(|| Encoded::new(&greeting(&room, roster.snapshot(None, seen))));
}

fn greeting(room: &RoomView, shown: Shown) -> ServerMessage {
    ServerMessage::Welcome {
        protocol: 1,
        resumed: false,
        room: room.clone(),
        self_: SelfView {
            participant_id: Some(ParticipantId::default()),
            connection_id: ConnectionId(1),
            resume_token: Some("r".repeat(120)),
        },
        heartbeat_interval_ms: 30_000,
        server_time: crowd::moment(),
        seq: shown.seq,
        roster: shown.mode,
        occupancy: shown.occupancy,
        members: shown.members,
    }
}

/// Two a member, one an ack.
#[divan::bench]
fn a_time() -> String {
    black_box(crowd::moment()).to_string()
}

fn seen(_: ParticipantId) -> Timestamp {
    crowd::moment()
}

/// What clients send, by the type.
#[divan::bench(args = [
    r#"{"type":"heartbeat"}"#,
    r#"{"type":"update","status":"idle","state":{"page":7,"cursor":{"x":310,"y":42}}}"#,
    r#"{"type":"broadcast","event":"cursor","payload":{"x":310,"y":42,"page":7}}"#,
])]
fn decode(bencher: Bencher<'_, '_>, text: &str) {
    let limits = MessageLimits::default();
    bencher.bench(|| ClientMessage::decode(black_box(text), &limits));
}
