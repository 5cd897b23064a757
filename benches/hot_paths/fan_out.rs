//! One frame for everybody in a room.

use divan::{Bencher, black_box};
use serde_json::value::RawValue;

use crate::crowd;

/// Encoded, pushed, and taken by every reader.
#[divan::bench(args = [2, 8, 100, 1_000])]
fn broadcast(bencher: Bencher<'_, '_>, members: usize) {
    let hub = crowd::hub();
    let mut places = crowd::room(&hub, members);
    let payload = RawValue::from_string(r#"{"x":310,"y":42}"#.to_owned());
    let payload = payload.expect("JSON");
    bencher.bench_local(|| {
        let seat = places[0].seat().expect("a participant's");
        let sent = seat.broadcast("cursor".to_owned(), payload.clone(), None);
        sent.expect("the budget is large");
        for place in &mut places {
            while let Some(event) = place.next_now() {
                black_box(event);
            }
        }
    });
}
