//! What is kept of when somebody was last there, and for how long.

use std::time::Duration;

use rollcall::store::{
    Departed, FlushBatch, JoinParticipant, JoinRoom, Joined, LockWait, NodeTerms, ParticipantKey,
    ParticipantRow, Precision, ReapCriteria, RoomKey, Seen, Store,
};
use rollcall_protocol::Timestamp;

use super::{Bench, IDLE, TERMS, admit, id, plus, settings, user};

const STEP: Duration = Duration::from_secs(300);
const ROUNDING: NodeTerms = NodeTerms {
    last_seen_precision: Precision::to(STEP),
    ..TERMS
};

on_every_store! {
    what_the_store_stamps_is_rounded_r6, rounded_seats_are_restored, a_change_of_precision_restores_seats,
    who_opts_out_leaves_no_trace, an_older_heartbeat_leaves_no_trace_either, opting_out_ends_with_the_next_token,
    who_opted_out_is_restored_and_reaped, removal_tells_no_more, departed_participants_are_forgotten,
    the_forgotten_leave_their_rooms_activity, forgetting_goes_in_pieces,
}

/// Joins with a token that says whether it is kept.
async fn join(bench: &Bench, room: &str, who: &str, keeps_last_seen: Option<bool>) -> Joined {
    let batch = bench
        .store
        .begin_joins(&[user(room, who)], LockWait::Skip)
        .await
        .unwrap();
    let mut write = admit(0, &batch.facts()[0], room, who);
    write.keeps_last_seen = keeps_last_seen;
    batch.commit(vec![write]).await.unwrap().remove(0)
}

fn rounded(at: Timestamp) -> Timestamp {
    ROUNDING.last_seen_precision.round(at)
}

async fn leave(bench: &Bench, who: &ParticipantRow, at: Timestamp) {
    let departed = Departed {
        left_at: at,
        generation: who.generation,
    };
    bench.seen(who, at, Some(departed)).await;
}

async fn advance(bench: &Bench, room: RoomKey, at: Timestamp) {
    let batch = FlushBatch {
        rooms: vec![(room, at)],
        ..FlushBatch::default()
    };
    bench.store.flush(&batch).await.unwrap();
}

async fn take_over(store: &dyn Store, terms: NodeTerms) -> Vec<ParticipantKey> {
    let restored = store.take_over(terms).await.unwrap().unwrap();
    let seats = restored.seats.iter();
    seats.map(|seat| seat.participant.key).collect()
}

async fn what_the_store_stamps_is_rounded_r6(bench: Bench) {
    take_over(&*bench.store, ROUNDING).await;
    bench.step(Duration::from_secs(290));
    let first = join(&bench, "r", "ann", None).await;
    let joined_at = first.participant.joined_at;
    assert_eq!(first.participant.last_seen_at, rounded(joined_at));
    assert_eq!(first.room.last_active_at, joined_at, "rooms are exact");
    bench.step(STEP);
    let again = join(&bench, "r", "ann", None).await;
    assert_eq!(
        again.participant.last_seen_at,
        plus(rounded(joined_at), 300)
    );
    assert_eq!(again.participant.joined_at, joined_at);
    // Nothing goes back, whatever comes late.
    bench
        .seen(&again.participant, rounded(joined_at), None)
        .await;
    assert_eq!(bench.row(&again.participant).await, again.participant);
}

async fn rounded_seats_are_restored(bench: Bench) {
    take_over(&*bench.store, ROUNDING).await;
    bench.step(Duration::from_secs(299));
    let joined = join(&bench, "r", "ann", None).await;
    // Flushed as of now: the row says five minutes ago, and that is well within what the node said of itself.
    bench.store.flush(&FlushBatch::default()).await.unwrap();
    bench.store.stop().await.unwrap();
    let restored = take_over(&*bench.other, ROUNDING).await;
    assert_eq!(restored, [joined.participant.key]);
}

async fn a_change_of_precision_restores_seats(bench: Bench) {
    take_over(&*bench.store, ROUNDING).await;
    bench.step(Duration::from_secs(299));
    let joined = join(&bench, "r", "ann", None).await;
    bench.store.flush(&FlushBatch::default()).await.unwrap();
    bench.store.stop().await.unwrap();
    // What counts is how exactly the one before wrote.
    let restored = take_over(&*bench.other, TERMS).await;
    assert_eq!(restored, [joined.participant.key]);
    bench.other.flush(&FlushBatch::default()).await.unwrap();
    bench.other.stop().await.unwrap();
    bench.step(STEP);
    assert_eq!(
        take_over(&*bench.store, TERMS).await,
        [] as [ParticipantKey; 0],
        "the node in between was exact"
    );
    let row = bench.row(&joined.participant).await;
    assert_eq!(row.left_at, Some(row.last_seen_at));
}

async fn who_opts_out_leaves_no_trace(bench: Bench) {
    let joined = join(&bench, "r", "ann", Some(false)).await;
    let row = &joined.participant;
    assert!(!row.keeps_last_seen);
    assert_eq!(row.last_seen_at, row.joined_at);
    bench.step(Duration::from_secs(60));
    let now = plus(row.joined_at, 60);
    bench.seen(row, now, None).await;
    assert_eq!(bench.row(row).await, *row);
    leave(&bench, row, now).await;
    let left = bench.row(row).await;
    assert!(!left.is_active);
    assert_eq!(left.last_seen_at, row.joined_at);
    assert_eq!(left.left_at, Some(row.joined_at));
    // A repeated flush is harmless, and a return is no trace either.
    leave(&bench, row, plus(now, 5)).await;
    assert_eq!(bench.row(row).await, left);
    let back = join(&bench, "r", "ann", None).await.participant;
    assert!(back.is_active && !back.keeps_last_seen);
    assert_eq!(
        (back.last_seen_at, back.left_at, back.generation),
        (row.joined_at, None, 2)
    );
    // The departure of the stay before does not end this one.
    leave(&bench, row, plus(now, 9)).await;
    assert_eq!(bench.row(row).await, back);
}

async fn an_older_heartbeat_leaves_no_trace_either(bench: Bench) {
    let first = join(&bench, "r", "ann", None).await.participant;
    bench.step(Duration::from_secs(60));
    bench.seen(&first, plus(first.joined_at, 30), None).await;
    let out = join(&bench, "r", "ann", Some(false)).await.participant;
    assert_eq!(out.last_seen_at, first.joined_at, "what was kept is gone");
    bench.seen(&first, plus(first.joined_at, 50), None).await;
    assert_eq!(bench.row(&first).await, out);
}

async fn opting_out_ends_with_the_next_token(bench: Bench) {
    let out = join(&bench, "r", "ann", Some(false)).await.participant;
    bench.step(Duration::from_secs(60));
    let back = join(&bench, "r", "ann", Some(true)).await.participant;
    assert!(back.keeps_last_seen);
    assert!(back.last_seen_at >= plus(out.joined_at, 60));
}

async fn who_opted_out_is_restored_and_reaped(bench: Bench) {
    take_over(&*bench.store, TERMS).await;
    let ann = join(&bench, "r", "ann", Some(false)).await;
    let bob = join(&bench, "other", "bob", Some(false)).await;
    leave(&bench, &bob.participant, ann.participant.joined_at).await;
    // Long after: nothing in the row says that ann is here but that she has not left.
    bench.step(Duration::from_secs(7 * 86_400));
    bench.store.flush(&FlushBatch::default()).await.unwrap();
    bench.store.stop().await.unwrap();
    let restored = take_over(&*bench.other, TERMS).await;
    assert_eq!(restored, [ann.participant.key]);

    // Idle is what the room says.
    let at = bench.clock.now();
    advance(&bench, ann.room.key, at).await;
    leave(&bench, &ann.participant, at).await;
    let margin = Duration::from_secs(30);
    bench.step(IDLE - margin);
    let criteria = ReapCriteria::default();
    assert_eq!(bench.candidates(criteria).await, [bob.room.key]);
    assert_eq!(bench.reap(ann.room.key).await, 0);
    bench.step(margin);
    let last_activity = bench.store.last_activity(ann.room.key).await.unwrap();
    assert_eq!(last_activity, Some(at));
    assert_eq!(bench.reap(ann.room.key).await, 1);
    assert_eq!(bench.reap(bob.room.key).await, 1);
}

async fn removal_tells_no_more(bench: Bench) {
    take_over(&*bench.store, ROUNDING).await;
    bench.step(Duration::from_secs(200));
    let ann = join(&bench, "r", "ann", None).await.participant;
    let bob = join(&bench, "r", "bob", Some(false)).await.participant;
    bench.step(Duration::from_secs(200));
    let next = plus(rounded(ann.joined_at), 300);
    for (who, left_at) in [(&ann, next), (&bob, bob.joined_at)] {
        let removed = bench
            .store
            .remove_participant(who.room_key, who.id, true, false)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(removed.left_at, Some(left_at));
        assert!(removed.is_barred);
    }
}

async fn departed_participants_are_forgotten(bench: Bench) {
    let keep = Duration::from_secs(3600);
    bench.room("r", settings()).await;
    let invite = bench.invite("r", 1, Some(1)).await;
    let guest = bench.join_by_invite(1, Some([9; 32])).await.unwrap();
    let old = bench.join("r", "old").await.participant;
    let barred = bench.join("r", "barred").await.participant;
    let here = bench.join("r", "here").await.participant;
    let fresh = bench.join("r", "fresh").await.participant;
    let at = old.joined_at;
    for who in [&guest.participant, &old] {
        leave(&bench, who, at).await;
    }
    let removed = bench
        .store
        .remove_participant(barred.room_key, barred.id, true, false);
    removed.await.unwrap().unwrap();
    let states = vec![(old.key, Some("{\"a\":1}".to_owned()))];
    let batch = FlushBatch {
        states,
        ..FlushBatch::default()
    };
    bench.store.flush(&batch).await.unwrap();
    leave(&bench, &fresh, plus(at, 600)).await;

    let margin = Duration::from_secs(60);
    bench.step(keep - margin);
    assert_eq!(bench.store.purge_departed(keep, 100).await.unwrap(), 0);
    bench.step(margin + Duration::from_secs(1));
    assert_eq!(bench.other.purge_departed(keep, 100).await.unwrap(), 2);
    assert_eq!(bench.store.purge_departed(keep, 100).await.unwrap(), 0);
    let left = bench
        .store
        .participants(old.room_key, ParticipantKey(0), 100)
        .await
        .unwrap();
    let left: Vec<_> = left.iter().map(|row| row.key).collect();
    assert_eq!(left, [barred.key, here.key, fresh.key]);

    // The use stays counted; who comes back is somebody new, and a late word of the one before finds nobody.
    let uses = bench
        .store
        .invites(old.room_key, rollcall::store::InviteKey(0), 1)
        .await
        .unwrap();
    assert_eq!((uses[0].id, uses[0].uses), (invite.id, 1));
    let back = bench.join("r", "old").await.participant;
    assert_ne!(back.key, old.key);
    assert_eq!(back.generation, 1);
    let late = FlushBatch {
        participants: vec![Seen {
            key: old.key,
            last_seen_at: at,
            departed: None,
        }],
        ..FlushBatch::default()
    };
    let flushed = bench.store.flush(&late).await.unwrap();
    assert_eq!(flushed.missing, [old.key]);
    // Lifted, the bar protects nobody any more.
    let restored = bench.store.restore_participant(barred.room_key, barred.id);
    restored.await.unwrap().unwrap();
    assert_eq!(bench.store.purge_departed(keep, 100).await.unwrap(), 1);
}

async fn the_forgotten_leave_their_rooms_activity(bench: Bench) {
    let keep = Duration::from_secs(60);
    let joined = bench.join("r", "ann").await;
    bench.step(Duration::from_secs(60));
    let at = plus(joined.participant.joined_at, 60);
    // The room itself was not advanced: only the row says when it was last active.
    leave(&bench, &joined.participant, at).await;
    bench.step(Duration::from_secs(61));
    assert_eq!(bench.store.purge_departed(keep, 100).await.unwrap(), 1);
    let last_activity = bench.store.last_activity(joined.room.key).await.unwrap();
    assert_eq!(last_activity, Some(at));
    let room = bench.store.room(&id("r")).await.unwrap().unwrap();
    assert_eq!(room.last_active_at, at);
}

async fn forgetting_goes_in_pieces(bench: Bench) {
    let names: Vec<_> = (0..5).map(|n| format!("user-{n}")).collect();
    let batch: Vec<_> = names.iter().map(|name| user("r", name)).collect();
    bench.room("r", settings()).await;
    let joins = bench
        .store
        .begin_joins(&batch, LockWait::Skip)
        .await
        .unwrap();
    let room = joins.facts()[0].room.as_ref().unwrap().key;
    let mut writes = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let mut write = admit(index, &joins.facts()[index], "r", name);
        assert!(matches!(write.participant, JoinParticipant::New { .. }));
        write.room = JoinRoom::Existing(room);
        write.keeps_last_seen = Some(index % 2 == 0);
        writes.push(write);
    }
    for (index, joined) in joins.commit(writes).await.unwrap().iter().enumerate() {
        assert_eq!(joined.participant.keeps_last_seen, index % 2 == 0);
        leave(&bench, &joined.participant, joined.participant.joined_at).await;
    }
    bench.step(Duration::from_secs(2));
    let keep = Duration::from_secs(1);
    let mut purged = Vec::new();
    for _ in 0..4 {
        purged.push(bench.store.purge_departed(keep, 2).await.unwrap());
    }
    assert_eq!(purged, [2, 2, 1, 0]);
    assert_eq!(bench.store.counts().await.unwrap().participants, 0);
}
